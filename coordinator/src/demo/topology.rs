//! How the 13 tiles of a lat-lon-cap grid lie in the compact plane and touch each other.

/// Number of tiles.
pub(super) const TILES: usize = 13;

/// One cell: tile, row j, column i.
pub(super) type Cell = (usize, usize, usize);

/// Position of a cell among the 13 N x N values of a plane, tile by tile.
pub(super) fn index(n: usize, (tile, j, i): Cell) -> usize {
    (tile * n + j) * n + i
}

/// All cells in tile, j, i order.
pub(super) fn cells(n: usize) -> impl Iterator<Item = Cell> {
    (0..TILES).flat_map(move |tile| (0..n).flat_map(move |j| (0..n).map(move |i| (tile, j, i))))
}

/// The row of the compact plane (13 N rows of N values) that holds row `j` of a tile.
///
/// Faces 4 and 5 are stored as N rows of 3N values, so the rows of their three tiles alternate.
pub(super) fn compact_row(n: usize, tile: usize, j: usize) -> usize {
    match tile {
        0..=6 => tile * n + j,
        7..=9 => 7 * n + 3 * j + tile - 7,
        _ => 10 * n + 3 * j + tile - 10,
    }
}

/// What lies beyond the left or bottom edge of a tile.
#[derive(Clone, Copy)]
enum Seam {
    /// Another tile, whose axes run on.
    Straight(usize),
    /// Another tile, whose axes are swapped and one of them reversed.
    Turned(usize),
    /// The southern end of the grid.
    End,
}
use Seam::{End, Straight, Turned};

/// Beyond i = 0.
const LEFT: [Seam; TILES] = [
    Turned(12),
    Turned(11),
    Turned(10),
    Straight(0),
    Straight(1),
    Straight(2),
    Turned(2),
    Straight(6),
    Straight(7),
    Straight(8),
    Turned(6),
    Straight(10),
    Straight(11),
];

/// Beyond j = 0.
const BOTTOM: [Seam; TILES] = [
    End,
    Straight(0),
    Straight(1),
    End,
    Straight(3),
    Straight(4),
    Straight(5),
    Turned(5),
    Turned(4),
    Turned(3),
    Straight(7),
    Straight(8),
    Straight(9),
];

/// The neighbour across the left edge of a cell. Every cell has one.
pub(super) fn left(n: usize, (tile, j, i): Cell) -> Option<Cell> {
    if i > 0 {
        return Some((tile, j, i - 1));
    }
    match LEFT[tile] {
        Straight(other) => Some((other, j, n - 1)),
        Turned(other) => Some((other, n - 1, n - 1 - j)),
        End => None,
    }
}

/// The neighbour across the bottom edge of a cell; none at the southern end of the grid.
pub(super) fn below(n: usize, (tile, j, i): Cell) -> Option<Cell> {
    if j > 0 {
        return Some((tile, j - 1, i));
    }
    match BOTTOM[tile] {
        Straight(other) => Some((other, n - 1, i)),
        Turned(other) => Some((other, n - 1 - i, n - 1)),
        End => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_compact_plane_holds_every_row_once() {
        let rows: BTreeSet<_> = (0..TILES).flat_map(|t| (0..5).map(move |j| compact_row(5, t, j))).collect();
        assert_eq!(rows, (0..65).collect());
        assert_eq!(compact_row(90, 7, 0), 630);
        assert_eq!(compact_row(90, 8, 0), 631);
        assert_eq!(compact_row(90, 12, 89), 1169);
    }

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
