//! Configuration, groupings, attribute sources and the PO.DAAC table, as EDP keeps them.
//!
//! The files are read as they are: known defects of the releases are mended and reported as
//! [`Warning`]s, everything else that is wrong is an error that names the file and the place.

pub mod attribute;
pub mod configuration;
pub mod coordinate;
pub mod entry;
pub mod global;
#[cfg(test)]
mod global_tests;
pub mod groupings;
pub mod json;
mod keys;
mod literal;
pub mod podaac;
mod reader;
pub mod source;
pub mod variable;
mod yaml;

use std::fmt;

/// Largest metadata file that is read, in bytes. The largest of the known releases has 160 kB.
pub const MAX_FILE_BYTES: usize = 64 << 20;

/// Something in an input file that is odd but does not stop the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file.
    pub file: String,
    /// Line, key or entry in the file; may be empty.
    pub place: String,
    /// What is odd, and what was done about it.
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

/// The text without a byte order mark.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}
