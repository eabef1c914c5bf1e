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
    /// A recipe does not name it.
    #[error("recipe {granule}: it names no {what} ({key}): plan it again with --{option}")]
    NotNamed {
        /// The granule.
        granule: String,
        /// What is missing.
        what: &'static str,
        /// Key of the recipe.
        key: &'static str,
        /// Option of the planner.
        option: &'static str,
    },
    /// Its location cannot be understood or reached.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// It cannot be fetched.
    #[error("{0}")]
    Store(#[source] StoreError),
    /// A file cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is too large for a text of its kind.
    #[error("{path}: larger than the {MAX_FILE_BYTES} bytes that such a file may have")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It changed since the recipes were planned.
    #[error(
        "{location}: the {what} changed since the recipe was planned (SHA-256 {found}, planned with {planned}): plan again"
    )]
    Changed {
        /// Which resource.
        what: &'static str,
        /// Where it is.
        location: String,
        /// Digest of what is there.
        found: Digest,
        /// Digest in the recipe.
        planned: Digest,
    },
    /// The recipe itself.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The configuration.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The metadata.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The PO.DAAC table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The PO.DAAC table is not a file whose digest is taken.
    #[error("{}: podaac_metadata_filename must name a .csv file of the metadata directory", .path.display())]
    TableName {
        /// The file that the configuration names.
        path: PathBuf,
    },
    /// It could not be used, which was found out for several recipes at once.
    #[error(transparent)]
    Earlier(Arc<ResourceError>),
    /// The cancellation flag of the recipe was set.
    #[error("stopped before its resources were loaded")]
    Cancelled,
    /// The grid.
    #[error(transparent)]
    Grid(#[from] GridError),
    /// The mapping factors.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// The target grid has not the shape of the weights.
    #[error("{grid}: its latitudes and longitudes are {found:?}, those of the mapping factors {factors}: {wanted:?}")]
    Target {
        /// The grid directory.
        grid: String,
        /// The mapping factors.
        factors: String,
        /// Shape of the latlon geometry.
        found: [usize; 2],
        /// Shape of the factors.
        wanted: [usize; 2],
    },
}

impl ResourceError {
    /// The error itself where it was found out for several recipes at once.
    pub fn original(&self) -> &ResourceError {
        match self {
            ResourceError::Earlier(error) => error.original(),
            error => error,
        }
    }

    /// Whether the content of files is to blame, so that it would be refused again as long as the files are what they
    /// are. Wherever the system or a store refused to give the content, it is not: that may pass.
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
