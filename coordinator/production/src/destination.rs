//! What stands at the destination, by name: each directory on S3 is listed once, instead of asking for every granule.

use edp_protocol::Location;
use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use edp_store::Stores;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The names in directories on S3.
#[derive(Debug)]
pub struct Listings<'a> {
    stores: &'a Stores,
    /// By bucket and directory; or why it could not be listed.
    directories: BTreeMap<(String, String), Result<BTreeSet<String>, UnlistedDirectory>>,
}

/// The reason why a directory could not be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnlistedDirectory {
    /// Whether objects in it may be there to be read all the same: only listing is not allowed.
    pub may_be_read: bool,
    /// Why, in words.
    pub why: String,
}

impl<'a> Listings<'a> {
    /// Nothing is listed yet.
    pub fn new(stores: &'a Stores) -> Listings<'a> {
        Listings { stores, directories: BTreeMap::new() }
    }

    /// Whether an object is there. The directory that it is in is listed if it was not before.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn holds(&mut self, bucket: &str, key: &str) -> Result<bool, UnlistedDirectory> {
        let (directory, name) = split(key);
        let stores = self.stores;
        let place = (bucket.to_owned(), directory.to_owned());
        let listed = self.directories.entry(place).or_insert_with(|| {
            let mut names = BTreeSet::new();
            let mut see = |object: edp_store::Object| {
                // What is further down belongs to other directories.
                if !object.path.is_empty() && !object.path.contains('/') {
                    names.insert(object.path);
                }
            };
            let listed = stores.s3().and_then(|s3| Ok(s3.list(bucket, directory, &mut see)?));
            listed
                .map(|()| names)
                .map_err(|error| UnlistedDirectory { may_be_read: error.is_denied(), why: chain(&error) })
        });
        listed.as_ref().map(|names| names.contains(name)).map_err(Clone::clone)
    }

    /// All that was found but for what is `named`, and the directories that could not be listed with the reason.
    pub fn others(&self, named: &HashSet<Location>) -> (Vec<String>, Vec<String>) {
        let (mut others, mut unlisted) = (Vec::new(), Vec::new());
        for ((bucket, directory), names) in &self.directories {
            let at = Location::S3 { bucket: bucket.clone(), key: directory.clone() };
            match names {
                Err(unseen) => unlisted.push(format!("{at}: {}", unseen.why)),
                Ok(names) => {
                    let found = names.iter().map(|name| at.join(name));
                    others.extend(found.filter(|object| !named.contains(object)).map(|object| object.to_string()));
                }
            }
        }
        (others, unlisted)
    }
}

/// Directory and name of a key.
fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('/').unwrap_or(("", key))
}

/// Ids of those among some recipes whose granules are not there.
///
/// # Errors
/// A directory on S3 cannot be listed, in words.
pub fn absent<'r>(recipes: impl IntoIterator<Item = &'r Recipe>, stores: &Stores) -> Result<Vec<String>, String> {
    let mut listings = Listings::new(stores);
    let mut absent = Vec::new();
    for recipe in recipes {
        let (Some(plan), Ok(location)) = (&recipe.recipe, recipe.granule.parse()) else { continue };
        let there = match &location {
            Location::Local(path) => path.exists(),
            Location::S3 { bucket, key } => listings.holds(bucket, key).map_err(|unlisted| unlisted.why)?,
        };
        if !there {
            absent.push(plan.id.clone());
        }
    }
    Ok(absent)
}
