//! Details of a granule that was made, beyond what reports on whole productions need. They are packed, since there may
//! be a million of them.
//!
//! A blob is the length of a JSON text (4 bytes, little endian) and the deflated text. Chunks mostly follow each other
//! in a file, so each is written as the gap before it and its size.

use edp_protocol::wire::{ChunkPlaces, Done, InputRead, StageTotal};
use serde::{Deserialize, Serialize};

/// Largest size of a blob in bytes. A larger one is written without its chunks, and then without its inputs.
const MAX_BLOB: usize = 1 << 20;

/// Largest size in bytes of the text in a blob.
const MAX_TEXT: usize = 64 << 20;

/// The text of a blob, with short keys and without names of fields in lists.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Text {
    #[serde(rename = "l")]
    location: String,
    #[serde(rename = "s")]
    stages: Vec<(String, f64, u64)>,
    #[serde(rename = "i")]
    inputs: Vec<(String, u64, String)>,
    #[serde(rename = "c")]
    chunks: Vec<(String, Vec<i64>)>,
}

/// Packs the location of a granule, the durations of its stages, its inputs, and the places of its chunks.
pub(super) fn pack(done: &Done) -> Vec<u8> {
    let stages = done.stages.iter().map(|stage| (stage.name.clone(), stage.seconds, stage.bytes)).collect();
    let inputs = done.inputs.iter().map(|input| (input.path.clone(), input.size, input.sha256.clone())).collect();
    let chunks = done.chunks.iter().map(|chunks| (chunks.variable.clone(), gaps(&chunks.places))).collect();
    let mut text = Text { location: done.location.clone(), stages, inputs, chunks };
    let mut blob = deflate(&text);
    if blob.len() > MAX_BLOB {
        text.chunks.clear();
        blob = deflate(&text);
    }
    if blob.len() > MAX_BLOB {
        blob = deflate(&Text { location: text.location, ..Text::default() });
    }
    blob
}

/// Unpacks a blob; `None` if it is malformed.
pub(super) fn unpack(blob: &[u8]) -> Option<Done> {
    let (length, deflated) = blob.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|length| *length <= MAX_TEXT)?;
    let mut json = vec![0; length];
    let written = libdeflater::Decompressor::new().deflate_decompress(deflated, &mut json).ok()?;
    let text: Text = serde_json::from_slice(json.get(..written)?).ok()?;
    let stage = |(name, seconds, bytes)| StageTotal { name, seconds, bytes };
    let input = |(path, size, sha256)| InputRead { path, size, sha256 };
    Some(Done {
        location: text.location,
        stages: text.stages.into_iter().map(stage).collect(),
        inputs: text.inputs.into_iter().map(input).collect(),
        chunks: text
            .chunks
            .into_iter()
            .map(|(variable, gaps)| ChunkPlaces { variable, places: places(&gaps) })
            .collect(),
        ..Done::default()
    })
}

fn deflate(text: &Text) -> Vec<u8> {
    // Strings, finite numbers and lists can all be written as JSON.
    let json = serde_json::to_vec(text).unwrap_or_default();
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
    let mut blob = vec![0; 4 + compressor.deflate_compress_bound(json.len())];
    let (length, deflated) = blob.split_at_mut(4);
    length.copy_from_slice(&u32::try_from(json.len()).unwrap_or(u32::MAX).to_le_bytes());
    let written = compressor.deflate_compress(&json, deflated).unwrap_or_default();
    blob.truncate(4 + written);
    blob
}

/// Returns gap and size of each chunk. Offsets come from outside and may have any value, so the arithmetic wraps.
fn gaps(places: &[(u64, u64)]) -> Vec<i64> {
    let mut end = 0_u64;
    let mut gaps = Vec::with_capacity(2 * places.len());
    for &(offset, size) in places {
        gaps.extend([offset.wrapping_sub(end).cast_signed(), size.cast_signed()]);
        end = offset.wrapping_add(size);
    }
    gaps
}

fn places(gaps: &[i64]) -> Vec<(u64, u64)> {
    let mut end = 0_u64;
    let place = |pair: &[i64; 2]| {
        let (offset, size) = (end.wrapping_add(pair[0].cast_unsigned()), pair[1].cast_unsigned());
        end = offset.wrapping_add(size);
        (offset, size)
    };
    gaps.as_chunks::<2>().0.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_packed_comes_back(
            location in ".{0,40}",
            stages in vec((".{0,9}", 0.0..1e9, any::<u64>()), 0..6),
            inputs in vec((".{0,30}", any::<u64>(), "[0-9a-f]{64}"), 0..6),
            chunks in vec((".{0,9}", vec(any::<(u64, u64)>(), 0..9)), 0..4),
        ) {
            let done = Done {
                location,
                stages: stages.into_iter().map(|(name, seconds, bytes)| StageTotal { name, seconds, bytes }).collect(),
                inputs: inputs.into_iter().map(|(path, size, sha256)| InputRead { path, size, sha256 }).collect(),
                chunks: chunks.into_iter().map(|(variable, places)| ChunkPlaces { variable, places }).collect(),
                ..Done::default()
            };
            prop_assert_eq!(unpack(&pack(&done)).unwrap(), done);
        }

        #[test]
        fn no_blob_makes_it_panic(blob in vec(any::<u8>(), 0..200)) {
            let _ = unpack(&blob);
        }
    }

    /// Fifty levels of thirteen tiles, two variables: the chunks of the largest granules at LLC90.
    #[test]
    fn chunks_that_follow_each_other_take_little() {
        let mut offset = 20_000;
        let mut chunks = |variable: &str| {
            let place = |chunk: u64| {
                let size = 9_000 + chunk * 7919 % 5000;
                offset += size;
                (offset - size, size)
            };
            ChunkPlaces { variable: variable.into(), places: (0..650).map(place).collect() }
        };
        let done = Done { chunks: vec![chunks("THETA"), chunks("SALT")], ..Done::default() };
        let blob = pack(&done);
        assert!(blob.len() < 5000, "{}", blob.len());
        assert_eq!(unpack(&blob).unwrap(), done);
    }

    #[test]
    fn what_is_too_large_goes_without_its_details() {
        let mut digest = 1_u64;
        let mut hexadecimal = || {
            digest = digest.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            format!("{digest:016x}{:016x}", digest.rotate_left(17) ^ 0x5bd1_e995_aaaa_5555)
        };
        let input = |_| InputRead { path: hexadecimal(), size: 7, sha256: hexadecimal() };
        let done = Done { location: "x".into(), inputs: (0..60_000).map(input).collect(), ..Done::default() };
        let kept = unpack(&pack(&done)).unwrap();
        assert_eq!((kept.location.as_str(), kept.inputs.len()), ("x", 0));
    }
}
