//! The ledger as an actor with a thread of its own, since writing waits for the disk.

use super::ledger::{Ledger, LedgerError, now};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

type LedgerCall = Box<dyn FnOnce(&mut Ledger) + Send>;

/// A handle on the ledger's thread. The ledger is closed when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct LedgerHandle {
    calls: mpsc::Sender<LedgerCall>,
    activity: LedgerActivity,
}

/// What the thread of a ledger does, for those who must not wait for it. It does not keep the ledger open.
#[derive(Debug, Clone, Default)]
pub(super) struct LedgerActivity(Arc<Mutex<LastCalls>>);

#[derive(Debug, Default)]
struct LastCalls {
    /// Number of changes to the ledger, and the time of the last one in ms since 1970.
    changes: u64,
    written: Option<i64>,
    /// Begin of the call that is under way.
    begun: Option<Instant>,
}

impl LedgerActivity {
    /// Returns the time at which the ledger was written last, in ms since 1970.
    pub(super) fn written(&self) -> Option<i64> {
        self.lock().written
    }

    /// Returns the time for which the call that is under way has lasted.
    pub(super) fn busy(&self) -> Option<Duration> {
        self.lock().begun.map(|begun| begun.elapsed())
    }

    fn begins(&self) {
        self.lock().begun = Some(Instant::now());
    }

    fn ends(&self, changes: u64) {
        let mut calls = self.lock();
        calls.begun = None;
        if std::mem::replace(&mut calls.changes, changes) != changes {
            calls.written = Some(now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, LastCalls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reason why a call to the ledger has failed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerHandleError {
    /// The ledger has returned an error.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The thread has ended: it panicked, or could not be started.
    #[error("the ledger's thread has ended; please report this")]
    Gone,
}

impl LedgerHandle {
    /// Starts the thread of a ledger.
    ///
    /// # Errors
    /// Returns [`LedgerHandleError::Gone`] if the thread cannot be started.
    pub fn open(mut ledger: Ledger) -> Result<LedgerHandle, LedgerHandleError> {
        let (calls, mut mailbox) = mpsc::channel::<LedgerCall>(16);
        let activity = LedgerActivity::default();
        let own = activity.clone();
        let work = move || {
            while let Some(call) = mailbox.blocking_recv() {
                own.begins();
                call(&mut ledger);
                own.ends(ledger.changes());
            }
        };
        std::thread::Builder::new().name("ledger".into()).spawn(work).map_err(|_| LedgerHandleError::Gone)?;
        Ok(LedgerHandle { calls, activity })
    }

    /// Returns what the ledger's thread does.
    pub(super) fn activity(&self) -> LedgerActivity {
        self.activity.clone()
    }

    /// Runs a call on the ledger's thread, in the order of the calls, and returns its result. It is run even if the
    /// caller does not wait for the result.
    ///
    /// # Errors
    /// Returns the error of the call, or [`LedgerHandleError::Gone`].
    pub async fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerHandleError> {
        let (reply, answer) = oneshot::channel();
        let call: LedgerCall = Box::new(move |ledger| drop(reply.send(call(ledger))));
        self.calls.send(call).await.map_err(|_| LedgerHandleError::Gone)?;
        Ok(answer.await.map_err(|_| LedgerHandleError::Gone)??)
    }
}
