//! Rotation of vectors: from the model's x and y components to eastward and northward components at cell centres.

use crate::grid::Native;
use crate::grid::topology::{self, CellBeyondEdge, Join};
use crate::mds::compact::{self, TILES};
use edp_protocol::recipe::Orientation;

/// The points at which the model has the components of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staggering {
    /// Both at cell centres: they are only rotated.
    Centres,
    /// x at the western and y at the southern faces: they are averaged to the centres first.
    Faces,
}

/// Rotates one level. `x`, `y` and `out` are compact planes (13N rows by N columns). All arithmetic is in single
/// precision, as in EDP: `0.5 (a + b)`, then the two products, then their sum or difference.
///
/// Faces beyond the edge of the Antarctic tiles are land and count as 0.
///
/// # Panics
/// Panics if a plane does not have 13 N² values.
pub fn rotate(grid: &Native, staggering: Staggering, orientation: Orientation, x: &[f32], y: &[f32], out: &mut [f32]) {
    let n = grid.n;
    let tiles = |plane: &[f32]| {
        let mut tiles = vec![0.0; TILES * n * n];
        compact::to_tiles(n, plane, &mut tiles);
        tiles
    };
    let (x, y) = (tiles(x), tiles(y));
    // Beyond a turned seam the other component continues.
    let beyond = |same: &[f32], other: &[f32], cell: Option<CellBeyondEdge>| match cell {
        None => 0.0,
        Some(CellBeyondEdge { index, join: Join::Straight }) => same[index],
        Some(CellBeyondEdge { index, join: Join::Turned }) => other[index],
    };
    // Row by row, so that the compiler can process several cells at once.
    let (mut u, mut v) = (vec![0.0; n], vec![0.0; n]);
    let mut row_beyond = vec![0.0; n];
    for tile in 0..TILES {
        for j in 0..n {
            let line = (tile * n + j) * n;
            let (x_row, y_row) = (&x[line..line + n], &y[line..line + n]);
            let (u_row, v_row) = match staggering {
                Staggering::Centres => (x_row, y_row),
                Staggering::Faces => {
                    let north = if j + 1 < n {
                        &y[line + n..line + 2 * n]
                    } else {
                        for (i, value) in row_beyond.iter_mut().enumerate() {
                            *value = beyond(&y, &x, topology::top(n, tile, i));
                        }
                        &row_beyond[..]
                    };
                    let east_edge = [beyond(&x, &y, topology::right(n, tile, j))];
                    let east = x_row[1..].iter().chain(&east_edge);
                    for ((u, here), east) in u.iter_mut().zip(x_row).zip(east) {
                        *u = 0.5 * (here + east);
                    }
                    for ((v, here), north) in v.iter_mut().zip(y_row).zip(north) {
                        *v = 0.5 * (here + north);
                    }
                    (&u[..], &v[..])
                }
            };
            let turn = grid.cs[line..line + n].iter().zip(&grid.sn[line..line + n]);
            let start = compact::row(n, tile, j) * n;
            for ((out, (u, v)), (cs, sn)) in out[start..start + n].iter_mut().zip(u_row.iter().zip(v_row)).zip(turn) {
                *out = match orientation {
                    Orientation::Zonal => u * cs - v * sn,
                    Orientation::Meridional => u * sn + v * cs,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// Rotates a plane that is in tile order, and returns it in tile order.
    fn rotated(grid: &Native, staggering: Staggering, orientation: Orientation, x: &[f32], y: &[f32]) -> Vec<f32> {
        let compact = |tiles: &[f32]| {
            let mut plane = vec![f32::NAN; tiles.len()];
            compact::from_tiles(grid.n, tiles, &mut plane);
            plane
        };
        let mut out = vec![f32::NAN; x.len()];
        rotate(grid, staggering, orientation, &compact(x), &compact(y), &mut out);
        let mut tiles = vec![f32::NAN; x.len()];
        compact::to_tiles(grid.n, &out, &mut tiles);
        tiles
    }

    /// Seams of the tiles: the tile to the right or on top, and `s` for straight joins or `r` for turned ones.
    const RIGHT: [&str; 13] = ["3s", "4s", "5s", "9r", "8r", "7r", "7s", "8s", "9s", "", "11s", "12s", ""];
    const TOP: [&str; 13] = ["1s", "2s", "6r", "4s", "5s", "6s", "10r", "10s", "11s", "12s", "2r", "1r", "0r"];

    proptest! {
        #[test]
        fn follows_the_rules_index_by_index(n in 1_usize..6, seed in any::<u32>()) {
            let noise = |salt: u32| -> Vec<f32> {
                let mixed = |at: u32| (at.wrapping_mul(2_654_435_761) ^ seed.wrapping_add(salt)).wrapping_mul(40_503);
                (0..13 * n * n).map(|at| (mixed(at as u32) >> 8) as f32 / 65_536.0 - 128.0).collect()
            };
            let (xs, ys) = (noise(1), noise(2));
            let grid = Native::with_angles(n, noise(3), noise(4));
            let x = |tile: usize, j: usize, i: usize| xs[(tile * n + j) * n + i];
            let y = |tile: usize, j: usize, i: usize| ys[(tile * n + j) * n + i];
            let split = |word: &str| word[..word.len() - 1].parse::<usize>().unwrap();
            let east = |t: usize, j: usize, i: usize| match RIGHT[t] {
                _ if i + 1 < n => x(t, j, i + 1),
                "" => 0.0,
                word if word.ends_with('s') => x(split(word), j, 0),
                word => y(split(word), 0, n - 1 - j),
            };
            let north = |t: usize, j: usize, i: usize| match TOP[t] {
                _ if j + 1 < n => y(t, j + 1, i),
                word if word.ends_with('s') => y(split(word), 0, i),
                word => x(split(word), n - 1 - i, 0),
            };
            for staggering in [Staggering::Centres, Staggering::Faces] {
                let zonal = rotated(&grid, staggering, Orientation::Zonal, &xs, &ys);
                let meridional = rotated(&grid, staggering, Orientation::Meridional, &xs, &ys);
                for at in 0..13 * n * n {
                    let (t, j, i) = (at / (n * n), at / n % n, at % n);
                    let (u, v) = match staggering {
                        Staggering::Centres => (x(t, j, i), y(t, j, i)),
                        Staggering::Faces => (0.5 * (x(t, j, i) + east(t, j, i)), 0.5 * (y(t, j, i) + north(t, j, i))),
                    };
                    let (cs, sn) = (grid.cs[at], grid.sn[at]);
                    prop_assert_eq!(zonal[at], u * cs - v * sn, "{} {} {}", t, j, i);
                    prop_assert_eq!(meridional[at], u * sn + v * cs, "{} {} {}", t, j, i);
                }
            }
        }
    }

    /// Around the Earth: on facets 1 and 2 x points east, on facets 4 and 5 y does, and the cap is at rest. No seam may
    /// show.
    #[test]
    fn eastward_flow_is_eastward_on_all_faces() {
        let n = 4;
        let facet = |tile: usize| match tile {
            0..=5 => (1.0, 0.0),
            6 => (0.0, 0.0),
            _ => (0.0, -1.0),
        };
        let (cs, sn): (Vec<f32>, Vec<f32>) = (0..13 * n * n).map(|at| facet(at / (n * n))).unzip();
        let (x, y) = (cs.clone(), sn.iter().map(|sn| -sn).collect::<Vec<_>>());
        let still: Vec<f32> = (0..13 * n * n).map(|at| f32::from(u8::from(at / (n * n) != 6))).collect();
        let grid = Native::with_angles(n, cs, sn);
        for staggering in [Staggering::Centres, Staggering::Faces] {
            assert_eq!(rotated(&grid, staggering, Orientation::Zonal, &x, &y), still, "{staggering:?}");
            let north = rotated(&grid, staggering, Orientation::Meridional, &x, &y);
            assert!(north.iter().all(|v| *v == 0.0), "{staggering:?}");
        }
    }
}
