//! What can be wrong with mapping factors.

use std::io;
use std::path::PathBuf;

use super::pickle::PickleError;

/// An error while reading, writing or applying mapping factors.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// The file system refused.
    #[error("{}: cannot {action}: {source}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// What was tried, as a verb: `open`, `read`, `write`.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A file, or what it unpacks to, is larger than it can be. Nothing of that size was allocated.
    #[error("{}: {what} is larger than the limit of {limit} bytes: damaged, or not a file of mapping factors", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The part that is too large.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// What a file describes takes more memory than mapping factors may take.
    #[error(
        "{}: what it describes takes {bytes} bytes of memory, and mapping factors may take {limit} (run.memory): raise \
         run.memory if the file is what it should be", file.display()
    )]
    Memory {
        /// The file.
        file: PathBuf,
        /// Bytes that it would take.
        bytes: u64,
        /// Bytes that it may take.
        limit: u64,
    },
    /// A file is not the one that the recipes were planned with.
    #[error("{}: changed since the recipe was planned: plan again", file.display())]
    Changed {
        /// The file.
        file: PathBuf,
    },
    /// The XZ container is damaged, cut short or followed by other bytes.
    #[error("{}: not a whole XZ file: {reason}; fetch or create it again", file.display())]
    Xz {
        /// The file.
        file: PathBuf,
        /// What the decoder met.
        reason: &'static str,
    },
    /// The pickle inside an XZ file cannot be read.
    #[error("{}: {source}", file.display())]
    Pickle {
        /// The file.
        file: PathBuf,
        /// Where and why.
        source: PickleError,
    },
    /// An entry of an `.npz` file cannot be read.
    #[error("{}: entry {entry}: {reason}", file.display())]
    Entry {
        /// The file.
        file: PathBuf,
        /// The name of the entry, or `(archive)` for the zip structure.
        entry: String,
        /// Description of the problem.
        reason: String,
    },
    /// A file is readable, but does not hold what it should.
    #[error("{}: {reason}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// A matrix belongs to another native grid.
    #[error(
        "{}: the matrix has {rows} rows (wet source cells), but level {level} of the grid has {wet} wet cells: \
         factors and grid do not belong together",
        file.display()
    )]
    SourceCount {
        /// The matrix file.
        file: PathBuf,
        /// The level, from 0.
        level: usize,
        /// Rows of the matrix.
        rows: usize,
        /// Wet cells of the grid at this level.
        wet: usize,
    },
    /// There is no such level.
    #[error("{}: there is no level {level}: the factors have the levels 0 to {}", dir.display(), levels.saturating_sub(1))]
    NoLevel {
        /// The directory of the factors.
        dir: PathBuf,
        /// The level asked for, from 0.
        level: usize,
        /// How many levels there are.
        levels: usize,
    },
    /// One set of factors was asked to serve two grids.
    #[error(
        "{}: level {level} is already loaded for another list of wet cells: use one set of factors for each native grid",
        dir.display()
    )]
    OtherGrid {
        /// The directory of the factors.
        dir: PathBuf,
        /// The level, from 0.
        level: usize,
    },
    /// A plane or an output handed to the regridding has the wrong length.
    #[error("regridding: the {what} has {actual} values, expected {expected}")]
    Length {
        /// `source plane` or `output`.
        what: &'static str,
        /// Its length.
        actual: usize,
        /// The length it must have (source plane: at least).
        expected: usize,
    },
}
