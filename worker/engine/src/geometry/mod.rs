//! Geometry files: the native and the latlon grid as NetCDF, from the grid files of a model run.
//!
//! [`native`] takes everything from [`ModelFiles`]: positions, lengths, areas, angles, open fractions and masks.
//! [`latlon`] brings depths and open fractions onto a regular grid by mapping factors. Both give a
//! [`GranuleContent`](crate::granule::content::GranuleContent) that is ready to be written, with the layout of the files
//! that ECCO publishes. Attributes are those of a metadata directory, else short ones of this module; with a configuration
//! beside them, [`GeometryDescription`] gives the file the global attributes that granules have.

mod angles;
mod columns;
mod corners;
mod describe;
mod globals;
mod latlon;
mod levels;
mod native;

pub use globals::GeometryDescription;
pub use latlon::latlon;
pub use native::{CellGeometry, native};

use crate::codec::{Codec, CodecError, Compressor};
use crate::grid::GridError;
use crate::mapping::MappingError;

/// The compression of data variables in the geometry files that ECCO publishes.
const CODEC: Codec = Codec { compressor: Compressor::Deflate(5), shuffle: true };
/// The fill value of single precision.
const FILL: f32 = 9.969_21e36;
/// The fill value of double precision.
const FILL_DOUBLE: f64 = 9.969_209_968_386_869e36;

/// The reason why a geometry file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GeometryFileError {
    /// The model's grid files cannot be used.
    #[error(transparent)]
    Grid(#[from] GridError),
    /// The mapping factors cannot be used.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// Numbers could not be compressed.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The factors have another number of levels than the grid.
    #[error(
        "the mapping factors have {factors} levels, and the grid has {grid}: factors and grid do not belong together"
    )]
    Levels {
        /// Levels of the factors.
        factors: usize,
        /// Levels of the grid.
        grid: usize,
    },
}

#[cfg(test)]
mod tests;
