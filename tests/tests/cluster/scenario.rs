//! Scenarios, and the checks after each of them.

use crate::fleet::{Fleet, Model, Process};
use edp_tests::broker::Broker;
use edp_tests::until;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// Starts and disturbs a production with three workers, and returns the number of faults that it made. The coordinator
/// that it returns must end with the returned status, and all granules must be made except the named ones. An error
/// gives the reason why the scenario cannot run here.
pub(crate) type Scenario = fn(&mut Fleet<'_>, &mut Broker, &mut Dice) -> Result<ScenarioEnd, &'static str>;

pub(crate) struct ScenarioEnd {
    pub(crate) coordinator: Process,
    pub(crate) faults: usize,
    pub(crate) status: i32,
    pub(crate) failed: Vec<&'static str>,
    /// A value that must live until everything is checked.
    pub(crate) keep: Option<Box<dyn std::any::Any>>,
}

impl ScenarioEnd {
    pub(crate) fn good(coordinator: Process, faults: usize) -> Result<ScenarioEnd, &'static str> {
        Ok(ScenarioEnd { coordinator, faults, status: 0, failed: Vec::new(), keep: None })
    }

    /// Makes an end at which one granule, and no other, fails.
    pub(crate) fn without(
        coordinator: Process,
        faults: usize,
        failed: &'static str,
    ) -> Result<ScenarioEnd, &'static str> {
        Ok(ScenarioEnd { coordinator, faults, status: 3, failed: vec![failed], keep: None })
    }
}

/// Pseudo-random numbers, which are the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        let mut dice = Dice(seed);
        dice.below(1); // similar seeds begin alike
        dice
    }

    /// Returns a number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }

    /// Returns some of many values, in random order.
    pub(crate) fn some<T>(&mut self, count: usize, mut many: Vec<T>) -> Vec<T> {
        for last in (1..many.len()).rev() {
            many.swap(last, self.below(last + 1));
        }
        many.truncate(count);
        many
    }
}

/// Continues the production, replacing workers, until `count` granules are there or the coordinator has ended.
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

    /// Runs a scenario to its end and checks the result.
    pub(crate) fn undergo(&mut self, name: &str, scenario: Scenario, seed: u64) {
        let begun = Instant::now();
        let (model, broker) = (self.model, &mut self.broker);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let mut fleet = Fleet::new(&format!("{name}-{seed}"), broker, model);
            let outcome = scenario(&mut fleet, broker, &mut Dice::new(seed))?;
            let states = fleet.ends(outcome.coordinator, outcome.status);
            let seconds = begun.elapsed().as_secs_f64();
            // Every recipe is settled; those that failed have a reason, and none of them is innocent.
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
                // After RabbitMQ 3.10 was started again, it may lose the process of a quorum queue that was made since
                // then (`noproc` in its log), which would disturb the next scenario.
                if name.starts_with("broker-") {
                    self.broker = Broker::start();
                }
            }
            Ok(Err(reason)) => row("0", &format!("skipped: {reason}"), ""),
            Err(_) => {
                row("", "NO", "");
                self.failed.push(format!("{name} (SEED={seed})"));
                println!("---- the broker\n{}", self.broker.log());
                // The state of the broker is unknown, so the next scenario gets a new one.
                self.broker = Broker::start();
            }
        }
    }

    pub(crate) fn end(self) {
        assert!(self.failed.is_empty(), "not survived: {}", self.failed.join(", "));
    }
}
