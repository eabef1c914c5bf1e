//! One connection, and everything that must be there before it is of use.

use super::cause;
use super::{Half, Shared};
use crate::queue::{Address, Depth, Queue, QueueError, Secrets, State};
use futures_util::{Stream, StreamExt};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::tcp::{AMQPUriTcpExt, TLSConfig};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::AMQPScheme;
use lapin::{Channel, Connection, ConnectionProperties, Error, ErrorKind, Event, ExchangeKind};
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

/// First and longest pause between attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// How long a connection must have lasted for the next loss to be a new one, with short pauses again.
const STEADY: Duration = Duration::from_secs(10);

/// How long the broker may take to end a connection that is of no use any more.
pub(super) const HANG_UP: Duration = Duration::from_secs(2);

/// What a link does about its queues whenever it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing.
    Looks,
    /// Waits until they are there.
    Awaits,
    /// Makes them.
    Declares,
}

/// Why an attempt failed.
pub(super) enum Failure {
    /// It may succeed later.
    Passing(String),
    /// It will not.
    Final(QueueError),
    /// Another coordinator of this production is at work; that may last, and is no fault.
    Taken,
}

/// A connection that is up.
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) events: Pin<Box<dyn Stream<Item = Event> + Send>>,
}

impl Session {
    /// Waits for something that has happened to the connection: it was lost (nothing), blocked or unblocked.
    pub(super) async fn event(&mut self) -> Result<Event, String> {
        match self.events.next().await {
            // An error of a channel, which whoever uses that channel gets to know: the connection lives on.
            Some(event @ Event::Error(_)) if is_of_a_channel(&event) => Ok(event),
            Some(Event::Error(error)) => Err(error.to_string()),
            Some(event) => Ok(event),
            None => Err("the connection has ended".into()),
        }
    }
}

fn is_of_a_channel(event: &Event) -> bool {
    matches!(event, Event::Error(error) if error.is_amqp_soft_error())
}

/// Ends a connection, if it still lives. Dropping it would do so some time later: until then, a coordinator would find
/// its own place taken.
pub(super) async fn hang_up(connection: &Connection, limit: Duration) {
    if connection.status().connected() {
        let _ = tokio::time::timeout(limit, connection.close(200, ShortString::from("OK"))).await;
    }
}

/// The attempts of one actor to be connected.
pub(super) struct Attempts {
    half: Half,
    /// Begin of the outage.
    since: Instant,
    pause: Duration,
    /// When the last connection was up.
    up: Option<Instant>,
    /// What happened last.
    why: String,
}

impl Attempts {
    pub(super) fn new(half: Half) -> Attempts {
        Attempts { half, since: Instant::now(), pause: PAUSES.0, up: None, why: "not connected yet".into() }
    }

    /// The connection is lost.
    pub(super) fn lost(&mut self, shared: &Shared, why: String) {
        tracing::warn!(connection = ?self.half, %why, "connection to the queues lost, building it anew");
        self.since = Instant::now();
        if self.up.is_some_and(|up| up.elapsed() > STEADY) {
            self.pause = PAUSES.0;
        }
        self.why = why;
        shared.report(self.half, State::Down { since: self.since, why: self.why.clone() });
    }

    /// Connects and does what the role asks for, again and again, until it succeeds or the patience is over.
    ///
    /// # Errors
    /// Why it makes no sense to go on.
    pub(super) async fn connect(&mut self, shared: &Shared) -> Result<Session, QueueError> {
        if self.up.is_none() {
            self.since = Instant::now();
        } else {
            self.rest(shared).await;
        }
        loop {
            shared.report(self.half, State::Down { since: self.since, why: self.why.clone() });
            match attempt(shared, self.half, self.up.is_none()).await {
                Ok(session) => {
                    tracing::info!(connection = ?self.half, address = %shared.options.address, "connected");
                    self.up = Some(Instant::now());
                    shared.report(self.half, State::Up);
                    return Ok(session);
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(why)) => {
                    tracing::debug!(connection = ?self.half, %why, "not connected");
                    self.why = why;
                }
                Err(Failure::Taken) => {
                    if self.why != TAKEN {
                        tracing::warn!(production = %shared.options.production, "{TAKEN}");
                    }
                    (self.why, self.since, self.pause) = (TAKEN.into(), Instant::now(), PAUSES.0);
                }
            }
            if self.since.elapsed() >= shared.options.patience {
                return Err(shared.unreachable(self.since, &self.why));
            }
            self.rest(shared).await;
        }
    }

    /// Pauses, twice as long each time, with some jitter so that many workers do not come back at once.
    async fn rest(&mut self, shared: &Shared) {
        let random = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        let left = shared.options.patience.saturating_sub(self.since.elapsed());
        tokio::time::sleep(self.pause.mul_f64(0.5 + random / 2.0).min(left)).await;
        self.pause = (self.pause * 2).min(PAUSES.1);
    }
}

/// What is said of [`Failure::Taken`].
pub(super) const TAKEN: &str = "standing by: another coordinator of this production is at work";

/// Connects once and does what the role asks for.
async fn attempt(shared: &Shared, half: Half, first: bool) -> Result<Session, Failure> {
    let connection = within(shared, "connecting", connect(shared, half)).await.map_err(|failure| match failure {
        // what refuses us later may be a broker that is just starting
        Trouble::Amqp(error) if first && is_refusal(&error) => {
            Failure::Final(shared.refused(cause::of(&error, &shared.options.address)))
        }
        Trouble::Amqp(error) => Failure::Passing(cause::of(&error, &shared.options.address)),
        Trouble::Late(why) => Failure::Passing(why),
    })?;
    let events = Box::pin(connection.events_listener());
    let session = Session { connection, events };
    if let Err(failure) = prepare(shared, half, &session.connection).await {
        hang_up(&session.connection, HANG_UP).await;
        return Err(failure);
    }
    Ok(session)
}

/// Does on a new connection what the role asks for.
async fn prepare(shared: &Shared, half: Half, connection: &Connection) -> Result<(), Failure> {
    match shared.role() {
        Role::Looks => Ok(()),
        Role::Awaits => check(shared, connection).await.map_err(|failure| match failure {
            Failure::Final(absent @ QueueError::Absent { .. }) => Failure::Passing(absent.to_string()),
            failure => failure,
        }),
        Role::Declares => {
            if half == Half::Consuming {
                take_seat(shared, connection).await?;
            }
            declare(shared, connection).await
        }
    }
}

async fn connect(shared: &Shared, half: Half) -> Result<Connection, Error> {
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
    // the encryption is ours, so that a given authority replaces those of the system
    uri.scheme = AMQPScheme::AMQP;
    let purpose = match half {
        Half::Publishing => "publishing",
        Half::Consuming => "consuming",
    };
    let properties = ConnectionProperties::default()
        .with_connection_name(format!("{} ({}, {purpose})", options.name, options.production).into());
    let runtime = lapin::runtime::default_runtime()?;
    let open = async move |uri: lapin::uri::AMQPUri, runtime| {
        let open = async {
            let plain = AMQPUriTcpExt::connect_with_config_async(&uri, TLSConfig::default(), &runtime).await?;
            match &connector {
                Some(connector) => plain.into_rustls(connector, &host).await,
                None => Ok(plain),
            }
        };
        Ok(tokio::time::timeout(deadline, open).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)
    };
    Connection::connector(uri, runtime, open, properties).await
}

/// The address of now: files and programs that give it or its password are asked at each connection.
async fn current(secrets: &Secrets, named: &Address) -> Result<Address, Error> {
    if secrets.is_empty() {
        return Ok(named.clone());
    }
    let (secrets, named) = (secrets.clone(), named.clone());
    let asked = tokio::task::spawn_blocking(move || secrets.address(Some(&named)).map(|found| found.unwrap_or(named)));
    let address = asked.await.map_err(io::Error::other).and_then(|found| found.map_err(io::Error::other));
    Ok(address?)
}

/// Makes exchanges and queues, or finds them as they must be.
pub(super) async fn declare(shared: &Shared, connection: &Connection) -> Result<(), Failure> {
    let options = &shared.options;
    let channel = channel(shared, connection).await?;
    // the dead first: the others name them
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
pub(super) async fn take_seat(shared: &Shared, connection: &Connection) -> Result<(), Failure> {
    let name = ShortString::from(shared.options.production.seat());
    let channel = channel(shared, connection).await?;
    let seat = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let taken = within(
        shared,
        "taking the coordinator's place",
        channel.queue_declare(name.clone(), seat, FieldTable::default()),
    );
    match taken.await {
        Ok(_) => {
            close(shared, &channel).await;
            Ok(())
        }
        Err(Trouble::Amqp(error)) if reply_code(&error) == Some(405) => Err(Failure::Taken),
        Err(trouble) => Err(trouble.about(shared, &name)),
    }
}

/// Whether the queues of recipes and results are there.
pub(super) async fn check(shared: &Shared, connection: &Connection) -> Result<(), Failure> {
    for queue in [Queue::Recipes, Queue::Results] {
        look(shared, connection, queue).await?;
    }
    Ok(())
}

/// What is in a queue.
pub(super) async fn look(shared: &Shared, connection: &Connection, queue: Queue) -> Result<Depth, Failure> {
    let name = ShortString::from(shared.options.production.queue(queue));
    // of its own: an error closes it
    let channel = channel(shared, connection).await?;
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let found =
        within(shared, "looking at a queue", channel.queue_declare(name.clone(), passive, FieldTable::default()))
            .await
            .map_err(|trouble| trouble.about(shared, &name))?;
    close(shared, &channel).await;
    Ok(Depth { messages: found.message_count().into(), consumers: found.consumer_count().into() })
}

pub(super) async fn channel(shared: &Shared, connection: &Connection) -> Result<Channel, Failure> {
    within(shared, "opening a channel", connection.create_channel())
        .await
        .map_err(|trouble| Failure::Passing(trouble.to_string()))
}

async fn close(shared: &Shared, channel: &Channel) {
    // whatever goes wrong here shows at the next use
    let _ = within(shared, "closing a channel", channel.close(200, ShortString::from("OK"))).await;
}

/// What can go wrong with one step.
pub(super) enum Trouble {
    Amqp(Error),
    Late(String),
}

impl Trouble {
    /// Sorts the errors of the broker about a queue.
    pub(super) fn about(self, shared: &Shared, queue: &ShortString) -> Failure {
        let address = || shared.options.address.to_string();
        let error = match self {
            Trouble::Late(why) => return Failure::Passing(why),
            Trouble::Amqp(error) => error,
        };
        match reply_code(&error) {
            Some(403) => Failure::Final(shared.refused(cause::of(&error, &shared.options.address))),
            Some(404) => Failure::Final(QueueError::Absent { address: address(), queue: queue.to_string() }),
            Some(406) => Failure::Final(QueueError::Different { address: address(), why: error.to_string().into() }),
            _ => Failure::Passing(error.to_string()),
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Amqp(error) => error.fmt(f),
            Trouble::Late(why) => f.write_str(why),
        }
    }
}

/// Does one step no longer than the broker may take to answer.
pub(super) async fn within<T>(
    shared: &Shared,
    what: &str,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<T, Trouble> {
    let limit = shared.options.confirm;
    match tokio::time::timeout(limit, step).await {
        Ok(result) => result.map_err(Trouble::Amqp),
        Err(_) => Err(Trouble::Late(format!("{what}: no answer within {} s", limit.as_secs_f32()))),
    }
}

/// The number that the broker gives with an error.
pub(super) fn reply_code(error: &Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// Whether the broker knows us and does not want us (403: user or password, 530: virtual host), or one side does not
/// trust the other's certificate.
fn is_refusal(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::IOError(error) => error.kind() == io::ErrorKind::InvalidData,
        // what answers is no broker, or one that wants TLS
        ErrorKind::ParsingError(_) => true,
        _ => matches!(reply_code(error), Some(403 | 530)),
    }
}

/// Texts among the headers of a message.
pub(super) fn texts(table: &FieldTable) -> impl Iterator<Item = (String, String)> {
    table.inner().iter().filter_map(|(name, value)| match value {
        AMQPValue::LongString(text) => Some((name.to_string(), text.to_string())),
        AMQPValue::ShortString(text) => Some((name.to_string(), text.to_string())),
        _ => None,
    })
}
