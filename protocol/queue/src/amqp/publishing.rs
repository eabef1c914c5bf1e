//! The actor that publishes.

use super::attempts::{Attempts, TAKEN};
use super::cause::reply_code;
use super::connection::{AmqpSession, ConnectFailure, HANG_UP, Role, channel, look, within};
use super::{AmqpShared, Direction};
use crate::publisher::Publication;
use crate::{LinkState, PublishError, Queue, QueueError};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Error, Event};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Largest number of unconfirmed messages of all publishers together.
const WINDOW: usize = 4096;

/// Interval at which deadlines are checked and refused messages are sent again.
const TICK: Duration = Duration::from_millis(250);

/// Runs until the link is closed or has failed.
pub(super) async fn run(shared: Arc<AmqpShared>, mut outbox: mpsc::Receiver<Publication>) {
    let mut waiting = VecDeque::new();
    let work = async {
        // most links that only inspect queues never publish
        waiting.extend(outbox.recv().await);
        let mut attempts = Attempts::new(Direction::Publishing);
        loop {
            let mut session = attempts.connect(&shared).await?;
            // If no message waits, being connected is all that can be achieved.
            let mut of_use = waiting.is_empty();
            let ended = publish(&shared, &mut session, &mut outbox, &mut waiting, &mut of_use).await;
            session.hang_up(&shared, Direction::Publishing, HANG_UP).await;
            match ended {
                Ok(()) => return Ok(()),
                Err(ConnectFailure::Final(error)) => return Err(error),
                Err(ConnectFailure::Passing(why)) => attempts.lost(&shared, why, of_use),
                Err(ConnectFailure::Taken) => attempts.lost(&shared, TAKEN.into(), true),
            }
        }
    };
    tokio::select! {
        result = work => if let Err(error) = result {
            shared.fail(Direction::Publishing, error);
        },
        () = shared.over.cancelled() => {}
    }
}

/// A message that the broker has not confirmed yet, and the time at which it was sent.
struct UnconfirmedMessage {
    publication: Publication,
    sent: Instant,
}

/// Publishes on one connection until it is lost. Unconfirmed messages are then waiting again, in order.
async fn publish(
    shared: &AmqpShared,
    session: &mut AmqpSession,
    outbox: &mut mpsc::Receiver<Publication>,
    waiting: &mut VecDeque<Publication>,
    of_use: &mut bool,
) -> Result<(), ConnectFailure> {
    let mut flights = BTreeMap::new();
    let result = fly(shared, session, outbox, waiting, &mut flights, of_use).await;
    for flight in flights.into_values().rev() {
        waiting.push_front(flight.publication);
    }
    result
}

async fn fly(
    shared: &AmqpShared,
    session: &mut AmqpSession,
    outbox: &mut mpsc::Receiver<Publication>,
    waiting: &mut VecDeque<Publication>,
    flights: &mut BTreeMap<u64, UnconfirmedMessage>,
    of_use: &mut bool,
) -> Result<(), ConnectFailure> {
    let (options, begun) = (&shared.options, Instant::now());
    let channel = channel(shared, &session.connection).await?;
    within(shared, "asking for confirmations", channel.confirm_select(ConfirmSelectOptions::default()))
        .await
        .map_err(|trouble| ConnectFailure::Passing(trouble.to_string()))?;
    let mut confirms = FuturesUnordered::new();
    let mut refused = VecDeque::new();
    // Queues that accept nothing, each with the time since when.
    let mut nacked = BTreeMap::new();
    let mut number = 0;
    let mut blocked = session.connection.status().blocked();
    // a blocked connection owes no confirmations
    let mut unblocked = Instant::now();
    let mut tick = tokio::time::interval(TICK);
    loop {
        while flights.len() < WINDOW
            && let Some(publication) = waiting.pop_front()
        {
            number += 1;
            confirms.push(send(&channel, shared, &publication, number));
            flights.insert(number, UnconfirmedMessage { publication, sent: Instant::now() });
        }
        tokio::select! {
            Some((number, confirmed)) = confirms.next() => {
                let confirmed = confirmed.map_err(|error| sort(shared, error))?;
                // absent if it was given up meanwhile
                let Some(flight) = flights.remove(&number) else { continue };
                match confirmed {
                    Confirmation::Nack(None) => drop(nacked.entry(flight.publication.queue).or_insert_with(Instant::now)),
                    _ => {
                        *of_use = true;
                        nacked.remove(&flight.publication.queue);
                        shared.trust(flight.publication.queue);
                    }
                }
                match confirmed {
                    Confirmation::Ack(None) => drop(flight.publication.reply.send(Ok(()))),
                    Confirmation::Nack(None) | Confirmation::NotRequested if flight.publication.insists => {
                        refused.push_back(flight.publication);
                    }
                    Confirmation::Nack(None) | Confirmation::NotRequested => {
                        let queue = options.production.queue(flight.publication.queue);
                        let _ = flight.publication.reply.send(Err(PublishError::Full { queue }));
                    }
                    Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
                        let queue = options.production.queue(flight.publication.queue);
                        waiting.push_front(flight.publication);
                        return Err(ConnectFailure::Passing(format!("no queue {queue}: {}", returned.reply_text)));
                    }
                }
            }
            publication = outbox.recv(), if flights.len() < WINDOW => match publication {
                Some(publication) => waiting.push_back(publication),
                // no publisher is left, and nothing waits for unconfirmed messages
                None => return Ok(()),
            },
            event = session.event() => match event.map_err(ConnectFailure::Passing)? {
                Event::ConnectionBlocked(why) => {
                    tracing::warn!(%why, "the broker takes no messages for now");
                    blocked = true;
                    shared.report(Direction::Publishing, LinkState::Blocked { since: Instant::now(), why });
                }
                Event::ConnectionUnblocked => {
                    tracing::info!("the broker takes messages again");
                    (blocked, unblocked) = (false, Instant::now());
                    shared.report(Direction::Publishing, LinkState::Up);
                }
                _ => {}
            },
            _ = tick.tick() => {
                if !session.connection.status().connected() {
                    return Err(ConnectFailure::Passing("the connection is gone".into()));
                }
                let why = if blocked { "the broker takes no messages" } else { "the broker refuses the message" };
                give_up(shared, begun, flights, &mut refused, why);
                waiting.append(&mut refused);
                let is_due = |(_, since): &(&Queue, &Instant)| since.elapsed() > shared.serving();
                if shared.role() == Role::Declares
                    && let Some(queue) = nacked.iter().find(is_due).map(|(queue, _)| *queue)
                {
                    nacked.insert(queue, Instant::now());
                    doubt(shared, &session.connection, queue).await;
                }
                let late = |flight: &UnconfirmedMessage| flight.sent.max(unblocked).elapsed() > options.confirm;
                if !blocked && flights.values().any(late) {
                    // One interval of silence counts once for each queue.
                    for queue in Queue::ALL {
                        let is_silent = |flight: &UnconfirmedMessage| flight.publication.queue == queue && late(flight);
                        if shared.role() == Role::Declares && flights.values().any(is_silent) {
                            shared.suspect(queue);
                        }
                    }
                    let limit = options.confirm.as_secs_f32();
                    return Err(ConnectFailure::Passing(format!("no confirmation within {limit} s")));
                }
            }
        }
    }
}

/// Checks a queue that accepts no messages. If it is full, it has messages; if it has none, it does not work.
async fn doubt(shared: &AmqpShared, connection: &Connection, queue: Queue) {
    let is_empty = matches!(look(shared, connection, queue).await, Ok(depth) if depth.messages == 0);
    if is_empty { shared.suspect(queue) } else { shared.trust(queue) }
}

/// Gives up the messages that have waited for longer than the patience since the connection was made.
fn give_up(
    shared: &AmqpShared,
    begun: Instant,
    flights: &mut BTreeMap<u64, UnconfirmedMessage>,
    refused: &mut VecDeque<Publication>,
    why: &str,
) {
    let patience = shared.options.patience;
    let old = |publication: &Publication| publication.since.max(begun).elapsed() > patience;
    let given_up = flights.extract_if(.., |_, flight| old(&flight.publication)).map(|(_, flight)| flight.publication);
    let mut given_up: Vec<_> = given_up.collect();
    let (late, early) = std::mem::take(refused).into_iter().partition(|publication| old(publication));
    *refused = early;
    given_up.extend::<VecDeque<_>>(late);
    for publication in given_up {
        let error = shared.unreachable(publication.since, why);
        let _ = publication.reply.send(Err(PublishError::Queue(error)));
    }
}

/// Classifies the errors of a channel that publishes.
fn sort(shared: &AmqpShared, error: Error) -> ConnectFailure {
    match reply_code(&error) {
        Some(403) => ConnectFailure::Final(QueueError::Refused {
            address: shared.options.address.to_string(),
            why: error.to_string().into(),
        }),
        _ => ConnectFailure::Passing(error.to_string()),
    }
}

/// Sends a message. The returned future waits for its confirmation.
fn send(
    channel: &Channel,
    shared: &AmqpShared,
    publication: &Publication,
    number: u64,
) -> impl Future<Output = (u64, Result<Confirmation, Error>)> + Send + use<> {
    let message = &publication.message;
    let mut headers = FieldTable::default();
    for (name, value) in &message.headers {
        headers.insert(ShortString::from(name.as_str()), AMQPValue::LongString(LongString::from(value.as_str())));
    }
    let properties = BasicProperties::default()
        .with_delivery_mode(2) // kept on disk
        .with_content_type(ShortString::from(message.content_type.as_str()))
        .with_message_id(ShortString::from(message.message_id.as_str()))
        .with_headers(headers);
    let exchange = ShortString::from(shared.options.production.queue(publication.queue));
    let (channel, body) = (channel.clone(), message.body.clone());
    async move {
        let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
        let sent = channel.basic_publish(exchange, ShortString::from(""), mandatory, &body, properties).await;
        let confirmed = match sent {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        (number, confirmed)
    }
}
