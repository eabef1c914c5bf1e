//! What travels between a production and its workers.

use crate::recipe::Recipe;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// A granule to be made.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its recipe.
    pub recipe: Arc<Recipe>,
    /// Counts from 1.
    pub attempt: u32,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was asked for.
    pub work: Work,
    /// What happened.
    pub result: Result<Done, Failure>,
    /// Time from taking the recipe to this outcome.
    pub elapsed: Duration,
}

/// A granule stands at its destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Whether it stood there before.
    pub already: bool,
    /// Its size in bytes.
    pub bytes: u64,
    /// What is odd about it.
    pub warnings: Vec<String>,
}

/// A granule does not stand at its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// The error and its causes, in one line.
    pub reason: String,
}

/// Kinds of failure, by what is to be done about them. They travel as their position in this list: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FailureKind {
    /// The same recipe will fail again: bad recipe, missing or damaged input, gate.
    Permanent,
    /// The same recipe may succeed later: reading or writing failed.
    Transient,
    /// Outputs of the dataset have no input yet.
    Held,
    /// Another granule stands under its name.
    Conflict,
    /// Not tried to the end: the worker was told to stop, or can make nothing as things are (destination full or
    /// read-only). Nothing is wrong with the recipe.
    Returned,
    /// Not tried: it was delivered before, to a worker that did not say how it ended. Whoever owns the retries knows
    /// what that means.
    Lost,
}

/// An error and its causes in one line, without saying twice what a cause repeats.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
