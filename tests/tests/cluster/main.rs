//! Productions over RabbitMQ, with everything going wrong that can: whatever happens, every recipe is settled with a
//! reason, nothing temporary is left, and the destination is byte for byte what one undisturbed process makes.

mod faults;
mod fleet;

use edp_tests::broker::Broker;
use fleet::{Fleet, Model};

/// Months of model output in `make test`; eight granules each.
const MONTHS: usize = 6;

/// Months in `make chaos`: more than 200 granules.
const MANY_MONTHS: usize = 26;

/// All scenarios, or those that EDP_SCENARIOS names.
fn chosen() -> impl Iterator<Item = (&'static str, faults::Scenario)> {
    let only = std::env::var("EDP_SCENARIOS").ok();
    let wanted = move |name: &str| only.as_ref().is_none_or(|only| only.split(',').any(|one| one == name));
    faults::SCENARIOS.iter().copied().filter(move |(name, _)| wanted(name))
}

/// All scenarios one after the other on one broker: starting it takes longer than any of them.
#[test]
fn productions_on_a_broker_survive() {
    let (mut broker, model) = (Broker::start(), Model::new(MONTHS));
    for (name, scenario) in chosen() {
        faults::undergo(name, scenario, &mut broker, &model, 1);
    }
}

/// The whole: more granules, and every scenario with several seeds. Prints what was done.
#[test]
#[ignore = "many minutes; make chaos"]
fn chaos_on_a_broker() {
    let (mut broker, model) = (Broker::start(), Model::new(MANY_MONTHS));
    println!("| scenario | seed | faults | granules | seconds |");
    println!("|---|---|---|---|---|");
    for (name, scenario) in chosen() {
        for seed in 1..=3 {
            faults::undergo(name, scenario, &mut broker, &model, seed);
        }
    }
}

/// Two coordinators of one production: the second stands by, and takes over when the first is gone.
#[test]
fn a_second_coordinator_on_a_broker_stands_by() {
    let (broker, model) = (Broker::start(), Model::new(1));
    let mut fleet = Fleet::new("standby", &broker, &model);
    let mut first = fleet.coordinator(None);
    fleet::until("the first has the ledger", || fleet.path("ledger").exists() && fleet.depth(&broker) > 0);
    let second = fleet.coordinator(None);
    fleet::until("the second stands by", || second.said("standing by"));
    first.kill();
    fleet.worker(None);
    fleet.ends(second, 0);
    fleet.is_whole();
}
