//! Plans a production and drives it to its end.

pub mod demo;
pub mod plan;
pub mod production;
pub mod verify;
