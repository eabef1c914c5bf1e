//! Vectors that are mapped to a regular grid independently of directions: their Cartesian components are mapped, and
//! the eastward and northward components are formed at the target.
//!
//! East and north at a source cell are not those at a target cell with another longitude. Between 30 and 60 degrees
//! north the difference is some thousandths of the speed; in the last two degrees at the pole it is up to two thirds of
//! it.

use crate::grid::{Latlon, Native};
use crate::mds::compact::{self, TILES};
use edp_protocol::recipe::Orientation;

/// Returns sine and cosine of an angle in degrees, by a library that gives the same last bit everywhere.
fn sine_and_cosine(degrees: f32) -> (f64, f64) {
    libm::sincos(f64::from(degrees).to_radians())
}

/// Returns the Cartesian components of the vectors of one level. All planes are compact (13N rows by N columns). The x
/// axis leaves the sphere at longitude 0 on the equator, the z axis at the north pole.
///
/// # Panics
/// Panics if a plane does not have 13 N² values.
pub(crate) fn cartesian(grid: &Native, east: &[f32], north: &[f32]) -> [Vec<f64>; 3] {
    let n = grid.n;
    let mut components = [const { Vec::new() }; 3].map(|mut plane: Vec<f64>| {
        plane.resize(TILES * n * n, 0.0);
        plane
    });
    for line in 0..TILES * n {
        let start = compact::row(n, line / n, line % n) * n;
        for column in 0..n {
            let (cell, at) = (line * n + column, start + column);
            let (sin_lon, cos_lon) = sine_and_cosine(grid.xc[cell]);
            let (sin_lat, cos_lat) = sine_and_cosine(grid.yc[cell]);
            let (east, north) = (f64::from(east[at]), f64::from(north[at]));
            components[0][at] = -east * sin_lon - north * sin_lat * cos_lon;
            components[1][at] = east * cos_lon - north * sin_lat * sin_lon;
            components[2][at] = north * cos_lat;
        }
    }
    components
}

/// The directions of one orientation at the cells of a regular grid.
#[derive(Debug, Clone)]
pub struct Directions {
    orientation: Orientation,
    /// Sine and cosine of each latitude and of each longitude.
    latitudes: Vec<(f64, f64)>,
    longitudes: Vec<(f64, f64)>,
}

impl Directions {
    /// Computes the directions at the cells of a grid.
    pub fn new(grid: &Latlon, orientation: Orientation) -> Directions {
        let of = |degrees: &[f32]| degrees.iter().map(|degrees| sine_and_cosine(*degrees)).collect();
        Directions { orientation, latitudes: of(&grid.latitude), longitudes: of(&grid.longitude) }
    }

    /// Returns the component of a vector in the direction of the cell with this number (latitude times longitudes plus
    /// longitude).
    pub fn component(&self, cell: usize, [x, y, z]: [f64; 3]) -> f64 {
        let (sin_lat, cos_lat) = self.latitudes[cell / self.longitudes.len()];
        let (sin_lon, cos_lon) = self.longitudes[cell % self.longitudes.len()];
        match self.orientation {
            Orientation::Zonal => -x * sin_lon + y * cos_lon,
            Orientation::Meridional => -sin_lat * (x * cos_lon + y * sin_lon) + z * cos_lat,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_vector_keeps_its_length_and_at_its_own_place_its_components() {
        let n = 2;
        let cells = TILES * n * n;
        let mut grid = Native::with_angles(n, vec![1.0; cells], vec![0.0; cells]);
        grid.xc = (0..cells).map(|cell| cell as f32 * 6.0 - 170.0).collect();
        grid.yc = (0..cells).map(|cell| 89.0 - cell as f32 * 3.0).collect();
        let mut east = vec![0.0; cells];
        let mut north = east.clone();
        for line in 0..TILES * n {
            let start = compact::row(n, line / n, line % n) * n;
            for column in 0..n {
                (east[start + column], north[start + column]) = ((line * n + column) as f32, 3.0);
            }
        }
        let components = cartesian(&grid, &east, &north);
        for line in 0..TILES * n {
            let start = compact::row(n, line / n, line % n) * n;
            for column in 0..n {
                let cell = line * n + column;
                let vector = [0, 1, 2].map(|axis| components[axis][start + column]);
                let place = Latlon { latitude: vec![grid.yc[cell]], longitude: vec![grid.xc[cell]], z: vec![] };
                let of = |orientation| Directions::new(&place, orientation).component(0, vector);
                assert!((of(Orientation::Zonal) - cell as f64).abs() < 1e-12, "{cell}");
                assert!((of(Orientation::Meridional) - 3.0).abs() < 1e-12, "{cell}");
                let length: f64 = vector.iter().map(|value| value * value).sum();
                assert!((length - (cell * cell + 9) as f64).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn across_the_pole_east_becomes_west() {
        let vector = [0.0, 1.0, 0.0]; // eastward at longitude 0
        let of = |longitude: f32| {
            let place = Latlon { latitude: vec![89.9], longitude: vec![longitude], z: vec![] };
            Directions::new(&place, Orientation::Zonal).component(0, vector)
        };
        assert!((of(0.0) - 1.0).abs() < 1e-15 && (of(180.0) + 1.0).abs() < 1e-15 && of(90.0).abs() < 1e-15);
    }
}
