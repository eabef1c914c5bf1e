//! A helper process as seen by the program that starts it.

use super::COMMAND;
use super::wire::{Answer, Ask, HelperRequest};
use crate::own_process::{self, receive, send};
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitStatus};
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
        let (child, socket) = own_process::start(COMMAND, |command| {
            command.env_clear();
            if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
                command.env("LD_LIBRARY_PATH", libraries);
            }
        })?;
        let mut helper = Helper { child: Some(child), socket, served: false };
        match receive(&helper.socket, 0, Some(Instant::now() + START)) {
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
        let sent = send(&self.socket, request, &[], file, Some(deadline));
        match sent.and_then(|()| receive(&self.socket, values, Some(deadline))) {
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
        send(&self.socket, &HelperRequest { seconds: 1, ask: Ask::Close }, &[], None, Some(soon)).is_ok()
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

    /// Returns the exit status of the helper, or `None` if it does not end within this time.
    fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        own_process::wait(self.child.as_mut()?, patience)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            own_process::kill(child);
        }
    }
}
