//! The cache of the resources of all recipes of a process.

use super::load::{load_grid, load_target, load_texts};
use super::load_once::{Limit, LoadError, LoadOnce};
use super::verdicts::Verdicts;
use super::{ModelGrid, ResourceError, Resources, Target, Texts};
use crate::digest_cache::DigestCache;
use crate::granule_locks::GranuleLocks;
use crate::shared_objects::SharedObjects;
use edp_protocol::recipe::Recipe;
use edp_protocol::{Digest, GridKind};
use edp_store::Stores;
use std::any::type_name;
use std::fmt::Debug;
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Number of resources of each kind that are kept. A production has one of each; a worker that takes tasks from a queue
/// serves a few productions in turn, some of them with the resources of another release. A grid keeps about ten files
/// open.
const KEPT: usize = 8;

/// Default memory of a job slot in bytes: enough for native fields of any grid, and for regridding those of LLC1080.
pub const MEMORY: u64 = 4 << 30;

/// Memory of a grid, as a multiple of that of a job slot; all grids that are kept may take as much together. LLC1080
/// with 90 levels takes about 1 GB, LLC90 about 8 MB.
const GRID: u64 = 2;

/// Number of bytes that grids, and mapping factors, may always take, however small a job slot is: more than LLC90 and
/// half a degree need.
const LEAST: u64 = 256 << 20;

/// The memory limits of resources in bytes.
#[derive(Debug, Clone, Copy)]
struct CacheLimits {
    /// Limit for a grid, and for all grids that are kept.
    grid: u64,
    /// Limit for the levels of mapping factors, and for all mapping factors that are kept.
    factors: u64,
}

/// A cache of resources, found by the digests of their content.
#[derive(Debug)]
pub struct Cache {
    stores: Stores,
    memory: CacheLimits,
    digest_cache: DigestCache,
    verdicts: Verdicts,
    mean_locks: GranuleLocks,
    shared_objects: Arc<SharedObjects>,
    texts: LoadOnce<[Digest; 2], Arc<Texts>, ResourceError>,
    grids: LoadOnce<Digest, Arc<ModelGrid>, ResourceError>,
    /// The levels of mapping factors are read when they are needed, from the place that the recipe names; so the place
    /// is part of the key.
    targets: LoadOnce<([Digest; 2], PathBuf), Arc<Target>, ResourceError>,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache::new(Stores::default())
    }
}

impl Cache {
    /// Makes a cache for resources that are read from these stores.
    pub fn new(stores: Stores) -> Cache {
        Cache::with_memory(stores, MEMORY)
    }

    /// Makes a cache with memory limits. A grid may take twice `memory` bytes, and so may all grids that are kept;
    /// mapping factors may take `memory` bytes; both may always take 256 MiB. A resource that would take more is
    /// refused before memory is allocated; if the kept resources take more together, the oldest are dropped.
    pub fn with_memory(stores: Stores, memory: u64) -> Cache {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let memory = CacheLimits { grid: memory.saturating_mul(GRID).max(LEAST), factors: memory.max(LEAST) };
        Cache {
            stores,
            memory,
            digest_cache: DigestCache::default(),
            verdicts: Verdicts::default(),
            mean_locks: GranuleLocks::default(),
            shared_objects: Arc::default(),
            texts: LoadOnce::new(Limit { count: KEPT, bytes: usize::MAX, size: |_| 0 }),
            grids: LoadOnce::new(Limit { count: KEPT, bytes: bytes(memory.grid), size: |grid| grid.bytes() }),
            targets: LoadOnce::new(Limit {
                count: KEPT,
                bytes: bytes(memory.factors),
                size: |target| target.factors.bytes(),
            }),
        }
    }

    /// Returns the stores from which resources are read.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Returns the digests of inputs from which granules were made before.
    pub(crate) fn digest_cache(&self) -> &DigestCache {
        &self.digest_cache
    }

    /// Returns the locks that let only one slot make a mean.
    pub(crate) fn mean_locks(&self) -> &GranuleLocks {
        &self.mean_locks
    }

    /// Returns the objects on S3 that the recipes of a group share.
    pub fn shared_objects(&self) -> &Arc<SharedObjects> {
        &self.shared_objects
    }

    /// Returns the resources of a recipe. A missing resource is loaded by the first thread that asks for it, and is
    /// refused if its digest is not the one in the recipe; other threads that need the same resource wait for it.
    ///
    /// # Errors
    /// Returns an error if the recipe does not name a resource, if a resource cannot be read, is damaged, or has
    /// changed since planning, or if `cancel` was set.
    pub fn resources(
        &self,
        recipe: &Recipe,
        grid_kind: GridKind,
        cancel: &AtomicBool,
    ) -> Result<Resources, ResourceError> {
        let (digests, stores) = (&recipe.plan()?.digests, &self.stores);
        let not_named =
            |what, key, option| ResourceError::NotNamed { granule: recipe.granule.clone(), what, key, option };
        let named =
            |what, key, option, value: &Option<String>| value.clone().ok_or_else(|| not_named(what, key, option));
        let configuration = &*named("configuration", "ecco_cfg_loc", "config", &recipe.ecco_cfg_loc)?;
        let metadata = &*named("metadata", "ecco_metadata_loc", "metadata", &recipe.ecco_metadata_loc)?;
        let grid = &*named("grid", "ecco_grid_loc", "grid", &recipe.ecco_grid_loc)?;

        let key = [digests.configuration.clone(), digests.metadata.clone()];
        let load = || load_texts(configuration, metadata, digests, stores, cancel).map(Arc::new);
        let texts = self.judged(&self.texts, &key, &[configuration, metadata], cancel, load)?;

        let load = || load_grid(grid, &digests.grid, stores, cancel, self.memory.grid).map(Arc::new);
        let model = self.judged(&self.grids, &digests.grid, &[grid], cancel, load)?;

        let target = match grid_kind {
            GridKind::Native | GridKind::Series => None,
            GridKind::Latlon => {
                let (what, option) = ("mapping factors", "mapping-factors");
                let factors = &*named(what, "ecco_mapping_factors_loc", option, &recipe.ecco_mapping_factors_loc)?;
                let planned = digests.factors.as_ref();
                let planned = planned.ok_or_else(|| not_named(what, "recipe.digests.factors", option))?;
                let key = ([digests.grid.clone(), planned.clone()], self.place(factors)?);
                let load =
                    || load_target(&model, [grid, factors], planned, stores, cancel, self.memory.factors).map(Arc::new);
                Some(self.judged(&self.targets, &key, &[grid, factors], cancel, load)?)
            }
        };
        Ok(Resources { texts, grid: model, target })
    }

    /// Returns a resource, unless there is a verdict on the files at its locations.
    fn judged<K: Eq + Hash + Clone + Debug, V: Clone>(
        &self,
        kept: &LoadOnce<K, V, ResourceError>,
        key: &K,
        locations: &[&str],
        cancel: &AtomicBool,
        load: impl FnOnce() -> Result<V, ResourceError>,
    ) -> Result<V, ResourceError> {
        let load = || {
            let wanted = format!("{} {key:?}", type_name::<V>());
            let evidence = || self.verdicts.evidence(&wanted, locations, &self.stores);
            let before = evidence();
            if let Some(error) = before.as_ref().and_then(|before| self.verdicts.find(before)) {
                return Err(ResourceError::Earlier(error));
            }
            load().map_err(|error| {
                if cancel.load(Ordering::Relaxed) || !error.is_verdict() {
                    return error;
                }
                let error = Arc::new(error);
                if let Some(before) = before {
                    self.verdicts.keep(&before, evidence().as_ref(), &error);
                }
                ResourceError::Earlier(error)
            })
        };
        Ok(kept.get(key, cancel, load)?)
    }

    /// Returns the path of a location in a form that is the same for all its spellings.
    fn place(&self, location: &str) -> Result<PathBuf, ResourceError> {
        // If it cannot be resolved, loading reports the reason.
        Ok(self.stores.resolved(&location.parse()?))
    }
}

impl From<LoadError<ResourceError>> for ResourceError {
    fn from(unloaded: LoadError<ResourceError>) -> ResourceError {
        match unloaded {
            LoadError::Cancelled => ResourceError::Cancelled,
            LoadError::Failed(error) => Arc::try_unwrap(error).unwrap_or_else(ResourceError::Earlier),
        }
    }
}
