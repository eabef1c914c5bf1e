//! The walk in `doc/architecture.md`: the calls by which a recipe and its outcome go through the rooms of the code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One row of a table: a call into a room.
#[derive(Debug)]
struct Step {
    room: String,
    function: String,
    file: String,
    /// The text of the call, and the file of the caller; `None` for the first step.
    call: Option<(String, String)>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the code of a source file, without its tests.
fn code(file: &str) -> String {
    let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    code.lines().filter(is_code).collect::<Vec<_>>().join("\n")
}

/// Returns the texts between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns the tables of the section about the walk.
fn walks(page: &str) -> Vec<Vec<Step>> {
    let section = page.split("\n## The walk\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let lines = section.expect("the section about the walk").lines();
    let mut walks: Vec<Vec<Step>> = Vec::new();
    for line in lines.filter(|line| line.starts_with('|') && !line.starts_with("|---")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if cells[0] == "room" {
            walks.push(Vec::new());
            continue;
        }
        let (place, call) = (quoted(cells[1]), quoted(cells.get(2).unwrap_or(&"")));
        let [function, file] = &place[..] else { panic!("{line}") };
        let call = match &call[..] {
            [] => None,
            [call, caller] => Some((call.clone(), caller.clone())),
            _ => panic!("{line}"),
        };
        let (room, function, file) = (cells[0].to_owned(), function.clone(), file.clone());
        walks.last_mut().expect("a title").push(Step { room, function, file, call });
    }
    walks
}

fn page() -> String {
    std::fs::read_to_string(root().join("doc/architecture.md")).expect("the page")
}

#[test]
fn functions_and_calls_of_the_walk_exist() {
    let walks = walks(&page());
    assert_eq!(walks.iter().map(|walk| walk.len() >= 8).collect::<Vec<_>>(), [true, true], "the way there and back");
    for step in walks.iter().flatten() {
        let Step { function, file, .. } = step;
        let declares = [format!("fn {function}("), format!("fn {function}<")];
        assert!(declares.iter().any(|text| code(file).contains(text)), "{file} declares no function {function}");
        let Some((call, caller)) = &step.call else { continue };
        assert_eq!(code(caller).matches(call.as_str()).count(), 1, "calls `{call}` in {caller}");
    }
}

#[test]
fn calls_of_the_walk_are_made_in_its_rooms() {
    for walk in walks(&page()) {
        let files: BTreeSet<&str> = walk.iter().map(|step| step.file.as_str()).collect();
        for (at, step) in walk.iter().enumerate() {
            match &step.call {
                None => assert_eq!(at, 0, "nobody calls {step:?}"),
                Some((_, caller)) => assert!(files.contains(caller.as_str()), "{caller} is not on the way: {step:?}"),
            }
        }
    }
}

#[test]
fn no_room_of_the_walk_is_entered_again() {
    for walk in walks(&page()) {
        let mut left = BTreeSet::new();
        let mut room = "";
        for step in &walk {
            if step.room != room {
                assert!(!left.contains(step.room.as_str()), "{} is entered again: {step:?}", step.room);
                left.insert(room);
                room = &step.room;
            }
        }
        // A file belongs to one room.
        for step in &walk {
            let rooms: BTreeSet<&str> =
                walk.iter().filter(|other| other.file == step.file).map(|other| other.room.as_str()).collect();
            assert_eq!(rooms.len(), 1, "{} is in the rooms {rooms:?}", step.file);
        }
    }
}
