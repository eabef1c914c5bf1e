//! The log as lines for people.

use edp_protocol::text;
use std::fmt;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{Format, FormatEvent, FormatFields, Full, Writer};
use tracing_subscriber::registry::LookupSpan;

/// Writes one line for each event, as `tracing` does: time, level, spans, target, message, fields. The whole line is
/// made safe to show, see [`text::line`], so that no field of any crate needs special care; only then the level gets
/// its colour.
pub(super) struct HumanFormat {
    format: Format<Full>,
    color: bool,
}

impl HumanFormat {
    /// Makes a format with or without colour.
    pub(super) fn new(color: bool) -> HumanFormat {
        HumanFormat { format: Format::default().with_ansi(false), color }
    }
}

impl<S, N> FormatEvent<S, N> for HumanFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let line = text::line(line.trim_end_matches('\n'));
        let level = event.metadata().level();
        // Only the time precedes it.
        match line.split_once(level.as_str()).filter(|_| self.color) {
            Some((before, after)) => writeln!(to, "{before}\u{1b}[{}m{level}\u{1b}[0m{after}", color(level)),
            None => writeln!(to, "{line}"),
        }
    }
}

/// Returns the code of a level's colour.
fn color(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::kept::CapturedLog;
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    /// Returns the log of an event that has all that an attacker can put into it, in message, fields and span.
    fn logged(color: bool) -> String {
        let kept = CapturedLog::default();
        let writer = kept.clone();
        let log = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .event_format(HumanFormat::new(color));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(log), || {
            let evil = "\u{1b}[2Jx\r\n24 made\u{9b}31m\u{202e}\u{7}\u{2028}";
            let span = tracing::info_span!("span", name = %evil);
            let _entered = span.enter();
            tracing::warn!(reason = %evil, path = ?evil, text = evil, url = "amqp://u:s3cret@h", "said {evil}");
        });
        kept.text()
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let text = logged(false);
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.contains(text::is_unsafe), "{line}");
        assert!(line.contains(" WARN span{name=") && line.contains("24 made") && !line.contains("s3cret"), "{line}");
        let colored = logged(true);
        assert_eq!(colored.matches('\u{1b}').count(), 2, "{colored:?}");
        assert!(colored.contains("\u{1b}[33mWARN\u{1b}[0m span{"), "{colored:?}");
    }
}
