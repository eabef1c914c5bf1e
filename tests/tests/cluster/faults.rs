//! What goes wrong, one scenario each.

use crate::fleet::{Fleet, Model, Process, until, writer};
use edp_tests::broker::Broker;
use edp_tests::proxy::{Mode, Proxy};
use std::time::Instant;

/// A scenario: begins and disturbs a production with three workers, and says how many faults it made. The coordinator
/// that it returns must end with the status beside it, and leave all granules but those named.
pub(crate) type Scenario = fn(&mut Fleet<'_>, &mut Broker, &mut Dice) -> Outcome;

pub(crate) struct Outcome {
    coordinator: Process,
    faults: usize,
    status: i32,
    failed: Vec<&'static str>,
}

impl Outcome {
    fn good(coordinator: Process, faults: usize) -> Outcome {
        Outcome { coordinator, faults, status: 0, failed: Vec::new() }
    }
}

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("undisturbed", undisturbed),
    ("workers-killed", workers_killed),
    ("coordinator-killed", coordinator_killed),
    ("broker-killed", broker_killed),
    ("broker-stopped", broker_stopped),
    ("connections-cut", connections_cut),
    ("memory-alarm", memory_alarm),
    ("queue-deleted", queue_deleted),
    ("worker-frozen", worker_frozen),
    ("workers-dismissed", workers_dismissed),
    ("deadly-recipe", deadly_recipe),
    ("input-changed", input_changed),
    ("destination-emptied", destination_emptied),
];

/// Numbers that look random and are the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// Runs a scenario to its end and checks what it came to.
pub(crate) fn undergo(name: &str, scenario: Scenario, broker: &mut Broker, model: &Model, seed: u64) {
    let begun = Instant::now();
    let mut fleet = Fleet::new(&format!("{name}-{seed}"), broker, model);
    let outcome = scenario(&mut fleet, broker, &mut Dice(seed));
    fleet.ends(outcome.coordinator, outcome.status);
    fleet.is_whole_but_for(&outcome.failed);
    let seconds = begun.elapsed().as_secs_f64();
    println!("| {name} | {seed} | {} | {} | {seconds:.1} |", outcome.faults, model.granules());
    fleet.dismiss(broker);
}

/// Goes on with the production, refilling workers, until so many granules are there or the coordinator has ended.
fn until_made(fleet: &mut Fleet<'_>, coordinator: &mut Process, count: usize) -> bool {
    let mut over = false;
    until("granules are made", || {
        fleet.refill(None);
        over = coordinator.ended().is_some();
        over || fleet.made() >= count
    });
    !over
}

fn begin(fleet: &mut Fleet<'_>) -> Process {
    let coordinator = fleet.coordinator(None);
    fleet.refill(None);
    coordinator
}

fn undisturbed(fleet: &mut Fleet<'_>, _: &mut Broker, _: &mut Dice) -> Outcome {
    Outcome::good(begin(fleet), 0)
}

/// SIGKILL of whoever writes, at whatever step it is by then; each time another granule.
fn workers_killed(fleet: &mut Fleet<'_>, _: &mut Broker, dice: &mut Dice) -> Outcome {
    let mut coordinator = begin(fleet);
    let mut kills = 0;
    for _ in 0..6 {
        let mut victim = None;
        until("a part is written", || {
            fleet.refill(None);
            victim = fleet.parts().first().and_then(|part| writer(part));
            victim.is_some() || coordinator.ended().is_some()
        });
        let Some(worker) = fleet.workers.iter_mut().find(|worker| Some(worker.id()) == victim) else { continue };
        // A few milliseconds on: writing, at the gate, committing, publishing, acknowledging.
        std::thread::sleep(std::time::Duration::from_millis(dice.below(12) as u64));
        worker.kill();
        kills += 1;
    }
    fleet.refill(None);
    Outcome::good(coordinator, kills)
}

fn coordinator_killed(fleet: &mut Fleet<'_>, _: &mut Broker, dice: &mut Dice) -> Outcome {
    let mut coordinator = begin(fleet);
    let mut kills = 0;
    let step = fleet.model.granules() / 5;
    for time in 1..5 {
        let count = (time - 1) * step + dice.below(step.max(1));
        if !until_made(fleet, &mut coordinator, count) {
            break;
        }
        coordinator.kill();
        kills += 1;
        coordinator = fleet.coordinator(None);
    }
    Outcome::good(coordinator, kills)
}

/// RabbitMQ 3.10 keeps the names of quorum queues in a table that it saves every few minutes and when it stops: of a
/// queue that is younger, a killed broker remembers that it is there, but not which log is its own, and it never works
/// again. Queues of productions live longer; these are made to have lived through one orderly stop.
fn broker_killed(fleet: &mut Fleet<'_>, broker: &mut Broker, dice: &mut Dice) -> Outcome {
    let mut coordinator = fleet.coordinator(None);
    until("the queues are there", || fleet.depth(broker) > 0);
    broker.stop();
    broker.run();
    fleet.refill(None);
    until_made(fleet, &mut coordinator, 1 + dice.below(fleet.model.granules() / 2));
    broker.kill();
    broker.run();
    fleet.refill(None);
    Outcome::good(coordinator, 1)
}

fn broker_stopped(fleet: &mut Fleet<'_>, broker: &mut Broker, dice: &mut Dice) -> Outcome {
    let mut coordinator = begin(fleet);
    until_made(fleet, &mut coordinator, 1 + dice.below(fleet.model.granules() / 2));
    broker.stop();
    broker.run();
    fleet.refill(None);
    Outcome::good(coordinator, 1)
}

/// All go through a proxy that cuts connections again and again.
fn connections_cut(fleet: &mut Fleet<'_>, broker: &mut Broker, _: &mut Dice) -> Outcome {
    let proxy = Proxy::start(broker.socket());
    let url = format!("amqp://guest:guest@{}/", proxy.address());
    let mut coordinator = fleet.coordinator(Some(&url));
    fleet.refill(Some(&url));
    let mut cuts = 0;
    let step = fleet.model.granules() / 5;
    for time in 1..5 {
        until("granules are made", || coordinator.ended().is_some() || fleet.made() >= time * step);
        if coordinator.ended().is_some() {
            break;
        }
        proxy.cut();
        cuts += 1;
    }
    // Whoever comes late finds the direct way; the proxy ends with this scenario.
    until("the coordinator ends", || coordinator.ended().is_some());
    proxy.set(Mode::Pass);
    fleet.workers.clear();
    Outcome::good(coordinator, cuts)
}

/// The broker takes no messages for a while: everything waits, nothing is lost.
fn memory_alarm(fleet: &mut Fleet<'_>, broker: &mut Broker, dice: &mut Dice) -> Outcome {
    let mut coordinator = begin(fleet);
    until_made(fleet, &mut coordinator, 1 + dice.below(fleet.model.granules() / 2));
    broker.alarm(true);
    // Long enough for everybody to run into it: a granule takes milliseconds here.
    std::thread::sleep(std::time::Duration::from_secs(2));
    broker.alarm(false);
    Outcome::good(coordinator, 1)
}

fn queue_deleted(fleet: &mut Fleet<'_>, broker: &mut Broker, dice: &mut Dice) -> Outcome {
    let mut coordinator = begin(fleet);
    until_made(fleet, &mut coordinator, 1 + dice.below(fleet.model.granules() / 2));
    let queue = ["recipes", "results"][dice.below(2)];
    broker.delete(&fleet.queue(queue));
    fleet.refill(None);
    Outcome::good(coordinator, 1)
}

/// A worker that says nothing for longer than its connection lives, and then goes on as if nothing had happened.
fn worker_frozen(fleet: &mut Fleet<'_>, _: &mut Broker, dice: &mut Dice) -> Outcome {
    let mut coordinator = begin(fleet);
    until_made(fleet, &mut coordinator, 1 + dice.below(fleet.model.granules() / 2));
    fleet.workers[0].signal("STOP");
    let all = fleet.model.granules();
    until("the others go on", || coordinator.ended().is_some() || fleet.made() >= all - 2);
    fleet.workers[0].signal("CONT");
    Outcome::good(coordinator, 1)
}

/// Workers come and go in order, as on an autoscaling group.
fn workers_dismissed(fleet: &mut Fleet<'_>, _: &mut Broker, dice: &mut Dice) -> Outcome {
    let mut coordinator = begin(fleet);
    let mut dismissed = 0;
    let step = fleet.model.granules() / 5;
    for time in 0..4 {
        if !until_made(fleet, &mut coordinator, time * step + dice.below(step)) {
            break;
        }
        let index = dice.below(fleet.workers.len());
        let worker = &mut fleet.workers[index];
        worker.signal("TERM");
        until("it ends", || worker.ended().is_some());
        assert_eq!(worker.ended().and_then(|status| status.code()), Some(143), "{}", worker.log());
        dismissed += 1;
    }
    fleet.refill(None);
    Outcome::good(coordinator, dismissed)
}

/// Whoever makes one granule dies of it. It fails, and nothing else does.
fn deadly_recipe(fleet: &mut Fleet<'_>, _: &mut Broker, _: &mut Dice) -> Outcome {
    const DEADLY: &str = "OCEAN_VELOCITY_mon_mean_1992-02_ECCO_DEMO_latlon";
    let mut coordinator = begin(fleet);
    let mut kills = 0;
    until("it is given up", || {
        fleet.refill(None);
        let part = fleet.parts().into_iter().find(|part| part.to_string_lossy().contains(DEADLY));
        if let Some(id) = part.as_deref().and_then(writer)
            && let Some(worker) = fleet.workers.iter_mut().find(|worker| worker.id() == id)
        {
            worker.kill();
            kills += 1;
        }
        coordinator.ended().is_some()
    });
    let whole = files_contain(fleet, DEADLY);
    if !whole {
        assert!(coordinator.said("workers were lost while they made it"), "{}", coordinator.log());
    }
    // Killed too late, it got through: then it is there, and right.
    let (status, failed) = if whole { (0, Vec::new()) } else { (3, vec![DEADLY]) };
    Outcome { coordinator, faults: kills, status, failed }
}

fn files_contain(fleet: &Fleet<'_>, name: &str) -> bool {
    edp_tests::files(&fleet.out()).keys().any(|file| file.contains(name) && !file.ends_with(".part"))
}

/// An input that is not the one that was planned with.
fn input_changed(fleet: &mut Fleet<'_>, _: &mut Broker, _: &mut Dice) -> Outcome {
    let input = fleet.own_input("SIarea_mon_mean/SIarea_mon_mean.0000001428.data");
    let mut bytes = std::fs::read(&input).unwrap();
    bytes.push(0);
    std::fs::write(&input, bytes).unwrap();
    let mut coordinator = begin(fleet);
    until("the coordinator ends", || coordinator.ended().is_some());
    assert!(coordinator.said("plan again"), "{}", coordinator.log());
    Outcome { coordinator, faults: 1, status: 3, failed: vec!["SEA_ICE_CONC_THICKNESS_mon_mean_1992-02"] }
}

/// What the ledger has as done, and somebody has taken away.
fn destination_emptied(fleet: &mut Fleet<'_>, _: &mut Broker, _: &mut Dice) -> Outcome {
    let mut coordinator = begin(fleet);
    until("the coordinator ends", || coordinator.ended().is_some());
    for name in edp_tests::files(&fleet.out()).keys().step_by(3) {
        std::fs::remove_file(fleet.out().join(name)).unwrap();
    }
    Outcome::good(fleet.coordinator(None), 1)
}
