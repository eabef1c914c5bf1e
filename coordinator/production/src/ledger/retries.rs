//! The retry policy: whether, when and how a recipe is sent again that was not made.

use super::state::RecipeState;
use edp_protocol::message::FailureKind;
use std::collections::BTreeSet;
use std::time::Duration;

/// Limits and waits for sending recipes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Number of transient failures after which a recipe fails.
    pub attempts: u32,
    /// Wait after the first transient failure. It is doubled after each further one, and up to half of it is added at
    /// random.
    pub first_wait: Duration,
    /// Longest such wait, before the random part is added.
    pub longest_wait: Duration,
    /// Time from sending a task message, or from the beginning of an attempt, to its outcome.
    pub lease: Duration,
    /// Number of workers lost while they made a recipe after which it is made with nothing else in its worker.
    pub lost_until_alone: usize,
    /// Number of workers lost while they made a recipe after which it fails.
    pub lost_until_failed: usize,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            attempts: 5,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(300),
            lease: Duration::from_secs(1800),
            lost_until_alone: 2,
            lost_until_failed: 5,
        }
    }
}

/// Number of reports of the only worker that something is missing or not accessible after which the recipe fails.
const ALONE: usize = 3;

/// Number of such reports after which the recipe fails, whichever workers they come from.
const MOST: usize = 10;

/// The record of a recipe on which the decision about its next attempt is based.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetryHistory {
    /// Number of transient failures so far.
    pub failures: u32,
    /// Workers that began it and never reported its end.
    pub lost: Vec<String>,
    /// Workers that did not find, or may not access, something that the recipe names: one for each outcome, including
    /// the present one.
    pub unreached: Vec<String>,
    /// Other workers that have reported lately.
    pub others: Vec<String>,
}

/// Returns the node on which a worker runs, from its name (`HOST-SPACE-PID-UNIQUE`). What one worker on a machine or in
/// a container cannot see, the next one there cannot see either.
fn node(worker: &str) -> &str {
    worker.rsplitn(3, '-').nth(2).unwrap_or(worker)
}

impl RetryHistory {
    /// Returns the names of the workers that could not access what the recipe names.
    fn sayers(&self) -> String {
        let workers: BTreeSet<&str> = self.unreached.iter().map(String::as_str).collect();
        workers.into_iter().collect::<Vec<_>>().join(", ")
    }

    /// Returns true if no worker is left that may find what the recipe names: a second machine has reported the same,
    /// or on the only machine a second worker has, or the only worker has repeatedly.
    fn is_out_of_reach(&self) -> bool {
        let workers: BTreeSet<&str> = self.unreached.iter().map(String::as_str).collect();
        let nodes: BTreeSet<&str> = workers.iter().map(|worker| node(worker)).collect();
        let elsewhere = self.others.iter().any(|other| !nodes.contains(node(other)));
        let agreed = nodes.len() > 1 || (workers.len() > 1 && !elsewhere);
        agreed || (self.unreached.len() >= ALONE && self.others.is_empty()) || self.unreached.len() >= MOST
    }
}

/// The decision on how a recipe goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The recipe is sent again.
    Again {
        /// Wait before it is sent.
        wait: Duration,
        /// True if the attempt counts as a failure.
        counts: bool,
        /// True if nothing else may be made at the same time.
        alone: bool,
    },
    /// The recipe is settled.
    End {
        /// Final state of the recipe.
        state: RecipeState,
        /// The reason for that state.
        reason: String,
    },
}

impl Policy {
    /// Returns the usual policy, with leases for granules that may take `deadline` seconds.
    pub fn with_deadline(deadline: u32) -> Policy {
        Policy { lease: Duration::from_secs(2 * u64::from(deadline)), ..Policy::default() }
    }

    /// Decides after a worker has reported a failure.
    pub(crate) fn after_failure(&self, kind: FailureKind, reason: &str, standing: &RetryHistory) -> Verdict {
        let end = |state| Verdict::End { state, reason: reason.to_owned() };
        match kind {
            FailureKind::Permanent => end(RecipeState::Failed),
            FailureKind::Held => end(RecipeState::Held),
            FailureKind::Conflict => end(RecipeState::Conflict),
            FailureKind::Transient if standing.failures + 1 >= self.attempts => Verdict::End {
                state: RecipeState::Failed,
                reason: format!("{reason} (given up after {} attempts)", standing.failures + 1),
            },
            FailureKind::Transient => {
                Verdict::Again { wait: self.wait(standing.failures), counts: true, alone: self.is_alone(standing) }
            }
            FailureKind::Returned => {
                Verdict::Again { wait: self.first_wait, counts: false, alone: self.is_alone(standing) }
            }
            FailureKind::Lost => self.after_loss(standing),
            FailureKind::NotFound | FailureKind::Denied if standing.is_out_of_reach() => Verdict::End {
                state: RecipeState::Failed,
                reason: format!("{reason} (said {} times, by {})", standing.unreached.len(), standing.sayers()),
            },
            FailureKind::NotFound | FailureKind::Denied => {
                // A worker with another view of the file systems may get it now, so the waits are half of the usual
                // ones.
                let before = u32::try_from(standing.unreached.len()).unwrap_or(u32::MAX).saturating_sub(1);
                Verdict::Again { wait: self.wait(before) / 2, counts: false, alone: self.is_alone(standing) }
            }
        }
    }

    /// Returns the wait for a task message that the broker has dropped, by a policy, before any worker had begun it.
    pub(crate) fn after_drop(&self) -> Duration {
        self.wait(1)
    }

    /// Decides after a worker was lost with a task message, or a task message was lost with its queue.
    pub(crate) fn after_loss(&self, standing: &RetryHistory) -> Verdict {
        if standing.lost.len() >= self.lost_until_failed {
            let workers = standing.lost.join(", ");
            let reason = format!(
                "{} workers were lost while they made it ({workers}): it may have brought them down",
                standing.lost.len()
            );
            return Verdict::End { state: RecipeState::Failed, reason };
        }
        Verdict::Again { wait: Duration::ZERO, counts: false, alone: self.is_alone(standing) }
    }

    fn is_alone(&self, standing: &RetryHistory) -> bool {
        standing.lost.len() >= self.lost_until_alone
    }

    /// Returns an exponential back-off with jitter, so that recipes that failed together do not come back together.
    fn wait(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        let wait = self.first_wait.saturating_mul(factor).min(self.longest_wait);
        wait + wait.mul_f64(0.5 * jitter())
    }
}

/// Returns a random number from 0 to 1. The standard library seeds its hashers at random, which is good enough here.
fn jitter() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0_u8) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    fn lost(count: usize) -> RetryHistory {
        RetryHistory { lost: (0..count).map(|i| format!("w{i}")).collect(), ..RetryHistory::default() }
    }

    #[test]
    fn waits_double_up_to_a_limit() {
        let policy = Policy::default();
        for (failures, seconds) in [(0, 1.0), (1, 2.0), (3, 8.0), (20, 300.0), (40, 300.0)] {
            let wait = policy.wait(failures).as_secs_f64();
            assert!((seconds..=1.5 * seconds).contains(&wait), "{failures}: {wait}");
        }
    }

    #[test]
    fn transient_failures_have_a_budget_and_returns_have_none() {
        let policy = Policy::default();
        let after =
            |kind, failures| policy.after_failure(kind, "why", &RetryHistory { failures, ..RetryHistory::default() });
        assert!(matches!(after(FailureKind::Transient, 3), Verdict::Again { counts: true, alone: false, .. }));
        let Verdict::End { state: RecipeState::Failed, reason } = after(FailureKind::Transient, 4) else { panic!() };
        assert_eq!(reason, "why (given up after 5 attempts)");
        assert!(matches!(after(FailureKind::Returned, 99), Verdict::Again { counts: false, .. }));
        assert!(matches!(after(FailureKind::Permanent, 0), Verdict::End { state: RecipeState::Failed, .. }));
    }

    #[test]
    fn what_one_worker_does_not_find_another_must_miss_too() {
        let policy = Policy::default();
        let fails = |unreached: &[&str], others: &[&str]| {
            let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            let standing =
                RetryHistory { unreached: texts(unreached), others: texts(others), ..RetryHistory::default() };
            [FailureKind::NotFound, FailureKind::Denied].map(|kind| {
                match policy.after_failure(kind, "a.data: not there", &standing) {
                    Verdict::Again { wait, counts: false, .. } => {
                        assert!(wait <= Duration::from_secs(400), "{wait:?}");
                        false
                    }
                    Verdict::End { state: RecipeState::Failed, reason } => {
                        assert!(reason.contains("a.data") && reason.contains(unreached[0]), "{reason}");
                        true
                    }
                    verdict => panic!("{verdict:?}"),
                }
            })
        };
        let (a, b, other) = ("one-a-1-1", "one-a-2-1", "two-nodes-b-1-1");
        // A single worker has to report it three times.
        assert_eq!(
            [fails(&[a], &[]), fails(&[a, a], &[]), fails(&[a, a, a], &[])],
            [[false; 2], [false; 2], [true; 2]]
        );
        // While there are other workers, they are asked, above all those on another machine.
        assert_eq!(fails(&[a, a, a, a], &[b]), [false; 2]);
        assert_eq!(fails(&[a, b], &[]), [true; 2]);
        assert_eq!(fails(&[a, b, a], &[other]), [false; 2]);
        assert_eq!(fails(&[a, other], &[b]), [true; 2]);
        // But not endlessly.
        assert_eq!(fails(&[a; MOST], &[other]), [true; 2]);
    }

    #[test]
    fn losses_lead_to_solitude_and_then_to_the_end() {
        let policy = Policy::default();
        assert!(matches!(policy.after_loss(&lost(0)), Verdict::Again { alone: false, .. }));
        assert!(matches!(policy.after_loss(&lost(1)), Verdict::Again { alone: false, .. }));
        assert!(matches!(policy.after_loss(&lost(2)), Verdict::Again { alone: true, .. }));
        let Verdict::End { state: RecipeState::Failed, reason } = policy.after_loss(&lost(5)) else { panic!() };
        assert!(reason.contains("w0, w1, w2, w3, w4"), "{reason}");
    }
}
