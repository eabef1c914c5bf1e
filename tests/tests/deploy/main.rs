//! What those who run productions read: alerts, a dashboard and the guide of operations, compared with the programs, with each
//! other, and with the tools that read them.

mod monitoring;
mod operations;

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().canonicalize().unwrap()
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns the documents of a text in YAML.
fn yaml(text: &str) -> Vec<Value> {
    let parse = |part: &str| serde_saphyr::from_str(part).unwrap_or_else(|error| panic!("{error}: {part}"));
    format!("\n{text}").split("\n---\n").map(parse).collect()
}

/// Returns the block of a page after these words.
fn block<'a>(page: &'a str, after: &str) -> &'a str {
    let (_, rest) = page.split_once(after).unwrap_or_else(|| panic!("the page has no '{after}'"));
    let (_, rest) = rest.split_once("\n```").unwrap();
    rest.split_once('\n').unwrap().1.split("```").next().unwrap()
}

/// Returns the words of a text that are names as metrics have them, and begin with `edp_`.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("edp_"))
}
