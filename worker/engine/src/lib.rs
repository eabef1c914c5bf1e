//! The engine: a recipe and its inputs in, one checked granule out.
//!
//! Everything here is synchronous code without a runtime and without a broker. [`mds`] reads the model's output,
//! [`grid`] and [`mapping`] hold the geometry and the weights onto regular grids, [`metadata`] holds the descriptions,
//! and [`granule`] makes and inspects granules. [`resources`] keeps what many recipes share. [`reader`] reads NetCDF files
//! that may be damaged or hostile in a process of its own.

#[cfg(all(feature = "static", feature = "system-libraries"))]
compile_error!("`system-libraries` excludes `static`, which is a default feature: add --no-default-features");
#[cfg(not(any(feature = "static", feature = "system-libraries")))]
compile_error!("choose where netCDF-C and HDF5 come from: --features static, or --features system-libraries");

mod cancel;
pub mod digest_cache;
pub mod granule;
pub mod grid;
pub mod libraries;
pub mod mapping;
pub mod mds;
pub mod metadata;
pub mod reader;
pub mod resources;
pub mod verified_files;
