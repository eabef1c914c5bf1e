//! The sparse matrices of the mapping factors: SciPy's compressed sparse rows in an `.npz` file.

use std::io::{Cursor, Read};
use std::path::Path;

use zip::ZipArchive;

use super::MappingError;
use super::npy::Npy;
use super::xz::{ExpectedFile, read_file};

/// Largest size in bytes of a matrix file.
const MAX_FILE: usize = 1 << 30;
/// Largest number of weights of one level, far above any set in use (LLC90 at half a degree has 169,137).
const MAX_WEIGHTS: usize = 1 << 27;
/// Number of bytes taken by a weight while a matrix is read and brought into the order of its use: an index and a
/// number, twice.
const WEIGHT: u64 = 2 * (4 + 8);
/// Largest number of bytes to which one byte of a deflate stream can expand.
const DEFLATE_RATIO: u64 = 1032;
/// Number of bytes allowed for the header of an array.
const HEADER: usize = 8192;

/// A sparse matrix of weights. The rows are the wet source cells in scan order, the columns the target cells (lat *
/// nlon + lon).
#[derive(Debug, PartialEq)]
pub(super) struct Csr {
    pub(super) columns: usize,
    /// The beginning of each row in `indices`, with one value more than there are rows. The values ascend and end with
    /// the number of weights.
    pub(super) indptr: Vec<u32>,
    /// The column of each weight, always less than `columns`.
    pub(super) indices: Vec<u32>,
    pub(super) weights: Weights,
}

/// The weights of a matrix, all finite.
#[derive(Debug, PartialEq)]
pub(super) enum Weights {
    /// All weights are exactly 1.
    Unit,
    Each(Vec<f64>),
}

impl Csr {
    pub(super) fn rows(&self) -> usize {
        self.indptr.len() - 1
    }

    /// Returns the weight at a position of `indices`.
    pub(super) fn weight(&self, position: usize) -> f64 {
        match &self.weights {
            Weights::Unit => 1.0,
            Weights::Each(weights) => weights[position],
        }
    }
}

/// Reads a matrix that must have `rows` rows and `columns` columns. `level` is used in error messages only.
///
/// # Errors
///
/// Returns [`MappingError::Memory`] if the weights would take more than `memory` bytes, which is found before they are
/// read; [`MappingError::SourceCount`] if the number of rows differs; [`MappingError::Entry`] if an entry is missing,
/// damaged, larger than the matrix can be, or not a valid part of a matrix.
pub(super) fn read(
    source: ExpectedFile<'_>,
    level: usize,
    rows: usize,
    columns: usize,
    memory: u64,
) -> Result<Csr, MappingError> {
    parse(source.file, &read_file(source, MAX_FILE)?, level, rows, columns, memory)
}

/// Parses a matrix in memory as [`super::Factors::level`] does, and returns its number of weights. `file` and `level`
/// are used in error messages only.
///
/// # Errors
/// Returns an error if the matrix is damaged or does not map `rows` wet cells to `columns` target cells.
pub fn check_matrix(
    file: &Path,
    bytes: &[u8],
    level: usize,
    rows: usize,
    columns: usize,
) -> Result<usize, MappingError> {
    Ok(parse(file, bytes, level, rows, columns, u64::MAX)?.indices.len())
}

/// Does the work of [`read`] for a file in memory.
fn parse(
    file: &Path,
    bytes: &[u8],
    level: usize,
    rows: usize,
    columns: usize,
    memory: u64,
) -> Result<Csr, MappingError> {
    let mut archive = Archive::open(file, bytes)?;
    archive.check_format()?;

    let shape = archive.array("shape.npy", 2)?.integers()?;
    let &[found_rows, found_columns] = shape.as_slice() else {
        return Err(archive.bad("shape.npy", format!("{} numbers, expected 2", shape.len())));
    };
    if usize::try_from(found_rows) != Ok(rows) {
        let Ok(found_rows) = usize::try_from(found_rows) else {
            return Err(archive.bad("shape.npy", format!("{found_rows} rows")));
        };
        return Err(MappingError::SourceCount { file: file.to_owned(), level, rows: found_rows, wet: rows });
    }
    if usize::try_from(found_columns) != Ok(columns) {
        let reason = format!("{found_columns} columns (target cells), but the target grid has {columns} cells");
        return Err(archive.bad("shape.npy", reason));
    }

    let entry = "indptr.npy";
    let raw = archive.array(entry, rows + 1)?;
    let indptr = raw.indices_below(MAX_WEIGHTS + 1)?;
    if indptr.len() != rows + 1 {
        return Err(archive.bad(entry, format!("{} numbers for {rows} rows, expected {}", indptr.len(), rows + 1)));
    }
    if indptr.first() != Some(&0) || !indptr.is_sorted() {
        return Err(archive.bad(entry, "the row starts do not begin with 0 and ascend".to_owned()));
    }
    let count = indptr.last().copied().unwrap_or(0) as usize;
    let taken = count as u64 * WEIGHT;
    if taken > memory {
        return Err(MappingError::Memory { file: file.to_owned(), bytes: taken, limit: memory });
    }

    let entry = "indices.npy";
    let indices = archive.array(entry, count)?.indices_below(columns)?;
    if indices.len() != count {
        return Err(archive.bad(entry, format!("{} numbers, but indptr ends with {count}", indices.len())));
    }

    let entry = "data.npy";
    let data = archive.array(entry, count)?;
    let weights = data.weights()?;
    if data.len() != count {
        return Err(archive.bad(entry, format!("{} numbers, but indptr ends with {count}", data.len())));
    }
    Ok(Csr { columns, indptr, indices, weights })
}

/// The zip archive that holds the arrays of a matrix.
struct Archive<'a> {
    file: &'a Path,
    zip: ZipArchive<Cursor<&'a [u8]>>,
}

impl<'a> Archive<'a> {
    fn open(file: &'a Path, bytes: &'a [u8]) -> Result<Self, MappingError> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| bad(file, "(archive)", error.to_string()))?;
        Ok(Self { file, zip })
    }

    fn bad(&self, entry: &str, reason: String) -> MappingError {
        bad(self.file, entry, reason)
    }

    /// Unpacks an entry that should hold at most `limit` bytes. Memory is allocated only for bytes that are really
    /// unpacked.
    fn unpack(&mut self, entry: &str, limit: usize) -> Result<Vec<u8>, MappingError> {
        let file = self.file;
        let source = self.zip.by_name(entry).map_err(|error| bad(file, entry, error.to_string()))?;
        let (claimed, packed) = (source.size(), source.compressed_size());
        let too_large =
            || MappingError::TooLarge { file: file.to_owned(), what: format!("entry {entry}"), limit: limit as u64 };
        if claimed > limit as u64 {
            return Err(too_large());
        }
        if claimed > packed.saturating_mul(DEFLATE_RATIO).saturating_add(4096) {
            return Err(bad(file, entry, format!("claims {claimed} bytes, more than {packed} packed bytes can hold")));
        }
        let mut bytes = Vec::with_capacity(claimed as usize);
        source
            .take(limit as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| bad(file, entry, format!("cannot be unpacked: {error}")))?;
        if bytes.len() > limit {
            return Err(too_large());
        }
        Ok(bytes)
    }

    /// Reads an array of at most `count` numbers.
    fn array(&mut self, entry: &'static str, count: usize) -> Result<Numbers<'a>, MappingError> {
        let bytes = self.unpack(entry, count.saturating_mul(8).saturating_add(HEADER))?;
        Numbers { file: self.file, entry, bytes }.checked()
    }

    /// Refuses other sparse formats, whose entries have the same names. A file without this entry is taken as CSR.
    fn check_format(&mut self) -> Result<(), MappingError> {
        let entry = "format.npy";
        if self.zip.index_for_name(entry).is_none() {
            return Ok(());
        }
        // The entry is a single text of three bytes, or of three 4-byte characters in old files.
        let bytes = self.unpack(entry, HEADER)?;
        let letters: Vec<u8> = bytes.iter().rev().filter(|&&byte| byte != 0).take(3).copied().collect();
        if letters == b"rsc" {
            Ok(())
        } else {
            Err(self.bad(entry, "the sparse matrix is not in the format csr".to_owned()))
        }
    }
}

/// An unpacked one-dimensional array of the archive.
struct Numbers<'a> {
    file: &'a Path,
    entry: &'static str,
    bytes: Vec<u8>,
}

impl Numbers<'_> {
    fn checked(self) -> Result<Self, MappingError> {
        let dimensions = self.npy()?.shape.len();
        if dimensions == 1 { Ok(self) } else { Err(self.bad(format!("{dimensions} dimensions, expected 1"))) }
    }

    fn npy(&self) -> Result<Npy<'_>, MappingError> {
        Npy::parse(&self.bytes).map_err(|reason| self.bad(reason))
    }

    fn len(&self) -> usize {
        self.npy().map_or(0, |npy| npy.shape.iter().product())
    }

    fn integers(&self) -> Result<Vec<i64>, MappingError> {
        let npy = self.npy()?;
        Ok(npy.integers().ok_or_else(|| self.bad("floats, expected integers".to_owned()))?.collect())
    }

    /// Returns the integers, each of which must be less than `bound`.
    fn indices_below(&self, bound: usize) -> Result<Vec<u32>, MappingError> {
        let npy = self.npy()?;
        let bound = u32::try_from(bound).unwrap_or(u32::MAX);
        npy.integers()
            .ok_or_else(|| self.bad("floats, expected integers".to_owned()))?
            .enumerate()
            .map(|(position, value)| match u32::try_from(value) {
                Ok(value) if value < bound => Ok(value),
                _ => Err(self.bad(format!("number {position} is {value}, expected 0 to {}", bound.saturating_sub(1)))),
            })
            .collect()
    }

    fn weights(&self) -> Result<Weights, MappingError> {
        let npy = self.npy()?;
        if npy.floats().all(|weight| weight == 1.0) {
            return Ok(Weights::Unit);
        }
        if let Some(position) = npy.floats().position(|weight| !weight.is_finite()) {
            return Err(self.bad(format!("weight {position} is not a finite number")));
        }
        Ok(Weights::Each(npy.floats().collect()))
    }

    fn bad(&self, reason: String) -> MappingError {
        bad(self.file, self.entry, reason)
    }
}

fn bad(file: &Path, entry: &str, reason: String) -> MappingError {
    MappingError::Entry { file: file.to_owned(), entry: entry.to_owned(), reason }
}

#[cfg(test)]
mod tests;
