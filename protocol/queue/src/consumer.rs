//! Consuming: deliveries, acknowledgements, and the task that carries them between a backend and its consumer.

use super::{Link, LinkRequest, LinkState, Message, Queue, QueueError};
use std::fmt;
use std::future::Future;
use tokio::sync::{mpsc, oneshot, watch};

/// Takes deliveries from one queue. When it is dropped, it stops like after [`Consumer::stop`].
pub struct Consumer {
    link: Link,
    inbox: mpsc::Receiver<FetchedDelivery>,
    stop: watch::Sender<bool>,
}

/// A message that was delivered. It stays its consumer's until it is acknowledged or the consumer ends.
///
/// One that is dropped without acknowledgement is delivered again, but only when its consumer has ended: until then it
/// counts as unacknowledged.
#[must_use = "a delivery that is not acknowledged comes again"]
pub struct Delivery {
    /// What was published.
    pub message: Message,
    /// Whether it may have been delivered before. Not whether it was: only the broker's belief.
    pub redelivered: bool,
    tag: u64,
    /// The task that delivered it. Gone if the connection is: acknowledgements of the past mean nothing to a new one.
    settle: mpsc::UnboundedSender<Settlement>,
}

/// What becomes of a delivery. The mailbox needs no bound: each delivery of the prefetch is settled once.
pub(super) enum Settlement {
    Ack(u64),
    /// Never seen by the caller: back to the queue.
    Return(u64),
    /// Answered when everything before it is done.
    Flush(oneshot::Sender<()>),
}

/// The mailbox of one [`carry`].
pub(super) fn settling() -> (mpsc::UnboundedSender<Settlement>, mpsc::UnboundedReceiver<Settlement>) {
    mpsc::unbounded_channel()
}

impl Delivery {
    /// Acknowledges it: it will not come again. Does not wait. An acknowledgement is lost with its connection, and the
    /// delivery then does come again.
    pub fn ack(self) {
        let _ = self.settle.send(Settlement::Ack(self.tag));
    }
}

/// A delivery in the inbox of its consumer, which has not seen it yet: dropped, it goes back to its queue.
struct FetchedDelivery(Option<Delivery>);

impl Drop for FetchedDelivery {
    fn drop(&mut self) {
        if let Some(Delivery { settle, tag, .. }) = self.0.take() {
            let _ = settle.send(Settlement::Return(tag));
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, bytes) = (&self.message.message_id, self.message.body.len());
        f.debug_struct("Delivery").field("message_id", id).field("bytes", &bytes).finish_non_exhaustive()
    }
}

impl Consumer {
    /// The next delivery; nothing once the consumer has stopped or the link is closed.
    ///
    /// Cancel safe: a call that is dropped loses no delivery.
    ///
    /// # Errors
    /// The link has failed.
    pub async fn next(&mut self) -> Result<Option<Delivery>, QueueError> {
        while let Some(mut fetched) = self.inbox.recv().await {
            // one whose connection is lost comes again
            if let Some(delivery) = fetched.0.take_if(|delivery| !delivery.settle.is_closed()) {
                return Ok(Some(delivery));
            }
        }
        match &*self.link.state.borrow() {
            LinkState::Failed(error) if !*self.stop.borrow() => Err(error.clone()),
            _ => Ok(None),
        }
    }

    /// Ends consuming: no more deliveries, and those that were fetched ahead go back to the queue. Deliveries that were
    /// taken can still be acknowledged; those that are dropped instead go back when all are settled.
    pub async fn stop(&mut self) {
        self.stop.send_replace(true);
        // if there is no connection, its actor must hear that none is to be made for this consumer
        let _ = self.link.requests.send(LinkRequest::Unsubscribed).await;
        while self.inbox.recv().await.is_some() {}
    }
}

/// What a backend needs to know of a consumer. It outlives connections.
pub(super) struct Subscription {
    pub(super) queue: Queue,
    pub(super) prefetch: u16,
    inbox: mpsc::Sender<FetchedDelivery>,
    stop: watch::Receiver<bool>,
}

impl Subscription {
    /// Whether the consumer has stopped or is gone.
    pub(super) fn ended(&self) -> bool {
        *self.stop.borrow() || self.inbox.is_closed()
    }
}

pub(super) fn pair(link: Link, queue: Queue, prefetch: u16) -> (Consumer, Subscription) {
    let (sender, inbox) = mpsc::channel(prefetch.into());
    let (stop, stopped) = watch::channel(false);
    (Consumer { link, inbox, stop }, Subscription { queue, prefetch, inbox: sender, stop: stopped })
}

/// Where a backend's deliveries come from: one consumer on one connection.
pub(super) trait DeliverySource: Send {
    /// The next message with its tag and whether it is redelivered; nothing after [`DeliverySource::cancel`]. Cancel
    /// safe.
    fn next(&mut self) -> impl Future<Output = Result<Option<(Message, bool, u64)>, String>> + Send;
    /// Acknowledges a delivery.
    fn ack(&mut self, tag: u64) -> impl Future<Output = Result<(), String>> + Send;
    /// Gives a delivery back to its queue.
    fn give_back(&mut self, tag: u64) -> impl Future<Output = Result<(), String>> + Send;
    /// Asks for no more deliveries.
    fn cancel(&mut self) -> impl Future<Output = Result<(), String>> + Send;
    /// Ends the source: what is unacknowledged goes back to its queue.
    fn close(self) -> impl Future<Output = Result<(), String>> + Send;
}

/// Carries deliveries from a source to its consumer and settles them, until the consumer has ended and all its
/// deliveries are settled. Takes the subscription when the consumer has ended; it is left where it is if the source is
/// lost, or the call dropped, before that.
///
/// # Errors
/// The way in which the source was lost.
pub(super) async fn carry(
    mut source: impl DeliverySource,
    subscription: &mut Option<Subscription>,
    settle: mpsc::UnboundedSender<Settlement>,
    mut settled: mpsc::UnboundedReceiver<Settlement>,
) -> Result<(), String> {
    if let Some(subscription) = subscription {
        deliver(&mut source, subscription, &settle, &mut settled).await?;
    }
    source.cancel().await?;
    while let Some((_, _, tag)) = source.next().await? {
        source.give_back(tag).await?;
    }
    // the consumer's `stop` waits for the end of its inbox, this task for that of its deliveries
    drop(subscription.take());
    drop(settle);
    while let Some(message) = settled.recv().await {
        apply(&mut source, message).await?;
    }
    source.close().await
}

/// Delivers until the consumer has ended.
async fn deliver(
    source: &mut impl DeliverySource,
    subscription: &mut Subscription,
    settle: &mpsc::UnboundedSender<Settlement>,
    settled: &mut mpsc::UnboundedReceiver<Settlement>,
) -> Result<(), String> {
    let Subscription { queue, inbox, stop, .. } = subscription;
    let largest = queue.largest();
    loop {
        // a place in the inbox first: what is taken from the source can then be put down at once
        let place = tokio::select! {
            place = inbox.reserve() => match place {
                Ok(place) => place,
                Err(_) => return Ok(()), // the consumer is gone
            },
            Some(message) = settled.recv() => {
                apply(source, message).await?;
                continue;
            }
            () = stopped(stop) => return Ok(()),
        };
        loop {
            tokio::select! {
                next = source.next() => match next? {
                    Some((message, redelivered, tag)) => {
                        let (message, settle) = (message.bounded(largest), settle.clone());
                        place.send(FetchedDelivery(Some(Delivery { message, redelivered, tag, settle })));
                        break;
                    }
                    None => return Err("the broker has ended the consumer".into()),
                },
                Some(message) = settled.recv() => apply(source, message).await?,
                () = stopped(stop) => return Ok(()),
                () = inbox.closed() => return Ok(()),
            }
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn apply(source: &mut impl DeliverySource, settle: Settlement) -> Result<(), String> {
    match settle {
        Settlement::Ack(tag) => source.ack(tag).await,
        Settlement::Return(tag) => source.give_back(tag).await,
        Settlement::Flush(done) => {
            let _ = done.send(());
            Ok(())
        }
    }
}
