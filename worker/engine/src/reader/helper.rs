//! A helper process as the program sees it.

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

/// Time that a helper may take to start, on a machine that is busy and whose programs lie on slow storage.
const START: Duration = Duration::from_secs(60);

/// Time that it may take to end after it has closed its socket.
const END: Duration = Duration::from_secs(10);

/// A helper that is waiting for a request.
#[derive(Debug)]
pub(super) struct Helper {
    /// Always there until it is dropped.
    child: Option<Child>,
    socket: UnixStream,
    /// Whether it has read a file: then its memory may be spoilt.
    pub(super) served: bool,
}

/// The reason why there is no answer. The helper is of no more use then.
#[derive(Debug)]
pub(super) enum Fault {
    /// It ended.
    Ended(ExitStatus),
    /// It took too long.
    Deadline,
    /// What it sent is not an answer.
    Nonsense(io::Error),
}

impl Helper {
    /// Starts one, and waits until it says that it is one. It has nothing of this process but its socket: no settings,
    /// which may be secret, and no terminal.
    pub(super) fn start() -> io::Result<Helper> {
        let path = std::env::current_exe()?;
        // The running program need not lie under its name any more; where the system has another one for it, that is
        // taken.
        let itself = Path::new("/proc/self/exe");
        let mut command = Command::new(if itself.exists() { itself } else { &path });
        command.arg0(path.file_name().unwrap_or(path.as_os_str())).arg(COMMAND).env_clear();
        if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let (socket, theirs) = UnixStream::pair()?;
        // In a group of its own, a keyboard's interrupt does not end it while the program still drains.
        command.process_group(0).stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let mut helper = Helper { child: Some(command.spawn()?), socket, served: false };
        drop(command); // and with it the other end of the socket
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

    /// Asks something, and waits for the answer and its values, of which there are so many bytes at most.
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

    /// Lets it let go of its file; whether it is still of use.
    pub(super) fn close(&self) -> bool {
        let soon = Instant::now() + Duration::from_secs(1);
        wire::send(&self.socket, &HelperRequest { seconds: 1, ask: Ask::Close }, &[], None, Some(soon)).is_ok()
    }

    /// Its process.
    #[cfg(test)]
    pub(super) fn process(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(self.child.as_ref().expect("there until it is dropped"))
    }

    /// Closes the socket, as the end of this program does, and says how the helper ended.
    #[cfg(test)]
    pub(super) fn abandon(&mut self) -> Option<ExitStatus> {
        self.socket.shutdown(std::net::Shutdown::Both).ok()?;
        self.wait(END)
    }

    /// How it ended, now that it has closed its socket.
    fn fault(&mut self) -> Fault {
        match self.wait(END) {
            Some(status) => Fault::Ended(status),
            None => Fault::Nonsense(io::Error::other("it has closed its socket and goes on")),
        }
    }

    /// How it ended, if it does within this time: somewhat later than it closes what it has.
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
            // It waits for storage that does not answer, and ends when that gives up.
            thread::spawn(move || child.wait());
        }
    }
}
