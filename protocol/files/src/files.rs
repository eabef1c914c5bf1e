//! Access to files of this machine by path: to all of them, or to those beneath given directories.

use super::regular;
use super::rooted::RootedDirs;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens, lists and writes everything that a recipe names on this machine. The default has access to all files, for
/// users who make recipes of their own.
#[derive(Debug, Clone, Default)]
pub struct Files(Option<Arc<RootedDirs>>);

/// Largest number of entries of a directory whose names are read: they take about 100 MB.
const MOST_NAMES: usize = 1_000_000;

impl Files {
    /// Gives access to the files beneath these directories; [`super::rooted`] says what that guarantees.
    pub fn rooted(roots: Arc<RootedDirs>) -> Files {
        Files(Some(roots))
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// Returns an error if it does not exist, is not a regular file, or is outside the directories.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        match &self.0 {
            Some(roots) => roots.open(path),
            None => regular::open(path),
        }
    }

    /// Returns the metadata of the file at a path. Links are followed.
    ///
    /// # Errors
    /// Returns an error if it does not exist, or is outside the directories.
    pub fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        match &self.0 {
            Some(roots) => roots.metadata(path),
            None => fs::metadata(path),
        }
    }

    /// Resolves links, `.` and `..` of a path. The result is the same for all paths of one file.
    ///
    /// # Errors
    /// Returns an error if the path cannot be resolved, or leads outside the directories.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        match &self.0 {
            Some(roots) => roots.resolve(path),
            None => path.canonicalize(),
        }
    }

    /// Returns the sorted names of the entries of a directory.
    ///
    /// # Errors
    /// Returns an error if it does not exist, has more than a million entries, or is outside the directories.
    pub fn names(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let held = self.0.as_ref().map(|roots| roots.directory(directory)).transpose()?;
        let held = PathHandle { file: held, name: directory.into() };
        let names = fs::read_dir(held.path())?.map(|entry| entry.map(|entry| entry.file_name()));
        let mut names = names.take(MOST_NAMES + 1).collect::<io::Result<Vec<_>>>()?;
        if names.len() > MOST_NAMES {
            let why = format!("it has more than {MOST_NAMES} entries");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        names.sort();
        Ok(names)
    }

    /// Opens a file for a library that takes paths. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// Returns an error if it is not a regular file, or is outside the directories.
    pub fn handle(&self, path: &Path) -> io::Result<Option<PathHandle>> {
        let found = match &self.0 {
            Some(roots) => roots.open(path).map(Some),
            None => fs::metadata(path).and_then(|found| regular::check(&found)).map(|()| None),
        };
        match found {
            Ok(file) => Ok(Some(PathHandle { file, name: path.into() })),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Opens a directory to write into. It and those above it are made if they do not exist. Each is on the disk before
    /// the next: a granule in a directory that a power failure takes away would be lost.
    ///
    /// # Errors
    /// Returns an error if it cannot be made, or is outside the directories.
    pub fn make_directory(&self, path: &Path) -> io::Result<PathHandle> {
        let file = match &self.0 {
            Some(roots) => Some(roots.make_directory(path)?),
            None => {
                make_directory(path)?;
                None
            }
        };
        Ok(PathHandle { file, name: path.into() })
    }
}

/// A file or directory, with a path to it for libraries that take paths. If it is kept open, that path leads to the
/// very one that is open, whatever has its name by now. (Only Linux has such paths; on other systems it is the name.)
#[derive(Debug)]
pub struct PathHandle {
    file: Option<File>,
    name: PathBuf,
}

impl PathHandle {
    /// Wraps an open file and the name by which users know it.
    pub fn new(file: File, name: &Path) -> PathHandle {
        PathHandle { file: Some(file), name: name.into() }
    }

    /// The file, if it is open.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// The name by which users know it.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Returns the path by which to open it, which is valid as long as this value.
    pub fn path(&self) -> PathBuf {
        let path = self.file.as_ref().map(|file| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())));
        path.filter(|path| path.exists()).unwrap_or_else(|| self.name.clone())
    }

    /// Returns a message in which the path, which would mean nothing to users, is replaced by the name.
    pub fn named(&self, message: &str) -> String {
        let (path, name) = (self.path(), self.name.to_string_lossy());
        let path = path.to_string_lossy();
        let mut parts = message.split(&*path);
        let mut named = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            // the number of another descriptor may begin with this one's
            named += if part.starts_with(|c: char| c.is_ascii_digit()) { &path } else { &name };
            named += part;
        }
        named
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
            _ => File::open(".")?.sync_all(),
        },
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => {
                make_directory(parent)?;
                make_directory(path)
            }
            _ => Err(e),
        },
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::commit::{Committed, PartialFile};
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    /// Makes an accessible directory `in`, and beside it an inaccessible one `out`, both with a file.
    fn place() -> (tempfile::TempDir, PathBuf, Files) {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        for (name, text) in [("in", "inside"), ("out", "secret")] {
            fs::create_dir(base.join(name)).unwrap();
            fs::write(base.join(name).join("file"), text).unwrap();
        }
        symlink(base.join("out"), base.join("in/link")).unwrap();
        let files = Files::rooted(Arc::new(RootedDirs::hold([base.join("in").as_path()]).unwrap()));
        (directory, base, files)
    }

    /// Replaces a directory by a link to the inaccessible one.
    fn swap(base: &Path, directory: &str) {
        fs::rename(base.join(directory), base.join("moved")).unwrap();
        symlink(base.join("out"), base.join(directory)).unwrap();
    }

    #[test]
    fn nothing_outside_is_listed_looked_at_pinned_or_made() {
        let (_directory, base, files) = place();
        assert_eq!(files.names(&base.join("in")).unwrap(), ["file", "link"]);
        assert_eq!(files.metadata(&base.join("in/file")).unwrap().len(), 6);
        assert!(files.handle(&base.join("in/none")).unwrap().is_none());
        assert!(files.handle(&base.join("in/file/none")).unwrap().is_none());
        for outside in ["out", "in/link", "in/link/new/newer"] {
            let outside = base.join(outside);
            assert!(files.names(&outside).is_err(), "{}", outside.display());
            assert!(files.metadata(&outside).is_err(), "{}", outside.display());
            assert!(files.make_directory(&outside).is_err(), "{}", outside.display());
            assert!(files.handle(&outside.join("file")).is_err(), "{}", outside.display());
            assert!(PartialFile::new(&outside.join("g.nc"), "w", &files).is_err(), "{}", outside.display());
        }
        assert_eq!(fs::read_dir(base.join("out")).unwrap().count(), 1);
        let all = Files::default();
        assert_eq!(all.names(&base.join("in/link")).unwrap(), ["file"]);
        assert_eq!(all.handle(&base.join("in/link/file")).unwrap().unwrap().path(), base.join("in/link/file"));
    }

    #[test]
    fn directories_are_made_beneath_and_found_again() {
        let (_directory, base, files) = place();
        for _ in 0..2 {
            let made = files.make_directory(&base.join("in/a/b/c")).unwrap();
            assert!(base.join("in/a/b/c").is_dir());
            fs::write(made.path().join("x"), "").unwrap();
        }
        assert_eq!(files.names(&base.join("in/a/b/c")).unwrap(), ["x"]);
        assert!(files.make_directory(&base.join("in/file/a")).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_pinned_stays_the_same_whatever_has_its_name() {
        let (_directory, base, files) = place();
        fs::create_dir(base.join("in/a")).unwrap();
        fs::rename(base.join("in/file"), base.join("in/a/file")).unwrap();
        let name = base.join("in/a/file");
        let (handle, other) = (files.handle(&name).unwrap().unwrap(), files.handle(&name).unwrap().unwrap());
        swap(&base, "in/a");
        assert_eq!(fs::read_to_string(&name).unwrap(), "secret");
        let mut text = String::new();
        File::open(handle.path()).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
        assert!(files.handle(&name).is_err());
        let (path, name) = (handle.path(), name.display().to_string());
        let message = format!("{0}: no; {0}9: other; {1}", path.display(), other.path().display());
        let named = handle.named(&message);
        assert!(named.starts_with(&format!("{name}: no; {}9: other;", path.display())), "{named}");
    }

    /// A directory is exchanged for a link to another place while a granule is written into it. The granule stays in
    /// the directory that was opened.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_granule_goes_where_its_directory_was() {
        for replace in [false, true] {
            let (_directory, base, files) = place();
            let target = base.join("in/a/file");
            let part = PartialFile::new(&target, "w", &files).unwrap();
            swap(&base, "in/a");
            fs::write(part.path(), "granule").unwrap();
            assert_eq!(
                part.named(&part.path().display().to_string()),
                base.join("in/a/.file.w.part").to_string_lossy()
            );
            assert_eq!(part.commit(replace).unwrap(), Committed::New);
            assert_eq!(fs::read_to_string(base.join("out/file")).unwrap(), "secret");
            assert_eq!(fs::read_dir(base.join("out")).unwrap().count(), 1);
            assert_eq!(fs::read_to_string(base.join("moved/file")).unwrap(), "granule");
            assert_eq!(fs::read_dir(base.join("moved")).unwrap().count(), 1);
        }
    }
}
