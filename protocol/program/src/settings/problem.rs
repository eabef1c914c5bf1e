//! What is wrong with settings, said without any of their values: one of them may be a password in the wrong place.

use config::ConfigError;
use toml::de::DeTable;

/// The line where a text is no TOML, and why; none if it is.
pub(super) fn syntax(text: &str) -> Option<(usize, String)> {
    let error = DeTable::parse(text).err()?;
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
    let line = 1 + before.matches('\n').count();
    // The parser says what it expects, and not what is there. Should it ever do, that is not passed on.
    let mut words = text.lines().nth(line - 1).unwrap_or("").split(|c: char| !c.is_alphanumeric());
    let tells = words.any(|word| word.len() > 3 && error.message().contains(word));
    Some((line, if tells { "it is no TOML".to_owned() } else { error.message().to_owned() }))
}

/// What is wrong with a key or a value.
pub(super) fn content(error: &ConfigError) -> String {
    match error {
        ConfigError::Type { unexpected, expected, key, .. } => {
            let found = kind(&unexpected.to_string());
            format!("{}{found}, where {} is expected", of_key(key.as_deref()), plain(expected))
        }
        ConfigError::At { error, key, .. } => format!("{}{}", of_key(key.as_deref()), content(error)),
        ConfigError::NotFound(key) => format!("{}is missing", of_key(Some(key))),
        ConfigError::Message(text) => message(text),
        _ => "it cannot be understood".to_owned(),
    }
}

/// The name of a key before what is wrong with it.
fn of_key(key: Option<&str>) -> String {
    match key {
        None => String::new(),
        Some(key) if is_name(key) => format!("{key}: "),
        Some(_) => "a key with an odd name: ".to_owned(),
    }
}

/// Whether a text can be the name of one of our keys, with its sections.
fn is_name(text: &str) -> bool {
    (1..=60).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte))
}

/// The kind of a value, from the library's description of it, which begins with the kind and goes on with the value.
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

/// What was expected, in the words of people.
fn plain(expected: &str) -> &str {
    match expected {
        _ if expected.starts_with("struct ") || expected == "a map" => "a section with keys",
        "a string" => "a text",
        "an integer" | "a signed 64 bit or less integer" | "an unsigned 64 bit or less integer" => "a whole number",
        other => other,
    }
}

/// A message of the reading of one value.
fn message(text: &str) -> String {
    let after = |start: &str| text.strip_prefix(start)?.split_once('`');
    if let Some((name, rest)) = after("unknown field `") {
        let name = if is_name(name) { format!("'{name}'") } else { "of that name".to_owned() };
        return format!("there is no key {name}{}", known(rest));
    }
    if text.contains("does not have variant constructor") {
        return "its value is none of those that there are".to_owned();
    }
    if let Some((_, rest)) = after("unknown variant `") {
        return format!("its value is none of those that there are{}", known(rest));
    }
    // of other values, all that is told is what they should have been
    if text.starts_with("invalid ") {
        let expected =
            text.rsplit_once(", expected ").map(|(_, expected)| format!(": {} is expected", plain(expected)));
        return format!("its value cannot be used{}", expected.unwrap_or_default());
    }
    without_values(text)
}

/// The names that there are, which the library lists.
fn known(rest: &str) -> String {
    let names = rest.split_once("expected ").map(|(_, names)| names.replace('`', "").replace("one of ", ""));
    names.map(|names| format!(" ({names})")).unwrap_or_default()
}

/// Our own texts, which show no value. Of the library's, nobody knows which do.
fn without_values(text: &str) -> String {
    let ours = ["the address of the queue: ", "endpoint: ", "write a program and its arguments"];
    if ours.iter().any(|start| text.starts_with(start)) {
        text.to_owned()
    } else {
        "its value cannot be used".to_owned()
    }
}
