//! The figures that the simulation is fed with. Each stands here once, with its source, and the page prints them.

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FigureSource {
    /// Measured; `doc/performance.md` says how, or the sizes are those of files.
    Measured,
    /// A constant of the programs.
    Code,
    /// A limit or a guideline in the documentation of AWS or of RabbitMQ.
    Vendor,
    /// It was not measured.
    Assumed,
}

impl FigureSource {
    /// The word for it in tables.
    pub fn word(self) -> &'static str {
        match self {
            FigureSource::Measured => "measured",
            FigureSource::Code => "code",
            FigureSource::Vendor => "vendor",
            FigureSource::Assumed => "assumed",
        }
    }
}

/// One figure, with everything that is said about it.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// Its name.
    pub name: &'static str,
    /// Its usual value.
    pub value: f64,
    /// Unit of the value.
    pub unit: &'static str,
    /// Where it comes from.
    pub source: FigureSource,
    /// What it is.
    pub meaning: &'static str,
}

macro_rules! figures {
    ($($name:ident: $value:expr, $unit:literal, $source:ident, $meaning:literal;)*) => {
        /// All figures.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Costs {
            $(#[doc = $meaning] pub $name: f64,)*
        }

        impl Default for Costs {
            fn default() -> Costs {
                Costs { $($name: $value,)* }
            }
        }

        impl Costs {
            /// The figures with their usual values, in the order of the page.
            pub const FIGURES: &[Figure] = &[$(Figure {
                name: stringify!($name),
                value: $value,
                unit: $unit,
                source: FigureSource::$source,
                meaning: $meaning,
            },)*];

            /// Gives a figure another value. Returns false if there is none of this name.
            pub fn set(&mut self, name: &str, value: f64) -> bool {
                match name {
                    $(stringify!($name) => self.$name = value,)*
                    _ => return false,
                }
                true
            }
        }
    };
}

figures! {
    cores: 16.0, "", Assumed, "cores of an instance";
    slots_per_core: 1.0, "", Code, "job slots for each core, as `run.slots` has it and `deploy/aws` sets it";
    network: 12.5, "Gbit/s", Vendor, "network of an instance, in each direction; for 16 cores this is what bursts reach, the lasting rate may be half of it";
    boot: 120.0, "s", Assumed, "time from the request for instances until the first one takes task messages";
    ramp: 60.0, "s", Assumed, "time from then until the last one does";
    cpu_2d_native: 7.5, "ms", Measured, "processor time of a 2-D variable, native: a quarter of a granule with four";
    cpu_2d_latlon: 10.0, "ms", Measured, "the same, latlon: a third of a granule with three";
    cpu_3d_native: 146.0, "ms", Measured, "processor time of a 3-D variable, native: of granules with two and three";
    cpu_3d_latlon: 298.0, "ms", Measured, "the same, latlon";
    cpu_transfer: 1.1, "ms/MB", Assumed, "processor time of what S3 adds: SHA-256 of each byte that is read or put (0.67 ms, measured) and TLS";
    lock_2d: 7.0, "ms", Measured, "part of the processor time under the lock of HDF5, of a granule of 2-D variables";
    lock_3d: 23.0, "ms", Measured, "the same, of a granule with 3-D ones";
    processes: 1.0, "", Code, "processes of a worker (`run.processes`), each with a lock";
    read_2d: 0.421, "MB", Measured, "size of a 2-D input in single precision: 13 tiles of 90 x 90 cells";
    read_3d: 21.06, "MB", Measured, "size of a 3-D input: 50 levels of them";
    static_native: 1.15, "MB", Measured, "static coordinates of a native granule";
    write_2d_native: 0.2, "MB", Measured, "a 2-D variable of a native granule";
    write_2d_latlon: 0.32, "MB", Measured, "a 2-D variable of a latlon granule";
    write_3d_native: 8.1, "MB", Measured, "a 3-D variable of a native granule";
    write_3d_latlon: 13.5, "MB", Measured, "a 3-D variable of a latlon granule";
    get_latency: 30.0, "ms", Assumed, "median latency of HEAD and GET in one region; the guideline of S3 says 100 to 200 ms";
    put_latency: 60.0, "ms", Assumed, "median latency of PUT, without the transfer";
    list_latency: 100.0, "ms", Assumed, "latency of a page of a listing, with 1,000 names";
    stream: 85.0, "MB/s", Vendor, "transfer by one request";
    part: 8.39, "MB", Code, "size of the parts in which objects are read (`PART` in `protocol/s3/src/read.rs`)";
    parts_at_once: 4.0, "", Code, "parts of an object that are read at once, after the first one (`AT_ONCE` there)";
    headers_at_once: 8.0, "", Code, "headers of inputs that are read at once (`HEADERS_AT_ONCE` in `worker/engine/src/granule/inputs.rs`)";
    gets: 5500.0, "1/s", Vendor, "GET and HEAD requests of a partition of a bucket";
    puts: 3500.0, "1/s", Vendor, "PUT requests of a partition of a bucket";
    partitions: 1.0, "", Assumed, "partitions of each of the two buckets, over which directories are spread: S3 makes more than one of them only under load that lasts";
    burst: 1.0, "s", Assumed, "time for which S3 accepts saved-up requests at once";
    tries: 5.0, "", Code, "tries of a request (`store.s3.attempts`)";
    slow_pause: 1.0, "s", Code, "pause after a refusal (`SLOW_PAUSE` in `protocol/s3/src/link.rs`); it is doubled for each further one, and half of it is random";
    calls: 64.0, "", Code, "simultaneous calls of a process (`MOST` in `protocol/s3/src/pace.rs`)";
    least_calls: 1.0, "", Code, "calls below which that number is not halved after refusals (`slow_down` there)";
    window: 1000.0, "", Code, "least window (`queue.window`)";
    window_per_slot: 4.0, "", Code, "window for each announced slot (`FOR_EACH_SLOT` in `coordinator/production/src/drive_options.rs`)";
    window_most: 20000.0, "", Code, "largest window for slots (`MOST_FOR_SLOTS` there)";
    batch: 256.0, "", Code, "messages that are published, or written into the ledger, together (`BATCH` there)";
    gather: 20.0, "ms", Code, "time for which the first outcome of a batch waits for others (`GATHER` in `coordinator/production/src/outcomes.rs`)";
    batches_at_once: 8.0, "", Code, "batches of outcomes whose granules are looked for at once (`BATCHES` there)";
    looks_at_once: 64.0, "", Code, "HEAD requests of the coordinator at once, of all batches, for granules that are reported as done (`AT_ONCE` in `coordinator/production/src/arrivals.rs`)";
    verify_at_once: 64.0, "", Code, "HEAD requests at once of the final verification (`coordinator/production/src/verify.rs`)";
    ledger_event: 105.0, "µs", Measured, "time of the ledger for one message: such that, with `broker_message`, the simulation has the pace that was measured without granules, 2,640 recipes a second";
    ledger_sync: 2.0, "ms", Assumed, "sync at the end of a transaction, on a local disk";
    broker_message: 96.0, "µs", Measured, "time of the broker for one message; ledger and broker shared two cores with ten workers";
    broker_latency: 5.0, "ms", Assumed, "time until the broker has confirmed or delivered a message, without the queue before it";
    listing: 60.0, "µs", Measured, "time in which the coordinator writes a recipe into the ledger, before it sends the first one: 6.0 s for 100,000";
    attempts: 5.0, "", Code, "transient failures after which a recipe fails (`coordinator/production/src/ledger/retries.rs`)";
    first_wait: 1.0, "s", Code, "wait after the first one; it is doubled for each further one";
    failure_share: 50.0, "%", Code, "share of failed recipes among the settled ones beyond which a production is given up (`run.max_failure_share`) ...";
    failure_sample: 100.0, "", Code, "... once this number of recipes is settled (`run.failure_sample`)";
    interruptions: 5.0, "%/h", Assumed, "share of the instances that is taken back with a notice, after which the worker drains";
    losses: 0.5, "%/h", Assumed, "share of the instances that is lost without a notice";
    detection: 60.0, "s", Code, "time until the broker gives the task messages of a lost worker to others: two heartbeats (`queue.heartbeat`)";
    copy_least: 30.0, "s", Code, "least time of an attempt before its recipe is sent once more (`LEAST` in `coordinator/production/src/ledger/stragglers.rs`)";
    copy_factor: 3.0, "", Code, "multiple of the mean time that it must have taken (`SLOWER` there)";
    stragglers: 3.0, "%", Assumed, "share of the attempts that are slow";
    slowest: 10.0, "", Assumed, "factor by which the slowest of these are slower; the fastest of them are slower by a third of it";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_can_be_set_by_its_name() {
        let mut costs = Costs::default();
        for figure in Costs::FIGURES {
            assert!(costs.set(figure.name, figure.value + 1.0) && !figure.meaning.is_empty(), "{}", figure.name);
        }
        assert_ne!(costs, Costs::default());
        assert!(Costs::FIGURES.iter().all(|figure| costs.set(figure.name, figure.value)));
        assert_eq!(costs, Costs::default());
        assert!(!costs.set("none", 1.0));
    }
}
