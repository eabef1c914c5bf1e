//! A file mapped into memory. The libraries read it in this form, so they open nothing by a name.
#![allow(unsafe_code)]

use crate::granule::chunks::{self, ChunkError, Layout};
use std::cell::OnceCell;
use std::ffi::c_void;
use std::fs::File;
use std::io;

/// The bytes of a file, mapped into memory. If the storage fails or the file is truncated, reading them ends the
/// process by a signal (SIGBUS), which distinguishes this from damage in the bytes themselves.
#[derive(Debug)]
pub(crate) struct Image {
    start: *mut c_void,
    length: usize,
    /// The result of the check that the file refers to no other file, once the check was made.
    within: OnceCell<Result<(), ChunkError>>,
}

impl Image {
    /// Maps a file into memory.
    ///
    /// # Errors
    /// Returns an error if the file cannot be mapped.
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

    /// Returns all bytes of the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: so many bytes are mapped from here for as long as this lives, and this process never writes to them.
        // Others may write to the file meanwhile: whatever is read is untrusted anyway, and only ever copied or parsed.
        unsafe { std::slice::from_raw_parts(self.start.cast::<u8>(), self.length) }
    }

    /// Opens the file with the netCDF library.
    ///
    /// # Errors
    /// Returns an error if the file is not a NetCDF file, or if it refers to other files.
    pub(crate) fn netcdf(&self) -> netcdf::Result<netcdf::FileMem<'_>> {
        if self.length == 0 {
            return Err("the file is empty".into());
        }
        // The library follows links as soon as it opens a file. Files in the classic format have none.
        if !self.bytes().starts_with(b"CDF") {
            self.refuse_outside().map_err(|error| error.what())?;
        }
        netcdf::open_mem(None, self.bytes())
    }

    /// Returns the storage layouts of variables.
    ///
    /// # Errors
    /// Returns an error if the file is no HDF5 file or refers to other files, if a variable is missing, or if an index
    /// is damaged.
    pub(crate) fn layouts(&self, variables: &[&str]) -> Result<Vec<Layout>, ChunkError> {
        self.refuse_outside()?;
        chunks::layouts_of(self.bytes(), variables)
    }

    /// Calls [`chunks::refuse_outside`] once and keeps the result.
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
