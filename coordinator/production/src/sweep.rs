//! Removal of what workers have left of granules that they did not finish.

use edp_files::commit;
use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use edp_protocol::{Location, ObjectAddress};
use edp_store::Stores;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Removes the partial files beside the granules of `recipes` and the means that these need, except for those of
/// workers that may be `at_work`, and aborts unfinished uploads of them to S3, whose owners are unknown. Returns a warning for each place where
/// this was not possible.
pub fn sweep(recipes: &[Recipe], at_work: impl Fn(&str) -> bool, stores: &Stores) -> Vec<String> {
    let means: BTreeSet<String> = recipes.iter().flat_map(Recipe::mean_places).collect();
    let texts = recipes.iter().map(|recipe| &recipe.granule).chain(&means);
    let granules: Vec<Location> = texts.filter_map(|text| text.parse().ok()).collect();
    let mut warnings = Vec::new();
    let paths = granules.iter().filter_map(|granule| granule.local().ok());
    if let Err(error) = commit::sweep(paths, at_work) {
        warnings.push(chain(&error));
    }
    let mut directories: BTreeMap<ObjectAddress, HashSet<&str>> = BTreeMap::new();
    for granule in &granules {
        if let Location::Object(object) = granule {
            directories.entry(object.split().0).or_default().insert(&object.key);
        }
    }
    for (directory, keys) in directories {
        if let Err(error) = stores.abort_uploads(&directory, &|key| keys.contains(key)) {
            warnings.push(format!("{directory}: unfinished uploads may be left: {}", chain(&error)));
        }
    }
    warnings
}
