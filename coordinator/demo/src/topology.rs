//! The cells of the 13 tiles and their neighbours.

use edp_engine::grid::topology::{Join, Neighbour, RIGHT, TOP};
pub(super) use edp_engine::mds::compact::TILES;

/// One cell: tile, row j, column i.
pub(super) type Cell = (usize, usize, usize);

/// Returns the position of a cell among the 13 N x N values of a plane, tile by tile.
pub(super) fn index(n: usize, (tile, j, i): Cell) -> usize {
    (tile * n + j) * n + i
}

/// Returns all cells in tile, j, i order.
pub(super) fn cells(n: usize) -> impl Iterator<Item = Cell> {
    (0..TILES).flat_map(move |tile| (0..n).flat_map(move |j| (0..n).map(move |i| (tile, j, i))))
}

/// Returns the tile whose right or top edge, as the table says, joins an edge of `tile` in the given way.
fn joining(table: [Option<Neighbour>; TILES], tile: usize, join: Join) -> Option<usize> {
    table.iter().position(|n| *n == Some(Neighbour { tile, join }))
}

/// Returns the neighbour across the left edge of a cell. Every cell has one, since the grid goes around the Earth.
pub(super) fn left(n: usize, (tile, j, i): Cell) -> Option<Cell> {
    if i > 0 {
        return Some((tile, j, i - 1));
    }
    match (joining(RIGHT, tile, Join::Straight), joining(TOP, tile, Join::Turned)) {
        (Some(other), _) => Some((other, j, n - 1)),
        (_, Some(other)) => Some((other, n - 1, n - 1 - j)),
        _ => None,
    }
}

/// Returns the neighbour across the bottom edge of a cell, or `None` at the southern end of the grid.
pub(super) fn below(n: usize, (tile, j, i): Cell) -> Option<Cell> {
    if j > 0 {
        return Some((tile, j - 1, i));
    }
    match (joining(TOP, tile, Join::Straight), joining(RIGHT, tile, Join::Turned)) {
        (Some(other), _) => Some((other, n - 1, i)),
        (_, Some(other)) => Some((other, n - 1 - i, n - 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_edge_has_two_sides() {
        // Each cell owns its left and bottom edge. Without the south, 2 x 13 N^2 edges join distinct pairs.
        let n = 4;
        let mut pairs = BTreeSet::new();
        let mut ends = 0;
        for cell in cells(n) {
            for other in [left(n, cell), below(n, cell)] {
                match other {
                    Some(other) => assert!(pairs.insert((cell.min(other), cell.max(other)))),
                    None => ends += 1,
                }
            }
        }
        assert_eq!(ends, 2 * n);
        assert_eq!(pairs.len(), 2 * TILES * n * n - 2 * n);
    }
}
