//! Claims: which messages count. They must be about a recipe that the production has, and about an attempt that was
//! published.

use super::{Due, Ledger, LedgerError};
use rusqlite::{OptionalExtension as _, params};

/// Number of workers that may report about one attempt. A task message can reach several workers, since everything may
/// arrive twice. Each name that is recorded takes room, and a hostile publisher can invent any number of them.
const WORKERS: i64 = 16;

/// The ledger's information on the task message that a message is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// No recipe of this production has the id.
    Unknown,
    /// The recipe was never sent with this attempt.
    Unpublished,
    /// More workers have reported about this attempt than can have had it.
    Crowded {
        /// Path or address of the recipe's granule.
        granule: String,
    },
    /// The task message is one of this production.
    Published {
        /// Path or address of the recipe's granule.
        granule: String,
        /// True if this worker has reported the end of this attempt before.
        reported_before: bool,
    },
}

impl Ledger {
    /// Returns up to `limit` recipes that are to be sent now, in the order of the list. From now on messages about
    /// these attempts count, since the outcome of a task message may arrive before the broker's confirmation.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub fn take(&mut self, now: i64, limit: usize) -> Result<Vec<Due>, LedgerError> {
        let due = self.due(now, limit)?;
        // Recipes that were taken before are recorded as sent by now, or are due again with the same attempt.
        self.offered = due.iter().map(|due| (due.number, due.attempt)).collect();
        Ok(due)
    }

    /// Returns what is known about the task messages that messages are about. Each is given by the recipe's id, the
    /// attempt, and the worker that reports.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub fn claims(&self, messages: &[(String, u32, String)]) -> Result<Vec<Claim>, LedgerError> {
        let claim = |(id, attempt, worker): &(String, u32, String)| self.claim(id, *attempt, worker);
        messages.iter().map(claim).collect::<Result<_, _>>().map_err(|e| self.fail(e))
    }

    fn claim(&self, id: &str, attempt: u32, worker: &str) -> rusqlite::Result<Claim> {
        let query = "SELECT number, attempt, granule FROM recipe WHERE id = ?1";
        let known = self
            .connection
            .prepare_cached(query)?
            .query_row([id], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?, row.get::<_, String>(2)?)))
            .optional()?;
        let Some((number, sent, granule)) = known else { return Ok(Claim::Unknown) };
        let is_offered = || self.offered.get(&number) == Some(&attempt);
        if attempt == 0 || (attempt > sent && !is_offered()) {
            return Ok(Claim::Unpublished);
        }
        let query = "SELECT count(*) FILTER (WHERE name != ?3), count(ended) FILTER (WHERE name = ?3)
                     FROM attempt JOIN worker ON worker.number = attempt.worker
                     WHERE attempt.number = ?1 AND attempt = ?2";
        let row = params![number, attempt, worker];
        let (others, ended): (i64, i64) =
            self.connection.prepare_cached(query)?.query_row(row, |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(if others < WORKERS {
            Claim::Published { granule, reported_before: ended > 0 }
        } else {
            Claim::Crowded { granule }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::LedgerEvent;
    use super::super::tests::{failed, id, listed, recipes, send, started};
    use super::*;
    use edp_protocol::message::FailureKind;

    fn claim(ledger: &Ledger, id: &str, attempt: u32, worker: &str) -> Claim {
        ledger.claims(&[(id.to_owned(), attempt, worker.to_owned())]).unwrap().remove(0)
    }

    #[test]
    fn only_attempts_that_were_published_count() {
        let recipes = recipes();
        let mut ledger = listed(&recipes);
        let [first, last] = [id(&recipes[0]), id(&recipes[3])];
        let published = || Claim::Published { granule: recipes[0].granule.clone(), reported_before: false };
        assert_eq!(claim(&ledger, &"0".repeat(64), 1, "w"), Claim::Unknown);
        assert_eq!(claim(&ledger, "", 1, "w"), Claim::Unknown);
        assert_eq!(claim(&ledger, &first, 1, "w"), Claim::Unpublished, "it was not sent yet");
        // The first is being sent: it is not confirmed yet.
        let due = ledger.take(0, 1).unwrap().remove(0);
        assert_eq!((claim(&ledger, &first, 1, "w"), claim(&ledger, &last, 1, "w")), (published(), Claim::Unpublished));
        // The queue was full; now others are sent.
        ledger.take(0, 0).unwrap();
        assert_eq!(claim(&ledger, &first, 1, "w"), Claim::Unpublished);
        ledger.write(&[LedgerEvent::Sent { number: due.number, attempt: due.attempt }], 0).unwrap();
        assert_eq!(claim(&ledger, &first, 1, "w"), published());
        // The worker that has reported the end is recorded.
        ledger.write(&[started(&recipes[0], 1, "w"), failed(&recipes[0], 1, "v", FailureKind::Transient)], 0).unwrap();
        let reported_before =
            |worker| matches!(claim(&ledger, &first, 1, worker), Claim::Published { reported_before: true, .. });
        assert_eq!(["w", "v", "u"].map(reported_before), [false, true, false]);
        for attempt in [0, 2, u32::MAX] {
            assert_eq!(claim(&ledger, &first, attempt, "w"), Claim::Unpublished, "{attempt}");
        }
    }

    #[test]
    fn no_attempt_is_that_of_a_crowd() {
        let recipes = recipes();
        let mut ledger = listed(&recipes[..1]);
        send(&mut ledger, 0);
        let first = id(&recipes[0]);
        for n in 0..WORKERS {
            let worker = format!("w{n}");
            assert!(matches!(claim(&ledger, &first, 1, &worker), Claim::Published { .. }), "{n}");
            ledger.write(&[started(&recipes[0], 1, &worker)], 0).unwrap();
        }
        assert!(matches!(claim(&ledger, &first, 1, "another"), Claim::Crowded { .. }));
        assert!(matches!(claim(&ledger, &first, 1, "w0"), Claim::Published { .. }), "it is one of them");
    }
}
