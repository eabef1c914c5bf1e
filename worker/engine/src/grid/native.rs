//! The native geometry: positions, bounds, masks and angles of the 13 tiles.

use super::directory;
use super::edges::EdgePoints;
use super::error::GridError;
use super::geometry::Geometry;
use super::mask::{Mask, MaskBuilder};
use super::topology;
use crate::mds::MdsFile;
use crate::mds::compact::{self, TILES};
use crate::verified_files::VerifiedFiles;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A lat-lon-cap grid of 13 tiles with `n` by `n` cells each.
///
/// Horizontal arrays are in the order (tile, j, i), of which the last dimension varies fastest. Units are degrees and
/// metres. Those of a very large grid stay in their files, and are empty; see [`Native::is_whole`].
#[derive(Debug, Clone)]
pub struct Native {
    geometry: PathBuf,
    verified: Arc<VerifiedFiles>,
    /// Number of bytes of memory that a mask may take.
    limit: u64,
    /// Number of cells along the side of a tile, N.
    pub n: usize,
    /// Number of levels, nz.
    pub levels: usize,
    /// Longitudes of the cell centres (tile, j, i).
    pub xc: Arc<[f32]>,
    /// Latitudes of the cell centres (tile, j, i).
    pub yc: Arc<[f32]>,
    /// Longitudes of the corners at low i and j (tile, j_g, i_g).
    pub xg: Arc<[f32]>,
    /// Latitudes of the corners at low i and j (tile, j_g, i_g).
    pub yg: Arc<[f32]>,
    /// Heights of the level centres (k), negative below the surface.
    pub rc: Vec<f32>,
    /// Heights of the faces between the levels (k_p1 = nz + 1), from the surface down.
    pub rf: Vec<f32>,
    /// Longitudes of the four corners of each cell (tile, j, i, nb): at (j, i), (j, i+1), (j+1, i+1), (j+1, i).
    pub xc_bounds: Arc<[f32]>,
    /// Latitudes of the four corners of each cell (tile, j, i, nb).
    pub yc_bounds: Arc<[f32]>,
    /// Heights of the upper and lower face of each level (k, nv = 2).
    pub z_bounds: Vec<f32>,
    /// Cosine of the angle between the tile's i axis and east (tile, j, i).
    pub cs: Arc<[f32]>,
    /// Sine of the same angle (tile, j, i).
    pub sn: Arc<[f32]>,
    /// Cells with an open fraction hFacC > 0 (k, tile, j, i), which are the rows of the mapping factors.
    pub wet: Arc<Mask>,
    /// Mask of the C points (k, tile, j, i).
    pub mask_c: Arc<Mask>,
    /// Mask of the U points (k, tile, j, i_g).
    pub mask_w: Arc<Mask>,
    /// Mask of the V points (k, tile, j_g, i).
    pub mask_s: Arc<Mask>,
    /// Longitudes and latitudes of the U points and of the V points, if the geometry has both `XU` and `YU`, or both
    /// `XV` and `YV`; see [`Native::edge_points`].
    pub edges: [Option<[Arc<[f32]>; 2]>; 2],
}

impl Native {
    /// Reads the grid from the only file `*native*.nc` of a grid directory and from the MDS files XC, YC, XG, YG, RC,
    /// RF beside it. An absent MDS file is replaced by the geometry's own variable, an absent mask by hFac > 0.
    ///
    /// # Errors
    /// Returns an error if a file or variable is missing or cannot be read, or if its shape does not match that of
    /// `hFacC`.
    pub fn load(directory: &Path) -> Result<Native, GridError> {
        Native::load_verified(directory, Arc::default(), u64::MAX)
    }

    /// Reads the grid from verified files, unless it would take more than `limit` bytes of memory.
    ///
    /// # Errors
    /// Returns the errors of [`Native::load`], and [`GridError::TooLarge`].
    pub(crate) fn load_verified(
        directory: &Path,
        verified: Arc<VerifiedFiles>,
        limit: u64,
    ) -> Result<Native, GridError> {
        let path = directory::native(directory, &verified)?;
        let geometry = Geometry::open(&path, &verified)?;
        let (n, levels) = geometry.size()?;

        // A damaged file of a few bytes may claim a large shape; the other variables are checked before gigabytes are
        // allocated.
        for name in ["hFacC", "XC_bnds", "YC_bnds", "Z_bnds", "CS", "SN"] {
            geometry.shape(name)?;
        }
        let pairs = [["XU", "YU"], ["XV", "YV"]].map(|pair| pair.iter().all(|name| geometry.has(name)).then_some(pair));
        let [arrays, masks] = needed(n, levels, pairs.iter().flatten().count());
        let whole = arrays <= limit / 2;
        let bytes = masks + if whole { arrays } else { 0 };
        if bytes > limit {
            return Err(GridError::TooLarge { file: path, n, levels, bytes, limit });
        }
        let source = ArraySource { directory, geometry: &geometry, verified: &verified };
        let mut mask_limit = limit - if whole { arrays } else { 0 };
        let mut mask = |name: &str, fraction: &str| {
            let name = if geometry.has(name) { name } else { fraction };
            let mask = geometry.mask(name, (n, levels), false, mask_limit)?;
            mask_limit = mask_limit.saturating_sub(mask.bytes() as u64);
            Ok::<_, GridError>(Arc::new(mask))
        };
        let [wet, mask_c] = [mask("hFacC", "hFacC")?, mask("maskC", "hFacC")?];
        // Nearly always they are the same.
        let mask_c = if mask_c == wet { Arc::clone(&wet) } else { mask_c };
        let (mask_w, mask_s) = (mask("maskW", "hFacW")?, mask("maskS", "hFacS")?);
        let horizontal = |name: &str| match whole {
            true => source.horizontal(name, n),
            false => Ok(Arc::default()),
        };
        let values = |name: &str, last: Option<usize>| match whole {
            true => Ok(geometry.values(name, &[TILES, n, n].into_iter().chain(last).collect::<Vec<_>>())?.into()),
            false => Ok::<_, GridError>(Arc::default()),
        };
        let points = |pair: Option<[&str; 2]>| {
            let Some([x, y]) = pair else { return Ok(None) };
            Ok::<_, GridError>(Some([values(x, None)?, values(y, None)?]))
        };
        Ok(Native {
            n,
            levels,
            xc: horizontal("XC")?,
            yc: horizontal("YC")?,
            xg: horizontal("XG")?,
            yg: horizontal("YG")?,
            rc: source.profile("RC", "Z", levels)?,
            rf: source.profile("RF", "Zp1", levels + 1)?,
            xc_bounds: values("XC_bnds", Some(4))?,
            yc_bounds: values("YC_bnds", Some(4))?,
            z_bounds: geometry.values("Z_bnds", &[levels, 2])?,
            cs: values("CS", None)?,
            sn: values("SN", None)?,
            wet,
            mask_c,
            mask_w,
            mask_s,
            edges: [points(pairs[0])?, points(pairs[1])?],
            geometry: path,
            verified,
            limit,
        })
    }

    /// Returns true if the horizontal arrays are in memory: they may take half of what the grid may.
    pub(crate) fn is_whole(&self) -> bool {
        !self.xc.is_empty()
    }

    /// Refuses a grid whose horizontal arrays are not in memory.
    ///
    /// # Errors
    /// Returns [`GridError::NotWhole`].
    pub(crate) fn check_whole(&self) -> Result<(), GridError> {
        if self.is_whole() {
            return Ok(());
        }
        let [bytes, _] = needed(self.n, self.levels, 0);
        Err(GridError::NotWhole { file: self.geometry.clone(), n: self.n, bytes, limit: self.limit / 2 })
    }

    /// Calls `take` with the longitudes and the latitudes of the corners of some cells after the other, four for each,
    /// which are read from the geometry if they are not in memory.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    pub(crate) fn each_corners(&self, mut take: impl FnMut(&[f32], &[f32])) -> Result<(), GridError> {
        if self.is_whole() {
            take(&self.xc_bounds, &self.yc_bounds);
            return Ok(());
        }
        let geometry = Geometry::open(&self.geometry, &self.verified)?;
        let n = self.n;
        for name in ["XC_bnds", "YC_bnds"] {
            geometry.check_shape(name, &[TILES, n, n, 4])?;
        }
        let step = (SOME_CELLS / n).max(1);
        for (tile, first) in (0..TILES).flat_map(|tile| (0..n).step_by(step).map(move |first| (tile, first))) {
            let read = |name| geometry.part(name, &[tile, first, 0, 0], &[1, step.min(n - first), n, 4]);
            take(&read("XC_bnds")?, &read("YC_bnds")?);
        }
        Ok(())
    }

    /// Number of bytes of memory that the grid takes.
    pub(crate) fn bytes(&self) -> usize {
        let own = [&self.xc, &self.yc, &self.xg, &self.yg, &self.xc_bounds, &self.yc_bounds, &self.cs, &self.sn];
        let edges = self.edges.iter().flatten().flatten();
        let arrays: usize = own.into_iter().chain(edges).map(|values| size_of_val(&values[..])).sum();
        let own = (!Arc::ptr_eq(&self.wet, &self.mask_c)).then_some(&self.mask_c);
        let masks = [&self.wet, &self.mask_w, &self.mask_s].into_iter().chain(own);
        arrays + masks.map(|mask| mask.bytes()).sum::<usize>()
    }

    /// Number of cells on one level, 13 N².
    pub fn plane(&self) -> usize {
        TILES * self.n * self.n
    }

    /// Heights of the faces at high k of the levels (k_u), `Zu`.
    pub(crate) fn zu(&self) -> &[f32] {
        &self.rf[1..]
    }

    /// Heights of the faces at low k of the levels (k_l), `Zl`.
    pub(crate) fn zl(&self) -> &[f32] {
        &self.rf[..self.levels]
    }

    /// Returns longitudes and latitudes of the U and V points: those of the geometry, else the midpoints of the cell
    /// edges.
    pub(crate) fn edge_points(&self) -> EdgePoints {
        let computed = || EdgePoints::from_corners(&self.xc_bounds, &self.yc_bounds);
        match self.edges.clone() {
            [Some([xu, yu]), Some([xv, yv])] => EdgePoints { xu, yu, xv, yv },
            [Some([xu, yu]), None] => EdgePoints { xu, yu, ..computed() },
            [None, Some([xv, yv])] => EdgePoints { xv, yv, ..computed() },
            [None, None] => computed(),
        }
    }

    /// Reads another mask of the native geometry by name, with the shape (k, tile, y, x) or (tile, y, x). Cells are wet
    /// where the variable is above zero.
    ///
    /// # Errors
    /// Returns an error if there is no such variable, or if it has another shape.
    pub fn read_mask(&self, name: &str) -> Result<Mask, GridError> {
        Geometry::open(&self.geometry, &self.verified)?.mask(name, (self.n, self.levels), true, self.limit)
    }

    /// Returns the mask of the corners (k, tile, j_g, i_g): wet if any of the cells around a corner is wet. EDP has no
    /// mask for variables at corners; this rule is ours.
    pub(crate) fn mask_z(&self) -> Mask {
        let n = self.n;
        let mut builder = MaskBuilder::new(n);
        for k in 0..self.levels {
            let mut wet = vec![false; self.plane()];
            for line in 0..TILES * n {
                let (tile, j) = (line / n, line % n);
                for i in self.mask_c.wet_columns(k, line).flatten() {
                    for (j, i) in [(j, i), (j, i + 1), (j + 1, i), (j + 1, i + 1)] {
                        if let Some(corner) = topology::corner(n, tile, j, i) {
                            wet[corner] = true;
                        }
                    }
                }
            }
            builder.add(wet.into_iter());
        }
        builder.finish()
    }

    /// Returns the positions of the wet cells of level `k` in a compact plane (row * N + column), in the order (tile,
    /// j, i).
    ///
    /// The index into the result is the row number of a cell in the mapping factors of the level.
    ///
    /// # Panics
    /// Panics if there is no such level.
    #[allow(clippy::cast_possible_truncation)] // 13 N² is below 2³² up to MAX_N
    pub fn wet_positions(&self, k: usize) -> Vec<u32> {
        let n = self.n;
        let mut positions = Vec::with_capacity(self.wet.count(k));
        for line in 0..TILES * n {
            let start = compact::row(n, line / n, line % n) * n;
            let columns = self.wet.wet_columns(k, line).flatten();
            positions.extend(columns.map(|column| (start + column) as u32));
        }
        positions
    }
}

/// Number of cells whose corners are read at once from a geometry that is not in memory.
const SOME_CELLS: usize = 1 << 20;

/// Returns the number of bytes of memory that a grid of this shape takes: its horizontal arrays, and its masks without
/// their coasts.
fn needed(n: usize, levels: usize, pairs: usize) -> [u64; 2] {
    // Six arrays of values, two arrays of four bounds each, and pairs of edge points; four masks of so many rows.
    let arrays = TILES * n * n * 4 * (6 + 2 * 4 + 2 * pairs);
    [arrays, 4 * levels * TILES * n * 4].map(|bytes| bytes as u64)
}

#[cfg(test)]
impl Native {
    /// Makes a grid of one level without land, for tests in which only its angles matter.
    pub(crate) fn with_angles(n: usize, cs: Vec<f32>, sn: Vec<f32>) -> Native {
        let plane = TILES * n * n;
        assert_eq!((cs.len(), sn.len()), (plane, plane));
        let sea = Mask::new(n, &vec![true; plane]);
        let sea = Arc::new(sea);
        let (zero, bounds): (Arc<[f32]>, Arc<[f32]>) = (vec![0.0; plane].into(), vec![0.0; 4 * plane].into());
        Native {
            geometry: PathBuf::new(),
            verified: Arc::default(),
            limit: u64::MAX,
            n,
            levels: 1,
            xc: zero.clone(),
            yc: zero.clone(),
            xg: zero.clone(),
            yg: zero,
            rc: vec![-5.0],
            rf: vec![0.0, -10.0],
            xc_bounds: bounds.clone(),
            yc_bounds: bounds,
            z_bounds: vec![0.0, -10.0],
            cs: cs.into(),
            sn: sn.into(),
            wet: sea.clone(),
            mask_c: sea.clone(),
            mask_w: sea.clone(),
            mask_s: sea,
            edges: [None, None],
        }
    }
}

/// Reads arrays that may be in an MDS file or in the geometry file.
struct ArraySource<'a> {
    directory: &'a Path,
    geometry: &'a Geometry,
    verified: &'a VerifiedFiles,
}

impl ArraySource<'_> {
    /// Reads an array and returns it in tile order. In the geometry file it has the same name.
    fn horizontal(&self, name: &str, n: usize) -> Result<Arc<[f32]>, GridError> {
        let Some(compact) = self.mds(name, &[n, TILES * n])? else {
            return Ok(self.geometry.values(name, &[TILES, n, n])?.into());
        };
        let mut tiles = vec![0.0; compact.len()];
        compact::to_tiles(n, &compact, &mut tiles);
        Ok(tiles.into())
    }

    /// Reads a vertical profile. In the geometry file it has another name.
    fn profile(&self, name: &str, variable: &str, length: usize) -> Result<Vec<f32>, GridError> {
        match self.mds(name, &[1, 1, length])? {
            Some(values) => Ok(values),
            None => self.geometry.values(variable, &[length]),
        }
    }

    /// Reads the values of an MDS file with exactly these sizes (fastest first). Returns `None` if neither of its two
    /// files exists.
    fn mds(&self, name: &str, sizes: &[usize]) -> Result<Option<Vec<f32>>, GridError> {
        let stem = self.directory.join(name);
        let [meta, data] = MdsFile::pair(&stem);
        let has =
            |path: &PathBuf| self.verified.has(path).map_err(|source| GridError::Read { path: path.clone(), source });
        if !has(&meta)? && !has(&data)? {
            return Ok(None);
        }
        let file = MdsFile::open_pair_by(&stem, |path| self.verified.reader(path))?;
        // MITgcm can write a plane as 2-D or as one level
        let found = match file.header().sizes() {
            [x, y, 1] if sizes.len() == 2 => &[*x, *y],
            other => other,
        };
        if found != sizes {
            return Err(GridError::Shape {
                file: data,
                variable: name.into(),
                expected: format!("{:?}, as the geometry file asks for", sizes.iter().rev().collect::<Vec<_>>()),
                found: found.iter().rev().copied().collect(),
            });
        }
        Ok(Some(file.read_record(file.find(name, 0)?.record)?.into_f32()))
    }
}

#[cfg(test)]
mod tests;
