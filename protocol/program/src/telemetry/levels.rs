//! Filters of the log: levels, and filters in the form of RUST_LOG.

use super::{OWN, StartError};
use std::str::FromStr as _;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// Directives for libraries, unless the user names them. The AMQP library logs errors that we expect and handle: queues
/// that do not exist yet, and connections that end. The AWS library warns of places without credentials, and then tries
/// the next one. What matters of either is in our own messages.
const LIBRARIES: &str = "lapin=off,aws_config=error";

/// Parses a level or a filter; `of` names the option or variable that it comes from. The names of levels in Python's
/// logging, which EDP uses, are known too.
///
/// # Errors
/// Returns an error if the text is neither a level nor a filter.
pub(super) fn filter(of: &'static str, text: &str) -> Result<EnvFilter, StartError> {
    let fail = || StartError::Level { of, level: text.to_owned() };
    let level = match text.trim().to_ascii_lowercase().as_str() {
        "warning" => "warn".to_owned(),
        "critical" => "error".to_owned(),
        "off" => return Ok(EnvFilter::new("off")),
        other => other.to_owned(),
    };
    // A single word would be taken for a target that logs everything, so that nothing else would be logged.
    let words = level.split(',').map(str::trim).filter(|word| !word.is_empty());
    let plain = words.filter(|word| !word.contains(['=', '[', ':']));
    for word in plain {
        if LevelFilter::from_str(word).is_err() && !OWN.contains(&word) {
            return Err(fail());
        }
    }
    // The user's directives come last, and take precedence if they name the same target.
    EnvFilter::try_new(format!("{LIBRARIES},{level}")).map_err(|_| fail())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let mut directives: Vec<_> =
            filter("log level", text).unwrap().to_string().split(',').map(str::to_owned).collect();
        directives.sort();
        directives
    }

    #[test]
    fn level_names_of_both_worlds() {
        for level in ["info", "WARNING", "CRITICAL", "edp_worker=debug", "edp_worker", "warn,edp_engine=trace", "3"] {
            assert!(filter("log level", level).is_ok(), "{level}");
        }
        for level in ["loud", "edp=loudly", "info,loud", "inof"] {
            let error = filter("RUST_LOG", level).unwrap_err().to_string();
            assert!(error.starts_with("RUST_LOG: '") && error.contains(level), "{error}");
        }
    }

    #[test]
    fn libraries_are_silent_unless_they_are_named() {
        assert_eq!(shown("INFO"), ["aws_config=error", "info", "lapin=off"]);
        assert_eq!(shown("info,lapin=debug"), ["aws_config=error", "info", "lapin=debug"]);
        assert_eq!(shown("aws_config=warn,error"), ["aws_config=warn", "error", "lapin=off"]);
        assert_eq!(shown("off"), ["off"]);
    }
}
