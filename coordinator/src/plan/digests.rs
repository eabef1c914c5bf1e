//! SHA-256 digests of the inputs of a plan, for `plan --digests`. They are recorded in the recipes and become part of
//! the ids, so that an id stands for the content of the inputs and not only for their names.
//!
//! A digest comes from a file `SHA256SUMS` beside the input or in the source root, from the checksum that S3 keeps with
//! the object, or from reading the input once. Workers compare all of them with what they read.

use super::{Note, few};
use edp_files::{ReadAt, at_once};
use edp_protocol::location::LocationError;
use edp_protocol::message::chain;
use edp_protocol::recipe::{Derivation, PeriodMean, Recipe, RecipeError, RecordVersions, Rule, Version};
use edp_protocol::{Digest, Location};
use edp_store::{Checksum, StoreError, Stores};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read};
use std::thread;

/// Name of the files with digests, as `sha256sum` writes them.
const SUMS: &str = "SHA256SUMS";

/// Largest size in bytes of such a file, enough for a few million lines.
const MAX_SUMS: u64 = 1 << 30;

/// Number of objects that are inspected or read at once. An object that is read is in memory as a whole.
const OBJECTS_AT_ONCE: usize = 4;

/// The reason why the digests of inputs cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum InputDigestError {
    /// An input, or a file of digests, cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The location of an input cannot be understood.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// A recipe cannot be used.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A line of a file of digests is malformed.
    #[error("{file}: line {line}: no digest and name as `sha256sum` writes them; correct the file or take it away")]
    Sums {
        /// Path of the file.
        file: String,
        /// Number of the line, from 1.
        line: usize,
    },
    /// Reading an input has failed.
    #[error("{path}: {source}")]
    Read {
        /// Path of the input.
        path: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// An input was changed after it was listed.
    #[error("{path}: it {difference}: it was changed meanwhile; plan again")]
    Changed {
        /// Path of the input.
        path: String,
        /// Description of the difference.
        difference: String,
    },
    /// The digests of some inputs cannot be determined.
    #[error("the SHA-256 of {count} inputs cannot be found: {first}; --keep-going leaves their granules out")]
    Inputs {
        /// Number of these inputs.
        count: usize,
        /// The error about the first of them.
        first: String,
    },
}

/// The known digests of inputs. A growing run is planned repeatedly: an input that was read once is not read again
/// until it changes.
#[derive(Debug)]
pub struct InputDigests {
    stores: Stores,
    known: HashMap<String, (Version, Digest)>,
    /// The content of each directory's file of digests, by path below the directory; `None` if there is no such file.
    sums: HashMap<String, Option<BTreeMap<String, Digest>>>,
    /// Inputs whose digest could not be determined in the present plan, with the reasons.
    failed: BTreeMap<String, InputDigestError>,
}

/// An input whose digest is to be determined.
struct PendingDigest {
    path: String,
    version: Version,
}

impl InputDigests {
    /// Makes an empty set of digests.
    pub fn new(stores: &Stores) -> InputDigests {
        InputDigests { stores: stores.clone(), known: HashMap::new(), sums: HashMap::new(), failed: BTreeMap::new() }
    }

    /// Records the digests of the inputs of recipes, and updates the recipes' ids. Recipes whose inputs cannot be read are
    /// removed, which [`InputDigests::end`] reports.
    ///
    /// # Errors
    /// Returns an error if a file of digests is malformed.
    pub fn record(&mut self, recipes: &mut Vec<Recipe>) -> Result<(), InputDigestError> {
        let wanted = self.wanted(recipes)?;
        let failed = self.read(wanted);
        self.failed.extend(failed);
        let failed = &self.failed;
        if !failed.is_empty() {
            recipes.retain(|recipe| {
                let inputs = recipe.input_paths().map(str::to_owned).chain(recipe.period_paths());
                !inputs.into_iter().any(|input| failed.contains_key(&input))
            });
        }
        self.enter(recipes)
    }

    /// Forgets what could not be read.
    pub(crate) fn forget_failures(&mut self) {
        self.failed.clear();
    }

    /// Ends a plan, and forgets what could not be read in it. With `keep_going`, a note tells about the recipes that were
    /// removed.
    ///
    /// # Errors
    /// Returns an error if an input could not be read or was changed after it was listed, unless `keep_going` is true.
    pub fn end(&mut self, keep_going: bool) -> Result<Option<Note>, InputDigestError> {
        let failed = std::mem::take(&mut self.failed);
        let Some((_, first)) = failed.first_key_value() else { return Ok(None) };
        let (count, first) = (failed.len(), chain(first));
        if !keep_going {
            return Err(InputDigestError::Inputs { count, first });
        }
        let text = format!("the SHA-256 of {count} inputs cannot be found ({first}): {}", few(failed.keys()));
        Ok(Some(Note::warning(format!("{text}; their granules are left out"))))
    }

    /// Returns the inputs of recipes whose digest is neither known nor in a file of digests, each once.
    fn wanted(&mut self, recipes: &[Recipe]) -> Result<Vec<PendingDigest>, InputDigestError> {
        let (mut wanted, mut means) = (BTreeMap::new(), HashSet::new());
        for recipe in recipes {
            let plan = recipe.plan()?;
            for path in recipe.input_paths() {
                let below = recipe.input_below_root(path)?;
                if let Some(version) = plan.inputs.get(below) {
                    self.want(&plan.roots.source, below, path, version, &mut wanted)?;
                }
            }
            for (_, mean) in recipe.means().filter(|(_, mean)| means.insert(mean.id.clone())) {
                for below in mean.records().flat_map(|record| record.files) {
                    let path = recipe.at_source(&below)?;
                    let version = self.present(&path)?;
                    self.want(&plan.roots.source, &below, &path, &version, &mut wanted)?;
                }
            }
        }
        Ok(wanted.into_iter().map(|(path, version)| PendingDigest { path, version }).collect())
    }

    /// Adds an input to those that are wanted, unless its digest is known or in a file of digests.
    fn want(
        &mut self,
        root: &str,
        below: &str,
        path: &str,
        version: &Version,
        wanted: &mut BTreeMap<String, Version>,
    ) -> Result<(), InputDigestError> {
        let is_known = self.known.get(path).is_some_and(|(known, _)| known == version);
        if is_known || wanted.contains_key(path) || self.failed.contains_key(path) {
            return Ok(());
        }
        match self.listed(root, below)? {
            Some(digest) => drop(self.known.insert(path.to_owned(), (version.clone(), digest))),
            None => drop(wanted.insert(path.to_owned(), version.clone())),
        }
        Ok(())
    }

    /// Returns the present version of a record of a period, which recipes do not list one by one.
    fn present(&self, path: &str) -> Result<Version, InputDigestError> {
        let at: Location = path.parse()?;
        let gone = || InputDigestError::Changed { path: path.into(), difference: "is not there any more".into() };
        let head = self.stores.head(&at)?.ok_or_else(gone)?;
        Ok(head.version(&at))
    }

    /// Returns the mean with an id that covers the contents of its records.
    fn identified(&self, recipe: &Recipe, rule: &Rule, mean: &PeriodMean) -> Result<PeriodMean, InputDigestError> {
        let mut identified = mean.clone();
        let Rule::Anomaly(anomaly) = rule else { return Ok(identified) };
        let mut versions = RecordVersions::new(anomaly, true);
        for below in mean.records().flat_map(|record| record.files) {
            let path = recipe.at_source(&below)?;
            let (version, digest) = self.known.get(&path).ok_or_else(|| unknown(&path))?;
            versions.add(&below, &Version { sha256: Some(digest.clone()), ..version.clone() });
        }
        identified.identify(&versions);
        Ok(identified)
    }

    /// Returns the digest of an input in the files of digests in the source root and in the directories below it.
    fn listed(&mut self, root: &str, below: &str) -> Result<Option<Digest>, InputDigestError> {
        let ends = below.match_indices('/').map(|(at, _)| at + 1);
        for end in std::iter::once(0).chain(ends) {
            let (directory, name) = below.split_at(end);
            let directory = format!("{}/{directory}", root.trim_end_matches('/'));
            if !self.sums.contains_key(&directory) {
                let sums = self.sums_of(&directory)?;
                self.sums.insert(directory.clone(), sums);
            }
            if let Some(digest) = self.sums.get(&directory).and_then(|sums| sums.as_ref()?.get(name)) {
                return Ok(Some(digest.clone()));
            }
        }
        Ok(None)
    }

    /// Reads the file of digests of a directory. Returns `None` if there is none.
    fn sums_of(&self, directory: &str) -> Result<Option<BTreeMap<String, Digest>>, InputDigestError> {
        let file = format!("{directory}{SUMS}");
        let at: Location = file.parse()?;
        match self.stores.read(&at, MAX_SUMS) {
            Ok(text) => Ok(Some(parse_sums(&file, &text)?)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Determines the digests of inputs: on S3 by the checksum that is kept there, else by reading. Returns the errors.
    fn read(&mut self, wanted: Vec<PendingDigest>) -> BTreeMap<String, InputDigestError> {
        let is_object = |wanted: &PendingDigest| wanted.path.parse().is_ok_and(|at: Location| at.is_remote());
        let (objects, files): (Vec<_>, Vec<_>) = wanted.into_iter().partition(is_object);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let mut failed = BTreeMap::new();
        for (wanted, threads) in [(files, cores), (objects, OBJECTS_AT_ONCE)] {
            for (PendingDigest { path, version }, found) in digests(&self.stores, wanted, threads) {
                match found {
                    Ok(digest) => drop(self.known.insert(path, (version, digest))),
                    Err(error) => drop(failed.insert(path, error)),
                }
            }
        }
        failed
    }

    /// Writes the known digests into recipes.
    fn enter(&self, recipes: &mut [Recipe]) -> Result<(), InputDigestError> {
        let mut means: HashMap<Digest, PeriodMean> = HashMap::new();
        for recipe in recipes {
            let mut found = Vec::new();
            for Derivation { rule, mean } in recipe.recipe.iter().flat_map(|plan| plan.derived.values()) {
                if let Some(mean) = mean.as_ref().filter(|mean| !means.contains_key(&mean.id)) {
                    let identified = self.identified(recipe, rule, mean)?;
                    means.insert(mean.id.clone(), identified);
                }
            }
            for path in recipe.input_paths() {
                let (_, digest) = self.known.get(path).ok_or_else(|| unknown(path))?;
                found.push((recipe.input_below_root(path)?.to_owned(), digest.clone()));
            }
            recipe.change(|plan| {
                for (path, digest) in found {
                    if let Some(version) = plan.inputs.get_mut(&path) {
                        version.sha256 = Some(digest);
                    }
                }
                for mean in plan.derived.values_mut().filter_map(|derivation| derivation.mean.as_mut()) {
                    if let Some(identified) = means.get(&mean.id) {
                        mean.clone_from(identified);
                    }
                }
            })?;
        }
        Ok(())
    }
}

fn unknown(path: &str) -> InputDigestError {
    let source = io::Error::other("its SHA-256 was not found; please report this");
    InputDigestError::Read { path: path.into(), source }
}

/// Determines the digests of inputs, several at once.
fn digests(
    stores: &Stores,
    wanted: Vec<PendingDigest>,
    threads: usize,
) -> Vec<(PendingDigest, Result<Digest, InputDigestError>)> {
    let found = at_once::map(&wanted, threads, |one| digest(stores, &one.path, &one.version));
    wanted.into_iter().zip(found).collect()
}

/// Determines the digest of one input, which must be of this version.
fn digest(stores: &Stores, path: &str, version: &Version) -> Result<Digest, InputDigestError> {
    let at: Location = path.parse()?;
    let changed = |difference| InputDigestError::Changed { path: path.into(), difference };
    if at.is_remote()
        && let Some(head) = stores.head_with_checksum(&at)?
        && let Some(digest) = head.checksum.as_ref().and_then(Checksum::whole)
    {
        let digest = digest.clone();
        return version.difference(&head.version(&at)).map_or(Ok(digest), |difference| Err(changed(difference)));
    }
    let file = stores.open(&at, version.etag.as_deref(), u64::MAX)?;
    let read = |source| InputDigestError::Read { path: path.into(), source };
    let (digest, size) = Digest::of_reader(SequentialReader { file: &*file, at: 0 }).map_err(read)?;
    let found = match file.stamp() {
        Some(stamp) => Version::of_file(size, stamp.modified()),
        None => Version::of_object(size, None),
    };
    version.difference(&found).map_or(Ok(digest), |difference| Err(changed(difference)))
}

/// Reads a file from its beginning to its end.
struct SequentialReader<'a> {
    file: &'a dyn ReadAt,
    at: u64,
}

impl Read for SequentialReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.file.length()?.saturating_sub(self.at);
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.file.read_exact_at(&mut buffer[..count], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Parses the lines of `sha256sum`: a digest, a blank, a blank or `*`, and a name. A backslash at the beginning says
/// that the name has escapes.
fn parse_sums(file: &str, text: &[u8]) -> Result<BTreeMap<String, Digest>, InputDigestError> {
    let mut sums = BTreeMap::new();
    for (line, number) in text.split(|byte| *byte == b'\n').zip(1..) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let parse = || {
            let line = std::str::from_utf8(line).ok()?;
            let (line, escaped) = line.strip_prefix('\\').map_or((line, false), |line| (line, true));
            let (digest, name) = line.split_at_checked(64)?;
            let name = name.strip_prefix("  ").or_else(|| name.strip_prefix(" *"))?;
            let name = name.strip_prefix("./").unwrap_or(name);
            let name = if escaped { name.replace("\\n", "\n").replace("\\\\", "\\") } else { name.to_owned() };
            Some((name, Digest::from_hex(digest)?))
        };
        let (name, digest) = parse().ok_or_else(|| InputDigestError::Sums { file: file.into(), line: number })?;
        sums.insert(name, digest);
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::super::fixture::{Production, job, plan};
    use super::*;
    use edp_protocol::{Frequency, GridKind, Mode};
    use std::fs;

    const DATA: &str = "V4r4/diags/SSH_mon_mean/SSH_mon_mean.0000000732.data";

    fn production() -> Production {
        Production::new("mon_mean", &["SSH", "ETAN"], &[732, 1428])
    }

    fn planned(production: &Production) -> Vec<Recipe> {
        let inventory = production.inventory();
        let jobs = [GridKind::Native, GridKind::Latlon].map(|grid| job(1, 0, grid, Frequency::Month)).into();
        plan(&production.request(&inventory, Mode::Corrected, jobs)).unwrap().recipes
    }

    fn recorded(recipe: &Recipe) -> Digest {
        recipe.plan().unwrap().inputs[DATA].sha256.clone().unwrap()
    }

    fn sums(lines: &str) -> Result<BTreeMap<String, Digest>, InputDigestError> {
        parse_sums("SHA256SUMS", lines.as_bytes())
    }

    #[test]
    fn contents_become_part_of_the_id() {
        let production = production();
        let plain = planned(&production);
        let mut recipes = plain.clone();
        let mut digests = InputDigests::new(&Stores::default());
        digests.record(&mut recipes).unwrap();
        assert_eq!(digests.end(false).unwrap(), None);
        assert_eq!(recorded(&recipes[0]), Digest::of(&[0; 16]));
        for (recipe, before) in recipes.iter().zip(&plain) {
            recipe.check_identity().unwrap();
            assert_ne!(recipe.plan().unwrap().id, before.plan().unwrap().id);
            assert!(recipe.plan().unwrap().inputs.values().all(|version| version.sha256.is_some()));
        }
        // A known digest is not determined again, unless the input has changed.
        let path = production.root.path().join(DATA);
        let file = fs::File::options().write(true).open(&path).unwrap();
        let known = file.metadata().unwrap().modified().unwrap();
        fs::write(&path, [1; 16]).unwrap();
        file.set_modified(known).unwrap();
        let mut again = planned(&production);
        digests.record(&mut again).unwrap();
        assert_eq!(again, recipes);
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let mut again = planned(&production);
        digests.record(&mut again).unwrap();
        assert_eq!(recorded(&again[0]), Digest::of(&[1; 16]));
        assert_ne!(again[0].plan().unwrap().id, recipes[0].plan().unwrap().id);
    }

    #[test]
    fn files_of_digests_are_believed() {
        for (directory, name) in [("", DATA), ("V4r4/diags/SSH_mon_mean/", "./SSH_mon_mean.0000000732.data")] {
            let production = production();
            let digest = Digest::of(b"what the archive says");
            let file = production.root.path().join(directory).join(SUMS);
            fs::write(&file, format!("# made at night\n{digest} *{name}\r\n")).unwrap();
            let mut recipes = planned(&production);
            InputDigests::new(&Stores::default()).record(&mut recipes).unwrap();
            assert_eq!(recorded(&recipes[0]), digest);
            let other = DATA.replace("data", "meta");
            assert_eq!(
                recipes[0].plan().unwrap().inputs[&other].sha256,
                Some(Digest::of(super::super::fixture::HEADER.as_bytes()))
            );
            fs::write(&file, "no digest\n").unwrap();
            let error = InputDigests::new(&Stores::default()).record(&mut recipes).unwrap_err().to_string();
            assert!(error.contains(SUMS) && error.contains("line 1"), "{error}");
        }
    }

    #[test]
    fn names_in_files_of_digests_are_those_of_sha256sum() {
        let a = Digest::of(b"a");
        let found = sums(&format!("{a}  d/x y\n\n\\{a}  new\\nline\\\\\n")).unwrap();
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("d/x y".into(), a.clone()), ("new\nline\\".into(), a.clone())]
        );
        for odd in
            [format!("{a} x"), format!("{}  x", &a.as_str()[1..]), format!("{}é  x", &a.as_str()[1..]), "é".into()]
        {
            assert!(matches!(sums(&format!("{a}  x\n{odd}")), Err(InputDigestError::Sums { line: 2, .. })), "{odd}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_or_left_out() {
        let production = production();
        let plain = planned(&production);
        let mut recipes = plain.clone();
        fs::remove_file(production.root.path().join(DATA)).unwrap();
        let mut digests = InputDigests::new(&Stores::default());
        // In several batches, it is one input all the same.
        let mut last = recipes.split_off(recipes.len() - 1);
        digests.record(&mut recipes).unwrap();
        digests.record(&mut last).unwrap();
        recipes.append(&mut last);
        let error = digests.end(false).unwrap_err().to_string();
        assert!(error.starts_with("the SHA-256 of 1 inputs") && error.contains(DATA), "{error}");
        assert_eq!(digests.end(false).unwrap(), None, "it is forgotten");
        let mut recipes = plain;
        digests.record(&mut recipes).unwrap();
        let note = digests.end(true).unwrap().unwrap();
        assert!(note.text.contains(DATA), "{}", note.text);
        assert_eq!(recipes.len(), 2, "native and latlon of the other month");
        fs::write(production.root.path().join(DATA), [0; 15]).unwrap();
        let mut recipes = planned(&production);
        fs::write(production.root.path().join(DATA), [0; 16]).unwrap();
        digests.record(&mut recipes).unwrap();
        let error = digests.end(false).unwrap_err().to_string();
        assert!(error.contains("has 16 bytes, but had 15"), "{error}");
    }
}
