//! Stamps, which tell whether a file of this machine has changed.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

/// Properties of a file that change when it is written to or replaced: its identity, its size, and the times of its
/// content and its inode. A program cannot set the time of an inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds of the last change of its content, then of its inode.
    times: [i64; 4],
}

impl Stamp {
    /// Returns the stamp of the file that has these metadata.
    pub fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            times: [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()],
        }
    }

    /// Device and inode, which identify the file for as long as it exists.
    pub fn file(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Time of the last change of the content, by the clock of its file system, in whole seconds.
    pub fn modified(&self) -> SystemTime {
        let seconds = Duration::from_secs(self.times[0].unsigned_abs());
        let time = match self.times[0] {
            0.. => SystemTime::UNIX_EPOCH.checked_add(seconds),
            _ => SystemTime::UNIX_EPOCH.checked_sub(seconds),
        };
        time.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Returns the time since the last change of the inode, by the clock of this machine; zero if that time lies in the
    /// future.
    ///
    /// Times of files advance in steps, and those of a server follow its own clock. Two changes shortly after each
    /// other may have the same time, so a recent time says little about whether there was another change.
    pub fn age(&self) -> Duration {
        let [_, _, seconds, _] = self.times;
        let changed = u64::try_from(seconds).ok().map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        changed.and_then(|changed| changed.elapsed().ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn it_changes_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        fs::write(&a, "one").unwrap();
        fs::write(&b, "one").unwrap();
        let stamp = |path| Stamp::of(&fs::metadata(path).unwrap());
        let first = stamp(&a);
        assert_eq!(first, stamp(&a));
        assert_ne!(first, stamp(&b), "another file");
        assert!(first.age() < Duration::from_secs(600), "it was made just now");
        fs::write(&a, "two and more").unwrap();
        assert_ne!(first, stamp(&a), "another size");
        let second = stamp(&a);
        File::options().append(true).open(&a).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_ne!(second, stamp(&a), "another time");
        assert_eq!(second.file(), stamp(&a).file());
        assert_eq!((stamp(&a).modified(), stamp(&a).size()), (SystemTime::UNIX_EPOCH, 12));
    }
}
