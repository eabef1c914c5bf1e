//! Directories of mapping factors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use edp_files::Files;
use edp_protocol::Digest;

use super::netcdf_read::{self, NetcdfFactors, NetcdfForm};
use super::pickle::{PickleDocument, PickleValue};
use super::xz::ExpectedFile;
use super::{Level, MAX_CELLS, MAX_LEVELS, MappingError, NETCDF_NAME, esmf_file, npz, xz};

/// Largest unpacked size of `latlon_grid.xz` in bytes. Nearly all of it is taken by the index lists of the wet cells:
/// 58 MB for LLC90, 520 MB for LLC270 with 50 levels.
const MAX_LATLON_GRID: usize = 1 << 30;
/// Largest size in bytes of a file of EDP's formats in a directory of factors.
const MAX_FILE: u64 = 1 << 30;
/// Number of bytes that the land mask of one cell takes while it is read: pickled, as a number, and as it is kept.
const MASK_CELL: usize = 8 + 8 + 1;
/// A generous bound for the bytes that a pickled array takes besides its data.
const PICKLE_FRAME: usize = 4096;

/// The mapping factors from one native grid to one target grid. Each level is loaded when it is first needed, and is
/// then shared by all threads.
#[derive(Debug)]
pub struct Factors {
    dir: PathBuf,
    shape: (usize, usize),
    latitudes: Vec<f64>,
    longitudes: Vec<f64>,
    latitude_bounds: Vec<[f64; 2]>,
    longitude_bounds: Vec<[f64; 2]>,
    depth_bounds: Vec<[f64; 2]>,
    levels: Vec<Mutex<Option<Loaded>>>,
    form: Form,
    /// Number of bytes that the levels kept in memory may take.
    memory: u64,
}

/// The form of the factors, with what is needed to read a level.
#[derive(Debug)]
enum Form {
    /// Files in EDP's formats, which are opened when they are needed, and the digests that they must have.
    Edp { files: Files, seals: BTreeMap<PathBuf, Digest> },
    /// NetCDF files, which stay open.
    Netcdf(NetcdfFactors),
}

/// A level and the fingerprint of the wet cells for which it was loaded.
#[derive(Debug)]
struct Loaded {
    level: Arc<Level>,
    wet: Fingerprint,
}

/// The number of wet cells of a level and a weighted sum of their positions, which tell the list from that of another
/// grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    count: usize,
    sum: u64,
}

impl Fingerprint {
    fn of(wet_positions: &[u32]) -> Self {
        let weighted = |(index, &position): (usize, &u32)| (2 * index as u64 + 1).wrapping_mul(u64::from(position));
        let sum = wet_positions.iter().enumerate().map(weighted).fold(0, u64::wrapping_add);
        Self { count: wet_positions.len(), sum }
    }
}

impl Factors {
    /// Opens a directory of factors, in any of their forms, and reads the target grid. Masks and weights are read later.
    ///
    /// # Errors
    ///
    /// Returns an error if a file is absent or damaged, if its parts do not fit each other, or if the directory has
    /// factors in several forms.
    pub fn open(dir: &Path) -> Result<Self, MappingError> {
        Self::open_sealed(dir, BTreeMap::new(), Files::default(), u64::MAX)
    }

    /// Opens a directory of factors, some of whose files have known digests: such a file is refused, whenever it is
    /// read, if its content has another digest. (Levels are read long after the directory was examined.) The levels
    /// that are kept may take `memory` bytes; a single level that would take more is refused before memory is allocated
    /// for it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Factors::open`], [`MappingError::Changed`], and [`MappingError::Memory`].
    pub(crate) fn open_sealed(
        dir: &Path,
        seals: BTreeMap<PathBuf, Digest>,
        files: Files,
        memory: u64,
    ) -> Result<Self, MappingError> {
        if let Some(form) = form_of(dir, &files)? {
            return Self::open_netcdf(dir, form, &seals, &files, memory);
        }
        let file = latlon_grid(dir);
        let source = ExpectedFile { file: &file, files: &files, seal: seals.get(&file) };
        let largest = usize::try_from(memory).unwrap_or(usize::MAX).min(MAX_LATLON_GRID);
        let bytes = xz::read_pickle(source, largest)?;
        let document =
            PickleDocument::parse(&bytes).map_err(|source| MappingError::Pickle { file: file.clone(), source })?;
        let grid = LatlonGrid { file: &file, document: &document };
        let [bounds, depths, centres] = grid.parts()?;

        let shape = grid.shape(grid.entry(centres, "shape")?)?;
        let (nlat, nlon) = shape;
        check_memory(&file, shape, memory)?;
        let depth_bounds = grid.pairs(depths, "the depth bounds", None)?;
        if depth_bounds.is_empty() || depth_bounds.len() > MAX_LEVELS {
            return Err(grid.bad(format!("{} depth bounds, expected 1 to {MAX_LEVELS}", depth_bounds.len())));
        }
        Ok(Self {
            dir: dir.to_owned(),
            shape,
            latitudes: grid.centres(grid.entry(centres, "lats_1D")?, "lats_1D", nlat)?,
            longitudes: grid.centres(grid.entry(centres, "lons_1D")?, "lons_1D", nlon)?,
            latitude_bounds: grid.pairs(grid.entry(bounds, "lat")?, "the latitude bounds", Some(nlat))?,
            longitude_bounds: grid.pairs(grid.entry(bounds, "lon")?, "the longitude bounds", Some(nlon))?,
            levels: depth_bounds.iter().map(|_| Mutex::new(None)).collect(),
            depth_bounds,
            form: Form::Edp { files, seals },
            memory,
        })
    }

    fn open_netcdf(
        dir: &Path,
        form: NetcdfForm,
        seals: &BTreeMap<PathBuf, Digest>,
        files: &Files,
        memory: u64,
    ) -> Result<Self, MappingError> {
        let mut factors = NetcdfFactors::open(dir, form, netcdf_files(dir, form, files)?, seals, files, memory)?;
        let axes = std::mem::take(&mut factors.axes.depth_bounds);
        let shape = (factors.axes.latitudes.len(), factors.axes.longitudes.len());
        check_memory(&form.file(dir, 0), shape, memory)?;
        Ok(Self {
            dir: dir.to_owned(),
            shape,
            latitudes: factors.axes.latitudes.clone(),
            longitudes: factors.axes.longitudes.clone(),
            latitude_bounds: factors.axes.latitude_bounds.clone(),
            longitude_bounds: factors.axes.longitude_bounds.clone(),
            levels: axes.iter().map(|_| Mutex::new(None)).collect(),
            depth_bounds: axes,
            form: Form::Netcdf(factors),
            memory,
        })
    }

    /// Returns the path of the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the number of latitudes and of longitudes.
    pub fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// Returns the latitudes of the centres of the rows in degrees north, in the order of the file.
    pub fn latitudes(&self) -> &[f64] {
        &self.latitudes
    }

    /// Returns the longitudes of the centres of the columns in degrees east.
    pub fn longitudes(&self) -> &[f64] {
        &self.longitudes
    }

    /// Returns the lower and upper edges of each row in degrees north.
    pub fn latitude_bounds(&self) -> &[[f64; 2]] {
        &self.latitude_bounds
    }

    /// Returns the western and eastern edges of each column in degrees east.
    pub fn longitude_bounds(&self) -> &[[f64; 2]] {
        &self.longitude_bounds
    }

    /// Returns the upper and lower edges of each level in metres, negative downwards: one pair for each level.
    pub fn depth_bounds(&self) -> &[[f64; 2]] {
        &self.depth_bounds
    }

    /// Returns the number of levels.
    pub fn levels(&self) -> usize {
        self.levels.len()
    }

    /// Returns the number of bytes of memory taken by the levels that are loaded now.
    pub(crate) fn bytes(&self) -> usize {
        // This does not wait for a level that is being loaded.
        let loaded = self.levels.iter().filter_map(|slot| slot.try_lock().ok());
        loaded.filter_map(|slot| slot.as_ref().map(|loaded| loaded.level.bytes())).sum()
    }

    /// Returns the weights and the land mask of level `k`, which is loaded at the first call.
    ///
    /// `wet_positions` holds the position in the compact plane of each wet cell of the native grid at this level (where
    /// hFacC > 0), in scan order (tile, j, i). It must be the same at every call. Other threads that ask for the same
    /// level wait; an error is not remembered, so a later call tries again.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such level, or if a file is absent, damaged, or made for another grid
    /// ([`MappingError::SourceCount`], [`MappingError::OtherGrid`]).
    pub fn level(&self, k: usize, wet_positions: &[u32]) -> Result<Arc<Level>, MappingError> {
        let Some(slot) = self.levels.get(k) else {
            return Err(MappingError::NoLevel { dir: self.dir.clone(), level: k, levels: self.levels.len() });
        };
        let wet = Fingerprint::of(wet_positions);
        // The slot only ever changes from empty to whole: a panic elsewhere cannot leave it half-made.
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some(loaded) if loaded.wet == wet => return Ok(Arc::clone(&loaded.level)),
            Some(_) => return Err(MappingError::OtherGrid { dir: self.dir.clone(), level: k }),
            None => {}
        }
        let level = Arc::new(self.load(k, wet_positions)?);
        self.make_room(k, level.bytes());
        *slot = Some(Loaded { level: Arc::clone(&level), wet });
        Ok(level)
    }

    /// Drops levels until `bytes` more bytes fit into the memory limit. Granules need the levels one after the other,
    /// so the levels that will be needed last are dropped first.
    fn make_room(&self, k: usize, bytes: usize) {
        let all = self.levels.len();
        let room = |levels: usize| (levels.saturating_add(bytes)) as u64 <= self.memory;
        let mut loaded = self.bytes();
        // Level `k` itself is locked by the thread that has loaded it.
        for other in (1..all).map(|back| (k + all - back) % all) {
            if room(loaded) {
                return;
            }
            let Some(mut slot) = self.levels.get(other).and_then(|slot| slot.try_lock().ok()) else { continue };
            loaded = loaded.saturating_sub(slot.take().map_or(0, |loaded| loaded.level.bytes()));
        }
    }

    fn load(&self, k: usize, wet_positions: &[u32]) -> Result<Level, MappingError> {
        let cells = self.shape.0 * self.shape.1;
        let (file, matrix, land) = match &self.form {
            Form::Edp { files, seals } => {
                let (file, mask) = (sparse_matrix(&self.dir, k), land_mask(&self.dir, k));
                let sealed = |file| ExpectedFile { file, files, seal: seals.get(file) };
                let matrix = npz::read(sealed(&file), k, wet_positions.len(), cells, self.memory)?;
                let land = read_land_mask(sealed(&mask), cells)?;
                (file, matrix, land)
            }
            Form::Netcdf(factors) => {
                let (matrix, land) = factors.level(k, wet_positions, self.memory)?;
                (self.dir.clone(), matrix, land)
            }
        };
        Level::new(&matrix, land, wet_positions).map_err(|reason| MappingError::Content { file, reason })
    }
}

/// Refuses a target grid whose land mask would take more memory than factors may.
fn check_memory(file: &Path, (nlat, nlon): (usize, usize), memory: u64) -> Result<(), MappingError> {
    let mask = (nlat * nlon).saturating_mul(MASK_CELL) as u64;
    if mask > memory {
        return Err(MappingError::Memory { file: file.to_owned(), bytes: mask, limit: memory });
    }
    Ok(())
}

/// Returns the NetCDF form of the factors in a directory, or `None` if they are in EDP's formats or absent.
fn form_of(dir: &Path, files: &Files) -> Result<Option<NetcdfForm>, MappingError> {
    let marks = [
        (None, latlon_grid(dir)),
        (Some(NetcdfForm::AllLevels), dir.join(NETCDF_NAME)),
        (Some(NetcdfForm::Esmf), esmf_file(dir, 0)),
    ];
    let found: Vec<_> = marks.into_iter().filter(|(_, file)| files.metadata(file).is_ok()).collect();
    match &found[..] {
        [] => Ok(None),
        [(form, _)] => Ok(*form),
        several => {
            let name = |file: &PathBuf| file.strip_prefix(dir).unwrap_or(file).display().to_string();
            let names = several.iter().map(|(_, file)| name(file)).collect();
            Err(MappingError::SeveralForms { dir: dir.to_owned(), names })
        }
    }
}

/// Lists the files of factors in NetCDF, in the order of their levels.
fn netcdf_files(dir: &Path, form: NetcdfForm, files: &Files) -> Result<Vec<PathBuf>, MappingError> {
    match form {
        NetcdfForm::AllLevels => Ok(vec![dir.join(NETCDF_NAME)]),
        NetcdfForm::Esmf => {
            let failed = |source| MappingError::Io { file: dir.to_owned(), action: "list", source };
            let names = files.names(dir).map_err(failed)?;
            let is_there =
                |k: &usize| esmf_file(dir, *k).file_name().is_some_and(|name| names.iter().any(|n| n == name));
            Ok((0..MAX_LEVELS).take_while(is_there).map(|k| esmf_file(dir, k)).collect())
        }
    }
}

/// The unpacked `latlon_grid.xz`: a list of the bounds, the depth bounds, the centres and the wet cells (which are not
/// read).
struct LatlonGrid<'f, 'a> {
    file: &'f Path,
    document: &'f PickleDocument<'a>,
}

impl<'a> LatlonGrid<'_, 'a> {
    fn bad(&self, reason: String) -> MappingError {
        MappingError::Content { file: self.file.to_owned(), reason }
    }

    fn parts(&self) -> Result<[PickleValue<'a>; 3], MappingError> {
        match self.document.items(self.document.root()) {
            Some(&[bounds, depths, centres, _]) => Ok([bounds, depths, centres]),
            Some(items) => Err(self.bad(format!("a list of {} parts, expected 4", items.len()))),
            None => Err(self.bad(format!("{}, expected a list of 4 parts", self.document.root().kind()))),
        }
    }

    fn entry(&self, dict: PickleValue<'a>, key: &str) -> Result<PickleValue<'a>, MappingError> {
        self.document.get(dict, key).ok_or_else(|| self.bad(format!("{} without the key {key:?}", dict.kind())))
    }

    fn shape(&self, value: PickleValue<'a>) -> Result<(usize, usize), MappingError> {
        let sizes = match self.document.items(value) {
            Some(&[PickleValue::Int(nlat), PickleValue::Int(nlon)]) => {
                usize::try_from(nlat).ok().zip(usize::try_from(nlon).ok())
            }
            _ => None,
        };
        match sizes {
            Some((nlat, nlon)) if nlat.checked_mul(nlon).is_some_and(|cells| (1..=MAX_CELLS).contains(&cells)) => {
                Ok((nlat, nlon))
            }
            _ => Err(self.bad(format!("shape is not (latitudes, longitudes) with 1 to {MAX_CELLS} cells"))),
        }
    }

    /// Returns the values of a one-dimensional array of floats with `count` elements.
    fn centres(&self, value: PickleValue<'a>, name: &str, count: usize) -> Result<Vec<f64>, MappingError> {
        let (shape, values) = self.floats(value, name)?;
        if shape != [count] {
            return Err(self.bad(format!("{name} has the shape {shape:?}, expected [{count}]")));
        }
        Ok(values)
    }

    /// Returns the values of an array of floats of shape (n, 2).
    fn pairs(&self, value: PickleValue<'a>, name: &str, count: Option<usize>) -> Result<Vec<[f64; 2]>, MappingError> {
        let (shape, values) = self.floats(value, name)?;
        match shape {
            &[rows, 2] if count.is_none_or(|count| rows == count) => Ok(values.as_chunks().0.to_vec()),
            _ => {
                let count = count.map_or_else(|| "n".to_owned(), |count| count.to_string());
                Err(self.bad(format!("{name}: the shape is {shape:?}, expected [{count}, 2]")))
            }
        }
    }

    fn floats(&self, value: PickleValue<'a>, name: &str) -> Result<(&[usize], Vec<f64>), MappingError> {
        let array = self.document.array(value);
        let Some((array, values)) = array.and_then(|array| Some((array, array.floats()?))) else {
            return Err(self.bad(format!("{name}: expected an array of floats")));
        };
        match values.iter().position(|value| !value.is_finite()) {
            Some(position) => Err(self.bad(format!("{name}: value {position} is not a finite number"))),
            None => Ok((array.shape(), values)),
        }
    }
}

/// Reads a land mask of `cells` values; true means land.
fn read_land_mask(source: ExpectedFile<'_>, cells: usize) -> Result<Vec<bool>, MappingError> {
    let file = source.file;
    let bytes = xz::read_pickle(source, cells.saturating_mul(8).saturating_add(PICKLE_FRAME))?;
    let document =
        PickleDocument::parse(&bytes).map_err(|source| MappingError::Pickle { file: file.to_owned(), source })?;
    let bad = |reason| MappingError::Content { file: file.to_owned(), reason };
    let array = document.array(document.root());
    let Some((array, values)) = array.and_then(|array| Some((array, array.floats()?))) else {
        return Err(bad(format!("{}, expected an array of floats", document.root().kind())));
    };
    if array.shape() != [cells] {
        return Err(bad(format!("the land mask has the shape {:?}, expected [{cells}]", array.shape())));
    }
    // A mask of zeros and ones would otherwise be taken as wet everywhere.
    match values.iter().position(|value| !value.is_nan() && *value != 1.0) {
        Some(cell) => {
            Err(bad(format!("cell {cell} of the land mask is {}, expected 1 (wet) or NaN (land)", values[cell])))
        }
        None => Ok(values.iter().map(|value| value.is_nan()).collect()),
    }
}

/// Returns the largest size in bytes of a file in a directory of factors. Larger files are not read.
pub fn largest(path: &Path) -> u64 {
    match path.extension() {
        Some(end) if end == "nc" => netcdf_read::MAX_FILE,
        _ => MAX_FILE,
    }
}

/// Lists the files of a directory of factors that determine the products, sorted by path: the target grid, all land
/// masks and all matrices of numbered levels, or the NetCDF files. The digest of the factors covers these files.
///
/// # Errors
///
/// Returns an error if a directory cannot be listed, if factors in several forms are there, or if the target grid is
/// absent.
pub fn files(dir: &Path, files: &Files) -> Result<Vec<PathBuf>, MappingError> {
    if let Some(form) = form_of(dir, files)? {
        let mut found = netcdf_files(dir, form, files)?;
        found.sort();
        return Ok(found);
    }
    let grid = latlon_grid(dir);
    let absent = |source| MappingError::Io { file: grid.clone(), action: "open", source };
    files.metadata(&grid).map_err(absent)?;
    let mut found = vec![grid];
    for (folder, prefix, suffix) in [("land_mask", LAND_MASK, ".xz"), ("sparse", SPARSE_MATRIX, ".npz")] {
        let folder = dir.join(folder);
        let failed = |source| MappingError::Io { file: folder.clone(), action: "list", source };
        for name in files.names(&folder).map_err(failed)? {
            let number = name.to_str().and_then(|name| name.strip_prefix(prefix)?.strip_suffix(suffix));
            if number.is_some_and(is_level_number) {
                found.push(folder.join(name));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Lists all files of factors in a directory, in whatever forms they are.
///
/// # Errors
///
/// Returns an error if a directory cannot be listed.
pub fn existing(dir: &Path) -> Result<Vec<PathBuf>, MappingError> {
    let mut found = Vec::new();
    for folder in ["", "latlon_grid", "land_mask", "sparse", "3D"] {
        let folder = dir.join(folder);
        let names = match Files::default().names(&folder) {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(MappingError::Io { file: folder, action: "list", source }),
        };
        let numbered = |name: &str, prefix: &str, suffix: &str| {
            name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix)).is_some_and(is_level_number)
        };
        let is_one = |name: &str| {
            matches!(name, "latlon_grid.xz" | NETCDF_NAME)
                || name.starts_with("ecco_latlon_grid_mappings_") && name.ends_with(".xz")
                || numbered(name, LAND_MASK, ".xz")
                || numbered(name, SPARSE_MATRIX, ".npz")
                || numbered(name, "weights_", ".nc")
        };
        found.extend(names.iter().filter(|name| name.to_str().is_some_and(is_one)).map(|name| folder.join(name)));
    }
    Ok(found)
}

/// Returns true if the text is a level number as used in file names: digits without leading zeros, and less than the
/// largest number of levels.
fn is_level_number(text: &str) -> bool {
    text.parse::<usize>().is_ok_and(|number| number < MAX_LEVELS && number.to_string() == text)
}

const LAND_MASK: &str = "ecco_latlon_land_mask_";
const SPARSE_MATRIX: &str = "sparse_matrix_";

pub(super) fn latlon_grid(dir: &Path) -> PathBuf {
    dir.join("latlon_grid").join("latlon_grid.xz")
}

pub(super) fn land_mask(dir: &Path, k: usize) -> PathBuf {
    dir.join("land_mask").join(format!("{LAND_MASK}{k}.xz"))
}

pub(super) fn sparse_matrix(dir: &Path, k: usize) -> PathBuf {
    dir.join("sparse").join(format!("{SPARSE_MATRIX}{k}.npz"))
}

#[cfg(test)]
mod tests;
