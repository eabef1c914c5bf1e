//! Results of a model that is still running: detection of pairs that are complete.
//!
//! Models write a file piece by piece and in any order, so neither its name nor its size alone shows that it is
//! complete. A pair on disk is accepted when the size of its `.data` file is that which its `.meta` file gives, and
//! neither file has changed between two scans. Objects on S3 appear only when they are complete. No `.data` file is
//! opened.

use super::files::Pair;
use super::inventory::Inventory;
use edp_engine::mds::{Header, MAX_HEADER};
use edp_files::regular;
use edp_protocol::Location;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::hash::{BuildHasher, Hash as _, Hasher as _, RandomState};
use std::io::Read as _;
use std::time::SystemTime;

/// Knowledge from earlier scans. It takes some 20 bytes for each pair, since paths are kept as hashes.
#[derive(Debug, Default)]
pub struct Growth {
    /// Hashes of pairs that were complete, including their sizes.
    whole: HashSet<u64>,
    /// The other pairs, as they were at the last scan.
    growing: HashMap<u64, PairStamp>,
    hasher: RandomState,
}

/// Sizes and modification times of both files of a pair.
type PairStamp = [(u64, Option<SystemTime>); 2];

impl Growth {
    /// Removes what is not complete yet from an inventory. Returns true if any pair is new or has changed since the
    /// last scan.
    pub(crate) fn sift(&mut self, inventory: &mut Inventory) -> bool {
        let mut growing = HashMap::new();
        let mut changed = false;
        inventory.retain(|pairs| {
            // All pairs are inspected, so that all are known at the next scan.
            let new = pairs.iter().filter(|pair| !self.is_whole(pair, &mut growing, &mut changed));
            new.count() == 0
        });
        self.growing = growing;
        changed
    }

    /// Returns true if a pair is complete.
    fn is_whole(&mut self, pair: &Pair, growing: &mut HashMap<u64, PairStamp>, changed: &mut bool) -> bool {
        let whole = self.hash(|state| (&pair.data, pair.data_version.size, pair.meta_version.size).hash(state));
        if self.whole.contains(&whole) {
            return true;
        }
        if !pair.data.parse().is_ok_and(|at: Location| !at.is_remote()) {
            *changed = true;
            return self.whole.insert(whole);
        }
        let path = self.hash(|state| pair.data.hash(state));
        let stamp = stamp(pair);
        let same = stamp.is_some() && self.growing.get(&path) == stamp.as_ref();
        *changed |= !same;
        if same && fits(pair) {
            return self.whole.insert(whole);
        }
        growing.extend(stamp.map(|stamp| (path, stamp)));
        false
    }

    fn hash(&self, write: impl FnOnce(&mut <RandomState as BuildHasher>::Hasher)) -> u64 {
        let mut state = self.hasher.build_hasher();
        write(&mut state);
        state.finish()
    }
}

/// Returns the present sizes and times of a pair, if it has not changed since it was scanned.
fn stamp(pair: &Pair) -> Option<PairStamp> {
    let look = |path: &str| fs::metadata(path).ok().map(|found| (found.len(), found.modified().ok()));
    let stamp = [look(&pair.data)?, look(&pair.meta)?];
    (stamp[0].0 == pair.data_version.size && stamp[1].0 == pair.meta_version.size).then_some(stamp)
}

/// Returns true if the `.data` file has the size that the `.meta` file gives.
fn fits(pair: &Pair) -> bool {
    let mut text = Vec::new();
    let limit = MAX_HEADER as u64 + 1;
    let read = regular::open(pair.meta.as_ref()).and_then(|file| file.take(limit).read_to_end(&mut text));
    let header = read.ok().and_then(|_| Header::parse_any(&pair.meta, &text).ok());
    header.is_some_and(|header| header.byte_length() == pair.data_version.size)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;

    const META: &str =
        " nDims = [ 2 ];\n dimList = [ 2, 1, 2, 26, 1, 26 ];\n dataprec = [ 'float32' ];\n nrecords = [ 1 ];\n";
    const WHOLE: usize = 2 * 26 * 4;

    /// Returns the steps that a scan finds complete, and true if anything was new.
    fn scan(root: &Path, growth: &mut Growth) -> (Vec<u64>, bool) {
        let (mut inventory, _) = Inventory::scan(root, "").unwrap();
        let changed = growth.sift(&mut inventory);
        let steps: Vec<u64> = inventory.steps("SSH", &["snap"]).into_iter().collect();
        assert_eq!(inventory.files(), 2 * steps.len());
        (steps, changed)
    }

    #[test]
    fn a_pair_is_whole_when_its_size_fits_and_it_has_come_to_rest() {
        let root = tempfile::tempdir().unwrap();
        let write = |step: u64, end: &str, bytes: &[u8]| {
            fs::write(root.path().join(format!("SSH_snap.{step:010}.{end}")), bytes).unwrap();
        };
        let mut growth = Growth::default();
        assert_eq!(scan(root.path(), &mut growth), (vec![], false));
        write(1, "data", &[0; WHOLE]);
        assert_eq!(scan(root.path(), &mut growth), (vec![], false), "half a pair");
        write(1, "meta", META.as_bytes());
        write(2, "meta", META.as_bytes());
        write(2, "data", &[0; WHOLE - 4]);
        write(3, "meta", b"nonsense");
        write(3, "data", &[0; WHOLE]);
        assert_eq!(scan(root.path(), &mut growth), (vec![], true), "not seen twice");
        assert_eq!(scan(root.path(), &mut growth), (vec![1], false), "too short; no header");
        write(2, "data", &[0; WHOLE]);
        assert_eq!(scan(root.path(), &mut growth), (vec![1], true), "just written");
        assert_eq!(scan(root.path(), &mut growth), (vec![1, 2], false));
        // Rewritten in place with the same size: it has not come to rest.
        write(4, "meta", META.as_bytes());
        write(4, "data", &[0; WHOLE]);
        assert!(scan(root.path(), &mut growth).1);
        let file = fs::File::options().write(true).open(root.path().join("SSH_snap.0000000004.data")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(scan(root.path(), &mut growth), (vec![1, 2], true));
        assert_eq!(scan(root.path(), &mut growth), (vec![1, 2, 4], false));
    }

    #[test]
    fn what_is_there_twice_stays_a_contradiction_until_one_is_gone() {
        let root = tempfile::tempdir().unwrap();
        for directory in ["a", "b"] {
            fs::create_dir(root.path().join(directory)).unwrap();
            fs::write(root.path().join(directory).join("SSH_snap.0000000001.data"), [0; 8]).unwrap();
            fs::write(root.path().join(directory).join("SSH_snap.0000000001.meta"), [0; 3]).unwrap();
        }
        for (kept, found) in [("a", true), ("b", true)] {
            let (mut inventory, _) = Inventory::scan(root.path(), "").unwrap();
            assert!(inventory.find("SSH", &["snap"], 1).is_err());
            inventory.retain(|pairs| pairs[0].data.contains(&format!("/{kept}/")));
            let pair = inventory.find("SSH", &["snap"], 1).unwrap();
            assert_eq!(pair.is_some_and(|found| found.pairs[0].data.contains(&format!("/{kept}/"))), found);
        }
    }
}
