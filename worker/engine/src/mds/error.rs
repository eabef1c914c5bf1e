//! What can be wrong with a pair of MDS files.

use std::io;

/// Why a `.meta` or `.data` file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MdsError {
    /// The header is larger than any real one.
    #[error("{file}: {size} bytes are too many for a header (limit {limit}): is this a .meta file?")]
    TooLarge {
        /// Name of the `.meta` file.
        file: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The text does not follow the grammar `key = [ values ];`.
    #[error("{file}, line {line}: expected {expected}, found {found}")]
    Syntax {
        /// Name of the `.meta` file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What should stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A key without which the data cannot be read.
    #[error("{file}: the key '{key}' is missing")]
    MissingKey {
        /// Name of the `.meta` file.
        file: String,
        /// The key.
        key: &'static str,
    },
    /// A key that stands twice, so that it is unclear which one holds.
    #[error("{file}, line {line}: the key '{key}' stands here a second time")]
    RepeatedKey {
        /// Name of the `.meta` file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// A value that is not a number, out of range, or not one of the known words.
    #[error("{file}, line {line}: {key} = {value}: expected {expected}")]
    Value {
        /// Name of the `.meta` file.
        file: String,
        /// Line of the key, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The value as written.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// The file holds only one piece of a larger array, where a whole one is needed.
    #[error("{file}: holds a piece of an array only; join the pieces (MITgcm writes whole arrays with useSingleCpuIO)")]
    Piece {
        /// Name of the `.meta` file.
        file: String,
    },
    /// Pieces that do not belong together.
    #[error("{file}: is no piece of the same array as {other}: {why}")]
    Stranger {
        /// Name of the `.meta` file.
        file: String,
        /// Name of another one.
        other: String,
        /// What differs.
        why: &'static str,
    },
    /// Two pieces hold the same values.
    #[error("{file}: holds cells that {other} holds too: row {row}, column {column} of the whole array")]
    Overlap {
        /// Name of a `.meta` file.
        file: String,
        /// Name of the other one.
        other: String,
        /// A row of the whole array, from 1.
        row: usize,
        /// A column of it, from 1.
        column: usize,
    },
    /// Water is in none of the pieces.
    #[error(
        "{file}: {cells} cells are in none of its {pieces} pieces although there is water in some of them: {ranges}; \
         a piece is missing"
    )]
    Missing {
        /// Name of a `.meta` file.
        file: String,
        /// Cells that no piece has.
        cells: usize,
        /// How many pieces there are.
        pieces: usize,
        /// Where they are, and the numbers of the pieces that are not there.
        ranges: String,
    },
    /// The values make sense only with their bytes the other way round.
    #[error(
        "{file}: its values are little-endian: {implausible} of {values} are no plausible numbers as they stand, but \
         are with their bytes the other way round; MITgcm's files are big-endian: swap the bytes"
    )]
    ByteOrder {
        /// Name of the `.data` file.
        file: String,
        /// Values of one level that are implausible as they stand.
        implausible: usize,
        /// Values of this level that are not 0.
        values: usize,
    },
    /// The sizes multiply to more than can be addressed.
    #[error("{file}: {records} records of {sizes:?} values are more bytes than can be counted")]
    Overflow {
        /// Name of the `.meta` file.
        file: String,
        /// Sizes, fastest first.
        sizes: Vec<usize>,
        /// Number of records.
        records: usize,
    },
    /// The array is not a lat-lon-cap grid.
    #[error("{file}: sizes {sizes:?} are no lat-lon-cap grid: expected N x 13N values on each level")]
    NotLlc {
        /// Name of the file.
        file: String,
        /// Sizes, fastest first.
        sizes: Vec<usize>,
    },
    /// The data file is shorter or longer than its header says.
    #[error("{file}: {found} bytes, but its header asks for exactly {expected}: the file is cut off or not its own")]
    Length {
        /// Name of the `.data` file.
        file: String,
        /// Bytes according to the header.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// None of the records has the name asked for.
    #[error("{file}: no field '{field}' among {} records: {}", .fields.len(), .fields.join(", "))]
    NoField {
        /// Name of the file.
        file: String,
        /// The name asked for.
        field: String,
        /// The names there are.
        fields: Vec<String>,
    },
    /// Several records, but no names for them, or names from which it does not follow.
    #[error("{file}: which of {records} records is '{field}'? The header has no fldList with a name for each")]
    NoFieldList {
        /// Name of the file.
        file: String,
        /// The name asked for.
        field: String,
        /// Number of records.
        records: usize,
    },
    /// A record or level that the file does not have.
    #[error("{file}: {what} {index} asked for, but there are {count} (counting from 0)")]
    Index {
        /// Name of the file.
        file: String,
        /// `record` or `level`.
        what: &'static str,
        /// The index asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// Reading failed.
    #[error("{file}: cannot be read")]
    Read {
        /// Name of the file.
        file: String,
        /// The cause.
        source: io::Error,
    },
}
