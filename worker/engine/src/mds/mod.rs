//! MITgcm output: `.meta` headers, `.data` arrays, and the compact LLC layout.

mod byte_order;
pub mod compact;
mod data;
mod error;
mod grammar;
mod header;
mod pieces;
mod plane;
#[cfg(test)]
mod real_data_tests;

pub use data::MdsFile;
pub use error::MdsError;
pub use header::{ArrayPiece, FieldLocation, Header, MAX_HEADER, PartOfLevels, Precision, is_field};
pub(crate) use pieces::describe_gaps;
pub use pieces::{PiecedArray, UncoveredCells};
pub use plane::Plane;
