//! Actions of the administrators of brokers and machines: policies, purged queues, file systems that are not mounted;
//! and actions of a broker on its queues.

use crate::fleet::Fleet;
use crate::scenario::{Dice, ScenarioEnd, begin, until_made};
use edp_tests::broker::Broker;
use edp_tests::until;
use std::process::Command;

type Ran = Result<ScenarioEnd, &'static str>;

/// Sets a policy for the queues of a production. The policy remains, since no other production has such names.
fn set(fleet: &Fleet<'_>, broker: &Broker, definition: &str) {
    let pattern = format!("^{}", fleet.queue("").replace('.', "\\."));
    broker.control(["set_policy", "--apply-to", "queues", fleet.production(), &pattern, definition]);
}

/// Task messages expire while there are no workers. No granule fails because of that, however often it happens.
pub(crate) fn task_messages_expire(fleet: &mut Fleet<'_>, broker: &mut Broker, _: &mut Dice) -> Ran {
    set(fleet, broker, "{\"message-ttl\": 300}");
    let coordinator = fleet.coordinator();
    until("the coordinator names the policy", || coordinator.said("message-ttl"));
    fleet.refill();
    ScenarioEnd::good(coordinator, 1)
}

/// The queue holds fewer task messages than the coordinator would send. The number that the broker accepts beyond that
/// depends on how fast they come, so the warning may not be given.
pub(crate) fn queues_are_short(fleet: &mut Fleet<'_>, broker: &mut Broker, _: &mut Dice) -> Ran {
    set(fleet, broker, "{\"max-length\": 2}");
    fleet.settings.insert("EDP_QUEUE__WINDOW".into(), fleet.model.granules().to_string());
    let coordinator = fleet.coordinator();
    until("task messages are in the queue", || fleet.depth(broker) > 0);
    fleet.refill();
    ScenarioEnd::good(coordinator, 1)
}

/// Queues that are unused for a second are deleted: that of the task messages, as long as there are no workers.
pub(crate) fn queues_expire(fleet: &mut Fleet<'_>, broker: &mut Broker, _: &mut Dice) -> Ran {
    let coordinator = fleet.coordinator();
    until("task messages are in the queue", || fleet.depth(broker) > 0);
    set(fleet, broker, "{\"expires\": 1000}");
    until("they are lost", || coordinator.said("task messages are lost"));
    fleet.refill();
    ScenarioEnd::good(coordinator, 1)
}

/// Somebody purges the queue before any task was begun.
pub(crate) fn queue_purged(fleet: &mut Fleet<'_>, broker: &mut Broker, _: &mut Dice) -> Ran {
    // A lease of twice this time would notice it too, but much later than the empty queue does.
    fleet.settings.insert("EDP_SERVE__DEADLINE".into(), "900".into());
    let coordinator = fleet.coordinator();
    until("the window is full", || fleet.depth(broker) >= 12);
    until("somebody is told to start workers", || coordinator.said("no worker takes task messages"));
    let queue = fleet.queue("recipes");
    broker.control(["purge_queue", queue.as_str()]);
    fleet.refill();
    until("the coordinator has noticed", || coordinator.said("task messages are lost"));
    ScenarioEnd::good(coordinator, 1)
}

/// The broker has a queue but does not serve it any more: first that of the outcomes, then that of the task messages.
pub(crate) fn queues_paralysed(fleet: &mut Fleet<'_>, broker: &mut Broker, dice: &mut Dice) -> Ran {
    fleet.settings.insert("EDP_QUEUE__CONFIRM".into(), "3".into());
    let mut coordinator = begin(fleet);
    let mut faults = 0;
    let step = fleet.model.granules() / 3;
    for (time, queue) in ["results", "recipes"].into_iter().enumerate() {
        if !until_made(fleet, &mut coordinator, time * step + 1 + dice.below(step - 1)) {
            break;
        }
        broker.paralyse(&fleet.queue(queue));
        faults += 1;
    }
    ScenarioEnd::good(coordinator, faults)
}

/// On the machine of one worker the results are not mounted. The granules whose inputs it does not find are made by
/// others, and it is told to end.
pub(crate) fn worker_misplaced(fleet: &mut Fleet<'_>, _: &mut Broker, _: &mut Dice) -> Ran {
    let mut mounting = Command::new("unshare");
    mounting.args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
    if !mounting.status().is_ok_and(|status| status.success()) {
        return Err("no file system can be mounted in a namespace: run as root");
    }
    let results = fleet.model.fixture.demo.results.display().to_string();
    let script = "mount -t tmpfs tmpfs \"$0\"; exec \"$@\"";
    fleet.next.push_back(["unshare", "-m", "sh", "-ec", script, &results].map(str::to_owned).to_vec());
    let coordinator = fleet.coordinator();
    // It is alone at first, so it sees every recipe before the others.
    let misplaced = fleet.worker();
    until("the misplaced worker ends", || misplaced.ended().is_some());
    let status = misplaced.ended().and_then(|status| status.code());
    assert!(status == Some(4) && misplaced.said("check its roots"), "{status:?}: {}", misplaced.log());
    fleet.refill();
    ScenarioEnd::good(coordinator, 1)
}
