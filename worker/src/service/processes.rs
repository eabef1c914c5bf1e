//! Further processes in which the granules of a worker are made.
//!
//! HDF5 allows one thread of a process at a time, so the slots of a process wait for each other while their files are
//! written. With several processes, each slot of the worker sends its recipe to one of them, and waits for the result.
//! Everything else remains with the worker: the queue, outcomes, and the locks of granules.
//!
//! ```text
//!  worker                                       making process (see `making_process`)
//!    |-- the setup ----------------------------->|
//!    |<---------------------------------- ready --|
//!    |-- a recipe, with its number ------------->|  makes and commits the granule on a thread of its own
//!    |-- its number, to give it up ------------->|
//!    |<---------------- its number, the result --|
//! ```
//!
//! A process is started when all others are busy, up to the number of the pool, and is replaced after its end, which is
//! a passing failure of the granules that it was making. It ends when its socket is closed, as by the end of the worker.

use edp_engine::own_process;
use edp_program::telemetry::trace;
use edp_protocol::message::FailureKind;
use edp_protocol::recipe::Recipe;
use edp_protocol::wire::{Done, ExistingCheck, Failed};
use edp_store::StoreSettings;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The hidden command of both programs that makes them a making process.
pub(crate) const COMMAND: &str = "granule-maker";

/// Variable with the number of threads for computing, which the processes divide among themselves.
const THREADS: &str = "RAYON_NUM_THREADS";

/// Longest time that sending a request may take.
const SEND: Duration = Duration::from_secs(30);

/// Interval at which a slot looks at its cancellation flag while it waits.
const LOOK: Duration = Duration::from_millis(50);

/// Longest time that a process may take to end after its socket was closed.
const END: Duration = Duration::from_secs(10);

/// Everything that a making process needs to know before its first recipe.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProcessSetup {
    pub(crate) store: StoreSettings,
    /// Roots beneath which it may read and write; `None` if it may do so anywhere.
    pub(crate) roots: Option<Vec<String>>,
    /// Memory in bytes for each granule.
    pub(crate) memory: u64,
    pub(crate) paranoid: bool,
    pub(crate) replace: bool,
    pub(crate) replace_older: bool,
    /// Level and format of the log.
    pub(crate) log: [Option<String>; 2],
    /// Share of the traces that is sent, in percent.
    pub(crate) traces: u8,
}

/// A message to a making process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToProcess {
    /// The first message.
    Setup(Box<ProcessSetup>),
    /// Makes a granule.
    Make {
        number: u64,
        recipe: Box<Recipe>,
        look: ExistingCheck,
        /// Context of the trace, in the form of headers.
        trace: BTreeMap<String, String>,
    },
    /// Gives up a granule.
    Cancel { number: u64 },
}

/// A message of a making process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromProcess {
    /// It has understood its setup.
    Ready,
    /// A granule is at its destination, or is not.
    Made { number: u64, result: Result<Done, Failed> },
}

/// The making processes of a worker.
#[derive(Debug)]
pub struct ProcessPool {
    setup: ProcessSetup,
    most: usize,
    running: Mutex<Vec<Arc<MakingProcess>>>,
}

impl ProcessPool {
    /// Makes a pool of at most this many processes. None is started yet.
    pub(crate) fn new(most: usize, setup: ProcessSetup) -> ProcessPool {
        ProcessPool { setup, most, running: Mutex::default() }
    }

    /// Has a granule made by one of the processes. Its result is that of the worker there.
    pub(super) fn produce(&self, recipe: &Recipe, look: &ExistingCheck, cancel: &AtomicBool) -> Result<Done, Failed> {
        let ProcessPlace { process, number, result } = self.take(&recipe.granule).map_err(|error| {
            let reason = format!("a process that makes granules cannot be started: {error}");
            Failed::because(FailureKind::Returned, reason)
        })?;
        let (recipe, look) = (Box::new(recipe.clone()), look.clone());
        process.send(&ToProcess::Make { number, recipe, look, trace: trace::carried() });
        let mut is_given_up = false;
        loop {
            match result.recv_timeout(LOOK) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) if cancel.load(Ordering::Relaxed) && !is_given_up => {
                    is_given_up = true;
                    process.send(&ToProcess::Cancel { number });
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failed::because(FailureKind::Transient, "the process that made it gave no result"));
                }
            }
        }
    }

    /// Takes a place in the process with the fewest granules, or in a new one if all are busy.
    fn take(&self, granule: &str) -> io::Result<ProcessPlace> {
        let mut running = lock(&self.running);
        loop {
            running.retain(|process| process.load().is_some());
            let least = running.iter().min_by_key(|process| process.load()).cloned();
            let process = match least {
                Some(process) if process.load() == Some(0) || running.len() >= self.most => process,
                _ => {
                    let process = Arc::new(MakingProcess::start(self.most, &self.setup)?);
                    running.push(process.clone());
                    process
                }
            };
            // It may have ended just now.
            if let Some((number, result)) = process.register(granule) {
                return Ok(ProcessPlace { process, number, result });
            }
        }
    }
}

impl Drop for ProcessPool {
    /// Ends all processes at the same time, and waits for them.
    fn drop(&mut self) {
        lock(&self.running).iter().for_each(|process| process.close());
    }
}

/// The place of one granule in a making process.
struct ProcessPlace {
    process: Arc<MakingProcess>,
    number: u64,
    result: Receiver<Result<Done, Failed>>,
}

/// A making process as seen by the worker that has started it.
#[derive(Debug)]
struct MakingProcess {
    /// Locked while a message is sent.
    socket: Mutex<UnixStream>,
    inbox: Arc<Mutex<Inbox>>,
    /// The thread that receives its messages. It is present until this is dropped.
    listener: Option<JoinHandle<()>>,
}

/// The slots that wait for the results of a process.
#[derive(Debug, Default)]
struct Inbox {
    has_ended: bool,
    last: u64,
    /// The granules and where their results are sent, by their numbers.
    waiting: HashMap<u64, (String, SyncSender<Result<Done, Failed>>)>,
}

impl MakingProcess {
    fn start(processes: usize, setup: &ProcessSetup) -> io::Result<MakingProcess> {
        let (child, socket) = own_process::start(COMMAND, |command| {
            command.stderr(Stdio::inherit());
            if std::env::var_os(THREADS).is_none() {
                let cores = thread::available_parallelism().map_or(1, usize::from);
                command.env(THREADS, cores.div_ceil(processes).to_string());
            }
        })?;
        let (inbox, heard) = (Arc::new(Mutex::<Inbox>::default()), socket.try_clone()?);
        let (own, builder) = (inbox.clone(), thread::Builder::new().name("edp-process".into()));
        let listener = builder.spawn(move || listen(&heard, child, &own))?;
        let process = MakingProcess { socket: Mutex::new(socket), inbox, listener: Some(listener) };
        process.send(&ToProcess::Setup(Box::new(setup.clone())));
        Ok(process)
    }

    /// Returns the number of granules that it is making; `None` if it has ended.
    fn load(&self) -> Option<usize> {
        let inbox = lock(&self.inbox);
        (!inbox.has_ended).then_some(inbox.waiting.len())
    }

    /// Registers a granule, and returns its number and where its result comes; `None` if the process has ended.
    fn register(&self, granule: &str) -> Option<(u64, Receiver<Result<Done, Failed>>)> {
        let mut inbox = lock(&self.inbox);
        if inbox.has_ended {
            return None;
        }
        let (sender, result) = sync_channel(1);
        inbox.last += 1;
        let number = inbox.last;
        inbox.waiting.insert(number, (granule.to_owned(), sender));
        Some((number, result))
    }

    /// Sends a message. A process that takes none is ended, and its listener answers in its place.
    fn send(&self, message: &ToProcess) {
        let socket = lock(&self.socket);
        if own_process::send(&socket, message, &[], None, Some(Instant::now() + SEND)).is_err() {
            let _ = socket.shutdown(Shutdown::Both); // it may be closed already
        }
    }

    /// Closes its socket, by which it ends.
    fn close(&self) {
        let _ = lock(&self.socket).shutdown(Shutdown::Both); // it may be closed already
    }
}

impl Drop for MakingProcess {
    fn drop(&mut self) {
        self.close();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join(); // it does not panic, and has nothing to say
        }
    }
}

/// Passes on the results of a process until it ends. Granules without a result have failed then.
fn listen(socket: &UnixStream, mut child: Child, inbox: &Mutex<Inbox>) {
    let mut is_ready = false;
    // An error means that the process is of no more use, as its end does.
    while let Ok(Some((message, _, _))) = own_process::receive::<FromProcess>(socket, 0, None) {
        match message {
            FromProcess::Ready => is_ready = true,
            FromProcess::Made { number, result } => {
                let waiting = lock(inbox).waiting.remove(&number);
                if let Some((_, sender)) = waiting {
                    let _ = sender.send(result); // its slot may have gone
                }
            }
        }
    }
    let waiting = {
        let mut inbox = lock(inbox);
        inbox.has_ended = true;
        std::mem::take(&mut inbox.waiting)
    };
    let _ = socket.shutdown(Shutdown::Both); // it may be closed already
    let how = match own_process::wait(&mut child, END) {
        Some(status) => status.to_string(),
        None => "it was ended, since it did not end by itself".to_owned(),
    };
    own_process::kill(child);
    // One that could not even begin would not do so the next time.
    let kind = if is_ready { FailureKind::Transient } else { FailureKind::Returned };
    for (granule, sender) in waiting.into_values() {
        let reason = format!("{granule}: the process that made it has ended ({how})");
        let _ = sender.send(Err(Failed::because(kind, reason))); // its slot may have gone
    }
}

/// Locks a state that is valid after each statement, also of a thread that has panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
