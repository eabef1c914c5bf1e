//! Productions over RabbitMQ with everything going wrong that can. Whatever happens, every recipe is settled with a
//! reason, nothing temporary is left, and the destination is byte for byte what one undisturbed process makes.

mod combination;
mod faults;
mod fleet;
mod hostile;
mod policies;
mod scenario;
mod security;
mod steps;
mod store;

use edp_tests::broker::Broker;
use fleet::{Fleet, Model};
use scenario::{Scenario, Table};

/// Number of months of model output in `make test`, with eight granules each.
const MONTHS: usize = 5;

/// Number of months in `make chaos`: more than 200 granules.
const MANY_MONTHS: usize = 26;

/// Returns the scenarios that EDP_SCENARIOS names, separated by commas; all of them if it is not set.
fn chosen(scenarios: &[(&'static str, Scenario)]) -> impl Iterator<Item = (&'static str, Scenario)> {
    let only = std::env::var("EDP_SCENARIOS").ok();
    let wanted = move |name: &str| only.as_ref().is_none_or(|only| only.split(',').any(|one| one == name));
    scenarios.iter().copied().filter(move |(name, _)| wanted(name))
}

fn seed() -> Option<u64> {
    std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"))
}

/// Runs scenarios one after the other on one broker, whose start takes longer than most of them.
fn survive(scenarios: &[(&'static str, Scenario)]) {
    let (broker, model) = (Broker::start(), Model::new(MONTHS));
    let mut table = Table::new(broker, &model);
    for (name, scenario) in chosen(scenarios) {
        table.undergo(name, scenario, seed().unwrap_or(1));
    }
    table.end();
}

#[test]
fn productions_on_a_broker_survive_what_happens_to_their_processes() {
    survive(faults::OF_PROCESSES);
}

#[test]
fn productions_on_a_broker_survive_what_happens_to_it() {
    survive(faults::OF_QUEUES);
}

/// The complete test: more granules, more steps, several combinations; with another seed each time, unless one is
/// given.
#[test]
#[ignore = "many minutes; make chaos"]
fn chaos_on_a_broker() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = seed().unwrap_or(now.as_secs() % 100_000);
    println!("SEED={seed}");
    let (broker, model) = (Broker::start(), Model::new(MANY_MONTHS));
    let mut table = Table::new(broker, &model);
    for (name, scenario) in chosen(&[faults::OF_PROCESSES, faults::LONG, faults::OF_QUEUES].concat()) {
        let rounds = if name == "combination" { COMBINATIONS } else { 1 };
        for round in 0..rounds {
            table.undergo(name, scenario, seed + round);
        }
    }
    table.end();
}

/// Number of combinations in `make chaos`.
const COMBINATIONS: u64 = 5;

/// Two coordinators of one production: the second stands by, and takes over when the first has gone.
#[test]
fn a_second_coordinator_on_a_broker_stands_by() {
    let (broker, model) = (Broker::start(), Model::new(1));
    let mut fleet = Fleet::new("standby", &broker, &model);
    let mut first = fleet.coordinator();
    edp_tests::until("the first has the ledger", || fleet.path("ledger").exists() && fleet.depth(&broker) > 0);
    let second = fleet.coordinator();
    edp_tests::until("the second stands by", || second.said("standing by"));
    first.kill();
    fleet.worker();
    fleet.ends(second, 0);
    fleet.is_whole_but_for(&[]);
}
