//! A session: one run of a production, from its recipes to the final verification.
//!
//! A session is put together from a ledger (in memory or a file), a connected queue (within this process or on
//! RabbitMQ), and recipes (a list, or a list that grows while a model runs). It does not depend on who makes the
//! granules: workers within this process are started on the same queue.
//!
//! ```text
//!   recipes --> Session::open --> drive(queue) --> check destination --+--> end --> Report
//!                                  ^  ^                                |
//!             further recipes --> Feed +---- done, but missing <-------+
//! ```
//!
//! From its opening to its end it publishes one stream of [`SessionEvent`]s, to which progress bars, logs and pages
//! listen.

use super::adoption::{self, AdoptionError};
use super::conditions;
use super::director::{self, Budget, DriveError, ProductionEnd};
use super::ledger::retries::Policy;
use super::ledger::{self, GIVEN_UP, Ledger, LedgerError, RecipeState, Settled};
use super::ledger_handle::{LedgerHandle, LedgerHandleError};
use super::monitor::{ProductionMonitor, SessionPhase};
use super::records::{GranuleRecord, Records};
use super::report::{GranuleEntry, Report};
use super::snapshots::Snapshots;
use super::sweep::sweep;
use super::verify::{self, Check, Finding, InspectionDepth, Verified};
use edp_program::settings::{ServeSettings, TaskGrouping};
use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use edp_queue::{Link, QueueSettings};
use edp_store::{StoreError, Stores};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Number of times that granules which are reported as done but missing at the destination are made again.
const ROUNDS: usize = 3;

/// Time for which granules are looked for at the destination when a ledger file is begun. Workers find the rest.
const LOOK: Duration = Duration::from_secs(60);

/// Time between two attempts to open a ledger that another coordinator has.
const STANDBY: Duration = Duration::from_secs(1);

/// The place of a production's ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerPlace {
    /// The ledger is in memory, for as long as the session lasts.
    Memory,
    /// The ledger is in a file, so that the next session continues where this one ends, however it ends.
    File(PathBuf),
}

/// Options of a session.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Options for driving the production.
    pub plan: director::DriveOptions,
    /// Policy for sending recipes again.
    pub policy: Policy,
    /// Place of the ledger.
    pub ledger: LedgerPlace,
    /// Root of the granules, below which copies of a ledger file are kept.
    pub destination: Option<String>,
    /// Time between two copies of a ledger file; no copies are made if it is zero.
    pub snapshot: Duration,
    /// Directory below which relative paths lie, for recipes that leave this process; `None` if they stay as they are.
    pub base: Option<PathBuf>,
    /// True if granules of other recipes may be overwritten. Conflicts of earlier sessions are then tried again.
    pub replace: bool,
    /// Depth of the inspection of granules that existed at the destination before.
    pub verify: InspectionDepth,
    /// Known records of granules, from when they were made or last read.
    pub records: Arc<Records>,
    /// True if the report has the stages of each granule.
    pub stages: bool,
}

impl SessionOptions {
    /// Returns options for a session within one process, with a ledger in memory.
    pub fn in_memory(budget: Budget) -> SessionOptions {
        let plan = director::DriveOptions {
            production: "default".into(),
            window: QueueSettings::default().window as usize,
            deadline: ServeSettings::default().own_deadline(),
            mixed_builds: false,
            group: TaskGrouping::default(),
            local: true,
            budget,
            content: true,
            // The worker is this process.
            look: false,
            monitor: ProductionMonitor::default(),
        };
        SessionOptions {
            policy: Policy::with_deadline(plan.deadline),
            plan,
            ledger: LedgerPlace::Memory,
            destination: None,
            snapshot: Duration::ZERO,
            base: None,
            replace: false,
            verify: InspectionDepth::Content,
            records: Arc::default(),
            stages: false,
        }
    }
}

/// A function that a session calls with each of its events, in their order.
pub(crate) type EventListener<'l> = &'l (dyn Fn(SessionEvent<'_>) + Sync);

/// An event of a session that people may want to know about.
#[derive(Debug)]
pub enum SessionEvent<'a> {
    /// Another coordinator has the ledger, for which this is the message. The session waits for its end.
    StandingBy(&'a str),
    /// The production goes on from the copy of its ledger, since the ledger itself does not exist.
    Resumed {
        /// Path of the ledger.
        ledger: &'a Path,
        /// Location of the copy.
        copy: &'a str,
    },
    /// This many recipes are added to those of the beginning.
    Planned(usize),
    /// This many recipes failed in earlier sessions, and are not tried again unless that is asked for.
    FailedBefore(u64),
    /// A recipe was settled, now or before this session.
    Ended(&'a GranuleEntry),
    /// This many granules are reported as done, but are missing, or are damaged and may be replaced. They are made
    /// again.
    Missing(usize),
    /// A problem that does not keep the session from going on.
    Warning(&'a str),
}

/// The reason why a session cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger's thread does not answer.
    #[error(transparent)]
    LedgerHandle(#[from] LedgerHandleError),
    /// The destination cannot be compared with the ledger.
    #[error(transparent)]
    Adoption(#[from] AdoptionError),
    /// Granules cannot be written to the destination as they have to be.
    #[error(transparent)]
    Destination(#[from] StoreError),
    /// The queue or one of the actors has failed.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// A thread of this program ended unexpectedly.
    #[error("part of the program has ended while {0}; please report this")]
    Thread(&'static str, #[source] tokio::task::JoinError),
}

/// The result of a session.
#[derive(Debug)]
pub struct SessionEnd {
    /// The report on every granule.
    pub report: Report,
    /// The result of the final verification.
    pub verified: Verified,
    /// The state in which the production was left.
    pub left: ProductionEnd,
}

/// Adds recipes to a session that is under way.
#[derive(Clone)]
pub struct Feed<'l> {
    ledger: LedgerHandle,
    base: Option<PathBuf>,
    records: Arc<Records>,
    listen: EventListener<'l>,
}

impl Feed<'_> {
    /// Adds recipes to the list.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written.
    pub async fn add(&self, mut recipes: Vec<Recipe>) -> Result<(), LedgerHandleError> {
        if let Some(base) = &self.base {
            recipes.iter_mut().for_each(|recipe| recipe.make_absolute(base));
        }
        let records = self.records.clone();
        // None of them can end before listeners know of it.
        (self.listen)(SessionEvent::Planned(recipes.len()));
        self.ledger
            .ask(move |ledger| {
                ledger.add(&recipes)?;
                ledger.record(records.each(&recipes))
            })
            .await
    }

    /// Returns true if recipes are waiting or under way.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub async fn is_busy(&self) -> Result<bool, LedgerHandleError> {
        Ok(self.ledger.ask(|ledger| ledger.next()).await?.is_some())
    }
}

/// One run of a production.
pub struct Session<'l> {
    options: SessionOptions,
    listen: EventListener<'l>,
    stores: Stores,
    ledger: LedgerHandle,
    begun: Instant,
    /// Ids of recipes whose granules existed when the session began.
    before: HashSet<String>,
    verified: Verified,
    left: ProductionEnd,
    /// Entries of granules that never became recipes of the ledger.
    others: Vec<GranuleEntry>,
    /// The task that copies the ledger. It ends with one more copy when the guard is dropped.
    keeping: Option<(DropGuard, JoinHandle<()>)>,
}

impl<'l> Session<'l> {
    /// Opens the ledger, enters the recipes and compares the ledger with the destination. Stands by while another
    /// coordinator has the ledger. Returns `None` if `shutdown` is requested meanwhile. All events of the session go to
    /// `listen`.
    ///
    /// # Errors
    /// Returns an error if the ledger is that of another production or cannot be used, or if the destination cannot be
    /// inspected.
    pub async fn open(
        options: SessionOptions,
        mut recipes: Vec<Recipe>,
        stores: &Stores,
        listen: EventListener<'l>,
        shutdown: &CancellationToken,
    ) -> Result<Option<Session<'l>>, SessionError> {
        let begun = Instant::now();
        options.plan.monitor.named(&options.plan.production);
        if let Some(base) = &options.base {
            recipes.iter_mut().for_each(|recipe| recipe.make_absolute(base));
        }
        let snapshots = match (&options.ledger, &options.destination) {
            (LedgerPlace::File(_), Some(destination)) if !options.snapshot.is_zero() => {
                Snapshots::new(&options.plan.production, destination, stores, &stores.scratch())
            }
            _ => None,
        };
        let recipes = Arc::new(recipes);
        let opened = open(&options, snapshots.as_ref(), &recipes, listen, shutdown).await?;
        let Some(mut ledger) = opened else { return Ok(None) };
        let (given, looking) = (options.clone(), stores.clone());
        // Inspecting a million granules takes some time, and must not block the runtime.
        let preparing = tokio::task::spawn_blocking(move || {
            let warnings = match given.replace && given.plan.local {
                true => Vec::new(), // no condition is used
                false => conditions::check(&recipes, given.destination.as_deref(), &looking)?,
            };
            prepare(&mut ledger, &recipes, &given, &looking)?;
            Ok::<_, SessionError>((ledger, warnings))
        });
        let (ledger, warnings) = preparing.await.map_err(|e| SessionError::Thread("preparing the ledger", e))??;
        warnings.iter().for_each(|warning| listen(SessionEvent::Warning(warning)));
        let failed = ledger.counts()?.of(RecipeState::Failed);
        if failed > 0 {
            listen(SessionEvent::FailedBefore(failed));
        }
        let mut before = HashSet::new();
        ledger.each::<LedgerError>(
            &[RecipeState::Done, RecipeState::Held, RecipeState::Failed, RecipeState::Conflict],
            |one| {
                if one.state == RecipeState::Done {
                    before.insert(one.id.clone());
                }
                listen(SessionEvent::Ended(&entry(one, true)));
                Ok(())
            },
        )?;
        let ledger = LedgerHandle::open(ledger)?;
        options.plan.monitor.opened(ledger.activity());
        let every = options.snapshot;
        let keeping = snapshots.map(|snapshots| {
            let end = CancellationToken::new();
            let keeping = tokio::spawn(snapshots.keep(ledger.clone(), every, end.clone()));
            (end.drop_guard(), keeping)
        });
        Ok(Some(Session {
            options,
            listen,
            stores: stores.clone(),
            ledger,
            begun,
            before,
            verified: Verified::default(),
            left: ProductionEnd::Stopped,
            others: Vec::new(),
            keeping,
        }))
    }

    /// Returns a handle for adding recipes while the session is driven.
    pub fn feed(&self) -> Feed<'l> {
        let SessionOptions { base, records, .. } = &self.options;
        Feed { ledger: self.ledger.clone(), base: base.clone(), records: records.clone(), listen: self.listen }
    }

    /// Drives the recipes to their end with the workers that serve the queue, and checks the destination. Granules that
    /// are reported as done but missing are made again, a few times. `growth` may add recipes meanwhile; its result is
    /// the entries of granules that never became complete. Ends early when `shutdown` is requested: task messages then
    /// stay in the queue, and outcomes that were received are recorded.
    ///
    /// # Errors
    /// Returns an error if the queue cannot be reached for longer than its patience, or the ledger cannot be used.
    pub async fn drive(
        &mut self,
        link: &Link,
        growth: impl Future<Output = Result<Vec<GranuleEntry>, DriveError>>,
        shutdown: &CancellationToken,
    ) -> Result<(), SessionError> {
        let (mut growth, listen) = (Some(growth), self.listen);
        let monitor = self.options.plan.monitor.clone();
        monitor.drives(link);
        for _ in 0..ROUNDS {
            let others = &mut self.others;
            let growth = async {
                if let Some(growth) = growth.take() {
                    *others = growth.await?;
                }
                Ok(())
            };
            let ended = |one: &Settled| listen(SessionEvent::Ended(&entry(one.clone(), false)));
            let stop = shutdown.cancelled();
            let plan = &self.options.plan;
            self.left = director::drive(plan, &self.ledger, link, &self.stores, ended, growth, stop).await?;
            monitor.enters(SessionPhase::Checking);
            let recipes = self.ledger.ask(|ledger| ledger.recipes()).await?;
            let recipes = self.check(recipes).await?;
            if self.left != ProductionEnd::Settled {
                break;
            }
            let missing = self.done(&recipes, |finding| *finding == Finding::Missing).await?;
            let damaged = match self.options.replace {
                true => self.done(&recipes, |finding| matches!(finding, Finding::Damaged(_))).await?,
                false => Vec::new(),
            };
            if missing.is_empty() && damaged.is_empty() {
                break;
            }
            listen(SessionEvent::Missing(missing.len() + damaged.len()));
            self.before.retain(|id| !missing.contains(id) && !damaged.contains(id));
            director::reopen(&self.ledger, missing, damaged).await?;
            monitor.enters(SessionPhase::Driving);
        }
        monitor.drove();
        Ok(())
    }

    /// Compares the destination with the recipes, which are returned. When every outcome has arrived, no worker is at
    /// work any more, and what workers have left unfinished is removed first. A worker that is at work nevertheless
    /// finds that its partial file is gone, and inspects the destination.
    ///
    /// A session that was stopped looks only at what it has made itself: the rest is left to the session that completes
    /// the list, since those who stop a production, or their job, cannot wait until a whole collection was read.
    async fn check(&mut self, mut recipes: Vec<Recipe>) -> Result<Vec<Recipe>, SessionError> {
        let (stores, sweeping, depth) = (self.stores.clone(), self.left == ProductionEnd::Settled, self.options.verify);
        let before = self.before.clone();
        // Granules of this session were hashed when they were written, and granules that workers found were read by
        // them.
        let (records, known) = self.ledger.ask(move |ledger| recorded(ledger, &before)).await?;
        let is_left = self.left == ProductionEnd::Stopped && self.ledger.ask(|ledger| ledger.next()).await?.is_some();
        if is_left {
            recipes.retain(|recipe| recipe.recipe.as_ref().is_some_and(|plan| known.contains(&plan.id)));
        }
        let checking = tokio::task::spawn_blocking(move || {
            let warnings = if sweeping { sweep(&recipes, |_| false, &stores) } else { Vec::new() };
            let check = Check { depth, records: &records, read: false, known: &known };
            let mut verified = verify::verify(&recipes, check, &stores);
            if is_left {
                verified.extra.clear(); // not all recipes were named
            }
            (recipes, verified, warnings)
        });
        let (recipes, verified, warnings) =
            checking.await.map_err(|e| SessionError::Thread("checking the destination", e))?;
        self.warn(&warnings);
        self.verified = verified;
        let read = std::mem::take(&mut self.verified.read);
        if !read.is_empty() {
            let of = recipes.clone();
            self.ledger.ask(move |ledger| ledger.record(read.each(&of))).await?;
        }
        Ok(recipes)
    }

    /// Returns the ids of recipes that are done in the ledger, and for whose granules the final verification has such a
    /// finding.
    async fn done(&self, recipes: &[Recipe], is: fn(&Finding) -> bool) -> Result<Vec<String>, LedgerHandleError> {
        let problems = self.verified.problems.iter();
        let found: HashSet<&str> =
            problems.filter(|(_, finding)| is(finding)).map(|(granule, _)| granule.as_str()).collect();
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let done = self.ledger.ask(|ledger| adoption::ids(ledger, RecipeState::Done)).await?;
        let ids = recipes.iter().filter(|recipe| found.contains(recipe.granule.as_str()));
        Ok(ids
            .filter_map(|recipe| recipe.recipe.as_ref().map(|plan| plan.id.clone()))
            .filter(|id| done.contains(id))
            .collect())
    }

    /// Releases a worker of this process that has ended, and with it the queue: unfinished recipes wait again, and what
    /// the worker has left at the destination is removed, except for partial files of workers that may be `at_work`.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written.
    pub async fn release(&mut self, worker: String, at_work: fn(&str) -> bool) -> Result<(), SessionError> {
        let release = move |ledger: &mut Ledger| {
            ledger.dismiss(&worker, ledger::now())?;
            ledger.recall(ledger::now())?;
            ledger.recipes()
        };
        let (recipes, stores) = (self.ledger.ask(release).await?, self.stores.clone());
        let sweeping = tokio::task::spawn_blocking(move || sweep(&recipes, at_work, &stores));
        self.warn(&sweeping.await.map_err(|e| SessionError::Thread("sweeping the destination", e))?);
        Ok(())
    }

    fn warn(&self, warnings: &[String]) {
        warnings.iter().for_each(|warning| (self.listen)(SessionEvent::Warning(warning)));
    }

    /// Ends the session: records how the production was left, makes the last copy of the ledger, and reports on every
    /// granule.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be used.
    pub async fn end(self) -> Result<SessionEnd, SessionError> {
        let Session { options, ledger, begun, before, verified, left, others, keeping, .. } = self;
        if let ProductionEnd::GivenUp(reason) = left.clone() {
            ledger.ask(move |ledger| ledger.set_fact(GIVEN_UP, Some(&reason))).await?;
        }
        if let Some((guard, keeping)) = keeping {
            drop(guard);
            keeping.await.map_err(|e| SessionError::Thread("copying the ledger", e))?;
        }
        let is_file = options.ledger != LedgerPlace::Memory;
        let content = options.verify == InspectionDepth::Content;
        let mut entries = ledger
            .ask(move |ledger| {
                if is_file {
                    ledger.gather()?;
                }
                let mut entries = Vec::new();
                ledger.each::<LedgerError>(&RecipeState::ALL, |one| {
                    let known = before.contains(&one.id);
                    let mut entry = entry(one, known);
                    // A digest from an earlier read says nothing about the bytes that are there now.
                    if !content && entry.standing.already {
                        entry.sha256.clear();
                    }
                    entries.push(entry);
                    Ok(())
                })?;
                if options.stages {
                    ledger.add_stages(&mut entries)?;
                }
                Ok(entries)
            })
            .await?;
        entries.extend(others);
        let stopped = match &left {
            ProductionEnd::GivenUp(reason) => Some(reason.clone()),
            ProductionEnd::Settled | ProductionEnd::Stopped => None,
        };
        let report = Report { entries, stopped, seconds: begun.elapsed().as_secs_f64() };
        Ok(SessionEnd { report, verified, left })
    }
}

/// Returns the records of granules that the ledger has, from outcomes or manifests, and the ids of those that are done
/// and were not done `before`.
fn recorded(ledger: &Ledger, before: &HashSet<String>) -> Result<(Records, HashSet<String>), LedgerError> {
    let (mut records, mut known) = (Records::default(), HashSet::new());
    ledger.each::<LedgerError>(&RecipeState::ALL, |one| {
        if one.state == RecipeState::Done && !before.contains(&one.id) {
            known.insert(one.id.clone());
        }
        if let Some(record) = GranuleRecord::of(&one) {
            records.enter(record);
        }
        Ok(())
    })?;
    Ok((records, known))
}

/// Returns the report's entry of a recipe; `before` is true if it was done before this session.
fn entry(one: Settled, before: bool) -> GranuleEntry {
    let mut entry = GranuleEntry::from(one);
    entry.standing.already |= before;
    entry
}

/// Opens the ledger. While another coordinator holds it, this one waits as a standby. If there is no ledger file yet, the
/// copy at the destination is used, if it belongs to these recipes. Returns `None` if `shutdown` is requested meanwhile.
async fn open(
    options: &SessionOptions,
    snapshots: Option<&Snapshots>,
    recipes: &Arc<Vec<Recipe>>,
    listen: EventListener<'_>,
    shutdown: &CancellationToken,
) -> Result<Option<Ledger>, SessionError> {
    let (production, policy) = (&options.plan.production, options.policy);
    let path = match &options.ledger {
        LedgerPlace::Memory => return Ok(Some(Ledger::in_memory(production, policy)?)),
        LedgerPlace::File(path) => path,
    };
    let mut said = false;
    loop {
        let (own, production, copies) = (path.clone(), production.clone(), snapshots.cloned());
        let known = recipes.clone();
        let opening = tokio::task::spawn_blocking(move || {
            let mut fetched = None;
            let opened = Ledger::open_or_fetch(&own, &production, policy, |path| {
                fetched = copies.as_ref().map(|copies| copies.fetch(path, &known));
                Ok(())
            });
            (opened, fetched)
        });
        let (opened, fetched) = opening.await.map_err(|e| SessionError::Thread("opening the ledger", e))?;
        let at = snapshots.map(|snapshots| snapshots.location().to_string()).unwrap_or_default();
        let is_copy = matches!(fetched, Some(Ok(true)));
        match fetched {
            Some(Ok(true)) => listen(SessionEvent::Resumed { ledger: path, copy: &at }),
            Some(Err(error)) => {
                listen(SessionEvent::Warning(&format!("the copy of the ledger {at} is not used: {}", chain(&error))));
            }
            Some(Ok(false)) | None => {}
        }
        match opened {
            Ok(mut ledger) => {
                ledger.is_copy = is_copy;
                options.plan.monitor.enters(SessionPhase::Opening);
                return Ok(Some(ledger));
            }
            Err(error @ LedgerError::InUse { .. }) => {
                options.plan.monitor.enters(SessionPhase::Standby);
                if !said {
                    listen(SessionEvent::StandingBy(&chain(&error)));
                }
                said = true;
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(STANDBY) => {}
        }
    }
}

/// Enters the recipes, and compares the ledger with the destination, which takes precedence.
fn prepare(
    ledger: &mut Ledger,
    recipes: &[Recipe],
    options: &SessionOptions,
    stores: &Stores,
) -> Result<(), AdoptionError> {
    let fresh = ledger.counts()?.all() == 0;
    ledger.list(recipes)?;
    ledger.record(options.records.each(recipes))?;
    ledger.set_fact(GIVEN_UP, None)?;
    if options.ledger == LedgerPlace::Memory {
        // Nothing is known yet: the worker inspects the destination before it makes anything.
        return Ok(());
    }
    adoption::put_back(ledger, recipes, stores)?;
    if options.plan.local {
        // Everything that was under way in an earlier session has ended with its queue.
        ledger.recall(ledger::now())?;
        if options.replace {
            ledger.retry(RecipeState::Conflict)?;
        }
    }
    if fresh || ledger.is_copy {
        adoption::adopt(ledger, recipes, stores, LOOK)?;
    }
    Ok(())
}
