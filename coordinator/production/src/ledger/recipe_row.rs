//! One recipe as the ledger has it, and the transitions of its state.

use super::millis;
use super::reading::{SETTLED, settled};
use super::retries::{RetryHistory, Verdict};
use super::state::{MadeGranule, RecipeState, Settled};
use edp_protocol::message::FailureKind;
use rusqlite::{OptionalExtension as _, Transaction, params};

/// Time in ms within which a worker must have reported for it to count as present.
const LATELY: i64 = 10 * 60 * 1000;

/// A number that no worker has.
pub(super) const NO_WORKER: i64 = -1;

/// The number in the file for an attempt that ended with a granule.
pub(super) const DONE: i64 = -1;

pub(super) fn kind(kind: FailureKind) -> i64 {
    kind as i64
}

/// A recipe as the ledger has it.
pub(super) struct RecipeRow {
    pub(super) number: i64,
    pub(super) state: RecipeState,
    pub(super) attempt: u32,
    pub(super) base: u32,
    pub(super) failures: u32,
    pub(super) sha256: String,
}

impl RecipeRow {
    pub(super) fn find(
        transaction: &Transaction<'_>,
        which: &'static str,
        key: &dyn rusqlite::ToSql,
    ) -> rusqlite::Result<Option<RecipeRow>> {
        let query = format!("SELECT number, state, attempt, base, failures, sha256 FROM recipe WHERE {which}");
        let read = |row: &rusqlite::Row<'_>| {
            Ok(RecipeRow {
                number: row.get(0)?,
                state: RecipeState::of(row.get(1)?),
                attempt: row.get(2)?,
                base: row.get(3)?,
                failures: row.get(4)?,
                sha256: row.get(5)?,
            })
        };
        transaction.prepare_cached(&query)?.query_row([key], read).optional()
    }

    /// Marks the workers that have this recipe, up to an attempt, as lost until they report again. The worker that
    /// reports this is excepted.
    pub(super) fn lose(
        &self,
        transaction: &Transaction<'_>,
        attempt: u32,
        teller: i64,
        now: i64,
    ) -> rusqlite::Result<()> {
        let update = "UPDATE attempt SET lost = ?1
                      WHERE number = ?2 AND attempt <= ?3 AND worker != ?4 AND ended IS NULL AND lost IS NULL";
        transaction.prepare_cached(update)?.execute(params![now, self.number, attempt, teller]).map(drop)
    }

    /// Returns the history that decides what follows after an outcome of this kind. A worker that has reported again
    /// since was not lost, but only cut off.
    pub(super) fn standing(
        &self,
        transaction: &Transaction<'_>,
        ended: Option<FailureKind>,
        now: i64,
    ) -> rusqlite::Result<RetryHistory> {
        let query = "SELECT DISTINCT name FROM attempt JOIN worker ON worker.number = attempt.worker
                     WHERE attempt.number = ?1 AND attempt > ?2 AND ended IS NULL AND last <= lost";
        let mut statement = transaction.prepare_cached(query)?;
        let lost = statement.query_map(params![self.number, self.base], |row| row.get(0))?;
        let mut standing =
            RetryHistory { failures: self.failures, lost: lost.collect::<Result<_, _>>()?, ..RetryHistory::default() };
        if let Some(FailureKind::NotFound | FailureKind::Denied) = ended {
            let query = "SELECT name FROM attempt JOIN worker ON worker.number = attempt.worker
                         WHERE attempt.number = ?1 AND attempt > ?2 AND kind IN (?3, ?4)";
            let [not_found, denied] = [FailureKind::NotFound, FailureKind::Denied].map(kind);
            let mut statement = transaction.prepare_cached(query)?;
            let said = statement.query_map(params![self.number, self.base, not_found, denied], |row| row.get(0))?;
            standing.unreached = said.collect::<Result<_, _>>()?;
            // The broker and the coordinator have entries too, but no build.
            let query = "SELECT name FROM worker WHERE last > ?1 AND build != ''";
            let mut statement = transaction.prepare_cached(query)?;
            let others = statement.query_map([now.saturating_sub(LATELY)], |row| row.get(0))?;
            standing.others = others.collect::<Result<_, _>>()?;
            standing.others.retain(|other| !standing.unreached.contains(other));
        }
        Ok(standing)
    }

    /// Does what the policy says. `why` is the reason that is recorded for a recipe that is sent again.
    pub(super) fn follow(
        &self,
        transaction: &Transaction<'_>,
        verdict: Verdict,
        why: Option<&str>,
        now: i64,
    ) -> rusqlite::Result<Option<Settled>> {
        match verdict {
            Verdict::Again { wait, counts, alone } => {
                let update = "UPDATE recipe SET state = 0, due = ?1, failures = failures + ?2, alone = alone OR ?3,
                              reason = coalesce(?4, reason) WHERE number = ?5";
                let due = now.saturating_add(millis(wait));
                transaction.prepare_cached(update)?.execute(params![due, counts, alone, why, self.number])?;
                Ok(None)
            }
            Verdict::End { state, reason } => self.end(transaction, state, &reason).map(Some),
        }
    }

    /// Settles the recipe without a granule of its own.
    fn end(&self, transaction: &Transaction<'_>, state: RecipeState, reason: &str) -> rusqlite::Result<Settled> {
        let update = "UPDATE recipe SET state = ?1, reason = ?2 WHERE number = ?3";
        transaction.prepare_cached(update)?.execute(params![state as i64, reason, self.number])?;
        self.read(transaction)
    }

    /// Marks the recipe as done, whatever its state was.
    pub(super) fn done(&self, transaction: &Transaction<'_>, made: &MadeGranule) -> rusqlite::Result<Option<Settled>> {
        if self.state == RecipeState::Done {
            return self.compare(transaction, made);
        }
        // A digest that was recorded before stays if the granule was only found to exist: later it shows whether its
        // bytes have changed.
        let update = "UPDATE recipe SET state = 2, already = ?1, bytes = ?2, sha256 = ifnull(nullif(?3, ''), sha256),
                      seconds = ?4, reason = NULL, warnings = ?5 WHERE number = ?6";
        let bytes = i64::try_from(made.bytes).unwrap_or(i64::MAX);
        let warnings = (!made.warnings.is_empty()).then(|| made.warnings.join("\n"));
        let already = u32::from(made.already) + made.older;
        let row = params![already, bytes, made.sha256, made.seconds, warnings, self.number];
        transaction.prepare_cached(update)?.execute(row)?;
        self.read(transaction).map(Some)
    }

    /// Compares the granule of another attempt, made or found, with the recorded one. The same recipe gives the same
    /// bytes, unless something that it is made of was changed in between.
    fn compare(&self, transaction: &Transaction<'_>, made: &MadeGranule) -> rusqlite::Result<Option<Settled>> {
        if self.sha256.is_empty() || made.sha256.is_empty() || self.sha256 == made.sha256 {
            return Ok(None);
        }
        let reason = format!(
            "two attempts made different granules (SHA-256 {} and {}): an input was changed in between; \
             plan again, and make it again with --replace",
            self.sha256, made.sha256
        );
        self.end(transaction, RecipeState::Conflict, &reason).map(Some)
    }

    fn read(&self, transaction: &Transaction<'_>) -> rusqlite::Result<Settled> {
        let query = format!("{SETTLED} WHERE number = ?1");
        transaction.prepare_cached(&query)?.query_row([self.number], settled)
    }
}
