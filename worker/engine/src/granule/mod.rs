//! Granules: assembled, compressed, written, checked.

pub mod chunks;
pub mod codec;
pub mod coordinates;
pub mod dataset;
pub mod error;
pub mod field;
pub mod file;
pub mod gate;
pub mod inflate;
mod inputs;
pub mod inspect;
mod lanes;
pub mod make;
mod pipeline;
pub mod ranges;
mod remote;
pub mod rotation;
pub mod stages;
mod sums;
pub mod time;
mod valid_range;
