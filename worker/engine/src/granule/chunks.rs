//! Raw HDF5 beneath a file that the netCDF library has defined: ready-made chunks in, chunk index out.
//!
//! Reasons for `unsafe`: `H5Dwrite_chunk` takes compressed chunks as they are, so that
//! shuffling and deflating run on all cores outside the library's lock; no safe crate offers it for files that
//! the netCDF library wrote. Every call happens under the lock that the `netcdf` crate takes for its own calls,
//! with identifiers that are closed by `Id` before the lock is released, and with buffers that outlive the call.
#![allow(unsafe_code)]

use super::dataset::Chunk;
use edp_protocol::wire;
use hdf5_metno_sys::{h5, h5a, h5d, h5e, h5f, h5i, h5p, h5s, h5t, h5z};
use std::ffi::{CStr, CString};
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

unsafe extern "C" {
    /// As the library has it; the binding takes a pointer in the place of the mask.
    fn H5PLset_loading_state(mask: std::ffi::c_uint) -> h5::herr_t;
}

/// Keeps HDF5 from printing its own error messages in this thread, where callers get errors as values, and from loading
/// plugins in this process: a file that names a filter that the library does not have would otherwise run whatever
/// lies in the directories of `HDF5_PLUGIN_PATH`. Granules and inputs need none.
///
/// The library prints by default, and decides thread by thread; the netCDF library switches it off only in the
/// thread that used it first. To be called before files are opened in a new thread, and first of all in `main`: only
/// the first call in a process can also keep the library from tidying up when the process ends. After a close that
/// failed because the disk was full, that tidying reads freed memory and ends the process by a signal; files that
/// were written are closed long before.
pub fn silence_hdf5() {
    let _lock = netcdf_sys::libnetcdf_lock.lock();
    // SAFETY: the lock is held; null stands for no printing function. Asking not to tidy up fails, without effect,
    // once the library is in use. No bit set stands for no kind of plugin.
    unsafe {
        h5::H5dont_atexit();
        H5PLset_loading_state(0);
        h5e::H5Eset_auto2(h5e::H5E_DEFAULT, None, std::ptr::null_mut());
    }
}

/// Versions of the netCDF and HDF5 libraries.
pub fn libraries() -> [String; 2] {
    let _lock = netcdf_sys::libnetcdf_lock.lock();
    let (mut major, mut minor, mut release) = (0, 0, 0);
    // SAFETY: the lock is held; the netCDF library gives a text that it keeps, the HDF5 library fills three numbers.
    let netcdf = unsafe {
        h5::H5get_libversion(&mut major, &mut minor, &mut release);
        CStr::from_ptr(netcdf_sys::nc_inq_libvers())
    };
    // "4.9.0 of ..." and the day it was built, which decides nothing.
    let netcdf = netcdf.to_string_lossy().split_whitespace().next().unwrap_or_default().to_owned();
    [netcdf, format!("{major}.{minor}.{release}")]
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

impl Layout {
    /// Where the chunks of this variable are, by the position of their values.
    pub fn places(&self, variable: &str) -> wire::Chunks {
        let mut chunks: Vec<&Stored> = self.chunks.iter().collect();
        chunks.sort_by_key(|chunk| &chunk.offset);
        let places = chunks.into_iter().map(|chunk| (chunk.address, chunk.size)).collect();
        wire::Chunks { variable: variable.to_owned(), places }
    }
}

/// An HDF5 identifier that is closed when dropped; only made and dropped while the lock is held.
#[derive(Debug)]
struct Id(h5i::hid_t, unsafe extern "C" fn(h5i::hid_t) -> h5::herr_t);

impl Drop for Id {
    fn drop(&mut self) {
        // SAFETY: the identifier is valid and open, it came from the open function that belongs to this close function.
        unsafe { (self.1)(self.0) };
    }
}

/// A file that is open in HDF5, while the lock is held.
struct File<'a> {
    id: &'a Id,
    path: &'a Path,
}

/// Opens a file through HDF5. To be called, and the identifier to be dropped, while the lock is held.
fn open(path: &Path, flags: u32) -> Result<Id, ChunkError> {
    let name = c_string(path, path.as_os_str().as_bytes())?;
    silence_hdf5();
    // SAFETY: the lock is held; the name is a NUL-terminated string that lives through the call.
    let id = unsafe { h5f::H5Fopen(name.as_ptr(), flags, h5p::H5P_DEFAULT) };
    if id < 0 {
        return Err(error(path, "open the file", String::new()));
    }
    crate::libraries::keep_from_children(path);
    Ok(Id(id, h5f::H5Fclose))
}

impl File<'_> {
    fn dataset(&self, variable: &str) -> Result<Id, ChunkError> {
        let name = c_string(self.path, variable.as_bytes())?;
        // SAFETY: the lock is held, the file is open, the name lives through the call.
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

/// Writes chunks into a file that defines their variables. Other threads may use the libraries in between: the lock is
/// held only within each call.
#[derive(Debug)]
pub struct ChunkWriter {
    /// Always there until the writer is dropped or closed.
    file: Option<Id>,
    path: PathBuf,
}

impl ChunkWriter {
    /// Opens a file that is closed otherwise.
    ///
    /// # Errors
    /// It cannot be opened for writing.
    pub fn open(path: &Path) -> Result<ChunkWriter, ChunkError> {
        let _lock = netcdf_sys::libnetcdf_lock.lock();
        Ok(ChunkWriter { file: Some(open(path, h5f::H5F_ACC_RDWR)?), path: path.into() })
    }

    fn with<T>(&self, work: impl FnOnce(&File<'_>) -> Result<T, ChunkError>) -> Result<T, ChunkError> {
        let _lock = netcdf_sys::libnetcdf_lock.lock();
        silence_hdf5(); // the thread may be another than that which opened the file
        match &self.file {
            Some(id) => work(&File { id, path: &self.path }),
            None => Err(error(&self.path, "write to the closed file", String::new())),
        }
    }

    /// Writes chunks of a variable. Their place in the file is decided by the order of writing.
    ///
    /// # Errors
    /// The variable cannot be opened, or a chunk cannot be written (disk full, wrong offset).
    pub fn write(&self, variable: &str, chunks: &[Chunk]) -> Result<(), ChunkError> {
        self.with(|file| write_all(file, variable, chunks))
    }

    /// Puts other numbers into an attribute of a variable, as many and of the same type as it has: `bytes` are their
    /// little-endian bytes. The file stays as if they had been written at first.
    ///
    /// # Errors
    /// There is no such attribute, or it has another size.
    pub fn set_attribute(&self, variable: &str, attribute: &str, bytes: &[u8]) -> Result<(), ChunkError> {
        self.with(|file| set_attribute(file, variable, attribute, bytes))
    }

    /// Removes an attribute of a variable.
    ///
    /// # Errors
    /// There is no such attribute.
    pub fn remove_attribute(&self, variable: &str, attribute: &str) -> Result<(), ChunkError> {
        self.with(|file| {
            let (dataset, name) = (file.dataset(variable)?, c_string(file.path, attribute.as_bytes())?);
            // SAFETY: the lock is held, the dataset is open, the name lives through the call.
            let status = unsafe { h5a::H5Adelete(dataset.0, name.as_ptr()) };
            if status < 0 {
                return Err(error(file.path, "remove attribute ", format!("{variable}:{attribute}")));
            }
            Ok(())
        })
    }

    /// Flushes and closes the file.
    ///
    /// # Errors
    /// Something could not be written.
    pub fn close(self) -> Result<(), ChunkError> {
        self.with(|file| {
            // SAFETY: the lock is held, the file is open. Flushing here reports errors that closing would swallow.
            let status = unsafe { h5f::H5Fflush(file.id.0, h5f::H5F_SCOPE_GLOBAL) };
            if status < 0 { Err(error(file.path, "flush the file", String::new())) } else { Ok(()) }
        })
    }
}

impl Drop for ChunkWriter {
    fn drop(&mut self) {
        let _lock = netcdf_sys::libnetcdf_lock.lock();
        self.file = None;
    }
}

fn set_attribute(file: &File<'_>, variable: &str, attribute: &str, bytes: &[u8]) -> Result<(), ChunkError> {
    let fail = |action| error(file.path, action, format!("{variable}:{attribute}"));
    let (dataset, name) = (file.dataset(variable)?, c_string(file.path, attribute.as_bytes())?);
    // SAFETY: the lock is held, the dataset is open, the name lives through the call.
    let id = unsafe { h5a::H5Aopen(dataset.0, name.as_ptr(), h5p::H5P_DEFAULT) };
    if id < 0 {
        return Err(fail("open attribute "));
    }
    let id = Id(id, h5a::H5Aclose);
    // SAFETY: the lock is held and the attribute is open; the type is closed by Id.
    let stored = unsafe { h5a::H5Aget_type(id.0) };
    if stored < 0 {
        return Err(fail("read the type of attribute "));
    }
    let stored = Id(stored, h5t::H5Tclose);
    // SAFETY: the lock is held, type and attribute are open.
    let (order, size) = unsafe { (h5t::H5Tget_order(stored.0), h5a::H5Aget_storage_size(id.0)) };
    if order != h5t::H5T_order_t::H5T_ORDER_LE || size != bytes.len() as u64 {
        return Err(fail("put numbers of another kind into attribute "));
    }
    // SAFETY: the lock is held, attribute and type are open; the buffer has as many bytes as the attribute (checked
    // above), in the very type that it is stored in, and lives through the call.
    let status = unsafe { h5a::H5Awrite(id.0, stored.0, bytes.as_ptr().cast()) };
    if status < 0 { Err(fail("write attribute ")) } else { Ok(()) }
}

fn write_all(file: &File<'_>, name: &str, chunks: &[Chunk]) -> Result<(), ChunkError> {
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
    let _lock = netcdf_sys::libnetcdf_lock.lock();
    let id = open(path, h5f::H5F_ACC_RDONLY)?; // closed before the lock is released
    variables.iter().map(|name| layout(&File { id: &id, path }, name)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_the_order_of_the_values() {
        let stored = |first, address| Stored { offset: vec![0, first], address, size: 9, filter_mask: 0 };
        let layout = Layout { filters: Vec::new(), chunks: vec![stored(12, 70), stored(0, 90), stored(6, 80)] };
        assert_eq!(layout.places("SSH").places, [(90, 9), (80, 9), (70, 9)]);
    }
}
