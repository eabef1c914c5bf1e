//! Granules: assembled, compressed, written, checked.

pub mod chunks;
pub mod codec;
pub mod content;
pub mod coordinates;
pub mod error;
pub mod field;
pub mod file;
pub mod gate;
mod holes;
pub mod inflate;
mod inputs;
pub mod inspect;
pub mod make;
mod ordered_steps;
pub mod projection;
pub mod ranges;
mod records;
mod remote;
pub mod rotation;
mod slab_pipeline;
pub mod source;
pub mod stages;
mod sums;
pub mod time;
mod valid_range;
