//! The coordinator's own inspection of a recipe's inputs, and its consequences for workers that do not find them.

use edp_files::regular;
use edp_protocol::Location;
use edp_protocol::recipe::Recipe;
use edp_store::Stores;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

/// The result of looking for the files that a recipe names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SourceState {
    /// All of them exist and can be read.
    There,
    /// One of them does not exist, while its directory does and is not empty.
    Absent(String),
    /// It cannot be determined: the coordinator may run on a machine that does not have these file systems.
    Unknown,
}

/// Looks for everything that a recipe names. Blocks as long as the file systems do.
fn look(recipe: &Recipe, stores: &Stores) -> SourceState {
    let inputs = recipe.input_paths().map(str::to_owned).chain(recipe.period_paths());
    let shared =
        [&recipe.ecco_cfg_loc, &recipe.ecco_metadata_loc, &recipe.ecco_grid_loc, &recipe.ecco_mapping_factors_loc];
    let shared = shared.into_iter().flatten().cloned();
    let mut all = SourceState::There;
    for (text, is_input) in inputs.map(|text| (text, true)).chain(shared.map(|text| (text, false))) {
        let sight = match text.parse::<Location>() {
            Ok(Location::Local(path)) => look_at(&path),
            Ok(at @ Location::Object(_)) if is_input => match stores.head(&at) {
                Ok(Some(_)) => SourceState::There,
                Ok(None) => SourceState::Absent(text),
                Err(_) => SourceState::Unknown,
            },
            // A directory on S3 is a prefix, and nothing tells whether it is complete.
            Ok(Location::Object(_)) | Err(_) => SourceState::Unknown,
        };
        match sight {
            SourceState::There => {}
            SourceState::Absent(_) => return sight,
            SourceState::Unknown => all = SourceState::Unknown,
        }
    }
    all
}

/// Looks for a file, or for a directory that is not empty.
fn look_at(path: &Path) -> SourceState {
    let is_empty = |directory: &Path| !std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some());
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() && is_empty(path) => SourceState::Unknown,
        Ok(found) if found.is_dir() || regular::open(path).is_ok() => SourceState::There,
        // If the directory above is empty, a file system may not be mounted here.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => match path.parent() {
            Some(parent) if !is_empty(parent) => SourceState::Absent(path.display().to_string()),
            _ => SourceState::Unknown,
        },
        Ok(_) | Err(_) => SourceState::Unknown,
    }
}

/// Number of recipes for which a worker has wrongly reported inputs as missing, without making a granule in between,
/// after which it is unfit.
const WRONG: usize = 3;

/// Number of recipes and workers that are remembered.
const REMEMBERED: usize = 10_000;

/// Number of workers that are named in task messages.
const NAMED: usize = 20;

/// Time that one inspection may take.
const LOOK: Duration = Duration::from_secs(5);

/// Time without inspections after one that took too long, since file systems that hang occupy threads.
const BLIND: Duration = Duration::from_secs(60);

/// Inspects the inputs of recipes.
#[derive(Debug, Default)]
pub(super) struct SourceInspector {
    stores: Stores,
    blind_until: Option<Instant>,
}

impl SourceInspector {
    pub(super) fn new(stores: Stores) -> SourceInspector {
        SourceInspector { stores, blind_until: None }
    }

    /// Looks for everything that a recipe names.
    pub(super) async fn look(&mut self, recipe: Recipe) -> SourceState {
        if self.blind_until.is_some_and(|until| Instant::now() < until) {
            return SourceState::Unknown;
        }
        let stores = self.stores.clone();
        let looking = tokio::task::spawn_blocking(move || look(&recipe, &stores));
        match tokio::time::timeout(LOOK, looking).await {
            Ok(sight) => sight.unwrap_or(SourceState::Unknown),
            Err(_) => {
                self.blind_until = Some(Instant::now() + BLIND);
                SourceState::Unknown
            }
        }
    }
}

/// Compares what workers report about recipes' inputs with what the coordinator and other workers find.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    /// Workers that did not find what a recipe names, by the recipe's id.
    missed: HashMap<String, BTreeSet<String>>,
    /// Recipes whose inputs others have found, by the worker that has not, since that worker last made a granule.
    wrong: HashMap<String, BTreeSet<String>>,
    unfit: VecDeque<String>,
}

impl Witnesses {
    /// Records that a worker has not found what a recipe names.
    pub(super) fn missed(&mut self, worker: &str, recipe: &str) {
        if self.missed.len() >= REMEMBERED {
            self.missed.clear(); // it is learnt again
        }
        self.missed.entry(recipe.to_owned()).or_default().insert(worker.to_owned());
    }

    /// Records that the inputs of a recipe exist, so that workers that reported otherwise were wrong. Returns all
    /// workers that are unfit by now, if one has become so.
    pub(super) fn found(&mut self, recipe: &str) -> Option<Vec<String>> {
        let mut is_news = false;
        for worker in self.missed.remove(recipe).unwrap_or_default() {
            if self.wrong.len() >= REMEMBERED {
                self.wrong.clear();
            }
            let wrong = self.wrong.entry(worker.clone()).or_default();
            wrong.insert(recipe.to_owned());
            if wrong.len() >= WRONG && !self.unfit.contains(&worker) {
                self.wrong.remove(&worker);
                self.unfit.push_back(worker);
                if self.unfit.len() > NAMED {
                    self.unfit.pop_front();
                }
                is_news = true;
            }
        }
        is_news.then(|| self.unfit.iter().cloned().collect())
    }

    /// Records that a worker has made the granule of a recipe, so that it finds inputs that exist.
    pub(super) fn made(&mut self, worker: &str, recipe: &str) -> Option<Vec<String>> {
        self.wrong.remove(worker);
        if let Some(missed) = self.missed.get_mut(recipe) {
            missed.remove(worker);
        }
        self.found(recipe)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fixture;
    use edp_protocol::GridKind;

    #[test]
    fn what_is_there_is_told_from_what_is_not_and_from_what_cannot_be_seen() {
        let directory = tempfile::tempdir().unwrap();
        let mut recipe = fixture::recipes(&[GridKind::Native]).remove(0);
        recipe.make_absolute(directory.path());
        let inputs: Vec<String> = recipe.input_paths().map(str::to_owned).collect();
        let stores = Stores::default();
        assert_eq!(look(&recipe, &stores), SourceState::Unknown, "nothing is mounted here");
        for file in inputs.iter().chain(&recipe.ecco_cfg_loc) {
            std::fs::create_dir_all(Path::new(file).parent().unwrap()).unwrap();
            std::fs::write(file, "x").unwrap();
        }
        let folders = [&recipe.ecco_metadata_loc, &recipe.ecco_grid_loc].map(|folder| folder.as_deref().unwrap());
        folders.iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
        for folder in folders {
            assert_eq!(look(&recipe, &stores), SourceState::Unknown, "an empty directory");
            std::fs::write(Path::new(folder).join("x"), "x").unwrap();
        }
        assert_eq!(look(&recipe, &stores), SourceState::There);
        std::fs::remove_file(&inputs[0]).unwrap();
        assert_eq!(look(&recipe, &stores), SourceState::Absent(inputs[0].clone()));
        std::fs::remove_dir_all(Path::new(&inputs[0]).parent().unwrap()).unwrap();
        // It is not known whether the file or the whole file system is missing.
        assert_eq!(look(&recipe, &stores), SourceState::Unknown);
    }

    #[test]
    fn who_misses_what_others_find_again_and_again_is_unfit() {
        let mut witnesses = Witnesses::default();
        for recipe in ["a", "b", "c"] {
            witnesses.missed("w", recipe);
            witnesses.missed("w", recipe);
        }
        assert_eq!(witnesses.made("v", "a"), None);
        assert_eq!(witnesses.found("b"), None);
        assert_eq!(witnesses.found("b"), None, "the same once more");
        assert_eq!(witnesses.made("v", "c"), Some(vec!["w".to_owned()]));
        // A worker that makes granules in between finds inputs that exist.
        for recipe in ["a", "b", "c", "d"] {
            witnesses.missed("v", recipe);
            assert_eq!(witnesses.found(recipe), None);
            assert_eq!(witnesses.made("v", recipe), None);
        }
        // A single recipe says nothing about a worker.
        for _ in 0..9 {
            witnesses.missed("u", "a");
            assert_eq!(witnesses.found("a"), None);
        }
    }
}
