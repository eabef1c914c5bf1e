//! Objects on S3 that several recipes read. The recipes of a group are made one after the other by one job slot, which
//! announces them here; an object that more than one of them reads is then fetched once, and stays in memory until the
//! last of them has read it.

use edp_files::ReadAt;
use edp_protocol::recipe::{Recipe, Version};
use edp_protocol::{Digest, Location};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

/// Returns the entity tag that an object must have; `None` if the SHA-256 of its content is recorded, which then
/// decides.
pub(crate) fn wanted_tag(planned: &Version) -> Option<&str> {
    planned.etag.as_deref().filter(|_| planned.sha256.is_none())
}

/// One version of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ObjectVersion {
    /// Path in the recipe.
    path: String,
    etag: Option<String>,
    size: u64,
}

impl ObjectVersion {
    fn new(path: &str, planned: &Version) -> ObjectVersion {
        ObjectVersion { path: path.into(), etag: wanted_tag(planned).map(str::to_owned), size: planned.size }
    }
}

/// The content of an object, which all clones share.
#[derive(Clone, Default)]
pub(crate) struct ObjectContent {
    /// The object while it is in memory. Locked for as long as it is fetched.
    pub(crate) object: Arc<RwLock<Option<Box<dyn ReadAt>>>>,
    /// True if it stays in memory after its variables, since another recipe is going to read it.
    is_kept: Arc<AtomicBool>,
    /// Number of variables that are going to read it or are reading it.
    variables: Arc<AtomicUsize>,
    /// SHA-256 of its bytes, once it was fetched.
    pub(crate) digest: Arc<OnceLock<Digest>>,
}

impl fmt::Debug for ObjectContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectContent").field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl ObjectContent {
    /// Notes that another variable is going to read the object and to release it.
    pub(crate) fn expect(&self) {
        self.variables.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the use by one variable. The last one drops the object, unless it is kept.
    pub(crate) fn release(&self) {
        let mut object = self.object.write().unwrap_or_else(PoisonError::into_inner);
        let fewer = |variables: usize| Some(variables.saturating_sub(1));
        let before = self.variables.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).unwrap_or_default();
        if before <= 1 && !self.is_kept.load(Ordering::Relaxed) {
            *object = None;
        }
    }
}

/// An announced object.
#[derive(Debug)]
struct AnnouncedObject {
    content: ObjectContent,
    /// Number of announced recipes that read it and are not being made yet.
    waiting: usize,
    /// Number of groups that have announced it and are not over.
    groups: usize,
}

/// The objects that were announced by groups of recipes.
#[derive(Debug, Default)]
pub struct SharedObjects(Mutex<HashMap<ObjectVersion, AnnouncedObject>>);

impl SharedObjects {
    /// Announces the recipes of a group, which are going to be made in this order. Of the objects that more than one of
    /// them reads, as many as fit into `memory` bytes are shared.
    pub fn announce(self: &Arc<Self>, recipes: &[&Recipe], memory: u64) -> GroupObjects {
        let reads: Vec<HashSet<ObjectVersion>> = recipes.iter().map(|recipe| objects(recipe)).collect();
        let mut counts: HashMap<&ObjectVersion, usize> = HashMap::new();
        reads.iter().flatten().for_each(|object| *counts.entry(object).or_default() += 1);
        let mut several: Vec<(&ObjectVersion, usize)> = counts.into_iter().filter(|(_, count)| *count > 1).collect();
        several.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        let (mut left, mut shared) = (memory, HashSet::new());
        let mut announced = self.lock();
        for (object, count) in several {
            let Some(rest) = left.checked_sub(object.size) else { continue };
            left = rest;
            shared.insert(object.clone());
            let entry = announced.entry(object.clone()).or_insert_with(|| AnnouncedObject {
                content: ObjectContent::default(),
                waiting: 0,
                groups: 0,
            });
            (entry.waiting, entry.groups) = (entry.waiting + count, entry.groups + 1);
            entry.keep();
        }
        drop(announced);
        let of_recipes =
            reads.into_iter().map(|objects| objects.into_iter().filter(|one| shared.contains(one)).collect());
        let waiting: Vec<Vec<ObjectVersion>> = of_recipes.collect();
        GroupObjects { all: Arc::clone(self), shared, waiting: waiting.into_iter() }
    }

    /// Returns the content of an announced object.
    pub(crate) fn content(&self, path: &str, planned: &Version) -> Option<ObjectContent> {
        let announced = self.lock();
        // Mostly there is none, and no key has to be made.
        if announced.is_empty() {
            return None;
        }
        announced.get(&ObjectVersion::new(path, planned)).map(|object| object.content.clone())
    }

    /// Each entry is valid by itself, so a panic elsewhere does no harm.
    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectVersion, AnnouncedObject>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AnnouncedObject {
    /// Lets the object stay in memory after its variables if a recipe waits for it. One that no recipe waits for is
    /// dropped by the last variable that reads it.
    fn keep(&self) {
        self.content.is_kept.store(self.waiting > 0, Ordering::Relaxed);
    }
}

/// Returns the objects that a recipe reads.
fn objects(recipe: &Recipe) -> HashSet<ObjectVersion> {
    let Ok(plan) = recipe.plan() else { return HashSet::new() };
    if !plan.roots.source.parse().is_ok_and(|source: Location| source.is_remote()) {
        return HashSet::new();
    }
    let planned = |path: &String| Some(ObjectVersion::new(path, plan.inputs.get(recipe.input_below_root(path).ok()?)?));
    recipe.variables.values().flatten().flatten().filter_map(planned).collect()
}

/// The objects that the recipes of one group share. They are released when this is dropped.
#[derive(Debug)]
pub struct GroupObjects {
    all: Arc<SharedObjects>,
    shared: HashSet<ObjectVersion>,
    /// Those of each recipe that is not being made yet.
    waiting: std::vec::IntoIter<Vec<ObjectVersion>>,
}

impl GroupObjects {
    /// Notes that the next recipe of the group is made now. Objects that no later one reads are dropped by
    /// the last variable that reads them.
    pub fn begin_next(&mut self) {
        let Some(objects) = self.waiting.next() else { return };
        let mut announced = self.all.lock();
        for object in objects {
            if let Some(entry) = announced.get_mut(&object) {
                entry.waiting = entry.waiting.saturating_sub(1);
                entry.keep();
            }
        }
    }
}

impl Drop for GroupObjects {
    fn drop(&mut self) {
        while self.waiting.len() > 0 {
            self.begin_next();
        }
        let mut announced = self.all.lock();
        for object in &self.shared {
            if let Some(entry) = announced.get_mut(object) {
                entry.groups -= 1; // it was counted when the group was announced
                if entry.groups == 0 {
                    announced.remove(object);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SIZE: u64 = 100;

    fn recipe(paths: &[&str]) -> Recipe {
        let path = |name: &&str| format!("s3://results/{name}");
        let lists: Vec<Vec<String>> = vec![paths.iter().map(path).collect()];
        let inputs: serde_json::Map<_, _> =
            paths.iter().map(|path| ((*path).to_owned(), serde_json::json!({"size": SIZE, "etag": "e"}))).collect();
        let mut recipe: Recipe = serde_json::from_value(serde_json::json!({
            "granule": "out/a.nc", "variables": {"A": lists},
            "dynamic_metadata": {"name": "a", "dimension": "2D", "summary": "s"}
        }))
        .unwrap();
        let roots = edp_protocol::recipe::Roots { source: "s3://results".into(), destination: "out".into() };
        let digest = || Digest::of(b"");
        let digests = edp_protocol::recipe::Digests {
            configuration: digest(),
            metadata: digest(),
            grid: digest(),
            factors: None,
        };
        let plan =
            edp_protocol::recipe::Plan::new(edp_protocol::Mode::Corrected, "u".into(), digests, roots, "d".into());
        let inputs = inputs.into_iter().map(|(path, version)| (path, serde_json::from_value(version).unwrap()));
        recipe.recipe = Some(edp_protocol::recipe::Plan { inputs: inputs.collect(), ..plan });
        recipe
    }

    /// Takes an object as the maker of a recipe does. Returns true if it had to be fetched.
    fn takes(all: &SharedObjects, path: &str) -> bool {
        let version = Version::of_object(SIZE, Some("e".into()));
        let content = all.content(&format!("s3://results/{path}"), &version).unwrap_or_default();
        content.expect();
        let is_new = content.object.write().unwrap().replace(Box::new(Vec::new())).is_none();
        content.release();
        is_new
    }

    fn in_memory(all: &SharedObjects) -> usize {
        all.lock().values().filter(|object| object.content.object.read().unwrap().is_some()).count()
    }

    #[test]
    fn what_several_recipes_of_a_group_read_is_fetched_once_and_dropped_by_the_last() {
        let all = Arc::new(SharedObjects::default());
        let recipes = [recipe(&["a", "b"]), recipe(&["b", "c", "a"]), recipe(&["b"])];
        let mut group = all.announce(&recipes.iter().collect::<Vec<_>>(), 10 * SIZE);
        group.begin_next();
        assert_eq!(["a", "b"].map(|path| takes(&all, path)), [true, true]);
        assert_eq!(in_memory(&all), 2);
        group.begin_next();
        assert_eq!(["b", "c", "a"].map(|path| takes(&all, path)), [false, true, false]);
        assert_eq!(in_memory(&all), 1, "nobody else reads the first, and nobody shares the third");
        group.begin_next();
        assert!(!takes(&all, "b"));
        assert_eq!(in_memory(&all), 0);
        drop(group);
        assert!(all.lock().is_empty());
        assert!(takes(&all, "b"), "no group shares it any more");
    }

    #[test]
    fn both_components_of_a_vector_are_made_of_one_transfer() {
        let content = ObjectContent::default();
        let fetch = || content.object.write().unwrap().replace(Box::new(Vec::new())).is_none();
        content.expect();
        content.expect();
        assert!(fetch());
        content.release();
        assert!(!fetch(), "the second variable had not requested it yet");
        content.release();
        assert!(content.object.read().unwrap().is_none());
    }

    #[test]
    fn no_more_is_kept_than_the_memory_allows_and_nothing_after_an_early_end() {
        let all = Arc::new(SharedObjects::default());
        let recipes = [recipe(&["a", "b", "c"]), recipe(&["a", "b", "c"])];
        let recipes: Vec<&Recipe> = recipes.iter().collect();
        let mut group = all.announce(&recipes, 2 * SIZE + 1);
        group.begin_next();
        assert_eq!(["a", "b", "c"].map(|path| takes(&all, path)), [true, true, true]);
        assert_eq!(in_memory(&all), 2, "the third does not fit");
        let second = all.announce(&recipes, 10 * SIZE);
        drop(group);
        assert_eq!(["a", "c"].map(|path| takes(&all, path)), [false, true], "another group still wants them");
        drop(second);
        assert!(all.lock().is_empty());
    }

    #[test]
    fn another_version_and_a_local_file_are_not_shared() {
        let all = Arc::new(SharedObjects::default());
        let mut local = recipe(&["a"]);
        if let Some(plan) = &mut local.recipe {
            plan.roots.source = "results".into();
        }
        assert!(all.announce(&[&local, &local], SIZE).shared.is_empty());
        let of_s3 = recipe(&["a"]);
        let _group = all.announce(&[&of_s3, &of_s3], SIZE);
        let content = |size, etag: &str| all.content("s3://results/a", &Version::of_object(size, Some(etag.into())));
        assert!(content(SIZE, "e").is_some());
        assert!(content(SIZE, "f").is_none() && content(SIZE + 1, "e").is_none());
    }
}
