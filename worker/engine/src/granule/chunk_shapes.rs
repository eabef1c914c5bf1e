//! The shapes of chunks.

use edp_protocol::ChunkShapes;

/// Upper limit of an uncompressed chunk in bytes: the default chunk size of netCDF-C 4.9.
pub(crate) const CHUNK_LIMIT: f64 = 16_777_216.0;

/// Upper limit of a chunk of whole planes in bytes, so that a reader of one map reads and decompresses little else.
const MAP_LIMIT: usize = 6 << 20;

/// Upper limit of a chunk of all levels in bytes: a reader of one profile needs a single chunk. It is larger if a
/// variable would have more chunks than [`MOST_COLUMNS`] or so.
const COLUMN_LIMIT: usize = 1 << 20;

/// Number of chunks of all levels that a variable has at most, about: reports of workers list the places of all chunks.
const MOST_COLUMNS: usize = 8192;

/// Returns the shape of the chunks of a field. `levels` is the position of the dimension of levels, if the field has
/// one; the dimensions after it are horizontal.
pub(crate) fn field_chunk(
    chunks: ChunkShapes,
    shape: &[usize],
    levels: Option<usize>,
    element_size: usize,
) -> Vec<usize> {
    match (chunks, levels) {
        (ChunkShapes::Maps, _) => map_chunk(shape, element_size),
        (ChunkShapes::Columns, Some(levels)) => column_chunk(shape, levels, element_size),
        (ChunkShapes::Edp, _) | (ChunkShapes::Columns, None) => chunk_shape(shape, element_size),
    }
}

/// Returns a shape of whole planes, as many as fit [`MAP_LIMIT`]. If a plane does not fit, it is cut into tiles, and
/// these into strips of rows. Along the dimension that is cut, all chunks are about as full.
fn map_chunk(shape: &[usize], element_size: usize) -> Vec<usize> {
    let mut chunk = vec![1; shape.len()];
    let mut bytes = element_size;
    for (length, &whole) in chunk.iter_mut().zip(shape).rev() {
        let count = whole.div_ceil((MAP_LIMIT / bytes).max(1)).max(1);
        *length = whole.div_ceil(count).max(1);
        if count > 1 {
            break;
        }
        bytes *= *length;
    }
    chunk
}

/// Returns a shape of all levels of a part of one plane or tile. The longer of its sides is halved until it fits
/// [`COLUMN_LIMIT`].
fn column_chunk(shape: &[usize], levels: usize, element_size: usize) -> Vec<usize> {
    let mut chunk = vec![1; shape.len()];
    chunk[levels] = shape[levels];
    let first = shape.len().saturating_sub(2).max(levels + 1);
    chunk[first..].copy_from_slice(&shape[first..]);
    let limit = COLUMN_LIMIT.max(shape.iter().product::<usize>() / MOST_COLUMNS * element_size);
    while chunk.iter().product::<usize>() * element_size > limit {
        // Of sides of equal length the first, so that rows stay long.
        let Some(longest) = chunk[first..].iter_mut().rev().max_by_key(|length| **length).filter(|length| **length > 1)
        else {
            break;
        };
        *longest = longest.div_ceil(2);
    }
    chunk
}

/// The chunk shape that netCDF-C 4.9 chooses for a variable of this shape: each dimension shrunk by the same
/// factor until a chunk fits [`CHUNK_LIMIT`], then evened out so that the last chunk is about as full as the others.
///
/// A field that fits is one chunk. LLC90 with 50 levels gives (1, 25, 7, 45, 45), half a degree (1, 25, 180, 360).
pub fn chunk_shape(shape: &[usize], element_size: usize) -> Vec<usize> {
    let bytes: f64 = shape.iter().map(|&length| length as f64).product::<f64>() * element_size as f64;
    let mut factor = libm::pow(CHUNK_LIMIT / bytes.max(1.0), 1.0 / shape.len().max(1) as f64);
    loop {
        let even = |&length: &usize| {
            let suggested = ((factor * length as f64 - 0.5).max(0.0) as usize).clamp(1, length.max(1));
            let count = length.div_ceil(suggested).max(1);
            suggested - (count * suggested - length) / count
        };
        let chunk: Vec<usize> = shape.iter().map(even).collect();
        // Short dimensions cannot be reduced below one element; on huge grids the others must make up for that.
        if chunk.iter().product::<usize>() * element_size <= CHUNK_LIMIT as usize {
            return chunk;
        }
        factor *= 0.9;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_shapes_are_those_of_netcdf_c() {
        for (shape, want) in [
            (vec![1, 360, 720], vec![1, 360, 720]),
            (vec![1, 13, 90, 90], vec![1, 13, 90, 90]),
            (vec![1, 50, 360, 720], vec![1, 25, 180, 360]),
            (vec![1, 50, 13, 90, 90], vec![1, 25, 7, 45, 45]),
            (vec![1, 50, 13, 270, 270], vec![1, 25, 7, 135, 135]),
        ] {
            assert_eq!(chunk_shape(&shape, 4), want);
        }
        let huge = chunk_shape(&[1, 90, 13, 4320, 4320], 4);
        assert!(huge.iter().product::<usize>() * 4 <= CHUNK_LIMIT as usize, "{huge:?}");
    }

    #[test]
    fn maps_are_whole_planes() {
        for (shape, want) in [
            (vec![1, 360, 720], vec![1, 360, 720]),
            (vec![1, 50, 360, 720], vec![1, 6, 360, 720]),
            (vec![1, 50, 13, 90, 90], vec![1, 13, 13, 90, 90]),
            (vec![50, 13, 90, 90], vec![13, 13, 90, 90]),
            (vec![1, 50, 13, 1080, 1080], vec![1, 1, 1, 1080, 1080]),
            (vec![1, 50, 13, 4320, 4320], vec![1, 1, 1, 360, 4320]),
        ] {
            let chunk = field_chunk(ChunkShapes::Maps, &shape, Some(shape.len().saturating_sub(4)), 4);
            assert_eq!(chunk, want);
            assert!(chunk.iter().product::<usize>() * 4 <= MAP_LIMIT);
        }
    }

    #[test]
    fn columns_have_all_levels() {
        for (shape, levels, want) in [
            (vec![1, 50, 360, 720], Some(1), vec![1, 50, 45, 90]),
            (vec![1, 50, 13, 90, 90], Some(1), vec![1, 50, 1, 45, 90]),
            (vec![90, 13, 1080, 1080], Some(0), vec![90, 1, 34, 68]),
            (vec![1, 360, 720], None, vec![1, 360, 720]),
            (vec![1, 90, 13, 4320, 4320], Some(1), vec![1, 90, 1, 135, 135]),
        ] {
            let chunk = field_chunk(ChunkShapes::Columns, &shape, levels, 4);
            assert_eq!(chunk, want);
            let count: usize = shape.iter().zip(&chunk).map(|(length, size)| length.div_ceil(*size)).product();
            assert!(count <= 4 * MOST_COLUMNS, "{count}");
        }
    }
}
