//! The extent and depth of the demo's ocean, and the open fractions of its cells.

use super::coast::{LAND, Line, RIDGES};
use super::geometry::DemoGeometry;
use super::topology::{below, cells, index, left};

/// Thickness of the levels from the top down, in metres. Their number does not depend on N.
pub(super) const THICKNESS: [f64; 10] = [15.0, 25.0, 40.0, 70.0, 120.0, 230.0, 450.0, 850.0, 1500.0, 2200.0];
/// Number of levels of the demo's grid.
pub const LEVELS: usize = THICKNESS.len();
/// Smallest open fraction of a cell. Cells with a smaller one are closed, or opened to this fraction, whichever is
/// nearer.
pub(super) const LEAST_OPEN: f64 = 0.2;
/// Gravitational acceleration, m s-2.
pub(super) const GRAVITY: f64 = 9.81;

/// Returns the heights of the level faces in metres, from 0 downwards: LEVELS + 1 values.
pub(super) fn faces() -> Vec<f64> {
    let mut z = 0.0;
    let mut faces = vec![z];
    faces.extend(THICKNESS.map(|thickness| {
        z -= thickness;
        z
    }));
    faces
}

/// Returns the heights of the level centres in metres.
pub(super) fn centres() -> Vec<f64> {
    faces().windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect()
}

/// The open fractions of the cells. 3-D fields are level by level, planes in tile, j, i order.
pub(super) struct OpenFractions {
    /// Depth of the sea floor as the cells represent it, in metres; 0 on land.
    pub(super) depth: Vec<f64>,
    pub(super) c: Vec<f32>,
    pub(super) w: Vec<f32>,
    pub(super) s: Vec<f32>,
}

impl OpenFractions {
    /// Opens the cells of a grid down to the sea floor below their centres.
    pub(super) fn new(grid: &DemoGeometry) -> Self {
        let n = grid.n;
        let plane = grid.centres.len();
        let columns: Vec<[f64; LEVELS]> = grid.centres.iter().map(|&(lon, lat)| column(depth(lon, lat))).collect();
        let depth = columns.iter().map(|open| open.iter().zip(THICKNESS).map(|(h, dz)| h * dz).sum()).collect();
        let mut c = Vec::with_capacity(plane * LEVELS);
        for k in 0..LEVELS {
            c.extend(columns.iter().map(|open| open[k] as f32));
        }
        let (mut w, mut s) = (Vec::with_capacity(c.len()), Vec::with_capacity(c.len()));
        for level in c.chunks_exact(plane) {
            let between = |here: f32, other: Option<_>| other.map_or(0.0, |other| here.min(level[index(n, other)]));
            for (cell, here) in cells(n).zip(level) {
                w.push(between(*here, left(n, cell)));
                s.push(between(*here, below(n, cell)));
            }
        }
        OpenFractions { depth, c, w, s }
    }
}

/// Returns the open fractions of one column above a sea floor at `depth` metres.
fn column(depth: f64) -> [f64; LEVELS] {
    let mut top = 0.0;
    THICKNESS.map(|thickness| {
        let open = ((depth - top) / thickness).clamp(0.0, 1.0);
        top += thickness;
        match open {
            _ if open < LEAST_OPEN / 2.0 => 0.0,
            _ => open.max(LEAST_OPEN),
        }
    })
}

/// Returns the depth of the sea floor in metres, 0 on land. The ocean is nowhere shallower than 50 m.
fn depth(longitude: f64, latitude: f64) -> f64 {
    let mut coast = f64::INFINITY;
    for outline in LAND {
        let (distance, inside) = to_line(outline, true, longitude, latitude);
        if inside {
            return 0.0;
        }
        coast = coast.min(distance);
    }
    let ridge = RIDGES.iter().map(|l| to_line(l, false, longitude, latitude).0).fold(f64::INFINITY, f64::min);
    // Polar shelves are broad.
    let polar = smooth((latitude.abs() - 60.0) / 12.0);
    let basin = smooth((coast - 0.4) / (4.0 + 5.0 * polar));
    let (x, y) = (longitude.to_radians(), latitude.to_radians());
    let hills = libm::sin(7.0 * x) * libm::cos(9.0 * y) + 0.6 * libm::cos(13.0 * x + 1.0) * libm::sin(17.0 * y);
    let abyss = 4900.0 - 700.0 * polar + 260.0 * hills * libm::cos(y);
    let crest = 2300.0 * libm::exp(-libm::pow(ridge / 4.5, 2.0));
    (50.0 + 110.0 * smooth(coast / 1.5) + basin * (abyss - 160.0 - crest * basin)).clamp(50.0, -faces()[LEVELS])
}

/// Returns 0 up to 0, 1 from 1 on, and a smooth transition in between.
pub(super) fn smooth(x: f64) -> f64 {
    let x = x.clamp(0.0, 1.0);
    x * x * (3.0 - 2.0 * x)
}

/// Returns the distance from a point to a line in degrees of arc, and true if a closed line goes around the point.
///
/// The surroundings of the point are taken as flat. For points far away, a rough distance is enough.
fn to_line(line: Line, closed: bool, longitude: f64, latitude: f64) -> (f64, bool) {
    let shrink = libm::cos(latitude.to_radians()).max(0.05);
    let (west, east) = line.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(w, e), p| (w.min(p.0), e.max(p.0)));
    let reach = (20.0 / shrink).min(180.0);
    let mut nearest = f64::INFINITY;
    let mut inside = false;
    for turn in [-360.0, 0.0, 360.0] {
        let x = longitude + turn;
        if x < west - reach || x > east + reach {
            continue;
        }
        let mut crossings = 0;
        let segments = if closed { line.len() } else { line.len() - 1 };
        for at in 0..segments {
            let (a, b) = (line[at], line[(at + 1) % line.len()]);
            if (a.1 > latitude) != (b.1 > latitude) && x < a.0 + (latitude - a.1) / (b.1 - a.1) * (b.0 - a.0) {
                crossings += 1;
            }
            let (ax, ay) = ((a.0 - x) * shrink, a.1 - latitude);
            let (dx, dy) = ((b.0 - a.0) * shrink, b.1 - a.1);
            let along = (-(ax * dx + ay * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
            nearest = nearest.min(libm::hypot(ax + along * dx, ay + along * dy));
        }
        inside |= closed && crossings % 2 == 1;
    }
    (nearest, inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_places() {
        for (lon, lat) in
            [(20.0, 10.0), (-100.0, 45.0), (100.0, 60.0), (-175.0, 66.5), (135.0, -25.0), (0.0, -79.0), (-42.0, 75.0)]
        {
            assert_eq!(depth(lon, lat), 0.0, "{lon} {lat}");
        }
        for (lon, lat) in [(-150.0, 0.0), (-20.0, -20.0), (80.0, -10.0), (0.0, 88.0), (-179.9, 0.0), (179.9, 0.0)] {
            assert!(depth(lon, lat) > 2000.0, "{lon} {lat} {}", depth(lon, lat));
        }
    }

    #[test]
    fn the_date_line_is_no_seam() {
        for lat in [-60.0, -30.0, 0.0, 30.0, 55.0, 75.0] {
            assert!((depth(-180.0, lat) - depth(179.999_999, lat)).abs() < 0.1);
        }
    }

    #[test]
    fn columns_open_from_the_top() {
        assert_eq!(column(0.0), [0.0; LEVELS]);
        assert_eq!(column(5500.0), [1.0; LEVELS]);
        assert_eq!(column(15.0 + 2.4)[..3], [1.0, 0.0, 0.0]);
        assert_eq!(column(15.0 + 2.6)[..3], [1.0, LEAST_OPEN, 0.0]);
        assert_eq!(column(15.0 + 12.5)[..3], [1.0, 0.5, 0.0]);
    }

    #[test]
    fn openness_of_a_whole_grid() {
        for n in [6, 30] {
            let grid = DemoGeometry::new(n);
            let open = OpenFractions::new(&grid);
            let plane = 13 * n * n;
            let wet: f64 = open.c[..plane].iter().filter(|h| **h > 0.0).count() as f64 / plane as f64;
            assert!((0.6..0.7).contains(&wet), "{wet}");
            for h in open.c.iter().chain(&open.w).chain(&open.s) {
                assert!(*h == 0.0 || (*h >= LEAST_OPEN as f32 && *h <= 1.0));
            }
            for k in 0..LEVELS {
                for cell in cells(n) {
                    let at = |cell| open.c[k * plane + index(n, cell)];
                    let here = k * plane + index(n, cell);
                    assert!(k == 0 || open.c[here] <= open.c[here - plane]);
                    assert_eq!(open.w[here], left(n, cell).map_or(0.0, |o| at(o).min(at(cell))));
                    assert_eq!(open.s[here], below(n, cell).map_or(0.0, |o| at(o).min(at(cell))));
                }
            }
            let deepest = open.depth.iter().fold(0.0, |a: f64, b| a.max(*b));
            assert!(deepest > 4500.0 && deepest <= 5500.0, "{deepest}");
        }
    }
}
