//! The instruments for metrics. Without a collector they measure nothing, and cost next to nothing.

use edp_protocol::name::{self, base_name};
use edp_protocol::wire::Done;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram};
use std::sync::LazyLock;

/// All instruments of a program. Counters add up events; gauges have the last state.
#[derive(Debug)]
pub struct Metrics {
    granules: Counter<u64>,
    retries: Counter<u64>,
    refused: Counter<u64>,
    io: Counter<u64>,
    stages: Histogram<f64>,
    depth: Gauge<u64>,
    recipes: Gauge<u64>,
    backlog: Gauge<f64>,
    busy: Gauge<u64>,
    slots: Gauge<u64>,
}

/// Attribute for the direction of bytes.
const DIRECTION: &str = "edp.io.direction";

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = opentelemetry::global::meter("edp");
    Metrics {
        granules: meter
            .u64_counter("edp.granules")
            .with_unit("{granule}")
            .with_description("Granules that are settled, by dataset and outcome.")
            .build(),
        retries: meter
            .u64_counter("edp.retries")
            .with_unit("{attempt}")
            .with_description("Attempts after the first.")
            .build(),
        refused: meter
            .u64_counter("edp.messages.refused")
            .with_unit("{message}")
            .with_description("Messages that mean nothing to this production, by reason.")
            .build(),
        io: meter
            .u64_counter("edp.io")
            .with_unit("By")
            .with_description("Bytes of inputs read and of granules written.")
            .build(),
        stages: meter
            .f64_histogram("edp.stage.duration")
            .with_unit("s")
            .with_description("What the stages of a granule take; sums over threads.")
            .with_boundaries([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0].into())
            .build(),
        depth: meter
            .u64_gauge("edp.queue.depth")
            .with_unit("{message}")
            .with_description("Messages that wait in a queue.")
            .build(),
        recipes: meter
            .u64_gauge("edp.recipes")
            .with_unit("{recipe}")
            .with_description("Recipes of the production, by state.")
            .build(),
        backlog: meter
            .f64_gauge("edp.backlog")
            .with_unit("s")
            .with_description("Time that one job slot would need for all recipes that remain.")
            .build(),
        busy: meter
            .u64_gauge("edp.slots.busy")
            .with_unit("{slot}")
            .with_description("Slots that make a granule.")
            .build(),
        slots: meter.u64_gauge("edp.slots").with_unit("{slot}").with_description("Slots there are.").build(),
    }
});

/// Returns the instruments of this process. They are made at the first call, which must come after [`super::start`].
pub fn metrics() -> &'static Metrics {
    &METRICS
}

impl Metrics {
    /// Counts a granule that is settled, with its dataset and outcome.
    pub fn settled(&self, granule: &str, outcome: &'static str) {
        self.granules.add(1, &[dataset(granule), KeyValue::new("edp.outcome", outcome)]);
    }

    /// Counts a further attempt to make a granule.
    pub fn retried(&self) {
        self.retries.add(1, &[]);
    }

    /// Counts a message that was refused for this reason.
    pub fn refused(&self, reason: &'static str) {
        self.refused.add(1, &[KeyValue::new("edp.reason", reason)]);
    }

    /// Records a granule that was made: bytes read, bytes written, and the durations of its stages.
    pub fn made(&self, granule: &str, done: &Done) {
        let dataset = dataset(granule);
        let (read, written) = (done.inputs.iter().map(|input| input.size).sum(), done.size);
        self.io.add(read, &[dataset.clone(), KeyValue::new(DIRECTION, "read")]);
        self.io.add(written, &[dataset.clone(), KeyValue::new(DIRECTION, "write")]);
        for stage in &done.stages {
            self.stages.record(stage.seconds, &[dataset.clone(), KeyValue::new("edp.stage", stage.name.clone())]);
        }
    }

    /// Records the number of messages that wait in a queue.
    pub fn depth(&self, queue: &str, messages: u64) {
        self.depth.record(messages, &[KeyValue::new("messaging.destination.name", queue.to_owned())]);
    }

    /// Records the number of recipes of a production in a state.
    pub fn recipes(&self, production: &str, state: &'static str, recipes: u64) {
        self.recipes.record(recipes, &[named(production), KeyValue::new("edp.state", state)]);
    }

    /// Records the time that one job slot would need for all recipes of a production that remain, in seconds.
    pub fn backlog(&self, production: &str, slot_seconds: f64) {
        self.backlog.record(slot_seconds, &[named(production)]);
    }

    /// Records the number of busy job slots and their total.
    pub fn slots(&self, busy: usize, all: usize) {
        self.busy.record(busy as u64, &[]);
        self.slots.record(all as u64, &[]);
    }
}

fn named(production: &str) -> KeyValue {
    KeyValue::new("edp.production", production.to_owned())
}

fn dataset(granule: &str) -> KeyValue {
    KeyValue::new("edp.dataset", name::dataset(base_name(granule)).unwrap_or_else(|| "unknown".into()))
}
