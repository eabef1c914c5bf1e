//! The way of a field from the native grid to that of the granule.

use super::projection::Directions;
use crate::grid::Mask;
use crate::mapping::Level;
use std::sync::Arc;

/// The grid on which a field is written, with what is needed to bring it there.
pub enum Route<'a> {
    /// The native tiles. The field is masked level by level; a mask of one level serves all levels.
    Native(&'a Mask),
    /// The regular grid, with the weights of each level.
    Latlon {
        /// Weights and land of each level that the field has.
        levels: Vec<Arc<Level>>,
        /// Numbers of rows and columns of the target grid.
        shape: [usize; 2],
        /// True if wet target cells that no source covers become zero, as EDP has them, instead of fill.
        uncovered_zero: bool,
        /// Directions at the target cells, for vectors that are mapped in Cartesian components.
        directions: Option<Directions>,
    },
}
