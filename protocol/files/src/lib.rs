//! Access to files of this machine for programs that do not trust those who name the files.
//!
//! * [`Files`] opens, lists and inspects what recipes name: everything, or only what lies beneath given directories
//!   ([`rooted`]). A [`PathHandle`] is an open file or directory, with a path to it for libraries that take paths.
//! * [`commit`] writes a granule beside its target, and gives it the target's name in one step, once.
//! * [`output`] writes a file that a user has named.
//! * [`regular`] opens regular files, and does not wait for a FIFO or device that may be in their place.
//! * [`ReadAt`] is anything that can be read at any offset: a file, bytes in memory, an object of a store.
//! * [`Stamp`] tells whether a file has changed.
//! * [`at_once`] works on many files in several threads.
//!
//! A granule is committed like this:
//!
//! ```
//! use edp_files::Files;
//! use edp_files::commit::{Committed, PartialFile};
//!
//! let directory = tempfile::tempdir()?;
//! let target = directory.path().join("granule.nc");
//! let partial = PartialFile::new(&target, "worker-1", &Files::default())?;
//! partial.check_commit()?;
//! std::fs::write(partial.path(), b"...")?;
//! assert!(!target.exists());
//! assert_eq!(partial.commit(false)?, Committed::New);
//! assert!(target.exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing here depends on the content of a file, and nothing uses the network.

pub mod at_once;
pub mod commit;
mod files;
pub mod output;
mod read_at;
pub mod regular;
pub mod rooted;
mod stamp;

pub use files::{Files, PathHandle};
pub use read_at::ReadAt;
pub use stamp::Stamp;
