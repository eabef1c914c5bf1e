//! Errors of a grid directory.

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
        /// Path of the directory or file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A geometry file does not exist.
    #[error(
        "{}: no {what} geometry: a file {pattern} is expected in the grid directory \
         (unpack it first if there is only a tarball)", .directory.display()
    )]
    NoGeometry {
        /// Path of the grid directory.
        directory: PathBuf,
        /// Kind of the geometry: `native` or `latlon`.
        what: &'static str,
        /// Pattern of the file's name.
        pattern: &'static str,
    },
    /// Several files may be the geometry.
    #[error("{}: several {what} geometries: {}: keep one of them", .directory.display(), .names.join(", "))]
    SeveralGeometries {
        /// Path of the grid directory.
        directory: PathBuf,
        /// Kind of the geometry: `native` or `latlon`.
        what: &'static str,
        /// Names of the files.
        names: Vec<String>,
    },
    /// Something needs horizontal arrays of a grid that is too large for having them in memory.
    #[error(
        "{}: the horizontal arrays of 13 x {n} x {n} cells take {bytes} bytes of memory or more, and may take {limit} \
         (run.memory): set static_coordinates to 'axes' in the configuration, for granules without horizontal \
         coordinates, or raise run.memory; vectors are rotated only with these arrays", .file.display()
    )]
    NotWhole {
        /// Path of the geometry file.
        file: PathBuf,
        /// Number of cells along the side of a tile.
        n: usize,
        /// Number of bytes that the arrays take.
        bytes: u64,
        /// Number of bytes that they may take.
        limit: u64,
    },
    /// The grid takes more memory than it may.
    #[error(
        "{}: a grid of {levels} levels of 13 x {n} x {n} cells takes {bytes} bytes of memory or more, and may take {limit} \
         (twice run.memory): raise run.memory if the file is what it should be", .file.display()
    )]
    TooLarge {
        /// Path of the native geometry file.
        file: PathBuf,
        /// Number of cells along the side of a tile.
        n: usize,
        /// Number of levels of the grid.
        levels: usize,
        /// Number of bytes that it would take.
        bytes: u64,
        /// Number of bytes that it may take.
        limit: u64,
    },
    /// A file or variable is damaged, or is not NetCDF.
    #[error("{}: {what} cannot be read: {why}", .file.display())]
    Netcdf {
        /// Path of the file.
        file: PathBuf,
        /// Name of the variable, or `the file`.
        what: String,
        /// The error of the libraries, or the way in which the helper process ended.
        why: String,
    },
    /// A variable that is needed is not in the file.
    #[error("{}: the variable '{variable}' is missing", .file.display())]
    NoVariable {
        /// Path of the file.
        file: PathBuf,
        /// Name of the variable.
        variable: String,
    },
    /// An array does not have the shape that the rest of the grid requires.
    #[error("{}: {variable} has the shape {found:?}, expected {expected}", .file.display())]
    Shape {
        /// Path of the file.
        file: PathBuf,
        /// Name of the variable.
        variable: String,
        /// The shape that is required.
        expected: String,
        /// The shape of the variable, the slowest dimension first.
        found: Vec<usize>,
    },
    /// A size is larger than that of any real grid.
    #[error("{}: {what} = {value} is out of range (1 to {limit})", .file.display())]
    Size {
        /// Path of the file.
        file: PathBuf,
        /// Name of the size.
        what: &'static str,
        /// Value in the file.
        value: usize,
        /// Largest value that is accepted.
        limit: usize,
    },
    /// A `mitgrid` file cannot be used.
    #[error("{}: {problem}", .file.display())]
    Mitgrid {
        /// Path of the file.
        file: PathBuf,
        /// Description of the problem.
        problem: String,
    },
    /// There are neither a native geometry nor the model's own grid files.
    #[error(
        "{}: no grid: neither a native geometry (*native*.nc) nor hFacC.meta and hFacC.data of a model run are there",
        .directory.display()
    )]
    NoModelGrid {
        /// Path of the grid directory.
        directory: PathBuf,
    },
    /// One of the model's grid files is missing.
    #[error("{}: no {name}: neither {name}.meta and {name}.data nor a mitgrid file has it", .directory.display())]
    NoModelFile {
        /// Path of the grid directory.
        directory: PathBuf,
        /// Name of the array in the model.
        name: &'static str,
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
