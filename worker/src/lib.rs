//! One recipe in, one granule out.
//!
//! [`mds`], [`grid`], [`mapping`], [`metadata`] and [`granule`] are plain synchronous code without
//! runtime, broker or network.

pub mod grid;
pub mod look;
pub mod mapping;
pub mod mds;
pub mod metadata;
