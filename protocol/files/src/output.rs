//! Writing a file that a user has named: a regular file is replaced in one step, anything else is written to directly.
//! [`write`] takes the bytes as a whole, [`NewFile`] one after the other.

use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufWriter, Read, Seek as _, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Largest number of symbolic links that are followed from one name, as on Linux.
const MAX_LINKS: usize = 40;

/// Beginning and end of the names of files that are not complete yet.
const TEMPORARY: (&str, &str) = (".edp-", ".part");

/// The place to which a name leads.
#[derive(Debug, PartialEq, Eq)]
enum WriteTarget {
    /// A regular file, or a name that does not exist yet.
    File(PathBuf),
    /// A descriptor that a process has open: `/dev/stdout`, `/dev/fd/3`, `/proc/self/fd/3`.
    Descriptor(PathBuf),
    /// A device or a FIFO.
    Stream(PathBuf),
}

/// Writes `bytes` to `path`.
///
/// A regular file appears as a whole or not at all: the bytes are written beside it under a unique name, which then
/// becomes the file. It keeps the permissions of an earlier file. Symbolic links remain, and their targets are written.
/// A device, a FIFO or an open descriptor is opened and written to, and is never replaced. A file that is a mount
/// point, or lies in a directory where nothing can be created, is overwritten in place.
///
/// # Errors
/// Returns an error if it cannot be written, is a directory or a socket, or if there are too many links. An earlier
/// regular file is then unchanged, unless it had to be overwritten in place.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match target(path)? {
        WriteTarget::File(file) => replace(&file, bytes),
        WriteTarget::Stream(stream) => write_stream(&stream, bytes),
        WriteTarget::Descriptor(link) => write_descriptor(&link, bytes),
    }
}

/// A file that is written step by step, and has its name only when it is complete; see [`write`]. If it is dropped
/// before, nothing remains of it.
#[derive(Debug)]
pub struct NewFile {
    file: BufWriter<File>,
    /// Path of the file until it is complete.
    temporary: PathBuf,
    target: WriteTarget,
    /// The file in whose place it is put, if there is one.
    before: Option<fs::Metadata>,
    /// True if it becomes the target by its name. Otherwise its bytes are copied to the target.
    is_beside: bool,
}

impl NewFile {
    /// Makes a file for `path`: beside it if it becomes a regular file, otherwise in the directory `scratch`.
    ///
    /// # Errors
    /// Returns the errors of [`write`] that show before anything is written.
    pub fn create(path: &Path, scratch: &Path) -> io::Result<NewFile> {
        let target = target(path)?;
        let (mut before, mut beside) = (None, None);
        if let WriteTarget::File(path) = &target {
            before = replaceable(path)?;
            match temporary(path, before.is_some()) {
                Err(e) if before.is_some() && is_refused_there(&e) => {}
                made => beside = Some(made?),
            }
        }
        let is_beside = beside.is_some();
        let (temporary, file) = match beside {
            Some(made) => made,
            None => temporary(&scratch.join("output"), true)?,
        };
        Ok(NewFile { file: BufWriter::with_capacity(1 << 20, file), temporary, target, before, is_beside })
    }

    /// Gives the file its name, or copies it to the device or descriptor of that name.
    ///
    /// # Errors
    /// Returns an error if that is not possible, or if something was not written.
    pub fn commit(mut self) -> io::Result<()> {
        self.file.flush()?;
        if let (WriteTarget::File(path), true) = (&self.target, self.is_beside) {
            settle(self.file.get_ref(), self.before.as_ref())?;
            match fs::rename(&self.temporary, path) {
                Err(e) if self.before.is_some() && is_mount_point(&e) => {}
                renamed => return renamed,
            }
        }
        let mut from = self.file.get_ref();
        from.rewind()?;
        match &self.target {
            WriteTarget::File(path) => overwrite(path, from),
            WriteTarget::Stream(stream) => write_stream(stream, from),
            WriteTarget::Descriptor(link) => write_descriptor(link, from),
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After it was given its name, there is nothing of this unique name.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Follows links to the place to which a name leads.
fn target(path: &Path) -> io::Result<WriteTarget> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            // a link may lead to a file that does not exist yet
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(WriteTarget::File(path)),
            Err(e) => return Err(e),
        };
        let kind = found.file_type();
        if !kind.is_symlink() {
            return match kind {
                _ if kind.is_file() => Ok(WriteTarget::File(path)),
                _ if kind.is_char_device() || kind.is_block_device() || kind.is_fifo() => Ok(WriteTarget::Stream(path)),
                _ if kind.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
                _ => Err(io::Error::new(io::ErrorKind::Unsupported, "it is a socket, which is not a file to write to")),
            };
        }
        // The target of such a link is not a path: `pipe:[123]`, or the name of a file that may have another one by
        // now.
        if is_descriptor(&path) {
            return Ok(WriteTarget::Descriptor(path));
        }
        let to = fs::read_link(&path)?;
        path = path.parent().unwrap_or(Path::new("")).join(to);
    }
    Err(Errno::LOOP.into())
}

/// Returns true if a path is, or leads by links to, a descriptor of this process: `/dev/stdin`, `/dev/fd/3`,
/// `/proc/self/fd/3`.
pub(super) fn is_own_descriptor(path: &Path) -> bool {
    // On systems other than Linux these are not links.
    let by_name = path == Path::new("/dev/stdin") || path.parent() == Some(Path::new("/dev/fd"));
    by_name || matches!(target(path), Ok(WriteTarget::Descriptor(link)) if is_own(&link))
}

/// Returns true if a path in the directory of a process' descriptors is in that of this process.
fn is_own(link: &Path) -> bool {
    let own = PathBuf::from(format!("/proc/{}/fd", std::process::id()));
    link.parent().and_then(|parent| parent.canonicalize().ok()) == Some(own)
}

/// Returns true if a path is in the directory of a process' descriptors.
fn is_descriptor(path: &Path) -> bool {
    let directory = path.parent().and_then(|parent| parent.canonicalize().ok());
    directory.is_some_and(|directory| directory.starts_with("/proc") && directory.file_name() == Some(OsStr::new("fd")))
}

/// Writes to a descriptor. For standard output and standard error of this process, that is at their present position. A
/// file behind another descriptor is appended to, since the position of its owner is unknown.
fn write_descriptor(link: &Path, mut from: impl Read) -> io::Result<()> {
    let is_own = is_own(link);
    match link.file_name().and_then(OsStr::to_str) {
        Some("1") if is_own => {
            let mut stdout = io::stdout().lock();
            io::copy(&mut from, &mut stdout).and_then(|_| stdout.flush())
        }
        Some("2") if is_own => io::copy(&mut from, &mut io::stderr().lock()).map(drop),
        _ => io::copy(&mut from, &mut OpenOptions::new().append(true).open(link)?).map(drop),
    }
}

/// Writes to a device or a FIFO.
fn write_stream(stream: &Path, mut from: impl Read) -> io::Result<()> {
    io::copy(&mut from, &mut OpenOptions::new().write(true).open(stream)?).map(drop)
}

/// Makes a regular file, or replaces it in one step.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let before = replaceable(path)?;
    let (temporary, file) = match temporary(path, before.is_some()) {
        Err(e) if before.is_some() && is_refused_there(&e) => return overwrite(path, bytes),
        made => made?,
    };
    let replaced = fill(file, before.as_ref(), bytes).and_then(|()| fs::rename(&temporary, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    match replaced {
        Err(e) if before.is_some() && is_mount_point(&e) => overwrite(path, bytes),
        replaced => replaced,
    }
}

/// Returns the file that is to be replaced, if there is one.
fn replaceable(path: &Path) -> io::Result<Option<fs::Metadata>> {
    match fs::metadata(path) {
        // A user who may not write the file must not replace it, even if the directory would permit that.
        Ok(found) => OpenOptions::new().write(true).open(path).map(|_| Some(found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Makes a new file beside another, under a unique name. If it is to have the permissions of an earlier file, only the
/// user can read it until then.
fn temporary(path: &Path, private: bool) -> io::Result<(PathBuf, File)> {
    loop {
        let name = format!("{}{:016x}{}", TEMPORARY.0, RandomState::new().hash_one(0_u8), TEMPORARY.1);
        let temporary = path.with_file_name(name);
        let mode = if private { 0o600 } else { 0o666 };
        match OpenOptions::new().write(true).read(true).create_new(true).mode(mode).open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

fn fill(mut file: File, before: Option<&fs::Metadata>, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    settle(&file, before)
}

/// Gives a complete file the permissions of the one before it, and syncs it.
fn settle(file: &File, before: Option<&fs::Metadata>) -> io::Result<()> {
    if let Some(before) = before {
        // Only root may change the owner; for others the file remains theirs.
        let _ = std::os::unix::fs::fchown(file, Some(before.uid()), Some(before.gid()));
        file.set_permissions(Permissions::from_mode(before.mode() & 0o7777))?;
    }
    file.sync_all()
}

fn overwrite(path: &Path, mut from: impl Read) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
    io::copy(&mut from, &mut file)?;
    file.sync_all()
}

/// Returns true if nothing can be created in a directory.
fn is_refused_there(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ACCESS | Errno::PERM | Errno::ROFS))
}

/// Returns true if a name cannot be given to another file because something is mounted there.
fn is_mount_point(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::BUSY | Errno::XDEV))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::{Arc, Barrier};

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = entries.collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn files_are_made_and_replaced_with_their_permissions() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tasks.json");
        write(&path, b"one").unwrap();
        fs::write(directory.path().join("other"), "").unwrap();
        assert_eq!(mode(&path), mode(&directory.path().join("other")), "what the umask says");
        let open = File::open(&path).unwrap();
        for permissions in [0o640, 0o600, 0o755] {
            fs::set_permissions(&path, Permissions::from_mode(permissions)).unwrap();
            write(&path, b"two").unwrap();
            assert_eq!(mode(&path), permissions);
        }
        assert_eq!(fs::read(&path).unwrap(), b"two");
        // a reader that opened it before still sees the earlier content
        assert_eq!(io::read_to_string(open).unwrap(), "one");
        assert_eq!(names(directory.path()), ["other", "tasks.json"]);
    }

    #[test]
    fn a_file_that_is_written_step_by_step_appears_when_it_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let (path, scratch) = (directory.path().join("tasks.json"), directory.path());
        let begun = || {
            let mut file = NewFile::create(&path, scratch).unwrap();
            file.write_all(b"one, ").unwrap();
            file.write_all(b"two").unwrap();
            file
        };
        drop(begun());
        assert!(names(directory.path()).is_empty(), "nothing remains of what was given up");
        let file = begun();
        assert!(!path.exists());
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one, two");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        symlink("tasks.json", directory.path().join("link")).unwrap();
        let mut file = NewFile::create(&directory.path().join("link"), scratch).unwrap();
        file.write_all(b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one, two", "still the earlier one");
        file.commit().unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"three".to_vec(), 0o640));
        let mut null = NewFile::create(Path::new("/dev/null"), scratch).unwrap();
        null.write_all(b"nothing").unwrap();
        null.commit().unwrap();
        assert_eq!(NewFile::create(directory.path(), scratch).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(names(directory.path()), ["link", "tasks.json"]);
    }

    #[test]
    fn links_stay_and_what_they_lead_to_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("data")).unwrap();
        fs::write(at("data/old"), "old").unwrap();
        symlink("data/old", at("first")).unwrap();
        symlink("first", at("second")).unwrap();
        symlink("data/new", at("dangling")).unwrap();
        symlink(at("data"), at("there")).unwrap();
        write(&at("second"), b"through two links").unwrap();
        write(&at("dangling"), b"made").unwrap();
        write(&at("there/third"), b"below a link").unwrap();
        for link in ["first", "second", "dangling", "there"] {
            assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link}");
        }
        assert_eq!(fs::read(at("data/old")).unwrap(), b"through two links");
        assert_eq!(fs::read(at("data/new")).unwrap(), b"made");
        assert_eq!(names(&at("data")), ["new", "old", "third"]);
        symlink("round", at("round")).unwrap();
        assert_eq!(Errno::from_io_error(&write(&at("round"), b"x").unwrap_err()), Some(Errno::LOOP));
        symlink("nowhere/file", at("lost")).unwrap();
        assert_eq!(write(&at("lost"), b"x").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_fifo_is_written_to_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        symlink("fifo", directory.path().join("link")).unwrap();
        // more than a pipe can buffer
        let bytes = vec![7; 1 << 18];
        for name in ["fifo", "link"] {
            let reader = std::thread::spawn({
                let fifo = fifo.clone();
                move || fs::read(fifo).unwrap()
            });
            write(&directory.path().join(name), &bytes).unwrap();
            assert!(reader.join().unwrap() == bytes);
        }
        assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
        assert_eq!(names(directory.path()), ["fifo", "link"]);
    }

    #[test]
    fn devices_are_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("null");
        symlink("/dev/null", &link).unwrap();
        // Through the link only: if this were wrong, the link would be gone and not the device of the machine.
        write(&link, b"nothing").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        assert_eq!(target(Path::new("/dev/full")).unwrap(), WriteTarget::Stream("/dev/full".into()));
        assert_eq!(Errno::from_io_error(&write(Path::new("/dev/full"), b"x").unwrap_err()), Some(Errno::NOSPC));
    }

    #[test]
    fn descriptors_are_known_whatever_they_are_called() {
        use std::os::fd::AsRawFd as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let open = OpenOptions::new().append(true).open(&path).unwrap();
        let number = open.as_raw_fd();
        let link = directory.path().join("link");
        symlink(format!("/dev/fd/{number}"), &link).unwrap();
        for name in [format!("/dev/fd/{number}"), format!("/proc/self/fd/{number}"), link.display().to_string()] {
            assert!(matches!(target(Path::new(&name)).unwrap(), WriteTarget::Descriptor(_)), "{name}");
            write(Path::new(&name), b"line\n").unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nline\nline\nline\n");
        assert!(
            matches!(target(Path::new("/dev/stdout")).unwrap(), WriteTarget::Descriptor(link) if link.ends_with("1"))
        );
        assert_eq!(names(directory.path()), ["link", "log"]);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let error = write(directory.path(), b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let socket = directory.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(write(&socket, b"x").unwrap_err().to_string().contains("socket"));
        let error = write(&directory.path().join("none/file"), b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(names(directory.path()), ["socket"]);
    }

    #[test]
    fn a_file_that_becomes_a_directory_meanwhile_leaves_nothing_temporary() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("there");
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"x").is_err());
        assert_eq!(names(directory.path()), ["there"]);
    }

    #[test]
    fn two_writers_do_not_meet() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tasks.json");
        let start = Arc::new(Barrier::new(8));
        let threads: Vec<_> = (0..8_u8)
            .map(|i| {
                let (path, start) = (path.clone(), start.clone());
                std::thread::spawn(move || {
                    start.wait();
                    (0..20).for_each(|_| write(&path, &vec![i; 100_000]).unwrap());
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let content = fs::read(&path).unwrap();
        assert!(content.len() == 100_000 && content.iter().all(|byte| *byte == content[0]));
        assert_eq!(names(directory.path()), ["tasks.json"]);
    }
}
