//! Work on many files, several at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Calls `work` for each item, in at most `threads` threads, and returns the results in the order of the items. With
/// one item or one thread, the calling thread does it all. Threads take the items in order, one at a time, since some
/// take much longer than others: a file of another machine, a large granule.
///
/// # Panics
/// Panics if `work` panics, after the other threads have done the rest.
pub fn map<T: Sync, R: Send>(items: &[T], threads: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = threads.min(items.len());
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let at = next.fetch_add(1, Ordering::Relaxed);
        items.get(at).map(|item| (at, item))
    };
    let share = || -> Vec<(usize, R)> { std::iter::from_fn(take).map(|(at, item)| (at, work(item))).collect() };
    let mut results: Vec<(usize, R)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(share)).collect();
        let ended = threads.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ended.flatten().collect()
    });
    results.sort_unstable_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::{Barrier, Mutex};

    #[test]
    fn results_have_the_order_of_the_items() {
        let items: Vec<usize> = (0..1000).collect();
        for threads in [0, 1, 2, 7, 5000] {
            assert_eq!(map(&items, threads, |item| item * 2), items.iter().map(|item| item * 2).collect::<Vec<_>>());
        }
        assert!(map(&[] as &[u8], 4, |_| ()).is_empty());
    }

    #[test]
    fn so_many_items_are_worked_on_at_once_and_no_more() {
        let (all_there, threads) = (Barrier::new(3), Mutex::new(HashSet::new()));
        map(&[(); 12], 3, |()| {
            threads.lock().unwrap().insert(thread::current().id());
            // It would wait for ever if fewer than three items were under way.
            all_there.wait();
        });
        assert_eq!(threads.into_inner().unwrap().len(), 3);
        let caller = thread::current().id();
        assert_eq!(map(&[(); 3], 1, |()| thread::current().id()), [caller; 3]);
    }

    #[test]
    #[should_panic(expected = "the third item")]
    fn a_panic_is_passed_on() {
        map(&[1, 2, 3, 4], 2, |item| assert!(*item != 3, "the third item"));
    }
}
