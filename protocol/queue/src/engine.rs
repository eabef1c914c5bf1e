//! The threads on which the actors of a link run.

use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

/// A small runtime of the link's own: the callers' runtime may be blocked by computing, and heartbeats must go on.
pub(super) struct Engine {
    /// Is `None` only while it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Engine {
    pub(super) fn start(threads: usize) -> io::Result<Engine> {
        let runtime =
            Builder::new_multi_thread().worker_threads(threads).thread_name("edp-queue").enable_all().build()?;
        let handle = runtime.handle().clone();
        Ok(Engine { runtime: Some(runtime), handle })
    }

    pub(super) fn spawn(&self, actor: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(actor);
    }

    /// Sleeps by the clock of this runtime, since the caller's may have none.
    pub(super) async fn sleep(&self, time: Duration) {
        let sleep = {
            let _clock = self.handle.enter();
            tokio::time::sleep(time)
        };
        sleep.await;
    }

    /// Waits for something for at most `time`. Returns `None` if it took longer.
    pub(super) async fn within<T>(&self, time: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            result = work => Some(result),
            () = self.sleep(time) => None,
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // the last owner may be a task, where waiting for the threads is not allowed
            runtime.shutdown_background();
        }
    }
}
