//! Shuffled chunks of granules, as they are before an encoder compresses them.

use edp_encoder::PlaneLayout;
use edp_engine::granule::chunks;
use edp_protocol::recipe::Recipe;
use libdeflater::{CompressionLvl, Compressor, Decompressor};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// A shuffled chunk, and what its shape says about it.
#[derive(Debug)]
pub struct ShuffledChunk {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its layout.
    pub layout: PlaneLayout,
}

impl ShuffledChunk {
    /// Returns the size to which libdeflate compresses it.
    ///
    /// # Panics
    /// Panics if there is no such level.
    pub fn libdeflate(&self, level: i32) -> usize {
        let mut compressor = Compressor::new(CompressionLvl::new(level).expect("a level"));
        let mut room = vec![0; compressor.zlib_compress_bound(self.bytes.len())];
        compressor.zlib_compress(&self.bytes, &mut room).expect("room")
    }
}

/// Returns the chunks of the fields of a granule.
///
/// # Panics
/// Panics if it cannot be read.
pub fn chunks_of(recipe: &Recipe) -> Vec<ShuffledChunk> {
    let names: Vec<&str> = recipe.variables.keys().map(String::as_str).collect();
    chunks_in(Path::new(&recipe.granule), &names)
}

/// Returns the chunks of some variables of a file that are shuffled and deflated.
///
/// # Panics
/// Panics if they cannot be read.
pub fn chunks_in(path: &Path, names: &[&str]) -> Vec<ShuffledChunk> {
    let file = File::open(path).expect("the file");
    let mut all = Vec::new();
    for layout in chunks::layouts(path, names).expect("its layouts") {
        let shape: Vec<usize> = layout.chunk.iter().map(|length| *length as usize).collect();
        let level = shape.iter().skip_while(|length| **length == 1).skip(1).product();
        let element = layout.chunk_bytes as usize / shape.iter().product::<usize>();
        let row = *shape.last().expect("dimensions");
        for chunk in &layout.chunks {
            let mut stored = vec![0; chunk.size as usize];
            file.read_exact_at(&mut stored, chunk.address).expect("a chunk");
            let mut bytes = vec![0; layout.chunk_bytes as usize];
            Decompressor::new().zlib_decompress(&stored, &mut bytes).expect("a zlib stream");
            all.push(ShuffledChunk { bytes, layout: PlaneLayout { element, row, level } });
        }
    }
    all
}
