//! A reader that can be told to stop.

use edp_files::ReadAt;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

/// Reads a file from its beginning to its end, unless one of the flags cancels it.
pub(super) struct CancellableReader<'a> {
    pub(super) file: &'a dyn ReadAt,
    pub(super) at: u64,
    pub(super) size: u64,
    pub(super) stop: &'a [&'a AtomicBool],
}

impl Read for CancellableReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.iter().any(|stop| stop.load(Ordering::Relaxed)) {
            return Err(io::Error::other("stopped on request"));
        }
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
        let count = left.min(buffer.len());
        self.file.read_exact_at(&mut buffer[..count], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
