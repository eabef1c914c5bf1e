//! The workers that take part in a production, as their outcomes announce them: how many job slots they have, and how many
//! attempts in a row have failed there.
//!
//! Each outcome states the job slots of its worker. A worker is forgotten when it has not reported for the time of a
//! lease, and the one that was heard of least recently is when the broker counts fewer consumers.

use edp_protocol::wire::{Outcome, TaskEvent};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Largest number of job slots that a worker is believed to have.
const MAX_SLOTS: u32 = 1024;

/// Largest number of workers that are remembered.
const MAX_WORKERS: usize = 10_000;

/// Number of consecutive failures at one worker that is reported.
const MANY: u64 = 10;

/// What is known about one worker.
#[derive(Debug, Clone, Copy)]
struct Announcement {
    slots: u32,
    failures: u64,
    heard: Instant,
}

/// The workers that take part. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Announcements {
    workers: Arc<Mutex<HashMap<String, Announcement>>>,
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
        Announcements { workers: Arc::default(), lease }
    }

    /// Records an outcome of a worker with this number of job slots.
    pub(super) fn hear(&self, outcome: &Outcome, slots: u32) {
        let mut workers = self.lock();
        let heard = Instant::now();
        if workers.len() >= MAX_WORKERS && !workers.contains_key(&outcome.worker) {
            forget_beyond(&mut workers, MAX_WORKERS - 1);
        }
        let known = workers.entry(outcome.worker.clone());
        let known = known.or_insert(Announcement { slots: 0, failures: 0, heard });
        (known.slots, known.heard) = (slots.min(MAX_SLOTS), heard);
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
            slots: workers.values().map(|known| u64::from(known.slots)).sum(),
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

    fn failed(kind: FailureKind) -> TaskEvent {
        TaskEvent::Failed(Failed::because(kind, "x"))
    }

    #[test]
    fn workers_are_counted_with_the_slots_that_they_announce() {
        let all = Announcements::new(Duration::from_secs(3600));
        assert_eq!(all.present(), AnnouncedWorkers::default());
        all.hear(&outcome("a", TaskEvent::Started), 4);
        all.hear(&outcome("b", TaskEvent::Started), u32::MAX);
        all.hear(&outcome("a", TaskEvent::Started), 8);
        assert_eq!(all.present(), AnnouncedWorkers { workers: 2, slots: 8 + 1024, failures: 0 });
        all.limit(2);
        assert_eq!(all.present().workers, 2);
        all.limit(1);
        assert_eq!(all.present(), AnnouncedWorkers { workers: 1, slots: 8, failures: 0 }, "`a` was heard of last");
        let brief = Announcements::new(Duration::from_nanos(1));
        brief.hear(&outcome("a", TaskEvent::Started), 4);
        let since = Instant::now();
        while since.elapsed() <= brief.lease {}
        assert_eq!(brief.present().workers, 0);
    }

    #[test]
    fn failures_in_a_row_are_those_of_attempts() {
        let all = Announcements::new(Duration::from_secs(3600));
        for kind in [FailureKind::Transient, FailureKind::Held, FailureKind::Permanent, FailureKind::Returned] {
            all.hear(&outcome("a", failed(kind)), 1);
        }
        all.hear(&outcome("b", failed(FailureKind::Denied)), 1);
        assert_eq!(all.present().failures, 2);
        all.hear(&outcome("a", TaskEvent::Done(Done::default())), 1);
        assert_eq!(all.present().failures, 1);
    }

    #[test]
    fn invented_names_do_not_take_memory_without_bounds() {
        let all = Announcements::new(Duration::from_secs(3600));
        for number in 0..MAX_WORKERS + 5 {
            all.hear(&outcome(&number.to_string(), TaskEvent::Started), 1);
        }
        assert_eq!(all.present().workers, MAX_WORKERS);
    }
}
