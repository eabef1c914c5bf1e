//! The grid as written by a model run: MDS files and `mitgrid` files.

use super::error::GridError;
use super::mask::{Mask, MaskBuilder};
use super::mitgrid::Mitgrid;
use super::{MAX_LEVELS, MAX_N};
use crate::mds::MdsFile;
use crate::mds::compact::{self, TILES};
use ndarray::Array3;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A directory with the grid files of a model run, for any N.
///
/// MDS files take precedence, as they have the model's own values; arrays that they lack are taken from
/// `tile001.mitgrid` to `tile005.mitgrid`.
#[derive(Debug)]
pub struct ModelFiles {
    directory: PathBuf,
    mitgrid: Option<Mitgrid>,
    /// Number of cells along the side of a tile, N.
    pub n: usize,
    /// Number of layers, nz.
    pub levels: usize,
}

impl ModelFiles {
    /// Examines a directory. N and the number of levels are those of `hFacC`.
    ///
    /// # Errors
    /// Returns an error if there is no `hFacC`, if it is not on a lat-lon-cap grid, or if other files do not fit it.
    pub fn open(directory: &Path) -> Result<ModelFiles, GridError> {
        let Some(file) = open(&directory.join("hFacC"))? else {
            return Err(GridError::NoModelGrid { directory: directory.to_owned() });
        };
        let n = file.header().llc_size()?;
        let levels = file.header().levels().unwrap_or(1);
        let name = || directory.join("hFacC.data");
        for (what, value, limit) in [("the side of a tile, N", n, MAX_N), ("the number of levels", levels, MAX_LEVELS)]
        {
            if !(1..=limit).contains(&value) {
                return Err(GridError::Size { file: name(), what, value, limit });
            }
        }
        let mitgrid = Mitgrid::find(directory)?;
        if let Some(grid) = mitgrid.as_ref().filter(|grid| grid.n() != n) {
            let problem = format!("N = {} does not fit hFacC with N = {n}", grid.n());
            return Err(GridError::Mitgrid { file: directory.join("tile003.mitgrid"), problem });
        }
        Ok(ModelFiles { directory: directory.to_owned(), mitgrid, n, levels })
    }

    /// Returns true if the directory has an MDS file of this name.
    pub fn has(&self, name: &str) -> bool {
        MdsFile::pair(&self.directory.join(name)).iter().any(|path| path.exists())
    }

    /// Returns the path of the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads a horizontal array by the model's name for it, in tile order; `None` if no file has it.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or has another shape.
    pub fn horizontal(&self, name: &str) -> Result<Option<Vec<f32>>, GridError> {
        let Some(file) = open(&self.directory.join(name))? else {
            let mitgrid = self.mitgrid.as_ref().filter(|_| Mitgrid::has(name));
            let read = |grid: &Mitgrid| Ok(grid.tiles(name, 0)?.into_raw_vec_and_offset().0);
            return mitgrid.map(read).transpose();
        };
        self.check(&file, name, &[self.n, TILES * self.n])?;
        let record = file.find(name, 0)?.record;
        Ok(Some(self.tiles(&file.read_plane(record, 0)?.into_f32())))
    }

    /// Reads a horizontal array that must be there.
    ///
    /// # Errors
    /// Returns the errors of [`ModelFiles::horizontal`], and an error if no file has the array.
    pub fn needed(&self, name: &'static str) -> Result<Vec<f32>, GridError> {
        let missing = || GridError::NoModelFile { directory: self.directory.clone(), name };
        self.horizontal(name)?.ok_or_else(missing)
    }

    /// Reads a vertical profile; `None` if no file has it.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or has another length.
    pub fn profile(&self, name: &str, length: usize) -> Result<Option<Vec<f32>>, GridError> {
        let Some(file) = open(&self.directory.join(name))? else { return Ok(None) };
        self.check(&file, name, &[1, 1, length])?;
        let record = file.find(name, 0)?.record;
        Ok(Some(file.read_record(record)?.into_f32()))
    }

    /// Calls `take` with each level of a three-dimensional array in tile order, from the surface down. Returns true if
    /// there is such an array.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or has another shape.
    pub(crate) fn each_level(&self, name: &str, mut take: impl FnMut(Vec<f32>)) -> Result<bool, GridError> {
        let Some(file) = open(&self.directory.join(name))? else { return Ok(false) };
        self.check(&file, name, &[self.n, TILES * self.n, self.levels])?;
        let record = file.find(name, self.levels)?.record;
        for k in 0..self.levels {
            take(self.tiles(&file.read_plane(record, k)?.into_f32()));
        }
        Ok(true)
    }

    /// Returns true for the elements of a three-dimensional array that are above zero; `None` if there is no such
    /// array.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or has another shape.
    pub fn mask(&self, name: &str) -> Result<Option<Mask>, GridError> {
        let mut builder = MaskBuilder::new(self.n);
        let found = self.each_level(name, |values| builder.add(values.iter().map(|value| *value > 0.0)))?;
        Ok(found.then(|| builder.finish()))
    }

    /// Reads the longitudes and latitudes of all corners (tile, N + 1, N + 1) from the mitgrid files; `None` if there are
    /// no such files.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub(crate) fn all_corners(&self) -> Result<Option<[Array3<f32>; 2]>, GridError> {
        let Some(grid) = &self.mitgrid else { return Ok(None) };
        Ok(Some([grid.tiles("XG", 1)?, grid.tiles("YG", 1)?]))
    }

    fn tiles(&self, compact: &[f32]) -> Vec<f32> {
        let mut tiles = vec![0.0; compact.len()];
        compact::to_tiles(self.n, compact, &mut tiles);
        tiles
    }

    fn check(&self, file: &MdsFile<File>, name: &str, sizes: &[usize]) -> Result<(), GridError> {
        // MITgcm can write a plane as 2-D or as one level, and one level as a plane.
        let plain = |sizes: &[usize]| match sizes {
            [x, y, 1] if *x > 1 => vec![*x, *y],
            other => other.to_vec(),
        };
        if plain(file.header().sizes()) == plain(sizes) {
            return Ok(());
        }
        let reversed = |sizes: &[usize]| sizes.iter().rev().copied().collect::<Vec<_>>();
        Err(GridError::Shape {
            file: self.directory.join(format!("{name}.data")),
            variable: name.into(),
            expected: format!("{:?}, as hFacC asks for", reversed(sizes)),
            found: reversed(file.header().sizes()),
        })
    }
}

/// Opens a pair of MDS files; `None` if neither of them exists.
fn open(stem: &Path) -> Result<Option<MdsFile<File>>, GridError> {
    if !MdsFile::pair(stem).iter().any(|path| path.exists()) {
        return Ok(None);
    }
    Ok(Some(MdsFile::open_pair(stem)?))
}
