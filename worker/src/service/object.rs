//! Granules whose place is on S3: made in the scratch directory, and put there if nothing is there yet.

use super::{Worker, failure};
use crate::granule::inspect::{self, Identity, InspectError, MAX_COPY};
use crate::granule::make::{self, Means};
use edp_protocol::Location;
use edp_protocol::message::{Done, Failure, FailureKind, chain};
use edp_protocol::recipe::Recipe;
use edp_protocol::store::commit::{CommitError, Committed, Part};
use edp_protocol::store::{Head, StoreError};
use std::sync::atomic::AtomicBool;

impl Worker {
    /// [`Worker::produce`] for a place on S3; the recipe has been checked.
    pub(super) fn put(&self, recipe: &Recipe, at: &Location, cancel: &AtomicBool) -> Result<Done, Failure> {
        let stores = self.cache.stores();
        let plan = recipe.plan().map_err(|e| Failure { kind: FailureKind::Permanent, reason: chain(&e) })?;
        if let Some(head) = stores.head(at).map_err(|e| unreachable(&e))?
            && let Some(done) = self.stands(recipe, at, &head)?
        {
            return Ok(done);
        }
        // No space, no such directory: whatever it is, no granule can be made on this machine.
        let no_scratch = |e: CommitError| Failure { kind: FailureKind::Returned, reason: chain(&e) };
        let part = Part::new(&stores.scratch().join(format!("{}.nc", plan.id)), &self.id).map_err(no_scratch)?;
        let means = Means { cache: &self.cache, memory: self.memory, cancel };
        let made = make::make(recipe, means, part.path()).map_err(|e| failure(&part, &e, |_| FailureKind::Returned))?;
        let put = || stores.put(part.path(), at, &plan.id, self.replace).map_err(|e| unreachable(&e));
        match tracing::info_span!("upload").in_scope(put)? {
            Committed::New => Ok(Done { already: false, bytes: made.bytes, warnings: made.warnings }),
            Committed::AlreadyThere => match stores.head(at).map_err(|e| unreachable(&e))? {
                Some(head) => existing(recipe, at, &head, stores).unwrap_or_else(Err),
                None => {
                    let reason = format!("{at}: was there a moment ago, and is not any more");
                    Err(Failure { kind: FailureKind::Transient, reason })
                }
            },
        }
    }

    /// The granule if it stands at its place; none if it is to be made, since what is there may be replaced.
    fn stands(&self, recipe: &Recipe, at: &Location, head: &Head) -> Result<Option<Done>, Failure> {
        let stores = self.cache.stores();
        match existing(recipe, at, head, stores)? {
            // Whatever is not the recipe's own whole granule may be replaced, if that was asked for.
            Err(_) if self.replace => Ok(None),
            Ok(done) if self.replace => {
                let copy = stores.local_copy(at, MAX_COPY).map_err(|e| unreachable(&e))?;
                Ok(super::is_whole(copy.path(), recipe).then_some(done))
            }
            found => found.map(Some),
        }
    }
}

/// What an object in the place of a granule means for its recipe: the granule, or a conflict. The outer error is that
/// it cannot be found out.
fn existing(
    recipe: &Recipe,
    at: &Location,
    head: &Head,
    stores: &edp_protocol::store::Stores,
) -> Result<Result<Done, Failure>, Failure> {
    let conflict = |reason: String| Failure {
        kind: FailureKind::Conflict,
        reason: format!("{}: {reason}; --replace overwrites it", recipe.granule),
    };
    Ok(match inspect::identify_object(at, head, recipe, stores) {
        Ok(Identity::Same) => Ok(Done { already: true, bytes: head.size, warnings: Vec::new() }),
        Ok(Identity::Other(differs)) => Err(conflict(super::another(&differs))),
        Err(InspectError::Store(error)) if !matches!(error, StoreError::TooLarge { .. }) => {
            return Err(unreachable(&error));
        }
        Err(error) => Err(conflict(super::something(&error))),
    })
}

/// What it means that the place of a granule cannot be looked at or written: the granules of this worker all go there.
fn unreachable(error: &StoreError) -> Failure {
    let kind = if error.is_transient() { FailureKind::Transient } else { FailureKind::Returned };
    Failure { kind, reason: chain(error) }
}
