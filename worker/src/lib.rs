//! One recipe in, one granule out.
//!
//! [`mds`], [`grid`], [`mapping`], [`metadata`] and [`granule`] are plain synchronous code without
//! runtime, broker or network; [`resources`] keeps what recipes share, [`service`] runs the job slots.

pub mod granule;
pub mod grid;
pub mod look;
pub mod mapping;
pub mod mds;
pub mod metadata;
pub mod resources;
pub mod service;
