//! Removal of what workers have left of granules that they did not finish.

use edp_files::commit;
use edp_protocol::Location;
use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use edp_store::{StoreError, Stores};
use std::collections::{BTreeMap, HashSet};

/// Removes the partial files beside the granules of `recipes`, except for those of workers that may be `at_work`, and
/// aborts unfinished uploads of the granules to S3, whose owners are unknown. Returns a warning for each place where
/// this was not possible.
pub fn sweep(recipes: &[Recipe], at_work: impl Fn(&str) -> bool, stores: &Stores) -> Vec<String> {
    let granules: Vec<Location> = recipes.iter().filter_map(|recipe| recipe.granule.parse().ok()).collect();
    let mut warnings = Vec::new();
    let paths = granules.iter().filter_map(|granule| granule.local().ok());
    if let Err(error) = commit::sweep(paths, at_work) {
        warnings.push(chain(&error));
    }
    let mut directories: BTreeMap<(&str, &str), HashSet<&str>> = BTreeMap::new();
    for granule in &granules {
        if let Location::S3 { bucket, key } = granule {
            let directory = key.rsplit_once('/').map_or("", |(directory, _)| directory);
            directories.entry((bucket, directory)).or_default().insert(key);
        }
    }
    for ((bucket, directory), keys) in directories {
        let abort =
            || stores.s3()?.abort_uploads(bucket, directory, &|key| keys.contains(key)).map_err(StoreError::from);
        if let Err(error) = abort() {
            warnings.push(format!("s3://{bucket}/{directory}: unfinished uploads may be left: {}", chain(&error)));
        }
    }
    warnings
}
