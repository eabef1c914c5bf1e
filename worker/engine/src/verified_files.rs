//! Files of a resource that are kept open from the moment when their digests are taken.
//!
//! Between the digest and the reading, a file could be replaced by another one. Some files are opened by HDF5 through
//! their paths, and no HDF5 file that is damaged or hostile must be opened unchecked. So the open file itself is read,
//! under the operating system's name for it. Only writing into the file while it is read remains possible:
//! [`VerifiedFiles::are_unchanged`] detects that afterwards.

use crate::cancel;
use edp_files::{Files, PathHandle, Stamp, regular};
use edp_protocol::Digest;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Open files with their digests, by path. The default has none; then every path stands for the file that it leads to.
#[derive(Debug, Default)]
pub struct VerifiedFiles(BTreeMap<PathBuf, VerifiedFile>);

/// An open file, with its stamp and its digest when the digest was taken.
#[derive(Debug)]
struct VerifiedFile {
    handle: PathHandle,
    stamp: Stamp,
    digest: Digest,
}

/// Largest number of files of one directory, each of which takes a file descriptor.
const MOST: usize = 256;

/// The error of a file that cannot be opened or read.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be read: {source}", .path.display())]
pub struct VerifiedFileError {
    /// Path of the file.
    pub path: PathBuf,
    /// The error of the operating system.
    pub source: io::Error,
}

impl VerifiedFiles {
    /// Opens files, and returns them together with their digests. A file with more bytes than `largest` returns for it
    /// is not read: hashing takes a time that grows with its size, while a sparse file costs an attacker nothing.
    ///
    /// # Errors
    /// Returns an error if there are too many files, if one of them is too large or cannot be opened or read, or if
    /// `cancel` was set.
    pub fn open(
        paths: Vec<PathBuf>,
        files: &Files,
        largest: impl Fn(&Path) -> u64,
        cancel: &AtomicBool,
    ) -> Result<(VerifiedFiles, BTreeMap<PathBuf, Digest>), VerifiedFileError> {
        let (mut verified, mut digests) = (BTreeMap::new(), BTreeMap::new());
        if let Some(path) = paths.get(MOST).cloned() {
            return Err(VerifiedFileError { path, source: invalid(format!("it is one of more than {MOST} files")) });
        }
        for path in paths {
            let opened = files.open(&path).and_then(|file| {
                let found = file.metadata()?;
                check_size(&found, largest(&path))?;
                let stamp = Stamp::of(&found);
                let digest = cancel::digest(&file, cancel)?;
                Ok(VerifiedFile { handle: PathHandle::new(file, &path), stamp, digest })
            });
            match opened {
                Ok(one) => {
                    digests.insert(path.clone(), one.digest.clone());
                    verified.insert(path, one);
                }
                Err(source) => return Err(VerifiedFileError { path, source }),
            }
        }
        Ok((VerifiedFiles(verified), digests))
    }

    /// Returns a path to the very file that was opened, or the path itself if there are no verified files.
    ///
    /// # Errors
    /// Returns an error if this file is not among the verified ones.
    pub fn path(&self, path: &Path) -> io::Result<PathBuf> {
        match self.0.get(path) {
            Some(one) => Ok(one.handle.path()),
            None if self.0.is_empty() => Ok(path.to_owned()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Reads the bytes of a file: all of them, or one more than `limit`, so that the caller can refuse a larger file.
    ///
    /// # Errors
    /// Returns an error if it cannot be read, or is not among the verified files.
    pub fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Opens the verified file once more, from its beginning.
    ///
    /// # Errors
    /// Returns an error if it cannot be opened, or is not among the verified files.
    pub fn reader(&self, path: &Path) -> io::Result<File> {
        regular::open(&self.path(path)?)
    }

    /// Returns true if a file is among the verified ones; without verified files, if it exists.
    ///
    /// # Errors
    /// Returns an error if the file system gives one.
    pub fn has(&self, path: &Path) -> io::Result<bool> {
        if self.0.is_empty() { path.try_exists() } else { Ok(self.0.contains_key(path)) }
    }

    /// Returns the sorted names of the verified files of a directory; without verified files, those of all its entries.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be listed.
    pub fn names(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        if self.0.is_empty() {
            return Files::default().names(directory);
        }
        let inside = self.0.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| path.file_name().map(OsString::from)).collect())
    }

    /// Checks that all files are as they were when they were opened, and still have their names: then the digests are
    /// those of what was read.
    ///
    /// # Errors
    /// Returns an error for a file that has changed.
    pub(crate) fn are_unchanged(&self) -> Result<(), VerifiedFileError> {
        for (path, VerifiedFile { handle, stamp, .. }) in &self.0 {
            let fail = |source| VerifiedFileError { path: path.clone(), source };
            let Some(file) = handle.file() else { continue };
            let (verified, named) = (file.metadata().map_err(fail)?, fs::metadata(path).map_err(fail)?);
            if Stamp::of(&verified) != *stamp || Stamp::of(&named).file() != stamp.file() {
                return Err(fail(changed()));
            }
        }
        Ok(())
    }

    /// Reads all verified files once more, from their beginning to their end. If that succeeds, what a library could
    /// not read of them was readable, and had the digest that was taken.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or has another digest, or if `cancel` was set.
    pub(crate) fn read_again(&self, cancel: &AtomicBool) -> Result<(), VerifiedFileError> {
        for (path, VerifiedFile { handle, digest, .. }) in &self.0 {
            let read = regular::open(&handle.path()).and_then(|file| cancel::digest(file, cancel));
            let found = read.and_then(|found| if found == *digest { Ok(()) } else { Err(changed()) });
            found.map_err(|source| VerifiedFileError { path: path.clone(), source })?;
        }
        Ok(())
    }
}

/// Refuses a file that is larger than such a file may be, before it is read.
///
/// # Errors
/// Returns an error if it is larger.
pub(crate) fn check_size(found: &fs::Metadata, largest: u64) -> io::Result<()> {
    match found.len() {
        size if size > largest => {
            Err(invalid(format!("it has {size} bytes, which is larger than the {largest} that such a file may have")))
        }
        _ => Ok(()),
    }
}

/// Returns an error about the file itself, not about reading it: it remains the same.
fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn changed() -> io::Error {
    io::Error::other("it was changed while it was read")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    static NO: AtomicBool = AtomicBool::new(false);

    /// Returns the number of bytes that a file may have here.
    fn few(_: &Path) -> u64 {
        1000
    }

    #[test]
    fn what_is_held_stays_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        fs::write(&a, "right").unwrap();
        fs::write(&b, "wrong").unwrap();
        let (verified, digests) = VerifiedFiles::open(vec![a.clone()], &Files::default(), few, &NO).unwrap();
        assert_eq!(digests[&a], Digest::of(b"right"));
        verified.are_unchanged().unwrap();
        fs::rename(&b, &a).unwrap();
        // another file has its name; the path of the open one still leads to the file whose digest was taken
        assert_eq!(
            fs::read_to_string(verified.path(&a).unwrap()).unwrap(),
            if cfg!(target_os = "linux") { "right" } else { "wrong" }
        );
        assert!(verified.are_unchanged().unwrap_err().to_string().contains("cannot be read"));
        assert_eq!(verified.path(&b).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(VerifiedFiles::default().path(&b).unwrap(), b);
    }

    #[test]
    fn writing_into_a_held_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "right").unwrap();
        let (verified, _) = VerifiedFiles::open(vec![path.clone()], &Files::default(), few, &NO).unwrap();
        verified.read_again(&NO).unwrap();
        assert!(verified.read_again(&AtomicBool::new(true)).is_err(), "cancelled");
        fs::write(&path, "much longer").unwrap();
        assert!(verified.are_unchanged().is_err() && verified.read_again(&NO).is_err());
        assert!(VerifiedFiles::open(vec![dir.path().join("b")], &Files::default(), few, &NO).is_err());
    }

    #[test]
    fn what_is_too_large_or_too_much_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse");
        // Hashing it would take hours, though it has no blocks on the disk.
        File::create(&path).unwrap().set_len(1 << 42).unwrap();
        let open = |paths: Vec<PathBuf>| VerifiedFiles::open(paths, &Files::default(), few, &NO).unwrap_err();
        let error = open(vec![path.clone()]);
        assert_eq!(error.source.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("larger than the 1000 that such a file may have"), "{error}");
        File::create(&path).unwrap().set_len(1000).unwrap();
        let (verified, _) = VerifiedFiles::open(vec![path.clone()], &Files::default(), few, &NO).unwrap();
        verified.are_unchanged().unwrap();
        let error = open(vec![path; MOST + 1]).to_string();
        assert!(error.contains("more than 256 files"), "{error}");
    }
}
