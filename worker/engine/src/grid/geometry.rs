//! A geometry file in NetCDF, which is read with checks of its shapes.
//!
//! The file may be damaged. It is read by the [`reader`], and what comes from there is limited by the
//! expected shapes.

use super::error::GridError;
use super::mask::{Mask, MaskBuilder};
use super::{MAX_LEVELS, MAX_N};
use crate::mds::compact::TILES;
use crate::reader::{self, Described, ReadError, ReaderSession};
use crate::verified_files::VerifiedFiles;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// An open fraction or mask above this value is a fill value (9.97e36), which means land.
const FILL: f32 = 1e30;

pub(super) struct Geometry {
    path: PathBuf,
    variables: Vec<Described>,
    session: RefCell<ReaderSession>,
}

impl Geometry {
    /// Opens a file; if it is among the verified files, the very one that was verified.
    pub(super) fn open(path: &Path, verified: &VerifiedFiles) -> Result<Geometry, GridError> {
        let place = verified.path(path).map_err(|source| GridError::Read { path: path.to_owned(), source })?;
        // Errors have the path that users know, not that of the descriptor.
        let begin = || ReaderSession::with(reader::open(&place)?, path);
        let read = |mut session: ReaderSession| session.variables().map(|variables| (session, variables));
        let (session, variables) = begin().and_then(read).map_err(|source| error(path, "the file".into(), source))?;
        Ok(Geometry { path: path.to_owned(), variables, session: RefCell::new(session) })
    }

    /// Returns the size of the grid by the shape of `hFacC`: the number of cells along the side of a tile, and the number
    /// of levels.
    ///
    /// # Errors
    /// Returns an error if the shape is not `[levels, 13, N, N]`, or if a length is beyond its limit.
    pub(super) fn size(&self) -> Result<(usize, usize), GridError> {
        let (n, levels) = match self.shape("hFacC")?[..] {
            [levels, TILES, j, i] if j == i => (i, levels),
            ref found => {
                let expected = format!("[levels, {TILES}, N, N]");
                return Err(self.wrong_shape("hFacC", expected, found.to_vec()));
            }
        };
        self.check_size("the side of a tile, N", n, MAX_N)?;
        self.check_size("the number of levels", levels, MAX_LEVELS)?;
        Ok((n, levels))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.variable(name).is_ok()
    }

    /// Returns the shape of a variable, the slowest dimension first.
    pub(super) fn shape(&self, name: &str) -> Result<Vec<usize>, GridError> {
        Ok(self.variable(name)?.shape())
    }

    /// Reads a whole variable, which must have exactly this shape.
    pub(super) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, GridError> {
        self.check_shape(name, shape)?;
        self.part(name, &vec![0; shape.len()], shape)
    }

    /// Refuses a variable that has another shape.
    pub(super) fn check_shape(&self, name: &str, shape: &[usize]) -> Result<(), GridError> {
        match self.shape(name)? {
            found if found == shape => Ok(()),
            found => Err(self.wrong_shape(name, format!("{shape:?}"), found)),
        }
    }

    /// Reads a part of a variable: `count` values in each dimension from index `start` on.
    pub(super) fn part(&self, name: &str, start: &[usize], count: &[usize]) -> Result<Vec<f32>, GridError> {
        let variable = self.variable(name)?;
        self.session.borrow_mut().values(variable, start, count).map_err(|source| self.error(name, source))
    }

    /// Returns the mask of the cells where a variable is above zero. The variable must have the shape (levels, tile, j,
    /// i) or, if `flat` is true, (tile, j, i). Only a few levels are in memory as numbers at any time, and the mask itself
    /// takes at most `limit` bytes.
    pub(super) fn mask(
        &self,
        name: &str,
        (n, levels): (usize, usize),
        flat: bool,
        limit: u64,
    ) -> Result<Mask, GridError> {
        let variable = self.variable(name)?;
        let found = variable.shape();
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
        let mut builder = MaskBuilder::new(n);
        let mut session = self.session.borrow_mut();
        session.check_size::<f32>(variable, &found).map_err(|source| self.error(name, source))?;
        // Some levels at a time, so that a mask that has no end is noticed early.
        let (mut start, mut count) = (vec![0; found.len()], found.clone());
        let step = variable.chunk.as_ref().and_then(|chunk| chunk.first()).map_or(1, |depth| (*depth).max(1));
        for first in (0..found[0]).step_by(step) {
            (start[0], count[0]) = (first, step.min(found[0] - first));
            let take = |values: &[f32]| builder.add(values.iter().map(|value| is_wet(*value)));
            session.each(variable, &start, &count, take).map_err(|source| self.error(name, source))?;
            let bytes = builder.bytes() as u64;
            if bytes > limit {
                return Err(GridError::TooLarge { file: self.path.clone(), n, levels, bytes, limit });
            }
        }
        Ok(builder.finish())
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

    fn variable(&self, name: &str) -> Result<&Described, GridError> {
        let missing = || GridError::NoVariable { file: self.path.clone(), variable: name.into() };
        self.variables.iter().find(|variable| variable.name == name).ok_or_else(missing)
    }

    fn error(&self, name: &str, source: ReadError) -> GridError {
        error(&self.path, format!("the variable '{name}'"), source)
    }
}

fn error(path: &Path, what: String, error: ReadError) -> GridError {
    let path = path.to_owned();
    match error {
        ReadError::Io { source, .. } => GridError::Read { path, source },
        ReadError::NoFile { .. } => GridError::Netcdf { file: path, what, why: "it is not a regular file".into() },
        ReadError::Damaged { why, .. } => GridError::Netcdf { file: path, what, why },
    }
}

fn is_wet(value: f32) -> bool {
    value > 0.0 && value < FILL // false for NaN
}
