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
//! The `write_` functions write the same files, which Python reads like EDP's own.
//!
//! Factors may also be NetCDF: `mapping_factors.nc` with all levels, or one file `weights_<k>.nc` for each level in the form
//! of ESMF's tools (`row`, `col`, `S`). [`Factors`] reads all three forms, and [`create`] makes them.

pub mod create;
mod error;
mod factors;
mod level;
mod netcdf_read;
mod netcdf_write;
mod npy;
mod npz;
pub mod pickle;
mod pickle_write;
mod real;
mod write;
mod write_set;
mod xz;

pub use error::MappingError;
pub use factors::{Factors, existing, files, largest};
pub use level::Level;
pub use netcdf_write::{FactorOrigin, write_esmf, write_netcdf};
pub use npz::check_matrix;
pub use real::Real;
pub use write::{MatrixWeights, TargetGrid, write_land_mask, write_latlon_grid, write_matrix};
pub use write_set::{FactorsSummary, MakeFactorsError, write_edp};
pub use xz::unpack_pickle;

use std::path::{Path, PathBuf};

/// Largest number of cells of a target grid (enough for 1/64 degree).
pub(crate) const MAX_CELLS: usize = 1 << 28;
/// Largest number of levels of a target grid.
const MAX_LEVELS: usize = 4096;
/// Name of the file with all levels.
pub(crate) const NETCDF_NAME: &str = "mapping_factors.nc";
/// The attribute by which that file states its form.
const NETCDF_FORM: &str = "edp-factors-1";

/// Returns the path of the file with the weights of a level in the form of ESMF's tools.
fn esmf_file(dir: &Path, k: usize) -> PathBuf {
    dir.join(format!("weights_{k}.nc"))
}
