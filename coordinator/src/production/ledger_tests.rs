//! The ledger: what it keeps, and what it decides.
#![allow(clippy::unwrap_used)]

use super::ledger::{Event, Ledger, LedgerError, Made, State};
use super::retries::Policy;
use crate::plan::fixture::{Production, job};
use edp_protocol::message::FailureKind;
use edp_protocol::recipe::Recipe;
use edp_protocol::{Frequency, GridKind, Mode};
use std::time::Duration;

const POLICY: Policy = Policy {
    attempts: 2,
    first_wait: Duration::from_secs(1),
    longest_wait: Duration::from_secs(10),
    lease: Duration::from_secs(60),
    lost_until_alone: 2,
    lost_until_failed: 3,
};

fn recipes() -> Vec<Recipe> {
    let production = Production::new("mon_mean", &["SSH", "ETAN"], &[732, 1428]);
    let inventory = production.inventory();
    let jobs = vec![job(1, 0, GridKind::Native, Frequency::Month), job(2, 0, GridKind::Latlon, Frequency::Month)];
    crate::plan::plan(&production.request(&inventory, Mode::Corrected, jobs)).unwrap().recipes
}

fn id(recipe: &Recipe) -> String {
    recipe.plan().unwrap().id.clone()
}

fn started(recipe: &Recipe, attempt: u32, worker: &str) -> Event {
    Event::Started { id: id(recipe), attempt, worker: worker.into() }
}

fn failed(recipe: &Recipe, attempt: u32, worker: &str, kind: FailureKind) -> Event {
    Event::Ended { id: id(recipe), attempt, worker: worker.into(), result: Err((kind, "why".into())) }
}

fn done(recipe: &Recipe, attempt: u32, worker: &str) -> Event {
    let made = Made { bytes: 7, sha256: "ab".into(), warnings: vec!["odd".into(), "odder".into()], ..Made::default() };
    Event::Ended { id: id(recipe), attempt, worker: worker.into(), result: Ok(made) }
}

fn listed(recipes: &[Recipe]) -> Ledger {
    let mut ledger = Ledger::in_memory("p", POLICY).unwrap();
    ledger.list(recipes).unwrap();
    ledger
}

/// Sends what is due, and says the attempts.
fn send(ledger: &mut Ledger, now: i64) -> Vec<(i64, u32, bool)> {
    let due = ledger.due(now, 100).unwrap();
    let sent: Vec<Event> = due.iter().map(|due| Event::Sent { number: due.number, attempt: due.attempt }).collect();
    assert!(ledger.write(&sent, now).unwrap().is_empty());
    due.into_iter().map(|due| (due.number, due.attempt, due.alone)).collect()
}

#[test]
fn recipes_are_sent_in_order_and_settled_once() {
    let recipes = recipes();
    let mut ledger = listed(&recipes);
    let due = ledger.due(0, 3).unwrap();
    assert_eq!(
        due.iter().map(|due| due.id.clone()).collect::<Vec<_>>(),
        recipes[..3].iter().map(id).collect::<Vec<_>>()
    );
    let back: Recipe = serde_json::from_slice(&due[0].recipe).unwrap();
    assert_eq!(back, recipes[0]);
    assert_eq!(back.variables.keys().collect::<Vec<_>>(), recipes[0].variables.keys().collect::<Vec<_>>());
    assert_eq!(send(&mut ledger, 0).len(), recipes.len());
    assert!(ledger.due(1_000_000, 9).unwrap().is_empty());
    assert_eq!(ledger.next().unwrap(), Some(60_000), "the leases");
    let settled = ledger.write(&[started(&recipes[0], 1, "w"), done(&recipes[0], 1, "w")], 5).unwrap();
    assert_eq!(settled.len(), 1);
    assert_eq!((settled[0].state, settled[0].made.bytes, settled[0].made.warnings.len()), (State::Done, 7, 2));
    // Duplicates of every message change nothing.
    let again =
        [started(&recipes[0], 1, "w"), done(&recipes[0], 1, "w"), failed(&recipes[0], 1, "v", FailureKind::Permanent)];
    assert!(ledger.write(&again, 6).unwrap().is_empty());
    let counts = ledger.counts().unwrap();
    assert_eq!((counts.of(State::Done), counts.of(State::UnderWay), counts.settled()), (1, 3, 1));
    let mut all = Vec::new();
    ledger
        .each::<LedgerError>(&[State::Done], |one| {
            all.push(one);
            Ok(())
        })
        .unwrap();
    assert_eq!(all, settled);
}

#[test]
fn news_may_come_in_any_order() {
    let recipes = recipes();
    let mut ledger = listed(&recipes);
    let due = ledger.due(0, 1).unwrap().remove(0);
    let settled = ledger.write(&[done(&recipes[0], 1, "w")], 1).unwrap();
    assert_eq!(settled[0].state, State::Done);
    ledger.write(&[Event::Sent { number: due.number, attempt: 1 }, started(&recipes[0], 1, "w")], 2).unwrap();
    assert_eq!(ledger.counts().unwrap().of(State::Done), 1);
}

#[test]
fn transient_failures_come_back_and_end() {
    let recipes = recipes();
    let mut ledger = listed(&recipes[..1]);
    send(&mut ledger, 0);
    assert!(ledger.write(&[failed(&recipes[0], 1, "w", FailureKind::Transient)], 0).unwrap().is_empty());
    let due = ledger.next().unwrap().unwrap();
    assert!((1000..=1500).contains(&due), "{due}");
    assert!(send(&mut ledger, due - 1).is_empty());
    assert_eq!(send(&mut ledger, due)[0].1, 2);
    // News of the first attempt say nothing about the second.
    assert!(ledger.write(&[failed(&recipes[0], 1, "w", FailureKind::Transient)], due).unwrap().is_empty());
    assert_eq!(ledger.counts().unwrap().of(State::UnderWay), 1);
    let settled = ledger.write(&[failed(&recipes[0], 2, "v", FailureKind::Transient)], due).unwrap();
    assert_eq!((settled[0].state, settled[0].attempts), (State::Failed, 2));
    // But a granule that stands there is there.
    let settled = ledger.write(&[done(&recipes[0], 1, "w")], due).unwrap();
    assert_eq!((settled[0].state, settled[0].reason.as_deref()), (State::Done, None));
}

#[test]
fn lost_workers_are_counted_against_what_they_had_begun() {
    let recipes = recipes();
    let mut ledger = listed(&recipes[..2]);
    let mut alone = Vec::new();
    for (attempt, worker) in [(1, "a"), (2, "b"), (3, "c")] {
        alone.push(send(&mut ledger, 0).iter().map(|sent| sent.2).collect::<Vec<_>>());
        // Both are delivered; only the first was begun when the worker went down.
        ledger.write(&[started(&recipes[0], attempt, worker)], 0).unwrap();
        let lost = [
            failed(&recipes[0], attempt, "x", FailureKind::Lost),
            failed(&recipes[1], attempt, "x", FailureKind::Lost),
        ];
        let settled = ledger.write(&lost, 0).unwrap();
        assert_eq!(settled.len(), usize::from(attempt == 3));
        if let [settled] = &settled[..] {
            assert_eq!((settled.state, &settled.id), (State::Failed, &id(&recipes[0])));
            assert!(settled.reason.as_ref().unwrap().contains("3 workers were lost while they made it (a, b, c)"));
        }
    }
    assert_eq!(alone, [vec![false, false], vec![false, false], vec![true, false]]);
    assert_eq!(send(&mut ledger, 0), [(2, 4, false)]);
}

#[test]
fn workers_that_come_back_are_not_lost() {
    let recipes = recipes();
    let mut ledger = listed(&recipes[..1]);
    for (attempt, worker) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
        send(&mut ledger, 0);
        ledger
            .write(&[started(&recipes[0], attempt, worker), failed(&recipes[0], attempt, "x", FailureKind::Lost)], 0)
            .unwrap();
        // It was only cut off, and says so later.
        ledger.write(&[failed(&recipes[0], attempt, worker, FailureKind::Returned)], 0).unwrap();
    }
    assert_eq!(ledger.counts().unwrap().of(State::Failed), 0);
}

#[test]
fn leases_end() {
    let recipes = recipes();
    let mut ledger = listed(&recipes[..2]);
    send(&mut ledger, 0);
    ledger.write(&[started(&recipes[0], 1, "a")], 30_000).unwrap();
    assert!(ledger.expire(59_999, false).unwrap().is_empty());
    assert_eq!(ledger.counts().unwrap().of(State::UnderWay), 2);
    // In a queue that is there, what was not begun waits on.
    ledger.expire(60_000, true).unwrap();
    assert_eq!(ledger.counts().unwrap().of(State::UnderWay), 2);
    ledger.expire(120_000, true).unwrap();
    assert_eq!(send(&mut ledger, 120_000), [(1, 2, false)]);
    ledger.expire(400_000, false).unwrap();
    assert_eq!(send(&mut ledger, 400_000).len(), 2);
}

#[test]
fn a_ledger_goes_on_where_it_was() {
    let recipes = recipes();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.ledger");
    {
        let mut ledger = Ledger::open(&path, "p", POLICY).unwrap();
        ledger.list(&recipes).unwrap();
        send(&mut ledger, 0);
        ledger.write(&[done(&recipes[0], 1, "w"), failed(&recipes[1], 1, "w", FailureKind::Permanent)], 0).unwrap();
        assert_eq!(ledger.fix_fact("build", "one").unwrap(), "one");
        assert!(matches!(Ledger::open(&path, "p", POLICY), Err(LedgerError::InUse { .. })));
    }
    assert!(matches!(Ledger::open(&path, "q", POLICY), Err(LedgerError::Production { .. })));
    let mut ledger = Ledger::open(&path, "p", POLICY).unwrap();
    assert_eq!(ledger.fix_fact("build", "two").unwrap(), "one");
    // The present list has one recipe less; what the others came to is known.
    ledger.list(&recipes[..3]).unwrap();
    let counts = ledger.counts().unwrap();
    assert_eq!([State::Done, State::Failed, State::UnderWay].map(|state| counts.of(state)), [1, 1, 1]);
    assert_eq!(ledger.retry(State::Failed).unwrap(), 1);
    ledger.reopen(&id(&recipes[0])).unwrap();
    let sent = send(&mut ledger, 0);
    assert_eq!(sent.iter().map(|sent| sent.1).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn a_list_for_another_place_is_made_there() {
    let mut recipes = recipes();
    let mut ledger = listed(&recipes);
    ledger.write(&[done(&recipes[0], 1, "w")], 0).unwrap();
    recipes[0].granule = recipes[0].granule.replace("out/", "elsewhere/");
    ledger.list(&recipes).unwrap();
    assert_eq!(ledger.counts().unwrap().of(State::Done), 0);
    assert_eq!(ledger.due(0, 9).unwrap().len(), recipes.len());
}

#[test]
fn held_recipes_are_not_sent() {
    let mut recipes = recipes();
    recipes[0].recipe.as_mut().unwrap().missing = vec!["SSH".into()];
    let mut ledger = listed(&recipes);
    let counts = ledger.counts().unwrap();
    assert_eq!((counts.of(State::Held), counts.of(State::Waiting)), (1, 3));
    assert_eq!(send(&mut ledger, 0).len(), 3);
}

#[test]
fn other_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.ledger");
    std::fs::write(&path, "this is no ledger, but a text that is long enough to be looked at by a database").unwrap();
    assert!(matches!(Ledger::open(&path, "p", POLICY), Err(LedgerError::Sqlite { .. })));
    let connection = rusqlite::Connection::open(directory.path().join("q.ledger")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = Ledger::open(&directory.path().join("q.ledger"), "p", POLICY).unwrap_err();
    assert!(matches!(error, LedgerError::Layout { found: 99, .. }), "{error}");
}
