//! Read-only access to the ledger, to see the state of a production, even while a coordinator is at work on it.

use super::body::{BODIES, BODY, unpacked};
use super::mount::is_remote;
use super::reading::{SETTLED, counts, settled};
use super::recipe_row::DONE;
use super::schema::{self, PACE};
use super::state::{RecipeState, Settled};
use super::{LedgerError, check_files, copy, detail, fact, layout, sqlite};
use edp_protocol::message::FailureKind;
use edp_protocol::name::base_name;
use edp_protocol::wire::Done;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, params};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time for which a reader waits for a writer.
const BUSY: Duration = Duration::from_secs(5);

/// Time in ms over which the pace is averaged.
const RECENT: i64 = 10 * 60 * 1000;

/// Number of names that are suggested for one that does not exist.
const NEAR: usize = 5;

/// A ledger that is only read.
#[derive(Debug)]
pub struct View {
    path: PathBuf,
    connection: Connection,
}

/// The state of a production.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overview {
    /// Name of the production.
    pub production: String,
    /// Time at which it was begun, in ms since 1970.
    pub begun: i64,
    /// Number of recipes of the present list in each state.
    pub states: BTreeMap<RecipeState, u64>,
    /// The reason why it was given up, if it was.
    pub given_up: Option<String>,
    /// The build of its granules, if it is fixed.
    pub build: Option<String>,
    /// Granules per second during the last minutes; `None` if no granule was made.
    pub pace: Option<f64>,
    /// Numbers of recipes by dataset.
    pub datasets: Vec<DatasetProgress>,
    /// Workers that have reported, the latest first.
    pub workers: Vec<WorkerSeen>,
    /// The first of those that failed, are in conflict or held.
    pub problems: Vec<UnfinishedRecipe>,
    /// The first of those that wait to be sent again, with the reasons.
    pub delayed: Vec<UnfinishedRecipe>,
}

impl Overview {
    /// Number of recipes in the states for which `is` returns true.
    pub fn count(&self, is: impl Fn(RecipeState) -> bool) -> u64 {
        self.states.iter().filter(|(state, _)| is(**state)).map(|(_, count)| count).sum()
    }
}

/// The progress of a dataset on its grid.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DatasetProgress {
    /// Name of the dataset, with period and grid.
    pub name: String,
    /// Number of recipes in each state.
    pub states: BTreeMap<RecipeState, u64>,
}

/// A worker that has reported.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorkerSeen {
    /// Name of the worker process.
    pub name: String,
    /// Build of the worker.
    pub build: String,
    /// Time of its first report, in ms since 1970.
    pub first: i64,
    /// Time of its latest report, in ms since 1970.
    pub last: i64,
    /// Number of attempts that it has begun and not ended.
    pub at_work: u64,
    /// Number of granules that it has reported as done.
    pub done: u64,
    /// Number of its attempts that ended otherwise.
    pub failed: u64,
}

/// A recipe that was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedRecipe {
    /// Path or address of the granule.
    pub granule: String,
    /// State of the recipe.
    pub state: RecipeState,
    /// The reason for the state.
    pub reason: String,
}

/// All that is known about one granule.
#[derive(Debug, Clone, PartialEq)]
pub struct Granule {
    /// State of the recipe, and its granule.
    pub settled: Settled,
    /// Time at which it is due or its lease ends, in ms since 1970.
    pub due: i64,
    /// True if it is made with nothing else in its worker.
    pub alone: bool,
    /// The recipe as JSON.
    pub recipe: Vec<u8>,
    /// Attempts by workers, in order.
    pub attempts: Vec<Attempt>,
    /// Location, stages, inputs and chunks of the granule, once it was made.
    pub made: Option<Done>,
}

/// One attempt at a granule by one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Name of the worker process.
    pub worker: String,
    /// Build of the worker.
    pub build: String,
    /// Time at which it began, in ms since 1970.
    pub started: i64,
    /// Time at which it ended, in ms since 1970.
    pub ended: Option<i64>,
    /// Time at which it was given up without a report of the worker, in ms since 1970.
    pub lost: Option<i64>,
    /// The way in which it ended: `done`, or the kind of failure.
    pub outcome: Option<&'static str>,
    /// The text of the error, then those of its causes.
    pub reason: Vec<String>,
}

/// Returns the word for the end of an attempt.
fn outcome(number: i64) -> &'static str {
    const KINDS: [(FailureKind, &str); 8] = [
        (FailureKind::Permanent, "permanent failure"),
        (FailureKind::Transient, "transient failure"),
        (FailureKind::Held, "held"),
        (FailureKind::Conflict, "conflict"),
        (FailureKind::Returned, "returned"),
        (FailureKind::Lost, "not tried: delivered before"),
        (FailureKind::NotFound, "not found by this worker"),
        (FailureKind::Denied, "not permitted to this worker"),
    ];
    if number == DONE {
        return "done";
    }
    KINDS.into_iter().find(|(kind, _)| *kind as i64 == number).map_or("unknown", |(_, word)| word)
}

impl View {
    /// Opens a ledger for reading. If a coordinator is at work on it, on this machine, this shows what it has written
    /// so far, and does not delay it.
    ///
    /// # Errors
    /// Returns an error if there is no ledger, if it is of another release, or if a coordinator is at work on it on a
    /// file system of another machine.
    pub fn open(path: &Path) -> Result<View, LedgerError> {
        let absent = |why: &str| LedgerError::Absent { path: path.into(), why: why.into() };
        let fail = |source: rusqlite::Error| match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LedgerError::Exclusive { path: path.into() },
            Some(ErrorCode::NotADatabase) => absent("is not a ledger"),
            _ => sqlite(path, source),
        };
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(absent("there is none")),
            Err(source) => return Err(LedgerError::Io { path: path.into(), source }),
            Ok(_) => check_files(path)?,
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(fail)?;
        // An exclusive lock is held until its coordinator ends, so waiting for it is pointless.
        let remote = is_remote(path).map_err(|source| LedgerError::Io { path: path.into(), source })?;
        connection.busy_timeout(if remote { Duration::ZERO } else { BUSY }).map_err(fail)?;
        match layout(&connection).map_err(fail)? {
            0 => Err(absent("is not a ledger")),
            found if schema::read(&connection, found).map_err(fail)? => Ok(View { path: path.into(), connection }),
            found => Err(LedgerError::Layout { path: path.into(), found }),
        }
    }

    fn fail(&self, source: rusqlite::Error) -> LedgerError {
        sqlite(&self.path, source)
    }

    /// Returns a fact about the production.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub fn fact(&self, name: &str) -> Result<Option<String>, LedgerError> {
        fact(&self.connection, name).map_err(|e| self.fail(e))
    }

    /// Returns true if any of these ids is known.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub(crate) fn knows_any<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Result<bool, LedgerError> {
        let read = || {
            let mut statement = self.connection.prepare("SELECT 1 FROM recipe WHERE id = ?1")?;
            ids.into_iter().find_map(|id| statement.exists([id]).map(|is| is.then_some(())).transpose()).transpose()
        };
        read().map(|found| found.is_some()).map_err(|e| self.fail(e))
    }

    /// Writes a consistent copy of the whole ledger to a file that does not exist yet.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read, or the copy cannot be written.
    pub fn copy(&self, to: &Path) -> Result<(), LedgerError> {
        copy(&self.connection, to).map_err(|e| self.fail(e))
    }

    /// Returns the state of the production at a time in ms since 1970, with the first `problems` unfinished recipes.
    /// The work does not depend on the number of recipes that are settled or wait.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub fn overview(&self, now: i64, problems: usize) -> Result<Overview, LedgerError> {
        // One transaction, so that all of it is as of one instant.
        let read = || {
            let transaction = self.connection.unchecked_transaction()?;
            overview(&transaction, now, problems)
        };
        read().map_err(|e| self.fail(e))
    }

    /// Passes every recipe of the present list that is in a state to `each`, in the order of the list.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read, or `each` fails.
    pub fn each<E: From<LedgerError>>(
        &self,
        state: RecipeState,
        mut each: impl FnMut(Settled) -> Result<(), E>,
    ) -> Result<(), E> {
        let fail = |source| E::from(self.fail(source));
        let query = format!("{SETTLED} WHERE listed = 1 AND state = ?1 ORDER BY number");
        let mut statement = self.connection.prepare(&query).map_err(fail)?;
        let mut rows = statement.query([state as i64]).map_err(fail)?;
        while let Some(row) = rows.next().map_err(fail)? {
            each(settled(row).map_err(fail)?)?;
        }
        Ok(())
    }

    /// Returns the numbers of all recipes that a text may denote: an id, a granule's path or name, or else a part of
    /// one. It is empty if there are none.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub fn find(&self, text: &str) -> Result<Vec<i64>, LedgerError> {
        let read = || {
            // Only ids have an index; each of the other queries reads all recipes.
            let id = "SELECT number FROM recipe WHERE id = ?1";
            // A granule may have had another recipe before: that of the present list comes first.
            let exact = "SELECT number FROM recipe WHERE granule = ?1 ORDER BY listed DESC, number DESC";
            let ending = "SELECT number FROM recipe WHERE listed = 1 AND substr(granule, -length(?1) - 1) = '/' || ?1";
            let part = "SELECT number FROM recipe WHERE listed = 1
                        AND (instr(granule, ?1) > 0 OR substr(id, 1, length(?1)) = ?1) ORDER BY number";
            for (query, one) in [(id, true), (exact, true), (ending, false), (part, false)] {
                let mut statement = self.connection.prepare(query)?;
                let rows = statement.query_map([text], |row| row.get(0))?;
                let numbers: Vec<i64> = rows.take(if one { 1 } else { usize::MAX }).collect::<Result<_, _>>()?;
                if !numbers.is_empty() {
                    return Ok(numbers);
                }
            }
            Ok(Vec::new())
        };
        if text.is_empty() { Ok(Vec::new()) } else { read().map_err(|e| self.fail(e)) }
    }

    /// Returns the names of granules that have most in common with a text.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub fn near(&self, text: &str) -> Result<Vec<String>, LedgerError> {
        let parts = |name: &str| -> Vec<String> {
            name.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).map(str::to_lowercase).collect()
        };
        let wanted = parts(base_name(text));
        let read = || {
            let mut statement = self.connection.prepare("SELECT granule FROM recipe WHERE listed = 1")?;
            let mut rows = statement.query([])?;
            let mut nearest: Vec<(usize, String)> = Vec::new();
            while let Some(row) = rows.next()? {
                let granule: String = row.get(0)?;
                let own = parts(base_name(&granule));
                let common = wanted.iter().filter(|part| own.contains(part)).count();
                if common > 0 && (nearest.len() < NEAR || nearest.iter().any(|(least, _)| *least < common)) {
                    nearest.push((common, base_name(&granule).to_owned()));
                    nearest.sort_by_key(|(common, _)| std::cmp::Reverse(*common));
                    nearest.truncate(NEAR);
                }
            }
            Ok(nearest.into_iter().map(|(_, name)| name).collect())
        };
        read().map_err(|e| self.fail(e))
    }

    /// Returns all that is known about the granule of a recipe's number.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read, or has no such number.
    pub fn granule(&self, number: i64) -> Result<Granule, LedgerError> {
        let read = || {
            let transaction = self.connection.unchecked_transaction()?;
            granule(&transaction, number)
        };
        read().map_err(|e| self.fail(e))
    }
}

pub(super) fn overview(connection: &Connection, now: i64, problems: usize) -> rusqlite::Result<Overview> {
    let all = counts(connection)?;
    let states =
        RecipeState::ALL.into_iter().map(|state| (state, all.of(state))).filter(|(_, count)| *count > 0).collect();
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok()).unwrap_or_default();
    Ok(Overview {
        production: fact(connection, "production")?.unwrap_or_default(),
        begun: number(fact(connection, "begun")?),
        states,
        given_up: fact(connection, super::GIVEN_UP)?,
        build: fact(connection, "build")?,
        pace: pace(connection, now)?,
        datasets: datasets(connection)?,
        workers: workers(connection)?,
        problems: first(connection, &[RecipeState::Failed, RecipeState::Conflict, RecipeState::Held], problems)?,
        delayed: first(connection, &[RecipeState::Waiting], problems)?,
    })
}

/// Returns the number of granules per second within the last minutes in which any was made.
fn pace(connection: &Connection, now: i64) -> rusqlite::Result<Option<f64>> {
    let query = "SELECT min(at), sum(done) FROM pace WHERE at > ?1";
    let (first, done): (Option<i64>, Option<i64>) =
        connection.query_row(query, [now - RECENT], |row| Ok((row.get(0)?, row.get(1)?)))?;
    // The current step has only begun.
    let span = first.map(|first| (now - first).max(PACE) as f64 / 1000.0);
    Ok(done.zip(span).map(|(done, span)| done as f64 / span))
}

fn datasets(connection: &Connection) -> rusqlite::Result<Vec<DatasetProgress>> {
    let query = "SELECT name, state, recipes FROM tally JOIN dataset ON dataset.number = tally.dataset
                 WHERE recipes > 0 ORDER BY name, state";
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query([])?;
    let mut datasets: Vec<DatasetProgress> = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        if datasets.last().is_none_or(|last| last.name != name) {
            datasets.push(DatasetProgress { name, ..DatasetProgress::default() });
        }
        if let Some(last) = datasets.last_mut() {
            last.states.insert(RecipeState::of(row.get(1)?), row.get::<_, i64>(2)?.unsigned_abs());
        }
    }
    Ok(datasets)
}

fn workers(connection: &Connection) -> rusqlite::Result<Vec<WorkerSeen>> {
    let query = "SELECT name, build, first, last, done, failed, coalesce(at_work, 0) FROM worker LEFT JOIN
                 (SELECT attempt.worker AS number, count(*) AS at_work FROM recipe JOIN attempt USING (number)
                  WHERE listed = 1 AND state = 1 AND ended IS NULL AND lost IS NULL GROUP BY attempt.worker)
                 USING (number) ORDER BY last DESC, name";
    let count = |row: &Row<'_>, column| row.get::<_, i64>(column).map(i64::unsigned_abs);
    let mut statement = connection.prepare_cached(query)?;
    let rows = statement.query_map([], |row| {
        Ok(WorkerSeen {
            name: row.get(0)?,
            build: row.get(1)?,
            first: row.get(2)?,
            last: row.get(3)?,
            done: count(row, 4)?,
            failed: count(row, 5)?,
            at_work: count(row, 6)?,
        })
    })?;
    rows.collect()
}

/// Returns the first recipes in these states that have a reason, state by state.
fn first(connection: &Connection, states: &[RecipeState], limit: usize) -> rusqlite::Result<Vec<UnfinishedRecipe>> {
    let mut problems = Vec::new();
    for &state in states {
        let mut statement = connection.prepare_cached(UNFINISHED)?;
        let rows = statement.query_map(params![state as i64, (limit - problems.len()) as i64], |row| {
            Ok(UnfinishedRecipe { granule: row.get(0)?, state, reason: row.get(1)? })
        })?;
        let rows: Vec<UnfinishedRecipe> = rows.collect::<Result<_, _>>()?;
        problems.extend(rows);
    }
    Ok(problems)
}

pub(super) const UNFINISHED: &str = "SELECT granule, reason FROM recipe
    WHERE listed = 1 AND state = ?1 AND reason IS NOT NULL ORDER BY due, number LIMIT ?2";

fn granule(connection: &Connection, number: i64) -> rusqlite::Result<Granule> {
    let settled = connection.query_row(&format!("{SETTLED} WHERE number = ?1"), [number], settled)?;
    let query = format!("SELECT due, alone, {BODY} FROM recipe {BODIES} WHERE recipe.number = ?1");
    let (due, alone, recipe) =
        connection.query_row(&query, [number], |row| Ok((row.get(0)?, row.get(1)?, unpacked(row, 2)?)))?;
    let query = "SELECT made FROM detail WHERE number = ?1";
    let blob: Option<Vec<u8>> = connection.query_row(query, [number], |row| row.get(0)).optional()?;
    let query = "SELECT attempt, name, build, started, ended, lost, kind, reason
                 FROM attempt JOIN worker ON worker.number = attempt.worker
                 WHERE attempt.number = ?1 ORDER BY attempt, started, name";
    let mut statement = connection.prepare(query)?;
    let attempts = statement.query_map([number], |row| {
        let reason: Option<String> = row.get(7)?;
        Ok(Attempt {
            attempt: row.get(0)?,
            worker: row.get(1)?,
            build: row.get(2)?,
            started: row.get(3)?,
            ended: row.get(4)?,
            lost: row.get(5)?,
            outcome: row.get::<_, Option<i64>>(6)?.map(outcome),
            reason: reason.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default(),
        })
    })?;
    let attempts = attempts.collect::<Result<_, _>>()?;
    Ok(Granule { settled, due, alone, recipe, attempts, made: blob.as_deref().and_then(detail::unpack) })
}
