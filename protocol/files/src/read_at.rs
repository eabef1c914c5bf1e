//! Reading at offsets.

use crate::Stamp;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Anything of known length that can be read at any offset, by several threads at once.
pub trait ReadAt: Send + Sync {
    /// Returns the length in bytes.
    ///
    /// # Errors
    /// Returns an error if the length cannot be determined.
    fn length(&self) -> io::Result<u64>;

    /// Fills `buffer` with the bytes from `offset` on. Bytes beyond the end are an error of kind `UnexpectedEof`.
    ///
    /// # Errors
    /// Returns an error if the read fails or ends early.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Returns the stamp that tells whether a local file has changed; `None` for anything else.
    fn stamp(&self) -> Option<Stamp> {
        None
    }
}

impl ReadAt for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }

    fn stamp(&self) -> Option<Stamp> {
        self.metadata().ok().map(|metadata| Stamp::of(&metadata))
    }
}

/// Implements [`ReadAt`] for a pointer to something that implements it.
macro_rules! through_pointer {
    ($pointer:ty) => {
        impl ReadAt for $pointer {
            fn length(&self) -> io::Result<u64> {
                (**self).length()
            }

            fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
                (**self).read_exact_at(buffer, offset)
            }

            fn stamp(&self) -> Option<Stamp> {
                (**self).stamp()
            }
        }
    };
}

through_pointer!(Box<dyn ReadAt>);
through_pointer!(Arc<dyn ReadAt>);

impl ReadAt for Vec<u8> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let part = start.and_then(|start| self.get(start..start.checked_add(buffer.len())?));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}
