//! Mapping factors to a regular grid: every wet target cell takes the value of the nearest source cell.

use super::DemoError;
use super::bathymetry::{self, LEVELS, OpenFractions};
use super::geometry::DemoGeometry;
use super::sphere::{SpaceVector, point};
use super::topology::cells;
use edp_engine::mapping::create::PointTree;
use edp_engine::mapping::{MatrixWeights, TargetGrid, write_land_mask, write_latlon_grid, write_matrix};
use std::path::Path;

/// Radius in metres of the sphere on which the mapping measures distances.
const RADIUS: f64 = 6_370_997.0;
/// Sides of target cells, in degrees, that divide the globe evenly.
const SIDES: [f64; 9] = [0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 10.0];

/// A regular grid of the whole Earth, with rows from south to north and columns from 180 W eastwards.
pub(super) struct RegularGrid {
    /// Side of a cell in degrees.
    pub(super) side: f64,
    pub(super) latitudes: Vec<f64>,
    pub(super) longitudes: Vec<f64>,
}

impl RegularGrid {
    /// Returns the grid that is about as fine as a source grid with tiles of `n` x `n` cells: half a degree for 90.
    pub(super) fn new(n: usize) -> Self {
        let wanted = 45.0 / n as f64;
        let side = SIDES.into_iter().find(|side| *side >= wanted).unwrap_or(10.0);
        let centres = |start: f64, count: usize| (0..count).map(|at| start + (at as f64 + 0.5) * side).collect();
        let rows = (180.0 / side).round() as usize;
        RegularGrid { side, latitudes: centres(-90.0, rows), longitudes: centres(-180.0, 2 * rows) }
    }

    /// Returns the label in file names, such as `0p50deg`.
    pub(super) fn label(&self) -> String {
        format!("{:.2}deg", self.side).replace('.', "p")
    }

    /// Returns the lower and the upper bound of each centre, in degrees.
    pub(super) fn bounds(&self, centres: &[f64]) -> Vec<[f64; 2]> {
        centres.iter().map(|c| [c - self.side / 2.0, c + self.side / 2.0]).collect()
    }

    /// Returns longitude and latitude of the centres of all cells, row by row.
    pub(super) fn centres(&self) -> impl Iterator<Item = (f64, f64)> {
        self.latitudes.iter().flat_map(|lat| self.longitudes.iter().map(|lon| (*lon, *lat)))
    }
}

/// One level of the mapping: the source of each target, as a sparse matrix of ones.
#[derive(Debug, PartialEq, Eq)]
struct FactorLevel {
    /// Number of wet source cells, which are the rows of the matrix.
    sources: usize,
    /// For each target, true if it is wet.
    wet: Vec<bool>,
    /// Start of each row in `indices`, followed by the end of the last row.
    indptr: Vec<i32>,
    /// Targets of each row, in ascending order.
    indices: Vec<i32>,
}

/// Returns for each target cell the index of the nearest of all source cells, which are in tile, j, i order.
///
/// A target that is farther from every source than the longest cell edge has none.
pub(super) fn nearest(grid: &DemoGeometry, target: &RegularGrid) -> Vec<Option<usize>> {
    let tree = PointTree::new((0..).zip(source_points(grid)));
    let reach = reach(grid) / RADIUS;
    target.centres().map(|(lon, lat)| tree.nearest(&point(lon, lat), reach).map(|source| source as usize)).collect()
}

/// Writes the mapping factors: the target grid, and land mask and matrix of each level.
pub(super) fn write(
    directory: &Path,
    grid: &DemoGeometry,
    open: &OpenFractions,
    target: &RegularGrid,
    nearest: &[Option<usize>],
) -> Result<(), DemoError> {
    let depth_bounds: Vec<[f64; 2]> = bathymetry::faces().windows(2).map(|pair| [pair[0], pair[1]]).collect();
    let wet: Vec<_> = (0..LEVELS).map(|k| wet_cells(k, grid, open)).collect();
    write_latlon_grid(
        directory,
        &TargetGrid {
            latitude_bounds: &target.bounds(&target.latitudes),
            longitude_bounds: &target.bounds(&target.longitudes),
            depth_bounds: &depth_bounds,
            latitudes: &target.latitudes,
            longitudes: &target.longitudes,
            wet: &wet,
        },
    )?;
    for k in 0..LEVELS {
        let FactorLevel { sources, wet, indptr, indices } = level(k, nearest, grid, open);
        write_land_mask(directory, k, &wet)?;
        write_matrix(directory, k, (sources, wet.len()), &indptr, &indices, MatrixWeights::Unit)?;
    }
    Ok(())
}

/// Returns unit vectors of the cell centres, from the single-precision positions in the grid files.
fn source_points(grid: &DemoGeometry) -> Vec<SpaceVector> {
    grid.centres.iter().map(|&(lon, lat)| point(f64::from(lon as f32), f64::from(lat as f32))).collect()
}

/// Returns the length of the longest cell edge in whole metres.
fn reach(grid: &DemoGeometry) -> f64 {
    grid.dxg.iter().chain(&grid.dyg).fold(0.0, |a: f64, b| a.max(*b)).floor()
}

/// Returns the mapping of one level.
///
/// A target is wet if the nearest of all source cells is wet. That cell is then also the nearest wet one, so one search
/// serves all levels.
fn level(k: usize, nearest: &[Option<usize>], grid: &DemoGeometry, open: &OpenFractions) -> FactorLevel {
    let plane = grid.centres.len();
    let fractions = &open.c[k * plane..][..plane];
    let mut row = vec![None; plane];
    let mut sources = 0;
    for (row, open) in row.iter_mut().zip(fractions) {
        if *open > 0.0 {
            *row = Some(sources);
            sources += 1;
        }
    }
    let rows: Vec<Option<usize>> = nearest.iter().map(|source| source.and_then(|s| row[s])).collect();
    let mut indptr = vec![0i32; sources + 1];
    for row in rows.iter().flatten() {
        indptr[row + 1] += 1;
    }
    for at in 0..sources {
        indptr[at + 1] += indptr[at];
    }
    let mut next = indptr.clone();
    let mut indices = vec![0i32; indptr[sources] as usize];
    for (target, row) in rows.iter().enumerate() {
        if let Some(row) = *row {
            indices[next[row] as usize] = target as i32;
            next[row] += 1;
        }
    }
    FactorLevel { sources, wet: rows.iter().map(Option::is_some).collect(), indptr, indices }
}

/// Returns tile, row and column of the wet cells of a level, in tile, j, i order.
fn wet_cells(k: usize, grid: &DemoGeometry, open: &OpenFractions) -> [Vec<i64>; 3] {
    let mut wet: [Vec<i64>; 3] = Default::default();
    for ((tile, j, i), open) in cells(grid.n).zip(&open.c[k * grid.centres.len()..]) {
        if *open > 0.0 {
            for (list, value) in wet.iter_mut().zip([tile, j, i]) {
                list.push(value as i64);
            }
        }
    }
    wet
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sphere::{dot, minus};

    #[test]
    fn sides_fit_the_source() {
        for (n, side, label) in [
            (6, 10.0, "10p00deg"),
            (30, 2.0, "2p00deg"),
            (45, 1.0, "1p00deg"),
            (90, 0.5, "0p50deg"),
            (270, 0.25, "0p25deg"),
        ] {
            let target = RegularGrid::new(n);
            assert_eq!((target.side, target.label().as_str()), (side, label));
            assert_eq!(target.bounds(&target.latitudes)[0], [-90.0, -90.0 + side]);
            assert_eq!(target.bounds(&target.longitudes).last().unwrap()[1], 180.0);
        }
    }

    #[test]
    fn every_wet_target_has_the_one_nearest_source() {
        let grid = DemoGeometry::new(6);
        let open = OpenFractions::new(&grid);
        let target = RegularGrid::new(6);
        let nearest = nearest(&grid, &target);
        let sources = source_points(&grid);
        let far = |a: SpaceVector, b: SpaceVector| dot(minus(a, b), minus(a, b));
        for k in 0..LEVELS {
            let level = level(k, &nearest, &grid, &open);
            let wet: Vec<usize> = (0..sources.len()).filter(|s| open.c[k * sources.len() + s] > 0.0).collect();
            assert_eq!(level.sources, wet.len());
            assert_eq!(level.indptr.len(), wet.len() + 1);
            let mut source = vec![None; nearest.len()];
            for (row, ends) in level.indptr.windows(2).enumerate() {
                let columns = &level.indices[ends[0] as usize..ends[1] as usize];
                assert!(columns.is_sorted_by(|a, b| a < b));
                for column in columns {
                    assert!(source[*column as usize].replace(wet[row]).is_none(), "two sources");
                }
            }
            for (at, (lon, lat)) in target.centres().enumerate() {
                let p = point(lon, lat);
                let least = |all: &mut dyn Iterator<Item = usize>| {
                    all.map(|s| far(p, sources[s])).fold(f64::INFINITY, f64::min)
                };
                let of_all = least(&mut (0..sources.len()));
                let reached = of_all.sqrt() * RADIUS < reach(&grid);
                match source[at] {
                    Some(s) => {
                        assert!(level.wet[at] && reached);
                        assert!(far(p, sources[s]) <= of_all + 1e-15);
                        assert!(far(p, sources[s]) <= least(&mut wet.iter().copied()) + 1e-15);
                    }
                    None => {
                        assert!(!level.wet[at]);
                        let dry = (0..sources.len()).filter(|s| !wet.contains(s));
                        assert!(!reached || least(&mut { dry }) <= of_all + 1e-15);
                    }
                }
            }
        }
    }

    #[test]
    fn wet_cells_are_in_scan_order() {
        let grid = DemoGeometry::new(6);
        let open = OpenFractions::new(&grid);
        let [tile, j, i] = wet_cells(0, &grid, &open);
        let cells: Vec<_> = (0..tile.len()).map(|at| (tile[at], j[at], i[at])).collect();
        assert!(cells.is_sorted_by(|a, b| a < b));
        assert_eq!(cells.len(), open.c[..grid.centres.len()].iter().filter(|h| **h > 0.0).count());
    }
}
