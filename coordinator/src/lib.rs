//! Plans a production and drives it to its end.

pub mod demo;
