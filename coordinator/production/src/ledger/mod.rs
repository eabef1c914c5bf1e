//! The ledger: every recipe of a production with its state, and every attempt at it, in one SQLite file.
//!
//! Recipes and states live here and not in memory, so that a coordinator with a million recipes stays small, and one
//! that is killed at any instant goes on where it was. What is told to the ledger in one call is one transaction:
//! messages are acknowledged only when the call has returned.
//!
//! One coordinator at a time has it, by a lock on a file beside it. Others may read it meanwhile ([`View`]), and put
//! recipes back to the beginning ([`Ledger::beside`]); SQLite keeps their transactions apart.

mod claims;
mod detail;
#[cfg(test)]
mod random_tests;
mod reading;
mod recipe_row;
#[cfg(test)]
mod resend_tests;
mod schema;
mod state;
#[cfg(test)]
mod tests;
mod view;
mod writing;

pub use claims::Claim;
pub use state::{Counts, Due, LedgerEvent, MadeGranule, RecipeState, Settled};
pub use view::{Attempt, DatasetProgress, Granule, Overview, UnfinishedRecipe, View, WorkerSeen};

use super::retries::Policy;
use edp_files::regular;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};
use schema::{LAYOUT, TABLES, is_remote};
use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Fact: why the production was given up.
pub const GIVEN_UP: &str = "given up";

/// How long a transaction waits for one of another process.
const BUSY: Duration = Duration::from_secs(30);

/// Statements that are kept ready: more than there are in a round.
const STATEMENTS: usize = 64;

/// The reason why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another coordinator has it.
    #[error("ledger {path}: another coordinator of this production is at work on it; wait for its end or stop it")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Another coordinator has it under an exclusive lock, so that it cannot even be read.
    #[error(
        "ledger {path}: a coordinator is at work on it, and lies on a file system where nobody else can use it \
         meanwhile: read its copy below the destination (.edp/NAME.ledger), or wait for the coordinator's end"
    )]
    Exclusive {
        /// The file.
        path: PathBuf,
    },
    /// There is none.
    #[error("ledger {path}: {why}; name another by --ledger (`run` in one process keeps one only if asked)")]
    Absent {
        /// The file.
        path: PathBuf,
        /// What is there instead.
        why: String,
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
    /// It, or what is kept beside it, is a FIFO, a device or the like.
    #[error("ledger {path}: {source}; move it away, or name another ledger by --ledger")]
    NoFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        source: std::io::Error,
    },
    /// The file, the lock beside it or a copy of it cannot be used.
    #[error("ledger {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
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
    /// What it has of a recipe is none.
    #[error("ledger: recipe {granule}: {source}")]
    Recipe {
        /// The granule.
        granule: String,
        /// Description of the problem.
        source: serde_json::Error,
    },
}

/// The ledger of one production.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    connection: Connection,
    policy: Policy,
    /// Whether no other process can use the file meanwhile.
    exclusive: bool,
    /// Recipes that were given out to be sent, by their numbers, with the attempt.
    offered: HashMap<i64, u32>,
    /// Held as long as the ledger is open; the system releases it when the process ends, however it ends.
    _lock: Option<File>,
}

/// Milliseconds since 1970. Goes on steadily from what the clock said when it was first asked for: leases do not end
/// because the clock was set back.
pub fn now() -> i64 {
    static BEGIN: OnceLock<(Instant, Duration)> = OnceLock::new();
    let (begin, clock) =
        BEGIN.get_or_init(|| (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()));
    millis(clock.saturating_add(begin.elapsed()))
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
        Ledger { path, connection, policy, exclusive: true, offered: HashMap::new(), _lock: None }
            .begin(production, now())
    }

    /// Opens the ledger of a production, or begins it. Only one process can have it at a time.
    ///
    /// # Errors
    /// It is in use, belongs to another production, or is not a ledger.
    pub fn open(path: &Path, production: &str, policy: Policy) -> Result<Ledger, LedgerError> {
        Ledger::open_or_fetch(path, production, policy, |_| Ok(()))
    }

    /// The same; where there is none yet, `fetch` may first put a copy to the path that it is given.
    ///
    /// # Errors
    /// Those of [`Ledger::open`] and of `fetch`.
    pub fn open_or_fetch(
        path: &Path,
        production: &str,
        policy: Policy,
        fetch: impl FnOnce(&Path) -> Result<(), LedgerError>,
    ) -> Result<Ledger, LedgerError> {
        let io = |source| LedgerError::Io { path: path.into(), source };
        let lock = lock(path)?.ok_or_else(|| LedgerError::InUse { path: path.into() })?;
        let exclusive = is_remote(path).map_err(io)?;
        if !path.try_exists().map_err(io)? {
            fetch(path)?;
        }
        check_files(path)?;
        let connection = connect(path, exclusive).map_err(|source| sqlite(path, source))?;
        let ledger =
            Ledger { path: path.into(), connection, policy, exclusive, offered: HashMap::new(), _lock: Some(lock) };
        ledger.begin(production, now())
    }

    /// The ledger of a production beside its coordinator, for putting recipes back. Also says whether a coordinator
    /// is at work on it; if none is, none can begin meanwhile.
    ///
    /// # Errors
    /// There is none, or it cannot be used beside another.
    pub fn beside(path: &Path) -> Result<(Ledger, bool), LedgerError> {
        View::open(path)?;
        let lock = lock(path)?;
        let at_work = lock.is_none();
        let exclusive = is_remote(path).map_err(|source| LedgerError::Io { path: path.into(), source })?;
        if at_work && exclusive {
            return Err(LedgerError::Exclusive { path: path.into() });
        }
        let connection = connect(path, exclusive).map_err(|source| sqlite(path, source))?;
        let (path, policy, offered) = (path.into(), Policy::default(), HashMap::new());
        Ok((Ledger { path, connection, policy, exclusive, offered, _lock: lock }, at_work))
    }

    fn begin(mut self, production: &str, now: i64) -> Result<Ledger, LedgerError> {
        let (path, policy) = (self.path.clone(), self.policy);
        let fail = |source| sqlite(&path, source);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
        let found: i32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
        match found {
            0 => {
                transaction.execute_batch(TABLES).map_err(fail)?;
                transaction.pragma_update(None, "user_version", LAYOUT).map_err(fail)?;
                let insert = "INSERT INTO fact VALUES ('production', ?1), ('begun', ?2)";
                transaction.execute(insert, [production, &now.to_string()]).map_err(fail)?;
            }
            LAYOUT => {}
            _ => return Err(LedgerError::Layout { path, found }),
        }
        transaction.commit().map_err(fail)?;
        let found = self.fact("production")?.unwrap_or_default();
        if found != production {
            return Err(LedgerError::Production { path, found, wanted: production.into() });
        }
        // Leases begin anew: outcomes may be waiting in the queue, and the clock may have been set, or be another
        // machine's. Nothing waits for longer than it would have to if it had failed just now.
        let lease = now.saturating_add(millis(policy.lease));
        let wait = now.saturating_add(millis(policy.longest_wait).saturating_mul(2));
        let leases = "UPDATE recipe SET due = ?1 WHERE listed = 1 AND state = 1";
        self.connection.execute(leases, [lease]).map_err(fail)?;
        let waits = "UPDATE recipe SET due = ?1 WHERE listed = 1 AND state = 0 AND due > ?1";
        self.connection.execute(waits, [wait]).map_err(fail)?;
        Ok(self)
    }

    fn fail(&self, source: rusqlite::Error) -> LedgerError {
        sqlite(&self.path, source)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether no other process can use the file as long as this ledger is open, not even for reading.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
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

    /// Writes a fact down, whatever was there; or takes it away.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn set_fact(&mut self, name: &str, value: Option<&str>) -> Result<(), LedgerError> {
        let done = match value {
            None => self.connection.execute("DELETE FROM fact WHERE name = ?1", [name]),
            Some(value) => self.connection.execute("INSERT OR REPLACE INTO fact VALUES (?1, ?2)", [name, value]),
        };
        done.map(drop).map_err(|e| self.fail(e))
    }

    /// Puts everything into the file itself: until then the last part is in the write-ahead log beside it, and a
    /// program that takes the file alone elsewhere loses that.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn gather(&mut self) -> Result<(), LedgerError> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(|e| self.fail(e))
    }

    /// Writes a consistent copy of the whole to a file that is not there yet.
    ///
    /// # Errors
    /// The ledger cannot be read, or the copy not be written.
    pub fn copy(&self, to: &Path) -> Result<(), LedgerError> {
        copy(&self.connection, to).map_err(|e| self.fail(e))
    }
}

/// Takes the lock of a ledger; none if another process has it.
fn lock(path: &Path) -> Result<Option<File>, LedgerError> {
    let io = |source| LedgerError::Io { path: path.into(), source };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = Path::new(&beside);
    let lock = regular::open_or_create(beside).map_err(|source| unopened(beside, source))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// The reason why a file cannot be opened.
fn unopened(path: &Path, source: std::io::Error) -> LedgerError {
    let path = path.to_owned();
    match source.kind() {
        std::io::ErrorKind::InvalidInput => LedgerError::NoFile { path, source },
        _ => LedgerError::Io { path, source },
    }
}

/// Refuses a ledger that is not a regular file, or has a FIFO or the like in the place of a file that SQLite keeps
/// beside it: SQLite would wait for the process that opens the other end.
fn check_files(path: &Path) -> Result<(), LedgerError> {
    for end in ["", "-journal", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(end);
        let file = PathBuf::from(file);
        match std::fs::metadata(&file).and_then(|found| regular::check(&found)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            checked => checked.map_err(|source| unopened(&file, source))?,
        }
    }
    Ok(())
}

/// Opens the file for writing. Write-ahead logs need memory that processes share, which network file systems have not:
/// there the file is `exclusive` to this process.
fn connect(path: &Path, exclusive: bool) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    if exclusive {
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    }
    connection.pragma_update(None, "journal_mode", if exclusive { "DELETE" } else { "WAL" })?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A transaction that has returned survives a loss of power.
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

fn copy(connection: &Connection, to: &Path) -> rusqlite::Result<()> {
    connection.execute("VACUUM INTO ?1", [to.to_string_lossy()]).map(drop)
}

fn sqlite(path: &Path, source: rusqlite::Error) -> LedgerError {
    LedgerError::Sqlite { path: path.into(), source }
}
