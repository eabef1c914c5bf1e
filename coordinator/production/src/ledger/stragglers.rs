//! Attempts that take much longer than others. Near the end of a production, when job slots are free and nothing else is
//! left to be sent, such a recipe is sent once more. Both attempts make the same bytes and only one of them commits them,
//! so that the second one is harmless; the outcome that arrives first counts.

use super::{Ledger, LedgerError};
use rusqlite::params;

/// An attempt is slow if it takes this many times the mean time of the granules that were made of its dataset,
const SLOWER: i64 = 3;

/// and at least this long, in ms.
const LEAST: i64 = 30_000;

impl Ledger {
    /// Sends up to `limit` recipes once more whose attempts are slow. Returns their number. A recipe of whose dataset
    /// nothing was made yet is not sent, nor one that several workers have begun, or that is to run alone.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written.
    pub(crate) fn resend_slow(&mut self, limit: usize, now: i64) -> Result<usize, LedgerError> {
        let slow = |ledger: &Ledger| {
            let query = "WITH mean (dataset, spent) AS
                (SELECT dataset, sum(spent) / sum(made) FROM tally WHERE state = 2 AND made > 0 GROUP BY dataset)
                SELECT recipe.number FROM recipe
                JOIN mean USING (dataset)
                JOIN attempt ON attempt.number = recipe.number AND attempt.attempt = recipe.attempt
                WHERE listed = 1 AND state = 1 AND alone = 0
                GROUP BY recipe.number
                HAVING count(*) = 1 AND max(ended) IS NULL AND ?1 - min(started) > max(?2, ?3 * mean.spent)
                ORDER BY min(started)";
            let mut statement = ledger.connection.prepare_cached(query)?;
            let rows = statement.query_map(params![now, LEAST, SLOWER], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<Vec<i64>>>()
        };
        let slow = slow(self).map_err(|e| self.fail(e))?;
        let again: Vec<i64> = slow.into_iter().filter(|number| !self.sent_twice.contains(number)).take(limit).collect();
        for number in &again {
            let update = "UPDATE recipe SET state = 0, due = ?1 WHERE number = ?2 AND state = 1";
            self.connection.execute(update, params![now, number]).map_err(|e| self.fail(e))?;
            self.sent_twice.insert(*number);
        }
        Ok(again.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::RecipeState;
    use super::super::tests::{done, failed, listed, recipes, send, started};
    use super::*;
    use edp_protocol::message::FailureKind;

    #[test]
    fn a_slow_attempt_is_repeated_once_and_the_first_outcome_counts() {
        let recipes = recipes();
        // The last one is of another dataset, of which nothing is made.
        let mut ledger = listed(&recipes[..3]);
        assert_eq!(send(&mut ledger, 0).len(), 3);
        let begun: Vec<_> = (0..3).map(|at| started(&recipes[at], 1, ["a", "b", "c"][at])).collect();
        ledger.write(&begun, 0).unwrap();
        assert_eq!(ledger.resend_slow(9, 10 * LEAST).unwrap(), 0, "it is not known how long they take");
        ledger.write(&[done(&recipes[0], 1, "a")], 1000).unwrap();
        assert_eq!(ledger.resend_slow(9, LEAST).unwrap(), 0, "not slow yet");
        assert_eq!(ledger.resend_slow(0, LEAST + 1).unwrap(), 0, "no slot is free");
        assert_eq!(ledger.resend_slow(9, LEAST + 1).unwrap(), 1);
        let again = send(&mut ledger, LEAST + 2);
        assert_eq!(again.iter().map(|(_, attempt, _)| *attempt).collect::<Vec<_>>(), [2]);
        ledger.write(&[started(&recipes[1], 2, "a")], LEAST + 2).unwrap();
        assert_eq!(ledger.resend_slow(9, 100 * LEAST).unwrap(), 0, "only once");
        // That the slow attempt fails means nothing any more; that it succeeds does.
        let late = [failed(&recipes[1], 1, "b", FailureKind::Transient)];
        assert!(ledger.write(&late, LEAST + 3).unwrap().is_empty());
        assert_eq!(ledger.under_way().unwrap(), 2);
        let settled = ledger.write(&[done(&recipes[1], 1, "b")], LEAST + 4).unwrap();
        assert_eq!((settled.len(), settled[0].state), (1, RecipeState::Done));
        assert!(ledger.write(&[done(&recipes[1], 2, "a")], LEAST + 5).unwrap().is_empty(), "the same bytes");
    }
}
