//! What a model run has left on disk: pairs of `.data` and `.meta` by variable, period word and step.

use super::{Note, few};
use edp_protocol::Location;
use edp_protocol::name::split_period;
use edp_protocol::recipe::Version;
use edp_store::{Object, StoreError, Stores, local};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Why there is no inventory.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The root cannot be listed.
    #[error("{}: {source}; give the root directory of the model results", root.display())]
    Root {
        /// The root.
        root: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The objects below the root cannot be listed.
    #[error("{0}")]
    Store(#[source] StoreError),
    /// The root cannot be written into a task list.
    #[error("{}: the path is not UTF-8 text, which task lists need", .0.display())]
    NotUtf8(PathBuf),
}

/// One variable at one step is there more than once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} at step {step} is there more than once: {}; keep one of them below the source root", paths.join(" and "))]
pub struct Twice {
    /// The variable.
    pub variable: String,
    /// The model step.
    pub step: u64,
    /// The `.data` files.
    pub paths: Vec<String>,
}

/// A `.data` file and its `.meta` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Path of the `.data` file: the root as it was given, joined with the path below it.
    pub data: String,
    /// Path of the `.meta` file.
    pub meta: String,
    /// Version of the `.data` file.
    pub data_version: Version,
    /// Version of the `.meta` file.
    pub meta_version: Version,
    /// Period word, such as `mon_mean`.
    pub word: &'static str,
}

/// All pairs below a root. A million files take about 100 MB: paths are put together only when asked for.
#[derive(Debug, Default)]
pub struct Inventory {
    variables: BTreeMap<String, BTreeMap<&'static str, Series>>,
    files: usize,
}

/// The records of one variable under one period word.
#[derive(Debug, Default)]
struct Series {
    pairs: BTreeMap<u64, Place>,
    /// Steps found again, and where; seldom.
    again: BTreeMap<u64, Vec<Place>>,
}

#[derive(Debug, Clone)]
struct Place {
    directory: Arc<str>,
    data: Half,
    meta: Half,
}

/// What is known of one file of a pair.
#[derive(Debug, Clone)]
struct Half {
    size: u64,
    seen: Seen,
}

/// What tells versions of a file of one size apart.
#[derive(Debug, Clone)]
enum Seen {
    /// Time of the last modification of a local file.
    Modified(SystemTime),
    /// Entity tag of an object.
    Tagged(Box<str>),
}

impl Half {
    fn version(&self) -> Version {
        match &self.seen {
            Seen::Modified(time) => Version::of_file(self.size, *time),
            Seen::Tagged(etag) => Version::of_object(self.size, Some(etag.as_ref().to_owned())),
        }
    }
}

impl Place {
    /// The pair without `.data` and `.meta`.
    fn stem(&self, variable: &str, word: &str, step: u64) -> String {
        join(&self.directory, &format!("{variable}_{word}.{step:010}"))
    }

    fn pair(&self, variable: &str, word: &'static str, step: u64) -> Pair {
        let stem = self.stem(variable, word, step);
        Pair {
            data: format!("{stem}.data"),
            meta: format!("{stem}.meta"),
            data_version: self.data.version(),
            meta_version: self.meta.version(),
            word,
        }
    }
}

/// What a result file's name says.
struct Name<'a> {
    variable: &'a str,
    word: &'static str,
    step: u64,
    meta: bool,
}

impl<'a> Name<'a> {
    /// Takes `<variable>_<word>.<10 digits>.<data|meta>` apart; anything else is not a result file.
    fn parse(name: &'a str) -> Option<Name<'a>> {
        let (stem, meta) = match name.strip_suffix(".data") {
            Some(stem) => (stem, false),
            None => (name.strip_suffix(".meta")?, true),
        };
        let (series, digits) = stem.rsplit_once('.')?;
        if digits.len() != 10 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let (variable, word) = split_period(series).filter(|(variable, _)| !variable.is_empty())?;
        Some(Name { variable, word, step: digits.parse().ok()?, meta })
    }
}

fn join(directory: &str, name: &str) -> String {
    if directory.ends_with('/') { format!("{directory}{name}") } else { format!("{directory}/{name}") }
}

impl Inventory {
    /// Looks for results at a location, local or on S3; see [`Inventory::scan`].
    ///
    /// # Errors
    /// The root is not there or cannot be listed. On S3, what is not there is empty, and a note says so.
    pub fn of(root: &Location, version: &str, stores: &Stores) -> Result<(Inventory, Vec<Note>), InventoryError> {
        let (bucket, key) = match root {
            Location::Local(path) => return Inventory::scan(path, version),
            Location::S3 { bucket, key } => (bucket, key),
        };
        let text = root.to_string();
        let mut scan = Scan { root: &text, version, ..Scan::default() };
        let mut objects = 0_usize;
        let mut see = |object: Object| {
            objects += 1;
            scan.see(&object.path, || Ok(Half { size: object.size, seen: Seen::Tagged(object.etag.as_str().into()) }));
        };
        let listed = stores.s3().and_then(|s3| Ok(s3.list(bucket, key, &mut see)?));
        listed.map_err(InventoryError::Store)?;
        let mut notes = scan.notes();
        if objects == 0 {
            notes.push(Note::warning(format!("{text}: there is nothing: give the root of the model results")));
        }
        Ok((scan.inventory, notes))
    }

    /// Looks for results below `root`, in directories whose path (the root as given, and what is below it) contains
    /// `version`; an empty version takes them all. Nothing is opened.
    ///
    /// # Errors
    /// The root is not there or cannot be listed. A directory below it that cannot be is a note of severity error.
    pub fn scan(root: &Path, version: &str) -> Result<(Inventory, Vec<Note>), InventoryError> {
        let text = root.to_str().ok_or_else(|| InventoryError::NotUtf8(root.into()))?;
        let trimmed = text.trim_end_matches('/');
        let text = if trimmed.is_empty() { text } else { trimmed };
        let mut scan = Scan { root: text, version, ..Scan::default() };
        let half = |entry: &local::ListedFile<'_>| {
            let (size, modified) = entry.version()?;
            Ok(Half { size, seen: Seen::Modified(modified) })
        };
        let skipped = local::list(root, |entry| scan.see(entry.path, || half(&entry)))
            .map_err(|source| InventoryError::Root { root: root.into(), source })?;
        // Sockets and the like are no business of ours, unless they have the name of a result.
        let concerns = |skipped: &&local::Skipped| match skipped {
            local::Skipped::NoFile { path, .. } => {
                path.file_name().and_then(|name| Name::parse(name.to_str()?)).is_some()
            }
            _ => true,
        };
        // What could not be seen may hold results: a plan without them would leave variables out.
        let note = |skipped: &local::Skipped| match skipped {
            // A link that leads nowhere, or to itself, holds none.
            local::Skipped::Unreadable { path, .. } if !path.is_symlink() => Note::error(skipped.to_string()),
            _ => Note::warning(skipped.to_string()),
        };
        let mut notes: Vec<Note> = skipped.iter().filter(concerns).map(note).collect();
        notes.append(&mut scan.notes());
        Ok((scan.inventory, notes))
    }

    /// Number of `.data` and `.meta` files in pairs.
    pub fn files(&self) -> usize {
        self.files
    }

    /// Variables and their period words, by name.
    pub fn series(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.variables.iter().flat_map(|(variable, words)| words.keys().map(|word| (variable.as_str(), *word)))
    }

    /// Steps at which a variable has a pair under any of the period words.
    pub fn steps(&self, variable: &str, words: &[&str]) -> BTreeSet<u64> {
        self.places(variable, words).flat_map(|(_, series)| series.pairs.keys().copied()).collect()
    }

    /// The period words under which a variable has any pair.
    pub fn words(&self, variable: &str, words: &[&str]) -> Vec<&'static str> {
        self.places(variable, words).map(|(word, _)| word).collect()
    }

    /// The pair of a variable at a step, under whichever of the period words it is.
    ///
    /// # Errors
    /// It is there more than once.
    pub fn find(&self, variable: &str, words: &[&str], step: u64) -> Result<Option<Pair>, Twice> {
        let mut found = Vec::new();
        for (word, series) in self.places(variable, words) {
            let again = series.again.get(&step).into_iter().flatten();
            for place in series.pairs.get(&step).into_iter().chain(again) {
                found.push(place.pair(variable, word, step));
            }
        }
        if found.len() > 1 {
            let paths = found.into_iter().map(|pair| pair.data).collect();
            return Err(Twice { variable: variable.into(), step, paths });
        }
        Ok(found.pop())
    }

    /// Takes out the pairs that are not to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&Pair) -> bool) {
        let mut taken = 0;
        for (variable, words) in &mut self.variables {
            for (word, series) in &mut *words {
                let mut keeps = |step: u64, place: &Place| {
                    let kept = keep(&place.pair(variable, word, step));
                    taken += 2 * usize::from(!kept);
                    kept
                };
                series.again.retain(|step, places| {
                    places.retain(|place| keeps(*step, place));
                    !places.is_empty()
                });
                series.pairs.retain(|step, place| keeps(*step, place));
                for (step, places) in &mut series.again {
                    if !series.pairs.contains_key(step)
                        && let Some(place) = places.pop()
                    {
                        series.pairs.insert(*step, place);
                    }
                }
                series.again.retain(|_, places| !places.is_empty());
            }
            words.retain(|_, series| !series.pairs.is_empty());
        }
        self.variables.retain(|_, words| !words.is_empty());
        self.files -= taken;
    }

    fn places(&self, variable: &str, words: &[&str]) -> impl Iterator<Item = (&'static str, &Series)> {
        let series = self.variables.get(variable).into_iter().flatten();
        series.filter(|(word, _)| words.contains(*word)).map(|(word, series)| (*word, series))
    }

    fn add(&mut self, name: &Name<'_>, place: Place) {
        self.files += 2;
        // the name is copied only the first time
        if !self.variables.contains_key(name.variable) {
            self.variables.insert(name.variable.into(), BTreeMap::new());
        }
        let Some(words) = self.variables.get_mut(name.variable) else { return };
        let series = words.entry(name.word).or_default();
        let Some(first) = series.pairs.get(&name.step) else {
            series.pairs.insert(name.step, place);
            return;
        };
        let real = |place: &Place| {
            std::fs::canonicalize(format!("{}.data", place.stem(name.variable, name.word, name.step))).ok()
        };
        // one file that links show twice is not a contradiction
        let (a, b) = (real(first), real(&place));
        if a.is_none() || a != b {
            series.again.entry(name.step).or_default().push(place);
        }
    }
}

/// A scan under way.
#[derive(Default)]
struct Scan<'a> {
    root: &'a str,
    version: &'a str,
    inventory: Inventory,
    /// Halves that wait for the other one, by path without `.data` or `.meta`.
    halves: HashMap<String, (bool, Half)>,
    directory: Option<Arc<str>>,
    elsewhere: usize,
    notes: Vec<Note>,
}

impl Scan<'_> {
    /// Takes a file in, by its path below the root.
    fn see(&mut self, path: &str, half: impl FnOnce() -> io::Result<Half>) {
        let (directory, file) = path.rsplit_once('/').unwrap_or(("", path));
        let Some(name) = Name::parse(file) else { return };
        let directory = match directory {
            "" => self.root.to_owned(),
            below => join(self.root, below),
        };
        if !directory.contains(self.version) {
            self.elsewhere += 1;
            return;
        }
        let stem = join(&directory, &file[..file.len() - ".data".len()]);
        let this = match half() {
            Ok(half) => half,
            Err(error) => {
                self.notes.push(Note::warning(format!("{}: {error}; left out", join(self.root, path))));
                return;
            }
        };
        let Some((_, other)) = self.halves.remove(&stem) else {
            self.halves.insert(stem, (name.meta, this));
            return;
        };
        let shared = self.directory.take().filter(|known| **known == *directory);
        let directory = shared.unwrap_or_else(|| directory.into());
        self.directory = Some(directory.clone());
        let (data, meta) = if name.meta { (other, this) } else { (this, other) };
        self.inventory.add(&name, Place { directory, data, meta });
    }

    /// What the scan noticed, halves by directory.
    fn notes(&mut self) -> Vec<Note> {
        let mut notes = std::mem::take(&mut self.notes);
        let mut halves: BTreeMap<(&str, bool), BTreeSet<&str>> = BTreeMap::new();
        for (path, (meta, _)) in &self.halves {
            let (directory, stem) = path.rsplit_once('/').unwrap_or(("", path));
            halves.entry((directory, *meta)).or_default().insert(stem);
        }
        for ((directory, meta), stems) in halves {
            let (there, absent) = if meta { (".meta", ".data") } else { (".data", ".meta") };
            notes.push(Note::warning(format!("{directory}: {there} without {absent}: {}; left out", few(stems))));
        }
        if self.elsewhere > 0 {
            let text = format!(
                "{} result files below {} are in directories whose path does not contain the version '{}'; left out",
                self.elsewhere, self.root, self.version
            );
            notes.push(if self.inventory.files == 0 { Note::warning(text) } else { Note::info(text) });
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn tree(stems: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for stem in stems {
            for (extension, size) in [("data", 8), ("meta", 3)] {
                write(root.path(), &format!("{stem}.{extension}"), size);
            }
        }
        root
    }

    fn write(root: &Path, path: &str, size: usize) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![0; size]).unwrap();
    }

    fn scan(root: &tempfile::TempDir, version: &str) -> (Inventory, Vec<Note>) {
        Inventory::scan(root.path(), version).unwrap()
    }

    #[test]
    fn names_are_taken_apart_from_the_period_word() {
        for (name, want) in [
            ("SSH_mon_mean.0000000732.data", Some(("SSH", "mon_mean", 732, false))),
            ("ADVr_TH_day_mean.9999999999.meta", Some(("ADVr_TH", "day_mean", 9_999_999_999, true))),
            ("SSH_day_snap.0000000000.data", Some(("SSH", "day_snap", 0, false))),
            ("SSH_mon_snap.0000000012.data", Some(("SSH", "mon_snap", 12, false))),
            ("SSH_snap.0000000012.data", Some(("SSH", "snap", 12, false))),
            ("SSH_mon_mean_day_mean.0000000012.data", Some(("SSH_mon_mean", "day_mean", 12, false))),
            ("_mon_mean.0000000012.data", None),
            ("SSH.0000000012.data", None),
            ("SSH_mon_mean.000000012.data", None),
            ("SSH_mon_mean.00000000012.data", None),
            ("SSH_mon_mean.00000000+2.data", None),
            ("SSH_mon_mean.0000000012.data.gz", None),
            ("SSH_mon_mean.0000000012.001.001.data", None),
            ("SSH_mon_mean.0000000012", None),
            ("SSH_year_mean.0000000012.data", None),
        ] {
            let parts = Name::parse(name).map(|n| (n.variable, n.word, n.step, n.meta));
            assert_eq!(parts, want, "{name}");
        }
    }

    #[test]
    fn pairs_are_found_by_variable_word_and_step() {
        let root = tree(&[
            "V4r4/diags_monthly/SSH_mon_mean/SSH_mon_mean.0000000732",
            "V4r4/diags_monthly/SSH_mon_mean/SSH_mon_mean.0000001428",
            "V4r4/diags_monthly/xSSH_mon_mean/xSSH_mon_mean.0000002172",
            "V4r5/diags_monthly/SSH_mon_mean/SSH_mon_mean.0000002172",
        ]);
        write(root.path(), "V4r4/README", 1);
        let (inventory, notes) = scan(&root, "V4r4");
        assert_eq!(inventory.files(), 6);
        assert_eq!(inventory.series().collect::<Vec<_>>(), [("SSH", "mon_mean"), ("xSSH", "mon_mean")]);
        assert_eq!(inventory.steps("SSH", &["mon_mean"]), BTreeSet::from([732, 1428]));
        assert!(inventory.steps("SSH", &["day_mean"]).is_empty());
        let stem = format!("{}/V4r4/diags_monthly/SSH_mon_mean/SSH_mon_mean.0000000732", root.path().to_str().unwrap());
        let version = |path: &str| {
            let found = fs::metadata(path).unwrap();
            Version::of_file(found.len(), found.modified().unwrap())
        };
        let want = Pair {
            data: format!("{stem}.data"),
            meta: format!("{stem}.meta"),
            data_version: version(&format!("{stem}.data")),
            meta_version: version(&format!("{stem}.meta")),
            word: "mon_mean",
        };
        assert_eq!(inventory.find("SSH", &["mon_mean"], 732).unwrap(), Some(want));
        assert_eq!(inventory.find("SSH", &["mon_mean"], 2172).unwrap(), None);
        assert_eq!(notes.len(), 1);
        assert!(notes[0].text.starts_with("2 result files") && notes[0].severity == crate::plan::Severity::Info);
        assert_eq!(scan(&root, "").0.steps("SSH", &["mon_mean"]).len(), 3);
        let (none, notes) = scan(&root, "V4r6");
        assert_eq!(none.files(), 0);
        assert_eq!(notes[0].severity, crate::plan::Severity::Warning);
    }

    #[test]
    fn paths_begin_with_the_root_as_it_was_given() {
        let root = tree(&["a/SSH_snap.0000000001", "SSH_snap.0000000002"]);
        let text = root.path().to_str().unwrap();
        for given in [text.to_owned(), format!("{text}/"), format!("{text}/.")] {
            let (inventory, _) = Inventory::scan(Path::new(&given), "").unwrap();
            let given = given.trim_end_matches('/');
            let data = |step| inventory.find("SSH", &["snap"], step).unwrap().unwrap().data;
            assert_eq!(data(1), format!("{given}/a/SSH_snap.0000000001.data"));
            assert_eq!(data(2), format!("{given}/SSH_snap.0000000002.data"));
        }
    }

    #[test]
    fn missing_halves_are_reported_and_left_out() {
        let root = tree(&["d/SSH_mon_mean.0000000003"]);
        write(root.path(), "d/SSH_mon_mean.0000000001.data", 8);
        write(root.path(), "d/SSH_mon_mean.0000000002.meta", 8);
        // halves in different directories are no pair
        write(root.path(), "e/SSH_mon_mean.0000000001.meta", 8);
        let (inventory, notes) = scan(&root, "");
        assert_eq!(inventory.steps("SSH", &["mon_mean"]), BTreeSet::from([3]));
        let texts: Vec<_> = notes.iter().map(|note| note.text.rsplit('/').next().unwrap()).collect();
        assert_eq!(
            texts,
            [
                "d: .data without .meta: SSH_mon_mean.0000000001; left out",
                "d: .meta without .data: SSH_mon_mean.0000000002; left out",
                "e: .meta without .data: SSH_mon_mean.0000000001; left out",
            ]
        );
    }

    #[test]
    fn what_is_there_twice_is_an_error_naming_both() {
        let root = tree(&["a/SSH_day_snap.0000000001", "b/SSH_day_snap.0000000001", "b/SSH_mon_snap.0000000002"]);
        write(root.path(), "c/SSH_snap.0000000002.data", 8);
        write(root.path(), "c/SSH_snap.0000000002.meta", 8);
        let (inventory, _) = scan(&root, "");
        let error = inventory.find("SSH", &["day_snap"], 1).unwrap_err();
        assert!(error.paths[0].ends_with("a/SSH_day_snap.0000000001.data"));
        assert!(error.paths[1].ends_with("b/SSH_day_snap.0000000001.data"));
        let error = inventory.find("SSH", &["day_snap", "mon_snap", "snap"], 2).unwrap_err().to_string();
        assert!(error.contains("b/SSH_mon_snap.0000000002.data and "), "{error}");
        assert!(error.contains("c/SSH_snap.0000000002.data;"), "{error}");
        assert!(inventory.find("SSH", &["mon_snap"], 2).unwrap().is_some());
    }

    #[test]
    fn one_file_seen_twice_through_links_is_one_file() {
        let root = tree(&["a/SSH_snap.0000000001"]);
        symlink("a", root.path().join("b")).unwrap();
        let (inventory, _) = scan(&root, "");
        assert!(inventory.find("SSH", &["snap"], 1).unwrap().unwrap().data.ends_with("a/SSH_snap.0000000001.data"));
    }

    #[test]
    fn results_behind_links_are_found() {
        let other = tree(&["SSH_snap.0000000001"]);
        let root = tree(&[]);
        symlink(other.path(), root.path().join("V4r4")).unwrap();
        let (inventory, _) = scan(&root, "V4r4");
        assert_eq!(inventory.files(), 2);
    }

    #[test]
    fn what_cannot_be_listed_is_a_note_and_a_root_that_cannot_is_an_error() {
        let root = tree(&["a/SSH_snap.0000000001"]);
        symlink("nowhere", root.path().join("SSH_snap.0000000002.data")).unwrap();
        let (inventory, notes) = scan(&root, "");
        assert_eq!((inventory.files(), notes.len()), (2, 1));
        let error = Inventory::scan(&root.path().join("none"), "").unwrap_err().to_string();
        assert!(error.contains("none") && error.contains("root directory"), "{error}");
    }
}
