//! What a scenario is, and what must hold after each.

use crate::fleet::{Fleet, Model, Process};
use edp_tests::broker::Broker;
use edp_tests::until;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// Begins and disturbs a production with three workers, and says how many faults it made. The coordinator that it
/// returns must end with the status beside it, and leave all granules but those named. None: it cannot be had here, for
/// a reason.
pub(crate) type Scenario = fn(&mut Fleet<'_>, &mut Broker, &mut Dice) -> Result<ScenarioEnd, &'static str>;

pub(crate) struct ScenarioEnd {
    pub(crate) coordinator: Process,
    pub(crate) faults: usize,
    pub(crate) status: i32,
    pub(crate) failed: Vec<&'static str>,
    /// Whatever must live until all is checked.
    pub(crate) keep: Option<Box<dyn std::any::Any>>,
}

impl ScenarioEnd {
    pub(crate) fn good(coordinator: Process, faults: usize) -> Result<ScenarioEnd, &'static str> {
        Ok(ScenarioEnd { coordinator, faults, status: 0, failed: Vec::new(), keep: None })
    }

    /// One granule, and no other, fails.
    pub(crate) fn without(
        coordinator: Process,
        faults: usize,
        failed: &'static str,
    ) -> Result<ScenarioEnd, &'static str> {
        Ok(ScenarioEnd { coordinator, faults, status: 3, failed: vec![failed], keep: None })
    }
}

/// Numbers that look random and are the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        let mut dice = Dice(seed);
        dice.below(1); // neighbouring seeds begin alike
        dice
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }

    /// Some of many, in random order.
    pub(crate) fn some<T>(&mut self, count: usize, mut many: Vec<T>) -> Vec<T> {
        for last in (1..many.len()).rev() {
            many.swap(last, self.below(last + 1));
        }
        many.truncate(count);
        many
    }
}

/// Goes on with the production, refilling workers, until so many granules are there or the coordinator has ended.
pub(crate) fn until_made(fleet: &mut Fleet<'_>, coordinator: &mut Process, count: usize) -> bool {
    let mut over = false;
    until("granules are made", || {
        fleet.refill();
        over = coordinator.ended().is_some();
        over || fleet.made() >= count
    });
    !over
}

pub(crate) fn begin(fleet: &mut Fleet<'_>) -> Process {
    let coordinator = fleet.coordinator();
    fleet.refill();
    coordinator
}

/// Runs scenarios one after the other and prints a row for each.
pub(crate) struct Table<'a> {
    broker: Broker,
    model: &'a Model,
    /// Seconds of a production that nothing disturbs.
    undisturbed: Option<f64>,
    failed: Vec<String>,
}

impl<'a> Table<'a> {
    pub(crate) fn new(broker: Broker, model: &'a Model) -> Table<'a> {
        println!("| scenario | seed | faults | survived | granules | seconds lost |");
        println!("|---|---|---|---|---|---|");
        Table { broker, model, undisturbed: None, failed: Vec::new() }
    }

    /// Runs a scenario to its end and checks what it came to.
    pub(crate) fn undergo(&mut self, name: &str, scenario: Scenario, seed: u64) {
        let begun = Instant::now();
        let (model, broker) = (self.model, &mut self.broker);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let mut fleet = Fleet::new(&format!("{name}-{seed}"), broker, model);
            let outcome = scenario(&mut fleet, broker, &mut Dice::new(seed))?;
            let states = fleet.ends(outcome.coordinator, outcome.status);
            let seconds = begun.elapsed().as_secs_f64();
            // Every recipe is settled, those that failed with a reason, and no innocent one among them.
            for (granule, (state, reason)) in &states {
                let good = match outcome.failed.iter().any(|failed| granule.contains(failed)) {
                    true => state == "failed" && !reason.is_empty(),
                    false => matches!(state.as_str(), "made" | "present"),
                };
                assert!(good, "{granule}: {state}: {reason}\n{}", fleet.logs());
            }
            fleet.is_whole_but_for(&outcome.failed);
            fleet.dismiss();
            drop(outcome.keep);
            fleet.remove(broker);
            Ok::<_, &'static str>((outcome.faults, seconds))
        }));
        let row = |faults: &str, survived: &str, lost: &str| {
            println!("| {name} | {seed} | {faults} | {survived} | {} | {lost} |", model.granules());
        };
        match ran {
            Ok(Ok((faults, seconds))) => {
                if name == "undisturbed" {
                    self.undisturbed = Some(seconds);
                }
                let lost = self.undisturbed.map(|undisturbed| format!("{:.1}", seconds - undisturbed));
                row(&faults.to_string(), "yes", &lost.unwrap_or_else(|| format!("of {seconds:.1}")));
                // After it was started again, RabbitMQ 3.10 may lose the process of a quorum queue that was made since
                // (`noproc` in its log): what is to be shown next would not be what it shows.
                if name.starts_with("broker-") {
                    self.broker = Broker::start();
                }
            }
            Ok(Err(reason)) => row("0", &format!("skipped: {reason}"), ""),
            Err(_) => {
                row("", "NO", "");
                self.failed.push(format!("{name} (SEED={seed})"));
                println!("---- the broker\n{}", self.broker.log());
                // Whatever it has left of the broker: the next one gets another.
                self.broker = Broker::start();
            }
        }
    }

    pub(crate) fn end(self) {
        assert!(self.failed.is_empty(), "not survived: {}", self.failed.join(", "));
    }
}
