//! One connection to the broker, and everything that must exist before it is of use.

use super::cause::{self, reply_code};
use super::{AmqpShared, Direction};
use crate::{Address, Queue, QueueDepth, QueueError, Secrets};
use futures_util::{Stream, StreamExt};
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::tcp::{AMQPUriTcpExt, AsyncTcpStream, TLSConfig};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, Error, ErrorKind, Event, ExchangeKind};
use std::future::Future;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Time that the broker may take to close a connection that is no longer of use.
pub(super) const HANG_UP: Duration = Duration::from_secs(2);

/// Time between the deletion of queues and their declaration: RabbitMQ 3.10 may never deliver from a quorum queue that
/// is declared within milliseconds of the deletion of its predecessor.
const REST_BEFORE_DECLARING: Duration = Duration::from_secs(1);

/// The action that a link takes about its queues whenever it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It does nothing about them.
    Looks,
    /// It waits until they exist.
    Awaits,
    /// It declares the queues itself.
    Declares,
}

/// The reason why an attempt to connect failed.
pub(super) enum ConnectFailure {
    /// A later attempt may succeed.
    Passing(String),
    /// No later attempt can succeed.
    Final(QueueError),
    /// Another coordinator of this production is at work. That may last, and is not an error.
    Taken,
}

/// A connection that is established.
pub(super) struct AmqpSession {
    pub(super) connection: Connection,
    pub(super) events: Pin<Box<dyn Stream<Item = Event> + Send>>,
    socket: Socket,
}

/// A second handle on a connection's socket. If the broker does not answer the orderly end of a connection, the
/// connection is ended by its socket: otherwise its heartbeats would go on and keep the coordinator's place.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<Option<TcpStream>>>);

impl Socket {
    fn hold(&self, stream: TcpStream) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    }

    /// Ends the connection at once, whatever its state.
    fn cut(&self) {
        if let Some(stream) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = stream.shutdown(Shutdown::Both); // fails if the other side has ended it
        }
    }
}

impl AmqpSession {
    /// Waits for the next event of the connection: it was blocked or unblocked. An error says why it was lost.
    pub(super) async fn event(&mut self) -> Result<Event, String> {
        match self.events.next().await {
            // An error of a channel is reported to the user of that channel; the connection stays up.
            Some(event @ Event::Error(_)) if is_of_a_channel(&event) => Ok(event),
            Some(Event::Error(error)) => Err(error.to_string()),
            Some(event) => Ok(event),
            None => Err("the connection has ended".into()),
        }
    }

    /// Ends the connection if it is still up: in order if the broker answers within `limit`, else by its socket.
    pub(super) async fn hang_up(&mut self, shared: &AmqpShared, direction: Direction, limit: Duration) {
        let mut orderly = false;
        if self.connection.status().connected() {
            let closing = self.connection.close(200, ShortString::from("OK"));
            orderly = matches!(tokio::time::timeout(limit, closing).await, Ok(Ok(())));
        }
        self.socket.cut();
        if !orderly && direction == Direction::Consuming && shared.role() == Role::Declares {
            shared.abandoned();
        }
    }
}

fn is_of_a_channel(event: &Event) -> bool {
    matches!(event, Event::Error(error) if error.is_amqp_soft_error())
}

/// The message while the broker still has the last connection of this same coordinator.
const OWN_PLACE: &str = "the broker has not ended the last connection of this coordinator yet";

/// Connects once and does what the role asks for.
pub(super) async fn attempt(
    shared: &AmqpShared,
    direction: Direction,
    first: bool,
) -> Result<AmqpSession, ConnectFailure> {
    let socket = Socket::default();
    let connected = within(shared, "connecting", connect(shared, direction, socket.clone())).await;
    let connection = connected.map_err(|failure| {
        socket.cut();
        match failure {
            // a later refusal may come from a broker that is just starting
            StepError::Amqp(error) if first && is_refusal(&error) => {
                ConnectFailure::Final(shared.refused(cause::of(&error, &shared.options.address)))
            }
            StepError::Amqp(error) => ConnectFailure::Passing(cause::of(&error, &shared.options.address)),
            StepError::Late(why) => ConnectFailure::Passing(why),
        }
    })?;
    let events = Box::pin(connection.events_listener());
    let mut session = AmqpSession { connection, events, socket };
    if let Err(failure) = prepare(shared, direction, &session.connection).await {
        session.hang_up(shared, direction, HANG_UP).await;
        return Err(failure);
    }
    Ok(session)
}

/// Does what the role asks for, on a new connection.
async fn prepare(shared: &AmqpShared, direction: Direction, connection: &Connection) -> Result<(), ConnectFailure> {
    match shared.role() {
        Role::Looks => Ok(()),
        Role::Awaits => check(shared, connection).await.map_err(|failure| match failure {
            ConnectFailure::Final(absent @ QueueError::Absent { .. }) => ConnectFailure::Passing(absent.to_string()),
            failure => failure,
        }),
        Role::Declares => {
            if direction == Direction::Consuming {
                claim_coordinator_queue(shared, connection).await?;
                revive(shared, connection).await?;
            }
            declare(shared, connection).await
        }
    }
}

async fn connect(shared: &AmqpShared, direction: Direction, socket: Socket) -> Result<Connection, Error> {
    let options = &shared.options;
    let address = current(&options.secrets, &options.address).await?;
    let mut uri = address.uri().clone();
    uri.query.heartbeat = Some(options.heartbeat.as_secs().clamp(1, u16::MAX.into()) as u16);
    let host = uri.authority.host.clone();
    let connector = match uri.scheme {
        AMQPScheme::AMQP => None,
        AMQPScheme::AMQPS => Some(options.tls.connector()?),
    };
    let deadline = options.confirm;
    // TLS is set up here and not by the library, so that a given authority replaces those of the system
    uri.scheme = AMQPScheme::AMQP;
    let purpose = match direction {
        Direction::Publishing => "publishing",
        Direction::Consuming => "consuming",
    };
    let properties = ConnectionProperties::default()
        .with_connection_name(format!("{} ({}, {purpose})", options.name, options.production).into());
    // It is written out here because of the type of its stream.
    Connection::connector(
        uri,
        lapin::runtime::default_runtime()?,
        async move |uri: AMQPUri, runtime| {
            let open = async {
                let plain = uri.connect_with_config_async(TLSConfig::default(), &runtime).await?;
                if let AsyncTcpStream::Plain(stream) = &plain {
                    socket.hold(stream.get_ref().as_fd().try_clone_to_owned()?.into());
                }
                match &connector {
                    Some(connector) => plain.into_rustls(connector, &host).await,
                    None => Ok(plain),
                }
            };
            Ok(tokio::time::timeout(deadline, open).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)
        },
        properties,
    )
    .await
}

/// Returns the current address: the files and programs that give it or its password are read at each connection.
async fn current(secrets: &Secrets, named: &Address) -> Result<Address, Error> {
    if secrets.is_empty() {
        return Ok(named.clone());
    }
    let (secrets, named) = (secrets.clone(), named.clone());
    let asked = tokio::task::spawn_blocking(move || secrets.address(Some(&named)).map(|found| found.unwrap_or(named)));
    let address = asked.await.map_err(io::Error::other).and_then(|found| found.map_err(io::Error::other));
    Ok(address?)
}

/// Declares exchanges and queues. If they exist, they must have the same properties.
pub(super) async fn declare(shared: &AmqpShared, connection: &Connection) -> Result<(), ConnectFailure> {
    let options = &shared.options;
    let channel = channel(shared, connection).await?;
    // the queue for dead letters comes first, since the others name it
    for queue in [Queue::Dead, Queue::Recipes, Queue::Results] {
        let name = ShortString::from(options.production.queue(queue));
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let exchange = channel.exchange_declare(name.clone(), ExchangeKind::Fanout, durable, FieldTable::default());
        within(shared, "declaring an exchange", exchange).await.map_err(|trouble| trouble.about(shared, &name))?;
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        let arguments = options.production.arguments(queue, options.consumer_timeout);
        let declared = channel.queue_declare(name.clone(), durable, arguments);
        within(shared, "declaring a queue", declared).await.map_err(|trouble| trouble.about(shared, &name))?;
        let key = ShortString::from("");
        let bound =
            channel.queue_bind(name.clone(), name.clone(), key, QueueBindOptions::default(), FieldTable::default());
        within(shared, "binding a queue", bound).await.map_err(|trouble| trouble.about(shared, &name))?;
    }
    close(shared, &channel).await;
    Ok(())
}

/// Takes the place of the one coordinator, for as long as the connection lasts.
pub(super) async fn claim_coordinator_queue(
    shared: &AmqpShared,
    connection: &Connection,
) -> Result<(), ConnectFailure> {
    let name = ShortString::from(shared.options.production.coordinator_queue());
    let channel = channel(shared, connection).await?;
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let taken = within(
        shared,
        "taking the coordinator's place",
        channel.queue_declare(name.clone(), exclusive, FieldTable::default()),
    );
    match taken.await {
        Ok(found) if found.consumer_count() > 0 => {
            close(shared, &channel).await;
            Ok(())
        }
        Ok(_) => {
            // Where a policy lets unused queues expire, this queue would be deleted, and the place would be free.
            let (tag, options) = (ShortString::from(""), BasicConsumeOptions::default());
            let consuming = channel.basic_consume(name.clone(), tag, options, FieldTable::default());
            let consuming = within(shared, "holding the coordinator's place", consuming);
            let mut consumer = consuming.await.map_err(|trouble| trouble.about(shared, &name))?;
            tokio::spawn(async move {
                // Nothing is ever delivered; the consumer ends with the connection.
                while let Some(Ok(_)) = consumer.next().await {}
                drop(channel);
            });
            Ok(())
        }
        Err(StepError::Amqp(error)) if reply_code(&error) == Some(405) && shared.may_be_own() => {
            Err(ConnectFailure::Passing(OWN_PLACE.into()))
        }
        Err(StepError::Amqp(error)) if reply_code(&error) == Some(405) => Err(ConnectFailure::Taken),
        Err(trouble) => Err(trouble.about(shared, &name)),
    }
}

/// Deletes queues that the broker has but does not serve, so that they are declared again: RabbitMQ 3.10 leaves such
/// quorum queues behind if it is killed soon after their first declaration. Their messages are lost; leases and the
/// granules at the destination make up for that.
///
/// A queue is deleted if it repeatedly did not serve, and so are those that are empty then, since the same cause has
/// often disabled them too. A queue that has a consumer works, and is left alone.
async fn revive(shared: &AmqpShared, connection: &Connection) -> Result<(), ConnectFailure> {
    if !Queue::ALL.into_iter().any(|queue| shared.is_dead(queue)) {
        return Ok(());
    }
    let mut deleted = Vec::new();
    for queue in Queue::ALL {
        let looked = tokio::time::timeout(shared.serving(), look(shared, connection, queue)).await;
        let useless = match looked.unwrap_or_else(|_| Err(ConnectFailure::Passing("no answer".into()))) {
            Ok(depth) => depth.consumers == 0 && (depth.messages == 0 || shared.is_dead(queue)),
            Err(ConnectFailure::Final(_)) => false, // it does not exist, or we may not inspect it
            Err(_) if !connection.status().connected() => {
                return Err(ConnectFailure::Passing("the connection is gone".into()));
            }
            Err(_) => shared.is_dead(queue),
        };
        if useless {
            let name = ShortString::from(shared.options.production.queue(queue));
            let channel = channel(shared, connection).await?;
            let deletion = channel.queue_delete(name.clone(), QueueDeleteOptions::default());
            within(shared, "deleting a queue", deletion).await.map_err(|trouble| trouble.about(shared, &name))?;
            close(shared, &channel).await;
            deleted.push(name.to_string());
        }
    }
    shared.revived(!deleted.is_empty());
    if !deleted.is_empty() {
        let queues = deleted.join(", ");
        tracing::warn!(%queues, "the broker did not serve queues that it has; they are deleted and declared anew");
        tokio::time::sleep(REST_BEFORE_DECLARING).await;
    }
    Ok(())
}

/// Returns an error unless the queues of recipes and results exist.
pub(super) async fn check(shared: &AmqpShared, connection: &Connection) -> Result<(), ConnectFailure> {
    for queue in [Queue::Recipes, Queue::Results] {
        look(shared, connection, queue).await?;
    }
    Ok(())
}

/// Returns the numbers of messages and consumers of a queue.
pub(super) async fn look(
    shared: &AmqpShared,
    connection: &Connection,
    queue: Queue,
) -> Result<QueueDepth, ConnectFailure> {
    let name = ShortString::from(shared.options.production.queue(queue));
    // a channel of its own, since an error closes it
    let channel = channel(shared, connection).await?;
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let found =
        within(shared, "looking at a queue", channel.queue_declare(name.clone(), passive, FieldTable::default()))
            .await
            .map_err(|trouble| trouble.about(shared, &name))?;
    close(shared, &channel).await;
    Ok(QueueDepth { messages: found.message_count().into(), consumers: found.consumer_count().into() })
}

pub(super) async fn channel(shared: &AmqpShared, connection: &Connection) -> Result<Channel, ConnectFailure> {
    within(shared, "opening a channel", connection.create_channel())
        .await
        .map_err(|trouble| ConnectFailure::Passing(trouble.to_string()))
}

async fn close(shared: &AmqpShared, channel: &Channel) {
    // if this fails, the next use of the connection shows it
    let _ = within(shared, "closing a channel", channel.close(200, ShortString::from("OK"))).await;
}

/// The ways in which one step can fail: an error of the broker or the library, or a missed deadline.
pub(super) enum StepError {
    Amqp(Error),
    Late(String),
}

impl StepError {
    /// Classifies the broker's errors about a queue.
    pub(super) fn about(self, shared: &AmqpShared, queue: &ShortString) -> ConnectFailure {
        let address = || shared.options.address.to_string();
        let error = match self {
            StepError::Late(why) => return ConnectFailure::Passing(why),
            StepError::Amqp(error) => error,
        };
        match reply_code(&error) {
            Some(403) => ConnectFailure::Final(shared.refused(cause::of(&error, &shared.options.address))),
            Some(404) => ConnectFailure::Final(QueueError::Absent { address: address(), queue: queue.to_string() }),
            Some(406) => {
                ConnectFailure::Final(QueueError::Different { address: address(), why: error.to_string().into() })
            }
            _ => ConnectFailure::Passing(error.to_string()),
        }
    }
}

impl std::fmt::Display for StepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StepError::Amqp(error) => error.fmt(f),
            StepError::Late(why) => f.write_str(why),
        }
    }
}

/// Runs one step, with the deadline that the settings give to answers of the broker.
pub(super) async fn within<T>(
    shared: &AmqpShared,
    what: &str,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<T, StepError> {
    limited(shared.options.confirm, what, step).await
}

/// Runs one step with a deadline of its own.
pub(super) async fn limited<T>(
    limit: Duration,
    what: &str,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<T, StepError> {
    match tokio::time::timeout(limit, step).await {
        Ok(result) => result.map_err(StepError::Amqp),
        Err(_) => Err(StepError::Late(format!("{what}: no answer within {} s", limit.as_secs_f32()))),
    }
}

/// Returns true if the broker refuses us (403: user or password, 530: virtual host), or if one side does not trust the
/// other's certificate. A limit on connections (530 too) is not a refusal, since other clients close theirs.
fn is_refusal(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::IOError(error) => error.kind() == io::ErrorKind::InvalidData,
        // the peer is not a broker, or one that expects TLS
        ErrorKind::ParsingError(_) => true,
        _ => matches!(reply_code(error), Some(403 | 530)) && !is_limit(&error.to_string()),
    }
}

/// Returns true if the text says that a limit on connections or channels is reached: of the virtual host, the user or
/// the node.
fn is_limit(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("limit") && (text.contains("connection") || text.contains("channel"))
}

/// Returns the headers of a message that have text values.
pub(super) fn texts(table: &FieldTable) -> impl Iterator<Item = (String, String)> {
    table.inner().iter().filter_map(|(name, value)| match value {
        AMQPValue::LongString(text) => Some((name.to_string(), text.to_string())),
        AMQPValue::ShortString(text) => Some((name.to_string(), text.to_string())),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_from_refusals() {
        for text in [
            "NOT_ALLOWED - access to vhost '/' refused for user 'edp': connection limit (3) is reached",
            "NOT_ALLOWED - access to vhost 'v' refused for user 'edp': vhost connection limit is reached",
            "NOT_ALLOWED - Connection refused for user 'edp': user connection limit (1) is reached",
            "NOT_ALLOWED - number of channels opened for user 'edp' has reached the maximum allowed user limit of (2)",
        ] {
            assert!(is_limit(text), "{text}");
        }
        for text in [
            "NOT_ALLOWED - vhost nosuch not found",
            "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN",
        ] {
            assert!(!is_limit(text), "{text}");
        }
    }
}
