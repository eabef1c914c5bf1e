//! The ledger as an actor with a thread of its own, since writing waits for the disk.

use super::ledger::{Ledger, LedgerError};
use tokio::sync::{mpsc, oneshot};

type LedgerCall = Box<dyn FnOnce(&mut Ledger) + Send>;

/// A handle on the ledger's thread. The ledger is closed when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct LedgerHandle {
    calls: mpsc::Sender<LedgerCall>,
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
        let work = move || {
            while let Some(call) = mailbox.blocking_recv() {
                call(&mut ledger);
            }
        };
        std::thread::Builder::new().name("ledger".into()).spawn(work).map_err(|_| LedgerHandleError::Gone)?;
        Ok(LedgerHandle { calls })
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
