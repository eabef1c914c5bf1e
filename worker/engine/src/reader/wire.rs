//! The messages between a program and its helper process. The descriptor of a file comes with the first request about
//! it, and plain values with the answers.

use super::outline::{Described, Outline};
use crate::granule::inspected::{Inspected, InspectionDepth};
use edp_protocol::recipe::Recipe;
use serde::{Deserialize, Serialize};

/// Largest number of bytes of plain values in an answer.
pub(super) const MAX_VALUES: usize = 64 << 20;

/// A request to a helper.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HelperRequest {
    /// Processor time that the request may take, in seconds.
    pub(super) seconds: u64,
    /// The operation that the helper is to carry out.
    pub(super) ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Releases the file. There is no answer.
    Close,
    /// Identifies the granule and checks whether it is complete.
    Look { recipe: Option<Box<Recipe>>, depth: InspectionDepth, places: bool },
    /// Lists the variables of the file.
    Describe,
    /// Asks for the outline of the file: everything except the values.
    Outline,
    /// Reads a part of a variable, as numbers of 4 or 8 bytes.
    Values { variable: String, start: Vec<usize>, count: Vec<usize>, double: bool },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The helper has started. This is sent without a request.
    Ready,
    Inspected(Inspected),
    Described(Vec<Described>),
    Outlined(Outline),
    /// The plain values follow the text.
    Values,
    /// The file cannot be read because of its content.
    Damaged(String),
    /// The file cannot be read now.
    Unread(String),
}
