//! An encoder of zlib streams for the chunks of gridded fields whose bytes were shuffled.
//!
//! The shuffle of HDF5 groups the bytes of values by significance: a chunk becomes planes, one for each byte of a
//! value. The planes of low significance are noise over the ocean, and fill bytes over land. A general compressor
//! searches all of this for repeats at any distance, and finds little that is not one byte or one row before. This
//! encoder only looks there:
//!
//! ```text
//! chunk ─▶ planes ─ repeats: bits at fixed distances ─┐
//!                  ─ pairs: "aabb" at any distance ───┤
//!                                                     ▼
//!                              parse: literals and matches, in segments
//!                                                     │
//!                           trial: is libdeflate better at this plane? ── yes ─▶ libdeflate, to the end
//!                                                     │ no
//!                                                     ▼
//!                    block: segments merged, Huffman codes, bits ─▶ zlib stream
//! ```
//!
//! Planes of smooth fields have repeats at hundreds of distances, and a general compressor is better at them. The trial
//! decides this on the data, plane by plane: from the first plane on that libdeflate makes smaller, it gets the rest of
//! the chunk.
//!
//! The bytes of a stream are a function of the bytes of the chunk and of its [`PlaneLayout`] alone: all arithmetic is
//! by integers, and no decision depends on the processor or on time. They are an ordinary zlib stream (RFC 1950, RFC
//! 1951) for any reader.
//!
//! ```
//! use edp_encoder::{PlaneEncoder, PlaneLayout};
//! // A chunk of 120 by 250 values of four bytes.
//! let plain: Vec<u8> = (0..120_000_u32).map(|i| (i % 250 * (i / 30_000)) as u8).collect();
//! let layout = PlaneLayout { element: 4, row: 250, level: 30_000 };
//! let stream = PlaneEncoder::new(5).ok_or("there is no such level")?.encode(&plain, layout);
//! let mut read = vec![0; plain.len()];
//! libdeflater::Decompressor::new().zlib_decompress(&stream, &mut read)?;
//! assert_eq!(read, plain);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bits;
mod block;
mod counts;
mod huffman;
mod logarithm;
mod pairs;
mod parse;
mod repeats;
mod symbols;
mod trial;

use bits::BitWriter;
use libdeflater::{CompressionLvl, Compressor};
use parse::{BytePlane, Matches, Parsed};
use trial::Trial;

/// What the dimensions of a chunk say about where its bytes repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaneLayout {
    /// Number of bytes of a value, which is also that of the planes: 2 to 8, or the chunk is left to libdeflate.
    pub element: usize,
    /// Number of values in a row: the length of the last dimension.
    pub row: usize,
    /// Number of values in a level: the product of all dimensions after that of the levels.
    pub level: usize,
}

/// Version of the encoder. It changes when any stream does.
pub const VERSION: u32 = 1;

/// Chunks with fewer bytes are left to libdeflate: there, the trial would cost more than it saves.
pub const SMALLEST: usize = 64 << 10;

/// The first bytes of a stream: deflate with a window of 32 KiB, compressed fast.
const ZLIB_HEADER: [u8; 2] = [0x78, 0x5e];

/// Numbers of bytes of the segments of planes that are noise, of the last plane but one, and of the last. Where the
/// bytes change their character more often, shorter segments find the boundaries better.
const SEGMENTS: [usize; 3] = [32 << 10, 8 << 10, 16 << 10];

/// Compresses chunks one after the other on one thread.
pub struct PlaneEncoder {
    libdeflate: Compressor,
    matches: Matches,
    parsed: Parsed,
    trial: Trial,
}

impl PlaneEncoder {
    /// Returns an encoder that leaves planes to libdeflate at this level, from 0 to 12, or `None` if there is no such
    /// level. It keeps memory for the positions and sequences of the largest plane that it has encoded: at most four
    /// bytes for each of its bytes, which is as much as a chunk of four planes has.
    pub fn new(level: i32) -> Option<PlaneEncoder> {
        Some(PlaneEncoder {
            libdeflate: Compressor::new(CompressionLvl::new(level).ok()?),
            matches: Matches::default(),
            parsed: Parsed::default(),
            trial: Trial::default(),
        })
    }

    /// Compresses a shuffled chunk into a zlib stream.
    pub fn encode(&mut self, plain: &[u8], layout: PlaneLayout) -> Vec<u8> {
        let mut out = BitWriter::after(ZLIB_HEADER.to_vec());
        let own = if layout.is_worth_planes(plain.len()) { self.write_planes(plain, layout, &mut out) } else { 0 };
        if own < plain.len() || plain.is_empty() {
            self.write_rest(&plain[own..], &mut out);
        }
        let mut bytes = out.finish();
        bytes.extend(simd_adler32::adler32(&plain).to_be_bytes());
        bytes
    }

    /// Writes the planes that are encoded here. Returns the number of their bytes: the others are left to libdeflate.
    fn write_planes(&mut self, plain: &[u8], layout: PlaneLayout, out: &mut BitWriter) -> usize {
        let PlaneLayout { element, .. } = layout;
        let length = plain.len() / element;
        self.matches.pairs.clear();
        for plane in 0..element {
            let start = plane * length;
            let is_last = plane + 1 == element;
            self.matches.find(plain, start, length, &layout.distances(is_last));
            let segment = SEGMENTS[(plane + SEGMENTS.len()).saturating_sub(element)];
            self.parsed.clear();
            self.parsed.parse(&BytePlane { data: plain, start, length, segment }, &self.matches);
            if self.trial.is_better_elsewhere(plain, &self.parsed) {
                return start;
            }
            block::write(plain, &self.parsed, is_last, out);
        }
        plain.len()
    }

    /// Writes the rest of a stream with libdeflate.
    fn write_rest(&mut self, rest: &[u8], out: &mut BitWriter) {
        if out.is_amid_bits() {
            // An empty stored block ends at a whole byte, where other bytes can follow.
            block::write_stored(&[], false, out);
        }
        let room = self.libdeflate.deflate_compress_bound(rest.len());
        let libdeflate = &mut self.libdeflate;
        if out.extend_by(room, |room| libdeflate.deflate_compress(rest, room).ok()).is_none() {
            // It states itself how much room it needs, so that this does not happen.
            block::write_stored(rest, true, out);
        }
    }
}

impl PlaneLayout {
    /// Returns the layout of chunks of this shape, of values of this size in bytes. The first dimension that has a length is
    /// that of the levels, or of a field without levels that of the tiles or rows, which are as good.
    pub fn of_chunk(shape: &[usize], element: usize) -> PlaneLayout {
        let level = shape.iter().skip_while(|length| **length == 1).skip(1).product();
        PlaneLayout { element, row: shape.last().copied().unwrap_or(1), level }
    }

    /// Returns true if a chunk of this size has planes, and is not too small or too large for them.
    fn is_worth_planes(&self, size: usize) -> bool {
        size >= SMALLEST
            && u32::try_from(size).is_ok()
            && (2..=8).contains(&self.element)
            && size.is_multiple_of(self.element)
    }

    /// Returns the distances at which the bytes of a plane are expected to repeat: the next byte, the next row, and for the
    /// most significant plane the next level.
    fn distances(&self, is_last: bool) -> Vec<usize> {
        let mut distances = vec![1];
        for distance in [Some(self.row), is_last.then_some(self.level)].into_iter().flatten() {
            if distance <= symbols::FARTHEST && distances.last().is_some_and(|&last| last < distance) {
                distances.push(distance);
            }
        }
        debug_assert!(distances.len() <= parse::MOST_DISTANCES);
        distances
    }
}
