//! The entries of the attribute files, each about one variable, coordinate or global attribute.

use super::Warning;
use super::json::{self, JsonError};
use serde_json::{Map, Value};

/// The reason why an attribute file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The file is not JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The file does not hold a list.
    #[error("{file}: not a list of objects; the file must hold [ {{...}}, ... ]")]
    NotAList {
        /// Path of the file.
        file: String,
    },
    /// A key of an entry is missing or has an unusable value.
    #[error("{file}: entry {index}: key '{key}' {found}; expected {expected}")]
    Key {
        /// Path of the file.
        file: String,
        /// Position of the entry in the list, from 0.
        index: usize,
        /// Name of the key.
        key: &'static str,
        /// Description of the value found.
        found: String,
        /// Description of the expected value.
        expected: &'static str,
    },
    /// An entry is not an object.
    #[error("{file}: entry {index}: not an object; expected {{ \"name\": ... }}")]
    NotAnObject {
        /// Path of the file.
        file: String,
        /// Position of the entry in the list, from 0.
        index: usize,
    },
}

/// The keys of an entry in the order of the file.
pub type Keys = Map<String, Value>;

/// An entry of an attribute file about one variable or coordinate, with its keys in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The name of the variable or coordinate.
    pub name: String,
    /// All keys of the entry, including `name`.
    pub keys: Keys,
}

impl Entry {
    /// Returns the value of a key; `None` if there is no such key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key)
    }

    /// Returns the value of a key; `None` if it is missing or no text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

/// The entries for one purpose, in the order of their files.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entries(pub Vec<Entry>);

impl Entries {
    /// Returns the first entry of that name.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.name == name)
    }

    /// Reads one file of entries.
    ///
    /// # Errors
    /// Returns an error if the file is not a list of objects with names.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<(Entries, Vec<Warning>), EntryError> {
        let (objects, warnings) = objects(file, bytes)?;
        let entries = objects.into_iter().enumerate().map(|(index, keys)| {
            let name = required_text(file, index, &keys, "name")?;
            Ok(Entry { name, keys })
        });
        Ok((Entries(entries.collect::<Result<_, EntryError>>()?), warnings))
    }
}

/// The value of a global attribute, in the type that its entry asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum GlobalValue {
    /// A text: type `s`, or a placeholder of any type.
    Text(String),
    /// A number of type `f`.
    Float(f64),
    /// A number of type `i`.
    Int(i32),
}

/// The entry of one global attribute.
#[derive(Debug, Clone, PartialEq)]
pub struct GlobalEntry {
    /// Name of the attribute.
    pub name: String,
    /// Value of the attribute.
    pub value: GlobalValue,
    /// `grid_dimension`: the attribute applies only to granules whose dimension (`2D`, `3D`) occurs in this text.
    pub dimension: Option<String>,
}

impl GlobalEntry {
    /// Returns true if the attribute applies to granules of that dimension, `2D` or `3D`.
    pub(crate) fn is_for(&self, dimension: &str) -> bool {
        self.dimension.as_ref().is_none_or(|text| text.contains(dimension))
    }

    /// Reads one file of global attributes.
    ///
    /// # Errors
    /// Returns an error if the file is not a list of objects with a name, a type and a value of that type.
    pub fn parse_list(file: &str, bytes: &[u8]) -> Result<(Vec<GlobalEntry>, Vec<Warning>), EntryError> {
        let (objects, warnings) = objects(file, bytes)?;
        let entries = objects.iter().enumerate().map(|(index, keys)| {
            Ok(GlobalEntry {
                name: required_text(file, index, keys, "name")?,
                value: global_value(file, index, keys)?,
                dimension: optional_text(file, index, keys, "grid_dimension")?,
            })
        });
        Ok((entries.collect::<Result<_, EntryError>>()?, warnings))
    }
}

fn global_value(file: &str, index: usize, keys: &Keys) -> Result<GlobalValue, EntryError> {
    let kind = required_text(file, index, keys, "type")?;
    let wrong = |expected| wrong(file, index, keys, "value", expected);
    let value = keys.get("value");
    if let Some(Value::String(text)) = value
        && (kind == "s" || text.contains("TBD_"))
    {
        return Ok(GlobalValue::Text(text.clone()));
    }
    match kind.as_str() {
        "s" => match value {
            Some(Value::Number(number)) => Ok(GlobalValue::Text(number.to_string())),
            _ => Err(wrong("a text")),
        },
        "f" => number(value).map(GlobalValue::Float).ok_or_else(|| wrong("a number")),
        "i" => number(value)
            .filter(|n| n.fract() == 0.0 && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(n))
            .map(|n| GlobalValue::Int(n as i32))
            .ok_or_else(|| wrong("a whole number of 32 bits")),
        _ => Err(self::wrong(file, index, keys, "type", "s (text), f (real number) or i (whole number)")),
    }
}

/// Returns a finite number, which may also be written as text.
fn number(value: Option<&Value>) -> Option<f64> {
    let number = match value? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

/// Returns the objects of a JSON list.
pub(super) fn objects(file: &str, bytes: &[u8]) -> Result<(Vec<Keys>, Vec<Warning>), EntryError> {
    let (value, warnings) = json::parse(file, bytes)?;
    let Value::Array(values) = value else { return Err(EntryError::NotAList { file: file.into() }) };
    let objects = values.into_iter().enumerate().map(|(index, value)| match value {
        Value::Object(keys) => Ok(keys),
        _ => Err(EntryError::NotAnObject { file: file.into(), index }),
    });
    Ok((objects.collect::<Result<_, _>>()?, warnings))
}

/// Returns the text of a key that must be present and not empty.
pub(super) fn required_text(file: &str, index: usize, keys: &Keys, key: &'static str) -> Result<String, EntryError> {
    optional_text(file, index, keys, key)?
        .filter(|text| !text.trim().is_empty())
        .ok_or_else(|| wrong(file, index, keys, key, "a text that is not empty"))
}

/// Returns the text of a key that may be absent or null.
pub(super) fn optional_text(
    file: &str,
    index: usize,
    keys: &Keys,
    key: &'static str,
) -> Result<Option<String>, EntryError> {
    match keys.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(wrong(file, index, keys, key, "a text")),
    }
}

/// Returns the error for a key whose value is not the expected one.
pub(super) fn wrong(file: &str, index: usize, keys: &Keys, key: &'static str, expected: &'static str) -> EntryError {
    let found = match keys.get(key) {
        None => "is missing".into(),
        Some(value) => format!("is {}", shortened(value)),
    };
    EntryError::Key { file: file.into(), index, key, found, expected }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_entry_of_a_name_counts_and_keys_keep_their_order() {
        let text = r#"[{"units": "m ", "name": "A", "axis": "Z"}, {"name": "A"}, {"name": "B", "n": 1}]"#;
        let (entries, _) = Entries::parse("v.json", text.as_bytes()).unwrap();
        let a = entries.find("A").unwrap();
        assert_eq!(a.keys.keys().collect::<Vec<_>>(), ["units", "name", "axis"]);
        assert_eq!((a.text("units"), a.get("x"), entries.0.len()), (Some("m "), None, 3));
        assert_eq!(entries.find("B").unwrap().text("n"), None);
        assert_eq!(entries.find("C"), None);
    }

    #[test]
    fn global_values_take_the_type_of_their_entry() {
        let text = r#"[
            {"name": "a", "type": "s", "value": "text "},
            {"name": "b", "type": "f", "value": 90, "grid_dimension": "2D 3D"},
            {"name": "c", "type": "f", "value": "0", "grid_dimension": "3D"},
            {"name": "d", "type": "f", "value": "TBD_MIN"},
            {"name": "e", "type": "i", "value": -3},
            {"name": "f", "type": "s", "value": 0.5}]"#;
        let (entries, _) = GlobalEntry::parse_list("g.json", text.as_bytes()).unwrap();
        let values: Vec<_> = entries.iter().map(|e| e.value.clone()).collect();
        let text = |t: &str| GlobalValue::Text(t.into());
        use GlobalValue::{Float, Int};
        assert_eq!(values, [text("text "), Float(90.0), Float(0.0), text("TBD_MIN"), Int(-3), text("0.5")]);
        assert!(entries[0].is_for("2D") && entries[1].is_for("2D") && entries[2].is_for("3D"));
        assert!(!entries[2].is_for("2D"));
    }

    #[test]
    fn broken_entries_name_file_position_and_key() {
        for (text, message) in [
            ("{}", "g.json: not a list of objects; the file must hold [ {...}, ... ]"),
            ("[1]", "g.json: entry 0: not an object; expected { \"name\": ... }"),
            ("[{}]", "g.json: entry 0: key 'name' is missing; expected a text that is not empty"),
            (r#"[{"name": 1}]"#, "g.json: entry 0: key 'name' is 1; expected a text"),
            (
                r#"[{"name": "a", "type": "f", "value": "x"}]"#,
                "g.json: entry 0: key 'value' is \"x\"; expected a number",
            ),
            (
                r#"[{"name": "a", "type": "i", "value": 3e9}]"#,
                "key 'value' is 3000000000.0; expected a whole number of 32 bits",
            ),
            (r#"[{"name": "a", "type": "q", "value": 1}]"#, "key 'type' is \"q\"; expected s (text), f"),
            (r#"[{"name": "a", "type": "s"}]"#, "key 'value' is missing; expected a text"),
        ] {
            let error = GlobalEntry::parse_list("g.json", text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, value in r#"[-0-9eE."TBD_]{1,12}"#, kind in "[sfiq]") {
            let _ = Entries::parse("x", &bytes);
            let _ = GlobalEntry::parse_list("x", &bytes);
            let text = format!(r#"[{{"name": "a", "type": "{kind}", "value": {value}}}]"#);
            let _ = GlobalEntry::parse_list("x", text.as_bytes());
        }
    }
}
