//! The engine: it makes one checked granule from a recipe and its inputs.
//!
//! ```text
//!  recipe ──▶ granule::make ──────────────▶ one NetCDF file
//!               │   │   │
//!               │   │   └── metadata          attributes of file and variables
//!               │   └────── mds               the model's output
//!               └────────── resources         what many recipes share, loaded once:
//!                            ├── grid          positions, masks, angles of the native and the latlon grid
//!                            ├── mapping       weights from the native to the latlon grid
//!                            └── metadata      configuration, groupings, the archive's table
//! ```
//!
//! All of it is synchronous code without an asynchronous runtime, and without a network: inputs are files, or objects
//! that a store of the caller reads.
//!
//! * [`granule`] makes granules and inspects existing ones.
//! * [`mds`] reads the model's output, [`grid`] and [`mapping`] have the geometry and the weights, [`metadata`] the
//!   attributes.
//! * [`resources`] keeps what many recipes share, within a limit of memory, and [`shared_objects`] the objects on S3 that
//!   the recipes of a group read. [`verified_files`] and [`digest_cache`] tie
//!   what is read to its digest.
//! * [`reader`] reads NetCDF files that may be damaged or hostile, in a helper process.
//! * [`own_process`] starts this program again, as that helper process or to make granules.
//! * [`libraries`] sets up netCDF-C and HDF5, and has the fingerprint of what decides the bytes of granules.
//!
//! The model stores its 13 tiles in a compact layout:
//!
//! ```
//! use edp_engine::mds::compact;
//!
//! let n = 2;
//! let compact_plane: Vec<usize> = (0..compact::TILES * n * n).collect();
//! let mut tiles = vec![0; compact_plane.len()];
//! compact::to_tiles(n, &compact_plane, &mut tiles);
//! // Tile 7, row 1: the rows of tiles 7, 8 and 9 alternate.
//! assert_eq!(tiles[(7 * n + 1) * n], compact::row(n, 7, 1) * n);
//! ```

#[cfg(all(feature = "static", feature = "system-libraries"))]
compile_error!("`system-libraries` excludes `static`, which is a default feature: add --no-default-features");
#[cfg(not(any(feature = "static", feature = "system-libraries")))]
compile_error!("choose where netCDF-C and HDF5 come from: --features static, or --features system-libraries");

mod cancel;
pub mod codec;
pub mod digest_cache;
pub mod geometry;
pub mod granule;
pub mod granule_locks;
pub mod grid;
mod level_set;
pub mod libraries;
pub mod mapping;
pub mod mds;
pub mod metadata;
pub mod own_process;
pub mod reader;
#[cfg(test)]
mod real_data;
pub mod resources;
pub mod shared_objects;
pub mod verified_files;
