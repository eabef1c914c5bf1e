//! Writes a complete set of mapping factors in EDP's directory format.

use super::MappingError;
use super::create::CreateError;
use super::create::{FactorSearch, LevelFactors, LevelMapping, LevelWeights, RegularTarget};
use super::pickle_write::Pickler;
use super::write::{MatrixWeights, TargetGrid, write_land_mask, write_latlon_grid, write_matrix, write_pickle};
use crate::codec::CodecError;
use crate::granule::file::FileError;
use crate::grid::NativeCells;
use rayon::prelude::*;
use std::iter::Sum;
use std::ops::AddAssign;
use std::path::Path;

/// The reason why factors could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum MakeFactorsError {
    /// The factors cannot be made as requested.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// A file of EDP's format could not be written.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// A NetCDF file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Numbers could not be compressed.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Counts of one level of factors, or of all levels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FactorsSummary {
    /// Number of levels.
    pub levels: usize,
    /// Number of wet target cells.
    pub wet: usize,
    /// Number of weights in all.
    pub weights: usize,
    /// Number of wet target cells that are the average of several source cells.
    pub averaged: usize,
    /// Number of wet target cells without any source, which get the fill value.
    pub uncovered: usize,
}

impl FactorsSummary {
    /// Returns the counts of a level.
    pub(super) fn of(level: &LevelFactors) -> FactorsSummary {
        FactorsSummary {
            levels: 1,
            wet: level.wet_targets.iter().filter(|wet| **wet).count(),
            weights: level.rows.len(),
            averaged: level.starts.windows(2).filter(|ends| ends[1] - ends[0] > 1).count(),
            uncovered: level.uncovered,
        }
    }
}

impl AddAssign for FactorsSummary {
    fn add_assign(&mut self, other: FactorsSummary) {
        self.levels += other.levels;
        self.wet += other.wet;
        self.weights += other.weights;
        self.averaged += other.averaged;
        self.uncovered += other.uncovered;
    }
}

impl Sum for FactorsSummary {
    fn sum<I: Iterator<Item = FactorsSummary>>(all: I) -> FactorsSummary {
        all.fold(FactorsSummary::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

/// Writes all files of EDP's format that production reads, and the mappings from which EDP makes them.
///
/// # Errors
/// Returns an error if a level has too many weights, or if a file cannot be written.
pub fn write_edp(
    dir: &Path,
    cells: &NativeCells,
    target: &RegularTarget,
    search: &FactorSearch<'_>,
) -> Result<FactorsSummary, MakeFactorsError> {
    let ends = || {
        write_grid(dir, cells, target)?;
        write_mapping(dir, "all", &search.mapping())
    };
    let one = |k: usize| -> Result<FactorsSummary, MakeFactorsError> {
        let level = search.level(k, true)?;
        let (indptr, indices, data) = turned(&level);
        let shape = (level.wet.len(), level.wet_targets.len());
        let weights = match &data {
            None => MatrixWeights::Unit,
            Some(weights) => MatrixWeights::Float(weights),
        };
        write_matrix(dir, k, shape, &indptr, &indices, weights)?;
        write_land_mask(dir, k, &level.wet_targets)?;
        if let Some(mapping) = &level.mapping {
            write_mapping(&dir.join("3D"), &format!("3D_{k}"), mapping)?;
            if k == 0 {
                write_mapping(dir, "2D", mapping)?;
            }
        }
        Ok(FactorsSummary::of(&level))
    };
    let (ends, levels) =
        rayon::join(ends, || (0..cells.levels).into_par_iter().map(one).collect::<Result<Vec<_>, _>>());
    ends?;
    Ok(levels?.into_iter().sum())
}

fn write_grid(dir: &Path, cells: &NativeCells, target: &RegularTarget) -> Result<(), MappingError> {
    let n = cells.n;
    let wet: Vec<[Vec<i64>; 3]> = (0..cells.levels)
        .into_par_iter()
        .map(|k| {
            let wet = cells.wet.level(k);
            let wet = wet.iter().enumerate().filter(|(_, wet)| **wet);
            let mut lists: [Vec<i64>; 3] = std::array::from_fn(|_| Vec::with_capacity(cells.wet.count(k)));
            for (cell, _) in wet {
                for (list, index) in lists.iter_mut().zip([cell / (n * n), cell / n % n, cell % n]) {
                    list.push(index as i64);
                }
            }
            lists
        })
        .collect();
    let grid = TargetGrid {
        latitude_bounds: &target.latitude_bounds,
        longitude_bounds: &target.longitude_bounds,
        depth_bounds: &cells.depth_bounds(),
        latitudes: &target.latitudes,
        longitudes: &target.longitudes,
        wet: &wet,
    };
    write_latlon_grid(dir, &grid)
}

/// Writes one of the mappings: a pair of the cells within the radius of each target (a list, or -1) and its nearest
/// cell (or -1).
fn write_mapping(dir: &Path, name: &str, mapping: &LevelMapping) -> Result<(), MappingError> {
    let mut pickler = Pickler::new();
    pickler.begin_tuple();
    pickler.begin_objects(mapping.nearest.len());
    for ends in mapping.starts.windows(2) {
        match &mapping.within[ends[0]..ends[1]] {
            [] => pickler.int(-1),
            rows => {
                pickler.begin_list();
                rows.iter().for_each(|row| pickler.int(i64::from(*row)));
                pickler.end_list();
            }
        }
    }
    pickler.end_objects();
    pickler.short_integers(mapping.nearest.iter().map(|row| i32::try_from(*row).unwrap_or(-1)));
    pickler.end_tuple();
    write_pickle(&dir.join(format!("ecco_latlon_grid_mappings_{name}.xz")), pickler)
}

/// Returns the weights in compressed sparse rows: the beginning of each row, its targets in ascending order, and the
/// weights, if they are not all 1.
pub(super) fn turned(level: &LevelFactors) -> (Vec<i32>, Vec<i32>, Option<Vec<f64>>) {
    let mut indptr = vec![0_i32; level.wet.len() + 1];
    for row in &level.rows {
        indptr[*row as usize + 1] += 1;
    }
    for row in 0..level.wet.len() {
        indptr[row + 1] += indptr[row];
    }
    let mut next = indptr.clone();
    let mut indices = vec![0; level.rows.len()];
    let mut weights = match level.weights {
        LevelWeights::Unit => None,
        LevelWeights::Each(_) => Some(vec![0.0; level.rows.len()]),
    };
    for (target, ends) in (0..).zip(level.starts.windows(2)) {
        for position in ends[0]..ends[1] {
            let slot = &mut next[level.rows[position] as usize];
            indices[*slot as usize] = target;
            if let Some(weights) = &mut weights {
                weights[*slot as usize] = level.weights.at(position);
            }
            *slot += 1;
        }
    }
    (indptr, indices, weights)
}
