//! Variables that the model does not write: each is made from variables of the model by a rule.
//!
//! A grouping declares rules under its key `field_rules`. EDP reads only the keys of a grouping that it knows, so that
//! the same file serves both. The anomalies of ocean bottom pressure, which every release has among its fields and no
//! model run writes, have their rules here, see [`Rule::of_releases`].

use super::{Recipe, RecipeError, Version, below};
use crate::digest::Digest;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Largest number of variables that a sum may have.
const MAX_TERMS: usize = 32;

/// Largest number of records of a period. Twenty years of hourly records have 175,320.
const MAX_RECORDS: u64 = 200_000;

/// Largest number of pairs of files that the records of a period may have together.
const MAX_PAIRS: u64 = 2_000_000;

/// Name of the directory of means, below the directory of the release.
pub const MEANS: &str = "means";

/// Ending of the names of files with means.
pub const MEAN_ENDING: &str = ".mean";

/// A rule by which a variable is made from variables of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// The sum of two or more variables, added in this order.
    Sum(Vec<String>),
    /// The first variable minus the second.
    Difference([String; 2]),
    /// A variable minus its mean over a period.
    Anomaly(Anomaly),
}

/// A variable minus its mean over the records of a period, cell by cell. All records count the same. A record is of
/// the period if its centre is: for a mean the middle of its own period, for a snapshot its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anomaly {
    /// The model variable.
    pub of: String,
    /// First day of the period, `YYYY-MM-DD` in JSON.
    #[serde(with = "day")]
    pub from: Date,
    /// Last day of the period, which is part of it.
    #[serde(with = "day")]
    pub to: Date,
}

/// The form of days in JSON.
mod day {
    use super::Date;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(date: &Date, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&date.strftime("%Y-%m-%d"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
        let text = String::deserialize(deserializer)?;
        let date = Date::strptime("%Y-%m-%d", &text).ok().filter(|_| text.len() == 10);
        date.ok_or_else(|| de::Error::custom("a day must be written as YYYY-MM-DD"))
    }
}

impl Rule {
    /// The forms of rules in JSON, with `A` and `B` for variables of the model and `DAY` for `"YYYY-MM-DD"`.
    pub const FORMS: [&str; 3] = [
        r#"{"sum": ["A", "B"]}"#,
        r#"{"difference": ["A", "B"]}"#,
        r#"{"anomaly": {"of": "A", "from": DAY, "to": DAY}}"#,
    ];

    /// Returns the rule of a variable that ECCO's releases list, whose models do not write it: `OBPAnoma` and
    /// `OBPGMAPA` are `OBP` and `OBPGMAP` minus their own means over the years from 2005 to 2010.
    pub fn of_releases(variable: &str) -> Option<Rule> {
        let of = match variable {
            "OBPAnoma" => "OBP",
            "OBPGMAPA" => "OBPGMAP",
            _ => return None,
        };
        let (from, to) = (Date::constant(2005, 1, 1), Date::constant(2010, 12, 31));
        Some(Rule::Anomaly(Anomaly { of: of.into(), from, to }))
    }

    /// Returns the model variables of which the variable is made, in the order of the inputs of a recipe.
    pub fn sources(&self) -> Vec<&str> {
        match self {
            Rule::Sum(terms) => terms.iter().map(String::as_str).collect(),
            Rule::Difference(both) => both.iter().map(String::as_str).collect(),
            Rule::Anomaly(anomaly) => vec![&anomaly.of],
        }
    }

    /// Returns the reason why the rule makes no variable, if there is one.
    pub fn defect(&self) -> Option<String> {
        if self.sources().iter().any(|name| name.is_empty() || name.contains(['/', '\0'])) {
            return Some("a name of a variable in its rule is empty, or has a '/'".into());
        }
        match self {
            Rule::Sum(terms) if !(2..=MAX_TERMS).contains(&terms.len()) => {
                Some(format!("a sum is of 2 to {MAX_TERMS} variables, not of {}", terms.len()))
            }
            Rule::Anomaly(Anomaly { from, to, .. }) if from > to => {
                Some(format!("the period of its mean ends on {to}, before it begins on {from}"))
            }
            _ => None,
        }
    }

    /// Returns a sentence for readers of the granule. `records` is the number of records of the period of an anomaly.
    pub fn sentence(&self, records: u64) -> String {
        match self {
            Rule::Sum(terms) => format!("The sum of {}.", terms.join(" and ")),
            Rule::Difference([first, second]) => format!("{first} minus {second}."),
            Rule::Anomaly(Anomaly { of, from, to }) => {
                format!("{of} minus the mean of its {records} records from {from} to {to} at each cell.")
            }
        }
    }
}

/// The way in which a variable is derived, as the recipe states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derivation {
    /// The rule.
    pub rule: Rule,
    /// The mean, of an anomaly only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<PeriodMean>,
}

/// The mean of a model variable over the records of a period. The first worker that needs it makes it, and puts it to
/// its place for all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeriodMean {
    /// Path of the file with the mean, below the destination root. Its name has the beginning of the id.
    pub path: String,
    /// Digest of the rule, and of the names, sizes and entity tags (or contents, see `by_content`) of the records.
    pub id: Digest,
    /// Digest of the names, sizes, entity tags and times of the records. A worker that makes the mean refuses other
    /// versions of them. It is no part of the id, since copies of results have other times.
    pub seen: Digest,
    /// True if the id covers the SHA-256 of every record, as with `plan --digests`, instead of entity tags.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_content: bool,
    /// The records, in the order of their steps.
    pub records: Vec<RecordSeries>,
}

/// Records of one series in one directory, with their steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSeries {
    /// Path of the files below the source root, up to the number of the step.
    pub stem: String,
    /// The steps in ascending order, each entry `[first, difference, count]`.
    pub steps: Vec<[u64; 3]>,
    /// Numbers of the pieces of each record, such as `001.002`. There are none if each record is one pair of files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pieces: Vec<String>,
}

/// One record of a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeriodRecord {
    /// Number of the model step.
    pub step: u64,
    /// Paths of its files below the source root: `.data` and `.meta`, of each piece in turn.
    pub files: Vec<String>,
}

/// The digests of the records of a period, to which the versions of the files are added in the order of the records.
#[derive(Debug, Clone)]
pub struct RecordVersions {
    by_content: bool,
    id: Sha256,
    seen: Sha256,
}

impl RecordVersions {
    /// Begins with the rule. Contents take the place of entity tags in the id if `by_content` is true.
    pub fn new(anomaly: &Anomaly, by_content: bool) -> RecordVersions {
        let id = Sha256::new().chain_update(line(&serde_json::json!(["mean", 1, anomaly])));
        RecordVersions { by_content, id, seen: Sha256::new() }
    }

    /// Adds a file by its path below the source root.
    pub fn add(&mut self, path: &str, version: &Version) {
        let mark = if self.by_content { version.sha256.as_ref().map(Digest::as_str) } else { version.etag.as_deref() };
        self.id.update(line(&serde_json::json!([path, version.size, mark])));
        self.seen.update(line(&serde_json::json!([path, version.size, version.etag, version.modified])));
    }

    /// Returns [`PeriodMean::id`] and [`PeriodMean::seen`].
    pub fn digests(&self) -> [Digest; 2] {
        [&self.id, &self.seen].map(|hash| Digest::from_bytes(&hash.clone().finalize().into()))
    }
}

fn line(value: &serde_json::Value) -> String {
    format!("{value}\n")
}

impl PeriodMean {
    /// Describes the mean of these records, in ascending order of their steps. `versions` has all their files.
    /// `directory` is that of the release below the destination root (empty if there is none), and `word` that for the
    /// period in the names of results.
    pub fn new(
        anomaly: &Anomaly,
        directory: &str,
        word: &str,
        records: Vec<RecordSeries>,
        versions: &RecordVersions,
    ) -> PeriodMean {
        let Anomaly { of, from, to } = anomaly;
        let [id, seen] = versions.digests();
        let directory = if directory.is_empty() { MEANS.to_owned() } else { format!("{directory}/{MEANS}") };
        let path = format!("{directory}/{of}_{word}_{from}_{to}_{}{MEAN_ENDING}", beginning(&id));
        PeriodMean { path, id, seen, by_content: versions.by_content, records }
    }

    /// Gives the mean the id of these versions of its records, and the place that belongs to it.
    pub fn identify(&mut self, versions: &RecordVersions) {
        let [id, seen] = versions.digests();
        let name = format!("{}{MEAN_ENDING}", beginning(&self.id));
        if let Some(stem) = self.path.strip_suffix(&name) {
            self.path = format!("{stem}{}{MEAN_ENDING}", beginning(&id));
        }
        (self.id, self.seen, self.by_content) = (id, seen, versions.by_content);
    }

    /// Returns the number of records.
    pub fn count(&self) -> u64 {
        let counts = self.records.iter().flat_map(|series| &series.steps).map(|[.., count]| *count);
        counts.fold(0, u64::saturating_add)
    }

    /// Returns the records in the order of their steps.
    pub fn records(&self) -> impl Iterator<Item = PeriodRecord> {
        self.records.iter().flat_map(|series| {
            let steps = series.steps.iter().flat_map(|&[first, difference, count]| {
                (0..count).map(move |at| first.saturating_add(difference.saturating_mul(at)))
            });
            steps.map(move |step| PeriodRecord { step, files: series.files(step) })
        })
    }

    /// Returns the reason why this is no description of a mean, if there is one. It is checked before any memory is
    /// taken for the records.
    fn defect(&self) -> Option<String> {
        let (mut records, mut pairs, mut last) = (0_u64, 0_u64, None);
        for series in &self.records {
            if !is_below(&series.stem) || series.pieces.iter().any(|piece| !is_piece(piece)) {
                return Some(format!(
                    "'{}' is not a path below the source root",
                    super::error::printable(&series.stem)
                ));
            }
            for &[first, difference, count] in &series.steps {
                let end = count.checked_sub(1).and_then(|more| first.checked_add(difference.checked_mul(more)?));
                let Some(end) = end.filter(|end| last < Some(first) && (count == 1 || difference > 0) && *end < STEPS)
                else {
                    return Some("the steps of its mean are not numbers in ascending order".into());
                };
                last = Some(end);
                records = records.saturating_add(count);
                pairs = pairs.saturating_add(count.saturating_mul((series.pieces.len() as u64).max(1)));
            }
        }
        if records == 0 || records > MAX_RECORDS || pairs > MAX_PAIRS {
            return Some(format!(
                "its mean is of {records} records in {pairs} pairs of files; a mean has 1 to {MAX_RECORDS} records in at \
                 most {MAX_PAIRS} pairs"
            ));
        }
        let ending = format!("_{}{MEAN_ENDING}", beginning(&self.id));
        match is_below(&self.path) && self.path.ends_with(&ending) {
            true => None,
            false => Some("the path of its mean is not one that belongs to its id".into()),
        }
    }
}

/// Steps have ten digits in names of results.
const STEPS: u64 = 10_000_000_000;

/// Returns the beginning of an id that is part of a file's name.
fn beginning(id: &Digest) -> &str {
    &id.as_str()[..16]
}

/// Returns true if a path leads to something below a root.
fn is_below(path: &str) -> bool {
    below("", path, ".").is_ok_and(|clean| clean == path) && !path.contains(crate::text::is_unsafe)
}

/// Returns true for the numbers of a piece: `001.002`.
fn is_piece(text: &str) -> bool {
    let is_number = |text: &str| (3..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.').is_some_and(|(x, y)| is_number(x) && is_number(y))
}

impl RecordSeries {
    /// Gathers records in ascending order of their steps, each given by its step, the path of its files up to the
    /// number of the step, and the numbers of its pieces.
    pub fn gather(records: impl IntoIterator<Item = (u64, String, Vec<String>)>) -> Vec<RecordSeries> {
        let mut all: Vec<RecordSeries> = Vec::new();
        for (step, stem, pieces) in records {
            match all.last_mut().filter(|series| series.stem == stem && series.pieces == pieces) {
                Some(series) => series.push(step),
                None => all.push(RecordSeries { stem, steps: vec![[step, 0, 1]], pieces }),
            }
        }
        all
    }

    fn push(&mut self, step: u64) {
        match self.steps.last_mut() {
            Some([first, difference, count @ 1]) if step > *first => (*difference, *count) = (step - *first, 2),
            Some([first, difference, count])
                if difference.checked_mul(*count).and_then(|all| first.checked_add(all)) == Some(step) =>
            {
                *count += 1;
            }
            _ => self.steps.push([step, 0, 1]),
        }
    }

    /// Returns the paths of the files of a step below the source root.
    fn files(&self, step: u64) -> Vec<String> {
        let stem = &self.stem;
        let both = |piece: &str| ["data", "meta"].map(|end| format!("{stem}.{step:010}{piece}.{end}"));
        match &self.pieces[..] {
            [] => both("").into(),
            pieces => pieces.iter().flat_map(|piece| both(&format!(".{piece}"))).collect(),
        }
    }

    /// Splits the path of the `.data` file of a record into its stem and the numbers of the piece, if it has any.
    pub fn split(path: &str, step: u64) -> Option<(&str, Option<&str>)> {
        let (stem, rest) = path.strip_suffix(".data")?.rsplit_once(&format!(".{step:010}"))?;
        match rest.strip_prefix('.') {
            None if rest.is_empty() => Some((stem, None)),
            Some(piece) if is_piece(piece) => Some((stem, Some(piece))),
            _ => None,
        }
    }
}

/// Returns a path below a root with the root before it. The roots `.` and the empty one stand for relative paths.
fn joined(root: &str, below: &str) -> String {
    match root.trim_end_matches('/') {
        "." => below.to_owned(),
        "" if !root.starts_with('/') => below.to_owned(),
        root => format!("{root}/{below}"),
    }
}

impl Recipe {
    /// Returns the means that the recipe needs, by the variable for which it needs them.
    pub fn means(&self) -> impl Iterator<Item = (&str, &PeriodMean)> {
        let derived = self.recipe.iter().flat_map(|plan| &plan.derived);
        derived.filter_map(|(variable, derivation)| Some((variable.as_str(), derivation.mean.as_ref()?)))
    }

    /// Returns the full path or address of a path below the source root.
    ///
    /// # Errors
    /// Returns [`RecipeError::NoPlan`] if the recipe has no roots.
    pub fn at_source(&self, below: &str) -> Result<String, RecipeError> {
        Ok(joined(&self.plan()?.roots.source, below))
    }

    /// Returns the full path or address of a path below the destination root.
    ///
    /// # Errors
    /// Returns [`RecipeError::NoPlan`] if the recipe has no roots.
    pub fn at_destination(&self, below: &str) -> Result<String, RecipeError> {
        Ok(joined(&self.plan()?.roots.destination, below))
    }

    /// Returns the full paths or addresses of the files with means that the recipe needs.
    pub fn mean_places(&self) -> Vec<String> {
        self.means().filter_map(|(_, mean)| self.at_destination(&mean.path).ok()).collect()
    }

    /// Returns the full paths of all records of the means that the recipe needs, one after the other.
    pub fn period_paths(&self) -> impl Iterator<Item = String> {
        let files = self.means().flat_map(|(_, mean)| mean.records().flat_map(|record| record.files));
        files.filter_map(|file| self.at_source(&file).ok())
    }

    /// Returns the entry of derived variables in the content that the id covers: everything except what tells versions
    /// of copies apart.
    pub(super) fn derived_content(derived: &BTreeMap<String, Derivation>) -> serde_json::Value {
        let mut content = serde_json::json!(derived);
        for derivation in content.as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
            if let Some(mean) = derivation.get_mut("mean").and_then(serde_json::Value::as_object_mut) {
                mean.remove("seen");
            }
        }
        content
    }

    /// Refuses rules that make no variable, and means that are not described as the planner does.
    pub(super) fn check_derived(&self) -> Result<(), RecipeError> {
        for (variable, Derivation { rule, mean }) in self.recipe.iter().flat_map(|plan| &plan.derived) {
            let unfit = match (rule, mean) {
                (Rule::Anomaly(_), Some(mean)) => mean.defect(),
                (Rule::Anomaly(_), None) => Some("the recipe does not describe its mean".into()),
                (_, Some(_)) => Some("only an anomaly has a mean".into()),
                (_, None) => None,
            };
            if let Some(why) = rule.defect().or(unfit) {
                let variable = super::error::printable(variable);
                return Err(RecipeError::Derived { granule: self.granule.clone(), variable, why });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn anomaly() -> Anomaly {
        match Rule::of_releases("OBPAnoma") {
            Some(Rule::Anomaly(anomaly)) => anomaly,
            other => unreachable!("{other:?}"),
        }
    }

    fn mean(records: Vec<RecordSeries>) -> PeriodMean {
        PeriodMean::new(&anomaly(), "V4r6", "mon_mean", records, &RecordVersions::new(&anomaly(), false))
    }

    fn series(stem: &str, steps: &[[u64; 3]]) -> RecordSeries {
        RecordSeries { stem: stem.into(), steps: steps.to_vec(), pieces: Vec::new() }
    }

    #[test]
    fn every_rule_has_its_form() {
        let place = |rule: &Rule| match rule {
            Rule::Sum(_) => 0,
            Rule::Difference(_) => 1,
            Rule::Anomaly(_) => 2,
        };
        for (at, form) in Rule::FORMS.iter().enumerate() {
            let rule: Rule = serde_json::from_str(&form.replace("DAY", "\"2005-01-01\"")).unwrap();
            assert_eq!((place(&rule), rule.defect()), (at, None), "{form}");
        }
    }

    #[test]
    fn rules_are_written_as_they_are_read() {
        for (text, sources) in [
            (r#"{"sum":["A","B","C"]}"#, vec!["A", "B", "C"]),
            (r#"{"difference":["A","B"]}"#, vec!["A", "B"]),
            (r#"{"anomaly":{"of":"OBP","from":"2005-01-01","to":"2010-12-31"}}"#, vec!["OBP"]),
        ] {
            let rule: Rule = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&rule).unwrap(), text);
            assert_eq!((rule.sources(), rule.defect()), (sources, None));
        }
        for text in [
            r#"{"twist":["A","B"]}"#,
            r#"{"difference":["A"]}"#,
            r#"{"sum":["A","B"],"difference":["A","B"]}"#,
            r#"{"anomaly":{"of":"OBP","from":"2005-1-1","to":"2010-12-31"}}"#,
            r#"{"anomaly":{"of":"OBP","from":"2005-02-30","to":"2010-12-31"}}"#,
            r#"{"anomaly":{"of":"OBP","from":"2005-01-01"}}"#,
            r#"{"anomaly":{"of":"OBP","from":"2005-01-01","to":"2010-12-31","weight":1}}"#,
        ] {
            assert!(serde_json::from_str::<Rule>(text).is_err(), "{text}");
        }
        for (text, why) in [
            (r#"{"sum":["A"]}"#, "not of 1"),
            (r#"{"sum":["A","b/c"]}"#, "'/'"),
            (r#"{"anomaly":{"of":"A","from":"2010-12-31","to":"2005-01-01"}}"#, "before it begins"),
        ] {
            let defect = serde_json::from_str::<Rule>(text).unwrap().defect().unwrap();
            assert!(defect.contains(why), "{defect}");
        }
        assert_eq!(Rule::of_releases("OBPGMAPA").unwrap().sources(), ["OBPGMAP"]);
        assert_eq!(Rule::of_releases("OBP"), None);
    }

    #[test]
    fn records_are_gathered_and_listed_again() {
        let pieces = || vec!["001.001".to_owned(), "002.001".to_owned()];
        let given: Vec<(u64, String, Vec<String>)> = [732, 1428, 2172, 2892, 3636, 4380, 5124]
            .into_iter()
            .map(|step| (step, "d/OBP_mon_mean".to_owned(), Vec::new()))
            .chain([6000, 6024, 6048].map(|step| (step, "e/OBP_mon_mean".to_owned(), pieces())))
            .collect();
        let gathered = RecordSeries::gather(given.clone());
        assert_eq!(gathered[0].steps, [[732, 696, 2], [2172, 720, 2], [3636, 744, 3]]);
        assert_eq!((gathered.len(), gathered[1].steps.clone()), (2, vec![[6000, 24, 3]]));
        let mean = mean(gathered);
        assert_eq!((mean.count(), mean.defect()), (10, None));
        let records: Vec<PeriodRecord> = mean.records().collect();
        assert_eq!(
            records.iter().map(|record| record.step).collect::<Vec<_>>(),
            given.iter().map(|g| g.0).collect::<Vec<_>>()
        );
        assert_eq!(records[0].files, ["d/OBP_mon_mean.0000000732.data", "d/OBP_mon_mean.0000000732.meta"]);
        assert_eq!(records[9].files[2], "e/OBP_mon_mean.0000006048.002.001.data");
        assert_eq!(RecordSeries::split(&records[9].files[2], 6048), Some(("e/OBP_mon_mean", Some("002.001"))));
        assert_eq!(RecordSeries::split(&records[0].files[0], 732), Some(("d/OBP_mon_mean", None)));
        assert_eq!(RecordSeries::split(&records[0].files[0], 733), None);
    }

    #[test]
    fn what_does_not_describe_a_mean_is_refused_before_it_takes_memory() {
        let good = mean(vec![series("d/OBP", &[[1, 1, 2]])]);
        assert_eq!(good.defect(), None);
        for (records, why) in [
            (vec![], "0 records"),
            (vec![series("d/OBP", &[[1, 1, u64::MAX]])], "ascending"),
            (vec![series("d/OBP", &[[1, 1, 1 << 33]])], "8589934592 records"),
            (vec![series("d/OBP", &[[1, 0, 2]])], "ascending"),
            (vec![series("d/OBP", &[[1, 1, 0]])], "ascending"),
            (vec![series("d/OBP", &[[1, 1, 2], [2, 1, 2]])], "ascending"),
            (vec![series("d/OBP", &[[u64::MAX, 1, 2]])], "ascending"),
            (vec![series("d/OBP", &[[5, 1, 2]]), series("e/OBP", &[[1, 1, 2]])], "ascending"),
            (vec![series("../OBP", &[[1, 1, 2]])], "'../OBP' is not"),
            (vec![series("/etc/OBP", &[[1, 1, 2]])], "is not a path below"),
            (vec![RecordSeries { pieces: vec!["../1.001".into()], ..series("d/OBP", &[[1, 1, 2]]) }], "is not a path"),
            (
                vec![RecordSeries { pieces: vec!["001.001".into(); 2000], ..series("d/OBP", &[[1, 1, 2000]]) }],
                "4000000 pairs",
            ),
        ] {
            let defect = mean(records).defect().unwrap();
            assert!(defect.contains(why), "{defect}");
        }
        for path in ["V4r6/means/OBP.mean".to_owned(), format!("../{}", good.path), format!("/{}", good.path)] {
            assert!(PeriodMean { path, ..good.clone() }.defect().unwrap().contains("belongs to its id"));
        }
    }

    #[test]
    fn the_id_of_a_mean_covers_rule_names_sizes_and_tags_and_not_times() {
        let version = |size, etag: Option<&str>, modified: Option<&str>| Version {
            size,
            etag: etag.map(str::to_owned),
            modified: modified.map(str::to_owned),
            sha256: None,
        };
        let of = |anomaly: &Anomaly, path: &str, version: &Version| {
            let mut versions = RecordVersions::new(anomaly, false);
            versions.add(path, version);
            versions.digests()
        };
        let plain = of(&anomaly(), "a", &version(8, Some("e"), None));
        let later = Anomaly { to: Date::constant(2011, 12, 31), ..anomaly() };
        for other in [
            of(&anomaly(), "b", &version(8, Some("e"), None)),
            of(&anomaly(), "a", &version(9, Some("e"), None)),
            of(&anomaly(), "a", &version(8, Some("f"), None)),
            of(&later, "a", &version(8, Some("e"), None)),
        ] {
            assert_ne!(plain[0], other[0]);
        }
        let timed = of(&anomaly(), "a", &version(8, Some("e"), Some("2020-01-01T00:00:00Z")));
        assert_eq!(plain[0], timed[0]);
        assert_ne!(plain[1], timed[1]);
        let mut moved = mean(vec![series("d/OBP", &[[1, 1, 2]])]);
        let mut versions = RecordVersions::new(&anomaly(), true);
        versions.add("a", &Version { sha256: Some(Digest::of(b"x")), ..version(8, None, None) });
        moved.identify(&versions);
        assert_eq!((moved.defect(), moved.by_content), (None, true));
        assert!(moved.path.starts_with("V4r6/means/OBP_mon_mean_2005-01-01_2010-12-31_"), "{}", moved.path);
    }

    #[test]
    fn paths_below_roots_are_joined_as_they_were_taken_apart() {
        for (root, whole) in
            [("in", "in/a"), ("in/", "in/a"), (".", "a"), ("", "a"), ("/", "/a"), ("s3://b/p", "s3://b/p/a")]
        {
            assert_eq!(joined(root, "a"), whole);
            assert_eq!(below("g", whole, root).unwrap(), "a");
        }
    }
}
