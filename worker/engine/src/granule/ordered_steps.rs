//! Steps that run in parallel and whose results are handed over in order.
//!
//! The slabs of a granule are such steps: each is filled and then compressed by all cores, and at the end of each some
//! cores have no work while the last chunk is deflated. Another slab in flight, one step ahead, has work for them. Each
//! slab in flight has a thread, which mostly waits; computing uses the pool that all of them share.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Number of slabs of a granule in flight at once, if memory permits: one is computed while the other is handed over.
pub(super) const SLABS_IN_FLIGHT: usize = 2;

struct StepState<E> {
    /// The step that is handed over next.
    turn: usize,
    /// The first step that has failed, with its error.
    failed: Option<(usize, E)>,
    /// True if a thread has panicked, so that its step is never handed over.
    broken: bool,
}

/// Runs the steps `0..steps` on `threads` threads. Each step begins with `begin` and ends with `give`; both are called
/// in the order of the steps and one at a time. In between, `work` runs in parallel to that of other steps, with
/// scratch space that belongs to its thread. There are never more steps than threads between `begin` and the end of
/// `give`.
///
/// # Errors
/// Returns the error of the first step that fails. Later steps may have been worked on, but are not handed over.
pub(super) fn in_order<S, R, E>(
    steps: usize,
    threads: usize,
    begin: impl FnMut(usize) -> Result<(), E> + Send,
    work: impl Fn(usize, &mut S) -> Result<R, E> + Sync,
    give: impl FnMut(usize, R) -> Result<(), E> + Send,
) -> Result<(), E>
where
    S: Default,
    E: Send,
{
    let intake = Mutex::new((0, begin));
    // It is not part of the state: handing over waits for the receiver, and meanwhile other threads begin their next
    // steps.
    let give = Mutex::new(give);
    let state = Mutex::new(StepState { turn: 0, failed: None, broken: false });
    let changed = Condvar::new();
    let run = || {
        let _guard = PanicGuard { state: &state, changed: &changed };
        let mut own = S::default();
        loop {
            let step = {
                let mut intake = lock(&intake);
                let (next, begin) = &mut *intake;
                let over = |state: &StepState<_>| state.failed.is_some() || state.broken;
                if *next == steps || over(&lock(&state)) {
                    return;
                }
                let step = *next;
                *next += 1;
                if let Err(error) = begin(step) {
                    return fail(&state, &changed, step, error);
                }
                step
            };
            let result = match work(step, &mut own) {
                Ok(result) => result,
                Err(error) => return fail(&state, &changed, step, error),
            };
            let mut turn = lock(&state);
            while turn.turn != step {
                if turn.broken || turn.failed.as_ref().is_some_and(|(failed, _)| *failed < step) {
                    return;
                }
                turn = changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
            }
            drop(turn);
            match lock(&give)(step, result) {
                Ok(()) => lock(&state).turn += 1,
                Err(error) => return fail(&state, &changed, step, error),
            }
            changed.notify_all();
        }
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(steps)).map(|_| scope.spawn(run)).collect();
        run();
        for other in others {
            other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.failed.map_or(Ok(()), |(_, error)| Err(error))
}

fn fail<E>(state: &Mutex<StepState<E>>, changed: &Condvar, step: usize, error: E) {
    let mut state = lock(state);
    if state.failed.as_ref().is_none_or(|(failed, _)| step < *failed) {
        state.failed = Some((step, error));
    }
    changed.notify_all();
}

/// Locks the state, which is valid after every step, so that a panic elsewhere does no harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the other threads when this one panics.
struct PanicGuard<'a, E> {
    state: &'a Mutex<StepState<E>>,
    changed: &'a Condvar,
}

impl<E> Drop for PanicGuard<'_, E> {
    fn drop(&mut self) {
        if thread::panicking() {
            lock(self.state).broken = true;
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Runs steps that may fail, and returns those that were begun and those that were handed over.
    fn run(steps: usize, threads: usize, fails: &[usize]) -> (Vec<usize>, Vec<usize>, Result<(), usize>) {
        let (mut begun, mut given) = (Vec::new(), Vec::new());
        let (under_way, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let ended = in_order(
            steps,
            threads,
            |step| {
                begun.push(step);
                most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                Ok(())
            },
            |step, count: &mut usize| {
                *count += 1;
                // even steps take longer, so that odd ones wait for their turn
                (0..if step.is_multiple_of(2) { 200 } else { 0 }).for_each(|_| thread::yield_now());
                if fails.contains(&step) { Err(step) } else { Ok((step, *count)) }
            },
            |step, (worked, _)| {
                assert_eq!(step, worked);
                given.push(step);
                under_way.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            },
        );
        assert!(most.into_inner() <= threads);
        (begun, given, ended)
    }

    #[test]
    fn steps_are_begun_and_handed_over_in_order() {
        for threads in 1..4 {
            for steps in [0, 1, 2, 50] {
                let all: Vec<usize> = (0..steps).collect();
                assert_eq!(run(steps, threads, &[]), (all.clone(), all, Ok(())), "{steps} steps, {threads} threads");
            }
        }
    }

    #[test]
    fn the_first_error_counts_and_nothing_after_it_is_handed_over() {
        for threads in 1..4 {
            for fails in [vec![0], vec![7], vec![7, 8, 9], vec![8, 9]] {
                let (_, given, ended) = run(20, threads, &fails);
                assert_eq!(ended, Err(fails[0]), "{threads} threads");
                assert_eq!(given, (0..fails[0]).collect::<Vec<_>>(), "{threads} threads");
            }
        }
    }

    #[test]
    fn an_error_of_beginning_or_giving_ends_it() {
        for threads in 1..3 {
            let begin = |step| if step == 3 { Err("begin") } else { Ok(()) };
            let ended = in_order(9, threads, begin, |_, (): &mut ()| Ok(()), |_, ()| Ok(()));
            assert_eq!(ended, Err("begin"));
            let give = |step, ()| if step == 3 { Err("give") } else { Ok(()) };
            assert_eq!(in_order(9, threads, |_| Ok(()), |_, (): &mut ()| Ok(()), give), Err("give"));
        }
    }

    #[test]
    fn a_step_begins_while_another_is_handed_over() {
        let both = std::sync::Barrier::new(2);
        let begin = |step| {
            if step == 1 {
                both.wait(); // until step 0 is being handed over
            }
            Ok::<_, ()>(())
        };
        let give = |step, ()| {
            if step == 0 {
                both.wait(); // until step 1 is begun
            }
            Ok(())
        };
        assert_eq!(in_order(2, 2, begin, |_, (): &mut ()| Ok(()), give), Ok(()));
    }

    #[test]
    fn a_panic_is_passed_on_and_leaves_nobody_waiting() {
        for threads in 1..4 {
            let work = |step: usize, (): &mut ()| {
                assert!(step != 3, "three");
                Ok::<_, ()>(())
            };
            let run = || in_order(9, threads, |_| Ok(()), work, |_, ()| Ok(()));
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err(), "{threads} threads");
        }
    }
}
