//! Opening of regular files, where a FIFO, a device, a socket or a directory may be in their place.
//!
//! Opening a FIFO waits until its other end is opened, and opening a device may have effects. So every file that a user
//! or a recipe names is opened by this module, or by [`super::rooted`] in the same way: it is inspected, opened without
//! waiting and without becoming the terminal of the process, and inspected once more. Anything but a regular file is
//! refused, with an error of kind [`io::ErrorKind::InvalidInput`] that says what it is. Links are followed.

use super::output::is_own_descriptor;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The flags that keep an open from waiting for the other end of a pipe, and from taking a terminal as that of the
/// process.
pub(super) const WITHOUT_WAITING: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);

/// Opens a regular file for reading.
///
/// # Errors
/// Returns an error if it cannot be opened, or is not a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    open_by(path, OpenOptions::new().read(true))
}

/// Opens a regular file for writing, and makes it if it does not exist. Its content remains.
///
/// # Errors
/// Returns an error if it cannot be opened or made, or is not a regular file.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    open_by(path, OpenOptions::new().write(true).create(true).truncate(false))
}

/// Reads a small regular file.
///
/// # Errors
/// Returns an error if it cannot be read, is not a regular file, or is larger than `limit` bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_to_limit(open(path)?, limit)
}

/// Opens a file that the user has named, for reading from its beginning to its end: a regular one, or a pipe that this
/// process has had open since its start. Thus `/dev/stdin`, and the path that a shell puts in place of `<(command)`,
/// can be read. A FIFO that has a name of its own is refused.
///
/// # Errors
/// Returns an error if it cannot be opened, or is neither of these.
pub fn open_named(path: &Path) -> io::Result<File> {
    let is_pipe = |found: Metadata| found.file_type().is_fifo();
    if !(is_own_descriptor(path) && fs::metadata(path).is_ok_and(is_pipe)) {
        return open(path);
    }
    let pipe = OpenOptions::new().read(true).custom_flags(WITHOUT_WAITING.bits().cast_signed()).open(path)?;
    // Its other end is open, or has been closed: from here on reads may wait for what is written into it.
    fcntl_setfl(&pipe, fcntl_getfl(&pipe)? - OFlags::NONBLOCK)?;
    Ok(pipe)
}

/// Reads a small file that the user has named, see [`open_named`].
///
/// # Errors
/// Returns an error if it cannot be read, is neither a regular file nor a pipe of this process, or is larger than
/// `limit` bytes.
pub fn read_named(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_to_limit(open_named(path)?, limit)
}

/// Refuses anything but a regular file.
///
/// # Errors
/// Returns an error of kind `InvalidInput` that says what it is.
pub fn check(found: &Metadata) -> io::Result<()> {
    let kind = found.file_type();
    if kind.is_file() {
        return Ok(());
    }
    let what = match kind {
        _ if kind.is_dir() => "a directory",
        _ if kind.is_fifo() => "a FIFO (named pipe)",
        _ if kind.is_socket() => "a socket",
        _ if kind.is_block_device() || kind.is_char_device() => "a device",
        _ => "something else",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, not a regular file")))
}

fn open_by(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // It is inspected before it is opened, since opening a device may have effects, and afterwards, since another may
    // have taken its place.
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {} // it may be about to be made
        found => check(&found?)?,
    }
    let file = options.custom_flags(WITHOUT_WAITING.bits().cast_signed()).open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

fn read_to_limit(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let text = format!("larger than the {limit} bytes that it may have");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    /// Makes a directory with an entry of each kind other than a regular file, and a link to the FIFO.
    fn kinds(directory: &Path) -> Vec<(PathBuf, &'static str)> {
        let at = |name: &str| directory.join(name);
        assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
        symlink(at("fifo"), at("link")).unwrap();
        // the name remains when the socket is closed
        drop(UnixListener::bind(at("socket")).unwrap());
        vec![
            (at("fifo"), "a FIFO"),
            (at("link"), "a FIFO"),
            (at("socket"), "a socket"),
            ("/dev/null".into(), "a device"),
            ("/dev/tty".into(), "a device"),
            (directory.into(), "a directory"),
        ]
    }

    #[test]
    fn whatever_is_no_regular_file_is_refused_at_once_and_named() {
        let directory = tempfile::tempdir().unwrap();
        for (path, what) in kinds(directory.path()) {
            let said = [
                open(&path).unwrap_err(),
                open_or_create(&path).unwrap_err(),
                read(&path, 9).unwrap_err(),
                read_named(&path, 9).unwrap_err(),
            ];
            for error in said {
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{}: {error}", path.display());
                assert!(error.to_string().contains(what), "{}: {error}", path.display());
            }
        }
    }

    #[test]
    fn links_are_followed_and_limits_hold() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "content").unwrap();
        symlink("file", at("link")).unwrap();
        fs::hard_link(at("file"), at("hard")).unwrap();
        for name in ["file", "link", "hard"] {
            assert_eq!(read(&at(name), 7).unwrap(), b"content", "{name}");
            assert_eq!(read_named(&at(name), 7).unwrap(), b"content", "{name}");
            assert_eq!(read(&at(name), 6).unwrap_err().kind(), io::ErrorKind::FileTooLarge, "{name}");
        }
        drop(open_or_create(&at("file")).unwrap());
        assert_eq!(read(&at("file"), 7).unwrap(), b"content");
        drop(open_or_create(&at("new")).unwrap());
        assert_eq!(read(&at("new"), 7).unwrap(), b"");
        assert_eq!(open(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// A pipe of this process is read to its end, even if its writers are gone.
    #[test]
    fn own_pipes_are_read_where_the_user_names_them() {
        use std::os::fd::AsRawFd as _;
        let printed = |script: &str| {
            let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
            let pipe = child.stdout.take().unwrap();
            (child, pipe)
        };
        let own = |pipe: &std::process::ChildStdout| PathBuf::from(format!("/proc/self/fd/{}", pipe.as_raw_fd()));
        let (mut child, pipe) = printed("echo one; echo two");
        child.wait().unwrap();
        assert_eq!(read_named(&own(&pipe), 100).unwrap(), b"one\ntwo\n");
        let (mut child, pipe) = printed("sleep 0.2; echo late");
        assert!(open(&own(&pipe)).unwrap_err().to_string().contains("a FIFO"));
        assert_eq!(read_named(&own(&pipe), 100).unwrap(), b"late\n");
        child.wait().unwrap();
        let (mut child, pipe) = printed("echo too much");
        assert_eq!(read_named(&own(&pipe), 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        child.wait().unwrap();
    }
}
