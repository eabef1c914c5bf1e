//! A bounded map whose values are loaded when they are first asked for.
//!
//! The first thread that asks for a key loads its value outside of the lock: threads that want other keys continue, and
//! those that want the same key wait for that one load. Waiting and loading can be cancelled; when the loading thread
//! is cancelled, one of the waiting threads loads instead. An error is returned to all threads that waited for it, and
//! is not kept.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Interval at which a waiting thread checks its cancellation flag.
const LOOK: Duration = Duration::from_millis(100);

/// Values by their keys. When there are too many, the least recently used are dropped; threads that use such a value
/// keep it until they are done with it.
#[derive(Debug)]
pub(crate) struct LoadOnce<K, V, E> {
    state: Mutex<CacheState<K, V, E>>,
    /// Notified whenever a load has ended.
    ended: Condvar,
    limit: Limit<V>,
}

/// The limits of a map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit<V> {
    /// Largest number of values.
    pub(crate) count: usize,
    /// Largest number of bytes of all values; one value alone is kept whatever its size.
    pub(crate) bytes: usize,
    /// Returns the number of bytes of a value. It is called with the map locked, so it must not wait for anything.
    pub(crate) size: fn(&V) -> usize,
}

/// The reason why there is no value.
#[derive(Debug)]
pub(crate) enum LoadError<E> {
    /// The cancellation flag of the thread that asked is set.
    Cancelled,
    /// The value could not be loaded, by this thread or by the one for which this thread waited.
    Failed(Arc<E>),
}

#[derive(Debug)]
struct CacheState<K, V, E> {
    entries: HashMap<K, CacheEntry<V, E>>,
    /// The number of calls so far; the larger an entry's number, the later it was used.
    clock: u64,
}

#[derive(Debug)]
enum CacheEntry<V, E> {
    Loading(Arc<Load<V, E>>),
    Loaded { value: V, used: u64 },
}

/// A load in progress. Its result is `None` if the loading thread gave up or panicked.
type Load<V, E> = OnceLock<Option<Result<V, Arc<E>>>>;

impl<K: Eq + Hash + Clone, V: Clone, E> LoadOnce<K, V, E> {
    pub(crate) fn new(limit: Limit<V>) -> LoadOnce<K, V, E> {
        LoadOnce { state: Mutex::new(CacheState { entries: HashMap::new(), clock: 0 }), ended: Condvar::new(), limit }
    }

    /// Returns the value of a key, which is loaded if it is missing.
    ///
    /// # Errors
    /// Returns an error if the value could not be loaded, or if `cancel` was set in the meantime.
    pub(crate) fn get(
        &self,
        key: &K,
        cancel: &AtomicBool,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, LoadError<E>> {
        loop {
            let mut state = self.lock();
            state.clock += 1;
            let clock = state.clock;
            let under_way = match state.entries.get_mut(key) {
                Some(CacheEntry::Loaded { value, used }) => {
                    *used = clock;
                    return Ok(value.clone());
                }
                Some(CacheEntry::Loading(load)) => Arc::clone(load),
                None => {
                    let under_way = Arc::new(Load::new());
                    state.entries.insert(key.clone(), CacheEntry::Loading(Arc::clone(&under_way)));
                    drop(state);
                    return self.load(key, under_way, cancel, load);
                }
            };
            if let Some(ended) = self.wait(state, &under_way, cancel)? {
                return ended.map_err(LoadError::Failed);
            }
        }
    }

    fn load(
        &self,
        key: &K,
        under_way: Arc<Load<V, E>>,
        cancel: &AtomicBool,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, LoadError<E>> {
        let ending = LoadGuard { of: self, key, load: &under_way };
        match load() {
            // Whatever the error is, the cancellation may have caused it.
            Err(_) if cancel.load(Ordering::Relaxed) => Err(LoadError::Cancelled),
            loaded => {
                let loaded = loaded.map_err(Arc::new);
                let _ = under_way.set(Some(loaded.clone()));
                drop(ending);
                loaded.map_err(LoadError::Failed)
            }
        }
    }

    /// Waits for a load by another thread and returns its result.
    fn wait(
        &self,
        mut state: MutexGuard<'_, CacheState<K, V, E>>,
        under_way: &Load<V, E>,
        cancel: &AtomicBool,
    ) -> Result<Option<Result<V, Arc<E>>>, LoadError<E>> {
        loop {
            if let Some(ended) = under_way.get() {
                return Ok(ended.clone());
            }
            if cancel.load(Ordering::Relaxed) {
                return Err(LoadError::Cancelled);
            }
            state = self.ended.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Drops the least recently used values until the others are within the limits.
    fn trim(&self, state: &mut CacheState<K, V, E>) {
        loop {
            let (mut count, mut bytes, mut oldest) = (0, 0_usize, None);
            for (key, entry) in &state.entries {
                if let CacheEntry::Loaded { value, used } = entry {
                    count += 1;
                    bytes = bytes.saturating_add((self.limit.size)(value));
                    if oldest.is_none_or(|(_, least)| *used < least) {
                        oldest = Some((key, *used));
                    }
                }
            }
            match oldest {
                Some((key, _)) if count > self.limit.count || (count > 1 && bytes > self.limit.bytes) => {
                    let key = key.clone();
                    state.entries.remove(&key);
                }
                _ => return,
            }
        }
    }

    /// Locks the state. Every change is made in one step, so a panic of a thread leaves the map valid.
    fn lock(&self) -> MutexGuard<'_, CacheState<K, V, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a load, even if the loading thread gives up or panics.
struct LoadGuard<'a, K: Eq + Hash + Clone, V: Clone, E> {
    of: &'a LoadOnce<K, V, E>,
    key: &'a K,
    load: &'a Load<V, E>,
}

impl<K: Eq + Hash + Clone, V: Clone, E> Drop for LoadGuard<'_, K, V, E> {
    fn drop(&mut self) {
        let mut state = self.of.lock();
        match self.load.get_or_init(|| None) {
            Some(Ok(value)) => {
                let entry = CacheEntry::Loaded { value: value.clone(), used: state.clock };
                state.entries.insert(self.key.clone(), entry);
                self.of.trim(&mut state);
            }
            Some(Err(_)) | None => drop(state.entries.remove(self.key)),
        }
        self.of.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    type Texts = LoadOnce<u32, Arc<str>, String>;

    static NO: AtomicBool = AtomicBool::new(false);

    fn texts(count: usize, bytes: usize) -> Texts {
        LoadOnce::new(Limit { count, bytes, size: |text: &Arc<str>| text.len() })
    }

    /// Asks for a key whose value takes `bytes` bytes. Returns true if it was loaded.
    fn ask(texts: &Texts, key: u32, bytes: usize) -> bool {
        let mut loaded = false;
        let value = texts.get(&key, &NO, || {
            loaded = true;
            Ok("x".repeat(bytes).into())
        });
        assert_eq!(value.unwrap().len(), bytes);
        loaded
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let texts = texts(3, 1000);
        assert!((0..3).all(|key| ask(&texts, key, 1)));
        assert!(!ask(&texts, 0, 1), "0 is used once more");
        assert!(ask(&texts, 3, 1));
        assert!([0, 2, 3].iter().all(|key| !ask(&texts, *key, 1)));
        assert!(ask(&texts, 1, 1), "1 had to go");
    }

    #[test]
    fn bytes_are_bounded_but_for_a_single_value() {
        let texts = texts(100, 10);
        assert!(ask(&texts, 0, 6) && ask(&texts, 1, 4) && !ask(&texts, 0, 6));
        assert!(ask(&texts, 2, 20), "larger than all may be together");
        assert!(!ask(&texts, 2, 20), "it is kept nevertheless");
        assert!(ask(&texts, 0, 6) && ask(&texts, 1, 4));
    }

    #[test]
    fn threads_that_want_the_same_wait_for_one_load_and_others_go_on() {
        let (texts, loads, both) = (texts(8, 1000), AtomicUsize::new(0), Barrier::new(2));
        thread::scope(|scope| {
            let slow = || {
                texts.get(&0, &NO, || {
                    loads.fetch_add(1, Ordering::SeqCst);
                    both.wait(); // until another key was loaded
                    Ok("slow".into())
                })
            };
            let waiting: Vec<_> = (0..8).map(|_| scope.spawn(slow)).collect();
            assert!(ask(&texts, 1, 1));
            both.wait();
            for one in waiting {
                assert_eq!(&*one.join().unwrap().unwrap(), "slow");
            }
        });
        assert_eq!(loads.into_inner(), 1);
    }

    #[test]
    fn errors_reach_all_who_waited_and_are_not_kept() {
        let (texts, begun) = (texts(8, 1000), Barrier::new(2));
        let error = |unloaded| match unloaded {
            Err(LoadError::Failed(error)) => error,
            other => unreachable!("{other:?}"),
        };
        thread::scope(|scope| {
            let first = scope.spawn(|| {
                texts.get(&0, &NO, || {
                    begun.wait();
                    // Wait until the other thread waits: it holds the load, as this thread and the map do.
                    while !matches!(texts.lock().entries.get(&0), Some(CacheEntry::Loading(load)) if Arc::strong_count(load) > 2) {
                        thread::yield_now();
                    }
                    Err("no".into())
                })
            });
            begun.wait();
            let second = texts.get(&0, &NO, || Err("not asked for".into()));
            let (first, second) = (error(first.join().unwrap()), error(second));
            assert_eq!(*first, "no");
            assert!(Arc::ptr_eq(&first, &second));
        });
        assert!(ask(&texts, 0, 1));
    }

    #[test]
    fn waiting_and_loading_can_be_cancelled_and_another_takes_over() {
        let (texts, begun) = (texts(8, 1000), Barrier::new(3));
        let (of_loading, of_waiting) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            let loading = scope.spawn(|| {
                texts.get(&0, &of_loading, || {
                    begun.wait();
                    while !of_loading.load(Ordering::Relaxed) {
                        thread::yield_now();
                    }
                    Err("cut short".into())
                })
            });
            let waiting = scope.spawn(|| {
                begun.wait();
                texts.get(&0, &of_waiting, || Err("not asked for".into()))
            });
            begun.wait();
            of_waiting.store(true, Ordering::Relaxed);
            assert!(matches!(waiting.join().unwrap(), Err(LoadError::Cancelled)));
            let patient = scope.spawn(|| ask(&texts, 0, 1));
            of_loading.store(true, Ordering::Relaxed);
            assert!(matches!(loading.join().unwrap(), Err(LoadError::Cancelled)));
            assert!(patient.join().unwrap(), "it loads what the other has given up");
        });
    }

    #[test]
    fn a_panic_leaves_nobody_waiting() {
        let texts = texts(8, 1000);
        let panics = || texts.get(&0, &NO, || unreachable!("a defect"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert!(ask(&texts, 0, 1));
    }
}
