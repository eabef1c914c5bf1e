//! A helper process as seen by the program that starts it.

use super::COMMAND;
use super::wire::{self, Answer, Ask, HelperRequest};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longest time that a helper may take to start, on a busy machine whose programs lie on slow storage.
const START: Duration = Duration::from_secs(60);

/// Longest time that a helper may take to end after it has closed its socket.
const END: Duration = Duration::from_secs(10);

/// A helper process that is waiting for a request.
#[derive(Debug)]
pub(super) struct Helper {
    /// The process. It is present until the helper is dropped.
    child: Option<Child>,
    socket: UnixStream,
    /// True if the helper has read a file: then its memory may be corrupted.
    pub(super) served: bool,
}

/// The reason why a helper gave no answer. The helper is of no more use then.
#[derive(Debug)]
pub(super) enum Fault {
    /// The helper ended by itself.
    Ended(ExitStatus),
    /// The helper took too long.
    Deadline,
    /// The helper sent something that is not an answer.
    Nonsense(io::Error),
}

impl Helper {
    /// Starts a helper and waits until it reports that it is ready. It gets nothing from this process but its socket:
    /// no settings, which may be secret, and no terminal.
    pub(super) fn start() -> io::Result<Helper> {
        let path = std::env::current_exe()?;
        // The file of the running program need not exist under its name any more. Where the system has another name for
        // it, that name is used.
        let itself = Path::new("/proc/self/exe");
        let mut command = Command::new(if itself.exists() { itself } else { &path });
        command.arg0(path.file_name().unwrap_or(path.as_os_str())).arg(COMMAND).env_clear();
        if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let (socket, theirs) = UnixStream::pair()?;
        // The helper has a process group of its own, so that an interrupt from the keyboard does not end it while the
        // program finishes its work.
        command.process_group(0).stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let mut helper = Helper { child: Some(command.spawn()?), socket, served: false };
        drop(command); // this closes the other end of the socket too
        match wire::receive(&helper.socket, 0, Some(Instant::now() + START)) {
            Ok(Some((Answer::Ready, _, _))) => Ok(helper),
            Ok(Some(_)) => Err(io::Error::other("it answers before it is asked")),
            Ok(None) => Err(io::Error::other(match helper.wait(END) {
                Some(status) => format!("it ended at once ({status})"),
                None => "it has closed its socket and goes on".into(),
            })),
            Err(e) => Err(e),
        }
    }

    /// Sends a request, and waits for the answer and its values, at most `values` bytes.
    pub(super) fn ask(
        &mut self,
        request: &HelperRequest,
        file: Option<&File>,
        values: usize,
        deadline: Instant,
    ) -> Result<(Answer, Vec<u8>), Fault> {
        let sent = wire::send(&self.socket, request, &[], file, Some(deadline));
        match sent.and_then(|()| wire::receive(&self.socket, values, Some(deadline))) {
            Ok(Some((answer, values, _))) => Ok((answer, values)),
            Ok(None) => Err(self.fault()),
            Err(e) => match e.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Err(Fault::Deadline),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
                    Err(self.fault())
                }
                _ => Err(Fault::Nonsense(e)),
            },
        }
    }

    /// Tells the helper to release its file. Returns true if the helper is still of use.
    pub(super) fn close(&self) -> bool {
        let soon = Instant::now() + Duration::from_secs(1);
        wire::send(&self.socket, &HelperRequest { seconds: 1, ask: Ask::Close }, &[], None, Some(soon)).is_ok()
    }

    /// Returns the process of the helper.
    #[cfg(test)]
    pub(super) fn process(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(self.child.as_ref().expect("there until it is dropped"))
    }

    /// Closes the socket, as the end of this program does, and returns how the helper ended.
    #[cfg(test)]
    pub(super) fn abandon(&mut self) -> Option<ExitStatus> {
        self.socket.shutdown(std::net::Shutdown::Both).ok()?;
        self.wait(END)
    }

    /// Returns the reason why a helper closed its socket.
    fn fault(&mut self) -> Fault {
        match self.wait(END) {
            Some(status) => Fault::Ended(status),
            None => Fault::Nonsense(io::Error::other("it has closed its socket and goes on")),
        }
    }

    /// Returns the exit status of the helper, or `None` if it does not end within this time. It ends somewhat later
    /// than it closes its descriptors.
    fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            match self.child.as_mut()?.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < end => thread::sleep(Duration::from_micros(500)),
                _ => return None,
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill(); // it may have ended before
        }
        if self.wait(Duration::from_millis(200)).is_none()
            && let Some(mut child) = self.child.take()
        {
            // The helper waits for storage that does not answer, and will end when that gives up.
            thread::spawn(move || child.wait());
        }
    }
}
