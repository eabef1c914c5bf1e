//! A JSON reader that repairs the one defect known from the releases: a missing comma between objects.

use super::{MAX_FILE_BYTES, Warning, without_mark};
use serde_json::Value;

/// The reason why a metadata file is not valid JSON.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The text is not valid JSON.
    #[error("{file}: line {line}, column {column}: not JSON: {what}; correct the file")]
    Syntax {
        /// Path of the file.
        file: String,
        /// Line number, from 1.
        line: usize,
        /// Column number, from 1.
        column: usize,
        /// Message of the JSON parser.
        what: String,
    },
    /// The text is larger than any metadata file.
    #[error("{file}: {size} bytes are more than the {MAX_FILE_BYTES} that a metadata file may have")]
    TooLarge {
        /// Path of the file.
        file: String,
        /// Its size in bytes.
        size: usize,
    },
}

/// Reads a JSON text. A byte order mark is skipped. If the text is not valid JSON because commas between the objects of
/// a list are missing, they are added, with one warning for each.
///
/// # Errors
/// Returns an error if the text has another defect or is larger than [`MAX_FILE_BYTES`].
pub fn parse(name: &str, bytes: &[u8]) -> Result<(Value, Vec<Warning>), JsonError> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(JsonError::TooLarge { file: name.into(), size: bytes.len() });
    }
    let bytes = without_mark(bytes);
    let error = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok((value, Vec::new())),
        Err(error) => error,
    };
    let gaps = missing_commas(bytes);
    if gaps.is_empty() {
        return Err(syntax(name, &error));
    }
    let mut mended = Vec::with_capacity(bytes.len() + gaps.len());
    let mut done = 0;
    for gap in &gaps {
        mended.extend_from_slice(&bytes[done..gap.after]);
        mended.push(b',');
        // A comma in place of a space leaves all columns as they were.
        done = gap.after + usize::from(bytes[gap.after] == b' ');
    }
    mended.extend_from_slice(&bytes[done..]);
    let value = serde_json::from_slice(&mended).map_err(|error| syntax(name, &error))?;
    let warn = |gap: &Gap| {
        Warning::new(name, format!("line {}", gap.line), "a comma is missing after the object that ends here; added")
    };
    Ok((value, gaps.iter().map(warn).collect()))
}

fn syntax(file: &str, error: &serde_json::Error) -> JsonError {
    // The parser repeats the position at the end of its message.
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    JsonError::Syntax { file: file.into(), line: error.line(), column: error.column(), what: what.into() }
}

/// A place where an object of a list is followed by another one without a comma.
struct Gap {
    /// Byte offset just after the first object. The second object follows, so there is a byte at this place.
    after: usize,
    /// Line of that place, from 1.
    line: usize,
}

fn missing_commas(bytes: &[u8]) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut open = Vec::new();
    let mut line = 1;
    let mut ended: Option<Gap> = None;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'\n' => line += 1,
            b' ' | b'\t' | b'\r' => {}
            b'"' => {
                ended = None;
                while let Some(&inner) = bytes.get(at) {
                    at += 1;
                    match inner {
                        b'"' => break,
                        b'\\' => at += 1,
                        b'\n' => line += 1,
                        _ => {}
                    }
                }
            }
            b'{' | b'[' => {
                if let Some(gap) = ended.take().filter(|_| byte == b'{') {
                    gaps.push(gap);
                }
                open.push(byte);
            }
            b'}' | b']' => {
                open.pop();
                let in_list = byte == b'}' && open.last() == Some(&b'[');
                ended = in_list.then_some(Gap { after: at, line });
            }
            _ => ended = None,
        }
    }
    gaps
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_mark_is_skipped_and_the_order_of_keys_is_kept() {
        let (value, warnings) = parse("m.json", b"\xef\xbb\xbf{\"b\": 1, \"a\": 2}").unwrap();
        assert_eq!(value.as_object().unwrap().keys().collect::<Vec<_>>(), ["b", "a"]);
        assert!(warnings.is_empty());
    }

    #[test]
    fn missing_commas_between_objects_are_added_and_reported_by_line() {
        let text = "[\n  {\"a\": \"}\\\" {\"}\n  {\"a\": 2},\n  {\"a\": [{}{}]} {\"a\": 4}\n]\r\n";
        let (value, warnings) = parse("g.json", text.as_bytes()).unwrap();
        assert_eq!(value, json!([{"a": "}\" {"}, {"a": 2}, {"a": [{}, {}]}, {"a": 4}]));
        let places: Vec<_> = warnings.iter().map(|w| w.place.as_str()).collect();
        assert_eq!(places, ["line 2", "line 4", "line 4"]);
        assert!(warnings[0].to_string().starts_with("g.json: line 2: a comma is missing"));
    }

    #[test]
    fn other_defects_are_errors_with_a_place() {
        for (text, place) in [
            ("[\n  {\"a\": 1,}\n]", "line 2, column 11"),
            ("[{\"a\": 1}\n  {\"a\" 1}\n]", "line 2, column 8"),
            ("[{\"a\": 1} \"b\"]", "line 1, column 11"),
            ("", "line 1, column 0"),
            ("{} {}", "line 1, column 4"),
        ] {
            let error = parse("x.json", text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("x.json: {place}: not JSON")), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, text in r#"[\[\]{}",: \\na1]{0,60}"#) {
            let _ = parse("x", &bytes);
            let _ = parse("x", text.as_bytes());
        }
    }
}
