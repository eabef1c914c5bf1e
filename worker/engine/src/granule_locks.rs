//! Locks that let only one slot work at a granule, or at a mean that several granules need.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The granules, or the means, at which slots of this worker are working. A task message may arrive twice, and both would write the
/// same partial file: the second one waits, and finds that the granule exists.
#[derive(Debug, Default)]
pub struct GranuleLocks {
    taken: Mutex<HashSet<String>>,
    free: Condvar,
}

/// Interval of the checks of the cancellation flag while waiting.
const LOOK: Duration = Duration::from_millis(100);

/// A lock on a granule, which is released when this is dropped.
#[derive(Debug)]
#[must_use = "the turn ends when this is dropped"]
pub struct GranuleLock<'a> {
    locks: &'a GranuleLocks,
    granule: String,
}

impl GranuleLocks {
    /// Waits for the lock of a granule. Returns `None` once `cancel` is set.
    pub fn take(&self, granule: &str, cancel: &AtomicBool) -> Option<GranuleLock<'_>> {
        let mut taken = self.taken();
        while taken.contains(granule) {
            if cancel.load(Ordering::Relaxed) {
                return None;
            }
            taken = self.free.wait_timeout(taken, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        taken.insert(granule.to_owned());
        Some(GranuleLock { locks: self, granule: granule.to_owned() })
    }

    /// Returns the set, even after a panic, which always leaves it complete.
    fn taken(&self) -> MutexGuard<'_, HashSet<String>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for GranuleLock<'_> {
    fn drop(&mut self) {
        self.locks.taken().remove(&self.granule);
        self.locks.free.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn two_are_never_at_the_same_granule() {
        let (locks, never) = (GranuleLocks::default(), AtomicBool::new(false));
        let at = [AtomicUsize::new(0), AtomicUsize::new(0)];
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (locks, never, at) = (&locks, &never, &at[thread % 2]);
                scope.spawn(move || {
                    for _ in 0..200 {
                        let _turn = locks.take(["a.nc", "b.nc"][thread % 2], never).unwrap();
                        assert_eq!(at.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        at.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(locks.taken().is_empty());
    }

    #[test]
    fn who_is_told_to_stop_does_not_wait() {
        let (locks, never) = (GranuleLocks::default(), AtomicBool::new(false));
        let lock = locks.take("a.nc", &never).unwrap();
        assert!(locks.take("a.nc", &AtomicBool::new(true)).is_none());
        assert!(locks.take("b.nc", &AtomicBool::new(true)).is_some(), "nothing to wait for");
        drop(lock);
        assert!(locks.take("a.nc", &never).is_some());
    }
}
