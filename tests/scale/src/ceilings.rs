//! What each resource allows, as quotients: the granules a second that it has room for if nothing else is short.

use crate::costs::Costs;
use crate::random::mean_latency;
use crate::release::{TaskKind, kinds};
use crate::simulation::coordinator::{full_look, transaction};

/// The largest rate that a resource allows.
#[derive(Debug, Clone)]
pub struct Ceiling {
    /// Name of the resource, as in [`crate::Measurements::resources`].
    pub resource: &'static str,
    /// Granules a second.
    pub rate: f64,
    /// What it is a quotient of.
    pub because: String,
}

/// Means over all granules of Release 6.
#[derive(Debug, Clone)]
pub struct ReleaseMeans {
    /// Number of task messages for each granule.
    pub tasks: f64,
    /// GET requests for results.
    pub gets: f64,
    /// Megabytes that are read, and written.
    pub read: f64,
    /// Megabytes that are written.
    pub written: f64,
    /// Processor time in seconds.
    pub cpu: f64,
    /// Time in seconds for which a slot is occupied if it waits for no other.
    pub alone: f64,
    /// Number of granules.
    pub granules: f64,
}

impl ReleaseMeans {
    /// The means with these figures.
    pub fn new(costs: &Costs, grouped: bool) -> ReleaseMeans {
        let kinds: Vec<TaskKind> =
            kinds(costs, grouped).into_iter().map(|kind| if kind.rides { kind.riding(costs) } else { kind }).collect();
        let sum =
            |of: &dyn Fn(&TaskKind) -> f64| -> f64 { kinds.iter().map(|kind| of(kind) * f64::from(kind.count)).sum() };
        let granules = sum(&|_| 1.0);
        // A task that is slow occupies its slot for longer.
        let least = costs.slowest * 0.3;
        let slowness = 1.0 + costs.stragglers / 100.0 * ((costs.slowest + least) / 2.0 - 1.0);
        ReleaseMeans {
            tasks: sum(&|kind| f64::from(u8::from(!kind.rides))) / granules,
            gets: sum(&|kind| f64::from(kind.gets(costs))) / granules,
            read: sum(&TaskKind::read) / granules,
            written: sum(&|kind| kind.written) / granules,
            cpu: sum(&|kind| kind.cpu) / granules,
            alone: sum(&|kind| kind.alone(costs)) * slowness / granules,
            granules,
        }
    }
}

/// Returns the ceilings of what all share, the lowest first.
pub fn ceilings(costs: &Costs, grouped: bool) -> Vec<Ceiling> {
    let means = ReleaseMeans::new(costs, grouped);
    let batch = costs.batch as usize;
    let (looked, written) = (full_look(costs), transaction(costs, batch));
    let done = costs.batch / 2.0;
    let calls = costs.looks_at_once / (costs.get_latency / 1000.0 * mean_latency());
    // One message with the task and two outcomes; the ledger has three events for each granule.
    let messages = means.tasks + 2.0;
    let partitions = costs.partitions;
    let mut all = vec![
        Ceiling {
            resource: "outcomes",
            rate: (done * costs.batches_at_once / (looked + written)).min(calls),
            because: format!(
                "{done:.0} granules of a full batch are looked for in {:.0} ms, and the batch is written in {:.0} ms; {}; \
                 {} requests at once allow {calls:.0} granules a second",
                looked * 1000.0,
                written * 1000.0,
                if costs.batches_at_once > 1.0 {
                    format!("{} batches at once", costs.batches_at_once)
                } else {
                    "one batch after the other".into()
                },
                costs.looks_at_once
            ),
        },
        Ceiling {
            resource: "GET of results",
            rate: costs.gets * partitions / means.gets,
            because: format!("{:.1} requests for a granule, {} a second for a partition", means.gets, costs.gets),
        },
        Ceiling {
            resource: "HEAD of granules",
            rate: costs.gets * partitions / 2.0,
            because: format!("2 requests for a granule, by worker and coordinator; {} a second", costs.gets),
        },
        Ceiling {
            resource: "PUT",
            rate: costs.puts * partitions,
            because: format!("1 request for a granule; {} a second", costs.puts),
        },
        Ceiling {
            resource: "ledger",
            rate: batch as f64 / (3.0 * written),
            because: format!("3 events for a granule, each {} µs", costs.ledger_event),
        },
        Ceiling {
            resource: "broker",
            rate: 1e6 / (messages * costs.broker_message),
            because: format!("{messages:.1} messages for a granule, each {} µs", costs.broker_message),
        },
    ];
    all.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    all
}

/// Time in seconds of the final verification: each directory is listed, and each granule is asked for.
pub fn verification(costs: &Costs) -> f64 {
    let kinds = kinds(costs, false);
    let pages: f64 = kinds.iter().map(|kind| (f64::from(kind.count) / 1000.0).ceil()).sum();
    let granules: f64 = kinds.iter().map(|kind| f64::from(kind.count)).sum();
    let head = costs.get_latency / 1000.0 * mean_latency();
    pages * costs.list_latency / 1000.0 + granules * head / costs.verify_at_once
}
