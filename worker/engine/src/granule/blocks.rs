//! The cutting of blocks of values into chunks, which are compressed on all cores.

use super::content::{Chunk, Chunked, Type};
use super::stages::{Stage, Stages};
use crate::codec::{Codec, CodecError, Decoder};
use edp_encoder::PlaneLayout;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A type of values that can be stored, as little-endian bytes.
pub trait Element: Copy + Send + Sync + 'static {
    /// The type in the file.
    const TYPE: Type;
    /// Size of one value in bytes.
    const SIZE: usize;
    /// Appends the bytes of `values`, each in little-endian order, and grouped by significance if `shuffle` is true.
    fn bytes(values: &[Self], shuffle: bool, out: &mut Vec<u8>);
}

macro_rules! element {
    ($type:ty, $name:ident) => {
        impl Element for $type {
            const TYPE: Type = Type::$name;
            const SIZE: usize = size_of::<$type>();

            fn bytes(values: &[Self], shuffle: bool, out: &mut Vec<u8>) {
                if shuffle {
                    for byte in 0..Self::SIZE {
                        out.extend(values.iter().map(|value| value.to_le_bytes()[byte]));
                    }
                } else {
                    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                }
            }
        }
    };
}
element!(f32, F32);
element!(f64, F64);
element!(i32, I32);
element!(i8, I8);

/// Values of a variable that cover whole chunks: every chunk that they touch ends in them or at the variable's edge.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a, T> {
    /// The values, of which the last dimension varies fastest.
    pub values: &'a [T],
    /// Number of values in each dimension.
    pub shape: &'a [usize],
    /// Index of the first value in the variable.
    pub origin: &'a [u64],
    /// The shape of chunks.
    pub chunk: &'a [usize],
    /// The value that pads chunks which extend beyond the edge.
    pub pad: T,
}

impl Codec {
    /// Compresses the chunks of a block, in row-major order. The time of each is added to `stages`. `spare_cores` is
    /// called when the last one is begun: from then on there is no work here for the other cores.
    ///
    /// # Errors
    /// Returns an error if the level does not exist.
    pub fn encode<T: Element>(
        &self,
        block: &Block<'_, T>,
        spare_cores: impl Fn() + Sync,
        stages: &Stages,
    ) -> Result<Vec<Chunk>, CodecError> {
        self.encode_checked(false, block, spare_cores, stages)
    }

    /// Does the same, and decompresses each chunk again if `check` is true.
    ///
    /// # Errors
    /// Returns an error if the level does not exist, or a chunk does not decompress to its values.
    pub(crate) fn encode_checked<T: Element>(
        &self,
        check: bool,
        block: &Block<'_, T>,
        spare_cores: impl Fn() + Sync,
        stages: &Stages,
    ) -> Result<Vec<Chunk>, CodecError> {
        let Block { values, shape, origin, chunk, pad } = *block;
        let codec = self.effective();
        // One for each thread that works here at the same time; the first shows that there is such a level.
        let encoders = Mutex::new(vec![codec.encoder()?]);
        let counts: Vec<usize> = shape.iter().zip(chunk).map(|(length, size)| length.div_ceil(*size)).collect();
        let total: usize = counts.iter().product();
        let begun = AtomicUsize::new(0);
        let layout = PlaneLayout::of_chunk(chunk, T::SIZE);
        let encode_one = |index: usize| {
            let first = first_element(index, &counts, chunk);
            let offset = first.iter().zip(origin).map(|(first, origin)| *first as u64 + origin).collect();
            let mut plain = Vec::with_capacity(chunk.iter().product::<usize>() * T::SIZE);
            T::bytes(&gather(values, shape, &first, chunk, pad), codec.shuffle, &mut plain);
            let kept = check.then(|| plain.clone());
            let free = encoders.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut encoder = free.map_or_else(|| codec.encoder(), Ok)?;
            let bytes = encoder.encode(plain, layout)?;
            encoders.lock().unwrap_or_else(PoisonError::into_inner).push(encoder);
            if let Some(plain) = kept {
                codec.check(&mut Decoder::new(), &plain, &bytes)?;
            }
            Ok(Chunk { offset, bytes })
        };
        let size = chunk.iter().product::<usize>() * T::SIZE;
        let timed = |index: usize| {
            if begun.fetch_add(1, Ordering::Relaxed) + 1 == total {
                spare_cores();
            }
            stages.time(Stage::Compress, size as u64, || encode_one(index))
        };
        (0..total).into_par_iter().map(timed).collect()
    }

    /// Compresses a whole variable into a single chunk, and decompresses it again: what is made in this way is made once.
    ///
    /// # Errors
    /// Returns the errors of [`Codec::encode`].
    pub(crate) fn encode_whole<T: Element>(
        &self,
        values: &[T],
        shape: &[usize],
        pad: T,
    ) -> Result<Chunked, CodecError> {
        let block = Block { values, shape, origin: &vec![0; shape.len()], chunk: shape, pad };
        let chunks = self.encode_checked(true, &block, || (), &Stages::begin())?;
        Ok(Chunked { chunks: Some(Arc::new(chunks)), ..self.chunked(shape.to_vec()) })
    }

    /// Returns the storage of a variable whose chunks have this shape and are made by this codec.
    pub(crate) fn chunked(&self, shape: Vec<usize>) -> Chunked {
        Chunked { shape, codec: self.effective(), chunks: None }
    }
}

/// Returns the index in each dimension of the first element of the chunk with the row-major number `index`.
fn first_element(mut index: usize, counts: &[usize], chunk: &[usize]) -> Vec<usize> {
    let mut first = vec![0; counts.len()];
    for d in (0..counts.len()).rev() {
        first[d] = index % counts[d] * chunk[d];
        index /= counts[d];
    }
    first
}

/// Returns the elements of one chunk, padded where it extends beyond `shape`.
fn gather<T: Copy>(values: &[T], shape: &[usize], first: &[usize], chunk: &[usize], pad: T) -> Vec<T> {
    let mut out = vec![pad; chunk.iter().product()];
    let Some(last) = shape.len().checked_sub(1) else {
        out.copy_from_slice(values);
        return out;
    };
    let run = chunk[last].min(shape[last] - first[last]);
    let rows: usize = chunk[..last].iter().product();
    for row in 0..rows {
        // Position of this row of the chunk in the block. Rows outside keep the padding.
        let (mut rest, mut stride, mut at) = (row, shape[last], first[last]);
        let mut inside = true;
        for d in (0..last).rev() {
            let position = first[d] + rest % chunk[d];
            rest /= chunk[d];
            inside &= position < shape[d];
            at += position * stride;
            stride *= shape[d];
        }
        if inside {
            let start = row * chunk[last];
            out[start..start + run].copy_from_slice(&values[at..at + run]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::codec::Compressor;

    #[test]
    fn chunks_hold_the_values_shuffled_and_deflated() {
        let shape = [3, 5, 4];
        let values: Vec<f32> = (0..60).map(|i| i as f32 * 1.5 - 7.0).collect();
        let codec = Codec { compressor: Compressor::Deflate(5), shuffle: true };
        let block = Block { values: &values, shape: &shape, origin: &[6, 0, 0], chunk: &[2, 3, 4], pad: -1.0 };
        let called = AtomicUsize::new(0);
        let spare_cores = || {
            called.fetch_add(1, Ordering::Relaxed);
        };
        let chunks = codec.encode(&block, spare_cores, &Stages::begin()).unwrap();
        assert_eq!(called.into_inner(), 1, "once, whatever order the chunks are begun in");
        let offsets: Vec<_> = chunks.iter().map(|c| c.offset.clone()).collect();
        assert_eq!(offsets, [[6, 0, 0], [6, 3, 0], [8, 0, 0], [8, 3, 0]]);
        for chunk in &chunks {
            let mut plain = vec![0; 24 * 4];
            let n = libdeflater::Decompressor::new().zlib_decompress(&chunk.bytes, &mut plain).unwrap();
            assert_eq!(n, plain.len());
            for i in 0..24 {
                let got = f32::from_le_bytes([plain[i], plain[24 + i], plain[48 + i], plain[72 + i]]);
                let (z, y, x) = (chunk.offset[0] as usize - 6 + i / 12, chunk.offset[1] as usize + i / 4 % 3, i % 4);
                let want = if z < 3 && y < 5 { values[(z * 5 + y) * 4 + x] } else { -1.0 };
                assert_eq!(got, want, "at {z} {y} {x}");
            }
        }
    }

    #[test]
    fn without_level_chunks_are_plain() {
        let codec = Codec { compressor: Compressor::None, shuffle: true };
        let chunked = codec.encode_whole(&[1i32, -2], &[2], 0).unwrap();
        assert_eq!(chunked.chunks.unwrap()[0].bytes, [1, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff]);
        assert!(!chunked.codec.shuffle);
        let none = Codec { compressor: Compressor::Deflate(10), shuffle: true };
        assert_eq!(none.encode_whole(&[1i32], &[1], 0), Err(CodecError::Level(10)));
    }

    #[test]
    fn layouts_have_the_rows_and_levels_of_chunks() {
        for (chunk, row, level) in [
            (vec![1, 25, 7, 45, 45], 45, 7 * 45 * 45),
            (vec![1, 25, 180, 360], 360, 180 * 360),
            (vec![1, 13, 90, 90], 90, 90 * 90),
            (vec![1, 360, 720], 720, 720),
            (vec![1, 1], 1, 1),
            (vec![], 1, 1),
        ] {
            assert_eq!(PlaneLayout::of_chunk(&chunk, f64::SIZE), PlaneLayout { element: 8, row, level }, "{chunk:?}");
        }
    }
}
