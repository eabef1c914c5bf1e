//! The ledger as an actor: it works on a thread of its own, since writing waits for the disk.

use super::ledger::{Ledger, LedgerError};
use tokio::sync::{mpsc, oneshot};

type Job = Box<dyn FnOnce(&mut Ledger) + Send>;

/// A handle on the ledger's thread. The ledger is closed when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Desk {
    jobs: mpsc::Sender<Job>,
}

/// Why the ledger did not answer.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// It cannot do what was asked.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Its thread has ended: it panicked, or could not be started.
    #[error("the ledger's thread has ended; please report this")]
    Gone,
}

impl Desk {
    /// Puts a ledger at work.
    ///
    /// # Errors
    /// [`DeskError::Gone`] if the thread cannot be started.
    pub fn open(mut ledger: Ledger) -> Result<Desk, DeskError> {
        let (jobs, mut mailbox) = mpsc::channel::<Job>(16);
        let work = move || {
            while let Some(job) = mailbox.blocking_recv() {
                job(&mut ledger);
            }
        };
        std::thread::Builder::new().name("ledger".into()).spawn(work).map_err(|_| DeskError::Gone)?;
        Ok(Desk { jobs })
    }

    /// Has something done, in the order of asking. It is done even if nobody waits for the answer any more.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, DeskError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |ledger| drop(reply.send(job(ledger))));
        self.jobs.send(job).await.map_err(|_| DeskError::Gone)?;
        Ok(answer.await.map_err(|_| DeskError::Gone)??)
    }
}
