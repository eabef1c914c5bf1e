//! Several faults of several kinds in one production, at random.

use crate::faults::{clock, settle_queues, through_proxy};
use crate::fleet::{Fleet, Process};
use crate::scenario::{Dice, ScenarioEnd, until_made};
use edp_tests::broker::Broker;
use edp_tests::proxy::{Proxy, ProxyMode};
use edp_tests::until;
use std::time::Duration;

#[derive(Debug, Clone, Copy)]
enum Fault {
    KillWorker,
    KillCoordinator,
    KillBroker,
    StopBroker,
    Cut,
    Delay,
    Pass,
    Alarm,
    DeleteQueue,
    FreezeWorker,
    DismissWorker,
    SkewClock,
}

const FAULTS: [Fault; 12] = [
    Fault::KillWorker,
    Fault::KillCoordinator,
    Fault::KillBroker,
    Fault::StopBroker,
    Fault::Cut,
    Fault::Delay,
    Fault::Pass,
    Fault::Alarm,
    Fault::DeleteQueue,
    Fault::FreezeWorker,
    Fault::DismissWorker,
    Fault::SkewClock,
];

pub(crate) fn combination(
    fleet: &mut Fleet<'_>,
    broker: &mut Broker,
    dice: &mut Dice,
) -> Result<ScenarioEnd, &'static str> {
    // The recipes of both grids travel together, or each by itself.
    let group = ["always", "never"][dice.below(2)];
    fleet.settings.insert("EDP_RUN__GROUP".into(), group.into());
    let mut coordinator = fleet.coordinator();
    settle_queues(fleet, broker);
    let proxy = through_proxy(fleet, broker);
    let all = fleet.model.granules();
    let count = 4 + all / 32;
    let mut faults = Vec::new();
    for number in 0..count {
        if !until_made(fleet, &mut coordinator, number * all / (count + 2) + dice.below(all / (count + 2))) {
            break;
        }
        let fault = FAULTS[dice.below(FAULTS.len())];
        faults.push(fault);
        // The list of faults is kept in the fleet's directory for finding the cause of a failure.
        std::fs::write(fleet.path("faults"), format!("{faults:?}")).unwrap();
        happen(fault, fleet, broker, &proxy, &mut coordinator, dice);
    }
    proxy.set(ProxyMode::Pass);
    for worker in fleet.workers.iter_mut().filter_map(|worker| worker.ended().is_none().then_some(worker)) {
        worker.signal("CONT");
    }
    fleet.until_ended(&mut coordinator);
    ScenarioEnd::good(coordinator, faults.len()).map(|outcome| ScenarioEnd { keep: Some(Box::new(proxy)), ..outcome })
}

fn happen(
    fault: Fault,
    fleet: &mut Fleet<'_>,
    broker: &Broker,
    proxy: &Proxy,
    coordinator: &mut Process,
    dice: &mut Dice,
) {
    // Workers that were dismissed before may have ended in the meantime.
    fleet.refill();
    let worker = dice.below(fleet.workers.len());
    match fault {
        Fault::KillWorker => fleet.workers[worker].kill(),
        Fault::KillCoordinator => {
            coordinator.kill();
            *coordinator = fleet.coordinator();
        }
        Fault::KillBroker => {
            broker.kill();
            broker.run();
        }
        Fault::StopBroker => {
            broker.stop();
            broker.run();
        }
        Fault::Cut => proxy.cut(),
        Fault::Delay => proxy.set(ProxyMode::Delay(Duration::from_millis(dice.below(100) as u64))),
        Fault::Pass => proxy.set(ProxyMode::Pass),
        Fault::Alarm => {
            broker.alarm(true);
            broker.alarm(false);
        }
        Fault::DeleteQueue => {
            let queue = fleet.queue(["recipes", "results"][dice.below(2)]);
            // The queue may not have been made again since the last time.
            until("the queue is there", || coordinator.ended().is_some() || broker.has(&queue));
            if broker.has(&queue) {
                broker.delete(&queue);
            }
        }
        Fault::FreezeWorker => fleet.workers[worker].signal("STOP"),
        Fault::DismissWorker => {
            fleet.workers[worker].signal("CONT");
            fleet.workers[worker].signal("TERM");
        }
        Fault::SkewClock => {
            let offset = ["+1d", "-1d", "+10m"][dice.below(3)];
            fleet.next.extend(clock(offset));
            fleet.workers[worker].kill();
        }
    }
}
