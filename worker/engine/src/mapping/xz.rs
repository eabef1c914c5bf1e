//! Unpacks XZ files within limits.

use std::io::Read;
use std::path::Path;

use edp_files::Files;
use edp_protocol::Digest;
use liblzma::stream::{Action, CONCATENATED, Error as XzError, Status, Stream};

use super::MappingError;
use super::pickle::{PickleDocument, PickleError};

/// Number of bytes of memory that the decoder may take: the dictionary of the highest preset (64 MiB) and some more.
const DECODER_MEMORY: u64 = 96 << 20;
/// Smallest number of bytes by which the output grows.
const STEP: usize = 1 << 16;

/// A file of the mapping factors, the way in which it is opened, and its expected digest if known.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExpectedFile<'a> {
    pub(super) file: &'a Path,
    pub(super) files: &'a Files,
    pub(super) seal: Option<&'a Digest>,
}

/// Reads a whole file.
///
/// # Errors
///
/// Returns an error if the file cannot be read, or if it has more than `limit` bytes (which is found before anything of
/// that size is allocated).
pub(super) fn read_file(source: ExpectedFile<'_>, limit: usize) -> Result<Vec<u8>, MappingError> {
    let ExpectedFile { file, files, seal } = source;
    let io = |action| move |source| MappingError::Io { file: file.to_owned(), action, source };
    let too_large =
        || MappingError::TooLarge { file: file.to_owned(), what: "the file".to_owned(), limit: limit as u64 };
    let handle = files.open(file).map_err(io("open"))?;
    let size = handle.metadata().map_err(io("read"))?.len();
    if size > limit as u64 {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // The size may have changed in the meantime, so reading stops at the limit.
    handle.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(io("read"))?;
    if bytes.len() > limit {
        return Err(too_large());
    }
    match seal {
        Some(seal) if Digest::of(&bytes) != *seal => Err(MappingError::Changed { file: file.to_owned() }),
        _ => Ok(bytes),
    }
}

/// Unpacks an XZ file in memory. `file` is used in error messages only. Before room for more output is made, `look` is
/// given the output so far and may refuse it: a few bytes can unpack to gigabytes of zeros.
///
/// Streams may follow one another, as the format allows; everything else after the last stream is an error.
///
/// # Errors
///
/// Returns [`MappingError::Xz`] if the data are damaged, cut short or followed by other bytes;
/// [`MappingError::TooLarge`] if they unpack to more than `limit` bytes; and the errors of `look`.
pub(super) fn unpack(
    file: &Path,
    packed: &[u8],
    limit: usize,
    look: impl Fn(&[u8]) -> Result<(), MappingError>,
) -> Result<Vec<u8>, MappingError> {
    let bad = |error: XzError| MappingError::Xz { file: file.to_owned(), reason: reason(&error) };
    let mut stream = Stream::new_stream_decoder(DECODER_MEMORY, CONCATENATED).map_err(bad)?;
    let mut out = Vec::new();
    let mut used = 0;
    loop {
        if out.len() == out.capacity() {
            if out.len() > limit {
                return Err(MappingError::TooLarge {
                    file: file.to_owned(),
                    what: "its unpacked content".to_owned(),
                    limit: limit as u64,
                });
            }
            look(&out)?;
            // One byte beyond the limit distinguishes "exactly full" from "too large".
            let room = limit.saturating_add(1) - out.len();
            out.reserve_exact(room.min(out.len().max(STEP)));
        }
        let (before_in, before_out) = (stream.total_in(), stream.total_out());
        let status = stream.process_vec(&packed[used..], &mut out, Action::Finish).map_err(bad)?;
        let taken = stream.total_in() - before_in;
        used += taken as usize;
        match status {
            Status::StreamEnd => break,
            _ if taken == 0 && stream.total_out() == before_out => {
                return Err(MappingError::Xz { file: file.to_owned(), reason: "it ends early" });
            }
            _ => {}
        }
    }
    if out.len() > limit {
        let what = "its unpacked content".to_owned();
        return Err(MappingError::TooLarge { file: file.to_owned(), what, limit: limit as u64 });
    }
    if used < packed.len() {
        return Err(MappingError::Xz { file: file.to_owned(), reason: "other bytes follow" });
    }
    Ok(out)
}

/// Reads an XZ file that holds a pickle, and unpacks it to at most `limit` bytes. Unpacking stops as soon as the output
/// cannot be the beginning of a pickle.
pub(super) fn read_pickle(source: ExpectedFile<'_>, limit: usize) -> Result<Vec<u8>, MappingError> {
    // Packing never makes data much larger: 1/64 and the headers are more than enough.
    let packed = read_file(source, limit.saturating_add(limit / 64).saturating_add(4096))?;
    unpack_pickle(source.file, &packed, limit)
}

/// Unpacks an XZ file in memory to at most `limit` bytes. Unpacking stops as soon as the output cannot be the beginning
/// of a pickle. `file` is used in error messages only.
///
/// # Errors
/// Returns an error if the file is damaged, holds no pickle, or is larger than `limit` when unpacked.
pub fn unpack_pickle(file: &Path, packed: &[u8], limit: usize) -> Result<Vec<u8>, MappingError> {
    // The beginning is parsed again whenever its length has doubled. Raw data are skipped, so this costs next to
    // nothing.
    unpack(file, packed, limit, |beginning| match PickleDocument::parse(beginning) {
        Ok(_) | Err(PickleError::Truncated { .. }) => Ok(()),
        Err(source) => Err(MappingError::Pickle { file: file.to_owned(), source }),
    })
}

/// Packs bytes as Python's `lzma` does: in one stream with CRC64.
pub(super) fn pack(file: &Path, bytes: &[u8], preset: u32) -> Result<Vec<u8>, MappingError> {
    let bad = |error: XzError| MappingError::Xz { file: file.to_owned(), reason: reason(&error) };
    let mut stream = Stream::new_easy_encoder(preset, liblzma::stream::Check::Crc64).map_err(bad)?;
    let mut out = Vec::new();
    let mut used = 0;
    loop {
        if out.len() == out.capacity() {
            out.reserve(STEP);
        }
        let before = stream.total_in();
        let status = stream.process_vec(&bytes[used..], &mut out, Action::Finish).map_err(bad)?;
        used += (stream.total_in() - before) as usize;
        if matches!(status, Status::StreamEnd) {
            return Ok(out);
        }
    }
}

fn reason(error: &XzError) -> &'static str {
    match error {
        XzError::Data => "the data are damaged",
        XzError::Options => "it uses options that this decoder does not know",
        XzError::Format => "it does not begin as one, or other bytes follow",
        XzError::MemLimit => "unpacking would take more memory than any preset needs",
        XzError::Mem => "there is not enough memory",
        XzError::NoCheck | XzError::UnsupportedCheck => "its integrity check is missing or unknown",
        XzError::Program => "the decoder was misused",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn file() -> &'static Path {
        Path::new("mask.xz")
    }

    #[test]
    fn packs_and_unpacks() {
        for size in [0, 1, STEP - 1, STEP, STEP + 1, 300_000] {
            let bytes: Vec<u8> = (0..size).map(|i| (i * i / 7) as u8).collect();
            let packed = pack(file(), &bytes, 1).unwrap();
            assert_eq!(unpack(file(), &packed, size, any).unwrap(), bytes, "size {size}");
            assert_eq!(unpack(file(), &packed, usize::MAX, any).unwrap(), bytes, "size {size}");
        }
    }

    #[test]
    fn the_limit_is_named_and_kept() {
        let packed = pack(file(), &vec![0; 10_000_000], 1).unwrap();
        assert!(packed.len() < 5000);
        let error = unpack(file(), &packed, 9_999_999, any).unwrap_err();
        assert!(matches!(error, MappingError::TooLarge { limit: 9_999_999, .. }), "{error}");
        assert!(error.to_string().starts_with("mask.xz: its unpacked content is larger than the limit of 9999999"));
        unpack(file(), &packed, 10_000_000, any).unwrap();
    }

    #[test]
    fn cut_or_extended_files_are_errors() {
        let packed = pack(file(), b"sea surface height", 6).unwrap();
        for end in 0..packed.len() {
            let error = unpack(file(), &packed[..end], 1000, any).unwrap_err();
            assert!(matches!(error, MappingError::Xz { .. }), "cut at {end}: {error}");
        }
        for tail in [&b"x"[..], b"garbage!", &[0, 0, 0]] {
            let mut longer = packed.clone();
            longer.extend_from_slice(tail);
            assert!(matches!(unpack(file(), &longer, 1000, any), Err(MappingError::Xz { .. })), "{tail:?}");
        }
        // Two streams form a valid file.
        let twice = [packed.clone(), packed].concat();
        assert_eq!(unpack(file(), &twice, 1000, any).unwrap(), b"sea surface heightsea surface height");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let packed = pack(file(), b"sea surface height", 6).unwrap();
        for bit in 0..packed.len() * 8 {
            let mut damaged = packed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(unpack(file(), &damaged, 1000, any).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_dictionary_larger_than_any_preset_is_refused() {
        let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        options.dict_size(256 << 20);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let mut stream = Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc64).unwrap();
        let mut packed = Vec::with_capacity(4096);
        assert!(matches!(stream.process_vec(b"salt", &mut packed, Action::Finish).unwrap(), Status::StreamEnd));
        let error = unpack(file(), &packed, 1000, any).unwrap_err();
        assert!(error.to_string().contains("more memory"), "{error}");
    }

    #[test]
    fn files_beyond_the_limit_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let (path, files) = (dir.path().join("huge"), Files::default());
        // The file is sparse and takes no space on the disk.
        std::fs::File::create(&path).unwrap().set_len(1 << 33).unwrap();
        assert!(matches!(read_file(plain(&path, &files), 1 << 20), Err(MappingError::TooLarge { .. })));
        assert!(matches!(
            read_file(plain(&dir.path().join("absent"), &files), 10),
            Err(MappingError::Io { action: "open", .. })
        ));
    }

    fn plain<'a>(file: &'a Path, files: &'a Files) -> ExpectedFile<'a> {
        ExpectedFile { file, files, seal: None }
    }

    /// Accepts any output.
    fn any(_: &[u8]) -> Result<(), MappingError> {
        Ok(())
    }

    #[test]
    fn what_is_no_pickle_is_not_unpacked_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let (path, files) = (dir.path().join("bomb.xz"), Files::default());
        let pickle = b"\x80\x04]q\x00.".to_vec();
        for beginning in [Vec::new(), pickle.clone()] {
            let mut bomb = beginning;
            bomb.resize(10_000_000, 0);
            std::fs::write(&path, pack(&path, &bomb, 1).unwrap()).unwrap();
            // The output stays far below the limit, so only its content can be the reason.
            let error = read_pickle(plain(&path, &files), 1 << 30).unwrap_err();
            assert!(matches!(error, MappingError::Pickle { .. }), "{error}");
        }
        std::fs::write(&path, pack(&path, &pickle, 1).unwrap()).unwrap();
        assert_eq!(read_pickle(plain(&path, &files), 1 << 30).unwrap(), pickle);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, tail: Vec<u8>) {
            let _ = unpack(file(), &bytes, 4096, any);
            let mut packed = pack(file(), &bytes, 0).unwrap();
            packed.truncate(packed.len() / 2);
            packed.extend(tail);
            prop_assert!(unpack(file(), &packed, 4096, any).is_err());
        }
    }
}
