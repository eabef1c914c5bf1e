//! The reason why a granule could not be made.

use super::codec::CodecError;
use super::field::FieldError;
use super::file::FileError;
use super::gate::GateError;
use super::time::TimeError;
use crate::mapping::MappingError;
use crate::mds::MdsError;
use crate::metadata::podaac::TableError;
use crate::resources::ResourceError;
use edp_protocol::location::LocationError;
use edp_protocol::name::NameError;
use edp_protocol::recipe::RecipeError;
use edp_store::StoreError;
use std::io;

/// The reason why a granule could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The recipe is not usable.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The granule's name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Something the recipe asks for is not possible.
    #[error("{granule}: {variable}: {why}")]
    Variable {
        /// The granule.
        granule: String,
        /// The output variable.
        variable: String,
        /// Description of the problem.
        why: String,
    },
    /// Outputs of the dataset have no input.
    #[error("{granule}: held: no input for {}; plan with --allow-partial to make it without", .missing.join(", "))]
    Held {
        /// The granule.
        granule: String,
        /// The outputs.
        missing: Vec<String>,
    },
    /// A variable takes more memory than a slot may have.
    #[error(
        "{granule}: {variable} takes up to {} MiB, a slot may have {} MiB: raise run.memory in the settings, or EDP_RUN__MEMORY",
        .needed.div_ceil(1 << 20), .limit >> 20
    )]
    Memory {
        /// The granule.
        granule: String,
        /// The output variable.
        variable: String,
        /// Bytes that it takes at most.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A shared resource.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// An input file cannot be opened.
    #[error("{path}: cannot be opened: {source}")]
    Input {
        /// The file.
        path: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// An input cannot be fetched, or is another version.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An input is not the one that was planned with.
    #[error("{path}: input changed: it {difference}: plan again")]
    InputChanged {
        /// The file.
        path: String,
        /// What differs, in words.
        difference: String,
    },
    /// A location of the recipe.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// An MDS file.
    #[error(transparent)]
    Mds(#[from] MdsError),
    /// Mapping factors.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// A field.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The times of the recipe.
    #[error("{granule}: {source}")]
    Time {
        /// The granule.
        granule: String,
        /// Description of the problem.
        source: TimeError,
    },
    /// The PO.DAAC table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Compression.
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
    /// What the system refused, if that is the cause.
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

    /// What a store refused, if that is the cause.
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

    /// Whether the same may succeed later, of errors of the file that was being made of which the system says nothing.
    pub fn may_pass(&self) -> bool {
        match self {
            MakeError::File(error) => error.may_pass(),
            MakeError::Gate(GateError::Read { .. } | GateError::Chunk(_)) => true,
            _ => false,
        }
    }

    /// Whether it was given up because its cancellation flag was set.
    pub fn is_cancelled(&self) -> bool {
        match self {
            MakeError::Field(FieldError::Cancelled) => true,
            MakeError::Resource(error) => matches!(error.original(), ResourceError::Cancelled),
            _ => false,
        }
    }

    /// Whether it happened to the file that was being made, not to what it is made of.
    pub fn is_of_output(&self) -> bool {
        matches!(self, MakeError::File(_) | MakeError::Gate(_))
    }
}
