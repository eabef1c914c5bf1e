//! Arrays in several files, one for each tile of the model: `NAME.STEP.001.001.data` and so on. They are combined while
//! they are read; no copy of the whole array is made.

use super::error::MdsError;
use super::header::{ArrayPiece, Header};
use edp_files::ReadAt;
use std::io;
use std::ops::Range;

/// Largest number of bytes of one piece that are read at once.
const BLOCK: usize = 1 << 17;

/// The pieces of an array, read as if they were the one file with the whole array. Cells that are in none of the
/// pieces, which [`PiecedArray::gaps`] lists, are 0.
#[derive(Debug)]
pub struct PiecedArray<R> {
    header: Header,
    pieces: Vec<(Header, ArrayPiece, R)>,
    gaps: Vec<UncoveredCells>,
}

/// Adjacent cells of one row that are in none of the pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UncoveredCells {
    /// Number of the row of the whole array, from 0.
    pub row: usize,
    /// Numbers of the columns, from 0.
    pub columns: Range<usize>,
}

impl<R: ReadAt> PiecedArray<R> {
    /// Combines the pieces of one array, each with its header, in any order. A single file with the whole array is a
    /// piece too.
    ///
    /// # Errors
    /// Returns an error if there is no piece, if they are not of one array or overlap, or if a file has another size
    /// than its header says.
    pub fn new(name: &str, files: Vec<(Header, R)>) -> Result<PiecedArray<R>, MdsError> {
        let mut pieces = Vec::with_capacity(files.len());
        for (header, data) in files {
            let file = header.file().to_owned();
            let found = data.length().map_err(|source| MdsError::Read { file: file.clone(), source })?;
            let expected = header.byte_length();
            if found != expected {
                return Err(MdsError::Length { file: file.replace(".meta", ".data"), expected, found });
            }
            let whole = ArrayPiece { first: [0, 0], sizes: [header.sizes()[0], header.sizes()[1]], stride: [0, 1] };
            let piece = header.piece().cloned().unwrap_or(whole);
            pieces.push((header, piece, data));
        }
        let Some((first, ..)) = pieces.first() else {
            return Err(MdsError::Read { file: name.into(), source: io::ErrorKind::NotFound.into() });
        };
        for (header, ..) in &pieces[1..] {
            let same = [
                (header.sizes() == first.sizes(), "its whole array has other sizes"),
                (header.part_of_levels() == first.part_of_levels(), "it has other levels"),
                (header.precision == first.precision, "its numbers have another precision"),
                (header.records == first.records, "it has another number of records"),
                (header.fields == first.fields, "it has other fields"),
                (header.step == first.step, "it is of another step"),
                (header.interval == first.interval, "it is of another time"),
            ];
            if let Some((_, why)) = same.into_iter().find(|(same, _)| !same) {
                let (file, other) = (header.file().to_owned(), first.file().to_owned());
                return Err(MdsError::Stranger { file, other, why });
            }
        }
        let header = first.whole().ok_or_else(|| MdsError::Overflow {
            file: first.file().into(),
            sizes: first.sizes().into(),
            records: first.records,
        })?;
        let gaps = gaps(&pieces)?;
        Ok(PiecedArray { header, pieces, gaps })
    }

    /// The header that a single file with the whole array would have.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the number of pieces.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Returns true if there is no piece, which never happens.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The cells that are in none of the pieces, by row and columns. The model writes no file for a tile that is
    /// entirely land and excluded from its computation.
    pub fn gaps(&self) -> &[UncoveredCells] {
        &self.gaps
    }

    /// Reads the part of a range of bytes within one level that one piece has; `out` is that range. `level` counts
    /// through all records.
    fn read_level(
        &self,
        (header, piece, data): &(Header, ArrayPiece, R),
        level: usize,
        at: usize,
        out: &mut [u8],
    ) -> io::Result<()> {
        let size = header.precision.bytes();
        let line = self.header.sizes()[0] * size; // bytes of a row of the whole array
        let own = piece.sizes[0] * size;
        let start = |row: usize| {
            (piece.first[1] + row * piece.stride[1]) * line + (piece.first[0] + row * piece.stride[0]) * size
        };
        // Rows have the same order in the whole array as in the piece.
        let rows = piece.sizes[1];
        let first = partition(rows, |row| start(row) + own <= at);
        let end = partition(rows, |row| start(row) < at + out.len());
        let most = (BLOCK / own).max(1);
        let mut block = vec![0; most.min(end.saturating_sub(first)) * own];
        let mut row = first;
        while row < end {
            let count = most.min(end - row);
            let bytes = &mut block[..count * own];
            let offset = (level * rows + row) * own;
            data.read_exact_at(bytes, offset as u64)
                .map_err(|source| io::Error::new(source.kind(), format!("{}: {source}", header.file())))?;
            for (row, bytes) in (row..).zip(bytes.chunks_exact(own)) {
                // from the later beginning to the earlier end of this row and of the requested range
                let (begin, from) = (start(row).max(at), start(row));
                let until = (from + own).min(at + out.len());
                out[begin - at..until - at].copy_from_slice(&bytes[begin - from..until - from]);
            }
            row += count;
        }
        Ok(())
    }
}

/// Returns the first number below `count` that does not satisfy a condition; all numbers before it do, and none after
/// it does.
fn partition(count: usize, condition: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = usize::midpoint(low, high);
        if condition(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

impl<R: ReadAt> ReadAt for PiecedArray<R> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.header.byte_length())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.header.byte_length()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // The header guarantees that byte offsets within the array fit into a usize.
        let mut at = usize::try_from(offset).map_err(io::Error::other)?;
        let plane = self.header.plane() * self.header.precision.bytes();
        let mut rest = buffer;
        while !rest.is_empty() {
            let (level, within) = (at / plane, at % plane);
            let (part, others) = rest.split_at_mut(rest.len().min(plane - within));
            if !self.gaps.is_empty() {
                part.fill(0);
            }
            for piece in &self.pieces {
                self.read_level(piece, level, within, part)?;
            }
            at += part.len();
            rest = others;
        }
        Ok(())
    }
}

/// Returns the cells that no piece has.
fn gaps<R>(pieces: &[(Header, ArrayPiece, R)]) -> Result<Vec<UncoveredCells>, MdsError> {
    let Some((header, ..)) = pieces.first() else { return Ok(Vec::new()) };
    let [columns, rows] = [header.sizes()[0], header.sizes()[1]];
    let mut lines: Vec<(usize, Range<usize>, usize)> = Vec::new();
    for (number, (_, piece, _)) in pieces.iter().enumerate() {
        for row in 0..piece.sizes[1] {
            let first = piece.first[0] + row * piece.stride[0];
            lines.push((piece.first[1] + row * piece.stride[1], first..first + piece.sizes[0], number));
        }
    }
    lines.sort_unstable_by_key(|(row, columns, number)| (*row, columns.start, *number));
    let mut gaps: Vec<UncoveredCells> = Vec::new();
    let mut gap = |row: usize, columns: Range<usize>| {
        if !columns.is_empty() {
            gaps.push(UncoveredCells { row, columns });
        }
    };
    // The position up to which the array is covered, and the last piece that covers it.
    let (mut row, mut column, mut last) = (0, 0, 0);
    for (line, range, number) in lines {
        while row < line {
            gap(row, column..columns);
            (row, column) = (row + 1, 0);
        }
        if range.start < column {
            return Err(MdsError::Overlap {
                file: pieces[number].0.file().into(),
                other: pieces[last].0.file().into(),
                row: row + 1,
                column: range.start + 1,
            });
        }
        gap(row, column..range.start);
        (column, last) = (range.end, number);
    }
    while row < rows {
        gap(row, column..columns);
        (row, column) = (row + 1, 0);
    }
    Ok(gaps)
}

/// Describes cells that are in none of the pieces, for messages: the first few blocks of rows that lack the same
/// columns.
pub(crate) fn describe_gaps(gaps: &[UncoveredCells]) -> String {
    const SHOWN: usize = 3;
    let mut blocks: Vec<(Range<usize>, &Range<usize>)> = Vec::new();
    for gap in gaps {
        let continued =
            blocks.iter_mut().rev().take(64).find(|(rows, columns)| rows.end == gap.row && **columns == gap.columns);
        match continued {
            Some((rows, _)) => rows.end += 1,
            None => blocks.push((gap.row..gap.row + 1, &gap.columns)),
        }
    }
    let text = |(rows, columns): &(Range<usize>, &Range<usize>)| {
        format!("rows {} to {}, columns {} to {}", rows.start + 1, rows.end, columns.start + 1, columns.end)
    };
    let shown: Vec<String> = blocks.iter().take(SHOWN).map(text).collect();
    let more = blocks.len().saturating_sub(SHOWN);
    let shown = shown.join("; ");
    if more == 0 { shown } else { format!("{shown} and {more} more blocks") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::data::MdsFile;
    use super::*;
    use proptest::prelude::*;

    const LEVELS: usize = 2;
    const RECORDS: usize = 2;

    fn text(n: usize, dims: [[usize; 2]; 2], more: &str) -> String {
        let [[a, b], [c, d]] = dims;
        format!(
            "nDims=[3]; dimList=[{n},{a},{b}, {},{c},{d}, {LEVELS},1,{LEVELS}]; {more} dataprec=['float32']; \
             nrecords=[{RECORDS}]; fldList={{'A' 'B'}}; timeStepNumber=[7];",
            13 * n
        )
    }

    /// Returns the value of a cell of the whole array.
    fn value(n: usize, level: usize, row: usize, column: usize) -> f32 {
        ((level * 13 * n + row) * n + column) as f32 + 1.0
    }

    /// Returns a piece as the model writes it.
    fn piece(n: usize, number: usize, dims: [[usize; 2]; 2], stride: [usize; 2]) -> (Header, Vec<u8>) {
        let more = format!("map2glob=[{},{}];", stride[0], stride[1]);
        let name = format!("x.{number:03}.001.meta");
        let header = Header::parse_any(&name, text(n, dims, &more).as_bytes()).unwrap();
        let [[a, b], [c, d]] = dims;
        let mut data = Vec::new();
        for level in 0..LEVELS * RECORDS {
            for j in 0..=d - c {
                for i in a - 1..b {
                    data.extend(value(n, level, c - 1 + j * stride[1], i + j * stride[0]).to_be_bytes());
                }
            }
        }
        (header, data)
    }

    fn whole(n: usize) -> Vec<u8> {
        piece(n, 0, [[1, n], [1, 13 * n]], [0, 1]).1
    }

    /// Returns the tiles of a compact grid, cut to `size` cells: on the folded facets every third row.
    fn tiles(n: usize, size: usize) -> Vec<(Header, Vec<u8>)> {
        let mut pieces = Vec::new();
        for tile in 0..13 {
            for j in (0..n).step_by(size) {
                for i in (0..n).step_by(size) {
                    let (row, step) = match tile {
                        0..=6 => (tile * n + j, 1),
                        7..=9 => (7 * n + 3 * j + (tile - 7), 3),
                        _ => (10 * n + 3 * j + (tile - 10), 3),
                    };
                    let dims = [[i + 1, i + size], [row + 1, row + size]];
                    pieces.push(piece(n, pieces.len() + 1, dims, [0, step]));
                }
            }
        }
        pieces
    }

    fn read(pieces: &PiecedArray<Vec<u8>>, offset: usize, length: usize) -> Vec<u8> {
        let mut out = vec![0xaa; length];
        pieces.read_exact_at(&mut out, offset as u64).unwrap();
        out
    }

    #[test]
    fn pieces_become_the_whole_file() {
        for (n, size) in [(4, 4), (4, 2), (6, 3), (6, 1)] {
            let mut files = tiles(n, size);
            files.reverse();
            let pieces = PiecedArray::new("x", files).unwrap();
            assert!(pieces.gaps().is_empty() && pieces.len() == 13 * (n / size) * (n / size) && !pieces.is_empty());
            let whole = whole(n);
            assert_eq!(pieces.length().unwrap(), whole.len() as u64);
            assert_eq!(read(&pieces, 0, whole.len()), whole, "{n} {size}");
            let header = pieces.header().clone();
            let file = MdsFile::open("x.data", header.clone(), pieces).unwrap();
            let same = MdsFile::open("x.data", header, whole).unwrap();
            assert_eq!(file.read_record(1).unwrap(), same.read_record(1).unwrap());
            assert_eq!(file.read_plane(1, 1).unwrap(), same.read_plane(1, 1).unwrap());
        }
    }

    proptest! {
        #[test]
        fn any_part_of_it_is_that_of_the_whole(offset in 0_usize..2496, length in 0_usize..2496, rows in 1_usize..52) {
            let n = 4;
            let whole = whole(n);
            let length = length.min(whole.len() - offset);
            let halves = vec![
                piece(n, 1, [[1, n], [1, rows]], [0, 1]),
                piece(n, 2, [[1, 1], [rows + 1, 52]], [0, 1]),
                piece(n, 3, [[2, n], [rows + 1, 52]], [0, 1]),
            ];
            for pieces in [PiecedArray::new("x", halves).unwrap(), PiecedArray::new("x", tiles(n, 2)).unwrap()] {
                prop_assert_eq!(read(&pieces, offset, length), &whole[offset..offset + length]);
            }
        }
    }

    #[test]
    fn a_block_is_less_than_a_piece() {
        let (n, levels) = (400, LEVELS * RECORDS);
        assert!(13 * n * n * 4 > 2 * BLOCK);
        let halves =
            vec![piece(n, 1, [[1, n / 2], [1, 13 * n]], [0, 1]), piece(n, 2, [[n / 2 + 1, n], [1, 13 * n]], [0, 1])];
        let pieces = PiecedArray::new("x", halves).unwrap();
        assert!(read(&pieces, 0, levels * 13 * n * n * 4) == whole(n));
    }

    #[test]
    fn what_no_piece_has_is_zero_and_known() {
        let n = 4;
        let mut files = tiles(n, 2);
        files.remove(1); // rows 0 and 1, columns 2 and 3
        files.remove(28); // the second of tile 7: rows 28 and 31, columns 2 and 3
        let pieces = PiecedArray::new("x", files).unwrap();
        let gap = |row, columns| UncoveredCells { row, columns };
        assert_eq!(pieces.gaps(), [gap(0, 2..4), gap(1, 2..4), gap(28, 2..4), gap(31, 2..4)]);
        let text = describe_gaps(pieces.gaps());
        assert_eq!(text, "rows 1 to 2, columns 3 to 4; rows 29 to 29, columns 3 to 4; rows 32 to 32, columns 3 to 4");
        let (found, whole) = (read(&pieces, 0, whole(n).len()), whole(n));
        for (at, (found, whole)) in found.as_chunks::<4>().0.iter().zip(whole.as_chunks::<4>().0).enumerate() {
            let (row, column) = (at / n % (13 * n), at % n);
            let absent = pieces.gaps().iter().any(|gap| gap.row == row && gap.columns.contains(&column));
            assert_eq!(*found, if absent { [0; 4] } else { *whole });
        }
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let n = 4;
        let message = |files| PiecedArray::new("x", files).unwrap_err().to_string();
        let (upper, lower) = (piece(n, 1, [[1, n], [1, 30]], [0, 1]), piece(n, 2, [[1, n], [30, 52]], [0, 1]));
        let found = message(vec![upper.clone(), lower]);
        assert_eq!(
            found,
            "x.002.001.meta: holds cells that x.001.001.meta holds too: row 30, column 1 of the whole array"
        );
        let other = text(n, [[1, n], [31, 52]], "").replace("timeStepNumber=[7]", "timeStepNumber=[8]");
        let other = Header::parse_any("y.meta", other.as_bytes()).unwrap();
        let data = vec![0; other.byte_length() as usize];
        assert!(message(vec![upper.clone(), (other, data)]).contains("x.001.001.meta: it is of another step"));
        let (header, mut data) = upper;
        data.pop();
        assert!(message(vec![(header, data)]).starts_with("x.001.001.data: 1919 bytes, but"));
        assert!(message(Vec::new()).contains("x: cannot be read"));
    }
}
