//! Faults of processes and of the broker, with one scenario for each.

use crate::combination;
use crate::fleet::{Beneath, Fleet, Process, writer};
use crate::hostile;
use crate::policies;
use crate::scenario::{Dice, Scenario, ScenarioEnd, begin, until_made};
use crate::steps;
use crate::store;
use edp_queue::{Link, Queue, QueueOptions};
use edp_tests::broker::Broker;
use edp_tests::proxy::{Proxy, ProxyMode};
use edp_tests::until;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

type Ran = Result<ScenarioEnd, &'static str>;

/// The scenarios about processes. The first one is the reference for the others.
pub(crate) const OF_PROCESSES: &[(&str, Scenario)] = &[
    ("undisturbed", undisturbed),
    ("workers-killed", workers_killed),
    ("workers-killed-at-steps", steps::workers_killed),
    ("coordinator-killed", coordinator_killed),
    ("coordinator-killed-at-steps", steps::coordinator_killed),
    ("worker-frozen", worker_frozen),
    ("worker-misplaced", policies::worker_misplaced),
    ("workers-dismissed", workers_dismissed),
    ("disk-full", disk_full),
    ("disk-flaky", steps::disk_flaky),
    ("deadly-recipe", steps::deadly_recipe),
    ("endless-recipe", steps::endless_recipe),
    ("input-changed", input_changed),
    ("clock-skew", clock_skew),
    ("destination-emptied", destination_emptied),
];

/// The scenarios that take too long for every day.
pub(crate) const LONG: &[(&str, Scenario)] = &[
    ("hanging-recipe", steps::hanging_recipe),
    ("queue-purged", policies::queue_purged),
    ("hostile-messages-many", hostile::many),
];

/// The scenarios about the broker, about the connections to it, and about everything together.
pub(crate) const OF_QUEUES: &[(&str, Scenario)] = &[
    ("duplicates", duplicates),
    ("hostile-messages", hostile::few),
    ("broker-killed", broker_killed),
    ("broker-stopped", broker_stopped),
    ("connections-cut", connections_cut),
    ("connections-delayed", connections_delayed),
    ("memory-alarm", memory_alarm),
    ("queues-deleted", queues_deleted),
    ("queues-paralysed", policies::queues_paralysed),
    ("queues-expire", policies::queues_expire),
    ("queues-short", policies::queues_are_short),
    ("task-messages-expire", policies::task_messages_expire),
    ("consumer-timeout", steps::consumer_timeout),
    ("store-fails", store::store_fails),
    ("combination", combination::combination),
];

fn undisturbed(fleet: &mut Fleet<'_>, _: &mut Broker, _: &mut Dice) -> Ran {
    ScenarioEnd::good(begin(fleet), 0)
}

/// Kills workers with SIGKILL while they write, at random moments and each time at another granule.
fn workers_killed(fleet: &mut Fleet<'_>, _: &mut Broker, dice: &mut Dice) -> Ran {
    let mut coordinator = begin(fleet);
    let mut kills = 0;
    for _ in 0..fleet.model.granules() / 8 {
        let mut victim = None;
        until("a partial file is written", || {
            fleet.refill();
            // Partial files of workers that were killed stay until the end.
            let mut writers = fleet.parts().into_iter().filter_map(|part| writer(&part));
            victim = writers.find_map(|id| fleet.workers.iter().position(|worker| worker.id() == id));
            victim.is_some() || coordinator.ended().is_some()
        });
        let Some(worker) = victim.map(|index| &mut fleet.workers[index]) else { break };
        // A few milliseconds later the worker is writing, verifying, committing, publishing or acknowledging.
        std::thread::sleep(Duration::from_millis(dice.below(12) as u64));
        worker.kill();
        kills += 1;
    }
    fleet.refill();
    ScenarioEnd::good(coordinator, kills)
}

fn coordinator_killed(fleet: &mut Fleet<'_>, _: &mut Broker, dice: &mut Dice) -> Ran {
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
        coordinator = fleet.coordinator();
    }
    ScenarioEnd::good(coordinator, kills)
}

/// RabbitMQ 3.10 keeps the names of quorum queues in a table that it saves every few minutes and when it stops. Of a
/// younger queue, a killed broker remembers that it exists, but not which log belongs to it, and the queue never works
/// again. The queues of productions live longer; so these here are made to go through one orderly stop.
pub(crate) fn settle_queues(fleet: &Fleet<'_>, broker: &Broker) {
    until("the queues are there", || fleet.depth(broker) > 0);
    broker.stop();
    broker.run();
}

fn broker_killed(fleet: &mut Fleet<'_>, broker: &mut Broker, dice: &mut Dice) -> Ran {
    let mut coordinator = fleet.coordinator();
    settle_queues(fleet, broker);
    fleet.refill();
    until_made(fleet, &mut coordinator, 1 + dice.below(fleet.model.granules() / 2));
    broker.kill();
    broker.run();
    fleet.refill();
    ScenarioEnd::good(coordinator, 1)
}

fn broker_stopped(fleet: &mut Fleet<'_>, broker: &mut Broker, dice: &mut Dice) -> Ran {
    let mut coordinator = begin(fleet);
    until_made(fleet, &mut coordinator, 1 + dice.below(fleet.model.granules() / 2));
    broker.stop();
    broker.run();
    fleet.refill();
    ScenarioEnd::good(coordinator, 1)
}

/// Makes all connections to the broker go through a proxy.
pub(crate) fn through_proxy(fleet: &mut Fleet<'_>, broker: &Broker) -> Proxy {
    let proxy = Proxy::start(broker.socket());
    fleet.url = format!("amqp://guest:guest@{}/", proxy.address());
    proxy
}

/// Cuts all connections again and again.
fn connections_cut(fleet: &mut Fleet<'_>, broker: &mut Broker, _: &mut Dice) -> Ran {
    let proxy = through_proxy(fleet, broker);
    let mut coordinator = begin(fleet);
    let mut cuts = 0;
    let step = fleet.model.granules() / 5;
    for time in 1..5 {
        if !until_made(fleet, &mut coordinator, time * step) {
            break;
        }
        proxy.cut();
        cuts += 1;
    }
    kept(coordinator, cuts, proxy)
}

fn kept(coordinator: Process, faults: usize, proxy: Proxy) -> Ran {
    ScenarioEnd::good(coordinator, faults).map(|outcome| ScenarioEnd { keep: Some(Box::new(proxy)), ..outcome })
}

/// Everything is delayed; then nothing arrives for longer than connections live; then all is well again.
fn connections_delayed(fleet: &mut Fleet<'_>, broker: &mut Broker, dice: &mut Dice) -> Ran {
    let proxy = through_proxy(fleet, broker);
    let mut coordinator = begin(fleet);
    let step = fleet.model.granules() / 4;
    let mut faults = 0;
    let delay = ProxyMode::Delay(Duration::from_millis(50 + dice.below(100) as u64));
    for (time, mode) in [(1, delay), (2, ProxyMode::Swallow), (3, ProxyMode::Pass)] {
        if !until_made(fleet, &mut coordinator, time * step) {
            break;
        }
        proxy.set(mode);
        faults += 1;
        if mode == ProxyMode::Swallow {
            let connections = proxy.connections();
            until("somebody gives its connection up", || proxy.connections() > connections);
            proxy.set(ProxyMode::Pass);
            proxy.cut();
        }
    }
    kept(coordinator, faults, proxy)
}

/// The broker accepts no messages for a while: everything waits, and nothing is lost.
fn memory_alarm(fleet: &mut Fleet<'_>, broker: &mut Broker, dice: &mut Dice) -> Ran {
    let mut coordinator = begin(fleet);
    until_made(fleet, &mut coordinator, 1 + dice.below(fleet.model.granules() / 2));
    broker.alarm(true);
    until("publishers are blocked", || {
        let states = broker.control(["list_connections", "--quiet", "--no-table-headers", "state"]);
        states.contains("blocked") || coordinator.ended().is_some()
    });
    broker.alarm(false);
    fleet.refill();
    ScenarioEnd::good(coordinator, 1)
}

/// Deletes first one of the two queues, then the other.
fn queues_deleted(fleet: &mut Fleet<'_>, broker: &mut Broker, dice: &mut Dice) -> Ran {
    let mut coordinator = begin(fleet);
    let step = fleet.model.granules() / 3;
    let mut faults = 0;
    for (time, queue) in dice.some(2, vec!["recipes", "results"]).into_iter().enumerate() {
        if !until_made(fleet, &mut coordinator, time * step + 1 + dice.below(step - 1)) {
            break;
        }
        broker.delete(&fleet.queue(queue));
        faults += 1;
    }
    fleet.refill();
    ScenarioEnd::good(coordinator, faults)
}

/// A worker is frozen for longer than its connection lives, and then continues as if nothing had happened.
fn worker_frozen(fleet: &mut Fleet<'_>, _: &mut Broker, dice: &mut Dice) -> Ran {
    let mut coordinator = begin(fleet);
    until_made(fleet, &mut coordinator, 1 + dice.below(fleet.model.granules() / 2));
    fleet.workers[0].signal("STOP");
    let all = fleet.model.granules();
    until("the others go on", || coordinator.ended().is_some() || fleet.made() >= all - 2);
    fleet.workers[0].signal("CONT");
    ScenarioEnd::good(coordinator, 1)
}

/// Workers come and go in an orderly way, as in an autoscaling group.
fn workers_dismissed(fleet: &mut Fleet<'_>, _: &mut Broker, dice: &mut Dice) -> Ran {
    let mut coordinator = begin(fleet);
    let mut dismissed = 0;
    let step = fleet.model.granules() / 5;
    for time in 0..4 {
        if !until_made(fleet, &mut coordinator, time * step + dice.below(step)) {
            break;
        }
        let index = dice.below(fleet.workers.len());
        let worker = &mut fleet.workers[index];
        until("it has begun", || worker.said("slots"));
        worker.signal("TERM");
        until("it ends", || worker.ended().is_some());
        assert_eq!(worker.ended().and_then(|status| status.code()), Some(143), "{}", worker.log());
        dismissed += 1;
    }
    fleet.refill();
    ScenarioEnd::good(coordinator, dismissed)
}

/// A small file system that exists until this is dropped.
struct Disk(PathBuf);

impl Disk {
    /// Mounts it, or changes its size.
    fn mount(path: PathBuf, bytes: u64, again: &str) -> Option<Disk> {
        let options = format!("{again}size={bytes}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path);
        mount.output().is_ok_and(|output| output.status.success()).then_some(Disk(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// The destination is full: workers report it and end, until space is made.
fn disk_full(fleet: &mut Fleet<'_>, _: &mut Broker, _: &mut Dice) -> Ran {
    std::fs::create_dir(fleet.out()).unwrap();
    let Some(disk) = Disk::mount(fleet.out(), fleet.model.bytes() / 2, "") else {
        return Err("a file system of its own cannot be mounted: run as root");
    };
    let mut coordinator = begin(fleet);
    let mut unfit = 0;
    until("workers give up", || {
        fleet.refill();
        unfit = fleet.gone.iter().filter(|status| status.code() == Some(4)).count();
        unfit >= 3 || coordinator.ended().is_some()
    });
    assert!(fleet.logs().contains("No space left"), "{}", fleet.logs());
    std::mem::forget(Disk::mount(fleet.out(), 1 << 30, "remount,").expect("more room"));
    fleet.until_ended(&mut coordinator);
    ScenarioEnd::good(coordinator, unfit).map(|outcome| ScenarioEnd { keep: Some(Box::new(disk)), ..outcome })
}

/// Every task message and every outcome is delivered twice: everything that is sent to a queue is copied to another
/// one, from which it is published again.
fn duplicates(fleet: &mut Fleet<'_>, broker: &mut Broker, _: &mut Dice) -> Ran {
    let mut coordinator = fleet.coordinator();
    until("the queues are there", || fleet.depth(broker) > 0);
    let link = |production: &str| {
        let options = QueueOptions::new(fleet.url.parse().unwrap(), production.parse().unwrap());
        Link::amqp(options).unwrap()
    };
    let (own, copies) = (link(fleet.production()), link(&format!("{}-copies", fleet.production())));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let faults = runtime.block_on(async {
        copies.declare().await.unwrap();
        for queue in ["recipes", "results"] {
            broker.copy(&fleet.queue(queue), &format!("edp.{}-copies.{queue}", fleet.production()));
        }
        let mut consumers = Vec::new();
        for queue in [Queue::Recipes, Queue::Results] {
            consumers.push((copies.consumer(queue, 50).await.unwrap(), own.publisher(queue, 50)));
        }
        let (one, other) = consumers.split_at_mut(1);
        let [(task_messages, last)] = one else { unreachable!() };
        let [(reports, report)] = other else { unreachable!() };
        let mut faults = 0;
        while coordinator.ended().is_none() {
            fleet.refill();
            let (delivery, publisher) = tokio::select! {
                delivery = task_messages.next() => (delivery, &mut *last),
                delivery = reports.next() => (delivery, &mut *report),
                () = tokio::time::sleep(Duration::from_millis(20)) => continue,
            };
            let delivery = delivery.unwrap().unwrap();
            let mut message = delivery.message.clone();
            if message.headers.insert("copy".into(), "1".into()).is_none() {
                publisher.publish(message).await.unwrap();
                faults += 1;
            }
            delivery.ack();
        }
        own.close().await;
        copies.close().await;
        faults
    });
    for queue in ["recipes", "results", "dead"] {
        broker.delete(&format!("edp.{}-copies.{queue}", fleet.production()));
    }
    // Each recipe has at least a task message, a beginning and an end.
    assert!(faults >= 2 * fleet.model.granules(), "{faults} copies");
    ScenarioEnd::good(coordinator, faults)
}

/// An input is changed after its task message was published.
fn input_changed(fleet: &mut Fleet<'_>, broker: &mut Broker, _: &mut Dice) -> Ran {
    let input = fleet.own_input("SIarea_mon_mean/SIarea_mon_mean.0000001428.data");
    let mut coordinator = fleet.coordinator();
    until("the queues are there", || fleet.depth(broker) > 0);
    let mut bytes = std::fs::read(&input).unwrap();
    bytes.push(0);
    std::fs::write(&input, bytes).unwrap();
    fleet.until_ended(&mut coordinator);
    assert!(coordinator.said("plan again"), "{}", coordinator.log());
    ScenarioEnd::without(coordinator, 1, "SEA_ICE_CONC_THICKNESS_mon_mean_1992-02")
}

/// Returns the words that give a process another clock; `None` without faketime. Only its library is used, because the
/// program would stand between the process and the test. Measured durations stay as they are.
pub(crate) fn clock(offset: &str) -> Option<Beneath> {
    let asked = Command::new("faketime").args(["-m", "-f", "+0s", "printenv", "LD_PRELOAD"]).output().ok()?;
    let library = String::from_utf8(asked.stdout).ok().filter(|_| asked.status.success())?;
    let library = format!("LD_PRELOAD={}", library.trim());
    Some(["env", &library, &format!("FAKETIME={offset}"), "FAKETIME_DONT_FAKE_MONOTONIC=1"].map(str::to_owned).to_vec())
}

/// Every worker has another time, and the coordinator is started again on a machine whose clock is behind.
fn clock_skew(fleet: &mut Fleet<'_>, _: &mut Broker, dice: &mut Dice) -> Ran {
    if clock("+0s").is_none() {
        return Err("there is no faketime: run `make deps`");
    }
    let at = |offset: &str| clock(offset).expect("faketime");
    fleet.next.extend(["+400d", "-400d", "+90s"].map(at));
    fleet.beneath = at("-3h");
    let mut coordinator = fleet.coordinator_beneath(&at("+2d"));
    until_made(fleet, &mut coordinator, 1 + dice.below(fleet.model.granules() / 2));
    coordinator.kill();
    let coordinator = fleet.coordinator_beneath(&at("-2d"));
    ScenarioEnd::good(coordinator, 5)
}

/// Granules that are recorded as done in the ledger are deleted at the destination.
fn destination_emptied(fleet: &mut Fleet<'_>, _: &mut Broker, _: &mut Dice) -> Ran {
    let mut coordinator = begin(fleet);
    until("the coordinator ends", || coordinator.ended().is_some());
    let mut taken = 0;
    for name in edp_tests::files(&fleet.out()).keys().step_by(3) {
        std::fs::remove_file(fleet.out().join(name)).unwrap();
        taken += 1;
    }
    ScenarioEnd::good(fleet.coordinator(), taken)
}
