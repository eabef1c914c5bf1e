//! The user interface of both programs: notes, progress and summaries; shutdown by signals; exit statuses.
//!
//! A command returns an [`Ending`], which is its exit status:
//!
//! | ending | status |
//! |---|---|
//! | [`Ending::Done`] | 0 |
//! | [`Ending::ProgramFailed`] | 1 |
//! | [`Ending::Usage`] | 2 |
//! | [`Ending::Incomplete`] | 3 |
//! | [`Ending::Unreachable`] | 4 |
//! | [`Ending::Stopped`] | 128 plus the number of the signal |

mod command_line;
mod ending;
mod options;
mod pages;
mod pulse;
mod signals;
mod terminal;

pub use command_line::main;
pub use ending::{leave, shut_down};
pub use options::{WorkerOptions, duration, listen, slots};
pub use pages::PagesOptions;
pub use signals::Shutdown;
pub use terminal::{Counter, Progress, note, out, out_anew, out_data, out_json, table};

use crate::service::Worker;
use edp_engine::libraries::silence_hdf5;
use edp_files::commit;
use edp_production::verify::InspectionDepth;
use edp_program::settings::Settings;
use edp_protocol::Location;
use edp_protocol::message::chain;
use edp_protocol::recipe::{self, ListForm, Recipe, RecipeError};
use edp_queue::QueueError;
use edp_store::{StoreError, Stores};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;

/// The depth to which commands that make granules check those that exist already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Verify {
    /// The granules exist, are readable and belong to the right recipes
    Present,
    /// Their data are also read: compared with recorded digests, or inflated where none is recorded
    #[default]
    Content,
}

impl From<Verify> for InspectionDepth {
    fn from(verify: Verify) -> InspectionDepth {
        match verify {
            Verify::Present => InspectionDepth::Present,
            Verify::Content => InspectionDepth::Content,
        }
    }
}

/// Form of the report on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ReportForm {
    /// Text for people to read
    #[default]
    Human,
    /// A single JSON object
    Json,
}

/// The way in which a command has ended, which decides its exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything that was asked for is done.
    Done,
    /// The program has failed.
    ProgramFailed,
    /// The options, the settings or the job file are wrong.
    Usage,
    /// Granules are held, failed, missing or in conflict.
    Incomplete,
    /// Something that is needed cannot be used: the queue or a store does not answer or refuses, or a root or mount is
    /// missing.
    Unreachable,
    /// The command was stopped by a signal, and has ended in order.
    Stopped(Signal),
}

/// A signal that stops a production.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, from the keyboard.
    Interrupt,
    /// SIGTERM, from the operating system or an administrator.
    Terminate,
    /// SIGHUP: the terminal was closed.
    Hangup,
}

impl Ending {
    /// Returns the exit status.
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

/// An error that the user can correct: in options, settings, job file or configuration.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error of something that cannot be used: a queue or store that does not answer or refuses, or a root that is
/// missing.
#[derive(Debug)]
pub struct Unreachable(pub String);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreachable {}

/// Classifies an error of reading something that the user has named: [`Unreachable`] if a store does not answer or
/// refuses, else [`Usage`].
pub fn named(error: &(dyn std::error::Error + 'static)) -> anyhow::Error {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut stores = causes.filter_map(|error| error.downcast_ref::<StoreError>());
    let text = chain(error);
    if stores.any(StoreError::is_unusable) { Unreachable(text).into() } else { Usage(text).into() }
}

/// Classifies an error of the queues: [`Unreachable`], unless this program has closed them itself.
pub fn of_queue(error: &QueueError) -> anyhow::Error {
    match error {
        QueueError::Closed => error.clone().into(),
        _ => Unreachable(chain(error)).into(),
    }
}

impl Ending {
    /// Returns the ending of a command that has failed with an error.
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
    /// Makes an error of the texts of an error and its causes.
    pub fn from_error(error: &dyn std::error::Error) -> Usage {
        Usage(chain(error))
    }
}

/// Largest number of granules that a worker makes at once.
pub(crate) const MAX_SLOTS: u16 = 1024;

/// Tries whether granules can be committed at destinations, before anything is computed. A destination that does not
/// exist is made. Any other problem with a destination is found, and reported, when granules are made.
///
/// # Errors
/// Returns an error if the file system of a destination has no way to commit a granule without replacing another.
pub(crate) fn check_destinations<'a>(roots: impl IntoIterator<Item = &'a str>, worker: &Worker) -> Result<(), Usage> {
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

/// Refuses to write over a file that exists, unless `replace` was asked for. `option` names the output.
///
/// # Errors
/// Returns an error if the file exists.
pub fn refuse_existing(path: &Path, replace: bool, option: &str) -> Result<(), Usage> {
    match path.exists() && !replace {
        true => Err(Usage(format!("{}: exists: give --replace, or another {option}", path.display()))),
        false => Ok(()),
    }
}

/// Largest number of threads that may block at once. Each slot computes on one and checks its roots on another, and the
/// actors need some for reading and writing. Threads are started as they are needed.
const BLOCKING: usize = 2 * MAX_SLOTS as usize + 64;

/// Makes a runtime for actors. Computing uses threads of its own.
///
/// # Errors
/// Returns an error if it cannot be started.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("edp")
        .max_blocking_threads(BLOCKING)
        .on_thread_start(silence_hdf5)
        .enable_all()
        .build()
}

/// Reads a task list, written by EDP or by this project; see [`read_each`].
///
/// # Errors
/// Returns the errors of [`read_each`].
pub fn read_list(at: &Location, stores: &Stores, settings: &Settings) -> anyhow::Result<Vec<Recipe>> {
    let mut recipes = Vec::new();
    read_each(at, stores, settings, |recipe| {
        recipes.push(recipe);
        Ok(())
    })?;
    Ok(recipes)
}

/// Reads a task list, written by EDP or by this project, and passes each of its recipes to `each`. Says so if its paths
/// hold in another directory than this one.
///
/// # Errors
/// Returns an error if it cannot be read, is not a task list, or is larger than `run.list_size`; and the errors of
/// `each`.
pub fn read_each(
    at: &Location,
    stores: &Stores,
    settings: &Settings,
    mut each: impl FnMut(Recipe) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let limit = u64::from(settings.run.list_size) << 20;
    let name = at.to_string();
    let list = stores.open_list(at, limit).map_err(|e| named(&e))?;
    let here = std::env::current_dir().ok();
    let (mut is_first, mut warning) = (true, None);
    let read = recipe::read_each(&name, ListForm::of(&name), list, limit, |recipe| {
        if std::mem::take(&mut is_first) {
            warning = here.as_ref().and_then(|here| elsewhere(&name, &recipe, here));
        }
        each(recipe)
    });
    read.map_err(|error: anyhow::Error| match error.downcast::<RecipeError>() {
        Ok(error) => Usage::from_error(&error).into(),
        Err(error) => error,
    })?;
    if let Some(warning) = warning {
        note(&warning);
    }
    Ok(())
}

/// Returns a warning if both roots of a recipe are relative paths and neither is in this directory.
fn elsewhere(list: &str, recipe: &Recipe, here: &Path) -> Option<String> {
    let roots = &recipe.recipe.as_ref()?.roots;
    let [source, destination] = [&roots.source, &roots.destination];
    let is_absent = |root: &str| {
        let root = root.parse::<Location>();
        root.is_ok_and(|root| root.local().is_ok_and(|path| path.is_relative() && !here.join(path).exists()))
    };
    (is_absent(source) && is_absent(destination)).then(|| {
        let here = here.display();
        format!(
            "warning: {list}: neither its results '{source}' nor its granules '{destination}' are in {here}: its paths \
             hold in the directory where it was planned"
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use edp_program::settings::RunSettings;
    use std::sync::{Arc, Barrier};

    #[test]
    fn as_many_slots_as_there_may_be_leave_threads_for_looks() {
        let runtime = runtime().unwrap();
        let all = Arc::new(Barrier::new(2 * usize::from(MAX_SLOTS) + 1));
        // Each slot computes, and checks its roots: all of them at once.
        let slots: Vec<_> = (0..2 * MAX_SLOTS)
            .map(|_| {
                let all = all.clone();
                runtime.spawn_blocking(move || all.wait())
            })
            .collect();
        let last = runtime.spawn_blocking(move || all.wait());
        runtime.block_on(async {
            for slot in slots.into_iter().chain([last]) {
                slot.await.unwrap();
            }
        });
        let settings = |slots| Settings { run: RunSettings { slots, ..RunSettings::default() }, ..Settings::default() };
        assert_eq!(super::slots(Some(u16::MAX), &settings(None)), 1024);
        assert_eq!(super::slots(None, &settings(Some(60_000))), 1024);
    }

    #[test]
    fn a_list_of_terabytes_is_refused_at_its_first_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tasks.json");
        std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let at = Location::Local(path);
        let error = read_list(&at, &Stores::default(), &Settings::default()).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains("not a task list"), "{error}");
    }

    #[test]
    fn the_largest_list_is_a_setting() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tasks.json");
        std::fs::write(&path, format!("[{}]", " ".repeat(2 << 20))).unwrap();
        let at = Location::Local(path);
        let read = |list_size| {
            let run = RunSettings { list_size, ..RunSettings::default() };
            read_list(&at, &Stores::default(), &Settings { run, ..Settings::default() })
        };
        assert!(read(RunSettings::default().list_size).unwrap().is_empty() && read(3).unwrap().is_empty());
        let error = read(1).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains("run.list_size"), "{error}");
    }
}
