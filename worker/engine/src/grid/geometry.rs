//! A geometry file in NetCDF, read with its shapes checked.

use super::error::GridError;
use super::mask::Mask;
use crate::held::Held;
use crate::libraries;
use crate::mds::compact::TILES;
use std::path::{Path, PathBuf};

/// Most bytes of one variable that are in memory at once while a mask is made from it.
const SLAB: usize = 256 << 20;

/// Above this, a value of an open fraction or mask is a fill value (9.97e36), which means land.
const FILL: f32 = 1e30;

pub(super) struct Geometry {
    path: PathBuf,
    file: netcdf::File,
}

impl Geometry {
    /// Opens a file, and if it is held the very one that is.
    pub(super) fn open(path: &Path, held: &Held) -> Result<Geometry, GridError> {
        let file = held.path(path).map_err(|source| GridError::Read { path: path.to_owned(), source })?;
        match libraries::open(&file) {
            Ok(file) => Ok(Geometry { path: path.to_owned(), file }),
            Err(source) => Err(GridError::Netcdf { file: path.to_owned(), what: "the file".into(), source }),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.file.variable(name).is_some()
    }

    /// Shape of a variable, slowest dimension first.
    pub(super) fn shape(&self, name: &str) -> Result<Vec<usize>, GridError> {
        Ok(self.variable(name)?.dimensions().iter().map(netcdf::Dimension::len).collect())
    }

    /// A whole variable, which must have exactly this shape.
    pub(super) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, GridError> {
        let found = self.shape(name)?;
        if found != shape {
            return Err(self.wrong_shape(name, format!("{shape:?}"), found));
        }
        self.variable(name)?.get_values::<f32, _>(..).map_err(|source| self.error(name, source))
    }

    /// Where a variable is above zero. It must have the shape (levels, tile, j, i) or, if that is allowed,
    /// (tile, j, i). Only a few levels are in memory as numbers at any time.
    pub(super) fn mask(&self, name: &str, n: usize, levels: usize, flat: bool) -> Result<Mask, GridError> {
        let plane = TILES * n * n;
        let found = self.shape(name)?;
        let levels = match found[..] {
            [] => 0,
            [TILES, j, i] if flat && j == n && i == n => 1,
            [k, TILES, j, i] if k == levels && j == n && i == n => levels,
            _ => 0,
        };
        if levels == 0 {
            let flat = if flat { format!("{:?} or ", [TILES, n, n]) } else { String::new() };
            return Err(self.wrong_shape(name, format!("{flat}[levels, {TILES}, {n}, {n}]"), found));
        }
        let variable = self.variable(name)?;
        let mut wet = Vec::new();
        let bytes = levels.saturating_mul(plane);
        let memory = |_| GridError::Memory { file: self.path.clone(), variable: name.into(), bytes };
        wet.try_reserve_exact(bytes).map_err(memory)?;
        if found.len() == 3 {
            let values = variable.get_values::<f32, _>(..).map_err(|source| self.error(name, source))?;
            wet.extend(values.into_iter().map(is_wet));
            return Ok(Mask::new(plane, wet));
        }
        // as many levels as a chunk has: the library would decompress it for each of them again
        let chunk = variable.chunking().ok().flatten().and_then(|sizes| sizes.first().copied()).unwrap_or(1);
        let step = chunk.min(SLAB / (plane * size_of::<f32>())).max(1);
        for first in (0..levels).step_by(step) {
            let last = levels.min(first + step);
            let values =
                variable.get_values::<f32, _>((first..last, .., .., ..)).map_err(|source| self.error(name, source))?;
            wet.extend(values.into_iter().map(is_wet));
        }
        Ok(Mask::new(plane, wet))
    }

    pub(super) fn wrong_shape(&self, name: &str, expected: String, found: Vec<usize>) -> GridError {
        GridError::Shape { file: self.path.clone(), variable: name.into(), expected, found }
    }

    /// Refuses a size that would make later allocations unreasonable.
    pub(super) fn check_size(&self, what: &'static str, value: usize, limit: usize) -> Result<(), GridError> {
        if (1..=limit).contains(&value) {
            return Ok(());
        }
        Err(GridError::Size { file: self.path.clone(), what, value, limit })
    }

    fn variable(&self, name: &str) -> Result<netcdf::Variable<'_>, GridError> {
        let missing = || GridError::NoVariable { file: self.path.clone(), variable: name.into() };
        self.file.variable(name).ok_or_else(missing)
    }

    fn error(&self, name: &str, source: netcdf::Error) -> GridError {
        GridError::Netcdf { file: self.path.clone(), what: format!("the variable '{name}'"), source }
    }
}

fn is_wet(value: f32) -> bool {
    value > 0.0 && value < FILL // not so for NaN
}
