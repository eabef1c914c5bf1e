//! A measure of whether a worker suits the task messages that it receives.

use edp_protocol::message::FailureKind;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Number of consecutive recipes outside its roots after which a worker is unfit that was never of use.
const STRANGE: usize = 3;

/// Number of consecutive task messages that are not for a worker which was of use before, after which it is unfit. Its
/// roots and its build do not change; the task messages do, or a hostile publisher sends messages that no worker can
/// use.
const HOSTILE: usize = 1000;

/// The evidence of the received task messages about the worker itself.
#[derive(Debug, Default)]
pub(super) struct Fitness(Mutex<FitnessState>);

#[derive(Debug, Default)]
struct FitnessState {
    /// True if a task message was for this worker.
    was_of_use: bool,
    /// Ids of the recipes that were not, since then.
    others: BTreeSet<String>,
    /// Number of attempts in a row that have failed.
    failures: u64,
}

impl Fitness {
    /// Records a task message that is for this worker: of its build, and within its roots.
    pub(super) fn is_of_use(&self) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.was_of_use = true;
        seen.others.clear();
    }

    /// Records the end of an attempt, with the kind of failure if it has failed. Returns the number of attempts in a row
    /// that have.
    pub(super) fn ended(&self, failure: Option<FailureKind>) -> u64 {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            None => seen.failures = 0,
            Some(kind) => seen.failures += u64::from(kind.is_of_attempt()),
        }
        seen.failures
    }

    /// Records a recipe that lies outside the worker's roots. Returns true if the worker is unfit.
    pub(super) fn outside(&self, recipe: &str) -> bool {
        self.count(recipe, STRANGE)
    }

    /// Records a task message of another build. Returns true if the worker is unfit.
    pub(super) fn other_build(&self, recipe: &str) -> bool {
        self.count(recipe, 1)
    }

    fn count(&self, recipe: &str, strange: usize) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let most = if seen.was_of_use { HOSTILE } else { strange };
        if seen.others.len() < most {
            seen.others.insert(recipe.to_owned());
        }
        seen.others.len() >= most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_is_of_no_use_from_the_beginning_is_unfit() {
        let fitness = Fitness::default();
        assert_eq!(["a", "a", "b", "c"].map(|recipe| fitness.outside(recipe)), [false, false, false, true]);
        assert!(Fitness::default().other_build("a"));
    }

    #[test]
    fn strange_task_messages_between_good_ones_do_not_end_a_worker() {
        let fitness = Fitness::default();
        for round in 0..3 {
            fitness.is_of_use();
            for n in 1..HOSTILE {
                assert!(!fitness.outside(&format!("{round}-{n}")) && !fitness.other_build(&format!("{round}-{n}")));
            }
        }
        assert!(fitness.outside("one more") && fitness.other_build("one more"));
    }
}
