//! The way of a field from the native grid to that of the granule.

use super::projection::Directions;
use crate::grid::Mask;
use crate::mapping::{Level, MappingError};
use std::sync::Arc;

/// Returns weights and land of a level of a field, counted from 0. They need not be in memory before.
pub(super) type WeightsOfLevels<'a> = Box<dyn Fn(usize) -> Result<Arc<Level>, MappingError> + Send + Sync + 'a>;

/// The grid on which a field is written, with what is needed to bring it there.
pub enum Route<'a> {
    /// The native tiles. The field is masked level by level; a mask of one level serves all levels.
    Native(&'a Mask),
    /// The regular grid, with the weights of each level.
    Latlon {
        /// Weights and land of each level that the field has.
        levels: WeightsOfLevels<'a>,
        /// Numbers of rows and columns of the target grid.
        shape: [usize; 2],
        /// True if wet target cells that no source covers become zero, as EDP has them, instead of fill.
        uncovered_zero: bool,
        /// Directions at the target cells, for vectors that are mapped in Cartesian components.
        directions: Option<Directions>,
    },
}

impl Route<'_> {
    /// Returns the number of bytes that a thread takes for the weights of a level while they are loaded, without the
    /// weights: places and numbers of the wet cells of a `plane`.
    pub(crate) fn memory(&self, plane: usize) -> u64 {
        match self {
            Route::Native(_) => 0,
            Route::Latlon { .. } => 16 * plane as u64,
        }
    }
}
