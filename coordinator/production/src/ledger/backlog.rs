//! The work that remains, as the figure by which groups of workers are scaled.
//!
//! The length of the queue is no such figure: at most the window of recipes is in the queue, however many are to be
//! made, and the granules of one dataset may take a hundred times as long as those of another.

use super::state::{Counts, RecipeState};
use super::{Ledger, LedgerError};
use rusqlite::Connection;
use std::collections::BTreeMap;

/// Time in seconds that a granule is taken to need as long as none has been made.
const UNKNOWN: f64 = 2.0;

/// The work that remains of the present list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Backlog {
    /// Number of recipes in each state.
    pub(crate) counts: Counts,
    /// Time in seconds that one job slot would need for the recipes that are waiting or under way: for each of them the
    /// mean time of the granules that were made of its dataset, else of all datasets.
    pub(crate) slot_seconds: f64,
}

/// The recipes of one dataset.
#[derive(Default)]
struct DatasetBacklog {
    remaining: u64,
    /// Number of granules that were made, and the time in seconds that they took together.
    made: u64,
    seconds: f64,
}

impl DatasetBacklog {
    /// Returns the mean time that a granule took, in seconds.
    fn mean(&self) -> Option<f64> {
        (self.made > 0).then(|| self.seconds / self.made as f64)
    }
}

impl Ledger {
    /// Returns the work that remains.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub(crate) fn backlog(&self) -> Result<Backlog, LedgerError> {
        backlog(&self.connection).map_err(|e| self.fail(e))
    }
}

fn backlog(connection: &Connection) -> rusqlite::Result<Backlog> {
    let mut statement = connection.prepare_cached("SELECT dataset, state, recipes, made, spent / 1000.0 FROM tally")?;
    let (mut counts, mut datasets) = (Counts::default(), BTreeMap::<i64, DatasetBacklog>::new());
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (state, recipes) = (RecipeState::of(row.get(1)?), row.get::<_, i64>(2)?.unsigned_abs());
        counts.0[state as usize] += recipes;
        let dataset = datasets.entry(row.get(0)?).or_default();
        if !state.is_settled() {
            dataset.remaining += recipes;
        } else if state == RecipeState::Done {
            (dataset.made, dataset.seconds) = (row.get::<_, i64>(3)?.unsigned_abs(), row.get(4)?);
        }
    }
    let all = datasets.values().fold(DatasetBacklog::default(), |all, one| DatasetBacklog {
        remaining: all.remaining + one.remaining,
        made: all.made + one.made,
        seconds: all.seconds + one.seconds,
    });
    let overall = all.mean().unwrap_or(UNKNOWN);
    let of = |dataset: &DatasetBacklog| dataset.remaining as f64 * dataset.mean().unwrap_or(overall);
    Ok(Backlog { counts, slot_seconds: datasets.values().map(of).sum() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ledger::tests::listed;

    /// Makes a ledger with recipes of these datasets and states, and the seconds that making them took.
    fn ledger(recipes: &[(i64, RecipeState, f64)]) -> Ledger {
        let ledger = listed(&[]);
        let insert =
            "INSERT INTO recipe (id, granule, dataset, listed, state, due, seconds) VALUES (?1, ?1, ?2, 1, ?3, 0, ?4)";
        for (number, (dataset, state, seconds)) in recipes.iter().enumerate() {
            let values = (number.to_string(), dataset, *state as i64, seconds);
            ledger.connection.execute(insert, values).unwrap();
        }
        ledger
    }

    #[test]
    fn recipes_that_are_not_settled_remain() {
        use RecipeState::{Conflict, Done, Failed, Held, UnderWay, Waiting};
        let states = [Waiting, UnderWay, Done, Held, Failed, Conflict];
        let backlog = ledger(&states.map(|state| (1, state, 5.0))).backlog().unwrap();
        assert_eq!(backlog.slot_seconds, 2.0 * 5.0);
        assert_eq!(states.map(|state| backlog.counts.of(state)), [1; 6]);
        assert_eq!(ledger(&[]).backlog().unwrap().slot_seconds, 0.0);
    }

    #[test]
    fn recipes_are_weighed_by_the_time_that_their_dataset_takes() {
        use RecipeState::{Done, Waiting};
        let (small, large, unknown) = ((1, Waiting, 0.0), (2, Waiting, 0.0), (3, Waiting, 0.0));
        assert_eq!(ledger(&[small, large]).backlog().unwrap().slot_seconds, 2.0 * UNKNOWN);
        let made = [(1, Done, 1.0), (1, Done, 3.0), (2, Done, 10.0), (2, Done, 14.0)];
        let backlog = |remaining: &[_]| ledger(&[&made, remaining].concat()).backlog().unwrap().slot_seconds;
        assert_eq!(backlog(&[small, small, large]), 2.0 * 2.0 + 12.0);
        assert_eq!(backlog(&[unknown]), 7.0);
    }

    #[test]
    fn granules_that_existed_before_tell_nothing_of_the_time_that_others_take() {
        let ledger = ledger(&[(1, RecipeState::Done, 0.0), (1, RecipeState::Waiting, 0.0)]);
        ledger.connection.execute("UPDATE recipe SET already = 1 WHERE state = 2", []).unwrap();
        assert_eq!(ledger.backlog().unwrap().slot_seconds, UNKNOWN);
    }
}
