//! The regular grid to which native fields are regridded.

use super::CreateError;
use crate::mapping::MAX_CELLS;

/// Mean radius of the Earth in metres, used for the areas of regular cells.
pub const MEAN_RADIUS: f64 = 6_371_008.8;
/// Largest deviation of an extent from a whole number of cells, in cells.
const TOLERANCE: f64 = 1e-6;

/// The edges of a regular grid in degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TargetEdges {
    /// Longitude of the western edge.
    pub west: f64,
    /// Latitude of the southern edge.
    pub south: f64,
    /// Longitude of the eastern edge.
    pub east: f64,
    /// Latitude of the northern edge.
    pub north: f64,
}

impl TargetEdges {
    /// The whole Earth from the date line eastwards.
    pub const GLOBE: TargetEdges = TargetEdges { west: -180.0, south: -90.0, east: 180.0, north: 90.0 };
}

/// A regular grid of latitudes and longitudes in degrees. Rows run from south to north, columns from west to east.
#[derive(Debug, Clone, PartialEq)]
pub struct RegularTarget {
    /// Side of a cell in degrees.
    pub resolution: f64,
    /// Centres of the rows.
    pub latitudes: Vec<f64>,
    /// Centres of the columns.
    pub longitudes: Vec<f64>,
    /// Southern and northern edge of each row.
    pub latitude_bounds: Vec<[f64; 2]>,
    /// Western and eastern edge of each column.
    pub longitude_bounds: Vec<[f64; 2]>,
}

impl RegularTarget {
    /// Returns the grid of cells of `resolution` degrees that fill an extent. With `wrap`, longitudes are mapped to the
    /// range from -180 to 180, as EDP does, even if the columns then do not ascend.
    ///
    /// # Errors
    /// Returns an error if the extent is not one on Earth, if whole cells do not fill it, or if there would be too many
    /// cells.
    pub fn new(resolution: f64, extent: TargetEdges, wrap: bool) -> Result<RegularTarget, CreateError> {
        let TargetEdges { west, south, east, north } = extent;
        // A NaN fails each comparison.
        if !(resolution > 0.0 && resolution <= 180.0) {
            return Err(CreateError::Resolution { resolution });
        }
        let on_earth = (-90.0..north).contains(&south) && north <= 90.0 && (-360.0..east).contains(&west);
        if !(on_earth && east <= 720.0 && east - west <= 360.0) {
            return Err(CreateError::Edges { extent });
        }
        let count = |length: f64, what| {
            let cells = length / resolution;
            let whole = cells.round();
            if whole < 1.0 || (cells - whole).abs() > TOLERANCE {
                return Err(CreateError::PartialCells { what, degrees: length, resolution });
            }
            Ok(whole)
        };
        let (columns, rows) = (count(east - west, "longitudes")?, count(north - south, "latitudes")?);
        if rows * columns > MAX_CELLS as f64 {
            return Err(CreateError::TargetSize { cells: rows * columns, limit: MAX_CELLS });
        }
        let edge = |first: f64, last: f64, count: f64, at: f64| match at == count {
            true => last,
            false => first + at * resolution,
        };
        let axis = |first: f64, last: f64, count: f64| {
            let numbers = || (0..count as u32).map(f64::from);
            let centres: Vec<f64> = numbers().map(|at| first + (at + 0.5) * resolution).collect();
            let edges = numbers().map(|at| [edge(first, last, count, at), edge(first, last, count, at + 1.0)]);
            (centres, edges.collect::<Vec<_>>())
        };
        let (latitudes, latitude_bounds) = axis(south, north, rows);
        let (mut longitudes, mut longitude_bounds) = axis(west, east, columns);
        if wrap {
            for (centre, edges) in longitudes.iter_mut().zip(&mut longitude_bounds) {
                let turns = ((*centre + 180.0) / 360.0).floor();
                *centre -= 360.0 * turns;
                edges.iter_mut().for_each(|edge| *edge -= 360.0 * turns);
            }
        }
        Ok(RegularTarget { resolution, latitudes, longitudes, latitude_bounds, longitude_bounds })
    }

    /// Returns the number of rows and of columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.latitudes.len(), self.longitudes.len())
    }

    /// Returns the number of cells.
    pub fn cells(&self) -> usize {
        self.latitudes.len() * self.longitudes.len()
    }

    /// Returns the area of the cells of each row in square metres.
    pub fn areas(&self) -> Vec<f64> {
        let width = self.resolution.to_radians();
        let sine = |degrees: f64| libm::sin(degrees.to_radians());
        let area = |[south, north]: &[f64; 2]| MEAN_RADIUS * MEAN_RADIUS * (sine(*north) - sine(*south)) * width;
        self.latitude_bounds.iter().map(area).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn half_a_degree_around_the_globe() {
        let grid = RegularTarget::new(0.5, TargetEdges::GLOBE, true).unwrap();
        assert_eq!(grid.shape(), (360, 720));
        assert_eq!((grid.latitudes[0], grid.latitudes[359]), (-89.75, 89.75));
        assert_eq!((grid.longitudes[0], grid.longitudes[719]), (-179.75, 179.75));
        assert_eq!((grid.latitude_bounds[0], grid.latitude_bounds[359]), ([-90.0, -89.5], [89.5, 90.0]));
        assert_eq!((grid.longitude_bounds[0], grid.longitude_bounds[719]), ([-180.0, -179.5], [179.5, 180.0]));
        let sphere = 4.0 * std::f64::consts::PI * MEAN_RADIUS * MEAN_RADIUS;
        let areas = 720.0 * grid.areas().iter().sum::<f64>();
        assert!((areas / sphere - 1.0).abs() < 1e-13, "{areas} {sphere}");
    }

    #[test]
    fn regions_and_resolutions_that_are_no_binary_fractions() {
        let region = TargetEdges { west: 170.0, south: -10.0, east: 190.0, north: 10.0 };
        let grid = RegularTarget::new(0.1, region, false).unwrap();
        assert_eq!(grid.shape(), (200, 200));
        assert_eq!((grid.latitude_bounds[199][1], grid.longitude_bounds[199][1]), (10.0, 190.0));
        assert!(grid.latitude_bounds.windows(2).all(|pair| pair[0][1] == pair[1][0]));
        assert!(grid.longitudes.is_sorted());
        let wrapped = RegularTarget::new(0.1, region, true).unwrap();
        assert!((wrapped.longitudes[100] + 179.95).abs() < 1e-9 && (wrapped.longitudes[99] - 179.95).abs() < 1e-9);
        assert_eq!(wrapped.longitude_bounds[199][1], -170.0);
        assert_eq!(RegularTarget::new(1.0 / 3.0, TargetEdges::GLOBE, false).unwrap().shape(), (540, 1080));
    }

    #[test]
    fn what_is_no_regular_grid_is_refused() {
        let refused = |resolution, [west, south, east, north]: [f64; 4]| {
            RegularTarget::new(resolution, TargetEdges { west, south, east, north }, false).unwrap_err().to_string()
        };
        let globe = [-180.0, -90.0, 180.0, 90.0];
        for resolution in [0.0, -1.0, f64::NAN, f64::INFINITY, 181.0] {
            assert!(refused(resolution, globe).contains("resolution"), "{resolution}");
        }
        for extent in [
            [-180.0, 90.0, 180.0, -90.0],
            [-180.0, -91.0, 180.0, 90.0],
            [-180.0, -90.0, 180.0, 90.5],
            [20.0, 0.0, 20.0, 10.0],
            [-180.0, -90.0, 181.0, 90.0],
            [f64::NAN, -90.0, 180.0, 90.0],
        ] {
            assert!(refused(0.5, extent).contains("extent"), "{extent:?}");
        }
        assert!(refused(0.7, globe).contains("360 degrees of longitudes are no whole number of cells of 0.7"));
        assert!(refused(0.5, [0.0, 0.0, 10.0, 9.7]).contains("latitudes"));
        assert!(refused(0.001, globe).contains("cells"));
    }
}
