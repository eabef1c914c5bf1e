//! EDP's job files: one Python literal on each line, `[0, 'latlon', 'AVG_MON', 'all']`.

use super::Note;
use edp_engine::metadata::literal::{Literal, NoLiteral, parse as literal};
use edp_protocol::text::line;
use edp_protocol::vocabulary::UnknownWord;
use edp_protocol::{Frequency, GridKind};
use std::fmt;

/// Largest step: names of result files have ten digits for it.
const LARGEST_STEP: u64 = 9_999_999_999;

/// One dataset that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Number of the line in the job file, from 1; 0 if the job does not come from a file.
    pub line: usize,
    /// Position in the groupings of the grid kind, from 0.
    pub grouping: usize,
    /// Grid on which the granules are written.
    pub grid: GridKind,
    /// Frequency of the records.
    pub frequency: Frequency,
    /// Model steps for which granules are made.
    pub steps: Steps,
}

/// The model steps that a job asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Steps {
    /// Every step that has results.
    All,
    /// These steps, ascending, each once. The list may be empty.
    Listed(Vec<u64>),
}

/// The error of one line of a job file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The line is not a Python literal.
    #[error(
        "{file} line {line}, column {column}: {why}; a job is [<grouping index>, '<grid type>', '<frequency>', 'all' or [<steps>]]"
    )]
    Syntax {
        /// Name of the job file.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// Number of the character in the line, from 1.
        column: usize,
        /// Description of the problem.
        why: String,
    },
    /// The literal is not a list of four elements.
    #[error(
        "{file} line {line}: a job has four elements: grouping index, grid type, frequency, time steps; found {found}"
    )]
    Shape {
        /// Name of the job file.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// Description of what was found.
        found: String,
    },
    /// The grouping index is not a number from 0.
    #[error("{file} line {line}: the grouping index is {found}; it is the position in the groupings file, from 0")]
    Grouping {
        /// Name of the job file.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// Description of what was found.
        found: String,
    },
    /// The grid type or the frequency is not a known word.
    #[error("{file} line {line}: {source}")]
    Word {
        /// Name of the job file.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// The error about the word.
        source: UnknownWord,
    },
    /// The grid type or the frequency is not a text.
    #[error("{file} line {line}: the {what} is {found}; write it in quotes")]
    Unquoted {
        /// Name of the job file.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// Name of the element.
        what: &'static str,
        /// Description of what was found.
        found: String,
    },
    /// A time series cannot be without time.
    #[error("{file} line {line}: a time series has times; write AVG_DAY, AVG_MON or SNAP instead of TIME-INVARIANT")]
    NoSeries {
        /// Name of the job file.
        file: String,
        /// Number of the line, from 1.
        line: usize,
    },
    /// Steps are listed for data that have none.
    #[error(
        "{file} line {line}: the time steps are {found}, but time-invariant data and time series have none; write 'all'"
    )]
    Stepless {
        /// Name of the job file.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// Description of what was found.
        found: String,
    },
    /// The steps are neither `'all'` nor a list of numbers.
    #[error("{file} line {line}: the time steps are {found}; write 'all' or a list of model steps such as [732, 1428]")]
    Steps {
        /// Name of the job file.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// Description of what was found.
        found: String,
    },
}

/// All errors of a job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobErrors(pub Vec<JobError>);

impl fmt::Display for JobErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { "\n" }, line(&error.to_string()))?;
        }
        Ok(())
    }
}

impl std::error::Error for JobErrors {}

/// Parses a job file; `file` is its name in messages. Blank lines and comments are skipped. With `keep_going` a
/// malformed line is only left out, with a warning.
///
/// # Errors
/// Returns an error for every line that is not a job.
pub fn parse(file: &str, text: &str, keep_going: bool) -> Result<(Vec<Job>, Vec<Note>), JobErrors> {
    let (mut jobs, mut errors) = (Vec::new(), Vec::new());
    // editors on Windows put a byte order mark first
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        match parse_line(file, number + 1, line) {
            Ok(job) => jobs.extend(job),
            Err(error) => errors.push(error),
        }
    }
    if !keep_going && !errors.is_empty() {
        return Err(JobErrors(errors));
    }
    let notes = errors.iter().map(|error| Note::warning(format!("{error}; line skipped"))).collect();
    Ok((jobs, notes))
}

fn parse_line(file: &str, line: usize, text: &str) -> Result<Option<Job>, JobError> {
    let file = || file.to_owned();
    let elements = match literal(text) {
        Ok(None) => return Ok(None),
        Ok(Some(Literal::List(elements))) => elements,
        Ok(Some(other)) => return Err(JobError::Shape { file: file(), line, found: other.to_string() }),
        Err(NoLiteral { column, why }) => return Err(JobError::Syntax { file: file(), line, column, why }),
    };
    let [grouping, grid, frequency, steps] = &elements[..] else {
        return Err(JobError::Shape { file: file(), line, found: format!("{} elements", elements.len()) });
    };
    let grouping = match grouping {
        Literal::Integer(index) => usize::try_from(*index).ok(),
        _ => None,
    }
    .ok_or_else(|| JobError::Grouping { file: file(), line, found: grouping.to_string() })?;
    let word = |what, literal: &Literal| match literal {
        Literal::Text(word) => Ok(word.trim().to_owned()),
        other => Err(JobError::Unquoted { file: file(), line, what, found: other.to_string() }),
    };
    let grid = word("grid type", grid)?;
    let grid: GridKind = grid.parse().map_err(|source| JobError::Word { file: file(), line, source })?;
    let frequency = word("frequency", frequency)?;
    let is = |known: &Frequency| known.job_word().eq_ignore_ascii_case(&frequency);
    let invariant = frequency.eq_ignore_ascii_case("ti").then_some(Frequency::TimeInvariant);
    let frequency = Frequency::ALL.into_iter().find(is).or(invariant).ok_or_else(|| {
        let choices = "AVG_DAY, AVG_MON, SNAP, TIME-INVARIANT";
        let source = UnknownWord { what: "frequency", word: frequency.clone(), choices };
        JobError::Word { file: file(), line, source }
    })?;
    let parsed = parse_steps(steps).ok_or_else(|| JobError::Steps { file: file(), line, found: steps.to_string() })?;
    let is_series = grid == GridKind::Series;
    if is_series && frequency == Frequency::TimeInvariant {
        return Err(JobError::NoSeries { file: file(), line });
    }
    if (is_series || frequency == Frequency::TimeInvariant) && parsed != Steps::All {
        return Err(JobError::Stepless { file: file(), line, found: steps.to_string() });
    }
    let steps = parsed;
    Ok(Some(Job { line, grouping, grid, frequency, steps }))
}

fn parse_steps(literal: &Literal) -> Option<Steps> {
    match literal {
        Literal::Text(word) if word.trim().eq_ignore_ascii_case("all") => Some(Steps::All),
        Literal::List(elements) => {
            let step = |element: &Literal| match element {
                Literal::Integer(step) => u64::try_from(*step).ok().filter(|step| *step <= LARGEST_STEP),
                _ => None,
            };
            let mut steps: Vec<u64> = elements.iter().map(step).collect::<Option<_>>()?;
            steps.sort_unstable();
            steps.dedup();
            Some(Steps::Listed(steps))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn one(line: &str) -> Result<Job, String> {
        match parse("j.txt", line, false) {
            Ok((jobs, notes)) => {
                assert!(notes.is_empty());
                Ok(jobs.into_iter().next().unwrap())
            }
            Err(errors) => Err(errors.to_string()),
        }
    }

    #[test]
    fn a_job_file_as_edp_users_write_it() {
        let text = "\u{feff}# native groupings:\n\n[0,'native','AVG_MON','all']    # sea surface height, 'quoted'\n\
            \t (11, \"latlon\", 'avg_day', [1428, 732, 732,],)\r\n  # end\n12,'Native','snap','ALL'\n[1,'latlon','SNAP',[]]\n\
            [13,'native','TIME-INVARIANT','all']\n[13,'latlon','ti','all']\n[2,'1d','SNAP','all']";
        let (jobs, notes) = parse("ssh.jobs.txt", text, false).unwrap();
        let job = |line, grouping, grid, frequency, steps| Job { line, grouping, grid, frequency, steps };
        assert_eq!(
            jobs,
            [
                job(3, 0, GridKind::Native, Frequency::Month, Steps::All),
                job(4, 11, GridKind::Latlon, Frequency::Day, Steps::Listed(vec![732, 1428])),
                job(6, 12, GridKind::Native, Frequency::Snapshot, Steps::All),
                job(7, 1, GridKind::Latlon, Frequency::Snapshot, Steps::Listed(vec![])),
                job(8, 13, GridKind::Native, Frequency::TimeInvariant, Steps::All),
                job(9, 13, GridKind::Latlon, Frequency::TimeInvariant, Steps::All),
                job(10, 2, GridKind::Series, Frequency::Snapshot, Steps::All),
            ]
        );
        assert!(notes.is_empty());
    }

    #[test]
    fn white_space_quotes_and_parentheses_are_free() {
        let want = one("[3,'latlon','AVG_MON',[5]]").unwrap();
        for line in [
            "[ 3 , \"latlon\",\t'AVG_MON' , ( 5 , ) ]",
            "((3), ('latlon'), 'AVG_MON', [5])#",
            "3,'latlon','AVG_MON',[5],",
            "[+3,'LatLon','Avg_Mon',[5]]   ",
        ] {
            assert_eq!(one(line).unwrap(), want, "{line}");
        }
    }

    #[test]
    fn what_is_no_job_is_an_error_that_says_why() {
        for (line, why) in [
            ("[0,'latlon','AVG_MON','all'", "']' is missing"),
            ("[0,'latlon','AVG_MON' 'all']", "',' or ']' is missing"),
            ("[0,,'AVG_MON','all']", "a value is missing"),
            ("[0,'latlon,'AVG_MON','all']", "missing"),
            ("[0,'latlon','AVG_MON','all]", "closing '"),
            ("[0,'latlon','AVG_MON','all'] x", "unexpected 'x'"),
            ("0,latlon,AVG_MON,all", "'latlon' is neither"),
            ("[0,'latlon','AVG_MON',all]", "column 23: 'all' is neither"),
            ("[0,'latlon','AVG_MON']", "3 elements"),
            ("[0,'latlon','AVG_MON','all',1]", "5 elements"),
            ("7", "found 7"),
            ("[-1,'latlon','AVG_MON','all']", "grouping index is -1"),
            ("['0','latlon','AVG_MON','all']", "grouping index is '0'"),
            ("[1.5,'latlon','AVG_MON','all']", "'1.5' is not an integer"),
            ("[99999999999999999999,'latlon','AVG_MON','all']", "too large"),
            ("[0,'polar','AVG_MON','all']", "unknown grid type 'polar'"),
            ("[0,'native','TIME-INVARIANT',[0]]", "time steps are [0], but time-invariant data"),
            ("[0,'1D','SNAP',[732]]", "time steps are [732], but time-invariant data and time series"),
            ("[0,'1d','TIME-INVARIANT','all']", "a time series has times"),
            ("[0,7,'AVG_MON','all']", "grid type is 7"),
            ("[0,'native','AVG_YEAR','all']", "unknown frequency 'AVG_YEAR'"),
            ("[0,'native','day','all']", "unknown frequency 'day'"),
            ("[0,'native','SNAP','some']", "time steps are 'some'"),
            ("[0,'native','SNAP',732]", "time steps are 732"),
            ("[0,'native','SNAP',[-732]]", "time steps are [-732]"),
            ("[0,'native','SNAP',['732']]", "time steps are ['732']"),
            ("[0,'native','SNAP',[10000000000]]", "time steps are [10000000000]"),
            ("[0,'native','SNAP',[0000000732]]", "leading zeros"),
            ("[[[[[[[[[[[[", "too many brackets"),
            ("[0,'nat\\ive','SNAP','all']", "backslash"),
            ("[0,'native','SNAP','all'", "j.txt line 1, column 25"),
            ("é", "j.txt line 1, column 1: 'é'"),
        ] {
            let error = one(line).unwrap_err();
            assert!(error.starts_with("j.txt line 1"), "{line}: {error}");
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    #[test]
    fn all_bad_lines_are_reported_or_skipped_with_a_warning() {
        let text = "[0,'native','AVG_MON','all']\nnonsense\n\n[0,'native','AVG_MON']\n";
        let errors = parse("j", text, false).unwrap_err();
        assert_eq!(errors.0.len(), 2);
        assert!(errors.to_string().contains("j line 2") && errors.to_string().contains("j line 4"));
        let (jobs, notes) = parse("j", text, true).unwrap();
        assert_eq!((jobs.len(), notes.len()), (1, 2));
        assert!(notes.iter().all(|note| note.severity == crate::plan::Severity::Warning));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = parse("j", &text, false);
        }

        #[test]
        fn no_text_of_its_own_letters_makes_it_panic(text in "[\\[\\](),'\"0-9a-z#\\\\ \té+-]{0,60}") {
            let _ = parse("j", &text, true);
        }

        #[test]
        fn steps_come_back(steps in prop::collection::btree_set(0..=LARGEST_STEP, 0..20)) {
            let steps: Vec<u64> = steps.into_iter().collect();
            let job = one(&format!("[0,'native','SNAP',{steps:?}]")).unwrap();
            prop_assert_eq!(job.steps, Steps::Listed(steps));
        }
    }
}
