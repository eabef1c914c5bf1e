//! Python literals of dictionaries and strings, which some copies of the groupings hold as text.

use serde_json::{Map, Value};

/// Largest depth of nesting that is read.
const MAX_DEPTH: usize = 8;

/// Reads a Python dictionary of strings and dictionaries; `None` for anything else.
pub(super) fn parse(text: &str) -> Option<Value> {
    let mut rest = text;
    let value = value(&mut rest, 0)?;
    rest.trim().is_empty().then_some(value)
}

fn value(rest: &mut &str, depth: usize) -> Option<Value> {
    *rest = rest.trim_start();
    if rest.starts_with('{') { dictionary(rest, depth) } else { string(rest).map(Value::String) }
}

fn dictionary(rest: &mut &str, depth: usize) -> Option<Value> {
    if depth == MAX_DEPTH {
        return None;
    }
    let mut entries = Map::new();
    skip(rest, '{')?;
    while skip(rest, '}').is_none() {
        *rest = rest.trim_start();
        let key = string(rest)?;
        skip(rest, ':')?;
        entries.insert(key, value(rest, depth + 1)?);
        if skip(rest, ',').is_none() {
            skip(rest, '}')?;
            break;
        }
    }
    Some(Value::Object(entries))
}

/// Reads a string in single or double quotes, with the escapes that names can need.
fn string(rest: &mut &str) -> Option<String> {
    let mut characters = rest.chars();
    let quote = characters.next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut text = String::new();
    loop {
        match characters.next()? {
            c if c == quote => break,
            '\\' => text.push(characters.next().filter(|c| matches!(c, '\'' | '"' | '\\'))?),
            '\n' => return None,
            c => text.push(c),
        }
    }
    *rest = characters.as_str();
    Some(text)
}

/// Skips blanks and the character; `None` if another character follows.
fn skip(rest: &mut &str, character: char) -> Option<()> {
    *rest = rest.trim_start().strip_prefix(character)?;
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn dictionaries_of_strings() {
        let text = r#" {'EXFtaue': {'x': "EXFtaux", 'y': 'EXFtauy', }, 'it\'s' : {}} "#;
        assert_eq!(parse(text), Some(json!({"EXFtaue": {"x": "EXFtaux", "y": "EXFtauy"}, "it's": {}})));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "{", "{'a'}", "{'a': 1}", "{'a': 'b'} x", "{'a': 'b", "{,}", "{'a': 'b' 'c': 'd'}", "{'a': '\\x41'}"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"{'a': ".repeat(100_000)), None);
    }
}
