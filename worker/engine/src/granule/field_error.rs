//! Errors of fields.

use crate::codec::CodecError;
use crate::mapping::MappingError;
use crate::mds::MdsError;

/// The reason why a field could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FieldError {
    /// The input cannot be read.
    #[error(transparent)]
    Mds(#[from] MdsError),
    /// The mapping factors cannot be used.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// The values cannot be compressed.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// There are values that must not get into a granule.
    #[error(
        "{variable}: {count} wet cells {what} at level {level}, the first at {position:?}: the input {input} is damaged or on another grid"
    )]
    Values {
        /// Name of the output variable.
        variable: String,
        /// Number of these cells.
        count: usize,
        /// Description of what is wrong with them.
        what: &'static str,
        /// Level, counted from 0 at the surface.
        level: usize,
        /// Index of the first such cell in the plane, the slowest dimension first.
        position: Vec<usize>,
        /// Name of the input.
        input: String,
    },
    /// Making the field was cancelled.
    #[error("stopped on request")]
    Cancelled,
}
