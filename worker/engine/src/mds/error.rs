//! Errors of a pair of MDS files.

use std::io;

/// The reason why a `.meta` or `.data` file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MdsError {
    /// The header is larger than any real one.
    #[error("{file}: {size} bytes are too many for a header (limit {limit}): is this a .meta file?")]
    TooLarge {
        /// Name of the `.meta` file.
        file: String,
        /// Size of the file in bytes.
        size: u64,
        /// Largest permitted size in bytes.
        limit: u64,
    },
    /// The text does not follow the grammar `key = [ values ];`.
    #[error("{file}, line {line}: expected {expected}, found {found}")]
    Syntax {
        /// Name of the `.meta` file.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// Description of what is expected there.
        expected: &'static str,
        /// The text that is there.
        found: String,
    },
    /// A key is missing without which the data cannot be read.
    #[error("{file}: the key '{key}' is missing")]
    MissingKey {
        /// Name of the `.meta` file.
        file: String,
        /// Name of the key.
        key: &'static str,
    },
    /// A key occurs twice, so that it is unclear which value holds.
    #[error("{file}, line {line}: the key '{key}' stands here a second time")]
    RepeatedKey {
        /// Name of the `.meta` file.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// Name of the key.
        key: String,
    },
    /// A value is not a number, is out of range, or is not one of the known words.
    #[error("{file}, line {line}: {key} = {value}: expected {expected}")]
    Value {
        /// Name of the `.meta` file.
        file: String,
        /// Number of the line of the key, from 1.
        line: usize,
        /// Name of the key.
        key: String,
        /// The value as it is written.
        value: String,
        /// Description of valid values.
        expected: String,
    },
    /// The file is only one piece of a larger array, where a whole one is needed.
    #[error("{file}: holds a piece of an array only; join the pieces (MITgcm writes whole arrays with useSingleCpuIO)")]
    Piece {
        /// Name of the `.meta` file.
        file: String,
    },
    /// The file has only some levels, where all are needed.
    #[error("{file}: has {found} of {total} levels (the third line of dimList); all of them are needed here")]
    PartOfLevels {
        /// Name of the `.meta` file.
        file: String,
        /// Number of its levels.
        found: usize,
        /// Number of levels that its header states for the grid.
        total: usize,
    },
    /// The pieces do not belong together.
    #[error("{file}: is no piece of the same array as {other}: {why}")]
    Stranger {
        /// Name of the `.meta` file.
        file: String,
        /// Name of another one.
        other: String,
        /// Description of the difference.
        why: &'static str,
    },
    /// Two pieces have the same cells.
    #[error("{file}: holds cells that {other} holds too: row {row}, column {column} of the whole array")]
    Overlap {
        /// Name of a `.meta` file.
        file: String,
        /// Name of the other one.
        other: String,
        /// Number of a row of the whole array, from 1.
        row: usize,
        /// Number of a column of the whole array, from 1.
        column: usize,
    },
    /// Some wet cells are in none of the pieces.
    #[error(
        "{file}: {cells} cells are in none of its {pieces} pieces although there is water in some of them: {ranges}; \
         a piece is missing"
    )]
    Missing {
        /// Name of a `.meta` file.
        file: String,
        /// Number of cells that no piece has.
        cells: usize,
        /// Number of pieces that were found.
        pieces: usize,
        /// Ranges of these cells, and the numbers of the missing pieces.
        ranges: String,
    },
    /// The values make sense only with swapped bytes.
    #[error(
        "{file}: its values are little-endian: {implausible} of {values} are no plausible numbers as they stand, but \
         are with their bytes the other way round; MITgcm's files are big-endian: swap the bytes"
    )]
    ByteOrder {
        /// Name of the `.data` file.
        file: String,
        /// Number of values of one level that are implausible as they are.
        implausible: usize,
        /// Number of values of this level that are not 0.
        values: usize,
    },
    /// The product of the sizes is larger than can be addressed.
    #[error("{file}: {records} records of {sizes:?} values are more bytes than can be counted")]
    Overflow {
        /// Name of the `.meta` file.
        file: String,
        /// Sizes of the array, the fastest dimension first.
        sizes: Vec<usize>,
        /// Number of records of the array.
        records: usize,
    },
    /// The array is not on a lat-lon-cap grid.
    #[error("{file}: sizes {sizes:?} are no lat-lon-cap grid: expected N x 13N values on each level")]
    NotLlc {
        /// Name of the file.
        file: String,
        /// Sizes of the array, the fastest dimension first.
        sizes: Vec<usize>,
    },
    /// The data file is shorter or longer than its header says.
    #[error("{file}: {found} bytes, but its header asks for exactly {expected}: the file is cut off or not its own")]
    Length {
        /// Name of the `.data` file.
        file: String,
        /// Size in bytes by the header.
        expected: u64,
        /// Size of the file in bytes.
        found: u64,
    },
    /// A file without header does not have the size of one field.
    #[error(
        "{file}: it has no .meta header, and its {size} bytes are not those of exactly one field of {n} x {rows} cells, on one level or on {levels}, with 4 or 8 bytes a number; give it a header, or the file of this grid"
    )]
    Plain {
        /// Name of the file.
        file: String,
        /// Size of the file in bytes.
        size: u64,
        /// Number of columns of the grid.
        n: usize,
        /// Number of rows of the grid.
        rows: usize,
        /// Number of levels of the grid.
        levels: usize,
    },
    /// No record has the name of the field.
    #[error("{file}: no field '{field}' among {} records: {}", .fields.len(), .fields.join(", "))]
    NoField {
        /// Name of the file.
        file: String,
        /// Name of the field.
        field: String,
        /// Names of the fields in the file.
        fields: Vec<String>,
    },
    /// There are several records, but no names, or names from which the record does not follow.
    #[error("{file}: which of {records} records is '{field}'? The header has no fldList with a name for each")]
    NoFieldList {
        /// Name of the file.
        file: String,
        /// Name of the field.
        field: String,
        /// Number of records of the file.
        records: usize,
    },
    /// The file does not have this record or level.
    #[error("{file}: {what} {index} asked for, but there are {count} (counting from 0)")]
    Index {
        /// Name of the file.
        file: String,
        /// Kind of the index: `record` or `level`.
        what: &'static str,
        /// The index, counted from 0.
        index: usize,
        /// Number of records or levels.
        count: usize,
    },
    /// Reading the file has failed.
    #[error("{file}: cannot be read")]
    Read {
        /// Name of the file.
        file: String,
        /// The error of the operating system.
        source: io::Error,
    },
}
