//! Commits granules on a local file system: a partial file beside the target becomes the target, once.
//!
//! The partial file is written, then checked, and then committed if nothing has the target's name yet. A granule under
//! its final name is complete, whatever happens and whichever worker has made it.
//!
//! A partial file is kept open from its creation to its commit, and everything is written, read and committed through
//! this handle. Another user who may write into the directory can remove the partial file or put a link in its place;
//! then the commit fails, and no other file is written to. (Without `/proc`, and on systems other than Linux, libraries
//! and the commit have to use the name.)

use crate::{Files, PathHandle};
use rustix::fs::{AtFlags, CWD, linkat};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The reason why a granule could not be committed.
#[derive(Debug, thiserror::Error)]
#[error("{path}: could not {action}: {source}")]
pub struct CommitError {
    /// Path of the file or directory.
    pub path: PathBuf,
    /// The operation that has failed.
    pub action: &'static str,
    /// The error of the operating system.
    pub source: io::Error,
}

/// The result of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// The target is the file that was written.
    New,
    /// The target existed before. It is untouched, and the partial file is removed.
    AlreadyThere,
}

/// A file that is being written beside its target, under the name `.<target name>.<worker>.part`. It is removed when
/// this is dropped without a commit.
#[derive(Debug)]
pub struct PartialFile {
    directory: PathHandle,
    name: OsString,
    /// Handle of the partial file itself, even if another file has its name by now.
    file: PathHandle,
    /// Path of the partial file in the directory.
    path: PathBuf,
    target: PathBuf,
}

impl PartialFile {
    /// Makes the directories of the target and an empty partial file. A partial file that an earlier process of this
    /// worker has left is removed. Making it first shows whether it can be made before anything is computed.
    ///
    /// # Errors
    /// Returns an error if the target has no file name, or if its directory cannot be made or written to.
    pub fn new(target: &Path, worker: &str, files: &Files) -> Result<PartialFile, CommitError> {
        let fail = |action| move |source| CommitError { path: target.into(), action, source };
        let (Some(directory), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(fail("find a file name in it")(io::ErrorKind::InvalidInput.into()));
        };
        let directory = files.make_directory(directory).map_err(fail("make its directory"))?;
        let partial = partial_name(&name.to_string_lossy(), worker);
        let path = directory.path().join(&partial);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(fail("remove an earlier partial file of it")(e));
            }
            _ => {}
        }
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = PathHandle::new(file.map_err(fail("write into its directory"))?, &directory.name().join(partial));
        Ok(PartialFile { directory, name: name.into(), file, path, target: target.into() })
    }

    /// Returns the path to write to, which leads to the open partial file.
    pub fn path(&self) -> PathBuf {
        self.file.path()
    }

    /// Returns a message in which the partial file's path is replaced by the names that users know.
    pub fn named(&self, message: &str) -> String {
        self.directory.named(&self.file.named(message))
    }

    /// Finds out whether the partial file can be committed where nothing is yet, before anything is computed. Some file
    /// systems (exFAT, some in user space or over SMB) have no operation for that.
    ///
    /// The result is remembered for each file system, so that the trial is made once.
    ///
    /// # Errors
    /// Returns an error of kind `Unsupported` with advice if it cannot be committed, and other errors if that cannot be
    /// found out.
    pub fn check_commit(&self) -> Result<(), CommitError> {
        static GOOD: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());
        let fail = |source| CommitError { path: self.target.clone(), action: "try a commit in its directory", source };
        let device = fs::metadata(self.directory.path()).map_err(fail)?.dev();
        if GOOD.lock().unwrap_or_else(PoisonError::into_inner).contains(&device) {
            return Ok(());
        }
        // The name is one that a sweep finds.
        let trial = self.path.with_extension("trial");
        let tried = put_new(&self.path(), &self.path, &trial);
        if tried.is_ok() {
            // If the file system has no links, the partial file itself was renamed.
            let back = match identity(&self.path) {
                Some(_) => fs::remove_file(&trial),
                None => fs::rename(&trial, &self.path),
            };
            back.map_err(fail)?;
        }
        match tried {
            Ok(()) => {}
            // An earlier process of this worker has left this trial, so a commit is possible.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => drop(fs::remove_file(&trial)),
            Err(e) => return Err(fail(e)),
        }
        let mut good = GOOD.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= FILE_SYSTEMS {
            good.clear();
        }
        good.insert(device);
        Ok(())
    }

    /// Makes the partial file the target if there is none yet, or in any case if `replace` is true. When this returns,
    /// the target is on the disk.
    ///
    /// # Errors
    /// Returns an error if the partial file or its directory cannot be synced or linked, or if the partial file was
    /// removed or replaced. The target is then not the work of this call, except for a replaced partial file that was
    /// renamed; the error says so.
    pub fn commit(self, replace: bool) -> Result<Committed, CommitError> {
        let shown = &self.target;
        let fail = |action| move |source| CommitError { path: shown.clone(), action, source };
        let directory = self.directory.path();
        let target = directory.join(&self.name);
        let held = self.path();
        File::open(&held).and_then(|file| file.sync_all()).map_err(fail("sync its partial file"))?;
        let own =
            fs::metadata(&held).map(|found| (found.dev(), found.ino())).map_err(fail("look at its partial file"))?;
        if replace {
            fs::rename(&self.path, &target).map_err(fail("replace it"))?;
        } else if let Err(e) = put_new(&held, &self.path, &target) {
            // On NFS the reply to a successful link can be lost: then the target exists and is this file.
            if identity(&target) != Some(own) {
                return match e.kind() {
                    io::ErrorKind::AlreadyExists => Ok(Committed::AlreadyThere),
                    _ => Err(fail("link its partial file to it")(e)),
                };
            }
        }
        // A rename uses the name, which another process may have given to another file a moment before.
        if identity(&target) != Some(own) {
            return Err(fail("commit its partial file")(io::Error::other(REPLACED)));
        }
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(fail("sync its directory"))?;
        Ok(Committed::New) // dropping self unlinks the partial file
    }
}

/// Finds out whether granules can be committed below a directory, which is made if it does not exist.
///
/// # Errors
/// Returns the errors of [`PartialFile::new`] and [`PartialFile::check_commit`].
pub fn check(directory: &Path, worker: &str, files: &Files) -> Result<(), CommitError> {
    PartialFile::new(&directory.join("edp"), worker, files)?.check_commit()
}

/// Number of file systems that are remembered as good for commits. A destination lies on a few of them.
const FILE_SYSTEMS: usize = 1024;

/// The message for a file system on which a commit is not possible.
const NO_COMMIT: &str = "this file system has neither hard links nor a rename that replaces nothing, so that one of two \
                         workers could overwrite what the other has made: choose a destination on another file system, \
                         or use --replace and make sure that each granule is made by one worker only";

/// The message for a target that is not the file that was written.
const REPLACED: &str = "what stands there now is another file: the partial file, or the granule, was removed or replaced in \
                        this moment";

/// Returns device and inode of the entry at a path; of a link itself, not of its target.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino())).ok()
}

/// Gives a file the name `to`, in one step, if nothing has that name yet. `held` is a path that leads to the file
/// through its handle. If the file system has no links, the file is renamed from its name `named`; otherwise it keeps
/// that name too.
fn put_new(held: &Path, named: &Path, to: &Path) -> io::Result<()> {
    match linkat(CWD, held, CWD, to, AtFlags::SYMLINK_FOLLOW) {
        Err(errno) if has_no_links(errno) => rename_new(named, to),
        linked => linked.map_err(io::Error::from),
    }
}

/// Returns true if an error of linking may mean that the file system has no hard links, or no more for this file. If it
/// means something else, such as a missing permission, the rename that follows reports the same.
fn has_no_links(errno: Errno) -> bool {
    [Errno::PERM, Errno::ACCESS, Errno::OPNOTSUPP, Errno::NOSYS, Errno::MLINK, Errno::INVAL].contains(&errno)
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{RenameFlags, renameat_with};
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(|errno| match errno {
        Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => io::Error::new(io::ErrorKind::Unsupported, NO_COMMIT),
        errno => errno.into(),
    })
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn rename_new(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, NO_COMMIT))
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // it may be gone: renamed, or swept
    }
}

/// Returns the name of the partial file of a granule that a worker is writing.
pub(crate) fn partial_name(granule: &str, worker: &str) -> String {
    format!(".{granule}.{worker}.part")
}

/// Removes the partial files of granules that workers have left, and returns their number. Those of workers for which
/// `in_use` returns true remain. Each directory is listed once.
///
/// # Errors
/// Returns an error if a directory cannot be listed or a partial file cannot be removed. A directory that does not
/// exist has no partial files.
pub fn sweep<'a>(
    targets: impl IntoIterator<Item = &'a Path>,
    in_use: impl Fn(&str) -> bool,
) -> Result<usize, CommitError> {
    let mut names: BTreeMap<&Path, HashSet<&OsStr>> = BTreeMap::new();
    for target in targets {
        if let (Some(directory), Some(name)) = (target.parent(), target.file_name()) {
            names.entry(directory).or_default().insert(name);
        }
    }
    let mut swept = 0;
    for (directory, names) in names {
        let fail = |source| CommitError { path: directory.into(), action: "sweep the partial files in it", source };
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(e) => return Err(fail(e)),
        };
        for entry in entries {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let Some((granule, worker)) = granule_and_worker(&name) else { continue };
            if names.contains(OsStr::new(granule)) && !in_use(worker) {
                match fs::remove_file(entry.path()) {
                    Ok(()) => swept += 1,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {} // its worker was faster
                    Err(e) => return Err(fail(e)),
                }
            }
        }
    }
    Ok(swept)
}

/// Returns the granule and the worker in the name of a partial file, or of a trial to commit one.
pub fn granule_and_worker(partial: &str) -> Option<(&str, &str)> {
    let name = partial.strip_prefix('.')?;
    name.strip_suffix(".part").or_else(|| name.strip_suffix(".trial"))?.rsplit_once('.')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    #[cfg(target_os = "linux")]
    use std::os::unix::fs::symlink;

    fn partial(target: &Path, worker: &str, text: &str) -> PartialFile {
        let partial = PartialFile::new(target, worker, &Files::default()).unwrap();
        fs::write(partial.path(), text).unwrap();
        partial
    }

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_first_commit_wins_and_no_part_stays() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a/b/g.nc");
        let (first, second) = (partial(&target, "w1", "one"), partial(&target, "w2", "two"));
        assert_eq!(first.commit(false).unwrap(), Committed::New);
        assert_eq!(second.commit(false).unwrap(), Committed::AlreadyThere);
        assert_eq!(fs::read_to_string(&target).unwrap(), "one");
        assert_eq!(partial(&target, "w3", "three").commit(true).unwrap(), Committed::New);
        assert_eq!(fs::read_to_string(&target).unwrap(), "three");
        assert_eq!(files(target.parent().unwrap()), ["g.nc"]);
    }

    #[test]
    fn of_many_racing_commits_exactly_one_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("g.nc");
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let commit = |i: usize| {
                let target = &target;
                scope.spawn(move || partial(target, &format!("w{i}"), &format!("{i}")).commit(false).unwrap())
            };
            let threads: Vec<_> = (0..16).map(commit).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|c| **c == Committed::New).count(), 1);
        assert_eq!(files(dir.path()), ["g.nc"]);
    }

    #[test]
    fn a_dropped_part_is_removed_and_a_left_one_swept() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("g.nc");
        drop(partial(&target, "w", "x"));
        assert!(files(dir.path()).is_empty());
        fs::write(dir.path().join(partial_name("g.nc", "dead")), "x").unwrap();
        fs::write(dir.path().join(partial_name("h.nc", "alive")), "x").unwrap();
        let nowhere = dir.path().join("none/g.nc");
        fs::write(dir.path().join(partial_name("g.nc", "alive")), "x").unwrap();
        assert_eq!(sweep([target.as_path(), &nowhere], |worker| worker == "alive").unwrap(), 1);
        assert_eq!(files(dir.path()), [".g.nc.alive.part", ".h.nc.alive.part"]);
    }

    /// An attacker replaces a partial file by a link to one of our files, or by a file of their own. Nothing of it is
    /// written to, and only the file that was written counts as committed.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_part_is_held_whatever_has_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        for (at, replace) in [("linked", false), ("renamed", true)] {
            let target = dir.path().join(at).join("g.nc");
            for swap in
                [|victim: &Path, name: &Path| symlink(victim, name), |_: &Path, name: &Path| fs::write(name, "his")]
            {
                let taken = partial(&target, "w", "");
                fs::remove_file(&taken.path).unwrap();
                swap(&victim, &taken.path).unwrap();
                fs::write(taken.path(), "granule").unwrap();
                assert_eq!(fs::read(taken.path()).unwrap(), b"granule");
                let error = taken.commit(replace).unwrap_err();
                assert!(!matches!(error.source.kind(), io::ErrorKind::AlreadyExists), "{error}");
                assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
                let _ = fs::remove_file(&target);
            }
            // and the next try succeeds
            assert_eq!(partial(&target, "w", "granule").commit(replace).unwrap(), Committed::New);
            assert_eq!(files(target.parent().unwrap()), ["g.nc"]);
        }
    }

    #[test]
    fn a_commit_without_links_replaces_nothing_either() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, target] = ["a", "b", "g.nc"].map(|name| dir.path().join(name));
        fs::write(&a, "one").unwrap();
        fs::write(&b, "two").unwrap();
        rename_new(&a, &target).unwrap();
        assert_eq!(rename_new(&b, &target).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&target).unwrap(), "one");
        assert_eq!(files(dir.path()), ["b", "g.nc"]);
        for errno in [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::MLINK] {
            assert!(has_no_links(errno), "{errno}");
        }
        for errno in [Errno::EXIST, Errno::NOSPC, Errno::IO, Errno::NOENT, Errno::ROFS] {
            assert!(!has_no_links(errno), "{errno}");
        }
    }

    #[test]
    fn whether_it_can_be_committed_is_found_out_without_a_trace() {
        let dir = tempfile::tempdir().unwrap();
        check(&dir.path().join("new/deeper"), "w", &Files::default()).unwrap();
        assert!(files(&dir.path().join("new/deeper")).is_empty());
        let partial = PartialFile::new(&dir.path().join("g.nc"), "w", &Files::default()).unwrap();
        partial.check_commit().unwrap();
        assert_eq!(files(dir.path()), [".g.nc.w.part", "new"]);
        drop(partial);
        assert_eq!(files(dir.path()), ["new"]);
        // left by a process that was killed in between
        fs::write(dir.path().join(".g.nc.w.trial"), "").unwrap();
        assert_eq!(sweep([dir.path().join("g.nc").as_path()], |_| false).unwrap(), 1);
    }

    #[test]
    fn a_destination_that_is_a_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("out"), "").unwrap();
        let error = PartialFile::new(&dir.path().join("out/g.nc"), "w", &Files::default()).unwrap_err();
        assert!(error.to_string().contains("out/g.nc: could not make its directory"), "{error}");
    }
}
