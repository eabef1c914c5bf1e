//! The actor that declares queues, inspects them and consumes from them.

use super::attempts::{Attempts, TAKEN};
use super::cause::reply_code;
use super::connection::{
    AmqpSession, ConnectFailure, HANG_UP, StepError, channel, check, claim_coordinator_queue, declare, limited, look,
    texts, within,
};
use super::{AmqpShared, Direction};
use crate::consumer::{self, DeliverySource, Settlement, Subscription, carry};
use crate::{LinkRequest, Message, Queue, QueueError, Reply};
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer};
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Time between two checks of the connection.
const TICK: Duration = Duration::from_secs(1);

/// Runs until the link is closed or has failed.
pub(super) async fn run(shared: Arc<AmqpShared>, mut requests: mpsc::Receiver<LinkRequest>) {
    let mut actor = Actor {
        shared: shared.clone(),
        subscriptions: Vec::new(),
        waiting: VecDeque::new(),
        carriers: JoinSet::new(),
        of_use: false,
    };
    tokio::select! {
        result = actor.run(&mut requests) => match result {
            Ok(Some(done)) => drop(done.send(())),
            Ok(None) => {}
            Err(error) => shared.fail(Direction::Consuming, error),
        },
        () = shared.over.cancelled() => {}
    }
    // only now, so that callers that wait for the actor find out why it ended
    drop(actor);
}

struct Actor {
    shared: Arc<AmqpShared>,
    /// Consumers that no task serves at present.
    subscriptions: Vec<Subscription>,
    /// Requests that wait for a connection.
    waiting: VecDeque<LinkRequest>,
    /// The tasks that serve consumers on this connection. They return their subscription if the connection is lost.
    carriers: JoinSet<Result<(), (Option<Subscription>, String)>>,
    /// True if every request was begun or answered on the present connection.
    of_use: bool,
}

/// The way in which a connection ended.
enum ConnectionEnd {
    Lost(String),
    /// It was closed by this program, which may wait for the reply.
    Closed(Option<oneshot::Sender<()>>),
}

impl Actor {
    async fn run(
        &mut self,
        requests: &mut mpsc::Receiver<LinkRequest>,
    ) -> Result<Option<oneshot::Sender<()>>, QueueError> {
        match requests.recv().await {
            None => return Ok(None),
            Some(LinkRequest::Close(done)) => return Ok(Some(done)),
            Some(request) => self.keep(request),
        }
        let mut attempts = Attempts::new(Direction::Consuming);
        let shared = self.shared.clone();
        loop {
            let session = {
                let connecting = attempts.connect(&shared);
                tokio::pin!(connecting);
                loop {
                    tokio::select! {
                        session = &mut connecting => break session?,
                        request = requests.recv() => match request {
                            None => return Ok(None),
                            Some(LinkRequest::Close(done)) => return Ok(Some(done)),
                            Some(request) => self.keep(request),
                        },
                    }
                }
            };
            let end = self.serve(session, requests).await;
            match end {
                Ok(ConnectionEnd::Closed(done)) => return Ok(done),
                Ok(ConnectionEnd::Lost(why)) | Err(ConnectFailure::Passing(why)) => {
                    attempts.lost(&shared, why, self.of_use)
                }
                Err(ConnectFailure::Taken) => attempts.lost(&shared, TAKEN.into(), true),
                Err(ConnectFailure::Final(error)) => return Err(error),
            }
        }
    }

    /// Keeps a request that arrives while there is no connection.
    fn keep(&mut self, request: LinkRequest) {
        match request {
            LinkRequest::Consume(subscription) => self.subscriptions.push(subscription),
            LinkRequest::Unsubscribed => self.subscriptions.retain(|subscription| !subscription.ended()),
            request => self.waiting.push_back(request),
        }
    }

    /// Serves all requests on one connection until it ends.
    async fn serve(
        &mut self,
        mut session: AmqpSession,
        requests: &mut mpsc::Receiver<LinkRequest>,
    ) -> Result<ConnectionEnd, ConnectFailure> {
        // a task whose connection is lost may be waiting for it: this tells it to end and to return its subscription
        let lost = CancellationToken::new();
        let mut consumed: Vec<ConsumedQueue> = Vec::new();
        self.of_use = false;
        let end = self.attend(&mut session, requests, &lost, &mut consumed).await;
        if let Ok(ConnectionEnd::Closed(_)) = &end {
            flush(&consumed).await;
            session.hang_up(&self.shared, Direction::Consuming, self.shared.options.confirm).await;
        }
        lost.cancel();
        while let Some(carried) = self.carriers.join_next().await {
            self.take_back(carried.unwrap_or(Ok(())));
        }
        session.hang_up(&self.shared, Direction::Consuming, HANG_UP).await;
        end
    }

    async fn attend(
        &mut self,
        session: &mut AmqpSession,
        requests: &mut mpsc::Receiver<LinkRequest>,
        lost: &CancellationToken,
        consumed: &mut Vec<ConsumedQueue>,
    ) -> Result<ConnectionEnd, ConnectFailure> {
        let mut tick = tokio::time::interval(TICK);
        let mut probed = Instant::now();
        loop {
            while let Some(subscription) = self.subscriptions.pop() {
                if !subscription.ended() {
                    consumed.retain(ConsumedQueue::is_open);
                    consumed.push(self.consume(&session.connection, subscription, lost.clone()).await?);
                }
            }
            if let Some(request) = self.waiting.pop_front()
                && let Some(done) = self.answer(&session.connection, request).await?
            {
                return Ok(ConnectionEnd::Closed(Some(done)));
            }
            if !self.waiting.is_empty() {
                continue;
            }
            self.of_use = true;
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.keep(request),
                    None => return Ok(ConnectionEnd::Closed(None)),
                },
                Some(carried) = self.carriers.join_next() => {
                    if let Some(why) = self.take_back(carried.unwrap_or_else(|_| Err((None, "a task has ended".into())))) {
                        return Ok(ConnectionEnd::Lost(why));
                    }
                }
                event = session.event() => drop(event.map_err(ConnectFailure::Passing)?),
                _ = tick.tick() => {
                    if !session.connection.status().connected() {
                        return Ok(ConnectionEnd::Lost("the connection is gone".into()));
                    }
                    if probed.elapsed() > self.shared.serving() {
                        self.probe(&session.connection, consumed).await;
                        probed = Instant::now();
                    }
                    // The publisher or the probe has found this out; the next connection declares the queues again.
                    let dead = Queue::ALL.into_iter().find(|queue| self.shared.is_dead(*queue));
                    if let Some(queue) = dead {
                        let queue = self.shared.options.production.queue(queue);
                        return Ok(ConnectionEnd::Lost(format!("the broker has the queue {queue}, and does not serve it")));
                    }
                }
            }
        }
    }

    /// Checks the queues that are consumed here. If a queue stops serving, its consumers are not told; nor are they if
    /// it is deleted in that state and declared anew by another program. With nothing left to publish, the publisher
    /// does not notice it either. But the broker then counts no consumer of the queue, or has messages and delivers
    /// none.
    async fn probe(&self, connection: &Connection, consumed: &mut [ConsumedQueue]) {
        for queue in Queue::ALL {
            let is_consumed =
                |consumed: &[ConsumedQueue]| consumed.iter().any(|one| one.queue == queue && one.is_open());
            if !is_consumed(consumed) {
                continue;
            }
            let limit = self.shared.serving();
            let looked = tokio::time::timeout(limit, look(&self.shared, connection, queue)).await;
            let mut waits = false;
            for one in consumed.iter_mut().filter(|one| one.queue == queue && one.is_open()) {
                waits |= one.has_waited();
            }
            match looked {
                Ok(Ok(depth)) if depth.consumers > 0 && (depth.messages == 0 || !waits) => self.shared.trust(queue),
                // A queue that does not exist ends its consumers by itself.
                Ok(Err(ConnectFailure::Final(_))) => {}
                // The consumer may have ended meanwhile.
                _ if is_consumed(consumed) && connection.status().connected() => self.shared.suspect(queue),
                _ => {}
            }
        }
    }

    /// Keeps the subscription of a task whose connection was lost, and returns the reason.
    fn take_back(&mut self, carried: Result<(), (Option<Subscription>, String)>) -> Option<String> {
        let (subscription, why) = carried.err()?;
        // A subscription that has ended needs no other connection, and its owner waits for it to be dropped.
        self.subscriptions.extend(subscription.filter(|subscription| !subscription.ended()));
        Some(why)
    }

    /// Answers a request. Returns the reply channel of a request to close, which is answered later.
    async fn answer(
        &mut self,
        connection: &Connection,
        request: LinkRequest,
    ) -> Result<Option<oneshot::Sender<()>>, ConnectFailure> {
        let shared = &self.shared;
        let unanswered = match request {
            LinkRequest::Declare(reply) => {
                let declared = match claim_coordinator_queue(shared, connection).await {
                    Ok(()) => declare(shared, connection).await,
                    taken => taken,
                };
                respond(reply, declared).map_err(|(reply, why)| (LinkRequest::Declare(reply), why))
            }
            LinkRequest::Check(reply) => {
                respond(reply, check(shared, connection).await).map_err(|(reply, why)| (LinkRequest::Check(reply), why))
            }
            LinkRequest::Depth(queue, reply) => {
                let depth = look(shared, connection, queue).await;
                respond(reply, depth).map_err(|(reply, why)| (LinkRequest::Depth(queue, reply), why))
            }
            LinkRequest::Close(done) => return Ok(Some(done)),
            LinkRequest::Consume(_) | LinkRequest::Unsubscribed => Ok(()), // kept elsewhere
        };
        let Err((request, why)) = unanswered else { return Ok(None) };
        self.waiting.push_front(request);
        Err(why)
    }

    /// Begins to consume for a subscription.
    async fn consume(
        &mut self,
        connection: &Connection,
        subscription: Subscription,
        lost: CancellationToken,
    ) -> Result<ConsumedQueue, ConnectFailure> {
        let source = match ChannelConsumer::open(&self.shared, connection, &subscription).await {
            Ok(source) => source,
            Err(failure) => {
                self.subscriptions.push(subscription);
                return Err(failure);
            }
        };
        let (settle, settled) = consumer::settling();
        let activity = source.activity.clone();
        let consumed =
            ConsumedQueue { queue: subscription.queue, settler: settle.downgrade(), activity, delivered_before: None };
        self.carriers.spawn(async move {
            let mut subscription = Some(subscription);
            let carried = tokio::select! {
                carried = carry(source, &mut subscription, settle, settled) => carried,
                () = lost.cancelled() => Err("the connection is lost".into()),
            };
            carried.map_err(|why| (subscription, why))
        });
        Ok(consumed)
    }
}

/// Waits until everything that was acknowledged so far is written.
async fn flush(consumed: &[ConsumedQueue]) {
    for ConsumedQueue { settler, .. } in consumed {
        let (done, flushed) = oneshot::channel();
        if let Some(settler) = settler.upgrade()
            && settler.send(Settlement::Flush(done)).is_ok()
        {
            drop(settler);
            let _ = flushed.await;
        }
    }
}

/// Sends the result of a request. A failure of the connection is not sent: the request waits for the next connection.
fn respond<T>(reply: Reply<T>, result: Result<T, ConnectFailure>) -> Result<(), (Reply<T>, ConnectFailure)> {
    match result {
        Ok(value) => drop(reply.send(Ok(value))),
        Err(ConnectFailure::Final(error)) => drop(reply.send(Err(error))),
        Err(passing) => return Err((reply, passing)),
    }
    Ok(())
}

/// A queue that is consumed on the present connection.
struct ConsumedQueue {
    queue: Queue,
    /// Mailbox of the task that delivers; it has no sender left once the consumer and its deliveries have ended.
    settler: mpsc::WeakUnboundedSender<Settlement>,
    activity: Arc<Activity>,
    /// Number of deliveries at the last probe.
    delivered_before: Option<u64>,
}

impl ConsumedQueue {
    fn is_open(&self) -> bool {
        self.settler.strong_count() > 0
    }

    /// Returns true if nothing was delivered since the last call, although the prefetch had room.
    fn has_waited(&mut self) -> bool {
        let (delivered, settled) =
            (self.activity.delivered.load(Ordering::Relaxed), self.activity.settled.load(Ordering::Relaxed));
        let before = self.delivered_before.replace(delivered);
        before == Some(delivered) && delivered.saturating_sub(settled) < self.activity.prefetch
    }
}

/// The counts of a consumer so far.
#[derive(Debug, Default)]
struct Activity {
    prefetch: u64,
    /// Number of messages that the broker has delivered.
    delivered: AtomicU64,
    /// Number of these that were acknowledged or given back.
    settled: AtomicU64,
}

/// A consumer with a channel of its own.
struct ChannelConsumer {
    shared: Arc<AmqpShared>,
    activity: Arc<Activity>,
    channel: Channel,
    consumer: Consumer,
}

impl ChannelConsumer {
    async fn open(
        shared: &Arc<AmqpShared>,
        connection: &Connection,
        subscription: &Subscription,
    ) -> Result<ChannelConsumer, ConnectFailure> {
        let name = ShortString::from(shared.options.production.queue(subscription.queue));
        let silent = |trouble: &StepError| match trouble {
            StepError::Late(_) => true,
            // INTERNAL_ERROR: the process of the queue is gone
            StepError::Amqp(error) => reply_code(error) == Some(541),
        };
        let failed = |trouble: StepError| match trouble.about(shared, &name) {
            ConnectFailure::Final(error @ QueueError::Refused { .. }) => ConnectFailure::Final(error),
            // the queue has gone since it was inspected, or is in trouble
            ConnectFailure::Final(error) => ConnectFailure::Passing(error.to_string()),
            passing => passing,
        };
        loop {
            let channel = channel(shared, connection).await?;
            let qos = channel.basic_qos(subscription.prefetch, BasicQosOptions::default());
            within(shared, "setting the prefetch", qos).await.map_err(failed)?;
            let tag = ShortString::from(""); // the broker generates one
            let options = BasicConsumeOptions::default();
            let consuming = channel.basic_consume(name.clone(), tag, options, FieldTable::default());
            match limited(shared.serving(), "beginning to consume", consuming).await {
                Ok(consumer) => {
                    shared.trust(subscription.queue);
                    let prefetch = subscription.prefetch.into();
                    let activity = Arc::new(Activity { prefetch, ..Activity::default() });
                    return Ok(ChannelConsumer { shared: shared.clone(), activity, channel, consumer });
                }
                Err(trouble) if silent(&trouble) => {
                    shared.suspect(subscription.queue);
                    if shared.is_dead(subscription.queue) || !connection.status().connected() {
                        return Err(failed(trouble));
                    }
                }
                Err(trouble) => return Err(failed(trouble)),
            }
        }
    }

    async fn step(&self, what: &str, step: impl Future<Output = lapin::Result<()>>) -> Result<(), String> {
        within(&self.shared, what, step).await.map_err(|trouble| trouble.to_string())
    }
}

impl DeliverySource for ChannelConsumer {
    async fn next(&mut self) -> Result<Option<(Message, bool, u64)>, String> {
        match self.consumer.next().await {
            Some(Ok(delivery)) => {
                self.activity.delivered.fetch_add(1, Ordering::Relaxed);
                let (redelivered, tag) = (delivery.redelivered, delivery.delivery_tag);
                Ok(Some((message(delivery), redelivered, tag)))
            }
            Some(Err(error)) => Err(error.to_string()),
            None => Ok(None),
        }
    }

    async fn ack(&mut self, tag: u64) -> Result<(), String> {
        self.activity.settled.fetch_add(1, Ordering::Relaxed);
        self.step("acknowledging", self.channel.basic_ack(tag, BasicAckOptions::default())).await
    }

    async fn give_back(&mut self, tag: u64) -> Result<(), String> {
        let back = BasicNackOptions { requeue: true, ..Default::default() };
        self.activity.settled.fetch_add(1, Ordering::Relaxed);
        self.step("giving back", self.channel.basic_nack(tag, back)).await
    }

    async fn cancel(&mut self) -> Result<(), String> {
        let cancel = self.channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default());
        self.step("ending a consumer", cancel).await
    }

    async fn close(self) -> Result<(), String> {
        self.step("closing a channel", self.channel.close(200, ShortString::from("OK"))).await
    }
}

fn message(delivery: Delivery) -> Message {
    let properties = delivery.properties;
    let text = |text: &Option<ShortString>| text.as_ref().map(ToString::to_string).unwrap_or_default();
    Message {
        body: delivery.data.into(),
        content_type: text(properties.content_type()),
        message_id: text(properties.message_id()),
        headers: properties.headers().iter().flat_map(texts).collect(),
    }
}
