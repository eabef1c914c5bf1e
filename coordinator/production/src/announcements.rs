//! The workers that take part in a production, as their outcomes announce them: how many job slots they have, and how many
//! attempts in a row have failed there.
//!
//! Each outcome states the job slots of its worker. A worker is forgotten when it has not reported for the time of a
//! lease, and the one that was heard of least recently is when the broker counts fewer consumers.

use edp_protocol::wire::{Outcome, TaskEvent};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Largest number of job slots that a worker is believed to have.
const MAX_SLOTS: u32 = 1024;

/// Largest number of workers that are remembered.
const MAX_WORKERS: usize = 10_000;

/// Number of consecutive failures at one worker that is reported.
const MANY: u64 = 10;

/// What an outcome states about its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AnnouncedSlots {
    /// Number of its job slots.
    pub(super) slots: u32,
    /// True if it takes task groups.
    pub(super) takes_groups: bool,
}

/// What is known about one worker.
#[derive(Debug, Clone, Copy)]
struct Announcement {
    announced: AnnouncedSlots,
    failures: u64,
    heard: Instant,
}

/// The workers that take part. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Announcements {
    workers: Arc<Mutex<HashMap<String, Announcement>>>,
    /// Number of consumers that the broker has counted last.
    consumers: Arc<AtomicU64>,
    lease: Duration,
}

/// Sums over the workers that take part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct AnnouncedWorkers {
    /// Number of workers.
    pub(super) workers: usize,
    /// Number of their job slots.
    pub(super) slots: u64,
    /// Largest number of consecutive failures of one of them.
    pub(super) failures: u64,
}

impl Announcements {
    /// Returns no workers yet. Each is forgotten when it has not been heard of for a lease.
    pub(super) fn new(lease: Duration) -> Announcements {
        Announcements { workers: Arc::default(), consumers: Arc::default(), lease }
    }

    /// Records an outcome of a worker, and what it states about it.
    pub(super) fn hear(&self, outcome: &Outcome, announced: AnnouncedSlots) {
        let mut workers = self.lock();
        let heard = Instant::now();
        if workers.len() >= MAX_WORKERS && !workers.contains_key(&outcome.worker) {
            forget_beyond(&mut workers, MAX_WORKERS - 1);
        }
        let known = workers.entry(outcome.worker.clone());
        let known = known.or_insert(Announcement { announced, failures: 0, heard });
        let slots = announced.slots.min(MAX_SLOTS);
        (known.announced, known.heard) = (AnnouncedSlots { slots, ..announced }, heard);
        match &outcome.event {
            TaskEvent::Done(_) => known.failures = 0,
            TaskEvent::Failed(failed) if failed.kind.is_of_attempt() => {
                known.failures += 1;
                if known.failures == MANY {
                    tracing::warn!(
                        worker = outcome.worker,
                        reason = failed.reason(),
                        "{MANY} attempts in a row failed"
                    );
                }
            }
            TaskEvent::Failed(_) | TaskEvent::Started => {}
        }
    }

    /// Notes how many consumers the broker counts.
    pub(super) fn count(&self, consumers: u64) {
        self.consumers.store(consumers, Ordering::Relaxed);
    }

    /// Returns true if every consumer of the queue is known to take task groups: a worker of an earlier release refuses
    /// them without an answer.
    pub(super) fn all_take_groups(&self) -> bool {
        let workers = self.lock();
        let consumers = usize::try_from(self.consumers.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        !workers.is_empty() && consumers <= workers.len() && workers.values().all(|known| known.announced.takes_groups)
    }

    /// Forgets workers as long as there are more than `consumers`, which the broker counts.
    pub(super) fn limit(&self, consumers: u64) {
        forget_beyond(&mut self.lock(), usize::try_from(consumers).unwrap_or(usize::MAX));
    }

    /// Returns the sums over the workers that were heard of within a lease.
    pub(super) fn present(&self) -> AnnouncedWorkers {
        let mut workers = self.lock();
        workers.retain(|_, known| known.heard.elapsed() <= self.lease);
        AnnouncedWorkers {
            workers: workers.len(),
            slots: workers.values().map(|known| u64::from(known.announced.slots)).sum(),
            failures: workers.values().map(|known| known.failures).max().unwrap_or_default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Announcement>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the workers that were heard of most recently.
fn forget_beyond(workers: &mut HashMap<String, Announcement>, most: usize) {
    let excess = workers.len().saturating_sub(most);
    if excess == 0 {
        return;
    }
    let mut all: Vec<(Instant, String)> = workers.iter().map(|(name, known)| (known.heard, name.clone())).collect();
    all.sort_unstable();
    for (_, name) in all.into_iter().take(excess) {
        workers.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edp_protocol::message::FailureKind;
    use edp_protocol::wire::{Done, Failed};

    fn outcome(worker: &str, event: TaskEvent) -> Outcome {
        Outcome { recipe_id: "1".into(), attempt: 1, worker: worker.into(), build: String::new(), event }
    }

    fn stated(slots: u32) -> AnnouncedSlots {
        AnnouncedSlots { slots, takes_groups: true }
    }

    fn failed(kind: FailureKind) -> TaskEvent {
        TaskEvent::Failed(Failed::because(kind, "x"))
    }

    #[test]
    fn workers_are_counted_with_the_slots_that_they_announce() {
        let all = Announcements::new(Duration::from_secs(3600));
        assert_eq!(all.present(), AnnouncedWorkers::default());
        all.hear(&outcome("a", TaskEvent::Started), stated(4));
        all.hear(&outcome("b", TaskEvent::Started), stated(u32::MAX));
        all.hear(&outcome("a", TaskEvent::Started), stated(8));
        assert_eq!(all.present(), AnnouncedWorkers { workers: 2, slots: 8 + 1024, failures: 0 });
        all.limit(2);
        assert_eq!(all.present().workers, 2);
        all.limit(1);
        assert_eq!(all.present(), AnnouncedWorkers { workers: 1, slots: 8, failures: 0 }, "`a` was heard of last");
        let brief = Announcements::new(Duration::from_nanos(1));
        brief.hear(&outcome("a", TaskEvent::Started), stated(4));
        let since = Instant::now();
        while since.elapsed() <= brief.lease {}
        assert_eq!(brief.present().workers, 0);
    }

    #[test]
    fn groups_are_for_workers_that_are_known_to_take_them() {
        let all = Announcements::new(Duration::from_secs(3600));
        assert!(!all.all_take_groups(), "none is known");
        all.hear(&outcome("a", TaskEvent::Started), stated(4));
        all.count(1);
        assert!(all.all_take_groups());
        all.count(2);
        assert!(!all.all_take_groups(), "one has not said anything yet");
        all.hear(&outcome("b", TaskEvent::Started), AnnouncedSlots { slots: 4, takes_groups: false });
        assert!(!all.all_take_groups(), "one is of an earlier release");
        all.hear(&outcome("b", TaskEvent::Started), stated(4));
        assert!(all.all_take_groups());
    }

    #[test]
    fn failures_in_a_row_are_those_of_attempts() {
        let all = Announcements::new(Duration::from_secs(3600));
        for kind in [FailureKind::Transient, FailureKind::Held, FailureKind::Permanent, FailureKind::Returned] {
            all.hear(&outcome("a", failed(kind)), stated(1));
        }
        all.hear(&outcome("b", failed(FailureKind::Denied)), stated(1));
        assert_eq!(all.present().failures, 2);
        all.hear(&outcome("a", TaskEvent::Done(Done::default())), stated(1));
        assert_eq!(all.present().failures, 1);
    }

    #[test]
    fn invented_names_do_not_take_memory_without_bounds() {
        let all = Announcements::new(Duration::from_secs(3600));
        for number in 0..MAX_WORKERS + 5 {
            all.hear(&outcome(&number.to_string(), TaskEvent::Started), stated(1));
        }
        assert_eq!(all.present().workers, MAX_WORKERS);
    }
}
