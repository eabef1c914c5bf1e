//! Filters and compressors of chunks: everything that depends on a compressor, from the configuration to the gate.
//!
//! ```text
//! configuration ─ CodecKeys ─▶ Codec ─ Encoder ─▶ bytes of chunks
//!                                ├─ define ─────▶ filters of a variable in the file
//!                                └─ filters ────▶ Filter: what the gate expects, and what a file has
//!                                                   └─ Decoder ─▶ whether chunks can be read
//! ```
//!
//! The bytes are those that HDF5's own filters would write, so that it is read back with filters that every reader has.
//! A compressor is a variant of [`Compressor`] and of [`Filter`], and a file beside this one; outside of this folder,
//! recipes name the encoder of fields, and the layout of chunks is passed on.

mod deflate;
mod keys;
mod planes;

pub use keys::CodecKeys;

use deflate::{Deflater, Inflater};
use edp_encoder::PlaneLayout;
use edp_protocol::FieldEncoder;
use hdf5_metno_sys::h5z;
use planes::PlaneDeflater;

/// Libraries that decide the bytes of chunks: their names, their crates in the workspace's lock file, and their
/// versions there.
pub(crate) const LIBRARIES: [(&str, &str, &str); 1] = [("libdeflate", "libdeflate-sys", deflate::VERSION)];

/// The encoders of this project that decide them, with their versions.
pub(crate) const ENCODERS: [(&str, u32); 1] = [("planes", planes::VERSION)];

/// Largest number of bytes to which any of these compressors expands a single byte. It limits what a file may claim to
/// hold.
pub(crate) const MOST_OF_ONE: u64 = deflate::MOST_OF_ONE;

/// The compressor of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compressor {
    /// Chunks are stored uncompressed.
    None,
    /// A zlib stream, at a level from 1 to 9.
    Deflate(u8),
    /// The same by the encoder for shuffled planes. The level is that of the planes that it leaves to libdeflate.
    Planes(u8),
}

/// The settings by which chunks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Codec {
    /// Compressor of the chunks.
    pub compressor: Compressor,
    /// True if bytes are shuffled before: all first bytes, then all second bytes, and so on.
    pub shuffle: bool,
}

/// A filter of a variable in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Bytes grouped by significance.
    Shuffle,
    /// A zlib stream of this level.
    Deflate(u32),
    /// A checksum (Fletcher-32) after the bytes.
    Fletcher32,
    /// Any other filter, by its registered number.
    Other(i32),
}

/// The reason why values could not be compressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The level is not one of zlib's.
    #[error(
        "there is no deflate level {0}: set netcdf4_compression_encodings.complevel in the configuration to a value \
         from 0 to 9"
    )]
    Level(u8),
    /// The compressor ran out of room, which cannot happen with the bound that it states itself.
    #[error("the compressor ran out of the room it asked for ({0} bytes)")]
    Room(usize),
    /// A chunk does not decompress to the bytes that were compressed.
    #[error(
        "a compressed chunk does not decompress to its values: memory or processor of this machine are damaged, or the \
         encoder has a defect; make the granule on another machine, and report it if that fails too"
    )]
    Differs,
}

/// Compresses chunks one after the other on one thread.
pub(crate) enum Encoder {
    Plain,
    Deflate(Deflater),
    Planes(PlaneDeflater),
}

impl Codec {
    /// The codec of uncompressed chunks.
    pub const PLAIN: Codec = Codec { compressor: Compressor::None, shuffle: false };

    /// Returns the codec of fields, if this is the one of the configuration, and the plan has chosen this encoder.
    /// Levels above [`planes::MOST_LEVEL`] ask for small files before fast encoding, and stay with libdeflate.
    #[must_use]
    pub(crate) fn of_fields(self, encoder: FieldEncoder) -> Codec {
        match (encoder, self.compressor) {
            (FieldEncoder::Planes, Compressor::Deflate(level)) if self.shuffle && level <= planes::MOST_LEVEL => {
                Codec { compressor: Compressor::Planes(level), ..self }
            }
            _ => self,
        }
    }

    /// Returns true if chunks are stored uncompressed.
    pub fn is_plain(&self) -> bool {
        self.compressor == Compressor::None
    }

    /// Returns the same codec without a shuffle that has no effect: uncompressed chunks are not shuffled.
    #[must_use]
    pub(crate) fn effective(self) -> Codec {
        if self.is_plain() { Codec::PLAIN } else { self }
    }

    /// Returns the filters that a variable with such chunks has in a file, in the order in which they are applied.
    pub fn filters(&self) -> Vec<Filter> {
        let compressed = match self.compressor {
            Compressor::None => return Vec::new(),
            Compressor::Deflate(level) | Compressor::Planes(level) => Filter::Deflate(level.into()),
        };
        self.shuffle.then_some(Filter::Shuffle).into_iter().chain([compressed]).collect()
    }

    /// Defines the filters of a variable in a file.
    pub(crate) fn define(&self, variable: &mut netcdf::VariableMut<'_>) -> netcdf::Result<()> {
        match self.compressor {
            Compressor::None => Ok(()),
            Compressor::Deflate(level) | Compressor::Planes(level) => {
                variable.set_compression(level.into(), self.shuffle)
            }
        }
    }

    /// Returns the encoder for a thread.
    ///
    /// # Errors
    /// Returns an error if the level does not exist.
    pub(crate) fn encoder(&self) -> Result<Encoder, CodecError> {
        Ok(match self.compressor {
            Compressor::None => Encoder::Plain,
            Compressor::Deflate(level) => Encoder::Deflate(Deflater::new(level)?),
            Compressor::Planes(level) => Encoder::Planes(PlaneDeflater::new(level)?),
        })
    }

    /// Returns an error if a compressed chunk does not decompress to these bytes.
    pub(crate) fn check(self, decoder: &mut Decoder, plain: &[u8], bytes: &[u8]) -> Result<(), CodecError> {
        let mut filters = self.filters().into_iter().filter(|filter| *filter != Filter::Shuffle);
        let Some(filter) = filters.next() else { return Ok(()) };
        let mut read = Vec::new();
        match decoder.decompress(filter, bytes, plain.len() as u64, &mut read) {
            Some(Ok(length)) if read[..length] == *plain => Ok(()),
            _ => Err(CodecError::Differs),
        }
    }

    /// Returns the largest size to which chunks of this size can be compressed: not all data become smaller.
    pub(crate) fn most_bytes(plain: u64) -> u64 {
        plain + plain / 500
    }

    /// Returns how many times the size of a chunk is taken while it is compressed: its values or their shuffled bytes,
    /// with those by which they are made, the compressed ones, and what an encoder notes about them.
    pub(crate) fn copies(&self) -> u64 {
        match self.compressor {
            Compressor::None | Compressor::Deflate(_) => 3,
            Compressor::Planes(_) => 4,
        }
    }

    /// Size in bytes of an encoder and small allocations.
    pub(crate) const ENCODER_MEMORY: u64 = 2 << 20;
}

impl Encoder {
    /// Compresses the bytes of a chunk of this layout.
    ///
    /// # Errors
    /// Returns an error if the compressor has no room.
    pub(crate) fn encode(&mut self, plain: Vec<u8>, layout: PlaneLayout) -> Result<Vec<u8>, CodecError> {
        match self {
            Encoder::Plain => Ok(plain),
            Encoder::Deflate(deflater) => deflater.compress(&plain),
            Encoder::Planes(planes) => Ok(planes.compress(&plain, layout)),
        }
    }
}

impl Filter {
    /// Returns the filter with this registered number and these values.
    pub(crate) fn of(id: h5z::H5Z_filter_t, values: &[u32]) -> Filter {
        match id {
            h5z::H5Z_FILTER_SHUFFLE => Filter::Shuffle,
            h5z::H5Z_FILTER_DEFLATE => Filter::Deflate(values.first().copied().unwrap_or_default()),
            h5z::H5Z_FILTER_FLETCHER32 => Filter::Fletcher32,
            id => Filter::Other(id),
        }
    }
}

/// Decompresses chunks, to check whether they can be read.
pub(crate) struct Decoder {
    inflater: Inflater,
}

impl Decoder {
    pub(crate) fn new() -> Decoder {
        Decoder { inflater: Inflater::new() }
    }

    /// Decompresses bytes to `wanted` bytes at the beginning of `out`. Returns `None` if the filter is not a
    /// compressor.
    ///
    /// # Errors
    /// Returns a description of the problem if the bytes are damaged, or give more or fewer bytes than are wanted.
    /// Nothing is allocated for what the bytes cannot hold.
    pub(crate) fn decompress(
        &mut self,
        filter: Filter,
        bytes: &[u8],
        wanted: u64,
        out: &mut Vec<u8>,
    ) -> Option<Result<usize, String>> {
        match filter {
            Filter::Deflate(_) => Some(self.inflater.inflate(bytes, wanted, out)),
            Filter::Shuffle | Filter::Fletcher32 | Filter::Other(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    /// One of each compressor.
    const ALL: [Codec; 4] = [
        Codec { compressor: Compressor::None, shuffle: true },
        Codec { compressor: Compressor::Deflate(1), shuffle: false },
        Codec { compressor: Compressor::Deflate(9), shuffle: true },
        Codec { compressor: Compressor::Planes(5), shuffle: true },
    ];

    #[test]
    fn what_is_encoded_is_decoded_and_no_larger_than_is_said() {
        let plain: Vec<u8> = (0..200_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for codec in ALL {
            let stored = codec
                .encoder()
                .unwrap()
                .encode(plain.clone(), PlaneLayout { element: 4, row: 100, level: 1000 })
                .unwrap();
            assert!(stored.len() as u64 <= Codec::most_bytes(plain.len() as u64), "{codec:?}: {}", stored.len());
            let mut bytes = stored.clone();
            for filter in codec.filters().into_iter().rev().filter(|filter| *filter != Filter::Shuffle) {
                let mut out = Vec::new();
                let length = Decoder::new().decompress(filter, &bytes, plain.len() as u64, &mut out).unwrap().unwrap();
                bytes = out[..length].to_vec();
                let damaged = [&[0xff_u8; 4][..], &stored].concat();
                assert!(Decoder::new().decompress(filter, &damaged, 9, &mut Vec::new()).unwrap().is_err(), "{codec:?}");
            }
            assert!(bytes == plain, "{codec:?}");
        }
    }

    #[test]
    fn a_chunk_that_changed_is_found() {
        let plain: Vec<u8> = (0..100_000_u32).map(|i| (i / 7) as u8).collect();
        for codec in ALL.into_iter().filter(|codec| !codec.is_plain()) {
            let layout = PlaneLayout { element: 4, row: 100, level: 1000 };
            let mut bytes = codec.encoder().unwrap().encode(plain.clone(), layout).unwrap();
            codec.check(&mut Decoder::new(), &plain, &bytes).unwrap();
            assert_eq!(codec.check(&mut Decoder::new(), &plain[1..], &bytes), Err(CodecError::Differs));
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            assert_eq!(codec.check(&mut Decoder::new(), &plain, &bytes), Err(CodecError::Differs));
        }
    }

    #[test]
    fn a_variable_gets_the_filters_that_the_gate_expects() {
        let directory = tempfile::tempdir().unwrap();
        for (at, codec) in ALL.into_iter().enumerate() {
            let path = directory.path().join(format!("{at}.nc"));
            let mut file = crate::libraries::create(&path).unwrap();
            file.add_dimension("x", 4).unwrap();
            let mut variable = file.add_variable::<f32>("v", &["x"]).unwrap();
            variable.set_chunking(&[4]).unwrap();
            codec.define(&mut variable).unwrap();
            file.close().unwrap();
            let layouts = crate::granule::chunks::layouts(&path, &["v"]).unwrap();
            assert_eq!(layouts[0].filters, codec.filters(), "{codec:?}");
        }
    }
}
