//! MITgcm output: `.meta` headers, `.data` arrays, the compact LLC layout.

pub mod compact;
mod data;
mod error;
mod grammar;
mod header;

pub use data::{MdsFile, Plane};
pub use error::MdsError;
pub use header::{Header, MAX_HEADER, Precision};
