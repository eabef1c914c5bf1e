//! Comparison of granules with what their inputs give: each granule is made once more in a local file, and what it holds
//! is compared with that.

use crate::pass;
use edp_engine::granule::compare::differences;
use edp_engine::granule::inspect::MAX_COPY;
use edp_engine::granule::make::{self, MakeContext};
use edp_engine::reader::ReadError;
use edp_files::commit::PartialFile;
use edp_files::{Files, regular};
use edp_production::verify::{Finding, Verified};
use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use edp_protocol::{Digest, Location};
use edp_store::Stores;
use std::collections::HashSet;

/// Makes every granule that was found to be good, or was not read, once more, and enters the findings. `resources` are
/// the number of granules that are made at once, and the memory in bytes of each. `progress` is called, from any thread,
/// after each granule.
pub fn check(
    recipes: &[Recipe],
    verified: &mut Verified,
    resources: (usize, u64),
    stores: &Stores,
    progress: impl Fn() + Sync,
) {
    let settled: HashSet<&str> = verified.problems.iter().map(|(granule, _)| granule.as_str()).collect();
    let wanted: Vec<&Recipe> = recipes.iter().filter(|recipe| !settled.contains(recipe.granule.as_str())).collect();
    let compared = |recipe: &Recipe, context: MakeContext<'_>| compared(recipe, context, stores);
    let findings = pass::over(&wanted, resources, stores, compared, progress);
    let others = wanted.iter().zip(findings).filter(|(_, finding)| *finding != Finding::Good);
    let others: Vec<_> = others.map(|(recipe, finding)| (recipe.granule.clone(), finding)).collect();
    (verified.good, verified.unread) = (wanted.len() - others.len(), Vec::new());
    verified.problems.extend(others);
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
            Err(error @ ReadError::Io { .. }) => unknown("cannot be read", &error),
            Err(error) => Finding::Damaged(vec![chain(&error)]),
        },
    }
}
