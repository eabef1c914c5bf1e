//! Recipes against what is there. Needs recipes and storage, nothing else.

use edp_protocol::Location;
use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use edp_worker::granule::chunks::silence_hdf5;
use edp_worker::granule::inspect::{self, Identity, InspectError};
use serde::Serialize;
use std::collections::{BTreeSet, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// How closely granules are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// There, readable, of the right recipe.
    Present,
    /// Also whole: variables, chunks, fill values, time and bounds.
    Structure,
}

/// What was found in the place of a granule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "finding", content = "detail")]
pub enum Finding {
    /// The granule, as it should be.
    Good,
    /// Nothing.
    Missing,
    /// Something that cannot be read, or is not whole.
    Damaged(Vec<String>),
    /// A granule of another recipe.
    Foreign(Vec<String>),
}

/// The result for a list of recipes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verified {
    /// Granules that are as they should be.
    pub good: usize,
    /// Every other granule with what was found.
    pub problems: Vec<(String, Finding)>,
    /// Files beside the granules that no recipe names.
    pub extra: Vec<String>,
}

impl Verified {
    /// Whether every recipe's granule is as it should be. Files that no recipe names do not matter for that.
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Why storage could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A recipe is not usable.
    #[error(transparent)]
    Recipe(#[from] edp_protocol::recipe::RecipeError),
    /// A location is not usable.
    #[error(transparent)]
    Location(#[from] edp_protocol::location::LocationError),
    /// A directory cannot be listed.
    #[error("{path}: cannot be listed: {source}")]
    List {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Looks at the granule of every recipe, and for files that no recipe names in their directories.
///
/// # Errors
/// A recipe is not usable or a directory not listable. A granule that is missing or wrong is no error but a finding.
pub fn verify(recipes: &[Recipe], depth: Depth) -> Result<Verified, VerifyError> {
    silence_hdf5();
    let mut verified = Verified::default();
    let mut named = HashSet::new();
    let mut directories = BTreeSet::new();
    for recipe in recipes {
        let location: Location = recipe.granule.parse()?;
        let path = location.local()?;
        named.insert(path.to_owned());
        directories.extend(path.parent().map(Path::to_owned));
        match look(path, recipe, depth)? {
            Finding::Good => verified.good += 1,
            finding => verified.problems.push((recipe.granule.clone(), finding)),
        }
    }
    for directory in directories {
        let fail = |source| VerifyError::List { path: directory.clone(), source };
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            Err(e) => return Err(fail(e)),
        };
        for entry in entries {
            let path = entry.map_err(fail)?.path();
            if !named.contains(&path) {
                verified.extra.push(path.display().to_string());
            }
        }
    }
    verified.extra.sort();
    Ok(verified)
}

fn look(path: &Path, recipe: &Recipe, depth: Depth) -> Result<Finding, VerifyError> {
    let damaged = |error: InspectError| match error {
        InspectError::Recipe(error) => Err(error.into()),
        error => Ok(Finding::Damaged(vec![chain(&error)])),
    };
    if !path.exists() {
        return Ok(Finding::Missing);
    }
    match inspect::identify(path, recipe) {
        Err(error) => return damaged(error),
        Ok(Identity::Other(differs)) => return Ok(Finding::Foreign(differs)),
        Ok(Identity::Same) => {}
    }
    if depth >= Depth::Structure {
        match inspect::structure(path, recipe) {
            Err(error) => return damaged(error),
            Ok(problems) if !problems.is_empty() => return Ok(Finding::Damaged(problems)),
            Ok(_) => {}
        }
    }
    Ok(Finding::Good)
}
