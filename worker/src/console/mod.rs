//! How people see a program and stop it: notes, a bar, a summary; signals; exit statuses.

mod command_line;
mod ending;
mod pulse;
mod signals;
mod terminal;

pub use command_line::main;
pub use ending::{leave, shut_down};
pub use signals::Stop;
pub use terminal::{Counter, Progress, note, out, table};

use crate::service::{self, Worker};
use edp_engine::granule::chunks::silence_hdf5;
use edp_engine::resources::Cache;
use edp_production::verify::Depth;
use edp_protocol::Location;
use edp_protocol::message::chain;
use edp_protocol::queue::QueueError;
use edp_protocol::recipe::Recipe;
use edp_protocol::settings::Settings;
use edp_protocol::store::{StoreError, Stores, commit};
use std::collections::BTreeSet;
use std::fmt;
use std::io;

/// How closely commands that make granules look at those that are there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Verify {
    /// They are there, readable, and of the right recipe
    Present,
    /// Also read: held against recorded digests, or inflated where none is recorded
    #[default]
    Content,
}

impl From<Verify> for Depth {
    fn from(verify: Verify) -> Depth {
        match verify {
            Verify::Present => Depth::Present,
            Verify::Content => Depth::Content,
        }
    }
}

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
    /// Something needed cannot be used: the queue or a store is unreachable or refuses, a root or mount is not there.
    Unreachable,
    /// Stopped by a signal, after draining.
    Stopped(Signal),
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

/// Something needed that cannot be used: a queue or store that does not answer or refuses, a root that is not there.
#[derive(Debug)]
pub struct Unreachable(pub String);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreachable {}

/// What an error of reading what the user named is: [`Unreachable`] if a store does not answer or refuses, else
/// [`Usage`].
pub fn named(error: &(dyn std::error::Error + 'static)) -> anyhow::Error {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut stores = causes.filter_map(|error| error.downcast_ref::<StoreError>());
    let text = chain(error);
    if stores.any(StoreError::is_unusable) { Unreachable(text).into() } else { Usage(text).into() }
}

/// What an error of the queues is: [`Unreachable`], unless this program has closed them itself.
pub fn of_queue(error: &QueueError) -> anyhow::Error {
    match error {
        QueueError::Closed => error.clone().into(),
        _ => Unreachable(chain(error)).into(),
    }
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

/// Granules that a worker makes at once, at most.
pub const MAX_SLOTS: u16 = 1024;

/// Granules at once: option, else setting, else one for each core; [`MAX_SLOTS`] at most.
pub fn slots(option: Option<u16>, settings: &Settings) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    option.or(settings.run.slots).map_or_else(cores, usize::from).min(MAX_SLOTS.into())
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

/// Tries whether granules can be committed at destinations, before anything is computed. A destination that is not
/// there is made. Whatever else is wrong with one is found, and told, when granules are made.
///
/// # Errors
/// The file system of a destination has no way to commit a granule without replacing another.
pub fn check_destinations<'a>(roots: impl IntoIterator<Item = &'a str>, worker: &Worker) -> Result<(), Usage> {
    for root in roots.into_iter().collect::<BTreeSet<_>>() {
        if let Ok(Location::Local(path)) = root.parse()
            && let Err(error) = commit::check(&path, &worker.id, worker.cache.stores().files())
            && error.source.kind() == io::ErrorKind::Unsupported
        {
            return Err(Usage(format!("destination {root}: {}", error.source)));
        }
    }
    Ok(())
}

/// Threads that may block at once: each slot computes on one, and looks at its roots on another, beside some that read
/// and write for the actors. They are started as they are needed.
const BLOCKING: usize = 2 * MAX_SLOTS as usize + 64;

/// A runtime for actors. Computing happens on threads of its own.
///
/// # Errors
/// It cannot be started.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("edp")
        .max_blocking_threads(BLOCKING)
        .on_thread_start(silence_hdf5)
        .enable_all()
        .build()
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
