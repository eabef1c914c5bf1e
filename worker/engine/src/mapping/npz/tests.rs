#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;

use proptest::prelude::*;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::super::npy;
use super::*;

fn file() -> &'static Path {
    Path::new("sparse_matrix_0.npz")
}

fn i32s(values: &[i32]) -> Vec<u8> {
    npy::write("<i4", &format!("({},)", values.len()), values.iter().flat_map(|v| v.to_le_bytes()))
}

fn i64s(values: &[i64]) -> Vec<u8> {
    npy::write("<i8", &format!("({},)", values.len()), values.iter().flat_map(|v| v.to_le_bytes()))
}

fn f32s(values: &[f32]) -> Vec<u8> {
    npy::write("<f4", &format!("({},)", values.len()), values.iter().flat_map(|v| v.to_le_bytes()))
}

fn f64s(values: &[f64]) -> Vec<u8> {
    npy::write("<f8", &format!("({},)", values.len()), values.iter().flat_map(|v| v.to_le_bytes()))
}

fn archive(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated))
            .unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Makes a valid matrix of 2 rows and 3 columns, with some entries replaced (or dropped, if empty).
fn variant(changes: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut entries = vec![
        ("indices.npy", i32s(&[0, 2, 1])),
        ("indptr.npy", i32s(&[0, 2, 3])),
        ("format.npy", npy::write("|S3", "()", b"csr".iter().copied())),
        ("shape.npy", i64s(&[2, 3])),
        ("data.npy", i64s(&[1, 1, 1])),
    ];
    for (name, bytes) in changes {
        for entry in &mut entries {
            if entry.0 == *name {
                entry.1 = bytes.clone();
            }
        }
    }
    entries.retain(|entry| !entry.1.is_empty());
    archive(&entries)
}

fn read_variant(changes: &[(&str, Vec<u8>)]) -> Result<Csr, String> {
    parse(file(), &variant(changes), 0, 2, 3, u64::MAX).map_err(|error| error.to_string())
}

#[test]
fn reads_all_number_types() {
    let unit = read_variant(&[]).unwrap();
    assert_eq!((unit.rows(), unit.columns), (2, 3));
    assert_eq!((unit.indptr.as_slice(), unit.indices.as_slice()), (&[0, 2, 3][..], &[0, 2, 1][..]));
    assert_eq!(unit.weights, Weights::Unit);
    for data in [i32s(&[1, 1, 1]), f32s(&[1.0; 3]), f64s(&[1.0; 3])] {
        assert_eq!(read_variant(&[("data.npy", data)]).unwrap(), unit);
    }
    let wide = [("indices.npy", i64s(&[0, 2, 1])), ("indptr.npy", i64s(&[0, 2, 3])), ("shape.npy", i32s(&[2, 3]))];
    assert_eq!(read_variant(&wide).unwrap(), unit);
    let each = read_variant(&[("data.npy", f32s(&[0.5, 1.0, 0.25]))]).unwrap();
    assert_eq!(each.weights, Weights::Each(vec![0.5, 1.0, 0.25]));
    assert_eq!(each.weight(2), 0.25);
    // The format is optional, and may be wide characters.
    assert_eq!(read_variant(&[("format.npy", vec![])]).unwrap(), unit);
    let wide = npy::write("<U3", "()", b"c\0\0\0s\0\0\0r\0\0\0".iter().copied());
    assert_eq!(read_variant(&[("format.npy", wide)]).unwrap(), unit);
}

#[test]
fn another_grid_is_told_with_both_numbers() {
    let error = parse(file(), &variant(&[]), 7, 60_646, 3, u64::MAX).unwrap_err();
    assert!(matches!(error, MappingError::SourceCount { level: 7, rows: 2, wet: 60_646, .. }));
    assert_eq!(
        error.to_string(),
        "sparse_matrix_0.npz: the matrix has 2 rows (wet source cells), but level 7 of the grid has 60646 wet cells: \
         factors and grid do not belong together"
    );
    let error = parse(file(), &variant(&[]), 0, 2, 259_200, u64::MAX).unwrap_err().to_string();
    assert!(error.contains("3 columns") && error.contains("259200 cells"), "{error}");
}

#[test]
fn what_is_no_matrix_is_refused() {
    let csc = npy::write("|S3", "()", b"csc".iter().copied());
    let matrix = npy::write("<i4", "(1, 3)", i32s(&[0, 2, 1]).split_off(128).into_iter());
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("indices.npy", vec![], "entry indices.npy"),
        ("indices.npy", i32s(&[0, 3, 1]), "number 1 is 3, expected 0 to 2"),
        ("indices.npy", i32s(&[0, -1, 1]), "number 1 is -1"),
        ("indices.npy", i64s(&[0, 1 << 40, 1]), "number 1 is 1099511627776"),
        ("indices.npy", i32s(&[0, 2]), "2 numbers, but indptr ends with 3"),
        ("indices.npy", f64s(&[0.0, 2.0, 1.0]), "floats, expected integers"),
        ("indices.npy", matrix, "2 dimensions, expected 1"),
        ("indptr.npy", i32s(&[0, 3]), "2 numbers for 2 rows, expected 3"),
        ("indptr.npy", i32s(&[1, 2, 3]), "do not begin with 0"),
        ("indptr.npy", i32s(&[0, 4, 3]), "do not begin with 0 and ascend"),
        ("indptr.npy", i32s(&[0, 2, 4]), "3 numbers, but indptr ends with 4"),
        ("indptr.npy", i32s(&[0, 2, i32::MAX]), "number 2 is 2147483647"),
        ("indptr.npy", i32s(&[0, 2, -3]), "number 2 is -3"),
        ("data.npy", f64s(&[1.0, f64::INFINITY, 1.0]), "weight 1 is not a finite number"),
        ("data.npy", f64s(&[1.0, 1.0, f64::NAN]), "weight 2 is not a finite number"),
        ("data.npy", f64s(&[1.0, 1.0]), "2 numbers, but indptr ends with 3"),
        ("shape.npy", i64s(&[2]), "1 numbers, expected 2"),
        ("shape.npy", i64s(&[-2, 3]), "-2 rows"),
        ("format.npy", csc, "not in the format csr"),
        ("data.npy", b"not numpy".to_vec(), "not an array of numpy"),
    ];
    for (entry, bytes, expected) in cases {
        let error = read_variant(&[(entry, bytes)]).unwrap_err();
        assert!(error.starts_with("sparse_matrix_0.npz: ") && error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn entries_that_expand_too_far_are_refused() {
    // 64 MB of zeros pack to 64 kB.
    let bomb = npy::write("<i4", "(16000000,)", std::iter::repeat_n(0, 64_000_000));
    for entry in ["indices.npy", "indptr.npy", "shape.npy", "data.npy", "format.npy"] {
        let bytes = variant(&[(entry, bomb.clone())]);
        assert!(bytes.len() < 100_000);
        let error = parse(file(), &bytes, 0, 2, 3, u64::MAX).unwrap_err();
        assert!(matches!(error, MappingError::TooLarge { .. }), "{error}");
    }
}

#[test]
fn false_sizes_in_the_archive_are_noticed() {
    let good = variant(&[]);
    // The size of `data.npy` in the central directory: the signature, and then 20 bytes to the two sizes.
    let entry = good.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    assert_eq!(&good[entry + 46..entry + 54], b"data.npy");
    for claim in [10_u32, 1 << 20, u32::MAX - 1] {
        let mut bytes = good.clone();
        bytes[entry + 24..entry + 28].copy_from_slice(&claim.to_le_bytes());
        // Either the false size is refused, or only the bytes that are really unpacked are taken.
        if let Ok(csr) = parse(file(), &bytes, 0, 2, 3, u64::MAX) {
            assert_eq!(csr.indices, [0, 2, 1]);
        }
    }
    // A header inside the archive claims 10 GB.
    let huge = npy::write("<i8", "(1250000000,)", 1_i64.to_le_bytes().into_iter());
    let error = read_variant(&[("data.npy", huge)]).unwrap_err();
    assert!(error.contains("claims the shape [1250000000], but 8 bytes"), "{error}");
}

#[test]
fn every_cut_is_an_error() {
    let good = variant(&[]);
    for end in 0..good.len() {
        assert!(parse(file(), &good[..end], 0, 2, 3, u64::MAX).is_err(), "cut at {end}");
    }
}

proptest! {
    #[test]
    fn damaged_archives_never_panic(at: prop::sample::Index, byte: u8, other: prop::sample::Index, more: u8) {
        let mut bytes = variant(&[]);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let other = other.index(bytes.len());
        bytes[other] = more;
        let _ = parse(file(), &bytes, 0, 2, 3, u64::MAX);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, data: Vec<u8>) {
        let _ = parse(file(), &bytes, 0, 2, 3, u64::MAX);
        let _ = read_variant(&[("data.npy", data.clone())]);
        let _ = read_variant(&[("indptr.npy", data)]);
    }

    #[test]
    fn arbitrary_numbers_give_a_matrix_or_an_error(
        indptr in prop::collection::vec(-1..5_i32, 0..5),
        indices in prop::collection::vec(-1..4_i32, 0..5),
        data in prop::collection::vec(any::<f64>(), 0..5),
    ) {
        let changes = [("indptr.npy", i32s(&indptr)), ("indices.npy", i32s(&indices)), ("data.npy", f64s(&data))];
        if let Ok(csr) = read_variant(&changes) {
            prop_assert_eq!(csr.rows(), 2);
            prop_assert_eq!(*csr.indptr.last().unwrap() as usize, csr.indices.len());
            prop_assert!(csr.indices.iter().all(|&column| column < 3));
        }
    }
}

#[test]
fn what_takes_more_memory_than_it_may_is_refused_before_it_is_read() {
    let good = parse(file(), &variant(&[]), 0, 2, 3, u64::MAX).unwrap();
    let bytes = good.indices.len() as u64 * WEIGHT;
    assert!(bytes > 0 && parse(file(), &variant(&[]), 0, 2, 3, bytes).is_ok());
    let error = parse(file(), &variant(&[]), 0, 2, 3, bytes - 1).unwrap_err();
    assert!(matches!(error, MappingError::Memory { .. }) && error.to_string().contains("run.memory"), "{error}");
}
