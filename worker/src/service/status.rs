//! The status of a serving worker, for programs and people on the same machine, such as the health check of a container or
//! a supervisor.
//!
//! A worker with a [`StatusSocket`] answers each connection by its [`WorkerStatus`] as one JSON object. The answer is
//! made when it is asked for, so a worker that has died or hangs gives none, and no clocks are compared. Only the user
//! of the worker may connect.

use super::Worker;
use super::allowed_roots::AllowedRoots;
use edp_queue::Link;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Largest answer in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// Largest number of characters of a reason in an answer.
const MAX_REASON: usize = 1000;

/// Time that the file systems of the roots have to answer before the status says that they do not.
const ROOTS: Duration = Duration::from_secs(2);

/// Time that a client has to take the answer.
const WRITING: Duration = Duration::from_secs(1);

/// The phase of a serving worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It waits for the coordinator to declare the queues.
    #[default]
    Waiting,
    /// It takes task messages.
    Serving,
    /// It takes no more task messages, and ends when those under way have ended.
    Draining,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Waiting => "waiting for the queues of the production",
            Phase::Serving => "serving",
            Phase::Draining => "draining",
        })
    }
}

/// What the job slots of a worker do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct SlotUse {
    phase: Phase,
    busy: usize,
    unfit: Option<String>,
}

/// Where a serving worker notes what its job slots do, for its status.
#[derive(Debug, Clone, Default)]
pub struct SlotMonitor(watch::Sender<SlotUse>);

impl SlotMonitor {
    /// Notes that the worker takes task messages, and the number of its busy slots.
    pub(super) fn serving(&self, busy: usize) {
        self.0.send_replace(SlotUse { phase: Phase::Serving, busy, unfit: None });
    }

    /// Notes that the worker ends, and why if nothing can be made here.
    pub(super) fn draining(&self, unfit: Option<&str>) {
        self.0.send_modify(|slots| {
            slots.phase = Phase::Draining;
            slots.unfit = unfit.map(str::to_owned);
        });
    }

    /// Notes the number of slots that are still busy.
    pub(super) fn busy(&self, busy: usize) {
        self.0.send_modify(|slots| slots.busy = busy);
    }
}

/// The answer of a serving worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Name of the worker.
    pub worker: String,
    /// Version of the program.
    pub version: String,
    /// Name of the production.
    pub production: String,
    /// The phase of the worker.
    pub phase: Phase,
    /// Number of busy job slots.
    pub busy: usize,
    /// Number of job slots.
    pub slots: usize,
    /// Address of the broker without the password.
    pub broker: String,
    /// The problems that keep the worker from making granules; it is healthy if there are none.
    pub problems: Vec<String>,
}

impl WorkerStatus {
    /// Returns true if the worker can make granules, or is about to end in order.
    pub fn is_healthy(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for WorkerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WorkerStatus { worker, production, phase, busy, slots, broker, .. } = self;
        write!(f, "worker {worker}: {phase}, {busy} of {slots} slots busy, production {production}, {broker}")
    }
}

/// Everything that the status of a worker is made of.
#[derive(Debug)]
pub struct StatusSource {
    /// Name of the worker.
    worker: String,
    /// Number of its job slots.
    slots: usize,
    /// Name of the production.
    production: String,
    /// What the slots do.
    monitor: SlotMonitor,
    /// The roots, if recipes are confined to some.
    roots: Option<AllowedRoots>,
    /// A look at the roots that has not returned yet. There is one at a time, since each takes a thread.
    looking: Option<JoinHandle<Result<(), String>>>,
}

impl StatusSource {
    /// Returns the source of the status of a worker that serves a production.
    pub fn new(worker: &Worker, production: String, monitor: SlotMonitor, roots: Option<AllowedRoots>) -> StatusSource {
        StatusSource { worker: worker.id.clone(), slots: worker.slots, production, monitor, roots, looking: None }
    }

    /// Returns the status at this moment.
    pub async fn status(&mut self, link: &Link) -> WorkerStatus {
        let slots = self.monitor.0.borrow().clone();
        let broker = link.address().unwrap_or_else(|| "queue within the process".to_owned());
        let problems = [slots.unfit, link.problem(), self.roots().await.err()].into_iter().flatten();
        WorkerStatus {
            worker: self.worker.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            production: self.production.clone(),
            phase: slots.phase,
            busy: slots.busy,
            slots: self.slots,
            broker,
            problems: problems.map(|problem| problem.chars().take(MAX_REASON).collect()).collect(),
        }
    }

    /// Checks that the roots are those that were opened, and that their file systems answer.
    async fn roots(&mut self) -> Result<(), String> {
        let Some(roots) = self.roots.clone() else { return Ok(()) };
        let looking = self.looking.get_or_insert_with(|| {
            tokio::task::spawn_blocking(move || roots.is_there().map_err(|error| format!("root {error}")))
        });
        match timeout(ROOTS, looking).await {
            Err(_) => Err("the file systems of the roots do not answer".to_owned()),
            Ok(looked) => {
                self.looking = None;
                looked.unwrap_or_else(|error| Err(error.to_string()))
            }
        }
    }
}

/// The reason why a status socket cannot be made, or gives no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Another worker answers at this path.
    #[error("status socket {0}: another worker answers there: give each worker a path of its own (--status)")]
    Taken(PathBuf),
    /// Something else is at this path.
    #[error("status socket {0}: something else has this name: remove it, or choose another path (--status)")]
    NoSocket(PathBuf),
    /// The operating system refuses it.
    #[error("status socket {path}: {source}")]
    Bind {
        /// Path of the socket.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// No worker listens at the path.
    #[error("no worker answers at {path}: {source}")]
    Absent {
        /// Path of the socket.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The worker gives no answer in time.
    #[error("the worker at {path} does not answer within {} s", .after.as_secs_f64())]
    Late {
        /// Path of the socket.
        path: PathBuf,
        /// The deadline.
        after: Duration,
    },
    /// The answer is no status.
    #[error("the answer at {path} is not that of a worker: {why}")]
    Answer {
        /// Path of the socket.
        path: PathBuf,
        /// Description of the problem.
        why: String,
    },
}

/// A socket at which a worker tells its status. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct StatusSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl StatusSocket {
    /// Makes the socket, in place of one that a dead worker has left. Must be called within a runtime.
    ///
    /// # Errors
    /// Returns an error if another worker or something else is there, or the operating system refuses it.
    pub fn bind(path: &Path) -> Result<StatusSocket, StatusError> {
        let failed = |source| StatusError::Bind { path: path.to_owned(), source };
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(StatusError::NoSocket(path.to_owned())),
            Ok(_) if is_answered(path) => return Err(StatusError::Taken(path.to_owned())),
            Ok(_) => std::fs::remove_file(path).map_err(failed)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let socket = StatusSocket { listener, path: path.to_owned() };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(socket)
    }

    /// Answers one client after the other, for as long as this is polled.
    pub async fn answer(&self, source: &Mutex<StatusSource>, link: &Link) -> Infallible {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let answer = serde_json::to_vec(&source.lock().await.status(link).await).unwrap_or_default();
                    // A client that does not take it gets none.
                    let _ = timeout(WRITING, write(&stream, &answer)).await;
                }
                Err(error) => {
                    tracing::warn!(%error, path = %self.path.display(), "the status socket accepts no client");
                    sleep(WRITING).await;
                }
            }
        }
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // the next worker replaces it otherwise
    }
}

/// Returns true if a process listens at a socket. A full backlog counts: the process may be slow.
fn is_answered(path: &Path) -> bool {
    // A datagram socket never waits for room in a backlog. It is refused here for its kind, or since no process is there.
    let connected = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    !connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

async fn write(stream: &UnixStream, mut answer: &[u8]) -> io::Result<()> {
    while !answer.is_empty() {
        stream.writable().await?;
        match stream.try_write(answer) {
            Ok(written) => answer = answer.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Asks the worker at a socket for its status.
///
/// # Errors
/// Returns an error if no worker answers within `deadline`, or if the answer is no status.
pub async fn ask(path: &Path, deadline: Duration) -> Result<WorkerStatus, StatusError> {
    let asking = async {
        let absent = |source| StatusError::Absent { path: path.to_owned(), source };
        let stream = UnixStream::connect(path).await.map_err(absent)?;
        let refused = |why| StatusError::Answer { path: path.to_owned(), why };
        let answer = read(&stream).await.map_err(|e| refused(e.to_string()))?;
        serde_json::from_slice(&answer).map_err(|e| refused(e.to_string()))
    };
    let late = |_| StatusError::Late { path: path.to_owned(), after: deadline };
    timeout(deadline, asking).await.map_err(late)?
}

/// Reads an answer to its end.
async fn read(stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut some = [0; 4096];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut some) {
            Ok(0) => return Ok(answer),
            Ok(length) => answer.extend_from_slice(some.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if answer.len() > MAX_ANSWER {
            return Err(io::Error::other(format!("it is longer than {MAX_ANSWER} bytes")));
        }
    }
}
