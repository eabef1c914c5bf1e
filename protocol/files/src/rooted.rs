//! Opening of files beneath directories that are kept open, so that nothing outside of them can be reached.
//!
//! The guarantee: a file or directory that [`RootedDirs`] returns was beneath one of the directories when it was
//! opened, whatever anyone did to links and directories meanwhile. The path is first resolved as the operating system
//! does it, with its links. The result must lie beneath a directory, and is then opened from that directory's handle
//! without following any link. If a link is put in place between these two steps, there is an error, and the target of
//! the link is not opened. Libraries that take paths, and everything that is written, go through such handles too
//! ([`super::PathHandle`]). Only systems that have no paths for handles (all but Linux) use the resolved path a moment
//! later.
//!
//! The limits: [`RootedDirs::resolve`] only says where a path leads at that moment. Hard links and mounts beneath a
//! directory count as beneath it, since making them requires the permission to write there.

use super::regular::{self, WITHOUT_WAITING};
use rustix::fs::{CWD, Mode, OFlags, fsync, mkdirat, openat};
use rustix::io::Errno;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// A set of directories that are kept open.
#[derive(Debug)]
pub struct RootedDirs {
    roots: Vec<RootedDir>,
}

#[derive(Debug)]
struct RootedDir {
    /// Path of the directory without links.
    path: PathBuf,
    directory: File,
}

/// The reason why a directory cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .path.display())]
pub struct RootError {
    /// Path of the directory.
    pub path: PathBuf,
    /// The error of the operating system.
    pub source: io::Error,
}

/// Flags for reading files.
const FILE: OFlags = OFlags::RDONLY.union(WITHOUT_WAITING).union(OFlags::CLOEXEC);

/// Flags for inspecting anything without opening it for reading.
#[cfg(target_os = "linux")]
const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const LOOK: OFlags = FILE;

/// Flags for directories on the way, for which the permission to pass through is enough.
#[cfg(target_os = "linux")]
const WAY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const WAY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl RootedDirs {
    /// Opens these directories and keeps them open.
    ///
    /// # Errors
    /// Returns an error if one of them does not exist, or is not a directory.
    pub fn hold<'a>(directories: impl IntoIterator<Item = &'a Path>) -> Result<RootedDirs, RootError> {
        let hold = |directory: &Path| {
            let held = directory.canonicalize().and_then(|path| {
                let directory = File::from(openat(CWD, &path, WAY, Mode::empty())?);
                Ok(RootedDir { path, directory })
            });
            held.map_err(|source| RootError { path: directory.into(), source })
        };
        Ok(RootedDirs { roots: directories.into_iter().map(hold).collect::<Result<_, _>>()? })
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// Returns an error if it does not exist, is not a regular file, is not beneath a directory, or was replaced by a
    /// link meanwhile.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        let (root, below) = self.find(path)?;
        let by = |flags| open_below(&root.directory, &below, flags).map(File::from).map_err(|e| changed(path, e));
        // It is inspected before it is opened, as in `regular`. Systems that cannot do that open it twice, without
        // waiting.
        regular::check(&by(LOOK)?.metadata()?)?;
        let file = by(FILE)?;
        regular::check(&file.metadata()?)?;
        Ok(file)
    }

    /// Returns the metadata of the file at a path. Links are followed as far as they stay beneath the directories.
    ///
    /// # Errors
    /// Returns an error if it does not exist, is not beneath a directory, or was replaced by a link meanwhile.
    pub fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let (root, below) = self.find(path)?;
        File::from(open_below(&root.directory, &below, LOOK).map_err(|e| changed(path, e))?).metadata()
    }

    /// Opens a directory. Its entries can be reached from the handle, wherever its name leads later.
    ///
    /// # Errors
    /// Returns an error if it does not exist, is not a directory, is not beneath a directory, or was replaced by a link
    /// meanwhile.
    pub fn directory(&self, path: &Path) -> io::Result<File> {
        let (root, below) = self.find(path)?;
        Ok(open_below(&root.directory, &below, WAY).map_err(|e| changed(path, e))?.into())
    }

    /// Opens a directory as [`RootedDirs::directory`] does, and makes those that do not exist yet. Each is on the disk
    /// before the next.
    ///
    /// # Errors
    /// Returns the errors of [`RootedDirs::directory`], and that of making a directory.
    pub fn make_directory(&self, path: &Path) -> io::Result<File> {
        let (root, below) = self.find(path)?;
        match open_below(&root.directory, &below, WAY) {
            Err(Errno::NOENT) => {}
            found => return Ok(found.map_err(|e| changed(path, e))?.into()),
        }
        let mut at = openat(&root.directory, ".", WAY, Mode::empty())?;
        for part in below.components() {
            let Component::Normal(name) = part else { return Err(Errno::XDEV.into()) };
            match mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
                Ok(()) => {
                    fsync(openat(&at, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)?
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            at = openat(&at, name, WAY | OFlags::NOFOLLOW, Mode::empty()).map_err(|e| changed(path, e))?;
        }
        Ok(at.into())
    }

    /// Resolves a path to a path without links beneath one of the directories. The end of a path that does not exist
    /// yet is appended to the resolved path of the nearest directory that does.
    ///
    /// # Errors
    /// Returns an error if it leads out of the directories, or cannot be resolved.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let (root, below) = self.find(path)?;
        Ok(root.path.join(below))
    }

    /// Checks that the names of the directories still lead to those that are open. They do not if a file system was
    /// unmounted or a directory replaced. Then errors about files that recipes name are not the recipes' fault.
    ///
    /// # Errors
    /// Returns an error for a directory that was replaced or cannot be inspected.
    pub fn are_there(&self) -> Result<(), RootError> {
        for root in &self.roots {
            let fail = |source| RootError { path: root.path.clone(), source };
            let named = std::fs::metadata(&root.path).map_err(fail)?;
            let held = root.directory.metadata().map_err(fail)?;
            if (named.dev(), named.ino()) != (held.dev(), held.ino()) {
                return Err(fail(io::Error::other("not the directory any more that it was: unmounted or replaced")));
            }
        }
        Ok(())
    }

    /// Returns the directory that contains a path, and the path below it.
    fn find(&self, path: &Path) -> io::Result<(&RootedDir, PathBuf)> {
        let refuse = |why: &str| io::Error::new(io::ErrorKind::PermissionDenied, why);
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return Err(refuse("recipes from a queue name absolute paths without '..'"));
        }
        let (mut there, mut rest) = (path, PathBuf::new());
        let resolved = loop {
            match there.canonicalize() {
                Ok(resolved) => break if rest.as_os_str().is_empty() { resolved } else { resolved.join(rest) },
                // A link whose target does not exist still exists itself, and may lead anywhere tomorrow.
                Err(e) if e.kind() == io::ErrorKind::NotFound && there.symlink_metadata().is_err() => {
                    let name = Path::new(there.file_name().unwrap_or_default());
                    rest = if rest.as_os_str().is_empty() { name.into() } else { name.join(rest) };
                    there = there.parent().unwrap_or(Path::new("/"));
                }
                Err(e) => return Err(e),
            }
        };
        let beneath = |root: &'_ RootedDir| Some(resolved.strip_prefix(&root.path).ok()?.to_owned());
        let found = self.roots.iter().find_map(|root| Some((root, beneath(root)?)));
        found.ok_or_else(|| refuse("lies outside of what this worker may read and write (--root)"))
    }
}

/// Explains an error for a link where there was none a moment ago: the directory is being changed, and the next attempt
/// may succeed.
fn changed(path: &Path, error: Errno) -> io::Error {
    match error {
        Errno::LOOP | Errno::XDEV => io::Error::other(format!("{} was replaced while it was opened", path.display())),
        error => error.into(),
    }
}

/// Opens a path below a directory, without following links.
fn open_below(directory: &File, below: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{ResolveFlags, openat2};
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let path = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        match openat2(directory, path, flags, Mode::empty(), resolve) {
            // Kernels before 5.6 do not know this system call, and some sandboxes forbid those that they do not know.
            Err(Errno::NOSYS | Errno::PERM) => {}
            result => return result,
        }
    }
    step_below(directory, below, flags)
}

/// Opens the same path, one directory after the other.
fn step_below(directory: &File, below: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut at = openat(directory, ".", WAY, Mode::empty())?;
    let mut parts = below.components().peekable();
    if parts.peek().is_none() {
        return openat(directory, ".", flags, Mode::empty());
    }
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { return Err(Errno::XDEV) };
        let flags = if parts.peek().is_some() { WAY } else { flags };
        at = openat(&at, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Fixture {
        _directory: tempfile::TempDir,
        base: PathBuf,
        beneath: RootedDirs,
    }

    fn place() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        let (inside, outside) = (base.join("in"), base.join("out"));
        fs::create_dir_all(inside.join("a/b")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(inside.join("a/b/file"), "inside").unwrap();
        fs::write(outside.join("file"), "secret").unwrap();
        symlink(&outside, inside.join("link")).unwrap();
        symlink(outside.join("file"), inside.join("a/secret")).unwrap();
        symlink("../../out/file", inside.join("relative")).unwrap();
        symlink(inside.join("a"), inside.join("friend")).unwrap();
        symlink("b/file", inside.join("a/near")).unwrap();
        symlink(outside.join("later"), inside.join("dangling")).unwrap();
        let beneath = RootedDirs::hold([inside.as_path()]).unwrap();
        Fixture { _directory: directory, base, beneath }
    }

    fn text(mut file: File) -> String {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn links_that_stay_inside_are_followed_and_others_are_not() {
        let Fixture { base, beneath, .. } = &place();
        for good in ["in/a/b/file", "in/friend/b/file", "in/a/near", "in/friend/near"] {
            assert_eq!(text(beneath.open(&base.join(good)).unwrap()), "inside", "{good}");
            assert_eq!(beneath.resolve(&base.join(good)).unwrap(), base.join("in/a/b/file"), "{good}");
        }
        for bad in ["out/file", "in/link/file", "in/a/secret", "in/relative", "in/../out/file", "in/dangling"] {
            assert!(beneath.open(&base.join(bad)).is_err(), "{bad}");
            assert!(beneath.resolve(&base.join(bad)).is_err(), "{bad}");
        }
        assert!(beneath.open(Path::new("in/a/b/file")).is_err());
        let new = beneath.resolve(&base.join("in/friend/new/c.nc")).unwrap();
        assert_eq!(new, base.join("in/a/new/c.nc"));
        assert_eq!(beneath.open(&new).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(beneath.open(&base.join("in/a")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    /// Neither way of opening follows a link, whatever the path was resolved to before.
    #[test]
    fn no_link_is_followed_when_opening() {
        let Fixture { base, .. } = &place();
        let root = File::open(base.join("in")).unwrap();
        for open in [open_below, step_below] {
            assert_eq!(text(open(&root, Path::new("a/b/file"), FILE).unwrap().into()), "inside");
            assert!(File::from(open(&root, Path::new(""), WAY).unwrap()).metadata().unwrap().is_dir());
            for link in ["link/file", "a/secret", "relative", "friend/b/file", "a/near", "../out/file"] {
                assert!(open(&root, Path::new(link), FILE).is_err(), "{link}");
            }
            let outside = base.join("out/file");
            assert!(open(&root, &outside, FILE).is_err(), "an absolute path");
        }
    }

    #[test]
    fn pipes_keep_nobody_waiting() {
        let Fixture { base, beneath, .. } = &place();
        let pipe = base.join("in/pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(beneath.open(&pipe).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_directory_that_was_replaced_is_noticed() {
        let Fixture { base, beneath, .. } = &place();
        beneath.are_there().unwrap();
        fs::rename(base.join("in"), base.join("moved")).unwrap();
        assert!(beneath.are_there().is_err());
        fs::create_dir(base.join("in")).unwrap();
        assert!(beneath.are_there().unwrap_err().to_string().contains("unmounted or replaced"));
        assert!(RootedDirs::hold([base.join("out/file").as_path()]).is_err());
        assert!(RootedDirs::hold([base.join("nowhere").as_path()]).is_err());
    }

    /// One thread exchanges a file and a directory for links to the secret as fast as it can, while another opens them.
    #[test]
    fn exchanged_links_never_give_the_secret() {
        let Fixture { base, beneath, .. } = &place();
        let inside = base.join("in");
        // each of these names alternates between the two
        fs::write(inside.join("a/0"), "inside").unwrap();
        symlink(base.join("out/file"), inside.join("a/1")).unwrap();
        fs::create_dir(inside.join("d0")).unwrap();
        fs::write(inside.join("d0/file"), "inside").unwrap();
        symlink(base.join("out"), inside.join("d1")).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let exchanging = scope.spawn(|| {
                let swap = |one: &str, other: &str| {
                    let (one, other, aside) = (inside.join(one), inside.join(other), inside.join("aside"));
                    fs::rename(&one, &aside).unwrap();
                    fs::rename(&other, &one).unwrap();
                    fs::rename(&aside, &other).unwrap();
                };
                while !over.load(Ordering::Relaxed) {
                    swap("a/0", "a/1");
                    swap("d0", "d1");
                }
            });
            let (mut opened, mut refused, mut tries) = (0, 0, 0_u32);
            while tries < 20_000 || opened == 0 || refused == 0 {
                tries += 1;
                for name in ["a/0", "d0/file"] {
                    match beneath.open(&inside.join(name)) {
                        Ok(file) => {
                            assert_eq!(text(file), "inside", "{name}");
                            opened += 1;
                        }
                        Err(_) => refused += 1,
                    }
                }
                assert!(tries < 1_000_000, "opened {opened}, refused {refused}");
            }
            over.store(true, Ordering::Relaxed);
            exchanging.join().unwrap();
        });
    }
}
