//! The metadata in the files of EDP: configuration, groupings, attribute files and the PO.DAAC table.
//!
//! The files are read as they are: known defects of the releases are repaired and reported as [`Warning`]s; everything
//! else that is wrong is an error that names the file and the place.

pub mod attribute;
pub mod configuration;
pub mod coordinate;
pub mod entry;
pub mod factor_keys;
pub mod global;
#[cfg(test)]
mod global_tests;
pub mod groupings;
pub mod json;
mod keys;
pub mod literal;
pub mod podaac;
mod reader;
pub mod source;
pub mod variable;
mod yaml;

use std::fmt;

/// Largest size in bytes of a metadata file that is read. The largest file of the known releases has 160 kB.
pub const MAX_FILE_BYTES: usize = 64 << 20;

/// A defect of an input file that does not stop the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Path of the file.
    pub file: String,
    /// Line, key or entry in the file; may be empty.
    pub place: String,
    /// Description of the defect, and of how it was handled.
    pub message: String,
}

impl Warning {
    pub(crate) fn new(file: &str, place: impl Into<String>, message: impl Into<String>) -> Warning {
        Warning { file: file.into(), place: place.into(), message: message.into() }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Warning { file, place, message } = self;
        if place.is_empty() { write!(f, "{file}: {message}") } else { write!(f, "{file}: {place}: {message}") }
    }
}

/// Returns the text without a byte order mark.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}
