//! The ledger read-only, to see where a production stands, also while a coordinator is at work on it.

use super::reading::{SETTLED, counts, settled};
use super::recipe_row::DONE;
use super::schema::{LAYOUT, PACE, is_remote};
use super::state::{RecipeState, Settled};
use super::{LedgerError, check_files, copy, detail, sqlite};
use edp_protocol::message::FailureKind;
use edp_protocol::name::base_name;
use edp_protocol::wire::Done;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, params};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a reader waits for a writer.
const BUSY: Duration = Duration::from_secs(5);

/// Outcomes of so long count for the pace, in ms.
const RECENT: i64 = 10 * 60 * 1000;

/// Names that are suggested for one that is not there.
const NEAR: usize = 5;

/// A ledger that is only read.
#[derive(Debug)]
pub struct View {
    path: PathBuf,
    connection: Connection,
}

/// Where a production stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overview {
    /// Its name.
    pub production: String,
    /// When it was begun, in ms since 1970.
    pub begun: i64,
    /// How many recipes of the present list are in which state.
    pub states: BTreeMap<RecipeState, u64>,
    /// The reason why it was given up, if it was.
    pub given_up: Option<String>,
    /// The build of its granules, if it is fixed.
    pub build: Option<String>,
    /// Granules a second lately; none if none were made lately.
    pub pace: Option<f64>,
    /// The same by dataset.
    pub datasets: Vec<DatasetProgress>,
    /// Workers that were heard of, the last ones first.
    pub workers: Vec<WorkerSeen>,
    /// The first of those that failed, are in conflict or held.
    pub problems: Vec<UnfinishedRecipe>,
    /// The first of those that wait to be sent again, with what happened to them.
    pub delayed: Vec<UnfinishedRecipe>,
}

impl Overview {
    /// How many recipes are in one of these states.
    pub fn count(&self, is: impl Fn(RecipeState) -> bool) -> u64 {
        self.states.iter().filter(|(state, _)| is(**state)).map(|(_, count)| count).sum()
    }
}

/// A dataset on its grid.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DatasetProgress {
    /// Its name, with period and grid.
    pub name: String,
    /// How many recipes are in which state.
    pub states: BTreeMap<RecipeState, u64>,
}

/// A worker that was heard of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorkerSeen {
    /// Its name.
    pub name: String,
    /// Its build.
    pub build: String,
    /// When it was first heard of, in ms since 1970.
    pub first: i64,
    /// And last.
    pub last: i64,
    /// What it has begun and not said the end of.
    pub at_work: u64,
    /// Granules that it said are there.
    pub done: u64,
    /// Everything else that it said the end of.
    pub failed: u64,
}

/// A recipe that was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedRecipe {
    /// The granule.
    pub granule: String,
    /// Where it stands.
    pub state: RecipeState,
    /// Why.
    pub reason: String,
}

/// All that is known of one granule.
#[derive(Debug, Clone, PartialEq)]
pub struct Granule {
    /// Where it stands.
    pub settled: Settled,
    /// When it is due or its lease ends, in ms since 1970.
    pub due: i64,
    /// Whether it is to be made with nothing else in its worker.
    pub alone: bool,
    /// Its recipe: JSON.
    pub recipe: Vec<u8>,
    /// Who tried it, in the order of the attempts.
    pub attempts: Vec<Attempt>,
    /// Location, stages, inputs and chunks of the granule, once it was made.
    pub made: Option<Done>,
}

/// One attempt at a granule by one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its number, from 1.
    pub attempt: u32,
    /// The worker.
    pub worker: String,
    /// The worker's build.
    pub build: String,
    /// When it began, in ms since 1970.
    pub started: i64,
    /// When it ended.
    pub ended: Option<i64>,
    /// When it was given up without a word of the worker.
    pub lost: Option<i64>,
    /// How it ended: `done`, or the kind of failure.
    pub outcome: Option<&'static str>,
    /// The error, then its causes.
    pub reason: Vec<String>,
}

/// The word for how an attempt ended.
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
    /// Opens a ledger for reading. With a coordinator at work on it, on this machine, what is read is what it has
    /// written so far; it is not kept waiting.
    ///
    /// # Errors
    /// There is none, it is of another release, or a coordinator is at work on it on a file system of another machine.
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
        // An exclusive lock lasts.
        let remote = is_remote(path).map_err(|source| LedgerError::Io { path: path.into(), source })?;
        connection.busy_timeout(if remote { Duration::ZERO } else { BUSY }).map_err(fail)?;
        let found: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
        match found {
            LAYOUT => Ok(View { path: path.into(), connection }),
            0 => Err(absent("is not a ledger")),
            _ => Err(LedgerError::Layout { path: path.into(), found }),
        }
    }

    fn fail(&self, source: rusqlite::Error) -> LedgerError {
        sqlite(&self.path, source)
    }

    /// A fact about the production.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn fact(&self, name: &str) -> Result<Option<String>, LedgerError> {
        fact(&self.connection, name).map_err(|e| self.fail(e))
    }

    /// Whether any of these ids is known.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn knows_any<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Result<bool, LedgerError> {
        let read = || {
            let mut statement = self.connection.prepare("SELECT 1 FROM recipe WHERE id = ?1")?;
            ids.into_iter().find_map(|id| statement.exists([id]).map(|is| is.then_some(())).transpose()).transpose()
        };
        read().map(|found| found.is_some()).map_err(|e| self.fail(e))
    }

    /// Writes a consistent copy of the whole to a file that is not there yet.
    ///
    /// # Errors
    /// The ledger cannot be read, or the copy not be written.
    pub fn copy(&self, to: &Path) -> Result<(), LedgerError> {
        copy(&self.connection, to).map_err(|e| self.fail(e))
    }

    /// Where the production stands at a time in ms since 1970, with the first `problems`. Reads through all recipes:
    /// a second for a million.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn overview(&self, now: i64, problems: usize) -> Result<Overview, LedgerError> {
        // All of it as of one instant.
        let read = || {
            let transaction = self.connection.unchecked_transaction()?;
            overview(&transaction, now, problems)
        };
        read().map_err(|e| self.fail(e))
    }

    /// Every recipe of the present list that stands in a state, in the order of the list, one by one.
    ///
    /// # Errors
    /// The ledger cannot be read, or `each` fails.
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

    /// The numbers of all recipes that a text means: an id, a granule's path or name, or else a part of one. None: it
    /// means none.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn find(&self, text: &str) -> Result<Vec<i64>, LedgerError> {
        let read = || {
            // A granule may have had another recipe before: the present list comes first.
            let exact = "SELECT number FROM recipe WHERE id = ?1 OR granule = ?1 ORDER BY listed DESC, number DESC";
            let ending = "SELECT number FROM recipe WHERE listed = 1 AND substr(granule, -length(?1) - 1) = '/' || ?1";
            let part = "SELECT number FROM recipe WHERE listed = 1
                        AND (instr(granule, ?1) > 0 OR substr(id, 1, length(?1)) = ?1) ORDER BY number";
            for (query, one) in [(exact, true), (ending, false), (part, false)] {
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

    /// Names of granules that have most in common with a text.
    ///
    /// # Errors
    /// The ledger cannot be read.
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

    /// All that is known of one granule, by its number.
    ///
    /// # Errors
    /// The ledger cannot be read, or has no such number.
    pub fn granule(&self, number: i64) -> Result<Granule, LedgerError> {
        let read = || {
            let transaction = self.connection.unchecked_transaction()?;
            granule(&transaction, number)
        };
        read().map_err(|e| self.fail(e))
    }
}

fn fact(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM fact WHERE name = ?1", [name], |row| row.get(0)).optional()
}

fn overview(connection: &Connection, now: i64, problems: usize) -> rusqlite::Result<Overview> {
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

/// Granules a second within the last minutes that something was done in.
fn pace(connection: &Connection, now: i64) -> rusqlite::Result<Option<f64>> {
    let query = "SELECT min(at), sum(done) FROM pace WHERE at > ?1";
    let (first, done): (Option<i64>, Option<i64>) =
        connection.query_row(query, [now - RECENT], |row| Ok((row.get(0)?, row.get(1)?)))?;
    // The step under way has only begun.
    let span = first.map(|first| (now - first).max(PACE) as f64 / 1000.0);
    Ok(done.zip(span).map(|(done, span)| done as f64 / span))
}

fn datasets(connection: &Connection) -> rusqlite::Result<Vec<DatasetProgress>> {
    let query = "SELECT name, state, count(*) FROM recipe JOIN dataset ON dataset.number = recipe.dataset
                 WHERE listed = 1 GROUP BY recipe.dataset, state ORDER BY name, state";
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

/// The first in these states that have a reason, state by state.
fn first(connection: &Connection, states: &[RecipeState], limit: usize) -> rusqlite::Result<Vec<UnfinishedRecipe>> {
    let mut problems = Vec::new();
    for &state in states {
        let query = "SELECT granule, reason FROM recipe WHERE listed = 1 AND state = ?1
                     AND (reason IS NOT NULL OR state != 0) ORDER BY due, number LIMIT ?2";
        let mut statement = connection.prepare_cached(query)?;
        let rows = statement.query_map(params![state as i64, (limit - problems.len()) as i64], |row| {
            let reason: Option<String> = row.get(1)?;
            Ok(UnfinishedRecipe { granule: row.get(0)?, state, reason: reason.unwrap_or_default() })
        })?;
        let rows: Vec<UnfinishedRecipe> = rows.collect::<Result<_, _>>()?;
        problems.extend(rows);
    }
    Ok(problems)
}

fn granule(connection: &Connection, number: i64) -> rusqlite::Result<Granule> {
    let settled = connection.query_row(&format!("{SETTLED} WHERE number = ?1"), [number], settled)?;
    let query = "SELECT due, alone, body.recipe FROM recipe JOIN body USING (number) WHERE number = ?1";
    let (due, alone, recipe) =
        connection.query_row(query, [number], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
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
