//! The compact layout of the 13 tiles in one plane of 13N rows by N columns.
//!
//! Tiles 0 to 6 follow each other. The facets of tiles 7 to 9 and 10 to 12 are N rows of 3N values that are read as 3N
//! rows of N, so that the rows of their three tiles alternate.

use std::ops::Range;

/// Number of tiles of a lat-lon-cap grid.
pub const TILES: usize = 13;

/// Returns the row of the compact plane that contains row `j` of a tile, on a grid with `n` by `n` cells per tile.
///
/// The column is the cell's own `i`.
///
/// # Panics
/// Panics in debug builds if `tile` or `j` is out of range.
pub fn row(n: usize, tile: usize, j: usize) -> usize {
    debug_assert!(tile < TILES && j < n, "tile {tile}, row {j} of {n}");
    match tile {
        0..=6 => tile * n + j,
        7..=9 => 7 * n + 3 * j + (tile - 7),
        _ => 10 * n + 3 * j + (tile - 10),
    }
}

/// The same rows of some adjacent tiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TileRows {
    n: usize,
    tiles: Range<usize>,
    rows: Range<usize>,
}

impl TileRows {
    /// Returns some rows of some tiles of a grid with `n` by `n` cells per tile; those beyond the grid are left out.
    pub fn new(n: usize, tiles: Range<usize>, rows: Range<usize>) -> TileRows {
        let within = |range: Range<usize>, end: usize| range.start.min(end)..range.end.min(end);
        TileRows { n, tiles: within(tiles, TILES), rows: within(rows, n) }
    }

    /// Returns all rows of all tiles.
    pub fn all(n: usize) -> TileRows {
        TileRows { n, tiles: 0..TILES, rows: 0..n }
    }

    /// The tiles.
    pub fn tiles(&self) -> Range<usize> {
        self.tiles.clone()
    }

    /// The rows of each of the tiles.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.tiles.len() * self.rows.len() * self.n
    }

    /// Returns the lines, tile * N + j, in the order of the tiles.
    pub fn lines(&self) -> impl Iterator<Item = usize> + Clone {
        let (n, rows) = (self.n, self.rows.clone());
        self.tiles.clone().flat_map(move |tile| rows.clone().map(move |j| tile * n + j))
    }

    /// Returns the line of this number among the lines.
    pub fn line(&self, number: usize) -> usize {
        (self.tiles.start + number / self.rows.len()) * self.n + self.rows.start + number % self.rows.len()
    }

    /// Returns the ranges of the compact plane with the same cells in the same order; adjacent ones are one range.
    pub fn ranges(&self) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for line in self.lines() {
            let start = row(self.n, line / self.n, line % self.n) * self.n;
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end += self.n,
                _ => ranges.push(start..start + self.n),
            }
        }
        ranges
    }
}

/// Rearranges a compact plane (13N rows, N columns) into tiles (tile, j, i).
///
/// # Panics
/// Panics if one of the slices does not have 13 N² values.
pub fn to_tiles<T: Copy>(n: usize, compact: &[T], tiles: &mut [T]) {
    check(n, compact, tiles);
    for (index, line) in tiles.chunks_exact_mut(n).enumerate() {
        let start = row(n, index / n, index % n) * n;
        line.copy_from_slice(&compact[start..start + n]);
    }
}

/// Rearranges tiles (tile, j, i) into a compact plane (13N rows, N columns): the inverse of [`to_tiles`].
///
/// # Panics
/// Panics if one of the slices does not have 13 N² values.
pub fn from_tiles<T: Copy>(n: usize, tiles: &[T], compact: &mut [T]) {
    check(n, compact, tiles);
    for (index, line) in tiles.chunks_exact(n).enumerate() {
        let start = row(n, index / n, index % n) * n;
        compact[start..start + n].copy_from_slice(line);
    }
}

fn check<T>(n: usize, compact: &[T], tiles: &[T]) {
    assert!(n > 0, "a tile has at least one cell");
    assert_eq!(compact.len(), TILES * n * n, "values of a compact plane, N = {n}");
    assert_eq!(tiles.len(), TILES * n * n, "values of 13 tiles, N = {n}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    /// The facets as they are stored: first row and shape (rows, columns), in units of N.
    const FACES: [(usize, usize, usize); 5] = [(0, 3, 1), (3, 3, 1), (6, 1, 1), (7, 1, 3), (10, 1, 3)];

    #[test]
    fn rows_of_the_ninety_grid() {
        assert_eq!(row(90, 0, 0), 0);
        assert_eq!(row(90, 6, 89), 629);
        assert_eq!(row(90, 7, 0), 630);
        assert_eq!(row(90, 8, 0), 631);
        assert_eq!(row(90, 9, 89), 630 + 3 * 89 + 2);
        assert_eq!(row(90, 10, 0), 900);
        assert_eq!(row(90, 12, 89), 1169);
    }

    #[test]
    fn one_cell_per_tile_is_in_order() {
        let compact: Vec<usize> = (0..13).collect();
        let mut tiles = vec![0; 13];
        to_tiles(1, &compact, &mut tiles);
        assert_eq!(tiles, compact);
    }

    proptest! {
        #[test]
        fn rows_of_tiles_are_found_in_the_plane(n in 1_usize..7, tile in 0_usize..13, count in 1_usize..4, first in 0_usize..6) {
            let some = TileRows::new(n, tile..tile + count, first..first + 3);
            let tiles: Vec<usize> = (0..13 * n * n).collect();
            let mut plane = vec![0; tiles.len()];
            from_tiles(n, &tiles, &mut plane);
            let read: Vec<usize> = some.ranges().into_iter().flat_map(|range| plane[range].to_vec()).collect();
            let expected: Vec<usize> = some.lines().flat_map(|line| line * n..(line + 1) * n).collect();
            prop_assert_eq!(read.len(), some.cells());
            prop_assert_eq!(read, expected);
            prop_assert!(some.lines().enumerate().all(|(number, line)| some.line(number) == line));
            prop_assert!(some.ranges().windows(2).all(|pair| pair[0].end != pair[1].start));
        }

        #[test]
        fn there_and_back(n in 1_usize..9) {
            let compact: Vec<u32> = (0..).take(13 * n * n).collect();
            let (mut tiles, mut again) = (vec![0; compact.len()], vec![0; compact.len()]);
            to_tiles(n, &compact, &mut tiles);
            from_tiles(n, &tiles, &mut again);
            prop_assert_eq!(again, compact);
        }

        // From the facets: each is cut into three tiles along its long side, which keep its axes.
        #[test]
        fn tiles_are_cut_from_faces(n in 1_usize..9) {
            let compact: Vec<usize> = (0..13 * n * n).collect();
            let mut tiles = vec![0; compact.len()];
            to_tiles(n, &compact, &mut tiles);
            let mut expected: Vec<usize> = Vec::new();
            for (first, rows, columns) in FACES {
                let facet = &compact[first * n * n..][..rows * columns * n * n];
                for part in 0..rows * columns {
                    for j in 0..n {
                        let (r, c) = if rows == 3 { (part * n + j, 0) } else { (j, part * n) };
                        expected.extend(&facet[r * columns * n + c..][..n]);
                    }
                }
            }
            prop_assert_eq!(tiles, expected);
        }
    }
}
