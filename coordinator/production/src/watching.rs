//! The coordinator's checks of its queue, twice a second, and their consequences for the task messages in it.
//!
//! A lease shows late that a task message is lost. Most losses show much earlier: the queue is missing, it was declared
//! again, or it is empty although no worker has begun what should be in it (it was purged).

use super::announcements::Announcements;
use super::drive_options::{DriveError, DriveOptions};
use super::ledger::{self, Settled};
use super::ledger_handle::LedgerHandle;
use edp_program::settings::TaskGrouping;
use edp_program::telemetry::metrics::metrics;
use edp_queue::{Link, LinkState, Queue, QueueDepth, QueueError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Time that the broker may take to say what is in a queue.
const ANSWER: Duration = Duration::from_secs(5);

/// Time with an empty queue after which a task message that no worker has begun counts as lost: a worker begins at once
/// with what it receives.
const EMPTY: Duration = Duration::from_secs(60);

/// Time after which it is reported that task messages wait without any worker.
const UNSERVED: Duration = Duration::from_secs(5);

/// Time for which the queue must have fewer consumers than there are announced workers, until some of these are forgotten.
const FEWER: Duration = Duration::from_secs(15);

/// Time between two trials of a queue that has no consumer.
const TRIAL: Duration = Duration::from_secs(60);

/// Time between two measurements of the backlog.
const MEASURE: Duration = Duration::from_secs(15);

/// The state of the checks.
pub(super) struct Watch {
    ledger: LedgerHandle,
    link: Link,
    plan: DriveOptions,
    /// The workers that take part.
    announcements: Announcements,
    /// Last known number of times that the link had declared queues again.
    renewals: u64,
    empty: ConditionTimer,
    unserved: ConditionTimer,
    fewer: ConditionTimer,
    /// True once it was reported that there is no worker.
    said: bool,
    /// The trial of the queue, and the time at which the last one began.
    trial: JoinSet<()>,
    tried: Option<Instant>,
    /// The time of the last measurement of the backlog.
    measured: Option<Instant>,
}

/// Measures for how long a condition has held without a break.
#[derive(Default)]
struct ConditionTimer(Option<Instant>);

impl ConditionTimer {
    /// Updates the condition. Returns true if it has held for `limit`.
    fn lasts(&mut self, is_so: bool, limit: Duration, now: Instant) -> bool {
        if !is_so {
            self.0 = None;
            return false;
        }
        now.saturating_duration_since(*self.0.get_or_insert(now)) >= limit
    }
}

impl Watch {
    pub(super) fn new(ledger: LedgerHandle, link: Link, plan: DriveOptions, announcements: Announcements) -> Watch {
        let renewals = link.renewals();
        let (empty, unserved, fewer) = Default::default();
        Watch {
            ledger,
            link,
            plan,
            announcements,
            renewals,
            empty,
            unserved,
            fewer,
            said: false,
            trial: JoinSet::new(),
            tried: None,
            measured: None,
        }
    }

    /// Checks once. Ends the leases that have expired, unless the broker is unreachable, since no outcome could have
    /// arrived then.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written, or the queues cannot be declared again.
    pub(super) async fn look(&mut self) -> Result<Vec<Settled>, DriveError> {
        let announced = self.announcements.present();
        self.plan.monitor.announced(announced, self.plan.window(announced.slots));
        if self.measured.is_none_or(|measured| measured.elapsed() >= MEASURE) {
            self.measure().await?;
        }
        let state = self.link.state().borrow().clone();
        if matches!(state, LinkState::Down { .. } | LinkState::Failed(_)) {
            (self.empty, self.unserved, self.fewer) = Default::default();
            return Ok(Vec::new());
        }
        let renewals = self.link.renewals();
        if renewals != self.renewals {
            self.renewals = renewals;
            self.resend(Duration::ZERO, "the queues were made anew").await?;
        }
        let depth = match timeout(ANSWER, self.link.depth(Queue::Recipes)).await {
            Ok(Ok(depth)) => depth,
            Ok(Err(QueueError::Absent { queue, .. })) => {
                // Workers wait for the queue. If others declare it again meanwhile, task messages arrive twice, which
                // is harmless.
                if let Ok(declared) = timeout(ANSWER, self.link.declare()).await {
                    declared?;
                    self.resend(Duration::ZERO, &format!("the queue {queue} was gone")).await?;
                }
                return Ok(self.ledger.ask(move |ledger| ledger.expire(ledger::now(), false)).await?);
            }
            _ => return Ok(Vec::new()),
        };
        while self.trial.try_join_next().is_some() {}
        // A trial is a consumer, but no worker.
        let consumers = depth.consumers.saturating_sub(self.trial.len() as u64);
        let depth = QueueDepth { consumers, ..depth };
        metrics().depth(&self.link.destination(Queue::Recipes).name, depth);
        self.announcements.count(consumers);
        // After a restart of the broker, workers come back one after the other.
        let is_less = consumers < announced.workers as u64;
        if self.fewer.lasts(is_less, FEWER, Instant::now()) {
            self.announcements.limit(consumers);
        }
        self.tell(depth.messages > 0 && depth.consumers == 0);
        // If the broker accepts no messages, workers cannot report what they have begun.
        let is_empty = depth.messages == 0 && matches!(state, LinkState::Up);
        if self.empty.lasts(is_empty, EMPTY, Instant::now()) {
            self.empty = ConditionTimer::default();
            let results = timeout(ANSWER, self.link.depth(Queue::Results)).await;
            if matches!(results, Ok(Ok(depth)) if depth.messages == 0) {
                self.resend(EMPTY, "they are not in the queue any more, and nobody has begun them (was it purged?)")
                    .await?;
            }
        }
        if is_empty && !self.plan.local {
            self.resend_slow(announced.slots).await?;
        }
        let queued = depth.messages > 0;
        Ok(self.ledger.ask(move |ledger| ledger.expire(ledger::now(), queued)).await?)
    }

    /// Measures what remains to be done.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub(super) async fn measure(&mut self) -> Result<(), DriveError> {
        let backlog = self.ledger.ask(|ledger| ledger.backlog()).await?;
        self.plan.monitor.measured(backlog);
        self.measured = Some(Instant::now());
        Ok(())
    }

    /// Sends task messages again that no worker has begun, of those that were sent at least this long ago.
    async fn resend(&self, sent: Duration, why: &str) -> Result<(), DriveError> {
        // If the queue is gone, so are the task messages that a worker keeps until it has nothing else to do.
        let (sent, solitary) = (i64::try_from(sent.as_millis()).unwrap_or(i64::MAX), sent.is_zero());
        let in_groups = !solitary && self.plan.group != TaskGrouping::Never;
        let resend = move |ledger: &mut ledger::Ledger| {
            let now = ledger::now();
            let before = now.saturating_sub(sent);
            if in_groups { ledger.resend_groups(before, now) } else { ledger.resend(before, solitary, now) }
        };
        let tasks = self.ledger.ask(resend).await?;
        if tasks > 0 {
            tracing::warn!(tasks, why, "task messages are lost; they are sent again");
        }
        Ok(())
    }

    /// Uses free job slots for recipes whose attempts take much longer than others, when nothing else is left to be sent.
    async fn resend_slow(&self, slots: u64) -> Result<(), DriveError> {
        let resend = move |ledger: &mut ledger::Ledger| {
            let now = ledger::now();
            let free = usize::try_from(slots).unwrap_or(usize::MAX).saturating_sub(ledger.under_way()?);
            if free == 0 || !ledger.due(now, 1)?.is_empty() {
                return Ok(0);
            }
            ledger.resend_slow(free, now)
        };
        let recipes = self.ledger.ask(resend).await?;
        if recipes > 0 {
            tracing::info!(recipes, "these take much longer than others; they are sent once more, to free job slots");
        }
        Ok(())
    }

    /// Warns once that task messages wait without a consumer, and tries whether they can be consumed.
    fn tell(&mut self, is_unserved: bool) {
        if !self.trial.is_empty() {
            return; // now there is a consumer, which is not a worker
        }
        if !is_unserved {
            self.said &= self.tried.is_some_and(|tried| tried.elapsed() < TRIAL);
        }
        if !self.unserved.lasts(is_unserved, UNSERVED, Instant::now()) {
            return;
        }
        if !std::mem::replace(&mut self.said, true) {
            let (broker, production) = (self.link.address().unwrap_or_default(), &self.plan.production);
            tracing::warn!(
                queue = self.link.destination(Queue::Recipes).name,
                "no worker takes task messages: start `edp-worker serve --production {production}` at the broker {broker}; if \
                 workers run, compare their production, broker and virtual host with these, and see what they say"
            );
        }
        if self.tried.is_none_or(|tried| tried.elapsed() >= TRIAL) {
            self.tried = Some(Instant::now());
            self.trial.spawn(take_one(self.link.clone()));
        }
    }
}

/// Takes a task message as a worker would, and puts it back. A broker may have a queue, state how much is in it, and
/// serve no consumer. The link finds that out by this trial, and declares the queue again.
async fn take_one(link: Link) {
    let Ok(mut consumer) = link.consumer(Queue::Recipes, 1).await else { return };
    if let Ok(Ok(Some(delivery))) = timeout(link.patience() / 2, consumer.next()).await {
        // It is published again and not given back, since workers take a redelivered message for one that has brought
        // another worker down.
        let again = link.publisher(Queue::Recipes, 1).offer(delivery.message.clone()).await;
        if again.is_ok() {
            delivery.ack();
        }
    }
    consumer.stop().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lasts_without_a_break_counts() {
        let (begin, mut since) = (Instant::now(), ConditionTimer::default());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(!since.lasts(true, EMPTY, at(0)));
        assert!(!since.lasts(true, EMPTY, at(59)));
        assert!(!since.lasts(false, EMPTY, at(60)));
        assert!(!since.lasts(true, EMPTY, at(61)));
        assert!(!since.lasts(true, EMPTY, at(120)));
        assert!(since.lasts(true, EMPTY, at(121)));
    }
}
