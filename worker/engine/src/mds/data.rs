//! The `.data` file: big-endian numbers, record by record and level by level.

use super::byte_order;
use super::compact::TileRows;
use super::error::MdsError;
use super::header::{FieldLocation, Header, MAX_HEADER, Precision};
use super::plane::Plane;
use edp_files::{ReadAt, regular};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Largest number of bytes that are read at once, which stay in the processor's cache until they are decoded.
const BLOCK: usize = 1 << 17;

/// An open pair of `.meta` and `.data` files, which any number of threads may read.
#[derive(Debug)]
pub struct MdsFile<R> {
    name: String,
    header: Header,
    data: R,
}

impl MdsFile<File> {
    /// Opens the local files `<stem>.meta` and `<stem>.data`.
    ///
    /// # Errors
    /// Returns an error if one of the files cannot be read, or if they do not belong together.
    pub fn open_pair(stem: &Path) -> Result<MdsFile<File>, MdsError> {
        Self::open_pair_by(stem, regular::open)
    }

    /// Opens a pair of files as [`MdsFile::open_pair`] does, by the function `open`.
    ///
    /// # Errors
    /// Returns the errors of [`MdsFile::open_pair`].
    pub(crate) fn open_pair_by(
        stem: &Path,
        open: impl Fn(&Path) -> io::Result<File>,
    ) -> Result<MdsFile<File>, MdsError> {
        let [meta, data] = Self::pair(stem);
        let fail = |path: &Path| {
            let file = path.display().to_string();
            move |source| MdsError::Read { file, source }
        };
        let mut text = Vec::new();
        let limit = MAX_HEADER as u64 + 1; // one more than permitted, so that the parser can refuse it
        open(&meta).and_then(|file| file.take(limit).read_to_end(&mut text)).map_err(fail(&meta))?;
        let header = Header::parse(&meta.display().to_string(), &text)?;
        let file = open(&data).map_err(fail(&data))?;
        MdsFile::open(&data.display().to_string(), header, file)
    }

    /// Returns the paths `<stem>.meta` and `<stem>.data`.
    pub fn pair(stem: &Path) -> [PathBuf; 2] {
        [".meta", ".data"].map(|end| {
            let mut path = OsString::from(stem);
            path.push(end);
            path.into()
        })
    }
}

impl<R: ReadAt> MdsFile<R> {
    /// Combines a header and its data file, whose size must be exactly that in the header; `name` appears in errors.
    ///
    /// # Errors
    /// Returns an error if the size differs or cannot be determined.
    pub fn open(name: &str, header: Header, data: R) -> Result<MdsFile<R>, MdsError> {
        let found = data.length().map_err(|source| MdsError::Read { file: name.into(), source })?;
        let expected = header.byte_length();
        if found != expected {
            return Err(MdsError::Length { file: name.into(), expected, found });
        }
        Ok(MdsFile { name: name.into(), header, data })
    }

    /// Name of the file in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Access to the bytes of the file.
    pub fn data(&self) -> &R {
        &self.data
    }

    /// Header of the file.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the location of a field in the file; see [`Header::find`].
    ///
    /// # Errors
    /// Returns an error if there are several records, and it is not clear which of them it is.
    pub fn find(&self, field: &str, levels: usize) -> Result<FieldLocation, MdsError> {
        self.header.find_in(&self.name, field, levels)
    }

    /// Reads one level of one record, both counted from 0 (a 2-D file has level 0): the rows of the file one after the
    /// other, on a lat-lon-cap grid 13N rows of N values in the compact layout.
    ///
    /// # Errors
    /// Returns an error if there is no such record or level, if the file cannot be read, or if its values show that it
    /// is little-endian.
    pub fn read_plane(&self, record: usize, level: usize) -> Result<Plane, MdsError> {
        let levels = self.header.levels().unwrap_or(1);
        self.check("level", level, levels)?;
        self.check("record", record, self.header.records)?;
        let plane = self.header.plane();
        self.read((record * levels + level) * plane, plane)
    }

    /// Reads rows of tiles of one level of one record, both counted from 0, on a lat-lon-cap grid: row by row, tile by
    /// tile. Nothing else of the file is read.
    ///
    /// # Errors
    /// Returns the errors of [`MdsFile::read_plane`].
    pub(crate) fn read_rows(&self, record: usize, level: usize, rows: &TileRows) -> Result<Plane, MdsError> {
        let levels = self.header.levels().unwrap_or(1);
        self.check("level", level, levels)?;
        self.check("record", record, self.header.records)?;
        let plane = self.header.plane();
        let ranges = rows.ranges();
        self.check("cell", ranges.iter().map(|cells| cells.end).max().unwrap_or(0), plane + 1)?;
        let first = (record * levels + level) * plane;
        let parts = ranges.into_iter().map(|cells| first + cells.start..first + cells.end);
        self.read_parts(parts, rows.cells(), byte_order::ENOUGH_OF_PART)
    }

    /// Returns the largest number of bytes that reading so many cells of a level takes, including the result.
    pub(crate) fn memory(&self, cells: usize) -> u64 {
        let size = match self.header.precision {
            Precision::F32 => 4,
            Precision::F64 => 8,
        };
        let bytes = cells as u64 * size;
        bytes + bytes.min(BLOCK as u64)
    }

    /// Reads all levels of one record, counted from 0: levels, rows, columns, of which the last vary fastest.
    ///
    /// # Errors
    /// Returns an error if there is no such record, if the file cannot be read, or if its values show that it is
    /// little-endian.
    pub fn read_record(&self, record: usize) -> Result<Plane, MdsError> {
        self.check("record", record, self.header.records)?;
        let count = self.header.levels().unwrap_or(1) * self.header.plane();
        self.read(record * count, count)
    }

    fn check(&self, what: &'static str, index: usize, count: usize) -> Result<(), MdsError> {
        if index < count {
            return Ok(());
        }
        Err(MdsError::Index { file: self.name.clone(), what, index, count })
    }

    // The header guarantees that byte offsets within the file fit into a usize.
    fn read(&self, first: usize, count: usize) -> Result<Plane, MdsError> {
        self.read_parts(std::iter::once(first..first + count), count, byte_order::ENOUGH)
    }

    /// Reads some ranges of numbers, `count` together. `enough` of them that are not 0 show their byte order.
    fn read_parts(
        &self,
        parts: impl Iterator<Item = Range<usize>>,
        count: usize,
        enough: usize,
    ) -> Result<Plane, MdsError> {
        let values = match self.header.precision {
            Precision::F32 => Plane::F32(self.numbers(parts, count, f32::from_be_bytes)?),
            Precision::F64 => Plane::F64(self.numbers(parts, count, f64::from_be_bytes)?),
        };
        byte_order::check(&self.name, &values, enough)?;
        Ok(values)
    }

    fn numbers<T, const B: usize>(
        &self,
        parts: impl Iterator<Item = Range<usize>>,
        count: usize,
        decode: impl Fn([u8; B]) -> T,
    ) -> Result<Vec<T>, MdsError> {
        let mut values = Vec::with_capacity(count);
        let mut block = vec![0; BLOCK.min(count * B)];
        for Range { mut start, end } in parts {
            while start < end {
                let size = block.len().min((end - start) * B);
                self.data
                    .read_exact_at(&mut block[..size], (start * B) as u64)
                    .map_err(|source| MdsError::Read { file: self.name.clone(), source })?;
                values.extend(block[..size].as_chunks().0.iter().map(|bytes| decode(*bytes)));
                start += size / B;
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn header(levels: usize, precision: &str, records: usize, fields: &str) -> Header {
        let text = format!(
            "nDims=[3]; dimList=[2,1,2, 26,1,26, {levels},1,{levels}]; dataprec=['{precision}']; \
             nrecords=[{records}]; {fields}"
        );
        Header::parse("t.meta", text.as_bytes()).unwrap()
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).flat_map(|value| (value as f32).to_be_bytes()).collect()
    }

    #[test]
    fn reads_levels_of_records() {
        let header = header(3, "float32", 2, "fldList={'THETA   ' 'SALT    '};");
        let file = MdsFile::open("t.data", header, bytes(2 * 3 * 52)).unwrap();
        let salt = file.find("SALT", 3).unwrap().record;
        assert_eq!((salt, file.find("THETA", 3).unwrap().record), (1, 0));
        let Plane::F32(plane) = file.read_plane(salt, 2).unwrap() else { panic!("precision") };
        assert_eq!(plane, (260..312).map(|v| v as f32).collect::<Vec<_>>());
        assert_eq!(file.read_record(1).unwrap(), Plane::F32((156..312).map(|v| v as f32).collect()));
        assert_eq!(
            file.read_plane(0, 3).unwrap_err().to_string(),
            "t.data: level 3 asked for, but there are 3 (counting from 0)"
        );
        assert!(file.read_plane(2, 0).is_err() && file.read_record(2).is_err());
        assert_eq!(
            file.find("UVEL", 3).unwrap_err().to_string(),
            "t.data: no field 'UVEL' among 2 records: THETA, SALT"
        );
    }

    #[test]
    fn the_only_record_needs_no_name() {
        for fields in ["", "fldList={'OTHER   '};"] {
            let file = MdsFile::open("t.data", header(1, "float32", 1, fields), bytes(52)).unwrap();
            assert_eq!(file.find("THETA", 1).unwrap().record, 0);
        }
        let file = MdsFile::open("t.data", header(1, "float32", 2, ""), bytes(104)).unwrap();
        assert!(file.find("THETA", 1).unwrap_err().to_string().contains("which of 2 records is 'THETA'?"));
    }

    #[test]
    fn reads_eight_byte_numbers() {
        let data: Vec<u8> = (0..52).flat_map(|value| (f64::from(value) + 0.1).to_be_bytes()).collect();
        let file = MdsFile::open("t.data", header(1, "float64", 1, ""), data).unwrap();
        let plane = file.read_plane(0, 0).unwrap();
        assert_eq!(plane.len(), 52);
        let Plane::F64(values) = &plane else { panic!("precision") };
        assert_eq!(values[51], 51.1);
        assert_eq!(plane.into_f32()[51], 51.1_f32);
    }

    #[test]
    fn blocks_join_without_seam() {
        let (n, count) = (500, 13 * 500 * 500); // more than one block
        assert!(count * 4 > BLOCK);
        let text = format!("nDims=[2];dimList=[{n},1,{n},{0},1,{0}];dataprec=['float32'];nrecords=[1];", 13 * n);
        let header = Header::parse("t.meta", text.as_bytes()).unwrap();
        let Plane::F32(plane) = MdsFile::open("t.data", header, bytes(count)).unwrap().read_plane(0, 0).unwrap() else {
            panic!("precision")
        };
        assert!(plane.iter().enumerate().all(|(index, value)| *value == index as f32));
        assert_eq!(plane.len(), count);
    }

    #[test]
    fn refuses_another_length() {
        for wrong in [51, 53] {
            let message = MdsFile::open("t.data", header(1, "float32", 1, ""), bytes(wrong)).unwrap_err().to_string();
            assert!(message.starts_with(&format!("t.data: {} bytes, but", wrong * 4)), "{message}");
            assert!(message.contains("exactly 208"), "{message}");
        }
    }

    #[test]
    fn rows_of_tiles_are_those_of_the_plane() {
        let (n, levels) = (3, 2);
        let text =
            format!("nDims=[3];dimList=[{n},1,{n},{0},1,{0},{levels},1,2];dataprec=['float32'];nrecords=[1];", 13 * n);
        let header = Header::parse("t.meta", text.as_bytes()).unwrap();
        let file = MdsFile::open("t.data", header, bytes(levels * 13 * n * n)).unwrap();
        let plane = file.read_plane(0, 1).unwrap().into_f32();
        let mut tiles = vec![0.0; plane.len()];
        super::super::compact::to_tiles(n, &plane, &mut tiles);
        for (tiles_of, rows) in [(0..13, 0..3), (5..9, 1..3), (12..13, 2..3), (7..10, 0..1)] {
            let some = TileRows::new(n, tiles_of, rows);
            let expected: Vec<f32> = some.lines().flat_map(|line| tiles[line * n..(line + 1) * n].to_vec()).collect();
            assert_eq!(file.read_rows(0, 1, &some).unwrap().into_f32(), expected, "{some:?}");
        }
        assert!(file.read_rows(0, 2, &TileRows::all(n)).is_err());
        assert!(file.read_rows(0, 0, &TileRows::all(n + 1)).is_err());
    }

    #[test]
    fn opens_a_pair_of_files() {
        let dir = tempfile::tempdir().unwrap();
        let stem = dir.path().join("RF.0000000012");
        let message = MdsFile::open_pair(&stem).unwrap_err().to_string();
        assert!(message.contains("RF.0000000012.meta: cannot be read"), "{message}");
        let [meta, data] = MdsFile::pair(&stem);
        std::fs::write(meta, "nDims=[3];dimList=[1,1,1,1,1,1,4,1,4];dataprec=['float32'];nrecords=[1];").unwrap();
        std::fs::write(data, bytes(4)).unwrap();
        let file = MdsFile::open_pair(&stem).unwrap();
        assert_eq!(file.read_record(0).unwrap(), Plane::F32(vec![0.0, 1.0, 2.0, 3.0]));
    }

    #[test]
    #[ignore = "needs EDP_REAL_DATA: make conformance"]
    fn real_data_longitudes() {
        let stem = crate::real_data::real_data("V4r4/grid_ECCOV4r4/XC");
        let file = MdsFile::open_pair(&stem).unwrap();
        let n = file.header().llc_size().unwrap();
        let compact = file.read_plane(0, 0).unwrap().into_f32();
        let mut tiles = vec![0.0; compact.len()];
        super::super::compact::to_tiles(n, &compact, &mut tiles);
        assert_eq!(n, 90);
        for (tile, corner) in [(0, -111.60647), (6, 52.0), (7, 142.16208), (12, -127.5)] {
            assert!((tiles[tile * n * n] - corner).abs() < 1e-4, "tile {tile}");
        }
        assert_eq!(tiles[(8 * n + 10) * n + 20], 152.5);
        assert_eq!(tiles[(11 * n + 10) * n + 20], -117.5);
    }
}
