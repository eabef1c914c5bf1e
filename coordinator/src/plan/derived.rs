//! Derived variables in a plan: variables that the model did not write, and that are made from others by a rule; and
//! the records of the period of an anomaly's mean.

use super::dataset::{Dataset, DerivableVariable};
use super::dates::DateRules;
use super::few;
use super::inventory::InputFiles;
use super::jobfile::Job;
use super::problem::Problem;
use super::recipes::Planner;
use super::survey::StepInputs;
use edp_protocol::calendar::{self, Period};
use edp_protocol::recipe::{
    Anomaly, Derivation, PeriodMean, RecipeError, RecordSeries, RecordVersions, Rule, below_root,
};
use edp_protocol::{Frequency, GridKind, name};
use jiff::ToSpan as _;
use jiff::civil::{Date, DateTime, Time};

/// A record of a period.
struct FoundRecord {
    step: u64,
    period: Period,
    files: InputFiles,
}

/// The reason why an anomaly has no mean.
enum NoMean {
    /// There is no record of the period.
    Empty,
    /// Some of the records are missing.
    Incomplete(String),
    /// The records cannot be planned with.
    Problem(Problem),
}

impl Planner<'_> {
    /// Has the variables of a dataset derived that have a rule, and no files at any step although the variables of the
    /// rule have some. A variable of which the model did write files is never derived, so that a dataset is not made
    /// of both. EDP derives nothing, and neither do its modes; nothing without time is derived, and no time series.
    pub(super) fn derive(&mut self, job: &Job, place: &str, dataset: &mut Dataset<'_>) {
        let has_time = Frequency::TIMED.contains(&job.frequency) && job.grid != GridKind::Series;
        if self.request.mode.is_edp() || !has_time {
            return;
        }
        let words = name::input_periods(job.frequency, self.request.mode);
        for DerivableVariable { at, field, rule } in dataset.derivable() {
            let inventory = self.request.inventory;
            let is_there = |variable: &str| !inventory.steps(variable, words).is_empty();
            if is_there(&field) || !rule.sources().into_iter().any(is_there) {
                continue;
            }
            let mean = match &rule {
                Rule::Sum(_) | Rule::Difference(_) => None,
                Rule::Anomaly(anomaly) => match self.mean(job, place, anomaly, words) {
                    Ok(mean) => Some(mean),
                    Err(reason) => {
                        self.report_no_mean(place, &field, anomaly, reason);
                        continue;
                    }
                },
            };
            dataset.derive(at, Derivation { rule, mean });
        }
    }

    /// Reports that a variable is not derived. It then counts as a variable without files.
    fn report_no_mean(&mut self, place: &str, output: &str, anomaly: &Anomaly, reason: NoMean) {
        let Anomaly { of, from, to } = anomaly;
        match reason {
            NoMean::Empty => {
                let text =
                    format!("{output} is {of} minus its mean from {from} to {to}, where there is no {of} at all");
                self.warn(format!("{place}: {text}"));
            }
            NoMean::Incomplete(missing) if self.request.growing => {
                self.warn(format!("{place}: {output} waits for the mean of {of}, which lacks {missing}"));
            }
            NoMean::Incomplete(missing) => {
                let (output, of, from, to) = (output.to_owned(), of.clone(), *from, *to);
                let problem = Problem::Period { place: place.to_owned(), output, of, from, to, missing };
                match self.request.allow_partial {
                    true => self.warn(format!("{problem}; made without it")),
                    false => self.leave_out(problem),
                }
            }
            NoMean::Problem(problem) => self.leave_out(problem),
        }
    }

    /// Describes the mean of an anomaly.
    fn mean(&self, job: &Job, place: &str, anomaly: &Anomaly, words: &[&'static str]) -> Result<PeriodMean, NoMean> {
        let records = self.records_of(job, place, anomaly, words)?;
        let Some(first) = records.first() else { return Err(NoMean::Empty) };
        let mut used: Vec<&str> = records.iter().map(|record| record.files.word).collect();
        used.dedup();
        let missing = absent(job.frequency, &used, anomaly, &records);
        if let Some(missing) = missing {
            return Err(NoMean::Incomplete(missing));
        }
        let word = first.files.word;
        let mut versions = RecordVersions::new(anomaly, false);
        let mut series = Vec::with_capacity(records.len());
        for record in &records {
            series.push(self.record_series(place, record, &mut versions).map_err(NoMean::Problem)?);
        }
        let version = &self.request.configuration.ecco_version;
        Ok(PeriodMean::new(anomaly, version, word, RecordSeries::gather(series), &versions))
    }

    /// Returns the records of the period of an anomaly, in the order of their steps.
    fn records_of(
        &self,
        job: &Job,
        place: &str,
        anomaly: &Anomaly,
        words: &[&'static str],
    ) -> Result<Vec<FoundRecord>, NoMean> {
        let request = self.request;
        let mut all = Vec::new();
        for step in request.inventory.steps(&anomaly.of, words) {
            let twice = |source| NoMean::Problem(Problem::Twice { place: place.to_owned(), source, more: 0 });
            let found = request.inventory.find(&anomaly.of, words, step).map_err(twice)?;
            all.push(StepInputs { step, inputs: vec![found.map(|files| vec![files])] });
        }
        let rules = DateRules {
            mode: request.mode,
            frequency: job.frequency,
            configuration: request.configuration,
            headers: request.headers,
            source: request.dates,
            place,
        };
        // The warnings are those of the dataset, which has the variable among its sources.
        let (dates, _) = rules.dates(&all).map_err(NoMean::Problem)?;
        let (begin, end) = bounds(anomaly);
        let mut records = Vec::new();
        for StepInputs { step, inputs } in all {
            // A step without a time is reported with the dataset.
            let Ok(period) = dates.period(&rules, step) else { continue };
            let files = inputs.into_iter().flatten().flatten().next();
            if let Some(files) = files.filter(|_| (begin..end).contains(&period.center)) {
                records.push(FoundRecord { step, period, files });
            }
        }
        Ok(records)
    }

    /// Returns step, stem and pieces of a record, and adds the versions of its files.
    fn record_series(
        &self,
        place: &str,
        record: &FoundRecord,
        versions: &mut RecordVersions,
    ) -> Result<(u64, String, Vec<String>), Problem> {
        let root = &self.request.roots.source;
        let outside = |path: &str| {
            let source = RecipeError::OutsideRoot { granule: String::new(), path: path.into(), root: root.clone() };
            Problem::Recipe { place: place.to_owned(), source }
        };
        let (mut stem, mut pieces) = (String::new(), Vec::new());
        for pair in &record.files.pairs {
            for (path, version) in [(&pair.data, &pair.data_version), (&pair.meta, &pair.meta_version)] {
                versions.add(below_root(path, root).ok_or_else(|| outside(path))?, version);
            }
            let below = below_root(&pair.data, root).ok_or_else(|| outside(&pair.data))?;
            let (of_pair, piece) = RecordSeries::split(below, record.step).ok_or_else(|| outside(&pair.data))?;
            of_pair.clone_into(&mut stem);
            pieces.extend(piece.map(str::to_owned));
        }
        Ok((record.step, stem, pieces))
    }
}

/// Returns the times between which the centres of the records of a period are; the second is not included.
fn bounds(anomaly: &Anomaly) -> (DateTime, DateTime) {
    let midnight = |date: Date| date.to_datetime(Time::midnight());
    let end = midnight(anomaly.to);
    (midnight(anomaly.from), end.checked_add(1.day()).unwrap_or(end))
}

/// Says which records of a period are not there, if any. `words` are those for the period in the names of the records,
/// which are in ascending order.
fn absent(frequency: Frequency, words: &[&str], anomaly: &Anomaly, records: &[FoundRecord]) -> Option<String> {
    let number = |unit, record: &FoundRecord| calendar::unit_of_result(unit, frequency, record.period.end);
    let is_once_a = |unit| {
        let numbers: Vec<i64> = records.iter().map(|record| number(unit, record)).collect();
        numbers.windows(2).all(|pair| pair[0] < pair[1])
    };
    let unit = match (frequency, words) {
        (Frequency::Snapshot, ["mon_snap"]) => Some(Frequency::Month),
        (Frequency::Snapshot, ["day_snap"]) => Some(Frequency::Day),
        (Frequency::Snapshot, _) => [Frequency::Month, Frequency::Day].into_iter().find(|unit| is_once_a(*unit)),
        (unit, _) if records.iter().all(|record| is_of_unit(unit, &record.period)) => Some(unit),
        _ => None,
    };
    let Some(unit) = unit else { return uneven(frequency, anomaly, records) };
    let (begin, end) = bounds(anomaly);
    let is_of_period = |at: &i64| match (frequency, centre(unit, *at)) {
        (Frequency::Snapshot, _) | (_, None) => true,
        (_, Some(centre)) => (begin..end).contains(&centre),
    };
    let (first, last) =
        (calendar::unit_number(unit, begin), calendar::unit_number(unit, anomaly.to.to_datetime(Time::midnight())));
    let found: Vec<i64> = records.iter().map(|record| number(unit, record)).collect();
    let missing: Vec<i64> = (first..=last).filter(is_of_period).filter(|at| found.binary_search(at).is_err()).collect();
    let (count, noun) = match (missing.len(), unit) {
        (0, _) => return None,
        (1, Frequency::Month) => (1, "month"),
        (1, _) => (1, "day"),
        (count, Frequency::Month) => (count, "months"),
        (count, _) => (count, "days"),
    };
    Some(format!("{count} {noun} ({})", few(missing.into_iter().map(|at| calendar::unit_name(unit, at)))))
}

/// Returns true if a mean is that of a calendar day or month, perhaps cut short by the start or the end of the model.
fn is_of_unit(unit: Frequency, period: &Period) -> bool {
    calendar::unit_number(unit, period.start) == calendar::unit_of_result(unit, unit, period.end)
}

/// Returns the centre of a calendar day or month by its number.
fn centre(unit: Frequency, number: i64) -> Option<DateTime> {
    let start = match unit {
        Frequency::Month => {
            let month = i8::try_from(number.rem_euclid(12) + 1).ok()?;
            Date::new(i16::try_from(number.div_euclid(12)).ok()?, month, 1).ok()?.to_datetime(Time::midnight())
        }
        _ => Date::constant(0, 1, 1).to_datetime(Time::midnight()).checked_add(number.days()).ok()?,
    };
    let length = if unit == Frequency::Month { 1.month() } else { 1.day() };
    Some(calendar::between(start, start.checked_add(length).ok()?).center)
}

/// Says between which records others are missing, of records that are of no calendar unit: means have to follow each
/// other without a gap, and snapshots in equal intervals, from the beginning of the period to its end.
fn uneven(frequency: Frequency, anomaly: &Anomaly, records: &[FoundRecord]) -> Option<String> {
    let (begin, end) = bounds(anomaly);
    let seconds = |from: DateTime, to: DateTime| to.duration_since(from).as_secs();
    let lengths: Vec<i64> = match frequency {
        Frequency::Snapshot => records.windows(2).map(|pair| seconds(pair[0].period.end, pair[1].period.end)).collect(),
        _ => records.iter().map(|record| seconds(record.period.start, record.period.end)).collect(),
    };
    let (Some(&length), [first, .., last]) = (lengths.iter().min(), records) else { return None };
    let between =
        |from: DateTime, to: DateTime| format!("times from {} to {}", calendar::text(from), calendar::text(to));
    let mut missing = Vec::new();
    if seconds(begin, first.period.start) >= length {
        missing.push(between(begin, first.period.start));
    }
    for pair in records.windows(2) {
        let (from, to) = (pair[0].period.end, pair[1].period.start);
        let allowed = if frequency == Frequency::Snapshot { length } else { 0 };
        if seconds(from, to) > allowed {
            missing.push(between(from, to));
        }
    }
    if seconds(last.period.end, end) > length {
        missing.push(between(last.period.end, end));
    }
    (!missing.is_empty()).then(|| few(missing))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fixture::{Planned, Production, job, plan};
    use super::super::{PlanError, Request};
    use super::*;
    use edp_engine::metadata::groupings::Grouping;
    use edp_protocol::Mode;
    use edp_protocol::recipe::{Recipe, VariableKind};

    /// Steps of hourly monthly means (or snapshots) of the model of the fixture, which end with the months of a year.
    fn months(year: i16) -> Vec<u64> {
        let start = jiff::civil::datetime(1992, 1, 1, 12, 0, 0, 0);
        let ends = (0..12).map(|month| Date::constant(year, 1, 1).to_datetime(Time::midnight()) + (month + 1).months());
        ends.map(|end| u64::try_from(end.duration_since(start).as_hours()).unwrap()).collect()
    }

    fn pressure(rules: &[(&str, &str)]) -> Grouping {
        Grouping {
            name: "pressure".into(),
            fields: ["OBP", "A"].map(String::from).into(),
            filename: "OCEAN_BOTTOM_PRESSURE".into(),
            dimension: "2D".into(),
            rules: rules.iter().map(|(name, rule)| ((*name).to_owned(), serde_json::from_str(rule).unwrap())).collect(),
            ..Grouping::default()
        }
    }

    const OF_1993: &str = r#"{"anomaly":{"of":"OBP","from":"1993-01-01","to":"1993-12-31"}}"#;

    fn production(word: &str, variables: &[&str], steps: &[u64], rule: &str) -> Production {
        let mut production = Production::new(word, variables, steps);
        production.groupings.insert(GridKind::Native, vec![pressure(&[("A", rule)])]);
        production
    }

    fn planned(
        production: &Production,
        frequency: Frequency,
        change: impl FnOnce(&mut Request<'_>),
    ) -> Result<Planned, PlanError> {
        let inventory = production.inventory();
        let jobs = vec![job(1, 0, GridKind::Native, frequency)];
        let mut request = production.request(&inventory, Mode::Corrected, jobs);
        change(&mut request);
        plan(&request)
    }

    fn mean(recipe: &Recipe) -> &PeriodMean {
        recipe.plan().unwrap().derived["A"].mean.as_ref().unwrap()
    }

    #[test]
    fn a_variable_with_a_rule_is_derived_and_its_rule_is_part_of_the_id() {
        let sum = r#"{"sum":["OBP","X"]}"#;
        let production = production("mon_mean", &["OBP", "X"], &[732, 1428], sum);
        let recipes = planned(&production, Frequency::Month, |_| {}).unwrap().recipes;
        assert_eq!(recipes.len(), 2);
        for recipe in &recipes {
            recipe.check_identity().unwrap();
            let Ok(VariableKind::Derived(rule)) = recipe.kind("A") else { panic!("{:?}", recipe.kind("A")) };
            assert_eq!(rule.sources(), ["OBP", "X"]);
            assert_eq!(recipe.kind("OBP"), Ok(VariableKind::Direct));
            assert!(recipe.variables["A"][1][0].contains("/X_mon_mean/"));
            assert!(recipe.plan().unwrap().missing.is_empty());
            let mut other = recipe.clone();
            other.recipe.as_mut().unwrap().derived.get_mut("A").unwrap().rule =
                Rule::Difference(["OBP".into(), "X".into()]);
            assert_ne!(other.computed_id().unwrap(), recipe.plan().unwrap().id);
        }
        // The modes of EDP derive nothing, and a file of the variable's own name comes first, at all steps.
        let of_edp = planned(&production, Frequency::Month, |request| request.mode = Mode::Edp2026).unwrap().recipes;
        assert!(of_edp.iter().all(|recipe| recipe.plan().unwrap().missing == ["A"] && recipe.variables.len() == 1));
        production.write("mon_mean", "A", 732);
        let recipes = planned(&production, Frequency::Month, |_| {}).unwrap().recipes;
        assert!(recipes.iter().all(|recipe| recipe.plan().unwrap().derived.is_empty()));
        assert_eq!(recipes[1].plan().unwrap().missing, ["A"]);
    }

    #[test]
    fn a_sum_lacks_what_one_of_its_variables_lacks() {
        let production = production("mon_mean", &["OBP", "X"], &[732, 1428], r#"{"difference":["X","OBP"]}"#);
        production.remove("mon_mean", "X", 1428);
        let planned = planned(&production, Frequency::Month, |_| {}).unwrap();
        assert!(planned.recipes[0].plan().unwrap().missing.is_empty());
        assert_eq!(planned.recipes[1].plan().unwrap().missing, ["A"]);
        assert!(planned.recipes[1].plan().unwrap().derived.is_empty());
        let said: Vec<String> = planned.notes.iter().map(|note| note.text.clone()).collect();
        assert!(said.iter().any(|text| text.contains("X (for A) has no input at 1 steps")), "{said:?}");
    }

    #[test]
    fn the_mean_of_a_period_has_all_its_records_and_no_others() {
        let steps: Vec<u64> = [1992, 1993, 1994].into_iter().flat_map(months).collect();
        let production = production("mon_mean", &["OBP"], &steps, OF_1993);
        let recipes = planned(&production, Frequency::Month, |_| {}).unwrap().recipes;
        assert_eq!(recipes.len(), 36);
        let of_first = mean(&recipes[0]);
        assert_eq!(of_first.records().map(|record| record.step).collect::<Vec<_>>(), months(1993));
        assert!(recipes.iter().all(|recipe| mean(recipe) == of_first && recipe.check_identity().is_ok()));
        assert!(of_first.path.starts_with("V4r4/means/OBP_mon_mean_1993-01-01_1993-12-31_"), "{}", of_first.path);
        let first = of_first.records().next().unwrap();
        assert_eq!(first.files[0], format!("V4r4/diags/OBP_mon_mean/OBP_mon_mean.{:010}.data", first.step));
        // Another size of a record is another mean, and other granules.
        let stem = production.stem("mon_mean", "OBP", months(1993)[5]);
        std::fs::write(format!("{stem}.data"), [0; 24]).unwrap();
        let other = planned(&production, Frequency::Month, |_| {}).unwrap().recipes;
        assert_ne!(mean(&other[0]).id, of_first.id);
        assert_ne!(other[0].plan().unwrap().id, recipes[0].plan().unwrap().id);
    }

    #[test]
    fn a_missing_month_is_an_error_that_names_it() {
        for missing in [0, 5, 11] {
            let steps: Vec<u64> = [1992, 1993, 1994].into_iter().flat_map(months).collect();
            let production = production("mon_mean", &["OBP"], &steps, OF_1993);
            production.remove("mon_mean", "OBP", months(1993)[missing]);
            let error = planned(&production, Frequency::Month, |_| {}).unwrap_err().to_string();
            let month = format!("1 month (1993-{:02})", missing + 1);
            assert!(error.contains(&month) && error.contains("A is OBP minus its mean from 1993-01-01"), "{error}");
            let held = planned(&production, Frequency::Month, |request| request.keep_going = true).unwrap();
            assert!(held.recipes.iter().all(|recipe| recipe.plan().unwrap().is_held()));
            let partial = planned(&production, Frequency::Month, |request| request.allow_partial = true).unwrap();
            assert!(partial.recipes.iter().all(|recipe| !recipe.plan().unwrap().is_held()));
            assert!(partial.recipes.iter().all(|recipe| recipe.plan().unwrap().missing == ["A"]));
            let growing = planned(&production, Frequency::Month, |request| request.growing = true).unwrap();
            assert!(growing.recipes.iter().all(|recipe| recipe.plan().unwrap().is_held()));
        }
        // Without any record of the period the variable is one without input.
        let production = production("mon_mean", &["OBP"], &months(1992), OF_1993);
        let planned = planned(&production, Frequency::Month, |_| {}).unwrap();
        assert!(planned.recipes.iter().all(|recipe| recipe.plan().unwrap().missing == ["A"]));
        assert!(
            planned.notes.iter().any(|note| note.text.contains("where there is no OBP at all")),
            "{:?}",
            planned.notes
        );
    }

    #[test]
    fn snapshots_and_days_are_counted_by_their_own_times() {
        // Snapshots at the beginning of each month; the one at the end of December 1993 is of the next year.
        for word in ["mon_snap", "snap"] {
            let steps: Vec<u64> = [1992, 1993].into_iter().flat_map(months).collect();
            let production = production(word, &["OBP"], &steps, OF_1993);
            let recipes = planned(&production, Frequency::Snapshot, |_| {}).unwrap().recipes;
            let wanted = [&months(1992)[11..], &months(1993)[..11]].concat();
            assert_eq!(mean(&recipes[0]).records().map(|record| record.step).collect::<Vec<_>>(), wanted);
            production.remove(word, "OBP", wanted[3]);
            let error = planned(&production, Frequency::Snapshot, |_| {}).unwrap_err().to_string();
            assert!(error.contains("1 month (1993-04)"), "{error}");
        }
        let rule = r#"{"anomaly":{"of":"OBP","from":"1992-01-03","to":"1992-01-12"}}"#;
        let days: Vec<u64> = (0..20).map(|day| 12 + 24 * day).collect();
        let production = production("day_mean", &["OBP"], &days, rule);
        let recipes = planned(&production, Frequency::Day, |_| {}).unwrap().recipes;
        assert_eq!(
            mean(&recipes[0]).records,
            [RecordSeries {
                stem: "V4r4/diags/OBP_day_mean/OBP_day_mean".into(),
                steps: vec![[60, 24, 10]],
                pieces: Vec::new(),
            }]
        );
        production.remove("day_mean", "OBP", 84);
        production.remove("day_mean", "OBP", 108);
        let error = planned(&production, Frequency::Day, |_| {}).unwrap_err().to_string();
        assert!(error.contains("2 days (1992-01-04, 1992-01-05)"), "{error}");
    }

    #[test]
    fn records_of_no_calendar_unit_must_follow_each_other() {
        let rule = r#"{"anomaly":{"of":"OBP","from":"1992-02-01","to":"1992-02-10"}}"#;
        // Snapshots every six hours.
        let steps: Vec<u64> = (0..400).map(|at| 6 * at).collect();
        let production = production("snap", &["OBP"], &steps, rule);
        let recipes = planned(&production, Frequency::Snapshot, |_| {}).unwrap().recipes;
        assert_eq!(mean(&recipes[0]).count(), 40);
        let one = mean(&recipes[0]).records().nth(7).unwrap().step;
        production.remove("snap", "OBP", one);
        let error = planned(&production, Frequency::Snapshot, |_| {}).unwrap_err().to_string();
        assert!(error.contains("times from 1992-02-02T12:00:00 to 1992-02-03T00:00:00"), "{error}");
    }

    #[test]
    fn anomalies_of_the_releases_need_no_declaration() {
        let steps: Vec<u64> = (2005..=2010).flat_map(months).collect();
        let mut production = Production::new("mon_mean", &["OBP", "OBPGMAP"], &steps);
        let fields = ["OBP", "OBPGMAP", "OBPAnoma", "OBPGMAPA"].map(String::from).into();
        production.groupings.insert(GridKind::Native, vec![Grouping { fields, ..pressure(&[]) }]);
        let recipes = planned(&production, Frequency::Month, |_| {}).unwrap().recipes;
        assert_eq!(recipes.len(), 72);
        let derived = &recipes[0].plan().unwrap().derived;
        for (output, of) in [("OBPAnoma", "OBP"), ("OBPGMAPA", "OBPGMAP")] {
            assert_eq!(derived[output].rule.sources(), [of]);
            assert_eq!(derived[output].mean.as_ref().unwrap().count(), 72);
        }
        assert!(recipes.iter().all(|recipe| !recipe.plan().unwrap().is_held()));
    }
}
