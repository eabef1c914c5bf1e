//! The `.npy` arrays inside an `.npz` file.
//!
//! The header of an array is a Python literal. A general parser of literals is a risk with untrusted files (deep
//! nesting, exponential backtracking), so this parser knows only the three keys that numpy writes.

/// Length in bytes of the longest header that is read. numpy pads those that occur here to 118 bytes.
const MAX_HEADER: usize = 4096;
/// Largest number of dimensions of an array.
const MAX_DIMENSIONS: usize = 8;

/// An array: a checked header and the data that follow it, borrowed from the file.
#[derive(Debug, PartialEq)]
pub(super) struct Npy<'a> {
    pub(super) element: NpyType,
    pub(super) shape: Vec<usize>,
    data: &'a [u8],
}

/// The element types that occur in mapping factors, all little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NpyType {
    I32,
    I64,
    F32,
    F64,
}

impl NpyType {
    fn from_descr(descr: &str) -> Option<Self> {
        match descr {
            "<i4" => Some(Self::I32),
            "<i8" => Some(Self::I64),
            "<f4" => Some(Self::F32),
            "<f8" => Some(Self::F64),
            _ => None,
        }
    }

    /// Returns the number of bytes of an element.
    pub(super) fn size(self) -> usize {
        match self {
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }
}

impl<'a> Npy<'a> {
    /// Reads the header and checks the shape against the available bytes. No memory is allocated for the data.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("not an array of numpy (.npy)")?;
        let early = "the header ends early";
        let (version, rest) = rest.split_at_checked(2).ok_or(early)?;
        let (size, rest) = match version[0] {
            1 => {
                let (size, rest) = rest.split_first_chunk().ok_or(early)?;
                (usize::from(u16::from_le_bytes(*size)), rest)
            }
            2 | 3 => {
                let (size, rest) = rest.split_first_chunk().ok_or(early)?;
                (u32::from_le_bytes(*size) as usize, rest)
            }
            other => return Err(format!("version {other} of the .npy format is not supported")),
        };
        if size > MAX_HEADER {
            return Err(format!("a header of {size} bytes, at most {MAX_HEADER} are supported"));
        }
        let (header, data) = rest.split_at_checked(size).ok_or(early)?;
        let header = std::str::from_utf8(header).map_err(|_| "the header is not text")?;
        let NpyHeader { descr, fortran, shape } = NpyHeader::parse(header).ok_or("the header is malformed")?;
        let element = NpyType::from_descr(descr)
            .ok_or_else(|| format!("element type {descr:?} is not supported, only <i4, <i8, <f4, <f8"))?;
        if fortran && shape.len() > 1 {
            return Err("Fortran order is not supported".to_owned());
        }
        let size = shape.iter().try_fold(element.size(), |product, &size| product.checked_mul(size));
        if size != Some(data.len()) {
            return Err(format!("the header claims the shape {shape:?}, but {} bytes of data follow", data.len()));
        }
        Ok(Self { element, shape, data })
    }

    /// Returns the values as integers; `None` if the array holds floats.
    pub(super) fn integers(&self) -> Option<impl ExactSizeIterator<Item = i64> + 'a> {
        let size = match self.element {
            NpyType::I32 | NpyType::I64 => self.element.size(),
            NpyType::F32 | NpyType::F64 => return None,
        };
        Some(self.data.chunks_exact(size).map(|bytes| match *bytes {
            [a, b, c, d] => i32::from_le_bytes([a, b, c, d]).into(),
            [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
            // chunks_exact gives no other lengths
            _ => 0,
        }))
    }

    /// Returns the values in double precision.
    pub(super) fn floats(&self) -> impl ExactSizeIterator<Item = f64> + 'a {
        let element = self.element;
        self.data.chunks_exact(element.size()).map(move |bytes| match (element, bytes) {
            (NpyType::I32, &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]).into(),
            (NpyType::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]).into(),
            (NpyType::I64, &[a, b, c, d, e, f, g, h]) => i64::from_le_bytes([a, b, c, d, e, f, g, h]) as f64,
            (NpyType::F64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => 0.0,
        })
    }
}

/// The three entries of the header of an array.
struct NpyHeader<'a> {
    descr: &'a str,
    fortran: bool,
    shape: Vec<usize>,
}

impl<'a> NpyHeader<'a> {
    /// Parses a header such as `{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }`, with its keys in any order.
    fn parse(text: &'a str) -> Option<Self> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        let mut rest = skip(text, "{")?;
        while !rest.starts_with('}') {
            let key;
            (key, rest) = quoted(rest)?;
            rest = skip(rest, ":")?;
            match key {
                "descr" if descr.is_none() => {
                    let value;
                    (value, rest) = quoted(rest)?;
                    descr = Some(value);
                }
                "fortran_order" if fortran.is_none() => {
                    fortran = Some(rest.starts_with("True"));
                    rest = skip(rest, "True").or_else(|| skip(rest, "False"))?;
                }
                "shape" if shape.is_none() => {
                    let value;
                    (value, rest) = sizes(rest)?;
                    shape = Some(value);
                }
                _ => return None,
            }
            match skip(rest, ",") {
                Some(next) => rest = next,
                None if rest.starts_with('}') => {}
                None => return None,
            }
        }
        skip(rest, "}")?.is_empty().then_some(())?;
        Some(Self { descr: descr?, fortran: fortran?, shape: shape? })
    }
}

/// Removes `token` from the beginning of the text, and the blanks that follow it.
fn skip<'a>(text: &'a str, token: &str) -> Option<&'a str> {
    text.strip_prefix(token).map(str::trim_ascii_start)
}

/// Splits the text into a string in single or double quotes, without escapes, and the rest.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let (value, rest) = text[1..].split_once(quote)?;
    Some((value, rest.trim_ascii_start()))
}

/// Splits the text into a tuple of integers and the rest.
fn sizes(text: &str) -> Option<(Vec<usize>, &str)> {
    let (inner, rest) = text.strip_prefix('(')?.split_once(')')?;
    let mut items: Vec<&str> = inner.split(',').map(str::trim_ascii).collect();
    // A comma may follow the last size, and must follow a single one.
    if items.last() == Some(&"") {
        items.pop();
    } else if items.len() == 1 {
        return None;
    }
    if items.len() > MAX_DIMENSIONS || items.iter().any(|item| !item.bytes().all(|byte| byte.is_ascii_digit())) {
        return None;
    }
    let sizes = items.iter().map(|item| item.parse().ok()).collect::<Option<_>>()?;
    Some((sizes, rest.trim_ascii_start()))
}

/// Returns an array in numpy's format: version 1, with the header padded so that the data begin at a multiple of 64
/// bytes. `shape` is the text of the tuple.
pub(super) fn write(descr: &str, shape: &str, data: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    // 10 bytes precede the header, and a newline ends it.
    let padding = (10 + header.len() + 1).next_multiple_of(64) - (10 + header.len() + 1);
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.bytes());
    out.extend(data);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn reads_what_numpy_writes() {
        // numpy.save of numpy.array([3, -4], dtype="int32")
        let header = format!("{{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }}{}\n", " ".repeat(60));
        let bytes = with_header(&header, &[3, 0, 0, 0, 0xfc, 0xff, 0xff, 0xff]);
        assert_eq!(bytes.len(), 136);
        let npy = Npy::parse(&bytes).unwrap();
        assert_eq!((npy.element, npy.shape.as_slice()), (NpyType::I32, &[2][..]));
        assert_eq!(npy.integers().unwrap().collect::<Vec<_>>(), [3, -4]);
        assert_eq!(npy.floats().collect::<Vec<_>>(), [3.0, -4.0]);
        assert_eq!(write("<i4", "(2,)", [3, 0, 0, 0, 0xfc, 0xff, 0xff, 0xff].into_iter()), bytes);
    }

    #[test]
    fn reads_all_four_element_types() {
        let cases: [(&str, Vec<u8>); 4] = [
            ("<i4", (-7_i32).to_le_bytes().to_vec()),
            ("<i8", (-7_i64).to_le_bytes().to_vec()),
            ("<f4", (-7_f32).to_le_bytes().to_vec()),
            ("<f8", (-7_f64).to_le_bytes().to_vec()),
        ];
        for (descr, data) in cases {
            let bytes = write(descr, "(1,)", data.into_iter());
            assert_eq!(bytes.len() % 4, 0);
            assert_eq!(Npy::parse(&bytes).unwrap().floats().collect::<Vec<_>>(), [-7.0], "{descr}");
        }
        let bytes = write("<f8", "()", 2.5_f64.to_le_bytes().into_iter());
        let scalar = Npy::parse(&bytes).unwrap();
        assert!(scalar.shape.is_empty() && scalar.integers().is_none());
    }

    #[test]
    fn a_huge_claim_is_an_error_before_any_allocation() {
        for shape in ["(10000000000,)", "(4294967296, 4294967296)", "(99999999999999999999999,)"] {
            let bytes =
                with_header(&format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n"), &[0; 8]);
            assert!(Npy::parse(&bytes).is_err(), "{shape}");
        }
        let mut bytes = b"\x93NUMPY\x02\x00".to_vec();
        bytes.extend(u32::MAX.to_le_bytes());
        assert!(Npy::parse(&bytes).unwrap_err().contains("at most 4096"));
    }

    #[test]
    fn odd_headers() {
        let good = [
            "{'shape': (1,), 'fortran_order': False, 'descr': '<i4'}",
            "{\"descr\": \"<i4\", \"fortran_order\": True, \"shape\": (1,)}\n",
            "{ 'descr' : '<i4' , 'fortran_order' : False , 'shape' : ( 1 , ) }",
            "{'descr': '<i4', 'fortran_order': False, 'shape': (1, 1)}",
        ];
        let good_but_blank_first = good[2].replacen("{ ", "{", 1);
        for header in good.iter().chain([&good_but_blank_first.as_str()]) {
            assert!(Npy::parse(&with_header(header, &[0; 4])).is_ok(), "{header}");
        }
        let bad = [
            "",
            "{}",
            "{'descr': '<i4', 'fortran_order': False, 'shape': (1)}",
            "{'descr': '<i4', 'fortran_order': False, 'shape': (,)}",
            "{'descr': '<i4', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '<i4', 'fortran_order': False, 'shape': (+1,)}",
            "{'descr': '>i4', 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '<i4', 'fortran_order': 0, 'shape': (1,)}",
            "{'descr': '<i4', 'fortran_order': False, 'shape': (1,), 'more': 1}",
            "{'descr': '<i4', 'descr': '<i4', 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '<i4', 'fortran_order': False, 'shape': (1,)} 1",
            "{'descr': '<i4', 'fortran_order': True, 'shape': (1,1)}",
            "{'descr': '<i4' 'fortran_order': False, 'shape': (1,)}",
            "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,)}",
        ];
        for header in bad {
            assert!(Npy::parse(&with_header(header, &[0; 4])).is_err(), "{header}");
        }
        let nested = "{".repeat(4000);
        assert!(Npy::parse(&with_header(&nested, &[])).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, header in "\\PC*", keys in "[{}'(),: <>i48descrshapfotn_TF]*") {
            let _ = Npy::parse(&bytes);
            let _ = Npy::parse(&with_header(&header, &bytes));
            let _ = Npy::parse(&with_header(&keys, &bytes));
        }
    }
}
