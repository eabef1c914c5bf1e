//! The log as JSON lines.

use edp_protocol::text;
use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use serde_json::{Map, Value};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// Writes one object for each event: `timestamp`, `level`, `target`, `message`, then `trace_id` and `span_id` if the
/// event happened in a span, then the event's own fields under `fields`.
pub(super) struct JsonFormat;

impl<S, N> FormatEvent<S, N> for JsonFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let mut line = Map::new();
        line.insert("timestamp".into(), jiff::Timestamp::now().to_string().into());
        line.insert("level".into(), metadata.level().as_str().into());
        line.insert("target".into(), metadata.target().into());
        line.insert("message".into(), fields.message.into());
        // This is the span of OpenTelemetry, not that of the log, whose filter may have removed it.
        let span = Context::current().span().span_context().clone();
        if span.is_valid() {
            line.insert("trace_id".into(), span.trace_id().to_string().into());
            line.insert("span_id".into(), span.span_id().to_string().into());
        }
        if !fields.others.is_empty() {
            line.insert("fields".into(), fields.others.into());
        }
        writeln!(writer, "{}", text::json(&Value::Object(line).to_string()))
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.others.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            _ => self.add(field, format!("{value:?}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            _ => self.add(field, value),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::kept::CapturedLog;
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn lines_are_objects_whatever_is_in_them() {
        let kept = CapturedLog::default();
        let writer = kept.clone();
        let log = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).event_format(JsonFormat);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(log), || {
            let text = "two\nlines, a \"quote\" and \u{1b}[31m\u{9b}\u{202e}";
            tracing::warn!(text, number = 7_u64, share = 0.5, yes = true, path = ?"p", "said {text}");
            tracing::info!("plain");
        });
        let text = kept.text();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [first, second] = &lines[..] else { unreachable!("{text}") };
        assert_eq!(first["message"], "said two\nlines, a \"quote\" and \u{1b}[31m\u{9b}\u{202e}");
        assert!(text.lines().all(|line| !line.contains(edp_protocol::text::is_unsafe)), "{text}");
        assert_eq!((&first["level"], &first["fields"]["number"]), (&"WARN".into(), &7.into()));
        assert_eq!((&first["fields"]["share"], &first["fields"]["yes"]), (&0.5.into(), &true.into()));
        assert_eq!(second["message"], "plain");
        assert!(second.get("fields").is_none() && second.get("trace_id").is_none(), "{second}");
    }
}
