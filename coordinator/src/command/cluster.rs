//! `run --queue`: a production whose granules are made by workers on other machines.

use super::follow::{self, Follower};
use anyhow::Context as _;
use clap::Args;
use edp_coordinator::destination;
use edp_coordinator::production::desk::{Desk, DeskError};
use edp_coordinator::production::director::{self, Budget, DriveError, Left};
use edp_coordinator::production::ledger::{Ledger, LedgerError, Settled, State as Standing};
use edp_coordinator::production::retries::Policy;
use edp_coordinator::verify::{Depth, Finding, Verified};
use edp_protocol::message::chain;
use edp_protocol::queue::topology::Production;
use edp_protocol::queue::{Address, AddressError, Link, Options as QueueOptions, PublishError, QueueError};
use edp_protocol::recipe::Recipe;
use edp_protocol::settings::Settings;
use edp_protocol::store::Stores;
use edp_worker::batch::{Entry, Report, State};
use edp_worker::console::{self, Ending, Progress, Signal, Stop, Usage, note};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Options of productions over a queue.
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    /// The broker: amqp://user@host/vhost or amqps://... (give passwords by EDP_QUEUE__URL); workers make the granules
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    pub(crate) queue: Option<String>,
    /// Name of the production: its queues and its ledger
    #[arg(long, value_name = "NAME", default_value = "default")]
    production: Production,
    /// The ledger of the production [default: ./NAME.ledger]
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Let workers of several builds take part
    #[arg(long)]
    mixed_builds: bool,
    /// Give the production up when more recipes than this have failed
    #[arg(long, value_name = "N")]
    max_failures: Option<u64>,
}

/// How a production ended: report, verification, signal.
pub(crate) type Outcome = (Report, Verified, Option<Signal>);

/// Orders in the queue and with workers at once, unless set.
const WINDOW: u32 = 1000;

/// Seconds that a granule may take, unless set; workers may have a shorter time.
const DEADLINE: u32 = 900;

/// How often what is missing at the destination is made again.
const ROUNDS: usize = 3;

/// Drives a production to its end; with a follower it grows until then.
pub(crate) fn produce(
    mut recipes: Vec<Recipe>,
    mut follower: Option<Follower>,
    options: &Cluster,
    settings: &Settings,
    stores: &Stores,
    progress: &Progress,
) -> anyhow::Result<Result<Outcome, Ending>> {
    let usage = |error: &dyn std::error::Error| Usage(chain(error));
    let mut at = settings.queue.clone();
    if let Some(url) = options.queue.as_ref().filter(|url| !url.is_empty()) {
        let url: Address = url.parse().map_err(|e: AddressError| usage(&e))?;
        if url.has_password() {
            note("warning: everybody on this machine sees the password in --queue: give it by EDP_QUEUE__URL");
        }
        at.url = Some(url);
    }
    let queue = QueueOptions::from_settings(&at, options.production.clone()).map_err(|e| usage(&e))?;
    let here = std::env::current_dir().context("finding the current directory")?;
    recipes.iter_mut().for_each(|recipe| recipe.make_absolute(&here));
    let deadline = settings.serve.deadline.unwrap_or(DEADLINE);
    let plan = director::Plan {
        production: options.production.to_string(),
        window: settings.queue.window.unwrap_or(WINDOW).max(1) as usize,
        deadline,
        mixed_builds: options.mixed_builds,
        budget: Budget { failures: options.max_failures, ..Budget::default() },
    };
    let policy = Policy { lease: Duration::from_secs(2 * u64::from(deadline)), ..Policy::default() };
    let path = options.ledger.clone().unwrap_or_else(|| format!("{}.ledger", options.production).into());
    let stop = Stop::default();
    let runtime = console::runtime().context("starting the runtime")?;
    let begun = Instant::now();
    let driven = runtime.block_on(async {
        let asked = stop.asked("leaving the rest to the next run");
        tokio::pin!(asked);
        let Some(mut ledger) = open(&path, &plan.production, policy, &mut asked).await? else {
            return Ok(Err(Left::Stopped));
        };
        ledger.list(&recipes)?;
        put_back(&mut ledger, &recipes, stores).await?;
        ledger.each::<LedgerError>(&[Standing::Done, Standing::Held, Standing::Failed, Standing::Conflict], |one| {
            progress.ended(&entry(&one, true));
            Ok(())
        })?;
        // The ledger has them; as many as there may be, they are not needed here until the end.
        drop(recipes);
        let desk = Desk::open(ledger)?;
        let link = Link::amqp(queue).context("starting the link to the queue")?;
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
            left = director::drive(&plan, &desk, &link, ended, growth, &mut asked).await?;
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
            director::reopen(&desk, missing).await?;
        }
        link.close().await;
        let mut entries = desk
            .ask(|ledger| {
                let mut entries = Vec::new();
                ledger.each::<LedgerError>(&Standing::ALL, |one| {
                    entries.push(entry(&one, false));
                    Ok(())
                })?;
                Ok(entries)
            })
            .await?;
        entries.extend(held);
        anyhow::Ok(Ok((entries, left, verified)))
    });
    runtime.shutdown_background();
    let (entries, left, verified) = match driven {
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
        Left::Settled | Left::Stopped => None,
    };
    Ok(Ok((Report { entries, stopped, seconds: begun.elapsed().as_secs_f64() }, verified, stop.signal())))
}

/// Opens the ledger; stands by while another coordinator has it. None if asked to stop meanwhile.
async fn open(
    path: &std::path::Path,
    production: &str,
    policy: Policy,
    stop: &mut (impl Future<Output = ()> + Unpin),
) -> anyhow::Result<Option<Ledger>> {
    let mut said = false;
    loop {
        match Ledger::open(path, production, policy) {
            Ok(ledger) => return Ok(Some(ledger)),
            Err(error @ LedgerError::InUse { .. }) => {
                if !said {
                    note(&format!("standing by: {}", chain(&error)));
                }
                said = true;
            }
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
        let verified = edp_coordinator::verify::verify(&recipes, Depth::Present, &stores);
        (recipes, verified)
    });
    verifying.await.context("verifying")
}

/// The destination outranks the ledger: what is done but not there is made again.
async fn put_back(ledger: &mut Ledger, recipes: &[Recipe], stores: &Stores) -> anyhow::Result<()> {
    let mut done = std::collections::HashSet::new();
    ledger.each::<LedgerError>(&[Standing::Done], |one| {
        done.insert(one.id);
        Ok(())
    })?;
    let is_done = |recipe: &&Recipe| recipe.recipe.as_ref().is_some_and(|plan| done.contains(&plan.id));
    let list: Vec<Recipe> = recipes.iter().filter(is_done).cloned().collect();
    let stores = stores.clone();
    let absent = tokio::task::spawn_blocking(move || destination::absent(&list, &stores)).await;
    for id in absent.context("looking at the destination")?.map_err(anyhow::Error::msg)? {
        ledger.reopen(&id)?;
    }
    Ok(())
}

/// Ids of recipes that the ledger has as done, and that are not there.
async fn missing(recipes: &[Recipe], verified: &Verified, desk: &Desk) -> Result<Vec<String>, DeskError> {
    let absent: std::collections::HashSet<&str> = verified
        .problems
        .iter()
        .filter(|(_, finding)| *finding == Finding::Missing)
        .map(|(granule, _)| granule.as_str())
        .collect();
    if absent.is_empty() {
        return Ok(Vec::new());
    }
    let done = desk
        .ask(|ledger| {
            let mut done = std::collections::HashSet::new();
            ledger.each::<LedgerError>(&[Standing::Done], |one| {
                done.insert(one.id);
                Ok(())
            })?;
            Ok(done)
        })
        .await?;
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
