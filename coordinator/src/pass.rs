//! A pass over recipes by the code that makes granules, with nothing at the destination and no ledger.

use edp_engine::granule::chunks::silence_hdf5;
use edp_engine::granule::make::MakeContext;
use edp_engine::granule::stages::Stages;
use edp_engine::resources::Cache;
use edp_protocol::recipe::Recipe;
use edp_store::Stores;
use edp_worker::service::new_name;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Calls `work` for each recipe, for `slots` of them at once, each with `memory` bytes, and returns the results in the
/// order of the recipes. `progress` is called, from any thread, after each recipe.
pub(crate) fn over<R: Send>(
    recipes: &[&Recipe],
    (slots, memory): (usize, u64),
    stores: &Stores,
    work: impl Fn(&Recipe, MakeContext<'_>) -> R + Sync,
    progress: impl Fn() + Sync,
) -> Vec<R> {
    let cache = Cache::with_memory(stores.clone(), memory);
    let (worker, cancel, next) = (new_name(), AtomicBool::new(false), AtomicUsize::new(0));
    let results = Mutex::new(Vec::with_capacity(recipes.len()));
    std::thread::scope(|scope| {
        for _ in 0..slots.clamp(1, recipes.len().max(1)) {
            scope.spawn(|| {
                silence_hdf5();
                while let Some((at, recipe)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    recipes.get(at).map(|recipe| (at, *recipe))
                } {
                    let stages = &Stages::begin();
                    let context = MakeContext { cache: &cache, memory, worker: &worker, cancel: &cancel, stages };
                    let result = work(recipe, context);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
                    progress();
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}
