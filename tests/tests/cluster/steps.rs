//! Faults at system calls, made by strace, at every step of the required order, without any hook in the programs.
//!
//! A worker writes the partial file, verifies it, syncs it, links it, syncs the directory, unlinks the partial file,
//! publishes the outcome, waits for its confirmation, and acknowledges the delivery. A coordinator writes its ledger,
//! and only then acknowledges. Each of these is a system call; a process is killed as it enters the n-th of a kind in
//! one of its threads.

use crate::fleet::{Beneath, Fleet, Process};
use crate::scenario::{Dice, ScenarioEnd, begin, until_made};
use edp_tests::broker::Broker;
use edp_tests::{strace, until};
use std::path::{Path, PathBuf};

type Ran = Result<ScenarioEnd, &'static str>;

const NO_STRACE: &str = strace::NONE;

fn can_trace() -> bool {
    strace::is_there()
}

/// Returns the words that make something happen at some system calls: at all of them, or only at those on one file.
fn at(calls: &str, what: &str, file: Option<&Path>) -> Beneath {
    strace::words(calls, what, file, Path::new("/dev/null"))
}

/// Returns the words that kill a process as it enters the n-th of these system calls in one of its threads.
fn death(calls: &str, n: usize) -> Beneath {
    at(calls, &format!("signal=KILL:when={n}"), None)
}

/// System calls of a worker, with a number a little above that of one thread's calls for its first granule: opening the
/// partial file, writing it, reading it for verification, syncing it and its directory, linking, unlinking (an older
/// partial file, a trial file, the partial file itself), and the traffic with the broker (task messages, beginning,
/// outcome, acknowledgement).
const OF_WORKERS: [(&str, usize); 7] = [
    ("openat", 60),
    ("pwrite64,write", 60),
    ("pread64,read", 200),
    ("fsync", 6),
    ("linkat", 2),
    ("unlink", 6),
    ("sendto,writev,sendmsg", 12),
];

/// Returns kills of each kind. Where there are few calls, a complete run covers all of them.
fn kills(dice: &mut Dice, kinds: &[(&'static str, usize)], each: usize) -> Vec<(&'static str, usize)> {
    let mut kills = Vec::new();
    for &(calls, most) in kinds {
        let chosen = if most <= each { (1..=most).collect() } else { dice.some(each, (1..=most).collect()) };
        kills.extend(chosen.into_iter().map(|n| (calls, n)));
    }
    let count = kills.len();
    dice.some(count, kills)
}

/// Kills workers with SIGKILL at every step. Three are running at any time, some of them bound to be killed.
pub(crate) fn workers_killed(fleet: &mut Fleet<'_>, _: &mut Broker, dice: &mut Dice) -> Ran {
    if !can_trace() {
        return Err(NO_STRACE);
    }
    let each = (fleet.model.granules() / 32).max(1); // 1 in a short run, 6 in a long one
    let plan = kills(dice, &OF_WORKERS, each);
    let planned = plan.len();
    fleet.next.extend(plan.into_iter().map(|(calls, n)| death(calls, n)));
    let mut coordinator = begin(fleet);
    fleet.until_ended(&mut coordinator);
    let killed = killed(fleet);
    // Some of the later calls are never made, if the production ends before.
    assert!(2 * killed > planned, "{killed} of {planned} workers were killed");
    ScenarioEnd::good(coordinator, killed)
}

fn killed(fleet: &mut Fleet<'_>) -> usize {
    use std::os::unix::process::ExitStatusExt as _;
    let now = fleet.workers.iter_mut().filter_map(Process::ended).collect::<Vec<_>>();
    now.iter().chain(&fleet.gone).filter(|status| status.signal() == Some(9)).count()
}

/// System calls of a coordinator: opening the ledger, writing and syncing it, and the traffic with the broker.
const OF_COORDINATORS: [(&str, usize); 4] =
    [("openat", 40), ("pwrite64", 80), ("fsync,fdatasync", 20), ("sendto,writev,sendmsg", 60)];

/// Kills coordinators with SIGKILL at every step. Each is followed by the next one.
pub(crate) fn coordinator_killed(fleet: &mut Fleet<'_>, _: &mut Broker, dice: &mut Dice) -> Ran {
    if !can_trace() {
        return Err(NO_STRACE);
    }
    let each = (fleet.model.granules() / 48).max(1);
    let plan = kills(dice, &OF_COORDINATORS, each);
    let (planned, mut killed) = (plan.len(), 0);
    let mut last = None;
    for (calls, n) in plan {
        let mut coordinator = fleet.coordinator_beneath(&death(calls, n));
        fleet.until_ended(&mut coordinator);
        if !coordinator.was_killed() {
            last = Some(coordinator);
            break;
        }
        killed += 1;
    }
    assert!(2 * killed > planned, "{killed} of {planned} coordinators were killed");
    let coordinator = last.unwrap_or_else(|| fleet.coordinator());
    ScenarioEnd::good(coordinator, killed)
}

/// Every worker that reads one input is killed by it. Its granule fails, and nothing else does.
pub(crate) fn deadly_recipe(fleet: &mut Fleet<'_>, _: &mut Broker, _: &mut Dice) -> Ran {
    if !can_trace() {
        return Err(NO_STRACE);
    }
    let input = fleet.own_input("SIarea_mon_mean/SIarea_mon_mean.0000001428.data");
    fleet.beneath = at("pread64", "signal=KILL", Some(&input));
    let mut coordinator = begin(fleet);
    fleet.until_ended(&mut coordinator);
    let killed = killed(fleet);
    assert!(coordinator.said("workers were lost while they made it"), "{}", coordinator.log());
    ScenarioEnd::without(coordinator, killed, "SEA_ICE_CONC_THICKNESS_mon_mean_1992-02")
}

/// Reading one input takes longer than the deadline of a granule.
pub(crate) fn endless_recipe(fleet: &mut Fleet<'_>, _: &mut Broker, _: &mut Dice) -> Ran {
    if !can_trace() {
        return Err(NO_STRACE);
    }
    fleet.settings.insert("EDP_SERVE__DEADLINE".into(), "2".into());
    let input = fleet.own_input("SIarea_mon_mean/SIarea_mon_mean.0000001428.data");
    fleet.beneath = at("pread64", "delay_enter=3s", Some(&input));
    let mut coordinator = begin(fleet);
    fleet.until_ended(&mut coordinator);
    assert!(coordinator.said("took longer than 2 s"), "{}", coordinator.log());
    ScenarioEnd::without(coordinator, 5, "SEA_ICE_CONC_THICKNESS_mon_mean_1992-02")
}

/// Reading one input does not return, as on a file system that hangs. Such a thread ends only with its process: the
/// worker reports it, and ends long before the read does (half a minute after the deadline). The tracer holds the
/// thread until its delay is over, so the delay is finite.
pub(crate) fn hanging_recipe(fleet: &mut Fleet<'_>, _: &mut Broker, _: &mut Dice) -> Ran {
    if !can_trace() {
        return Err(NO_STRACE);
    }
    fleet.settings.insert("EDP_SERVE__DEADLINE".into(), "2".into());
    let input = fleet.own_input("SIarea_mon_mean/SIarea_mon_mean.0000001428.data");
    fleet.beneath = at("pread64", "delay_enter=40s", Some(&input));
    let mut coordinator = begin(fleet);
    // The input is needed by two granules, and a task message whose lease has ended is sent to another worker.
    for ended in 1..=4 * ATTEMPTS {
        until("workers give up", || {
            fleet.refill();
            coordinator.ended().is_some() || fleet.gone.len() >= ended
        });
    }
    fleet.until_ended(&mut coordinator);
    assert!(coordinator.said("took longer than 2 s"), "{}", coordinator.log());
    let codes: Vec<_> = fleet.gone.iter().map(std::process::ExitStatus::code).collect();
    assert!(!codes.is_empty() && codes.iter().all(|code| *code == Some(4)), "{codes:?}\n{}", fleet.logs());
    assert!(fleet.logs().contains("stopped, since nothing can be made here"), "{}", fleet.logs());
    ScenarioEnd::without(coordinator, codes.len(), "SEA_ICE_CONC_THICKNESS_mon_mean_1992-02")
}

/// Number of transient failures after which a recipe fails.
const ATTEMPTS: usize = 5;

/// Reading a file that many granules need fails once: the grid, its geometry, the factors and the metadata, each in a
/// worker of its own. No recipe is to blame, and later reads may succeed.
pub(crate) fn disk_flaky(fleet: &mut Fleet<'_>, _: &mut Broker, _: &mut Dice) -> Ran {
    if !can_trace() {
        return Err(NO_STRACE);
    }
    let demo = &fleet.model.fixture.demo;
    let once = "error=EIO:when=1";
    let faults = [
        ("read,pread64", demo.grid.join("XC.data")),
        ("getdents64", demo.factors.join("land_mask")),
        ("read", demo.factors.join("latlon_grid/latlon_grid.xz")),
        ("statx", demo.configuration.clone()),
        ("read", demo.configuration.clone()),
    ];
    let logs: Vec<_> = (0..faults.len()).map(|n| fleet.path(&format!("flaky-{n}.strace"))).collect();
    let words = faults.iter().zip(&logs).map(|((calls, file), log)| strace::words(calls, once, Some(file), log));
    let words: Vec<_> = words.collect();
    fleet.next.extend(words);
    let mut coordinator = begin(fleet);
    // Each worker is needed for a while; then the next takes its place.
    for _ in 0..faults.len() {
        let made = fleet.made();
        if !until_made(fleet, &mut coordinator, made + 2) {
            break;
        }
        let worker = &mut fleet.workers[0];
        until("it has begun", || worker.said("slots"));
        worker.signal("TERM");
        until("it ends", || worker.ended().is_some());
    }
    fleet.until_ended(&mut coordinator);
    let injected = |log: &PathBuf| std::fs::read_to_string(log).unwrap_or_default().contains("(INJECTED)");
    let failed = logs.iter().filter(|log| injected(log)).count();
    assert!(failed >= 2, "{failed} workers met with an error: {}", fleet.logs());
    ScenarioEnd::good(coordinator, failed)
}

/// The broker takes deliveries back before their granules are done.
pub(crate) fn consumer_timeout(fleet: &mut Fleet<'_>, broker: &mut Broker, dice: &mut Dice) -> Ran {
    if !can_trace() {
        return Err(NO_STRACE);
    }
    broker.consumer_timeout(1000);
    // Each of the first workers needs a long time for one of its granules.
    let slow = |n: usize| at("linkat", &format!("delay_enter=4s:when={n}"), None);
    fleet.next.extend((0..3).map(|_| slow(1 + dice.below(fleet.model.granules() / 6))));
    let mut coordinator = begin(fleet);
    until_made(fleet, &mut coordinator, fleet.model.granules());
    until("it has happened", || coordinator.ended().is_some());
    broker.consumer_timeout(24 * 60 * 60 * 1000);
    let lost = fleet.logs().matches("PRECONDITION").count();
    assert!(lost > 0, "no delivery was taken back: {}", fleet.logs());
    ScenarioEnd::good(coordinator, lost)
}
