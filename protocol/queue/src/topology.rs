//! Exchanges and queues of a production on the broker, and the permissions that users need.
//!
//! For each [`Queue`] there is an exchange (fanout) and a queue bound to it. Both are named `edp.<production>.<queue>`,
//! and both are durable. Nothing is published through the broker's default exchange, since permissions could not tell
//! its queues apart.
//!
//! The queues are quorum queues. A message that was delivered [`DELIVERY_LIMIT`] times and never acknowledged is
//! dead-lettered to `edp.<production>.dead`, at least once. `x-consumer-timeout` is always set: RabbitMQ before 3.12
//! stores and ignores it (there `consumer_timeout` in `rabbitmq.conf` counts), and the queues stay the same when the
//! broker is upgraded.
//!
//! There is one coordinator at a time. It holds the exclusive queue `edp.<production>.coordinator`, to which nothing is
//! ever sent, and which the broker removes with the connection that declared it. A second coordinator stands by until
//! then. (A single active consumer on the results would serve the same purpose; but after a broker with RabbitMQ 3.10
//! was killed, no consumer could be added to such a quorum queue any more.)
//!
//! # Permissions
//!
//! The table has the patterns for `rabbitmqctl set_permissions -p VHOST USER CONFIGURE WRITE READ`, here for the
//! production `default`. Dots in the name of a production are written as `\.` too.
//!
//! | user | configure | write | read |
//! |---|---|---|---|
//! | coordinator | `^edp\.default\.(recipes\|results\|dead\|coordinator)$` | the same | the same |
//! | worker | `^$` | `^edp\.default\.results$` | `^edp\.default\.recipes$` |
//!
//! The coordinator needs all three on all of them to declare: binding a queue requires `write` on it and `read` on its
//! exchange, and a dead-letter exchange requires `read` on the queue and `write` on that exchange. A user who publishes
//! recipes by hand needs `write` on `edp.default.recipes`.

use super::Queue;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Number of deliveries after which a message is given up as a dead letter. It is a last resort: the coordinator
/// decides about retries long before.
pub const DELIVERY_LIMIT: u32 = 50;

/// Time that a delivery may stay unacknowledged before the broker takes it back, with the consumer's channel.
pub(crate) const CONSUMER_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Largest number of characters in the name of a production.
pub(crate) const MAX_PRODUCTION: usize = 64;

/// The name of a production: ASCII letters and digits, `-`, `_` and `.`, at most [`MAX_PRODUCTION`] of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProductionName(String);

/// The reason why a text is not the name of a production.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a name of a production: use letters, digits, '-', '_' and '.', at most {MAX_PRODUCTION}", .0.escape_debug())]
pub struct ProductionError(String);

impl FromStr for ProductionName {
    type Err = ProductionError;

    fn from_str(name: &str) -> Result<ProductionName, ProductionError> {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > MAX_PRODUCTION || !name.chars().all(good) {
            return Err(ProductionError(name.chars().take(MAX_PRODUCTION + 1).collect()));
        }
        Ok(ProductionName(name.to_owned()))
    }
}

impl Default for ProductionName {
    fn default() -> ProductionName {
        ProductionName("default".into())
    }
}

impl fmt::Display for ProductionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ProductionName {
    /// Returns the name of a queue on the broker, which is also that of its exchange.
    pub fn queue(&self, queue: Queue) -> String {
        format!("edp.{self}.{queue}")
    }

    /// Returns the name of the queue that only one coordinator at a time can hold.
    pub(crate) fn coordinator_queue(&self) -> String {
        format!("edp.{self}.coordinator")
    }

    /// Returns the arguments with which the queue is declared.
    pub(super) fn arguments(&self, queue: Queue, consumer_timeout: Duration) -> FieldTable {
        let text = |text: &str| AMQPValue::LongString(LongString::from(text));
        let mut arguments = FieldTable::default();
        let mut set = |name: &str, value| {
            arguments.insert(ShortString::from(name), value);
        };
        set("x-queue-type", text("quorum"));
        set("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT as i32));
        let millis = i64::try_from(consumer_timeout.as_millis()).unwrap_or(i64::MAX);
        set("x-consumer-timeout", AMQPValue::LongLongInt(millis));
        if queue != Queue::Dead {
            set("x-dead-letter-exchange", text(&self.queue(Queue::Dead)));
            set("x-dead-letter-strategy", text("at-least-once"));
            // required by at-least-once dead-lettering; without a length limit nothing is ever refused
            set("x-overflow", text("reject-publish"));
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!("v4r4-a_1.b".parse::<ProductionName>().unwrap().queue(Queue::Recipes), "edp.v4r4-a_1.b.recipes");
        assert_eq!(ProductionName::default().queue(Queue::Dead), "edp.default.dead");
        for name in ["", "a b", "a/b", "a*", "größe", "a\n", &"x".repeat(65)] {
            assert!(name.parse::<ProductionName>().is_err(), "{name:?}");
        }
    }
}
