//! Granules whose destination is on S3: they are made in the scratch directory, and put if there is no such object yet.

use super::{Worker, failure, may_be_at_work, returned};
use edp_engine::granule::inspect::{self, Identity, InspectError, MAX_COPY};
use edp_engine::granule::make;
use edp_engine::granule::stages::{Stage, Stages};
use edp_files::Files;
use edp_files::commit::{CommitError, Committed, PartialFile, granule_and_worker};
use edp_protocol::Location;
use edp_protocol::message::FailureKind;
use edp_protocol::recipe::{MEAN_ENDING, Recipe};
use edp_protocol::wire::{Done, ExistingCheck, Failed};
use edp_store::{Checksum, Head, StoreError, Stores};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

impl Worker {
    /// Does the same as [`Worker::produce`] for a destination on S3. The recipe was checked.
    pub(super) fn put(
        &self,
        recipe: &Recipe,
        at: &Location,
        look: &ExistingCheck,
        cancel: &AtomicBool,
        stages: &Stages,
    ) -> Result<Done, Failed> {
        let stores = self.cache.stores();
        let plan = recipe.plan().map_err(|e| Failed::by(FailureKind::Permanent, &e))?;
        let mut replace = self.replace;
        if let Some(head) = head(stores, at, look).map_err(|e| unreachable(&e))? {
            match self.stands(recipe, at, &head, look, stages)? {
                Some(done) if self.replaces(&done) => replace = true,
                Some(done) => return Ok(done),
                None => {}
            }
        }
        // No space or no such directory: whatever the reason, no granule can be made on this machine.
        let no_scratch = |e: CommitError| Failed::by(FailureKind::Returned, &e);
        let place = stores.scratch().join(format!("{}.nc", plan.id));
        // The scratch directory is ours, not one that recipes name.
        let partial = PartialFile::new(&place, &self.id, &Files::default()).map_err(no_scratch)?;
        let context = self.context(cancel, stages);
        let made = make::make(recipe, context, &partial.path())
            .map_err(|e| failure(&partial, &e, |_| FailureKind::Returned))?;
        if cancel.load(Ordering::Relaxed) {
            return Err(returned());
        }
        let put = || stores.put(&partial.path(), at, &plan.id, replace).map_err(|e| unreachable(&e));
        match stages.time(Stage::Upload, made.size, put)? {
            Committed::New => Ok(made.done(recipe, stages)),
            Committed::AlreadyThere => match head(stores, at, look).map_err(|e| unreachable(&e))? {
                Some(head) => existing(recipe, at, &head, look, stores, stages).unwrap_or_else(Err),
                None => {
                    let reason = format!("{at}: was there a moment ago, and is not any more");
                    Err(Failed::because(FailureKind::Transient, reason))
                }
            },
        }
    }

    /// Returns the granule if it exists at its destination, or `None` if it is to be made because the object there may
    /// be replaced.
    fn stands(
        &self,
        recipe: &Recipe,
        at: &Location,
        head: &Head,
        look: &ExistingCheck,
        stages: &Stages,
    ) -> Result<Option<Done>, Failed> {
        let stores = self.cache.stores();
        match existing(recipe, at, head, look, stores, stages)? {
            // Anything but the recipe's own complete granule may be replaced, if that was asked for.
            Err(_) if self.replace => Ok(None),
            Ok(done) if self.replace && done.older == 0 => {
                let copy = stores.local_copy(at, MAX_COPY).map_err(|e| unreachable(&e))?;
                Ok(super::is_whole(copy.path(), recipe).then_some(done))
            }
            found => found.map(Some),
        }
    }
}

/// Returns the metadata of an object, with the checksum that the store keeps if more than its identity is inspected.
fn head(stores: &Stores, at: &Location, look: &ExistingCheck) -> Result<Option<Head>, StoreError> {
    match look {
        ExistingCheck::Identity => stores.head(at),
        ExistingCheck::Content | ExistingCheck::Bytes(_) => stores.head_with_any_checksum(at),
    }
}

/// Returns what an object at the destination of a granule means for its recipe: the granule, or a conflict. The outer
/// error means that this cannot be determined. The granule is not downloaded: its bytes are known by the checksum that
/// its store keeps.
fn existing(
    recipe: &Recipe,
    at: &Location,
    head: &Head,
    look: &ExistingCheck,
    stores: &Stores,
    stages: &Stages,
) -> Result<Result<Done, Failed>, Failed> {
    let mut done = Done {
        already: true,
        location: recipe.granule.clone(),
        size: head.size,
        stages: stages.report(head.size),
        ..Done::default()
    };
    Ok(match inspect::identify_object(at, head, recipe, stores) {
        Ok(Identity::Same) => match (look, head.checksum.as_ref().and_then(Checksum::whole)) {
            (ExistingCheck::Bytes(recorded), Some(stored)) if stored.as_str() != recorded => {
                let reason = format!("it is damaged: its SHA-256 is {stored}, and was {recorded} when it was made");
                Err(super::conflict(recipe, &reason))
            }
            (ExistingCheck::Bytes(recorded), Some(_)) => {
                done.sha256.clone_from(recorded);
                Ok(done)
            }
            _ => Ok(done),
        },
        Ok(Identity::Older(version)) => Ok(Done { older: version, ..done }),
        Ok(Identity::Other(differs)) => Err(super::conflict(recipe, &super::another(&differs))),
        Err(InspectError::Store(error)) if !matches!(error, StoreError::TooLarge { .. }) => {
            return Err(unreachable(&error));
        }
        Err(error) => Err(super::conflict(recipe, &super::something(&error))),
    })
}

/// Classifies the error of a destination that cannot be inspected or written to. It concerns all granules of this
/// worker.
fn unreachable(error: &StoreError) -> Failed {
    let passes = error.is_transient() && !error.is_of_access();
    let kind = if passes { FailureKind::Transient } else { FailureKind::Returned };
    Failed::by(kind, error)
}

/// Removes granules in a scratch directory that workers of this machine have left which no longer run.
pub(crate) fn sweep_scratch(scratch: &Path) {
    let Ok(entries) = std::fs::read_dir(scratch) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some((granule, worker)) = granule_and_worker(&name) else { continue };
        // Files of other programs may lie there too. Ours are named by the id of the recipe, or of the mean.
        let id = granule.strip_suffix(".nc").or_else(|| granule.strip_suffix(MEAN_ENDING)).unwrap_or_default();
        if id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) && !may_be_at_work(worker) {
            let _ = std::fs::remove_file(entry.path()); // another worker that sweeps may be faster
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_dead_workers_left_is_swept_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let (id, host) = ("0a".repeat(32), super::super::identity::host());
        let (space, unique) = (super::super::identity::space().unwrap(), "0123456789abcdef");
        let dead = format!(".{id}.nc.{host}-{space}-7ffffffe-{unique}.part");
        let mean = format!(".{id}.mean.{host}-{space}-7ffffffe-{unique}.part");
        let stay = [
            format!(".{id}.nc.{host}-{space}-1-{unique}.part"), // the first process of this machine
            format!(".{id}.nc.{host}-{unique}-7ffffffe-{unique}.part"), // one of another container
            format!(".{id}.nc.elsewhere-{space}-7ffffffe-{unique}.part"),
            format!(".A.nc.{host}-{space}-7ffffffe-{unique}.part"),
            format!("{id}.nc"),
        ];
        for name in stay.iter().chain([&dead, &mean]) {
            std::fs::write(scratch.path().join(name), "").unwrap();
        }
        sweep_scratch(scratch.path());
        assert!([dead, mean].iter().all(|name| !scratch.path().join(name).exists()));
        assert!(stay.iter().all(|name| scratch.path().join(name).exists()));
    }
}
