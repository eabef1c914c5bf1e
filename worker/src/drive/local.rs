//! A worker in the process of the session, on the same queue.

use crate::service::Worker;
use crate::service::serve::{Service, WorkerEnd, serve};
use crate::service::status::SlotMonitor;
use edp_protocol::message::chain;
use edp_queue::Link;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Time that a worker may take to end. One that is stuck in a computation ends with the process.
const STUCK: Duration = Duration::from_secs(60);

/// Time for which the queue may be unreachable. A queue in memory never is.
const PATIENCE: Duration = Duration::from_secs(60);

/// A worker of this process that is running.
pub(super) struct LocalWorker {
    pub(super) id: String,
    stop: CancellationToken,
    /// Set when the worker has ended: `None` inside if it was told to, else the reason.
    ended: watch::Receiver<Option<Option<String>>>,
}

impl LocalWorker {
    /// Starts to serve a queue until the worker is stopped or a shutdown is requested, which comes with a function that
    /// returns the time that granules under way then have to end. Cancels `over` when the worker has ended, for whatever
    /// reason.
    pub(super) fn start(
        worker: Worker,
        link: &Link,
        deadline: Duration,
        (shutdown, grace): (&CancellationToken, impl Fn() -> Duration + Send + Sync + 'static),
        over: CancellationToken,
    ) -> LocalWorker {
        let id = worker.id.clone();
        let service = Service {
            worker: Arc::new(worker),
            // The recipes are those of the user.
            roots: None,
            deadline,
            grace: Duration::ZERO,
            idle: None,
            patience: PATIENCE,
            monitor: SlotMonitor::default(),
        };
        let (stop, link) = (shutdown.child_token(), link.clone());
        let (says, ended) = watch::channel(None);
        let stopping = stop.clone();
        tokio::spawn(async move {
            let _over = over.drop_guard();
            let stopped = async {
                stopping.cancelled().await;
                grace()
            };
            let why = match serve(service, &link, stopped).await {
                Ok(WorkerEnd::Unfit(reason)) => Some(reason),
                Ok(WorkerEnd::Stopped | WorkerEnd::Idle) => None,
                Err(error) => Some(chain(&error)),
            };
            says.send_replace(Some(why));
        });
        LocalWorker { id, stop, ended }
    }

    /// Stops the worker, which returns what it has not made. Returns the reason if it had ended by itself.
    pub(super) async fn stop(mut self) -> Option<String> {
        self.stop.cancel();
        match tokio::time::timeout(STUCK, self.ended.wait_for(Option::is_some)).await {
            Ok(Ok(why)) => why.clone().flatten(),
            // It has ended without a result, or is stuck.
            Ok(Err(_)) | Err(_) => None,
        }
    }
}
