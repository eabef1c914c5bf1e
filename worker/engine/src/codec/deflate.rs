//! zlib streams, by libdeflate.

use super::CodecError;
use libdeflater::{CompressionLvl, Compressor, DecompressionError, Decompressor};

/// Version of the crate that contains libdeflate, in the workspace's lock file.
pub(super) const VERSION: &str = "1.26.1";

/// Largest number of bytes to which deflate expands a single byte.
pub(super) const MOST_OF_ONE: u64 = 1032;

/// A compressor of zlib streams.
pub(crate) struct Deflater(Compressor);

impl Deflater {
    /// Returns a compressor of this level.
    ///
    /// # Errors
    /// Returns an error if there is no such level.
    pub(super) fn new(level: u8) -> Result<Deflater, CodecError> {
        // The library knows levels that zlib does not have; and for level 0 the netCDF library defines no filter.
        let known = (1..=9).contains(&level).then(|| CompressionLvl::new(level.into()).ok()).flatten();
        Ok(Deflater(Compressor::new(known.ok_or(CodecError::Level(level))?)))
    }

    pub(super) fn compress(&mut self, plain: &[u8]) -> Result<Vec<u8>, CodecError> {
        let mut bytes = vec![0; self.0.zlib_compress_bound(plain.len())];
        let room = CodecError::Room(bytes.len());
        let length = self.0.zlib_compress(plain, &mut bytes).map_err(|_| room)?;
        bytes.truncate(length);
        bytes.shrink_to_fit();
        Ok(bytes)
    }
}

/// A decompressor of zlib streams.
pub(super) struct Inflater(Decompressor);

impl Inflater {
    pub(super) fn new() -> Inflater {
        Inflater(Decompressor::new())
    }

    /// Decompresses bytes as described at [`Decoder::decompress`](super::Decoder::decompress).
    pub(super) fn inflate(&mut self, bytes: &[u8], wanted: u64, out: &mut Vec<u8>) -> Result<usize, String> {
        if wanted / MOST_OF_ONE > bytes.len() as u64 {
            return Err(format!("is too short to hold {wanted} bytes"));
        }
        let wanted = usize::try_from(wanted).map_err(|_| "is too large")?;
        out.try_reserve_exact(wanted.saturating_sub(out.len())).map_err(|_| "is too large")?;
        out.resize(wanted.max(out.len()), 0);
        match self.0.zlib_decompress(bytes, &mut out[..wanted]) {
            Ok(found) if found == wanted => Ok(wanted),
            Ok(found) => Err(format!("has {found} bytes, not {wanted}")),
            Err(DecompressionError::InsufficientSpace) => Err(format!("has more than {wanted} bytes")),
            Err(DecompressionError::BadData) => Err("is damaged".into()),
        }
    }
}
