//! The tables of the file.

use rusqlite::Connection;

/// Layout of the file, which is raised when it changes.
pub(super) const LAYOUT: i32 = 3;

/// The oldest layout that is still read, and brought to the present one by the coordinator that opens the ledger.
pub(super) const OLDEST: i32 = 2;

/// Layout 2. Rows of `recipe` change several times each and are scanned for reports. Data that are large and do not change
/// are in tables of their own.
const TABLES: &str = "
CREATE TABLE dataset (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE recipe (
    number   INTEGER PRIMARY KEY,       -- order of entering
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

/// Additions of layout 3, which leave the recipes that a ledger has as they are: packed recipes, and the numbers of recipes
/// by dataset and state. These are kept by triggers, since `status` and each measurement of the backlog would read every
/// recipe otherwise.
const ADDITIONS: &str = "
CREATE TABLE sample (
    number   INTEGER PRIMARY KEY,
    dataset  INTEGER NOT NULL,
    recipe   BLOB NOT NULL              -- JSON
) STRICT;
ALTER TABLE body ADD COLUMN sample INTEGER; -- with which it is packed, see body.rs
ALTER TABLE recipe ADD COLUMN rank INTEGER NOT NULL DEFAULT 0; -- recipes of a lower one are sent first, see order.rs
ALTER TABLE recipe ADD COLUMN inputs INTEGER NOT NULL DEFAULT 0; -- digest of the names of its inputs; 0: none
CREATE INDEX by_inputs ON recipe (inputs, state);
DROP INDEX by_state;
CREATE INDEX by_state ON recipe (listed, state, due, rank, number);
CREATE INDEX by_reason ON recipe (listed, state, due, number) WHERE reason IS NOT NULL;
ALTER TABLE recipe ADD COLUMN spent INTEGER -- ms that were taken to make it
    AS (iif(already = 0, CAST(1000 * max(0, min(seconds, 1e6)) AS INTEGER), 0)) VIRTUAL;
CREATE TABLE tally (                    -- of the present list
    dataset  INTEGER NOT NULL,
    state    INTEGER NOT NULL,
    recipes  INTEGER NOT NULL,
    made     INTEGER NOT NULL,          -- of them: whose granules did not stand there before
    spent    INTEGER NOT NULL,          -- ms
    PRIMARY KEY (dataset, state)
) STRICT, WITHOUT ROWID;
INSERT INTO tally SELECT dataset, state, count(*), sum(already = 0), sum(spent) FROM recipe
    WHERE listed = 1 GROUP BY dataset, state;
CREATE TRIGGER entered AFTER INSERT ON recipe WHEN NEW.listed = 1 BEGIN
    INSERT INTO tally VALUES (NEW.dataset, NEW.state, 1, NEW.already = 0, NEW.spent) ON CONFLICT DO UPDATE
    SET recipes = recipes + 1, made = made + excluded.made, spent = spent + excluded.spent;
END;
CREATE TRIGGER changed AFTER UPDATE OF dataset, listed, state, already, seconds ON recipe
WHEN (OLD.dataset, OLD.listed, OLD.state, OLD.already, OLD.spent)
    IS NOT (NEW.dataset, NEW.listed, NEW.state, NEW.already, NEW.spent) BEGIN
    UPDATE tally SET recipes = recipes - 1, made = made - (OLD.already = 0), spent = spent - OLD.spent
    WHERE OLD.listed = 1 AND dataset = OLD.dataset AND state = OLD.state;
    INSERT INTO tally SELECT NEW.dataset, NEW.state, 1, NEW.already = 0, NEW.spent WHERE NEW.listed = 1
    ON CONFLICT DO UPDATE
    SET recipes = recipes + 1, made = made + excluded.made, spent = spent + excluded.spent;
END;
";

/// What is read in place of the additions in a ledger of layout 2, by a connection that must not change it: an earlier
/// release may be at work on it.
const SUBSTITUTES: &str = "
CREATE TEMP VIEW sample AS SELECT NULL AS number, NULL AS dataset, NULL AS recipe WHERE 0;
CREATE TEMP VIEW body AS SELECT number, recipe, NULL AS sample FROM main.body;
CREATE TEMP VIEW tally AS SELECT dataset, state, count(*) AS recipes, sum(already = 0) AS made,
    CAST(1000 * total(iif(already = 0, max(0, min(seconds, 1e6)), 0)) AS INTEGER) AS spent
    FROM main.recipe WHERE listed = 1 GROUP BY dataset, state;
";

/// Makes the tables of a new ledger, or brings those of an earlier layout to the present one. Returns false if the layout
/// is not known, and then changes nothing.
pub(super) fn make(connection: &Connection, found: i32) -> rusqlite::Result<bool> {
    match found {
        LAYOUT => return Ok(true),
        0 => connection.execute_batch(TABLES)?,
        OLDEST => {}
        _ => return Ok(false),
    }
    connection.execute_batch(ADDITIONS)?;
    connection.pragma_update(None, "user_version", LAYOUT)?;
    Ok(true)
}

/// Lets a connection read a ledger as if it had the present layout, without changing it. Returns false if its layout is
/// not known.
pub(super) fn read(connection: &Connection, found: i32) -> rusqlite::Result<bool> {
    match found {
        LAYOUT => Ok(true),
        OLDEST => connection.execute_batch(SUBSTITUTES).map(|()| true),
        _ => Ok(false),
    }
}

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
        assert!(make(&connection, 0).unwrap());
        let query = "SELECT tables.name || '.' || columns.name FROM sqlite_master AS tables,
                     pragma_table_xinfo(tables.name) AS columns WHERE tables.type = 'table'";
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
