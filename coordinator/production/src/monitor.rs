//! Where a session notes how its production stands: for the metrics, and for those who ask for the health of the
//! coordinator.

use super::announcements::AnnouncedWorkers;
use super::ledger::Backlog;
use super::ledger::{RecipeState, now};
use super::ledger_handle::LedgerActivity;
use edp_program::telemetry::emf::EmbeddedMetrics;
use edp_program::telemetry::metrics::metrics;
use edp_queue::Link;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Time that one call to the ledger may take before the coordinator counts as ill. Reading a million recipes takes some
/// seconds, and copying their ledger on a file system of another machine takes longer.
const SLOW: Duration = Duration::from_secs(300);

/// The phase of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionPhase {
    /// It opens the ledger, and compares it with the destination.
    #[default]
    Opening,
    /// It waits for the end of another coordinator that has the ledger.
    Standby,
    /// Recipes are made.
    Driving,
    /// The destination is compared with the recipes.
    Checking,
}

impl fmt::Display for SessionPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SessionPhase::Opening => "compares its ledger with the destination",
            SessionPhase::Standby => "waits for the end of another coordinator",
            SessionPhase::Driving => "has recipes made",
            SessionPhase::Checking => "checks the granules",
        })
    }
}

/// The state of a coordinator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CoordinatorStatus {
    /// Name of the production.
    pub production: String,
    /// Version of the program.
    pub version: String,
    /// Phase of its session.
    pub phase: SessionPhase,
    /// Address of the broker without the password; `None` if there is none, or it is not needed yet.
    pub broker: Option<String>,
    /// The reason why the broker accepts no messages for now.
    pub blocked: Option<String>,
    /// Time at which the ledger was written last.
    pub ledger_written: Option<String>,
    /// Time at which a recipe was settled last, in this session.
    pub last_settled: Option<String>,
    /// Numbers of recipes by state, as of the last measurement.
    pub recipes: BTreeMap<String, u64>,
    /// Number of recipes that are not settled.
    pub remaining: u64,
    /// Time in seconds that one job slot would need for them.
    pub backlog: f64,
    /// Number of announced workers.
    pub workers: usize,
    /// Number of their job slots.
    pub slots: u64,
    /// The problems that keep the coordinator from its work; it is healthy if there are none.
    pub problems: Vec<String>,
}

impl CoordinatorStatus {
    /// Returns true if nothing keeps the coordinator from its work.
    pub fn is_healthy(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for CoordinatorStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CoordinatorStatus { production, phase, recipes, workers, slots, backlog, .. } = self;
        writeln!(f, "production {production}: its coordinator {phase}")?;
        let counts = recipes.iter().filter(|(_, count)| **count > 0);
        let counts: Vec<String> = counts.map(|(state, count)| format!("{count} {}", state.replace('_', " "))).collect();
        if !counts.is_empty() {
            writeln!(f, "recipes: {}", counts.join(", "))?;
        }
        writeln!(f, "workers: {workers} with {slots} slots; {backlog:.0} s of one slot remain")?;
        for (what, time) in [("last settled", &self.last_settled), ("ledger written", &self.ledger_written)] {
            if let Some(time) = time {
                writeln!(f, "{what}: {time}")?;
            }
        }
        if let Some(blocked) = &self.blocked {
            writeln!(f, "the broker accepts no messages: {blocked}")?;
        }
        self.problems.iter().try_for_each(|problem| writeln!(f, "problem: {problem}"))
    }
}

/// The notes of a session. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct ProductionMonitor(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
struct Notes {
    production: String,
    phase: SessionPhase,
    link: Option<Link>,
    ledger: LedgerActivity,
    last_settled: Option<i64>,
    backlog: Option<Backlog>,
    announced: AnnouncedWorkers,
    /// Writes what is measured as lines for CloudWatch.
    embedded: Option<EmbeddedMetrics>,
}

impl ProductionMonitor {
    /// Returns a monitor that also writes what remains in the form of CloudWatch.
    pub fn writing(embedded: Option<EmbeddedMetrics>) -> ProductionMonitor {
        ProductionMonitor(Arc::new(Mutex::new(Notes { embedded, ..Notes::default() })))
    }

    /// Notes the name of the production.
    pub(super) fn named(&self, production: &str) {
        production.clone_into(&mut self.lock().production);
    }

    /// Notes the phase of the session.
    pub(super) fn enters(&self, phase: SessionPhase) {
        self.lock().phase = phase;
    }

    /// Notes the ledger that was opened.
    pub(super) fn opened(&self, ledger: LedgerActivity) {
        self.lock().ledger = ledger;
    }

    /// Notes that recipes are made over this link from now on.
    pub(super) fn drives(&self, link: &Link) {
        let mut notes = self.lock();
        notes.phase = SessionPhase::Driving;
        notes.link = Some(link.clone());
        metrics().begun(&notes.production);
    }

    /// Notes that the link is not used any more.
    pub(super) fn drove(&self) {
        self.lock().link = None;
    }

    /// Notes that a recipe was settled.
    pub(super) fn settled(&self, granule: &str, outcome: &'static str) {
        let mut notes = self.lock();
        notes.last_settled = Some(now());
        metrics().settled(&notes.production, granule, outcome);
    }

    /// Notes the work that remains.
    pub(super) fn measured(&self, backlog: Backlog) {
        let recipes = RecipeState::ALL.map(|state| (state.as_str(), backlog.counts.of(state)));
        let slot_seconds = backlog.slot_seconds;
        let mut notes = self.lock();
        notes.backlog = Some(backlog);
        let (production, slots, embedded) = (notes.production.clone(), notes.announced.slots, notes.embedded.clone());
        drop(notes); // writing to standard error may block
        for (state, count) in recipes {
            metrics().recipes(&production, state, count);
        }
        metrics().backlog(&production, slot_seconds);
        if let Some(embedded) = embedded {
            embedded.write(&production, slot_seconds, slots, recipes);
        }
    }

    /// Notes the workers that take part, and the size of the window.
    pub(super) fn announced(&self, announced: AnnouncedWorkers, window: usize) {
        let mut notes = self.lock();
        metrics().announced(&notes.production, announced.workers, announced.slots);
        metrics().failures(announced.failures);
        metrics().window(&notes.production, window);
        notes.announced = announced;
    }

    /// Returns the state of the coordinator.
    pub fn status(&self) -> CoordinatorStatus {
        let notes = self.lock();
        let counts = notes.backlog.as_ref().map(|backlog| backlog.counts);
        let count = |state: RecipeState| counts.map_or(0, |counts| counts.of(state));
        let recipes = RecipeState::ALL.into_iter().filter(|_| counts.is_some());
        let slow = notes.ledger.busy().filter(|busy| *busy > SLOW);
        let slow = slow.map(|busy| format!("the ledger has not answered for {} s", busy.as_secs()));
        // The broker is not needed for the check of the destination.
        let needed = notes.link.as_ref().filter(|_| notes.phase == SessionPhase::Driving);
        let queue = needed.and_then(Link::problem);
        let time = |at: i64| Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH).to_string();
        CoordinatorStatus {
            production: notes.production.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            phase: notes.phase,
            broker: notes.link.as_ref().and_then(Link::address),
            blocked: notes.link.as_ref().and_then(Link::blocked),
            ledger_written: notes.ledger.written().map(time),
            last_settled: notes.last_settled.map(time),
            recipes: recipes.map(|state| (state.as_str().replace(' ', "_"), count(state))).collect(),
            remaining: RecipeState::ALL.into_iter().filter(|state| !state.is_settled()).map(count).sum(),
            backlog: notes.backlog.as_ref().map_or(0.0, |backlog| backlog.slot_seconds),
            workers: notes.announced.workers,
            slots: notes.announced.slots,
            problems: queue.into_iter().chain(slow).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use edp_queue::{LinkState, Queue, QueueOptions};

    /// Returns the address of a port at which nothing listens, since its listener is closed again.
    fn closed() -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("amqp://guest:guest@{}/", listener.local_addr().unwrap())
    }

    #[tokio::test]
    async fn without_its_broker_a_coordinator_is_ill_while_it_drives() {
        let monitor = ProductionMonitor::default();
        assert!(monitor.status().is_healthy() && monitor.status().phase == SessionPhase::Opening);
        monitor.named("p");
        monitor.enters(SessionPhase::Standby);
        assert!(monitor.status().is_healthy(), "another coordinator has the ledger");
        let link = Link::amqp(QueueOptions::new(closed().parse().unwrap(), "p".parse().unwrap())).unwrap();
        let asking = link.clone();
        tokio::spawn(async move { asking.depth(Queue::Recipes).await });
        let mut state = link.state();
        let down = state.wait_for(|state| matches!(state, LinkState::Down { .. }));
        tokio::time::timeout(Duration::from_secs(60), down).await.unwrap().unwrap();
        monitor.drives(&link);
        let status = monitor.status();
        assert!(!status.is_healthy() && status.problems[0].contains("no connection to amqp://guest@127.0.0.1"));
        assert!(!serde_json::to_string(&status).unwrap().contains("guest:guest"));
        monitor.enters(SessionPhase::Checking);
        assert!(monitor.status().is_healthy(), "the destination is compared without the broker");
        monitor.drove();
        assert_eq!(monitor.status().broker, None);
    }
}
