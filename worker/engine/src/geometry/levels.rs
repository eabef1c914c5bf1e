//! Three-dimensional variables, compressed while their levels come.

use super::CODEC;
use crate::codec::CodecError;
use crate::granule::blocks::{Block, Element};
use crate::granule::chunk_shapes::chunk_shape;
use crate::granule::content::{Chunk, Chunked};
use crate::granule::stages::Stages;
use std::sync::Arc;

/// A variable whose first dimension is the level. No more levels are in memory than a chunk has.
pub(super) struct LevelEncoder<T> {
    shape: Vec<usize>,
    chunk: Vec<usize>,
    values: Vec<T>,
    /// Levels that are compressed.
    done: usize,
    chunks: Vec<Chunk>,
}

impl<T: Element + Default> LevelEncoder<T> {
    /// Returns an encoder for a variable of this shape.
    pub(super) fn new(shape: &[usize]) -> LevelEncoder<T> {
        LevelEncoder {
            shape: shape.to_vec(),
            chunk: chunk_shape(shape, T::SIZE),
            values: Vec::new(),
            done: 0,
            chunks: Vec::new(),
        }
    }

    /// Adds the values of a level.
    ///
    /// # Errors
    /// Returns an error if they cannot be compressed.
    pub(super) fn add(&mut self, level: impl IntoIterator<Item = T>) -> Result<(), CodecError> {
        self.values.extend(level);
        let plane: usize = self.shape[1..].iter().product();
        let levels = self.values.len() / plane.max(1);
        if levels < self.chunk[0] && self.done + levels < self.shape[0] {
            return Ok(());
        }
        let mut shape = self.shape.clone();
        shape[0] = levels;
        let mut origin = vec![0; shape.len()];
        origin[0] = self.done as u64;
        let block =
            Block { values: &self.values, shape: &shape, origin: &origin, chunk: &self.chunk, pad: T::default() };
        self.chunks.extend(CODEC.encode(&block, || (), &Stages::begin())?);
        self.done += levels;
        self.values.clear();
        Ok(())
    }

    /// Returns the chunks when all levels were added.
    pub(super) fn finish(self) -> Chunked {
        Chunked { chunks: Some(Arc::new(self.chunks)), ..CODEC.chunked(self.chunk) }
    }
}
