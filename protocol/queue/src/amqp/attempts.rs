//! The attempts of one actor to be connected: pauses, patience, and what is said meanwhile.

use super::connection::{AmqpSession, ConnectFailure, attempt};
use super::{AmqpShared, Direction, QueueOptions};
use crate::{LinkState, QueueError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

/// First and longest pause between attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// An outage is spoken of when it has lasted for so long.
const SILENCE: Duration = Duration::from_secs(3);

/// Longest pause of a standby between two looks at the place of the coordinator.
const STANDBY: Duration = Duration::from_secs(2);

/// How long a connection must have lasted for the next loss to be a new one, with short pauses again.
const STEADY: Duration = Duration::from_secs(10);

/// What is said of [`ConnectFailure::Taken`].
pub(super) const TAKEN: &str = "standing by: another coordinator of this production is at work";

/// The attempts of one actor to be connected.
pub(super) struct Attempts {
    direction: Direction,
    /// When something was last achieved: the patience counts from here.
    since: Instant,
    /// Whether the broker was reached again after an outage, but nothing achieved since. That counts once as progress:
    /// a broker that takes connections and serves nothing must not be waited for without end.
    reached: bool,
    pause: Duration,
    /// When the last connection was up.
    up: Option<Instant>,
    /// The last error.
    why: String,
    /// Whether it was said that the broker does not answer.
    said: bool,
}

impl Attempts {
    pub(super) fn new(direction: Direction) -> Attempts {
        let why = "not connected yet".into();
        Attempts { direction, since: Instant::now(), reached: false, pause: PAUSES.0, up: None, why, said: false }
    }

    /// The connection is lost; `of_use` says whether anything was achieved with it.
    pub(super) fn lost(&mut self, shared: &AmqpShared, why: String, of_use: bool) {
        tracing::warn!(connection = ?self.direction, %why, "connection to the queues lost, building it anew");
        if of_use {
            (self.since, self.reached) = (Instant::now(), false);
            if self.up.is_some_and(|up| up.elapsed() > STEADY) {
                self.pause = PAUSES.0;
            }
        }
        self.why = why;
        shared.report(self.direction, LinkState::Down { since: self.since, why: self.why.clone() });
    }

    /// Connects and does what the role asks for, again and again, until it succeeds or the patience is over.
    ///
    /// # Errors
    /// The reason why it makes no sense to go on.
    pub(super) async fn connect(&mut self, shared: &AmqpShared) -> Result<AmqpSession, QueueError> {
        if self.up.is_none() {
            self.since = Instant::now();
        } else {
            self.is_in_time(shared)?;
            self.rest(shared, PAUSES.1).await;
        }
        loop {
            shared.report(self.direction, LinkState::Down { since: self.since, why: self.why.clone() });
            let mut longest = PAUSES.1;
            let attempted = {
                let attempt = attempt(shared, self.direction, self.up.is_none());
                tokio::pin!(attempt);
                loop {
                    let silence = SILENCE.saturating_sub(self.since.elapsed());
                    tokio::select! {
                        attempted = &mut attempt => break attempted,
                        () = tokio::time::sleep(silence), if !self.said => self.say(shared),
                    }
                }
            };
            match attempted {
                Ok(session) => {
                    tracing::info!(connection = ?self.direction, address = %shared.options.address, "connected");
                    if std::mem::take(&mut self.said) {
                        tracing::warn!(address = %shared.options.address, "the broker answers");
                    }
                    self.up = Some(Instant::now());
                    if !std::mem::replace(&mut self.reached, true) {
                        // What is wrong with a broker that answers again is found out soon.
                        (self.since, self.pause) = (Instant::now(), PAUSES.0);
                    }
                    shared.report(self.direction, LinkState::Up);
                    return Ok(session);
                }
                Err(ConnectFailure::Final(error)) => return Err(error),
                Err(ConnectFailure::Passing(why)) => {
                    tracing::debug!(connection = ?self.direction, %why, "not connected");
                    self.why = why;
                    if !self.said && self.since.elapsed() >= SILENCE {
                        self.say(shared);
                    }
                }
                Err(ConnectFailure::Taken) => {
                    if self.why != TAKEN {
                        tracing::warn!(production = %shared.options.production, "{TAKEN}");
                    }
                    (self.why, self.since, self.reached) = (TAKEN.into(), Instant::now(), false);
                    (longest, self.pause) = (STANDBY, self.pause.min(STANDBY));
                }
            }
            self.is_in_time(shared)?;
            self.rest(shared, longest).await;
        }
    }

    /// Says that the broker does not answer, and for how long it will be tried. Once in an outage, and by one of both
    /// connections.
    fn say(&mut self, shared: &AmqpShared) {
        self.said = true;
        if self.direction == Direction::Consuming && self.why != TAKEN {
            let left = shared.options.patience.saturating_sub(self.since.elapsed()).as_secs();
            let QueueOptions { address, .. } = &shared.options;
            tracing::warn!(%address, why = %self.why, "the broker does not answer; trying for {left} s (queue.patience)");
        }
    }

    fn is_in_time(&self, shared: &AmqpShared) -> Result<(), QueueError> {
        if self.since.elapsed() >= shared.options.patience {
            return Err(shared.unreachable(self.since, &self.why));
        }
        Ok(())
    }

    /// Pauses, twice as long each time, with some jitter so that many workers do not come back at once.
    async fn rest(&mut self, shared: &AmqpShared, longest: Duration) {
        let random = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        let left = shared.options.patience.saturating_sub(self.since.elapsed());
        tokio::time::sleep(self.pause.mul_f64(0.5 + random / 2.0).min(left)).await;
        self.pause = (self.pause * 2).min(longest);
    }
}
