//! The main job with nothing at hand.
mod bathymetry;
mod coast;
mod geometry;
mod sphere;
mod topology;
