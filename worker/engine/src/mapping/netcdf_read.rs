//! Reads mapping factors in NetCDF: all levels in one file of our own format, or one file for each level as ESMF's
//! tools write them.
//!
//! The files may be damaged: they are read by the [`reader`], and what comes from there is limited by
//! the expected shapes.

use super::npz::{Csr, Weights};
use super::{MAX_CELLS, MAX_LEVELS, MappingError, NETCDF_NAME, esmf_file};
use crate::mds::compact::{self, TILES};
use crate::reader::{self, Described, ReadError, ReaderSession};
use crate::verified_files::VerifiedFiles;
use edp_files::Files;
use edp_protocol::Digest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Largest size of a file in bytes. Factors of half a degree from LLC90 have 3 MB, those of a quarter of a degree from
/// LLC1080 some hundred.
pub(super) const MAX_FILE: u64 = 32 << 30;
/// Largest number of weights of a level.
const MAX_WEIGHTS: usize = 1 << 27;
/// Number of bytes that a weight takes while a level is read: three numbers of double precision, and its place in a
/// matrix.
const WEIGHT: u64 = 3 * 8 + 4 + 8;
/// Size in bytes of a cell of a mask while a level is read, as a number of double precision.
const MASK_CELL: u64 = 8;
/// Size in bytes of a target cell of ESMF's form while the target grid is read: its centre and four corners.
const TARGET_CELL: u64 = 2 * 8 + 4 * 2 * 8;

/// The two forms of factors in NetCDF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NetcdfForm {
    /// One file `mapping_factors.nc` with all levels.
    AllLevels,
    /// One file `weights_<k>.nc` for each level.
    Esmf,
}

impl NetcdfForm {
    /// Returns the path of the file of a level.
    pub(super) fn file(self, dir: &Path, k: usize) -> PathBuf {
        match self {
            NetcdfForm::AllLevels => dir.join(NETCDF_NAME),
            NetcdfForm::Esmf => esmf_file(dir, k),
        }
    }
}

/// Mapping factors in NetCDF: the open files, and the target grid.
#[derive(Debug)]
pub(super) struct NetcdfFactors {
    dir: PathBuf,
    form: NetcdfForm,
    verified: VerifiedFiles,
    /// Number of cells along the side of a tile of the source grid.
    n: usize,
    /// Number of weights of each level, if one file has all of them.
    counts: Vec<usize>,
    pub(super) axes: NetcdfAxes,
}

/// The target grid and the levels.
#[derive(Debug, Default)]
pub(super) struct NetcdfAxes {
    pub(super) latitudes: Vec<f64>,
    pub(super) longitudes: Vec<f64>,
    pub(super) latitude_bounds: Vec<[f64; 2]>,
    pub(super) longitude_bounds: Vec<[f64; 2]>,
    pub(super) depth_bounds: Vec<[f64; 2]>,
}

impl NetcdfFactors {
    /// Opens the files, and refuses those whose digests differ from those in `seals`.
    pub(super) fn open(
        dir: &Path,
        form: NetcdfForm,
        paths: Vec<PathBuf>,
        seals: &BTreeMap<PathBuf, Digest>,
        files: &Files,
        memory: u64,
    ) -> Result<NetcdfFactors, MappingError> {
        let levels = paths.len();
        let (verified, digests) = VerifiedFiles::open(paths, files, |_| MAX_FILE, &AtomicBool::new(false))
            .map_err(|error| MappingError::Io { file: error.path, action: "read", source: error.source })?;
        if let Some((file, _)) =
            digests.iter().find(|(file, found)| seals.get(*file).is_some_and(|seal| seal != *found))
        {
            return Err(MappingError::Changed { file: file.clone() });
        }
        let mut factors = NetcdfFactors {
            dir: dir.to_owned(),
            form,
            verified,
            n: 0,
            counts: Vec::new(),
            axes: NetcdfAxes::default(),
        };
        match form {
            NetcdfForm::AllLevels => factors.read_all_levels()?,
            NetcdfForm::Esmf => factors.read_esmf(levels, memory)?,
        }
        Ok(factors)
    }

    fn file(&self, k: usize) -> Result<FactorFile, MappingError> {
        FactorFile::open(&self.form.file(&self.dir, k), &self.verified)
    }

    fn read_all_levels(&mut self) -> Result<(), MappingError> {
        let mut file = self.file(0)?;
        let pair = |values: Vec<f64>| values.as_chunks().0.to_vec();
        let levels = file.shape("count", 1)?[0];
        let rows = file.shape("latitude", 1)?[0];
        let columns = file.shape("longitude", 1)?[0];
        file.check_target(rows, columns, levels)?;
        let mask = file.shape("source_mask", 4)?;
        let cells = mask[1..].iter().try_fold(1_usize, |all, length| all.checked_mul(*length));
        self.n = file.check_source(cells.unwrap_or(usize::MAX))?;
        self.axes = NetcdfAxes {
            latitudes: file.numbers("latitude", &[rows])?,
            longitudes: file.numbers("longitude", &[columns])?,
            latitude_bounds: pair(file.numbers("latitude_bnds", &[rows, 2])?),
            longitude_bounds: pair(file.numbers("longitude_bnds", &[columns, 2])?),
            depth_bounds: pair(file.numbers("Z_bnds", &[levels, 2])?),
        };
        let counts = file.numbers("count", &[levels])?;
        self.counts =
            counts.iter().map(|count| file.index("count", *count, 0, MAX_WEIGHTS)).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn read_esmf(&mut self, levels: usize, memory: u64) -> Result<(), MappingError> {
        let mut file = self.file(0)?;
        let sizes = file.numbers("dst_grid_dims", &[2])?;
        let [columns, rows] =
            [file.index("dst_grid_dims", sizes[0], 1, 1 << 28)?, file.index("dst_grid_dims", sizes[1], 1, 1 << 28)?];
        file.check_target(rows, columns, levels)?;
        let cells = rows * columns;
        file.check_memory(cells as u64 * TARGET_CELL, memory)?;
        let length = file.variable("xc_a")?.shape().first().copied().unwrap_or_default();
        self.n = file.check_source(length)?;
        let (x, y) = (file.numbers("xc_b", &[cells])?, file.numbers("yc_b", &[cells])?);
        let regular = (0..cells).all(|m| x[m] == x[m % columns] && y[m] == y[m / columns * columns]);
        if !regular {
            return Err(file.bad("the target grid (xc_b, yc_b) is no regular grid of latitudes and longitudes".into()));
        }
        let (corners_x, corners_y) = (file.numbers("xv_b", &[cells, 4])?, file.numbers("yv_b", &[cells, 4])?);
        let range = |values: &[f64], m: usize| {
            let corners = &values[4 * m..4 * m + 4];
            [
                corners.iter().copied().fold(f64::INFINITY, f64::min),
                corners.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            ]
        };
        self.axes = NetcdfAxes {
            latitudes: (0..rows).map(|row| y[row * columns]).collect(),
            longitudes: x[..columns].to_vec(),
            latitude_bounds: (0..rows).map(|row| range(&corners_y, row * columns)).collect(),
            longitude_bounds: (0..columns).map(|column| range(&corners_x, column)).collect(),
            depth_bounds: Vec::new(),
        };
        drop(file); // one file at a time
        for k in 0..levels {
            let bounds = self.file(k)?.numbers("Z_bnds", &[2])?;
            self.axes.depth_bounds.push([bounds[0], bounds[1]]);
        }
        Ok(())
    }

    /// Reads the matrix of a level and its land mask (true is land). `wet_positions` are the positions of the wet
    /// source cells in a compact plane, in the order (tile, j, i).
    pub(super) fn level(&self, k: usize, wet_positions: &[u32], memory: u64) -> Result<(Csr, Vec<bool>), MappingError> {
        let mut file = self.file(k)?;
        let (rows, columns) = (self.axes.latitudes.len(), self.axes.longitudes.len());
        let (cells, sources) = (rows * columns, TILES * self.n * self.n);
        let n = self.n;
        file.check_memory((cells + sources) as u64 * MASK_CELL, memory)?;
        let (start, count, source_mask, target_mask) = match self.form {
            NetcdfForm::AllLevels => {
                let levels = self.counts.len();
                let source = file.part("source_mask", &[levels, TILES, n, n], &[k, 0, 0, 0], &[1, TILES, n, n])?;
                let target = file.part("target_mask", &[levels, rows, columns], &[k, 0, 0], &[1, rows, columns])?;
                (self.counts[..k].iter().sum(), self.counts[k], Some(source), target)
            }
            NetcdfForm::Esmf => {
                let source = if file.has("mask_a") { Some(file.numbers("mask_a", &[sources])?) } else { None };
                (0, file.shape("S", 1)?[0], source, file.numbers("mask_b", &[cells])?)
            }
        };
        file.check_memory((count as u64).saturating_mul(WEIGHT), memory.min(MAX_WEIGHTS as u64 * WEIGHT))?;
        let other_grid = || MappingError::SourceCells { file: self.form.file(&self.dir, k), level: k };
        let row_of = rows_of(n, wet_positions).ok_or_else(other_grid)?;
        if let Some(mask) = source_mask
            && mask.iter().zip(&row_of).any(|(wet, row)| (*wet > 0.0) != row.is_some())
        {
            return Err(other_grid());
        }
        let total = file.shape("S", 1)?[0];
        let mut part = |name| file.part(name, &[total], &[start], &[count]);
        let (target, source, weights) = (part("row")?, part("col")?, part("S")?);
        // The rows are in the order of the cells; within each row, weights stay in the order of the file.
        let mut indptr = vec![0_u32; wet_positions.len() + 1];
        let mut places = Vec::with_capacity(count);
        for (position, weight) in weights.iter().enumerate() {
            if *weight == 0.0 {
                continue;
            }
            let cell = file.index("col", source[position], 1, sources)? - 1;
            let m = file.index("row", target[position], 1, cells)? - 1;
            let row = row_of[cell].ok_or_else(other_grid)?;
            indptr[row as usize + 1] += 1;
            places.push((row, m as u32, *weight));
        }
        for row in 0..wet_positions.len() {
            indptr[row + 1] += indptr[row];
        }
        let mut next = indptr.clone();
        let (mut indices, mut each) = (vec![0; places.len()], vec![0.0; places.len()]);
        for (row, m, weight) in places {
            let slot = &mut next[row as usize];
            (indices[*slot as usize], each[*slot as usize]) = (m, weight);
            *slot += 1;
        }
        let weights = if each.iter().all(|weight| *weight == 1.0) { Weights::Unit } else { Weights::Each(each) };
        let land = target_mask.iter().map(|wet| *wet <= 0.0).collect();
        Ok((Csr { columns: cells, indptr, indices, weights }, land))
    }
}

/// Returns the row of each source cell (tile, j, i) in a matrix, if it is wet; `None` if the positions are not those of wet
/// cells in this order.
fn rows_of(n: usize, wet_positions: &[u32]) -> Option<Vec<Option<u32>>> {
    let mut rows = vec![None; TILES * n * n];
    let mut next = 0;
    for (cell, row) in rows.iter_mut().enumerate() {
        let position = compact::row(n, cell / (n * n), cell / n % n) * n + cell % n;
        if wet_positions.get(next).is_some_and(|wet| *wet as usize == position) {
            *row = Some(next as u32);
            next += 1;
        }
    }
    (next == wet_positions.len()).then_some(rows)
}

/// One file that is being read.
struct FactorFile {
    path: PathBuf,
    variables: Vec<Described>,
    session: ReaderSession,
}

impl FactorFile {
    fn open(path: &Path, verified: &VerifiedFiles) -> Result<FactorFile, MappingError> {
        let place =
            verified.path(path).map_err(|source| MappingError::Io { file: path.to_owned(), action: "open", source })?;
        let begin = || ReaderSession::with(reader::open(&place)?, path);
        let read = |mut session: ReaderSession| session.variables().map(|variables| (session, variables));
        let (session, variables) = begin().and_then(read).map_err(|source| unread(path, "the file".into(), source))?;
        Ok(FactorFile { path: path.to_owned(), variables, session })
    }

    fn bad(&self, reason: String) -> MappingError {
        MappingError::Content { file: self.path.clone(), reason }
    }

    /// Refuses what would take more memory than factors may, before it is read.
    fn check_memory(&self, bytes: u64, limit: u64) -> Result<(), MappingError> {
        match bytes > limit {
            true => Err(MappingError::Memory { file: self.path.clone(), bytes, limit }),
            false => Ok(()),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.variables.iter().any(|variable| variable.name == name)
    }

    fn variable(&self, name: &str) -> Result<Described, MappingError> {
        let found = self.variables.iter().find(|variable| variable.name == name).cloned();
        found.ok_or_else(|| self.bad(format!("the variable '{name}' is missing")))
    }

    /// Returns the shape of a variable, which must have this number of dimensions.
    fn shape(&self, name: &str, dimensions: usize) -> Result<Vec<usize>, MappingError> {
        let found = self.variable(name)?.shape();
        match found.len() == dimensions {
            true => Ok(found),
            false => Err(self.bad(format!("{name} has the shape {found:?}, expected {dimensions} dimensions"))),
        }
    }

    /// Refuses a target grid, or a number of levels, that factors cannot have.
    fn check_target(&self, rows: usize, columns: usize, levels: usize) -> Result<(), MappingError> {
        let cells = rows.checked_mul(columns).filter(|cells| (1..=MAX_CELLS).contains(cells));
        if cells.is_none() || !(1..=MAX_LEVELS).contains(&levels) {
            return Err(self.bad(format!("a target grid of {rows} x {columns} cells with {levels} levels is none")));
        }
        Ok(())
    }

    /// Returns N of a source grid with this number of cells.
    fn check_source(&self, cells: usize) -> Result<usize, MappingError> {
        let n = (cells / TILES).isqrt();
        match cells > 0 && TILES * n * n == cells && n <= crate::grid::MAX_N {
            true => Ok(n),
            false => {
                Err(self.bad(format!("a source grid of {cells} cells is no lat-lon-cap grid of 13 x N x N cells")))
            }
        }
    }

    /// Reads a whole variable of this shape; all numbers must be finite.
    fn numbers(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f64>, MappingError> {
        self.part(name, shape, &vec![0; shape.len()], shape)
    }

    /// Reads a part of a variable of this shape; all numbers must be finite.
    fn part(
        &mut self,
        name: &str,
        shape: &[usize],
        start: &[usize],
        count: &[usize],
    ) -> Result<Vec<f64>, MappingError> {
        let variable = self.variable(name)?;
        if variable.shape() != shape {
            return Err(self.bad(format!("{name} has the shape {:?}, expected {shape:?}", variable.shape())));
        }
        if start.iter().zip(count).zip(shape).any(|((start, count), length)| start + count > *length) {
            return Err(self.bad(format!("{name} has the shape {shape:?}, too short for what 'count' says")));
        }
        if count.contains(&0) {
            return Ok(Vec::new());
        }
        let values: Vec<f64> = self
            .session
            .values(&variable, start, count)
            .map_err(|source| unread(&self.path, format!("the variable '{name}'"), source))?;
        match values.iter().position(|value| !value.is_finite()) {
            Some(position) => Err(self.bad(format!("{name}: value {position} is not a finite number"))),
            None => Ok(values),
        }
    }

    /// Returns a value as a whole number from `least` to `most`.
    fn index(&self, name: &str, value: f64, least: usize, most: usize) -> Result<usize, MappingError> {
        let index = value as usize;
        match index as f64 == value && (least..=most).contains(&index) {
            true => Ok(index),
            false => {
                Err(self.bad(format!("{name} has the value {value}, expected a whole number from {least} to {most}")))
            }
        }
    }
}

fn unread(path: &Path, what: String, error: ReadError) -> MappingError {
    let file = path.to_owned();
    match error {
        ReadError::Io { source, .. } => MappingError::Io { file, action: "read", source },
        ReadError::NoFile { .. } => MappingError::Netcdf { file, what, why: "it is not a regular file".into() },
        ReadError::Damaged { why, .. } => MappingError::Netcdf { file, what, why },
    }
}
