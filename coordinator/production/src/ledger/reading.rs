//! Queries of a coordinator to its ledger.

use super::body::{BODIES, BODY, unpacked};
use super::state::{Counts, Due, MadeGranule, RecipeState, Settled};
use super::{Ledger, LedgerError, detail};
use crate::report::GranuleEntry;
use edp_protocol::recipe::Recipe;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

impl Ledger {
    /// Returns up to `limit` recipes that are to be sent now, in the order of the list.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub fn due(&self, now: i64, limit: usize) -> Result<Vec<Due>, LedgerError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        due_rows(&self.connection, DUE, params![now, limit]).map_err(|e| self.fail(e))
    }

    /// Returns the number of rows that were changed since the ledger was opened.
    pub(crate) fn changes(&self) -> u64 {
        let mut query = self.connection.prepare_cached("SELECT total_changes()").ok();
        let changes = query.as_mut().and_then(|query| query.query_row([], |row| row.get::<_, i64>(0)).ok());
        changes.unwrap_or_default().unsigned_abs()
    }

    /// Returns the time at which the next recipe is due or the next lease ends, in milliseconds since 1970; `None` if
    /// nothing is open.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub fn next(&self) -> Result<Option<i64>, LedgerError> {
        let read = || self.connection.prepare_cached(NEXT)?.query_row([], |row| row.get(0));
        read().map_err(|e| self.fail(e))
    }

    /// Returns the number of recipes that are in the queue or with workers.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub fn under_way(&self) -> Result<usize, LedgerError> {
        let read = || self.connection.prepare_cached(UNDER_WAY)?.query_row([], |row| row.get::<_, i64>(0));
        Ok(usize::try_from(read().map_err(|e| self.fail(e))?).unwrap_or_default())
    }

    /// Returns the number of recipes in each state.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub fn counts(&self) -> Result<Counts, LedgerError> {
        counts(&self.connection).map_err(|e| self.fail(e))
    }

    /// Returns the recipes of the present list, in order.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read, or contains something that is not a recipe.
    pub fn recipes(&self) -> Result<Vec<Recipe>, LedgerError> {
        let read = || {
            let mut statement = self.connection.prepare_cached(&recipes())?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, unpacked(row, 1)?)))?;
            rows.collect::<Result<Vec<(String, Vec<u8>)>, _>>()
        };
        let recipe = |(granule, json): (String, Vec<u8>)| {
            serde_json::from_slice(&json).map_err(|source| LedgerError::Recipe { granule, source })
        };
        read().map_err(|e| self.fail(e))?.into_iter().map(recipe).collect()
    }

    /// Adds the durations of stages to entries of the present list, which must be in its order.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub(crate) fn add_stages(&self, entries: &mut [GranuleEntry]) -> Result<(), LedgerError> {
        let mut read = || {
            let mut statement = self.connection.prepare(STAGES)?;
            let mut rows = statement.query([])?;
            let mut entries = entries.iter_mut();
            while let Some(row) = rows.next()? {
                let id: String = row.get(0)?;
                let Some(entry) = entries.find(|entry| entry.id == id) else { break };
                let blob: Vec<u8> = row.get(1)?;
                entry.stages = detail::unpack(&blob).map(|done| done.stages).unwrap_or_default();
            }
            Ok(())
        };
        read().map_err(|e| self.fail(e))
    }

    /// Returns the recipe with an id; `None` if it is not known.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read, or contains something that is not a recipe.
    pub fn recipe(&self, id: &str) -> Result<Option<Recipe>, LedgerError> {
        let read = || {
            let query = format!("SELECT granule, {BODY} FROM recipe {BODIES} WHERE id = ?1");
            let mut statement = self.connection.prepare_cached(&query)?;
            statement.query_row([id], |row| Ok((row.get::<_, String>(0)?, unpacked(row, 1)?))).optional()
        };
        let Some((granule, json)) = read().map_err(|e| self.fail(e))? else { return Ok(None) };
        serde_json::from_slice(&json).map(Some).map_err(|source| LedgerError::Recipe { granule, source })
    }

    /// Passes every recipe of the present list that is in one of `states` to `each`, in the order of the list.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read, or `each` fails.
    pub fn each<E: From<LedgerError>>(
        &self,
        states: &[RecipeState],
        mut each: impl FnMut(Settled) -> Result<(), E>,
    ) -> Result<(), E> {
        let fail = |source| E::from(self.fail(source));
        let query = format!("{SETTLED} WHERE listed = 1 ORDER BY number");
        let mut statement = self.connection.prepare(&query).map_err(fail)?;
        let mut rows = statement.query([]).map_err(fail)?;
        while let Some(row) = rows.next().map_err(fail)? {
            let one = settled(row).map_err(fail)?;
            if states.contains(&one.state) {
                each(one)?;
            }
        }
        Ok(())
    }
}

/// Condition for the recipes that are due at a time, in their order, up to a number.
pub(super) const DUE: &str = "listed = 1 AND state = 0 AND due <= ?1 ORDER BY due, rank, recipe.number LIMIT ?2";

pub(super) fn due_query(condition: &str) -> String {
    format!("SELECT recipe.number, id, attempt + 1, alone, sha256, {BODY} FROM recipe {BODIES} WHERE {condition}")
}

/// Returns the recipes that meet a condition, as they are to be sent next.
pub(super) fn due_rows(
    connection: &Connection,
    condition: &'static str,
    parameters: impl rusqlite::Params,
) -> rusqlite::Result<Vec<Due>> {
    let mut statement = connection.prepare_cached(&due_query(condition))?;
    let rows = statement.query_map(parameters, |row| {
        Ok(Due {
            number: row.get(0)?,
            id: row.get(1)?,
            attempt: row.get(2)?,
            alone: row.get(3)?,
            sha256: row.get(4)?,
            recipe: unpacked(row, 5)?,
        })
    })?;
    rows.collect()
}

fn recipes() -> String {
    format!("SELECT granule, {BODY} FROM recipe {BODIES} WHERE listed = 1 ORDER BY recipe.number")
}

/// The minimum for each state: for the minimum of both together, SQLite would scan all of their rows.
pub(super) const NEXT: &str = "SELECT min(due) FROM (
    SELECT min(due) AS due FROM recipe WHERE listed = 1 AND state = 0
    UNION ALL SELECT min(due) FROM recipe WHERE listed = 1 AND state = 1)";

pub(super) const UNDER_WAY: &str = "SELECT count(*) FROM recipe WHERE listed = 1 AND state = 1";

const STAGES: &str = "SELECT id, detail.made FROM recipe JOIN detail USING (number) WHERE listed = 1 ORDER BY number";

const COUNTS: &str = "SELECT state, recipes FROM tally";

pub(super) const SETTLED: &str =
    "SELECT granule, id, state, reason, attempt, already, bytes, sha256, seconds, warnings FROM recipe";

pub(super) fn counts(connection: &Connection) -> rusqlite::Result<Counts> {
    let mut statement = connection.prepare_cached(COUNTS)?;
    let mut counts = Counts::default();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        counts.0[RecipeState::of(row.get(0)?) as usize] += row.get::<_, i64>(1)?.unsigned_abs();
    }
    Ok(counts)
}

/// Reads a row of [`SETTLED`].
pub(super) fn settled(row: &Row<'_>) -> rusqlite::Result<Settled> {
    let warnings: Option<String> = row.get(9)?;
    let already: u32 = row.get(5)?;
    Ok(Settled {
        granule: row.get(0)?,
        id: row.get(1)?,
        state: RecipeState::of(row.get(2)?),
        reason: row.get(3)?,
        attempts: row.get(4)?,
        made: MadeGranule {
            already: already > 0,
            older: already.saturating_sub(1),
            bytes: row.get::<_, i64>(6)?.unsigned_abs(),
            sha256: row.get(7)?,
            seconds: row.get(8)?,
            warnings: warnings.map(|text| text.lines().map(str::to_owned).collect()).unwrap_or_default(),
        },
    })
}
