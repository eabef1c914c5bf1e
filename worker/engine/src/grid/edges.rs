//! Positions of the U and V points.

use std::sync::Arc;

/// Longitudes and latitudes of the U and V points in degrees, each in tile order.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgePoints {
    /// Longitudes of the U points (tile, j, i_g).
    pub xu: Arc<[f32]>,
    /// Latitudes of the U points (tile, j, i_g).
    pub yu: Arc<[f32]>,
    /// Longitudes of the V points (tile, j_g, i).
    pub xv: Arc<[f32]>,
    /// Latitudes of the V points (tile, j_g, i).
    pub yv: Arc<[f32]>,
}

impl EdgePoints {
    /// Returns the midpoints of the cell edges on the sphere.
    ///
    /// `longitudes` and `latitudes` are those of the corners of all cells (tile, j, i, corner). The corners are at (j,
    /// i), (j, i+1), (j+1, i+1), (j+1, i): the first and the last one bound the U edge, the first two the V edge.
    pub(crate) fn from_corners(longitudes: &[f32], latitudes: &[f32]) -> EdgePoints {
        let cells = longitudes.len().min(latitudes.len()) / 4;
        let empty = || Vec::with_capacity(cells);
        let (mut xu, mut yu, mut xv, mut yv) = (empty(), empty(), empty(), empty());
        for (lon, lat) in longitudes.as_chunks::<4>().0.iter().zip(latitudes.as_chunks::<4>().0) {
            let corner = |index: usize| unit_vector(lon[index], lat[index]);
            let first = corner(0);
            let (x, y) = middle(first, corner(3));
            xu.push(x);
            yu.push(y);
            let (x, y) = middle(first, corner(1));
            xv.push(x);
            yv.push(y);
        }
        EdgePoints { xu: xu.into(), yu: yu.into(), xv: xv.into(), yv: yv.into() }
    }
}

fn unit_vector(lon: f32, lat: f32) -> [f64; 3] {
    let (lon, lat) = (f64::from(lon).to_radians(), f64::from(lat).to_radians());
    [libm::cos(lat) * libm::cos(lon), libm::cos(lat) * libm::sin(lon), libm::sin(lat)]
}

/// Returns longitude (-180 to 180) and latitude of the midpoint of a great-circle arc.
///
/// The length of the sum of the two vectors cancels in both angles.
#[allow(clippy::cast_possible_truncation)]
fn middle(a: [f64; 3], b: [f64; 3]) -> (f32, f32) {
    let [x, y, z] = [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
    (libm::atan2(y, x).to_degrees() as f32, libm::atan2(z, libm::hypot(x, y)).to_degrees() as f32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn middles_of_a_regular_cell() {
        // a cell on the equator: its U edge is on a meridian, its V edge on the equator
        let points = EdgePoints::from_corners(&[10.0, 12.0, 12.0, 10.0], &[0.0, 0.0, 3.0, 3.0]);
        assert_eq!((points.xu[0], points.yu[0]), (10.0, 1.5));
        assert_eq!((points.xv[0], points.yv[0]), (11.0, 0.0));
    }

    #[test]
    fn crosses_the_date_line_and_bulges_polewards() {
        let points = EdgePoints::from_corners(&[179.0, -177.0, -177.0, 179.0], &[60.0, 60.0, 61.0, 61.0]);
        assert!((points.xv[0] + 179.0).abs() < 1e-4, "{}", points.xv[0]);
        // tan(middle) = tan(60) / cos(half the difference of longitude)
        let expected = libm::atan(libm::tan(60_f64.to_radians()) / libm::cos(2_f64.to_radians())).to_degrees();
        assert!((f64::from(points.yv[0]) - expected).abs() < 1e-5, "{}", points.yv[0]);
        assert!((points.xu[0] - 179.0).abs() < 1e-4 && (points.yu[0] - 60.5).abs() < 1e-4);
    }

    #[test]
    fn degenerate_edges_are_finite() {
        let points = EdgePoints::from_corners(&[38.0, 218.0, 38.0, 38.0], &[90.0, -90.0, 90.0, 90.0]);
        assert_eq!(points.yu[0], 90.0);
        assert!(points.xv[0].is_finite() && points.yv[0].is_finite());
    }
}
