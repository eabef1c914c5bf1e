//! The director: starts the actors of a production, keeps the tally, and decides when it is over.
//!
//! `Publishing` sends what is due, `Outcomes` hears what became of it and has it written down before anything is
//! acknowledged. They share nothing but the ledger: what one writes down the other finds there.
//!
//! When a production stops, task messages stay in the queue: workers go on with them, and the next start finds their
//! results. Task messages of an earlier list that are still there are made too, as they were asked for; they take no
//! room in the window, and their outcomes are written down if the ledger knows them.

use super::arrivals::Arrivals;
use super::ledger::{RecipeState, Settled};
use super::ledger_handle::{LedgerHandle, LedgerHandleError};
use super::outcomes::Outcomes;
use super::publishing::Publishing;
use super::report::EntryState;
use super::sources::{SourceInspector, Witnesses};
use super::watching::Watch;
use edp_program::telemetry::metrics::metrics;
use edp_program::telemetry::refusals::Refusals;
use edp_queue::{Link, PublishError, Queue, QueueError};
use edp_store::Stores;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Fact of the ledger: the build that all granules are of.
pub(super) const BUILD: &str = "build";

/// Messages that are written down together at most.
pub(super) const BATCH: usize = 256;

/// How often the queue and leases are looked at.
pub(super) const ROUND: Duration = Duration::from_millis(500);

/// Dead letters at once; there are hardly any.
const DEAD: u16 = 16;

/// Batches of outcomes that may wait for the director.
const MAILBOX: usize = 16;

/// Time that the actors may take to end in order.
const ENDING: Duration = Duration::from_secs(30);

/// Options of the director.
#[derive(Debug, Clone)]
pub struct DriveOptions {
    /// Its name.
    pub production: String,
    /// Task messages in the queue and with workers at once: enough to keep workers busy, few enough for broker and
    /// memory.
    pub window: usize,
    /// Seconds that a granule may take.
    pub deadline: u32,
    /// Whether workers of several builds may take part.
    pub mixed_builds: bool,
    /// Whether the queues are in this process, and end with it.
    pub local: bool,
    /// When to give the production up.
    pub budget: Budget,
    /// Whether workers read granules that stand there already, and compare them with what is recorded of them.
    pub content: bool,
    /// Whether a granule that a worker says is done is looked for before that counts.
    pub look: bool,
}

/// Failures after which going on makes no sense.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// So many failed recipes; none: any number.
    pub failures: Option<u64>,
    /// Or such a share of those that are settled, from 0 to 1 ...
    pub share: f64,
    /// ... once so many are.
    pub sample: u64,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { failures: None, share: 0.5, sample: 100 }
    }
}

impl Budget {
    /// No number of failures ends the production.
    pub const NONE: Budget = Budget { failures: None, share: 1.0, sample: u64::MAX };

    /// The reason why the production is given up, if it is.
    fn exceeded(&self, failed: u64, settled: u64) -> Option<String> {
        if let Some(most) = self.failures.filter(|most| failed > *most) {
            return Some(format!("{failed} recipes failed, more than the {most} allowed"));
        }
        if settled >= self.sample && failed as f64 > self.share * settled as f64 {
            let share = self.share * 100.0;
            return Some(format!("{failed} of {settled} recipes failed, more than the {share:.0} % allowed"));
        }
        None
    }
}

/// The reason why driving a production ended early.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A message cannot be sent.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The ledger.
    #[error(transparent)]
    LedgerHandle(#[from] LedgerHandleError),
    /// An actor panicked.
    #[error("part of the coordinator has ended ({0}); please report this")]
    Actor(tokio::task::JoinError),
}

/// The state in which a production was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProductionEnd {
    /// Every recipe of the list is settled.
    Settled,
    /// It was told to stop.
    Stopped,
    /// Too much failed.
    GivenUp(String),
}

/// Ready when the actors are to end.
pub(super) async fn halt(halted: &mut watch::Receiver<bool>) {
    let _ = halted.wait_for(|halted| *halted).await;
}

/// Recipes that came to their end while this director was at work.
#[derive(Default)]
struct Tally {
    failed: u64,
    settled: u64,
}

impl Tally {
    fn add(&mut self, batch: &[Settled], progress: &mut impl FnMut(&Settled)) {
        for one in batch {
            self.failed += u64::from(one.state == RecipeState::Failed);
            self.settled += 1;
            metrics().settled(&one.granule, EntryState::of(one).word());
            progress(one);
        }
    }
}

/// Drives the present list of a ledger until all is settled and `growth` has ended, which may add recipes to the list
/// meanwhile. Only one coordinator may consume results: a second one waits here as a standby.
///
/// In `stores` the coordinator looks for what workers do not find, and for what they say that they have made.
///
/// However it ends, what was heard is written down and acknowledged; the rest comes again.
///
/// # Errors
/// The queue cannot be reached for longer than its patience, or the ledger cannot be written: what was not written
/// down is not acknowledged.
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
    let begin = async {
        link.declare().await?;
        let depth = link.depth(Queue::Recipes).await?;
        metrics().depth(&link.destination(Queue::Recipes).name, depth.messages);
        let results = link.consumer(Queue::Results, 2 * BATCH as u16).await?;
        Ok::<_, QueueError>((results, link.consumer(Queue::Dead, DEAD).await?))
    };
    let (results, dead) = tokio::select! {
        biased;
        () = &mut stop => return Ok(ProductionEnd::Stopped),
        begun = begin => begun?,
    };
    let (halting, halted) = watch::channel(false);
    let (mailbox, mut settled) = mpsc::channel(MAILBOX);
    let room = Arc::new(Notify::new());
    let (unfit, named) = watch::channel(Vec::new());
    let publishing = Publishing {
        plan: plan.clone(),
        ledger: ledger.clone(),
        tasks: link.publisher(Queue::Recipes, BATCH),
        to: link.destination(Queue::Recipes),
        room: room.clone(),
        settled: mailbox.clone(),
        unfit: named,
    };
    let (mixed_builds, local) = (plan.mixed_builds, plan.local);
    let from = [Queue::Results, Queue::Dead].map(|queue| link.destination(queue));
    let outcomes = Outcomes {
        ledger: ledger.clone(),
        results,
        dead,
        from,
        mixed_builds,
        local,
        build: None,
        room,
        settled: mailbox,
        policies: BTreeSet::new(),
        sources: SourceInspector::new(stores.clone()),
        witnesses: Witnesses::default(),
        arrivals: plan.look.then(|| Arrivals::new(stores.clone())),
        refusals: Refusals::default(),
        unfit,
    };
    let mut actors = JoinSet::new();
    actors.spawn(publishing.run(halted.clone()));
    actors.spawn(outcomes.run(halted));

    let mut watch = Watch::new(ledger.clone(), link.clone(), plan.production.clone());
    let mut tally = Tally::default();
    let mut growing = true;
    let mut round = interval(ROUND);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let left = loop {
        tokio::select! {
            biased;
            () = &mut stop => break Ok(ProductionEnd::Stopped),
            Some(ended) = actors.join_next() => match ended {
                // The link was closed.
                Ok(Ok(())) => break Ok(ProductionEnd::Stopped),
                Ok(Err(error)) => break Err(error),
                Err(error) => break Err(DriveError::Actor(error)),
            },
            Some(batch) = settled.recv() => {
                tally.add(&batch, &mut progress);
                if let Some(reason) = plan.budget.exceeded(tally.failed, tally.settled) {
                    break Ok(ProductionEnd::GivenUp(reason));
                }
                if !settled.is_empty() {
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
    // In order, whatever the reason: what was heard is written down and acknowledged.
    halting.send_replace(true);
    let mut unwritten = None;
    let ending = async {
        while let Some(batch) = settled.recv().await {
            tally.add(&batch, &mut progress);
        }
        while let Some(ended) = actors.join_next().await {
            if let Ok(Err(error @ DriveError::LedgerHandle(_))) = ended {
                unwritten = Some(error);
            }
        }
    };
    let _ = timeout(ENDING, ending).await;
    match (left, unwritten) {
        (Ok(_), Some(error)) => Err(error),
        (left, _) => left,
    }
}

/// Puts recipes back whose granules are not where they should be, and those whose granules are damaged.
///
/// # Errors
/// The ledger cannot be written.
pub async fn reopen(
    ledger: &LedgerHandle,
    missing: Vec<String>,
    damaged: Vec<String>,
) -> Result<(), LedgerHandleError> {
    ledger
        .ask(move |ledger| {
            missing.iter().try_for_each(|id| ledger.reopen(id))?;
            damaged.iter().try_for_each(|id| ledger.make_again(id))
        })
        .await
}
