//! Descriptions of mistakes in settings, with their places and without any value: a value may be a password in the
//! wrong place.

use config::ConfigError;
use std::fmt;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// A key or a value that cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SettingProblem {
    /// The sections and the key.
    path: Vec<String>,
    /// True if the key itself is wrong, not its value.
    is_unknown: bool,
    /// Description of the problem.
    what: String,
}

impl SettingProblem {
    /// Returns the problem of the value of a key; the sections stand before the key, with dots between them.
    pub(super) fn of_value(key: &str, what: String) -> SettingProblem {
        SettingProblem { path: key.split('.').map(str::to_owned).collect(), is_unknown: false, what }
    }

    /// Returns true if both are about the same key.
    pub(super) fn is_of_the_same_key(&self, other: &SettingProblem) -> bool {
        self.path == other.path
    }
}

impl fmt::Display for SettingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = if self.is_unknown { &self.path[..self.path.len().saturating_sub(1)] } else { &self.path[..] };
        match known.join(".") {
            name if name.is_empty() => f.write_str(&self.what),
            name if is_name(&name) => write!(f, "{name}: {}", self.what),
            _ => write!(f, "a key with an odd name: {}", self.what),
        }
    }
}

/// Returns the place and the reason if a text is not valid TOML: line and column, with the key if it is one of ours.
pub(super) fn syntax(text: &str) -> Option<(String, String)> {
    let error = DeTable::parse(text).err()?;
    let at = error.span().map_or(0, |span| span.start);
    let (line, column) = line_and_column(text, at);
    // The parser states what it expects, not what is there. If it ever should repeat the text, its message is not
    // shown.
    let mut words = text.lines().nth(line - 1).unwrap_or("").split(|c: char| !c.is_alphanumeric());
    let tells = words.any(|word| word.len() > 3 && error.message().contains(word));
    let what = if tells { "it is no TOML".to_owned() } else { error.message().to_owned() };
    let key = key_of_line(text, line).map(|key| format!(", {key}")).unwrap_or_default();
    Some((format!("line {line}, column {column}{key}"), what))
}

/// Returns the key in a line of a text that may not be valid TOML. Only known keys are returned, since anything else
/// may be a part of a value of several lines.
fn key_of_line(text: &str, line: usize) -> Option<String> {
    let lines: Vec<&str> = text.lines().take(line).map(str::trim).collect();
    let (last, before) = lines.split_last()?;
    let (key, _) = last.split_once('=')?;
    let section = before.iter().rev().find_map(|line| line.strip_prefix('[')?.strip_suffix(']'));
    let path: Vec<&str> = section.into_iter().flat_map(|name| name.split('.')).chain(key.split('.')).collect();
    let path: Vec<&str> = path.into_iter().map(str::trim).collect();
    let name = path.join(".");
    let is_known = |name: &str| match super::composed(Some(&format!("{name} = 0")), &Default::default()) {
        Ok(_) => true,
        Err(error) => !content(&error).is_unknown,
    };
    (is_name(&name) && is_known(&name)).then_some(name)
}

/// Returns line and column, counted from 1, of a byte of a text.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or("");
    (1 + before.matches('\n').count(), 1 + line.chars().count())
}

/// Returns line and column of a problem in a text, or `None` if the text does not have the key.
pub(super) fn place(text: &str, problem: &SettingProblem) -> Option<String> {
    let root = DeTable::parse(text).ok()?;
    let mut found: Option<(Range<usize>, Range<usize>)> = None;
    let mut table = Some(root.get_ref());
    for name in &problem.path {
        let (key, value) = table?.iter().find(|(key, _)| key.get_ref() == name)?;
        found = Some((key.span(), value.span()));
        table = match value.get_ref() {
            DeValue::Table(inner) => Some(inner),
            _ => None,
        };
    }
    let (key, value) = found?;
    let (line, column) = line_and_column(text, if problem.is_unknown { key.start } else { value.start });
    Some(format!("line {line}, column {column}"))
}

/// Describes the environment variable that a problem is about.
pub(super) fn variable<'a>(names: impl Iterator<Item = &'a String>, problem: &SettingProblem) -> String {
    let parts = |name: &str| -> Vec<String> {
        let name = name.strip_prefix("EDP_").unwrap_or(name).to_ascii_lowercase();
        name.split("__").map(str::to_owned).collect()
    };
    // A variable whose name goes on below the key makes a section of it.
    let mut found: Vec<&String> = names.filter(|name| parts(name).starts_with(&problem.path)).collect();
    found.sort();
    match found.first() {
        Some(name) if is_name(name) => format!("the variable {name}"),
        _ => "the environment".to_owned(),
    }
}

/// Describes what is wrong with a key or a value.
pub(super) fn content(error: &ConfigError) -> SettingProblem {
    let path = |key: Option<&str>| -> Vec<String> {
        let names = key.unwrap_or_default().split('.').filter(|name| !name.is_empty());
        // elements of lists belong to their key
        names.map(|name| name.split('[').next().unwrap_or(name).to_owned()).collect()
    };
    match error {
        ConfigError::Type { unexpected, expected, key, .. } => {
            let found = kind(&unexpected.to_string());
            let what = format!("{found}, where {} is expected", plain(expected));
            SettingProblem { path: path(key.as_deref()), is_unknown: false, what }
        }
        ConfigError::At { error, key, .. } => {
            let inner = content(error);
            let path = path(key.as_deref()).into_iter().chain(inner.path).collect();
            SettingProblem { path, ..inner }
        }
        ConfigError::NotFound(key) => {
            SettingProblem { path: path(Some(key)), is_unknown: false, what: "it is missing".into() }
        }
        ConfigError::Message(text) => message(text),
        _ => SettingProblem { path: Vec::new(), is_unknown: false, what: "it cannot be understood".into() },
    }
}

/// Returns true if a text can be the name of one of our keys, with its sections.
fn is_name(text: &str) -> bool {
    (1..=60).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte))
}

/// Returns the kind of a value from the library's description of it, which states first the kind and then the value.
fn kind(described: &str) -> &'static str {
    let kinds = [
        ("boolean", "true or false"),
        ("floating", "a number with a fraction"),
        ("string", "a text"),
        ("unit", "nothing"),
        ("sequence", "a list"),
        ("map", "a section"),
    ];
    let found = kinds.iter().find(|(start, _)| described.starts_with(start));
    found.map_or(if described.contains("integer") { "a whole number" } else { "another kind of value" }, |(_, kind)| {
        kind
    })
}

/// Returns the expected kind of a value in plain words.
fn plain(expected: &str) -> String {
    if let Some(bits) = expected.strip_prefix("an unsigned ").and_then(|rest| rest.strip_suffix(" bit integer")) {
        return match bits.trim_start_matches('u').parse::<u32>() {
            Ok(bits @ 1..=32) => format!("a whole number from 0 to {}", (1_u64 << bits) - 1),
            _ => "a whole number, not below 0,".to_owned(),
        };
    }
    match expected {
        _ if expected.starts_with("struct ") || expected == "a map" => "a section with keys",
        "a string" => "a text",
        "an integer" | "a signed 64 bit or less integer" | "an unsigned 64 bit or less integer" => "a whole number",
        other => other,
    }
    .to_owned()
}

/// Describes an error of the library about a key or a value.
fn message(text: &str) -> SettingProblem {
    let of_value = |what: String| SettingProblem { path: Vec::new(), is_unknown: false, what };
    let after = |start: &str| text.strip_prefix(start)?.split_once('`');
    if let Some((name, rest)) = after("unknown field `") {
        let shown = if is_name(name) { format!("'{name}'") } else { "of that name".to_owned() };
        let what = format!("there is no key {shown}{}", known(rest));
        return SettingProblem { path: vec![name.to_owned()], is_unknown: true, what };
    }
    if text.contains("does not have variant constructor") {
        return of_value("its value is none of those that there are".to_owned());
    }
    if let Some((_, rest)) = after("unknown variant `") {
        return of_value(format!("its value is none of those that there are{}", known(rest)));
    }
    // for any other value, the message says only what is expected
    if text.starts_with("invalid ") {
        let expected =
            text.rsplit_once(", expected ").map(|(_, expected)| format!(": {} is expected", plain(expected)));
        return of_value(format!("its value cannot be used{}", expected.unwrap_or_default()));
    }
    of_value(without_values(text))
}

/// Returns the known names, which the library lists.
fn known(rest: &str) -> String {
    let names = rest.split_once("expected ").map(|(_, names)| names.replace('`', "").replace("one of ", ""));
    names.map(|names| format!(" ({names})")).unwrap_or_default()
}

/// Keeps our own texts, which show no value. Texts of the library may show values.
fn without_values(text: &str) -> String {
    let ours = ["the address of the queue: ", "endpoint: ", "write a program and its arguments"];
    if ours.iter().any(|start| text.starts_with(start)) {
        text.to_owned()
    } else {
        "its value cannot be used".to_owned()
    }
}
