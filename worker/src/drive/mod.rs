//! Driving a session from a command: the runtime, signals, the queue, a worker in this process if one is wanted, and
//! reports to the user meanwhile. All commands that make granules use [`Drive::run`].

mod local;

use crate::console::{self, Ending, Progress, Shutdown, Signal, Usage, note};
use crate::notice::Notices;
use crate::service::{Worker, may_be_at_work};
use anyhow::Context as _;
use edp_production::director::{DriveError, ProductionEnd};
use edp_production::ledger::{LedgerError, RecipeState};
use edp_production::monitor::ProductionMonitor;
use edp_production::records::{self, GranuleRecord, Manifest, Records};
use edp_production::report::{GranuleEntry, Report};
use edp_production::session::{Feed, LedgerPlace, Session, SessionEnd, SessionError, SessionEvent, SessionOptions};
use edp_production::verify::{InspectionDepth, Verified};
use edp_program::http_service::{Health, HttpService};
use edp_program::telemetry::metrics::metrics;
use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use edp_protocol::{Digest, Location};
use edp_queue::{Link, PublishError, QueueOptions};
use edp_store::Stores;
use local::LocalWorker;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The workers that make the granules.
#[derive(Debug)]
pub enum Workers {
    /// One worker within this process.
    Here(Box<Worker>),
    /// The workers that serve the queues of this broker.
    Queue(Box<QueueOptions>),
}

/// A session that a command drives.
#[derive(Debug)]
pub struct Drive {
    /// Options of the session.
    pub options: SessionOptions,
    /// The recipes, as far as they are known.
    pub recipes: Vec<Recipe>,
    /// Access to everything that is read and written.
    pub stores: Stores,
    /// The workers that make the granules.
    pub workers: Workers,
    /// The sources of notices that the time of this process will be over.
    pub notices: Notices,
    /// The list from which the recipes come, if any. Records of the granules are kept beside it.
    pub list: Option<TaskList>,
    /// Answers those who ask for the health of this process and its metrics.
    pub http: Option<HttpService>,
}

/// A task list, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskList {
    /// Location of the list.
    pub at: Location,
    /// Number of the part, and the number of all parts.
    pub part: Option<(usize, usize)>,
}

/// The result of a command that made granules.
#[derive(Debug)]
pub struct DriveResult {
    /// The report on every granule.
    pub report: Report,
    /// The result of the final verification.
    pub verified: Verified,
    /// True if no granule could be made any more, whatever the recipe: the store refuses, or the destination cannot be
    /// written.
    pub unfit: bool,
    /// The signal that ended it early, if any.
    pub signal: Option<Signal>,
}

impl DriveResult {
    /// Returns the ending of the command. Everything is done only if the final verification agrees with the outcomes.
    pub fn ending(&self) -> Ending {
        match self.signal {
            Some(signal) if !self.report.is_complete() => Ending::Stopped(signal),
            _ if self.unfit && !self.report.is_complete() => Ending::Unreachable,
            _ if self.verified.has_unknown() => Ending::Unreachable,
            _ if self.report.is_complete() && self.verified.is_complete() => Ending::Done,
            _ => Ending::Incomplete,
        }
    }

    /// Adds granules whose recipes could not even be tried, with the reasons.
    pub fn refuse(&mut self, refused: Vec<(String, String)>, progress: &Progress) {
        for (granule, reason) in refused {
            let entry = GranuleEntry::unlisted(granule, String::new(), RecipeState::Failed, reason);
            progress.ended(&entry);
            self.report.entries.push(entry);
        }
    }

    /// Returns the report and the final verification as one JSON object.
    ///
    /// # Errors
    /// Returns an error if a number cannot be written as JSON.
    pub fn json(&self) -> anyhow::Result<String> {
        let mut value = serde_json::to_value(&self.report)?;
        if let Some(object) = value.as_object_mut() {
            object.insert("verified".into(), serde_json::to_value(&self.verified)?);
        }
        serde_json::to_string_pretty(&value).context("writing the report")
    }
}

impl Drive {
    /// Drives the session to its end. `growth` may add recipes through the feed that it is given; its result is the
    /// entries of granules that never became complete. The inner error is an ending that was explained to the user
    /// already.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be used, or a part of the program ended unexpectedly.
    pub fn run(
        mut self,
        growth: impl AsyncFnOnce(Feed<'_>) -> Result<Vec<GranuleEntry>, DriveError>,
        progress: &Progress,
    ) -> anyhow::Result<Result<DriveResult, Ending>> {
        let (list, stores) = (self.list.take(), self.stores.clone());
        if let Some(list) = &list {
            let records = records::beside(&list.at, &stores).map_err(|e| console::named(&e))?;
            self.options.records = Arc::new(records);
        }
        let content = self.options.verify == InspectionDepth::Content;
        // The date is in a granule's bytes, but is not part of the id.
        let dates: HashMap<String, String> = self.recipes.iter().filter_map(dated).collect();
        let runtime = console::runtime().context("starting the runtime")?;
        let stop = Shutdown::default();
        let http = self.http.take();
        let ended = runtime.block_on(async {
            if let Some(http) = http {
                let monitor = self.options.plan.monitor.clone();
                tokio::spawn(http.answer(move || std::future::ready(health(&monitor))));
            }
            let shutdown = CancellationToken::new();
            let doing = match self.options.ledger {
                LedgerPlace::Memory => "giving up what is under way",
                LedgerPlace::File(_) => "leaving the rest to the next run",
            };
            let asked = stop.asked(doing, self.notices.clone().first());
            let cancel = shutdown.clone();
            tokio::spawn(async move {
                asked.await;
                cancel.cancel();
            });
            self.session(growth, progress, &stop, &shutdown).await
        });
        console::shut_down(runtime);
        let ended = match ended {
            Ok(Some(ended)) => ended,
            Ok(None) => return Ok(Err(stop.signal().map_or(Ending::Incomplete, Ending::Stopped))),
            Err(error) => return Err(explain(error)),
        };
        let (mut ended, unfit) = ended;
        let left = ended.report.count("left");
        if let Some(notice) = stop.notice().filter(|_| left > 0 && !unfit) {
            note(&format!("stopped, since {notice}: {left} granules remain, and the same command continues with them"));
            ended.report.stopped = Some(notice.to_string());
        }
        let present = ended.report.count("present");
        if present > 0 && !content {
            note(&format!(
                "{present} granules that were there were not read, but known by names and ids (--verify present)"
            ));
        }
        if let Some(manifest) = list.and_then(|list| Manifest::beside(&list.at, list.part)) {
            // A record makes reading unnecessary: without it, the next check reads the granules.
            if let Err(error) = manifest.add(made(&ended.report, &dates), &stores) {
                note(&format!("warning: what was made is not recorded: {}", chain(&error)));
            }
        }
        Ok(Ok(DriveResult { report: ended.report, verified: ended.verified, unfit, signal: stop.signal() }))
    }

    /// Runs the session. Also returns true if it has ended because no granule can be made. Returns `None` if it was
    /// told to end before it had begun.
    async fn session(
        self,
        growth: impl AsyncFnOnce(Feed<'_>) -> Result<Vec<GranuleEntry>, DriveError>,
        progress: &Progress,
        stop: &Shutdown,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Option<(SessionEnd, bool)>> {
        let listen = |event: SessionEvent<'_>| show(&event, progress);
        let Drive { mut options, recipes, stores, workers, notices, .. } = self;
        options.plan.content = options.verify == InspectionDepth::Content;
        let deadline = Duration::from_secs(options.plan.deadline.into());
        if let Workers::Here(worker) = &workers
            && !worker.replace
        {
            let roots = recipes.iter().filter_map(|recipe| Some(recipe.recipe.as_ref()?.roots.destination.as_str()));
            console::check_destinations(roots.chain(options.destination.as_deref()), worker)?;
        }
        let Some(mut session) = Session::open(options, recipes, &stores, &listen, shutdown).await? else {
            return Ok(None);
        };
        let growth = growth(session.feed());
        let mut unfit = None;
        match workers {
            Workers::Queue(queue) => {
                let link = Link::amqp(*queue).context("starting the link to the queue")?;
                metrics().broker(&link);
                session.drive(&link, growth, shutdown).await?;
                link.close().await;
            }
            Workers::Here(worker) => {
                let link = Link::embedded().context("starting the queue")?;
                // A shutdown ends the worker, and its end ends the session, so that outcomes of what it finishes still
                // count.
                let over = CancellationToken::new();
                let (stop, grace) = (stop.clone(), notices.grace());
                // What a signal ends is made again by the next run; a known end leaves time to finish it.
                let given = move || stop.notice().map(|notice| notice.grace(grace)).unwrap_or_default();
                let local = LocalWorker::start(*worker, &link, deadline, (shutdown, given), over.clone());
                let driven = session.drive(&link, growth, &over).await;
                let id = local.id.clone();
                unfit = local.stop().await;
                link.close().await;
                driven?;
                session.release(id, may_be_at_work).await?;
            }
        }
        let mut ended = session.end().await?;
        let is_unfit = unfit.is_some();
        if let ProductionEnd::GivenUp(reason) = &ended.left {
            note(&format!("given up: {reason}"));
        } else if let Some(why) = unfit {
            note(&format!("stopped, since nothing can be made: {why}; mend it, and run it again"));
            for entry in ended.report.entries.iter_mut().filter(|entry| !entry.standing.state.is_settled()) {
                entry.reason = Some(format!("the production was stopped before: {why}"));
            }
            ended.report.stopped = Some(why);
        }
        Ok(Some((ended, is_unfit)))
    }
}

/// Returns the health of a coordinator.
fn health(monitor: &ProductionMonitor) -> Health {
    let status = monitor.status();
    Health::of(status.is_healthy(), &status)
}

/// Returns the id of a recipe and the date of its production.
fn dated(recipe: &Recipe) -> Option<(String, String)> {
    recipe.recipe.as_ref().map(|plan| (plan.id.clone(), plan.production_date.clone()))
}

/// Returns records of the granules of a report that were hashed.
fn made(report: &Report, dates: &HashMap<String, String>) -> Records {
    let mut records = Records::default();
    let is_its_own = |entry: &&GranuleEntry| entry.standing.state == RecipeState::Done && !entry.standing.older;
    for entry in report.entries.iter().filter(is_its_own) {
        let (Some(sha256), Some(date)) = (Digest::from_hex(&entry.sha256), dates.get(&entry.id)) else { continue };
        records.enter(GranuleRecord {
            id: entry.id.clone(),
            bytes: entry.bytes,
            sha256,
            production_date: Some(date.clone()),
            granule: entry.granule.clone(),
        });
    }
    records
}

/// Reports an event to the user.
fn show(event: &SessionEvent<'_>, progress: &Progress) {
    match event {
        SessionEvent::StandingBy(why) => note(&format!("standing by: {why}")),
        SessionEvent::Resumed { ledger, copy } => {
            note(&format!("no ledger {}: going on from its copy {copy}", ledger.display()));
        }
        SessionEvent::Planned(recipes) => progress.more(*recipes),
        SessionEvent::FailedBefore(recipes) => {
            note(&format!("{recipes} recipes failed before; `edp-coordinator retry` sends them out again"));
        }
        SessionEvent::Ended(entry) => progress.ended(entry),
        SessionEvent::Missing(granules) => {
            note(&format!("{granules} granules are said to be done, but are not there or damaged: making them again"));
        }
        SessionEvent::Warning(text) => note(&format!("warning: {text}")),
    }
}

/// Makes an error one that the user can correct, if it is.
fn explain(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<SessionError>() {
        Some(SessionError::Drive(DriveError::Queue(error) | DriveError::Publish(PublishError::Queue(error)))) => {
            console::of_queue(error)
        }
        Some(SessionError::Destination(error)) => console::named(error),
        Some(SessionError::Ledger(
            error @ (LedgerError::Production { .. }
            | LedgerError::Layout { .. }
            | LedgerError::NoFile { .. }
            | LedgerError::Unlocked { .. }),
        )) => Usage(chain(error)).into(),
        _ => error,
    }
}
