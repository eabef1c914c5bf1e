//! What a running program tells: a log on standard error; and, to a collector of OpenTelemetry, traces and metrics.
//!
//! The log has its own filter, and is for people unless JSON is asked for. Traces and metrics go out by OTLP
//! as soon as the standard variables name a collector (see [`otlp`]); they have a filter of their own, so that a quiet
//! log makes no empty trace. Nothing of this can stop or delay a program: what a collector does not take is dropped and
//! counted, and said once.
//!
//! [`trace`] makes the spans that lead through the queues, [`metrics`] holds all instruments.

mod http;
mod human;
mod json;
mod levels;
pub mod lines;
pub mod metrics;
pub mod otlp;
pub mod refusals;
pub mod trace;

use otlp::Export;
use std::io::IsTerminal as _;
use std::str::FromStr;
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt as _, FilterFn, Targets, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Crates of ours, whose spans are traced.
const OWN: [&str; 9] = [
    "edp_coordinator",
    "edp_production",
    "edp_worker",
    "edp_engine",
    "edp_program",
    "edp_queue",
    "edp_store",
    "edp_files",
    "edp_protocol",
];

/// The reason why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No level.
    #[error(
        "{of}: '{level}' is not understood: use error, warn, info, debug, trace, off, or a filter such as \
         edp_worker=debug"
    )]
    Level {
        /// Who asked for it.
        of: &'static str,
        /// What was asked for.
        level: String,
    },
    /// No format.
    #[error("log format '{0}' is not understood: use human or json")]
    Format(String),
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Lines for people.
    #[default]
    Human,
    /// One JSON object a line, with the trace and the span that it belongs to.
    Json,
}

impl FromStr for Format {
    type Err = StartError;

    fn from_str(text: &str) -> Result<Format, StartError> {
        match text.to_ascii_lowercase().as_str() {
            "human" => Ok(Format::Human),
            "json" => Ok(Format::Json),
            _ => Err(StartError::Format(text.to_owned())),
        }
    }
}

/// Who tells.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// `service.name`, unless the environment names another.
    pub name: &'static str,
    /// `service.instance.id`: new at every start.
    pub instance: &'a str,
}

/// Telemetry of this process. When it is dropped, what is left is sent; that takes [`otlp::FLUSH`] at most.
#[derive(Debug)]
#[must_use = "traces and metrics end when this is dropped"]
pub struct Telemetry {
    _export: Export,
}

/// Starts telemetry for this process. Logged is `level` if given, else what RUST_LOG says, else warnings; EDP's level
/// names are accepted.
///
/// # Errors
/// Level or format are not understood.
pub fn start(program: Program<'_>, level: Option<&str>, format: Option<&str>) -> Result<Telemetry, StartError> {
    let from_environment = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    let filter = match (level, &from_environment) {
        (Some(level), _) => levels::filter("log level", level)?,
        (None, Some(level)) => levels::filter("RUST_LOG", level)?,
        (None, None) => levels::filter("log level", "warn")?,
    };
    // Spans along the queues are for traces: before each line of the log, they would hide it.
    let filter = match format!("{}=off", trace::TARGET).parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let filter = filter.and(discreet());
    let format = format.map_or(Ok(Format::default()), str::parse)?;
    lines::set(format);
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = fmt::layer().with_writer(std::io::stderr);
    let log = match format {
        Format::Human => log.with_ansi(false).event_format(human::HumanFormat::new(color)).with_filter(filter).boxed(),
        Format::Json => log.with_ansi(false).event_format(json::JsonFormat).with_filter(filter).boxed(),
    };
    let (export, problems) = Export::start(program, &|name| std::env::var(name).ok());
    // Lines in JSON name traces even if these are not collected.
    let tracer = if format == Format::Json { Some(export.tracer_or_ids()) } else { export.tracer() };
    let spans = tracer.map(|tracer| {
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        layer
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(ours())
    });
    // A second start in one process changes nothing, which is what tests want.
    let _ = tracing_subscriber::registry().with(spans).with(log).try_init();
    for problem in problems {
        tracing::warn!("{problem}");
    }
    Ok(Telemetry { _export: export })
}

/// What becomes a span: ours, and nothing of the libraries, least of all of those that carry the spans away.
fn ours() -> Targets {
    Targets::new().with_targets(OWN.map(|target| (target, LevelFilter::INFO)))
}

/// What is never logged, whatever is asked for: libraries that trace what they send, passwords and tokens with it.
fn discreet() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    const TALKATIVE: [&str; 5] = ["lapin", "amq_protocol", "aws_", "hyper", "h2"];
    filter_fn(|of| *of.level() < tracing::Level::TRACE || !TALKATIVE.iter().any(|name| of.target().starts_with(name)))
}

#[cfg(test)]
mod kept {
    #![allow(clippy::unwrap_used)]
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    /// What is logged in a test.
    #[derive(Clone, Default)]
    pub(super) struct CapturedLog(Arc<Mutex<Vec<u8>>>);

    impl CapturedLog {
        pub(super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for CapturedLog {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_names() {
        assert!(matches!("JSON".parse(), Ok(Format::Json)));
        assert!(matches!("human".parse(), Ok(Format::Human)));
        assert!("xml".parse::<Format>().is_err());
    }
}
