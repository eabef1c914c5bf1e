//! A cache of the digests of input files. Native and latlon granules are made of the same files, and SHA-256 takes a
//! tenth of the time of a native granule.

use edp_files::{ReadAt, Stamp};
use edp_protocol::Digest;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Age of a file's last change at which its digest may be cached. A later change gets another time, even if times are
/// kept in steps of two seconds, or by a server whose clock is a little slow.
const SETTLED: Duration = Duration::from_secs(5);

/// Largest number of digests that are kept, about 200 bytes each. When there are more, all are dropped, and computed
/// again as needed.
const MOST: usize = 50_000;

/// Digests of files that this process has hashed, each with the stamp that the file had.
#[derive(Debug)]
pub struct DigestCache {
    known: Mutex<HashMap<(u64, u64), (Stamp, Digest)>>,
    settled: Duration,
}

impl Default for DigestCache {
    fn default() -> DigestCache {
        DigestCache { known: Mutex::default(), settled: SETTLED }
    }
}

impl DigestCache {
    /// Returns the digest of a file as it is now: from the cache, or from `hash`, in which case it is cached if the
    /// file did not change meanwhile. Anything but a local file is always hashed.
    ///
    /// # Errors
    /// Returns the errors of `hash`.
    pub fn digest<E>(&self, file: &dyn ReadAt, hash: impl FnOnce() -> Result<Digest, E>) -> Result<Digest, E> {
        let Some(before) = file.stamp() else { return hash() };
        if let Some((stamp, digest)) = self.known().get(&before.file())
            && *stamp == before
        {
            return Ok(digest.clone());
        }
        let settled = before.age() >= self.settled;
        let digest = hash()?;
        if settled && file.stamp().as_ref() == Some(&before) {
            let mut known = self.known();
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(before.file(), (before, digest.clone()));
        }
        Ok(digest)
    }

    /// Each entry is valid by itself, so a panic elsewhere does no harm.
    fn known(&self) -> MutexGuard<'_, HashMap<(u64, u64), (Stamp, Digest)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::{self, File};
    use std::io;
    use std::path::{Path, PathBuf};
    use tempfile::TempDir;

    /// Makes a file, in a directory that exists as long as the first value.
    fn one() -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "one").unwrap();
        (dir, path)
    }

    /// Returns the digest of a file, and true if the file was read for it.
    fn hash(cache: &DigestCache, path: &Path) -> (Digest, bool) {
        let mut read = false;
        let file = File::open(path).unwrap();
        let digest = cache.digest(&file, || {
            read = true;
            Digest::of_reader(&file).map(|(digest, _)| digest)
        });
        (digest.unwrap(), read)
    }

    fn at_once() -> DigestCache {
        DigestCache { settled: Duration::ZERO, ..DigestCache::default() }
    }

    #[test]
    fn a_file_is_hashed_once_until_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let [path, other] = ["a", "b"].map(|name| dir.path().join(name));
        fs::write(&path, "right").unwrap();
        let cache = at_once();
        assert_eq!(hash(&cache, &path), (Digest::of(b"right"), true));
        assert_eq!(hash(&cache, &path), (Digest::of(b"right"), false));
        fs::write(&path, "much longer").unwrap();
        assert_eq!(hash(&cache, &path), (Digest::of(b"much longer"), true));
        fs::write(&other, "another one").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(hash(&cache, &path), (Digest::of(b"another one"), true));
        assert_eq!(hash(&cache, &path), (Digest::of(b"another one"), false));
    }

    #[test]
    fn a_file_that_was_just_written_is_hashed_again() {
        let (_dir, path) = one();
        let cache = DigestCache { settled: Duration::from_secs(3600), ..DigestCache::default() };
        assert!(hash(&cache, &path).1 && hash(&cache, &path).1);
    }

    #[test]
    fn one_that_changes_while_it_is_hashed_is_not_kept() {
        let (_dir, path) = one();
        let (cache, file) = (at_once(), File::open(&path).unwrap());
        let digest = cache.digest(&file, || fs::write(&path, "two and more").map(|()| Digest::of(b"one")));
        assert_eq!(digest.unwrap(), Digest::of(b"one"));
        assert_eq!(hash(&cache, &path), (Digest::of(b"two and more"), true));
    }

    #[test]
    fn what_fails_and_what_is_no_file_is_not_kept() {
        let (_dir, path) = one();
        let cache = at_once();
        assert!(cache.digest(&File::open(&path).unwrap(), || Err(io::Error::other("no"))).is_err());
        assert!(hash(&cache, &path).1);
        let memory = b"bytes".to_vec();
        for digest in [Digest::of(b"bytes"), Digest::of(b"other")] {
            assert_eq!(cache.digest(&memory, || Ok::<_, io::Error>(digest.clone())).unwrap(), digest);
        }
    }

    #[test]
    fn their_number_is_bounded() {
        let (_dir, path) = one();
        let cache = at_once();
        hash(&cache, &path);
        let (stamp, digest) = cache.known().values().next().unwrap().clone();
        for inode in 0..MOST as u64 {
            cache.known().insert((0, inode), (stamp.clone(), digest.clone()));
        }
        fs::write(&path, "two and more").unwrap();
        hash(&cache, &path);
        assert_eq!(cache.known().len(), 1);
    }
}
