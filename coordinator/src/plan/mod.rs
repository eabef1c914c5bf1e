//! Planning: from job lines and a scan of the model output to recipes, one for each granule.
//!
//! [`jobfile`] reads what is asked for, or [`selection`] takes it from the command line. [`inventory`] finds what
//! exists, the calendar gives the times, and [`plan`] combines them. [`preparation`] holds everything but the results,
//! and plans as often as these grow. No `.data` file is opened, except by [`digests`], if these are asked for.

pub mod archive;
pub mod asked;
#[cfg(test)]
mod complete_tests;
mod dataset;
mod dates;
mod derived;
pub mod digests;
pub mod files;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod fixture;
pub mod growth;
pub mod headers;
pub mod inventory;
pub mod jobfile;
pub mod preparation;
mod problem;
#[cfg(test)]
mod real_data_tests;
mod recipes;
#[cfg(test)]
mod recipes_tests;
mod scan;
pub mod selection;
pub mod statics;
mod survey;

pub use dataset::DatasetError;
pub use dates::DateSource;
pub use problem::{PlanError, Problem};
use recipes::learn;
pub use recipes::{Planned, Request, plan};
pub use scan::InventoryError;

use std::fmt;

/// The severity of a [`Note`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The note is for information.
    Info,
    /// Granules may be missing, or differ from what was intended.
    Warning,
    /// Something that was asked for cannot be made.
    Error,
}

/// One line of a report: an observation, its place, and its consequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Severity of the observation.
    pub severity: Severity,
    /// The text, without severity.
    pub text: String,
}

impl Note {
    /// Makes a note for information.
    pub fn info(text: impl Into<String>) -> Note {
        Note { severity: Severity::Info, text: text.into() }
    }

    /// Makes a note of severity warning.
    pub fn warning(text: impl Into<String>) -> Note {
        Note { severity: Severity::Warning, text: text.into() }
    }

    /// Makes a note of severity error.
    pub fn error(text: impl Into<String>) -> Note {
        Note { severity: Severity::Error, text: text.into() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Info => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}", self.text)
    }
}

/// Number of items that [`few`] names.
const SHOWN: usize = 5;

/// Joins the first few of many items for messages: `a, b, c and 7 more`.
fn few(items: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let mut items = items.into_iter();
    let mut text: Vec<String> = items.by_ref().take(SHOWN).map(|item| item.to_string()).collect();
    let rest = items.count();
    match rest {
        0 => {}
        1.. => {
            let last = text.pop().unwrap_or_default();
            text.push(format!("{last} and {rest} more"));
        }
    }
    text.join(", ")
}
