//! What can be wrong with a grid directory.

use super::diagnostics::DiagnosticsError;
use crate::mds::MdsError;
use crate::verified_files::VerifiedFileError;
use std::io;
use std::path::PathBuf;

/// The reason why a grid cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GridError {
    /// The directory or a file in it cannot be read.
    #[error("{}: cannot be read", .path.display())]
    Read {
        /// Directory or file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A geometry file is not there.
    #[error(
        "{}: no {what} geometry: a file {pattern} is expected in the grid directory \
         (unpack it first if there is only a tarball)", .directory.display()
    )]
    NoGeometry {
        /// Grid directory.
        directory: PathBuf,
        /// `native` or `latlon`.
        what: &'static str,
        /// Pattern of its name.
        pattern: &'static str,
    },
    /// More than one file could be meant.
    #[error("{}: several {what} geometries: {}: keep one of them", .directory.display(), .names.join(", "))]
    SeveralGeometries {
        /// Grid directory.
        directory: PathBuf,
        /// `native` or `latlon`.
        what: &'static str,
        /// Names of the files.
        names: Vec<String>,
    },
    /// A mask is too large for this machine.
    #[error("{}: the mask '{variable}' needs {bytes} bytes of memory, more than there are", .file.display())]
    Memory {
        /// The file.
        file: PathBuf,
        /// The mask.
        variable: String,
        /// Bytes needed.
        bytes: usize,
    },
    /// The grid takes more memory than it may.
    #[error(
        "{}: a grid of {levels} levels of 13 x {n} x {n} cells takes {bytes} bytes of memory, and may take {limit} \
         (twice run.memory): raise run.memory if the file is what it should be", .file.display()
    )]
    TooLarge {
        /// The native geometry.
        file: PathBuf,
        /// Cells along the side of a tile.
        n: usize,
        /// Number of levels.
        levels: usize,
        /// Bytes that it would take.
        bytes: u64,
        /// Bytes that it may take.
        limit: u64,
    },
    /// A file or variable is damaged, or not NetCDF.
    #[error("{}: {what} cannot be read: {why}", .file.display())]
    Netcdf {
        /// The file.
        file: PathBuf,
        /// The variable, or `the file`.
        what: String,
        /// What the libraries say, or how the process ended that read it.
        why: String,
    },
    /// A variable that is needed is not in the file.
    #[error("{}: the variable '{variable}' is missing", .file.display())]
    NoVariable {
        /// The file.
        file: PathBuf,
        /// The variable.
        variable: String,
    },
    /// An array does not have the shape that the rest of the grid asks for.
    #[error("{}: {variable} has the shape {found:?}, expected {expected}", .file.display())]
    Shape {
        /// The file.
        file: PathBuf,
        /// The variable.
        variable: String,
        /// The right shape.
        expected: String,
        /// The shape it has, slowest dimension first.
        found: Vec<usize>,
    },
    /// A size that no real grid has.
    #[error("{}: {what} = {value} is out of range (1 to {limit})", .file.display())]
    Size {
        /// The file.
        file: PathBuf,
        /// What is too large.
        what: &'static str,
        /// Its value.
        value: usize,
        /// Largest value accepted.
        limit: usize,
    },
    /// An MDS file of the grid cannot be used.
    #[error("a grid file cannot be used")]
    Mds(#[from] MdsError),
    /// The list of diagnostics cannot be used.
    #[error("the list of diagnostics cannot be used")]
    Diagnostics(#[from] DiagnosticsError),
}

impl From<VerifiedFileError> for GridError {
    fn from(VerifiedFileError { path, source }: VerifiedFileError) -> GridError {
        GridError::Read { path, source }
    }
}
