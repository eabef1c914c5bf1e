//! zlib streams, by the encoder for shuffled planes.

use super::CodecError;
use edp_encoder::{PlaneEncoder, PlaneLayout};

/// Version of the encoder.
pub(super) const VERSION: u32 = edp_encoder::VERSION;

/// The highest level at which fields are encoded by it.
pub(super) const MOST_LEVEL: u8 = 6;

/// A compressor of zlib streams.
pub(crate) struct PlaneDeflater(Box<PlaneEncoder>);

impl PlaneDeflater {
    /// Returns a compressor that leaves planes to libdeflate at this level.
    ///
    /// # Errors
    /// Returns an error if there is no such level.
    pub(super) fn new(level: u8) -> Result<PlaneDeflater, CodecError> {
        let known = (1..=MOST_LEVEL).contains(&level).then(|| PlaneEncoder::new(level.into())).flatten();
        known.map(|encoder| PlaneDeflater(Box::new(encoder))).ok_or(CodecError::Level(level))
    }

    pub(super) fn compress(&mut self, plain: &[u8], layout: PlaneLayout) -> Vec<u8> {
        let mut bytes = self.0.encode(plain, layout);
        bytes.shrink_to_fit();
        bytes
    }
}
