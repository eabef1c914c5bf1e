//! Utilities around task lists, by EDP's rules: parts and subsets of a list, and job files from groupings.
//!
//! A list is read as plain JSON, and the entries and their keys keep their order. So the entries of lists that EDP or any other
//! program has written come out unchanged.

pub mod jobs;
pub mod options;
pub mod subset;

use edp_protocol::recipe::format_list;
use serde_json::Value;

/// The entries of a task list.
pub type TaskEntries = Vec<Value>;

/// The reason why a text is not a task list.
#[derive(Debug, thiserror::Error)]
pub enum EntriesError {
    /// It is not JSON.
    #[error("{list}: not a task list: {source}")]
    Json {
        /// The origin of the text.
        list: String,
        /// The parser's message, with line and column.
        source: serde_json::Error,
    },
    /// It is JSON, but not an array.
    #[error("{list}: not a task list: it must be a JSON array")]
    NoArray {
        /// The origin of the text.
        list: String,
    },
}

/// Reads a list.
///
/// # Errors
/// Returns an error if the text is not a JSON array.
pub fn parse(list: &str, text: &[u8]) -> Result<TaskEntries, EntriesError> {
    match serde_json::from_slice(text) {
        Ok(Value::Array(entries)) => Ok(entries),
        Ok(_) => Err(EntriesError::NoArray { list: list.into() }),
        Err(source) => Err(EntriesError::Json { list: list.into(), source }),
    }
}

/// Returns the text of a list as EDP writes it: four spaces a level, without a line feed at the end.
///
/// # Errors
/// Returns the error of the JSON library, which no list that was parsed causes.
pub fn format(entries: &[Value]) -> std::io::Result<String> {
    Ok(format_list(entries)?.trim_end().to_owned())
}

/// Splits a list into as many parts as are asked for. All have the same number of entries, except the last ones, which
/// have fewer or none.
pub fn split(entries: &[Value], parts: usize) -> Vec<&[Value]> {
    let size = entries.len().div_ceil(parts.max(1)).max(1);
    let mut chunks = entries.chunks(size);
    (0..parts).map(|_| chunks.next().unwrap_or_default()).collect()
}

/// Returns the name of a part of a list, counted from 1: `<base>_001.json`.
pub fn part_name(list: &str, part: usize) -> String {
    let base = list.strip_suffix(".json").unwrap_or(list);
    format!("{base}_{part:03}.json")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_comes_back_as_it_was() {
        let text = "[\n    {\n        \"z\": 1,\n        \"a\": [\n            \"\u{e9}\"\n        ]\n    }\n]";
        assert_eq!(format(&parse("l", text.as_bytes()).unwrap()).unwrap(), text);
        assert_eq!(format(&[]).unwrap(), "[]");
        assert_eq!(parse("l", b"{}").unwrap_err().to_string(), "l: not a task list: it must be a JSON array");
        assert!(parse("l", b"[1,").unwrap_err().to_string().starts_with("l: not a task list: EOF"));
    }

    #[test]
    fn parts_are_the_whole_in_order() {
        let entries: TaskEntries = (0..7).map(|n| json!(n)).collect();
        let sizes = |parts| split(&entries, parts).iter().map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(sizes(3), [3, 3, 1]);
        assert_eq!(sizes(5), [2, 2, 2, 1, 0]);
        assert_eq!(sizes(1), [7]);
        assert_eq!(split(&entries, 4).concat(), entries);
        assert_eq!(split(&[], 2), [&[] as &[Value]; 2]);
        assert_eq!(part_name("tasks.json", 7), "tasks_007.json");
        assert_eq!(part_name("tasks", 1000), "tasks_1000.json");
    }
}
