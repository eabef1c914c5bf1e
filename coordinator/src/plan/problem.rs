//! Why a plan cannot be made.

use super::Note;
use super::dataset::DatasetError;
use super::few;
use super::inventory::Twice;
use edp_protocol::GridKind;
use edp_protocol::calendar::CalendarError;
use edp_protocol::recipe::RecipeError;
use edp_protocol::text::line;
use std::fmt;

/// One thing that stands in the way of a plan. `place` is the job, such as `jobs.txt line 3`.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The job names a grouping that is not there.
    #[error("{place}: there is no {grid} grouping {index}; {}", valid(*.count))]
    Grouping {
        /// The job.
        place: String,
        /// The grid kind.
        grid: GridKind,
        /// The index of the job.
        index: usize,
        /// How many groupings there are.
        count: usize,
    },
    /// The grouping describes no dataset.
    #[error("{place}: {source}")]
    Dataset {
        /// The job.
        place: String,
        /// What is wrong with it.
        source: DatasetError,
    },
    /// The configuration does not say how files on this grid are labelled.
    #[error("{place}: the configuration has no {grid} label; add it to ecco_production_filestr_grid_label")]
    Label {
        /// The job.
        place: String,
        /// The grid kind.
        grid: GridKind,
    },
    /// The parts of the granule's name cannot be told from each other afterwards.
    #[error(
        "{place}: the granule name '{name}' cannot be taken apart again; version and label must be without '_' and '.', and the filename without a period word"
    )]
    Name {
        /// The job.
        place: String,
        /// The name.
        name: String,
    },
    /// Granules on the longitude-latitude grid need mapping factors.
    #[error("{place}: granules on the latlon grid need mapping factors; give --mapping-factors")]
    Factors {
        /// The job.
        place: String,
    },
    /// EDP takes the units of time from the metadata.
    #[error("the modes of EDP need the units of 'time' from the time coordinate metadata, which has none")]
    TimeUnits,
    /// Steps at impossible times.
    #[error("{place}: {source}{}", and_more(*.more))]
    Time {
        /// The job.
        place: String,
        /// The first of them.
        source: CalendarError,
        /// How many more there are.
        more: usize,
    },
    /// The header of a result has another time than the configuration.
    #[error(
        "{place}: {file}: its header (timeInterval) ends at {header}, but by its step it ends at {planned}: {step} times model_timestep after model_start_time{}; correct these, or take the times of headers with --dates header", and_more(*.more)
    )]
    Dates {
        /// The job.
        place: String,
        /// The header.
        file: String,
        /// Its time.
        header: String,
        /// Its step.
        step: u64,
        /// The time of the step.
        planned: String,
        /// How many more there are.
        more: usize,
    },
    /// Times are to be those of headers, but some have none.
    #[error("{place}: --dates header, but there is no time in their headers: {}", few(files))]
    NoInterval {
        /// The job.
        place: String,
        /// The headers.
        files: Vec<String>,
    },
    /// Results that are there more than once.
    #[error("{place}: {source}{}", and_more(*.more))]
    Twice {
        /// The job.
        place: String,
        /// The first of them.
        source: Twice,
        /// How many more there are.
        more: usize,
    },
    /// Strict only: a variable without any result.
    #[error("{place}: {text}")]
    NoFile {
        /// The job.
        place: String,
        /// Which, and of what.
        text: String,
    },
    /// Strict only: steps that were asked for by number and have no result.
    #[error("{place}: no results at steps that are asked for: {}", few(steps))]
    AbsentSteps {
        /// The job.
        place: String,
        /// The steps.
        steps: Vec<u64>,
    },
    /// Two recipes for one granule.
    #[error(
        "{} and {} both make {granule}; take one out, or make one of them with other settings",
        made(first),
        made(second)
    )]
    SameGranule {
        /// The granule.
        granule: String,
        /// The job and step that come first.
        first: (String, u64),
        /// The job and step that come later.
        second: (String, u64),
    },
    /// The recipe contradicts itself, such as inputs outside of the source root.
    #[error("{place}: {source}")]
    Recipe {
        /// The job.
        place: String,
        /// What is wrong.
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

/// All that stands in the way of a plan, and what else was noticed on the way.
#[derive(Debug)]
pub struct PlanError {
    /// At least one.
    pub problems: Vec<Problem>,
    /// Notes up to where the plan ended.
    pub notes: Vec<Note>,
}

impl fmt::Display for PlanError {
    /// One problem a line, the first twenty of them.
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
