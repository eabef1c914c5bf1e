//! The reasons why a plan cannot be made.

use super::Note;
use super::dataset::DatasetError;
use super::few;
use super::inventory::Twice;
use edp_protocol::GridKind;
use edp_protocol::calendar::CalendarError;
use edp_protocol::recipe::RecipeError;
use edp_protocol::text::line;
use edp_protocol::wire::MAX_RECIPE;
use std::fmt;

/// One reason why a plan cannot be made. `place` is the job, such as `jobs.txt line 3`.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The job names a grouping that does not exist.
    #[error("{place}: there is no {grid} grouping {index}; {}", valid(*.count))]
    Grouping {
        /// The job that asks for it.
        place: String,
        /// Kind of the grid.
        grid: GridKind,
        /// Index of the grouping in the job.
        index: usize,
        /// Number of groupings for this grid.
        count: usize,
    },
    /// The grouping does not describe a dataset.
    #[error("{place}: {source}")]
    Dataset {
        /// The job that asks for it.
        place: String,
        /// Description of the problem.
        source: DatasetError,
    },
    /// The configuration has no label for files on this grid.
    #[error("{place}: the configuration has no {grid} label; add it to ecco_production_filestr_grid_label")]
    Label {
        /// The job that asks for it.
        place: String,
        /// Kind of the grid.
        grid: GridKind,
    },
    /// The granule's name could not be split into its parts again.
    #[error(
        "{place}: the granule name '{name}' cannot be taken apart again; version and label must be without '_' and '.', and the filename without a period word"
    )]
    Name {
        /// The job that asks for it.
        place: String,
        /// The name that is ambiguous.
        name: String,
    },
    /// Granules on the longitude-latitude grid need mapping factors, and there are none.
    #[error("{place}: granules on the latlon grid need mapping factors; give --mapping-factors")]
    Factors {
        /// The job that asks for it.
        place: String,
    },
    /// The metadata has no units of time, from which the modes of EDP take them.
    #[error("the modes of EDP need the units of 'time' from the time coordinate metadata, which has none")]
    TimeUnits,
    /// The times of steps are impossible.
    #[error("{place}: {source}{}", and_more(*.more))]
    Time {
        /// The job that asks for them.
        place: String,
        /// The error about the first of these steps.
        source: CalendarError,
        /// Number of further steps.
        more: usize,
    },
    /// The header of a result has another time than the configuration gives.
    #[error(
        "{place}: {file}: its header (timeInterval) ends at {header}, but by its step it ends at {planned}: {step} times model_timestep after model_start_time{}; correct these, or take the times of headers with --dates header", and_more(*.more)
    )]
    Dates {
        /// The job that asks for it.
        place: String,
        /// Path of the header.
        file: String,
        /// Time in the header.
        header: String,
        /// Number of its step.
        step: u64,
        /// Time of the step by the configuration.
        planned: String,
        /// Number of further steps.
        more: usize,
    },
    /// Times are to be those of headers, but some headers have none.
    #[error("{place}: --dates header, but there is no time in their headers: {}", few(files))]
    NoInterval {
        /// The job that asks for them.
        place: String,
        /// Paths of these headers.
        files: Vec<String>,
    },
    /// Results exist more than once.
    #[error("{place}: {source}{}", and_more(*.more))]
    Twice {
        /// The job that asks for them.
        place: String,
        /// The error about the first of these steps.
        source: Twice,
        /// Number of further steps.
        more: usize,
    },
    /// Several files could hold the data.
    #[error("{place}: {what} is there more than once: {}; keep one of them below the source root", few(paths))]
    Several {
        /// The job that asks for it.
        place: String,
        /// Name of the variable or dataset.
        what: String,
        /// Paths of the files.
        paths: Vec<String>,
    },
    /// A variable has no result at all; an error with `--strict` only.
    #[error("{place}: {text}")]
    NoFile {
        /// The job that asks for it.
        place: String,
        /// Description of the variable.
        text: String,
    },
    /// The mean of a period lacks records.
    #[error(
        "{place}: {output} is {of} minus its mean from {from} to {to}, and there is no {of} for {missing} of that \
         period: add it, or leave {output} out with --keep-going (held) or --allow-partial"
    )]
    Period {
        /// The job that asks for it.
        place: String,
        /// Name of the variable in the grouping.
        output: String,
        /// Name of the model variable.
        of: String,
        /// First day of the period.
        from: jiff::civil::Date,
        /// Last day of the period.
        to: jiff::civil::Date,
        /// The months, days or times without a record.
        missing: String,
    },
    /// Steps that were asked for by number have no result; an error with `--strict` only.
    #[error("{place}: no results at steps that are asked for: {}", few(steps))]
    AbsentSteps {
        /// The job that asks for them.
        place: String,
        /// Numbers of these steps.
        steps: Vec<u64>,
    },
    /// Two recipes make the same granule.
    #[error(
        "{} and {} both make {granule}; take one out, or make one of them with other settings",
        made(first),
        made(second)
    )]
    SameGranule {
        /// Name or path of the granule.
        granule: String,
        /// Job and step that come first.
        first: (String, u64),
        /// Job and step that come later.
        second: (String, u64),
    },
    /// A recipe does not fit into a task message.
    #[error(
        "{place}: the recipe of {granule} names {files} files and takes {size} bytes, but a message has {MAX_RECIPE} at \
         most{}; join the pieces of each array (MITgcm writes whole arrays with useSingleCpuIO), or make groupings of fewer \
         fields", and_more(*.more)
    )]
    TooLarge {
        /// The job that asks for it.
        place: String,
        /// Name of the granule.
        granule: String,
        /// Number of its inputs.
        files: usize,
        /// Size of the recipe in bytes.
        size: usize,
        /// Number of further steps.
        more: usize,
    },
    /// The recipe contradicts itself, for example by inputs outside the source root.
    #[error("{place}: {source}")]
    Recipe {
        /// The job that asks for it.
        place: String,
        /// Description of the problem.
        source: RecipeError,
    },
}

fn valid(count: usize) -> String {
    match count {
        0 => "the metadata has no groupings for this grid".into(),
        _ => format!("the valid range is 0 to {}", count - 1),
    }
}

fn and_more(more: usize) -> String {
    if more == 0 { String::new() } else { format!(" (and {more} more steps like this)") }
}

fn made((place, step): &(String, u64)) -> String {
    format!("{place} at step {step}")
}

/// All reasons why a plan cannot be made, with the other notes.
#[derive(Debug)]
pub struct PlanError {
    /// The reasons, at least one.
    pub problems: Vec<Problem>,
    /// Notes up to the point where the plan ended.
    pub notes: Vec<Note>,
}

impl fmt::Display for PlanError {
    /// Writes one line for each of the first twenty problems.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        for (i, problem) in self.problems.iter().take(SHOWN).enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { "\n" }, line(&problem.to_string()))?;
        }
        match self.problems.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for PlanError {}
