//! Granules: they are assembled, compressed, written and checked.
//!
//! ```text
//!  inputs ──▶ field ──▶ slab_pipeline ──▶ file ──▶ gate
//!  (opened,   (masked,  (several slabs    (netCDF  (the closed file
//!   compared)  rotated,  of levels in      defines, against its
//!              regridded, flight)          chunks   content)
//!              checked)                    as made)
//! ```
//!
//! [`make`] runs all of this for one recipe; [`inspect`] checks a granule that exists, [`compare`] compares
//! two; [`ranges`] computes values
//! without writing a file.

pub mod annotate;
mod assembly;
pub mod blocks;
mod cancellable_reader;
pub mod chunk_shapes;
pub mod chunks;
pub mod compare;
pub mod content;
pub mod coordinates;
pub mod error;
mod fetching;
pub mod field;
mod field_error;
pub mod file;
pub mod gate;
mod holes;
mod inputs;
pub mod inspect;
pub(crate) mod inspected;
mod invariant;
mod invariant_input;
pub mod kinds;
mod levels;
pub mod make;
mod mean_file;
mod means;
mod ordered_steps;
mod output_value;
pub mod projection;
pub mod ranges;
mod records;
mod remote;
pub mod rotation;
mod route;
mod series;
mod series_times;
pub(crate) mod skeletons;
mod slab_pipeline;
pub mod source;
pub mod stages;
pub(crate) mod static_coordinates;
pub mod stored;
mod sums;
pub mod time;
mod valid_range;
