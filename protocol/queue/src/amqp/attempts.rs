//! Attempts of one actor to connect: pauses between them, the patience, and messages meanwhile.

use super::connection::{AmqpSession, ConnectFailure, attempt};
use super::{AmqpShared, Direction, QueueOptions};
use crate::{LinkState, QueueError};
use std::time::{Duration, Instant};

/// First and longest pause between two attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Duration of an outage after which it is reported.
const SILENCE: Duration = Duration::from_secs(3);

/// Longest pause of a standby between two attempts to take the coordinator's place.
const STANDBY: Duration = Duration::from_secs(2);

/// Duration of a connection after which its loss counts as a new outage, with short pauses again.
const STEADY: Duration = Duration::from_secs(10);

/// The message for [`ConnectFailure::Taken`].
pub(super) const TAKEN: &str = "standing by: another coordinator of this production is at work";

/// The attempts of one actor to connect, and their history.
pub(super) struct Attempts {
    direction: Direction,
    /// Time of the last progress, from which the patience is counted.
    since: Instant,
    /// True if the broker was reached again after an outage, but nothing was achieved since. Reaching it counts as
    /// progress only once: a broker that accepts connections and does nothing else must not be waited for without end.
    reached: bool,
    pause: Duration,
    /// Time at which the last connection was established.
    up: Option<Instant>,
    /// Text of the last error.
    why: String,
    /// True once it was reported that the broker does not answer.
    said: bool,
}

impl Attempts {
    pub(super) fn new(direction: Direction) -> Attempts {
        let why = "not connected yet".into();
        Attempts { direction, since: Instant::now(), reached: false, pause: PAUSES.0, up: None, why, said: false }
    }

    /// Records that the connection is lost; `of_use` tells whether it had achieved anything.
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

    /// Connects and does what the role asks for, again and again, until that succeeds or the patience is over.
    ///
    /// # Errors
    /// Returns the error that makes further attempts pointless.
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
                        // An error of a broker that answers again shows soon, so the next pause is short.
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

    /// Reports that the broker does not answer, and for how long it will be tried: once in an outage, and by one of the
    /// two connections.
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

    /// Pauses, twice as long each time, with a random part so that many workers do not come back at once.
    async fn rest(&mut self, shared: &AmqpShared, longest: Duration) {
        let left = shared.options.patience.saturating_sub(self.since.elapsed());
        tokio::time::sleep(self.pause.mul_f64(0.5 + fastrand::f64() / 2.0).min(left)).await;
        self.pause = (self.pause * 2).min(longest);
    }
}
