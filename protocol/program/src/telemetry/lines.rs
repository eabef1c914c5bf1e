//! Lines on standard error that are not of the log: notices of a program, and its last error. Where the log is JSON they
//! are, too, so that every line there is an object.

use super::Format;
use serde_json::{Map, Value};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether lines are JSON. Until it is set they are not.
static JSON: AtomicBool = AtomicBool::new(false);

/// Sets the form of the lines of this process; that of panics too.
pub fn set(format: Format) {
    let json = format == Format::Json;
    if json && !JSON.swap(json, Ordering::Relaxed) {
        std::panic::set_hook(Box::new(|panic| write(&format!("error: {panic}; please report this"))));
    }
    JSON.store(json, Ordering::Relaxed);
}

/// Whether lines are JSON.
pub fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Writes a line. It is of level `ERROR` or `WARN` if it begins with `error: ` or `warning: `, else of level `INFO`; the
/// log's filter does not matter. Nobody may be listening any more: that is no reason to fail.
pub fn write(text: &str) {
    let line = if is_json() { object(text) } else { text.to_owned() };
    let _ = writeln!(io::stderr(), "{line}");
}

/// A line as an object with the keys that lines of the log have.
fn object(text: &str) -> String {
    let levels = [("error: ", "ERROR"), ("warning: ", "WARN"), ("", "INFO")];
    let found = levels.iter().find_map(|(start, level)| Some((text.strip_prefix(start)?, *level)));
    let (message, level) = found.unwrap_or((text, "INFO"));
    let mut line = Map::new();
    line.insert("timestamp".into(), jiff::Timestamp::now().to_string().into());
    line.insert("level".into(), level.into());
    line.insert("target".into(), "edp".into());
    line.insert("message".into(), message.into());
    Value::Object(line).to_string()
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
        ] {
            let line = object(text);
            let value: Value = serde_json::from_str(&line).unwrap();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!((&value["level"], &value["message"]), (&level.into(), &message.into()));
        }
    }
}
