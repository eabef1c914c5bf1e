//! The horizontal grid: corners, centres, lengths, areas and angles.
//!
//! Four facets of 90 degrees of longitude reach from 80 S to the Arctic, and a fifth one caps them. South of the
//! subpolar seas the facets are Mercator grids, whose cells are about as tall as wide. Towards the cap their rows bend
//! northwards between the four points where three facets meet (67 N), just so far that all angles there are 120
//! degrees. The cap fills the near-square that remains.

use super::sphere::{self, SpaceVector, arc, dot, minus, point};
use super::topology::{self, TILES, below, cells, index, left};
use std::collections::HashMap;

/// Radius of the Earth in metres, as the model has it.
pub(super) const RADIUS: f64 = 6_370_000.0;
/// Latitude of the southern end of the grid, in degrees north.
pub(super) const SOUTH: f64 = -80.0;
/// Latitude of the four corners of the cap, in degrees north.
const CAP: f64 = 67.0;
/// Longitude of the western edge of facet 1, in degrees east.
const WEST: f64 = -38.0;

/// A horizontal grid of 13 tiles of N x N cells. Planes are in tile, j, i order; units are degrees, metres, square
/// metres.
pub(super) struct DemoGeometry {
    pub(super) n: usize,
    /// Longitude and latitude of the corners, 13 x (N+1) x (N+1).
    pub(super) corners: Vec<(f64, f64)>,
    /// Longitude and latitude of the cell centres, 13 x N x N.
    pub(super) centres: Vec<(f64, f64)>,
    pub(super) rac: Vec<f64>,
    pub(super) raw: Vec<f64>,
    pub(super) ras: Vec<f64>,
    pub(super) raz: Vec<f64>,
    pub(super) dxc: Vec<f64>,
    pub(super) dyc: Vec<f64>,
    pub(super) dxg: Vec<f64>,
    pub(super) dyg: Vec<f64>,
    pub(super) cs: Vec<f64>,
    pub(super) sn: Vec<f64>,
}

impl DemoGeometry {
    /// Makes the grid with tiles of `n` x `n` cells.
    pub(super) fn new(n: usize) -> Self {
        let corners = corners(n);
        let vectors: Vec<SpaceVector> = corners.iter().map(|&(lon, lat)| point(lon, lat)).collect();
        // Counter-clockwise from the corner at the cell's own indices.
        let around = |cell: topology::Cell| {
            let first = corner(n, cell);
            [vectors[first], vectors[first + 1], vectors[first + n + 2], vectors[first + n + 1]]
        };
        let middles: Vec<SpaceVector> = cells(n).map(|cell| sphere::middle(&around(cell))).collect();
        let centres: Vec<_> = middles.iter().map(|&m| sphere::degrees(m)).collect();
        let rac: Vec<_> = cells(n)
            .map(|cell| {
                let [a, b, c, d] = around(cell);
                (sphere::triangle(a, b, c) + sphere::triangle(a, c, d)) * RADIUS * RADIUS
            })
            .collect();
        let size = TILES * n * n;
        let empty = || Vec::with_capacity(size);
        let (mut raw, mut ras, mut dxc, mut dyc) = (empty(), empty(), empty(), empty());
        let (mut dxg, mut dyg, mut cs, mut sn) = (empty(), empty(), empty(), empty());
        for cell in cells(n) {
            let here = index(n, cell);
            let [a, b, c, d] = around(cell);
            dxg.push(arc(a, b) * RADIUS);
            dyg.push(arc(a, d) * RADIUS);
            // For lengths and areas, the mirror image of the cell itself lies beyond the southern end.
            let (width, area) = match left(n, cell).map(|other| index(n, other)) {
                Some(other) => (arc(middles[here], middles[other]), (rac[here] + rac[other]) / 2.0),
                None => (2.0 * arc(middles[here], sphere::middle(&[a, d])), rac[here]),
            };
            dxc.push(width * RADIUS);
            raw.push(area);
            let (height, area) = match below(n, cell).map(|other| index(n, other)) {
                Some(other) => (arc(middles[here], middles[other]), (rac[here] + rac[other]) / 2.0),
                None => (2.0 * arc(middles[here], sphere::middle(&[a, b])), rac[here]),
            };
            dyc.push(height * RADIUS);
            ras.push(area);
            let (east, north) = sphere::east_north(centres[here].0, centres[here].1);
            let along = minus(sphere::middle(&[b, c]), sphere::middle(&[a, d]));
            let (x, y) = (dot(along, east), dot(along, north));
            cs.push(x / libm::hypot(x, y));
            sn.push(y / libm::hypot(x, y));
        }
        let raz = vorticity_areas(n, &corners, &rac);
        DemoGeometry { n, corners, centres, rac, raw, ras, raz, dxc, dyc, dxg, dyg, cs, sn }
    }

    /// Returns longitude and latitude of the corner at a cell's own indices.
    pub(super) fn own_corner(&self, cell: topology::Cell) -> (f64, f64) {
        self.corners[corner(self.n, cell)]
    }

    /// Returns the four corners of a cell, counter-clockwise from its own.
    pub(super) fn cell_corners(&self, cell: topology::Cell) -> [(f64, f64); 4] {
        let first = corner(self.n, cell);
        [first, first + 1, first + self.n + 2, first + self.n + 1].map(|at| self.corners[at])
    }
}

/// Returns the position of a corner in the 13 x (N+1) x (N+1) field.
pub(super) fn corner(n: usize, (tile, j, i): topology::Cell) -> usize {
    (tile * (n + 1) + j) * (n + 1) + i
}

/// Returns the Mercator ordinate, in radians, of a latitude in degrees.
fn ordinate(latitude: f64) -> f64 {
    libm::asinh(libm::tan(latitude.to_radians()))
}

/// Returns a corner of one of the four outer facets: `quarter` 0 to 3 from the west, `column` from the facet's western
/// edge, `row` from the south.
fn outer(n: usize, quarter: usize, column: usize, row: usize) -> (f64, f64) {
    let across = column as f64 / n as f64;
    let up = row as f64 / (3 * n) as f64;
    let turn = (90.0 * across - 45.0).to_radians();
    // tan(30 deg) / 2: each side of the cap meets its corner 30 degrees off the parallel.
    let depth = 1.0 / 12f64.sqrt();
    let bend = -libm::log(1.0 - depth * libm::cos(2.0 * turn));
    let (bottom, top) = (ordinate(SOUTH), ordinate(CAP));
    let y = bottom + (top - bottom) * up + bend * libm::pow(up, 6.0);
    (sphere::wrap(WEST + 90.0 * quarter as f64 + 90.0 * across), libm::atan(libm::sinh(y)).to_degrees())
}

/// Returns all corners, 13 x (N+1) x (N+1). Points that tiles share are equal to the last bit.
fn corners(n: usize) -> Vec<(f64, f64)> {
    let mut all = Vec::with_capacity(TILES * (n + 1) * (n + 1));
    for tile in 0..TILES {
        for j in 0..=n {
            for i in 0..=n {
                all.push(match tile {
                    0..=5 => outer(n, tile / 3, i, tile % 3 * n + j),
                    6 => cap(n, j, i),
                    // The model's axes: i runs southwards, j eastwards.
                    _ => outer(n, (tile - 7) / 3 + 2, j, 3 * n - (tile - 7) % 3 * n - i),
                });
            }
        }
    }
    all
}

/// Returns a corner of the cap. Its edge is that of the outer facets, and its inside is blended from the four edges.
fn cap(n: usize, j: usize, i: usize) -> (f64, f64) {
    let bottom = |i: usize| outer(n, 1, i, 3 * n);
    let right = |j: usize| outer(n, 2, j, 3 * n);
    let top = |i: usize| outer(n, 3, n - i, 3 * n);
    let left = |j: usize| outer(n, 0, n - j, 3 * n);
    match (j, i) {
        (0, _) => bottom(i),
        (_, 0) => left(j),
        _ if i == n => right(j),
        _ if j == n => top(i),
        _ => {
            let (u, v) = (i as f64 / n as f64, j as f64 / n as f64);
            let (b, t, l, r) = (flat(bottom(i)), flat(top(i)), flat(left(j)), flat(right(j)));
            let (sw, se, ne, nw) = (flat(bottom(0)), flat(bottom(n)), flat(top(n)), flat(top(0)));
            let mut p = [0.0; 2];
            for (x, p) in p.iter_mut().enumerate() {
                *p = (1.0 - v) * b[x] + v * t[x] + (1.0 - u) * l[x] + u * r[x]
                    - (1.0 - v) * ((1.0 - u) * sw[x] + u * se[x])
                    - v * ((1.0 - u) * nw[x] + u * ne[x]);
            }
            raised(p)
        }
    }
}

/// Projects a point to the plane: a stereographic projection from the south pole.
fn flat((longitude, latitude): (f64, f64)) -> [f64; 2] {
    let r = libm::tan(((90.0 - latitude) / 2.0).to_radians());
    let (sin, cos) = libm::sincos(longitude.to_radians());
    [r * cos, r * sin]
}

/// Returns longitude and latitude of a point of the plane.
fn raised([x, y]: [f64; 2]) -> (f64, f64) {
    let r = libm::hypot(x, y);
    if r < 1e-12 {
        return (0.0, 90.0);
    }
    (sphere::wrap(libm::atan2(y, x).to_degrees()), 90.0 - 2.0 * libm::atan(r).to_degrees())
}

/// Returns the areas around the corners: a quarter of each adjacent cell; there are three of these where three facets
/// meet.
fn vorticity_areas(n: usize, corners: &[(f64, f64)], rac: &[f64]) -> Vec<f64> {
    let key = |at: usize| (corners[at].0.to_bits(), corners[at].1.to_bits());
    let mut areas: HashMap<(u64, u64), f64> = HashMap::with_capacity(corners.len());
    for (cell, area) in cells(n).zip(rac) {
        let first = corner(n, cell);
        for at in [first, first + 1, first + n + 1, first + n + 2] {
            *areas.entry(key(at)).or_default() += area / 4.0;
        }
    }
    cells(n).map(|cell| areas.get(&key(corner(n, cell))).copied().unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sphere::cross;
    use edp_engine::grid::topology::{Join, Neighbour, RIGHT, TOP};
    use std::f64::consts::PI;

    /// Positive if `b` and `c` lie counter-clockwise around `a`, seen from outside.
    fn turn(a: SpaceVector, b: SpaceVector, c: SpaceVector) -> f64 {
        dot(a, cross(minus(b, a), minus(c, a)))
    }

    #[test]
    fn seams_match() {
        for n in [6, 7, 30] {
            let all = corners(n);
            let at = |tile, j, i| all[corner(n, (tile, j, i))];
            for tile in 0..TILES {
                for s in 0..=n {
                    match RIGHT[tile] {
                        Some(Neighbour { tile: other, join: Join::Straight }) => {
                            assert_eq!(at(tile, s, n), at(other, s, 0));
                        }
                        Some(Neighbour { tile: other, join: Join::Turned }) => {
                            assert_eq!(at(tile, s, n), at(other, 0, n - s));
                        }
                        None => assert!((at(tile, s, n).1 - SOUTH).abs() < 1e-9),
                    }
                    let Neighbour { tile: other, join } = TOP[tile].unwrap();
                    match join {
                        Join::Straight => assert_eq!(at(tile, n, s), at(other, 0, s)),
                        Join::Turned => assert_eq!(at(tile, n, s), at(other, n - s, 0)),
                    }
                }
            }
            for tile in [0, 3] {
                assert!((0..=n).all(|i| (at(tile, 0, i).1 - SOUTH).abs() < 1e-9));
            }
        }
    }

    #[test]
    fn neighbours_share_two_corners() {
        let n = 6;
        let grid = DemoGeometry::new(n);
        for cell in cells(n) {
            for other in [left(n, cell), below(n, cell)].into_iter().flatten() {
                let mine = grid.cell_corners(cell);
                let shared = grid.cell_corners(other).iter().filter(|c| mine.contains(c)).count();
                assert_eq!(shared, 2, "{cell:?} {other:?}");
            }
        }
    }

    #[test]
    fn no_cell_is_folded() {
        for n in [6, 30] {
            let grid = DemoGeometry::new(n);
            for cell in cells(n) {
                let c = grid.cell_corners(cell).map(|(lon, lat)| point(lon, lat));
                for k in 0..4 {
                    assert!(turn(c[k], c[(k + 1) % 4], c[(k + 3) % 4]) > 0.0, "{cell:?}");
                }
            }
        }
    }

    #[test]
    fn areas_sum_to_all_north_of_80_south() {
        let whole = 2.0 * PI * RADIUS * RADIUS * (1.0 - libm::sin(SOUTH.to_radians()));
        for (n, tolerance) in [(6, 2e-3), (30, 1e-4)] {
            let grid = DemoGeometry::new(n);
            let sum: f64 = grid.rac.iter().sum();
            assert!((sum / whole - 1.0).abs() < tolerance, "{}", sum / whole - 1.0);
            // The quarters around corners on the southern edge of facets 4 and 5 are not stored.
            let around: f64 = grid.raz.iter().sum();
            assert!(around < sum && around > 0.99 * sum);
        }
    }

    #[test]
    fn angles_follow_the_model_axes() {
        let n = 8;
        let grid = DemoGeometry::new(n);
        for cell in cells(n) {
            let (cs, sn) = (grid.cs[index(n, cell)], grid.sn[index(n, cell)]);
            assert!((cs * cs + sn * sn - 1.0).abs() < 1e-12);
            match cell.0 {
                0 | 1 | 3 | 4 => assert!(cs > 0.97, "{cell:?} {cs}"),
                8 | 9 | 11 | 12 => assert!(sn < -0.97, "{cell:?} {sn}"),
                _ => {}
            }
        }
    }

    #[test]
    fn cells_are_about_as_tall_as_wide() {
        let grid = DemoGeometry::new(30);
        for (x, y) in grid.dxg.iter().zip(&grid.dyg) {
            assert!(x / y > 0.4 && x / y < 2.5, "{x} {y}");
        }
    }
}
