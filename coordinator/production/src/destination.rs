//! Listings of destinations: each directory on S3 is listed once, instead of one request for each granule.

use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use edp_protocol::{Location, ObjectAddress};
use edp_store::Stores;
use std::collections::{BTreeMap, BTreeSet};

/// The names of objects in directories on S3.
#[derive(Debug)]
pub struct Listings<'a> {
    stores: &'a Stores,
    /// By directory: the names, or the reason why it could not be listed.
    directories: BTreeMap<ObjectAddress, Result<BTreeSet<String>, UnlistedDirectory>>,
}

/// The reason why a directory could not be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnlistedDirectory {
    /// True if its objects may be readable nevertheless, since only listing is denied.
    pub may_be_read: bool,
    /// Description of the problem.
    pub why: String,
}

impl<'a> Listings<'a> {
    /// Makes an empty set of listings.
    pub fn new(stores: &'a Stores) -> Listings<'a> {
        Listings { stores, directories: BTreeMap::new() }
    }

    /// Returns true if an object exists. Lists its directory if that was not done before.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be listed.
    pub fn holds(&mut self, object: &ObjectAddress) -> Result<bool, UnlistedDirectory> {
        let (directory, name) = object.split();
        let stores = self.stores;
        let listed = self.directories.entry(directory.clone()).or_insert_with(|| {
            let mut names = BTreeSet::new();
            let mut see = |object: edp_store::Object| {
                // Objects further down belong to other directories.
                if !object.path.is_empty() && !object.path.contains('/') {
                    names.insert(object.path);
                }
            };
            let listed = stores.list(&directory, &mut see);
            listed
                .map(|()| names)
                .map_err(|error| UnlistedDirectory { may_be_read: error.is_denied(), why: chain(&error) })
        });
        listed.as_ref().map(|names| names.contains(name)).map_err(Clone::clone)
    }

    /// Returns all objects that were found except those that are named, and the directories that could not be listed,
    /// with reasons.
    pub fn others(&self, is_named: &dyn Fn(&Location) -> bool) -> (Vec<String>, Vec<String>) {
        let (mut others, mut unlisted) = (Vec::new(), Vec::new());
        for (directory, names) in &self.directories {
            let at = Location::Object(directory.clone());
            match names {
                Err(unseen) => unlisted.push(format!("{at}: {}", unseen.why)),
                Ok(names) => {
                    let found = names.iter().map(|name| at.join(name));
                    others.extend(found.filter(|object| !is_named(object)).map(|object| object.to_string()));
                }
            }
        }
        (others, unlisted)
    }
}

/// Returns the ids of the recipes whose granules do not exist.
///
/// # Errors
/// Returns a description of the problem if a directory on S3 cannot be listed.
pub fn absent<'r>(recipes: impl IntoIterator<Item = &'r Recipe>, stores: &Stores) -> Result<Vec<String>, String> {
    let mut listings = Listings::new(stores);
    let mut absent = Vec::new();
    for recipe in recipes {
        let (Some(plan), Ok(location)) = (&recipe.recipe, recipe.granule.parse()) else { continue };
        let there = match &location {
            Location::Local(path) => path.exists(),
            Location::Object(object) => listings.holds(object).map_err(|unlisted| unlisted.why)?,
        };
        if !there {
            absent.push(plan.id.clone());
        }
    }
    Ok(absent)
}
