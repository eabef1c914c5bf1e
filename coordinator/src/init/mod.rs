//! A production from a modeller's own run: configuration, metadata and settings from what MITgcm leaves in its run
//! directory.
//!
//! ```text
//!  data, data.cal, data.diagnostics ──▶ namelist ──┐
//!  headers of results and grid ────────────────────┴─▶ model_run ──┐
//!  available_diagnostics.log ──▶ edp-engine ─────────▶ descriptions ┴─▶ texts
//! ```
//!
//! Geometry and mapping factors are made by `edp-engine` from the grid files of the run.

mod descriptions;
pub mod model_run;
pub mod namelist;
pub mod texts;
mod units;

pub use descriptions::{RunMetadata, describe};
