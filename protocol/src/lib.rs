//! What coordinator and workers must do alike: the recipe and its identity, times, granule names and locations, and what
//! is in the messages between them.
//!
//! Nothing here reads or writes anything, and nothing computes on ocean data.

pub mod calendar;
pub mod digest;
pub mod location;
pub mod message;
pub mod name;
pub mod recipe;
pub mod text;
pub mod vocabulary;
pub mod wire;

pub use digest::Digest;
pub use location::Location;
pub use recipe::Recipe;
pub use vocabulary::{Frequency, GridKind, Mode};
