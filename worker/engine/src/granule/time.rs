//! The time coordinate: periods of a recipe in the units that it states.

use edp_protocol::calendar::parse_units;
use jiff::civil::DateTime;
use jiff::{SpanRound, Unit};

/// Start, centre and end of a granule as whole numbers of its time unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodedTime {
    /// Start of the period.
    pub start: i64,
    /// Middle of the period.
    pub center: i64,
    /// End of the period.
    pub end: i64,
}

impl EncodedTime {
    /// Returns true if all three fit into 32 bits, in which they are written unless the whole run is longer.
    pub(crate) fn is_short(&self) -> bool {
        [self.start, self.center, self.end].into_iter().all(|time| i32::try_from(time).is_ok())
    }
}

/// The reason why a time cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// The recipe does not have this time.
    #[error("the recipe has no {0}: plan it again")]
    Missing(&'static str),
    /// The text is not a time.
    #[error("{key}: '{text}' is not a time of the form YYYY-MM-DDThh:mm:ss")]
    Time {
        /// Key in the recipe.
        key: &'static str,
        /// Text of the value.
        text: String,
    },
    /// The units cannot be parsed.
    #[error("time units '{0}' are not of the form 'hours since YYYY-MM-DDThh:mm:ss' (days, hours, minutes or seconds)")]
    Units(String),
    /// The time is not a whole number of units, or out of range.
    #[error("{key} {text} is no whole number of '{units}' that can be written")]
    Inexact {
        /// Key in the recipe.
        key: &'static str,
        /// Text of the value.
        text: String,
        /// Units of the granule.
        units: String,
    },
}

/// Encodes the times of a recipe.
///
/// # Errors
/// Returns an error if a time or the units cannot be parsed, or if a time is not a whole 32-bit number of units.
pub fn encode(dynamic: &edp_protocol::recipe::DynamicMetadata, units: &str) -> Result<EncodedTime, TimeError> {
    encode_within(i64::from(i32::MIN)..=i64::from(i32::MAX), dynamic, units)
}

/// Encodes the times of a long run, which are written as floating-point numbers.
///
/// # Errors
/// Returns an error if a time or the units cannot be parsed, or if a time is not a whole number of units that double
/// precision represents exactly.
pub(crate) fn encode_long(
    dynamic: &edp_protocol::recipe::DynamicMetadata,
    units: &str,
) -> Result<EncodedTime, TimeError> {
    const MOST: i64 = 1 << 53;
    encode_within(-MOST..=MOST, dynamic, units)
}

fn encode_within(
    range: std::ops::RangeInclusive<i64>,
    dynamic: &edp_protocol::recipe::DynamicMetadata,
    units: &str,
) -> Result<EncodedTime, TimeError> {
    let (seconds, reference) = parse_units(units).map_err(|_| TimeError::Units(units.into()))?;
    let encode_one = |key: &'static str, text: &Option<String>| {
        let text = text.as_deref().ok_or(TimeError::Missing(key))?;
        let time: DateTime = text.parse().map_err(|_| TimeError::Time { key, text: text.into() })?;
        let inexact = || TimeError::Inexact { key, text: text.into(), units: units.into() };
        let since = seconds_between(reference, time).ok_or_else(inexact)?;
        if since % seconds != 0 {
            return Err(inexact());
        }
        Some(since / seconds).filter(|time| range.contains(time)).ok_or_else(inexact)
    };
    Ok(EncodedTime {
        start: encode_one("time_coverage_start", &dynamic.time_coverage_start)?,
        center: encode_one("time_coverage_center", &dynamic.time_coverage_center)?,
        end: encode_one("time_coverage_end", &dynamic.time_coverage_end)?,
    })
}

/// Returns the whole seconds from one time to another; `None` if there is a fraction.
pub(super) fn seconds_between(from: DateTime, to: DateTime) -> Option<i64> {
    let span = from.until((Unit::Second, to)).ok()?.round(SpanRound::new().largest(Unit::Second)).ok()?;
    (span.get_milliseconds() == 0 && span.get_microseconds() == 0 && span.get_nanoseconds() == 0)
        .then(|| span.get_seconds())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use edp_protocol::recipe::DynamicMetadata;

    fn dynamic(start: &str, center: &str, end: &str) -> DynamicMetadata {
        serde_json::from_value(serde_json::json!({"name": "", "dimension": "2D", "summary": "",
            "time_coverage_start": start, "time_coverage_center": center, "time_coverage_end": end}))
        .unwrap()
    }

    #[test]
    fn the_first_months_of_the_state_estimate() {
        let units = "hours since 1992-01-01T12:00:00";
        let january = dynamic("1992-01-01T12:00:00", "1992-01-16T18:00:00", "1992-02-01T00:00:00");
        assert_eq!(encode(&january, units), Ok(EncodedTime { start: 0, center: 366, end: 732 }));
        let march = dynamic("1992-03-01T00:00:00", "1992-03-16T12:00:00", "1992-04-01T00:00:00");
        assert_eq!(encode(&march, units), Ok(EncodedTime { start: 1428, center: 1800, end: 2172 }));
        let midnight = dynamic("1992-01-01T00:00:00", "1992-01-01T00:30:00", "1992-01-01T01:00:00");
        assert_eq!(encode(&midnight, "minutes since 1992-01-01"), Ok(EncodedTime { start: 0, center: 30, end: 60 }));
        let days = dynamic("1992-01-01T12:00:00", "1992-01-02T12:00:00", "1992-01-03T12:00:00");
        let encoded = encode(&days, "days since 1992-01-01T12:00:00");
        assert_eq!(encoded, Ok(EncodedTime { start: 0, center: 1, end: 2 }));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let half = dynamic("1992-01-01T12:00:00", "1992-01-01T12:30:00", "1992-01-01T13:00:00");
        assert!(matches!(encode(&half, "hours since 1992-01-01T12:00:00"), Err(TimeError::Inexact { .. })));
        let far = dynamic("1992-01-01T12:00:00", "2092-01-01T12:00:00", "2192-01-01T12:00:00");
        assert!(matches!(encode(&far, "seconds since 1992-01-01T12:00:00"), Err(TimeError::Inexact { .. })));
        let long = encode_long(&far, "seconds since 1992-01-01T12:00:00").unwrap();
        assert_eq!((long.start, long.end - long.center, long.is_short()), (0, 3_155_673_600, false));
        for units in ["weeks since 1992-01-01", "hours", "hours since then"] {
            assert_eq!(encode(&half, units), Err(TimeError::Units(units.into())));
        }
        let mut none = half.clone();
        none.time_coverage_end = None;
        let units = "minutes since 1992-01-01T12:00:00";
        assert_eq!(encode(&none, units), Err(TimeError::Missing("time_coverage_end")));
        none.time_coverage_start = Some("yesterday".into());
        assert!(matches!(encode(&none, units), Err(TimeError::Time { .. })));
    }
}
