//! The reason why a granule could not be made.

use super::field_error::FieldError;
use super::file::FileError;
use super::gate::GateError;
use super::time::TimeError;
use crate::codec::CodecError;
use crate::mapping::MappingError;
use crate::mds::MdsError;
use crate::metadata::podaac::TableError;
use crate::reader::ReadError;
use crate::resources::ResourceError;
use edp_files::commit::CommitError;
use edp_protocol::location::LocationError;
use edp_protocol::name::NameError;
use edp_protocol::recipe::RecipeError;
use edp_store::StoreError;
use std::io;

/// The reason why a granule could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The recipe cannot be used.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The name of the granule cannot be parsed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Something that the recipe asks for is not possible.
    #[error("{granule}: {variable}: {why}")]
    Variable {
        /// Path or address of the granule.
        granule: String,
        /// Name of the output variable.
        variable: String,
        /// Description of the problem.
        why: String,
    },
    /// Outputs of the dataset have no input.
    #[error("{granule}: held: no input for {}; plan with --allow-partial to make it without", .missing.join(", "))]
    Held {
        /// Path or address of the granule.
        granule: String,
        /// Names of these outputs.
        missing: Vec<String>,
    },
    /// A variable takes more memory than a slot may have.
    #[error(
        "{granule}: {variable} takes up to {} MiB, a slot may have {} MiB: raise run.memory in the settings, or EDP_RUN__MEMORY",
        .needed.div_ceil(1 << 20), .limit >> 20
    )]
    Memory {
        /// Path or address of the granule.
        granule: String,
        /// Name of the output variable.
        variable: String,
        /// Largest number of bytes that it may take.
        needed: u64,
        /// Number of bytes that a slot may have.
        limit: u64,
    },
    /// A shared resource cannot be loaded.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// An input file cannot be opened.
    #[error("{path}: cannot be opened: {source}")]
    Input {
        /// Path of the file.
        path: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// An input cannot be fetched, or is another version.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An input is not the one with which the recipe was planned.
    #[error("{path}: input changed: it {difference}: plan again")]
    InputChanged {
        /// Path of the file.
        path: String,
        /// Description of the difference.
        difference: String,
    },
    /// The records of the period of a mean are not those with which the recipe was planned.
    #[error(
        "{path}: the {records} records of its period are not those that were planned with ({difference}): plan again"
    )]
    RecordsChanged {
        /// Path of the mean.
        path: String,
        /// Number of records.
        records: u64,
        /// Properties that differ.
        difference: &'static str,
    },
    /// The file with a mean is not the one that the recipe names.
    #[error("{path}: {why}: it is not used; remove it, and the next worker makes it again")]
    Mean {
        /// Path of the mean.
        path: String,
        /// Description of the problem.
        why: String,
    },
    /// A mean could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A location in the recipe cannot be understood.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// An MDS file cannot be read.
    #[error(transparent)]
    Mds(#[from] MdsError),
    /// The mapping factors cannot be used.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// A field cannot be made.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A time of the recipe cannot be written.
    #[error("{granule}: {source}")]
    Time {
        /// Path or address of the granule.
        granule: String,
        /// Description of the problem.
        source: TimeError,
    },
    /// The PO.DAAC table has no unambiguous row.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A NetCDF file that the granule is made of cannot be read.
    #[error(transparent)]
    Netcdf(#[from] ReadError),
    /// Values cannot be compressed.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file did not pass the gate.
    #[error(transparent)]
    Gate(#[from] GateError),
}

impl MakeError {
    /// Returns the error of the operating system, if that is the cause.
    pub fn system(&self) -> Option<&io::Error> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return Some(error);
            }
            cause = error.source();
        }
        None
    }

    /// Returns the error of a store, if that is the cause.
    pub fn store(&self) -> Option<&StoreError> {
        match self {
            MakeError::Store(error) => Some(error),
            MakeError::Resource(error) => match error.original() {
                ResourceError::Store(error) => Some(error),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns true if the same may succeed later, for errors of the file that was being made for which the operating
    /// system gives no reason, and for chunks that were compressed wrongly.
    pub fn may_pass(&self) -> bool {
        match self {
            MakeError::File(error) => error.may_pass(),
            MakeError::Codec(error) | MakeError::Field(FieldError::Codec(error)) => *error == CodecError::Differs,
            MakeError::Gate(GateError::Read { .. } | GateError::Chunk(_)) => true,
            _ => false,
        }
    }

    /// Returns true if it was given up because its cancellation flag was set.
    pub fn is_cancelled(&self) -> bool {
        match self {
            MakeError::Field(FieldError::Cancelled) => true,
            MakeError::Resource(error) => matches!(error.original(), ResourceError::Cancelled),
            _ => false,
        }
    }

    /// Returns true if the error concerns the file that was being made, not its inputs.
    pub fn is_of_output(&self) -> bool {
        matches!(self, MakeError::File(_) | MakeError::Gate(_) | MakeError::Commit(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_damaged_machine_compresses_may_be_right_elsewhere() {
        for (error, may_pass) in [(CodecError::Differs, true), (CodecError::Level(10), false)] {
            assert_eq!(MakeError::Codec(error.clone()).may_pass(), may_pass);
            assert_eq!(MakeError::Field(FieldError::Codec(error)).may_pass(), may_pass);
        }
    }
}
