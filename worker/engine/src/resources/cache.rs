//! The resources of all recipes of a process.

use super::load::{load_grid, load_target, load_texts};
use super::load_once::{Limit, LoadError, LoadOnce};
use super::verdicts::Verdicts;
use super::{ModelGrid, ResourceError, Resources, Target, Texts};
use crate::digest_cache::DigestCache;
use edp_protocol::recipe::Recipe;
use edp_protocol::{Digest, GridKind, Location};
use edp_store::Stores;
use std::any::type_name;
use std::fmt::Debug;
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Resources of each kind that are kept. A production has one of each, and a worker at a queue serves a few productions
/// in turn, some of them with the resources of another release; a grid keeps some ten files open.
const KEPT: usize = 8;

/// Memory of a job slot unless something else is asked for, in bytes: enough for 3-D fields of LLC1080.
pub const MEMORY: u64 = 4 << 30;

/// A grid may take as much as so many job slots, and so may all grids that are kept: LLC1080 with 90 levels takes 6.4
/// GB, LLC90 some 30 MB.
const GRID: u64 = 2;

/// What grids, and mapping factors, may take in any case, however little a slot may take: more than LLC90 and half a
/// degree need.
const LEAST: u64 = 256 << 20;

/// Bytes that resources may take.
#[derive(Debug, Clone, Copy)]
struct CacheLimits {
    /// A grid, and all grids that are kept.
    grid: u64,
    /// The levels of mapping factors, and all mapping factors that are kept.
    factors: u64,
}

/// Resources by the digests of their content.
#[derive(Debug)]
pub struct Cache {
    stores: Stores,
    memory: CacheLimits,
    digest_cache: DigestCache,
    verdicts: Verdicts,
    texts: LoadOnce<[Digest; 2], Arc<Texts>, ResourceError>,
    grids: LoadOnce<Digest, Arc<ModelGrid>, ResourceError>,
    /// Levels of mapping factors are read as they are needed, from where the recipes find them: so the place counts
    /// too.
    targets: LoadOnce<([Digest; 2], PathBuf), Arc<Target>, ResourceError>,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache::new(Stores::default())
    }
}

impl Cache {
    /// A cache of what is in these stores.
    pub fn new(stores: Stores) -> Cache {
        Cache::with_memory(stores, MEMORY)
    }

    /// The same; a grid may take twice as many bytes as `memory`, and so may all grids that are kept; mapping factors
    /// may take as many; both may take 256 MiB in any case. What would take more is refused before it is allocated,
    /// what is too much together is forgotten.
    pub fn with_memory(stores: Stores, memory: u64) -> Cache {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let memory = CacheLimits { grid: memory.saturating_mul(GRID).max(LEAST), factors: memory.max(LEAST) };
        Cache {
            stores,
            memory,
            digest_cache: DigestCache::default(),
            verdicts: Verdicts::default(),
            texts: LoadOnce::new(Limit { count: KEPT, bytes: usize::MAX, size: |_| 0 }),
            grids: LoadOnce::new(Limit { count: KEPT, bytes: bytes(memory.grid), size: |grid| grid.bytes() }),
            targets: LoadOnce::new(Limit {
                count: KEPT,
                bytes: bytes(memory.factors),
                size: |target| target.factors.bytes(),
            }),
        }
    }

    /// Where everything comes from.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Digests of inputs that were made into granules before.
    pub fn digest_cache(&self) -> &DigestCache {
        &self.digest_cache
    }

    /// The resources of a recipe. What is not there yet is loaded by the first that asks, and refused if its digest
    /// is not the recipe's; others that want the same wait for it.
    ///
    /// # Errors
    /// A resource is not named, not readable, damaged, or changed since planning; or `cancel` was set.
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
            GridKind::Native => None,
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

    /// Where a location is, under the one name that all its spellings have in common.
    fn place(&self, location: &str) -> Result<PathBuf, ResourceError> {
        Ok(match location.parse()? {
            // If it cannot be found out, loading says why.
            Location::Local(path) => self.stores.files().resolve(&path).unwrap_or(path),
            Location::S3 { bucket, key } => format!("s3://{bucket}/{}", key.trim_end_matches('/')).into(),
        })
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
