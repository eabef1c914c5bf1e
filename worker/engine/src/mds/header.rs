//! The `.meta` file: what a `.data` file holds.

use super::error::MdsError;
use super::grammar::{Item, Items};

/// Largest header that is read, in bytes; real ones have a few hundred.
pub const MAX_HEADER: usize = 1 << 20;

/// Element type of a `.data` file, always big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 4-byte IEEE numbers (`float32`).
    F32,
    /// 8-byte IEEE numbers (`float64`).
    F64,
}

impl Precision {
    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::F64 => 8,
        }
    }
}

/// Contents of a `.meta` file.
///
/// A value of this type describes an array whose size in bytes fits in 64 bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    file: String,
    sizes: Vec<usize>,
    length: u64,
    /// Element type.
    pub precision: Precision,
    /// Number of records, at least 1.
    pub records: usize,
    /// Model step at which the file was written (`timeStepNumber`).
    pub step: Option<u64>,
    /// Start and end of an average, or the time of a snapshot, in seconds since the start of the model
    /// (`timeInterval`). Real files hold wrong starts; empty if absent or unreadable.
    pub interval: Vec<f64>,
    /// `missingValue`; `None` also if unreadable. Land is known from the grid, not from this value.
    pub missing: Option<f64>,
    /// Names of the records, empty or one for each (`fldList`).
    pub fields: Vec<String>,
}

impl Header {
    /// Reads the text of a `.meta` file; `name` appears in errors.
    ///
    /// White space, comments and unknown keys do not matter.
    ///
    /// # Errors
    /// The text does not follow the grammar, a required key is missing, or keys contradict each other.
    pub fn parse(name: &str, text: &[u8]) -> Result<Header, MdsError> {
        if text.len() > MAX_HEADER {
            let (size, limit) = (text.len() as u64, MAX_HEADER as u64);
            return Err(MdsError::TooLarge { file: name.into(), size, limit });
        }
        let items = Items::read(name, text)?;

        let (count, nrecords) = (items.required("nDims")?, items.required("nrecords")?);
        let dimensions = count.number(name, 2..=3)?;
        let records = nrecords.number(name, 1..=usize::MAX)?;
        let sizes = sizes(name, items.required("dimList")?, dimensions)?;
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
        let length = length(&sizes, records, precision).ok_or_else(|| MdsError::Overflow {
            file: name.into(),
            sizes: sizes.clone(),
            records,
        })?;
        Ok(Header {
            file: name.into(),
            sizes,
            length,
            precision,
            records,
            step,
            interval: items.reals("timeInterval"),
            missing: items.reals("missingValue").first().copied(),
            fields,
        })
    }

    /// Sizes of the dimensions, fastest first: columns, rows and, in 3-D files, levels.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// Number of levels, `None` for a 2-D file.
    pub fn levels(&self) -> Option<usize> {
        self.sizes.get(2).copied()
    }

    /// Number of values on one level.
    pub fn plane(&self) -> usize {
        self.sizes[0] * self.sizes[1]
    }

    /// N of a lat-lon-cap grid of 13N rows and N columns.
    ///
    /// # Errors
    /// The sizes are not those of such a grid.
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
}

fn length(sizes: &[usize], records: usize, precision: Precision) -> Option<u64> {
    let factors = sizes.iter().chain([&records]);
    let length = factors.copied().try_fold(precision.bytes(), usize::checked_mul)?;
    // half the range, so that no vector of these values is ever too long for Rust
    (length <= usize::MAX / 2).then_some(length as u64)
}

fn sizes(file: &str, item: &Item, dimensions: usize) -> Result<Vec<usize>, MdsError> {
    let numbers = item.numbers(file, 1..=usize::MAX)?;
    if numbers.len() != 3 * dimensions {
        return Err(item.error(file, format!("{dimensions} triples of size, first, last (nDims is {dimensions})")));
    }
    let mut sizes = Vec::with_capacity(dimensions);
    for (index, triple) in numbers.chunks_exact(3).enumerate() {
        let (size, first, last) = (triple[0], triple[1], triple[2]);
        if first > last || last > size {
            return Err(item.error(file, "first <= last <= size in each triple".into()));
        }
        if (first, last) != (1, size) {
            return Err(MdsError::Piece { file: file.into(), dimension: index + 1, size, first, last });
        }
        sizes.push(size);
    }
    Ok(sizes)
}

fn precision(file: &str, item: &Item) -> Result<Precision, MdsError> {
    let words: Vec<String> = item.values.iter().map(|word| word.trim().to_ascii_lowercase()).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["float32" | "real*4"] => Ok(Precision::F32),
        ["float64" | "real*8"] => Ok(Precision::F64),
        _ => Err(item.error(file, "'float32' or 'float64'".into())),
    }
}

/// Names are padded with blanks to 8 characters; only the leading word counts.
fn fields(file: &str, item: &Item, records: usize) -> Result<Vec<String>, MdsError> {
    if item.values.len() != records {
        return Err(item.error(file, format!("{records} names, one for each record (nrecords is {records})")));
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const SURFACE: &str = " nDims = [   2 ];
 dimList = [
    90,    1,   90,
  1170,    1, 1170
 ];
 dataprec = [ 'float32' ];
 nrecords = [      1 ];
 timeStepNumber = [        732 ];
 timeInterval = [  3.600000000000E+03  2.635200000000E+06 ];
 missingValue = [ -9.99000000000000E+02 ];
 nFlds = [    1 ];
 fldList = {
 'SSHNOIBC'
 };
";

    const THREE: &str = "nDims=[3];dimList=[90 1 90 1170 1 1170 50 1 50];format = ['real*8'];
        nrecords = [ 3 ]; fldList = { 'THETA   ' 'SALT    '
        'DRHODR  ' };";

    fn parse(text: &str) -> Result<Header, MdsError> {
        Header::parse("x.meta", text.as_bytes())
    }

    fn message(text: &str) -> String {
        parse(text).expect_err("accepted").to_string()
    }

    #[test]
    fn reads_a_surface_field() {
        let header = parse(SURFACE).unwrap();
        assert_eq!(header.sizes(), [90, 1170]);
        assert_eq!((header.levels(), header.llc_size().unwrap(), header.plane()), (None, 90, 105_300));
        assert_eq!(header.byte_length(), 421_200);
        assert_eq!((header.precision, header.records, header.step), (Precision::F32, 1, Some(732)));
        assert_eq!(header.interval, [3600.0, 2_635_200.0]);
        assert_eq!(header.missing, Some(-999.0));
        assert_eq!(header.fields, ["SSHNOIBC"]);
    }

    #[test]
    fn reads_several_records_and_the_old_key() {
        let header = parse(THREE).unwrap();
        assert_eq!((header.levels(), header.precision, header.step), (Some(50), Precision::F64, None));
        assert_eq!(header.fields, ["THETA", "SALT", "DRHODR"]);
        assert_eq!(header.byte_length(), 3 * 8 * 50 * 105_300);
    }

    #[test]
    fn reads_a_profile() {
        let header = parse("nDims=[3];dimList=[1,1,1,1,1,1,51,1,51];dataprec=['float32'];nrecords=[1];").unwrap();
        assert_eq!((header.levels(), header.plane(), header.byte_length()), (Some(51), 1, 204));
        assert!(header.llc_size().unwrap_err().to_string().contains("x.meta: sizes [1, 1, 51]"));
    }

    #[test]
    fn passes_over_what_it_does_not_know() {
        let text =
            format!("// made by hand\n/* a title ; [ */ simulation = {{ 'a [b] = ;' }};\n mds_x = [ ];{SURFACE}");
        assert_eq!(parse(&text).unwrap(), parse(SURFACE).unwrap());
        let mut bytes = b"title = { 'Sch\xf6n' };".to_vec();
        bytes.extend(SURFACE.as_bytes());
        assert_eq!(Header::parse("x.meta", &bytes).unwrap(), parse(SURFACE).unwrap());
    }

    #[test]
    fn unreadable_times_are_absent() {
        let header = parse(&SURFACE.replace("3.600000000000E+03", "******************")).unwrap();
        assert!(header.interval.is_empty());
        let header = parse(&SURFACE.replace("E+02", "D+02")).unwrap();
        assert_eq!(header.missing, Some(-999.0));
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (from, to, expected) in [
            (
                " ];\n dataprec",
                " ]\n dataprec",
                "x.meta, line 6: expected ';' after the closing bracket, found 'dataprec'",
            ),
            ("fldList = {", "fldList = (", "line 12: expected '[' or '{' after '=', found '('"),
            ("'SSHNOIBC'", "'SSHNOIBC", "line 13: expected a closing quote on the same line, found 'SSHNOIBC'"),
            ("nDims = [   2 ]", "nDims = [ 3 ]", "line 2: dimList = 90, 1, 90, 1170, 1, 1170: expected 3 triples"),
            ("nDims = [   2 ]", "nDims = [ 4 ]", "line 1: nDims = 4: expected integers from 2 to 3"),
            ("nDims = [   2 ]", "nDims = [ 2 2 ]", "expected one integer"),
            (" 1, 1170", " 1, 585", "dimension 2 holds 1 to 585 of 1170"),
            ("90,    1,   90", "0, 1, 0", "expected integers of at least 1"),
            ("90,    1,   90", "90, 1, 91", "expected first <= last <= size"),
            ("float32", "float16", "line 6: dataprec = float16: expected 'float32' or 'float64'"),
            ("dataprec", "datapreC", "the key 'dataprec' is missing"),
            ("nrecords = [      1 ]", "nrecords = [ 2 ]", "expected 2 names, one for each record"),
            ("nrecords = [      1 ]", "nrecords = [ 0 ]", "nrecords = 0: expected integers of at least 1"),
            ("nrecords = [      1 ]", "nrecords = [ ]", "nrecords = : expected one integer"),
            ("nFlds = [    1 ]", "nFlds = [ 2 ]", "nFlds = 2: expected 1, the number of names"),
            ("'SSHNOIBC'", "'        '", "expected names of letters"),
            ("nFlds =", "nrecords =", "line 11: the key 'nrecords' stands here a second time"),
            ("[        732 ]", "[ ********** ]", "timeStepNumber = **********: expected"),
            (
                "'SSHNOIBC'\n };",
                "'SSHNOIBC'",
                "line 14: expected a value or the closing bracket, found the end of the file",
            ),
        ] {
            assert!(SURFACE.contains(from), "{from}");
            let message = message(&SURFACE.replace(from, to));
            assert!(message.contains(expected), "{to}: {message}");
        }
        assert_eq!(message(""), "x.meta: the key 'nDims' is missing");
    }

    #[test]
    fn refuses_sizes_beyond_counting() {
        let big =
            "nDims=[2];dimList=[4294967296,1,4294967296,4294967296,1,4294967296];dataprec=['float32'];nrecords=[1];";
        assert!(message(big).contains("more bytes than can be counted"));
        assert!(message(&big.replace('2', "99")).contains("expected integers"));
        let long = vec![b' '; MAX_HEADER + 1];
        assert!(Header::parse("x.meta", &long).unwrap_err().to_string().contains("1048577 bytes are too many"));
    }

    proptest! {
        #[test]
        fn no_text_brings_it_down(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Header::parse("x", &text);
        }

        #[test]
        fn no_damage_brings_it_down(at in 0_usize..400, byte in any::<u8>(), cut in 0_usize..400) {
            let mut text = SURFACE.as_bytes().to_vec();
            let at = at % text.len();
            text[at] = byte;
            text.truncate(text.len().max(cut + 1) - cut);
            let _ = Header::parse("x", &text);
        }
    }
}
