//! The stages of making a granule, with a clock and a span for each.

use edp_protocol::wire;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::Span;

/// Declares the stages with their names, in the order in which they are listed.
macro_rules! stages {
    ($($(#[$doc:meta])* $stage:ident = $name:literal,)*) => {
        /// A stage of making a granule.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Stage {
            $($(#[$doc])* $stage,)*
        }

        impl Stage {
            /// All stages, in order.
            pub const ALL: &'static [Stage] = &[$(Stage::$stage,)*];

            /// Returns the name in outcomes and traces.
            pub fn name(self) -> &'static str {
                match self { $(Stage::$stage => $name,)* }
            }

            fn span(self, parent: &Span) -> Span {
                match self {
                    $(Stage::$stage => tracing::info_span!(
                        parent: parent,
                        $name,
                        edp.seconds = tracing::field::Empty,
                        edp.bytes = tracing::field::Empty
                    ),)*
                }
            }
        }
    };
}

stages! {
    /// Loading resources: grid, weights, texts. It takes time in the first granule that needs them.
    Resources = "resources",
    /// Opening inputs; those on S3 are brought into memory here. Bytes: their sizes.
    Fetch = "fetch",
    /// Reading levels and decoding them. Bytes: as in the input.
    Read = "read",
    /// Rotating vectors. Bytes: both components.
    Rotate = "rotate",
    /// Masking and checking the values of native granules. Bytes: values.
    Mask = "mask",
    /// Regridding and checking the values of latlon granules. Bytes: values on the target grid.
    Regrid = "regrid",
    /// Shuffling and deflating. Bytes: uncompressed.
    Compress = "compress",
    /// Writing the partial file, until it is on the disk. Bytes: compressed.
    Write = "write",
    /// SHA-256 of inputs whose digests are not known yet, in parallel to the stages from reading to the gate, and of
    /// the granule, in parallel to the gate.
    Hash = "hash",
    /// The gate. Bytes: the granule's.
    Gate = "gate",
    /// Sending it to S3. Bytes: the granule's.
    Upload = "upload",
    /// Giving it its name. Bytes: the granule's.
    Commit = "commit",
}

/// Name of the total, which comes first in outcomes.
pub const WHOLE: &str = "make";

/// The clock of one granule, for all threads that work on it. The time of a stage is the sum over its threads; only the
/// total is by the wall clock. It costs two readings of the clock for each level, chunk or file, and nothing for a
/// value.
///
/// Each stage has one span however often it is entered, so that a trace has a line for each stage and not for each
/// level. It belongs to the span in which the clock was started, whatever thread enters it.
#[derive(Debug)]
pub struct Stages {
    parent: Span,
    begun: Instant,
    taken: [StageUsage; Stage::ALL.len()],
}

/// The time and bytes of a stage so far.
#[derive(Debug, Default)]
struct StageUsage {
    /// The span, opened when the stage is entered, and closed when it is taken out; with the nanoseconds and bytes
    /// before it.
    span: Mutex<Option<(Span, [u64; 2])>>,
    entries: AtomicU64,
    nanoseconds: AtomicU64,
    bytes: AtomicU64,
}

impl StageUsage {
    /// Returns nanoseconds and bytes so far.
    fn sums(&self) -> [u64; 2] {
        [&self.nanoseconds, &self.bytes].map(|sum| sum.load(Ordering::Relaxed))
    }
}

impl Stages {
    /// Starts a clock within the current span.
    pub fn begin() -> Stages {
        Stages { parent: Span::current(), begun: Instant::now(), taken: Default::default() }
    }

    /// Runs some work of a stage, and adds the time that it takes and the bytes that it processes.
    pub fn time<T>(&self, stage: Stage, bytes: u64, work: impl FnOnce() -> T) -> T {
        let taken = &self.taken[stage as usize];
        let span = {
            let mut open = taken.span.lock().unwrap_or_else(PoisonError::into_inner);
            open.get_or_insert_with(|| (stage.span(&self.parent), taken.sums())).0.clone()
        };
        let begun = Instant::now();
        let result = span.in_scope(work);
        let nanoseconds = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        taken.entries.fetch_add(1, Ordering::Relaxed);
        taken.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        taken.bytes.fetch_add(bytes, Ordering::Relaxed);
        result
    }

    /// Ends the spans of all stages, when work of another kind begins. A stage that is entered again gets another span.
    /// Spans that are open when the clock is dropped end then. A span only shows the time from the first to the last
    /// entry of a stage; the time that it really took is recorded in it.
    pub(crate) fn end_spans(&self) {
        for taken in &self.taken {
            let open = taken.span.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some((span, before)) = open {
                let [nanoseconds, bytes] = taken.sums();
                let took = Duration::from_nanos(nanoseconds.saturating_sub(before[0]));
                span.record("edp.seconds", took.as_secs_f64());
                span.record("edp.bytes", bytes.saturating_sub(before[1]));
            }
        }
    }

    /// Returns the total so far ([`WHOLE`]) with the size of the granule in bytes, then each stage that was entered.
    pub fn report(&self, size: u64) -> Vec<wire::StageTotal> {
        let entry = |name: &str, taken: Duration, bytes| wire::StageTotal {
            name: name.to_owned(),
            seconds: taken.as_secs_f64(),
            bytes,
        };
        let mut report = vec![entry(WHOLE, self.begun.elapsed(), size)];
        for (stage, taken) in Stage::ALL.iter().zip(&self.taken) {
            if taken.entries.load(Ordering::Relaxed) > 0 {
                let time = Duration::from_nanos(taken.nanoseconds.load(Ordering::Relaxed));
                report.push(entry(stage.name(), time, taken.bytes.load(Ordering::Relaxed)));
            }
        }
        report
    }
}

impl Drop for Stages {
    fn drop(&mut self) {
        self.end_spans();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;
    use tracing::span::{Attributes, Id, Record};

    #[test]
    fn threads_add_up_and_stages_keep_their_order() {
        let stages = Stages::begin();
        std::thread::scope(|scope| {
            for bytes in 1..=8 {
                let stages = &stages;
                scope.spawn(move || {
                    stages.time(Stage::Write, bytes, || {
                        let since = Instant::now();
                        while since.elapsed().as_millis() < 2 {}
                    });
                });
            }
        });
        assert_eq!(stages.time(Stage::Read, 5, || "result"), "result");
        let report = stages.report(7);
        let found: Vec<_> = report.iter().map(|stage| (stage.name.as_str(), stage.bytes)).collect();
        assert_eq!(found, [("make", 7), ("read", 5), ("write", 36)]);
        assert!(report.iter().all(|stage| stage.seconds > 0.0), "{report:?}");
        // Lower bounds hold however busy the machine is.
        assert!(report[0].seconds >= 0.002 && report[2].seconds >= 0.0159, "{report:?}");
    }

    /// Records spans by name, with the number of their holders. A span without holders has ended.
    #[derive(Default, Clone)]
    struct Watcher(Arc<Mutex<Vec<(&'static str, i32)>>>);

    impl Watcher {
        fn hold(&self, id: &Id, change: i32) {
            self.0.lock().unwrap()[id.into_u64() as usize - 1].1 += change;
        }
    }

    impl tracing::Subscriber for Watcher {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, attributes: &Attributes<'_>) -> Id {
            let mut spans = self.0.lock().unwrap();
            spans.push((attributes.metadata().name(), 1));
            Id::from_u64(spans.len() as u64)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, _: &tracing::Event<'_>) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
        fn clone_span(&self, id: &Id) -> Id {
            self.hold(id, 1);
            id.clone()
        }
        fn try_close(&self, id: Id) -> bool {
            self.hold(&id, -1);
            true
        }
    }

    #[test]
    fn a_stage_has_one_span_until_it_is_ended() {
        let watcher = Watcher::default();
        let spans = || watcher.0.lock().unwrap().clone();
        tracing::subscriber::with_default(watcher.clone(), || {
            let stages = Stages::begin();
            for _ in 0..3 {
                stages.time(Stage::Read, 1, || ());
                stages.time(Stage::Hash, 1, || ());
            }
            assert_eq!(spans(), [("read", 1), ("hash", 1)]);
            stages.end_spans();
            stages.time(Stage::Hash, 1, || ());
            assert_eq!(spans(), [("read", 0), ("hash", 0), ("hash", 1)]);
            assert_eq!(stages.report(0).iter().map(|stage| stage.bytes).collect::<Vec<_>>(), [0, 3, 4]);
        });
        assert_eq!(spans()[2], ("hash", 0));
    }

    #[test]
    fn names_are_told_apart() {
        let mut names: Vec<_> = Stage::ALL.iter().map(|stage| stage.name()).chain([WHOLE]).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Stage::ALL.len() + 1);
    }
}
