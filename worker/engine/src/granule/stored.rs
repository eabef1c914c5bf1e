//! The check whether the stored values of variables can be read: every chunk is decompressed, without the libraries
//! that read the files.

use super::chunks::{Layout, Stored};
use crate::codec::{Decoder, Filter};

/// Checks the stored values of variables, by the bytes of their file and their layouts in it. Returns descriptions of
/// the problems.
///
/// Every chunk that the shape requires must exist once, and inflate to exactly the size of a chunk; checksums that are
/// stored with it (Adler-32 of zlib, Fletcher-32 of HDF5) must agree. Values that are stored in one contiguous block
/// must lie within the file, and are read.
pub fn check(file: &[u8], names: &[String], layouts: &[Layout]) -> Vec<String> {
    let mut checker = ChunkChecker { decoder: Decoder::new(), bytes: [Vec::new(), Vec::new()] };
    let mut problems = Vec::new();
    for (name, layout) in names.iter().zip(layouts) {
        if let Some((address, size)) = layout.block
            && part(file, address, size).is_none_or(|bytes| !was_read(bytes))
        {
            problems.push(format!("{name}: its values lie beyond the end of the file"));
        }
        problems.extend(layout.missing().map(|what| format!("{name}: {what}")));
        let mut bad = 0;
        let mut first = None;
        for chunk in &layout.chunks {
            if let Err(why) = checker.check(file, layout, chunk) {
                bad += 1;
                first.get_or_insert_with(|| format!("the one at {:?} {why}", chunk.offset));
            }
        }
        if let Some(first) = first {
            problems.push(format!("{name}: {bad} of {} chunks cannot be read: {first}", layout.chunks.len()));
        }
    }
    problems
}

/// Reads a byte of every page, so that storage that cannot give them is noticed. Always returns true.
fn was_read(bytes: &[u8]) -> bool {
    let sum = bytes.iter().step_by(4096).fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    std::hint::black_box(sum);
    true
}

fn part(file: &[u8], address: u64, size: u64) -> Option<&[u8]> {
    let (start, end) = (usize::try_from(address).ok()?, usize::try_from(address.checked_add(size)?).ok()?);
    file.get(start..end)
}

struct ChunkChecker {
    decoder: Decoder,
    /// Room for a chunk before and after a filter.
    bytes: [Vec<u8>; 2],
}

impl ChunkChecker {
    /// Undoes the filters of a chunk but for the shuffle, which changes no sizes.
    fn check(&mut self, file: &[u8], layout: &Layout, chunk: &Stored) -> Result<(), String> {
        let stored = part(file, chunk.address, chunk.size).ok_or("lies beyond the end of the file")?;
        let applied = |at: usize| at >= 32 || chunk.filter_mask >> at & 1 == 0;
        let filters: Vec<Filter> =
            layout.filters.iter().enumerate().filter(|(at, _)| applied(*at)).map(|(_, filter)| *filter).collect();
        let sum_size = |filters: &[Filter]| 4 * filters.iter().filter(|f| **f == Filter::Fletcher32).count() as u64;
        let [inflated, other] = &mut self.bytes;
        let mut is_inflated = false;
        let mut length = stored.len();
        for (at, filter) in filters.iter().enumerate().rev() {
            let bytes = if is_inflated { &inflated[..length] } else { &stored[..length] };
            match filter {
                Filter::Shuffle => {}
                Filter::Fletcher32 => {
                    let (values, sum) = bytes.split_last_chunk::<4>().ok_or("is shorter than its check sum")?;
                    if u32::from_le_bytes(*sum) != fletcher32(values) {
                        return Err("does not have its check sum".into());
                    }
                    length = values.len();
                }
                filter => {
                    let wanted = layout.chunk_bytes + sum_size(&filters[..at]);
                    length = match (self.decoder.decompress(*filter, bytes, wanted, other), filter) {
                        (Some(decompressed), _) => decompressed?,
                        (None, Filter::Other(number)) => {
                            return Err(format!("has the filter {number}, which granules do not use"));
                        }
                        (None, filter) => return Err(format!("has the filter {filter:?}, which granules do not use")),
                    };
                    std::mem::swap(inflated, other);
                    is_inflated = true;
                }
            }
        }
        if length as u64 != layout.chunk_bytes {
            return Err(format!("has {length} bytes, not {}", layout.chunk_bytes));
        }
        if !is_inflated {
            was_read(&stored[..length]);
        }
        Ok(())
    }
}

/// Returns the checksum of HDF5's filter: of pairs of bytes in big-endian order, with a single last byte if their
/// number is odd.
fn fletcher32(bytes: &[u8]) -> u32 {
    let (mut low, mut high) = (0_u32, 0_u32);
    let (pairs, rest) = bytes.as_chunks::<2>();
    for pairs in pairs.chunks(360) {
        for pair in pairs {
            low += u32::from(u16::from_be_bytes(*pair));
            high += low;
        }
        low = (low & 0xffff) + (low >> 16);
        high = (high & 0xffff) + (high >> 16);
    }
    if let [last] = rest {
        low += u32::from(*last) << 8;
        high += low;
        low = (low & 0xffff) + (low >> 16);
        high = (high & 0xffff) + (high >> 16);
    }
    low = (low & 0xffff) + (low >> 16);
    high = (high & 0xffff) + (high >> 16);
    high << 16 | low
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::super::file::tests::{sample, write};
    use super::*;
    use crate::reader::image::Image;
    use std::fs::{self, File};
    use std::path::Path;

    fn problems(path: &Path, names: &[&str]) -> Vec<String> {
        let image = Image::map(&File::open(path).unwrap()).unwrap();
        let layouts = image.layouts(names).unwrap();
        check(image.bytes(), &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), &layouts)
    }

    fn layout(path: &Path, name: &str) -> Layout {
        Image::map(&File::open(path).unwrap()).unwrap().layouts(&[name]).unwrap().remove(0)
    }

    fn inflated(bytes: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        Decoder::new().decompress(Filter::Deflate(5), bytes, 48, &mut all).unwrap().unwrap();
        all
    }

    #[test]
    fn every_changed_byte_of_a_chunk_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.nc");
        write(&path, &sample()).unwrap();
        assert_eq!(problems(&path, &["time", "SSH"]), Vec::<String>::new());
        let layout = layout(&path, "SSH");
        assert_eq!((layout.chunks.len(), layout.chunk_bytes), (4, 48));
        let good = fs::read(&path).unwrap();
        let chunk = &layout.chunks[1];
        let stored = chunk.address as usize..(chunk.address + chunk.size) as usize;
        for at in stored.clone() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x40;
            fs::write(&path, &bytes).unwrap();
            let found = problems(&path, &["time", "SSH"]);
            let start = format!("SSH: 1 of 4 chunks cannot be read: the one at {:?} ", chunk.offset);
            // some bits have no influence: those that fill up the last byte of a block, and the level in the header
            let same = || inflated(&bytes[stored.clone()]) == inflated(&good[stored.clone()]);
            let told = found.len() == 1 && found[0].starts_with(&start);
            assert!(told || (found.is_empty() && same()), "{at}: {found:?}");
        }
        let mut bytes = good.clone();
        bytes[stored].fill(0);
        fs::write(&path, &bytes).unwrap();
        assert_eq!(problems(&path, &["SSH"]).len(), 1);
    }

    #[test]
    fn plain_blocks_and_chunks_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.nc");
        let mut file = netcdf::create(&path).unwrap();
        file.add_dimension("x", 1000).unwrap();
        let values = roots();
        for name in ["plain", "chunked"] {
            let mut variable = file.add_variable::<f32>(name, &["x"]).unwrap();
            if name == "chunked" {
                variable.set_chunking(&[300]).unwrap();
            }
            variable.put_values(&values, ..).unwrap();
        }
        drop(file);
        let names = ["plain", "chunked"];
        assert_eq!(problems(&path, &names), Vec::<String>::new());
        let good = fs::read(&path).unwrap();
        let (start, size) = layout(&path, "plain").block.unwrap();
        let cut = Layout { block: Some((start, good.len() as u64)), ..Layout::default() };
        assert_eq!(size, 4000);
        assert_eq!(check(&good, &["plain".into()], &[cut]), ["plain: its values lie beyond the end of the file"]);
        let mut short = layout(&path, "chunked");
        short.chunks[3].size -= 4;
        let found = check(&good, &["chunked".into()], &[short]);
        assert_eq!(found, ["chunked: 1 of 4 chunks cannot be read: the one at [900] has 1196 bytes, not 1200"]);
    }

    fn roots() -> Vec<f32> {
        (0..1000_u16).map(|x| f32::from(x).sqrt()).collect()
    }

    #[test]
    fn check_sums_are_those_of_hdf5() {
        // as HDF5 has stored it with these bytes
        assert_eq!(fletcher32(&[1, 2, 3, 4, 5, 6, 7]).to_le_bytes(), [12, 16, 32, 30]);
        let bytes: Vec<u8> = roots().iter().flat_map(|root| root.to_le_bytes()).collect();
        assert_eq!(fletcher32(&bytes).to_le_bytes(), [212, 225, 150, 168]);

        let summed = [bytes.as_slice(), &[212, 225, 150, 168]].concat();
        let mut file = vec![0; 5000];
        let size = libdeflater::Compressor::default().zlib_compress(&summed, &mut file).unwrap() as u64;
        let stored = Stored { offset: vec![0], address: 0, size, filter_mask: 0 };
        let layout = Layout {
            filters: vec![Filter::Fletcher32, Filter::Deflate(6)],
            chunks: vec![stored],
            shape: vec![1000],
            chunk: vec![1000],
            chunk_bytes: 4000,
            block: None,
        };
        assert_eq!(check(&file, &["x".into()], std::slice::from_ref(&layout)), Vec::<String>::new());
        let mut plain = Layout { filters: vec![Filter::Shuffle, Filter::Fletcher32], ..layout };
        plain.chunks[0].size = 4004;
        assert_eq!(check(&summed, &["x".into()], std::slice::from_ref(&plain)), Vec::<String>::new());
        let mut wrong = summed.clone();
        wrong[7] ^= 1;
        let found = check(&wrong, &["x".into()], std::slice::from_ref(&plain));
        assert!(found[0].ends_with("the one at [0] does not have its check sum"), "{found:?}");
        plain.chunks[0].filter_mask = 2; // the checksum was not applied, and its bytes are too many
        assert!(check(&wrong, &["x".into()], &[plain])[0].ends_with("has 4004 bytes, not 4000"));
    }

    #[test]
    fn sizes_are_not_believed() {
        let stored = Stored { offset: vec![0], address: 0, size: 11, filter_mask: 0 };
        let layout = Layout {
            filters: vec![Filter::Deflate(5)],
            chunks: vec![stored],
            shape: vec![1 << 40],
            chunk: vec![1 << 40],
            chunk_bytes: 1 << 42,
            block: None,
        };
        let file = [0x78, 0x9c, 3, 0, 0, 0, 0, 1, 0, 0, 0];
        let found = check(&file, &["x".into()], std::slice::from_ref(&layout));
        assert!(found.len() == 1 && found[0].contains("is too short to hold 4398046511104 bytes"), "{found:?}");
        let other = Layout { filters: vec![Filter::Other(32015)], chunk_bytes: 11, ..layout.clone() };
        assert!(check(&file, &["x".into()], &[other])[0].contains("the filter 32015"));
        let far = Stored { address: u64::MAX, ..layout.chunks[0].clone() };
        let far = Layout { chunks: vec![far], chunk_bytes: 11, ..layout };
        assert!(check(&file, &["x".into()], &[far])[0].contains("lies beyond the end of the file"));
    }
}
