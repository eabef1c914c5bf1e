//! `doc/operations.md`: its messages are those of the programs, its faults those that are tested, its figures measured ones.

use crate::{read, root};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Messages of SQLite.
const OTHERS: [&str; 2] = ["file is not a database", "database disk image is malformed"];

/// Appends the text of all sources below a directory, with the lines of texts put together.
fn sources(directory: &Path, all: &mut String) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut parts = text.split("\\\n");
            all.push_str(parts.next().unwrap_or_default());
            parts.for_each(|part| all.push_str(part.trim_start()));
        }
    }
}

/// Returns the texts in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the first cells of the rows of tables whose first heading begins so.
fn first_cells<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let mut table = None;
    let mut cells = Vec::new();
    for line in page.lines() {
        let Some(cell) = line.strip_prefix('|').and_then(|rest| rest.split('|').next()) else {
            table = None;
            continue;
        };
        match table {
            None => table = Some(cell.trim().starts_with(heading)),
            Some(true) => cells.push(cell.trim()),
            Some(false) => {}
        }
    }
    cells
}

#[test]
fn every_quoted_message_is_one_of_the_programs() {
    let mut all = String::new();
    for directory in ["coordinator", "worker", "protocol"] {
        sources(&root().join(directory), &mut all);
    }
    assert!(all.len() > 1 << 20);
    let page = read("doc/operations.md");
    let cells = first_cells(&page, "message");
    let messages: Vec<&str> = cells.iter().flat_map(|cell| quoted(cell)).collect();
    assert!(messages.len() > 40, "{messages:?}");
    for message in messages {
        // Settings and commands are no messages.
        let is_other = message.starts_with("edp-") || message.starts_with("queue.") || OTHERS.contains(&message);
        assert!(is_other || all.contains(message), "no program says '{message}'");
    }
}

#[test]
fn every_tested_fault_has_its_row() {
    let names = |page: &str, heading: &str| -> BTreeSet<String> {
        let cells = first_cells(page, heading);
        let all = cells.iter().flat_map(|cell| quoted(cell)).map(str::to_owned);
        all.collect()
    };
    let tested = names(&read("doc/faults.md"), "scenario");
    let (page, mut told) = (read("doc/operations.md"), BTreeSet::new());
    told.extend(names(&page, "fault"));
    assert!(tested.len() > 25, "{tested:?}");
    assert_eq!(told, tested);
}

/// The figures for sizing stand where they were measured.
#[test]
fn no_figure_is_invented() {
    let measured = [read("doc/performance.md"), read("deploy/machine/README.md"), read("doc/limits.md")].concat();
    let page = read("doc/operations.md");
    for figure in [
        "50 core-hours",
        "21 TB",
        "9 TB",
        "180 MB",
        "120 MB",
        "986",
        "1,630",
        "140 small",
        "40 large",
        "2,640",
        "3 GB",
        "8 GiB",
    ] {
        assert!(page.contains(figure) && measured.contains(figure), "{figure}");
    }
}
