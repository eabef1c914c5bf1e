//! What coordinator and workers must do alike: the recipe and its identity, times and granule names,
//! where things are stored and how a finished granule is committed, settings and logging.
//!
//! Nothing here computes on ocean data; see the worker crate for that.

pub mod calendar;
pub mod complete;
pub mod digest;
pub mod location;
pub mod message;
pub mod name;
pub mod queue;
pub mod recipe;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod vocabulary;
pub mod wire;

pub use digest::Digest;
pub use location::Location;
pub use recipe::Recipe;
pub use vocabulary::{Frequency, GridKind, Mode};
