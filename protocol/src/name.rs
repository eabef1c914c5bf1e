//! Names of granules, `<filename>_<period>_<date>_<project>_<version>_<grid>_<label>.nc`, without period and date where
//! the data do not change with time, and of the model's result files. The project is `ECCO`, unless a configuration has a
//! pattern of its own.

use crate::text::is_unsafe;
use crate::vocabulary::{Frequency, GridKind, Mode};
use std::fmt;

/// The parts of a granule's file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GranuleName {
    /// Name of the dataset, such as `SEA_SURFACE_HEIGHT`.
    pub dataset: String,
    /// Word for the period, such as `mon_mean`; empty for time-invariant data.
    pub period: &'static str,
    /// Frequency that the word for the period stands for.
    pub frequency: Frequency,
    /// The date as it is written in the name; empty for time-invariant data and time series.
    pub date: String,
    /// Words for the project, joined by `_`: [`PROJECT`] unless the configuration has others; may be empty.
    pub project: String,
    /// Version of the state estimate, such as `V4r4`.
    pub version: String,
    /// The grid: `native` or `latlon`, or `1D` of time series.
    pub grid: GridKind,
    /// Label of the grid, such as `0p50deg` or `llc0090`; empty for time series.
    pub label: String,
}

/// The reason why a file name is not the name of a granule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{name}' is not a granule name: {why}; expected <filename>_<period>_<date>_{0}<version>_<native|latlon>_<label>.nc, \
     <filename>_{0}<version>_<native|latlon>_<label>.nc of time-invariant data, or <filename>_<period>_{0}<version>_1D.nc \
     of a time series",
    and_separator(project)
)]
pub struct NameError {
    /// The name that was refused.
    pub name: String,
    /// Words for the project that the name should have.
    pub project: String,
    /// Description of the problem.
    pub why: &'static str,
}

/// Word for the project in the names of ECCO's granules.
pub const PROJECT: &str = "ECCO";

/// Returns the words for the project that a pattern of names has, which may be none. All else in a pattern is as in that
/// of ECCO, `<filename>_<period>_<date>_ECCO_<version>_<grid>_<label>.nc`. Returns `None` if it is not of this form, or if
/// the words have other characters than letters, digits, `-`, `.` and `_` between them.
pub fn project_of_pattern(pattern: &str) -> Option<&str> {
    let rest = pattern.strip_prefix("<filename>_<period>_<date>_")?;
    let rest = rest.strip_suffix("<version>_<grid>_<label>.nc")?;
    if rest.is_empty() {
        return Some("");
    }
    let project = rest.strip_suffix('_')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    project.split('_').all(|word| !word.is_empty() && word.bytes().all(plain)).then_some(project)
}

/// Returns the words for a project with the separator that follows them in names.
fn and_separator(project: &str) -> String {
    if project.is_empty() { String::new() } else { format!("{project}_") }
}

/// Name of the dataset of a grid's geometry.
pub const GEOMETRY: &str = "GRID_GEOMETRY";

/// Returns the label of a lat-lon-cap grid with tiles of `n` x `n` cells, such as `llc0090`.
pub fn native_label(n: u64) -> String {
    format!("llc{n:04}")
}

/// Returns the label of a regular grid with cells of this height in degrees, such as `0p50deg`.
pub fn latlon_label(degrees: f64) -> String {
    format!("{degrees:.2}deg").replace('.', "p")
}

/// Words for periods. Longer ones come first, so that `_snap` does not hide `_day_snap`.
const PERIODS: [(&str, Frequency); 5] = [
    ("day_snap", Frequency::Snapshot),
    ("mon_snap", Frequency::Snapshot),
    ("day_mean", Frequency::Day),
    ("mon_mean", Frequency::Month),
    ("snap", Frequency::Snapshot),
];

/// Splits the stem of a result's name, such as `SSH_mon_mean`, into the variable and the word for the period. Names of
/// variables may contain underscores too.
pub fn split_period(stem: &str) -> Option<(&str, &'static str)> {
    PERIODS.iter().find_map(|(word, _)| Some((stem.strip_suffix(word)?.strip_suffix('_')?, *word)))
}

/// Splits the name of a granule with a time into the dataset, the period with its frequency, and what follows.
fn split_dataset(name: &str) -> Option<(&str, &'static str, Frequency, &str)> {
    PERIODS.iter().find_map(|&(word, frequency)| {
        let (dataset, rest) = name.split_once(&format!("_{word}_"))?;
        Some((dataset, word, frequency, rest))
    })
}

/// Returns the dataset of a granule of any project; of time-invariant data, only if the project is ECCO's.
pub fn dataset(base_name: &str) -> Option<String> {
    let timed = split_dataset(base_name).map(|(dataset, ..)| dataset.to_owned());
    timed.or_else(|| GranuleName::parse(base_name).ok().map(|name| name.dataset))
}

/// The parts of the name of a result file: `<series>.<step>`, the numbers of the piece if the file is one, and `.data`
/// or `.meta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultName<'a> {
    /// The first part: variable and period as in `SSH_mon_mean`, or the name of a stream.
    pub series: &'a str,
    /// The model step, which has ten digits in the name.
    pub step: u64,
    /// Numbers of the piece along x and y if the file is a piece of an array, as in `.001.002`.
    pub piece: Option<[u32; 2]>,
    /// True for the header (`.meta`), false for the data (`.data`).
    pub meta: bool,
}

impl ResultName<'_> {
    /// Parses the base name of a file. Returns `None` if it is not that of a result.
    pub fn parse(base_name: &str) -> Option<ResultName<'_>> {
        let (stem, meta) = match base_name.strip_suffix(".data") {
            Some(stem) => (stem, false),
            None => (base_name.strip_suffix(".meta")?, true),
        };
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let whole = |stem: &str| {
            let (_, step) = stem.rsplit_once('.')?;
            (step.len() == 10 && digits(step)).then(|| step.parse().ok())?
        };
        let (stem, piece) = match whole(stem) {
            Some(_) => (stem, None),
            None => {
                let (rest, y) = stem.rsplit_once('.')?;
                let (rest, x) = rest.rsplit_once('.')?;
                let number = |text: &str| (text.len() >= 3 && digits(text)).then(|| text.parse().ok())?;
                (rest, Some([number(x)?, number(y)?]))
            }
        };
        let (series, _) = stem.rsplit_once('.')?;
        Some(ResultName { series, step: whole(stem)?, piece, meta })
    }
}

/// Returns the word for the period in names of granules. For snapshots it is `day_snap` in EDP of 2024, and `snap`
/// since.
pub fn period(frequency: Frequency, mode: Mode) -> &'static str {
    match (frequency, mode) {
        (Frequency::Day, _) => "day_mean",
        (Frequency::Month, _) => "mon_mean",
        (Frequency::Snapshot, Mode::Corrected | Mode::Edp2026) => "snap",
        (Frequency::Snapshot, Mode::Edp2024) => "day_snap",
        (Frequency::TimeInvariant, _) => "",
    }
}

/// Returns the words for the period under which results of a frequency are found.
pub fn input_periods(frequency: Frequency, mode: Mode) -> &'static [&'static str] {
    match (frequency, mode) {
        (Frequency::Day, _) => &["day_mean"],
        (Frequency::Month, _) => &["mon_mean"],
        (Frequency::Snapshot, Mode::Corrected | Mode::Edp2026) => &["day_snap", "mon_snap", "snap"],
        (Frequency::Snapshot, Mode::Edp2024) => &["day_snap"],
        (Frequency::TimeInvariant, _) => &[],
    }
}

impl GranuleName {
    /// Returns the name of the geometry file of a grid.
    pub fn of_geometry(project: &str, version: &str, grid: GridKind, label: &str) -> GranuleName {
        GranuleName {
            dataset: GEOMETRY.into(),
            period: "",
            frequency: Frequency::TimeInvariant,
            date: String::new(),
            project: project.into(),
            version: version.into(),
            grid,
            label: label.into(),
        }
    }

    /// Parses the base name of a granule of ECCO.
    ///
    /// # Errors
    /// Returns the errors of [`GranuleName::parse_of`].
    pub fn parse(base_name: &str) -> Result<GranuleName, NameError> {
        GranuleName::parse_of(PROJECT, base_name)
    }

    /// Parses the base name of a granule of a project. A parsed name is printed exactly as it was, since the granule
    /// states the name of its file inside.
    ///
    /// # Errors
    /// Returns [`NameError`], which says which part is missing or malformed.
    pub fn parse_of(project: &str, base_name: &str) -> Result<GranuleName, NameError> {
        let fail = |why| Err(NameError { name: base_name.into(), project: project.into(), why });
        let name = GranuleName::apart(project, base_name, GridKind::of_name)?;
        if base_name.contains(|c| c == '/' || is_unsafe(c)) {
            return fail("it has a character that is not to be seen, or a '/'");
        }
        if name.frequency != Frequency::TimeInvariant && name.grid != GridKind::Series && !is_date(&name.date) {
            return fail("the date is none: YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThhmmss");
        }
        Ok(name)
    }

    /// Parses the name that a table gives as an example: the date may be any text, and the grid may be written in any
    /// case.
    ///
    /// # Errors
    /// Returns the errors of [`GranuleName::parse`].
    pub fn parse_example(base_name: &str) -> Result<GranuleName, NameError> {
        GranuleName::apart(PROJECT, base_name, |word| word.parse().ok())
    }

    fn apart(
        project: &str,
        base_name: &str,
        grid_of: impl Fn(&str) -> Option<GridKind>,
    ) -> Result<GranuleName, NameError> {
        let fail = |why| NameError { name: base_name.into(), project: project.into(), why };
        let stem = base_name.strip_suffix(".nc").ok_or_else(|| fail("it does not end in .nc"))?;
        let timed = split_dataset(stem);
        let marker = and_separator(project);
        let (dataset, period, frequency, date, rest) = match timed {
            Some((dataset, word, frequency, rest)) => {
                let dated = || rest.split_once('_').and_then(|(date, rest)| Some((date, rest.strip_prefix(&marker)?)));
                let series = rest.strip_prefix(&marker).filter(|rest| rest.split('_').count() == 2);
                let (date, rest) = series
                    .map(|rest| ("", rest))
                    .or_else(dated)
                    .ok_or_else(|| fail("what follows the period and the date is another project"))?;
                (dataset, word, frequency, date, rest)
            }
            None => {
                // Only the name of the dataset may have underscores, so that the other parts are the last three.
                let (dataset, rest) = stem
                    .rmatch_indices('_')
                    .nth(2)
                    .and_then(|(at, _)| Some((stem[..=at].strip_suffix(&format!("_{marker}"))?, &stem[at + 1..])))
                    .ok_or_else(|| {
                        fail("it has neither a period word (day_mean, mon_mean, snap ...) nor the last parts of time-invariant data")
                    })?;
                if dataset.is_empty() {
                    return Err(fail("it begins with no file name"));
                }
                (dataset, "", Frequency::TimeInvariant, "", rest)
            }
        };
        let parts: Vec<&str> = rest.split('_').collect();
        let (version, grid, label) = match parts[..] {
            [version, grid] if !period.is_empty() && date.is_empty() => (version, grid, ""),
            [version, grid, label] => (version, grid, label),
            _ => return Err(fail("its last parts are not <version>_<grid>_<label>")),
        };
        let kind = grid_of(grid).ok_or_else(|| fail("the grid is neither native nor latlon"))?;
        if (kind == GridKind::Series) != (parts.len() == 2) {
            return Err(fail("only a time series has neither date nor label, and its grid is 1D"));
        }
        Ok(GranuleName {
            dataset: dataset.into(),
            period,
            frequency,
            date: date.into(),
            project: project.into(),
            version: version.into(),
            grid: kind,
            label: label.into(),
        })
    }

    /// Returns true if the granule is its whole dataset: a time series, or data without time.
    pub fn is_whole_dataset(&self) -> bool {
        self.frequency == Frequency::TimeInvariant || self.grid == GridKind::Series
    }

    /// Path of the granule below the destination root: `<version>/<grid>/<period>/<dataset>/<name>`, or
    /// `<version>/<grid>/<name>` for time-invariant data. The grid is in lower case.
    pub fn path(&self) -> String {
        let dataset = if self.frequency == Frequency::TimeInvariant { "" } else { &self.dataset };
        let grid = self.grid.as_str().to_ascii_lowercase();
        let directory = [self.version.as_str(), &grid, self.period, dataset];
        let directory: Vec<_> = directory.into_iter().filter(|part| !part.is_empty()).collect();
        format!("{}/{self}", directory.join("/"))
    }
}

/// Returns true if a text is a calendar date as granule names have it: `YYYY-MM`, `YYYY-MM-DD` or `YYYY-MM-DDThhmmss`.
fn is_date(text: &str) -> bool {
    let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i16>().ok())?;
    let part = |at: usize, length: usize| text.get(at..at + length).and_then(number);
    let byte = |at: usize| text.as_bytes().get(at).copied();
    let day = if text.len() == 7 { Some(1) } else { part(8, 2) };
    let (Some(year), Some(month), Some(day)) = (part(0, 4), part(5, 2), day) else { return false };
    let (Ok(month), Ok(day)) = (month.try_into(), day.try_into()) else { return false };
    let time = || {
        let [hour, minute, second] = [part(11, 2)?, part(13, 2)?, part(15, 2)?].map(i8::try_from);
        jiff::civil::Time::new(hour.ok()?, minute.ok()?, second.ok()?, 0).ok()
    };
    let marks = byte(4) == Some(b'-') && (text.len() == 7 || byte(7) == Some(b'-'));
    marks
        && jiff::civil::Date::new(year, month, day).is_ok()
        && match text.len() {
            7 | 10 => true,
            17 => byte(10) == Some(b'T') && time().is_some(),
            _ => false,
        }
}

impl fmt::Display for GranuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GranuleName { dataset, period, date, version, grid, label, .. } = self;
        let project = and_separator(&self.project);
        if self.frequency == Frequency::TimeInvariant {
            return write!(f, "{dataset}_{project}{version}_{grid}_{label}.nc");
        }
        if *grid == GridKind::Series {
            return write!(f, "{dataset}_{period}_{project}{version}_{grid}.nc");
        }
        write!(f, "{dataset}_{period}_{date}_{project}{version}_{grid}_{label}.nc")
    }
}

/// Returns the last component of a path or an `s3://` address.
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_results_are_taken_apart() {
        let name = |series, step, piece, meta| Some(ResultName { series, step, piece, meta });
        for (text, want) in [
            ("SSH_mon_mean.0000000732.data", name("SSH_mon_mean", 732, None, false)),
            ("state_2d_set1.0000000732.meta", name("state_2d_set1", 732, None, true)),
            ("SSH_snap.0000000012.003.010.meta", name("SSH_snap", 12, Some([3, 10]), true)),
            ("SSH_snap.0000000012.1053.001.data", name("SSH_snap", 12, Some([1053, 1]), false)),
            ("pickup.ckptA.0000000012.data", name("pickup.ckptA", 12, None, false)),
            ("SSH_snap.0000000012.01.001.data", None),
            ("SSH_snap.0000000012.001.data", None),
            ("SSH_snap.000000012.data", None),
            ("SSH_snap.00000000+2.data", None),
            ("SSH_snap.0000000012.data.gz", None),
            ("0000000012.data", None),
            ("XC.data", None),
        ] {
            assert_eq!(ResultName::parse(text), want, "{text}");
        }
    }

    #[test]
    fn names_survive_a_round_trip() {
        for name in [
            "SEA_SURFACE_HEIGHT_mon_mean_1992-01_ECCO_V4r4_latlon_0p50deg.nc",
            "OCEAN_VELOCITY_day_mean_1992-01-02_ECCO_V4r4_native_llc0090.nc",
            "SSH_snap_1992-01-01T000000_ECCO_V4r6_native_llc0270.nc",
            "SSH_day_snap_1992-01-01_ECCO_V4r4_native_llc0090.nc",
        ] {
            assert_eq!(GranuleName::parse(name).unwrap().to_string(), name);
        }
        let name = GranuleName::parse("SSH_day_snap_1992-01-01_ECCO_V4r4_native_llc0090.nc").unwrap();
        assert_eq!((name.dataset.as_str(), name.period), ("SSH", "day_snap"));
        assert_eq!(name.path(), "V4r4/native/day_snap/SSH/SSH_day_snap_1992-01-01_ECCO_V4r4_native_llc0090.nc");
    }

    #[test]
    fn names_have_the_words_of_their_project() {
        let pattern = |words: &str| format!("<filename>_<period>_<date>_{words}<version>_<grid>_<label>.nc");
        for project in ["", "ECCO", "MITgcm", "my-run.2_of_3"] {
            let words = and_separator(project);
            assert_eq!(project_of_pattern(&pattern(&words)), Some(project));
            for name in [
                format!("A_B_mon_mean_1992-01_{words}V1_latlon_0p50deg.nc"),
                format!("A_B_{words}V1_native_llc0270.nc"),
                format!("A_B_mon_mean_{words}V1_1D.nc"),
            ] {
                let parsed = GranuleName::parse_of(project, &name).unwrap();
                assert_eq!((parsed.to_string(), parsed.dataset.as_str(), parsed.version.as_str()), (name, "A_B", "V1"));
            }
        }
        for words in ["_", "a/b_", "a__b_", "<project>_", "a", "a b_", "_a_"] {
            assert_eq!(project_of_pattern(&pattern(words)), None, "{words}");
        }
        assert_eq!(project_of_pattern("<filename>_<date>_ECCO_<version>_<grid>_<label>.nc"), None);
        let error = GranuleName::parse_of("MITgcm", "A_mon_mean_1992-01_ECCO_V1_latlon_0p50deg.nc").unwrap_err();
        assert!(error.to_string().contains("_<date>_MITgcm_<version>_"), "{error}");
    }

    #[test]
    fn names_without_time_have_a_shorter_path() {
        let name = GranuleName::parse("GRID_GEOMETRY_ECCO_V4r6_native_llc0090.nc").unwrap();
        assert_eq!((name.dataset.as_str(), name.frequency), ("GRID_GEOMETRY", Frequency::TimeInvariant));
        assert_eq!(name, GranuleName::of_geometry(PROJECT, "V4r6", GridKind::Native, &native_label(90)));
        assert_eq!((latlon_label(0.5), latlon_label(12.0)), ("0p50deg".into(), "12p00deg".into()));
        assert_eq!((name.period, name.date.as_str(), name.version.as_str()), ("", "", "V4r6"));
        assert_eq!(name.path(), "V4r6/native/GRID_GEOMETRY_ECCO_V4r6_native_llc0090.nc");
        // A period word anywhere makes it a name with a time, in all modes.
        assert!(GranuleName::parse("A_snap_ECCO_V4r6_native_llc0090.nc").unwrap_err().why.contains("follows"));
    }

    #[test]
    fn names_of_time_series_have_neither_date_nor_label() {
        let text = "GLOBAL_MEAN_SEA_LEVEL_mon_mean_ECCO_V4r4_1D.nc";
        let name = GranuleName::parse(text).unwrap();
        assert_eq!((name.dataset.as_str(), name.frequency), ("GLOBAL_MEAN_SEA_LEVEL", Frequency::Month));
        assert_eq!((name.grid, name.date.as_str(), name.label.as_str()), (GridKind::Series, "", ""));
        assert_eq!(name.to_string(), text);
        assert_eq!(name.path(), format!("V4r4/1d/mon_mean/GLOBAL_MEAN_SEA_LEVEL/{text}"));
        for text in [
            "A_ECCO_V4r4_1D.nc",
            "A_snap_ECCO_V4r4_1d.nc",
            "A_snap_1992-01-01_ECCO_V4r4_1D_x.nc",
            "A_ECCO_V4r4_1D_x.nc",
            "A_snap_ECCO_V4r4_native.nc",
            "A_snap_ECCO_V4r4_1D_.nc",
        ] {
            assert!(GranuleName::parse(text).is_err(), "{text}");
        }
        assert_eq!(GranuleName::parse_example("A_snap_ECCO_V4r4_1d.nc").unwrap().grid, GridKind::Series);
    }

    #[test]
    fn results_are_named_by_variable_and_period() {
        assert_eq!(split_period("ADVr_TH_mon_mean"), Some(("ADVr_TH", "mon_mean")));
        assert_eq!(split_period("SSH_day_snap"), Some(("SSH", "day_snap")));
        assert_eq!(split_period("SSH_snap"), Some(("SSH", "snap")));
        assert_eq!(split_period("SSH_year_mean"), None);
    }

    #[test]
    fn what_is_no_name_says_why() {
        for (name, why) in [
            ("GRID_GEOMETRY_V4r4_native_llc0090.nc", "period"),
            ("GRID_GEOMETRY_ECCO_V4r4_llc0090.nc", "period"),
            ("native_llc0090.nc", "period"),
            ("_ECCO_V4r4_native_llc0090.nc", "file name"),
            ("GRID_GEOMETRY_ECCO_V4r4_polar_llc0090.nc", "grid"),
            ("A_mon_mean_1992-01_ECCO_V4r4_latlon_0p50deg.h5", ".nc"),
            ("A_mon_mean_1992-01_V4r4_latlon_0p50deg.nc", "follows"),
            ("A_mon_mean_1992-01_ECCO_V4r4_latlon.nc", "last parts"),
            ("A_mon_mean_1992-01_ECCO_V4r4_polar_0p50deg.nc", "grid"),
            ("A_mon_mean_1992-01_ECCO_V4r4_NaTiVe_llc0090.nc", "grid"),
            ("A_mon_mean_1992-01_ECCO_V4r4_Latlon_0p50deg.nc", "grid"),
            ("A_mon_mean_1992-13_ECCO_V4r4_native_llc0090.nc", "date"),
            ("A_day_mean_1992-02-30_ECCO_V4r4_native_llc0090.nc", "date"),
            ("A_day_mean_+992-02-03_ECCO_V4r4_native_llc0090.nc", "date"),
            ("A_snap_1992-01-01T240000_ECCO_V4r4_native_llc0090.nc", "date"),
            ("A_snap_1992-01-01 000000_ECCO_V4r4_native_llc0090.nc", "date"),
            ("A_mon_mean_soon_ECCO_V4r4_native_llc0090.nc", "date"),
            ("A_mon_mean_1992-é_ECCO_V4r4_native_llc0090.nc", "date"),
            ("A\u{1b}[2J_mon_mean_1992-01_ECCO_V4r4_native_llc0090.nc", "seen"),
            ("A_mon_mean_1992-01_ECCO_V4\nr4_native_llc0090.nc", "seen"),
            ("A_mon_mean_1992-01_ECCO_V4r4_native_\u{202e}0900cll.nc", "seen"),
            ("../A_mon_mean_1992-01_ECCO_V4r4_native_llc0090.nc", "'/'"),
        ] {
            assert!(GranuleName::parse(name).unwrap_err().why.contains(why), "{name}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_understood_comes_back(
            text in "\\PC*",
            start in "[A-Z_]{0,12}(_mon_mean_|_day_snap_|_snap_|é)?",
            rest in "[0-9_-]{0,10}_ECCO_(V4r4|é)?_(native|latlon|x)_[a-z0-9]{0,8}(.nc)?",
            dated in "[12][0-9]{3}-[01][0-9](-[0-3][0-9](T[0-2][0-9][0-5][0-9][0-5][0-9])?)?",
            grid in "[Nn][Aa]tiv[Ee]|[Ll]at[Ll]on",
            label in "[a-zA-Z0-9 \u{0}-\u{1f}\u{80}-\u{9f}\u{202a}-\u{202e}]{0,3}",
        ) {
            let whole = format!("{start}_mon_mean_{dated}_ECCO_V4r4_{grid}_{label}.nc");
            for name in [text, format!("{start}_mon_mean_{rest}"), format!("{start}{rest}"), rest, whole] {
                if let Ok(parsed) = GranuleName::parse(&name) {
                    prop_assert_eq!(parsed.to_string(), name.clone());
                    prop_assert!(parsed.path().ends_with(&name));
                    prop_assert!(!name.contains(is_unsafe));
                }
            }
        }

        #[test]
        fn what_is_put_together_is_understood(
            dataset in "[A-Z]{1,4}(_[A-Z0-9]{1,4}){0,2}",
            (year, month, day, seconds) in (0_i16..=9999, 1_i8..=12, 1_i8..=28, 0_i64..86_400),
            frequency in prop::sample::select(vec![Frequency::Day, Frequency::Month, Frequency::Snapshot]),
            mode in prop::sample::select(Mode::ALL.to_vec()),
            grid in prop::sample::select(vec![GridKind::Native, GridKind::Latlon]),
        ) {
            let center = jiff::civil::date(year, month, day).at(0, 0, 0, 0) + jiff::SignedDuration::from_secs(seconds);
            let period = crate::calendar::Period { start: center, center, end: center };
            let name = GranuleName {
                dataset,
                period: self::period(frequency, mode),
                frequency,
                date: crate::calendar::name_date(mode, frequency, &period),
                project: PROJECT.into(),
                version: "V4r4".into(),
                grid,
                label: "llc0090".into(),
            };
            prop_assert_eq!(GranuleName::parse(&name.to_string()), Ok(name));
        }
    }
}
