//! The times of a series: read from its NetCDF file, brought into the units of the granule, and compared with the
//! frequency that is asked for.

use super::error::MakeError;
use super::invariant_input::InvariantInput;
use super::stages::{Stage, Stages};
use super::time::seconds_between;
use crate::metadata::attribute::{self, Value};
use crate::reader::{OutlinedVariable, ReadError, ValueKind};
use edp_protocol::Frequency;
use edp_protocol::calendar::{self, parse_units};
use jiff::SignedDuration;
use jiff::ToSpan as _;
use jiff::civil::DateTime;

/// The calendars of CF that agree with ours for all times since 1582.
const CALENDARS: [&str; 3] = ["proleptic_gregorian", "gregorian", "standard"];

/// What a granule asks of its times.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeAxis<'a> {
    /// CF units of the granule's time.
    pub(super) units: &'a str,
    /// Frequency of the values.
    pub(super) frequency: Frequency,
    /// Start of the model.
    pub(super) start: DateTime,
    /// End of the model.
    pub(super) end: DateTime,
}

/// The times of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeriesTimes {
    /// Times of the values, in the units of the granule, ascending.
    pub(super) centres: Vec<i64>,
    /// Start and end of each period; none of snapshots.
    pub(super) bounds: Option<Vec<[i64; 2]>>,
    /// Number of periods before which there is a gap.
    pub(super) gaps: usize,
    /// Length of a unit in seconds, and the time from which units count.
    clock: (i64, DateTime),
}

/// The reason why the times of a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SeriesTimeError {
    /// The file has no usable times.
    #[error("{0}")]
    Times(String),
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The times take more memory than there is.
    #[error("its times need {needed} bytes of memory, of which there are {limit}")]
    Memory {
        /// Bytes that they take.
        needed: u64,
        /// Bytes that they may take.
        limit: u64,
    },
}

impl SeriesTimeError {
    /// Returns the error of the granule.
    pub(super) fn of(self, granule: &str, file: &str) -> MakeError {
        match self {
            SeriesTimeError::Read(error) => error.into(),
            SeriesTimeError::Memory { needed, limit } => {
                MakeError::Memory { granule: granule.into(), variable: "time".into(), needed, limit }
            }
            SeriesTimeError::Times(why) => {
                MakeError::Variable { granule: granule.into(), variable: "time".into(), why: format!("{file}: {why}") }
            }
        }
    }
}

impl SeriesTimes {
    /// Reads the times of a file. They may take at most `memory` bytes.
    pub(super) fn read(
        input: &mut InvariantInput,
        axis: &TimeAxis<'_>,
        memory: u64,
        stages: &Stages,
    ) -> Result<SeriesTimes, SeriesTimeError> {
        let fail = |why: &str| SeriesTimeError::Times(why.to_owned());
        let by_name = |name: &str| input.outline.variables.iter().find(|one| one.described.name == name).cloned();
        let time = by_name("time").ok_or_else(|| fail("it has no variable 'time'"))?;
        let [count] = time.described.shape()[..] else {
            return Err(fail("its variable 'time' does not have one dimension"));
        };
        if count == 0 {
            return Err(fail("it has no times"));
        }
        let needed = (count as u64).saturating_mul(2 * 3 * 8);
        if needed > memory {
            return Err(SeriesTimeError::Memory { needed, limit: memory });
        }
        let clock = parse_units(axis.units).map_err(|_| fail("the recipe has no units of time: plan it again"))?;
        let units = text(&time, "units").ok_or_else(|| fail("its variable 'time' has no units"))?;
        let bounds = text(&time, "bounds").and_then(|name| by_name(&name));
        let bounds = bounds.filter(|bounds| bounds.described.shape() == [count, 2]);
        if let Some(calendar) = text(&time, "calendar").filter(|calendar| !CALENDARS.contains(&calendar.as_str())) {
            return Err(fail(&format!("the calendar of its times is {calendar}, not one of {}", CALENDARS.join(", "))));
        }
        let mut read = |variable: &OutlinedVariable| {
            if matches!(variable.kind, ValueKind::Other | ValueKind::Flag) {
                return Err(fail("its times are no numbers"));
            }
            let (shape, units) = (variable.described.shape(), text(variable, "units").unwrap_or_else(|| units.clone()));
            let read = || input.session.values::<f64>(&variable.described, &vec![0; shape.len()], &shape);
            let values = stages.time(Stage::Read, (shape.iter().product::<usize>() * 8) as u64, read)?;
            seconds(&values, &units, clock.1).map_err(SeriesTimeError::Times)
        };
        let centres = read(&time)?;
        let bounds = match (axis.frequency, &bounds) {
            (Frequency::Snapshot, _) => None,
            (_, Some(bounds)) => Some(read(bounds)?.as_chunks::<2>().0.to_vec()),
            (_, None) => Some(of_calendar(&centres, axis, clock.1).map_err(SeriesTimeError::Times)?),
        };
        let gaps = check(&centres, bounds.as_deref(), axis, clock.1).map_err(SeriesTimeError::Times)?;
        let in_units = |second: i64| {
            let inexact =
                || SeriesTimeError::Times(format!("{} is no whole number of '{}'", named(second, clock.1), axis.units));
            if second % clock.0 == 0 { Ok(second / clock.0) } else { Err(inexact()) }
        };
        let both = |[start, end]: [i64; 2]| Ok::<_, SeriesTimeError>([in_units(start)?, in_units(end)?]);
        let bounds = bounds.map(|bounds| bounds.into_iter().map(both).collect::<Result<Vec<_>, _>>()).transpose()?;
        let centres = centres.into_iter().map(in_units).collect::<Result<Vec<_>, _>>()?;
        Ok(SeriesTimes { centres, bounds, gaps, clock })
    }

    /// Number of times.
    pub(super) fn len(&self) -> usize {
        self.centres.len()
    }

    /// Bytes that the times take.
    pub(super) fn bytes(&self) -> u64 {
        (self.len() * 3 * 8) as u64
    }

    /// Returns the seconds from a time to the first time or period of the series.
    pub(super) fn seconds_after(&self, start: DateTime) -> Option<i64> {
        seconds_between(start, self.coverage()[0])
    }

    /// Returns the first and the last time that the series covers.
    pub(super) fn coverage(&self) -> [DateTime; 2] {
        let first = self.bounds.as_ref().and_then(|bounds| bounds.first()).map(|[start, _]| *start);
        let last = self.bounds.as_ref().and_then(|bounds| bounds.last()).map(|[_, end]| *end);
        let first = first.or(self.centres.first().copied());
        let last = last.or(self.centres.last().copied());
        [first, last].map(|time| after(self.clock.1, time.unwrap_or(0).saturating_mul(self.clock.0)))
    }
}

/// Returns the text of an attribute without blanks around it; none if it is empty.
fn text(variable: &OutlinedVariable, name: &str) -> Option<String> {
    let attributes = variable.attributes();
    let text = attribute::get(&attributes, name).and_then(Value::text).map(|text| text.trim().to_owned());
    text.filter(|text| !text.is_empty())
}

/// Returns the time a number of seconds after another one, or that one if there is no such time.
fn after(reference: DateTime, seconds: i64) -> DateTime {
    reference.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(reference)
}

fn named(seconds: i64, reference: DateTime) -> String {
    calendar::text(after(reference, seconds))
}

/// Returns times in some units as whole seconds after a reference.
fn seconds(values: &[f64], units: &str, reference: DateTime) -> Result<Vec<i64>, String> {
    const MOST: f64 = 1e12; // 30,000 years, more than dates have
    let unknown = || {
        format!(
            "the units of its times, '{units}', are not of the form 'hours since YYYY-MM-DD hh:mm:ss' (days to seconds)"
        )
    };
    let (unit, since) = parse_units(units).map_err(|_| unknown())?;
    let unit = unit as f64;
    let offset = seconds_between(reference, since).ok_or_else(unknown)?;
    let one = |(at, value): (usize, &f64)| {
        let exact = value * unit;
        let whole = exact.round();
        // Days of double precision are exact to a microsecond; what is further off was no whole second.
        if !exact.is_finite() || exact.abs() > MOST || (exact - whole).abs() > 1e-3 {
            return Err(format!("its time {at} is {value} {units}, which is missing or no whole second"));
        }
        Ok(whole as i64 + offset)
    };
    values.iter().enumerate().map(one).collect()
}

/// Returns the calendar day or month that contains each time, cut where the model starts and ends.
fn of_calendar(centres: &[i64], axis: &TimeAxis<'_>, reference: DateTime) -> Result<Vec<[i64; 2]>, String> {
    let period = |second: &i64| {
        let time = after(reference, *second);
        let (start, length) = match axis.frequency {
            Frequency::Month => (time.first_of_month().start_of_day(), 1.month()),
            _ => (time.start_of_day(), 1.day()),
        };
        let end = start.checked_add(length).map_err(|error| error.to_string())?;
        if time == start {
            let time = calendar::text(time);
            return Err(format!(
                "its time {time} lies between two periods, so that it is not known which one is meant: give the times \
                 bounds, or their middles"
            ));
        }
        let (start, end) = (start.max(axis.start), end.min(axis.end));
        let both = [start, end].map(|time| seconds_between(reference, time));
        let [Some(start), Some(end)] = both else { return Err("its times are out of range".into()) };
        Ok([start, end])
    };
    centres.iter().map(period).collect()
}

/// Compares times with the frequency. Returns the number of periods before which there is a gap.
fn check(
    centres: &[i64],
    bounds: Option<&[[i64; 2]]>,
    axis: &TimeAxis<'_>,
    reference: DateTime,
) -> Result<usize, String> {
    let at = |second: i64| named(second, reference);
    if let Some(pair) = centres.windows(2).find(|pair| pair[0] >= pair[1]) {
        return Err(format!("its times do not ascend: {} is followed by {}", at(pair[0]), at(pair[1])));
    }
    let Some(bounds) = bounds else { return Ok(0) };
    let unit = |second: i64| calendar::unit_number(axis.frequency, after(reference, second));
    for ([start, end], centre) in bounds.iter().zip(centres) {
        let period = if axis.frequency == Frequency::Month { "month" } else { "day" };
        if start >= end || centre < start || centre > end || unit(*start) != unit(end - 1) {
            let (start, end, centre) = (at(*start), at(*end), at(*centre));
            return Err(format!(
                "its value at {centre} is of {start} to {end}, which is no calendar {period} around it"
            ));
        }
    }
    if let Some(pair) = bounds.windows(2).find(|pair| pair[1][0] < pair[0][1]) {
        return Err(format!(
            "its periods overlap: one ends at {}, the next begins at {}; are these {} values?",
            at(pair[0][1]),
            at(pair[1][0]),
            axis.frequency
        ));
    }
    Ok(bounds.windows(2).filter(|pair| pair[1][0] > pair[0][1]).count())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use jiff::civil::datetime;

    const START: DateTime = DateTime::constant(1992, 1, 1, 12, 0, 0, 0);

    fn axis(frequency: Frequency) -> TimeAxis<'static> {
        let end = datetime(1992, 4, 1, 0, 0, 0, 0);
        TimeAxis { units: "hours since 1992-01-01T12:00:00", frequency, start: START, end }
    }

    #[test]
    fn times_count_in_any_units() {
        let of = |values: &[f64], units: &str| seconds(values, units, START);
        assert_eq!(of(&[0.0, 1.0], "hours since 1992-01-01 12:00:00").unwrap(), [0, 3600]);
        assert_eq!(of(&[0.5, 1.0], "days since 1992-01-01").unwrap(), [0, 43_200]);
        assert_eq!(of(&[1.0], "Minute since 1992-01-01T12:00:00Z").unwrap(), [60]);
        assert_eq!(of(&[33.0 + 1.0 / 3.0], "days since 1992-01-01 UTC").unwrap(), [33 * 86_400 + 28_800 - 43_200]);
        for (value, units) in [
            (0.0, "hours"),
            (0.0, "months since 1992-01-01"),
            (0.0, "hours since the start"),
            (f64::NAN, "hours since 1992-01-01"),
            (1e300, "days since 1992-01-01"),
            (0.3, "seconds since 1992-01-01"),
        ] {
            assert!(of(&[value], units).is_err(), "{value} {units}");
        }
    }

    #[test]
    fn means_get_the_bounds_of_their_calendar_units() {
        let hour = 3600;
        let months = of_calendar(&[366 * hour, 1080 * hour, 1800 * hour], &axis(Frequency::Month), START).unwrap();
        assert_eq!(months, [[0, 732 * hour], [732 * hour, 1428 * hour], [1428 * hour, 2172 * hour]]);
        assert_eq!(
            check(&[366 * hour, 1080 * hour, 1800 * hour], Some(&months), &axis(Frequency::Month), START),
            Ok(0)
        );
        let days = of_calendar(&[6 * hour, 24 * hour], &axis(Frequency::Day), START).unwrap();
        assert_eq!(days, [[0, 12 * hour], [12 * hour, 36 * hour]]);
        let between = of_calendar(&[732 * hour], &axis(Frequency::Month), START).unwrap_err();
        assert!(between.contains("lies between two periods"), "{between}");
    }

    #[test]
    fn what_is_of_another_frequency_is_refused() {
        let (hour, month) = (3600, axis(Frequency::Month));
        let daily: Vec<i64> = (1..5).map(|day| day * 24 * hour).collect();
        let bounds = of_calendar(&daily, &month, START).unwrap();
        let error = check(&daily, Some(&bounds), &month, START).unwrap_err();
        assert!(error.contains("overlap") && error.contains("AVG_MON"), "{error}");
        let error = check(&[366 * hour], Some(&[[0, 1428 * hour]]), &month, START).unwrap_err();
        assert!(error.contains("no calendar month"), "{error}");
        assert!(check(&[2, 2], None, &axis(Frequency::Snapshot), START).unwrap_err().contains("do not ascend"));
        let gap = [366 * hour, 1800 * hour];
        let bounds = of_calendar(&gap, &month, START).unwrap();
        assert_eq!(check(&gap, Some(&bounds), &month, START), Ok(1));
    }
}
