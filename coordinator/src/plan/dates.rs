//! Times of results in their headers. They are compared with the times that the configuration gives to the steps, and
//! they are used for means that are not of a calendar day or month, or if that is asked for.

use super::few;
use super::files::Pair;
use super::headers::{BATCH, HeaderCache, HeaderSummary};
use super::problem::Problem;
use super::survey::StepInputs;
use edp_engine::metadata::configuration::Configuration;
use edp_protocol::calendar::{self, CalendarError, Period, TimeComparison};
use edp_protocol::{Frequency, Mode};
use jiff::SignedDuration;
use jiff::civil::{DateTime, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Number of steps between the first and the last of a dataset whose headers are read.
const BETWEEN: usize = 16;

/// The source of the times of granules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DateSource {
    /// The model's start plus steps of the configured length. Headers that disagree are an error.
    #[default]
    Steps,
    /// The `timeInterval` in the headers.
    Header,
}

/// The rules by which times are determined.
pub(super) struct DateRules<'a> {
    pub(super) mode: Mode,
    pub(super) frequency: Frequency,
    pub(super) configuration: &'a Configuration,
    pub(super) headers: &'a HeaderCache,
    pub(super) source: DateSource,
    /// Name of the job in messages.
    pub(super) place: &'a str,
}

/// The times of the results of one job.
#[derive(Debug, Default)]
pub(super) struct ResultDates {
    /// Seconds from the model's start to the beginning, if the header has one, and to the end.
    by_header: BTreeMap<u64, (Option<f64>, f64)>,
    /// True if the ends are those of the headers.
    ends: bool,
    /// True if the beginnings are those of the headers.
    starts: bool,
}

impl ResultDates {
    /// Returns the period of a step.
    ///
    /// # Errors
    /// Returns an error if a time is out of range, or if the period would be a mean over nothing.
    pub(super) fn period(&self, rules: &DateRules<'_>, step: u64) -> Result<Period, CalendarError> {
        let DateRules { mode, frequency, configuration, .. } = *rules;
        let (t0, model_end, seconds) = (configuration.model_start, configuration.model_end, configuration.step_seconds);
        let by_header = self.by_header.get(&step);
        let end = match by_header.filter(|_| self.ends) {
            Some((_, end)) => {
                after(t0, *end).ok_or(CalendarError::Beyond { step, start: t0, step_seconds: seconds })?
            }
            None => calendar::end_of_step(t0, seconds, step)?,
        };
        let start = by_header.filter(|_| self.starts).and_then(|(start, _)| after(t0, (*start)?));
        match start.filter(|start| *start < end) {
            Some(start) => Ok(calendar::between(start, end)),
            None => calendar::period_until(mode, frequency, t0, model_end, end, (step, seconds)),
        }
    }

    /// Returns true if the time of a step differs from that of the configuration.
    pub(super) fn differs(&self, rules: &DateRules<'_>, step: u64) -> bool {
        let configuration = rules.configuration;
        let by_step = calendar::end_of_step(configuration.model_start, configuration.step_seconds, step);
        let by_header = self.by_header.get(&step).filter(|_| self.ends);
        by_header.is_some_and(|(_, end)| after(configuration.model_start, *end) != by_step.ok())
    }
}

impl DateRules<'_> {
    /// Compares the headers of some steps of each variable with the configuration, and reads those of all steps if the
    /// times of granules are taken from them. Returns the times, with warnings.
    ///
    /// # Errors
    /// Returns an error if headers contradict the configuration.
    pub(super) fn dates(&self, records: &[StepInputs]) -> Result<(ResultDates, Vec<String>), Problem> {
        let mut warnings = Vec::new();
        let samples: Vec<(u64, &Pair)> = sampled(records.len()).flat_map(|at| pairs(&records[at])).collect();
        self.headers.load(samples.iter().map(|(_, pair)| *pair));
        let (mut unreadable, mut differing, mut unrelated) = (BTreeSet::new(), Vec::new(), Vec::new());
        let mut timed: Vec<(u64, Arc<HeaderSummary>)> = Vec::new();
        for (step, pair) in samples {
            match self.headers.of(pair) {
                Err(error) => drop(unreadable.insert(error)),
                Ok(header) => match self.compare(step, &header) {
                    None | Some(TimeComparison::Agrees) => timed.push((step, header)),
                    Some(TimeComparison::Differs) => {
                        differing.push((step, pair));
                        timed.push((step, header));
                    }
                    Some(TimeComparison::Unrelated) => unrelated.push(pair.meta.as_str()),
                },
            }
        }
        if let Some(first) = unreadable.first() {
            let more = unreadable.len() - 1;
            let more = if more == 0 { String::new() } else { format!(" (and {more} more like this)") };
            warnings.push(format!("{}: {first}{more}; its recipe is written, and fails when it is made", self.place));
        }
        if !unrelated.is_empty() {
            let (count, files) = (unrelated.len(), few(&unrelated));
            warnings.push(format!(
                "{}: the timeInterval of {count} headers has nothing to do with their steps, as if they were copied: \
                 {files}; times are by the steps",
                self.place
            ));
        }
        let by_header = self.source == DateSource::Header;
        if let Some(&(step, pair)) = differing.first().filter(|_| !by_header) {
            let problem = self.contradiction(step, pair, differing.len() - 1);
            if self.mode == Mode::Corrected {
                return Err(problem);
            }
            warnings.push(format!("{problem}; times are by the steps, as by EDP"));
        }
        if self.mode != Mode::Corrected {
            return Ok((ResultDates::default(), warnings));
        }
        let other_days = timed.iter().find_map(|(step, header)| self.days_of_other_mean(*step, header, by_header));
        let mut dates = ResultDates { ends: by_header, starts: other_days.is_some(), ..ResultDates::default() };
        if let Some(days) = other_days {
            let unit = if self.frequency == Frequency::Day { "days" } else { "months" };
            warnings.push(format!(
                "{}: these means are of no calendar {unit}, but of {days:.3} days, say: their periods are those of the \
                 headers (timeInterval)",
                self.place
            ));
        }
        if dates.ends || dates.starts {
            self.read_all(records, &mut dates)?;
        }
        Ok((dates, warnings))
    }

    /// Takes the time of each step from the header of the first of its inputs.
    fn read_all(&self, records: &[StepInputs], dates: &mut ResultDates) -> Result<(), Problem> {
        let firsts: Vec<(u64, &Pair)> = records.iter().filter_map(|record| pairs(record).next()).collect();
        let mut without = Vec::new();
        for firsts in firsts.chunks(BATCH) {
            self.headers.load(firsts.iter().map(|(_, pair)| *pair));
            for &(step, pair) in firsts {
                let header = self.headers.of(pair).ok();
                let header = header.filter(|header| self.compare(step, header) != Some(TimeComparison::Unrelated));
                match header.as_deref().map(|header| &header.interval[..]) {
                    Some([end]) => drop(dates.by_header.insert(step, (None, *end))),
                    Some([start, end]) => drop(dates.by_header.insert(step, (Some(*start), *end))),
                    _ => without.push(pair.meta.clone()),
                }
            }
        }
        match without.is_empty() || !dates.ends {
            true => Ok(()),
            false => Err(Problem::NoInterval { place: self.place.into(), files: without }),
        }
    }

    /// Compares the time of a header with that of its step. Returns `None` if the header has no time.
    fn compare(&self, step: u64, header: &HeaderSummary) -> Option<TimeComparison> {
        let seconds = self.configuration.step_seconds;
        let by_step = i64::try_from(step).ok()?.checked_mul(seconds)?;
        header.interval.last().map(|end| calendar::compare_times(by_step, seconds, *end))
    }

    /// Returns the length in days of a mean that is not of a calendar day or month by its header; `None` if it is.
    fn days_of_other_mean(&self, step: u64, header: &HeaderSummary, by_header: bool) -> Option<f64> {
        let [first, last] = header.interval[..] else { return None };
        let Configuration { model_start, model_end, step_seconds, .. } = *self.configuration;
        let end = match by_header {
            true => after(model_start, last),
            false => calendar::end_of_step(model_start, step_seconds, step).ok(),
        }?;
        let midnight = end.time() == Time::midnight();
        let is_end_of_unit = match self.frequency {
            Frequency::Day => midnight,
            Frequency::Month => midnight && end.day() == 1,
            Frequency::Snapshot | Frequency::TimeInvariant => return None,
        };
        let (days, unit) = ((last - first) / 86_400.0, {
            let unit =
                calendar::period_until(self.mode, self.frequency, model_start, model_end, end, (step, step_seconds))
                    .ok()?;
            unit.end.duration_since(unit.start).as_secs_f64() / 86_400.0
        });
        // Starts in real headers are late by a step, or by a day and a half. A mean of five days is nevertheless not of
        // a day.
        let is_as_long = (0.5..1.5).contains(&(days / unit)) || first <= step_seconds as f64;
        ((!is_end_of_unit && end != model_end) || !is_as_long).then_some(days)
    }

    fn contradiction(&self, step: u64, pair: &Pair, more: usize) -> Problem {
        let Configuration { model_start, step_seconds, .. } = *self.configuration;
        let end = self.headers.of(pair).ok().and_then(|header| header.interval.last().copied());
        let date = |time: Option<DateTime>| time.map_or_else(|| "no date".into(), calendar::text);
        Problem::Dates {
            place: self.place.into(),
            file: pair.meta.clone(),
            header: date(end.and_then(|end| after(model_start, end))),
            step,
            planned: date(calendar::end_of_step(model_start, step_seconds, step).ok()),
            more,
        }
    }
}

/// Returns the indices of the first, the last and at most [`BETWEEN`] evenly spaced elements between them, of `count`
/// elements.
fn sampled(count: usize) -> impl Iterator<Item = usize> {
    let most = (BETWEEN + 2).min(count);
    (0..most).map(move |at| if most < 2 { 0 } else { at * (count - 1) / (most - 1) })
}

/// Returns the first pair of each input of a record, each once.
fn pairs(record: &StepInputs) -> impl Iterator<Item = (u64, &Pair)> {
    let mut seen = BTreeSet::new();
    let firsts = record.inputs.iter().flatten().flatten().filter_map(|found| found.pairs.first());
    firsts.filter(move |pair| seen.insert(pair.meta.as_str())).map(|pair| (record.step, pair))
}

/// Returns the time that is `seconds` after another, rounded to whole seconds.
fn after(time: DateTime, seconds: f64) -> Option<DateTime> {
    let seconds = seconds.round();
    (seconds.abs() < 1e15).then(|| time.checked_add(SignedDuration::from_secs(seconds as i64)).ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::super::fixture::{Planned, Production, job, plan};
    use super::*;
    use edp_protocol::GridKind;
    use jiff::civil::datetime;

    const HOUR: f64 = 3600.0;

    /// Makes a production whose headers have intervals in hours.
    fn production(word: &str, intervals: &[(u64, &[f64])]) -> Production {
        let production = Production::new(word, &[], &[]);
        for (step, interval) in intervals {
            for variable in ["SSH", "ETAN"] {
                let interval: Vec<String> = interval.iter().map(|hours| (hours * HOUR).to_string()).collect();
                production.write_header(word, variable, *step, &format!("timeInterval=[{}];", interval.join(" ")));
            }
        }
        production
    }

    fn planned(
        production: &Production,
        frequency: Frequency,
        mode: Mode,
        source: DateSource,
    ) -> Result<Planned, String> {
        let inventory = production.inventory();
        let mut request = production.request(&inventory, mode, vec![job(1, 0, GridKind::Native, frequency)]);
        request.dates = source;
        plan(&request).map_err(|error| error.to_string())
    }

    fn periods(planned: &Planned) -> Vec<[String; 2]> {
        let dynamic = planned.recipes.iter().map(|recipe| &recipe.dynamic_metadata);
        let text = |text: &Option<String>| text.clone().unwrap().replace("T00:00:00", "");
        dynamic.map(|of| [text(&of.time_coverage_start), text(&of.time_coverage_end)]).collect()
    }

    #[test]
    fn headers_that_agree_change_nothing() {
        // as in the state estimate: the first start is late by a step, another one by a day and a half
        let production = production(
            "mon_mean",
            &[(732, &[1.0, 732.0]), (1428, &[732.0, 1428.0]), (2172, &[1464.0, 2172.0]), (227_904, &[1.0, 227_904.0])],
        );
        let found = planned(&production, Frequency::Month, Mode::Corrected, DateSource::Steps).unwrap();
        let texts: Vec<_> = found.notes.iter().map(|note| note.text.as_str()).collect();
        assert!(texts.iter().all(|text| text.contains("no results for")), "{texts:?}");
        assert_eq!(periods(&found)[2], ["1992-03-01", "1992-04-01"]);
        let same = planned(&production, Frequency::Month, Mode::Corrected, DateSource::Header).unwrap();
        assert_eq!(same.recipes, found.recipes);
    }

    #[test]
    fn a_step_length_that_changed_is_an_error_or_taken_from_the_headers() {
        let production = production("mon_mean", &[(732, &[0.0, 732.0]), (2124, &[732.0, 1428.0])]);
        let error = planned(&production, Frequency::Month, Mode::Corrected, DateSource::Steps).err().unwrap();
        for part in
            ["SSH_mon_mean.0000002124.meta", "1992-03-01T00:00:00", "1992-03-30T00:00:00", "--dates header", "1 more"]
        {
            assert!(error.contains(part), "{part}: {error}");
        }
        let found = planned(&production, Frequency::Month, Mode::Corrected, DateSource::Header).unwrap();
        assert_eq!(periods(&found), [["1992-01-01T12:00:00", "1992-02-01"], ["1992-02-01", "1992-03-01"]]);
        let options: Vec<_> = found.recipes.iter().map(|recipe| &recipe.plan().unwrap().options).collect();
        assert!(options[0].is_empty());
        assert_eq!(options[1]["dates"], "header");
        let edp = planned(&production, Frequency::Month, Mode::Edp2024, DateSource::Steps).unwrap();
        assert!(edp.notes.iter().any(|note| note.text.contains("times are by the steps, as by EDP")));
        let snapshots = self::production("snap", &[(12, &[12.0]), (36, &[24.0])]);
        let error = planned(&snapshots, Frequency::Snapshot, Mode::Corrected, DateSource::Steps).err().unwrap();
        assert!(error.contains("0000000036.meta"), "{error}");
    }

    #[test]
    fn headers_that_were_copied_say_nothing() {
        let production = production("mon_mean", &[(227_904, &[0.0, 732.0])]);
        let found = planned(&production, Frequency::Month, Mode::Corrected, DateSource::Steps).unwrap();
        assert_eq!(periods(&found), [["2017-12-01", "2017-12-31T12:00:00"]]);
        assert!(found.notes.iter().any(|note| note.text.contains("as if they were copied")), "{:?}", found.notes);
        let error = planned(&production, Frequency::Month, Mode::Corrected, DateSource::Header).err().unwrap();
        assert!(error.contains("no time in their headers"), "{error}");
    }

    #[test]
    fn means_of_thirty_days_have_their_own_bounds() {
        let mut production =
            production("mon_mean", &[(720, &[0.0, 720.0]), (1440, &[720.0, 1440.0]), (2160, &[1440.0, 2160.0])]);
        production.configuration.model_start = datetime(1992, 1, 1, 0, 0, 0, 0);
        let found = planned(&production, Frequency::Month, Mode::Corrected, DateSource::Steps).unwrap();
        assert_eq!(
            periods(&found),
            [["1992-01-01", "1992-01-31"], ["1992-01-31", "1992-03-01"], ["1992-03-01", "1992-03-31"]]
        );
        let said: Vec<_> = found.notes.iter().filter(|note| note.text.contains("no calendar months")).collect();
        assert!(said.len() == 1 && said[0].text.contains("of 30.000 days"), "{said:?}");
        assert_eq!(found.recipes[1].dynamic_metadata.time_coverage_center.as_deref(), Some("1992-02-15T00:00:00"));
        let edp = planned(&production, Frequency::Month, Mode::Edp2024, DateSource::Steps).unwrap();
        assert_ne!(periods(&edp)[1], ["1992-01-31", "1992-03-01"]);
    }

    #[test]
    fn means_of_five_days_are_of_no_day() {
        let mut production = production("day_mean", &[(120, &[0.0, 120.0]), (240, &[120.0, 240.0])]);
        production.configuration.model_start = datetime(1992, 1, 1, 0, 0, 0, 0);
        let found = planned(&production, Frequency::Day, Mode::Corrected, DateSource::Steps).unwrap();
        assert_eq!(periods(&found), [["1992-01-01", "1992-01-06"], ["1992-01-06", "1992-01-11"]]);
    }

    #[test]
    fn headers_that_cannot_be_read_are_a_warning() {
        let production = production("mon_mean", &[(732, &[0.0, 732.0])]);
        std::fs::write(format!("{}.meta", production.stem("mon_mean", "SSH", 732)), "nonsense").unwrap();
        let found = planned(&production, Frequency::Month, Mode::Corrected, DateSource::Steps).unwrap();
        assert_eq!(found.recipes.len(), 1);
        assert!(found.notes[0].text.contains("SSH_mon_mean.0000000732.meta, line 1"), "{:?}", found.notes);
    }

    #[test]
    fn samples_are_spread_from_the_first_to_the_last() {
        assert_eq!(sampled(0).count(), 0);
        assert_eq!(sampled(1).collect::<Vec<_>>(), [0]);
        assert_eq!(sampled(18).collect::<Vec<_>>(), (0..18).collect::<Vec<_>>());
        let many: Vec<usize> = sampled(1000).collect();
        assert_eq!((many.len(), many[0], many[17]), (18, 0, 999));
        assert!(many.is_sorted_by(|a, b| a < b));
    }
}
