//! The queues on a RabbitMQ broker.
//!
//! There are two actors with one connection each: one publishes, the other declares, inspects and consumes, since a
//! broker that is short of memory stops reading from connections that publish. Every failure of a connection, a channel
//! or a queue is handled in the same way: the actor drops the connection and builds everything up again on a new one,
//! until the patience is over.

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
use tokio_util::sync::CancellationToken;

/// Options for reaching a broker, with the deadlines.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// Address of the broker.
    pub address: Address,
    /// Files and programs that give the address or the password instead, at each connection.
    pub secrets: Secrets,
    /// Name of the production whose queues are used.
    pub production: ProductionName,
    /// Certificates for URLs with `amqps://`.
    pub tls: Tls,
    /// Longest time without progress while a broker, a queue or free memory of the broker is waited for. Then the link
    /// fails.
    pub patience: Duration,
    /// Time after which a connection without any traffic counts as lost, in whole seconds, at least one. The broker may
    /// ask for a shorter one.
    pub heartbeat: Duration,
    /// Time that the broker may take to confirm a message, or to answer any other request.
    pub confirm: Duration,
    /// Time that a delivery may stay unacknowledged, for brokers that know `x-consumer-timeout` (3.12 and newer). The
    /// queues are declared with it, so it must stay the same for as long as they exist.
    pub consumer_timeout: Duration,
    /// Name of the connections, as the broker displays it.
    pub name: String,
}

impl QueueOptions {
    /// Returns options with the default deadlines of the settings.
    pub fn new(address: Address, production: ProductionName) -> QueueOptions {
        let QueueSettings { patience, heartbeat, confirm, .. } = QueueSettings::default();
        QueueOptions {
            address,
            secrets: Secrets::default(),
            production,
            tls: Tls::default(),
            patience: Duration::from_secs(patience.into()),
            heartbeat: Duration::from_secs(heartbeat.into()),
            confirm: Duration::from_secs(confirm.into()),
            consumer_timeout: CONSUMER_TIMEOUT,
            name: format!("edp {}", env!("CARGO_PKG_VERSION")),
        }
    }
}

/// The reason why settings do not give valid options.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// There is no address of the broker.
    #[error("no queue is named: give --queue, set url or url_file in section queue of the settings, or EDP_QUEUE__URL")]
    NoAddress,
    /// Two settings exclude each other; their keys.
    #[error("queue.{} and queue.{} are both set: keep one", .0[0], .0[1])]
    Twice([&'static str; 2]),
    /// A file with the address or the password cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A duration is zero.
    #[error("queue.{key} is 0: at least 1 s is needed")]
    Zero {
        /// Key of the setting.
        key: &'static str,
    },
    /// A certificate or a key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl QueueOptions {
    /// Makes options of the settings, with the usual deadlines where a setting is absent. Reads the certificates.
    ///
    /// # Errors
    /// Returns an error if there is no address, a duration is zero, or a certificate cannot be used.
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
        // A file that cannot be read now is a mistake. Later it may be in the course of being replaced.
        let address = secrets.address_from_files(settings.url.as_ref())?.ok_or(OptionsError::NoAddress)?;
        let mut options = QueueOptions { secrets, ..QueueOptions::new(address, production) };
        for (key, seconds, option) in [
            ("patience", settings.patience, &mut options.patience),
            ("heartbeat", settings.heartbeat.into(), &mut options.heartbeat),
            ("confirm", settings.confirm, &mut options.confirm),
        ] {
            match seconds {
                0 => return Err(OptionsError::Zero { key }),
                _ => *option = Duration::from_secs(seconds.into()),
            }
        }
        let QueueSettings { ca, certificate, key, .. } = settings;
        options.tls = Tls::read(ca.as_deref(), certificate.as_deref(), key.as_deref())?;
        Ok(options)
    }
}

/// The handle of a link on its actors.
#[derive(Clone)]
pub(super) struct AmqpHandle {
    outbox: mpsc::Sender<Publication>,
    shared: Arc<AmqpShared>,
}

impl AmqpHandle {
    pub(super) fn outbox(&self) -> mpsc::Sender<Publication> {
        self.outbox.clone()
    }

    /// Returns the name of a queue on the broker.
    pub(super) fn queue(&self, queue: Queue) -> String {
        self.shared.options.production.queue(queue)
    }

    pub(super) fn declares(&self) {
        self.shared.set_role(Role::Declares);
    }

    pub(super) fn awaits(&self) {
        self.shared.set_role(Role::Awaits);
    }

    /// Returns the number described at [`super::Link::renewals`].
    pub(super) fn renewals(&self) -> u64 {
        *self.shared.renewals.borrow()
    }

    /// Returns the duration described at [`super::Link::patience`].
    pub(super) fn patience(&self) -> Duration {
        self.shared.options.patience
    }

    /// Returns the broker's address without the password.
    pub(super) fn address(&self) -> String {
        self.shared.options.address.to_string()
    }

    /// Returns the error described at [`super::Link::given_up`].
    pub(super) fn unreachable(&self, since: Instant, why: &str) -> QueueError {
        self.shared.unreachable(since, why)
    }

    /// Returns the error of a call that has missed its own deadline.
    pub(super) fn late(&self, since: Instant, state: &LinkState) -> QueueError {
        match state {
            LinkState::Failed(error) => error.clone(),
            LinkState::Down { why, .. } | LinkState::Blocked { why, .. } => self.shared.unreachable(since, why),
            LinkState::Up => self.shared.unreachable(since, "no answer"),
        }
    }

    /// Ends the publishing actor, and waits for that.
    pub(super) async fn closed(&self) {
        self.shared.over.cancel();
        self.outbox.closed().await;
    }
}

/// Starts the actors. Returns their handle, the mailbox of the consuming actor, and the state of the link.
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
        over: CancellationToken::new(),
        abandoned: Mutex::new(None),
        silent: Default::default(),
        renewals: watch::Sender::new(0),
    });
    engine.spawn(consuming::run(shared.clone(), asked));
    engine.spawn(publishing::run(shared.clone(), publications));
    (AmqpHandle { outbox, shared }, requests, states)
}

/// State that both actors share.
struct AmqpShared {
    options: QueueOptions,
    role: Mutex<Role>,
    /// The states of the two connections, indexed by [`Direction`].
    halves: Mutex<[LinkState; 2]>,
    /// The worse of the two states.
    state: watch::Sender<LinkState>,
    /// Cancelled when the link is closed or has failed, which tells both actors to end.
    over: CancellationToken,
    /// Time at which the last connection that had the coordinator's place was given up without an answer from the
    /// broker.
    abandoned: Mutex<Option<Instant>>,
    /// For each queue, the number of consecutive times that it did not serve although the broker says that it exists.
    silent: [AtomicU32; Queue::ALL.len()],
    /// Number of times that queues which did not serve were declared again. Their messages are lost.
    renewals: watch::Sender<u64>,
}

/// A queue that did not serve so many times in a row never will.
const SILENT_UNTIL_DEAD: u32 = 2;

/// Number of heartbeat intervals after which a broker has certainly ended a connection from which it hears nothing.
const HEARTBEATS: u32 = 3;

/// The purpose of a connection.
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
        self.over.cancel();
    }

    /// Records that the connection with the coordinator's place was given up, while the broker has not said that it has
    /// ended it.
    fn abandoned(&self) {
        *self.abandoned.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Returns true if the coordinator's place may still belong to an earlier connection of this program, which the
    /// broker has not ended yet.
    fn may_be_own(&self) -> bool {
        let limit = (self.options.heartbeat * HEARTBEATS).min(self.options.patience / 2);
        let abandoned = self.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        abandoned.is_some_and(|abandoned| abandoned.elapsed() < limit)
    }

    /// Records that a queue which exists did not serve.
    fn suspect(&self, queue: Queue) {
        self.silent[queue as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Records that a queue serves.
    fn trust(&self, queue: Queue) {
        self.silent[queue as usize].store(0, Ordering::Relaxed);
    }

    /// Returns true if a queue has failed to serve so often that it never will.
    fn is_dead(&self, queue: Queue) -> bool {
        self.silent[queue as usize].load(Ordering::Relaxed) >= SILENT_UNTIL_DEAD
    }

    /// Records that queues which do not serve were inspected, and whether they were deleted.
    fn revived(&self, deleted: bool) {
        Queue::ALL.into_iter().for_each(|queue| self.trust(queue));
        self.renewals.send_modify(|renewals| *renewals += u64::from(deleted));
    }

    /// Time that a queue may take to begin to serve, including the election of its leader. Two such waits leave most of
    /// the patience for the remedy.
    fn serving(&self) -> Duration {
        self.options.confirm.min((self.options.patience / 6).max(Duration::from_secs(2)))
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
        let settings = |url: &str| QueueSettings { url: url.parse().ok(), patience: 5, ..Default::default() };
        let options = QueueOptions::from_settings(&settings("amqp://h"), ProductionName::default()).unwrap();
        assert_eq!((options.patience, options.confirm), (Duration::from_secs(5), Duration::from_secs(30)));
        let none = QueueOptions::from_settings(&settings(""), ProductionName::default());
        assert!(matches!(none, Err(OptionsError::NoAddress)));
        let zero = QueueSettings { heartbeat: 0, ..settings("amqp://h") };
        let error = QueueOptions::from_settings(&zero, ProductionName::default()).unwrap_err().to_string();
        assert!(error.contains("queue.heartbeat"), "{error}");
    }
}
