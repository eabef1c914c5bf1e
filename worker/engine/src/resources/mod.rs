//! The resources that recipes share: configuration, metadata, grid and mapping factors, loaded once per process.
//!
//! The [`Cache`] finds a resource by the digest of its content, which is stated in the recipe, so it does not matter
//! under which of its names a recipe refers to it. The amount that is kept is bounded, and so is the memory of each
//! resource, which is calculated from its shape before it is read. If the content of files was read and refused, a
//! verdict on these very files is kept; if it could not be read, nothing is kept.

mod cache;
mod error;
mod load;
mod load_once;
mod shared;
mod verdicts;

pub use cache::{Cache, MEMORY};
pub use error::ResourceError;
pub use load::{configuration_digest, factors_digest, grid_digest, metadata_digest, read, read_list};
pub use shared::{SharedInputs, SharedLocations, load_texts};

use crate::granule::skeletons::Skeletons;
use crate::granule::static_coordinates::StaticCoordinates;
use crate::grid::{Diagnostics, GridError, Latlon, LevelSet, Mask, Native};
use crate::mapping::{Factors, Level, MappingError};
use crate::metadata::configuration::Configuration;
use crate::metadata::podaac::Table;
use crate::metadata::source::Metadata;
use crate::verified_files::VerifiedFiles;
use edp_store::Mirror;
use load_once::LoadOnce;
use std::borrow::Cow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

/// Number of cells of a level above which a grid is large: between LLC270 and LLC1080.
const LARGE_PLANE: usize = 1 << 21;

/// The configuration and the metadata, with the table that the configuration selects.
#[derive(Debug)]
pub struct Texts {
    /// The configuration of the model and its products.
    pub configuration: Configuration,
    /// The content of the metadata directory.
    pub metadata: Metadata,
    /// The PO.DAAC table that the configuration names.
    pub podaac: Table,
}

/// The model grid and the quantities that are derived from it once.
#[derive(Debug)]
pub struct ModelGrid {
    /// The directory of the grid, and its open files.
    directory: Mirror,
    verified: Arc<VerifiedFiles>,
    /// The native geometry of the model.
    pub native: Native,
    /// The places of the model's diagnostics; empty if the directory has no list.
    pub diagnostics: Diagnostics,
    /// The static coordinates in the form in which they are written.
    pub statics: StaticCoordinates,
    /// The beginnings of files of granules.
    pub(crate) skeletons: Skeletons,
    positions: Vec<OnceLock<Vec<u32>>>,
    corners: OnceLock<Mask>,
    overrides: LoadOnce<String, Arc<Mask>, ResourceError>,
}

impl ModelGrid {
    /// Returns the result of [`Native::mask_z`], computed at the first call.
    pub(crate) fn mask_z(&self) -> &Mask {
        self.corners.get_or_init(|| self.native.mask_z())
    }

    /// Returns the result of [`Native::read_mask`], read at the first call.
    ///
    /// # Errors
    /// Returns an error if the native geometry has no such mask, if it cannot be read, or if `cancel` was set.
    pub(crate) fn named_mask(&self, name: &str, cancel: &AtomicBool) -> Result<Arc<Mask>, ResourceError> {
        let read = || load::confirmed(&self.verified, cancel, || self.native.read_mask(name)).map(Arc::new);
        self.overrides.get(&name.to_owned(), cancel, read).map_err(ResourceError::from)
    }

    /// Reads something of the grid's files again; see [`load::confirmed`].
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    pub(crate) fn confirmed<T>(&self, read: impl Fn(&Native) -> Result<T, GridError>) -> Result<T, ResourceError> {
        load::confirmed(&self.verified, &AtomicBool::new(false), || read(&self.native))
    }

    /// Returns true if the grid is so large that what belongs to a level is not kept.
    pub(crate) fn is_large(&self) -> bool {
        self.native.plane() > LARGE_PLANE
    }

    /// Returns the approximate number of bytes of memory that the grid takes.
    fn bytes(&self) -> usize {
        let positions = self.positions.iter().filter_map(OnceLock::get).map(|positions| size_of_val(&positions[..]));
        let corners = self.corners.get().map_or(0, Mask::bytes);
        self.native.bytes() + positions.sum::<usize>() + corners
    }

    /// Returns the result of [`Native::wet_positions`] for a level, computed at the first call, or at each for a large
    /// grid.
    fn wet_positions(&self, k: usize) -> Cow<'_, [u32]> {
        match self.positions.get(k) {
            Some(_) if self.is_large() => Cow::Owned(self.native.wet_positions(k)),
            Some(positions) => Cow::Borrowed(positions.get_or_init(|| self.native.wet_positions(k))),
            None => Cow::Borrowed(&[]),
        }
    }
}

/// The latlon grid and the weights for regridding to it.
#[derive(Debug)]
pub struct Target {
    /// The axes of the latlon grid.
    pub latlon: Latlon,
    /// The weights from the native grid.
    pub factors: Factors,
    /// The directory of the weights, which is kept as long as they are read.
    _directory: Mirror,
}

impl Target {
    /// Returns true if the target grid is so large that the weights of all levels should not be in memory at once.
    pub(crate) fn is_large(&self) -> bool {
        self.factors.shape().0 * self.factors.shape().1 > LARGE_PLANE
    }
}

/// All resources that one recipe needs in addition to its inputs.
#[derive(Debug, Clone)]
pub struct Resources {
    /// The configuration and the metadata.
    pub texts: Arc<Texts>,
    /// The model grid and its derived quantities.
    pub grid: Arc<ModelGrid>,
    /// The target grid, for latlon granules.
    pub target: Option<Arc<Target>>,
}

impl Resources {
    /// Returns all levels of the grid of the granule.
    pub fn levels(&self) -> LevelSet {
        LevelSet::uppermost(self.target.as_ref().map_or(self.grid.native.levels, |target| target.latlon.z.len()))
    }

    /// Returns the weights and the land mask of a level, loaded at the first call.
    ///
    /// # Errors
    /// Returns an error if the factors of the level cannot be read or do not fit the grid.
    pub fn level(&self, target: &Target, k: usize) -> Result<Arc<Level>, MappingError> {
        target.factors.level(k, &self.grid.wet_positions(k))
    }
}
