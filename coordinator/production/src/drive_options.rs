//! What the director and its actors are told, and what they report when they end early.

use super::ledger_handle::LedgerHandleError;
use super::monitor::ProductionMonitor;
use edp_program::settings::{RunSettings, TaskGrouping};
use edp_queue::{PublishError, QueueError};
use std::time::Duration;

/// Name of the fact in the ledger that states the build of all granules.
pub(super) const BUILD: &str = "build";

/// Largest number of messages that are written into the ledger together.
pub(super) const BATCH: usize = 256;

/// Interval at which the queue and the leases are checked.
pub(super) const ROUND: Duration = Duration::from_millis(500);

/// Number of recipes in the window for each job slot that workers announce: one that is made, and others that are on
/// their way when it ends.
const FOR_EACH_SLOT: u64 = 4;

/// Largest window that announced job slots give, so that neither a large group of workers nor false announcements fill
/// the broker.
const MOST_FOR_SLOTS: u64 = 20_000;

/// Options of the director.
#[derive(Debug, Clone)]
pub struct DriveOptions {
    /// Name of the production.
    pub production: String,
    /// Number of task messages in the queue and with workers at once, unless there are many job slots: enough to keep
    /// workers busy, few enough for broker and memory.
    pub window: usize,
    /// Time in seconds that making a granule may take.
    pub deadline: u32,
    /// True if workers of several builds may take part.
    pub mixed_builds: bool,
    /// The recipes that travel in one message if they read the same inputs.
    pub group: TaskGrouping,
    /// True if the queues are within this process, and end with it.
    pub local: bool,
    /// Limits on failures, at which the production is given up.
    pub budget: Budget,
    /// True if workers read granules that exist already, and compare them with what is recorded about them.
    pub content: bool,
    /// True if the coordinator checks that a granule exists before it believes a worker's report.
    pub look: bool,
    /// The monitor that receives the state of the production.
    pub monitor: ProductionMonitor,
}

impl DriveOptions {
    /// Returns the size of the window for this number of announced job slots.
    pub(super) fn window(&self, slots: u64) -> usize {
        let for_slots = slots.saturating_mul(FOR_EACH_SLOT).min(MOST_FOR_SLOTS);
        self.window.max(usize::try_from(for_slots).unwrap_or(usize::MAX))
    }
}

/// Limits on failures, above which it is pointless to go on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Largest number of failed recipes; `None` if any number is permitted.
    pub failures: Option<u64>,
    /// Largest share of failed recipes among the settled ones, from 0 to 1.
    pub share: f64,
    /// Number of settled recipes from which on the share counts.
    pub sample: u64,
}

impl From<&RunSettings> for Budget {
    fn from(settings: &RunSettings) -> Budget {
        Budget {
            failures: settings.max_failures,
            share: f64::from(settings.max_failure_share) / 100.0,
            sample: settings.failure_sample,
        }
    }
}

impl Default for Budget {
    fn default() -> Budget {
        Budget::from(&RunSettings::default())
    }
}

impl Budget {
    /// No number of failures ends the production.
    pub const NONE: Budget = Budget { failures: None, share: 1.0, sample: u64::MAX };

    /// Returns the reason why the production is given up, if a limit is exceeded.
    pub(super) fn exceeded(&self, failed: u64, settled: u64) -> Option<String> {
        if let Some(most) = self.failures.filter(|most| failed > *most) {
            return Some(format!("{failed} recipes failed, more than the {most} allowed"));
        }
        if settled >= self.sample && failed as f64 > self.share * settled as f64 {
            let share = self.share * 100.0;
            return Some(format!("{failed} of {settled} recipes failed, more than the {share:.0} % allowed"));
        }
        None
    }
}

/// The reason why driving a production has ended early.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The queue cannot be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A message cannot be sent.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The ledger cannot be used.
    #[error(transparent)]
    LedgerHandle(#[from] LedgerHandleError),
    /// An actor has panicked.
    #[error("part of the coordinator has ended ({0}); please report this")]
    Actor(tokio::task::JoinError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionOptions;

    #[test]
    fn the_window_grows_with_the_announced_slots_up_to_a_limit() {
        let plan = DriveOptions { window: 1000, ..SessionOptions::in_memory(Budget::NONE).plan };
        for (slots, window) in [(0, 1000), (250, 1000), (251, 1004), (5000, 20_000), (u64::MAX, 20_000)] {
            assert_eq!(plan.window(slots), window, "{slots}");
        }
        assert_eq!(DriveOptions { window: 50_000, ..plan }.window(5001), 50_000, "what the user has set");
    }
}
