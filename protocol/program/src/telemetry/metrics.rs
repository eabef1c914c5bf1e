//! The metrics of the programs. Each is described once ([`METRICS`]): its instrument is made from there, and so is its row
//! in `doc/metrics.md`. The instruments measure whether or not a collector is there.

use super::prometheus;
use edp_protocol::name::{self, base_name};
use edp_protocol::wire::Done;
use edp_queue::{DeadLetterReason, Link, LinkState, QueueDepth};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// The kind of an instrument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Adds up events, from the start of the program.
    Counter,
    /// Has the last state.
    Gauge,
    /// Counts values by their sizes.
    Histogram,
}

/// A metric, as the instrument and the reference page have it.
#[derive(Debug, Clone, Copy)]
pub struct MetricDescription {
    /// Name in OpenTelemetry.
    pub name: &'static str,
    /// Kind of its instrument.
    pub kind: MetricKind,
    /// Unit in UCUM; in braces what is counted.
    pub unit: &'static str,
    /// Names of the attributes of each value.
    pub attributes: &'static [&'static str],
    /// The programs that measure it.
    pub programs: &'static str,
    /// Meaning of its value.
    pub meaning: &'static str,
}

pub(super) const PRODUCTION: &str = "edp.production";
pub(super) const STATE: &str = "edp.state";
const DATASET: &str = "edp.dataset";
const OUTCOME: &str = "edp.outcome";
const REASON: &str = "edp.reason";
const STAGE: &str = "edp.stage";
const QUEUE: &str = "messaging.destination.name";
/// Attribute for the direction of bytes.
const DIRECTION: &str = "edp.io.direction";

const COORDINATOR: &str = "coordinator";
const WORKER: &str = "worker";
const BOTH: &str = "both";

/// Declares a constant for each metric, and the list of all of them.
macro_rules! described {
    ($($id:ident: $kind:ident $name:literal $unit:literal [$($attribute:expr),*] $programs:expr, $meaning:literal;)*) => {
        $(pub(super) const $id: MetricDescription = MetricDescription {
            name: $name,
            kind: MetricKind::$kind,
            unit: $unit,
            attributes: &[$($attribute),*],
            programs: $programs,
            meaning: $meaning,
        };)*

        /// All metrics of the programs.
        pub const METRICS: &[MetricDescription] = &[$($id),*];
    };
}

described! {
    RECIPES: Gauge "edp.recipes" "{recipe}" [PRODUCTION, STATE] COORDINATOR,
        "Recipes of the production, by state: `waiting`, `under way`, `done`, `held`, `failed` or `conflict`.";
    BACKLOG: Gauge "edp.backlog" "s" [PRODUCTION] COORDINATOR,
        "Time that one job slot would need for all recipes that remain.";
    LAST_SETTLED: Gauge "edp.last_settled.timestamp" "s" [PRODUCTION] COORDINATOR,
        "Time at which a recipe was settled last, in seconds since 1970; before the first, that of the coordinator's start.";
    GRANULES: Counter "edp.granules" "{granule}" [DATASET, OUTCOME] COORDINATOR,
        "Granules that are settled, by dataset and outcome: `made`, `present`, `older`, `held`, `failed` or `conflict`.";
    RETRIES: Counter "edp.retries" "{attempt}" [] COORDINATOR,
        "Attempts after the first.";
    WINDOW: Gauge "edp.window" "{recipe}" [PRODUCTION] COORDINATOR,
        "Largest number of recipes in the queue and with workers at one time, as it is now.";
    ANNOUNCED_WORKERS: Gauge "edp.announced.workers" "{worker}" [PRODUCTION] COORDINATOR,
        "Workers that have reported within the time of a lease.";
    ANNOUNCED_SLOTS: Gauge "edp.announced.slots" "{slot}" [PRODUCTION] COORDINATOR,
        "Job slots that these workers state.";
    FAILURES: Gauge "edp.failures.consecutive" "{attempt}" [] BOTH,
        "Attempts in a row that have failed at this worker; of the coordinator, the largest such number of an announced worker.";
    DEAD_LETTERS: Counter "edp.dead_letters" "{message}" [REASON] COORDINATOR,
        "Messages that the broker took out of their queues: `delivery limit`, `expired` or `length`.";
    LEDGER_COPIED: Gauge "edp.ledger.copied.timestamp" "s" [PRODUCTION] COORDINATOR,
        "Time at which the ledger was copied to the destination last, in seconds since 1970; before the first copy, that of \
         the coordinator's start. Missing if no copies are made.";
    DEPTH: Gauge "edp.queue.depth" "{message}" [QUEUE] COORDINATOR,
        "Messages that wait in the queue of task messages.";
    CONSUMERS: Gauge "edp.queue.consumers" "{consumer}" [QUEUE] COORDINATOR,
        "Workers that are connected to the queue of task messages, as the broker counts them.";
    CONNECTED: Gauge "edp.broker.connected" "{connection}" [] BOTH,
        "1 while the program is connected to its broker, otherwise 0. Missing if there is no broker.";
    BLOCKED: Gauge "edp.broker.blocked" "{connection}" [] BOTH,
        "1 while the broker accepts no messages for lack of memory or disk space (its alarm), otherwise 0.";
    REFUSED: Counter "edp.messages.refused" "{message}" [REASON] BOTH,
        "Messages that mean nothing to this production, by reason.";
    SLOTS: Gauge "edp.slots" "{slot}" [] WORKER,
        "Job slots of the worker.";
    BUSY: Gauge "edp.slots.busy" "{slot}" [] WORKER,
        "Job slots that make a granule.";
    IO: Counter "edp.io" "By" [DATASET, DIRECTION] WORKER,
        "Bytes of inputs read (`read`) and of granules written (`write`).";
    STAGES: Histogram "edp.stage.duration" "s" [DATASET, STAGE] WORKER,
        "Durations of the stages of a granule, summed over threads.";
}

impl MetricDescription {
    /// Returns the name in the text format of Prometheus.
    pub fn prometheus_name(&self) -> String {
        prometheus::metric_name(self.name, self.unit, self.kind == MetricKind::Counter)
    }

    /// Returns the names of its labels in the text format of Prometheus.
    pub fn labels(&self) -> impl Iterator<Item = String> {
        self.attributes.iter().map(|name| prometheus::label(name))
    }

    fn counter(&self, meter: &Meter) -> Counter<u64> {
        meter.u64_counter(self.name).with_unit(self.unit).with_description(self.meaning).build()
    }

    fn gauge(&self, meter: &Meter) -> Gauge<u64> {
        meter.u64_gauge(self.name).with_unit(self.unit).with_description(self.meaning).build()
    }

    fn seconds(&self, meter: &Meter) -> Gauge<f64> {
        meter.f64_gauge(self.name).with_unit(self.unit).with_description(self.meaning).build()
    }

    /// Makes a gauge of 0 or 1 that is asked for its value when it is read.
    fn condition(&self, meter: &Meter, is_so: impl Fn() -> bool + Send + Sync + 'static) {
        let instrument = meter.u64_observable_gauge(self.name).with_unit(self.unit).with_description(self.meaning);
        instrument.with_callback(move |observer| observer.observe(is_so().into(), &[])).build();
    }
}

/// All instruments of a program. Counters add up events; gauges have the last state.
#[derive(Debug)]
pub struct Metrics {
    meter: Meter,
    granules: Counter<u64>,
    retries: Counter<u64>,
    refused: Counter<u64>,
    dead_letters: Counter<u64>,
    io: Counter<u64>,
    stages: Histogram<f64>,
    depth: Gauge<u64>,
    consumers: Gauge<u64>,
    recipes: Gauge<u64>,
    backlog: Gauge<f64>,
    last_settled: Gauge<f64>,
    ledger_copied: Gauge<f64>,
    window: Gauge<u64>,
    announced_workers: Gauge<u64>,
    announced_slots: Gauge<u64>,
    failures: Gauge<u64>,
    busy: Gauge<u64>,
    slots: Gauge<u64>,
}

static INSTRUMENTS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = opentelemetry::global::meter("edp");
    let stages = meter.f64_histogram(STAGES.name).with_unit(STAGES.unit).with_description(STAGES.meaning);
    let bounds = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];
    Metrics {
        granules: GRANULES.counter(&meter),
        retries: RETRIES.counter(&meter),
        refused: REFUSED.counter(&meter),
        dead_letters: DEAD_LETTERS.counter(&meter),
        io: IO.counter(&meter),
        stages: stages.with_boundaries(bounds.into()).build(),
        depth: DEPTH.gauge(&meter),
        consumers: CONSUMERS.gauge(&meter),
        recipes: RECIPES.gauge(&meter),
        backlog: BACKLOG.seconds(&meter),
        last_settled: LAST_SETTLED.seconds(&meter),
        ledger_copied: LEDGER_COPIED.seconds(&meter),
        window: WINDOW.gauge(&meter),
        announced_workers: ANNOUNCED_WORKERS.gauge(&meter),
        announced_slots: ANNOUNCED_SLOTS.gauge(&meter),
        failures: FAILURES.gauge(&meter),
        busy: BUSY.gauge(&meter),
        slots: SLOTS.gauge(&meter),
        meter,
    }
});

/// Returns the instruments of this process. They are made at the first call, which must come after [`super::start`].
pub fn metrics() -> &'static Metrics {
    &INSTRUMENTS
}

impl Metrics {
    /// Records that a production begins: counters that alerts watch have a value from now on, and times of events that
    /// have not happened yet count from now.
    pub fn begun(&self, production: &str) {
        self.retries.add(0, &[]);
        for reason in DeadLetterReason::ALL {
            self.dead_letters.add(0, &[KeyValue::new(REASON, reason.as_str())]);
        }
        self.last_settled.record(now(), &[named(production)]);
    }

    /// Counts a granule of a production that is settled, with its dataset and outcome.
    pub fn settled(&self, production: &str, granule: &str, outcome: &'static str) {
        self.granules.add(1, &[dataset(granule), KeyValue::new(OUTCOME, outcome)]);
        self.last_settled.record(now(), &[named(production)]);
    }

    /// Counts a further attempt to make a granule.
    pub fn retried(&self) {
        self.retries.add(1, &[]);
    }

    /// Counts a message that was refused for this reason.
    pub fn refused(&self, reason: &'static str) {
        self.refused.add(1, &[KeyValue::new(REASON, reason)]);
    }

    /// Counts a message that the broker took out of its queue for this reason.
    pub fn dead_letter(&self, reason: DeadLetterReason) {
        self.dead_letters.add(1, &[KeyValue::new(REASON, reason.as_str())]);
    }

    /// Records a granule that was made: bytes read, bytes written, and the durations of its stages.
    pub fn made(&self, granule: &str, done: &Done) {
        let dataset = dataset(granule);
        let (read, written) = (done.inputs.iter().map(|input| input.size).sum(), done.size);
        self.io.add(read, &[dataset.clone(), KeyValue::new(DIRECTION, "read")]);
        self.io.add(written, &[dataset.clone(), KeyValue::new(DIRECTION, "write")]);
        for stage in &done.stages {
            self.stages.record(stage.seconds, &[dataset.clone(), KeyValue::new(STAGE, stage.name.clone())]);
        }
    }

    /// Records the numbers of messages that wait in a queue, and of its consumers.
    pub fn depth(&self, queue: &str, depth: QueueDepth) {
        let queue = [KeyValue::new(QUEUE, queue.to_owned())];
        self.depth.record(depth.messages, &queue);
        self.consumers.record(depth.consumers, &queue);
    }

    /// Records the number of recipes of a production in a state.
    pub fn recipes(&self, production: &str, state: &'static str, recipes: u64) {
        self.recipes.record(recipes, &[named(production), KeyValue::new(STATE, state)]);
    }

    /// Records the time that one job slot would need for all recipes of a production that remain, in seconds.
    pub fn backlog(&self, production: &str, slot_seconds: f64) {
        self.backlog.record(slot_seconds, &[named(production)]);
    }

    /// Records that the ledger of a production was copied, or that the copies begin.
    pub fn ledger_copied(&self, production: &str) {
        self.ledger_copied.record(now(), &[named(production)]);
    }

    /// Records the size of a production's window.
    pub fn window(&self, production: &str, recipes: usize) {
        self.window.record(recipes as u64, &[named(production)]);
    }

    /// Records the workers that take part in a production, and their job slots.
    pub fn announced(&self, production: &str, workers: usize, slots: u64) {
        self.announced_workers.record(workers as u64, &[named(production)]);
        self.announced_slots.record(slots, &[named(production)]);
    }

    /// Records the number of attempts in a row that have failed.
    pub fn failures(&self, consecutive: u64) {
        self.failures.record(consecutive, &[]);
    }

    /// Records the number of busy job slots and their total.
    pub fn slots(&self, busy: usize, all: usize) {
        self.busy.record(busy as u64, &[]);
        self.slots.record(all as u64, &[]);
    }

    /// Observes the connection of a link to its broker, for as long as the program runs.
    pub fn broker(&self, link: &Link) {
        let (connected, blocked) = (link.state(), link.state());
        let is_up = |state: &LinkState| matches!(state, LinkState::Up | LinkState::Blocked { .. });
        CONNECTED.condition(&self.meter, move || is_up(&connected.borrow()));
        BLOCKED.condition(&self.meter, move || matches!(*blocked.borrow(), LinkState::Blocked { .. }));
    }
}

/// Returns the time in seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn named(production: &str) -> KeyValue {
    KeyValue::new(PRODUCTION, production.to_owned())
}

fn dataset(granule: &str) -> KeyValue {
    KeyValue::new(DATASET, name::dataset(base_name(granule)).unwrap_or_else(|| "unknown".into()))
}
