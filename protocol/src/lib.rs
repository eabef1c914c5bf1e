//! The terms on which the coordinator and its workers agree: recipes and their identity, names of granules, times,
//! locations, digests, and the messages on the queues.
//!
//! A [`Recipe`] states everything that decides one granule. Its id is the SHA-256 of that, so that every program can
//! tell whose granule stands at a destination. The coordinator sends the recipe in a task message, and a worker answers
//! with outcomes:
//!
//! ```text
//! coordinator ── TaskMessage { recipe, attempt, ... } ──▶ worker
//!             ◀── Outcome { event: Started } ───────────
//!             ◀── Outcome { event: Done | Failed } ─────
//! ```
//!
//! | module | what it has |
//! |---|---|
//! | [`recipe`] | recipes, task lists, and the id of a recipe |
//! | [`name`] | names of granules and of the model's result files |
//! | [`calendar`] | the period of a model step, dates and units of time |
//! | [`location`] | local paths and S3 prefixes |
//! | [`digest`] | SHA-256 digests |
//! | [`message`], [`wire`] | kinds of failure, task messages, outcomes, and their encoding |
//! | [`text`] | text from outside, made safe to show |
//! | [`text_hash`] | hashes by which very many texts are compared |
//! | [`vocabulary`] | kind of grid, frequency and mode |
//!
//! Nothing here opens a file for its content or a connection, and nothing computes on ocean data.
//!
//! ```
//! use edp_protocol::name::GranuleName;
//! use edp_protocol::{Frequency, GridKind};
//!
//! let name = GranuleName::parse("SEA_SURFACE_HEIGHT_mon_mean_1992-01_ECCO_V4r4_latlon_0p50deg.nc")?;
//! assert_eq!((name.frequency, name.grid), (Frequency::Month, GridKind::Latlon));
//! assert_eq!(name.path(), format!("V4r4/latlon/mon_mean/SEA_SURFACE_HEIGHT/{name}"));
//! # Ok::<(), edp_protocol::name::NameError>(())
//! ```

pub mod calendar;
pub mod compression;
pub mod digest;
pub mod location;
pub mod message;
pub mod name;
pub mod recipe;
pub mod setting;
pub mod text;
pub mod text_hash;
pub mod vocabulary;
pub mod wire;

pub use compression::{ChunkShapes, FieldEncoder};
pub use digest::Digest;
pub use location::{Location, ObjectAddress};
pub use recipe::Recipe;
pub use vocabulary::{Frequency, GridKind, Mode};
