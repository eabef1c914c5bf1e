//! The queues on a RabbitMQ broker.
//!
//! Two actors, each the owner of one connection: one publishes, the other declares, looks and consumes, since a broker
//! that is short of memory stops reading from connections that publish. Whatever goes wrong with a connection, a
//! channel or a queue is a loss: the actor drops the connection and builds everything on it anew, until the patience is
//! over.

mod attempts;
mod cause;
mod connection;
mod consuming;
mod publishing;
mod tls;

pub use tls::{Tls, TlsError};

use super::engine::Engine;
use super::publisher::Publication;
use super::topology::{CONSUMER_TIMEOUT, ProductionName};
use super::{Address, LinkRequest, LinkState, MAILBOX, Queue, QueueError, SecretError, Secrets};
use crate::settings::QueueSettings;
use connection::Role;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// How to reach a broker, and how long to wait for it.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// Where it is.
    pub address: Address,
    /// Where address and password come from instead, at each connection.
    pub secrets: Secrets,
    /// Whose queues are meant.
    pub production: ProductionName,
    /// What both sides must prove, for `amqps://`.
    pub tls: Tls,
    /// How long a broker, a queue or room in the broker's memory is waited for before it is all given up.
    pub patience: Duration,
    /// A connection on which nothing was heard for that long is lost; whole seconds, at least one. The broker may ask
    /// for less.
    pub heartbeat: Duration,
    /// Time that the broker may take to confirm a message, or to answer anything else.
    pub confirm: Duration,
    /// How long a delivery may stay unacknowledged, where the broker knows `x-consumer-timeout` (3.12 and newer). The
    /// queues are made with it: it must be the same as long as they live.
    pub consumer_timeout: Duration,
    /// What the broker calls the connections.
    pub name: String,
}

impl QueueOptions {
    /// With the usual deadlines: patience 10 min, heartbeat 30 s, confirmations 30 s.
    pub fn new(address: Address, production: ProductionName) -> QueueOptions {
        QueueOptions {
            address,
            secrets: Secrets::default(),
            production,
            tls: Tls::default(),
            patience: Duration::from_secs(600),
            heartbeat: Duration::from_secs(30),
            confirm: Duration::from_secs(30),
            consumer_timeout: CONSUMER_TIMEOUT,
            name: format!("edp {}", env!("CARGO_PKG_VERSION")),
        }
    }
}

/// The reason why settings give no options.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// No address.
    #[error("no queue is named: give --queue, set url or url_file in section queue of the settings, or EDP_QUEUE__URL")]
    NoAddress,
    /// Two settings say the same.
    #[error("queue.{} and queue.{} are both set: keep one", .0[0], .0[1])]
    Twice([&'static str; 2]),
    /// A file of the address or the password cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A time is zero.
    #[error("queue.{key} is 0: at least 1 s is needed")]
    Zero {
        /// Its key.
        key: &'static str,
    },
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl QueueOptions {
    /// What the settings say, with the usual deadlines where they say nothing. Reads the certificates.
    ///
    /// # Errors
    /// There is no address, a time is zero, or a certificate cannot be used.
    pub fn from_settings(settings: &QueueSettings, production: ProductionName) -> Result<QueueOptions, OptionsError> {
        let secrets = settings.secrets();
        for (one, both) in [
            (["url", "url_file"], settings.url.is_some() && settings.url_file.is_some()),
            (
                ["password_file", "password_command"],
                settings.password_file.is_some() && settings.password_command.is_some(),
            ),
        ] {
            if both {
                return Err(OptionsError::Twice(one));
            }
        }
        // Files that cannot be read now are a mistake; later they may just be being written.
        let address = secrets.address_from_files(settings.url.as_ref())?.ok_or(OptionsError::NoAddress)?;
        let mut options = QueueOptions { secrets, ..QueueOptions::new(address, production) };
        let heartbeat = settings.heartbeat.map(u32::from);
        for (key, value, option) in [
            ("patience", settings.patience, &mut options.patience),
            ("heartbeat", heartbeat, &mut options.heartbeat),
            ("confirm", settings.confirm, &mut options.confirm),
        ] {
            match value {
                Some(0) => return Err(OptionsError::Zero { key }),
                Some(seconds) => *option = Duration::from_secs(seconds.into()),
                None => {}
            }
        }
        let QueueSettings { ca, certificate, key, .. } = settings;
        options.tls = Tls::read(ca.as_deref(), certificate.as_deref(), key.as_deref())?;
        Ok(options)
    }
}

/// The link's handle on its actors.
#[derive(Clone)]
pub(super) struct AmqpHandle {
    outbox: mpsc::Sender<Publication>,
    shared: Arc<AmqpShared>,
}

impl AmqpHandle {
    pub(super) fn outbox(&self) -> mpsc::Sender<Publication> {
        self.outbox.clone()
    }

    /// Name of a queue on the broker.
    pub(super) fn queue(&self, queue: Queue) -> String {
        self.shared.options.production.queue(queue)
    }

    pub(super) fn declares(&self) {
        self.shared.set_role(Role::Declares);
    }

    pub(super) fn awaits(&self) {
        self.shared.set_role(Role::Awaits);
    }

    /// See [`super::Link::renewals`].
    pub(super) fn renewals(&self) -> u64 {
        *self.shared.renewals.borrow()
    }

    /// See [`super::Link::patience`].
    pub(super) fn patience(&self) -> Duration {
        self.shared.options.patience
    }

    /// The broker, without password.
    pub(super) fn address(&self) -> String {
        self.shared.options.address.to_string()
    }

    /// See [`super::Link::given_up`].
    pub(super) fn unreachable(&self, since: Instant, why: &str) -> QueueError {
        self.shared.unreachable(since, why)
    }

    /// The error of a call with a deadline of its own.
    pub(super) fn late(&self, since: Instant, state: &LinkState) -> QueueError {
        match state {
            LinkState::Failed(error) => error.clone(),
            LinkState::Down { why, .. } | LinkState::Blocked { why, .. } => self.shared.unreachable(since, why),
            LinkState::Up => self.shared.unreachable(since, "no answer"),
        }
    }

    /// Ends the publishing actor, and waits for it.
    pub(super) async fn closed(&self) {
        self.shared.over.send_replace(true);
        self.outbox.closed().await;
    }
}

/// Starts the actors; gives what the link keeps, the mailbox of the consuming actor, and the state of both.
pub(super) fn start(
    engine: &Engine,
    options: QueueOptions,
) -> (AmqpHandle, mpsc::Sender<LinkRequest>, watch::Receiver<LinkState>) {
    let (requests, asked) = mpsc::channel(MAILBOX);
    let (outbox, publications) = mpsc::channel(MAILBOX);
    let (state, states) = watch::channel(LinkState::Up);
    let shared = Arc::new(AmqpShared {
        options,
        role: Mutex::new(Role::Looks),
        halves: Mutex::new([LinkState::Up, LinkState::Up]),
        state,
        over: watch::Sender::new(false),
        abandoned: Mutex::new(None),
        silent: Default::default(),
        renewals: watch::Sender::new(0),
    });
    engine.spawn(consuming::run(shared.clone(), asked));
    engine.spawn(publishing::run(shared.clone(), publications));
    (AmqpHandle { outbox, shared }, requests, states)
}

/// State shared by both actors.
struct AmqpShared {
    options: QueueOptions,
    role: Mutex<Role>,
    /// State of each connection.
    halves: Mutex<[LinkState; 2]>,
    /// The worse of both.
    state: watch::Sender<LinkState>,
    /// True once the link is closed or has failed: the signal for both actors to end.
    over: watch::Sender<bool>,
    /// When the last connection that had the coordinator's place was given up without an answer of the broker.
    abandoned: Mutex<Option<Instant>>,
    /// How often in a row each queue did not serve although the broker says that it is there.
    silent: [AtomicU32; Queue::ALL.len()],
    /// How often queues were made anew that did not serve: what they held is lost.
    renewals: watch::Sender<u64>,
}

/// A queue that did not serve so often in a row is dead.
const SILENT_UNTIL_DEAD: u32 = 2;

/// Heartbeats after which a broker has certainly ended a connection of which it hears nothing.
const HEARTBEATS: u32 = 3;

/// One of the two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Publishing,
    Consuming,
}

impl AmqpShared {
    fn role(&self) -> Role {
        *self.role.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_role(&self, role: Role) {
        *self.role.lock().unwrap_or_else(PoisonError::into_inner) = role;
    }

    fn report(&self, direction: Direction, state: LinkState) {
        let worst = {
            let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
            halves[direction as usize] = state;
            let rank = |state: &LinkState| match state {
                LinkState::Up => 0,
                LinkState::Blocked { .. } => 1,
                LinkState::Down { .. } => 2,
                LinkState::Failed(_) => 3,
            };
            let [one, other] = &*halves;
            if rank(one) >= rank(other) { one.clone() } else { other.clone() }
        };
        self.state.send_replace(worst);
    }

    /// Ends both actors with an error, before their mailboxes close.
    fn fail(&self, direction: Direction, error: QueueError) {
        tracing::error!(%error, "the queues are given up");
        self.report(direction, LinkState::Failed(error));
        self.over.send_replace(true);
    }

    /// The connection that had the coordinator's place was given up, and the broker has not said that it has ended it.
    fn abandoned(&self) {
        *self.abandoned.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether the coordinator's place may still be that of an own connection, which the broker has not yet ended.
    fn may_be_own(&self) -> bool {
        let limit = (self.options.heartbeat * HEARTBEATS).min(self.options.patience / 2);
        let abandoned = self.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        abandoned.is_some_and(|abandoned| abandoned.elapsed() < limit)
    }

    /// A queue that the broker has did not serve.
    fn suspect(&self, queue: Queue) {
        self.silent[queue as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A queue serves.
    fn trust(&self, queue: Queue) {
        self.silent[queue as usize].store(0, Ordering::Relaxed);
    }

    /// Whether a queue has not served for so often that it never will.
    fn is_dead(&self, queue: Queue) -> bool {
        self.silent[queue as usize].load(Ordering::Relaxed) >= SILENT_UNTIL_DEAD
    }

    /// The queues that do not serve were looked at, and deleted if that is true.
    fn revived(&self, deleted: bool) {
        Queue::ALL.into_iter().for_each(|queue| self.trust(queue));
        self.renewals.send_modify(|renewals| *renewals += u64::from(deleted));
    }

    /// Time that a queue may take to begin to serve, which includes the election of its leader. Two such waits leave
    /// most of the patience for what is done about it.
    fn serving(&self) -> Duration {
        self.options.confirm.min((self.options.patience / 6).max(Duration::from_secs(2)))
    }

    async fn over(&self) {
        let mut over = self.over.subscribe();
        let _ = over.wait_for(|over| *over).await;
    }

    fn unreachable(&self, since: Instant, why: &str) -> QueueError {
        QueueError::Unreachable { address: self.options.address.to_string(), after: since.elapsed(), why: why.into() }
    }

    fn refused(&self, why: impl ToString) -> QueueError {
        QueueError::Refused { address: self.options.address.to_string(), why: why.to_string().into() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn settings_make_options() {
        let settings = |url: &str| QueueSettings { url: url.parse().ok(), patience: Some(5), ..Default::default() };
        let options = QueueOptions::from_settings(&settings("amqp://h"), ProductionName::default()).unwrap();
        assert_eq!((options.patience, options.confirm), (Duration::from_secs(5), Duration::from_secs(30)));
        let none = QueueOptions::from_settings(&settings(""), ProductionName::default());
        assert!(matches!(none, Err(OptionsError::NoAddress)));
        let zero = QueueSettings { heartbeat: Some(0), ..settings("amqp://h") };
        let error = QueueOptions::from_settings(&zero, ProductionName::default()).unwrap_err().to_string();
        assert!(error.contains("queue.heartbeat"), "{error}");
    }
}
