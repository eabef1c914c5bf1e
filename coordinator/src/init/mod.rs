//! A production from a modeller's own run: configuration, metadata and settings from what MITgcm leaves in its run
//! directory.
//!
//! ```text
//!  data, data.cal, data.diagnostics ──▶ namelist ──┐
//!  headers of results and grid ────────────────────┴─▶ model_run ──┐
//!  available_diagnostics.log ──▶ edp-engine ─────────▶ descriptions ┴─▶ texts ──▶ production
//!  grid files ──▶ edp-engine ──▶ geometry, mapping factors ──────────────────────────▲
//! ```

mod descriptions;
mod model_run;
pub mod namelist;
mod production;
mod texts;
mod units;

pub use model_run::{GivenParameters, RunError};
pub use production::{CreatedProduction, InitError, NewProduction};
