//! Shuffled chunks of granules, as they are before an encoder compresses them.

use edp_encoder::PlaneLayout;
use edp_engine::granule::chunks;
use edp_protocol::recipe::Recipe;
use libdeflater::Decompressor;
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

/// Returns the chunks of the fields of a granule.
///
/// # Panics
/// Panics if it cannot be read.
pub fn chunks_of(recipe: &Recipe) -> Vec<ShuffledChunk> {
    let names: Vec<&str> = recipe.variables.keys().map(String::as_str).collect();
    let path = Path::new(&recipe.granule);
    let file = File::open(path).expect("the file");
    let mut all = Vec::new();
    for layout in chunks::layouts(path, &names).expect("its layouts") {
        let shape: Vec<usize> = layout.chunk.iter().map(|length| *length as usize).collect();
        let element = layout.chunk_bytes as usize / shape.iter().product::<usize>();
        let plane_layout = PlaneLayout::of_chunk(&shape, element);
        for chunk in &layout.chunks {
            let mut stored = vec![0; chunk.size as usize];
            file.read_exact_at(&mut stored, chunk.address).expect("a chunk");
            let mut bytes = vec![0; layout.chunk_bytes as usize];
            Decompressor::new().zlib_decompress(&stored, &mut bytes).expect("a zlib stream");
            all.push(ShuffledChunk { bytes, layout: plane_layout });
        }
    }
    all
}
