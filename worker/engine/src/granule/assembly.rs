//! A recipe with everything of which its granule is made.

use super::error::MakeError;
use super::remote::Remote;
use super::stages::Stages;
use crate::digest_cache::DigestCache;
use crate::granule_locks::GranuleLocks;
use crate::grid::{HorizontalPoint, Mask};
use crate::resources::{Cache, Resources};
use crate::shared_objects::SharedObjects;
use edp_protocol::Frequency;
use edp_protocol::name::GranuleName;
use edp_protocol::recipe::{Plan, Recipe};
use edp_store::Stores;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

/// Cache, limits and cancellation flag for making a granule.
#[derive(Debug, Clone, Copy)]
pub struct MakeContext<'a> {
    /// The resources that are loaded.
    pub cache: &'a Cache,
    /// Memory in bytes that a granule may take while it is made, in addition to the resources.
    pub memory: u64,
    /// True if each chunk is decompressed again before it is written.
    pub paranoid: bool,
    /// Name of the worker, which the partial file of a mean carries.
    pub worker: &'a str,
    /// Cancellation flag; checked before each level.
    pub cancel: &'a AtomicBool,
    /// The clock of this granule.
    pub stages: &'a Stages,
}

/// A recipe with everything of which its granule is made.
pub(super) struct Assembly<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) plan: &'a Plan,
    pub(super) name: GranuleName,
    pub(super) resources: Resources,
    pub(super) stores: &'a Stores,
    pub(super) digest_cache: &'a DigestCache,
    pub(super) mean_locks: &'a GranuleLocks,
    pub(super) shared_objects: &'a SharedObjects,
    /// Memory in bytes that may be taken in addition to the resources.
    pub(super) memory: u64,
    /// True if each chunk is decompressed again before it is written.
    pub(super) paranoid: bool,
    /// Name of the worker.
    pub(super) worker: &'a str,
    pub(super) cancel: &'a AtomicBool,
    pub(super) stages: &'a Stages,
    /// The inputs that are objects on S3, by path.
    pub(super) remotes: Mutex<HashMap<String, Remote>>,
}

impl<'a> Assembly<'a> {
    /// Loads the resources that the recipe shares with others.
    pub(super) fn new(recipe: &'a Recipe, context: MakeContext<'a>) -> Result<Assembly<'a>, MakeError> {
        let MakeContext { cache, memory, paranoid, worker, cancel, stages } = context;
        let plan = recipe.plan()?;
        let name = recipe.name()?;
        let resources = cache.resources(recipe, name.grid, cancel)?;
        if let Some(why) = recipe.contradiction_in_time(&name) {
            return Err(MakeError::Variable { granule: recipe.granule.clone(), variable: "-".into(), why: why.into() });
        }
        let (stores, digest_cache) = (cache.stores(), cache.digest_cache());
        Ok(Assembly {
            recipe,
            plan,
            name,
            resources,
            stores,
            digest_cache,
            mean_locks: cache.mean_locks(),
            shared_objects: cache.shared_objects(),
            memory,
            paranoid,
            worker,
            cancel,
            stages,
            remotes: Mutex::default(),
        })
    }

    pub(super) fn fail(&self, variable: &str, why: impl Into<String>) -> MakeError {
        MakeError::Variable { granule: self.recipe.granule.clone(), variable: variable.into(), why: why.into() }
    }

    /// Returns the mask of a point of the grid.
    pub(super) fn mask_of(&self, point: HorizontalPoint) -> &Mask {
        let model = &self.resources.grid;
        match point {
            HorizontalPoint::C => &model.native.mask_c,
            HorizontalPoint::U => &model.native.mask_w,
            HorizontalPoint::V => &model.native.mask_s,
            HorizontalPoint::Z => model.mask_z(),
        }
    }

    /// Returns true if the granule has a time.
    pub(super) fn has_time(&self) -> bool {
        self.name.frequency != Frequency::TimeInvariant
    }
}
