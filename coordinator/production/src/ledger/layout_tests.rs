//! Ledgers of the earlier layout.
#![allow(clippy::unwrap_used)]

use super::schema::LAYOUT;
use super::tests::POLICY;
use super::{Ledger, LedgerError, Overview, RecipeState, View, layout};
use edp_protocol::recipe::Recipe;
use rusqlite::Connection;
use std::path::Path;

/// Writes a ledger of layout 2, with four recipes of the production `default`.
fn write(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(include_str!("layout_2.sql")).unwrap();
}

fn layout_of(path: &Path) -> i32 {
    layout(&Connection::open(path).unwrap()).unwrap()
}

fn overview(path: &Path) -> Overview {
    View::open(path).unwrap().overview(1_796_049_128_000, 10).unwrap()
}

/// Returns the texts of recipes, by their numbers.
fn recipes(path: &Path) -> Vec<Vec<u8>> {
    let view = View::open(path).unwrap();
    (1..=4).map(|number| view.granule(number).unwrap().recipe).collect()
}

#[test]
fn an_earlier_ledger_is_read_as_it_is_and_brought_to_the_present_layout_by_its_coordinator() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.ledger");
    write(&path);
    // Readers, and those who reset recipes while an earlier release may be at work, change no layout.
    let (before, texts) = (overview(&path), recipes(&path));
    assert_eq!((before.count(|_| true), before.count(RecipeState::is_settled)), (3, 2), "one is not listed any more");
    assert_eq!((before.datasets.len(), before.delayed.len(), before.workers.len()), (2, 1, 2));
    let id = |text: &Vec<u8>| serde_json::from_slice::<Recipe>(text).unwrap().recipe.unwrap().id;
    let (mut beside, at_work) = Ledger::beside(&path).unwrap();
    assert!(!at_work);
    let backlog = beside.backlog().unwrap();
    beside.make_again(&[id(&texts[2])]).unwrap();
    assert_eq!(beside.counts().unwrap().of(RecipeState::Done), 1);
    drop(beside);
    // Nor does the coordinator of another production.
    assert!(matches!(Ledger::open(&path, "other", POLICY), Err(LedgerError::Production { .. })));
    assert_eq!(layout_of(&path), 2);
    std::fs::remove_file(&path).unwrap();
    write(&path);
    let mut ledger = Ledger::open(&path, "default", POLICY).unwrap();
    assert_eq!(layout_of(&path), LAYOUT);
    assert_eq!((overview(&path), recipes(&path), ledger.backlog().unwrap()), (before, texts.clone(), backlog));
    // Its recipes are packed when they are listed again.
    let sizes = |ledger: &Ledger| -> i64 {
        ledger.connection.query_row("SELECT sum(length(recipe)) FROM body", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(sizes(&ledger), texts.iter().map(|text| text.len() as i64).sum::<i64>());
    let list: Vec<Recipe> = texts.iter().map(|text| serde_json::from_slice(text).unwrap()).collect();
    ledger.list(&list).unwrap();
    assert!(sizes(&ledger) * 8 < texts.iter().map(|text| text.len() as i64).sum());
    assert_eq!(ledger.recipes().unwrap(), list);
    assert_eq!(recipes(&path), texts);
    assert_eq!(ledger.counts().unwrap().all(), 4);
    drop(ledger);
    assert_eq!(Ledger::open(&path, "default", POLICY).unwrap().counts().unwrap().all(), 4);
}
