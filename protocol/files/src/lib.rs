//! Files of this machine, as a program may use them that does not trust who names them.
//!
//! * [`Files`] opens, lists and looks at what recipes name: everything, or only what lies beneath some directories
//!   ([`rooted`]). A [`PathHandle`] is a file or directory that is held open, with a path to it for libraries that take paths.
//! * [`commit`] writes a granule beside its target and makes it the target in one step, once.
//! * [`output`] writes a file that a user named.
//! * [`regular`] opens regular files without waiting for what may stand in their place.
//! * [`ReadAt`] is whatever can be read at any offset: a file, bytes in memory, an object that is on its way.
//! * [`Stamp`] tells whether a file is still what it was.
//!
//! Nothing here knows what is in a file, and nothing reaches the network.

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
