//! Reading that can be cancelled.

use edp_protocol::Digest;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

/// A reader that fails once a cancellation flag is set, which is checked before each read.
#[derive(Debug)]
pub(crate) struct Cancellable<'a, R> {
    pub(crate) reader: R,
    pub(crate) cancel: &'a AtomicBool,
}

impl<R: Read> Read for Cancellable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped on request"));
        }
        self.reader.read(buffer)
    }
}

/// Returns the SHA-256 of everything that a reader yields.
///
/// # Errors
/// Returns an error if it cannot be read, or if the cancellation flag was set.
pub(crate) fn digest(reader: impl Read, cancel: &AtomicBool) -> io::Result<Digest> {
    Digest::of_reader(Cancellable { reader, cancel }).map(|(digest, _)| digest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Sets the flag at the third read.
    struct Third<'a>(u32, &'a AtomicBool);

    impl Read for Third<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            self.1.store(self.0 == 3, Ordering::Relaxed);
            Ok(buffer.len())
        }
    }

    #[test]
    fn hashing_ends_when_it_is_cancelled() {
        let cancel = AtomicBool::new(false);
        let mut endless = Third(0, &cancel);
        assert!(digest(&mut endless, &cancel).is_err());
        assert_eq!(endless.0, 3);
        cancel.store(false, Ordering::Relaxed);
        assert_eq!(digest(&b"abc"[..], &cancel).unwrap(), Digest::of(b"abc"));
    }
}
