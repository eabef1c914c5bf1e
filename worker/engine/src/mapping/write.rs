//! Writes mapping factors in the file formats of EDP.
//!
//! The same input gives the same bytes: the times in archives are fixed. Each file is written under a temporary name
//! and then renamed, so that no reader sees an incomplete one. Missing directories are created.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use edp_files::output;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::pickle_write::Pickler;
use super::{MappingError, factors, npy, xz};

/// The preset of XZ. Higher levels take several times longer and gain little on index lists.
const XZ_PRESET: u32 = 3;

/// The target grid in `latlon_grid.xz`. Angles are in degrees; depths are in metres, negative downwards.
#[derive(Debug, Clone, Copy)]
pub struct TargetGrid<'a> {
    /// Lower and upper edge of each row, shape (lat, 2).
    pub latitude_bounds: &'a [[f64; 2]],
    /// Western and eastern edge of each column, shape (lon, 2).
    pub longitude_bounds: &'a [[f64; 2]],
    /// Upper and lower edge of each level, shape (k, 2).
    pub depth_bounds: &'a [[f64; 2]],
    /// Centres of the rows.
    pub latitudes: &'a [f64],
    /// Centres of the columns.
    pub longitudes: &'a [f64],
    /// The tiles, the rows j and the columns i of the wet cells of the native grid, for each level. Production does not
    /// read them; the list may be empty.
    pub wet: &'a [[Vec<i64>; 3]],
}

/// The weights of a sparse matrix.
#[derive(Debug, Clone, Copy)]
pub enum MatrixWeights<'a> {
    /// All weights are 1; they are stored as integers.
    Unit,
    /// One number for each entry of the matrix.
    Float(&'a [f64]),
}

/// Writes `latlon_grid/latlon_grid.xz`.
///
/// # Errors
///
/// Returns an error if centres and bounds differ in length, or if the file cannot be written.
pub fn write_latlon_grid(dir: &Path, grid: &TargetGrid<'_>) -> Result<(), MappingError> {
    let file = factors::latlon_grid(dir);
    let sizes = [
        ("latitude", grid.latitudes.len(), grid.latitude_bounds.len()),
        ("longitude", grid.longitudes.len(), grid.longitude_bounds.len()),
    ];
    for (name, centres, bounds) in sizes {
        if centres != bounds {
            let reason = format!("not written: {centres} {name} centres, but {bounds} bounds");
            return Err(MappingError::Content { file, reason });
        }
    }
    let mut pickler = Pickler::new();
    let pairs =
        |pickler: &mut Pickler, bounds: &[[f64; 2]]| pickler.floats(&[bounds.len(), 2], bounds.iter().flatten());
    pickler.begin_list();
    pickler.begin_dict();
    pickler.text("lat");
    pairs(&mut pickler, grid.latitude_bounds);
    pickler.text("lon");
    pairs(&mut pickler, grid.longitude_bounds);
    pickler.end_dict();
    pairs(&mut pickler, grid.depth_bounds);
    pickler.begin_dict();
    pickler.text("shape");
    pickler.begin_tuple();
    pickler.int(grid.latitudes.len() as i64);
    pickler.int(grid.longitudes.len() as i64);
    pickler.end_tuple();
    pickler.text("lats_1D");
    pickler.floats(&[grid.latitudes.len()], grid.latitudes.iter());
    pickler.text("lons_1D");
    pickler.floats(&[grid.longitudes.len()], grid.longitudes.iter());
    pickler.end_dict();
    pickler.begin_dict();
    for (k, lists) in grid.wet.iter().enumerate() {
        pickler.int(k as i64);
        pickler.begin_tuple();
        for list in lists {
            pickler.integers(list);
        }
        pickler.end_tuple();
    }
    pickler.end_dict();
    pickler.end_list();
    write_pickle(&file, pickler)
}

/// Writes a pickle as an XZ file.
pub(super) fn write_pickle(file: &Path, pickler: Pickler) -> Result<(), MappingError> {
    let packed = xz::pack(file, &pickler.finish(), XZ_PRESET)?;
    write(file, &packed)
}

/// Writes `land_mask/ecco_latlon_land_mask_<k>.xz`: 1 for each wet target cell, NaN for land.
///
/// # Errors
///
/// Returns an error if the file cannot be written.
pub fn write_land_mask(dir: &Path, k: usize, wet: &[bool]) -> Result<(), MappingError> {
    let file = factors::land_mask(dir, k);
    let mut pickler = Pickler::new();
    pickler.floats(&[wet.len()], wet.iter().map(|&wet| if wet { &1.0 } else { &f64::NAN }));
    write_pickle(&file, pickler)
}

/// Writes `sparse/sparse_matrix_<k>.npz`, a matrix in compressed sparse rows.
///
/// `shape` is (wet source cells, target cells). `indptr` holds the beginning of each row in `indices` and has one value
/// more than there are rows; `indices` holds the columns, ascending within each row.
///
/// # Errors
///
/// Returns an error if the parts do not form a matrix, or if the file cannot be written.
pub fn write_matrix(
    dir: &Path,
    k: usize,
    shape: (usize, usize),
    indptr: &[i32],
    indices: &[i32],
    data: MatrixWeights<'_>,
) -> Result<(), MappingError> {
    let file = factors::sparse_matrix(dir, k);
    if let Err(reason) = check_matrix(shape, indptr, indices, data) {
        return Err(MappingError::Content { file, reason: format!("not written: {reason}") });
    }
    let count = indices.len();
    let integers = |values: &[i32]| {
        npy::write("<i4", &format!("({},)", values.len()), values.iter().flat_map(|value| value.to_le_bytes()))
    };
    let data = match data {
        MatrixWeights::Unit => npy::write("<i8", &format!("({count},)"), (0..count).flat_map(|_| 1_i64.to_le_bytes())),
        MatrixWeights::Float(weights) => {
            npy::write("<f8", &format!("({count},)"), weights.iter().flat_map(|weight| weight.to_le_bytes()))
        }
    };
    let sizes = [shape.0 as i64, shape.1 as i64];
    let entries = [
        ("indices.npy", integers(indices)),
        ("indptr.npy", integers(indptr)),
        ("format.npy", npy::write("|S3", "()", b"csr".iter().copied())),
        ("shape.npy", npy::write("<i8", "(2,)", sizes.into_iter().flat_map(i64::to_le_bytes))),
        ("data.npy", data),
    ];
    let bytes = archive(&entries).map_err(|error| MappingError::Entry {
        file: file.clone(),
        entry: "(archive)".to_owned(),
        reason: format!("cannot be made: {error}"),
    })?;
    write(&file, &bytes)
}

fn check_matrix(
    (rows, columns): (usize, usize),
    indptr: &[i32],
    indices: &[i32],
    data: MatrixWeights<'_>,
) -> Result<(), String> {
    if indptr.len() != rows + 1 {
        return Err(format!("{} row starts for {rows} rows, expected {}", indptr.len(), rows + 1));
    }
    let count = indptr.last().and_then(|&end| usize::try_from(end).ok());
    if indptr.first() != Some(&0) || !indptr.is_sorted() || count != Some(indices.len()) {
        return Err(format!("the row starts do not ascend from 0 to {}", indices.len()));
    }
    if let Some(index) = indices.iter().find(|&&index| !usize::try_from(index).is_ok_and(|index| index < columns)) {
        return Err(format!("column {index} of {columns}"));
    }
    match data {
        MatrixWeights::Float(weights) if weights.len() != indices.len() => {
            Err(format!("{} weights for {} entries", weights.len(), indices.len()))
        }
        MatrixWeights::Float(weights) if !weights.iter().all(|weight| weight.is_finite()) => {
            Err("a weight is not a finite number".to_owned())
        }
        _ => Ok(()),
    }
}

fn archive(entries: &[(&str, Vec<u8>)]) -> zip::result::ZipResult<Vec<u8>> {
    // This is the epoch of the zip format, the time that SciPy writes.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o600);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, options)?;
        zip.write_all(bytes)?;
    }
    Ok(zip.finish()?.into_inner())
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), MappingError> {
    let failed = |source| MappingError::Io { file: file.to_owned(), action: "write", source };
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    output::write(file, bytes).map_err(failed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::super::Factors;
    use super::*;

    /// Writes factors with two rows, three columns and two levels; five wet source cells at level 0, two at level 1.
    fn write_all(dir: &Path) {
        let grid = TargetGrid {
            latitude_bounds: &[[-90.0, 0.0], [0.0, 90.0]],
            longitude_bounds: &[[-180.0, -60.0], [-60.0, 60.0], [60.0, 180.0]],
            depth_bounds: &[[0.0, -10.0], [-10.0, -25.0]],
            latitudes: &[-45.0, 45.0],
            longitudes: &[-120.0, 0.0, 120.0],
            wet: &[[vec![0; 5], vec![0, 0, 1, 1, 2], vec![0, 2, 1, 2, 0]], [vec![0; 2], vec![0, 1], vec![2, 1]]],
        };
        write_latlon_grid(dir, &grid).unwrap();
        write_land_mask(dir, 0, &[true, true, false, true, true, true]).unwrap();
        write_matrix(dir, 0, (5, 6), &[0, 1, 3, 3, 4, 5], &[0, 1, 5, 3, 4], MatrixWeights::Unit).unwrap();
        write_land_mask(dir, 1, &[true, false, false, false, false, true]).unwrap();
        write_matrix(dir, 1, (2, 6), &[0, 1, 3], &[0, 0, 5], MatrixWeights::Float(&[0.25, 0.75, 1.0])).unwrap();
    }

    #[test]
    fn what_is_written_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path());
        let factors = Factors::open(dir.path()).unwrap();
        assert_eq!(factors.shape(), (2, 3));
        assert_eq!(factors.latitudes(), [-45.0, 45.0]);
        assert_eq!(factors.longitude_bounds()[2], [60.0, 180.0]);
        assert_eq!(factors.depth_bounds(), [[0.0, -10.0], [-10.0, -25.0]]);

        let top = factors.level(0, &[0, 2, 4, 5, 6]).unwrap();
        assert!(top.is_nearest_neighbour());
        assert_eq!(top.land(), [false, false, true, false, false, false]);
        assert_eq!(
            (0..6).map(|m| top.sources(m)).collect::<Vec<_>>(),
            [vec![(0, 1.0)], vec![(2, 1.0)], vec![], vec![(5, 1.0)], vec![(6, 1.0)], vec![(2, 1.0)],]
        );
        let below = factors.level(1, &[2, 4]).unwrap();
        assert_eq!(below.sources(0), [(2, 0.25), (4, 0.75)]);
        assert_eq!(below.sources(5), [(4, 1.0)]);
    }

    #[test]
    fn the_bytes_are_the_same_every_time() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write_all(first.path());
        write_all(second.path());
        let files = super::super::files(first.path(), &edp_files::Files::default()).unwrap();
        assert_eq!(files.len(), 5);
        for file in files {
            let other = second.path().join(file.strip_prefix(first.path()).unwrap());
            assert_eq!(fs::read(&file).unwrap(), fs::read(other).unwrap(), "{}", file.display());
        }
        // No other file is left behind.
        assert_eq!(fs::read_dir(first.path().join("sparse")).unwrap().count(), 2);
    }

    #[test]
    fn what_is_no_matrix_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let write = |indptr: &[i32], indices: &[i32], data: MatrixWeights<'_>| {
            write_matrix(dir.path(), 0, (2, 3), indptr, indices, data).map_err(|error| error.to_string())
        };
        write(&[0, 1, 2], &[0, 2], MatrixWeights::Unit).unwrap();
        assert!(write(&[0, 2], &[0, 2], MatrixWeights::Unit).unwrap_err().contains("2 row starts for 2 rows"));
        assert!(write(&[0, 2, 1], &[0, 2], MatrixWeights::Unit).unwrap_err().contains("do not ascend"));
        assert!(write(&[0, 1, 3], &[0, 2], MatrixWeights::Unit).unwrap_err().contains("do not ascend"));
        assert!(write(&[0, 1, 2], &[0, 3], MatrixWeights::Unit).unwrap_err().contains("column 3 of 3"));
        assert!(write(&[0, 1, 2], &[-1, 2], MatrixWeights::Unit).unwrap_err().contains("column -1"));
        assert!(write(&[0, 1, 2], &[0, 2], MatrixWeights::Float(&[1.0])).unwrap_err().contains("1 weights for 2"));
        assert!(write(&[0, 1, 2], &[0, 2], MatrixWeights::Float(&[1.0, f64::NAN])).unwrap_err().contains("finite"));
        let grid = TargetGrid {
            latitude_bounds: &[],
            longitude_bounds: &[],
            depth_bounds: &[],
            latitudes: &[1.0],
            longitudes: &[],
            wet: &[],
        };
        assert!(write_latlon_grid(dir.path(), &grid).unwrap_err().to_string().contains("1 latitude centres"));
    }
}
