//! What recipes share: configuration, metadata, grid and mapping factors, loaded once per process.
//!
//! The [`Cache`] knows a resource by the digest of its content, which the recipe states, so that it does not matter under
//! which of its names a recipe finds it. How much is kept is bounded, and so is what a resource may take, by its shape,
//! before it is read. What was read and refused is remembered as a
//! verdict on those very files; what could not be read is not remembered at all.

mod cache;
mod error;
mod load;
mod load_once;
mod verdicts;

pub use cache::{Cache, MEMORY};
pub use error::ResourceError;
pub use load::{
    codec, configuration_digest, directory, factors_digest, grid_digest, load_table, metadata_digest, read, read_list,
};

use crate::granule::coordinates::Static;
use crate::grid::{Diagnostics, Latlon, Mask, Native};
use crate::mapping::{Factors, Level, MappingError};
use crate::metadata::configuration::Configuration;
use crate::metadata::podaac::Table;
use crate::metadata::source::Metadata;
use crate::verified_files::VerifiedFiles;
use edp_store::Mirror;
use load_once::LoadOnce;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

/// Configuration with the metadata that it selects a table of.
#[derive(Debug)]
pub struct Texts {
    /// The configuration.
    pub configuration: Configuration,
    /// The metadata directory.
    pub metadata: Metadata,
    /// The PO.DAAC table that the configuration names.
    pub podaac: Table,
}

/// The model grid and what is derived from it once.
#[derive(Debug)]
pub struct ModelGrid {
    /// Where its files are, and they themselves.
    directory: Mirror,
    verified: Arc<VerifiedFiles>,
    /// The native geometry.
    pub native: Native,
    /// Places of the model's diagnostics; empty if the directory has no list.
    pub diagnostics: Diagnostics,
    /// Static coordinates, ready to be written.
    pub statics: Static,
    positions: Vec<OnceLock<Vec<u32>>>,
    corners: OnceLock<Mask>,
    overrides: LoadOnce<String, Arc<Mask>, ResourceError>,
}

impl ModelGrid {
    /// [`Native::mask_z`], found at the first call.
    pub fn mask_z(&self) -> &Mask {
        self.corners.get_or_init(|| self.native.mask_z())
    }

    /// [`Native::read_mask`], read at the first call.
    ///
    /// # Errors
    /// The native geometry has no such mask, it cannot be read, or `cancel` was set.
    pub fn named_mask(&self, name: &str, cancel: &AtomicBool) -> Result<Arc<Mask>, ResourceError> {
        let read = || load::confirmed(&self.verified, cancel, || self.native.read_mask(name)).map(Arc::new);
        self.overrides.get(&name.to_owned(), cancel, read).map_err(ResourceError::from)
    }

    /// Bytes of memory that it takes, about.
    fn bytes(&self) -> usize {
        let positions = self.positions.iter().filter_map(OnceLock::get).map(|positions| size_of_val(&positions[..]));
        let corners = self.corners.get().map_or(0, Mask::bytes);
        self.native.bytes() + positions.sum::<usize>() + corners
    }

    /// [`Native::wet_positions`] of a level, found at the first call.
    fn wet_positions(&self, k: usize) -> &[u32] {
        match self.positions.get(k) {
            Some(positions) => positions.get_or_init(|| self.native.wet_positions(k)),
            None => &[],
        }
    }
}

/// The regular grid and the weights onto it.
#[derive(Debug)]
pub struct Target {
    /// Its axes.
    pub latlon: Latlon,
    /// The weights.
    pub factors: Factors,
    /// Where they are read from.
    _directory: Mirror,
}

/// Everything that one recipe needs besides its inputs.
#[derive(Debug, Clone)]
pub struct Resources {
    /// Configuration and metadata.
    pub texts: Arc<Texts>,
    /// The model grid.
    pub grid: Arc<ModelGrid>,
    /// The target grid, for latlon granules.
    pub target: Option<Arc<Target>>,
}

impl Resources {
    /// Weights and land mask of a level, loaded at the first call.
    ///
    /// # Errors
    /// The factors of the level cannot be read or do not fit the grid.
    pub fn level(&self, target: &Target, k: usize) -> Result<Arc<Level>, MappingError> {
        target.factors.level(k, self.grid.wet_positions(k))
    }
}
