//! Planning of a production: which granules can be made of a model run, and their recipes.
//!
//! ```text
//!  job file or selection ──┐
//!  metadata (groupings) ───┼──▶ plan::plan ──▶ recipes ──▶ edp-production
//!  results on disk or S3 ──┘        ▲
//!      (plan::inventory)            └── ranges: limits of whole collections, if they are asked for
//! ```
//!
//! * [`init`] describes a modeller's own run, so that it can be planned.
//! * [`lint`] checks configuration, metadata and the archive's table before anything is planned from them.
//! * [`plan`] makes recipes from what is asked for and what exists.
//! * [`follow`] adds recipes to a production while the model is still running.
//! * [`ranges`] computes the ranges of whole collections for the attributes `valid_min` and `valid_max`.
//! * [`tasks`] takes task lists apart, and writes job files from groupings.
//!
//! `edp-demo` makes up a small ocean, with everything that a production reads.
//!
//! Driving a production to its end is the task of `edp-production`; the commands of this program connect the two.

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod demo_plan;
pub mod follow;
pub mod init;
pub mod lint;
mod pass;
pub mod plan;
pub mod ranges;
pub mod tasks;
pub mod values;
