//! Raw HDF5 beneath a file that the netCDF library has defined: ready-made chunks in, chunk index out.
//!
//! This is the only module with `unsafe`. Its reasons: `H5Dwrite_chunk` takes compressed chunks as they are, so that
//! shuffling and deflating run on all cores outside the library's lock; no safe crate offers it for files that
//! the netCDF library wrote. Every call happens under the lock that the `netcdf` crate takes for its own calls,
//! with identifiers that are closed by [`Id`] before the lock is released, and with buffers that outlive the call.
#![allow(unsafe_code)]

use super::dataset::Chunk;
use hdf5_metno_sys::{h5, h5d, h5e, h5f, h5i, h5p, h5s, h5z};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Why chunks could not be written or listed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{path}: HDF5 could not {action}{detail}")]
pub struct ChunkError {
    path: PathBuf,
    action: &'static str,
    detail: String,
}

/// Where a chunk lies in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Index of its first element in each dimension.
    pub offset: Vec<u64>,
    /// First byte in the file.
    pub address: u64,
    /// Bytes in the file.
    pub size: u64,
    /// Bits of the filters that were left out; 0 if all were applied.
    pub filter_mask: u32,
}

/// Keeps HDF5 from printing its own error messages in this thread, where callers get errors as values.
///
/// The library prints by default, and decides thread by thread; the netCDF library switches it off only in the
/// thread that used it first. To be called before files are opened in a new thread, and first of all in `main`: only
/// the first call in a process can also keep the library from tidying up when the process ends. After a close that
/// failed because the disk was full, that tidying reads freed memory and ends the process by a signal; files that
/// were written are closed long before.
pub fn silence_hdf5() {
    let _lock = netcdf_sys::libnetcdf_lock.lock();
    // SAFETY: the lock is held; null stands for no printing function. Asking not to tidy up fails, without effect,
    // once the library is in use.
    unsafe {
        h5::H5dont_atexit();
        h5e::H5Eset_auto2(h5e::H5E_DEFAULT, None, std::ptr::null_mut());
    }
}

/// A filter of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Bytes grouped by significance.
    Shuffle,
    /// zlib at this level.
    Deflate(u32),
    /// Any other, by its registered number.
    Other(i32),
}

/// How the values of a variable lie in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// Its filters in the order they are applied.
    pub filters: Vec<Filter>,
    /// Its chunks in the order of the file's index; empty if it is contiguous.
    pub chunks: Vec<Stored>,
}

/// An HDF5 identifier that is closed when dropped; only made and dropped while the lock is held.
struct Id(h5i::hid_t, unsafe extern "C" fn(h5i::hid_t) -> h5::herr_t);

impl Drop for Id {
    fn drop(&mut self) {
        // SAFETY: the identifier is valid and open, it came from the open function that belongs to this close function.
        unsafe { (self.1)(self.0) };
    }
}

/// A file opened through HDF5; lives only within [`with_file`].
struct File<'a> {
    id: Id,
    path: &'a Path,
}

/// Opens a file through HDF5, does some work on it and closes it, all under the library's lock.
fn with_file<T>(
    path: &Path,
    flags: u32,
    work: impl FnOnce(&File<'_>) -> Result<T, ChunkError>,
) -> Result<T, ChunkError> {
    let name = c_string(path, path.as_os_str().as_bytes())?;
    // Declared before the file, so released after it is closed.
    let _lock = netcdf_sys::libnetcdf_lock.lock();
    silence_hdf5();
    // SAFETY: the lock is held; the name is a NUL-terminated string that lives through the call.
    let id = unsafe { h5f::H5Fopen(name.as_ptr(), flags, h5p::H5P_DEFAULT) };
    if id < 0 {
        return Err(error(path, "open the file", String::new()));
    }
    work(&File { id: Id(id, h5f::H5Fclose), path })
}

impl File<'_> {
    fn dataset(&self, variable: &str) -> Result<Id, ChunkError> {
        let name = c_string(self.path, variable.as_bytes())?;
        // SAFETY: the lock is held by `with_file`, the file is open, the name lives through the call.
        let id = unsafe { h5d::H5Dopen2(self.id.0, name.as_ptr(), h5p::H5P_DEFAULT) };
        if id < 0 { Err(error(self.path, "open variable ", variable.into())) } else { Ok(Id(id, h5d::H5Dclose)) }
    }
}

fn error(path: &Path, action: &'static str, detail: String) -> ChunkError {
    ChunkError { path: path.into(), action, detail }
}

fn c_string(path: &Path, bytes: &[u8]) -> Result<CString, ChunkError> {
    CString::new(bytes).map_err(|_| error(path, "take a name with a NUL byte in it", String::new()))
}

/// Writes the chunks of several variables into a file that defines them, and closes it.
///
/// # Errors
/// The file or a variable cannot be opened, or a chunk cannot be written (disk full, wrong offset).
pub fn write<'a>(path: &Path, variables: impl IntoIterator<Item = (&'a str, &'a [Chunk])>) -> Result<(), ChunkError> {
    with_file(path, h5f::H5F_ACC_RDWR, |file| {
        for (name, chunks) in variables {
            write_one(file, name, chunks)?;
        }
        // SAFETY: the lock is held, the file is open. Flushing here reports errors that closing would swallow.
        let status = unsafe { h5f::H5Fflush(file.id.0, h5f::H5F_SCOPE_GLOBAL) };
        if status < 0 { Err(error(path, "flush the file", String::new())) } else { Ok(()) }
    })
}

fn write_one(file: &File<'_>, name: &str, chunks: &[Chunk]) -> Result<(), ChunkError> {
    let dataset = file.dataset(name)?;
    let rank = rank(file, &dataset, name)?;
    for chunk in chunks {
        if chunk.offset.len() != rank {
            return Err(error(file.path, "write a chunk with the wrong number of dimensions to ", name.into()));
        }
        // SAFETY: the lock is held, the dataset is open; the offset has as many elements as the dataset has
        // dimensions (checked above); the buffer has `bytes.len()` bytes and lives through the call.
        let status = unsafe {
            h5d::H5Dwrite_chunk(
                dataset.0,
                h5p::H5P_DEFAULT,
                0,
                chunk.offset.as_ptr(),
                chunk.bytes.len(),
                chunk.bytes.as_ptr().cast(),
            )
        };
        if status < 0 {
            return Err(error(file.path, "write a chunk of ", format!("{name} at {:?}", chunk.offset)));
        }
    }
    Ok(())
}

/// Filters and chunks of variables of a file.
///
/// # Errors
/// The file or a variable cannot be opened, or an index is damaged.
pub fn layouts(path: &Path, variables: &[&str]) -> Result<Vec<Layout>, ChunkError> {
    with_file(path, h5f::H5F_ACC_RDONLY, |file| variables.iter().map(|name| layout(file, name)).collect())
}

fn layout(file: &File<'_>, name: &str) -> Result<Layout, ChunkError> {
    let dataset = file.dataset(name)?;
    let rank = rank(file, &dataset, name)?;
    // SAFETY: the lock is held and the dataset is open; the property list is closed by Id.
    let list = unsafe { h5d::H5Dget_create_plist(dataset.0) };
    if list < 0 {
        return Err(error(file.path, "read the layout of ", name.into()));
    }
    let list = Id(list, h5p::H5Pclose);
    // SAFETY: the lock is held and the list is open.
    if unsafe { h5p::H5Pget_layout(list.0) } != h5d::H5D_layout_t::H5D_CHUNKED {
        return Ok(Layout::default());
    }
    let filters = filters(&list).ok_or_else(|| error(file.path, "read the filters of ", name.into()))?;
    let space = space(file, &dataset, name)?;
    let mut count = 0;
    // SAFETY: the lock is held, dataset and space are open, `count` is a valid place for the result.
    let status = unsafe { h5d::H5Dget_num_chunks(dataset.0, space.0, &mut count) };
    if status < 0 {
        return Err(error(file.path, "count the chunks of ", name.into()));
    }
    let mut chunks = Vec::new();
    for number in 0..count {
        let mut chunk = Stored { offset: vec![0; rank], address: 0, size: 0, filter_mask: 0 };
        // SAFETY: the lock is held, dataset and space are open, `offset` has room for the dataset's rank.
        let status = unsafe {
            h5d::H5Dget_chunk_info(
                dataset.0,
                space.0,
                number,
                chunk.offset.as_mut_ptr(),
                &mut chunk.filter_mask,
                &mut chunk.address,
                &mut chunk.size,
            )
        };
        if status < 0 {
            return Err(error(file.path, "read the chunk index of ", name.into()));
        }
        chunks.push(chunk);
    }
    Ok(Layout { filters, chunks })
}

/// The filters that a list of creation properties names.
fn filters(list: &Id) -> Option<Vec<Filter>> {
    // SAFETY: the lock is held and the list is open.
    let count = unsafe { h5p::H5Pget_nfilters(list.0) };
    let mut found = Vec::new();
    for number in 0..u32::try_from(count).ok()? {
        let (mut flags, mut length, mut values, mut config) = (0, 4, [0; 4], 0);
        // SAFETY: the lock is held and the list is open; `length` says how many values there is room for, no room
        // is offered for the name, and all places for results are valid.
        let id = unsafe {
            h5p::H5Pget_filter2(
                list.0,
                number,
                &mut flags,
                &mut length,
                values.as_mut_ptr(),
                0,
                std::ptr::null_mut(),
                &mut config,
            )
        };
        found.push(match id {
            h5z::H5Z_FILTER_SHUFFLE => Filter::Shuffle,
            h5z::H5Z_FILTER_DEFLATE => Filter::Deflate(values[0]),
            id if id < 0 => return None,
            id => Filter::Other(id),
        });
    }
    Some(found)
}

fn space(file: &File<'_>, dataset: &Id, name: &str) -> Result<Id, ChunkError> {
    // SAFETY: the lock is held and the dataset is open.
    let space = unsafe { h5d::H5Dget_space(dataset.0) };
    if space < 0 { Err(error(file.path, "read the shape of ", name.into())) } else { Ok(Id(space, h5s::H5Sclose)) }
}

fn rank(file: &File<'_>, dataset: &Id, name: &str) -> Result<usize, ChunkError> {
    let space = space(file, dataset, name)?;
    // SAFETY: the lock is held and the space is open.
    let rank = unsafe { h5s::H5Sget_simple_extent_ndims(space.0) };
    usize::try_from(rank).map_err(|_| error(file.path, "read the shape of ", name.into()))
}
