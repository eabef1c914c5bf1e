//! Streams of this encoder: every inflater gives the chunk back, they are no larger than they may be, and their bytes
//! stay what they are.

#![allow(clippy::unwrap_used, clippy::panic)]

use edp_encoder::{PlaneEncoder, PlaneLayout, SMALLEST};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

/// Numbers that are the same on every machine: a linear congruential generator (Knuth, The Art of Computer Programming,
/// volume 2, section 3.3.4, table 1), of which the high bits are used.
struct NumberStream(u64);

impl NumberStream {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit
    }
}

/// Kinds of bytes that are hard for one or another part of the encoder.
const KINDS: [&str; 13] = [
    "constant",
    "noise",
    "bits",
    "geometric",
    "fibonacci",
    "pairs",
    "rows",
    "runs of 258",
    "runs of 259",
    "far",
    "too far",
    "steps",
    "mixed",
];

/// Returns bytes of one kind.
fn bytes(kind: &str, length: usize, row: usize, seed: u64) -> Vec<u8> {
    let mut numbers = NumberStream(seed.wrapping_add(1));
    let mut data = Vec::with_capacity(length + 300);
    while data.len() < length {
        let at = data.len();
        match kind {
            "constant" => data.push(7),
            "noise" => data.push(numbers.next() as u8),
            "bits" => data.push((numbers.next() & 1) as u8),
            "geometric" => data.push(numbers.next().trailing_zeros() as u8),
            // Each byte about as often as the two before it together: the tree of their codes is as deep as it can be.
            "fibonacci" => {
                let (mut symbol, mut rest) = (0, numbers.next());
                while rest < (u32::MAX / 1000) * 618 && symbol < 40 {
                    (symbol, rest) = (symbol + 1, numbers.next());
                }
                data.push(symbol);
            }
            "pairs" => {
                let pair = [numbers.next() as u8 & 63, numbers.next() as u8 & 3];
                data.extend([pair[0], pair[0], pair[1], pair[1]]);
            }
            "rows" if at >= row && numbers.below(8) > 0 => data.push(data[at - row]),
            "runs of 258" | "runs of 259" => {
                let count = if kind.ends_with('8') { 258 } else { 259 };
                data.extend(std::iter::repeat_n(numbers.next() as u8, count));
            }
            "far" | "too far" => {
                let distance = if kind == "far" { 32_768 } else { 32_769 };
                data.push(if at < distance { numbers.next() as u8 } else { data[at - distance] });
            }
            "steps" => data.push((at / row.max(1)) as u8),
            "mixed" => {
                let part = KINDS[numbers.below(KINDS.len() - 1)];
                data.extend(bytes(part, 1 + numbers.below(3 * row.max(40)), row, u64::from(numbers.next())));
            }
            _ => data.push(numbers.next() as u8),
        }
    }
    data.truncate(length);
    data
}

/// Compresses a chunk, checks that every inflater gives it back, and returns the stream.
fn checked(encoder: &mut PlaneEncoder, plain: &[u8], layout: PlaneLayout) -> Vec<u8> {
    let stream = encoder.encode(plain, layout);
    let largest = plain.len() + plain.len() / 1000 + 64;
    assert!(stream.len() <= largest, "{layout:?}: {} bytes of {}", stream.len(), plain.len());
    let mut read = vec![0; plain.len()];
    let found = libdeflater::Decompressor::new().zlib_decompress(&stream, &mut read).unwrap();
    assert!(found == plain.len() && read == plain, "libdeflate, {layout:?}");
    let read = miniz_oxide::inflate::decompress_to_vec_zlib(&stream).unwrap();
    assert!(read == plain, "miniz_oxide, {layout:?}");
    let mut read = vec![0; plain.len()];
    let (read, code) = zlib_rs::decompress_slice(&mut read, &stream, zlib_rs::InflateConfig::default());
    assert!(code == zlib_rs::ReturnCode::Ok && *read == *plain, "zlib-rs, {layout:?}");
    stream
}

/// Returns the size of the chunk as libdeflate compresses it.
fn libdeflate(plain: &[u8], level: i32) -> usize {
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::new(level).unwrap());
    let mut bytes = vec![0; compressor.zlib_compress_bound(plain.len())];
    compressor.zlib_compress(plain, &mut bytes).unwrap()
}

/// Returns a chunk of 10 levels of 90 by 180 values of a field, shuffled: land, and an ocean in which each step from
/// value to value is `smooth` times as large as the noise.
fn field(smooth: f32, doubled: bool) -> (Vec<u8>, PlaneLayout) {
    let (levels, rows, row) = (10, 90, 180);
    let mut numbers = NumberStream(1);
    let mut values = vec![0.0_f32; levels * rows * row];
    for at in 0..values.len() {
        let (level, j, i) = (at / row / rows, at / row % rows, at % row);
        let land = (j / 10 + i / 23) % 3 == 0;
        values[at] = match (land, doubled && i % 2 == 1) {
            (true, _) => 9.969_21e36,
            (false, true) if i > 0 && values[at - 1] < 1e30 => values[at - 1],
            _ => {
                20.0 - level as f32 * 1.5 + j as f32 * 0.01 * smooth + (numbers.next() >> 12) as f32 / (1 << 20) as f32
            }
        };
    }
    let layout = PlaneLayout { element: 4, row, level: rows * row };
    ((0..4).flat_map(|byte| values.iter().map(move |value| value.to_le_bytes()[byte])).collect(), layout)
}

#[test]
fn small_chunks_are_read_back() {
    let mut encoder = PlaneEncoder::new(5).unwrap();
    for length in (0..=17).chain([255, 256, 257, 511, 65_535, SMALLEST - 1]) {
        for kind in KINDS {
            checked(&mut encoder, &bytes(kind, length, 5, 1), PlaneLayout { element: 4, row: 5, level: 20 });
        }
    }
}

#[test]
fn chunks_of_every_kind_and_layout_are_read_back() {
    let mut encoder = PlaneEncoder::new(5).unwrap();
    for (seed, kind) in KINDS.into_iter().enumerate() {
        for (element, row, level) in
            [(2, 1, 1), (4, 45, 14_175), (4, 720, 259_200), (8, 90, 90), (4, 32_768, 32_769), (3, 7, 7)]
        {
            for length in [SMALLEST, SMALLEST + 1, 3 * SMALLEST + 24, 40_000 * element] {
                let plain = bytes(kind, length, row, seed as u64);
                checked(&mut encoder, &plain, PlaneLayout { element, row, level });
            }
        }
    }
}

#[test]
fn layouts_that_make_no_sense_do_no_harm() {
    let mut encoder = PlaneEncoder::new(5).unwrap();
    let plain = bytes("mixed", 100_000, 100, 3);
    for (element, row, level) in
        [(0, 0, 0), (1, 1, 1), (4, 0, 0), (4, usize::MAX, usize::MAX), (4, 200_000, 1), (100_000, 1, 2)]
    {
        checked(&mut encoder, &plain, PlaneLayout { element, row, level });
    }
}

#[test]
fn there_are_no_other_levels_than_those_of_libdeflate() {
    assert!(PlaneEncoder::new(-1).is_none() && PlaneEncoder::new(13).is_none());
}

#[test]
fn fields_are_no_larger_than_with_libdeflate_or_only_a_little() {
    let mut encoder = PlaneEncoder::new(5).unwrap();
    // Noise, a smooth field, and a field each value of which occurs twice.
    for (smooth, doubled, most) in [(1.0, false, 1.0), (1000.0, false, 1.015), (1.0, true, 1.015)] {
        let (plain, layout) = field(smooth, doubled);
        let (found, other) = (checked(&mut encoder, &plain, layout).len(), libdeflate(&plain, 5));
        assert!(found as f64 <= other as f64 * most, "{smooth} {doubled}: {found}, libdeflate {other}");
    }
}

#[test]
fn planes_that_repeat_at_any_distance_are_left_to_libdeflate() {
    // Words of 16 bytes out of a few, at random: nothing repeats at a fixed distance.
    let mut numbers = NumberStream(5);
    let words: Vec<Vec<u8>> = (0..50).map(|seed| bytes("noise", 16, 1, seed)).collect();
    let plain: Vec<u8> = (0..20_000).flat_map(|_| words[numbers.below(words.len())].clone()).collect();
    let stream = checked(&mut PlaneEncoder::new(5).unwrap(), &plain, PlaneLayout { element: 4, row: 100, level: 1000 });
    assert_eq!(stream.len(), libdeflate(&plain, 5));
}

/// SHA-256 of the streams of all kinds, see [`streams_have_these_bytes`].
const GOLDEN: &str = "dacc4af123f22a450c92259738e2369bb4b5f60c5c6725219100fe2d08109968";

/// The bytes do not depend on the processor, the system, or the way in which the encoder was compiled. If they change,
/// so do [`edp_encoder::VERSION`], and the output version of the mode that uses it.
#[test]
fn streams_have_these_bytes() {
    let mut encoder = PlaneEncoder::new(5).unwrap();
    let mut sha = Sha256::new();
    for kind in KINDS {
        let plain = bytes(kind, 200_000, 180, 9);
        sha.update(encoder.encode(&plain, PlaneLayout { element: 4, row: 180, level: 16_200 }));
    }
    for (smooth, doubled) in [(1.0, false), (1000.0, false), (1.0, true)] {
        let (plain, layout) = field(smooth, doubled);
        sha.update(encoder.encode(&plain, layout));
    }
    let found: String = sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((edp_encoder::VERSION, found.as_str()), (1, GOLDEN));
}

#[test]
fn an_encoder_keeps_nothing_of_the_chunks_before() {
    let mut used = PlaneEncoder::new(5).unwrap();
    for kind in KINDS {
        let plain = bytes(kind, 150_000, 33, 2);
        let layout = PlaneLayout { element: 4, row: 33, level: 330 };
        assert!(used.encode(&plain, layout) == PlaneEncoder::new(5).unwrap().encode(&plain, layout), "{kind}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn chunks_of_mixed_kinds_are_read_back(
        seed: u64, more in 0..150_000_usize, element in 2..9_usize, row in 1..2000_usize, levels in 1..200_usize,
    ) {
        let length = (SMALLEST + more) / element * element;
        let plain = bytes("mixed", length, row, seed);
        checked(&mut PlaneEncoder::new(5).unwrap(), &plain, PlaneLayout { element, row, level: row * levels });
    }
}
