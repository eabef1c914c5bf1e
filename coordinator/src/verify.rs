//! Recipes against what is there. Needs recipes and storage, nothing else.

use crate::production::snapshots;
use edp_protocol::Location;
use edp_protocol::location::LocationError;
use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use edp_worker::granule::chunks::silence_hdf5;
use edp_worker::granule::inspect::{self, Identity};
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
    /// Directories that could not be searched for such files, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unlisted: Vec<String>,
}

impl Verified {
    /// Whether every recipe's granule is as it should be. Files that no recipe names do not matter for that.
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Looks at the granule of every recipe, and for files that no recipe names in their directories. Whatever cannot be
/// looked at is a finding too: nothing keeps the rest from being looked at.
pub fn verify(recipes: &[Recipe], depth: Depth) -> Verified {
    silence_hdf5();
    let mut verified = Verified::default();
    let mut named = HashSet::new();
    let mut directories = BTreeSet::new();
    for recipe in recipes {
        let finding = match local_path(recipe) {
            Err(error) => Finding::Damaged(vec![chain(&error)]),
            Ok(path) => {
                let finding = look(&path, recipe, depth);
                directories.extend(path.parent().map(Path::to_owned));
                named.insert(path);
                finding
            }
        };
        match finding {
            Finding::Good => verified.good += 1,
            finding => verified.problems.push((recipe.granule.clone(), finding)),
        }
    }
    for directory in directories {
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            Err(e) => {
                verified.unlisted.push(format!("{}: {e}", directory.display()));
                continue;
            }
        };
        let ours = |path: &PathBuf| path.file_name().is_some_and(|name| name == snapshots::DIRECTORY);
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| !named.contains(path) && !ours(path)) {
            verified.extra.push(path.display().to_string());
        }
    }
    verified.extra.sort();
    verified
}

fn local_path(recipe: &Recipe) -> Result<PathBuf, LocationError> {
    Ok(recipe.granule.parse::<Location>()?.local()?.to_owned())
}

fn look(path: &Path, recipe: &Recipe, depth: Depth) -> Finding {
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Finding::Missing,
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Finding::Missing,
        Err(error) => return Finding::Damaged(vec![format!("cannot be looked at: {error}")]),
    }
    match inspect::identify(path, recipe) {
        Err(error) => return Finding::Damaged(vec![chain(&error)]),
        Ok(Identity::Other(differs)) => return Finding::Foreign(differs),
        Ok(Identity::Same) => {}
    }
    if depth == Depth::Present {
        return Finding::Good;
    }
    match inspect::structure(path, recipe) {
        Err(error) => Finding::Damaged(vec![chain(&error)]),
        Ok(problems) if !problems.is_empty() => Finding::Damaged(problems),
        Ok(_) => Finding::Good,
    }
}
