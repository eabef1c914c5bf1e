//! The tables of the file.

/// Layout of the file, which is raised when it changes.
pub(super) const LAYOUT: i32 = 2;

/// Rows of `recipe` change several times each and are scanned for reports. Data that are large and do not change are in
/// tables of their own.
pub(super) const TABLES: &str = "
CREATE TABLE dataset (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE recipe (
    number   INTEGER PRIMARY KEY,       -- order of sending
    id       TEXT NOT NULL UNIQUE,
    granule  TEXT NOT NULL,
    dataset  INTEGER NOT NULL,
    listed   INTEGER NOT NULL,          -- whether the present task list has it
    state    INTEGER NOT NULL,          -- see State
    due      INTEGER NOT NULL,          -- ms since 1970: waiting: when to send; under way: end of the lease
    attempt  INTEGER NOT NULL DEFAULT 0,-- of the last task message sent
    base     INTEGER NOT NULL DEFAULT 0,-- up to this attempt nothing counts any more: it was put back to the beginning
    failures INTEGER NOT NULL DEFAULT 0,-- transient ones
    alone    INTEGER NOT NULL DEFAULT 0,-- whether it is to run alone in its worker
    already  INTEGER NOT NULL DEFAULT 0,-- 1: the granule stood there before; more: so it did, made by the output version before this number
    bytes    INTEGER NOT NULL DEFAULT 0,
    sha256   TEXT NOT NULL DEFAULT '',
    seconds  REAL NOT NULL DEFAULT 0,
    reason   TEXT,
    warnings TEXT
) STRICT;
CREATE INDEX by_state ON recipe (listed, state, due, number);
CREATE TABLE body (
    number   INTEGER PRIMARY KEY,
    recipe   BLOB NOT NULL              -- JSON, keys in the recipe's order
) STRICT;
CREATE TABLE detail (
    number   INTEGER PRIMARY KEY,
    made     BLOB NOT NULL              -- see detail.rs
) STRICT;
CREATE TABLE worker (
    number   INTEGER PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE,
    build    TEXT NOT NULL,
    first    INTEGER NOT NULL,          -- ms since 1970: when it was first heard of
    last     INTEGER NOT NULL,          -- and last
    done     INTEGER NOT NULL DEFAULT 0,
    failed   INTEGER NOT NULL DEFAULT 0 -- of any kind
) STRICT;
CREATE TABLE attempt (
    number   INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    worker   INTEGER NOT NULL,
    started  INTEGER NOT NULL,          -- ms since 1970
    ended    INTEGER,                   -- when the worker said how it ended
    lost     INTEGER,                   -- when it was given up without a word of the worker
    kind     INTEGER,                   -- how it ended: -1 done, else the position of the FailureKind
    reason   TEXT,                      -- JSON: the error, then its causes
    PRIMARY KEY (number, attempt, worker)
) STRICT, WITHOUT ROWID;
CREATE TABLE pace (
    at       INTEGER PRIMARY KEY,       -- ms since 1970, in steps of PACE
    done     INTEGER NOT NULL,
    bytes    INTEGER NOT NULL
) STRICT;
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

/// Steps in which the pace of a production is recorded, in ms.
pub(super) const PACE: i64 = 10_000;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::RecipeState;
    use super::*;

    /// Rows of the first columns of the tables of a page of `doc/`, without their quotes.
    fn first_columns(page: &str) -> Vec<(&str, &str)> {
        let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
        rows.filter_map(|(first, rest)| Some((first.trim_matches('`'), rest.split(" | ").next()?))).collect()
    }

    #[test]
    fn every_column_state_and_kind_stands_on_the_page_of_the_ledger() {
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../doc/ledger.md"));
        assert!(page.contains(&format!("is the layout, at present {LAYOUT}.")), "the layout");
        let rows = first_columns(page);
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        let query = "SELECT tables.name || '.' || columns.name FROM sqlite_master AS tables,
                     pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'";
        let mut statement = connection.prepare(query).unwrap();
        let columns: Vec<String> =
            statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        assert!(columns.len() > 40, "{columns:?}");
        for column in &columns {
            assert!(rows.iter().any(|(first, _)| first == column), "{column} is not in doc/ledger.md");
        }
        let tables: Vec<&str> = columns.iter().filter_map(|column| column.split_once('.')).map(|(of, _)| of).collect();
        for (first, _) in &rows {
            let is_column = first.split_once('.').is_some_and(|(table, _)| tables.contains(&table));
            let is_title = ["recipe.state", "attempt.kind", "fact.name"].contains(first);
            assert!(!is_column || is_title || columns.iter().any(|column| column == first), "{first} is no column");
        }
        for state in RecipeState::ALL {
            let row = ((state as i64).to_string(), state.as_str());
            assert!(rows.iter().any(|(first, second)| (*first, *second) == (row.0.as_str(), row.1)), "{row:?}");
        }
    }
}
