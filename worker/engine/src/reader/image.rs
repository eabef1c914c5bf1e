//! A file mapped into memory, as the libraries read it: they open nothing by a name.
#![allow(unsafe_code)]

use crate::granule::chunks::{self, ChunkError, Layout};
use std::cell::OnceCell;
use std::ffi::c_void;
use std::fs::File;
use std::io;

/// The bytes of a file. Where the storage fails, or the file is made shorter, looking at them ends the process by a
/// signal (SIGBUS), which tells this from what is wrong with the bytes.
#[derive(Debug)]
pub(crate) struct Image {
    start: *mut c_void,
    length: usize,
    /// Whether it leads to no other file, once that was asked.
    within: OnceCell<Result<(), ChunkError>>,
}

impl Image {
    /// Maps a file.
    ///
    /// # Errors
    /// It cannot be mapped.
    pub(crate) fn map(file: &File) -> io::Result<Image> {
        use rustix::mm::{MapFlags, ProtFlags};
        let length =
            usize::try_from(file.metadata()?.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        if length == 0 {
            return Ok(Image { start: std::ptr::null_mut(), length, within: OnceCell::new() });
        }
        // SAFETY: the system chooses the place, so that nothing else is mapped over.
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, file, 0) }?;
        Ok(Image { start, length, within: OnceCell::new() })
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: so many bytes are mapped from here for as long as this lives, and this process never writes to them.
        // Others may write to the file meanwhile: whatever is read is untrusted anyway, and only ever copied or parsed.
        unsafe { std::slice::from_raw_parts(self.start.cast::<u8>(), self.length) }
    }

    /// Opens it through the netCDF library.
    ///
    /// # Errors
    /// It is not a NetCDF file, or leads to other files.
    pub(crate) fn netcdf(&self) -> netcdf::Result<netcdf::FileMem<'_>> {
        if self.length == 0 {
            return Err("the file is empty".into());
        }
        // Opening alone makes the library follow links. Files in the classic format have none.
        if !self.bytes().starts_with(b"CDF") {
            self.refuse_outside().map_err(|error| error.what())?;
        }
        netcdf::open_mem(None, self.bytes())
    }

    /// How variables are stored.
    ///
    /// # Errors
    /// It is no HDF5 file, leads to other files, a variable is missing, or an index is damaged.
    pub(crate) fn layouts(&self, variables: &[&str]) -> Result<Vec<Layout>, ChunkError> {
        self.refuse_outside()?;
        chunks::layouts_of(self.bytes(), variables)
    }

    /// [`chunks::refuse_outside`], for which the file is gone through only once.
    fn refuse_outside(&self) -> Result<(), ChunkError> {
        self.within.get_or_init(|| chunks::refuse_outside(self.bytes())).clone()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: it was mapped with this length, and nothing that borrows it lives any more.
            let _ = unsafe { rustix::mm::munmap(self.start, self.length) };
        }
    }
}
