//! Tests of task messages that were never begun, and of recipes that a worker could not access.
#![allow(clippy::unwrap_used)]

use super::tests::{done, failed, id, listed, recipes, send, started};
use super::{LedgerError, LedgerEvent, RecipeState};
use crate::records::GranuleRecord;
use edp_protocol::Digest;
use edp_protocol::message::FailureKind;
use edp_protocol::recipe::Recipe;

/// An input that one worker does not find fails the recipe only once a second worker reports the same, however many
/// other workers there are.
#[test]
fn what_one_worker_does_not_find_another_is_asked_for() {
    let recipes = recipes();
    let mut ledger = listed(&recipes[..2]);
    let missed = |attempt, worker| failed(&recipes[0], attempt, worker, FailureKind::NotFound);
    let (one, other) = ("a-x-1-1", "b-y-1-1");
    let mut now = 0;
    send(&mut ledger, now);
    ledger.write(&[started(&recipes[1], 1, other)], now).unwrap();
    for attempt in 1..=3 {
        assert!(ledger.write(&[missed(attempt, one), missed(attempt, one)], now).unwrap().is_empty(), "{attempt}");
        now += 60_000;
        assert_eq!(send(&mut ledger, now), [(1, attempt + 1, false)]);
    }
    // None of this counts as a failure, and the reason for sending it again is recorded.
    let mut waiting = ledger.write(&[missed(4, one)], now).unwrap();
    assert!(waiting.is_empty());
    ledger
        .each::<LedgerError>(&[RecipeState::Waiting], |one| {
            waiting.push(one);
            Ok(())
        })
        .unwrap();
    assert_eq!(waiting[0].reason.as_deref(), Some("why: since"));
    now += 60_000;
    send(&mut ledger, now);
    let settled = ledger.write(&[missed(5, other)], now).unwrap();
    let reason = settled[0].reason.clone().unwrap();
    assert!(settled[0].state == RecipeState::Failed && reason.contains(one) && reason.contains(other), "{reason}");
}

/// The members of a task group are begun one after the other.
#[test]
fn one_that_waits_behind_another_of_its_group_is_not_lost() {
    let recipes = recipes();
    let mut ledger = listed(&recipes);
    send(&mut ledger, 0);
    let count = recipes.len();
    // The first one, which reads the same as the third, is begun; of the others nothing is known.
    ledger.write(&[started(&recipes[0], 1, "w")], 1).unwrap();
    assert_eq!(ledger.resend_groups(1, 2).unwrap(), count - 2);
    let again: Vec<i64> = ledger.due(2, 100).unwrap().iter().map(|due| due.number).collect();
    assert!(!again.contains(&1) && !again.contains(&3), "{again:?}");
    // If the queue itself was lost, so are all that are not begun.
    assert_eq!(ledger.resend(1, true, 3).unwrap(), 1);
}

#[test]
fn a_worker_alone_is_asked_three_times_over_the_back_off() {
    let recipes = recipes();
    let mut ledger = listed(&recipes[..1]);
    let mut now = 0;
    for attempt in 1..=2 {
        send(&mut ledger, now);
        assert!(ledger.write(&[failed(&recipes[0], attempt, "w", FailureKind::Denied)], now).unwrap().is_empty());
        assert!(ledger.due(now + 400, 9).unwrap().is_empty(), "not at once");
        now += 60_000;
    }
    send(&mut ledger, now);
    let settled = ledger.write(&[failed(&recipes[0], 3, "w", FailureKind::Denied)], now).unwrap();
    assert_eq!((settled[0].state, settled[0].attempts), (RecipeState::Failed, 3));
    // A reset begins from the start.
    ledger.reopen(&[id(&recipes[0])]).unwrap();
    send(&mut ledger, now);
    assert!(ledger.write(&[failed(&recipes[0], 4, "w", FailureKind::Denied)], now).unwrap().is_empty());
}

/// A task message that a policy of the broker drops costs no attempt, however often; one that was begun nevertheless
/// goes on.
#[test]
fn dropped_task_messages_are_sent_again_and_count_for_nothing() {
    let recipes = recipes();
    let mut ledger = listed(&recipes[..2]);
    let dropped =
        |recipe: &Recipe, attempt| LedgerEvent::Dropped { id: id(recipe), attempt, reason: "a policy".into() };
    send(&mut ledger, 0);
    ledger.write(&[started(&recipes[1], 1, "w")], 1).unwrap();
    let mut now = 0;
    for attempt in 1..20 {
        let events = [dropped(&recipes[0], attempt), dropped(&recipes[0], attempt), dropped(&recipes[1], 1)];
        assert!(ledger.write(&events, now).unwrap().is_empty());
        assert_eq!(ledger.under_way().unwrap(), 1);
        assert!(ledger.due(now + 1999, 9).unwrap().is_empty(), "not at once");
        // Nor does a worker that starts late have to wait for long.
        now += 3000;
        assert_eq!(send(&mut ledger, now), [(1, attempt + 1, false)]);
        // A late message about an earlier task message has no effect.
        assert!(ledger.write(&[dropped(&recipes[0], attempt)], now).unwrap().is_empty());
        assert_eq!(ledger.under_way().unwrap(), 2);
    }
    let settled = ledger.write(&[done(&recipes[0], 20, "w"), done(&recipes[1], 1, "w")], now).unwrap();
    assert!(settled.iter().all(|one| one.state == RecipeState::Done && one.reason.is_none()), "{settled:?}");
}

#[test]
fn task_messages_that_are_lost_with_the_queue_are_sent_again() {
    let recipes = recipes();
    let mut ledger = listed(&recipes);
    send(&mut ledger, 0);
    for attempt in [1, 2] {
        let lost = failed(&recipes[0], attempt, "w", FailureKind::Lost);
        ledger.write(&[started(&recipes[0], attempt, &format!("v{attempt}")), lost], 0).unwrap();
    }
    assert_eq!(ledger.due(10_000, 9).unwrap().len(), 1);
    // The first is to run alone now; the second is begun.
    assert!(send(&mut ledger, 10_000)[0].2);
    ledger.write(&[started(&recipes[1], 1, "w")], 10_001).unwrap();
    assert_eq!(ledger.resend(-1, false, 20_000).unwrap(), 0, "sent later than that");
    assert_eq!(ledger.resend(0, false, 20_000).unwrap(), 2);
    assert_eq!(send(&mut ledger, 20_000), [(3, 2, false), (4, 2, false)]);
    assert_eq!(ledger.resend(20_000, true, 30_000).unwrap(), 3, "all but the one that is begun");
    assert_eq!(send(&mut ledger, 30_000).len(), 3);
    assert_eq!(ledger.under_way().unwrap(), 4);
}

#[test]
fn a_recorded_digest_stays_where_a_granule_is_only_seen_to_be_there() {
    let recipes = recipes();
    let mut ledger = listed(&recipes[..1]);
    let id = id(&recipes[0]);
    let record = GranuleRecord {
        id: id.clone(),
        bytes: 7,
        sha256: Digest::of(b"granule"),
        production_date: None,
        granule: recipes[0].granule.clone(),
    };
    ledger.record([&record].into_iter()).unwrap();
    ledger.adopt(&[(id.clone(), 7)]).unwrap();
    assert_eq!(ledger.counts().unwrap().of(RecipeState::Done), 1);
    ledger.make_again(std::slice::from_ref(&id)).unwrap();
    assert_eq!(ledger.due(0, 10).unwrap()[0].sha256, record.sha256.as_str());
    // but a digest of a granule that was read replaces it
    ledger.reopen(std::slice::from_ref(&id)).unwrap();
    send(&mut ledger, 0);
    ledger.write(&[done(&recipes[0], 1, "w")], 0).unwrap();
    ledger.make_again(std::slice::from_ref(&id)).unwrap();
    assert_eq!(ledger.due(0, 10).unwrap()[0].sha256, "ab");
}
