//! The seams between the 13 tiles of a lat-lon-cap grid.
//!
//! A tile's right edge is at i = N, its top edge at j = N. Beyond it lies a row or column of another tile: on the same
//! axis or, if the axes of the tiles are turned against each other, on the other axis and reversed.

use crate::mds::compact::TILES;

/// The way in which a tile continues in its neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Join {
    /// On the same axis: right joins left, top joins bottom.
    Straight,
    /// Turned: right joins bottom, top joins left, counted from the far end. The x component of a vector continues as
    /// the neighbour's y component, and the other way round.
    Turned,
}

/// The tile beyond an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Neighbour {
    /// Number of the tile.
    pub tile: usize,
    /// The way in which it joins.
    pub join: Join,
}

const fn straight(tile: usize) -> Option<Neighbour> {
    Some(Neighbour { tile, join: Join::Straight })
}

const fn turned(tile: usize) -> Option<Neighbour> {
    Some(Neighbour { tile, join: Join::Turned })
}

/// The tile beyond the right edge of each tile; `None` is land (Antarctica).
pub const RIGHT: [Option<Neighbour>; TILES] = [
    straight(3),
    straight(4),
    straight(5),
    turned(9),
    turned(8),
    turned(7),
    straight(7),
    straight(8),
    straight(9),
    None,
    straight(11),
    straight(12),
    None,
];

/// The tile beyond the top edge of each tile.
pub const TOP: [Option<Neighbour>; TILES] = [
    straight(1),
    straight(2),
    turned(6),
    straight(4),
    straight(5),
    straight(6),
    turned(10),
    straight(10),
    straight(11),
    straight(12),
    turned(2),
    turned(1),
    turned(0),
];

/// A cell beyond an edge, as an index into an array (tile, j, i).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CellBeyondEdge {
    /// Index (tile * N + j) * N + i.
    pub index: usize,
    /// The way in which its tile joins.
    pub join: Join,
}

/// Returns the cell at (tile, j, N), beyond the right edge of a tile with `n` by `n` cells; `None` if that is land.
///
/// # Panics
/// Panics if `tile` is none of the 13, or (in debug builds) if `j` is not below `n`.
pub fn right(n: usize, tile: usize, j: usize) -> Option<CellBeyondEdge> {
    debug_assert!(j < n);
    RIGHT[tile].map(|Neighbour { tile, join }| {
        let index = match join {
            Join::Straight => (tile * n + j) * n,
            Join::Turned => tile * n * n + (n - 1 - j),
        };
        CellBeyondEdge { index, join }
    })
}

/// Returns the cell at (tile, N, i), beyond the top edge of a tile with `n` by `n` cells.
///
/// # Panics
/// Panics if `tile` is none of the 13, or (in debug builds) if `i` is not below `n`.
pub fn top(n: usize, tile: usize, i: usize) -> Option<CellBeyondEdge> {
    debug_assert!(i < n);
    TOP[tile].map(|Neighbour { tile, join }| {
        let index = match join {
            Join::Straight => tile * n * n + i,
            Join::Turned => (tile * n + (n - 1 - i)) * n,
        };
        CellBeyondEdge { index, join }
    })
}

/// Returns the corner at (tile, j, i), with `j` and `i` up to `n`, as an index into an array (tile, j_g, i_g).
///
/// A corner on the right or top edge is also a corner of the neighbour, which stores it as the low corner of one of its
/// cells. The corners where three facets meet around the Arctic cap, and those on the edge of Antarctica, are the low
/// corner of no cell: the result is `None`.
///
/// # Panics
/// Panics if `tile` is none of the 13.
pub fn corner(n: usize, tile: usize, j: usize, i: usize) -> Option<usize> {
    let (mut tile, mut j, mut i) = (tile, j, i);
    // At most three tiles meet at a point; more steps would go round in a circle.
    for _ in 0..4 {
        if j < n && i < n {
            return Some((tile * n + j) * n + i);
        }
        let over_the_right = i == n && (j < n || RIGHT[tile].is_some());
        let neighbour = if over_the_right { RIGHT[tile] } else { TOP[tile] }?;
        (j, i) = match (over_the_right, neighbour.join) {
            (true, Join::Straight) => (j, 0),
            (true, Join::Turned) => (0, n - j),
            (false, Join::Straight) => (0, i),
            (false, Join::Turned) => (n - i, 0),
        };
        tile = neighbour.tile;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    /// The values of a scalar field beyond the right and top edges of the tiles.
    #[derive(Debug, Clone, PartialEq)]
    struct Halo<T> {
        /// Values at i = N (tile, j).
        right: Vec<T>,
        /// Values at j = N (tile, i).
        top: Vec<T>,
    }

    /// Returns the right and top halo of a scalar field (tile, j, i) with `n` by `n` cells per tile. `outside` is the value
    /// where a tile has no neighbour.
    fn halo<T: Copy>(n: usize, field: &[T], outside: T) -> Halo<T> {
        assert_eq!(field.len(), TILES * n * n, "values of 13 tiles, N = {n}");
        let edge = |beyond: fn(usize, usize, usize) -> Option<CellBeyondEdge>| {
            let cells = (0..TILES * n).map(|at| beyond(n, at / n, at % n));
            cells.map(|cell| cell.map_or(outside, |cell| field[cell.index])).collect()
        };
        Halo { right: edge(right), top: edge(top) }
    }

    proptest! {
        #[test]
        fn halo_follows_the_index_rules(n in 1_usize..8, seed in any::<u64>()) {
            let field: Vec<u64> = (0..13 * n * n).map(|i| seed.wrapping_mul(2 * i as u64 + 1) ^ i as u64).collect();
            let x = |tile: usize, j: usize, i: usize| field[(tile * n + j) * n + i];
            let halo = halo(n, &field, 0);
            // tile, neighbour: the entries of the table
            for (t, m) in [(0, 3), (1, 4), (2, 5), (6, 7), (7, 8), (8, 9), (10, 11), (11, 12)] {
                for j in 0..n { prop_assert_eq!(halo.right[t * n + j], x(m, j, 0)); }
            }
            for (t, m) in [(3, 9), (4, 8), (5, 7)] {
                for j in 0..n { prop_assert_eq!(halo.right[t * n + j], x(m, 0, n - 1 - j)); }
            }
            for t in [9, 12] {
                for j in 0..n { prop_assert_eq!(halo.right[t * n + j], 0); }
            }
            for (t, m) in [(0, 1), (1, 2), (3, 4), (4, 5), (5, 6), (7, 10), (8, 11), (9, 12)] {
                for i in 0..n { prop_assert_eq!(halo.top[t * n + i], x(m, 0, i)); }
            }
            for (t, m) in [(2, 6), (6, 10), (10, 2), (11, 1), (12, 0)] {
                for i in 0..n { prop_assert_eq!(halo.top[t * n + i], x(m, n - 1 - i, 0)); }
            }
        }

        // Each left and bottom edge is joined once, except the southern edges of tiles 0 and 3.
        #[test]
        fn each_cell_at_an_edge_is_reached_once(n in 2_usize..8) {
            let mut reached = vec![[0, 0]; 13 * n * n];
            for tile in 0..13 {
                for at in 0..n {
                    for (beyond, side) in [(right(n, tile, at), 0), (top(n, tile, at), 1)] {
                        // a straight join on the right and a turned one at the top enter through the left edge
                        let Some(cell) = beyond else { continue };
                        let left = (side == 0) == (cell.join == Join::Straight);
                        reached[cell.index][usize::from(!left)] += 1;
                    }
                }
            }
            for tile in 0..13 {
                for at in 0..n {
                    prop_assert_eq!(reached[(tile * n + at) * n][0], 1, "left of tile {}", tile);
                    let bottom = usize::from(tile != 0 && tile != 3);
                    prop_assert_eq!(reached[tile * n * n + at][1], bottom, "bottom of tile {}", tile);
                }
            }
        }
    }
}
