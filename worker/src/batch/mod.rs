//! A batch: a list of recipes taken through the slots of one worker, without a queue. Transient failures are tried
//! again.
//!
//! The batch owns all retries. The slots report what happened to each piece of work, whatever it was; what happens next
//! is decided here.

mod report;

pub use report::{Entry, Report, State};

use crate::service::{self, Worker};
use edp_protocol::message::{FailureKind, Outcome, Work};
use edp_protocol::recipe::Recipe;
use edp_protocol::telemetry::metrics::metrics;
use edp_protocol::wire::Failed;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How transient failures are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// Wait before the second attempt; doubled before each further one.
    pub first_wait: Duration,
}

impl Default for Retries {
    fn default() -> Retries {
        Retries { attempts: 4, first_wait: Duration::from_secs(1) }
    }
}

impl Retries {
    /// Wait before the attempt with this number, counted from 1.
    fn wait(&self, attempt: u32) -> Duration {
        self.first_wait.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(2)).unwrap_or(u32::MAX))
    }
}

/// Makes the granules of recipes in this process, and reports on every one of them.
///
/// `progress` hears of each outcome that is final. When `stop` is ready, nothing new is begun, granules under way are
/// given up at their next level, and what was not made is reported as such. The same happens when the worker returns
/// work unasked: its destination is full or cannot be written, so that going on would only collect failures.
pub async fn run(
    recipes: Vec<Recipe>,
    worker: Arc<Worker>,
    retries: Retries,
    mut progress: impl FnMut(&Entry),
    stop: impl Future<Output = ()>,
) -> Report {
    let started = Instant::now();
    let slots = worker.slots;
    // Mailboxes hold as much as the slots can take: more would only delay stopping.
    let (to_worker, work) = mpsc::channel::<Work>(slots);
    let (to_us, mut outcomes) = mpsc::channel::<Outcome>(slots);
    let cancel = Arc::new(AtomicBool::new(false));
    let workers = tokio::spawn(service::run(worker, work, to_us, cancel.clone()));
    let mut ready: VecDeque<Work> =
        recipes.into_iter().map(|recipe| Work { recipe: Arc::new(recipe), attempt: 1 }).collect();
    let mut waiting: BinaryHeap<Reverse<Due>> = BinaryHeap::new();
    let mut to_worker = Some(to_worker);
    let mut under_way = 0;
    let mut entries = Vec::new();
    tokio::pin!(stop);
    let mut stopping = false;
    let mut stopped = None;
    loop {
        if stopping || (ready.is_empty() && waiting.is_empty() && under_way == 0) {
            to_worker = None; // closes the worker's mailbox: it ends when its slots are empty
        }
        let due = waiting.peek().map(|Reverse(due)| due.at);
        let sending = to_worker.as_ref().filter(|_| !ready.is_empty() && under_way < 2 * slots);
        tokio::select! {
            // Outcomes first: they make room for more.
            biased;
            () = &mut stop, if !stopping => {
                stopping = true;
                cancel.store(true, Ordering::Relaxed);
            }
            outcome = outcomes.recv() => match outcome {
                None => break,
                Some(outcome) => {
                    under_way -= 1;
                    if let (false, Err(failed @ Failed { kind: FailureKind::Returned, .. })) = (stopping, &outcome.result) {
                        stopping = true;
                        stopped = Some(failed.reason());
                        cancel.store(true, Ordering::Relaxed);
                    }
                    let again = !stopping
                        && outcome.work.attempt < retries.attempts
                        && matches!(&outcome.result, Err(failure) if failure.kind == FailureKind::Transient);
                    if again {
                        metrics().retried();
                        let attempt = outcome.work.attempt + 1;
                        let work = Work { attempt, ..outcome.work };
                        waiting.push(Reverse(Due { at: Instant::now() + retries.wait(attempt), work }));
                    } else {
                        let entry = Entry::from(outcome);
                        metrics().settled(&entry.granule, entry.state.as_str());
                        progress(&entry);
                        entries.push(entry);
                    }
                }
            },
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() && !stopping => {
                if let Some(Reverse(due)) = waiting.pop() {
                    ready.push_back(due.work);
                }
            }
            Ok(permit) = reserve(sending), if sending.is_some() => {
                if let Some(work) = ready.pop_front() {
                    permit.send(work);
                    under_way += 1;
                }
            }
        }
    }
    // The worker's task is over, since its end of the channel is closed.
    let _ = workers.await;
    let left = ready.into_iter().chain(waiting.into_iter().map(|Reverse(due)| due.work));
    entries.extend(left.map(|work| Entry::not_begun(&work)));
    Report { entries, stopped, seconds: started.elapsed().as_secs_f64() }
}

async fn reserve(sender: Option<&mpsc::Sender<Work>>) -> Result<mpsc::Permit<'_, Work>, mpsc::error::SendError<()>> {
    match sender {
        Some(sender) => sender.reserve().await,
        None => Err(mpsc::error::SendError(())),
    }
}

/// Work that waits for its next attempt.
struct Due {
    at: Instant,
    work: Work,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double() {
        let retries = Retries { attempts: 40, first_wait: Duration::from_secs(1) };
        assert_eq!([2, 3, 4].map(|attempt| retries.wait(attempt).as_secs()), [1, 2, 4]);
        assert!(retries.wait(40) > retries.wait(20));
    }
}
