//! A pass over recipes by the code that makes granules, with nothing at the destination and no ledger.

use edp_engine::granule::make::MakeContext;
use edp_engine::granule::stages::Stages;
use edp_engine::libraries::silence_hdf5;
use edp_engine::resources::Cache;
use edp_files::at_once;
use edp_protocol::recipe::Recipe;
use edp_store::Stores;
use edp_worker::service::new_name;
use std::sync::atomic::AtomicBool;

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
    let (worker, cancel) = (new_name(), AtomicBool::new(false));
    at_once::map(recipes, slots, |recipe| {
        silence_hdf5(); // in whatever thread this is called
        let stages = &Stages::begin();
        let context = MakeContext { cache: &cache, memory, paranoid: false, worker: &worker, cancel: &cancel, stages };
        let result = work(recipe, context);
        progress();
        result
    })
}
