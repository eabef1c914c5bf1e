//! A flat YAML mapping, with the text of its values as written and the line numbers of its keys.
//!
//! YAML's own types would turn a version `1.10` into the number 1.1. So values are read as text, and the code that uses
//! a key converts its value.

use indexmap::IndexMap;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Options, Spanned};
use std::fmt;

/// The way in which the value of a key is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The value is a text; null is not a text.
    Text,
    /// The value is a mapping of texts.
    Mapping,
    /// The value is taken as a list of texts.
    List,
    /// The value is skipped, whatever it is.
    Skipped,
}

/// The value of a key, in the shape that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum YamlValue {
    /// A text; `None` if the value is null.
    Text(Option<String>),
    /// A mapping; `None` if the value is null.
    Mapping(Option<IndexMap<String, Option<String>>>),
    /// A list, or `None` if the file says null.
    List(Option<Vec<String>>),
    /// A value that was skipped.
    Skipped,
}

/// One item of the mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct YamlItem {
    /// Name of the key.
    pub(super) key: String,
    /// Line number of the key, from 1.
    pub(super) line: u64,
    /// Value of the key.
    pub(super) value: YamlValue,
}

/// The reason why a text is not such a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct YamlError {
    /// Line number, from 1, if it is known.
    pub(super) line: Option<u64>,
    /// The key whose value was being read.
    pub(super) key: Option<String>,
    /// Message of the YAML parser.
    pub(super) what: String,
}

/// Reads the mapping. Repeated keys are all returned, in file order.
///
/// # Errors
/// Returns an error if the text is no YAML mapping, if a value has another shape than asked for, or if aliases or
/// nesting exceed the needs of a configuration.
pub(super) fn parse(text: &str, shape: impl Fn(&str) -> Shape) -> Result<Vec<YamlItem>, YamlError> {
    let mut key = None;
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |deserializer| {
        Document { shape: &shape, key: &mut key }.deserialize(deserializer)
    });
    read.map_err(|error| {
        let error = error.without_snippet();
        let line = error.location().map(|place| place.line()).filter(|&line| line > 0);
        // The parser repeats the position at the end of its message.
        let text = error.to_string();
        let what = text.lines().next().unwrap_or_default();
        let what = what.rsplit_once(" at line ").map_or(what, |(what, _)| what).into();
        YamlError { line, key, what }
    })
}

/// The limits are far more than a flat mapping of about 70 keys needs, and far less than what could do harm.
fn options() -> Options {
    serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_events: 20_000,
            max_nodes: 10_000,
            max_depth: 16,
            max_documents: 1,
            max_aliases: 100,
            max_anchors: 100,
            max_merge_keys: 10,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 4,
            max_alias_expansions_per_anchor: 100,
        },
    }
}

struct Document<'a, F> {
    shape: &'a F,
    key: &'a mut Option<String>,
}

impl<'de, F: Fn(&str) -> Shape> DeserializeSeed<'de> for Document<'_, F> {
    type Value = Vec<YamlItem>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<YamlItem>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: Fn(&str) -> Shape> Visitor<'de> for Document<'_, F> {
    type Value = Vec<YamlItem>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of keys to values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<YamlItem>, A::Error> {
        let mut items = Vec::new();
        loop {
            *self.key = None;
            let Some(key) = map.next_key::<Spanned<String>>()? else { return Ok(items) };
            *self.key = Some(key.value.clone());
            let value = match (self.shape)(&key.value) {
                Shape::Text => YamlValue::Text(map.next_value()?),
                Shape::Mapping => YamlValue::Mapping(map.next_value()?),
                Shape::List => YamlValue::List(map.next_value()?),
                Shape::Skipped => {
                    map.next_value::<IgnoredAny>()?;
                    YamlValue::Skipped
                }
            };
            items.push(YamlItem { key: key.value, line: key.referenced.line(), value });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn shape(key: &str) -> Shape {
        match key {
            "m" => Shape::Mapping,
            "x" => Shape::Skipped,
            _ => Shape::Text,
        }
    }

    #[test]
    fn numbers_keep_their_spelling_and_keys_their_lines() {
        let items = parse("# c\na: 1.10\nb:\nm: {p: 0x1, q: }\nx: [1, {y: 2}]\ne: ''\na: yes\n", shape).unwrap();
        let text = |t: &str| YamlValue::Text(Some(t.into()));
        let mapping = IndexMap::from([("p".into(), Some("0x1".into())), ("q".into(), None)]);
        let values = [
            text("1.10"),
            YamlValue::Text(None),
            YamlValue::Mapping(Some(mapping)),
            YamlValue::Skipped,
            text(""),
            text("yes"),
        ];
        assert_eq!(items.iter().map(|i| i.value.clone()).collect::<Vec<_>>(), values);
        assert_eq!(items.iter().map(|i| i.line).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn wrong_shapes_name_line_and_key() {
        for (yaml, line, key) in
            [("a: 1\nb: [1]\n", Some(2), Some("b")), ("\nm: text\n", Some(2), Some("m")), ("- a\n", Some(1), None)]
        {
            let defect = parse(yaml, shape).unwrap_err();
            assert_eq!((defect.line, defect.key.as_deref()), (line, key), "{yaml}: {}", defect.what);
        }
        assert!(parse("a: 'open", shape).is_err());
        assert_eq!(parse("", shape), Ok(Vec::new()));
        assert!(parse("a: b\n---\nc: d\n", shape).is_err());
    }

    #[test]
    fn aliases_do_not_multiply() {
        let mut bomb = String::from("x: [&a0 [l, l, l, l, l, l, l, l, l, l]");
        for level in 1..12 {
            let previous = format!("*a{}", level - 1);
            bomb.push_str(&format!(",\n &a{level} [{}]", [previous.as_str(); 10].join(", ")));
        }
        bomb.push_str("]\n");
        assert!(parse(&bomb, shape).is_err());
        assert!(parse(&format!("x: {}", "[".repeat(100_000)), shape).is_err());
    }
}
