//! Comparison of granules with what their inputs give: each granule is made once more in a local file, and what it holds
//! is compared with that.

use edp_engine::granule::chunks::silence_hdf5;
use edp_engine::granule::compare::differences;
use edp_engine::granule::inspect::MAX_COPY;
use edp_engine::granule::make::{self, MakeContext};
use edp_engine::granule::stages::Stages;
use edp_engine::resources::Cache;
use edp_files::commit::PartialFile;
use edp_files::{Files, regular};
use edp_production::verify::{Finding, Verified};
use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use edp_protocol::{Digest, Location};
use edp_store::Stores;
use edp_worker::service::new_name;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Makes every granule that was found to be good, or was not read, once more, `slots` of them at once, each with
/// `memory` bytes; and enters the findings. `progress` is called, from any thread, after each granule.
pub fn check(
    recipes: &[Recipe],
    verified: &mut Verified,
    (slots, memory): (usize, u64),
    stores: &Stores,
    progress: impl Fn() + Sync,
) {
    let settled: HashSet<&str> = verified.problems.iter().map(|(granule, _)| granule.as_str()).collect();
    let wanted: Vec<&Recipe> = recipes.iter().filter(|recipe| !settled.contains(recipe.granule.as_str())).collect();
    let (cache, cancel, next) =
        (Cache::with_memory(stores.clone(), memory), AtomicBool::new(false), AtomicUsize::new(0));
    let (worker, findings) = (new_name(), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..slots.clamp(1, wanted.len().max(1)) {
            let (cache, cancel, next, wanted) = (&cache, &cancel, &next, &wanted);
            let (worker, findings, progress) = (&worker, &findings, &progress);
            scope.spawn(move || {
                silence_hdf5();
                while let Some((at, recipe)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    wanted.get(at).map(|recipe| (at, *recipe))
                } {
                    let context = MakeContext { cache, memory, worker, cancel, stages: &Stages::begin() };
                    let finding = compared(recipe, context, stores);
                    findings.lock().unwrap_or_else(PoisonError::into_inner).push((at, recipe, finding));
                    progress();
                }
            });
        }
    });
    let mut findings: Vec<(usize, &Recipe, Finding)> = findings.into_inner().unwrap_or_else(PoisonError::into_inner);
    findings.sort_by_key(|(at, ..)| *at);
    for (_, recipe, finding) in findings {
        let was_unread = verified.unread.iter().position(|granule| *granule == recipe.granule);
        was_unread.map(|at| verified.unread.remove(at));
        match (finding, was_unread) {
            (Finding::Good, None) => {}
            (Finding::Good, Some(_)) => verified.good += 1,
            (finding, _) => {
                verified.good -= usize::from(was_unread.is_none());
                verified.problems.push((recipe.granule.clone(), finding));
            }
        }
    }
}

/// Makes a granule in the scratch directory, and compares that with the granule at the destination.
fn compared(recipe: &Recipe, context: MakeContext<'_>, stores: &Stores) -> Finding {
    let unknown =
        |what: &str, error: &dyn std::error::Error| Finding::Unknown(vec![format!("{what}: {}", chain(error))]);
    let id = recipe.recipe.as_ref().map_or("", |plan| plan.id.as_str());
    let place = stores.scratch().join(format!("{id}.nc"));
    let partial = match PartialFile::new(&place, context.worker, &Files::default()) {
        Ok(partial) => partial,
        Err(error) => return unknown("there is no place for its values", &error),
    };
    let made = match make::make(recipe, context, &partial.path()) {
        Ok(made) => made,
        Err(error) => return unknown("its values cannot be computed", &error),
    };
    let looked = recipe
        .granule
        .parse::<Location>()
        .map_err(|error| unknown("cannot be looked at", &error))
        .and_then(|at| stores.local_copy(&at, MAX_COPY).map_err(|error| unknown("cannot be looked at", &error)));
    let granule = match looked {
        Ok(granule) => granule,
        Err(finding) => return finding,
    };
    match regular::open(granule.path()).and_then(Digest::of_reader) {
        Err(error) => unknown("cannot be read", &error),
        Ok((digest, _)) if digest == made.digest => Finding::Good,
        Ok(_) => match differences(granule.path(), &partial.path()) {
            Ok(differences) if differences.is_empty() => Finding::Good,
            Ok(differences) => Finding::Damaged(differences),
            Err(error) => Finding::Damaged(vec![chain(&error)]),
        },
    }
}
