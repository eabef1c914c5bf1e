//! Verdicts on the content of resources, kept so that the same files are not read and refused again for every recipe.
//!
//! A verdict belongs to the files that were examined, not to a name: its key is a digest of the stamps of all files
//! involved. A file that is replaced or repaired has another stamp, so it is read again. Errors of reading are not
//! verdicts.

use super::ResourceError;
use edp_files::{Files, Stamp};
use edp_protocol::message::chain;
use edp_protocol::{Digest, Location, ObjectAddress};
use edp_store::{Object, Stores};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A verdict is kept if the last change of the files is at least this old. Two changes in quick succession may have the
/// same time, so a younger stamp is not reliable (see [`Stamp::age`]).
const SETTLED: Duration = Duration::from_secs(5);

/// Number of bytes of the longest error text that is kept as a verdict.
const LONGEST: usize = 16 << 10;

/// Largest number of verdicts that are kept. If the oldest one is dropped, the files are read once more.
const MOST: usize = 64;

/// Largest number of directory entries that are examined. Resources have some hundred files; where there are more, it
/// is something else, and no verdict is kept.
const MOST_ENTRIES: usize = 10_000;

/// Number of levels of directories below a location that are examined: mapping factors have one.
const DEPTH: usize = 2;

/// The stamps of the files on which a verdict is based, as a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Evidence {
    digest: Digest,
    settled: bool,
}

/// The verdicts with the digests of their evidence.
#[derive(Debug)]
pub(super) struct Verdicts {
    kept: Mutex<VecDeque<(Digest, Arc<ResourceError>)>>,
    settled: Duration,
}

impl Default for Verdicts {
    fn default() -> Verdicts {
        Verdicts { kept: Mutex::default(), settled: SETTLED }
    }
}

impl Verdicts {
    /// Makes a store for verdicts that are kept if the files were unchanged for `settled`.
    #[cfg(test)]
    pub(super) fn settled_after(settled: Duration) -> Verdicts {
        Verdicts { settled, ..Verdicts::default() }
    }

    /// Returns the verdict for this evidence; `None` if there is none.
    pub(super) fn find(&self, evidence: &Evidence) -> Option<Arc<ResourceError>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(digest, _)| *digest == evidence.digest).map(|(_, error)| Arc::clone(error))
    }

    /// Keeps a verdict. `before` is the evidence from before the files were read, `after` that from after it. If they
    /// differ, the files are being written, and nothing is kept.
    pub(super) fn keep(&self, before: &Evidence, after: Option<&Evidence>, error: &Arc<ResourceError>) {
        let is_short = || chain(error.as_ref()).len() <= LONGEST;
        if before.settled && after.is_some_and(|after| after.digest == before.digest) && is_short() {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= MOST {
                kept.pop_front();
            }
            kept.push_back((before.digest.clone(), Arc::clone(error)));
        }
    }

    /// Returns the stamps of everything at some locations, for a resource that a recipe expects there (`wanted`);
    /// `None` if they cannot be obtained, and then no verdict can be kept.
    pub(super) fn evidence(&self, wanted: &str, locations: &[&str], stores: &Stores) -> Option<Evidence> {
        let mut stamps = Stamps { text: wanted.to_owned(), entries: 0, youngest: Duration::MAX };
        for location in locations {
            match location.parse().ok()? {
                Location::Local(path) => stamps.add(&path, stores.files(), DEPTH).ok()?,
                Location::Object(objects) => stamps.add_objects(&objects, stores)?,
            }
        }
        Some(Evidence { digest: Digest::of(stamps.text.as_bytes()), settled: stamps.youngest >= self.settled })
    }
}

struct Stamps {
    text: String,
    entries: usize,
    youngest: Duration,
}

impl Stamps {
    fn add(&mut self, path: &Path, files: &Files, depth: usize) -> io::Result<()> {
        self.entries += 1;
        if self.entries > MOST_ENTRIES {
            return Err(io::Error::other("too many files"));
        }
        let found = match files.metadata(path) {
            Ok(found) => found,
            // A link that leads nowhere is evidence too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.text.push_str("\nabsent");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let stamp = Stamp::of(&found);
        self.text.push_str(&format!("\n{stamp:?}"));
        self.youngest = self.youngest.min(stamp.age());
        if found.is_dir() && depth > 0 {
            for name in files.names(path)? {
                self.text.push_str(&format!("\n{name:?}"));
                self.add(&path.join(name), files, depth - 1)?;
            }
        }
        Ok(())
    }

    /// Adds the objects below a key. Their entity tags change with every write, so their age does not matter.
    fn add_objects(&mut self, at: &ObjectAddress, stores: &Stores) -> Option<()> {
        let mut found = Vec::new();
        let mut count = 0;
        let mut see = |object: Object| {
            count += 1;
            if count <= MOST_ENTRIES {
                found.push(format!("\n{:?} {} {:?}", object.path, object.size, object.etag));
            }
        };
        stores.list(at, &mut see).ok()?;
        if let (0, false) = (count, at.key.is_empty()) {
            let head = stores.head(&Location::Object(at.clone())).ok()??;
            found.push(format!("\n{} {:?}", head.size, head.etag));
        }
        self.text.extend(found);
        (count <= MOST_ENTRIES).then_some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use tempfile::TempDir;

    fn verdict() -> Arc<ResourceError> {
        Arc::new(ResourceError::TooLarge { path: "x".into() })
    }

    /// Makes a directory with one file, and with another file in a subdirectory.
    fn place() -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("grid");
        fs::create_dir_all(path.join("sparse")).unwrap();
        fs::write(path.join("a"), "one").unwrap();
        fs::write(path.join("sparse/b"), "one").unwrap();
        (directory, path)
    }

    fn evidence(verdicts: &Verdicts, path: &Path) -> Option<Evidence> {
        verdicts.evidence("digest", &[path.to_str().unwrap()], &Stores::default())
    }

    #[test]
    fn a_verdict_lasts_as_long_as_every_file_is_what_it_was() {
        let (_directory, path) = place();
        let verdicts = Verdicts::settled_after(Duration::ZERO);
        let judge = || {
            let before = evidence(&verdicts, &path).unwrap();
            let known = verdicts.find(&before).is_some();
            verdicts.keep(&before, evidence(&verdicts, &path).as_ref(), &verdict());
            known
        };
        assert!(!judge() && judge());
        let changes: [fn(&Path); 5] = [
            |path| fs::write(path.join("a"), "two and more").unwrap(),
            |path| fs::write(path.join("sparse/b"), "two and more").unwrap(),
            |path| fs::write(path.join("sparse/c"), "").unwrap(),
            |path| fs::remove_file(path.join("a")).unwrap(),
            |path| symlink("nowhere", path.join("a")).unwrap(),
        ];
        for change in changes {
            change(&path);
            assert!(!judge() && judge());
        }
        let other = verdicts.evidence("another digest", &[path.to_str().unwrap()], &Stores::default()).unwrap();
        assert!(verdicts.find(&other).is_none(), "it is for what the recipe expects");
    }

    #[test]
    fn spellings_of_one_place_are_the_same_evidence() {
        let (directory, path) = place();
        symlink(&path, directory.path().join("link")).unwrap();
        let verdicts = Verdicts::settled_after(Duration::ZERO);
        let first = evidence(&verdicts, &path);
        for spelling in ["grid/", "grid//", "./grid", "grid/sparse/..", "link"] {
            assert_eq!(evidence(&verdicts, &directory.path().join(spelling)), first, "{spelling}");
        }
    }

    #[test]
    fn what_was_written_just_now_or_changes_under_way_is_not_judged_for_good() {
        let (_directory, path) = place();
        let (young, old) = (Verdicts::default(), Verdicts::settled_after(Duration::ZERO));
        let before = evidence(&young, &path).unwrap();
        young.keep(&before, Some(&before), &verdict());
        assert!(young.find(&before).is_none());
        let before = evidence(&old, &path).unwrap();
        fs::write(path.join("a"), "two and more").unwrap();
        old.keep(&before, evidence(&old, &path).as_ref(), &verdict());
        old.keep(&before, None, &verdict());
        assert!(old.find(&before).is_none());
    }

    #[test]
    fn their_number_is_bounded() {
        let (_directory, path) = place();
        let verdicts = Verdicts::settled_after(Duration::ZERO);
        let all: Vec<_> = (0..=MOST)
            .map(|i| {
                let text = path.to_str().unwrap();
                verdicts.evidence(&i.to_string(), &[text], &Stores::default()).unwrap()
            })
            .collect();
        all.iter().for_each(|one| verdicts.keep(one, Some(one), &verdict()));
        assert!(verdicts.find(&all[0]).is_none());
        assert!(all[1..].iter().all(|one| verdicts.find(one).is_some()));
    }

    #[test]
    fn long_verdicts_are_not_kept() {
        let (_directory, path) = place();
        let verdicts = Verdicts::settled_after(Duration::ZERO);
        let of = evidence(&verdicts, &path).unwrap();
        let long = Arc::new(ResourceError::TableName { path: "x".repeat(LONGEST).into() });
        verdicts.keep(&of, Some(&of), &long);
        assert!(verdicts.find(&of).is_none());
    }

    #[test]
    fn what_cannot_be_looked_at_is_no_evidence() {
        let verdicts = Verdicts::default();
        assert_eq!(verdicts.evidence("digest", &["/dev/null/x"], &Stores::default()), None);
        assert_eq!(verdicts.evidence("digest", &["s3://"], &Stores::default()), None);
    }
}
