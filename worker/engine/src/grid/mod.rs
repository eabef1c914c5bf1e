//! The model's grid: native and latlon geometry, masks, and the list of diagnostics.
//!
//! Horizontal arrays are in tile order (tile, j, i), of which the last dimension varies fastest, with 13 tiles of N by
//! N cells.

mod diagnostics;
mod directory;
mod edges;
mod error;
mod geometry;
mod latlon;
mod mask;
mod mitgrid;
mod model_files;
mod native;
mod native_cells;
mod point;
pub mod topology;

pub use crate::level_set::LevelSet;
pub(crate) use crate::level_set::MAX_LEVELS;
pub use diagnostics::{DIAGNOSTICS_FILE, Diagnostics, DiagnosticsError};
pub use directory::{diagnostics, files, largest};
pub use edges::EdgePoints;
pub use error::GridError;
pub use latlon::Latlon;
pub use mask::Mask;
pub use model_files::ModelFiles;
pub use native::Native;
pub use native_cells::NativeCells;
pub use point::{HorizontalPoint, Placement, VerticalPoint};

/// Largest number of cells along the side of a tile that is accepted. LLC4320 is the largest grid in use.
pub(crate) const MAX_N: usize = 8640;
