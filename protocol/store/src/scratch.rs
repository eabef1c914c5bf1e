//! Local files that stand for objects for a while.

use super::{Copied, StoreError, Stores};
use edp_files::PathHandle;
use edp_files::output::{self, NewFile};
use edp_protocol::{Location, ObjectAddress};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
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

    /// Writes a list that a user has named, by a function that is given the place to write to. It is compressed by gzip
    /// if its name ends with `.gz`. It appears as [`Stores::write`] says, when the function has succeeded.
    ///
    /// # Errors
    /// Returns an error if it cannot be written, or the error of the function; then an earlier list is unchanged.
    pub fn write_list<T, E: From<StoreError>>(
        &self,
        at: &Location,
        fill: impl FnOnce(&mut dyn Write) -> Result<T, E>,
    ) -> Result<T, E> {
        let fill = |out: &mut dyn Write, path: &Path| {
            if !is_packed(at) {
                return fill(out);
            }
            let mut packed = GzEncoder::new(out, Compression::fast());
            let filled = fill(&mut packed)?;
            packed.finish().map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
            Ok(filled)
        };
        let Location::Local(path) = at else {
            let (copy, filled) = self.passing_with(fill)?;
            self.put(copy.path(), at, "", true)?;
            return Ok(filled);
        };
        let failed = |source| StoreError::Io { path: path.clone(), source };
        let mut file = NewFile::create(path, &self.scratch()).map_err(failed)?;
        let filled = fill(&mut file, path)?;
        file.commit().map_err(failed)?;
        Ok(filled)
    }

    /// Writes a file with a unique name into the scratch directory.
    fn passing(&self, bytes: &[u8]) -> Result<LocalCopy, StoreError> {
        let write = |out: &mut dyn Write, path: &Path| {
            out.write_all(bytes).map_err(|source| StoreError::Io { path: path.to_owned(), source })
        };
        Ok(self.passing_with(write)?.0)
    }

    /// Writes a file with a unique name into the scratch directory, by a function that is given it and its path.
    fn passing_with<T, E: From<StoreError>>(
        &self,
        fill: impl FnOnce(&mut dyn Write, &Path) -> Result<T, E>,
    ) -> Result<(LocalCopy, T), E> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let scratch = self.scratch();
        let (path, file) = loop {
            let name = format!(".edp-{:x}-{}.copy", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = scratch.join(name);
            let made = fs::create_dir_all(&scratch).and_then(|()| File::create_new(&path));
            match made {
                Ok(file) => break (path, file),
                // A file of that name was left by an earlier process with the same number.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(StoreError::Io { path, source }.into()),
            }
        };
        let mut buffered = BufWriter::new(&file);
        let written = fill(&mut buffered, &path).and_then(|filled| {
            Ok((filled, buffered.flush().map_err(|source| StoreError::Io { path: path.clone(), source })?))
        });
        drop(buffered);
        let made = PathHandle::new(file, &path);
        let copy = LocalCopy { path: made.path(), made: Some(made) };
        written.map(|(filled, ())| (copy, filled))
    }
}

/// Returns true if a list is compressed, by its name.
pub(super) fn is_packed(at: &Location) -> bool {
    at.to_string().ends_with(".gz")
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

    #[test]
    fn lists_are_packed_by_their_names_and_appear_when_they_are_whole() {
        let directory = tempfile::tempdir().unwrap();
        let stores = Stores::default();
        for name in ["list.jsonl", "list.jsonl.gz"] {
            let at = Location::Local(directory.path().join(name));
            let given_up = stores.write_list(&at, |out| {
                out.write_all(b"half").unwrap();
                Err::<(), _>(StoreError::TooLarge { location: at.clone(), limit: 1 })
            });
            assert!(given_up.is_err() && fs::read_dir(directory.path()).unwrap().next().is_none());
            let text = "line\n".repeat(1000);
            let write = |out: &mut dyn Write| {
                out.write_all(text.as_bytes()).unwrap();
                Ok::<_, StoreError>(7)
            };
            assert_eq!(stores.write_list(&at, write).unwrap(), 7);
            let bytes = stores.read(&at, 1 << 20).unwrap();
            assert_eq!(bytes == text.as_bytes(), !is_packed(&at), "{name}");
            assert!(!is_packed(&at) || bytes.len() < 200, "{}", bytes.len());
            assert_eq!(io::read_to_string(stores.open_list(&at, 1 << 20).unwrap()).unwrap(), text);
            fs::remove_file(directory.path().join(name)).unwrap();
        }
    }
}
