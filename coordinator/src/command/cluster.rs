//! `run --queue` and `run --ledger`: productions that are written down, with workers on other machines or in this
//! process.

use super::follow::{self, Follower};
use super::usage;
use anyhow::Context as _;
use clap::Args;
use edp_production::adoption::{self, AdoptionError};
use edp_production::desk::{Desk, DeskError};
use edp_production::director::{self, Budget, DriveError, Left};
use edp_production::ledger::{self, GIVEN_UP, Ledger, LedgerError, Settled, State as Standing};
use edp_production::retries::Policy;
use edp_production::snapshots::Snapshots;
use edp_production::verify::{Depth, Finding, Verified};
use edp_protocol::message::chain;
use edp_protocol::queue::topology::Production;
use edp_protocol::queue::{Address, AddressError, Link, Options as QueueOptions, PublishError, QueueError};
use edp_protocol::recipe::Recipe;
use edp_protocol::settings::Settings;
use edp_protocol::store::Stores;
use edp_worker::batch::{Entry, Report, State};
use edp_worker::console::{self, Ending, Progress, Signal, Stop, Usage, note};
use edp_worker::service::Worker;
use edp_worker::service::serve::{Ended, Service, serve};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// Options of productions that are written down.
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    /// The broker: amqp://user@host/vhost or amqps://... (give passwords by EDP_QUEUE__URL); workers make the granules
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    pub(crate) queue: Option<String>,
    /// Name of the production: its queues and its ledger
    #[arg(long, value_name = "NAME", default_value = "default")]
    production: Production,
    /// The ledger of the production [default: ./NAME.ledger with --queue, else none is kept]
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Let workers of several builds take part
    #[arg(long)]
    mixed_builds: bool,
    /// Give the production up when more recipes than this have failed
    #[arg(long, value_name = "N")]
    max_failures: Option<u64>,
    /// Or when more than this share of those that are settled have failed [default: 50]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    max_failure_share: Option<u8>,
    /// Recipes that must be settled before their share counts [default: 100]
    #[arg(long, value_name = "N")]
    failure_sample: Option<u64>,
}

impl Cluster {
    /// Whether the production is to be written down.
    pub(crate) fn is_asked(&self) -> bool {
        self.queue.is_some() || self.ledger.is_some()
    }

    /// When the production is given up: by option, else by setting.
    fn budget(&self, settings: &Settings) -> anyhow::Result<Budget> {
        let own = Budget::default();
        let share = self.max_failure_share.or(settings.run.max_failure_share);
        if let Some(share) = share.filter(|share| *share > 100) {
            return Err(Usage(format!("run.max_failure_share: {share} is no share in per cent")).into());
        }
        Ok(Budget {
            failures: self.max_failures.or(settings.run.max_failures),
            share: share.map_or(own.share, |share| f64::from(share) / 100.0),
            sample: self.failure_sample.or(settings.run.failure_sample).unwrap_or(own.sample),
        })
    }

    /// The broker, if there is one.
    fn broker(&self, settings: &Settings) -> anyhow::Result<Option<QueueOptions>> {
        broker(self.queue.as_deref(), &self.production, settings)
    }
}

/// The broker that an option (empty: the setting) and settings name.
pub(crate) fn broker(
    queue: Option<&str>,
    production: &Production,
    settings: &Settings,
) -> anyhow::Result<Option<QueueOptions>> {
    let Some(url) = queue else { return Ok(None) };
    let usage = |error: &dyn std::error::Error| Usage(chain(error));
    let mut at = settings.queue.clone();
    if !url.is_empty() {
        let url: Address = url.parse().map_err(|e: AddressError| usage(&e))?;
        if url.has_password() {
            note("warning: everybody on this machine sees the password in --queue: give it by EDP_QUEUE__URL");
        }
        at.url = Some(url);
    }
    Ok(Some(QueueOptions::from_settings(&at, production.clone()).map_err(|e| usage(&e))?))
}

/// Where the ledger of a production is, unless it is named.
pub(crate) fn ledger_path(named: Option<&Path>, production: &Production) -> PathBuf {
    named.map_or_else(|| format!("{production}.ledger").into(), Path::to_owned)
}

/// How a production ended: report, verification, signal.
pub(crate) type Outcome = (Report, Verified, Option<Signal>);

/// Orders in the queue and with workers at once, unless set.
const WINDOW: u32 = 1000;

/// Seconds that a granule may take, unless set; workers may have a shorter time.
const DEADLINE: u32 = 900;

/// The same in this process: nobody else would make it faster.
const OWN_DEADLINE: u32 = 24 * 60 * 60;

/// How often what is missing at the destination is made again.
const ROUNDS: usize = 3;

/// Seconds between copies of the ledger, unless set.
const SNAPSHOT: u32 = 600;

/// How long granules are looked for at the destination when a ledger is begun. Workers find the rest.
const LOOK: Duration = Duration::from_secs(60);

/// Drives a production to its end: with the workers at the queue if one is asked for, else with this one. With a
/// follower it grows until then.
pub(crate) fn produce(
    mut recipes: Vec<Recipe>,
    mut follower: Option<Follower>,
    options: &Cluster,
    worker: Worker,
    settings: &Settings,
    progress: &Progress,
) -> anyhow::Result<Result<Outcome, Ending>> {
    let stores = &worker.cache.stores().clone();
    let queue = options.broker(settings)?;
    let here = std::env::current_dir().context("finding the current directory")?;
    recipes.iter_mut().for_each(|recipe| recipe.make_absolute(&here));
    let deadline = settings.serve.deadline.unwrap_or(if queue.is_some() { DEADLINE } else { OWN_DEADLINE });
    let plan = director::Plan {
        production: options.production.to_string(),
        window: settings.queue.window.unwrap_or(WINDOW).max(1) as usize,
        deadline,
        mixed_builds: options.mixed_builds,
        budget: options.budget(settings)?,
    };
    let policy = Policy { lease: Duration::from_secs(2 * u64::from(deadline)), ..Policy::default() };
    let path = ledger_path(options.ledger.as_deref(), &options.production);
    let every = settings.run.snapshot.unwrap_or(SNAPSHOT);
    let destination = match &follower {
        Some(follower) => Some(follower.destination().to_owned()),
        None => recipes.iter().find_map(|recipe| Some(recipe.recipe.as_ref()?.roots.destination.clone())),
    };
    let snapshots = destination
        .filter(|_| every > 0)
        .and_then(|destination| Snapshots::new(&plan.production, &destination, stores, &stores.scratch()));
    let stop = Stop::default();
    let runtime = console::runtime().context("starting the runtime")?;
    let begun = Instant::now();
    let driven = runtime.block_on(async {
        let asked = stop.asked("leaving the rest to the next run");
        tokio::pin!(asked);
        let snapshot = snapshots.clone().map(|snapshots| (snapshots, recipes.clone()));
        let Some(mut ledger) = open(&path, &plan.production, policy, snapshot, &mut asked).await? else {
            return Ok(Err(Left::Stopped));
        };
        let fresh = ledger.counts()?.all() == 0;
        let (list, found) = (recipes, stores.clone());
        // Looking at a million granules takes its time, and must not keep the runtime. As many recipes as there may be,
        // the ledger has them, and they are not needed here until the end.
        let (replace, local) = (worker.replace, queue.is_none());
        let ledger = tokio::task::spawn_blocking(move || {
            ledger.list(&list)?;
            ledger.set_fact(GIVEN_UP, None)?;
            adoption::put_back(&mut ledger, &list, &found)?;
            if local {
                ledger.recall(ledger::now())?;
            }
            if local && replace {
                ledger.retry(Standing::Conflict)?;
            }
            if fresh {
                adoption::adopt(&mut ledger, &list, &found, LOOK)?;
            }
            Ok::<_, AdoptionError>(ledger)
        })
        .await
        .context("preparing the ledger")??;
        let failed = ledger.counts()?.of(Standing::Failed);
        if failed > 0 {
            note(&format!("{failed} recipes failed before; `edp-coordinator retry` sends them out again"));
        }
        let mut before = HashSet::new();
        ledger.each::<LedgerError>(&[Standing::Done, Standing::Held, Standing::Failed, Standing::Conflict], |one| {
            progress.ended(&entry(&one, true));
            if one.state == Standing::Done {
                before.insert(one.id);
            }
            Ok(())
        })?;
        let desk = Desk::open(ledger)?;
        let (link, local) = match queue {
            Some(queue) => (Link::amqp(queue).context("starting the link to the queue")?, None),
            None => {
                let link = Link::embedded().context("starting the queue")?;
                let local = Local::start(worker, &link, deadline)?;
                (link, Some(local))
            }
        };
        let (ending, ended) = oneshot::channel::<()>();
        let keeping = snapshots
            .map(|snapshots| tokio::spawn(snapshots.keep(desk.clone(), Duration::from_secs(every.into()), ended)));
        let mut verified = Verified::default();
        let mut left = Left::Settled;
        let mut held = Vec::new();
        for _ in 0..ROUNDS {
            let growth = async {
                if let Some(follower) = follower.take() {
                    held = follow::grow(follower, &desk, progress, &here).await?;
                }
                Ok(())
            };
            let ended = |one: &Settled| progress.ended(&entry(one, false));
            let over = async {
                match &local {
                    None => (&mut asked).await,
                    Some(local) => tokio::select! { () = &mut asked => {}, () = local.ended() => {} },
                }
            };
            left = director::drive(&plan, &desk, &link, ended, growth, over).await?;
            let recipes = desk.ask(|ledger| ledger.recipes()).await?;
            // Every outcome is in: nobody is at work any more, and if somebody is, it finds its part gone and looks.
            let sweeping = left == Left::Settled;
            let (recipes, found) = verify(recipes, stores, sweeping).await?;
            verified = found;
            if left != Left::Settled {
                break;
            }
            let missing = missing(&recipes, &verified, &desk).await?;
            if missing.is_empty() {
                break;
            }
            note(&format!("{} granules are said to be done, but are not there: making them again", missing.len()));
            before.retain(|id| !missing.contains(id));
            director::reopen(&desk, missing).await?;
        }
        let unfit = match local {
            None => None,
            Some(local) => local.dismiss(&desk, stores).await?,
        };
        link.close().await;
        if let Left::GivenUp(reason) = left.clone() {
            desk.ask(move |ledger| ledger.set_fact(GIVEN_UP, Some(&reason))).await?;
        }
        drop(ending);
        if let Some(keeping) = keeping {
            keeping.await.context("copying the ledger")?;
        }
        let mut entries = desk
            .ask(move |ledger| {
                ledger.gather()?;
                let mut entries = Vec::new();
                ledger.each::<LedgerError>(&Standing::ALL, |one| {
                    entries.push(entry(&one, before.contains(&one.id)));
                    Ok(())
                })?;
                Ok(entries)
            })
            .await?;
        entries.extend(held);
        anyhow::Ok(Ok((entries, left, unfit, verified)))
    });
    runtime.shutdown_background();
    let (entries, left, unfit, verified) = match driven {
        Ok(Ok(driven)) => driven,
        Ok(Err(_)) => return Ok(Err(stop.signal().map_or(Ending::Incomplete, Ending::Stopped))),
        Err(error) => match unreachable(&error) {
            Some(text) => {
                note(&format!("error: {text}"));
                return Ok(Err(Ending::Unreachable));
            }
            None => return Err(error),
        },
    };
    let stopped = match left {
        Left::GivenUp(reason) => {
            note(&format!("given up: {reason}"));
            Some(reason)
        }
        Left::Settled | Left::Stopped => unfit,
    };
    Ok(Ok((Report { entries, stopped, seconds: begun.elapsed().as_secs_f64() }, verified, stop.signal())))
}

/// The worker of this process.
struct Local {
    id: String,
    stop: oneshot::Sender<()>,
    /// Set once it has ended: none if it was told to, else why.
    ended: watch::Receiver<Option<Option<String>>>,
}

impl Local {
    /// Begins to serve.
    fn start(worker: Worker, link: &Link, deadline: u32) -> anyhow::Result<Local> {
        let id = worker.id.clone();
        let service = Service {
            worker: Arc::new(Worker { thorough: true, ..worker }),
            // The recipes are the user's own.
            reach: None,
            deadline: Duration::from_secs(deadline.into()),
            grace: Duration::ZERO,
            idle: None,
            patience: Duration::from_secs(60),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let (says, ended) = watch::channel(None);
        let link = link.clone();
        tokio::spawn(async move {
            let stopped = async {
                drop(stopped.await);
                None
            };
            let why = match serve(service, &link, stopped).await {
                Ok(Ended::Unfit(reason)) => Some(reason),
                Ok(Ended::Stopped | Ended::Idle) => None,
                Err(error) => Some(chain(&error)),
            };
            says.send_replace(Some(why));
        });
        Ok(Local { id, stop, ended })
    }

    /// Ready when it has ended, for whatever reason.
    async fn ended(&self) {
        let _ = self.ended.clone().wait_for(Option::is_some).await;
    }

    /// Ends it; what it has not made it gives back. Says why it had ended by itself, if it had.
    async fn dismiss(mut self, desk: &Desk, stores: &Stores) -> anyhow::Result<Option<String>> {
        let _ = self.stop.send(());
        let why = match tokio::time::timeout(STUCK, self.ended.wait_for(Option::is_some)).await {
            Ok(Ok(why)) => why.clone().flatten(),
            // Ended without a word, or stuck in a computation that ends with this process.
            Ok(Err(_)) | Err(_) => None,
        };
        let id = self.id;
        let dismiss = move |ledger: &mut Ledger| {
            ledger.dismiss(&id, ledger::now())?;
            // The queue ends with this process.
            ledger.recall(ledger::now())?;
            ledger.recipes()
        };
        let (recipes, stores) = (desk.ask(dismiss).await?, stores.clone());
        let sweep = move || console::sweep(&console::granules(&recipes), edp_worker::service::may_be_at_work, &stores);
        tokio::task::spawn_blocking(sweep).await.context("sweeping")?;
        if let Some(why) = &why {
            note(&format!("stopped, since nothing can be made: {why}; mend it, and run it again"));
        }
        Ok(why)
    }
}

/// Time that the worker of this process has to end.
const STUCK: Duration = Duration::from_secs(60);

/// Opens the ledger; stands by while another coordinator has it. Where there is none, it goes on from the copy at the
/// destination, if that is of these recipes. None if asked to stop meanwhile.
async fn open(
    path: &Path,
    production: &str,
    policy: Policy,
    snapshot: Option<(Snapshots, Vec<Recipe>)>,
    stop: &mut (impl Future<Output = ()> + Unpin),
) -> anyhow::Result<Option<Ledger>> {
    let snapshot = Arc::new(snapshot);
    let mut said = false;
    loop {
        let (own, production, snapshot) = (path.to_owned(), production.to_owned(), snapshot.clone());
        let fetch = move |path: &Path| {
            if let Some((snapshots, recipes)) = snapshot.as_ref() {
                let at = snapshots.location();
                match snapshots.fetch(path, recipes) {
                    Ok(true) => note(&format!("no ledger {}: going on from its copy {at}", path.display())),
                    Ok(false) => {}
                    Err(error) => note(&format!("warning: the copy of the ledger {at} is not used: {}", chain(&error))),
                }
            }
            Ok(())
        };
        let opened = tokio::task::spawn_blocking(move || Ledger::open_or_fetch(&own, &production, policy, fetch)).await;
        match opened.context("opening the ledger")? {
            Ok(ledger) => return Ok(Some(ledger)),
            Err(error @ LedgerError::InUse { .. }) => {
                if !said {
                    note(&format!("standing by: {}", chain(&error)));
                }
                said = true;
            }
            Err(error @ (LedgerError::Production { .. } | LedgerError::Layout { .. })) => return Err(usage(error)),
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = &mut *stop => return Ok(None),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Holds the destination against the recipes, which come back with the result, after sweeping it if asked to.
async fn verify(recipes: Vec<Recipe>, stores: &Stores, sweep: bool) -> anyhow::Result<(Vec<Recipe>, Verified)> {
    let stores = stores.clone();
    let verifying = tokio::task::spawn_blocking(move || {
        if sweep {
            console::sweep(&console::granules(&recipes), |_| false, &stores);
        }
        let verified = edp_production::verify::verify(&recipes, Depth::Present, &stores);
        (recipes, verified)
    });
    verifying.await.context("verifying")
}

/// Ids of recipes that the ledger has as done, and that are not there.
async fn missing(recipes: &[Recipe], verified: &Verified, desk: &Desk) -> Result<Vec<String>, DeskError> {
    let absent: HashSet<&str> = verified
        .problems
        .iter()
        .filter(|(_, finding)| *finding == Finding::Missing)
        .map(|(granule, _)| granule.as_str())
        .collect();
    if absent.is_empty() {
        return Ok(Vec::new());
    }
    let done = desk.ask(|ledger| adoption::ids(ledger, Standing::Done)).await?;
    let ids = recipes.iter().filter(|recipe| absent.contains(recipe.granule.as_str()));
    Ok(ids
        .filter_map(|recipe| recipe.recipe.as_ref().map(|plan| plan.id.clone()))
        .filter(|id| done.contains(id))
        .collect())
}

/// A recipe's standing as reports have it; `before` this run or in it.
fn entry(one: &Settled, before: bool) -> Entry {
    Entry {
        granule: one.granule.clone(),
        id: one.id.clone(),
        state: match one.state {
            Standing::Done if before || one.made.already => State::Present,
            Standing::Done => State::Made,
            Standing::Held => State::Held,
            Standing::Failed => State::Failed,
            Standing::Conflict => State::Conflict,
            Standing::Waiting | Standing::UnderWay => State::Left,
        },
        reason: one.reason.clone(),
        attempts: one.attempts,
        seconds: one.made.seconds,
        bytes: one.made.bytes,
        sha256: one.made.sha256.clone(),
        stages: Vec::new(),
        warnings: one.made.warnings.clone(),
    }
}

/// What is to be said if the broker cannot be reached.
fn unreachable(error: &anyhow::Error) -> Option<String> {
    match error.downcast_ref::<DriveError>() {
        Some(
            DriveError::Queue(error @ QueueError::Unreachable { .. })
            | DriveError::Publish(PublishError::Queue(error @ QueueError::Unreachable { .. })),
        ) => Some(chain(error)),
        _ => None,
    }
}
