//! The `mitgrid` files of a model run: the horizontal grid of each facet in double precision.
//!
//! A file contains 16 fields of (ny + 1) rows of nx + 1 numbers, big-endian, one after the other. The last row and
//! column are those of corners; for fields at centres or edges, the values there have no meaning.

use super::MAX_N;
use super::error::GridError;
use crate::mds::compact::TILES;
use edp_files::{ReadAt as _, regular};
use ndarray::{Array2, Array3, Axis, s};
use std::path::{Path, PathBuf};

/// The fields of a file, in order.
const FIELDS: [&str; 16] =
    ["XC", "YC", "DXF", "DYF", "RAC", "XG", "YG", "DXV", "DYU", "RAZ", "DXC", "DYC", "RAW", "RAS", "DXG", "DYG"];

/// Cells of the facets in x and y, in units of N, and the first tile of each.
const FACETS: [(usize, usize, usize); 5] = [(1, 3, 0), (1, 3, 3), (1, 1, 6), (3, 1, 7), (3, 1, 10)];

/// The five files of a grid.
#[derive(Debug)]
pub(super) struct Mitgrid {
    files: [PathBuf; 5],
    n: usize,
}

impl Mitgrid {
    /// Looks for `tile001.mitgrid` to `tile005.mitgrid` in a directory; `None` if none of them is there.
    ///
    /// # Errors
    /// Returns an error if some of them are missing, or if their sizes are not those of a lat-lon-cap grid.
    pub(super) fn find(directory: &Path) -> Result<Option<Mitgrid>, GridError> {
        let files: [PathBuf; 5] = std::array::from_fn(|at| directory.join(format!("tile{:03}.mitgrid", at + 1)));
        let there: Vec<bool> = files.iter().map(|file| file.exists()).collect();
        if !there.contains(&true) {
            return Ok(None);
        }
        if let Some(at) = there.iter().position(|there| !there) {
            return Err(GridError::Mitgrid {
                file: files[at].clone(),
                problem: "it is missing beside the others".into(),
            });
        }
        // The third facet is a square of N by N cells.
        let numbers = bytes(&files[2])? / 8 / FIELDS.len() as u64;
        let side = numbers.isqrt();
        let n = usize::try_from(side.saturating_sub(1)).unwrap_or(usize::MAX);
        if side * side != numbers || !(1..=MAX_N).contains(&n) {
            let problem = format!("its size is not that of {} fields of (N + 1) by (N + 1) numbers", FIELDS.len());
            return Err(GridError::Mitgrid { file: files[2].clone(), problem });
        }
        for (file, (x, y, _)) in files.iter().zip(FACETS) {
            let (found, expected) = (bytes(file)?, 8 * (FIELDS.len() * (x * n + 1) * (y * n + 1)) as u64);
            if found != expected {
                let problem = format!(
                    "{found} bytes, expected {expected} for a lat-lon-cap grid of N = {n} (as tile003.mitgrid has it)"
                );
                return Err(GridError::Mitgrid { file: file.clone(), problem });
            }
        }
        Ok(Some(Mitgrid { files, n }))
    }

    /// Returns the number of cells along the side of a tile.
    pub(super) fn n(&self) -> usize {
        self.n
    }

    /// Returns true if the files have a field of this name.
    pub(super) fn has(name: &str) -> bool {
        FIELDS.contains(&name)
    }

    /// Reads a field (tile, j, i), with `extra` rows and columns beyond the cells of a tile: 1 for all corners, 0 for one
    /// value for each cell.
    pub(super) fn tiles(&self, name: &str, extra: usize) -> Result<Array3<f32>, GridError> {
        let (n, side) = (self.n, self.n + extra);
        let field = FIELDS.iter().position(|field| *field == name).unwrap_or_default();
        let mut tiles = Array3::zeros((TILES, side, side));
        for (file, (x, y, first)) in self.files.iter().zip(FACETS) {
            let (columns, rows) = (x * n + 1, y * n + 1);
            let mut raw = vec![0; 8 * rows * columns];
            let read =
                regular::open(file).and_then(|open| open.read_exact_at(&mut raw, (8 * field * rows * columns) as u64));
            read.map_err(|source| GridError::Read { path: file.clone(), source })?;
            let values: Vec<f32> = raw.as_chunks().0.iter().map(|bytes| f64::from_be_bytes(*bytes) as f32).collect();
            let facet = Array2::from_shape_vec((rows, columns), values)
                .map_err(|error| GridError::Mitgrid { file: file.clone(), problem: error.to_string() })?;
            for at in 0..x * y {
                let (row, column) = if x == 1 { (at * n, 0) } else { (0, at * n) };
                let tile = facet.slice(s![row..row + side, column..column + side]);
                tiles.index_axis_mut(Axis(0), first + at).assign(&tile);
            }
        }
        Ok(tiles)
    }
}

fn bytes(file: &Path) -> Result<u64, GridError> {
    let found = std::fs::metadata(file).map_err(|source| GridError::Read { path: file.to_owned(), source })?;
    Ok(found.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Each number encodes facet, field, row and column.
    fn write(directory: &Path, n: usize) {
        for (facet, (x, y, _)) in FACETS.iter().enumerate() {
            let mut bytes = Vec::new();
            for field in 0..FIELDS.len() {
                for row in 0..=y * n {
                    for column in 0..=x * n {
                        let value = (facet * 100 + field) * 10_000 + row * 100 + column;
                        bytes.extend((value as f64).to_be_bytes());
                    }
                }
            }
            std::fs::write(directory.join(format!("tile{:03}.mitgrid", facet + 1)), bytes).unwrap();
        }
    }

    #[test]
    fn facets_are_cut_into_tiles() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Mitgrid::find(dir.path()).unwrap().is_none());
        write(dir.path(), 4);
        let grid = Mitgrid::find(dir.path()).unwrap().unwrap();
        assert_eq!(grid.n(), 4);
        let centres = grid.tiles("YC", 0).unwrap();
        let at = |tile: usize, j: usize, i: usize| centres[(tile, j, i)];
        assert_eq!(at(0, 0, 0), 10_000.0);
        assert_eq!(at(2, 1, 3), 10_000.0 + 903.0);
        assert_eq!(at(4, 3, 2), 1_010_000.0 + 702.0);
        assert_eq!(at(6, 1, 2), 2_010_000.0 + 102.0);
        assert_eq!(at(8, 1, 2), 3_010_000.0 + 106.0);
        assert_eq!(at(12, 3, 3), 4_010_000.0 + 311.0);
        let corners = grid.tiles("XG", 1).unwrap();
        assert_eq!(corners.len(), 13 * 25);
        let at = |tile: usize, j: usize, i: usize| corners[(tile, j, i)];
        assert_eq!((at(0, 4, 4), at(1, 0, 4)), (50_000.0 + 404.0, 50_000.0 + 404.0));
        assert_eq!((at(7, 4, 4), at(8, 4, 0)), (3_050_000.0 + 404.0, 3_050_000.0 + 404.0));
    }

    #[test]
    fn sets_that_are_not_whole_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 3);
        std::fs::write(dir.path().join("tile004.mitgrid"), [0; 80]).unwrap();
        let message = Mitgrid::find(dir.path()).unwrap_err().to_string();
        assert!(
            message.contains("tile004.mitgrid: 80 bytes, expected 5120 for a lat-lon-cap grid of N = 3"),
            "{message}"
        );
        std::fs::remove_file(dir.path().join("tile004.mitgrid")).unwrap();
        let message = Mitgrid::find(dir.path()).unwrap_err().to_string();
        assert!(message.contains("tile004.mitgrid: it is missing"), "{message}");
        write(dir.path(), 3);
        std::fs::write(dir.path().join("tile003.mitgrid"), [0; 16 * 8 * 15]).unwrap();
        assert!(Mitgrid::find(dir.path()).unwrap_err().to_string().contains("tile003.mitgrid: its size"));
    }

    #[test]
    #[ignore = "needs EDP_REAL_DATA: make conformance"]
    fn real_data_of_the_ninety_grid() {
        let directory = crate::real_data::real_data("V4r4/grid_ECCOV4r4");
        let grid = Mitgrid::find(&directory).unwrap().unwrap();
        assert_eq!(grid.n(), 90);
        let centres = grid.tiles("XC", 0).unwrap();
        assert_eq!((centres[(0, 0, 0)], centres[(7, 0, 0)], centres[(12, 0, 0)]), (-111.606_47, 142.162_08, -127.5));
    }
}
