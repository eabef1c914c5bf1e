//! Copies of the ledger at the destination, `.edp/PRODUCTION.ledger`: where the granules survive, the states of their
//! recipes do too. An old copy does no harm, since the destination takes precedence over it.

use super::ledger::{LedgerError, View};
use super::ledger_handle::{LedgerHandle, LedgerHandleError};
use edp_files::ReadAt as _;
use edp_program::telemetry::metrics::metrics;
use edp_protocol::Location;
use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use edp_store::{StoreError, Stores};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Name of this project's directory below the destination's root.
pub const DIRECTORY: &str = ".edp";

/// A copy is made no sooner than this many times the duration of the last one.
const LEISURE: u32 = 20;

/// Largest copy that is fetched, in bytes.
const MAX_BYTES: u64 = 64 << 30;

/// Number of bytes that are read at once.
const BLOCK: usize = 1 << 20;

/// The place for copies of a production's ledger.
#[derive(Debug, Clone)]
pub struct Snapshots {
    stores: Stores,
    at: Location,
    /// Directory for an unfinished copy: beside its place, or a local one.
    scratch: PathBuf,
    production: String,
}

/// The reason why a copy was not made.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The ledger or its thread has failed.
    #[error(transparent)]
    LedgerHandle(#[from] LedgerHandleError),
    /// An operation on a local file has failed.
    #[error("{path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The store of the destination has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<LedgerError> for SnapshotError {
    fn from(error: LedgerError) -> SnapshotError {
        SnapshotError::LedgerHandle(error.into())
    }
}

impl Snapshots {
    /// Returns the place for copies of a production at its destination; `None` if that is not a location. Unfinished
    /// copies for S3 are in `scratch`.
    pub fn new(production: &str, destination: &str, stores: &Stores, scratch: &Path) -> Option<Snapshots> {
        let root: Location = destination.parse().ok()?;
        let at = root.join(&format!("{DIRECTORY}/{production}.ledger"));
        let scratch = at.local().ok().map_or(Some(scratch), Path::parent)?.to_owned();
        Some(Snapshots { stores: stores.clone(), at, scratch, production: production.into() })
    }

    /// Location of the copy.
    pub fn location(&self) -> &Location {
        &self.at
    }

    /// Writes the copy to `path`, if there is one of a production of this name that has at least one of these recipes.
    /// Returns true if it did.
    ///
    /// # Errors
    /// Returns an error if the copy exists but cannot be read, or if `path` cannot be written.
    pub fn fetch(&self, path: &Path, recipes: &[Recipe]) -> Result<bool, SnapshotError> {
        if self.stores.head(&self.at)?.is_none() {
            return Ok(false);
        }
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let io = |source| SnapshotError::Io { path: part.clone(), source };
        let from = self.stores.open(&self.at, None, MAX_BYTES)?;
        let mut to = File::create(&part).map_err(io)?;
        let (length, mut offset, mut block) = (from.length().map_err(io)?, 0, vec![0; BLOCK]);
        while offset < length {
            let size = usize::try_from(length - offset).map_or(BLOCK, |left| left.min(BLOCK));
            from.read_exact_at(&mut block[..size], offset).map_err(io)?;
            to.write_all(&block[..size]).map_err(io)?;
            offset += size as u64;
        }
        to.sync_all().map_err(io)?;
        let ids = recipes.iter().filter_map(|recipe| recipe.recipe.as_ref()).map(|plan| plan.id.as_str());
        let is_ours = View::open(&part)
            .and_then(|view| Ok(view.fact("production")?.as_deref() == Some(&self.production) && view.knows_any(ids)?));
        // A copy of another release, or a file that is not a ledger, counts as none.
        if is_ours.unwrap_or(false) {
            fs::rename(&part, path).map_err(io)?;
            return Ok(true);
        }
        fs::remove_file(&part).map_err(io)?;
        Ok(false)
    }

    /// Copies the ledger. Its own work goes on meanwhile, unless the file is exclusive to its process.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read or the copy cannot be written; the earlier copy stays.
    pub async fn take(&self, ledger: &LedgerHandle) -> Result<(), SnapshotError> {
        let (path, exclusive) = ledger.ask(|ledger| Ok((ledger.path().to_owned(), ledger.is_exclusive()))).await?;
        let part = self.scratch.join(format!(".{}.ledger.{}.part", self.production, std::process::id()));
        let io = |source| SnapshotError::Io { path: part.clone(), source };
        fs::create_dir_all(&self.scratch).map_err(io)?;
        self.sweep(&part).map_err(io)?;
        let to = part.clone();
        let copied = if exclusive {
            ledger.ask(move |ledger| ledger.copy(&to)).await.map_err(SnapshotError::from)
        } else {
            blocking(move || Ok(View::open(&path)?.copy(&to)?)).await
        };
        let (own, from) = (self.clone(), part.clone());
        let published = match copied {
            Ok(()) => blocking(move || own.publish(&from)).await,
            Err(error) => Err(error),
        };
        // It was renamed if all went well.
        let _ = fs::remove_file(&part);
        published
    }

    /// Removes what was left by coordinators that were killed while they copied; only this process' own in a directory
    /// that others may write to.
    fn sweep(&self, own: &Path) -> io::Result<()> {
        let start = format!(".{}.ledger.", self.production);
        for entry in fs::read_dir(&self.scratch)?.flatten() {
            let is_part =
                entry.file_name().to_string_lossy().strip_prefix(&start).is_some_and(|n| n.ends_with(".part"));
            if entry.path() == own || (is_part && !self.at.is_remote()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Gives a copy its name, in place of the earlier one.
    fn publish(&self, part: &Path) -> Result<(), SnapshotError> {
        // It is not a granule, which the text in place of a recipe's id says.
        Ok(self.stores.publish(part, &self.at, &format!("ledger:{}", self.production))?)
    }

    /// Copies the ledger, unless nothing was written into it since the last copy, which was made after `copied` changes: a large ledger is not copied again and again while a model is awaited.
    async fn refresh(&self, ledger: &LedgerHandle, copied: &mut Option<u64>) -> Result<(), SnapshotError> {
        let changes = ledger.ask(|ledger| Ok(ledger.changes())).await?;
        if *copied != Some(changes) {
            self.take(ledger).await?;
            *copied = Some(changes);
        }
        Ok(())
    }

    /// Copies the ledger regularly, until `stop` is cancelled, and then once more. Errors are logged and have no
    /// other consequence.
    pub async fn keep(self, ledger: LedgerHandle, every: Duration, stop: CancellationToken) {
        let (mut pause, mut copied) = (every, None);
        metrics().ledger_copied(&self.production);
        loop {
            let over = tokio::time::timeout(pause, stop.cancelled()).await.is_ok();
            let begun = Instant::now();
            match self.refresh(&ledger, &mut copied).await {
                Ok(()) => metrics().ledger_copied(&self.production),
                Err(error) => {
                    tracing::warn!(at = %self.at, error = %chain(&error), "the ledger was not copied to the destination");
                }
            }
            if over {
                return;
            }
            pause = every.max(begun.elapsed() * LEISURE);
        }
    }
}

/// Runs blocking work on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, SnapshotError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(SnapshotError::LedgerHandle(LedgerHandleError::Gone)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::ledger::Ledger;
    use super::super::ledger::retries::Policy;
    use super::*;
    use crate::fixture;
    use edp_protocol::GridKind;

    fn recipes() -> Vec<Recipe> {
        fixture::recipes(&[GridKind::Native])
    }

    #[tokio::test]
    async fn a_copy_is_made_replaced_and_fetched() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let recipes = recipes();
        let path = directory.path().join("p.ledger");
        let mut ledger = Ledger::open(&path, "p", Policy::default()).unwrap();
        ledger.list(&recipes).unwrap();
        let ledger = LedgerHandle::open(ledger).unwrap();
        let (root, nowhere) = (out.to_str().unwrap(), Path::new("/nowhere"));
        let of = |name: &str| Snapshots::new(name, root, &Stores::default(), nowhere).unwrap();
        let snapshots = of("p");
        let fetched = directory.path().join("fetched.ledger");
        assert!(!snapshots.fetch(&fetched, &recipes).unwrap());
        snapshots.take(&ledger).await.unwrap();
        ledger.ask(|ledger| ledger.set_fact("x", Some("y"))).await.unwrap();
        fs::write(out.join(".edp/.p.ledger.123456789.part"), "cut short").unwrap();
        snapshots.take(&ledger).await.unwrap();
        let names: Vec<_> = fs::read_dir(out.join(".edp")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["p.ledger"]);
        assert!(snapshots.fetch(&fetched, &recipes).unwrap());
        let ledger = Ledger::open(&fetched, "p", Policy::default()).unwrap();
        assert_eq!(ledger.fact("x").unwrap().as_deref(), Some("y"));
        assert_eq!(ledger.counts().unwrap().all(), 2);
        // A copy that has other recipes, is of another production, or is damaged, counts as none.
        let other = directory.path().join("other.ledger");
        assert!(!snapshots.fetch(&other, &recipes[..0]).unwrap());
        fs::rename(out.join(".edp/p.ledger"), out.join(".edp/q.ledger")).unwrap();
        assert!(!of("q").fetch(&other, &recipes).unwrap());
        fs::write(out.join(".edp/p.ledger"), "no ledger").unwrap();
        assert!(!snapshots.fetch(&other, &recipes).unwrap());
        assert!(!other.exists());
    }

    #[tokio::test]
    async fn a_ledger_that_has_not_changed_is_not_copied_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.ledger");
        let ledger = LedgerHandle::open(Ledger::open(&path, "p", Policy::default()).unwrap()).unwrap();
        let root = directory.path().to_str().unwrap();
        let snapshots = Snapshots::new("p", root, &Stores::default(), directory.path()).unwrap();
        let (copy, mut copied) = (directory.path().join(".edp/p.ledger"), None);
        for is_changed in [true, false, true, false] {
            if is_changed {
                ledger.ask(|ledger| ledger.set_fact("x", Some("y"))).await.unwrap();
            }
            snapshots.refresh(&ledger, &mut copied).await.unwrap();
            assert_eq!(copy.exists(), is_changed);
            let _ = fs::remove_file(&copy);
        }
    }

    #[tokio::test]
    async fn the_last_copy_is_made_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        let ledger = LedgerHandle::open(Ledger::in_memory("p", Policy::default()).unwrap()).unwrap();
        let snapshots = Snapshots::new("p", root, &Stores::default(), directory.path()).unwrap();
        let stop = CancellationToken::new();
        let keeping = tokio::spawn(snapshots.keep(ledger, Duration::from_secs(3600), stop.clone()));
        stop.cancel();
        keeping.await.unwrap();
        assert!(View::open(&directory.path().join(".edp/p.ledger")).is_ok());
    }
}
