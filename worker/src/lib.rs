//! One recipe in, one granule out.
//!
//! [`mds`], [`grid`], [`mapping`], [`metadata`] and [`granule`] are plain synchronous code without
//! runtime, broker or network; [`resources`] keeps what recipes share, [`service`] runs the job slots, [`batch`] takes
//! a whole list through them. [`tasks`] reads lists, [`console`] is how people see and stop it all, [`notice`] how the
//! machine under it does.

pub mod batch;
pub mod console;
pub mod granule;
pub mod grid;
pub mod hashed;
pub mod held;
pub mod look;
pub mod mapping;
pub mod mds;
pub mod metadata;
pub mod notice;
pub mod resources;
pub mod service;
pub mod tasks;
