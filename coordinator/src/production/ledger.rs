//! The ledger: every recipe of a production with its state, and every attempt at it, in one SQLite file.
//!
//! Recipes and states live here and not in memory, so that a coordinator with a million recipes stays small, and one
//! that is killed at any instant goes on where it was. What is told to the ledger in one call is one transaction:
//! messages are acknowledged only when the call has returned.

use super::retries::{Policy, Standing, Verdict};
use edp_protocol::message::FailureKind;
use edp_protocol::recipe::Recipe;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Layout of the file, raised when it changes.
const LAYOUT: i32 = 1;

const TABLES: &str = "
CREATE TABLE recipe (
    number   INTEGER PRIMARY KEY,       -- order of sending
    id       TEXT NOT NULL UNIQUE,
    granule  TEXT NOT NULL,
    recipe   BLOB NOT NULL,             -- JSON, keys in the recipe's order
    listed   INTEGER NOT NULL,          -- whether the present task list has it
    state    INTEGER NOT NULL,          -- see State
    due      INTEGER NOT NULL,          -- ms since 1970: waiting: when to send; under way: end of the lease
    attempt  INTEGER NOT NULL DEFAULT 0,-- of the last order sent
    failures INTEGER NOT NULL DEFAULT 0,-- transient ones
    alone    INTEGER NOT NULL DEFAULT 0,-- whether it is to run alone in its worker
    already  INTEGER NOT NULL DEFAULT 0,-- whether the granule stood there before
    bytes    INTEGER NOT NULL DEFAULT 0,
    sha256   TEXT NOT NULL DEFAULT '',
    seconds  REAL NOT NULL DEFAULT 0,
    reason   TEXT,
    warnings TEXT
) STRICT;
CREATE INDEX by_state ON recipe (listed, state, due, number);
CREATE TABLE attempt (
    number   INTEGER NOT NULL REFERENCES recipe,
    attempt  INTEGER NOT NULL,
    worker   TEXT NOT NULL,
    started  INTEGER NOT NULL,          -- ms since 1970
    ended    INTEGER,                   -- none while it runs, or if the worker was lost
    outcome  TEXT,
    PRIMARY KEY (number, attempt, worker)
) STRICT, WITHOUT ROWID;
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

/// Where a recipe stands. The numbers are those of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// To be sent when it is due.
    Waiting = 0,
    /// In the queue or with a worker, until its lease ends.
    UnderWay = 1,
    /// The granule stands at its destination.
    Done = 2,
    /// Outputs have no input yet.
    Held = 3,
    /// It will not be made, for a reason.
    Failed = 4,
    /// Something else stands under its name.
    Conflict = 5,
}

impl State {
    /// All of them.
    pub const ALL: [State; 6] =
        [State::Waiting, State::UnderWay, State::Done, State::Held, State::Failed, State::Conflict];

    /// Whether nothing more is going to happen.
    pub fn is_settled(self) -> bool {
        !matches!(self, State::Waiting | State::UnderWay)
    }

    fn of(number: i64) -> State {
        State::ALL.into_iter().find(|state| *state as i64 == number).unwrap_or(State::Waiting)
    }
}

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another coordinator has it.
    #[error("ledger {path}: another coordinator of this production is at work on it; wait for its end or stop it")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It was written by another release.
    #[error(
        "ledger {path}: has layout {found}, this program knows {LAYOUT}: use the release that wrote it, or move it away"
    )]
    Layout {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: i32,
    },
    /// It belongs to another production.
    #[error("ledger {path}: belongs to production '{found}', not '{wanted}': name another file by --ledger")]
    Production {
        /// The file.
        path: PathBuf,
        /// Its production.
        found: String,
        /// Ours.
        wanted: String,
    },
    /// The lock beside it cannot be taken.
    #[error("ledger {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// SQLite refuses something.
    #[error("ledger {path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: rusqlite::Error,
    },
    /// A recipe cannot be written as JSON, or read.
    #[error("ledger: recipe {granule}: {source}")]
    Recipe {
        /// The granule.
        granule: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// A recipe that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Its number.
    pub number: i64,
    /// Its id.
    pub id: String,
    /// Its JSON.
    pub recipe: Vec<u8>,
    /// The attempt that is to be sent, from 1.
    pub attempt: u32,
    /// Whether it is to run alone.
    pub alone: bool,
}

/// Something to be written down.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The broker has confirmed an order.
    Sent {
        /// The recipe's number.
        number: i64,
        /// The order's attempt.
        attempt: u32,
    },
    /// A worker begins.
    Started {
        /// The recipe's id.
        id: String,
        /// The order's attempt.
        attempt: u32,
        /// The worker.
        worker: String,
    },
    /// A worker has ended.
    Ended {
        /// The recipe's id.
        id: String,
        /// The order's attempt.
        attempt: u32,
        /// The worker.
        worker: String,
        /// How.
        result: Result<Made, (FailureKind, String)>,
    },
}

/// A granule that stands at its destination.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Made {
    /// Whether it stood there before.
    pub already: bool,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal; empty if unknown.
    pub sha256: String,
    /// Seconds that it took.
    pub seconds: f64,
    /// What is odd about it.
    pub warnings: Vec<String>,
}

/// A recipe that came to its end, or came back from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The granule.
    pub granule: String,
    /// The recipe's id.
    pub id: String,
    /// Where it stands.
    pub state: State,
    /// Why, unless it is done.
    pub reason: Option<String>,
    /// Attempts sent.
    pub attempts: u32,
    /// What was made.
    pub made: Made,
}

/// How many recipes of the present list are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([u64; State::ALL.len()]);

impl Counts {
    /// How many are in a state.
    pub fn of(&self, state: State) -> u64 {
        self.0[state as usize]
    }

    /// How many there are.
    pub fn all(&self) -> u64 {
        self.0.iter().sum()
    }

    /// How many are settled.
    pub fn settled(&self) -> u64 {
        State::ALL.into_iter().filter(|state| state.is_settled()).map(|state| self.of(state)).sum()
    }
}

/// The ledger of one production.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    connection: Connection,
    policy: Policy,
    /// Held as long as the ledger is open; the system releases it when the process ends, however it ends.
    _lock: Option<File>,
}

/// Milliseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

impl Ledger {
    /// A ledger in memory, for productions within one process.
    ///
    /// # Errors
    /// SQLite cannot be used.
    pub fn in_memory(production: &str, policy: Policy) -> Result<Ledger, LedgerError> {
        let path = PathBuf::from(":memory:");
        let connection = Connection::open_in_memory().map_err(|source| sqlite(&path, source))?;
        Ledger { path, connection, policy, _lock: None }.begin(production)
    }

    /// Opens the ledger of a production, or begins it. Only one process can have it at a time.
    ///
    /// # Errors
    /// It is in use, belongs to another production, or is no ledger.
    pub fn open(path: &Path, production: &str, policy: Policy) -> Result<Ledger, LedgerError> {
        let io = |source| LedgerError::Io { path: path.into(), source };
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&beside).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerError::InUse { path: path.into() }),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let fail = |source| sqlite(path, source);
        let connection = Connection::open(path).map_err(fail)?;
        connection.busy_timeout(Duration::from_secs(30)).map_err(fail)?;
        // Write-ahead logs need memory that processes share, which network file systems have not.
        let journal = if is_remote(path).map_err(io)? { "DELETE" } else { "WAL" };
        if journal == "DELETE" {
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(fail)?;
        }
        connection.pragma_update(None, "journal_mode", journal).map_err(fail)?;
        // A transaction that has returned survives a loss of power.
        connection.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
        Ledger { path: path.into(), connection, policy, _lock: Some(lock) }.begin(production)
    }

    fn begin(mut self, production: &str) -> Result<Ledger, LedgerError> {
        let path = self.path.clone();
        let fail = |source| sqlite(&path, source);
        let transaction = self.connection.transaction().map_err(fail)?;
        let found: i32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
        match found {
            0 => {
                transaction.execute_batch(TABLES).map_err(fail)?;
                transaction.pragma_update(None, "user_version", LAYOUT).map_err(fail)?;
                transaction.execute("INSERT INTO fact VALUES ('production', ?1)", [production]).map_err(fail)?;
            }
            LAYOUT => {}
            _ => return Err(LedgerError::Layout { path, found }),
        }
        transaction.commit().map_err(fail)?;
        let found = self.fact("production")?.unwrap_or_default();
        if found != production {
            return Err(LedgerError::Production { path, found, wanted: production.into() });
        }
        Ok(self)
    }

    fn fail(&self, source: rusqlite::Error) -> LedgerError {
        sqlite(&self.path, source)
    }

    /// A fact about the production.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn fact(&self, name: &str) -> Result<Option<String>, LedgerError> {
        let query = "SELECT value FROM fact WHERE name = ?1";
        self.connection.query_row(query, [name], |row| row.get(0)).optional().map_err(|e| self.fail(e))
    }

    /// Writes a fact down unless it is there; gives what is there then.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn fix_fact(&mut self, name: &str, value: &str) -> Result<String, LedgerError> {
        let insert = "INSERT INTO fact VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        self.connection.execute(insert, [name, value]).map_err(|e| self.fail(e))?;
        Ok(self.fact(name)?.unwrap_or_default())
    }

    /// Makes `recipes` the present list. What is known of them stays; new ones wait to be sent, or are held. Failed
    /// ones stay failed until [`Ledger::retry`].
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn list(&mut self, recipes: &[Recipe]) -> Result<(), LedgerError> {
        self.enter(recipes, |transaction| transaction.execute("UPDATE recipe SET listed = 0", []).map(drop))
    }

    /// Adds `recipes` to the present list.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn add(&mut self, recipes: &[Recipe]) -> Result<(), LedgerError> {
        self.enter(recipes, |_| Ok(()))
    }

    fn enter(
        &mut self,
        recipes: &[Recipe],
        prepare: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), LedgerError> {
        let path = self.path.clone();
        let fail = |source| sqlite(&path, source);
        let transaction = self.connection.transaction().map_err(fail)?;
        prepare(&transaction).map_err(fail)?;
        {
            // The roots are no part of the id, so a list may put a known recipe elsewhere.
            let mut insert = transaction
                .prepare(
                    "INSERT INTO recipe (id, granule, recipe, listed, state, due, reason) VALUES (?1, ?2, ?3, 1, ?4, 0, ?5)
                     ON CONFLICT (id) DO UPDATE SET listed = 1, recipe = excluded.recipe,
                     state = CASE WHEN granule = excluded.granule THEN state ELSE excluded.state END,
                     granule = excluded.granule",
                )
                .map_err(fail)?;
            for recipe in recipes {
                let Some(plan) = &recipe.recipe else { continue };
                let json = serde_json::to_vec(recipe)
                    .map_err(|source| LedgerError::Recipe { granule: recipe.granule.clone(), source })?;
                let (state, reason) = if plan.is_held() {
                    let missing = plan.missing.join(", ");
                    (State::Held, Some(format!("no input for {missing}; plan with --allow-partial to make it without")))
                } else {
                    (State::Waiting, None)
                };
                insert.execute(params![plan.id, recipe.granule, json, state as i64, reason]).map_err(fail)?;
            }
        }
        transaction.commit().map_err(fail)
    }

    /// The present list, in order.
    ///
    /// # Errors
    /// The ledger cannot be read, or holds what is no recipe.
    pub fn recipes(&self) -> Result<Vec<Recipe>, LedgerError> {
        let read = || {
            let query = "SELECT granule, recipe FROM recipe WHERE listed = 1 ORDER BY number";
            let mut statement = self.connection.prepare(query)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<Vec<(String, Vec<u8>)>, _>>()
        };
        let recipe = |(granule, json): (String, Vec<u8>)| {
            serde_json::from_slice(&json).map_err(|source| LedgerError::Recipe { granule, source })
        };
        read().map_err(|e| self.fail(e))?.into_iter().map(recipe).collect()
    }

    /// Up to `limit` recipes to be sent now, in the order of the list.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn due(&self, now: i64, limit: usize) -> Result<Vec<Due>, LedgerError> {
        let query = "SELECT number, id, recipe, attempt + 1, alone FROM recipe
                     WHERE listed = 1 AND state = 0 AND due <= ?1 ORDER BY due, number LIMIT ?2";
        let read = || {
            let mut statement = self.connection.prepare_cached(query)?;
            let rows = statement.query_map(params![now, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
                Ok(Due {
                    number: row.get(0)?,
                    id: row.get(1)?,
                    recipe: row.get(2)?,
                    attempt: row.get(3)?,
                    alone: row.get(4)?,
                })
            })?;
            rows.collect::<Result<_, _>>()
        };
        read().map_err(|e| self.fail(e))
    }

    /// When the next recipe is due, or the next lease ends, in milliseconds since 1970; none if nothing is open.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn next(&self) -> Result<Option<i64>, LedgerError> {
        // Each half reads one entry of the index, however many there are.
        let query = "SELECT min(due) FROM (SELECT min(due) AS due FROM recipe WHERE listed = 1 AND state = 0 UNION ALL
                     SELECT min(due) FROM recipe WHERE listed = 1 AND state = 1)";
        self.connection.query_row(query, [], |row| row.get(0)).map_err(|e| self.fail(e))
    }

    /// How many recipes are in the queue or with workers.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn under_way(&self) -> Result<usize, LedgerError> {
        let query = "SELECT count(*) FROM recipe WHERE listed = 1 AND state = 1";
        let count: i64 = self.connection.query_row(query, [], |row| row.get(0)).map_err(|e| self.fail(e))?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    /// How many recipes are in which state.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn counts(&self) -> Result<Counts, LedgerError> {
        let read = || {
            let query = "SELECT state, count(*) FROM recipe WHERE listed = 1 GROUP BY state";
            let mut statement = self.connection.prepare_cached(query)?;
            let mut counts = Counts::default();
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                counts.0[State::of(row.get(0)?) as usize] += row.get::<_, i64>(1)?.unsigned_abs();
            }
            Ok(counts)
        };
        read().map_err(|e| self.fail(e))
    }

    /// Writes down what happened, all or nothing, and says what came to its end by it.
    ///
    /// # Errors
    /// The ledger cannot be written; nothing is then.
    pub fn write(&mut self, events: &[Event], now: i64) -> Result<Vec<Settled>, LedgerError> {
        let (path, policy) = (self.path.clone(), self.policy);
        let fail = |source| sqlite(&path, source);
        let transaction = self.connection.transaction().map_err(fail)?;
        let mut settled = Vec::new();
        for event in events {
            settled.extend(write_one(&transaction, &policy, event, now).map_err(fail)?);
        }
        transaction.commit().map_err(fail)?;
        Ok(settled)
    }

    /// Ends the leases that are over: their recipes are sent again, or fail if they lost too many workers.
    /// With `queued`, those that no worker has begun get another lease: they wait in a queue that is there.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn expire(&mut self, now: i64, queued: bool) -> Result<Vec<Settled>, LedgerError> {
        let (path, policy) = (self.path.clone(), self.policy);
        let fail = |source| sqlite(&path, source);
        let transaction = self.connection.transaction().map_err(fail)?;
        if queued {
            let prolong = "UPDATE recipe SET due = ?1 WHERE listed = 1 AND state = 1 AND due <= ?2 AND NOT EXISTS
                           (SELECT 1 FROM attempt WHERE attempt.number = recipe.number AND attempt.attempt = recipe.attempt)";
            transaction.execute(prolong, params![now + millis(policy.lease), now]).map_err(fail)?;
        }
        let over: Vec<i64> = {
            let query = "SELECT number FROM recipe WHERE listed = 1 AND state = 1 AND due <= ?1 LIMIT 1000";
            let mut statement = transaction.prepare_cached(query).map_err(fail)?;
            let rows = statement.query_map([now], |row| row.get(0)).map_err(fail)?;
            rows.collect::<Result<_, _>>().map_err(fail)?
        };
        let mut settled = Vec::new();
        for number in over {
            let Some(recipe) = Known::find(&transaction, Key::Number(number)).map_err(fail)? else { continue };
            let standing = recipe.standing(&transaction).map_err(fail)?;
            settled.extend(recipe.follow(&transaction, policy.after_loss(&standing), now).map_err(fail)?);
        }
        transaction.commit().map_err(fail)?;
        Ok(settled)
    }

    /// Puts recipes back to the beginning: those in a state, or one by its granule or id. Gives how many.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn retry(&mut self, state: State) -> Result<usize, LedgerError> {
        let reset = "UPDATE recipe SET state = 0, due = 0, failures = 0, alone = 0, reason = NULL
                     WHERE listed = 1 AND state = ?1";
        self.connection.execute(reset, [state as i64]).map_err(|e| self.fail(e))
    }

    /// Puts one recipe back to the beginning, by its id: its granule is not where it should be.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn reopen(&mut self, id: &str) -> Result<(), LedgerError> {
        let reset = "UPDATE recipe SET state = 0, due = 0, failures = 0, reason = NULL WHERE id = ?1";
        self.connection.execute(reset, [id]).map(drop).map_err(|e| self.fail(e))
    }

    /// Every recipe of the present list that stands in one of `states`, in the order of the list, one by one.
    ///
    /// # Errors
    /// The ledger cannot be read, or `each` fails.
    pub fn each<E: From<LedgerError>>(
        &self,
        states: &[State],
        mut each: impl FnMut(Settled) -> Result<(), E>,
    ) -> Result<(), E> {
        let fail = |source| E::from(self.fail(source));
        let query = "SELECT granule, id, state, reason, attempt, already, bytes, sha256, seconds, warnings FROM recipe
                     WHERE listed = 1 ORDER BY number";
        let mut statement = self.connection.prepare(query).map_err(fail)?;
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

fn sqlite(path: &Path, source: rusqlite::Error) -> LedgerError {
    LedgerError::Sqlite { path: path.into(), source }
}

fn settled(row: &rusqlite::Row<'_>) -> rusqlite::Result<Settled> {
    let warnings: Option<String> = row.get(9)?;
    Ok(Settled {
        granule: row.get(0)?,
        id: row.get(1)?,
        state: State::of(row.get(2)?),
        reason: row.get(3)?,
        attempts: row.get(4)?,
        made: Made {
            already: row.get(5)?,
            bytes: row.get::<_, i64>(6)?.unsigned_abs(),
            sha256: row.get(7)?,
            seconds: row.get(8)?,
            warnings: warnings.map(|text| text.lines().map(str::to_owned).collect()).unwrap_or_default(),
        },
    })
}

/// Whether a file lies on a file system of another machine.
fn is_remote(path: &Path) -> std::io::Result<bool> {
    /// NFS, SMB, CIFS, AFS, Ceph, Lustre, GPFS, FUSE, 9P, BeeGFS: by the numbers of Linux's `statfs`.
    const REMOTE: [i64; 11] = [
        0x6969,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x5346_414f,
        0x00c3_6400,
        0x0bd0_0bd0,
        0x4750_4653,
        0x6573_5546,
        0x0102_1997,
        0x1983_0326,
    ];
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let kind = rustix::fs::statfs(directory)?.f_type;
    #[allow(clippy::useless_conversion)] // its type differs between platforms
    Ok(i64::try_from(kind).is_ok_and(|kind| REMOTE.contains(&(kind & 0xffff_ffff))))
}

/// What a recipe is found by.
enum Key<'a> {
    Number(i64),
    Id(&'a str),
}

/// A recipe as the ledger has it.
struct Known {
    number: i64,
    state: State,
    attempt: u32,
    failures: u32,
}

impl Known {
    fn find(transaction: &Transaction<'_>, key: Key<'_>) -> rusqlite::Result<Option<Known>> {
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Known {
                number: row.get(0)?,
                state: State::of(row.get(1)?),
                attempt: row.get(2)?,
                failures: row.get(3)?,
            })
        };
        const COLUMNS: &str = "SELECT number, state, attempt, failures FROM recipe WHERE ";
        match key {
            Key::Number(number) => {
                transaction.prepare_cached(&format!("{COLUMNS} number = ?1"))?.query_row([number], read).optional()
            }
            Key::Id(id) => transaction.prepare_cached(&format!("{COLUMNS} id = ?1"))?.query_row([id], read).optional(),
        }
    }

    /// What decides how it goes on.
    fn standing(&self, transaction: &Transaction<'_>) -> rusqlite::Result<Standing> {
        let query = "SELECT DISTINCT worker FROM attempt WHERE number = ?1 AND ended IS NULL";
        let mut statement = transaction.prepare_cached(query)?;
        let lost = statement.query_map([self.number], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(Standing { failures: self.failures, lost })
    }

    /// Does what the policy says.
    fn follow(&self, transaction: &Transaction<'_>, verdict: Verdict, now: i64) -> rusqlite::Result<Option<Settled>> {
        match verdict {
            Verdict::Again { wait, counts, alone } => {
                let update = "UPDATE recipe SET state = 0, due = ?1, failures = failures + ?2, alone = alone OR ?3
                              WHERE number = ?4";
                transaction.prepare_cached(update)?.execute(params![
                    now.saturating_add(millis(wait)),
                    counts,
                    alone,
                    self.number
                ])?;
                Ok(None)
            }
            Verdict::End { state, reason } => {
                let update = "UPDATE recipe SET state = ?1, reason = ?2 WHERE number = ?3";
                transaction.prepare_cached(update)?.execute(params![state as i64, reason, self.number])?;
                self.read(transaction).map(Some)
            }
        }
    }

    fn read(&self, transaction: &Transaction<'_>) -> rusqlite::Result<Settled> {
        let query = "SELECT granule, id, state, reason, attempt, already, bytes, sha256, seconds, warnings FROM recipe
                     WHERE number = ?1";
        transaction.prepare_cached(query)?.query_row([self.number], settled)
    }
}

fn write_one(
    transaction: &Transaction<'_>,
    policy: &Policy,
    event: &Event,
    now: i64,
) -> rusqlite::Result<Option<Settled>> {
    match event {
        Event::Sent { number, attempt } => {
            // An outcome may be here before the news that the order was sent.
            let update = "UPDATE recipe SET attempt = max(attempt, ?1), due = ?2, state = 1
                          WHERE number = ?3 AND state IN (0, 1) AND attempt < ?1";
            let lease = now.saturating_add(millis(policy.lease));
            transaction.prepare_cached(update)?.execute(params![attempt, lease, number])?;
            Ok(None)
        }
        Event::Started { id, attempt, worker } => {
            let Some(recipe) = Known::find(transaction, Key::Id(id))? else { return Ok(None) };
            let insert = "INSERT INTO attempt (number, attempt, worker, started) VALUES (?1, ?2, ?3, ?4)
                          ON CONFLICT DO NOTHING";
            transaction.prepare_cached(insert)?.execute(params![recipe.number, attempt, worker, now])?;
            if !recipe.state.is_settled() && *attempt >= recipe.attempt {
                let update = "UPDATE recipe SET state = 1, attempt = ?1, due = ?2 WHERE number = ?3";
                let lease = now.saturating_add(millis(policy.lease));
                transaction.prepare_cached(update)?.execute(params![attempt, lease, recipe.number])?;
            }
            Ok(None)
        }
        Event::Ended { id, attempt, worker, result } => {
            let Some(recipe) = Known::find(transaction, Key::Id(id))? else { return Ok(None) };
            let outcome = match result {
                Ok(_) => "done".to_owned(),
                Err((kind, reason)) => format!("{kind:?}: {reason}"),
            };
            let insert = "INSERT INTO attempt (number, attempt, worker, started, ended, outcome)
                          VALUES (?1, ?2, ?3, ?4, ?4, ?5)
                          ON CONFLICT DO UPDATE SET ended = excluded.ended, outcome = excluded.outcome";
            transaction.prepare_cached(insert)?.execute(params![recipe.number, attempt, worker, now, outcome])?;
            match result {
                Ok(made) => recipe.done(transaction, made),
                Err((kind, reason)) => {
                    // An older attempt says nothing about the one that is under way, unless it would end the same way.
                    let stale = *attempt < recipe.attempt && *kind != FailureKind::Permanent;
                    if recipe.state.is_settled() || stale {
                        return Ok(None);
                    }
                    let standing = recipe.standing(transaction)?;
                    recipe.follow(transaction, policy.after_failure(*kind, reason, &standing), now)
                }
            }
        }
    }
}

impl Known {
    /// The granule stands there, whatever was thought before.
    fn done(&self, transaction: &Transaction<'_>, made: &Made) -> rusqlite::Result<Option<Settled>> {
        if self.state == State::Done {
            return Ok(None);
        }
        let update = "UPDATE recipe SET state = 2, already = ?1, bytes = ?2, sha256 = ?3, seconds = ?4, reason = NULL,
                      warnings = ?5 WHERE number = ?6";
        let bytes = i64::try_from(made.bytes).unwrap_or(i64::MAX);
        let warnings = (!made.warnings.is_empty()).then(|| made.warnings.join("\n"));
        transaction.prepare_cached(update)?.execute(params![
            made.already,
            bytes,
            made.sha256,
            made.seconds,
            warnings,
            self.number
        ])?;
        self.read(transaction).map(Some)
    }
}
