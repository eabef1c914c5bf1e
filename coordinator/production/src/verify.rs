//! Comparison of recipes with the granules at their destination. It needs recipes and storage, and nothing else.

use crate::destination::{Listings, UnlistedDirectory};
use crate::records::{GranuleRecord, Records};
use crate::snapshots;
pub use edp_engine::granule::inspect::InspectionDepth;
use edp_engine::granule::inspect::{self, Identity, InspectError, MAX_COPY};
use edp_engine::libraries::silence_hdf5;
use edp_files::{at_once, regular};
use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use edp_protocol::text_hash::TextHasher;
use edp_protocol::{Digest, Location};
use edp_store::{Checksum, StoreError, Stores};
use serde::Serialize;
use std::collections::{BTreeSet, HashSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;

/// Options of a check of granules.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    /// Depth of the inspection of granules.
    pub depth: InspectionDepth,
    /// Recorded sizes and digests of granules.
    pub records: &'a Records,
    /// True if objects are downloaded whose stores keep no checksum that could be compared. Otherwise they count as not
    /// read.
    pub read: bool,
    /// Ids of recipes whose granules this program has made or had read, so that they need no closer inspection than
    /// [`InspectionDepth::Present`].
    pub known: &'a HashSet<String>,
}

impl<'a> Check<'a> {
    /// Returns the depth of the inspection of a recipe's granule.
    fn depth(&self, recipe: &Recipe) -> InspectionDepth {
        let is_known = recipe.recipe.as_ref().is_some_and(|plan| self.known.contains(&plan.id));
        if is_known { InspectionDepth::Present } else { self.depth }
    }

    fn record(&self, recipe: &Recipe) -> Option<&'a GranuleRecord> {
        self.records.of(recipe)
    }
}

/// The finding about one granule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "finding", content = "detail")]
pub enum Finding {
    /// The granule is as it should be.
    Good,
    /// There is nothing at its destination.
    Missing,
    /// There is something that is not a granule, or is incomplete; the problems.
    Damaged(Vec<String>),
    /// There is a granule of another recipe; the differences.
    Foreign(Vec<String>),
    /// It is the granule of the same recipe, made by this earlier output version.
    Older(u32),
    /// It is the right granule by the metadata that its store gives, but its content was not read.
    Unread,
    /// It could not be inspected, since the store or the file system gives an error; the reasons.
    Unknown(Vec<String>),
}

/// The result for a list of recipes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verified {
    /// Number of granules that are as they should be.
    pub good: usize,
    /// Granules on S3 that exist and are of the right recipe, but whose store keeps no checksum that could be compared,
    /// so that their content was not checked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
    /// Records of granules that were read, and of which nothing was recorded before.
    #[serde(skip)]
    pub read: Records,
    /// All other granules, each with the finding.
    pub problems: Vec<(String, Finding)>,
    /// Files beside the granules that no recipe names.
    pub extra: Vec<String>,
    /// Directories that could not be listed for such files, with reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unlisted: Vec<String>,
}

impl Verified {
    /// Adds the result for further recipes.
    pub fn add(&mut self, more: Verified) {
        self.good += more.good;
        self.unread.extend(more.unread);
        self.read.extend(more.read);
        self.problems.extend(more.problems);
        self.extra.extend(more.extra);
        self.unlisted.extend(more.unlisted);
    }

    /// Returns true if every recipe's granule is as it should be, or was made by an earlier output version. Files that
    /// no recipe names have no influence on this.
    pub fn is_complete(&self) -> bool {
        self.problems.iter().all(|(_, finding)| matches!(finding, Finding::Older(_)))
    }

    /// Returns true if any granule could not be inspected.
    pub fn has_unknown(&self) -> bool {
        self.problems.iter().any(|(_, finding)| matches!(finding, Finding::Unknown(_)))
    }

    /// Returns the granules that must be made again. One that was not inspected may be as it should be, and making an
    /// older one again is a choice of the user.
    pub fn wrong(&self) -> HashSet<&str> {
        let is_wrong = |finding: &Finding| !matches!(finding, Finding::Unknown(_) | Finding::Older(_));
        self.problems.iter().filter(|(_, finding)| is_wrong(finding)).map(|(granule, _)| granule.as_str()).collect()
    }

    /// Returns the granules that a production with these options would make, and those with which it would be in
    /// conflict.
    pub fn forecast(&self, replace: bool, replace_older: bool) -> Forecast<'_> {
        let mut forecast = Forecast::default();
        for (granule, finding) in &self.problems {
            match finding {
                Finding::Older(_) if !replace && !replace_older => {}
                Finding::Missing | Finding::Older(_) => forecast.made.push(granule),
                _ if replace => forecast.made.push(granule),
                _ => forecast.conflicts.push(granule),
            }
        }
        forecast
    }
}

/// The granules that a production would make, and those with which it would be in conflict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forecast<'v> {
    /// Granules that would be made.
    pub made: Vec<&'v str>,
    /// Granules at whose destination something else exists.
    pub conflicts: Vec<&'v str>,
}

impl std::fmt::Display for Verified {
    /// Writes the counts in one line.
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
        if !self.unread.is_empty() {
            write!(f, ", {} not read", self.unread.len())?;
        }
        Ok(())
    }
}

/// The result of checking one granule.
struct Checked {
    finding: Finding,
    /// Size and digest, if the bytes were read and nothing was recorded about them.
    read: Option<(u64, Digest)>,
}

impl From<Finding> for Checked {
    fn from(finding: Finding) -> Checked {
        Checked { finding, read: None }
    }
}

/// Number of recipes that are worth to be checked together: enough for all threads, and few for memory.
pub const BATCH: usize = 1024;

/// Checks the granule of every recipe, several at once, and finds files in their directories that no recipe names. A
/// granule that cannot be inspected is a finding too, and does not keep the others from being checked.
pub fn verify(recipes: &[Recipe], check: Check<'_>, stores: &Stores) -> Verified {
    let mut verifier = Verifier::new(stores);
    let mut verified = verifier.see(recipes, check);
    verifier.end(&mut verified);
    verified
}

/// Checks the granules of a list that is not in memory as a whole. Of recipes that were seen it keeps hashes, by which it
/// finds files that none of them names, and on S3 the names in their directories.
#[derive(Debug)]
pub struct Verifier<'a> {
    stores: &'a Stores,
    hasher: TextHasher,
    /// Hashes of the locations of granules.
    named: HashSet<u128>,
    directories: BTreeSet<PathBuf>,
    listings: Listings<'a>,
}

impl<'a> Verifier<'a> {
    /// Begins a check.
    pub fn new(stores: &'a Stores) -> Verifier<'a> {
        silence_hdf5();
        Verifier {
            stores,
            hasher: TextHasher::default(),
            named: HashSet::new(),
            directories: BTreeSet::new(),
            listings: Listings::new(stores),
        }
    }

    /// Checks the granules of some recipes, see [`verify`].
    pub fn see(&mut self, recipes: &[Recipe], check: Check<'_>) -> Verified {
        let stores = self.stores;
        let mut looks: Vec<Option<Checked>> = Vec::new();
        // Granules that need more than a listing.
        let (mut files, mut objects) = (Vec::new(), Vec::new());
        for (at, recipe) in recipes.iter().enumerate() {
            let location = match recipe.granule.parse::<Location>() {
                Ok(location) => location,
                Err(error) => {
                    looks.push(Some(Finding::Damaged(vec![chain(&error)]).into()));
                    continue;
                }
            };
            self.named.insert(self.hasher.hash(&location.to_string()));
            looks.push(match &location {
                Location::Local(path) => {
                    if let Some(directory) = path.parent().filter(|directory| !self.directories.contains(*directory)) {
                        self.directories.insert(directory.to_owned());
                    }
                    files.push((at, location));
                    None
                }
                Location::Object(object) => match self.listings.holds(object) {
                    Ok(false) => Some(Finding::Missing.into()),
                    // Objects in a directory that may not be listed may still be readable. Any other error would affect
                    // them too.
                    Err(UnlistedDirectory { may_be_read: false, why }) => Some(Finding::Unknown(vec![why]).into()),
                    Ok(true) | Err(UnlistedDirectory { may_be_read: true, .. }) => {
                        objects.push((at, location));
                        None
                    }
                },
            });
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        // Checking an object mostly waits for an answer; an object that is read is in memory as a whole.
        let at_once = if check.depth == InspectionDepth::Structure || check.read { 2 } else { 64 };
        for (places, threads) in [(files, cores), (objects, at_once)] {
            for (at, looked) in look_at_all(&places, threads, recipes, check, stores) {
                looks[at] = Some(looked);
            }
        }
        let mut verified = Verified::default();
        for (recipe, looked) in recipes.iter().zip(looks) {
            let unseen = || Finding::Unknown(vec!["it was not looked at".into()]).into();
            let looked = looked.unwrap_or_else(unseen);
            if let (Some((bytes, sha256)), Some(plan)) = (looked.read, &recipe.recipe) {
                let (id, production_date) = (plan.id.clone(), Some(plan.production_date.clone()));
                let granule = recipe.granule.clone();
                verified.read.enter(GranuleRecord { id, bytes, sha256, production_date, granule });
            }
            match looked.finding {
                Finding::Good => verified.good += 1,
                Finding::Unread => verified.unread.push(recipe.granule.clone()),
                finding => verified.problems.push((recipe.granule.clone(), finding)),
            }
        }
        verified
    }

    /// Ends the check: adds the files that no recipe names, and the directories that could not be listed for them.
    pub fn end(self, verified: &mut Verified) {
        let Verifier { hasher, named, directories, listings, .. } = self;
        let is_named = |location: &Location| named.contains(&hasher.hash(&location.to_string()));
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
            let paths = entries.flatten().map(|entry| entry.path()).filter(|path| !ours(path)).map(Location::Local);
            verified.extra.extend(paths.filter(|path| !is_named(path)).map(|path| path.to_string()));
        }
        let (others, unlisted) = listings.others(&is_named);
        verified.extra.extend(others);
        verified.unlisted.extend(unlisted);
        verified.extra.sort();
    }
}

/// Checks granules, given by their position in the list of recipes, with this many threads.
fn look_at_all(
    places: &[(usize, Location)],
    threads: usize,
    recipes: &[Recipe],
    check: Check<'_>,
    stores: &Stores,
) -> Vec<(usize, Checked)> {
    at_once::map(places, threads, |(at, location)| {
        silence_hdf5(); // in whatever thread this is called
        let recipe = &recipes[*at];
        let checked = match location {
            Location::Local(path) => look(path, recipe, check.depth(recipe), check.record(recipe)),
            Location::Object(_) => look_at_object(location, recipe, check, stores),
        };
        (*at, checked)
    })
}

fn look_at_object(at: &Location, recipe: &Recipe, check: Check<'_>, stores: &Stores) -> Checked {
    let unseen = |error: &StoreError| Finding::Unknown(vec![format!("cannot be looked at: {}", chain(error))]).into();
    let (depth, record) = (check.depth(recipe), check.record(recipe));
    let head = if depth == InspectionDepth::Content { stores.head_with_any_checksum(at) } else { stores.head(at) };
    let head = match head {
        Ok(Some(head)) => head,
        Ok(None) => return Finding::Missing.into(),
        Err(error) => return unseen(&error),
    };
    match inspect::identify_object(at, &head, recipe, stores) {
        Ok(Identity::Same) => {}
        Ok(Identity::Older(version)) => return Finding::Older(version).into(),
        Ok(Identity::Other(differs)) => return Finding::Foreign(differs).into(),
        Err(InspectError::Store(error)) if error.is_missing() => return Finding::Missing.into(),
        Err(InspectError::Store(error)) => return unseen(&error),
        Err(error) => {
            return match error.into_unread() {
                Ok(error) => Finding::Unknown(vec![format!("cannot be looked at: {error}")]).into(),
                Err(error) => Finding::Damaged(vec![chain(&error)]).into(),
            };
        }
    }
    if let Some(record) = record {
        if record.bytes != head.size {
            return size_differs(head.size, record).into();
        }
        match head.checksum.as_ref().and_then(Checksum::whole) {
            Some(stored) if *stored != record.sha256 => return bytes_differ(stored, record).into(),
            Some(_) if depth == InspectionDepth::Content => return Finding::Good.into(),
            _ => {}
        }
    }
    match depth {
        InspectionDepth::Present => Finding::Good.into(),
        InspectionDepth::Content if !check.read => Finding::Unread.into(),
        InspectionDepth::Structure | InspectionDepth::Content => match stores.local_copy(at, MAX_COPY) {
            Ok(copy) => look(copy.path(), recipe, depth, record),
            Err(error) => unseen(&error),
        },
    }
}

fn size_differs(found: u64, record: &GranuleRecord) -> Finding {
    Finding::Damaged(vec![format!("it has {found} bytes, and had {} when it was made", record.bytes)])
}

fn bytes_differ(found: &Digest, record: &GranuleRecord) -> Finding {
    Finding::Damaged(vec![format!("its SHA-256 is {found}, and was {} when it was made", record.sha256)])
}

fn look(path: &Path, recipe: &Recipe, depth: InspectionDepth, record: Option<&GranuleRecord>) -> Checked {
    let unseen = |error: io::Error| Finding::Unknown(vec![format!("cannot be looked at: {error}")]).into();
    let size = match path.metadata() {
        // Opening a pipe would wait for a writer.
        Ok(found) if !found.is_file() => return Finding::Damaged(vec!["it is not a regular file".into()]).into(),
        Ok(found) => found.len(),
        // The last kind of error: no file can have a NUL in its name.
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput) =>
        {
            return Finding::Missing.into();
        }
        Err(error) if is_loop(&error) => {
            return Finding::Damaged(vec!["it is a link that leads to itself".into()]).into();
        }
        Err(error) => return unseen(error),
    };
    // The same bytes as recorded are the same granule: nothing else need be checked.
    let hashed = match (depth, record) {
        (InspectionDepth::Content, Some(record)) if record.bytes == size => match digest(path) {
            Ok((found, _)) if found == record.sha256 => return Finding::Good.into(),
            Ok((found, _)) => Some(found),
            Err(error) => return unseen(error),
        },
        _ => None,
    };
    // If the operating system fails to read bytes for a moment, the granule may look damaged.
    let damaged = |problems| match readable(path) {
        Ok(()) => Finding::Damaged(problems).into(),
        Err(error) => unseen(error),
    };
    let unusable = |error: InspectError| match error.into_unread() {
        Ok(error) => unseen(error),
        Err(error) => damaged(vec![chain(&error)]),
    };
    let known = match record {
        Some(record) if record.bytes != size => Some(size_differs(size, record)),
        Some(record) => hashed.map(|found| bytes_differ(&found, record)),
        None => None,
    };
    // A file that differs from the record may be another granule; no more need be known about it.
    let depth = if known.is_some() { InspectionDepth::Present } else { depth };
    let looked = match inspect::look(path, recipe, depth, false) {
        Err(error) => return unusable(error),
        Ok(looked) => looked,
    };
    match (looked.identity, known) {
        (Identity::Other(differs), _) => Finding::Foreign(differs).into(),
        (Identity::Older(version), _) => Finding::Older(version).into(),
        (Identity::Same, Some(finding)) => finding.into(),
        (Identity::Same, None) if !looked.problems.is_empty() => damaged(looked.problems),
        (Identity::Same, None) if depth == InspectionDepth::Content => match digest(path) {
            Ok((sha256, bytes)) => Checked { finding: Finding::Good, read: Some((bytes, sha256)) },
            Err(error) => unseen(error),
        },
        (Identity::Same, None) => Finding::Good.into(),
    }
}

/// Returns digest and size of a file.
fn digest(path: &Path) -> io::Result<(Digest, u64)> {
    Digest::of_reader(regular::open(path)?)
}

fn is_loop(error: &io::Error) -> bool {
    rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::LOOP)
}

/// Returns an error unless every byte of a file can be read.
fn readable(path: &Path) -> io::Result<()> {
    io::copy(&mut regular::open(path)?, &mut io::sink()).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use edp_store::StoreSettings;
    use std::os::unix::fs::symlink;

    fn recipe(granule: &str) -> Recipe {
        let mut recipe = crate::fixture::recipes(&[edp_protocol::GridKind::Native]).remove(0);
        recipe.granule = granule.into();
        recipe
    }

    fn present(recipes: &[Recipe], stores: &Stores) -> Verified {
        let (records, known) = Default::default();
        verify(
            recipes,
            Check { depth: InspectionDepth::Present, records: &records, read: false, known: &known },
            stores,
        )
    }

    fn finding(granule: &str, stores: &Stores) -> Finding {
        let mut verified = present(&[recipe(granule)], stores);
        verified.problems.remove(0).1
    }

    #[test]
    fn findings_decide_what_a_production_makes() {
        let problems = [
            ("missing", Finding::Missing),
            ("damaged", Finding::Damaged(Vec::new())),
            ("foreign", Finding::Foreign(Vec::new())),
            ("older", Finding::Older(1)),
            ("unknown", Finding::Unknown(Vec::new())),
        ];
        let problems = problems.map(|(granule, finding)| (granule.to_owned(), finding)).into();
        let verified = Verified { good: 1, problems, ..Verified::default() };
        assert_eq!(verified.wrong(), HashSet::from(["missing", "damaged", "foreign"]));
        let conflicts = vec!["damaged", "foreign", "unknown"];
        let made = vec!["missing"];
        assert_eq!(verified.forecast(false, false), Forecast { made, conflicts: conflicts.clone() });
        assert_eq!(verified.forecast(false, true), Forecast { made: vec!["missing", "older"], conflicts });
        let all = vec!["missing", "damaged", "foreign", "older", "unknown"];
        for replace_older in [false, true] {
            assert_eq!(verified.forecast(true, replace_older), Forecast { made: all.clone(), conflicts: Vec::new() });
        }
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
        // Longer than any name may be: the operating system refuses to say what is there.
        let long = present(&[recipe(&at(&"x".repeat(5000)))], &stores);
        assert!(long.has_unknown() && !long.is_complete());
        let mut settings = StoreSettings::default();
        settings.s3.endpoint = Some("no address".into());
        let refused = present(&[recipe("s3://bucket/a/g.nc")], &edp_s3::stores(&settings));
        assert!(refused.has_unknown(), "{:?}", refused.problems);
    }

    #[test]
    fn a_list_in_parts_gives_what_the_whole_list_gives() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        ["a", "b", "extra"].iter().for_each(|name| std::fs::write(at(name), "no granule").unwrap());
        let recipes = ["a", "none", "b"].map(|name| recipe(&at(name)));
        let stores = Stores::default();
        let whole = present(&recipes, &stores);
        let (records, known) = Default::default();
        let check = Check { depth: InspectionDepth::Present, records: &records, read: false, known: &known };
        let (mut verifier, mut verified) = (Verifier::new(&stores), Verified::default());
        recipes.chunks(1).for_each(|part| verified.add(verifier.see(part, check)));
        verifier.end(&mut verified);
        assert_eq!((&verified.problems, &verified.extra), (&whole.problems, &whole.extra));
        assert_eq!(verified.extra, [at("extra")]);
    }
}
