//! Whether a worker is of use to the task messages that come, as far as the task messages tell.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Recipes in a row outside of a worker's roots after which a worker is unfit that was never of use.
const STRANGE: usize = 3;

/// Task messages in a row that are not for a worker which was of use before, after which it is unfit. Its roots and its
/// build do not change: the task messages do, or a hostile publisher sends messages that no worker can use.
const HOSTILE: usize = 1000;

/// What the task messages that came say about the worker.
#[derive(Debug, Default)]
pub(super) struct Fitness(Mutex<FitnessState>);

#[derive(Debug, Default)]
struct FitnessState {
    /// Whether a task message was for this worker.
    was_of_use: bool,
    /// Ids of the recipes that were not, since then.
    others: BTreeSet<String>,
}

impl Fitness {
    /// A task message is for this worker: of its build, and within its roots.
    pub(super) fn is_of_use(&self) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.was_of_use = true;
        seen.others.clear();
    }

    /// A recipe lies outside of its roots. Returns whether the worker is unfit.
    pub(super) fn outside(&self, recipe: &str) -> bool {
        self.count(recipe, STRANGE)
    }

    /// A task message is of another build. Returns whether the worker is unfit.
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
    fn strange_orders_between_good_ones_do_not_end_a_worker() {
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
