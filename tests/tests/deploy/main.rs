//! What runs productions elsewhere, and the pages about it: the objects of Kubernetes, the user data of cloud-init, alerts and
//! dashboard, and the guide of operations, compared with the programs, with each other, and with the schemas and tools of
//! those who read them.

mod cloud_init;
mod kubernetes;
mod monitoring;
mod operations;

use edp_program::settings::Settings;
use edp_tests::text;
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

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

/// Returns the settings in lines `NAME=VALUE`, those that are commented out too, and all of these lines.
fn settings(lines: &str) -> (Settings, Vec<(String, String)>) {
    let lines =
        lines.lines().map(|line| line.strip_prefix('#').filter(|rest| rest.starts_with("EDP_")).unwrap_or(line));
    let pairs = lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let pairs: Vec<_> = pairs.map(|(name, value)| (name.trim().to_owned(), value.to_owned())).collect();
    let variables: Vec<_> = pairs.iter().filter(|(name, _)| name.starts_with("EDP_")).cloned().collect();
    for (name, _) in &variables {
        assert!(Settings::reference().iter().any(|setting| setting.variable() == *name), "{name} is no setting");
    }
    (Settings::parse(None, variables).unwrap(), pairs)
}

/// Returns the words of a text that are names as metrics have them, and begin with `edp_`.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("edp_"))
}

/// Runs `tests/conformance/manifests.py` on a text; `None` if there is no Python with the schemas.
fn judged(words: &[&str], input: &str) -> Option<Output> {
    let Some(python) = std::env::var_os("EDP_CHECKERS") else {
        edp_tests::not_run("EDP_CHECKERS names no interpreter with the schemas; `make test` sets it");
        return None;
    };
    let mut command = Command::new(python);
    command.arg(root().join("tests/conformance/manifests.py")).args(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut to, input) = (child.stdin.take().unwrap(), input.to_owned());
    let writing = std::thread::spawn(move || to.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    // A program that ends early closes the pipe; its exit status tells.
    let _ = writing.join().unwrap();
    Some(output)
}

/// Checks that the schemas accept a text.
fn assert_accepted(words: &[&str], input: &str) {
    if let Some(output) = judged(words, input) {
        assert!(output.status.success(), "{words:?}: {}", text(&output));
    }
}

/// Checks that the schemas refuse a text after changes, and name each of them: what is replaced, by what, what is named.
fn assert_refused(words: &[&str], input: &str, changes: &[(&str, &str, &str)]) {
    let mut changed = input.to_owned();
    for (from, to, _) in changes {
        assert!(input.contains(from), "{from}");
        changed = changed.replace(from, to);
    }
    let Some(output) = judged(words, &changed) else { return };
    for (_, to, named) in changes {
        assert!(!output.status.success() && text(&output).contains(named), "{to}: {}", text(&output));
    }
}
