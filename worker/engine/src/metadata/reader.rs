//! A reader of the configuration's mapping, which gives values by key and collects missing keys.

use super::keys;
use super::yaml::{self, Shape, YamlItem, YamlValue};
use super::{Warning, without_mark};
use indexmap::IndexMap;
use std::collections::BTreeMap;
use std::str::FromStr;

/// Largest size in bytes of a configuration file.
pub const MAX_BYTES: usize = 1 << 20;

/// The reason why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The text is too large to be a configuration.
    #[error("{file}: {size} bytes are more than the {MAX_BYTES} that a configuration may have")]
    TooLarge {
        /// Path of the file.
        file: String,
        /// Its size in bytes.
        size: usize,
    },
    /// The text is not UTF-8.
    #[error("{file}: line {line}: not UTF-8 text; save the file as UTF-8")]
    Encoding {
        /// Path of the file.
        file: String,
        /// Number of the line with the first invalid byte, from 1.
        line: usize,
    },
    /// The text is not YAML, or not a mapping.
    #[error("{file}: {place}: not a YAML mapping of keys to values: {what}")]
    Yaml {
        /// Path of the file.
        file: String,
        /// Line and key of the problem.
        place: String,
        /// Message of the YAML parser.
        what: String,
    },
    /// A value does not fit its key.
    #[error("{file}: {place}: {found}; expected {expected}")]
    Value {
        /// Path of the file.
        file: String,
        /// Line and key of the value.
        place: String,
        /// The value that was found.
        found: String,
        /// Description of the value that was expected.
        expected: &'static str,
    },
    /// Keys that have no default are missing.
    #[error("{file}: missing: {}; add these keys, they have no default", keys.join(", "))]
    Missing {
        /// Path of the file.
        file: String,
        /// Names of all missing keys.
        keys: Vec<&'static str>,
    },
}

/// The items of the mapping by key, with the keys that were found missing and the warnings so far.
pub(super) struct KeyReader<'a> {
    pub(super) file: &'a str,
    items: BTreeMap<String, YamlItem>,
    pub(super) missing: Vec<&'static str>,
    pub(super) warnings: Vec<Warning>,
}

impl<'a> KeyReader<'a> {
    /// Reads the mapping, and warns of keys that are unknown or repeated.
    ///
    /// # Errors
    /// Returns an error if the text is too large, or is no YAML mapping with values of the right shapes.
    pub(super) fn new(file: &'a str, bytes: &[u8]) -> Result<KeyReader<'a>, ConfigurationError> {
        KeyReader::with_shapes(file, bytes, keys::shape)
    }

    /// Reads the mapping with values in other shapes than those of a configuration for granules.
    ///
    /// # Errors
    /// Returns the errors of [`KeyReader::new`].
    pub(super) fn with_shapes(
        file: &'a str,
        bytes: &[u8],
        shape: fn(&str) -> Shape,
    ) -> Result<KeyReader<'a>, ConfigurationError> {
        if bytes.len() > MAX_BYTES {
            return Err(ConfigurationError::TooLarge { file: file.into(), size: bytes.len() });
        }
        let bytes = without_mark(bytes);
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
            ConfigurationError::Encoding { file: file.into(), line }
        })?;
        let items = yaml::parse(text, shape).map_err(|defect| {
            let place = place(defect.line, defect.key.as_deref());
            let expected = match defect.key.as_deref().map(shape) {
                Some(Shape::Text) => "one text or number",
                Some(Shape::Mapping) => "a mapping of names to values",
                Some(Shape::List) => "a list of values",
                _ => return ConfigurationError::Yaml { file: file.into(), place, what: defect.what },
            };
            ConfigurationError::Value { file: file.into(), place, found: defect.what, expected }
        })?;
        let mut reader = KeyReader { file, items: BTreeMap::new(), missing: Vec::new(), warnings: Vec::new() };
        for item in items {
            reader.take(item);
        }
        Ok(reader)
    }

    /// Keeps an item, and warns of keys that are unknown or occur twice.
    fn take(&mut self, item: YamlItem) {
        let place = format!("line {}", item.line);
        if !keys::known().any(|key| key == item.key) {
            let hint = keys::nearest(&item.key).map(|key| format!("; did you mean '{key}'?")).unwrap_or_default();
            self.warnings.push(Warning::new(self.file, place, format!("unknown key '{}' is ignored{hint}", item.key)));
        } else if let Some(first) = self.items.get(&item.key) {
            let message = format!("key '{}' is given again, after line {}; the later one counts", item.key, first.line);
            self.warnings.push(Warning::new(self.file, place, message));
        }
        self.items.insert(item.key.clone(), item);
    }

    /// Returns the line and the key, for messages.
    pub(super) fn place(&self, key: &str) -> String {
        place(self.items.get(key).map(|item| item.line), Some(key))
    }

    /// Returns the error for a key whose value is not the expected one.
    pub(super) fn wrong(&self, key: &str, found: String, expected: &'static str) -> ConfigurationError {
        ConfigurationError::Value { file: self.file.into(), place: self.place(key), found, expected }
    }

    /// Returns the value of a key; `None` if the key is missing or null.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        match &self.items.get(key)?.value {
            YamlValue::Text(text) => text.clone(),
            _ => None,
        }
    }

    /// Returns the list under a key, or `None` if the key is missing or null.
    pub(super) fn list(&self, key: &str) -> Option<Vec<String>> {
        match &self.items.get(key)?.value {
            YamlValue::List(list) => list.clone(),
            _ => None,
        }
    }

    /// Returns the mapping under a key, which is empty if the key is missing or null.
    pub(super) fn mapping(&self, key: &str) -> IndexMap<String, Option<String>> {
        match self.items.get(key).map(|item| &item.value) {
            Some(YamlValue::Mapping(Some(mapping))) => mapping.clone(),
            _ => IndexMap::new(),
        }
    }

    /// Returns the value of a key that has no default. A missing key is recorded, so that all can be named at once.
    pub(super) fn required(&mut self, key: &'static str) -> String {
        self.text(key).unwrap_or_else(|| {
            self.missing.push(key);
            String::new()
        })
    }

    /// Warns that a key is missing, and states the default that is used.
    pub(super) fn defaulted(&mut self, key: &str, taken: &str) {
        self.warnings.push(Warning::new(self.file, format!("key {key}"), format!("missing; taken: {taken}")));
    }

    /// Parses the text of a key.
    ///
    /// # Errors
    /// Returns an error if the text is not such a value.
    pub(super) fn parsed<T: FromStr>(
        &self,
        key: &str,
        text: &str,
        expected: &'static str,
    ) -> Result<T, ConfigurationError> {
        text.trim().parse().map_err(|_| self.wrong(key, format!("'{text}'"), expected))
    }

    /// Parses the text of a key as a whole number from 1 on.
    ///
    /// # Errors
    /// Returns an error if the text is no such number.
    pub(super) fn whole_number(
        &self,
        key: &str,
        text: &str,
        expected: &'static str,
    ) -> Result<i64, ConfigurationError> {
        // 3600.0 is a harmless way to write a whole number.
        let digits = text.trim();
        let digits =
            digits.split_once('.').filter(|(_, zeros)| zeros.bytes().all(|b| b == b'0')).map_or(digits, |(n, _)| n);
        digits.parse().ok().filter(|&n| n >= 1).ok_or_else(|| self.wrong(key, format!("'{text}'"), expected))
    }
}

fn place(line: Option<u64>, key: Option<&str>) -> String {
    match (line, key) {
        (Some(line), Some(key)) => format!("line {line}, key {key}"),
        (Some(line), None) => format!("line {line}"),
        (None, Some(key)) => format!("key {key}"),
        (None, None) => "text".into(),
    }
}
