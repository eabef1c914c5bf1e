//! The director: it starts the actors of a production, keeps the counts, and decides when the production is over.
//!
//! `Publishing` sends what is due. `Outcomes` receives outcomes, and has them written into the ledger before they are
//! acknowledged. The two share only the ledger: one finds there what the other has written.
//!
//! When a production stops, its task messages stay in the queue: workers go on with them, and the next start finds
//! their outcomes. Task messages of an earlier list that are still there are made too, since they were asked for. They
//! take no room in the window, and their outcomes are written if the ledger knows the recipes.

use super::announcements::Announcements;
use super::arrivals::Arrivals;
use super::drive_options::{BATCH, ROUND};
use super::ledger::retries::Policy;
use super::ledger::{self, RecipeState, Settled};
use super::ledger_handle::{LedgerHandle, LedgerHandleError};
use super::monitor::ProductionMonitor;
use super::outcomes::{BATCHES, Outcomes};
use super::publishing::Publishing;
use super::report::EntryState;
use super::sources::{SourceInspector, Witnesses};
use super::watching::Watch;
use edp_program::telemetry::metrics::metrics;
use edp_program::telemetry::refusals::Refusals;
use edp_queue::{Consumer, Link, Queue, QueueDepth, QueueError};
use edp_store::Stores;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

pub use super::drive_options::{Budget, DriveError, DriveOptions};

/// Prefetch of the queue of dead letters, of which there are hardly any.
const DEAD: u16 = 16;

/// Number of batches of outcomes that may wait for the director.
const MAILBOX: usize = 16;

/// Time that the actors may take to end in order.
const ENDING: Duration = Duration::from_secs(30);

/// The state in which a production was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProductionEnd {
    /// Every recipe of the list is settled.
    Settled,
    /// The production was told to stop.
    Stopped,
    /// Too many recipes have failed; the reason in words.
    GivenUp(String),
}

/// Counts of the recipes that were settled while this director was at work.
struct Tally<'p> {
    monitor: &'p ProductionMonitor,
    failed: u64,
    settled: u64,
}

impl Tally<'_> {
    fn add(&mut self, batch: &[Settled], progress: &mut impl FnMut(&Settled)) {
        for one in batch {
            self.failed += u64::from(one.state == RecipeState::Failed);
            self.settled += 1;
            self.monitor.settled(&one.granule, EntryState::of(one).word());
            progress(one);
        }
    }
}

/// Drives the present list of a ledger until all of it is settled and `growth`, which may add recipes to the list, has
/// ended. Only one coordinator may consume outcomes: a second one waits here as a standby.
///
/// In `stores` the coordinator looks for inputs that workers do not find, and for granules that they report as made.
///
/// However this ends, every outcome that was received is written into the ledger and acknowledged; all others come
/// again.
///
/// # Errors
/// Returns an error if the queue cannot be reached for longer than its patience, or if the ledger cannot be written:
/// outcomes that were not written are not acknowledged.
pub async fn drive(
    plan: &DriveOptions,
    ledger: &LedgerHandle,
    link: &Link,
    stores: &Stores,
    mut progress: impl FnMut(&Settled),
    growth: impl Future<Output = Result<(), DriveError>>,
    stop: impl Future<Output = ()>,
) -> Result<ProductionEnd, DriveError> {
    tokio::pin!(stop, growth);
    let (consumers, is_new) = tokio::select! {
        biased;
        () = &mut stop => return Ok(ProductionEnd::Stopped),
        consuming = consume(link) => consuming?,
    };
    if is_new && !plan.local {
        recall(ledger).await?;
    }
    let mut actors = Actors::start(plan, ledger, link, stores, consumers);
    let mut watch = Watch::new(ledger.clone(), link.clone(), plan.clone(), actors.announcements.clone());
    let mut tally = Tally { monitor: &plan.monitor, failed: 0, settled: 0 };
    let mut growing = true;
    let mut round = interval(ROUND);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let left = loop {
        tokio::select! {
            biased;
            () = &mut stop => break Ok(ProductionEnd::Stopped),
            Some(ended) = actors.tasks.join_next() => match ended {
                // The link was closed.
                Ok(Ok(())) => break Ok(ProductionEnd::Stopped),
                Ok(Err(error)) => break Err(error),
                Err(error) => break Err(DriveError::Actor(error)),
            },
            Some(batch) = actors.settled.recv() => {
                tally.add(&batch, &mut progress);
                if let Some(reason) = plan.budget.exceeded(tally.failed, tally.settled) {
                    break Ok(ProductionEnd::GivenUp(reason));
                }
                if !actors.settled.is_empty() {
                    continue;
                }
            }
            grown = &mut growth, if growing => match grown {
                Ok(()) => growing = false,
                Err(error) => break Err(error),
            },
            _ = round.tick() => match watch.look().await {
                Ok(batch) => {
                    tally.add(&batch, &mut progress);
                    if let Some(reason) = plan.budget.exceeded(tally.failed, tally.settled) {
                        break Ok(ProductionEnd::GivenUp(reason));
                    }
                }
                Err(error) => break Err(error),
            },
        }
        if !growing {
            match ledger.ask(|ledger| ledger.next()).await {
                Ok(None) => break Ok(ProductionEnd::Settled),
                Ok(Some(_)) => {}
                Err(error) => break Err(error.into()),
            }
        }
    };
    let unwritten = actors.end(|batch| tally.add(batch, &mut progress)).await;
    // Groups of workers that are scaled by the backlog must see that it is gone.
    let _ = watch.measure().await;
    match (left, unwritten) {
        (Ok(_), Some(error)) => Err(error),
        (left, _) => left,
    }
}

/// Number of outcomes that the coordinator has received and not acknowledged at most: those of the batches whose granules
/// are looked for, and of two more.
const PREFETCH: u16 = ((BATCHES + 2) * BATCH) as u16;

/// Declares the queues, and consumes those of outcomes and of dead letters. The second value tells whether nothing is in
/// the queues, and no worker has a task message.
async fn consume(link: &Link) -> Result<([Consumer; 2], bool), QueueError> {
    link.declare().await?;
    let outcomes = link.depth(Queue::Results).await?;
    let results = link.consumer(Queue::Results, PREFETCH).await?;
    let dead = link.consumer(Queue::Dead, DEAD).await?;
    let depth = link.depth(Queue::Recipes).await?;
    metrics().depth(&link.destination(Queue::Recipes).name, depth);
    Ok(([results, dead], depth == QueueDepth::default() && outcomes.messages == 0))
}

/// The actors of a production.
struct Actors {
    tasks: JoinSet<Result<(), DriveError>>,
    /// The recipes that they have settled.
    settled: mpsc::Receiver<Vec<Settled>>,
    /// The workers that have announced themselves to them.
    announcements: Announcements,
    /// Tells them to end in order.
    halt: CancellationToken,
}

impl Actors {
    /// Starts the actors, with the consumers of outcomes and of dead letters.
    fn start(
        plan: &DriveOptions,
        ledger: &LedgerHandle,
        link: &Link,
        stores: &Stores,
        [results, dead]: [Consumer; 2],
    ) -> Actors {
        let (mailbox, settled) = mpsc::channel(MAILBOX);
        let room = Arc::new(Notify::new());
        let (unfit, named) = watch::channel(Vec::new());
        let announcements = Announcements::new(Policy::with_deadline(plan.deadline).lease);
        let publishing = Publishing {
            plan: plan.clone(),
            ledger: ledger.clone(),
            tasks: link.publisher(Queue::Recipes, BATCH),
            to: link.destination(Queue::Recipes),
            room: room.clone(),
            settled: mailbox.clone(),
            unfit: named,
            announcements: announcements.clone(),
        };
        let outcomes = Outcomes {
            ledger: ledger.clone(),
            results,
            dead,
            from: [Queue::Results, Queue::Dead].map(|queue| link.destination(queue)),
            mixed_builds: plan.mixed_builds,
            local: plan.local,
            build: None,
            room,
            settled: mailbox,
            policies: BTreeSet::new(),
            sources: SourceInspector::new(stores.clone()),
            witnesses: Witnesses::default(),
            arrivals: plan.look.then(|| Arrivals::new(stores.clone())),
            refusals: Refusals::default(),
            unfit,
            announcements: announcements.clone(),
        };
        let halt = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(publishing.run(halt.clone()));
        tasks.spawn(outcomes.run(halt.clone()));
        Actors { tasks, settled, announcements, halt }
    }

    /// Ends the actors in order: outcomes that were received are written into the ledger and acknowledged, and `add` is
    /// called with them. Returns the error of an actor that could not write the ledger.
    async fn end(mut self, mut add: impl FnMut(&[Settled])) -> Option<DriveError> {
        self.halt.cancel();
        let mut unwritten = None;
        let ending = async {
            while let Some(batch) = self.settled.recv().await {
                add(&batch);
            }
            while let Some(ended) = self.tasks.join_next().await {
                if let Ok(Err(error @ DriveError::LedgerHandle(_))) = ended {
                    unwritten = Some(error);
                }
            }
        };
        let _ = timeout(ENDING, ending).await;
        unwritten
    }
}

/// Sends everything again that was under way in an earlier session: nothing is in the queues, and no worker has a task
/// message, so these are the queues of another broker, or the broker has lost its data.
async fn recall(ledger: &LedgerHandle) -> Result<(), LedgerHandleError> {
    let recall = |ledger: &mut ledger::Ledger| {
        let recipes = ledger.under_way()?;
        ledger.recall(ledger::now())?;
        Ok(recipes)
    };
    let recipes = ledger.ask(recall).await?;
    if recipes > 0 {
        tracing::warn!(recipes, "the queues are new, so what was under way before is sent again");
    }
    Ok(())
}

/// Resets recipes whose granules are missing, and those whose granules are damaged.
///
/// # Errors
/// Returns an error if the ledger cannot be written.
pub async fn reopen(
    ledger: &LedgerHandle,
    missing: Vec<String>,
    damaged: Vec<String>,
) -> Result<(), LedgerHandleError> {
    ledger
        .ask(move |ledger| {
            ledger.reopen(&missing)?;
            ledger.make_again(&damaged)
        })
        .await
}
