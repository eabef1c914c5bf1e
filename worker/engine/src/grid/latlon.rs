//! The regular grid to which native fields are mapped.

use super::error::GridError;
use super::geometry::Geometry;
use super::{MAX_LEVELS, directory};
use crate::verified_files::VerifiedFiles;
use std::path::Path;

/// Largest number of rows or columns that is accepted.
const MAX_CELLS: usize = 100_000;

/// Cell centres of the latlon grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Latlon {
    /// Latitudes in degrees, in the order of the file (south to north in ECCO).
    pub latitude: Vec<f32>,
    /// Longitudes in degrees, -180 to 180.
    pub longitude: Vec<f32>,
    /// Heights of the level centres in metres, negative below the surface.
    pub z: Vec<f32>,
}

impl Latlon {
    /// Reads the only file `*latlon*.nc` of a grid directory.
    ///
    /// # Errors
    /// Returns an error if there is none, or more than one, or if one of `latitude`, `longitude`, `Z` is missing or has
    /// more than one dimension.
    pub fn load(directory: &Path) -> Result<Latlon, GridError> {
        Latlon::load_verified(directory, &VerifiedFiles::default())
    }

    /// Reads the latlon grid from verified files.
    ///
    /// # Errors
    /// Returns the errors of [`Latlon::load`].
    pub(crate) fn load_verified(directory: &Path, verified: &VerifiedFiles) -> Result<Latlon, GridError> {
        let geometry = Geometry::open(&directory::latlon(directory, verified)?, verified)?;
        let axis = |name: &'static str, limit: usize| match geometry.shape(name)?[..] {
            [length] => {
                geometry.check_size(name, length, limit)?;
                geometry.values(name, &[length])
            }
            ref found => Err(geometry.wrong_shape(name, "one dimension".into(), found.to_vec())),
        };
        Ok(Latlon {
            latitude: axis("latitude", MAX_CELLS)?,
            longitude: axis("longitude", MAX_CELLS)?,
            z: axis("Z", MAX_LEVELS)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn write(path: &Path, lon_dims: &[&str]) {
        let mut file = netcdf::create(path).unwrap();
        for (name, size) in [("latitude", 2), ("longitude", 4), ("Z", 1)] {
            file.add_dimension(name, size).unwrap();
        }
        file.add_variable::<f32>("Z", &["Z"]).unwrap().put_values(&[-5.0_f32], ..).unwrap();
        file.add_variable::<f32>("latitude", &["latitude"]).unwrap().put_values(&[-45.0_f32, 45.0], ..).unwrap();
        let mut longitude = file.add_variable::<f64>("longitude", lon_dims).unwrap();
        if lon_dims.len() == 1 {
            longitude.put_values(&[-135.0, -45.0, 45.0, 135.0], ..).unwrap();
        }
    }

    #[test]
    fn reads_the_axes() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Latlon::load(dir.path()).unwrap_err().to_string().contains("no latlon geometry"));
        write(&dir.path().join("g_latlon.nc"), &["longitude"]);
        let grid = Latlon::load(dir.path()).unwrap();
        assert_eq!(grid.latitude, [-45.0, 45.0]);
        assert_eq!(grid.longitude, [-135.0, -45.0, 45.0, 135.0]);
        assert_eq!(grid.z, [-5.0]);
    }

    #[test]
    fn refuses_axes_of_two_dimensions() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("g_latlon.nc"), &["latitude", "longitude"]);
        let message = Latlon::load(dir.path()).unwrap_err().to_string();
        assert!(message.contains("longitude has the shape [2, 4], expected one dimension"), "{message}");
    }

    #[test]
    #[ignore = "needs EDP_REAL_DATA: make conformance"]
    fn real_data_axes() {
        let grid = Latlon::load(&crate::real_data::real_data("V4r4/grid_ECCOV4r4")).unwrap();
        assert_eq!((grid.latitude.len(), grid.longitude.len(), grid.z.len()), (360, 720, 50));
        assert_eq!((grid.latitude[0], grid.longitude[719], grid.z[1]), (-89.75, 179.75, -15.0));
    }
}
