//! A run directory of MITgcm: when it ran, and what it has written.

use super::namelist::{self, Namelist, NamelistError};
use edp_engine::mds::{Header, MdsError};
use edp_files::{Files, regular};
use edp_protocol::Frequency;
use edp_protocol::name::{ResultName, split_period};
use jiff::civil::DateTime;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Most files and directories that are looked at.
const MOST_FILES: usize = 4_000_000;

/// Deepest directory below the run directory that is looked at.
const DEEPEST: usize = 8;

/// Largest size of a header in bytes.
const MAX_HEADER: u64 = 1 << 20;

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// The reason why a run directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file or directory cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// Path of the file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The directory holds more files than a run is taken to have.
    #[error("{}: more than {MOST_FILES} files: name the directory of one run", directory.display())]
    TooMany {
        /// Path of the directory.
        directory: PathBuf,
    },
    /// A parameter file is not understood.
    #[error(transparent)]
    Namelist(#[from] NamelistError),
    /// A header is not understood.
    #[error(transparent)]
    Header(#[from] MdsError),
    /// The arrays are not on a lat-lon-cap grid.
    #[error(
        "{}: the arrays have {} cells: this is no lat-lon-cap grid, whose arrays have N x 13 N cells; runs on other grids (cubed sphere, \
         regular, one-dimensional) cannot be used",
        file.display(), sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
    )]
    OtherGrid {
        /// Path of a header.
        file: PathBuf,
        /// Sizes of its arrays, the fastest dimension first.
        sizes: Vec<usize>,
    },
    /// A parameter that is needed is missing or has an unusable value.
    #[error("{}: {what}", directory.display())]
    Parameter {
        /// Path of the run directory.
        directory: PathBuf,
        /// Description of the parameter, and of what to do.
        what: String,
    },
    /// There are no results from which granules could be made.
    #[error(
        "{}: no results of diagnostics (NAME.STEP.meta and .data) here or below; name the directory in which the model ran", directory.display()
    )]
    NoResults {
        /// Path of the run directory.
        directory: PathBuf,
    },
}

/// Parameters that replace those of the run, for runs whose parameter files are gone.
#[derive(Debug, Clone, Default)]
pub struct GivenParameters {
    /// Date of step 0.
    pub start: Option<DateTime>,
    /// Length of a step in seconds.
    pub step_seconds: Option<i64>,
}

/// What a run directory says of its run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ModelRun {
    /// Path of the directory.
    pub(super) directory: PathBuf,
    /// Date of step 0.
    pub(super) start: DateTime,
    /// Date of the last step with results, or of the end that the parameters state if it is later.
    pub(super) end: DateTime,
    /// Length of a step in seconds.
    pub(super) step_seconds: i64,
    /// The series of results, by name.
    pub(super) series: BTreeMap<String, ResultSeries>,
    /// Sentences on what was guessed or left out.
    pub(super) guesses: Vec<String>,
}

/// Results of the same name, for one step after the other.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ResultSeries {
    /// The variables in the order of the file.
    pub(super) fields: Vec<String>,
    /// Number of levels; 1 for 2-D fields.
    pub(super) levels: usize,
    /// How often there are results, and whether they are means.
    pub(super) frequency: Frequency,
}

/// Files of a directory and below, as far as they matter.
#[derive(Debug, Default)]
struct Listing {
    /// The first header of each series, and its last step.
    series: BTreeMap<String, (PathBuf, u64)>,
    /// Headers of arrays that do not change: the grid.
    grid: Vec<PathBuf>,
    seen: usize,
}

impl ModelRun {
    /// Reads a run directory. Only headers and parameter files are opened.
    ///
    /// # Errors
    /// Returns an error if the grid is no lat-lon-cap grid, if the date of step 0 or the length of a step is not known, if
    /// there are no results, or if a file cannot be read.
    pub(super) fn read(directory: &Path, given: &GivenParameters) -> Result<ModelRun, RunError> {
        let mut listing = Listing::default();
        list(directory, directory, 0, &mut listing)?;
        refuse_other_grids(&listing)?;
        let mut guesses = Vec::new();
        let parameters = parameters(directory, "data")?;
        let calendar = parameters_or_none(directory, "data.cal")?;
        let (step_seconds, start) = both(
            given.step_seconds.map_or_else(|| step_seconds(directory, &parameters), Ok),
            given.start.map_or_else(|| start(directory, calendar.as_ref()), Ok),
        )?;
        let diagnostics = parameters_or_none(directory, "data.diagnostics")?;
        let declared = diagnostics.as_ref().map(declared).transpose()?.unwrap_or_default();
        let mut series = BTreeMap::new();
        let mut last = 0;
        for (name, (meta, step)) in &listing.series {
            let header = header(meta)?;
            header.llc_size().map_err(|_| other_grid(meta, &header))?;
            let is_restart = name.starts_with("pickup");
            if is_restart || header.fields.is_empty() && split_period(name).is_none() {
                if !is_restart {
                    guesses.push(format!("{name}: left out, since its header names no variables"));
                }
                continue;
            }
            let Some(frequency) = frequency(name, &header, declared.get(name.as_str()).copied()) else {
                guesses.push(format!("{name}: left out, since its means are neither of days nor of months"));
                continue;
            };
            let fields = match (&header.fields[..], split_period(name)) {
                ([], Some((variable, _))) => vec![variable.to_owned()],
                (fields, _) => fields.to_vec(),
            };
            last = last.max(*step);
            series.insert(name.clone(), ResultSeries { fields, levels: header.levels().unwrap_or(1), frequency });
        }
        if series.is_empty() {
            return Err(RunError::NoResults { directory: directory.into() });
        }
        for name in declared.keys().filter(|name| !listing.series.contains_key(**name)) {
            guesses.push(format!("{name}: data.diagnostics asks for it, but there are no results yet"));
        }
        let stated = parameters.number("endtime")?.unwrap_or(0.0);
        let steps = parameters.number("niter0")?.unwrap_or(0.0) + parameters.number("ntimesteps")?.unwrap_or(0.0);
        let written = last as f64 * step_seconds as f64;
        let seconds = [stated, steps * step_seconds as f64, written].into_iter().fold(0.0, f64::max);
        let end = after(start, seconds).ok_or_else(|| RunError::Parameter {
            directory: directory.into(),
            what: format!("step {last} of {step_seconds} s after {start} is no date; check deltaT and startDate_1"),
        })?;
        Ok(ModelRun { directory: directory.into(), start, end, step_seconds, series, guesses })
    }
}

/// Returns a date some seconds after another.
fn after(start: DateTime, seconds: f64) -> Option<DateTime> {
    if !(0.0..1e12).contains(&seconds) {
        return None;
    }
    start.checked_add(jiff::SignedDuration::from_secs(seconds as i64)).ok()
}

/// Lists a directory and those below it. Links to directories are not followed.
fn list(directory: &Path, root: &Path, depth: usize, listing: &mut Listing) -> Result<(), RunError> {
    let files = Files::default();
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| RunError::Read { path, source }
    };
    for name in files.names(directory).map_err(fail(directory))? {
        listing.seen += 1;
        if listing.seen > MOST_FILES {
            return Err(RunError::TooMany { directory: root.into() });
        }
        let path = directory.join(&name);
        let Some(text) = name.to_str() else { continue };
        if let Some(stem) = text.strip_suffix(".meta") {
            match ResultName::parse(text) {
                Some(result) => {
                    let entry = listing.series.entry(result.series.into()).or_insert((path, result.step));
                    entry.1 = entry.1.max(result.step);
                }
                None if depth == 0 && !stem.contains('.') => listing.grid.push(path),
                None => {}
            }
        } else if !text.contains('.') && depth < DEEPEST && path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            list(&path, root, depth + 1, listing)?;
        }
    }
    Ok(())
}

/// Refuses a run by the first of its arrays that cannot be on a lat-lon-cap grid. Profiles have no horizontal size.
fn refuse_other_grids(listing: &Listing) -> Result<(), RunError> {
    let headers = listing.grid.iter().chain(listing.series.values().map(|(meta, _)| meta));
    for meta in headers {
        let header = header(meta)?;
        let is_profile = matches!(header.sizes(), [1, 1, ..]);
        if !is_profile && header.llc_size().is_err() {
            return Err(other_grid(meta, &header));
        }
    }
    Ok(())
}

fn other_grid(meta: &Path, header: &Header) -> RunError {
    RunError::OtherGrid { file: meta.into(), sizes: header.sizes().to_vec() }
}

fn header(meta: &Path) -> Result<Header, RunError> {
    Ok(Header::parse_any(&meta.display().to_string(), &read(meta, MAX_HEADER)?)?)
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, RunError> {
    regular::read(path, limit).map_err(|source| RunError::Read { path: path.into(), source })
}

fn parameters(directory: &Path, name: &str) -> Result<Namelist, RunError> {
    Ok(parameters_or_none(directory, name)?.unwrap_or_default())
}

/// Reads a parameter file; `None` if there is no such file.
fn parameters_or_none(directory: &Path, name: &str) -> Result<Option<Namelist>, RunError> {
    let path = directory.join(name);
    match read(&path, namelist::MAX_FILE_BYTES as u64) {
        Ok(bytes) => Ok(Some(Namelist::parse(&path.display().to_string(), &bytes)?)),
        Err(RunError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns two values, or what is missing of both, so that it can be given at once.
fn both<A, B>(first: Result<A, RunError>, second: Result<B, RunError>) -> Result<(A, B), RunError> {
    match (first, second) {
        (Err(RunError::Parameter { directory, what }), Err(RunError::Parameter { what: more, .. })) => {
            Err(RunError::Parameter { directory, what: format!("{what}; {more}") })
        }
        (first, second) => Ok((first?, second?)),
    }
}

/// Returns the length of a step: that of the clock.
fn step_seconds(directory: &Path, data: &Namelist) -> Result<i64, RunError> {
    let fail = |what: String| RunError::Parameter { directory: directory.into(), what };
    for key in ["deltatclock", "deltat", "deltattracer", "deltatmom"] {
        if let Some(seconds) = data.number(key)? {
            if seconds < 1.0 || seconds.fract() != 0.0 || seconds > 1e9 {
                return Err(fail(format!(
                    "{key} = {seconds} in `data` is no whole number of seconds; give --step-seconds"
                )));
            }
            return Ok(seconds as i64);
        }
    }
    Err(fail("no deltaT or deltaTClock in `data`; give --step-seconds".into()))
}

/// Returns the date of step 0 by the parameters of the calendar.
fn start(directory: &Path, calendar: Option<&Namelist>) -> Result<DateTime, RunError> {
    let fail = |what: &str| RunError::Parameter { directory: directory.into(), what: what.into() };
    let Some(calendar) = calendar else {
        return Err(fail("no `data.cal`, so that the date of step 0 is not known; give --start"));
    };
    let kind = calendar.value("thecalendar").unwrap_or("gregorian");
    if !kind.eq_ignore_ascii_case("gregorian") {
        let what =
            format!("TheCalendar = '{kind}' in `data.cal` has days that are no dates; only gregorian runs can be used");
        return Err(fail(&what));
    }
    let day = calendar.number("startdate_1")?.ok_or_else(|| fail("no startDate_1 in `data.cal`; give --start"))?;
    let time = calendar.number("startdate_2")?.unwrap_or(0.0);
    date(day, time).ok_or_else(|| fail("startDate_1 and startDate_2 in `data.cal` are no date; give --start"))
}

/// Returns the date of the numbers YYYYMMDD and hhmmss.
fn date(day: f64, time: f64) -> Option<DateTime> {
    if !(0.0..1e8).contains(&day) || !(0.0..1e6).contains(&time) {
        return None;
    }
    let (day, time) = (day as i32, time as i32);
    let small = |number: i32| i8::try_from(number % 100).ok();
    let year = i16::try_from(day / 10_000).ok()?;
    DateTime::new(year, small(day / 100)?, small(day)?, small(time / 10_000)?, small(time / 100)?, small(time)?, 0).ok()
}

/// Returns the intervals of `data.diagnostics` by the names of their files: negative ones are of snapshots.
fn declared(diagnostics: &Namelist) -> Result<BTreeMap<&str, f64>, NamelistError> {
    let number = |key: &str, index: i64| {
        let of_it = |assignment: &&namelist::Assignment| {
            assignment.subscripts.first().is_some_and(|(first, last)| (*first..=*last).contains(&index))
        };
        let assignment = diagnostics.all(key).iter().rfind(of_it)?;
        let first = assignment.subscripts.first()?.0;
        namelist::number(assignment.values.get(usize::try_from(index - first).ok()?)?)
    };
    let mut found = BTreeMap::new();
    let mut indices = BTreeSet::new();
    for assignment in diagnostics.all("filename") {
        let Some(&(first, _)) = assignment.subscripts.first() else { continue };
        for (index, name) in (first..).zip(&assignment.values).filter(|(_, name)| !name.trim().is_empty()) {
            if let Some(seconds) = number("frequency", index).filter(|_| indices.insert(index)) {
                found.insert(name.rsplit('/').next().unwrap_or(name), seconds);
            }
        }
    }
    Ok(found)
}

/// Returns the frequency of a series: by the word in its name, by `data.diagnostics`, or by the period in its header.
fn frequency(name: &str, header: &Header, declared: Option<f64>) -> Option<Frequency> {
    let of_word = split_period(name).map(|(_, word)| match word {
        "day_mean" => Frequency::Day,
        "mon_mean" => Frequency::Month,
        _ => Frequency::Snapshot,
    });
    let of_header = match header.interval[..] {
        [from, to] => Some(to - from),
        [_] => Some(-1.0),
        _ => None,
    };
    let seconds = declared.or(of_header);
    of_word.or_else(|| match seconds? {
        seconds if seconds <= 0.0 => Some(Frequency::Snapshot),
        seconds if (seconds - DAY).abs() < 1.0 => Some(Frequency::Day),
        // Models without a calendar write means of 30 or 30.5 days.
        seconds if (28.0 * DAY..=31.0 * DAY).contains(&seconds) => Some(Frequency::Month),
        _ => None,
    })
}
