//! The productions that the page compares.

use crate::costs::Costs;
use crate::measurements::Measurements;
use crate::release::ListOrder;
use crate::simulation::SimulatedProduction;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Figures that differ from the usual ones.
pub(crate) type Changes = &'static [(&'static str, f64)];

/// A production of Release 6, and what is unusual about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ReleaseCase {
    pub(crate) slots: u32,
    pub(crate) order: ListOrder,
    pub(crate) grouped: bool,
    pub(crate) second_copies: bool,
    /// Sets of changed figures, which count together.
    pub(crate) changes: [Changes; 2],
}

/// The coordinator looks for the granules of one batch after the other, with 16 requests at once.
pub(crate) const ONE_BATCH: Changes = &[("looks_at_once", 16.0), ("batches_at_once", 1.0)];

/// A refusal is an error as others are: a short pause, and as many calls as before.
pub(crate) const SHORT_PAUSES: Changes = &[("slow_pause", 0.2), ("least_calls", 64.0)];

/// An input of up to 32 MiB is read by one request as well.
pub(crate) const WHOLE: Changes = &[("part", 33.5)];

/// The buckets have a partition for each directory of daily results.
pub(crate) const PARTITIONS: Changes = &[("partitions", 132.0)];

/// The numbers of slots of the first table and of the plots.
pub(crate) const SLOTS: [u32; 7] = [16, 100, 200, 400, 1000, 2000, 5000];

impl ReleaseCase {
    /// The programs as they are.
    pub(crate) const fn usual(slots: u32) -> ReleaseCase {
        ReleaseCase { slots, order: ListOrder::ByTime, grouped: true, second_copies: true, changes: [&[]; 2] }
    }

    /// The same with other figures.
    pub(crate) const fn with(self, changes: Changes) -> ReleaseCase {
        ReleaseCase { changes: [self.changes[0], changes], ..self }
    }

    /// The programs with buckets that have enough partitions.
    pub(crate) const fn free(slots: u32) -> ReleaseCase {
        ReleaseCase { changes: [PARTITIONS, &[]], ..ReleaseCase::usual(slots) }
    }

    pub(crate) fn costs(&self) -> Costs {
        let mut costs = Costs::default();
        for (name, value) in self.changes.into_iter().flatten() {
            costs.set(name, *value);
        }
        costs
    }

    fn run(&self) -> Measurements {
        let mut production = SimulatedProduction::release(self.costs(), self.slots, self.order, self.grouped);
        production.second_copies = self.second_copies;
        production.run()
    }
}

/// Productions that were simulated.
#[derive(Debug, Default)]
pub(crate) struct SimulatedCases(Vec<(ReleaseCase, Measurements)>);

impl SimulatedCases {
    /// Simulates all these productions, each once, on all cores.
    pub(crate) fn run(wanted: Vec<ReleaseCase>) -> SimulatedCases {
        let mut cases: Vec<ReleaseCase> = Vec::new();
        for case in wanted {
            if !cases.contains(&case) {
                cases.push(case);
            }
        }
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                let measured = case.run();
                done.lock().unwrap_or_else(PoisonError::into_inner).push((*case, measured));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
                scope.spawn(work);
            }
        });
        SimulatedCases(done.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns what was measured of one of them; that of none is empty.
    pub(crate) fn of(&self, case: &ReleaseCase) -> Measurements {
        self.0.iter().find(|(one, _)| one == case).map(|(_, measured)| measured.clone()).unwrap_or_default()
    }
}
