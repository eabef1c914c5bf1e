//! The reason why a resource cannot be used.

use crate::grid::GridError;
use crate::mapping::MappingError;
use crate::metadata::MAX_FILE_BYTES;
use crate::metadata::configuration::ConfigurationError;
use crate::metadata::podaac::TableError;
use crate::metadata::source::MetadataError;
use crate::verified_files::VerifiedFileError;
use edp_protocol::Digest;
use edp_protocol::location::LocationError;
use edp_protocol::recipe::RecipeError;
use edp_store::StoreError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// The reason why a resource cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// A recipe does not name the resource.
    #[error("recipe {granule}: it names no {what} ({key}): plan it again with --{option}")]
    NotNamed {
        /// Name of the granule.
        granule: String,
        /// The missing resource, in words.
        what: &'static str,
        /// Key of the recipe that should name it.
        key: &'static str,
        /// Option of the planner that sets the key.
        option: &'static str,
    },
    /// The location of a resource cannot be understood or reached.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The resource cannot be fetched from its store.
    #[error("{0}")]
    Store(#[source] StoreError),
    /// A file cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A text file is larger than files of its kind may be.
    #[error("{path}: larger than the {MAX_FILE_BYTES} bytes that such a file may have")]
    TooLarge {
        /// Path of the file.
        path: PathBuf,
    },
    /// A resource has changed since the recipes were planned.
    #[error(
        "{location}: the {what} changed since the recipe was planned (SHA-256 {found}, planned with {planned}): plan again"
    )]
    Changed {
        /// The resource, in words.
        what: &'static str,
        /// Location of the resource.
        location: String,
        /// Digest of its present content.
        found: Digest,
        /// Digest in the recipe.
        planned: Digest,
    },
    /// The recipe itself is wrong.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The configuration is wrong.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The metadata are wrong.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The PO.DAAC table is wrong.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The PO.DAAC table is not one of the files covered by the digest of the metadata.
    #[error("{}: podaac_metadata_filename must name a .csv file of the metadata directory", .path.display())]
    TableName {
        /// Path of the file that the configuration names.
        path: PathBuf,
    },
    /// The resource could not be used, and the error is shared by several recipes.
    #[error(transparent)]
    Earlier(Arc<ResourceError>),
    /// The cancellation flag of the recipe was set.
    #[error("stopped before its resources were loaded")]
    Cancelled,
    /// The grid cannot be used.
    #[error(transparent)]
    Grid(#[from] GridError),
    /// The mapping factors cannot be used.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// The target grid has another shape than the weights.
    #[error("{grid}: its latitudes and longitudes are {found:?}, those of the mapping factors {factors}: {wanted:?}")]
    Target {
        /// Location of the grid directory.
        grid: String,
        /// Location of the mapping factors.
        factors: String,
        /// Shape of the latlon geometry (lat, lon).
        found: [usize; 2],
        /// Shape of the mapping factors (lat, lon).
        wanted: [usize; 2],
    },
}

impl ResourceError {
    /// Returns the error itself if it is shared by several recipes.
    pub fn original(&self) -> &ResourceError {
        match self {
            ResourceError::Earlier(error) => error.original(),
            error => error,
        }
    }

    /// Returns true if the content of files caused the error, so that it would occur again until the files change. If
    /// the system or a store failed to deliver the content, the error may pass.
    pub(super) fn is_verdict(&self) -> bool {
        let causes = std::iter::successors(Some(self as &(dyn std::error::Error + 'static)), |error| error.source());
        let unread = causes.into_iter().any(|error| error.is::<io::Error>());
        let elsewhere = matches!(
            self.original(),
            ResourceError::NotNamed { .. }
                | ResourceError::Location(_)
                | ResourceError::Store(_)
                | ResourceError::Recipe(_)
                | ResourceError::Cancelled
        );
        !unread && !elsewhere
    }
}

impl From<VerifiedFileError> for ResourceError {
    fn from(VerifiedFileError { path, source }: VerifiedFileError) -> ResourceError {
        ResourceError::Read { path, source }
    }
}
