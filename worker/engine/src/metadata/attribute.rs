//! The attributes of files and variables, in the order in which they are written.

/// The names and values of attributes in file order.
pub type Attributes = Vec<(String, Value)>;

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text: characters if it is ASCII, otherwise a string. An empty text is stored as one NUL character.
    Text(String),
    /// One or several single-precision numbers.
    F32(Vec<f32>),
    /// One or several double-precision numbers.
    F64(Vec<f64>),
    /// One or several 32-bit integers.
    I32(Vec<i32>),
}

impl Value {
    /// Returns true if both are the same to the bit, so that what is no number equals itself.
    pub(crate) fn is_same(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::F32(a), Value::F32(b)) => a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits())),
            (Value::F64(a), Value::F64(b)) => a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits())),
            _ => self == other,
        }
    }

    /// Returns the text; `None` if the value is no text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Converts a text or a number of the metadata. `None` for lists, objects and nulls, which are not attribute
    /// values.
    pub(crate) fn from_json(value: &serde_json::Value) -> Option<Value> {
        match value {
            serde_json::Value::String(text) => Some(Value::Text(text.clone())),
            serde_json::Value::Bool(flag) => Some(Value::Text(flag.to_string())),
            serde_json::Value::Number(number) => match number.as_i64().map(i32::try_from) {
                Some(Ok(integer)) => Some(Value::I32(vec![integer])),
                _ => number.as_f64().map(Value::from),
            },
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::F64(vec![number])
    }
}

/// Sets an attribute: in place if there is one of that name, otherwise at the end.
pub fn set(attributes: &mut Attributes, name: &str, value: impl Into<Value>) {
    let value = value.into();
    match attributes.iter_mut().find(|(existing, _)| existing == name) {
        Some((_, old)) => *old = value,
        None => attributes.push((name.into(), value)),
    }
}

/// Returns the value of an attribute; `None` if there is no attribute of that name.
pub fn get<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a Value> {
    attributes.iter().find(|(existing, _)| existing == name).map(|(_, value)| value)
}

/// Appends a sentence to the text of an attribute. If there is no text yet, the sentence becomes the text.
pub(crate) fn append_sentence(attributes: &mut Attributes, name: &str, sentence: &str) {
    let text = match get(attributes, name).and_then(Value::text).map(str::trim_end) {
        None | Some("") => sentence.to_owned(),
        Some(text) if text.ends_with('.') => format!("{text} {sentence}"),
        Some(text) => format!("{text}. {sentence}"),
    };
    set(attributes, name, text);
}

/// Removes all attributes that are empty texts.
pub(crate) fn remove_empty_texts(attributes: &mut Attributes) {
    attributes.retain(|(_, value)| !value.text().is_some_and(str::is_empty));
}

/// Removes the attribute of that name, if there is one.
pub fn remove(attributes: &mut Attributes, name: &str) {
    attributes.retain(|(existing, _)| existing != name);
}
