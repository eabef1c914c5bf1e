//! The corners of the cells of each tile, where no `mitgrid` files have all of them.

use crate::grid::topology;
use crate::mds::compact::TILES;
use ndarray::{Array3, indices};

/// Returns the longitudes and latitudes of all corners (tile, N + 1, N + 1) from those at low i and j of the cells, and
/// how many of them are no corner of that kind and were extrapolated: on the edge of Antarctica, and where three facets
/// meet.
pub(super) fn all_corners(n: usize, xg: &[f32], yg: &[f32]) -> ([Array3<f32>; 2], usize) {
    let shape = (TILES, n + 1, n + 1);
    let (mut longitudes, mut latitudes) = (Array3::zeros(shape), Array3::zeros(shape));
    let mut extrapolated = 0;
    for at @ (tile, j, i) in indices(shape) {
        if let Some(corner) = topology::corner(n, tile, j, i) {
            (longitudes[at], latitudes[at]) = (xg[corner], yg[corner]);
            continue;
        }
        extrapolated += 1;
        let place = |j: usize, i: usize| unit_vector(longitudes[(tile, j, i)], latitudes[(tile, j, i)]);
        // The fourth corner of a cell whose others are known, or one step beyond the last two on a line.
        let [a, b, c] = match (j, i) {
            (0, i) if i > 1 => [place(0, i - 1), place(0, i - 1), place(0, i - 2)],
            (j, i) if i > 0 && j > 0 => [place(j, i - 1), place(j - 1, i), place(j - 1, i - 1)],
            (j, 0) if j > 1 => [place(j - 1, 0), place(j - 1, 0), place(j - 2, 0)],
            _ => [unit_vector(0.0, 0.0); 3],
        };
        let [x, y, z] = std::array::from_fn(|axis| a[axis] + b[axis] - c[axis]);
        longitudes[at] = libm::atan2(y, x).to_degrees() as f32;
        latitudes[at] = libm::atan2(z, libm::hypot(x, y)).to_degrees() as f32;
    }
    ([longitudes, latitudes], extrapolated)
}

/// Returns the position of a longitude and a latitude in degrees on the unit sphere.
pub(super) fn unit_vector(longitude: f32, latitude: f32) -> [f64; 3] {
    let (lon, lat) = (f64::from(longitude).to_radians(), f64::from(latitude).to_radians());
    [libm::cos(lat) * libm::cos(lon), libm::cos(lat) * libm::sin(lon), libm::sin(lat)]
}

/// Returns the four corners of each cell (tile, j, i, nb): at (j, i), (j, i+1), (j+1, i+1), (j+1, i).
pub(super) fn bounds(corners: &Array3<f32>) -> Vec<f32> {
    let mut bounds = Vec::with_capacity(4 * corners.len());
    for cell in corners.windows((1, 2, 2)) {
        bounds.extend([(0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)].map(|corner| cell[corner]));
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_go_around_the_cell() {
        let corners = Array3::from_shape_fn((13, 3, 3), |(tile, j, i)| (tile * 9 + j * 3 + i) as f32);
        let bounds = bounds(&corners);
        assert_eq!(bounds.len(), 13 * 4 * 4);
        assert_eq!(bounds[..8], [0.0, 1.0, 4.0, 3.0, 1.0, 2.0, 5.0, 4.0]);
        assert_eq!(bounds[16..20], [9.0, 10.0, 13.0, 12.0]);
    }
}
