//! Lines on standard error that are not part of the log: notices of a program, and its last error. If the log is JSON,
//! they are too, so that every line is an object. Text from outside is made safe to show, see [`edp_protocol::text`].

use super::Format;
use edp_protocol::text;
use serde_json::{Map, Value};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

/// True if lines are written as JSON.
static JSON: AtomicBool = AtomicBool::new(false);

/// Sets the form of the lines of this process.
pub fn set(format: Format) {
    JSON.store(format == Format::Json, Ordering::Relaxed);
}

/// Reports panics like errors, since their texts may contain text from outside too. A backtrace follows if
/// RUST_BACKTRACE asks for one.
pub fn take_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        let told = match backtrace.status() {
            BacktraceStatus::Captured => format!("\n{backtrace}"),
            _ => String::new(),
        };
        write_all(&format!("error: {panic}; please report this{told}"));
    }));
}

/// Returns true if lines are written as JSON.
pub fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Writes a line. Its level is `ERROR` or `WARN` if it begins with `error: ` or `warning: `, else `INFO`; the filter of
/// the log does not apply. Errors of writing are ignored, since the reader may have gone.
pub fn write(text: &str) {
    let line = if is_json() { object(text) } else { text::line(text).into_owned() };
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes an object as a line, which has the same form whatever that of the log is.
pub(super) fn write_object(object: &Value) {
    let _ = writeln!(io::stderr(), "{}", text::json(&object.to_string()));
}

/// Writes a text that may have several lines. All but the first are indented, so that none of them can pass for a
/// notice of its own.
pub fn write_all(text: &str) {
    if is_json() {
        return write(text);
    }
    let _ = writeln!(io::stderr(), "{}", indented(text));
}

fn indented(text: &str) -> String {
    text.trim_end().split('\n').map(text::line).collect::<Vec<_>>().join("\n  ")
}

/// Returns a line as an object with the keys that lines of the log have.
fn object(text: &str) -> String {
    let levels = [("error: ", "ERROR"), ("warning: ", "WARN"), ("", "INFO")];
    let found = levels.iter().find_map(|(start, level)| Some((text.strip_prefix(start)?, *level)));
    let (message, level) = found.unwrap_or((text, "INFO"));
    let mut line = Map::new();
    line.insert("timestamp".into(), jiff::Timestamp::now().to_string().into());
    line.insert("level".into(), level.into());
    line.insert("target".into(), "edp".into());
    line.insert("message".into(), message.into());
    text::json(&Value::Object(line).to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_are_objects_with_a_level() {
        for (text, level, message) in [
            ("error: no \"file\"\nat all", "ERROR", "no \"file\"\nat all"),
            ("warning: odd", "WARN", "odd"),
            ("worker serves", "INFO", "worker serves"),
            ("\u{9b}2J \u{202e} amqp://u:s3cret@h", "INFO", "\u{9b}2J \u{202e} amqp://u:***@h"),
        ] {
            let line = object(text);
            let value: Value = serde_json::from_str(&line).unwrap();
            assert!(!line.contains(text::is_unsafe), "{line}");
            assert_eq!((&value["level"], &value["message"]), (&level.into(), &message.into()));
        }
    }

    #[test]
    fn further_lines_are_indented() {
        assert_eq!(indented("error: a\r\nerror: b\u{1b}\n"), "error: a\\r\n  error: b\\u{1b}");
    }
}
