//! Logging to standard error.

use std::io::IsTerminal as _;
use tracing::Metadata;
use tracing_subscriber::filter::{FilterExt as _, FilterFn, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
#[error("log level '{0}' is not understood: use error, warn, info, debug, trace, or a filter such as edp_worker=debug")]
pub struct LevelError(String);

/// What is logged unless something else is asked for. The AMQP library calls errors what we expect and handle: queues
/// that are not there yet, connections that end.
const DEFAULT: &str = "warn,lapin=off";

/// Starts logging for this process: `level` if given, else `RUST_LOG`, else warnings. EDP's level names are accepted.
///
/// # Errors
/// The level is not understood.
pub fn start(level: Option<&str>) -> Result<(), LevelError> {
    let filter = match level {
        Some(level) => filter(level)?,
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT)),
    };
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // A second start in one process changes nothing, which is what tests want.
    let log = fmt::layer().with_writer(std::io::stderr).with_ansi(color).with_filter(filter.and(discreet()));
    let _ = tracing_subscriber::registry().with(log).try_init();
    Ok(())
}

/// What is never logged, whatever is asked for: the AMQP library traces every frame, also the one with the password.
fn discreet() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    filter_fn(|of| {
        *of.level() < tracing::Level::TRACE
            || !["lapin", "amq_protocol"].iter().any(|name| of.target().starts_with(name))
    })
}

fn filter(level: &str) -> Result<EnvFilter, LevelError> {
    let level = match level.to_ascii_lowercase().as_str() {
        "warning" => "warn".to_owned(),
        "critical" => "error".to_owned(),
        other => other.to_owned(),
    };
    EnvFilter::try_new(&level).map_err(|_| LevelError(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_names_of_both_worlds() {
        for level in ["info", "WARNING", "CRITICAL", "edp_worker=debug"] {
            assert!(filter(level).is_ok(), "{level}");
        }
        assert!(filter("edp=loudly").is_err());
    }
}
