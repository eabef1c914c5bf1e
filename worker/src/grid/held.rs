//! Files of a grid directory that are held open from the moment their digests are taken.
//!
//! HDF5 takes paths. Between the digest and its opening the file could become another, and a damaged or hostile HDF5 file
//! is the last thing to be opened unseen. So it is given the held file itself, under the name that the system has for
//! it. What remains is writing into the file while it is read: [`Held::are_unchanged`] finds that afterwards.

use super::error::GridError;
use edp_protocol::Digest;
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Held files by their paths.
#[derive(Debug, Default)]
pub struct Held(BTreeMap<PathBuf, (File, Stamp)>);

/// What changes when a file is written to: size, and the times of its content and of its inode, which nobody can set.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(u64, [i64; 4]);

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp(metadata.len(), [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()])
    }
}

impl Held {
    /// Opens files by `open`.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn open(files: Vec<PathBuf>, open: impl Fn(&Path) -> io::Result<File>) -> Result<Held, GridError> {
        let hold = |path: PathBuf| {
            let opened = open(&path).and_then(|file| file.metadata().map(|metadata| (file, Stamp::of(&metadata))));
            match opened {
                Ok(held) => Ok((path, held)),
                Err(source) => Err(GridError::Read { path, source }),
            }
        };
        Ok(Held(files.into_iter().map(hold).collect::<Result<_, _>>()?))
    }

    /// Their digests.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn digests(&self) -> Result<BTreeMap<PathBuf, Digest>, GridError> {
        let digest = |(path, (file, _)): (&PathBuf, &(File, Stamp))| match Digest::of_reader(file) {
            Ok((digest, _)) => Ok((path.clone(), digest)),
            Err(source) => Err(GridError::Read { path: path.clone(), source }),
        };
        self.0.iter().map(digest).collect()
    }

    /// A path to the very file that is held, for a library that opens it once more; the path itself if it is not held.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        let descriptor = self.0.get(path).map(|(file, _)| format!("/proc/self/fd/{}", file.as_raw_fd()));
        // Only Linux has these names.
        descriptor.map(PathBuf::from).filter(|name| name.exists()).unwrap_or_else(|| path.to_owned())
    }

    /// Looks whether all files are as they were when they were opened, and still under their names: then what was read
    /// from them is what their digests are of.
    ///
    /// # Errors
    /// One is not.
    pub fn are_unchanged(&self) -> Result<(), GridError> {
        for (path, (file, stamp)) in &self.0 {
            let fail = |source| GridError::Read { path: path.clone(), source };
            let (held, named) = (file.metadata().map_err(fail)?, std::fs::metadata(path).map_err(fail)?);
            if Stamp::of(&held) != *stamp || (held.dev(), held.ino()) != (named.dev(), named.ino()) {
                return Err(fail(io::Error::other("it was changed while it was read")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[test]
    fn what_is_held_stays_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        fs::write(&a, "right").unwrap();
        fs::write(&b, "wrong").unwrap();
        let held = Held::open(vec![a.clone()], |path| File::open(path)).unwrap();
        assert_eq!(held.digests().unwrap()[&a], Digest::of(b"right"));
        held.are_unchanged().unwrap();
        fs::rename(&b, &a).unwrap();
        // another file has its name; under the name of the held one there is still the one whose digest was taken
        assert_eq!(
            fs::read_to_string(held.path(&a)).unwrap(),
            if cfg!(target_os = "linux") { "right" } else { "wrong" }
        );
        assert!(held.are_unchanged().unwrap_err().to_string().contains("cannot be read"));
        assert_eq!(held.path(&b), b);
    }

    #[test]
    fn writing_into_a_held_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "right").unwrap();
        let held = Held::open(vec![path.clone()], |path| File::open(path)).unwrap();
        fs::write(&path, "much longer").unwrap();
        assert!(held.are_unchanged().is_err());
        assert!(Held::open(vec![dir.path().join("b")], |path| File::open(path)).is_err());
    }
}
