//! Job slots: they take recipes and give outcomes, several granules at once. [`serve`] takes the recipes from a queue.

pub mod allowed_roots;
mod fitness;
mod identity;
pub(crate) mod making_process;
pub mod object;
pub(crate) mod processes;
pub mod serve;
pub mod status;

pub(crate) use identity::may_be_at_work;
pub use identity::new_name;

use edp_engine::granule::error::MakeError;
use edp_engine::granule::inspect::{self, Identity, InspectError, Inspected, InspectionDepth};
use edp_engine::granule::make::{self, MakeContext};
use edp_engine::granule::stages::{Stage, Stages};
use edp_engine::granule_locks::GranuleLocks;
use edp_engine::reader::ReadError;
use edp_engine::resources::{self, Cache};
use edp_files::PathHandle;
use edp_files::commit::{CommitError, Committed, PartialFile};
use edp_program::telemetry::metrics::metrics;
use edp_protocol::Location;
use edp_protocol::message::{FailureKind, chain};
use edp_protocol::recipe::Recipe;
use edp_protocol::wire::{Done, ExistingCheck, Failed};
use processes::ProcessPool;
use rustix::io::Errno;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// A worker, with everything that its slots share.
#[derive(Debug)]
pub struct Worker {
    /// Name of the worker, new at every start. Partial files of granules carry it.
    pub id: String,
    /// Number of job slots, each of which makes one granule at a time.
    pub slots: usize,
    /// True if granules of other recipes, and damaged ones, are overwritten.
    pub replace: bool,
    /// True if granules of the same recipe that an earlier output version made are overwritten.
    pub replace_older: bool,
    /// Memory in bytes that a granule may take while it is made, in addition to the resources; see
    /// [`MakeContext::memory`].
    pub memory: u64,
    /// True if each chunk is decompressed again before it is written.
    pub paranoid: bool,
    /// Resources that were loaded.
    pub cache: Cache,
    /// Keeps slots from making the same granule at once.
    pub granule_locks: GranuleLocks,
    /// Further processes that make the granules; `None` if this one does.
    pub processes: Option<ProcessPool>,
}

impl Worker {
    /// Default memory of a slot in bytes.
    pub const MEMORY: u64 = resources::MEMORY;

    /// Makes a worker with a new name.
    pub fn new(slots: usize, replace: bool) -> Worker {
        Worker {
            id: new_name(),
            slots: slots.max(1),
            replace,
            replace_older: false,
            memory: Worker::MEMORY,
            paranoid: false,
            cache: Cache::default(),
            granule_locks: GranuleLocks::default(),
            processes: None,
        }
    }

    /// Returns what the engine needs to know of this worker.
    fn context<'a>(&'a self, cancel: &'a AtomicBool, stages: &'a Stages) -> MakeContext<'a> {
        let (memory, paranoid) = (self.memory, self.paranoid);
        MakeContext { cache: &self.cache, memory, paranoid, worker: &self.id, cancel, stages }
    }

    /// Makes the granule of a recipe and commits it to its destination. A granule that exists there already is
    /// inspected as `look` says, and kept. Gives up at the next level once `cancel` is set, and commits nothing after
    /// that, since the caller may already have published that the granule was not made.
    ///
    /// # Errors
    /// Returns the reason why the granule is not at its destination.
    pub fn produce(&self, recipe: &Recipe, look: &ExistingCheck, cancel: &AtomicBool) -> Result<Done, Failed> {
        let stages = Stages::begin();
        let wanted = || if cancel.load(Ordering::Relaxed) { Err(returned()) } else { Ok(()) };
        wanted()?;
        let location: Location = recipe.granule.parse().map_err(|e| Failed::by(FailureKind::Permanent, &e))?;
        recipe.check_identity().map_err(|e| Failed::by(FailureKind::Permanent, &e))?;
        if let Some(missing) = recipe.recipe.as_ref().filter(|plan| plan.is_held()).map(|plan| plan.missing.clone()) {
            let held = MakeError::Held { granule: recipe.granule.clone(), missing };
            return Err(Failed::by(FailureKind::Held, &held));
        }
        let _turn = self.granule_locks.take(&recipe.granule, cancel).ok_or_else(returned)?;
        if let Some(processes) = &self.processes {
            return processes.produce(recipe, look, cancel);
        }
        let target = match &location {
            Location::Local(path) => path,
            Location::Object(_) => return self.put(recipe, &location, look, cancel, &stages),
        };
        let files = self.cache.stores().files();
        let mut replace = self.replace;
        if let Some(there) = files.handle(target).transpose() {
            match self.existing(there, recipe, look, &stages) {
                // Anything but the recipe's own complete granule may be replaced, if that was asked for.
                Err(_) if self.replace => {}
                Ok(done) if self.replaces(&done) => replace = true,
                found => return found,
            }
        }
        let unwritten = |e: CommitError| Failed::by(unwritable(recipe, &e.source), &e);
        let partial = PartialFile::new(target, &self.id, files).map_err(unwritten)?;
        if !replace {
            partial.check_commit().map_err(unwritten)?;
        }
        let context = self.context(cancel, &stages);
        let made = make::make(recipe, context, &partial.path())
            .map_err(|e| failure(&partial, &e, |system| unwritable(recipe, system)))?;
        wanted()?;
        match stages.time(Stage::Commit, made.size, || partial.commit(replace)).map_err(unwritten)? {
            Committed::New => Ok(made.done(recipe, &stages)),
            Committed::AlreadyThere => match files.handle(target).transpose() {
                Some(there) => self.existing(there, recipe, look, &stages),
                None if target.is_symlink() => Err(conflict(recipe, "a link that leads nowhere is there")),
                None => {
                    let reason = format!("{}: was there a moment ago, and is not any more", recipe.granule);
                    Err(Failed::because(FailureKind::Transient, reason))
                }
            },
        }
    }

    /// Returns true if a granule that exists at its destination is to be made again nevertheless.
    fn replaces(&self, done: &Done) -> bool {
        done.older > 0 && (self.replace || self.replace_older)
    }

    /// Inspects a granule that exists at the destination, and returns what it means for its recipe. The result
    /// describes what is there. A damaged granule counts as something else.
    fn existing(
        &self,
        there: io::Result<PathHandle>,
        recipe: &Recipe,
        look: &ExistingCheck,
        stages: &Stages,
    ) -> Result<Done, Failed> {
        let conflict = |reason: String| conflict(recipe, &reason);
        let read = |e: io::Error| Failed {
            kind: unreadable(&e),
            reason: vec![format!("{}: cannot be read", recipe.granule), e.to_string()],
        };
        let there = match there {
            Err(e) if is_no_file(&e) => return Err(conflict(format!("something else is there ({e})"))),
            there => there.map_err(read)?,
        };
        let path = there.path();
        let mut done = Done { already: true, location: recipe.granule.clone(), ..Done::default() };
        // Everything at once, since each inspection opens the file in the helper process.
        let depth = match look {
            ExistingCheck::Content => InspectionDepth::Content,
            ExistingCheck::Bytes(_) | ExistingCheck::Identity if self.replace => InspectionDepth::Structure,
            ExistingCheck::Bytes(_) | ExistingCheck::Identity => InspectionDepth::Present,
        };
        let looked = match look_at(&path, recipe, depth, *look != ExistingCheck::Identity).map_err(read)? {
            Ok(looked) => looked,
            Err(error) => return Err(conflict(there.named(&something(&error)))),
        };
        done.size = path.metadata().map_err(read)?.len();
        match looked.identity {
            Identity::Same => {}
            Identity::Older(version) => return Ok(Done { older: version, stages: stages.report(done.size), ..done }),
            Identity::Other(differs) => return Err(conflict(another(&differs))),
        }
        if !looked.problems.is_empty() {
            return Err(conflict(there.named(&format!("it is damaged ({})", looked.problems.join("; ")))));
        }
        if *look != ExistingCheck::Identity {
            done.sha256 = make::digest(&path, done.size, stages).map_err(read)?.as_str().to_owned();
            done.chunks = looked.places;
        }
        if let ExistingCheck::Bytes(recorded) = look
            && *recorded != done.sha256
        {
            return Err(conflict(format!(
                "it is damaged: its SHA-256 is {}, and was {recorded} when it was made",
                done.sha256
            )));
        }
        done.stages = stages.report(done.size);
        Ok(done)
    }
}

fn returned() -> Failed {
    Failed::because(FailureKind::Returned, "stopped before it was made")
}

/// Classifies an error of making a granule; `unwritable` classifies errors of writing.
fn failure(partial: &PartialFile, error: &MakeError, unwritable: impl Fn(&io::Error) -> FailureKind) -> Failed {
    let kind = match (error, error.system()) {
        (error, _) if error.is_cancelled() => return returned(),
        (MakeError::Held { .. }, _) => FailureKind::Held,
        (error, Some(system)) if error.is_of_output() => unwritable(system),
        // The disk failed for a moment, the partial file was removed, or the machine has computed wrongly: another
        // attempt shows.
        (error, None) if error.may_pass() => FailureKind::Transient,
        (error, system) => match (error.store(), system) {
            (Some(error), _) if error.is_of_access() => FailureKind::Returned,
            (Some(error), _) if error.is_transient() => FailureKind::Transient,
            (Some(error), None) if error.is_missing() => FailureKind::NotFound,
            (Some(error), None) if error.is_denied() => FailureKind::Denied,
            (_, Some(system)) => unreadable(system),
            _ => FailureKind::Permanent,
        },
    };
    let failed = Failed::by(kind, error);
    Failed { reason: failed.reason.iter().map(|reason| partial.named(reason)).collect(), ..failed }
}

/// Inspects a file. If a disk fails to give bytes for a moment, the file may look damaged, so an inspection with
/// problems counts only if a second one has problems too. The outer error means that the storage, not the file, is to
/// blame.
fn look_at(
    path: &Path,
    recipe: &Recipe,
    depth: InspectionDepth,
    places: bool,
) -> io::Result<Result<Inspected, InspectError>> {
    let first = inspect::look(path, recipe, depth, places);
    if matches!(&first, Ok(looked) if looked.identity == Identity::Same && looked.problems.is_empty()) {
        return Ok(first);
    }
    match inspect::look(path, recipe, depth, places) {
        Err(InspectError::Read(ReadError::Io { source, .. }))
            if !matches!(unreadable(&source), FailureKind::Permanent | FailureKind::NotFound | FailureKind::Denied) =>
        {
            Err(source)
        }
        second => Ok(second),
    }
}

fn is_whole(target: &Path, recipe: &Recipe) -> bool {
    inspect::structure(target, recipe).is_ok_and(|problems| problems.is_empty())
}

/// Classifies an error of reading: the same recipe may succeed later if reading has failed, but not if the content is
/// wrong.
fn unreadable(error: &io::Error) -> FailureKind {
    use io::ErrorKind as K;
    match error.kind() {
        // As far as can be seen from here; other workers may see more.
        K::NotFound => FailureKind::NotFound,
        K::PermissionDenied => FailureKind::Denied,
        K::IsADirectory
        | K::NotADirectory
        | K::InvalidFilename
        | K::InvalidInput
        | K::InvalidData
        | K::UnexpectedEof => FailureKind::Permanent,
        // No room for copies of remote files, no memory, no more open files: it would be the same with any recipe here.
        K::StorageFull | K::QuotaExceeded | K::ReadOnlyFilesystem | K::OutOfMemory => FailureKind::Returned,
        _ if matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE)) => FailureKind::Returned,
        _ => FailureKind::Transient,
    }
}

/// Classifies an error of writing: it concerns this granule alone, or everything that is written to its destination.
fn unwritable(recipe: &Recipe, error: &io::Error) -> FailureKind {
    use io::ErrorKind as K;
    let no_directory = |root: &str| {
        let location: Result<Location, _> = root.parse();
        location.is_ok_and(|root| root.local().is_ok_and(|root| root.exists() && !root.is_dir()))
    };
    match error.kind() {
        // The last kind means that nothing can be committed there.
        K::StorageFull | K::QuotaExceeded | K::ReadOnlyFilesystem | K::Unsupported => FailureKind::Returned,
        _ if recipe.plan().is_ok_and(|plan| no_directory(&plan.roots.destination)) => FailureKind::Returned,
        K::PermissionDenied => FailureKind::Denied,
        K::AlreadyExists | K::IsADirectory | K::NotADirectory | K::InvalidFilename | K::InvalidInput => {
            FailureKind::Permanent
        }
        // For example, a directory that existed a moment ago, and is made again by the next attempt.
        _ => FailureKind::Transient,
    }
}

/// Returns true if the entry is neither a file nor a link to one.
fn is_no_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput || Errno::from_io_error(error) == Some(Errno::LOOP)
}

fn conflict(recipe: &Recipe, reason: &str) -> Failed {
    Failed::because(FailureKind::Conflict, format!("{}: {reason}; --replace overwrites it", recipe.granule))
}

fn another(differs: &[String]) -> String {
    format!("a granule of another recipe is there ({})", differs.join("; "))
}

fn something(error: &InspectError) -> String {
    format!("something else is there ({})", chain(error))
}

/// Records in log and metrics how making a granule has ended.
fn log_end(granule: &str, result: Result<&Done, &Failed>) {
    match result {
        Ok(done) => {
            let seconds = done.stages.first().map(|whole| whole.seconds);
            tracing::info!(granule, already = done.already, bytes = done.size, seconds, "done");
            if !done.already {
                metrics().made(granule, done);
            }
        }
        Err(failed) => tracing::info!(granule, kind = ?failed.kind, reason = %failed.reason(), "not done"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_hinder_any_recipe_is_no_fault_of_this_one() {
        use rustix::io::Errno as E;
        for error in [E::MFILE, E::NFILE, E::NOMEM, E::NOSPC, E::DQUOT, E::ROFS] {
            assert_eq!(unreadable(&error.into()), FailureKind::Returned, "{error}");
        }
        for (error, kind) in [
            (E::NOENT, FailureKind::NotFound),
            (E::ACCESS, FailureKind::Denied),
            (E::PERM, FailureKind::Denied),
            (E::ISDIR, FailureKind::Permanent),
            (E::IO, FailureKind::Transient),
        ] {
            assert_eq!(unreadable(&error.into()), kind, "{error}");
        }
    }
}
