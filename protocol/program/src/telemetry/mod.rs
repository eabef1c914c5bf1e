//! Telemetry of a running program: a log on standard error, and traces and metrics for a collector of OpenTelemetry.
//!
//! The log has its own filter, and is for people unless JSON is asked for. Traces and metrics are sent by OTLP as soon
//! as the standard variables name a collector (see [`otlp`]). They have a filter of their own, so that a quiet log does
//! not make traces empty. Telemetry can never stop or delay a program: what a collector does not accept is dropped,
//! counted, and reported once.
//!
//! Metrics are measured unless `OTEL_SDK_DISABLED` is set, so that they can be read in the format of Prometheus at any time
//! ([`Telemetry::metrics_reader`]).
//!
//! [`trace`] makes the spans that lead through the queues, [`metrics`] has all instruments.

pub mod emf;
mod http;
mod human;
mod json;
mod levels;
pub mod lines;
pub mod metrics;
pub mod otlp;
mod prometheus;
pub mod refusals;
mod sampling;
pub mod trace;

use otlp::Export;
pub use prometheus::MetricsReader;
use sampling::TraceShare;
use std::io::IsTerminal as _;
use std::str::FromStr;
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt as _, FilterFn, Targets, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Names of our crates, whose spans are traced.
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
    /// A text is neither a level nor a filter.
    #[error(
        "{of}: '{level}' is not understood: use error, warn, info, debug, trace, off, or a filter such as \
         edp_worker=debug"
    )]
    Level {
        /// The option or variable that it comes from.
        of: &'static str,
        /// The text of the level.
        level: String,
    },
    /// A text is not the name of a format.
    #[error("log format '{0}' is not understood: use human or json")]
    Format(String),
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Plain lines for people.
    #[default]
    Human,
    /// One JSON object for each line, with the ids of trace and span.
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

/// The identity of a program in traces and metrics.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// `service.name`, unless the environment states another.
    pub name: &'static str,
    /// `service.instance.id`, which is new at every start.
    pub instance: &'a str,
}

/// The telemetry of this process. When it is dropped, the remaining data are sent, which takes at most [`otlp::FLUSH`].
#[derive(Debug)]
#[must_use = "traces and metrics end when this is dropped"]
pub struct Telemetry {
    export: Export,
}

impl Telemetry {
    /// Returns a reader of the metrics of this process.
    pub fn metrics_reader(&self) -> MetricsReader {
        self.export.reader()
    }
}

/// Starts the telemetry of this process, which sends this percentage of all traces, and what has failed of the others. The
/// level of the log is `level` if it is given, else that of RUST_LOG, else
/// `warn`. EDP's names of levels are accepted.
///
/// # Errors
/// Returns an error if level or format cannot be understood.
pub fn start(
    program: Program<'_>,
    level: Option<&str>,
    format: Option<&str>,
    traces: u8,
) -> Result<Telemetry, StartError> {
    let from_environment = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    let filter = match (level, &from_environment) {
        (Some(level), _) => levels::filter("log level", level)?,
        (None, Some(level)) => levels::filter("RUST_LOG", level)?,
        (None, None) => levels::filter("log level", "warn")?,
    };
    // Spans along the queues are for traces. In the log they would precede each line, and obscure it.
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
    let (export, problems) = Export::start(program, TraceShare(traces), &|name| std::env::var(name).ok());
    // Lines in JSON have ids of traces even if these are not collected.
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
    // A second start in one process has no effect, which is what tests need.
    let _ = tracing_subscriber::registry().with(spans).with(log).try_init();
    for problem in problems {
        tracing::warn!("{problem}");
    }
    Ok(Telemetry { export })
}

/// Selects the spans that are traced: ours, and none of the libraries, least of all of those that send the spans.
fn ours() -> Targets {
    Targets::new().with_targets(OWN.map(|target| (target, LevelFilter::INFO)))
}

/// Excludes what is never logged, whatever the filter: traces of libraries that show what they send, including
/// passwords and tokens.
fn discreet() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    const TALKATIVE: [&str; 5] = ["lapin", "amq_protocol", "aws_", "hyper", "h2"];
    filter_fn(|of| *of.level() < tracing::Level::TRACE || !TALKATIVE.iter().any(|name| of.target().starts_with(name)))
}

#[cfg(test)]
mod kept {
    #![allow(clippy::unwrap_used)]
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    /// The captured log of a test.
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
