//! Times: the period that a model step stands for, dates in granule names, and units of the time coordinate.
//!
//! All times are in the proleptic Gregorian calendar and have no time zone.

use crate::{Frequency, Mode};
use jiff::civil::{DateTime, Time};
use jiff::{SignedDuration, Span};

/// The reason why a step has no period, or a period cannot be written in the units.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// The end of the step is not within the years 0 to 9999.
    #[error(
        "step {step} is at no date that can be written: {start} plus {step} steps of {step_seconds} s; check model_timestep"
    )]
    Beyond {
        /// Number of the model step.
        step: u64,
        /// Time at which the model starts.
        start: DateTime,
        /// Length of a step in seconds.
        step_seconds: i64,
    },
    /// The period would be a mean that ends when the model starts, or before.
    #[error("step {step} is the {frequency} mean of nothing: it ends at {end}, but the model starts at {start}")]
    Empty {
        /// Number of the model step.
        step: u64,
        /// Frequency of the dataset: day or month.
        frequency: Frequency,
        /// End of the period.
        end: DateTime,
        /// Time at which the model starts.
        start: DateTime,
    },
    /// The units of the time coordinate cannot be parsed.
    #[error("the time units '{units}' are not understood: write hours since YYYY-MM-DD hh:mm:ss")]
    Units {
        /// The text of the units.
        units: String,
    },
    /// The number that stands for a time in these units does not fit into a 32-bit integer.
    #[error("{time} is too far away for 32-bit '{units}'; start the model later or use longer steps")]
    Range {
        /// The time that is out of range.
        time: DateTime,
        /// Units in which it was to be written.
        units: String,
    },
}

/// The period that one record covers, in whole seconds. A centre on a half second is rounded down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// Start of the period, which is included.
    pub start: DateTime,
    /// End of the period, which is not included. Of a snapshot it is the same as the start.
    pub end: DateTime,
    /// The middle of the period, rounded down to a whole second.
    pub center: DateTime,
}

/// Returns the period of step number `step` of a model that runs from `t0` to `model_end`; `step_seconds` is the length
/// of a step.
///
/// The modes of EDP follow EDP's own rules, including their mistake: EDP recognizes the last day of the run by its date
/// alone, so that it also shifts the mean that ends at the midnight before.
///
/// # Errors
/// Returns an error if a time is not within the years 0 to 9999, or if the period would be a mean over nothing.
pub fn period(
    mode: Mode,
    frequency: Frequency,
    t0: DateTime,
    model_end: DateTime,
    step_seconds: i64,
    step: u64,
) -> Result<Period, CalendarError> {
    period_until(mode, frequency, t0, model_end, end_of_step(t0, step_seconds, step)?, (step, step_seconds))
}

/// Returns the time at which a step ends, of a model that starts at `t0` and has steps of `step_seconds` seconds.
///
/// # Errors
/// Returns [`CalendarError::Beyond`] if the time is not within the years 0 to 9999.
pub fn end_of_step(t0: DateTime, step_seconds: i64, step: u64) -> Result<DateTime, CalendarError> {
    let beyond = || CalendarError::Beyond { step, start: t0, step_seconds };
    let since_start = i64::try_from(step).ok().and_then(|step| step.checked_mul(step_seconds)).ok_or_else(beyond)?;
    let end = t0.checked_add(SignedDuration::from_secs(since_start)).map_err(|_| beyond())?;
    if end.year() < 0 { Err(beyond()) } else { Ok(end) }
}

/// Returns the period from one time to another, with its centre.
pub fn between(start: DateTime, end: DateTime) -> Period {
    let half = SignedDuration::from_secs(end.duration_since(start).as_secs() / 2);
    Period { start, end, center: start.checked_add(half).unwrap_or(end) }
}

/// Returns the period that ends at a given time, by the rules of [`period`]. The number of the step and the length of a
/// step in seconds appear in errors only.
///
/// # Errors
/// Returns an error if the period would be a mean over nothing, or if its start is not within the years 0 to 9999.
pub fn period_until(
    mode: Mode,
    frequency: Frequency,
    t0: DateTime,
    model_end: DateTime,
    end: DateTime,
    (step, step_seconds): (u64, i64),
) -> Result<Period, CalendarError> {
    let beyond = || CalendarError::Beyond { step, start: t0, step_seconds };
    if frequency == Frequency::Snapshot {
        return Ok(Period { start: end, end, center: end });
    }
    let start = match mode {
        Mode::Corrected => {
            let on_time = end.time() == Time::midnight() || end == model_end;
            let start = if on_time { unit_before(frequency, end) } else { one_unit_back(frequency, end) };
            start.map(|start| start.max(t0))
        }
        Mode::Edp2024 | Mode::Edp2026 => edp_start(frequency, t0, model_end, end),
    };
    let start = start.ok_or_else(beyond)?;
    if mode == Mode::Corrected && end <= t0 {
        return Err(CalendarError::Empty { step, frequency, end, start: t0 });
    }
    Ok(between(start, end))
}

/// The result of comparing the time in the header of a record with the time of its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeComparison {
    /// The two times differ by half a step at most.
    Agrees,
    /// The two times differ: steps had another length at least for a while, or the model has started at another time.
    Differs,
    /// The two times have nothing to do with each other: the header was copied from another record.
    Unrelated,
}

/// Compares two numbers of seconds since the start of the model: that of the step's number and that of the record's
/// header.
///
/// No run changes the length of its steps by a factor of a hundred. A factor of 3600 or 86400, however, is a mistake in
/// the unit, and counts as [`TimeComparison::Differs`].
pub fn compare_times(by_step: i64, step_seconds: i64, by_header: f64) -> TimeComparison {
    const MOST: f64 = 100.0;
    let by_step = by_step as f64;
    if (by_header - by_step).abs() <= step_seconds as f64 / 2.0 {
        return TimeComparison::Agrees;
    }
    if by_step <= 0.0 || by_header <= 0.0 {
        return TimeComparison::Differs;
    }
    let factor = (by_header / by_step).max(by_step / by_header);
    let is_unit = |unit: f64| (factor / unit - 1.0).abs() < 1e-3;
    if factor <= MOST || is_unit(3600.0) || is_unit(86_400.0) {
        TimeComparison::Differs
    } else {
        TimeComparison::Unrelated
    }
}

/// Returns the start of the day or month that contains the second before `end`.
fn unit_before(frequency: Frequency, end: DateTime) -> Option<DateTime> {
    let last = end.checked_sub(SignedDuration::from_secs(1)).ok()?;
    Some(match frequency {
        Frequency::Day => last.start_of_day(),
        _ => last.first_of_month().start_of_day(),
    })
}

/// Returns the same clock time one day or one month earlier; from the 31st this is the last day of a shorter month.
fn one_unit_back(frequency: Frequency, end: DateTime) -> Option<DateTime> {
    let unit = match frequency {
        Frequency::Day => Span::new().days(1),
        _ => Span::new().months(1),
    };
    end.checked_sub(unit).ok()
}

/// Returns the start of a period as EDP computes it: the first period begins when the model starts, and the last one,
/// which EDP recognizes by its date alone, is shortened.
fn edp_start(frequency: Frequency, t0: DateTime, model_end: DateTime, end: DateTime) -> Option<DateTime> {
    let start = one_unit_back(frequency, end)?;
    if start.date() == t0.date() {
        return Some(t0);
    }
    if end.date() == model_end.date() {
        let rest_of_day = SignedDuration::from_hours(24) - model_end.duration_since(model_end.start_of_day());
        return start.checked_add(rest_of_day).ok();
    }
    Some(start)
}

/// Writes a time as `YYYY-MM-DDThh:mm:ss`, without fractions of a second.
pub fn text(time: DateTime) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

/// Returns the date in a granule's name.
///
/// A mean is named by its centre and a snapshot by its time to the second. EDP names a daily mean by the day on which
/// it ends, and EDP of 2024 names a snapshot by its day too.
pub fn name_date(mode: Mode, frequency: Frequency, period: &Period) -> String {
    let format = |time: DateTime, format| time.strftime(format).to_string();
    match (frequency, mode) {
        (Frequency::Month, _) => format(period.center, "%Y-%m"),
        (Frequency::Day, Mode::Corrected) => format(period.center, "%Y-%m-%d"),
        (Frequency::Snapshot, Mode::Corrected | Mode::Edp2026) => format(period.center, "%Y-%m-%dT%H%M%S"),
        (Frequency::Day, Mode::Edp2024 | Mode::Edp2026) | (Frequency::Snapshot, Mode::Edp2024) => {
            format(period.end, "%Y-%m-%d")
        }
        (Frequency::TimeInvariant, _) => String::new(),
    }
}

/// Returns the number of the day or month that contains a time. Numbers of consecutive days or months differ by one.
pub fn unit_number(frequency: Frequency, time: DateTime) -> i64 {
    match frequency {
        Frequency::Month => i64::from(time.year()) * 12 + i64::from(time.month()) - 1,
        _ => time.duration_since(DateTime::constant(0, 1, 1, 0, 0, 0, 0)).as_secs().div_euclid(24 * 3600),
    }
}

/// Returns the [`unit_number`] of the day or month to which a result belongs, by the end of its period: a mean belongs to
/// the one that contains its last second, a snapshot to the one that contains its time. `unit` is a day or a month.
pub fn unit_of_result(unit: Frequency, frequency: Frequency, end: DateTime) -> i64 {
    let back = SignedDuration::from_secs(i64::from(frequency != Frequency::Snapshot));
    unit_number(unit, end.checked_sub(back).unwrap_or(end))
}

/// Returns the date of the day or month that has this [`unit_number`], as names of granules write it.
pub fn unit_name(frequency: Frequency, number: i64) -> String {
    match frequency {
        Frequency::Month => format!("{:04}-{:02}", number.div_euclid(12), number.rem_euclid(12) + 1),
        _ => DateTime::constant(0, 1, 1, 0, 0, 0, 0)
            .checked_add(SignedDuration::from_secs(number.saturating_mul(24 * 3600)))
            .map_or_else(|_| format!("day {number}"), |day| day.strftime("%Y-%m-%d").to_string()),
    }
}

/// Units of time from coarse to fine, in seconds.
const UNITS: [(&str, i64); 4] = [("days", 24 * 3600), ("hours", 3600), ("minutes", 60), ("seconds", 1)];

/// Returns the units of time of a dataset. They depend on the configuration and the frequency alone, so that they are
/// the same in all its granules: hours since the model's start if all times that the frequency can have fall on whole
/// hours, else minutes, else seconds.
///
/// Means end with calendar days or months, whatever the length of a step is. The centres of means count too, and so do
/// those of a first and a last period that are cut short by the start and the end of the model.
pub fn time_units(frequency: Frequency, t0: DateTime, model_end: DateTime, step_seconds: i64) -> String {
    let of_day = |time: DateTime| time.duration_since(time.start_of_day()).as_secs();
    let whole = |unit: i64| {
        let times = match frequency {
            Frequency::Snapshot => step_seconds % unit == 0,
            // half of a day or month is a multiple of 12 hours
            _ => (24 * 3600 - of_day(t0)) % (2 * unit) == 0 && of_day(model_end) % (2 * unit) == 0,
        };
        of_day(t0) % unit == 0 && times
    };
    let (name, _) = UNITS.into_iter().skip(1).find(|&(_, unit)| whole(unit)).unwrap_or(("seconds", 1));
    format!("{name} since {}", text(t0))
}

/// Returns `units`, or finer ones if start, centre or end are not whole numbers of them. The model runs until
/// `model_end`.
///
/// # Errors
/// Returns an error if the units cannot be parsed, or if a time needs more than 32 bits although the run is short
/// enough for integers.
pub fn exact_units(units: &str, period: &Period, model_end: DateTime) -> Result<String, CalendarError> {
    let (name, unit, reference) = finer(units, period)?;
    let exact = format!("{name} since {}", text(reference));
    if !is_long(&exact, model_end) {
        check_range(name, unit, reference, period)?;
    }
    Ok(exact)
}

/// Returns true if a model runs for so long that its end needs more than 32 bits in these units. Then all its times are
/// written as floating-point numbers, since CF has no 64-bit integers.
pub fn is_long(units: &str, model_end: DateTime) -> bool {
    parse_units(units)
        .is_ok_and(|(unit, reference)| i32::try_from(model_end.duration_since(reference).as_secs() / unit).is_err())
}

/// Returns the units that EDP's libraries write for one granule: those of the metadata if start, centre and end are
/// whole numbers of them, else the coarsest finer ones. The reference time has a `T`; at midnight it is only a date.
///
/// # Errors
/// Returns an error if the units of the metadata cannot be parsed, or if a time needs more than 32 bits.
pub fn edp_time_units(units: &str, period: &Period) -> Result<String, CalendarError> {
    let (name, unit, reference) = finer(units, period)?;
    check_range(name, unit, reference, period)?;
    let midnight = reference.time() == Time::midnight();
    let reference = if midnight { reference.strftime("%Y-%m-%d").to_string() } else { text(reference) };
    Ok(format!("{name} since {reference}"))
}

/// Returns name and length in seconds of the coarsest unit in which the period is exact, and the reference time of
/// `units`.
fn finer(units: &str, period: &Period) -> Result<(&'static str, i64, DateTime), CalendarError> {
    let (unit, reference) = parse_units(units)?;
    let times = [period.start, period.center, period.end].map(|time| (time, time.duration_since(reference).as_secs()));
    let (name, unit) = UNITS
        .into_iter()
        .find(|&(_, finer)| finer <= unit && times.iter().all(|(_, seconds)| seconds % finer == 0))
        .unwrap_or(("seconds", 1));
    Ok((name, unit, reference))
}

/// Returns an error if a time of the period needs more than 32 bits.
fn check_range(name: &str, unit: i64, reference: DateTime, period: &Period) -> Result<(), CalendarError> {
    let times = [period.start, period.center, period.end];
    let far = |time: &DateTime| i32::try_from(time.duration_since(reference).as_secs() / unit).is_err();
    match times.into_iter().find(far) {
        Some(time) => Err(CalendarError::Range { time, units: format!("{name} since {}", text(reference)) }),
        None => Ok(()),
    }
}

/// Returns the length in seconds of one unit of time, such as `hours since 1992-01-01T12:00:00`, and the reference time,
/// which is one of UTC. The names of units may be written in the ways of UDUNITS, to which the CF conventions refer.
///
/// # Errors
/// Returns an error if the unit is longer than a day or not known, or if the reference time cannot be parsed.
pub fn parse_units(units: &str) -> Result<(i64, DateTime), CalendarError> {
    let bad = || CalendarError::Units { units: units.into() };
    let (unit, reference) = units.split_once(" since ").ok_or_else(bad)?;
    let name = match unit.trim().to_ascii_lowercase().as_str() {
        "d" | "day" => "days",
        "h" | "hr" | "hrs" | "hour" => "hours",
        "min" | "mins" | "minute" => "minutes",
        "s" | "sec" | "secs" | "second" => "seconds",
        whole => UNITS.iter().find(|(name, _)| *name == whole).map(|(name, _)| *name).ok_or_else(bad)?,
    };
    let (_, seconds) = UNITS.iter().find(|(known, _)| *known == name).ok_or_else(bad)?;
    let zones = ["Z", "UTC", "+00:00"];
    let reference = zones.iter().fold(reference.trim(), |text, zone| text.trim_end_matches(zone).trim_end());
    Ok((*seconds, reference.parse().map_err(|_| bad())?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::Frequency::{Day, Month, Snapshot};
    use crate::Mode::{Corrected, Edp2024};
    use jiff::civil::datetime;
    use proptest::prelude::*;

    const T0: DateTime = datetime(1992, 1, 1, 12, 0, 0, 0);
    const END: DateTime = datetime(2017, 12, 31, 12, 0, 0, 0);

    fn texts(mode: Mode, frequency: Frequency, step: u64) -> [String; 3] {
        let period = period(mode, frequency, T0, END, 3600, step).unwrap();
        [period.start, period.end, period.center].map(|time| text(time).strip_suffix(":00").unwrap().to_owned())
    }

    #[test]
    fn periods_that_both_modes_agree_on() {
        for (frequency, step, start, end, center) in [
            (Day, 12, "1992-01-01T12:00", "1992-01-02T00:00", "1992-01-01T18:00"),
            (Day, 36, "1992-01-02T00:00", "1992-01-03T00:00", "1992-01-02T12:00"),
            (Day, 1428, "1992-02-29T00:00", "1992-03-01T00:00", "1992-02-29T12:00"),
            (Day, 227_868, "2017-12-29T00:00", "2017-12-30T00:00", "2017-12-29T12:00"),
            (Day, 227_904, "2017-12-31T00:00", "2017-12-31T12:00", "2017-12-31T06:00"),
            (Month, 732, "1992-01-01T12:00", "1992-02-01T00:00", "1992-01-16T18:00"),
            (Month, 1428, "1992-02-01T00:00", "1992-03-01T00:00", "1992-02-15T12:00"),
            (Month, 2172, "1992-03-01T00:00", "1992-04-01T00:00", "1992-03-16T12:00"),
            (Month, 227_904, "2017-12-01T00:00", "2017-12-31T12:00", "2017-12-16T06:00"),
            (Snapshot, 0, "1992-01-01T12:00", "1992-01-01T12:00", "1992-01-01T12:00"),
            (Snapshot, 732, "1992-02-01T00:00", "1992-02-01T00:00", "1992-02-01T00:00"),
        ] {
            for mode in [Corrected, Edp2024] {
                assert_eq!(texts(mode, frequency, step), [start, end, center], "{mode} {frequency} {step}");
            }
        }
    }

    #[test]
    fn the_last_days_of_release_6_have_names_of_their_own() {
        let end = datetime(2025, 12, 31, 12, 0, 0, 0);
        let name = |mode, step| name_date(mode, Day, &period(mode, Day, T0, end, 3600, step).unwrap());
        assert_eq!([name(Corrected, 298_020), name(Corrected, 298_032)], ["2025-12-30", "2025-12-31"]);
        assert_eq!([name(Edp2024, 298_020), name(Edp2024, 298_032)], ["2025-12-31", "2025-12-31"]);
    }

    #[test]
    fn periods_that_edp_gets_wrong() {
        let defect = ["2017-12-30T12:00", "2017-12-31T00:00", "2017-12-30T18:00"];
        assert_eq!(texts(Edp2024, Day, 227_892), defect);
        assert_eq!(texts(Corrected, Day, 227_892), ["2017-12-30T00:00", "2017-12-31T00:00", "2017-12-30T12:00"]);
        assert_eq!(texts(Edp2024, Month, 10_908), ["1993-02-28T00:00", "1993-03-31T00:00", "1993-03-15T12:00"]);
        assert_eq!(texts(Corrected, Month, 10_908), ["1993-03-01T00:00", "1993-03-31T00:00", "1993-03-16T00:00"]);
        assert_eq!(texts(Edp2024, Day, 0), ["1991-12-31T12:00", "1992-01-01T12:00", "1992-01-01T00:00"]);
        let error = period(Corrected, Day, T0, END, 3600, 0).unwrap_err();
        assert_eq!(error, CalendarError::Empty { step: 0, frequency: Day, end: T0, start: T0 });
    }

    #[test]
    fn means_that_end_at_odd_times() {
        // one unit back, but never before the model's start
        assert_eq!(texts(Corrected, Day, 40), ["1992-01-02T04:00", "1992-01-03T04:00", "1992-01-02T16:00"]);
        assert_eq!(texts(Corrected, Day, 14), ["1992-01-01T12:00", "1992-01-02T02:00", "1992-01-01T19:00"]);
        assert_eq!(texts(Corrected, Month, 736), ["1992-01-01T12:00", "1992-02-01T04:00", "1992-01-16T20:00"]);
        assert_eq!(texts(Corrected, Month, 1432), ["1992-02-01T04:00", "1992-03-01T04:00", "1992-02-15T16:00"]);
    }

    #[test]
    fn absurd_steps_are_errors() {
        for (seconds, step) in
            [(3600, 9_999_999_999), (i64::MAX, 2), (3600, u64::MAX), (i64::MIN, 1), (-3600, 99_999_999)]
        {
            for mode in [Corrected, Edp2024] {
                for frequency in [Day, Month, Snapshot] {
                    let error = period(mode, frequency, T0, END, seconds, step).unwrap_err();
                    assert!(matches!(error, CalendarError::Beyond { .. }), "{error}");
                }
            }
        }
    }

    #[test]
    fn dates_in_names() {
        let date =
            |mode, frequency, step| name_date(mode, frequency, &period(mode, frequency, T0, END, 3600, step).unwrap());
        for mode in [Corrected, Edp2024] {
            assert_eq!(date(mode, Month, 732), "1992-01");
            assert_eq!(date(mode, Month, 227_904), "2017-12");
        }
        assert_eq!(date(Corrected, Day, 12), "1992-01-01");
        assert_eq!(date(Edp2024, Day, 12), "1992-01-02");
        assert_eq!(date(Corrected, Day, 227_892), "2017-12-30");
        assert_eq!(date(Corrected, Day, 227_904), "2017-12-31");
        assert_eq!(date(Edp2024, Day, 227_892), date(Edp2024, Day, 227_904));
        assert_eq!(date(Corrected, Snapshot, 12), "1992-01-02T000000");
        assert_eq!(date(Edp2024, Snapshot, 12), "1992-01-02");
    }

    #[test]
    fn units_by_configuration_and_frequency() {
        let at = |hour, minute, second| datetime(1992, 1, 1, hour, minute, second, 0);
        for (frequency, t0, step, units) in [
            (Month, T0, 3600, "hours since 1992-01-01T12:00:00"),
            (Day, T0, 3600, "hours since 1992-01-01T12:00:00"),
            (Snapshot, T0, 3600, "hours since 1992-01-01T12:00:00"),
            (Day, at(0, 0, 0), 86_400, "hours since 1992-01-01T00:00:00"),
            (Snapshot, T0, 1200, "minutes since 1992-01-01T12:00:00"),
            (Day, at(12, 30, 0), 3600, "minutes since 1992-01-01T12:30:00"),
            (Day, T0, 90, "hours since 1992-01-01T12:00:00"),
            (Month, T0, 450, "hours since 1992-01-01T12:00:00"),
            (Snapshot, T0, 90, "seconds since 1992-01-01T12:00:00"),
            (Day, at(12, 0, 1), 3600, "seconds since 1992-01-01T12:00:01"),
            // the first mean lasts 11 hours: its centre is at a half hour
            (Day, at(13, 0, 0), 3600, "minutes since 1992-01-01T13:00:00"),
            (Snapshot, at(13, 0, 0), 3600, "hours since 1992-01-01T13:00:00"),
        ] {
            assert_eq!(time_units(frequency, t0, END, step), units, "{frequency} {t0} {step}");
        }
        let end = datetime(2017, 12, 31, 11, 0, 0, 0);
        assert_eq!(time_units(Day, T0, end, 3600), "minutes since 1992-01-01T12:00:00");
    }

    #[test]
    fn units_are_refined_until_times_are_exact() {
        let units = "hours since 1992-01-01T12:00:00";
        let at = |step| period(Corrected, Day, T0, END, 3600, step).unwrap();
        assert_eq!(exact_units(units, &at(36), END).unwrap(), units);
        assert_eq!(exact_units(units, &at(13), END).unwrap(), "minutes since 1992-01-01T12:00:00");
        let far = Period { start: T0, end: datetime(2200, 1, 1, 0, 0, 0, 0), center: datetime(2100, 1, 1, 0, 0, 1, 0) };
        assert!(matches!(exact_units(units, &far, END), Err(CalendarError::Range { .. })));
        // A run that is itself so long writes its times as floating-point numbers.
        let long = datetime(2200, 1, 1, 0, 0, 0, 0);
        assert_eq!(exact_units(units, &far, long).unwrap(), "seconds since 1992-01-01T12:00:00");
        assert!(is_long("seconds since 1992-01-01T12:00:00", long) && !is_long(units, long));
    }

    #[test]
    fn times_are_compared_to_half_a_step() {
        for (by_step, by_header, comparison) in [
            (7200, 7200.0, TimeComparison::Agrees),
            (7200, 9000.0, TimeComparison::Agrees),
            (7200, 9001.0, TimeComparison::Differs),
            (7_646_400, 5_140_800.0, TimeComparison::Differs),
            (0, 7200.0, TimeComparison::Differs),
            (7200, 0.0, TimeComparison::Differs),
            (732, 2_635_200.0, TimeComparison::Differs),
            (2_635_200, 732.0, TimeComparison::Differs),
            (2_208_988_800, 2_635_200.0, TimeComparison::Unrelated),
            (7200, f64::NAN, TimeComparison::Unrelated),
        ] {
            assert_eq!(compare_times(by_step, 3600, by_header), comparison, "{by_step} {by_header}");
        }
    }

    #[test]
    fn units_as_edp_writes_them() {
        let january = period(Edp2024, Month, T0, END, 3600, 732).unwrap();
        let odd = period(Edp2024, Day, T0, END, 60, 60 * 40 + 20).unwrap();
        let odder = Period { center: datetime(1992, 1, 3, 0, 0, 1, 0), ..odd };
        for (units, period, want) in [
            ("hours since 1992-01-01 12:00:00", january, "hours since 1992-01-01T12:00:00"),
            ("hours since 1992-01-01 00:00:00", january, "hours since 1992-01-01"),
            ("hours since 1992-01-01", january, "hours since 1992-01-01"),
            ("days since 1992-01-01T12:00:00", january, "hours since 1992-01-01T12:00:00"),
            ("seconds since 1992-01-01 12:00:00", january, "seconds since 1992-01-01T12:00:00"),
            ("hours since 1992-01-01 12:00:00", odd, "minutes since 1992-01-01T12:00:00"),
            ("hours since 1992-01-01 12:00:00", odder, "seconds since 1992-01-01T12:00:00"),
        ] {
            assert_eq!(edp_time_units(units, &period).unwrap(), want, "{units}");
        }
        for units in
            ["", "hours", "fortnights since 1992-01-01", "hours since then", "hours since 1992-01-01 12:00:00 PST"]
        {
            assert!(matches!(edp_time_units(units, &january), Err(CalendarError::Units { .. })), "{units}");
        }
    }

    #[test]
    fn units_of_time_may_be_written_in_the_ways_of_udunits() {
        for (units, seconds) in [
            ("days since 1992-01-01 12:00:00", 86_400),
            ("Day since 1992-01-01T12:00:00Z", 86_400),
            ("h since 1992-01-01 12:00:00 UTC", 3600),
            ("hrs since  1992-01-01 12:00", 3600),
            ("min since 1992-01-01T12:00:00+00:00", 60),
            ("secs since 1992-01-01 12:00:00", 1),
        ] {
            assert_eq!(parse_units(units), Ok((seconds, T0)), "{units}");
        }
        for units in
            ["weeks since 1992-01-01", "months since 1992-01-01", "hours", "h since", "h since 1992-01-01+01:00"]
        {
            assert!(matches!(parse_units(units), Err(CalendarError::Units { .. })), "{units}");
        }
    }

    #[test]
    fn units_of_the_calendar_are_counted_on() {
        let number = |frequency, year, month, day| unit_number(frequency, datetime(year, month, day, 23, 0, 0, 0));
        assert_eq!(number(Month, 1993, 1, 1) - number(Month, 1992, 12, 31), 1);
        assert_eq!(number(Day, 1992, 3, 1) - number(Day, 1992, 2, 28), 2);
        assert_eq!(unit_name(Month, number(Month, 1992, 12, 5)), "1992-12");
        assert_eq!(unit_name(Day, number(Day, 1992, 2, 29)), "1992-02-29");
        let midnight = datetime(1992, 3, 1, 0, 0, 0, 0);
        let unit = |unit, frequency| unit_name(unit, unit_of_result(unit, frequency, midnight));
        assert_eq!([unit(Month, Month), unit(Month, Snapshot)], ["1992-02", "1992-03"]);
        assert_eq!([unit(Day, Day), unit(Day, Snapshot)], ["1992-02-29", "1992-03-01"]);
    }

    proptest! {
        #[test]
        fn corrected_days_and_months_tile_the_time(step in 1_u64..300_000) {
            for frequency in [Day, Month] {
                let p = period(Corrected, frequency, T0, END, 3600, step).unwrap();
                prop_assert!(T0 <= p.start && p.start < p.center && p.center < p.end);
                exact_units(&time_units(frequency, T0, END, 3600), &p, END).unwrap();
            }
        }

        #[test]
        fn no_numbers_make_it_panic(seconds: i64, step: u64, units in "\\PC*") {
            for (mode, frequency) in [(Corrected, Day), (Edp2024, Month), (Corrected, Snapshot)] {
                let _ = period(mode, frequency, T0, END, seconds, step);
                let p = period(mode, frequency, T0, END, 3600, 36).unwrap();
                let _ = edp_time_units(&units, &p);
            }
        }
    }
}
