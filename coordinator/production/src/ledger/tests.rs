//! Tests of the ledger: its records, and its decisions.
#![allow(clippy::unwrap_used)]

use super::reading::{DUE, NEXT, UNDER_WAY, due_query};
use super::retries::Policy;
use super::view::UNFINISHED;
use super::{Ledger, LedgerError, LedgerEvent, RecipeState, View};
use crate::fixture;
use edp_protocol::GridKind;
use edp_protocol::message::FailureKind;
use edp_protocol::recipe::Recipe;
use edp_protocol::wire::{self, Done, Failed, InputRead, Outcome, StageTotal};
use std::time::Duration;

pub(super) const POLICY: Policy = Policy {
    attempts: 2,
    first_wait: Duration::from_secs(1),
    longest_wait: Duration::from_secs(10),
    lease: Duration::from_secs(60),
    lost_until_alone: 2,
    lost_until_failed: 3,
};

pub(super) fn recipes() -> Vec<Recipe> {
    fixture::recipes(&[GridKind::Native, GridKind::Latlon])
}

pub(super) fn id(recipe: &Recipe) -> String {
    recipe.plan().unwrap().id.clone()
}

fn outcome(recipe: &Recipe, attempt: u32, worker: &str, event: wire::TaskEvent) -> LedgerEvent {
    LedgerEvent::Reported(Box::new(Outcome {
        recipe_id: id(recipe),
        attempt,
        worker: worker.into(),
        build: "b".into(),
        event,
    }))
}

pub(super) fn started(recipe: &Recipe, attempt: u32, worker: &str) -> LedgerEvent {
    outcome(recipe, attempt, worker, wire::TaskEvent::Started)
}

pub(super) fn failed(recipe: &Recipe, attempt: u32, worker: &str, kind: FailureKind) -> LedgerEvent {
    outcome(
        recipe,
        attempt,
        worker,
        wire::TaskEvent::Failed(Failed { kind, reason: vec!["why".into(), "since".into()] }),
    )
}

pub(super) fn done(recipe: &Recipe, attempt: u32, worker: &str) -> LedgerEvent {
    let done = Done {
        location: recipe.granule.clone(),
        size: 7,
        sha256: "ab".into(),
        stages: vec![StageTotal { name: "read".into(), seconds: 0.5, bytes: 9 }],
        inputs: vec![InputRead { path: "a.data".into(), size: 9, sha256: "cd".into() }],
        warnings: vec!["odd".into(), "odder".into()],
        ..Done::default()
    };
    outcome(recipe, attempt, worker, wire::TaskEvent::Done(done))
}

pub(super) fn listed(recipes: &[Recipe]) -> Ledger {
    let mut ledger = Ledger::in_memory("p", POLICY).unwrap();
    ledger.list(recipes).unwrap();
    ledger
}

/// Sends what is due, and returns the attempts.
pub(super) fn send(ledger: &mut Ledger, now: i64) -> Vec<(i64, u32, bool)> {
    let due = ledger.due(now, 100).unwrap();
    let sent: Vec<LedgerEvent> =
        due.iter().map(|due| LedgerEvent::Sent { number: due.number, attempt: due.attempt }).collect();
    assert!(ledger.write(&sent, now).unwrap().is_empty());
    due.into_iter().map(|due| (due.number, due.attempt, due.alone)).collect()
}

/// Checks that the numbers which triggers keep are those of the recipes.
pub(super) fn check_tally(ledger: &Ledger) {
    let rows = |query: &str| -> Vec<[i64; 5]> {
        let mut statement = ledger.connection.prepare(query).unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?]);
        statement.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let counted = "SELECT dataset, state, count(*), sum(already = 0),
                   sum(iif(already = 0, CAST(1000 * seconds AS INTEGER), 0))
                   FROM recipe WHERE listed = 1 GROUP BY dataset, state ORDER BY dataset, state";
    assert_eq!(rows("SELECT * FROM tally WHERE recipes > 0 ORDER BY dataset, state"), rows(counted));
    assert_eq!(rows("SELECT * FROM tally WHERE recipes <= 0 AND (recipes, made, spent) != (0, 0, 0)"), [[0; 5]; 0]);
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
    assert_eq!((settled[0].state, settled[0].made.bytes, settled[0].made.warnings.len()), (RecipeState::Done, 7, 2));
    // Duplicates of every message have no effect.
    let again =
        [started(&recipes[0], 1, "w"), done(&recipes[0], 1, "w"), failed(&recipes[0], 1, "v", FailureKind::Permanent)];
    assert!(ledger.write(&again, 6).unwrap().is_empty());
    let counts = ledger.counts().unwrap();
    assert_eq!((counts.of(RecipeState::Done), counts.of(RecipeState::UnderWay), counts.settled()), (1, 3, 1));
    let mut all = Vec::new();
    ledger
        .each::<LedgerError>(&[RecipeState::Done], |one| {
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
    assert_eq!(settled[0].state, RecipeState::Done);
    ledger.write(&[LedgerEvent::Sent { number: due.number, attempt: 1 }, started(&recipes[0], 1, "w")], 2).unwrap();
    assert_eq!(ledger.counts().unwrap().of(RecipeState::Done), 1);
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
    // Messages about the first attempt say nothing about the second.
    assert!(ledger.write(&[failed(&recipes[0], 1, "w", FailureKind::Transient)], due).unwrap().is_empty());
    assert_eq!(ledger.counts().unwrap().of(RecipeState::UnderWay), 1);
    let settled = ledger.write(&[failed(&recipes[0], 2, "v", FailureKind::Transient)], due).unwrap();
    assert_eq!((settled[0].state, settled[0].attempts), (RecipeState::Failed, 2));
    // But a granule that exists is done.
    let settled = ledger.write(&[done(&recipes[0], 1, "w")], due).unwrap();
    assert_eq!((settled[0].state, settled[0].reason.as_deref()), (RecipeState::Done, None));
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
            assert_eq!((settled.state, &settled.id), (RecipeState::Failed, &id(&recipes[0])));
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
        // The worker was only cut off, and reports later.
        ledger.write(&[failed(&recipes[0], attempt, worker, FailureKind::Returned)], 0).unwrap();
    }
    assert_eq!(ledger.counts().unwrap().of(RecipeState::Failed), 0);
}

#[test]
fn leases_end() {
    let recipes = recipes();
    let mut ledger = listed(&recipes[..2]);
    send(&mut ledger, 0);
    ledger.write(&[started(&recipes[0], 1, "a")], 30_000).unwrap();
    assert!(ledger.expire(59_999, false).unwrap().is_empty());
    assert_eq!(ledger.counts().unwrap().of(RecipeState::UnderWay), 2);
    // While the queue exists, task messages that were not begun go on waiting.
    ledger.expire(60_000, true).unwrap();
    assert_eq!(ledger.counts().unwrap().of(RecipeState::UnderWay), 2);
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
    // The present list has one recipe less; the states of the others are known.
    ledger.list(&recipes[..3]).unwrap();
    let counts = ledger.counts().unwrap();
    assert_eq!(
        [RecipeState::Done, RecipeState::Failed, RecipeState::UnderWay].map(|state| counts.of(state)),
        [1, 1, 1]
    );
    assert_eq!(ledger.retry(RecipeState::Failed).unwrap(), 1);
    ledger.reopen(&[id(&recipes[0])]).unwrap();
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
    assert_eq!(ledger.counts().unwrap().of(RecipeState::Done), 0);
    assert_eq!(ledger.due(0, 9).unwrap().len(), recipes.len());
}

#[test]
fn the_tally_follows_the_list_and_the_states() {
    let mut recipes = recipes();
    let mut ledger = listed(&recipes);
    check_tally(&ledger);
    ledger.write(&[done(&recipes[0], 1, "w"), done(&recipes[1], 1, "w")], 0).unwrap();
    ledger.adopt(&[(id(&recipes[2]), 7)]).unwrap();
    check_tally(&ledger);
    let before = ledger.backlog().unwrap();
    assert_eq!((before.counts.of(RecipeState::Done), before.slot_seconds), (3, 0.5));
    for list in [&recipes[1..2], &[], &recipes[..3], &recipes[..]] {
        ledger.list(list).unwrap();
        assert_eq!(ledger.counts().unwrap().all(), list.len() as u64);
        check_tally(&ledger);
    }
    assert_eq!(ledger.backlog().unwrap(), before);
    recipes[0].granule = recipes[0].granule.replace("SEA_SURFACE_HEIGHT_mon_mean", "OTHER_mon_mean");
    ledger.list(&recipes).unwrap();
    check_tally(&ledger);
    assert_eq!(ledger.reopen(&[id(&recipes[1])]).map(|()| ledger.counts().unwrap().of(RecipeState::Done)).unwrap(), 1);
    check_tally(&ledger);
    // No time that a worker may invent is too long for it.
    for recipe in &recipes {
        let LedgerEvent::Reported(mut outcome) = done(recipe, 1, "w") else { unreachable!() };
        if let wire::TaskEvent::Done(done) = &mut outcome.event {
            done.stages[0].seconds = f64::MAX;
        }
        ledger.write(&[LedgerEvent::Reported(outcome)], 0).unwrap();
    }
    assert_eq!(ledger.counts().unwrap().of(RecipeState::Done), 4);
    assert_eq!(ledger.retry(RecipeState::Done).unwrap(), 4);
    assert!(ledger.backlog().unwrap().slot_seconds.is_finite());
}

#[test]
fn held_recipes_are_not_sent() {
    let mut recipes = recipes();
    recipes[0].recipe.as_mut().unwrap().missing = vec!["SSH".into()];
    let mut ledger = listed(&recipes);
    let counts = ledger.counts().unwrap();
    assert_eq!((counts.of(RecipeState::Held), counts.of(RecipeState::Waiting)), (1, 3));
    assert_eq!(send(&mut ledger, 0).len(), 3);
}

#[test]
fn other_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.ledger");
    std::fs::write(&path, "this is not a ledger, but a text that is long enough to be looked at by a database")
        .unwrap();
    assert!(matches!(Ledger::open(&path, "p", POLICY), Err(LedgerError::Sqlite { .. })));
    let connection = rusqlite::Connection::open(directory.path().join("q.ledger")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = Ledger::open(&directory.path().join("q.ledger"), "p", POLICY).unwrap_err();
    assert!(matches!(error, LedgerError::Layout { found: 99, .. }), "{error}");
}

/// An outcome that arrives twice counts once, whatever happens in between.
#[test]
fn duplicates_of_failures_count_once() {
    let recipes = recipes();
    let mut ledger = listed(&recipes[..1]);
    send(&mut ledger, 0);
    let transient = failed(&recipes[0], 1, "w", FailureKind::Transient);
    assert!(ledger.write(&[transient.clone(), transient.clone()], 0).unwrap().is_empty());
    assert!(ledger.write(&[started(&recipes[0], 1, "w"), transient.clone()], 5).unwrap().is_empty());
    let due = ledger.next().unwrap().unwrap();
    assert!(due <= 1500, "a late duplicate of `started` gives no lease: {due}");
    assert_eq!(send(&mut ledger, due)[0].1, 2);
    assert!(ledger.write(&[transient], due).unwrap().is_empty());
    assert_eq!(ledger.counts().unwrap().of(RecipeState::UnderWay), 1);
}

/// Attempts that outlive their leases count when they fail at last, each once. Otherwise they would be repeated for
/// ever.
#[test]
fn late_failures_count() {
    let recipes = recipes();
    let mut ledger = listed(&recipes[..1]);
    let begin = |ledger: &mut Ledger, attempt: u32, now: i64| {
        assert_eq!(send(ledger, now), [(1, attempt, false)]);
        let worker = format!("w{attempt}");
        assert!(ledger.write(&[started(&recipes[0], attempt, &worker)], now).unwrap().is_empty());
    };
    begin(&mut ledger, 1, 0);
    assert!(ledger.expire(60_000, false).unwrap().is_empty());
    begin(&mut ledger, 2, 60_000);
    // twice from its worker, and from another one that the same task message reached
    let late = failed(&recipes[0], 1, "w1", FailureKind::Transient);
    let other = failed(&recipes[0], 1, "other", FailureKind::Transient);
    assert!(ledger.write(&[late.clone(), late, other], 70_000).unwrap().is_empty());
    assert_eq!(ledger.counts().unwrap().of(RecipeState::UnderWay), 1);
    assert!(ledger.expire(120_000, false).unwrap().is_empty());
    begin(&mut ledger, 3, 120_000);
    let settled = ledger.write(&[failed(&recipes[0], 2, "w2", FailureKind::Transient)], 130_000).unwrap();
    assert_eq!(settled.len(), 1);
    assert_eq!(settled[0].state, RecipeState::Failed);
    // the attempt under way may still succeed
    assert_eq!(ledger.write(&[done(&recipes[0], 3, "w3")], 140_000).unwrap()[0].state, RecipeState::Done);
}

/// The outcome of a task message may arrive before the broker's confirmation, which is then too late to give a lease.
#[test]
fn an_outcome_before_the_confirmation_leaves_no_lease() {
    let recipes = recipes();
    let mut ledger = listed(&recipes[..1]);
    let due = ledger.due(0, 1).unwrap().remove(0);
    ledger.write(&[failed(&recipes[0], 1, "w", FailureKind::Returned)], 0).unwrap();
    ledger.write(&[LedgerEvent::Sent { number: due.number, attempt: due.attempt }], 0).unwrap();
    assert_eq!(ledger.next().unwrap(), Some(1000));
    assert_eq!(send(&mut ledger, 1000), [(1, 2, false)]);
}

/// After `retry` nothing earlier counts: neither lost workers, nor messages that arrive again.
#[test]
fn a_second_beginning_is_a_beginning() {
    let recipes = recipes();
    let mut ledger = listed(&recipes[..1]);
    for (attempt, worker) in [(1, "a"), (2, "b"), (3, "c")] {
        send(&mut ledger, 0);
        let lost = [started(&recipes[0], attempt, worker), failed(&recipes[0], attempt, "x", FailureKind::Lost)];
        ledger.write(&lost, 0).unwrap();
    }
    assert_eq!(ledger.counts().unwrap().of(RecipeState::Failed), 1);
    assert_eq!(ledger.retry(RecipeState::Failed).unwrap(), 1);
    let old = [failed(&recipes[0], 3, "c", FailureKind::Permanent), failed(&recipes[0], 2, "x", FailureKind::Lost)];
    assert!(ledger.write(&old, 1).unwrap().is_empty());
    assert_eq!(send(&mut ledger, 1), [(1, 4, false)]);
    ledger.write(&[started(&recipes[0], 4, "d"), failed(&recipes[0], 4, "x", FailureKind::Lost)], 2).unwrap();
    assert_eq!(send(&mut ledger, 2), [(1, 5, false)], "one worker was lost since");
}

/// A worker that was considered lost and sends any outcome again was not lost.
#[test]
fn a_worker_that_speaks_again_was_not_lost() {
    let recipes = recipes();
    let mut ledger = listed(&recipes[..2]);
    for (attempt, worker) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
        let now = i64::from(attempt) * 10;
        send(&mut ledger, now);
        let lost = [started(&recipes[0], attempt, worker), failed(&recipes[0], attempt, "x", FailureKind::Lost)];
        ledger.write(&lost, now).unwrap();
        ledger.write(&[started(&recipes[1], 1, worker)], now + 1).unwrap();
    }
    assert_eq!(ledger.counts().unwrap().of(RecipeState::Failed), 0);
    assert_eq!(send(&mut ledger, 100), [(1, 5, false)]);
}

/// Outcomes may contain any number.
#[test]
fn attempts_that_no_task_message_had_are_of_no_account() {
    let recipes = recipes();
    let mut ledger = listed(&recipes[..1]);
    send(&mut ledger, 0);
    let far = [started(&recipes[0], u32::MAX, "w"), failed(&recipes[0], u32::MAX, "w", FailureKind::Transient)];
    assert!(ledger.write(&far, 0).unwrap().is_empty());
    ledger.recall(1).unwrap();
    assert_eq!(send(&mut ledger, 1), [(1, 2, false)]);
}

/// Leases do not end because the clock was changed or no coordinator was running.
#[test]
fn leases_begin_anew_with_a_coordinator() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.ledger");
    let recipes = recipes();
    let now = super::now();
    for clock in [now - 1_000_000_000_000, now + 1_000_000_000_000] {
        let mut ledger = Ledger::open(&path, "p", POLICY).unwrap();
        ledger.list(&recipes[..2]).unwrap();
        ledger.recall(clock).unwrap();
        for due in ledger.due(clock, 1).unwrap() {
            ledger.write(&[LedgerEvent::Sent { number: due.number, attempt: due.attempt }], clock).unwrap();
        }
        drop(ledger);
        let mut ledger = Ledger::open(&path, "p", POLICY).unwrap();
        assert!(ledger.expire(super::now(), false).unwrap().is_empty());
        assert_eq!(ledger.under_way().unwrap(), 1);
        assert!(ledger.next().unwrap().unwrap() <= super::now() + 61_000);
    }
}

#[test]
fn task_messages_of_a_queue_that_is_gone_are_sent_again_and_whoever_ended_in_order_is_not_blamed() {
    let recipes = recipes();
    let mut ledger = listed(&recipes[..1]);
    for attempt in 1..6 {
        assert_eq!(send(&mut ledger, 0), [(1, attempt, false)]);
        ledger.write(&[started(&recipes[0], attempt, &format!("w{attempt}"))], 0).unwrap();
        ledger.dismiss(&format!("w{attempt}"), 0).unwrap();
        ledger.recall(0).unwrap();
    }
    for attempt in 6..9 {
        send(&mut ledger, 0);
        ledger.write(&[started(&recipes[0], attempt, &format!("w{attempt}"))], 0).unwrap();
        ledger.recall(0).unwrap();
    }
    assert_eq!(ledger.counts().unwrap().of(RecipeState::Failed), 1);
}

/// All queries of a coordinator's round, and those of `status`, use an index, without a scan or a sort.
#[test]
fn questions_of_every_round_are_answered_by_the_index() {
    let ledger = listed(&recipes());
    for query in [&due_query(DUE), NEXT, UNDER_WAY, UNFINISHED] {
        let mut statement = ledger.connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let parameters = vec![1; statement.parameter_count()];
        let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(3)).unwrap();
        let plan: Vec<String> = rows.map(Result::unwrap).filter(|step| step.contains("recipe")).collect();
        assert!(!plan.is_empty());
        let index = if query == UNFINISHED { "INDEX by_reason" } else { "INDEX by_state" };
        assert!(plan.iter().all(|step| step.contains(index)), "{plan:?}");
        let mut statement = ledger.connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let parameters = vec![1; statement.parameter_count()];
        let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(3)).unwrap();
        assert!(rows.map(Result::unwrap).all(|step| !step.contains("TEMP B-TREE")), "{query}");
    }
}

#[test]
fn others_may_read_and_put_back_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.ledger");
    assert!(matches!(View::open(&path), Err(LedgerError::Absent { .. })));
    assert!(matches!(Ledger::beside(&path), Err(LedgerError::Absent { .. })));
    let recipes = recipes();
    let mut ledger = Ledger::open(&path, "p", POLICY).unwrap();
    ledger.list(&recipes).unwrap();
    send(&mut ledger, 0);
    let events = [
        started(&recipes[0], 1, "w"),
        done(&recipes[0], 1, "w"),
        failed(&recipes[1], 1, "v", FailureKind::Permanent),
        started(&recipes[2], 1, "w"),
    ];
    let now = super::now();
    ledger.write(&events, now).unwrap();
    let view = View::open(&path).unwrap();
    let overview = view.overview(now + 20_000, 10).unwrap();
    assert_eq!(
        (overview.production.as_str(), overview.count(|_| true), overview.count(RecipeState::is_settled)),
        ("p", 4, 2)
    );
    assert_eq!(overview.datasets.iter().map(|one| one.states.values().sum::<u64>()).collect::<Vec<_>>(), [2, 2]);
    assert!(overview.pace.is_some_and(|pace| pace > 0.0 && pace <= 0.1));
    assert_eq!(overview.problems.len(), 1);
    assert_eq!(overview.problems[0].reason, "why: since");
    let w = overview.workers.iter().find(|worker| worker.name == "w").unwrap();
    assert_eq!((w.done, w.failed, w.at_work, w.last), (1, 0, 1, now));
    // A granule is found by any of its names.
    let name = recipes[0].granule.rsplit('/').next().unwrap();
    for text in [&id(&recipes[0]), &id(&recipes[0])[..20], &recipes[0].granule, name] {
        assert_eq!(view.find(text).unwrap(), [1], "{text}");
    }
    assert_eq!(view.find("SURFACE").unwrap().len(), 4);
    assert!(view.find("nothing of it").unwrap().is_empty());
    assert_eq!(view.near(&name.replace("native", "natal")).unwrap()[0], name);
    let granule = view.granule(1).unwrap();
    assert_eq!(granule.settled.state, RecipeState::Done);
    let made = granule.made.unwrap();
    assert_eq!((made.location.as_str(), made.inputs[0].sha256.as_str()), (recipes[0].granule.as_str(), "cd"));
    assert_eq!((granule.attempts.len(), granule.attempts[0].outcome), (1, Some("done")));
    assert_eq!(view.granule(2).unwrap().attempts[0].reason, ["why", "since"]);
    // A failed recipe is reset by another process, and the coordinator sends it.
    let (mut beside, at_work) = Ledger::beside(&path).unwrap();
    assert!(at_work);
    assert_eq!(beside.retry(RecipeState::Failed).unwrap(), 1);
    drop(beside);
    assert_eq!(send(&mut ledger, now), [(2, 2, false)]);
    drop(ledger);
    let (beside, at_work) = Ledger::beside(&path).unwrap();
    assert!(!at_work);
    assert!(matches!(Ledger::open(&path, "p", POLICY), Err(LedgerError::InUse { .. })));
    drop(beside);
}

/// As on a network file system: no other process can use it, and the error says what to do.
#[test]
fn an_exclusive_ledger_is_nobody_elses() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.ledger");
    drop(Ledger::open(&path, "p", POLICY).unwrap());
    let connection = super::connect(&path, true).unwrap();
    let mut ledger = Ledger {
        path: path.clone(),
        connection,
        policy: POLICY,
        exclusive: true,
        offered: std::collections::HashMap::new(),
        sent_twice: std::collections::HashSet::new(),
        is_copy: false,
        _lock: None,
    };
    ledger.set_fact("x", Some("y")).unwrap();
    assert!(!directory.path().join("p.ledger-wal").exists());
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.busy_timeout(Duration::ZERO).unwrap();
    assert!(connection.query_row("SELECT 1 FROM fact", [], |_| Ok(())).is_err());
    let copy = directory.path().join("copy");
    ledger.copy(&copy).unwrap();
    assert_eq!(View::open(&copy).unwrap().fact("x").unwrap().as_deref(), Some("y"));
}

#[test]
fn a_list_that_is_known_already_costs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.ledger");
    let recipes = recipes();
    let mut ledger = Ledger::open(&path, "p", POLICY).unwrap();
    ledger.list(&recipes).unwrap();
    let changes = ledger.connection.total_changes();
    ledger.list(&recipes).unwrap();
    assert_eq!(ledger.connection.total_changes(), changes);
    let view = View::open(&path).unwrap();
    assert!(view.knows_any(["x", &id(&recipes[1])]).unwrap() && !view.knows_any(["x"]).unwrap());
}

/// The size of a recipe in the file once it is done, with one attempt and the details of its outcome. Measured: 757 bytes,
/// where the recipe's own text has 1405, so 0.8 GB for a million.
#[test]
fn a_recipe_takes_less_than_its_text() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.ledger");
    let few = recipes();
    let many: Vec<Recipe> = (0..2000)
        .map(|n| {
            let mut recipe = few[n % 4].clone();
            recipe.granule = format!("{}{n:06}", recipe.granule);
            recipe.recipe.as_mut().unwrap().id = edp_protocol::Digest::of(&n.to_le_bytes()).as_str().to_owned();
            recipe
        })
        .collect();
    let text: usize = many.iter().map(|recipe| serde_json::to_vec(recipe).unwrap().len()).sum();
    let mut ledger = Ledger::open(&path, "p", POLICY).unwrap();
    ledger.list(&many).unwrap();
    let events: Vec<LedgerEvent> =
        many.iter().flat_map(|recipe| [started(recipe, 1, "worker"), done(recipe, 1, "worker")]).collect();
    assert_eq!(ledger.write(&events, 0).unwrap().len(), 2000);
    drop(ledger);
    let size = std::fs::metadata(&path).unwrap().len() as usize;
    println!("{} bytes a recipe, where its text has {}", size / 2000, text / 2000);
    assert!(size < 2000 * 1000, "{size} {text}");
}
