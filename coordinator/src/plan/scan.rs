//! A scan of a model run's files: it pairs them, and remembers what it passes over.

use super::files::{FilePair, FileVersion, Seen, join};
use super::inventory::Inventory;
use super::statics::is_candidate;
use super::{Note, SHOWN, few};
use edp_protocol::name::ResultName;
use edp_protocol::{Location, Mode};
use edp_store::{Object, StoreError, Stores, local};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest number of names of one kind that are remembered for notes.
const REMEMBERED: usize = 20;

/// Suffixes of compressed files.
const COMPRESSED: [&str; 8] = ["gz", "bz2", "xz", "zst", "lz4", "Z", "zip", "lzma"];

/// The reason why there is no inventory.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The root cannot be listed.
    #[error("{}: {source}; give the root directory of the model results", root.display())]
    Root {
        /// Path of the root.
        root: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The objects below the root cannot be listed.
    #[error("{0}")]
    Store(#[source] StoreError),
    /// The path of the root cannot be written into a task list.
    #[error("{}: the path is not UTF-8 text, which task lists need", .0.display())]
    NotUtf8(PathBuf),
}

/// A scan that is under way.
pub(super) struct Scan<'a> {
    root: &'a str,
    version: &'a str,
    mode: Mode,
    inventory: Inventory,
    /// Files that wait for the other half of their pair, by path without `.data` or `.meta`.
    halves: HashMap<String, (bool, FileVersion)>,
    directory: Option<Arc<str>>,
    /// Results in directories of no version, or of another one.
    elsewhere: PassedOver,
    /// Results in directories of another version that are accepted nevertheless.
    other_version: PassedOver,
    compressed: PassedOver,
    /// Files with the suffix of results, but without a step in their names.
    without_step: PassedOver,
    /// Pieces of arrays that exist as a whole too.
    pieces: PassedOver,
    notes: Vec<Note>,
}

/// Files that are passed over: their number, and some names.
#[derive(Default)]
struct PassedOver {
    count: usize,
    names: BTreeSet<String>,
}

impl PassedOver {
    fn add(&mut self, name: &str) {
        self.count += 1;
        if self.names.len() < REMEMBERED && !self.names.contains(name) {
            self.names.insert(name.to_owned());
        }
    }

    /// Returns the first few names for messages.
    fn shown(&self) -> String {
        // Not all names are known then, so their number is not either.
        if self.names.len() < REMEMBERED {
            few(&self.names)
        } else {
            few(self.names.iter().take(SHOWN)) + " and others"
        }
    }
}

/// Returns true if a directory belongs to a version: neither a letter nor a digit follows the last occurrence of the
/// version in its path. So `V4r4b` is another version than `V4r4`. Every directory belongs to an empty version.
pub(super) fn is_of_version(directory: &str, version: &str) -> bool {
    if version.is_empty() {
        return true;
    }
    let last = directory.rfind(version).map(|at| directory[at + version.len()..].chars().next());
    last.is_some_and(|next| !next.is_some_and(char::is_alphanumeric))
}

/// Returns the path of a directory that is given by its path below the root, which is empty for the root itself.
fn directory_of(root: &str, below: &str) -> String {
    if below.is_empty() { root.to_owned() } else { join(root, below) }
}

impl<'a> Scan<'a> {
    pub(super) fn new(root: &'a str, version: &'a str, mode: Mode) -> Scan<'a> {
        Scan {
            root,
            version,
            mode,
            inventory: Inventory::default(),
            halves: HashMap::new(),
            directory: None,
            elsewhere: PassedOver::default(),
            other_version: PassedOver::default(),
            compressed: PassedOver::default(),
            without_step: PassedOver::default(),
            pieces: PassedOver::default(),
            notes: Vec::new(),
        }
    }

    /// Adds a file, given by its path below the root.
    pub(super) fn see(&mut self, path: &str, half: impl FnOnce() -> io::Result<FileVersion>) {
        self.inventory.count();
        let (directory, file) = path.rsplit_once('/').unwrap_or(("", path));
        let Some(name) = ResultName::parse(file) else {
            self.see_other(path, file, half);
            return;
        };
        let directory = directory_of(self.root, directory);
        if !is_of_version(&directory, self.version) {
            if self.mode == Mode::Corrected || !directory.contains(self.version) {
                self.elsewhere.add(&directory);
                return;
            }
            self.other_version.add(&directory);
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
        if self.inventory.add(&name, directory, FilePair { data, meta }) {
            self.pieces.add(name.series);
        }
    }

    /// Remembers a file that is not the result of a step, if it may hold data without time or looks like a result.
    fn see_other(&mut self, path: &str, file: &str, half: impl FnOnce() -> io::Result<FileVersion>) {
        if is_candidate(file) {
            match half() {
                Ok(half) => self.inventory.add_other(join(self.root, path), half),
                Err(error) => self.notes.push(Note::warning(format!("{}: {error}; left out", join(self.root, path)))),
            }
        }
        let unpacked = file.rsplit_once('.').filter(|(_, ending)| COMPRESSED.contains(ending));
        match unpacked {
            Some((inside, _)) if ResultName::parse(inside).is_some() => self.compressed.add(file),
            None if file.ends_with(".data") => self.without_step.add(file),
            _ => {}
        }
    }

    /// Ends the scan, and returns the inventory and the notes.
    pub(super) fn end(mut self) -> (Inventory, Vec<Note>) {
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
        let Scan { root, version, .. } = self;
        let nothing = self.inventory.files() == 0;
        let mut passed = |passed: &PassedOver, always: bool, text: &dyn Fn(usize, String) -> String| {
            if passed.count > 0 {
                let text = text(passed.count, passed.shown());
                notes.push(if always || nothing { Note::warning(text) } else { Note::info(text) });
            }
        };
        passed(&self.elsewhere, false, &|count, names| {
            format!(
                "{count} result files below {root} are in directories whose path does not contain the version '{version}' \
                 (one that only begins so is another): {names}; left out"
            )
        });
        passed(&self.other_version, false, &|count, names| {
            format!(
                "{count} result files below {root} are of another version than '{version}': {names}; taken, as by EDP"
            )
        });
        passed(&self.compressed, true, &|count, names| {
            format!("{count} files below {root} are compressed results: {names}; left out: unpack them first")
        });
        passed(&self.without_step, false, &|count, names| {
            format!("{count} .data files below {root} have no step of ten digits in their names: {names}; left out")
        });
        passed(&self.pieces, false, &|_, names| {
            format!("whole arrays and pieces of them are there of {names}; the pieces are left out")
        });
        let pieces = self.inventory.in_pieces();
        if !pieces.is_empty() {
            let (count, names) = (pieces.len(), few(pieces));
            notes.push(Note::info(format!(
                "{count} series are in pieces (STEP.001.001.data and so on): {names}; the pieces are put together when \
                 they are read"
            )));
        }
        (self.inventory, notes)
    }
}

impl Inventory {
    /// Finds results at a location, local or on S3; see [`Inventory::scan`].
    ///
    /// # Errors
    /// Returns an error if the root does not exist or cannot be listed. On S3, a root that does not exist is empty.
    pub fn of(
        root: &Location,
        version: &str,
        mode: Mode,
        stores: &Stores,
    ) -> Result<(Inventory, Vec<Note>), InventoryError> {
        let objects = match root {
            Location::Local(path) => return Inventory::scan_as(path, version, mode),
            Location::Object(objects) => objects,
        };
        let text = root.to_string();
        let mut scan = Scan::new(&text, version, mode);
        let mut see = |object: Object| {
            scan.see(&object.path, || Ok(FileVersion { size: object.size, seen: Seen::tagged(&object.etag) }));
        };
        stores.list(objects, &mut see).map_err(InventoryError::Store)?;
        Ok(scan.end())
    }

    /// Finds results below `root`, in directories whose path (the root as given, and the part below it) contains the
    /// version, see `is_of_version`. An empty version accepts all directories. No file is opened.
    ///
    /// # Errors
    /// Returns an error if the root does not exist or cannot be listed. For a directory below it that cannot be listed,
    /// there is a note of severity error.
    pub fn scan(root: &Path, version: &str) -> Result<(Inventory, Vec<Note>), InventoryError> {
        Inventory::scan_as(root, version, Mode::Corrected)
    }

    /// Finds results as [`Inventory::scan`] does, by a mode's rule for what belongs to a version.
    fn scan_as(root: &Path, version: &str, mode: Mode) -> Result<(Inventory, Vec<Note>), InventoryError> {
        let text = root.to_str().ok_or_else(|| InventoryError::NotUtf8(root.into()))?;
        let trimmed = text.trim_end_matches('/');
        let text = if trimmed.is_empty() { text } else { trimmed };
        let mut scan = Scan::new(text, version, mode);
        // What other versions have is not inspected: `see` asks for the versions of the same files.
        let wanted = |path: &str| {
            let (below, file) = path.rsplit_once('/').unwrap_or(("", path));
            match ResultName::parse(file) {
                None => is_candidate(file),
                Some(_) => {
                    let directory = directory_of(text, below);
                    is_of_version(&directory, version) || (mode != Mode::Corrected && directory.contains(version))
                }
            }
        };
        let half = |entry: local::ListedFile<'_>| {
            let (size, modified) = entry.version()?;
            Ok(FileVersion { size, seen: Seen::Modified(modified) })
        };
        let skipped = local::list(root, wanted, |entry| scan.see(entry.path, || half(entry)))
            .map_err(|source| InventoryError::Root { root: root.into(), source })?;
        // Sockets and the like are of no interest, unless they have the name of a result.
        let concerns = |skipped: &&local::Skipped| match skipped {
            local::Skipped::NoFile { path, .. } => {
                path.file_name().and_then(|name| ResultName::parse(name.to_str()?)).is_some()
            }
            _ => true,
        };
        // A directory that cannot be listed may contain results: a plan without them would leave variables out.
        let note = |skipped: &local::Skipped| match skipped {
            // A link whose target does not exist, or that leads to itself, has no results.
            local::Skipped::Unreadable { path, .. } if !path.is_symlink() => Note::error(skipped.to_string()),
            _ => Note::warning(skipped.to_string()),
        };
        let mut notes: Vec<Note> = skipped.iter().filter(concerns).map(note).collect();
        let (inventory, mut more) = scan.end();
        notes.append(&mut more);
        Ok((inventory, notes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_was_passed_over_are_counted_only_if_all_are_known() {
        let mut passed = PassedOver::default();
        (0..7).for_each(|number| passed.add(&format!("{number:02}")));
        assert_eq!(passed.shown(), "00, 01, 02, 03, 04 and 2 more");
        (7..99).for_each(|number| passed.add(&format!("{number:02}")));
        assert_eq!((passed.count, passed.shown().as_str()), (99, "00, 01, 02, 03, 04 and others"));
    }

    #[test]
    fn another_version_may_begin_alike() {
        for (directory, version, is) in [
            ("results/V4r4/diags", "V4r4", true),
            ("results/V4r4", "V4r4", true),
            ("grid_ECCOV4r4/x", "V4r4", true),
            ("ECCO_V4r4_monthly/x", "V4r4", true),
            ("results/V4r4b/diags", "V4r4", false),
            ("results/V4r40/diags", "V4r4", false),
            ("results/V4r4/run/V4r4b", "V4r4", false),
            ("results/V4r4b/V4r4/diags", "V4r4", true),
            ("results/V4r5", "V4r4", false),
            ("results/V4r5", "", true),
        ] {
            assert_eq!(is_of_version(directory, version), is, "{directory} {version}");
        }
    }
}
