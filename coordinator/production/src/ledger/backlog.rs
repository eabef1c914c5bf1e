//! The work that remains, as the figure by which groups of workers are scaled.
//!
//! The length of the queue is no such figure: at most the window of recipes is in the queue, however many are to be
//! made, and the granules of one dataset may take a hundred times as long as those of another.

use super::state::Counts;
use super::{Ledger, LedgerError, reading};
use rusqlite::Connection;

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

impl Ledger {
    /// Returns the work that remains. It reads the state of every recipe.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub(crate) fn backlog(&self) -> Result<Backlog, LedgerError> {
        let read = || {
            let slot_seconds = slot_seconds(&self.connection)?;
            Ok(Backlog { counts: reading::counts(&self.connection)?, slot_seconds })
        };
        read().map_err(|e| self.fail(e))
    }
}

fn slot_seconds(connection: &Connection) -> rusqlite::Result<f64> {
    let query = "SELECT sum(state IN (0, 1)), sum(state = 2 AND already = 0), \
                 total(iif(state = 2 AND already = 0, seconds, 0)) FROM recipe WHERE listed = 1 GROUP BY dataset";
    let mut statement = connection.prepare_cached(query)?;
    let datasets = statement.query_map([], |row| {
        let (remaining, made): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok((remaining as f64, made as f64, row.get::<_, f64>(2)?))
    })?;
    let datasets: Vec<(f64, f64, f64)> = datasets.collect::<Result<_, _>>()?;
    let (made, seconds) = datasets.iter().fold((0.0, 0.0), |(made, seconds), one| (made + one.1, seconds + one.2));
    let overall = if made > 0.0 { seconds / made } else { UNKNOWN };
    let of =
        |(remaining, made, seconds): &(f64, f64, f64)| remaining * if *made > 0.0 { seconds / made } else { overall };
    Ok(datasets.iter().map(of).sum())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ledger::RecipeState;
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
