//! Local files that stand for objects for a while.

use super::{Copied, StoreError, Stores};
use edp_files::{PathHandle, output};
use edp_protocol::{Location, ObjectAddress};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A local path where a file or an object can be read. A file that was made for that is removed when this is dropped.
/// Until then it is kept open, so that the path leads to it even if another file takes its name.
#[derive(Debug)]
pub struct LocalCopy {
    path: PathBuf,
    made: Option<PathHandle>,
}

impl LocalCopy {
    /// The path where it can be read.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LocalCopy {
    fn drop(&mut self) {
        if let Some(made) = &self.made {
            let _ = fs::remove_file(made.name());
        }
    }
}

/// A local file or directory, or a local copy of objects on S3, which exists as long as this value.
#[derive(Debug, Clone)]
pub struct Mirror(Mirrored);

#[derive(Debug, Clone)]
enum Mirrored {
    Itself(PathBuf),
    Copy(Arc<dyn Copied>),
}

impl Mirror {
    /// The path where it can be read.
    pub fn path(&self) -> &Path {
        match &self.0 {
            Mirrored::Itself(path) => path,
            Mirrored::Copy(copied) => copied.path(),
        }
    }
}

impl Stores {
    /// Returns the directory for local files that stand for objects.
    pub fn scratch(&self) -> PathBuf {
        self.settings.scratch.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// Returns the path of a local file itself, or that of a local copy of an object.
    ///
    /// # Errors
    /// Returns an error if the object does not exist, is larger than `limit` bytes, or cannot be copied.
    pub fn local_copy(&self, at: &Location, limit: u64) -> Result<LocalCopy, StoreError> {
        match at {
            Location::Local(path) => Ok(LocalCopy { path: path.clone(), made: None }),
            Location::Object(_) => self.passing(&self.read(at, limit)?),
        }
    }

    /// Returns the same as [`Stores::mirror`], unless `cancel` is set meanwhile. A copy exists for as long as the
    /// result.
    ///
    /// # Errors
    /// Returns an error if there is nothing, it cannot be copied, or `cancel` was set.
    pub fn mirror_unless(&self, at: &Location, cancel: &AtomicBool) -> Result<Mirror, StoreError> {
        Ok(Mirror(match at {
            Location::Local(path) => Mirrored::Itself(path.clone()),
            Location::Object(ObjectAddress { bucket, key }) => {
                Mirrored::Copy(self.objects()?.mirror_unless(bucket, key, cancel)?)
            }
        }))
    }

    /// Writes a small file or object that a user has named. A regular file or an object appears as a whole or not at
    /// all, and replaces an earlier one. Devices, FIFOs and descriptors are written to (see [`output::write`]).
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn write(&self, at: &Location, bytes: &[u8]) -> Result<(), StoreError> {
        match at {
            Location::Local(path) => {
                output::write(path, bytes).map_err(|source| StoreError::Io { path: path.clone(), source })
            }
            Location::Object(_) => self.put(self.passing(bytes)?.path(), at, "", true).map(drop),
        }
    }

    /// Writes a file with a unique name into the scratch directory.
    fn passing(&self, bytes: &[u8]) -> Result<LocalCopy, StoreError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let scratch = self.scratch();
        let (path, mut file) = loop {
            let name = format!(".edp-{:x}-{}.copy", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = scratch.join(name);
            let made = fs::create_dir_all(&scratch).and_then(|()| File::create_new(&path));
            match made {
                Ok(file) => break (path, file),
                // A file of that name was left by an earlier process with the same number.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(StoreError::Io { path, source }),
            }
        };
        let written = file.write_all(bytes);
        let made = PathHandle::new(file, &path);
        let copy = LocalCopy { path: made.path(), made: Some(made) };
        written.map(|()| copy).map_err(|source| StoreError::Io { path, source })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::StoreSettings;

    #[test]
    fn copies_are_gone_with_their_last_user_and_files_stay() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = directory.path().join("scratch");
        let stores = Stores {
            settings: StoreSettings { scratch: Some(scratch.clone()), ..StoreSettings::default() },
            ..Stores::default()
        };
        let (one, two) = (stores.passing(b"one").unwrap(), stores.passing(b"two").unwrap());
        assert_eq!((fs::read(one.path()).unwrap(), fs::read(two.path()).unwrap()), (b"one".to_vec(), b"two".to_vec()));
        drop((one, two));
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
        let file = Location::Local(directory.path().join("file"));
        stores.write(&file, b"old").unwrap();
        stores.write(&file, b"new").unwrap();
        let copy = stores.local_copy(&file, 0).unwrap();
        assert_eq!(fs::read(copy.path()).unwrap(), b"new");
        drop(copy);
        assert_eq!(stores.read(&file, 3).unwrap(), b"new");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "scratch and file");
    }
}
