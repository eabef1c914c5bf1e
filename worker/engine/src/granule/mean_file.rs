//! Files with the mean of a variable over a period.
//!
//! A file begins with 4096 bytes of JSON, filled with blanks, which say what is in it. Then come the values, 8-byte
//! big-endian numbers: level by level, and each level in the compact layout of the model's own files. The JSON has the
//! SHA-256 of the values, so that a file that was damaged, or is another one, is found out before it is used.

use super::error::MakeError;
use super::holes::MissingCells;
use super::output_value::FILL;
use super::stages::{Stage, Stages};
use crate::grid::LevelSet;
use crate::mds::MdsError;
use crate::mds::compact::TileRows;
use edp_files::ReadAt;
use edp_protocol::recipe::{Anomaly, PeriodMean};
use edp_protocol::{Digest, wire};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

/// Number of bytes before the values.
const HEADER: u64 = 4096;

/// Version of the layout of the file.
const LAYOUT: u32 = 1;

/// Largest number of bytes that are read at once.
const BLOCK: usize = 1 << 17;

/// The value of a cell that lacks a value in a record of the period.
pub(super) const NO_MEAN: f64 = FILL;

/// The beginning of a file with a mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MeanHeader {
    /// Version of the layout.
    edp_mean: u32,
    /// [`PeriodMean::id`].
    id: Digest,
    /// Rule, period and number of records, for readers.
    anomaly: Anomaly,
    records: u64,
    /// Number of levels in the records; `None` if the variable is 2-D.
    levels: Option<usize>,
    /// Number of values of a level.
    plane: usize,
    /// Type and place of the values, and the value of cells without a mean, for readers.
    values: String,
    offset: u64,
    no_mean: f64,
    /// SHA-256 of the values.
    sha256: Digest,
}

impl MeanHeader {
    /// Describes a mean. Its values have the digest `sha256`.
    pub(super) fn new(
        anomaly: &Anomaly,
        mean: &PeriodMean,
        levels: Option<usize>,
        plane: usize,
        sha256: Digest,
    ) -> MeanHeader {
        MeanHeader {
            edp_mean: LAYOUT,
            id: mean.id.clone(),
            anomaly: anomaly.clone(),
            records: mean.count(),
            levels,
            plane,
            values: "float64 big-endian".into(),
            offset: HEADER,
            no_mean: NO_MEAN,
            sha256,
        }
    }

    /// Writes the header into a file whose values are written.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub(super) fn write(&self, file: &std::fs::File) -> io::Result<()> {
        let mut text = serde_json::to_vec(self)?;
        let room = HEADER as usize;
        if text.len() >= room {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name of its variable is too long"));
        }
        text.resize(room - 1, b' ');
        text.push(b'\n');
        file.write_all_at(&text, 0)
    }
}

/// Begins a file with a mean: returns a writer for its values.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub(super) fn begin(file: &std::fs::File) -> io::Result<impl Write + '_> {
    let mut file = io::BufWriter::with_capacity(BLOCK, file);
    file.write_all(&[b' '; HEADER as usize])?;
    Ok(file)
}

/// Returns the digest of the values in a file.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub(super) fn digest_of_values(file: &dyn ReadAt) -> io::Result<Digest> {
    Digest::of_reader(ReaderAt { file, at: HEADER }).map(|(digest, _)| digest)
}

/// Reads a file in sequence.
struct ReaderAt<'a> {
    file: &'a dyn ReadAt,
    at: u64,
}

impl Read for ReaderAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.file.length()?.saturating_sub(self.at);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        self.file.read_exact_at(&mut buffer[..count], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// A mean that was found to be the right one.
pub(super) struct Mean {
    /// Path or address of the file.
    path: String,
    file: Box<dyn ReadAt>,
    /// Levels of the grid that the file has; `None` if the variable is 2-D.
    levels: Option<LevelSet>,
    plane: usize,
    read: wire::InputRead,
    resident: u64,
}

impl Mean {
    /// Memory that reading a level takes in addition to its values.
    pub(super) const READING: u64 = BLOCK as u64;

    /// Checks an open file. `digest` returns the digest of the whole file, and calls the function that it is given if
    /// that is not known.
    ///
    /// # Errors
    /// Returns [`MakeError::Mean`] if the file is damaged, or is not the mean that is wanted, with this shape.
    pub(super) fn open(
        path: &str,
        file: Box<dyn ReadAt>,
        wanted: &PeriodMean,
        (of_grid, plane): (Option<LevelSet>, usize),
        digest: impl FnOnce(&dyn ReadAt, &dyn Fn() -> Result<Digest, MakeError>) -> Result<Digest, MakeError>,
    ) -> Result<Mean, MakeError> {
        let fail = |source| MakeError::Input { path: path.to_owned(), source };
        let unfit = |why: String| MakeError::Mean { path: path.to_owned(), why };
        let size = file.length().map_err(fail)?;
        let levels = of_grid.as_ref().map(LevelSet::len);
        let bytes = (plane as u64).saturating_mul(levels.unwrap_or(1) as u64).saturating_mul(8).saturating_add(HEADER);
        if size < HEADER {
            return Err(unfit(format!("it is damaged: it has {size} bytes")));
        }
        let mut text = [0; HEADER as usize];
        file.read_exact_at(&mut text, 0).map_err(fail)?;
        let header: MeanHeader =
            serde_json::from_slice(&text).map_err(|error| unfit(format!("it is no mean, or damaged: {error}")))?;
        if header.edp_mean != LAYOUT || header.id != wanted.id {
            return Err(unfit(format!("it is another mean, with the id {}, not {}", header.id, wanted.id)));
        }
        if (header.levels, header.plane, size) != (levels, plane, bytes) {
            return Err(unfit(format!(
                "it has {} levels of {} values in {size} bytes, the variable {} of {plane} in {bytes}",
                header.levels.unwrap_or(1),
                header.plane,
                levels.unwrap_or(1)
            )));
        }
        let check = || {
            let found = digest_of_values(&*file).map_err(fail)?;
            if found != header.sha256 {
                return Err(unfit(format!(
                    "it is damaged: its values have the SHA-256 {found}, not {}",
                    header.sha256
                )));
            }
            Digest::of_reader(ReaderAt { file: &*file, at: 0 }).map(|(digest, _)| digest).map_err(fail)
        };
        let sha256 = digest(&*file, &check)?.as_str().to_owned();
        // An object is in memory as a whole.
        let resident = if file.stamp().is_some() { 0 } else { size };
        let read = wire::InputRead { path: wanted.path.clone(), size, sha256 };
        Ok(Mean { path: path.to_owned(), file, levels: of_grid, plane, read, resident })
    }

    /// The file for the outcome.
    pub(super) fn read(&self) -> &wire::InputRead {
        &self.read
    }

    /// Number of bytes of it that are in memory.
    pub(super) fn resident(&self) -> u64 {
        self.resident
    }

    /// Returns the values of a level of the grid, and the cells that have no mean, if there are any; or only those of
    /// some rows, in their order.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    pub(super) fn plane(
        &self,
        level: usize,
        rows: Option<&TileRows>,
        stages: &Stages,
    ) -> Result<(Vec<f64>, Option<MissingCells>), MdsError> {
        let bytes = 8 * self.plane as u64;
        // Ranges of values of the level.
        let parts = match rows {
            None => std::iter::once(0..self.plane).collect(),
            Some(rows) => rows.ranges(),
        };
        let count = parts.iter().map(ExactSizeIterator::len).sum::<usize>();
        let level = self.levels.as_ref().map_or(Some(level), |levels| levels.position(level)).unwrap_or(level);
        let read = || {
            let mut values = Vec::with_capacity(count);
            let mut block = vec![0; BLOCK.min(8 * count)];
            for Range { mut start, end } in parts {
                while start < end {
                    let size = block.len().min(8 * (end - start));
                    let at = HEADER + level as u64 * bytes + 8 * start as u64;
                    self.file.read_exact_at(&mut block[..size], at)?;
                    values.extend(block[..size].as_chunks().0.iter().map(|bytes| f64::from_be_bytes(*bytes)));
                    start += size / 8;
                }
            }
            Ok(values)
        };
        let read = stages.time(Stage::Read, 8 * count as u64, read);
        let values: Vec<f64> = read.map_err(|source: io::Error| MdsError::Read { file: self.path.clone(), source })?;
        let is_without = values.contains(&NO_MEAN);
        let without = is_without.then(|| values.iter().map(|value| *value == NO_MEAN).collect());
        Ok((values, without))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use edp_protocol::recipe::{RecordSeries, RecordVersions, Rule};

    fn anomaly() -> Anomaly {
        match Rule::of_releases("OBPAnoma") {
            Some(Rule::Anomaly(anomaly)) => anomaly,
            other => unreachable!("{other:?}"),
        }
    }

    fn described(of: &Anomaly) -> PeriodMean {
        let records = RecordSeries::gather([(1, "d/OBP_mon_mean".into(), Vec::new())]);
        PeriodMean::new(of, "V4r6", "mon_mean", records, &RecordVersions::new(of, false))
    }

    fn written(values: &[f64], levels: Option<usize>) -> Vec<u8> {
        let file = tempfile::tempfile().unwrap();
        let mut writer = begin(&file).unwrap();
        values.iter().for_each(|value| writer.write_all(&value.to_be_bytes()).unwrap());
        writer.flush().unwrap();
        drop(writer);
        let (anomaly, plane) = (anomaly(), values.len() / levels.unwrap_or(1));
        let sha256 = digest_of_values(&file).unwrap();
        MeanHeader::new(&anomaly, &described(&anomaly), levels, plane, sha256).write(&file).unwrap();
        let mut bytes = vec![0; file.length().unwrap() as usize];
        ReadAt::read_exact_at(&file, &mut bytes, 0).unwrap();
        bytes
    }

    fn open(bytes: Vec<u8>, wanted: &PeriodMean, shape: (Option<usize>, usize)) -> Result<Mean, String> {
        let shape = (shape.0.map(LevelSet::uppermost), shape.1);
        Mean::open("V4r6/means/x.mean", Box::new(bytes), wanted, shape, |_, hash| hash()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_mean_is_read_as_it_was_written() {
        let values = [1.5, NO_MEAN, -3.0, 4.0];
        let bytes = written(&values, Some(2));
        let mean = open(bytes.clone(), &described(&anomaly()), (Some(2), 2)).unwrap();
        let stages = Stages::begin();
        assert_eq!(mean.plane(0, None, &stages).unwrap(), (vec![1.5, NO_MEAN], Some(vec![false, true])));
        assert_eq!(mean.plane(1, None, &stages).unwrap(), (vec![-3.0, 4.0], None));
        assert_eq!(mean.read().sha256, Digest::of(&bytes).as_str());
        assert_eq!((mean.read().size, mean.resident()), (bytes.len() as u64, bytes.len() as u64));
    }

    #[test]
    fn a_mean_that_was_damaged_or_is_another_is_not_used() {
        let (wanted, good) = (described(&anomaly()), written(&[1.5, 2.5], None));
        assert!(open(good.clone(), &wanted, (None, 2)).is_ok());
        let other = Anomaly { of: "OBPGMAP".into(), ..anomaly() };
        let changed = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            bytes
        };
        for (bytes, wanted, shape, why) in [
            (changed(HEADER as usize + 3), &wanted, (None, 2), "it is damaged: its values have"),
            (changed(0), &wanted, (None, 2), "it is no mean"),
            (good[..100].to_vec(), &wanted, (None, 2), "it has 100 bytes"),
            (good[..good.len() - 1].to_vec(), &wanted, (None, 2), "in 4111 bytes"),
            (Vec::new(), &wanted, (None, 2), "it has 0 bytes"),
            (good.clone(), &described(&other), (None, 2), "another mean"),
            (good.clone(), &wanted, (None, 3), "the variable 1 of 3"),
            (good.clone(), &wanted, (Some(1), 2), "levels"),
            (good.clone(), &wanted, (Some(1000), usize::MAX), "levels"),
        ] {
            let error = open(bytes, wanted, shape).map(|_| ()).unwrap_err();
            assert!(error.contains(why) && error.contains("remove it"), "{error}");
        }
    }
}
