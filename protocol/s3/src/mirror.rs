//! Copies of resources on the local disk, for code that needs paths.

use super::folder;
use super::link::SharedClient;
use super::read::PART;
use edp_files::regular;
use edp_protocol::ObjectAddress;
use edp_store::{Copied, Object, S3Error};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Largest size of all copies of a process together, in bytes: 8 GiB.
const MAX_BYTES: u64 = 8 << 30;

/// Largest number of files of one copy.
const MAX_FILES: usize = 100_000;

/// Number of parts of objects that are read at once.
const AT_ONCE: usize = 8;

/// Beginning of the names of directories with copies.
const NAME: &str = "edp-copies-";

/// A copy, or `None` before it is made. It is locked while it is made.
type CopySlot = Arc<Mutex<Option<Arc<Copy>>>>;

/// All copies of a process.
#[derive(Debug)]
pub(super) struct Mirrors {
    scratch: PathBuf,
    slots: Mutex<BTreeMap<[String; 2], CopySlot>>,
    made: Arc<Mutex<CopiesMade>>,
}

/// A copy on the disk. It is removed when `Mirrors` has forgotten it and no user has it any more.
#[derive(Debug)]
pub(super) struct Copy {
    /// Path of the copy, in a directory of its own.
    path: PathBuf,
    directory: PathBuf,
    bytes: u64,
    made: Arc<Mutex<CopiesMade>>,
}

impl Copied for Copy {
    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
        let mut made = lock(&self.made);
        made.bytes = made.bytes.saturating_sub(self.bytes);
    }
}

#[derive(Debug, Default)]
struct CopiesMade {
    directory: Option<Directory>,
    copies: u64,
    bytes: u64,
}

impl Mirrors {
    pub(super) fn new(scratch: Option<&Path>) -> Mirrors {
        let scratch = scratch.map_or_else(std::env::temp_dir, Path::to_owned);
        Mirrors { scratch, slots: Mutex::default(), made: Arc::default() }
    }

    /// Returns the copy of a location. If there is none, `copy` makes it in a directory of its own, while other callers
    /// wait. If there is no room for it, unused copies are removed first.
    pub(super) fn get(
        &self,
        bucket: &str,
        key: &str,
        copy: impl Fn(&Path, u64) -> Result<(PathBuf, u64), S3Error>,
    ) -> Result<Arc<Copy>, S3Error> {
        let name = [bucket.to_owned(), key.to_owned()];
        let slot = lock(&self.slots).entry(name.clone()).or_default().clone();
        let made = {
            let mut slot = lock(&slot);
            if let Some(copied) = &*slot {
                return Ok(copied.clone());
            }
            let made = match self.make(&copy) {
                Err(S3Error::TooLarge { .. }) if self.remove_unused() => self.make(&copy),
                made => made,
            };
            made.map(|copied| slot.insert(Arc::new(copied)).clone())
        };
        drop(slot);
        if made.is_err() {
            // Names without a copy are not kept, since recipes may have any number of them.
            let mut slots = lock(&self.slots);
            if slots.get(&name).is_some_and(|slot| Arc::strong_count(slot) == 1 && lock(slot).is_none()) {
                slots.remove(&name);
            }
        }
        made
    }

    fn make(&self, copy: impl Fn(&Path, u64) -> Result<(PathBuf, u64), S3Error>) -> Result<Copy, S3Error> {
        let (directory, left) = {
            let mut made = lock(&self.made);
            if made.directory.is_none() {
                let fail = |source| S3Error::Io { path: self.scratch.clone(), source };
                sweep(&self.scratch);
                made.directory = Some(Directory::new(&self.scratch).map_err(fail)?);
            }
            made.copies += 1;
            let within = made.directory.as_ref().map_or(Path::new(""), |directory| &directory.path);
            (within.join(made.copies.to_string()), MAX_BYTES.saturating_sub(made.bytes))
        };
        fs::create_dir(&directory).map_err(|source| S3Error::Io { path: directory.clone(), source })?;
        match copy(&directory, left) {
            Ok((path, bytes)) => {
                lock(&self.made).bytes += bytes;
                Ok(Copy { path, directory, bytes, made: self.made.clone() })
            }
            Err(error) => {
                let _ = fs::remove_dir_all(&directory);
                Err(error)
            }
        }
    }

    /// Removes unused copies. Returns true if there were any.
    fn remove_unused(&self) -> bool {
        let mut unused = Vec::new();
        lock(&self.slots).retain(|_, slot| {
            // Copies that are locked are being made.
            let Ok(mut copied) = slot.try_lock() else { return true };
            match &*copied {
                Some(one) if Arc::strong_count(one) > 1 => return true,
                _ => unused.extend(copied.take()),
            }
            drop(copied);
            Arc::strong_count(slot) > 1
        });
        !unused.is_empty()
    }

    /// Makes the next call copy again, if this copy is still the current one.
    pub(super) fn forget(&self, bucket: &str, key: &str, copy: &Path) {
        let slot = lock(&self.slots).get(&[bucket.into(), key.into()]).cloned();
        if let Some(slot) = slot {
            let mut slot = lock(&slot);
            if slot.as_ref().is_some_and(|copied| copied.path == copy) {
                *slot = None;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory with a locked file beside it, which tells that its process is alive. Both are removed when this is
/// dropped.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    mark: PathBuf,
    _locked: File,
}

impl Directory {
    fn new(scratch: &Path) -> io::Result<Directory> {
        fs::create_dir_all(scratch)?;
        loop {
            // The keys of the hasher come from the operating system, so that processes get different names.
            let path = scratch.join(format!("{NAME}{:016x}", RandomState::new().hash_one(0_u8)));
            let mark = path.with_extension("lock");
            let locked = File::create_new(&mark)?;
            // the sweep of another process may have been faster: then it removes the mark
            if locked.try_lock().is_ok() {
                DirBuilder::new().mode(0o700).create(&path)?;
                return Ok(Directory { path, mark, _locked: locked });
            }
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_file(&self.mark);
    }
}

/// Removes the copies of processes that were killed.
fn sweep(scratch: &Path) {
    let Ok(entries) = fs::read_dir(scratch) else { return };
    for mark in entries.flatten().map(|entry| entry.path()) {
        let name = mark.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(NAME)
            && name.ends_with(".lock")
            && let Ok(file) = regular::open(&mark)
            && !matches!(file.try_lock(), Err(TryLockError::WouldBlock | TryLockError::Error(_)))
        {
            let _ = fs::remove_dir_all(mark.with_extension(""));
            let _ = fs::remove_file(&mark);
        }
    }
}

/// Returns the path of an object below a directory.
fn below(directory: &Path, at: &ObjectAddress, path: &str) -> Result<PathBuf, S3Error> {
    let mut file = directory.to_owned();
    for part in path.split('/') {
        if part.is_empty() || part == "." || part == ".." || part.contains('\0') {
            return Err(S3Error::Escapes { at: at.clone(), part: part.into() });
        }
        file.push(part);
    }
    Ok(file)
}

impl SharedClient {
    /// Copies an object, or all objects below a prefix, into a directory. Returns the path of the copy and its size in
    /// bytes.
    pub(super) async fn copy(
        self: &Arc<SharedClient>,
        bucket: &str,
        key: &str,
        into: &Path,
        limit: u64,
    ) -> Result<(PathBuf, u64), S3Error> {
        let at = ObjectAddress::new(bucket, key);
        let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
        let root = below(into, &at, if name.is_empty() { bucket } else { name })?;
        // The permission to read an object does not imply the permission to list, nor the reverse.
        let single = if key.is_empty() { Ok(None) } else { self.head(bucket, key).await };
        let mut objects = Vec::new();
        if let Ok(Some(head)) = single {
            objects.push((root.clone(), key.to_owned(), head.size, head.etag.unwrap_or_default()));
        } else {
            if let Err(error) = single
                && !matches!(error, S3Error::Denied { .. })
            {
                return Err(error);
            }
            let mut found: Result<Vec<Object>, S3Error> = Ok(Vec::new());
            self.list(bucket, &folder(key), &mut |entry| {
                if let Ok(entries) = &mut found {
                    entries.push(entry);
                    if entries.len() > MAX_FILES {
                        found = Err(S3Error::TooMany { at: at.clone(), limit: MAX_FILES });
                    }
                }
            })
            .await?;
            for entry in found? {
                let key = format!("{}{}", folder(key), entry.path);
                let file = below(&root, &ObjectAddress::new(bucket, &key), &entry.path)?;
                objects.push((file, key, entry.size, entry.etag));
            }
        }
        if objects.is_empty() {
            return Err(S3Error::Missing { at });
        }
        let bytes = objects.iter().fold(0_u64, |sum, (_, _, size, _)| sum.saturating_add(*size));
        if bytes > limit {
            return Err(S3Error::TooLarge { at, limit });
        }
        let mut parts = Vec::new();
        for (path, key, size, etag) in &objects {
            let fail = |source| S3Error::Io { path: path.clone(), source };
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory).map_err(fail)?;
            }
            File::create_new(path).map_err(fail)?;
            parts.extend((0..*size).step_by(PART).map(|offset| (path, key, etag, offset, *size)));
        }
        stream::iter(parts)
            .map(|(path, key, etag, offset, size)| async move {
                let mut buffer = vec![0; usize::try_from(size - offset).unwrap_or(PART).min(PART)];
                self.read_part(bucket, key, etag, offset, &mut buffer).await?;
                let fail = |source| S3Error::Io { path: path.clone(), source };
                let file = File::options().write(true).open(path).map_err(fail)?;
                file.write_all_at(&buffer, offset).map_err(fail)
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok((root, bytes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_that_lead_out_are_refused() {
        let at = ObjectAddress::new("b", "k");
        assert_eq!(below(Path::new("/d"), &at, "a/b.nc").unwrap(), Path::new("/d/a/b.nc"));
        for path in ["..", "a/../../x", "/etc/passwd", "a//b", "", ".", "a/.", "x\0"] {
            assert!(matches!(below(Path::new("/d"), &at, path), Err(S3Error::Escapes { .. })), "{path:?}");
        }
    }

    #[test]
    fn copies_that_nobody_uses_make_room() {
        let scratch = tempfile::tempdir().unwrap();
        let mirrors = Mirrors::new(Some(scratch.path()));
        let get = |key: &str| {
            mirrors.get("b", key, |directory, left| {
                if left < MAX_BYTES / 2 {
                    return Err(S3Error::TooLarge { at: ObjectAddress::new("b", key), limit: left });
                }
                fs::write(directory.join("x"), "x").unwrap();
                Ok((directory.join("x"), MAX_BYTES / 2))
            })
        };
        let (first, second) = (get("1").unwrap(), get("2").unwrap());
        assert!(matches!(get("3"), Err(S3Error::TooLarge { .. })), "both are used");
        let path = second.path().to_owned();
        drop(second);
        assert!(path.exists(), "it may be asked for again");
        let third = get("3").unwrap();
        assert!(!path.exists() && first.path().exists() && third.path().exists());
        assert_eq!(lock(&mirrors.made).bytes, MAX_BYTES);
        assert_eq!(lock(&mirrors.slots).len(), 2);
    }

    #[test]
    fn names_without_copies_are_not_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let mirrors = Mirrors::new(Some(scratch.path()));
        for key in 0..100 {
            let missing = |_: &Path, _| Err(S3Error::Missing { at: ObjectAddress::new("b", "k") });
            assert!(mirrors.get("b", &key.to_string(), missing).is_err());
        }
        assert_eq!(lock(&mirrors.slots).len(), 0);
        let made = |directory: &Path, _| Ok((directory.to_owned(), 1));
        mirrors.get("b", "k", made).unwrap();
        assert_eq!(lock(&mirrors.slots).len(), 1);
    }

    #[test]
    fn copies_of_the_dead_are_swept_and_those_of_the_living_stay() {
        let scratch = tempfile::tempdir().unwrap();
        let living = Directory::new(scratch.path()).unwrap();
        let dead = scratch.path().join(format!("{NAME}0"));
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("x"), "x").unwrap();
        fs::write(dead.with_extension("lock"), "").unwrap();
        fs::write(scratch.path().join("other.lock"), "").unwrap();
        sweep(scratch.path());
        assert!(!dead.exists() && !dead.with_extension("lock").exists());
        assert!(living.path.exists() && scratch.path().join("other.lock").exists());
        let path = living.path.clone();
        drop(living);
        assert!(!path.exists() && !path.with_extension("lock").exists());
    }
}
