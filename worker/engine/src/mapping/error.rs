//! Errors of mapping factors.

use std::io;
use std::path::PathBuf;

use super::pickle::PickleError;

/// An error while reading, writing or applying mapping factors.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// The operating system refused an operation on a file or directory.
    #[error("{}: cannot {action}: {source}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// The operation that failed, as a verb: `open`, `read`, `write`.
        action: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file, or its unpacked content, is larger than it can be. Nothing of that size was allocated.
    #[error("{}: {what} is larger than the limit of {limit} bytes: damaged, or not a file of mapping factors", file.display())]
    TooLarge {
        /// Path of the file.
        file: PathBuf,
        /// The part that is too large.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The content of a file would take more memory than mapping factors may take.
    #[error(
        "{}: what it describes takes {bytes} bytes of memory, and mapping factors may take {limit} (run.memory): raise \
         run.memory if the file is what it should be", file.display()
    )]
    Memory {
        /// Path of the file.
        file: PathBuf,
        /// Number of bytes that it would take.
        bytes: u64,
        /// Number of bytes that it may take.
        limit: u64,
    },
    /// A file has changed since the recipes were planned.
    #[error("{}: changed since the recipe was planned: plan again", file.display())]
    Changed {
        /// Path of the file.
        file: PathBuf,
    },
    /// The XZ container is damaged, cut short or followed by other bytes.
    #[error("{}: not a whole XZ file: {reason}; fetch or create it again", file.display())]
    Xz {
        /// Path of the file.
        file: PathBuf,
        /// The error of the decoder.
        reason: &'static str,
    },
    /// The pickle inside an XZ file cannot be read.
    #[error("{}: {source}", file.display())]
    Pickle {
        /// Path of the file.
        file: PathBuf,
        /// The error of the pickle reader, with the offset in the unpacked file.
        source: PickleError,
    },
    /// An entry of an `.npz` file cannot be read.
    #[error("{}: entry {entry}: {reason}", file.display())]
    Entry {
        /// Path of the file.
        file: PathBuf,
        /// The name of the entry, or `(archive)` for the zip structure.
        entry: String,
        /// Description of the problem.
        reason: String,
    },
    /// A file can be read, but its content is not the expected one.
    #[error("{}: {reason}", file.display())]
    Content {
        /// Path of the file.
        file: PathBuf,
        /// The expected content and the content found.
        reason: String,
    },
    /// A NetCDF file or a variable in it cannot be read.
    #[error("{}: {what} cannot be read: {why}", file.display())]
    Netcdf {
        /// Path of the file.
        file: PathBuf,
        /// The name of the variable, or `the file`.
        what: String,
        /// The error of the libraries, or the way in which the helper process ended.
        why: String,
    },
    /// A directory has factors in more than one form.
    #[error("{}: {} both have factors: keep one of them", dir.display(), names.join(" and "))]
    SeveralForms {
        /// Path of the directory.
        dir: PathBuf,
        /// The name of the file or directory that identifies each form.
        names: Vec<String>,
    },
    /// Factors in NetCDF belong to another native grid.
    #[error(
        "{}: level {level} of the factors has other wet source cells than the grid: factors and grid do not belong \
         together", file.display()
    )]
    SourceCells {
        /// Path of the file.
        file: PathBuf,
        /// The level, from 0.
        level: usize,
    },
    /// A matrix belongs to another native grid.
    #[error(
        "{}: the matrix has {rows} rows (wet source cells), but level {level} of the grid has {wet} wet cells: \
         factors and grid do not belong together",
        file.display()
    )]
    SourceCount {
        /// Path of the matrix file.
        file: PathBuf,
        /// The level, from 0.
        level: usize,
        /// Number of rows of the matrix.
        rows: usize,
        /// Number of wet cells of the grid at this level.
        wet: usize,
    },
    /// The factors have no such level.
    #[error("{}: there is no level {level}: the factors have the levels 0 to {}", dir.display(), levels.saturating_sub(1))]
    NoLevel {
        /// The directory of the factors.
        dir: PathBuf,
        /// The requested level, from 0.
        level: usize,
        /// Number of levels of the factors.
        levels: usize,
    },
    /// One set of factors was used with two native grids.
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
    /// A plane or an output buffer passed to the regridding has the wrong length.
    #[error("regridding: the {what} has {actual} values, expected {expected}")]
    Length {
        /// `source plane` or `output`.
        what: &'static str,
        /// Its length in values.
        actual: usize,
        /// The required length in values (for a source plane the least length).
        expected: usize,
    },
}
