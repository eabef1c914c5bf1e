//! Recipes against what is there. Needs recipes and storage, nothing else.

use crate::destination::{Listings, Unlisted};
use crate::snapshots;
use edp_engine::granule::chunks::silence_hdf5;
use edp_engine::granule::inspect::{self, Identity, InspectError, MAX_COPY};
use edp_protocol::Location;
use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use edp_protocol::store::{StoreError, Stores};
use serde::Serialize;
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

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
    /// Something that is no granule, or is not whole.
    Damaged(Vec<String>),
    /// A granule of another recipe.
    Foreign(Vec<String>),
    /// The granule of the same recipe, made by an earlier output version.
    Older(u32),
    /// What is there could not be looked at: the store does not answer or refuses, or the file system does. Why.
    Unknown(Vec<String>),
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
    /// Whether every recipe's granule is as it should be, or was made by an earlier output version. Files that no recipe
    /// names do not matter for that.
    pub fn is_complete(&self) -> bool {
        self.problems.iter().all(|(_, finding)| matches!(finding, Finding::Older(_)))
    }

    /// Whether any granule could not be looked at.
    pub fn has_unknown(&self) -> bool {
        self.problems.iter().any(|(_, finding)| matches!(finding, Finding::Unknown(_)))
    }
}

impl std::fmt::Display for Verified {
    /// The counts in one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = |is: fn(&Finding) -> bool| self.problems.iter().filter(|(_, finding)| is(finding)).count();
        write!(
            f,
            "verified: {} good, {} missing, {} damaged, {} foreign",
            self.good,
            count(|finding| matches!(finding, Finding::Missing)),
            count(|finding| matches!(finding, Finding::Damaged(_))),
            count(|finding| matches!(finding, Finding::Foreign(_))),
        )?;
        for (count, word) in [
            (count(|finding| matches!(finding, Finding::Older(_))), "older"),
            (count(|finding| matches!(finding, Finding::Unknown(_))), "unknown"),
        ] {
            if count > 0 {
                write!(f, ", {count} {word}")?;
            }
        }
        Ok(())
    }
}

/// Looks at the granule of every recipe, and for files that no recipe names in their directories. Whatever cannot be
/// looked at is a finding too: nothing keeps the rest from being looked at.
pub fn verify(recipes: &[Recipe], depth: Depth, stores: &Stores) -> Verified {
    silence_hdf5();
    let mut verified = Verified::default();
    let mut named = HashSet::new();
    let mut directories = BTreeSet::new();
    let mut listings = Listings::new(stores);
    let mut findings: Vec<Option<Finding>> = Vec::new();
    // What is there on S3, to be looked at several at once.
    let mut objects = Vec::new();
    for (at, recipe) in recipes.iter().enumerate() {
        let location = match recipe.granule.parse::<Location>() {
            Ok(location) => location,
            Err(error) => {
                findings.push(Some(Finding::Unknown(vec![chain(&error)])));
                continue;
            }
        };
        findings.push(match &location {
            Location::Local(path) => {
                directories.extend(path.parent().map(Path::to_owned));
                Some(look(path, recipe, depth))
            }
            Location::S3 { bucket, key } => match listings.holds(bucket, key) {
                Ok(false) => Some(Finding::Missing),
                // A directory that may not be listed may still be read. What else hinders would hinder every look.
                Err(Unlisted { may_be_read: false, why }) => Some(Finding::Unknown(vec![why])),
                Ok(true) | Err(Unlisted { may_be_read: true, .. }) => {
                    objects.push((at, location.clone()));
                    None
                }
            },
        });
        named.insert(location);
    }
    for (at, finding) in look_at_objects(&objects, recipes, depth, stores) {
        findings[at] = Some(finding);
    }
    for (recipe, finding) in recipes.iter().zip(findings) {
        match finding {
            Some(Finding::Good) => verified.good += 1,
            finding => {
                let unseen = || Finding::Unknown(vec!["it was not looked at".into()]);
                verified.problems.push((recipe.granule.clone(), finding.unwrap_or_else(unseen)));
            }
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
        let ours = |path: &std::path::PathBuf| path.file_name().is_some_and(|name| name == snapshots::DIRECTORY);
        let paths = entries.flatten().map(|entry| entry.path()).filter(|path| !ours(path)).map(Location::Local);
        verified.extra.extend(paths.filter(|path| !named.contains(path)).map(|path| path.to_string()));
    }
    let (others, unlisted) = listings.others(&named);
    verified.extra.extend(others);
    verified.unlisted.extend(unlisted);
    verified.extra.sort();
    verified
}

/// Looks at objects, by their place in the list of recipes.
fn look_at_objects(
    objects: &[(usize, Location)],
    recipes: &[Recipe],
    depth: Depth,
    stores: &Stores,
) -> Vec<(usize, Finding)> {
    // A look at the id is a wait for an answer; a closer one needs the object in memory.
    let threads = match depth {
        Depth::Present => 16,
        Depth::Structure => 2,
    };
    let next = AtomicUsize::new(0);
    let work = || {
        silence_hdf5();
        let mut findings = Vec::new();
        while let Some((at, location)) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
            findings.push((*at, look_at_object(location, &recipes[*at], depth, stores)));
        }
        findings
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.min(objects.len())).map(|_| scope.spawn(work)).collect();
        let ended = threads.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ended.flatten().collect()
    })
}

fn look_at_object(at: &Location, recipe: &Recipe, depth: Depth, stores: &Stores) -> Finding {
    let unseen = |error: &StoreError| Finding::Unknown(vec![format!("cannot be looked at: {}", chain(error))]);
    let head = match stores.head(at) {
        Ok(Some(head)) => head,
        Ok(None) => return Finding::Missing,
        Err(error) => return unseen(&error),
    };
    match inspect::identify_object(at, &head, recipe, stores) {
        Ok(Identity::Same) if depth == Depth::Present => Finding::Good,
        Ok(Identity::Same) => match stores.local_copy(at, MAX_COPY) {
            Ok(copy) => look(copy.path(), recipe, depth),
            Err(error) => unseen(&error),
        },
        Ok(Identity::Other(differs)) => {
            let identify = |earlier: &Recipe| inspect::identify_object(at, &head, earlier, stores);
            older(recipe, identify).unwrap_or(Finding::Foreign(differs))
        }
        Err(InspectError::Store(error)) if error.is_missing() => Finding::Missing,
        Err(InspectError::Store(error)) => unseen(&error),
        Err(error) => Finding::Damaged(vec![chain(&error)]),
    }
}

fn look(path: &Path, recipe: &Recipe, depth: Depth) -> Finding {
    let unseen = |error: io::Error| Finding::Unknown(vec![format!("cannot be looked at: {error}")]);
    match path.metadata() {
        // Opening a pipe would wait for somebody to write into it.
        Ok(found) if !found.is_file() => return Finding::Damaged(vec!["it is not a regular file".into()]),
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Finding::Missing;
        }
        Err(error) if is_loop(&error) => return Finding::Damaged(vec!["it is a link that leads to itself".into()]),
        Err(error) => return unseen(error),
    }
    // The library that reads granules does not say whether the system refused to read, or what was read is damaged.
    let damaged = |problems| match readable(path) {
        Ok(()) => Finding::Damaged(problems),
        Err(error) => unseen(error),
    };
    match inspect::identify(path, recipe) {
        Err(error) => return damaged(vec![chain(&error)]),
        Ok(Identity::Other(differs)) => {
            return older(recipe, |earlier| inspect::identify(path, earlier)).unwrap_or(Finding::Foreign(differs));
        }
        Ok(Identity::Same) => {}
    }
    if depth == Depth::Present {
        return Finding::Good;
    }
    match inspect::structure(path, recipe) {
        Err(error) => damaged(vec![chain(&error)]),
        Ok(problems) if !problems.is_empty() => damaged(problems),
        Ok(_) => Finding::Good,
    }
}

fn is_loop(error: &io::Error) -> bool {
    rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::LOOP)
}

/// Whether the system gives out every byte of a file.
fn readable(path: &Path) -> io::Result<()> {
    io::copy(&mut File::open(path)?, &mut io::sink()).map(drop)
}

/// Whether what stands there is the granule that an earlier output version made by the same recipe.
fn older(recipe: &Recipe, identify: impl Fn(&Recipe) -> Result<Identity, InspectError>) -> Option<Finding> {
    recipe.earlier_ids().ok()?.into_iter().find_map(|(version, id)| {
        let mut earlier = recipe.clone();
        earlier.recipe.as_mut()?.id = id;
        matches!(identify(&earlier), Ok(Identity::Same)).then_some(Finding::Older(version))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use edp_protocol::settings::StoreSettings;
    use std::os::unix::fs::symlink;

    fn recipe(granule: &str) -> Recipe {
        let mut recipe = crate::fixture::recipes(&[edp_protocol::GridKind::Native]).remove(0);
        recipe.granule = granule.into();
        recipe
    }

    fn finding(granule: &str, stores: &Stores) -> Finding {
        let mut verified = verify(&[recipe(granule)], Depth::Present, stores);
        verified.problems.remove(0).1
    }

    #[test]
    fn what_could_not_be_looked_at_is_unknown_and_what_is_no_granule_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(at("text"), "no granule").unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        symlink(at("loop"), at("loop")).unwrap();
        let stores = Stores::default();
        for name in ["text", "directory", "loop"] {
            assert!(matches!(finding(&at(name), &stores), Finding::Damaged(_)), "{name}");
        }
        for name in ["none", "text/none", "none/none"] {
            assert_eq!(finding(&at(name), &stores), Finding::Missing, "{name}");
        }
        // Longer than any name may be: the system refuses to say what is there.
        let long = verify(&[recipe(&at(&"x".repeat(5000)))], Depth::Present, &stores);
        assert!(long.has_unknown() && !long.is_complete());
        let mut settings = StoreSettings::default();
        settings.s3.endpoint = Some("no address".into());
        let refused = verify(&[recipe("s3://bucket/a/g.nc")], Depth::Present, &Stores::new(&settings));
        assert!(refused.has_unknown(), "{:?}", refused.problems);
    }
}
