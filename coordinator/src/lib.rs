//! Plans a production and drives it to its end.

pub mod demo;
pub mod destination;
pub mod plan;
pub mod production;
pub mod ranges;
pub mod verify;
