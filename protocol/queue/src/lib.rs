//! The queues between coordinator and workers: on RabbitMQ, or in this process. Both behave alike.
//!
//! A [`Link`] is a program's way to the queues of one production. [`Publisher`], [`Consumer`] and [`Delivery`] are
//! mailboxes of the actors behind it. What is published is kept until a consumer has acknowledged it; a delivery that
//! is never acknowledged is delivered again. So is one whose acknowledgement was lost: **everything may come twice**,
//! and receivers must not mind.
//!
//! The actors run on threads of their own, so the caller's runtime may be blocked by computing for as long as it likes.
//! A lost connection, a broker that is away and a queue that is gone are not errors at first: publishers and consumers
//! wait while it is all built anew, for as long as [`QueueOptions::patience`] says, counted from the last progress.
//! Then every call ends with [`QueueError::Unreachable`].

mod address;
mod amqp;
mod consumer;
mod embedded;
mod engine;
mod publisher;
mod secrets;
mod settings;
pub mod topology;

pub use address::{Address, AddressError};
pub use amqp::{OptionsError, QueueOptions, Tls, TlsError};
pub use consumer::{Consumer, Delivery};
pub use publisher::Publisher;
pub use secrets::{SecretError, Secrets};
pub use settings::QueueSettings;

use bytes::Bytes;
use edp_protocol::wire;
use engine::Engine;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

/// One of the queues of a production.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// Task messages, from the coordinator to the workers.
    Recipes,
    /// Reports, from the workers to the coordinator.
    Results,
    /// What was delivered [`topology::DELIVERY_LIMIT`] times and never acknowledged.
    Dead,
}

impl Queue {
    /// All of them.
    pub const ALL: [Queue; 3] = [Queue::Recipes, Queue::Results, Queue::Dead];

    /// Bytes of the largest body that a message of this queue has. The body of a larger one is dropped as it comes: a
    /// consumer may hold some hundred messages, and a hostile publisher may publish whatever the broker takes.
    pub const fn largest(self) -> usize {
        match self {
            Queue::Recipes | Queue::Dead => wire::MAX_BODY,
            Queue::Results => wire::MAX_OUTCOME,
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Queue::Recipes => "recipes",
            Queue::Results => "results",
            Queue::Dead => "dead",
        })
    }
}

/// A message as it is published and delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// See [`edp_protocol::wire`]; at most [`Queue::largest`] bytes.
    pub body: Bytes,
    /// What the body is, such as [`edp_protocol::wire::CONTENT_TYPE`].
    pub content_type: String,
    /// An id for logs and traces; need not be unique.
    pub message_id: String,
    /// More about the message, such as its trace context. Only texts travel.
    pub headers: BTreeMap<String, String>,
}

/// Headers of a message that came to the queue of the dead: why, and from which queue. The last time counts where the
/// broker says it (RabbitMQ 3.13 and newer).
const DEATHS: [(&str, &str); 2] =
    [("x-last-death-reason", "x-last-death-queue"), ("x-first-death-reason", "x-first-death-queue")];

/// The reason why the broker has taken a message out of its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeadLetterReason {
    /// It was delivered [`topology::DELIVERY_LIMIT`] times, and never acknowledged.
    DeliveryLimit,
    /// It was in the queue for longer than a policy lets messages live.
    Expired,
    /// The queue was longer than a policy lets it be.
    Length,
}

impl Message {
    /// The reason why the message is dead, and the queue that it was in; none if it is not known to be.
    pub fn death(&self) -> Option<(DeadLetterReason, &str)> {
        let (reason, queue) =
            DEATHS.into_iter().find_map(|(reason, queue)| Some((self.headers.get(reason)?, queue)))?;
        let death = match reason.as_str() {
            "expired" => DeadLetterReason::Expired,
            "maxlen" => DeadLetterReason::Length,
            _ => DeadLetterReason::DeliveryLimit,
        };
        Some((death, self.headers.get(queue).map(String::as_str).unwrap_or_default()))
    }

    /// The message as it is kept: without its body, if that is larger than `largest`.
    fn bounded(self, largest: usize) -> Message {
        match self.body.len() {
            size if size > largest => Message { body: Bytes::new(), content_type: wire::not_kept(size), ..self },
            _ => self,
        }
    }

    /// A message without headers.
    pub fn new(body: impl Into<Bytes>, content_type: &str, message_id: &str) -> Message {
        let (content_type, message_id) = (content_type.to_owned(), message_id.to_owned());
        Message { body: body.into(), content_type, message_id, headers: BTreeMap::new() }
    }
}

/// Numbers of messages and consumers of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Messages that wait for a consumer; those delivered and not yet acknowledged are not among them.
    pub messages: u64,
    /// Consumers. A broker counts one that has ended as long as deliveries of its are unsettled.
    pub consumers: u64,
}

/// The name of a queue in traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The messaging system: `rabbitmq`, or `edp` for queues in this process.
    pub system: &'static str,
    /// The queue's name there.
    pub name: String,
}

/// The state of a link.
#[derive(Debug, Clone)]
pub enum LinkState {
    /// Nothing hinders it.
    Up,
    /// The broker takes no messages for now, for lack of memory or disk. Deliveries go on.
    Blocked {
        /// Since when.
        since: Instant,
        /// The broker's message.
        why: String,
    },
    /// There is no connection, or a queue is gone; it is being built anew.
    Down {
        /// Since when.
        since: Instant,
        /// The last error.
        why: String,
    },
    /// It is over: every call ends with this error.
    Failed(QueueError),
}

/// The reason why something cannot be done with a queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The broker could not be reached, a queue was away, or messages were not taken, for longer than the patience.
    #[error("{address}: given up after {} s: {why}", after.as_secs())]
    Unreachable {
        /// The broker, without password.
        address: String,
        /// For how long it was tried.
        after: Duration,
        /// The last error.
        why: Arc<str>,
    },
    /// The broker does not let us: user, password, virtual host, certificate or permissions.
    #[error("{address}: refused: {why}")]
    Refused {
        /// The broker, without password.
        address: String,
        /// The broker's message.
        why: Arc<str>,
    },
    /// A queue is there with other properties.
    #[error(
        "{address}: the queues of this production are there with other properties: {why}; finish that production with \
         the program that began it, or delete its queues, or choose another name of the production"
    )]
    Different {
        /// The broker, without password.
        address: String,
        /// The broker's message.
        why: Arc<str>,
    },
    /// A queue is not there; the coordinator has not declared it, or it was deleted.
    #[error("{address}: there is no queue {queue}: is a coordinator running for this production?")]
    Absent {
        /// The broker, without password.
        address: String,
        /// Its name.
        queue: String,
    },
    /// The link was closed by this program.
    #[error("the link to the queues is closed")]
    Closed,
}

/// The reason why a message was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It is larger than any of ours.
    #[error("a message with {size} bytes in its {part}: the most is {most}")]
    Size {
        /// `body` or `properties`.
        part: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        most: usize,
    },
    /// The queue takes no more for now, as the broker says: a policy limits its length, or it does not work. It may
    /// take more later.
    #[error("the queue {queue} takes no more for now: a policy of the broker limits its length (max-length)")]
    Full {
        /// Its name.
        queue: String,
    },
    /// The queue cannot take it. It may have been published all the same, if only the confirmation was lost.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Most bytes of a message's content type, id and headers together.
pub const MAX_PROPERTIES: usize = 16 << 10;

/// A program's way to the queues of one production; clones share it. Publishers and consumers keep it alive.
#[derive(Clone)]
pub struct Link {
    engine: Arc<Engine>,
    /// The actor that declares, looks and consumes.
    requests: mpsc::Sender<LinkRequest>,
    backend: Backend,
    state: watch::Receiver<LinkState>,
}

#[derive(Clone)]
enum Backend {
    Amqp(amqp::AmqpHandle),
    Embedded(embedded::EmbeddedHandle),
}

/// A request of a link to its backend.
enum LinkRequest {
    /// Make the queues, or find them as they must be.
    Declare(Reply<()>),
    /// Whether the queues are there.
    Check(Reply<()>),
    Depth(Queue, Reply<QueueDepth>),
    Consume(consumer::Subscription),
    /// A subscription has ended: do not renew it.
    Unsubscribed,
    /// Everything that was acknowledged has been written, the connection is closed.
    Close(oneshot::Sender<()>),
}

type Reply<T> = oneshot::Sender<Result<T, QueueError>>;

/// Requests that may wait for the actor.
const MAILBOX: usize = 64;

/// Queues that are not there for so long are spoken of.
const MISSED: Duration = Duration::from_secs(5);

/// Time that an orderly end may take.
const CLOSING: Duration = Duration::from_secs(10);

impl Link {
    /// A link to a RabbitMQ broker. It connects at the first use, on threads of its own.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn amqp(options: QueueOptions) -> std::io::Result<Link> {
        let engine = Arc::new(Engine::start(2)?);
        let (handle, requests, state) = amqp::start(&engine, options);
        Ok(Link { engine, requests, backend: Backend::Amqp(handle), state })
    }

    /// Queues in this process, gone with the last clone of the link. They are there from the start.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn embedded() -> std::io::Result<Link> {
        let engine = Arc::new(Engine::start(1)?);
        let (handle, requests, state) = embedded::start(&engine);
        Ok(Link { engine, requests, backend: Backend::Embedded(handle), state })
    }

    /// Makes the queues, or finds them as they must be. From now on this link makes them again wherever they are
    /// gone: for the coordinator. Waits as long as another coordinator of the production is at work.
    ///
    /// # Errors
    /// [`QueueError::Different`] if a queue is there with other properties, and those of every call.
    pub async fn declare(&self) -> Result<(), QueueError> {
        if let Backend::Amqp(handle) = &self.backend {
            handle.declares();
        }
        self.ask(LinkRequest::Declare).await
    }

    /// Waits until the coordinator has declared the queues: for workers, which may not. From now on this link waits
    /// for them wherever they are gone.
    ///
    /// # Errors
    /// [`QueueError::Absent`] if they are not there after `deadline`, [`QueueError::Unreachable`] if the broker is not,
    /// and those of every call.
    pub async fn await_declared(&self, deadline: Duration) -> Result<(), QueueError> {
        let Backend::Amqp(handle) = &self.backend else { return self.ask(LinkRequest::Check).await };
        let start = Instant::now();
        let mut pause = Duration::from_millis(100);
        // What was heard last, if time is over before anything else is.
        let (mut last, mut said) = (None, false);
        loop {
            let left = deadline.saturating_sub(start.elapsed());
            match self.engine.within(left, self.ask(LinkRequest::Check)).await {
                None => return Err(last.unwrap_or_else(|| handle.late(start, &self.state.borrow()))),
                Some(Err(absent @ QueueError::Absent { .. })) if start.elapsed() + pause >= deadline => {
                    return Err(absent);
                }
                Some(Err(absent @ QueueError::Absent { .. })) => {
                    if !said && start.elapsed() >= MISSED {
                        said = true;
                        let (queue, broker) = (handle.queue(Queue::Recipes), handle.address());
                        tracing::warn!(
                            queue,
                            broker,
                            "waiting for a coordinator to declare the queues of this production; if one runs, compare its \
                             production, broker and virtual host with these"
                        );
                    }
                    last = Some(absent);
                }
                Some(result) => {
                    handle.awaits();
                    return result;
                }
            }
            self.engine.sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// A publisher with at most `window` unconfirmed messages (at least one).
    pub fn publisher(&self, queue: Queue, window: usize) -> Publisher {
        let outbox = match &self.backend {
            Backend::Amqp(handle) => handle.outbox(),
            Backend::Embedded(handle) => handle.outbox(&self.engine, queue),
        };
        Publisher::new(self.clone(), queue, window, outbox)
    }

    /// A consumer that holds at most `prefetch` unacknowledged deliveries (at least one).
    ///
    /// # Errors
    /// The link is closed or has failed.
    pub async fn consumer(&self, queue: Queue, prefetch: u16) -> Result<Consumer, QueueError> {
        let (consumer, subscription) = consumer::pair(self.clone(), queue, prefetch.max(1));
        self.requests.send(LinkRequest::Consume(subscription)).await.map_err(|_| self.over())?;
        Ok(consumer)
    }

    /// Numbers of messages and consumers of a queue.
    ///
    /// # Errors
    /// [`QueueError::Absent`] if it is not there, and those of every call.
    pub async fn depth(&self, queue: Queue) -> Result<QueueDepth, QueueError> {
        self.ask(|reply| LinkRequest::Depth(queue, reply)).await
    }

    /// The name of a queue of this link in traces.
    pub fn destination(&self, queue: Queue) -> Destination {
        match &self.backend {
            Backend::Amqp(handle) => Destination { system: "rabbitmq", name: handle.queue(queue) },
            Backend::Embedded(_) => Destination { system: "edp", name: queue.to_string() },
        }
    }

    /// The broker, without password; none for queues in this process.
    pub fn address(&self) -> Option<String> {
        match &self.backend {
            Backend::Amqp(handle) => Some(handle.address()),
            Backend::Embedded(_) => None,
        }
    }

    /// How long a broker is waited for; for queues in this process, without end.
    pub fn patience(&self) -> Duration {
        match &self.backend {
            Backend::Amqp(handle) => handle.patience(),
            Backend::Embedded(_) => Duration::MAX,
        }
    }

    /// The error of a caller that has waited since then, in vain, for an operation on the queues.
    pub fn given_up(&self, since: Instant, why: &str) -> QueueError {
        match &self.backend {
            Backend::Amqp(handle) => handle.unreachable(since, why),
            Backend::Embedded(_) => QueueError::Closed,
        }
    }

    /// How often this link has deleted queues that the broker did not serve, and declared them anew. What they held is
    /// lost.
    pub fn renewals(&self) -> u64 {
        match &self.backend {
            Backend::Amqp(handle) => handle.renewals(),
            Backend::Embedded(_) => 0,
        }
    }

    /// How the link is. The last value stays once the link is over.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// Ends the link: acknowledgements on their way are written, everything else is dropped, unacknowledged deliveries
    /// go back to their queues. Takes 10 s at most, for each of the two connections. The broker itself may lose
    /// acknowledgements when more than some 30 arrive in the moment before.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        let ask = async {
            if self.requests.send(LinkRequest::Close(done)).await.is_ok() {
                let _ = closed.await;
            }
        };
        self.engine.within(CLOSING, ask).await;
        if let Backend::Amqp(handle) = &self.backend {
            self.engine.within(CLOSING, handle.closed()).await;
        }
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> LinkRequest) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| self.over())?;
        answer.await.unwrap_or_else(|_| Err(self.over()))
    }

    /// The reason why the actors are gone.
    fn over(&self) -> QueueError {
        match &*self.state.borrow() {
            LinkState::Failed(error) => error.clone(),
            _ => QueueError::Closed,
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_body_that_is_too_large_the_size_is_kept() {
        let message = |size: usize| Message::new(vec![0; size], wire::CONTENT_TYPE, "7");
        for queue in Queue::ALL {
            let largest = queue.largest();
            assert_eq!(message(largest).bounded(largest), message(largest));
            let kept = message(largest + 1).bounded(largest);
            assert!(kept.body.is_empty() && kept.message_id == "7", "{kept:?}");
            let error = wire::Outcome::decode(&kept.content_type, &kept.body).err().map(|error| error.to_string());
            assert!(error.is_some_and(|error| error.starts_with(&format!("a body of {} bytes", largest + 1))));
        }
    }
}
