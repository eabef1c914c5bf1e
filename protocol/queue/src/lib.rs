//! The queues between the coordinator and the workers, on RabbitMQ or within one process. Both behave alike.
//!
//! ```text
//!  coordinator                                            worker
//!  Publisher ─▶ recipes ── task messages ───────────────▶ Consumer ─▶ Delivery ─┐
//!                  └─ delivered too often ─▶ dead                               │ ack
//!  Consumer  ◀───────────────────── outcomes ── results ◀─ Publisher            ▼
//! ```
//!
//! A [`Link`] is a program's access to the queues of one production. [`Publisher`], [`Consumer`] and [`Delivery`] are
//! mailboxes of the actors behind it. A published message is kept until a consumer has acknowledged it. A delivery that
//! is never acknowledged, or whose acknowledgement was lost, is delivered again: **everything may arrive twice**, and
//! receivers must allow for that.
//!
//! The actors run on threads of their own, so that computing may block the caller's runtime for as long as it likes. A
//! lost connection, an absent broker and a missing queue are not errors at first: publishers and consumers wait while
//! everything is built up again, for at most [`QueueOptions::patience`] since the last progress. Then every call
//! returns [`QueueError::Unreachable`].
//!
//! [`topology`] has the exchanges, queues and permissions on the broker.
//!
//! ```
//! use edp_queue::{Link, Message, Queue};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let link = Link::embedded()?;
//! link.publisher(Queue::Recipes, 1).publish(Message::new("{}", "application/json", "example")).await?;
//! let mut consumer = link.consumer(Queue::Recipes, 1).await?;
//! if let Some(delivery) = consumer.next().await? {
//!     assert_eq!(delivery.message.body, "{}");
//!     delivery.ack();
//! }
//! link.close().await;
//! # Ok(())
//! # }
//! ```

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
    /// Outcomes, from the workers to the coordinator.
    Results,
    /// Dead letters: messages that were delivered [`topology::DELIVERY_LIMIT`] times and never acknowledged, that
    /// expired, or that were dropped for the length of their queue.
    Dead,
}

impl Queue {
    /// All queues of a production.
    pub const ALL: [Queue; 3] = [Queue::Recipes, Queue::Results, Queue::Dead];

    /// Size in bytes of the largest body of a message of this queue. The body of a larger message is dropped when it
    /// arrives: a consumer may have some hundred messages in memory, and a hostile publisher may publish whatever the
    /// broker accepts.
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
    /// The encoded message, see [`edp_protocol::wire`]; at most [`Queue::largest`] bytes.
    pub body: Bytes,
    /// Content type of the body, such as [`edp_protocol::wire::CONTENT_TYPE`].
    pub content_type: String,
    /// An id for logs and traces. It need not be unique.
    pub message_id: String,
    /// Further properties of the message, such as its trace context. Only text values are sent.
    pub headers: BTreeMap<String, String>,
}

/// Names of the headers of a dead letter with the reason and the queue that it was in. Those of the last time count if
/// the broker gives them (RabbitMQ 3.13 and newer).
const DEATHS: [(&str, &str); 2] =
    [("x-last-death-reason", "x-last-death-queue"), ("x-first-death-reason", "x-first-death-queue")];

/// The reason why the broker has taken a message out of its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeadLetterReason {
    /// It was delivered [`topology::DELIVERY_LIMIT`] times and never acknowledged.
    DeliveryLimit,
    /// It was in the queue for longer than a policy permits.
    Expired,
    /// The queue was longer than a policy permits.
    Length,
}

impl DeadLetterReason {
    /// All reasons.
    pub const ALL: [DeadLetterReason; 3] =
        [DeadLetterReason::DeliveryLimit, DeadLetterReason::Expired, DeadLetterReason::Length];

    /// Returns the reason in words.
    pub fn as_str(self) -> &'static str {
        match self {
            DeadLetterReason::DeliveryLimit => "delivery limit",
            DeadLetterReason::Expired => "expired",
            DeadLetterReason::Length => "length",
        }
    }
}

impl Message {
    /// Returns the reason why the message is a dead letter and the queue that it was in, or `None` if it is not known
    /// to be one.
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

    /// Returns the message without its body if that is larger than `largest` bytes. The content type then states its
    /// size.
    fn bounded(self, largest: usize) -> Message {
        match self.body.len() {
            size if size > largest => Message { body: Bytes::new(), content_type: wire::not_kept(size), ..self },
            _ => self,
        }
    }

    /// Returns a message without headers.
    pub fn new(body: impl Into<Bytes>, content_type: &str, message_id: &str) -> Message {
        let (content_type, message_id) = (content_type.to_owned(), message_id.to_owned());
        Message { body: body.into(), content_type, message_id, headers: BTreeMap::new() }
    }
}

/// Numbers of messages and consumers of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Number of messages that wait for a consumer. Those that are delivered and not yet acknowledged do not count.
    pub messages: u64,
    /// Number of consumers. A broker counts one that has ended until all of its deliveries are settled.
    pub consumers: u64,
}

/// The name of a queue in traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Name of the messaging system: `rabbitmq`, or `edp` for queues within this process.
    pub system: &'static str,
    /// Name of the queue in that system.
    pub name: String,
}

/// The state of a link.
#[derive(Debug, Clone)]
pub enum LinkState {
    /// The link works: calls are carried out.
    Up,
    /// The broker accepts no messages for now, for lack of memory or disk space. Deliveries go on.
    Blocked {
        /// Time at which this state began.
        since: Instant,
        /// Message from the broker.
        why: String,
    },
    /// There is no connection, or a queue is missing. It is being built up again.
    Down {
        /// Time at which this state began.
        since: Instant,
        /// Text of the last error.
        why: String,
    },
    /// The link has failed: every call returns this error.
    Failed(QueueError),
}

/// The reason why an operation on a queue has failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// For longer than the patience, the broker could not be reached, a queue was missing, or messages were not
    /// accepted.
    #[error("{address}: given up after {} s: {why}", after.as_secs())]
    Unreachable {
        /// The broker's address without the password.
        address: String,
        /// Time for which it was tried.
        after: Duration,
        /// Text of the last error.
        why: Arc<str>,
    },
    /// The broker refuses us: user, password, virtual host, certificate or permissions.
    #[error("{address}: refused: {why}")]
    Refused {
        /// The broker's address without the password.
        address: String,
        /// Message from the broker.
        why: Arc<str>,
    },
    /// A queue exists with other properties.
    #[error(
        "{address}: the queues of this production are there with other properties: {why}; finish that production with \
         the program that began it, or delete its queues, or choose another name of the production"
    )]
    Different {
        /// The broker's address without the password.
        address: String,
        /// Message from the broker.
        why: Arc<str>,
    },
    /// A queue does not exist: the coordinator has not declared it, or it was deleted.
    #[error("{address}: there is no queue {queue}: is a coordinator running for this production?")]
    Absent {
        /// The broker's address without the password.
        address: String,
        /// Name of the queue.
        queue: String,
    },
    /// The link was closed by this program.
    #[error("the link to the queues is closed")]
    Closed,
}

/// The reason why a message was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The message is larger than messages of its queue may be.
    #[error("a message with {size} bytes in its {part}: the most is {most}")]
    Size {
        /// The part that is too large: `body` or `properties`.
        part: &'static str,
        /// Size of that part in bytes.
        size: usize,
        /// Largest permitted size in bytes.
        most: usize,
    },
    /// The broker has refused the message, and gives no reason: a policy limits the length of the queue or its size in
    /// bytes, or too few of its replicas are running. The queue may accept messages later.
    #[error(
        "the queue {queue} takes no more messages for now: a policy of the broker limits its length or size \
         (max-length, max-length-bytes), or too few of its replicas are running"
    )]
    Full {
        /// Name of the queue.
        queue: String,
    },
    /// The queue cannot accept the message. It may have been published nevertheless, if only the confirmation was lost.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Largest size in bytes of a message's content type, id and headers together.
pub(crate) const MAX_PROPERTIES: usize = 16 << 10;

/// A program's access to the queues of one production. Clones share it; publishers and consumers keep it alive.
#[derive(Clone)]
pub struct Link {
    engine: Arc<Engine>,
    /// Mailbox of the actor that declares queues, inspects them and consumes from them.
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
    /// Declare the queues, or check that they exist with the right properties.
    Declare(Reply<()>),
    /// Check that the queues exist.
    Check(Reply<()>),
    Depth(Queue, Reply<QueueDepth>),
    Consume(consumer::Subscription),
    /// A subscription has ended: do not renew it.
    Unsubscribed,
    /// Close the connection. Answered when everything that was acknowledged is written and the connection is closed.
    Close(oneshot::Sender<()>),
}

type Reply<T> = oneshot::Sender<Result<T, QueueError>>;

/// Number of requests that may wait for the actor.
const MAILBOX: usize = 64;

/// Time after which missing queues are reported.
const MISSED: Duration = Duration::from_secs(5);

/// Time that an orderly end may take.
const CLOSING: Duration = Duration::from_secs(10);

impl Link {
    /// Makes a link to a RabbitMQ broker. It connects at its first use, on threads of its own.
    ///
    /// # Errors
    /// Returns an error if the threads cannot be started.
    pub fn amqp(options: QueueOptions) -> std::io::Result<Link> {
        let engine = Arc::new(Engine::start(2)?);
        let (handle, requests, state) = amqp::start(&engine, options);
        Ok(Link { engine, requests, backend: Backend::Amqp(handle), state })
    }

    /// Makes queues within this process. They exist from the start until the last clone of the link is dropped.
    ///
    /// # Errors
    /// Returns an error if the thread cannot be started.
    pub fn embedded() -> std::io::Result<Link> {
        let engine = Arc::new(Engine::start(1)?);
        let (handle, requests, state) = embedded::start(&engine);
        Ok(Link { engine, requests, backend: Backend::Embedded(handle), state })
    }

    /// Declares the queues, or checks that they exist with the right properties: for the coordinator. From now on this
    /// link declares them again whenever they are missing. Waits for as long as another coordinator of the production
    /// is at work.
    ///
    /// # Errors
    /// Returns [`QueueError::Different`] if a queue exists with other properties, and the errors of every call.
    pub async fn declare(&self) -> Result<(), QueueError> {
        if let Backend::Amqp(handle) = &self.backend {
            handle.declares();
        }
        self.ask(LinkRequest::Declare).await
    }

    /// Waits until the coordinator has declared the queues: for workers, which may not declare them. From now on this
    /// link waits for them whenever they are missing.
    ///
    /// # Errors
    /// Returns [`QueueError::Absent`] if they do not exist after `deadline`, [`QueueError::Unreachable`] if the broker
    /// cannot be reached, and the errors of every call.
    pub async fn await_declared(&self, deadline: Duration) -> Result<(), QueueError> {
        let Backend::Amqp(handle) = &self.backend else { return self.ask(LinkRequest::Check).await };
        let start = Instant::now();
        let mut pause = Duration::from_millis(100);
        // The last error, for the case that the deadline passes before another one occurs.
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

    /// Makes a publisher with at most `window` unconfirmed messages (at least one).
    pub fn publisher(&self, queue: Queue, window: usize) -> Publisher {
        let outbox = match &self.backend {
            Backend::Amqp(handle) => handle.outbox(),
            Backend::Embedded(handle) => handle.outbox(&self.engine, queue),
        };
        Publisher::new(self.clone(), queue, window, outbox)
    }

    /// Makes a consumer with at most `prefetch` unacknowledged deliveries (at least one).
    ///
    /// # Errors
    /// Returns an error if the link is closed or has failed.
    pub async fn consumer(&self, queue: Queue, prefetch: u16) -> Result<Consumer, QueueError> {
        let (consumer, subscription) = consumer::pair(self.clone(), queue, prefetch.max(1));
        self.requests.send(LinkRequest::Consume(subscription)).await.map_err(|_| self.over())?;
        Ok(consumer)
    }

    /// Returns the numbers of messages and consumers of a queue.
    ///
    /// # Errors
    /// Returns [`QueueError::Absent`] if the queue does not exist, and the errors of every call.
    pub async fn depth(&self, queue: Queue) -> Result<QueueDepth, QueueError> {
        self.ask(|reply| LinkRequest::Depth(queue, reply)).await
    }

    /// Returns the name of a queue of this link in traces.
    pub fn destination(&self, queue: Queue) -> Destination {
        match &self.backend {
            Backend::Amqp(handle) => Destination { system: "rabbitmq", name: handle.queue(queue) },
            Backend::Embedded(_) => Destination { system: "edp", name: queue.to_string() },
        }
    }

    /// Returns the reason why nothing can be published or delivered now, if there is one. While the broker has no room,
    /// waiting is right, and no problem.
    pub fn problem(&self) -> Option<String> {
        match &*self.state.borrow() {
            LinkState::Up | LinkState::Blocked { .. } => None,
            LinkState::Down { since, why } => {
                let broker = self.address().unwrap_or_default();
                Some(format!("no connection to {broker} for {} s: {why}", since.elapsed().as_secs()))
            }
            LinkState::Failed(error) => Some(error.to_string()),
        }
    }

    /// Returns the reason why the broker accepts no messages for now, if it accepts none.
    pub fn blocked(&self) -> Option<String> {
        match &*self.state.borrow() {
            LinkState::Blocked { why, .. } => Some(why.clone()),
            LinkState::Up | LinkState::Down { .. } | LinkState::Failed(_) => None,
        }
    }

    /// Returns the broker's address without the password, or `None` for queues within this process.
    pub fn address(&self) -> Option<String> {
        match &self.backend {
            Backend::Amqp(handle) => Some(handle.address()),
            Backend::Embedded(_) => None,
        }
    }

    /// Returns the time for which a broker is waited for. It is unlimited for queues within this process.
    pub fn patience(&self) -> Duration {
        match &self.backend {
            Backend::Amqp(handle) => handle.patience(),
            Backend::Embedded(_) => Duration::MAX,
        }
    }

    /// Returns the error of a caller that has waited in vain for an operation on the queues since the given time.
    pub fn given_up(&self, since: Instant, why: &str) -> QueueError {
        match &self.backend {
            Backend::Amqp(handle) => handle.unreachable(since, why),
            Backend::Embedded(_) => QueueError::Closed,
        }
    }

    /// Returns the number of times that this link has deleted queues which the broker did not serve, and declared them
    /// again. Their messages are lost.
    pub fn renewals(&self) -> u64 {
        match &self.backend {
            Backend::Amqp(handle) => handle.renewals(),
            Backend::Embedded(_) => 0,
        }
    }

    /// Returns the state of the link. The last value remains after the link has ended.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// Closes the link: acknowledgements under way are written, everything else is dropped, and unacknowledged
    /// deliveries go back to their queues. This takes at most 10 s for each of the two connections. The broker itself
    /// may lose acknowledgements if more than about 30 arrive in the moment before.
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

    /// Returns the error that says why the actors have ended.
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
