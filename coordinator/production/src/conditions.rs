//! Checks that the stores of destinations respect conditional writes, by which each granule is written only once. The
//! coordinator does this once in a session, and only if something is to be written; workers rely on it.

use crate::destination::Listings;
use edp_protocol::Location;
use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use edp_store::{StoreError, Stores};
use std::collections::BTreeSet;

/// Tries the destinations on S3 of recipes whose granules do not all exist; `destination` is that of a list which is
/// still to come. Returns a warning for each place where the trial was not possible; workers that write there report
/// the reason.
///
/// # Errors
/// Returns an error if a store ignores conditions, or its settings cannot be used.
pub fn check(recipes: &[Recipe], destination: Option<&str>, stores: &Stores) -> Result<Vec<String>, StoreError> {
    let mut listings = Listings::new(stores);
    let mut roots: BTreeSet<&str> = destination.filter(|_| recipes.is_empty()).into_iter().collect();
    for recipe in recipes {
        let Some(root) = recipe.recipe.as_ref().map(|plan| plan.roots.destination.as_str()) else { continue };
        if !roots.contains(root)
            && let Ok(Location::Object(object)) = recipe.granule.parse()
            // An object in a directory that cannot be listed counts as missing.
            && !listings.holds(&object).unwrap_or(false)
        {
            roots.insert(root);
        }
    }
    let mut warnings = Vec::new();
    for root in roots {
        let Ok(location) = root.parse::<Location>() else { continue };
        match stores.check_conditions(&location) {
            Ok(()) => {}
            Err(error) if error.forbids_commits() => return Err(error),
            Err(error) => warnings.push(format!(
                "whether the store of {root} obeys conditions of writes could not be found out: {}",
                chain(&error)
            )),
        }
    }
    Ok(warnings)
}
