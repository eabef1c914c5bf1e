//! Publishers: each has a window of messages that are not confirmed yet.

use super::{Link, MAX_PROPERTIES, Message, PublishError, Queue};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Publishes to one queue. Clones share the window.
#[derive(Clone)]
pub struct Publisher {
    link: Link,
    queue: Queue,
    /// One permit for each message that may be unconfirmed.
    window: Arc<Semaphore>,
    outbox: mpsc::Sender<Publication>,
}

/// A message on its way to a queue.
pub(super) struct Publication {
    pub(super) queue: Queue,
    pub(super) message: Message,
    /// Time at which the caller handed it over. It is given up when it has waited for longer than the patience.
    pub(super) since: Instant,
    /// True if it is sent again while the queue is full.
    pub(super) insists: bool,
    pub(super) reply: oneshot::Sender<Result<(), PublishError>>,
    /// Kept until the message is confirmed or given up, even if the caller no longer waits for that.
    pub(super) _place: OwnedSemaphorePermit,
}

impl Publisher {
    pub(super) fn new(link: Link, queue: Queue, window: usize, outbox: mpsc::Sender<Publication>) -> Publisher {
        let window = Arc::new(Semaphore::new(window.clamp(1, Semaphore::MAX_PERMITS)));
        Publisher { link, queue, window, outbox }
    }

    /// Publishes a message, and returns when the broker has it safely on disk. Waits while the window is full, or while
    /// the broker blocks or is absent. If the connection is lost before the confirmation, the message is published
    /// again automatically, so it may arrive twice.
    ///
    /// Dropping the call does not take the message back.
    ///
    /// If a limit of the broker makes the queue full, the message is sent again until the queue accepts it.
    ///
    /// # Errors
    /// Returns an error if the message is too large, or was not accepted for as long as the patience lasts.
    pub async fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.send(message, true).await
    }

    /// Publishes a message as [`Publisher::publish`] does, unless the queue is full.
    ///
    /// # Errors
    /// Returns [`PublishError::Full`] as soon as the broker says so, and the errors of [`Publisher::publish`].
    pub async fn offer(&self, message: Message) -> Result<(), PublishError> {
        self.send(message, false).await
    }

    async fn send(&self, message: Message, insists: bool) -> Result<(), PublishError> {
        let headers = message.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let properties = message.content_type.len() + message.message_id.len() + headers;
        for (part, size, most) in
            [("body", message.body.len(), self.queue.largest()), ("properties", properties, MAX_PROPERTIES)]
        {
            if size > most {
                return Err(PublishError::Size { part, size, most });
            }
        }
        let over = || PublishError::Queue(self.link.over());
        let place = self.window.clone().acquire_owned().await.map_err(|_| over())?;
        let (reply, confirmed) = oneshot::channel();
        let publication =
            Publication { queue: self.queue, message, since: Instant::now(), insists, reply, _place: place };
        self.outbox.send(publication).await.map_err(|_| over())?;
        confirmed.await.unwrap_or_else(|_| Err(over()))
    }
}
