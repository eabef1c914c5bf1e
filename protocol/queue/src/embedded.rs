//! Queues within this process, with the guarantees of the broker's: a message that is not acknowledged is delivered
//! again.

use super::consumer::{DeliverySource, carry};
use super::engine::Engine;
use super::publisher::Publication;
use super::{LinkRequest, LinkState, MAILBOX, Message, Queue, QueueDepth, consumer, topology::DELIVERY_LIMIT};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Number of messages that a queue accepts before its publishers have to wait.
const CAPACITY: usize = 1 << 16;

/// State that publishers share with the queues.
#[derive(Clone)]
pub(super) struct EmbeddedHandle {
    queues: Arc<MemoryQueues>,
    /// Cancelled when the link is closed.
    closed: CancellationToken,
}

/// The queues themselves. They are locked for a push or a pop, and never across a wait.
#[derive(Default)]
struct MemoryQueues {
    queues: Mutex<[MemoryQueue; 3]>,
    /// Notifies waiters that a message was added or removed, or that a consumer has ended.
    changed: Notify,
}

#[derive(Default)]
struct MemoryQueue {
    ready: VecDeque<QueuedMessage>,
    /// Ids of the queue's consumers, in the order in which they came.
    consumers: Vec<u64>,
}

struct QueuedMessage {
    message: Message,
    deliveries: u32,
}

impl MemoryQueues {
    fn lock(&self) -> MutexGuard<'_, [MemoryQueue; 3]> {
        // nothing panics while the lock is held
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message as soon as there is room.
    async fn put(&self, queue: Queue, message: Message) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let queue = &mut self.lock()[queue as usize];
                if queue.ready.len() < CAPACITY {
                    queue.ready.push_back(QueuedMessage { message, deliveries: 0 });
                    break;
                }
            }
            changed.await;
        }
        self.changed.notify_waiters();
    }

    /// Puts deliveries back to the front of their queue, the oldest first, or into the queue of dead letters.
    fn put_back(&self, queue: Queue, entries: impl DoubleEndedIterator<Item = QueuedMessage>) {
        {
            let mut queues = self.lock();
            for entry in entries.rev() {
                if entry.deliveries > DELIVERY_LIMIT && queue != Queue::Dead {
                    let mut dead = QueuedMessage { deliveries: 0, ..entry };
                    dead.message.headers.insert("x-first-death-reason".into(), "delivery_limit".into());
                    dead.message.headers.insert("x-first-death-queue".into(), queue.to_string());
                    queues[Queue::Dead as usize].ready.push_back(dead);
                } else {
                    queues[queue as usize].ready.push_front(entry);
                }
            }
        }
        self.changed.notify_waiters();
    }
}

impl EmbeddedHandle {
    /// Returns the mailbox of a new publisher.
    pub(super) fn outbox(&self, engine: &Engine, queue: Queue) -> mpsc::Sender<Publication> {
        let (outbox, mut publications) = mpsc::channel::<Publication>(MAILBOX);
        let EmbeddedHandle { queues, closed } = self.clone();
        engine.spawn(async move {
            let publish = async {
                while let Some(publication) = publications.recv().await {
                    queues.put(queue, publication.message).await;
                    let _ = publication.reply.send(Ok(()));
                }
            };
            tokio::select! {
                // Messages that arrive after the link was closed are refused, however early.
                biased;
                () = closed.cancelled() => {}
                () = publish => {}
            }
        });
        outbox
    }
}

/// Starts the actor. Returns the handle for publishers, the mailbox of the actor, and the state of the link.
pub(super) fn start(engine: &Engine) -> (EmbeddedHandle, mpsc::Sender<LinkRequest>, watch::Receiver<LinkState>) {
    let (sender, requests) = mpsc::channel(MAILBOX);
    let (state, states) = watch::channel(LinkState::Up);
    let closed = CancellationToken::new();
    let queues = Arc::new(MemoryQueues::default());
    engine.spawn(run(queues.clone(), requests, closed.clone(), state));
    (EmbeddedHandle { queues, closed }, sender, states)
}

async fn run(
    queues: Arc<MemoryQueues>,
    mut requests: mpsc::Receiver<LinkRequest>,
    closed: CancellationToken,
    _state: watch::Sender<LinkState>,
) {
    // However this ends, publishers end too.
    let over = closed.drop_guard();
    let mut carriers = JoinSet::new();
    let mut consumers = 0;
    loop {
        let request = tokio::select! {
            request = requests.recv() => request,
            Some(_) = carriers.join_next() => continue,
        };
        match request {
            Some(LinkRequest::Declare(reply) | LinkRequest::Check(reply)) => drop(reply.send(Ok(()))),
            Some(LinkRequest::Depth(queue, reply)) => {
                let queue = &queues.lock()[queue as usize];
                let depth = QueueDepth { messages: queue.ready.len() as u64, consumers: queue.consumers.len() as u64 };
                drop(reply.send(Ok(depth)));
            }
            Some(LinkRequest::Consume(subscription)) => {
                consumers += 1;
                let source =
                    EmbeddedConsumer::new(queues.clone(), consumers, subscription.queue, subscription.prefetch.into());
                let (settle, settled) = consumer::settling();
                carriers.spawn(async move { carry(source, &mut Some(subscription), settle, settled).await });
            }
            Some(LinkRequest::Unsubscribed) => {}
            Some(LinkRequest::Close(done)) => {
                drop(over);
                drop(carriers);
                let _ = done.send(());
                return;
            }
            None => return,
        }
    }
}

/// The deliveries of one consumer.
struct EmbeddedConsumer {
    queues: Arc<MemoryQueues>,
    id: u64,
    queue: Queue,
    prefetch: usize,
    cancelled: bool,
    taken: BTreeMap<u64, QueuedMessage>,
    tag: u64,
}

impl EmbeddedConsumer {
    fn new(queues: Arc<MemoryQueues>, id: u64, queue: Queue, prefetch: usize) -> EmbeddedConsumer {
        queues.lock()[queue as usize].consumers.push(id);
        EmbeddedConsumer { queues, id, queue, prefetch, cancelled: false, taken: BTreeMap::new(), tag: 0 }
    }

    fn take(&mut self) -> Option<(Message, bool, u64)> {
        if self.taken.len() >= self.prefetch {
            return None;
        }
        let mut entry = {
            let queue = &mut self.queues.lock()[self.queue as usize];
            queue.ready.pop_front()?
        };
        self.queues.changed.notify_waiters();
        self.tag += 1;
        let message = entry.message.clone();
        let redelivered = entry.deliveries > 0;
        entry.deliveries += 1;
        self.taken.insert(self.tag, entry);
        Some((message, redelivered, self.tag))
    }

    fn leave(&mut self) {
        self.queues.lock()[self.queue as usize].consumers.retain(|id| *id != self.id);
        self.queues.changed.notify_waiters();
    }
}

impl DeliverySource for EmbeddedConsumer {
    async fn next(&mut self) -> Result<Option<(Message, bool, u64)>, String> {
        let queues = self.queues.clone();
        loop {
            if self.cancelled {
                return Ok(None);
            }
            let changed = queues.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(taken) = self.take() {
                return Ok(Some(taken));
            }
            changed.await;
        }
    }

    async fn ack(&mut self, tag: u64) -> Result<(), String> {
        self.taken.remove(&tag);
        Ok(())
    }

    async fn give_back(&mut self, tag: u64) -> Result<(), String> {
        self.queues.put_back(self.queue, self.taken.remove(&tag).into_iter());
        Ok(())
    }

    async fn cancel(&mut self) -> Result<(), String> {
        self.cancelled = true;
        self.leave();
        Ok(())
    }

    async fn close(self) -> Result<(), String> {
        Ok(()) // dropping it gives the deliveries back
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        self.leave();
        self.queues.put_back(self.queue, std::mem::take(&mut self.taken).into_values());
    }
}
