//! Plans a production; [`demo`] makes one up. Driving it to its end is the part of `edp-production`.

pub mod demo;
pub mod plan;
pub mod ranges;
