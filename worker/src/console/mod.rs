//! How people see a program and stop it: notes, a bar, a summary; signals; exit statuses.

mod terminal;

pub use terminal::{Counter, Progress, note, out, table};

use crate::notice::Notice;
use crate::service::{self, Worker};
use edp_engine::granule::chunks::silence_hdf5;
use edp_engine::resources::Cache;
use edp_protocol::Location;
use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use edp_protocol::settings::Settings;
use edp_protocol::store::{StoreError, Stores};
use std::fmt;
use std::io;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// How a command ended, as its exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything asked for is done.
    Done,
    /// The program failed.
    ProgramFailed,
    /// Usage, settings or job file wrong.
    Usage,
    /// Granules held, failed, missing or in conflict.
    Incomplete,
    /// The queue or the storage cannot be reached.
    Unreachable,
    /// Stopped by a signal, after draining.
    Stopped(Signal),
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> ExitCode {
        ExitCode::from(ending.code())
    }
}

/// A signal that stops a production.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// From the keyboard.
    Interrupt,
    /// From the system.
    Terminate,
    /// The terminal went away.
    Hangup,
}

impl Ending {
    /// The exit status.
    pub fn code(self) -> u8 {
        match self {
            Ending::Done => 0,
            Ending::ProgramFailed => 1,
            Ending::Usage => 2,
            Ending::Incomplete => 3,
            Ending::Unreachable => 4,
            Ending::Stopped(Signal::Interrupt) => 130,
            Ending::Stopped(Signal::Terminate) => 143,
            Ending::Stopped(Signal::Hangup) => 129,
        }
    }
}

/// An error that the user can mend: options, settings, job file, configuration.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A store that does not answer, or not now: nobody has to mend anything here.
#[derive(Debug)]
pub struct Unreachable(pub String);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreachable {}

/// What an error of reading what the user named is: [`Unreachable`] if a store does not answer, else [`Usage`].
pub fn named(error: &(dyn std::error::Error + 'static)) -> anyhow::Error {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut stores = causes.filter_map(|error| error.downcast_ref::<StoreError>());
    let text = chain(error);
    if stores.any(StoreError::is_transient) { Unreachable(text).into() } else { Usage(text).into() }
}

impl Ending {
    /// How a command ends with an error.
    pub fn of(error: &anyhow::Error) -> Ending {
        if error.is::<Usage>() {
            Ending::Usage
        } else if error.is::<Unreachable>() {
            Ending::Unreachable
        } else {
            Ending::ProgramFailed
        }
    }
}

impl Usage {
    /// What an error and its causes say.
    pub fn from_error(error: &dyn std::error::Error) -> Usage {
        Usage(chain(error))
    }
}

/// Granules at once: option, else setting, else one for each core.
pub fn slots(option: Option<u16>, settings: &Settings) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    option.or(settings.run.slots).map_or_else(cores, usize::from)
}

/// A worker as options and settings have it, that reads and writes in these stores.
pub fn worker(slots_option: Option<u16>, replace: bool, settings: &Settings, stores: &Stores) -> Worker {
    let mut worker = Worker::new(slots(slots_option, settings), replace);
    worker.cache = Cache::new(stores.clone());
    service::object::sweep_scratch(&stores.scratch());
    if let Some(mebibytes) = settings.run.memory {
        worker.memory = u64::from(mebibytes) << 20;
    }
    worker
}

/// A runtime for actors. Computing happens on threads of its own.
///
/// # Errors
/// It cannot be started.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("edp")
        .on_thread_start(silence_hdf5)
        .enable_all()
        .build()
}

/// The wish of somebody that the program ends in order.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    seen: Arc<Mutex<Option<Signal>>>,
}

impl Stop {
    /// Ready when the process is asked to stop; says so, and what it is `doing` about it. Being asked twice ends it at
    /// once: whoever asks twice does not want to wait, and the next run sweeps what is left. Signals are caught from the
    /// call on, which must be within a runtime.
    pub fn asked(&self, doing: &'static str) -> impl Future<Output = ()> + use<> {
        let asked = self.asked_or(doing, std::future::pending());
        async move {
            asked.await;
        }
    }

    /// The same, also ready with a `notice`, and then says what that says. A notice is no signal: the first signal after
    /// it finds the process ending in order, only the second ends it at once.
    pub fn asked_or<N: Future<Output = Notice>>(
        &self,
        doing: &'static str,
        notice: N,
    ) -> impl Future<Output = Option<Notice>> + use<N> {
        self.clone().hear(Signals::new(), doing, notice)
    }

    async fn hear(
        self,
        mut signals: Signals,
        doing: &'static str,
        notice: impl Future<Output = Notice>,
    ) -> Option<Notice> {
        let notice = tokio::select! {
            signal = signals.next() => {
                self.heard(signal, doing);
                None
            }
            notice = notice => {
                note(&format!("draining: {notice}: {doing}"));
                Some(notice)
            }
        };
        let (stop, mut signaled) = (self, notice.is_none());
        tokio::spawn(async move {
            loop {
                let signal = signals.next().await;
                if signaled {
                    std::process::exit(i32::from(Ending::Stopped(signal).code()));
                }
                stop.heard(signal, doing);
                signaled = true;
            }
        });
        notice
    }

    fn heard(&self, signal: Signal, doing: &str) {
        let what = match signal {
            Signal::Interrupt => "interrupted",
            Signal::Terminate => "terminated",
            Signal::Hangup => "the terminal is gone",
        };
        note(&format!("{what}: {doing}"));
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(signal);
    }

    /// The signal, if there was one.
    pub fn signal(&self) -> Option<Signal> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signals that ask the process to stop: caught from now on, until the process ends.
struct Signals([Option<tokio::signal::unix::Signal>; 3]);

impl Signals {
    fn new() -> Signals {
        use tokio::signal::unix::{SignalKind, signal};
        // Without a handler the signal ends the process as it always does.
        Signals([SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(|kind| signal(kind).ok()))
    }

    async fn next(&mut self) -> Signal {
        async fn one(signal: &mut Option<tokio::signal::unix::Signal>) {
            match signal {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        }
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            () = one(interrupt) => Signal::Interrupt,
            () = one(terminate) => Signal::Terminate,
            () = one(hangup) => Signal::Hangup,
        }
    }
}

/// Largest task list that is read, in bytes: of some millions of recipes.
const MAX_LIST_BYTES: u64 = 16 << 30;

/// Reads a task list of any origin.
///
/// # Errors
/// It cannot be read, or is none.
pub fn read_list(at: &Location, stores: &Stores) -> anyhow::Result<Vec<Recipe>> {
    let text = stores.read(at, MAX_LIST_BYTES).map_err(|e| named(&e))?;
    edp_protocol::recipe::parse_list(&at.to_string(), &text).map_err(|e| Usage::from_error(&e).into())
}
