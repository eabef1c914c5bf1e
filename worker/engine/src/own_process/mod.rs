//! Other processes of this program: it starts itself again with a hidden command, and talks to that process over a pair
//! of sockets. Such a process ends when this one does, since its socket is closed then.

mod socket;

pub use socket::{receive, send};

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Starts this program again with a single argument, the hidden command. Its standard input is its end of the socket,
/// and it prints nothing unless `prepare` changes that. It has a process group of its own, so that an interrupt from the
/// keyboard does not end it while this process finishes its work.
///
/// # Errors
/// Returns an error if it cannot be started.
pub fn start(command: &str, prepare: impl FnOnce(&mut Command)) -> io::Result<(Child, UnixStream)> {
    let path = std::env::current_exe()?;
    // The file of the running program need not exist under its name any more. Where the system has another name for it,
    // that name is used.
    let itself = Path::new("/proc/self/exe");
    let mut program = Command::new(if itself.exists() { itself } else { &path });
    program.arg0(path.file_name().unwrap_or(path.as_os_str())).arg(command);
    let (socket, theirs) = UnixStream::pair()?;
    program.process_group(0).stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
    prepare(&mut program);
    let child = program.spawn()?;
    Ok((child, socket)) // the other end of the socket is closed here
}

/// Returns the socket to the process that has started this one; `None` if it was started in another way.
pub fn inherited() -> Option<UnixStream> {
    rustix::net::sockopt::socket_type(io::stdin()).ok()?;
    io::stdin().as_fd().try_clone_to_owned().ok().map(UnixStream::from)
}

/// Returns the exit status of a process, or `None` if it does not end within this time. A process ends somewhat later
/// than it closes its descriptors.
pub fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => thread::sleep(Duration::from_micros(500)),
            _ => return None,
        }
    }
}

/// Ends a process at once. One that waits for storage that does not answer ends when that gives up.
pub fn kill(mut child: Child) {
    let _ = child.kill(); // it may have ended before
    if wait(&mut child, Duration::from_millis(200)).is_none() {
        thread::spawn(move || child.wait());
    }
}
