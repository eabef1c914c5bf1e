//! The ledger: every recipe of a production with its state, and every attempt at it, in one SQLite file.
//!
//! Recipes and states are kept here and not in memory, so that a coordinator with a million recipes stays small, and
//! one that is killed at any instant goes on where it was. Everything that is passed in one call is written in one
//! transaction; messages are acknowledged only after the call has returned.
//!
//! One coordinator at a time has the ledger, by a lock on a file beside it. Other processes may read it meanwhile
//! ([`View`]) and reset recipes ([`Ledger::beside`]); SQLite keeps their transactions apart.

mod backlog;
mod body;
mod claims;
mod detail;
#[cfg(test)]
mod growth_tests;
#[cfg(test)]
mod layout_tests;
mod mount;
mod order;
#[cfg(test)]
mod random_tests;
mod reading;
mod recipe_row;
#[cfg(test)]
mod resend_tests;
pub mod retries;
mod schema;
mod state;
mod stragglers;
#[cfg(test)]
mod tests;
mod view;
mod writing;

pub(crate) use backlog::Backlog;
pub use claims::Claim;
pub use state::{Counts, Due, LedgerEvent, MadeGranule, RecipeState, Settled};
pub use view::{Attempt, DatasetProgress, Granule, Overview, UnfinishedRecipe, View, WorkerSeen};

use edp_files::regular;
use mount::{is_remote, local_locks};
use retries::Policy;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};
use rustix::io::Errno;
use schema::{LAYOUT, OLDEST};
use std::collections::{HashMap, HashSet};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Name of the fact that states why the production was given up.
pub(crate) const GIVEN_UP: &str = "given up";

/// Time for which a transaction waits for one of another process.
const BUSY: Duration = Duration::from_secs(30);

/// Number of prepared statements that are kept: more than a round needs.
const STATEMENTS: usize = 64;

/// The reason why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another coordinator has the ledger.
    #[error("ledger {path}: another coordinator of this production is at work on it; wait for its end or stop it")]
    InUse {
        /// Path of the file.
        path: PathBuf,
    },
    /// Another coordinator has the ledger under an exclusive lock, so that it cannot even be read.
    #[error(
        "ledger {path}: a coordinator is at work on it, and lies on a file system where nobody else can use it \
         meanwhile: read its copy below the destination (.edp/NAME.ledger), or wait for the coordinator's end"
    )]
    Exclusive {
        /// Path of the file.
        path: PathBuf,
    },
    /// A coordinator on another machine could use the ledger at the same time.
    #[error(
        "ledger {path}: {why}, so a coordinator on another node could use it at the same time: name a file on a disk of \
         this node by --ledger (copies of it are kept below the destination)"
    )]
    Unlocked {
        /// Path of the file.
        path: PathBuf,
        /// Description of what is wrong with the locks.
        why: String,
    },
    /// There is no ledger at this path.
    #[error("ledger {path}: {why}; name another by --ledger (`run` in one process keeps one only if asked)")]
    Absent {
        /// Path of the file.
        path: PathBuf,
        /// Description of what is there instead.
        why: String,
    },
    /// The ledger was written by another release.
    #[error(
        "ledger {path}: has layout {found}, this program knows {OLDEST} to {LAYOUT}: use the release that wrote it, or move it away"
    )]
    Layout {
        /// Path of the file.
        path: PathBuf,
        /// Number of its layout.
        found: i32,
    },
    /// The ledger belongs to another production.
    #[error("ledger {path}: belongs to production '{found}', not '{wanted}': name another file by --ledger")]
    Production {
        /// Path of the file.
        path: PathBuf,
        /// Name of its production.
        found: String,
        /// Name of the present production.
        wanted: String,
    },
    /// The ledger, or a file beside it, is a FIFO, a device or the like.
    #[error("ledger {path}: {source}; move it away, or name another ledger by --ledger")]
    NoFile {
        /// Path of the file.
        path: PathBuf,
        /// An error that says what it is.
        source: std::io::Error,
    },
    /// The file, the lock beside it or a copy of it cannot be used.
    #[error("ledger {path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// SQLite has returned an error.
    #[error("ledger {path}: {source}")]
    Sqlite {
        /// Path of the file.
        path: PathBuf,
        /// The error of SQLite.
        source: rusqlite::Error,
    },
    /// The recipe in the ledger cannot be parsed.
    #[error("ledger: recipe {granule}: {source}")]
    Recipe {
        /// Path or address of the granule.
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
    /// True if no other process can use the file meanwhile.
    exclusive: bool,
    /// Recipes that were returned for sending, by their numbers, with the attempt.
    offered: HashMap<i64, u32>,
    /// True if this is a copy from the destination, since the ledger itself was lost.
    pub(crate) is_copy: bool,
    /// Numbers of the recipes that were sent once more because their attempts were slow.
    sent_twice: HashSet<i64>,
    /// The lock, which the operating system releases when the process ends, however it ends.
    _lock: Option<File>,
}

/// Returns the time in milliseconds since 1970. It advances steadily from the clock's time at the first call, so that
/// leases are not affected if the clock is changed.
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
    /// Makes a ledger in memory, for productions within one process.
    ///
    /// # Errors
    /// Returns an error if SQLite cannot be used.
    pub fn in_memory(production: &str, policy: Policy) -> Result<Ledger, LedgerError> {
        let path = PathBuf::from(":memory:");
        let connection = Connection::open_in_memory().map_err(|source| sqlite(&path, source))?;
        Ledger {
            path,
            connection,
            policy,
            exclusive: true,
            offered: HashMap::new(),
            sent_twice: HashSet::new(),
            is_copy: false,
            _lock: None,
        }
        .begin(production, now())
    }

    /// Opens the ledger of a production, or makes it. Only one process can have it at a time.
    ///
    /// # Errors
    /// Returns an error if it is in use, belongs to another production, or is not a ledger.
    pub fn open(path: &Path, production: &str, policy: Policy) -> Result<Ledger, LedgerError> {
        Ledger::open_or_fetch(path, production, policy, |_| Ok(()))
    }

    /// Opens the ledger as [`Ledger::open`] does. If it does not exist, `fetch` may first put a copy at the path that
    /// it is given.
    ///
    /// # Errors
    /// Returns the errors of [`Ledger::open`] and of `fetch`.
    pub(crate) fn open_or_fetch(
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
        let ledger = Ledger {
            path: path.into(),
            connection,
            policy,
            exclusive,
            offered: HashMap::new(),
            sent_twice: HashSet::new(),
            is_copy: false,
            _lock: Some(lock),
        };
        ledger.begin(production, now())
    }

    /// Opens the ledger of a production for resetting recipes, even while a coordinator has it. Also returns true if a
    /// coordinator is at work on it; if none is, none can begin as long as this ledger is open.
    ///
    /// # Errors
    /// Returns an error if there is no ledger, or if it cannot be used together with its coordinator.
    pub fn beside(path: &Path) -> Result<(Ledger, bool), LedgerError> {
        View::open(path)?;
        let lock = lock(path)?;
        let at_work = lock.is_none();
        let exclusive = is_remote(path).map_err(|source| LedgerError::Io { path: path.into(), source })?;
        if at_work && exclusive {
            return Err(LedgerError::Exclusive { path: path.into() });
        }
        let fail = |source| sqlite(path, source);
        let connection = connect(path, exclusive).map_err(fail)?;
        let found = layout(&connection).map_err(fail)?;
        if !schema::read(&connection, found).map_err(fail)? {
            return Err(LedgerError::Layout { path: path.into(), found });
        }
        let (path, policy, offered) = (path.into(), Policy::default(), HashMap::new());
        Ok((
            Ledger {
                path,
                connection,
                policy,
                exclusive,
                offered,
                sent_twice: HashSet::new(),
                is_copy: false,
                _lock: lock,
            },
            at_work,
        ))
    }

    fn begin(mut self, production: &str, now: i64) -> Result<Ledger, LedgerError> {
        let (path, policy) = (self.path.clone(), self.policy);
        let fail = |source| sqlite(&path, source);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
        let found = layout(&transaction).map_err(fail)?;
        if !schema::make(&transaction, found).map_err(fail)? {
            return Err(LedgerError::Layout { path, found });
        }
        if found == 0 {
            let insert = "INSERT INTO fact VALUES ('production', ?1), ('begun', ?2)";
            transaction.execute(insert, [production, &now.to_string()]).map_err(fail)?;
        }
        // The ledger of another production keeps its layout too.
        let owner = fact(&transaction, "production").map_err(fail)?.unwrap_or_default();
        if owner != production {
            return Err(LedgerError::Production { path, found: owner, wanted: production.into() });
        }
        transaction.commit().map_err(fail)?;
        // Leases begin again: outcomes may be waiting in the queue, and the clock may have been changed, or be that of
        // another machine. No recipe waits for longer than it would after a failure just now.
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

    /// Path of the ledger's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true if no other process can use the file as long as this ledger is open, not even for reading.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Returns a fact about the production.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub fn fact(&self, name: &str) -> Result<Option<String>, LedgerError> {
        fact(&self.connection, name).map_err(|e| self.fail(e))
    }

    /// Records a fact unless it is recorded already. Returns the recorded value.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written.
    pub(crate) fn fix_fact(&mut self, name: &str, value: &str) -> Result<String, LedgerError> {
        let insert = "INSERT INTO fact VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        self.connection.execute(insert, [name, value]).map_err(|e| self.fail(e))?;
        Ok(self.fact(name)?.unwrap_or_default())
    }

    /// Records a fact, whatever its value was, or removes it.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written.
    pub(crate) fn set_fact(&mut self, name: &str, value: Option<&str>) -> Result<(), LedgerError> {
        let done = match value {
            None => self.connection.execute("DELETE FROM fact WHERE name = ?1", [name]),
            Some(value) => self.connection.execute("INSERT OR REPLACE INTO fact VALUES (?1, ?2)", [name, value]),
        };
        done.map(drop).map_err(|e| self.fail(e))
    }

    /// Moves everything into the file itself. Until then the latest part is in the write-ahead log beside it, and a
    /// program that copies the file alone loses that part.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written.
    pub fn gather(&mut self) -> Result<(), LedgerError> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(|e| self.fail(e))
    }

    /// Writes a consistent copy of the whole ledger to a file that does not exist yet.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read, or the copy cannot be written.
    pub fn copy(&self, to: &Path) -> Result<(), LedgerError> {
        copy(&self.connection, to).map_err(|e| self.fail(e))
    }
}

/// Takes the lock of a ledger. Returns `None` if another process has it.
///
/// # Errors
/// Returns an error if the lock cannot be had, or would not keep other machines away.
fn lock(path: &Path) -> Result<Option<File>, LedgerError> {
    let io = |source| LedgerError::Io { path: path.into(), source };
    let unlocked = |why: String| LedgerError::Unlocked { path: path.into(), why };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = Path::new(&beside);
    let lock = regular::open_or_create(beside).map_err(|source| unopened(beside, source))?;
    if let Some(option) = local_locks(beside).map_err(io)? {
        return Err(unlocked(format!("its file system is mounted with {option}: locks hold on this node only")));
    }
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => match Errno::from_io_error(&source) {
            Some(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => {
                Err(unlocked(format!("its file system has no locks ({source})")))
            }
            _ => Err(io(source)),
        },
    }
}

/// Returns the error of opening a file.
fn unopened(path: &Path, source: std::io::Error) -> LedgerError {
    let path = path.to_owned();
    match source.kind() {
        std::io::ErrorKind::InvalidInput => LedgerError::NoFile { path, source },
        _ => LedgerError::Io { path, source },
    }
}

/// Refuses a ledger that is not a regular file, or that has a FIFO or the like in place of a file that SQLite keeps
/// beside it: SQLite would wait for the process that opens its other end.
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

/// Opens the file for writing. Write-ahead logs need shared memory, which network file systems do not have: there the
/// file is `exclusive` to this process.
fn connect(path: &Path, exclusive: bool) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    if exclusive {
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    }
    connection.pragma_update(None, "journal_mode", if exclusive { "DELETE" } else { "WAL" })?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A transaction that has returned survives a power failure.
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// Returns the layout of a ledger; 0 if the file is new.
fn layout(connection: &Connection) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Returns a fact about the production.
fn fact(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM fact WHERE name = ?1", [name], |row| row.get(0)).optional()
}

fn copy(connection: &Connection, to: &Path) -> rusqlite::Result<()> {
    connection.execute("VACUUM INTO ?1", [to.to_string_lossy()]).map(drop)
}

fn sqlite(path: &Path, source: rusqlite::Error) -> LedgerError {
    LedgerError::Sqlite { path: path.into(), source }
}
