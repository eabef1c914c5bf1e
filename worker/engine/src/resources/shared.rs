//! Shared inputs for planning: they are loaded before there are recipes, and their digests go into these.

use super::{ResourceError, Texts, load};
use crate::metadata::Warning;
use crate::metadata::configuration::Configuration;
use crate::metadata::podaac::Table;
use crate::metadata::source::Metadata;
use crate::verified_files::VerifiedFiles;
use edp_protocol::Digest;
use edp_protocol::recipe::Digests;
use edp_store::Stores;

/// Locations of the things that recipes share, as the user wrote them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SharedLocations {
    /// Location of the configuration.
    pub configuration: String,
    /// Location of the grid directory.
    pub grid: String,
    /// Location of the metadata directory.
    pub metadata: String,
    /// Location of the mapping factors, for granules on the longitude-latitude grid.
    pub factors: Option<String>,
}

/// Loads the texts that recipes share. Also returns the digest of the configuration, and warnings about the texts.
///
/// # Errors
/// Returns an error if a part is missing, cannot be read, or has content that cannot be used.
pub fn load_texts(
    configuration: &str,
    metadata: &str,
    stores: &Stores,
) -> Result<(Texts, Digest, Vec<Warning>), ResourceError> {
    let bytes = load::read(&configuration.parse()?, stores)?;
    let (configuration, mut warnings) = Configuration::parse(configuration, &bytes)?;
    let directory = load::directory(metadata, stores)?;
    let (metadata, of_metadata) = Metadata::load(&directory)?;
    let (podaac, of_table) = load::load_table(&directory, &configuration, &VerifiedFiles::default())?;
    warnings.extend(of_metadata.into_iter().chain(of_table));
    Ok((Texts { configuration, metadata, podaac }, Digest::of(&bytes), warnings))
}

/// The things that recipes share: the content of the texts, which a plan needs, and the digests of all.
#[derive(Debug)]
pub struct SharedInputs {
    /// Locations of the resources, as the user wrote them.
    pub locations: SharedLocations,
    /// The content of the configuration.
    pub configuration: Configuration,
    /// The content of the metadata directory.
    pub metadata: Metadata,
    /// The PO.DAAC table that the configuration names.
    pub podaac: Table,
    /// Digests of the configuration, the metadata, the grid and the factors.
    pub digests: Digests,
}

impl SharedInputs {
    /// Loads what recipes share. Also returns warnings about it.
    ///
    /// # Errors
    /// Returns an error if a part is missing, cannot be read, or has content that cannot be used.
    pub fn load(locations: SharedLocations, stores: &Stores) -> Result<(SharedInputs, Vec<Warning>), ResourceError> {
        let (texts, configuration_digest, warnings) =
            load_texts(&locations.configuration, &locations.metadata, stores)?;
        let Texts { configuration, metadata, podaac } = texts;
        let factors = locations.factors.as_deref().map(|factors| load::factors_digest(factors, stores));
        let digests = Digests {
            configuration: configuration_digest,
            metadata: load::metadata_digest(&locations.metadata, stores)?,
            grid: load::grid_digest(&locations.grid, stores)?,
            factors: factors.transpose()?,
        };
        Ok((SharedInputs { locations, configuration, metadata, podaac, digests }, warnings))
    }

    /// Returns the units of time in the metadata.
    pub fn edp_time_units(&self) -> Option<&str> {
        self.metadata.time_coordinates.find("time").and_then(|entry| entry.text("units"))
    }
}
