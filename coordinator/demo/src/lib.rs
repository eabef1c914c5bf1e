//! A whole production with made-up input: a small grid, mapping factors, metadata and model output.
//!
//! [`generate`] writes everything that a production reads, for a lat-lon-cap grid of any size. The grid has the true
//! topology of 13 tiles and reaches from 80 S to the pole, the continents are drawn roughly, and the ocean is a set of
//! smooth functions. The same size always gives the same bytes.

mod bathymetry;
mod calendar;
mod coast;
mod configuration;
mod datasets;
mod descriptions;
mod factors;
mod geometry;
mod geometry_files;
mod grid_files;
mod mds;
mod metadata;
mod ocean;
mod results;
mod sphere;
mod topology;

use bathymetry::OpenFractions;
use factors::RegularGrid;
use geometry::DemoGeometry;
use metadata::Names;

pub use bathymetry::LEVELS;
pub use metadata::{geospatial_globals, grid_metadata};
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// The sizes of tiles for which a demo can be made.
pub(crate) const SIZES: RangeInclusive<usize> = 6..=270;
/// Default size of tiles, which gives granules of a few hundred kilobytes.
pub const DEFAULT_SIZE: usize = 30;

/// Paths of the demo's inputs, for `plan` and `run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demo {
    /// Number of cells along the side of a tile.
    pub size: usize,
    /// Path of the grid directory.
    pub grid: PathBuf,
    /// Path of the directory with the mapping factors.
    pub factors: PathBuf,
    /// Path of the metadata directory.
    pub metadata: PathBuf,
    /// Path of the configuration file.
    pub configuration: PathBuf,
    /// Root of the model output.
    pub results: PathBuf,
    /// Path of the job file: every dataset on both grids, monthly.
    pub jobs: PathBuf,
}

/// The reason why the demo's inputs could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The size is too small to show anything, or too large for a demo.
    #[error("a demo with tiles of {0} x {0} cells cannot be made; choose a size from {min} to {max}", min = SIZES.start(), max = SIZES.end())]
    Size(usize),
    /// The directory contains another grid, and the two would be taken for one.
    #[error("{}: belongs to another grid; remove the directory around it, or choose another one for the demo", .0.display())]
    Occupied(PathBuf),
    /// A file or directory cannot be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// Path of the file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A geometry file cannot be written.
    #[error("{}: cannot be written: {source}", path.display())]
    NetCdf {
        /// Path of the file.
        path: PathBuf,
        /// The error of the netCDF library.
        source: netcdf::Error,
    },
    /// The mapping factors cannot be written.
    #[error(transparent)]
    Factors(#[from] edp_engine::mapping::MappingError),
}

/// Makes a grid with tiles of `n` x `n` cells and everything that belongs to it below the directory `out`.
///
/// Files of an earlier demo of the same size are replaced.
///
/// # Errors
/// Returns an error if the size is not in [`SIZES`], if `out` contains a demo of another size, or if a file cannot be
/// written.
pub fn generate(out: &Path, n: usize) -> Result<Demo, DemoError> {
    if !SIZES.contains(&n) {
        return Err(DemoError::Size(n));
    }
    let demo = Demo {
        size: n,
        grid: out.join("grid"),
        factors: out.join("factors"),
        metadata: out.join("metadata"),
        configuration: out.join("config.yaml"),
        results: out.join("results"),
        jobs: out.join("jobs.txt"),
    };
    let target = RegularGrid::new(n);
    let names = Names {
        n,
        side: target.side,
        bottom: bathymetry::faces()[LEVELS],
        native_label: format!("llc{n:04}"),
        latlon_label: target.label(),
    };
    refuse_other_grid(&demo.grid, &names)?;
    for directory in [&demo.grid, &demo.factors, &demo.metadata, &demo.results] {
        fs::create_dir_all(directory).map_err(|source| DemoError::Write { path: directory.clone(), source })?;
    }

    let grid = DemoGeometry::new(n);
    let open = OpenFractions::new(&grid);
    let nearest = factors::nearest(&grid, &target);
    grid_files::write(&demo.grid, &grid, &open, &target, &nearest, &names)?;
    factors::write(&demo.factors, &grid, &open, &target, &nearest)?;
    metadata::write(&demo.metadata, &names)?;
    metadata::save(&demo.configuration, &configuration::configuration(&names, LEVELS))?;
    metadata::save(&demo.jobs, &configuration::jobs())?;
    results::write(&demo.results.join("DEMO"), &grid, &open)?;
    Ok(demo)
}

/// Refuses a grid directory that contains any other geometry than the one to be written.
fn refuse_other_grid(directory: &Path, names: &Names) -> Result<(), DemoError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(DemoError::Write { path: directory.to_owned(), source }),
    };
    let ours = [grid_files::native_name(&names.native_label), grid_files::latlon_name(&names.latlon_label)];
    for entry in entries.flatten() {
        let name = entry.file_name();
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "nc") && !ours.iter().any(|own| name == own.as_str()) {
            return Err(DemoError::Occupied(path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
