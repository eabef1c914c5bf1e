//! The cells of the native grid, with the quantities needed for making mapping factors.

use super::directory;
use super::error::GridError;
use super::geometry::Geometry;
use super::mask::Mask;
use super::model_files::ModelFiles;
use crate::mds::compact::TILES;
use crate::verified_files::VerifiedFiles;
use std::path::{Path, PathBuf};

/// The cells of a native grid: their positions, their sizes, and the levels on which they are wet.
#[derive(Debug)]
pub struct NativeCells {
    /// The geometry file, or the directory with the model's own files.
    pub origin: PathBuf,
    /// Number of cells along the side of a tile, N.
    pub n: usize,
    /// Number of layers, nz.
    pub levels: usize,
    /// Longitude of cell centres (tile, j, i), degrees.
    pub xc: Vec<f32>,
    /// Latitude of cell centres (tile, j, i), degrees.
    pub yc: Vec<f32>,
    /// Length of the southern side of the cells (tile, j_g, i), metres.
    pub dxg: Vec<f32>,
    /// Length of the western side of the cells (tile, j, i_g), metres.
    pub dyg: Vec<f32>,
    /// Thickness of the layers (k), metres.
    pub drf: Vec<f32>,
    /// Cells with an open fraction hFacC > 0 (k, tile, j, i).
    pub wet: Mask,
    /// Mask of C points (k, tile, j, i): the geometry's own, or that of `wet` if it has none.
    pub mask_c: Mask,
}

impl NativeCells {
    /// Reads the cells from a native geometry file, or from a grid directory: from its one file `*native*.nc`, or from
    /// the MDS files and `mitgrid` files of a model run.
    ///
    /// # Errors
    /// Returns an error if a file or variable is missing or unreadable, or if shapes do not fit each other.
    pub fn load(grid: &Path) -> Result<NativeCells, GridError> {
        if grid.is_file() {
            return NativeCells::from_geometry(grid, grid.parent().unwrap_or(Path::new("")));
        }
        match directory::native(grid, &VerifiedFiles::default()) {
            Ok(file) => NativeCells::from_geometry(&file, grid),
            Err(GridError::NoGeometry { .. }) => NativeCells::from_model(&ModelFiles::open(grid)?),
            Err(error) => Err(error),
        }
    }

    /// Returns the heights of the upper and lower face of each layer in metres, negative downwards. They are sums of the
    /// thicknesses, as with EDP.
    pub fn depth_bounds(&self) -> Vec<[f64; 2]> {
        let mut depth = 0.0;
        let below = |thickness: &f32| {
            let upper = depth;
            depth -= f64::from(*thickness);
            [upper, depth]
        };
        self.drf.iter().map(below).collect()
    }

    fn from_geometry(file: &Path, directory: &Path) -> Result<NativeCells, GridError> {
        let geometry = Geometry::open(file, &VerifiedFiles::default())?;
        let (n, levels) = geometry.size()?;
        // Some geometry files lack a few of them, and the model's own files lie next to them.
        let beside = ModelFiles::open(directory).ok().filter(|files| (files.n, files.levels) == (n, levels));
        let horizontal = |variable: &str, name: &'static str| match &beside {
            Some(files) if !geometry.has(variable) => files.needed(name),
            _ => geometry.values(variable, &[TILES, n, n]),
        };
        let thickness = match &beside {
            Some(files) if !geometry.has("drF") => files.profile("DRF", levels)?,
            _ => None,
        };
        let wet = geometry.mask("hFacC", (n, levels), false, u64::MAX)?;
        Ok(NativeCells {
            origin: file.to_owned(),
            n,
            levels,
            xc: horizontal("XC", "XC")?,
            yc: horizontal("YC", "YC")?,
            dxg: horizontal("dxG", "DXG")?,
            dyg: horizontal("dyG", "DYG")?,
            drf: thickness.map_or_else(|| geometry.values("drF", &[levels]), Ok)?,
            mask_c: match geometry.has("maskC") {
                true => geometry.mask("maskC", (n, levels), false, u64::MAX)?,
                false => wet.clone(),
            },
            wet,
        })
    }

    fn from_model(files: &ModelFiles) -> Result<NativeCells, GridError> {
        let missing = |name| GridError::NoModelFile { directory: files.directory().to_owned(), name };
        let wet = files.mask("hFacC")?.ok_or_else(|| missing("hFacC"))?;
        Ok(NativeCells {
            origin: files.directory().to_owned(),
            n: files.n,
            levels: files.levels,
            xc: files.needed("XC")?,
            yc: files.needed("YC")?,
            dxg: files.needed("DXG")?,
            dyg: files.needed("DYG")?,
            drf: files.profile("DRF", files.levels)?.ok_or_else(|| missing("DRF"))?,
            mask_c: wet.clone(),
            wet,
        })
    }
}

#[cfg(test)]
impl NativeCells {
    /// Returns cells at these positions, all of one size, with one list of wet cells for each level.
    pub(crate) fn scattered(n: usize, places: &[(f32, f32)], side: f32, wet: Vec<bool>) -> NativeCells {
        let plane = TILES * n * n;
        assert!(places.len() == plane && wet.len().is_multiple_of(plane));
        let levels = wet.len() / plane;
        let wet = Mask::new(n, &wet);
        NativeCells {
            origin: "scattered.nc".into(),
            n,
            levels,
            xc: places.iter().map(|place| place.0).collect(),
            yc: places.iter().map(|place| place.1).collect(),
            dxg: vec![side; plane],
            dyg: vec![side; plane],
            drf: vec![10.0; levels],
            mask_c: wet.clone(),
            wet,
        }
    }
}
