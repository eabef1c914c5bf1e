//! The simulation against what is known exactly: with one resource that is short, the rate is that of the resource; and
//! whatever happens, no granule is lost or counted twice.

#![allow(clippy::expect_used)]

use edp_scale::{Costs, ListOrder, Measurements, SimulatedProduction, TaskKind};

/// A granule that costs next to nothing.
fn light() -> TaskKind {
    TaskKind {
        name: "light".into(),
        is_3d: false,
        rides: false,
        inputs: 1,
        directory: 0,
        steps: 1,
        input: 0.01,
        written: 0.01,
        cpu: 0.001,
        lock: 0.000_1,
        count: 1,
    }
}

/// Figures with which nothing is short, and nothing goes wrong.
fn ample() -> Costs {
    let mut costs = Costs::default();
    for (name, value) in [
        ("boot", 0.0),
        ("ramp", 0.0),
        ("listing", 0.0),
        ("interruptions", 0.0),
        ("losses", 0.0),
        ("stragglers", 0.0),
        ("gets", 1e7),
        ("puts", 1e7),
        ("network", 1e5),
        ("get_latency", 5.0),
        ("put_latency", 5.0),
        ("ledger_event", 1.0),
        ("ledger_sync", 0.001),
        ("broker_message", 1.0),
        ("broker_latency", 0.1),
        ("looks_at_once", 1000.0),
        ("batches_at_once", 16.0),
        ("processes", 16.0),
        ("calls", 1e5),
    ] {
        assert!(costs.set(name, value), "{name}");
    }
    costs
}

/// Makes this number of granules of one kind.
fn run(costs: &Costs, kind: &TaskKind, slots: u32, count: usize) -> Measurements {
    let production = SimulatedProduction {
        costs: costs.clone(),
        kinds: vec![kind.clone()],
        tasks: vec![0; count],
        slots,
        second_copies: false,
        seed: 1,
    };
    let measured = production.run();
    assert_eq!(measured.done + measured.failed, count as u64, "none is lost");
    measured
}

/// Returns the rate in the middle of a production, without its begin and its end.
fn steady(measured: &Measurements) -> f64 {
    let all = measured.done as f64;
    let at =
        |share: f64| measured.curve.iter().find(|point| point.1 as f64 >= share * all).expect("a point of the curve");
    let (from, to) = (at(0.2), at(0.8));
    (to.1 - from.1) as f64 / (to.0 - from.0)
}

/// Checks that a rate is what the formula says, within a share of it.
fn is_near(rate: f64, formula: f64, share: f64, what: &str) {
    assert!((rate / formula - 1.0).abs() < share, "{what}: {rate} a second, not {formula}");
}

#[test]
fn slots_that_wait_for_nobody_give_their_number_by_the_time_of_a_granule() {
    let kind = TaskKind { cpu: 0.2, input: 4.0, written: 2.0, ..light() };
    let mut costs = ample();
    costs.set("get_latency", 30.0);
    for slots in [1, 16, 64] {
        let measured = run(&costs, &kind, slots, 400 * slots as usize);
        is_near(measured.rate, f64::from(slots) / kind.alone(&costs), 0.03, &format!("{slots} slots"));
        assert!(measured.idle() < 0.02, "{}", measured.idle());
    }
}

/// The figures that make one resource short, the kind of granules, the number of slots, and the rate that follows.
type Shortage<'a> = (&'a [(&'a str, f64)], &'a TaskKind, u32, f64);

#[test]
fn the_rate_is_that_of_the_one_resource_that_is_short() {
    let kind = light();
    let large = TaskKind { input: 50.0, ..light() };
    let latency = 0.005 * mean_factor();
    let cases: [Shortage; 10] = [
        (&[("gets", 500.0), ("tries", 1000.0), ("least_calls", 1e5), ("slow_pause", 0.2)], &kind, 1024, 500.0 / 2.0),
        (&[("puts", 300.0), ("tries", 1000.0), ("least_calls", 1e5), ("slow_pause", 0.2)], &kind, 512, 300.0),
        // HEAD, header, data and PUT, each of which is a call of the one process.
        (&[("calls", 2.0), ("processes", 1.0)], &kind, 16, 2.0 / (4.0 * latency + 2.0 * 0.01 / 85.0)),
        (&[("ledger_event", 1000.0)], &kind, 64, 1000.0 / 3.0),
        (&[("broker_message", 1000.0)], &kind, 64, 1000.0 / 3.0),
        (&[("network", 16.0)], &large, 64, 4.0 * 2000.0 / 50.0),
        (&[("slots_per_core", 16.0)], &TaskKind { cpu: 0.1, ..light() }, 256, 16.0 / 0.1),
        (&[("processes", 1.0)], &TaskKind { cpu: 0.02, lock: 0.02, ..light() }, 16, 1.0 / 0.02),
        (&[("looks_at_once", 1.0), ("batches_at_once", 1.0)], &kind, 64, 1.0 / latency),
        (&[("looks_at_once", 4.0), ("batches_at_once", 1.0)], &kind, 64, 4.0 / latency),
    ];
    for (changes, kind, slots, formula) in cases {
        let mut costs = ample();
        for (name, value) in changes {
            costs.set(name, *value);
        }
        let measured = run(&costs, kind, slots, (formula * 60.0) as usize);
        assert_eq!(measured.failed, 0);
        is_near(steady(&measured), formula, 0.06, &format!("{changes:?}"));
    }
}

/// The figures of ledger and broker were derived from a production without granules: it has to come out again.
#[test]
fn a_production_without_granules_has_the_pace_that_was_measured() {
    let mut costs = ample();
    let usual = Costs::default();
    for (name, value) in [
        ("ledger_event", usual.ledger_event),
        ("ledger_sync", usual.ledger_sync),
        ("broker_message", usual.broker_message),
        ("broker_latency", 1.0),
        ("batches_at_once", usual.batches_at_once),
        ("get_latency", 0.001),
        ("put_latency", 0.001),
    ] {
        costs.set(name, value);
    }
    let nothing = TaskKind { cpu: 0.0, lock: 0.0, input: 0.0, written: 0.0, ..light() };
    let rate = steady(&run(&costs, &nothing, 200, 100_000));
    is_near(rate, 2640.0, 0.02, "the pace that was measured");
}

/// The mean latency as a multiple of the median, from what one slot needs to look at a granule.
fn mean_factor() -> f64 {
    let (mut costs, kind) = (ample(), light());
    let before = kind.alone(&costs);
    costs.set("get_latency", 1005.0);
    // A granule waits for three requests, one after the other: HEAD, header and data.
    (kind.alone(&costs) - before) / 3.0
}

#[test]
fn twice_the_slots_take_half_the_time_until_something_else_is_short() {
    let (mut costs, kind) = (ample(), TaskKind { cpu: 0.1, ..light() });
    costs.set("puts", 320.0);
    costs.set("tries", 1000.0);
    let rates = [4, 8, 16, 512].map(|slots| steady(&run(&costs, &kind, slots, 20_000)));
    for pair in rates[..3].windows(2) {
        is_near(pair[1], 2.0 * pair[0], 0.03, "twice the slots");
    }
    is_near(rates[3], 320.0, 0.03, "the limit of PUT");
}

#[test]
fn nothing_is_lost_however_many_machines_are() {
    let kind = TaskKind { cpu: 3.0, ..light() };
    let mut costs = ample();
    costs.set("boot", 20.0);
    costs.set("detection", 30.0);
    costs.set("losses", 1200.0);
    costs.set("interruptions", 1200.0);
    let measured = run(&costs, &kind, 160, 20_000);
    assert_eq!((measured.done, measured.failed), (20_000, 0));
    assert!(measured.lost > 100 && measured.taken > 20, "{} attempts, {} machines", measured.lost, measured.taken);
    assert_eq!(measured.attempts, 20_000 + measured.lost);
}

#[test]
fn second_copies_shorten_the_end_and_count_once() {
    let kind = TaskKind { cpu: 5.0, ..light() };
    let mut costs = ample();
    costs.set("stragglers", 5.0);
    costs.set("copy_least", 10.0);
    let production = |seed, second_copies| SimulatedProduction {
        costs: costs.clone(),
        kinds: vec![kind.clone()],
        tasks: vec![0; 2000],
        slots: 100,
        second_copies,
        seed,
    };
    let (mut without, mut with) = (0.0, 0.0);
    for seed in 0..8 {
        let [one, copied] = [false, true].map(|second_copies| production(seed, second_copies).run());
        assert_eq!((one.done, copied.done, one.copies), (2000, 2000, 0));
        assert!(copied.copies > 0);
        without += one.tail;
        with += copied.tail;
    }
    assert!(with < 0.7 * without, "{with} s after the last begin, and {without} s without copies");
}

#[test]
fn refused_requests_delay_and_too_many_of_them_fail_a_granule() {
    let (mut costs, kind) = (ample(), light());
    costs.set("gets", 40.0);
    costs.set("tries", 2.0);
    let impatient = run(&costs, &kind, 256, 2000);
    assert!(impatient.failed > 0 && impatient.refused > 0, "{} failed", impatient.failed);
    costs.set("tries", 1000.0);
    let patient = run(&costs, &kind, 256, 2000);
    assert!(patient.failed == 0 && patient.refused > 0);
}

#[test]
fn the_same_seed_gives_the_same_and_another_one_does_not() {
    let kinds = vec![light(), TaskKind { cpu: 1.0, ..light() }];
    let production = |seed| SimulatedProduction {
        costs: Costs::default(),
        kinds: kinds.clone(),
        tasks: (0..5000).map(|at| at % 2).collect(),
        slots: 100,
        second_copies: true,
        seed,
    };
    let [one, same, other] = [1, 1, 2].map(|seed| production(seed).run());
    assert_eq!(format!("{one:?}"), format!("{same:?}"));
    assert_ne!(one.seconds, other.seconds);
}

#[test]
fn a_release_is_made_whole_in_every_order() {
    let mut costs = Costs::default();
    costs.set("tries", 1000.0);
    for (order, grouped) in [(ListOrder::List, true), (ListOrder::ByTime, false)] {
        let measured = SimulatedProduction::release(costs.clone(), 1000, order, grouped).run();
        assert_eq!((measured.done, measured.failed), (538_734, 0), "{order:?}");
    }
}
