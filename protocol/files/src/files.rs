//! Files of this machine, by path: all of them, or those beneath some directories alone.

use super::regular;
use super::rooted::RootedDirs;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whatever a recipe names on this machine is opened, listed and written through one of these. The default has all
/// files, as a user has them who makes his own recipes.
#[derive(Debug, Clone, Default)]
pub struct Files(Option<Arc<RootedDirs>>);

/// Entries of a directory whose names are read at most: some 100 MB.
const MOST_NAMES: usize = 1_000_000;

impl Files {
    /// Those beneath some directories; see [`super::rooted`] for what that guarantees.
    pub fn rooted(roots: Arc<RootedDirs>) -> Files {
        Files(Some(roots))
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// It is not there, no regular file, or beyond the directories.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        match &self.0 {
            Some(roots) => roots.open(path),
            None => regular::open(path),
        }
    }

    /// Metadata of the file at a path; links are followed.
    ///
    /// # Errors
    /// It is not there, or beyond the directories.
    pub fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        match &self.0 {
            Some(roots) => roots.metadata(path),
            None => fs::metadata(path),
        }
    }

    /// Where a path leads, without links, `.` and `..`: the one name that all spellings of it have in common.
    ///
    /// # Errors
    /// It cannot be followed, or is beyond the directories.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        match &self.0 {
            Some(roots) => roots.resolve(path),
            None => path.canonicalize(),
        }
    }

    /// Names of the entries of a directory, sorted.
    ///
    /// # Errors
    /// It is not there, or beyond the directories.
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

    /// A file for a library that takes paths; none if nothing is there.
    ///
    /// # Errors
    /// It is not a regular file, or beyond the directories.
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

    /// A directory to write into, made if it is not there, and those above it, each on the disk before the next: a
    /// granule in a directory that a power cut takes away would be lost.
    ///
    /// # Errors
    /// It cannot be made, or is beyond the directories.
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

/// A file or directory, and a path to it for libraries that take paths. Where it is held open, that path leads to the
/// very one that is held, whatever lies under its name by now. (Only Linux has such paths; elsewhere it is the name.)
#[derive(Debug)]
pub struct PathHandle {
    file: Option<File>,
    name: PathBuf,
}

impl PathHandle {
    /// A file that is held open, under the name that people know it by.
    pub fn new(file: File, name: &Path) -> PathHandle {
        PathHandle { file: Some(file), name: name.into() }
    }

    /// The file, if it is held.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// The name that people know it by.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// The path to open it by; good as long as this lives.
    pub fn path(&self) -> PathBuf {
        let path = self.file.as_ref().map(|file| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())));
        path.filter(|path| path.exists()).unwrap_or_else(|| self.name.clone())
    }

    /// A message with the name in the place of the path, which would say nothing to anybody.
    pub fn named(&self, message: &str) -> String {
        let (path, name) = (self.path(), self.name.to_string_lossy());
        let path = path.to_string_lossy();
        let mut parts = message.split(&*path);
        let mut named = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            // another descriptor's number may begin with this one's
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

    /// A directory that may be reached, `in`, and one beside it that may not, `out`, both with a file.
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

    /// Puts a link to what may not be reached in the place of a directory.
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

    /// A directory is exchanged for a link to another place while a granule is written into it: the granule stays in
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
