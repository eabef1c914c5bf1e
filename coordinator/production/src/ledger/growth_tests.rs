//! How the work of the ledger grows with the number of its recipes.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // log2 of one ratio, of which the last bit is of no account

use super::tests::{check_tally, done, failed, id, recipes, started};
use super::{Ledger, LedgerEvent, RecipeState, view};
use edp_protocol::message::FailureKind;
use edp_protocol::recipe::Recipe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of recipes that are sent and reported on together.
const BATCH: usize = 100;

/// Returns recipes of two datasets in turn.
fn many(count: usize) -> Vec<Recipe> {
    let few = recipes();
    let recipe = |number: usize| {
        let mut recipe = few[number % 2 * 2].clone();
        recipe.granule = recipe.granule.replace("1992-01", &format!("{number:07}"));
        recipe.dynamic_metadata.time_coverage_start = Some(number.to_string());
        recipe.change(|_| ()).unwrap();
        recipe
    };
    (0..count).map(recipe).collect()
}

/// Returns the number of steps of SQLite's virtual machine in `work`, with those of its triggers.
fn steps<T>(ledger: &mut Ledger, work: impl FnOnce(&mut Ledger) -> T) -> u64 {
    let count = Arc::new(AtomicU64::new(0));
    let counting = count.clone();
    let step = move || {
        counting.fetch_add(1, Ordering::Relaxed);
        false
    };
    ledger.connection.progress_handler(1, Some(step));
    work(ledger);
    ledger.connection.progress_handler(0, None::<fn() -> bool>);
    count.load(Ordering::Relaxed)
}

fn sent(ledger: &mut Ledger, now: i64) -> Vec<LedgerEvent> {
    let due = ledger.take(now, BATCH).unwrap();
    assert_eq!(due.len(), BATCH);
    due.iter().map(|due| LedgerEvent::Sent { number: due.number, attempt: due.attempt }).collect()
}

/// Returns the steps of listing recipes, of each batch of a production afterwards, and of the questions about it, and
/// the size of the ledger.
fn work(count: usize) -> Vec<(&'static str, bool, u64)> {
    let recipes = many(count);
    let mut ledger = Ledger::in_memory("p", super::tests::POLICY).unwrap();
    let list = steps(&mut ledger, |ledger| ledger.list(&recipes).unwrap());
    let again = steps(&mut ledger, |ledger| ledger.list(&recipes).unwrap());
    // Half of the recipes are made, some fail, some are to be sent again, and others are under way.
    let batches: Vec<&[Recipe]> = recipes.chunks(BATCH).collect();
    let made = batches.len() / 2;
    let mut now = 0;
    for batch in &batches[..made] {
        now += 1;
        let events = sent(&mut ledger, now);
        ledger.write(&events, now).unwrap();
        ledger.write(&batch.iter().map(|one| done(one, 1, "w")).collect::<Vec<_>>(), now).unwrap();
    }
    for kind in [FailureKind::Transient, FailureKind::Permanent] {
        let events = sent(&mut ledger, now);
        ledger.write(&events, now).unwrap();
        let batch = batches[made + usize::from(kind == FailureKind::Permanent)];
        ledger.write(&batch.iter().map(|one| failed(one, 1, "v", kind)).collect::<Vec<_>>(), now).unwrap();
    }
    let take = steps(&mut ledger, |ledger| ledger.take(now, BATCH).unwrap());
    let events = sent(&mut ledger, now);
    let send = steps(&mut ledger, |ledger| ledger.write(&events, now).unwrap());
    let batch = batches[made + 2];
    let asked: Vec<_> = batch.iter().map(|one| (id(one), 1, "w".to_owned())).collect();
    let claims = steps(&mut ledger, |ledger| ledger.claims(&asked).unwrap());
    let outcomes: Vec<_> =
        batch[..BATCH / 2].iter().flat_map(|one| [started(one, 1, "w"), done(one, 1, "w")]).collect();
    let outcomes = steps(&mut ledger, |ledger| ledger.write(&outcomes, now).unwrap());
    let round = steps(&mut ledger, |ledger| {
        ledger.expire(now, true).unwrap();
        ledger.resend(now - 1, true, now).unwrap();
        (ledger.next().unwrap(), ledger.under_way().unwrap(), ledger.counts().unwrap(), ledger.backlog().unwrap())
    });
    let status = steps(&mut ledger, |ledger| {
        let overview = view::overview(&ledger.connection, now, 10).unwrap();
        assert_eq!((overview.problems.len(), overview.delayed.len()), (10, 10));
        assert_eq!(overview.count(|_| true), count as u64);
    });
    check_tally(&ledger);
    let size = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
    let size: u64 = ledger.connection.query_row(size, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs();
    vec![
        ("list", true, list),
        ("list again", true, again),
        ("size", true, size),
        ("take", false, take),
        ("write what was sent", false, send),
        ("claims", false, claims),
        ("write outcomes", false, outcomes),
        ("questions of a round", false, round),
        ("status", false, status),
    ]
}

#[test]
fn no_work_grows_faster_than_the_recipes_and_that_of_a_batch_or_a_question_does_not_grow() {
    let sizes = [2000, 4000, 8000];
    let [small, middle, large] = sizes.map(work);
    for ((small, middle), large) in small.into_iter().zip(middle).zip(large) {
        let (name, grows, counts) = (small.0, small.1, [small.2, middle.2, large.2]);
        let exponents = [1, 2].map(|i| (counts[i] as f64 / counts[i - 1] as f64).log2());
        println!("{name}: {counts:?} for {sizes:?} recipes, exponents {exponents:.3?}");
        assert!(counts[0] > 0, "{name}");
        let most = if grows { 1.05 } else { 0.05 };
        assert!(exponents.iter().all(|exponent| *exponent < most), "{name}: {counts:?} for {sizes:?} recipes");
    }
}

/// Each transaction waits for the disk.
#[test]
fn recipes_are_put_back_in_one_transaction_however_many_they_are() {
    let recipes = many(500);
    let mut ledger = super::tests::listed(&recipes);
    ledger.write(&recipes.iter().map(|one| done(one, 1, "w")).collect::<Vec<_>>(), 0).unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let counting = count.clone();
    let commit = move || {
        counting.fetch_add(1, Ordering::Relaxed);
        false
    };
    ledger.connection.commit_hook(Some(commit));
    let ids: Vec<String> = recipes.iter().map(id).collect();
    ledger.reopen(&ids[..300]).unwrap();
    ledger.make_again(&ids[300..400]).unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 2);
    let counts = ledger.counts().unwrap();
    assert_eq!((counts.of(RecipeState::Waiting), counts.of(RecipeState::Done)), (400, 100));
}
