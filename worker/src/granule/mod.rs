//! Granules: assembled, compressed, written, checked.

pub mod chunks;
pub mod codec;
pub mod dataset;
pub mod file;
pub mod gate;
