//! The `.meta` file, which describes the content of a `.data` file.

use super::error::MdsError;
use super::grammar::{Item, Items};

/// Largest header that is read, in bytes. Real ones have a few hundred.
pub const MAX_HEADER: usize = 1 << 20;

/// Type of the numbers in a `.data` file, which are always big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 4-byte IEEE numbers (`float32`).
    F32,
    /// 8-byte IEEE numbers (`float64`).
    F64,
}

impl Precision {
    /// Returns the size of one value in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::F64 => 8,
        }
    }
}

/// The content of a `.meta` file.
///
/// A value of this type describes an array whose size in bytes fits into 64 bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    file: String,
    sizes: Vec<usize>,
    length: u64,
    piece: Option<ArrayPiece>,
    levels: Option<PartOfLevels>,
    /// Type of the numbers.
    pub precision: Precision,
    /// Number of records, at least 1.
    pub records: usize,
    /// Model step at which the file was written (`timeStepNumber`).
    pub step: Option<u64>,
    /// Start and end of an average, or the time of a snapshot, in seconds since the start of the model
    /// (`timeInterval`). The starts in real files are wrong at times. It is empty if absent or unreadable.
    pub interval: Vec<f64>,
    /// `missingValue`; also `None` if it is unreadable. Land is known from the grid, not from this value.
    pub missing: Option<f64>,
    /// Names of the fields (`fldList`): none, one for each record, or fewer, if records are single levels (see
    /// [`Header::find`]).
    pub fields: Vec<String>,
}

/// The place of a file's values in the array of which it is a piece. MITgcm writes such files, one for each tile,
/// without `useSingleCpuIO`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayPiece {
    /// First column and row of the whole array that are in this piece, from 0.
    pub first: [usize; 2],
    /// Numbers of columns and rows of this piece.
    pub sizes: [usize; 2],
    /// Numbers of columns and rows of the whole array from one row of this piece to the next (`map2glob`): 0 and 1,
    /// except on the folded facets of a compact grid.
    pub stride: [usize; 2],
}

/// The levels of a file that has only some levels of the grid, as `dimList` states them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartOfLevels {
    /// The uppermost level of the file, counted from 0 at the surface; the others follow below it.
    pub first: usize,
    /// Number of levels of the grid.
    pub total: usize,
}

/// The location of a field in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldLocation {
    /// Number of its record, from 0; of the first one if its levels are records.
    pub record: usize,
    /// Number of its levels; `None` if it is 2-D.
    pub levels: Option<usize>,
    /// True if its levels are consecutive records of a 2-D file, as in pickups.
    pub by_records: bool,
}

impl Header {
    /// Parses the text of the `.meta` file of a whole array; `name` appears in errors.
    ///
    /// White space, comments and unknown keys have no influence.
    ///
    /// # Errors
    /// Returns an error if the text does not follow the grammar, if a required key is missing, if keys contradict each
    /// other, or if the file is only a piece of an array, or has only some of its levels.
    pub fn parse(name: &str, text: &[u8]) -> Result<Header, MdsError> {
        let header = Header::parse_any(name, text)?;
        match (&header.piece, header.levels) {
            (None, None) => Ok(header),
            (Some(_), _) => Err(MdsError::Piece { file: name.into() }),
            (None, Some(PartOfLevels { total, .. })) => {
                let found = header.levels().unwrap_or(1);
                Err(MdsError::PartOfLevels { file: name.into(), found, total })
            }
        }
    }

    /// Parses the text of the `.meta` file of an array, or of a piece of one, with all levels of the grid or some.
    ///
    /// # Errors
    /// Returns an error if the text does not follow the grammar, if a required key is missing, or if keys contradict
    /// each other.
    pub fn parse_any(name: &str, text: &[u8]) -> Result<Header, MdsError> {
        if text.len() > MAX_HEADER {
            let (size, limit) = (text.len() as u64, MAX_HEADER as u64);
            return Err(MdsError::TooLarge { file: name.into(), size, limit });
        }
        let items = Items::read(name, text)?;

        let (count, nrecords) = (items.required("nDims")?, items.required("nrecords")?);
        let dimensions = count.number(name, 2..=3)?;
        let records = nrecords.number(name, 1..=usize::MAX)?;
        let ArrayExtent { sizes, piece, levels } =
            extent(name, items.required("dimList")?, dimensions, items.get("map2glob"))?;
        let precision = match items.get("dataprec") {
            Some(item) => precision(name, item)?,
            None => match items.get("format") {
                Some(item) => precision(name, item)?,
                None => return Err(MdsError::MissingKey { file: name.into(), key: "dataprec" }),
            },
        };
        let step = match items.get("timeStepNumber") {
            Some(item) => Some(item.number(name, 0..=usize::MAX)? as u64),
            None => None,
        };
        let fields = match items.get("fldList") {
            Some(item) => fields(name, item, records)?,
            None => Vec::new(),
        };
        if let Some(item) = items.get("nFlds")
            && item.number(name, 0..=usize::MAX)? != fields.len()
        {
            return Err(item.error(name, format!("{}, the number of names in fldList", fields.len())));
        }
        let overflow = || MdsError::Overflow { file: name.into(), sizes: sizes.clone(), records };
        let whole = length(&sizes, records, precision).ok_or_else(overflow)?;
        let length = match &piece {
            None => whole,
            Some(ArrayPiece { sizes: [columns, rows], .. }) => {
                let own = [*columns, *rows].into_iter().chain(sizes.get(2).copied()).collect::<Vec<_>>();
                length(&own, records, precision).ok_or_else(overflow)?
            }
        };
        Ok(Header {
            file: name.into(),
            sizes,
            length,
            piece,
            levels,
            precision,
            records,
            step,
            interval: items.reals("timeInterval"),
            missing: items.reals("missingValue").first().copied(),
            fields,
        })
    }

    /// Returns the header of a file without one that holds one field on a lat-lon-cap grid, as the model reads its own
    /// inputs: on one level or on all `levels` of the grid of facets of `n` cells, with 4 or 8 bytes a number. The size of the
    /// file in bytes tells which of these it is.
    ///
    /// # Errors
    /// Returns an error if no field of this grid, or more than one, has this size.
    pub(crate) fn of_plain(name: &str, size: u64, n: usize, levels: usize) -> Result<Header, MdsError> {
        let rows = super::compact::TILES.saturating_mul(n);
        let mut fitting = Vec::new();
        for precision in [Precision::F32, Precision::F64] {
            for sizes in [vec![n, rows], vec![n, rows, levels]] {
                if length(&sizes, 1, precision) == Some(size) && (sizes.len() == 2 || levels > 1) {
                    fitting.push((sizes, precision));
                }
            }
        }
        let fitting: [_; 1] =
            fitting.try_into().map_err(|_| MdsError::Plain { file: name.into(), size, n, rows, levels })?;
        let [(sizes, precision)] = fitting;
        Ok(Header {
            file: name.into(),
            sizes,
            length: size,
            piece: None,
            levels: None,
            precision,
            records: 1,
            step: None,
            interval: Vec::new(),
            missing: None,
            fields: Vec::new(),
        })
    }

    /// Sizes of the dimensions of the whole array, the fastest first: columns, rows and, in 3-D files, the levels that
    /// the file has.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// Number of levels; `None` for a 2-D file.
    pub fn levels(&self) -> Option<usize> {
        self.sizes.get(2).copied()
    }

    /// Returns the levels of the grid that the file has, if the header states that it has some only.
    pub(crate) fn part_of_levels(&self) -> Option<PartOfLevels> {
        self.levels
    }

    /// Number of values on one level.
    pub fn plane(&self) -> usize {
        self.sizes[0] * self.sizes[1]
    }

    /// Returns N of a lat-lon-cap grid of 13N rows and N columns.
    ///
    /// # Errors
    /// Returns an error if the sizes are not those of such a grid.
    pub fn llc_size(&self) -> Result<usize, MdsError> {
        let (n, rows) = (self.sizes[0], self.sizes[1]);
        if n.checked_mul(super::compact::TILES) == Some(rows) {
            return Ok(n);
        }
        Err(MdsError::NotLlc { file: self.file.clone(), sizes: self.sizes.clone() })
    }

    /// Exact size of the `.data` file in bytes.
    pub fn byte_length(&self) -> u64 {
        self.length
    }

    /// Name of the file, as it appears in errors.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Returns the place of the values in the array, if they are only a piece of it.
    pub fn piece(&self) -> Option<&ArrayPiece> {
        self.piece.as_ref()
    }

    /// Returns the header of the whole array; `None` if its size cannot be represented, which no header of a piece
    /// permits.
    pub(super) fn whole(&self) -> Option<Header> {
        let length = length(&self.sizes, self.records, self.precision)?;
        Some(Header { piece: None, length, ..self.clone() })
    }

    /// Returns the location of a field. `levels` is the number of levels of the grid, for files whose records are
    /// single levels: in these, fields with levels come first, and 2-D fields after them.
    ///
    /// If a file has only one record, it is used whatever its name is, since the name of the file says what it
    /// contains.
    ///
    /// # Errors
    /// Returns an error if no field has this name, or if it is not clear which of the records it is.
    pub fn find(&self, field: &str, levels: usize) -> Result<FieldLocation, MdsError> {
        self.find_in(&self.file, field, levels)
    }

    /// Does the same as [`Header::find`], with this name of the file in errors.
    pub(super) fn find_in(&self, file: &str, field: &str, levels: usize) -> Result<FieldLocation, MdsError> {
        let one = |record| FieldLocation { record, levels: self.levels(), by_records: false };
        let names = self.fields.len();
        if self.records == 1 {
            return Ok(one(0));
        }
        let unclear = || MdsError::NoFieldList { file: file.into(), field: field.into(), records: self.records };
        if names == 0 {
            return Err(unclear());
        }
        let position = self.fields.iter().position(|name| is_field(name, field)).ok_or_else(|| MdsError::NoField {
            file: file.into(),
            field: field.into(),
            fields: self.fields.clone(),
        })?;
        if names == self.records {
            return Ok(one(position));
        }
        // The number of records beyond the number of names, because fields have several levels.
        let more = self.records.checked_sub(names).filter(|_| self.levels().is_none());
        let with_levels = match (more, levels.checked_sub(1)) {
            (Some(more), Some(below @ 1..)) if more % below == 0 && more / below <= names => more / below,
            _ => return Err(unclear()),
        };
        Ok(if position < with_levels {
            FieldLocation { record: position * levels, levels: Some(levels), by_records: true }
        } else {
            let record = with_levels * levels + (position - with_levels);
            FieldLocation { record, levels: None, by_records: true }
        })
    }
}

/// Returns true if a name in a header stands for a variable. The model's names have at most eight characters, and
/// longer ones are cut to that.
pub fn is_field(name: &str, variable: &str) -> bool {
    let short = |text: &str| text.chars().take(8).collect::<String>();
    name == variable || short(name) == short(variable)
}

fn length(sizes: &[usize], records: usize, precision: Precision) -> Option<u64> {
    let factors = sizes.iter().chain([&records]);
    let length = factors.copied().try_fold(precision.bytes(), usize::checked_mul)?;
    // half the range, so that no vector of these values is ever too long for Rust
    (length <= usize::MAX / 2).then_some(length as u64)
}

/// The part of an array that a file has, as `dimList` and `map2glob` state it.
struct ArrayExtent {
    /// Sizes of the whole array, with the levels of the file.
    sizes: Vec<usize>,
    /// The piece that is in the file, if it is only a piece.
    piece: Option<ArrayPiece>,
    /// The levels of the grid that are in the file, if these are only some.
    levels: Option<PartOfLevels>,
}

/// Reads the extent of a file.
fn extent(file: &str, item: &Item, dimensions: usize, map: Option<&Item>) -> Result<ArrayExtent, MdsError> {
    let numbers = item.numbers(file, 1..=usize::MAX)?;
    if numbers.len() != 3 * dimensions {
        return Err(item.error(file, format!("{dimensions} triples of size, first, last (nDims is {dimensions})")));
    }
    let triples = numbers.as_chunks::<3>().0;
    if triples.iter().any(|&[size, first, last]| first > last || last > size) {
        return Err(item.error(file, "first <= last <= size in each triple".into()));
    }
    let mut sizes: Vec<usize> = triples.iter().map(|&[size, ..]| size).collect();
    let is_whole = |&[size, first, last]: &[usize; 3]| (first, last) == (1, size);
    let levels = triples.get(2).filter(|triple| !is_whole(triple)).map(|&[total, first, last]| {
        sizes[2] = last - first + 1;
        PartOfLevels { first: first - 1, total }
    });
    if triples[..2].iter().all(is_whole) {
        return Ok(ArrayExtent { sizes, piece: None, levels });
    }
    let mut stride = [0, 1];
    if let Some(map) = map {
        let numbers = map.numbers(file, 0..=sizes[0].max(sizes[1]))?;
        stride = numbers.try_into().map_err(|_| map.error(file, "two integers".into()))?;
    }
    let [[_, first_column, last_column], [_, first_row, last_row]] = [triples[0], triples[1]];
    let own = [last_column - first_column + 1, last_row - first_row + 1];
    let piece = ArrayPiece { first: [first_column - 1, first_row - 1], sizes: own, stride };
    // The last row has the largest indices; if it is in the array, all are.
    let end = |axis: usize, length: usize| {
        let last = (own[1] - 1).checked_mul(stride[axis])?.checked_add(piece.first[axis])?.checked_add(length)?;
        (last <= sizes[axis]).then_some(())
    };
    if end(0, own[0]).and(end(1, 1)).is_none() {
        return Err(map.unwrap_or(item).error(file, format!("all rows of the piece within the sizes {sizes:?}")));
    }
    Ok(ArrayExtent { sizes, piece: Some(piece), levels })
}

fn precision(file: &str, item: &Item) -> Result<Precision, MdsError> {
    let words: Vec<String> = item.values.iter().map(|word| word.trim().to_ascii_lowercase()).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["float32" | "real*4"] => Ok(Precision::F32),
        ["float64" | "real*8"] => Ok(Precision::F64),
        _ => Err(item.error(file, "'float32' or 'float64'".into())),
    }
}

/// Names are padded with blanks to 8 characters; only the first word counts.
fn fields(file: &str, item: &Item, records: usize) -> Result<Vec<String>, MdsError> {
    if item.values.len() > records {
        return Err(item.error(file, format!("{records} names at most, the number of records (nrecords)")));
    }
    let word = |text: &String| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let fields: Vec<String> = item.values.iter().map(word).collect();
    if fields.iter().any(String::is_empty) {
        return Err(item.error(file, "names of letters, digits and '_'".into()));
    }
    Ok(fields)
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
