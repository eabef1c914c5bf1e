//! Consumers: deliveries, acknowledgements, and the task that moves them between a backend and its consumer.

use super::{Link, LinkRequest, LinkState, Message, Queue, QueueError};
use std::fmt;
use std::future::Future;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Receives deliveries from one queue. Dropping it has the same effect as [`Consumer::stop`].
pub struct Consumer {
    link: Link,
    inbox: mpsc::Receiver<FetchedDelivery>,
    stop: CancellationToken,
}

/// A delivered message. It belongs to its consumer until it is acknowledged or the consumer ends.
///
/// A delivery that is dropped without acknowledgement is delivered again, but only after its consumer has ended. Until
/// then it counts as unacknowledged.
#[must_use = "a delivery that is not acknowledged comes again"]
pub struct Delivery {
    /// The message as it was published.
    pub message: Message,
    /// True if the broker believes that it was delivered before; it may be wrong.
    pub redelivered: bool,
    tag: u64,
    /// Mailbox of the task that delivered it. It is closed once the connection is lost: an acknowledgement means
    /// nothing to the next connection.
    settle: mpsc::UnboundedSender<Settlement>,
}

/// The end of a delivery. The mailbox needs no bound, since each delivery of the prefetch is settled once.
pub(super) enum Settlement {
    Ack(u64),
    /// Gives a delivery that the caller has never seen back to its queue.
    Return(u64),
    /// Is answered when everything before it is done.
    Flush(oneshot::Sender<()>),
}

/// Makes the mailbox of one [`carry`].
pub(super) fn settling() -> (mpsc::UnboundedSender<Settlement>, mpsc::UnboundedReceiver<Settlement>) {
    mpsc::unbounded_channel()
}

impl Delivery {
    /// Acknowledges the delivery, so that it does not come again. This does not wait. An acknowledgement may be lost
    /// with its connection, and then the delivery does come again.
    pub fn ack(self) {
        let _ = self.settle.send(Settlement::Ack(self.tag));
    }
}

/// A delivery in the inbox of its consumer, which has not seen it yet. When it is dropped, it goes back to its queue.
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
    /// Waits for the next delivery. Returns `None` once the consumer has stopped or the link is closed.
    ///
    /// Cancel safe: a call that is dropped loses no delivery.
    ///
    /// # Errors
    /// Returns an error if the link has failed.
    pub async fn next(&mut self) -> Result<Option<Delivery>, QueueError> {
        while let Some(mut fetched) = self.inbox.recv().await {
            // a delivery whose connection is lost comes again
            if let Some(delivery) = fetched.0.take_if(|delivery| !delivery.settle.is_closed()) {
                return Ok(Some(delivery));
            }
        }
        match &*self.link.state.borrow() {
            LinkState::Failed(error) if !self.stop.is_cancelled() => Err(error.clone()),
            _ => Ok(None),
        }
    }

    /// Ends consuming: there are no more deliveries, and those that were fetched ahead go back to the queue. Deliveries
    /// that the caller has can still be acknowledged; those that it drops instead go back once all are settled.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        // if there is no connection, its actor must know that this consumer needs none
        let _ = self.link.requests.send(LinkRequest::Unsubscribed).await;
        while self.inbox.recv().await.is_some() {}
    }
}

/// The part of a consumer that its backend has. It outlives connections.
pub(super) struct Subscription {
    pub(super) queue: Queue,
    pub(super) prefetch: u16,
    inbox: mpsc::Sender<FetchedDelivery>,
    stop: CancellationToken,
}

impl Subscription {
    /// Returns true if the consumer has stopped or was dropped.
    pub(super) fn ended(&self) -> bool {
        self.stop.is_cancelled() || self.inbox.is_closed()
    }
}

pub(super) fn pair(link: Link, queue: Queue, prefetch: u16) -> (Consumer, Subscription) {
    let (sender, inbox) = mpsc::channel(prefetch.into());
    let stop = CancellationToken::new();
    (Consumer { link, inbox, stop: stop.clone() }, Subscription { queue, prefetch, inbox: sender, stop })
}

/// The source of a backend's deliveries: one consumer on one connection.
pub(super) trait DeliverySource: Send {
    /// Waits for the next message; returns it with true if it is redelivered, and with its tag. Returns `None` after
    /// [`DeliverySource::cancel`]. Cancel safe.
    fn next(&mut self) -> impl Future<Output = Result<Option<(Message, bool, u64)>, String>> + Send;
    /// Acknowledges the delivery with this tag.
    fn ack(&mut self, tag: u64) -> impl Future<Output = Result<(), String>> + Send;
    /// Gives a delivery back to its queue.
    fn give_back(&mut self, tag: u64) -> impl Future<Output = Result<(), String>> + Send;
    /// Asks for no more deliveries.
    fn cancel(&mut self) -> impl Future<Output = Result<(), String>> + Send;
    /// Ends the source. Unacknowledged deliveries go back to their queue.
    fn close(self) -> impl Future<Output = Result<(), String>> + Send;
}

/// Moves deliveries from a source to its consumer and settles them, until the consumer has ended and all of its
/// deliveries are settled. Takes the subscription when the consumer has ended; leaves it in place if the source is
/// lost, or the call is dropped, before that.
///
/// # Errors
/// Returns the reason why the source was lost.
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
    // the consumer's `stop` waits until its inbox ends, and this task until its deliveries are settled
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
        // first a place in the inbox, so that a delivery from the source need not wait for one
        let place = tokio::select! {
            place = inbox.reserve() => match place {
                Ok(place) => place,
                Err(_) => return Ok(()), // the consumer was dropped
            },
            Some(message) = settled.recv() => {
                apply(source, message).await?;
                continue;
            }
            () = stop.cancelled() => return Ok(()),
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
                () = stop.cancelled() => return Ok(()),
                () = inbox.closed() => return Ok(()),
            }
        }
    }
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
