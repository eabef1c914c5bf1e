//! The number of simultaneous calls. It follows what the store accepts: it is halved when the store asks to slow down,
//! and grows again slowly while calls succeed, so that all workers together stay near what the store can take.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Largest number of simultaneous calls of all threads.
pub(super) const MOST: usize = 64;

/// Time within which several requests to slow down count as one: they are about calls that were made together.
const TOGETHER: Duration = Duration::from_secs(1);

/// The limit on simultaneous calls.
pub(super) struct Pace {
    calls: Semaphore,
    state: Mutex<PaceState>,
}

#[derive(Debug)]
struct PaceState {
    /// Number of calls that are permitted at once.
    permitted: usize,
    /// Number of permits that are in use and are not given to others when they come back.
    surplus: usize,
    /// Number of calls that have succeeded since the last change.
    successes: usize,
    /// The time at which the store last asked to slow down.
    slowed: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Pace {
        let state = PaceState { permitted: MOST, surplus: 0, successes: 0, slowed: None };
        Pace { calls: Semaphore::new(MOST), state: Mutex::new(state) }
    }

    /// Waits until another call is permitted.
    pub(super) async fn begin(&self) -> PermittedCall<'_> {
        PermittedCall { pace: self, permit: self.calls.acquire().await.ok() } // it is never closed
    }

    /// Notes that a call has succeeded. After as many as are permitted at once, one more is.
    pub(super) fn succeeded(&self) {
        let mut state = self.state();
        if state.permitted == MOST {
            return;
        }
        state.successes += 1;
        if state.successes >= state.permitted {
            (state.permitted, state.successes) = (state.permitted + 1, 0);
            match state.surplus.checked_sub(1) {
                Some(fewer) => state.surplus = fewer,
                None => self.calls.add_permits(1),
            }
        }
    }

    /// Halves the number of simultaneous calls, since the store asked to slow down.
    pub(super) fn slow_down(&self, now: Instant) {
        let mut state = self.state();
        if state.slowed.is_some_and(|before| now.duration_since(before) < TOGETHER) {
            return;
        }
        let half = (state.permitted / 2).max(1);
        let over = state.permitted - half + state.surplus;
        // Those in use are taken out when they come back.
        let surplus = over - self.calls.forget_permits(over);
        *state = PaceState { permitted: half, surplus, successes: 0, slowed: Some(now) };
        drop(state);
        tracing::debug!(calls = half, "S3 asks to slow down: fewer calls at the same time");
    }

    /// The state is valid after each statement, so a panic elsewhere does no harm.
    fn state(&self) -> MutexGuard<'_, PaceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that is permitted, until this is dropped.
pub(super) struct PermittedCall<'p> {
    pace: &'p Pace,
    permit: Option<SemaphorePermit<'p>>,
}

impl Drop for PermittedCall<'_> {
    fn drop(&mut self) {
        let mut state = self.pace.state();
        if let Some(fewer) = state.surplus.checked_sub(1) {
            state.surplus = fewer;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    /// Begins as many calls as are permitted at once, up to a number.
    fn begin(pace: &Pace, count: usize) -> Vec<PermittedCall<'_>> {
        let mut begun = Vec::new();
        while begun.len() < count {
            match pin!(pace.begin()).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(call) => begun.push(call),
                Poll::Pending => break,
            }
        }
        begun
    }

    fn permitted(pace: &Pace) -> usize {
        begin(pace, usize::MAX).len()
    }

    #[test]
    fn calls_are_halved_once_for_all_that_were_made_together() {
        let (pace, start) = (Pace::new(), Instant::now());
        assert_eq!(permitted(&pace), MOST);
        pace.slow_down(start);
        pace.slow_down(start + TOGETHER / 2);
        assert_eq!(permitted(&pace), MOST / 2);
        for round in 1..20 {
            pace.slow_down(start + TOGETHER * round);
        }
        assert_eq!(permitted(&pace), 1, "there is always one");
    }

    #[test]
    fn calls_in_progress_end_and_are_not_replaced() {
        let pace = Pace::new();
        let mut begun = begin(&pace, MOST);
        pace.slow_down(Instant::now());
        assert!(begin(&pace, 1).is_empty());
        begun.truncate(MOST / 2);
        assert!(begin(&pace, 1).is_empty(), "half of them still run");
        begun.truncate(MOST / 2 - 3);
        assert_eq!(begin(&pace, MOST).len(), 3);
        drop(begun);
        assert_eq!(permitted(&pace), MOST / 2);
    }

    #[test]
    fn calls_that_succeed_bring_back_what_was_taken() {
        let (pace, start) = (Pace::new(), Instant::now());
        let begun = begin(&pace, MOST);
        for round in 0..6 {
            pace.slow_down(start + TOGETHER * round);
        }
        (0..1 + 2 + 3).for_each(|_| pace.succeeded());
        drop(begun);
        assert_eq!(permitted(&pace), 4, "one call, and three more after one, two and three successes");
        (0..MOST * MOST).for_each(|_| pace.succeeded());
        assert_eq!(permitted(&pace), MOST);
    }
}
