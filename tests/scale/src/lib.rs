//! A simulation of productions that are larger than those that could be measured: all of Release 6 with up to 5,000 job
//! slots, from the costs that were measured for one granule, the documented limits of S3, and what the coordinator and
//! the workers do with a recipe.
//!
//! [`SimulatedProduction::run`] gives [`Measurements`]. [`page`] makes the tables and the plots of `doc/scale.md` of
//! them, which the program `edp-scale` writes; it also answers what other figures would give.

mod cases;
mod ceilings;
mod costs;
mod measurements;
mod pages;
mod plots;
mod random;
mod release;
mod resources;
mod simulation;

pub use ceilings::{Ceiling, ReleaseMeans, ceilings, verification};
pub use costs::{Costs, Figure, FigureSource};
pub use measurements::Measurements;
pub use pages::{ScalePage, filled, page};
pub use release::{ListOrder, TaskKind};
pub use simulation::SimulatedProduction;
