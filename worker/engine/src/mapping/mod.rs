//! Mapping factors: the weights from the native grid to the latlon grid, in the file formats of EDP.
//!
//! A set of *factors* is a directory:
//!
//! ```text
//! latlon_grid/latlon_grid.xz                  the target grid: bounds, centres, depth bounds
//! land_mask/ecco_latlon_land_mask_<k>.xz      which target cells are land at level k
//! sparse/sparse_matrix_<k>.npz                the weights of level k
//! ```
//!
//! [`Factors`] opens it, and loads a [`Level`] when it is first asked for. A level regrids one plane of a field:
//!
//! ```text
//! out[m] = sum over the sources s of m, ascending: weight(m, s) * plane[s]      m = lat * nlon + lon
//! ```
//!
//! The `.xz` files are Python pickles. Python's own reader would run any code that such a file asks for; [`pickle`]
//! reads them without calling anything. All files are treated as untrusted: every size in them is checked before it is
//! used.
//!
//! The `write_` functions write the same three kinds of files, which Python reads like EDP's own.

mod error;
mod factors;
mod level;
mod npy;
mod npz;
pub mod pickle;
mod pickle_write;
mod real;
mod write;
mod xz;

pub use error::MappingError;
pub use factors::{Factors, files, largest};
pub use level::Level;
pub use npz::check_matrix;
pub use real::Real;
pub use write::{MatrixWeights, TargetGrid, write_land_mask, write_latlon_grid, write_matrix};
pub use xz::unpack_pickle;
