//! Direct access to HDF5 beneath a file that the netCDF library has defined: it writes compressed chunks, and reads the
//! chunk index.
//!
//! `unsafe` is needed because `H5Dwrite_chunk` takes compressed chunks as they are, so that shuffling and deflating run
//! on all cores outside the library's lock, and no safe crate offers it for files that the netCDF library wrote. Every
//! call is made under the lock that the `netcdf` crate takes for its own calls, with identifiers that `Id` closes
//! before the lock is released, and with buffers that outlive the call.
#![allow(unsafe_code)]

mod image;

pub(crate) use image::{layouts_of, refuse_outside};

use super::blocks::Element;
use super::content::{Chunk, Value, Values};
use crate::codec::Filter;
use crate::libraries::{keep_from_children, silence_hdf5};
use edp_protocol::wire;
use hdf5_metno_sys::{h5, h5a, h5d, h5f, h5g, h5i, h5p, h5s, h5t};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The reason why chunks could not be written or listed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{path}: HDF5 could not {action}{detail}")]
pub struct ChunkError {
    path: PathBuf,
    action: &'static str,
    detail: String,
}

impl ChunkError {
    /// Returns the description of the problem, without the path.
    pub fn what(&self) -> String {
        format!("HDF5 could not {}{}", self.action, self.detail)
    }
}

/// The place of a chunk in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Index of the chunk's first element in each dimension.
    pub offset: Vec<u64>,
    /// Offset of the chunk's first byte in the file.
    pub address: u64,
    /// Number of bytes that the chunk takes in the file.
    pub size: u64,
    /// Bits of the filters that were not applied; 0 if all were.
    pub filter_mask: u32,
}

/// The storage layout of a variable in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// Filters in the order in which they are applied.
    pub filters: Vec<Filter>,
    /// Chunks in the order of the file's index; empty if the variable is contiguous.
    pub chunks: Vec<Stored>,
    /// Lengths of the dimensions.
    pub shape: Vec<u64>,
    /// Number of elements of a chunk in each dimension; empty if the variable is not chunked.
    pub chunk: Vec<u64>,
    /// Size of a chunk in bytes before filters are applied.
    pub chunk_bytes: u64,
    /// Offset of the first byte and number of bytes of the values, if they are stored in one contiguous block.
    pub block: Option<(u64, u64)>,
}

impl Layout {
    /// Returns the places of the chunks of this variable, by the position of their values.
    pub fn places(&self, variable: &str) -> wire::ChunkPlaces {
        let mut chunks: Vec<&Stored> = self.chunks.iter().collect();
        chunks.sort_by_key(|chunk| &chunk.offset);
        let places = chunks.into_iter().map(|chunk| (chunk.address, chunk.size)).collect();
        wire::ChunkPlaces { variable: variable.to_owned(), places }
    }

    /// Describes the chunks that the shape of the variable requires but the file lacks; `None` if all exist, once each.
    pub fn missing(&self) -> Option<String> {
        if self.chunk.is_empty() {
            return None;
        }
        let each = || self.shape.iter().zip(&self.chunk).map(|(length, size)| length.div_ceil((*size).max(1)));
        let Some(wanted) = each().try_fold(1_u64, u64::checked_mul) else {
            return Some(format!("more chunks than can be, for the shape {:?}", self.shape));
        };
        // Number of the chunk in row-major order; `None` for a chunk that has no place in the shape.
        let number = |chunk: &Stored| {
            let mut number = 0;
            for ((offset, size), count) in chunk.offset.iter().zip(&self.chunk).zip(each()) {
                let at = offset / (*size).max(1);
                if offset % (*size).max(1) != 0 || at >= count {
                    return None;
                }
                number = number * count + at;
            }
            Some(number)
        };
        let mut numbers = Vec::with_capacity(self.chunks.len());
        for chunk in &self.chunks {
            match number(chunk) {
                Some(number) => numbers.push(number),
                None => return Some(format!("a chunk at {:?}, where none can be", chunk.offset)),
            }
        }
        numbers.sort_unstable();
        if numbers.windows(2).any(|pair| pair[0] == pair[1]) {
            return Some("a chunk is there twice".into());
        }
        if numbers.len() as u64 == wanted {
            return None;
        }
        let gap = numbers.iter().zip(0..).position(|(number, at)| *number != at).unwrap_or(numbers.len());
        let (mut rest, mut offset) = (gap as u64, Vec::new());
        let counts: Vec<u64> = each().collect();
        for (count, size) in counts.iter().zip(&self.chunk).rev() {
            offset.insert(0, rest % count * size);
            rest /= count;
        }
        Some(format!("{} of {wanted} chunks are there, none at {offset:?}", numbers.len()))
    }
}

/// An HDF5 identifier that is closed when it is dropped. It is made and dropped only while the lock is held.
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

/// Opens a file through HDF5. Call it, and drop the identifier, while the lock is held.
fn open(path: &Path, flags: u32) -> Result<Id, ChunkError> {
    let name = c_string(path, path.as_os_str().as_bytes())?;
    silence_hdf5();
    // SAFETY: the lock is held; the name is a NUL-terminated string that lives through the call.
    let id = unsafe { h5f::H5Fopen(name.as_ptr(), flags, h5p::H5P_DEFAULT) };
    if id < 0 {
        return Err(error(path, "open the file", String::new()));
    }
    keep_from_children(path);
    Ok(Id(id, h5f::H5Fclose))
}

impl File<'_> {
    /// Opens a variable, or the root group, which has the attributes of the file.
    fn object(&self, variable: Option<&str>) -> Result<Id, ChunkError> {
        let Some(variable) = variable else {
            // SAFETY: the lock is held, the file is open, and the name is a literal.
            let id = unsafe { h5g::H5Gopen2(self.id.0, c"/".as_ptr(), h5p::H5P_DEFAULT) };
            return if id < 0 {
                Err(error(self.path, "open the root group", String::new()))
            } else {
                Ok(Id(id, h5g::H5Gclose))
            };
        };
        self.dataset(variable)
    }

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

/// Writes chunks into a file that defines their variables. Other threads may use the libraries in between, since the
/// lock is held only within each call.
#[derive(Debug)]
pub struct ChunkWriter {
    /// Is `None` only after the writer was dropped or closed.
    file: Option<Id>,
    path: PathBuf,
}

impl ChunkWriter {
    /// Opens a file that nothing else has open.
    ///
    /// # Errors
    /// Returns an error if it cannot be opened for writing.
    pub fn open(path: &Path) -> Result<ChunkWriter, ChunkError> {
        let _lock = netcdf_sys::libnetcdf_lock.lock();
        Ok(ChunkWriter { file: Some(open(path, h5f::H5F_ACC_RDWR)?), path: path.into() })
    }

    fn with<T>(&self, work: impl FnOnce(&File<'_>) -> Result<T, ChunkError>) -> Result<T, ChunkError> {
        let _lock = netcdf_sys::libnetcdf_lock.lock();
        silence_hdf5(); // this may be another thread than the one that opened the file
        match &self.file {
            Some(id) => work(&File { id, path: &self.path }),
            None => Err(error(&self.path, "write to the closed file", String::new())),
        }
    }

    /// Writes chunks of a variable. The order of writing decides their places in the file.
    ///
    /// # Errors
    /// Returns an error if the variable cannot be opened, or if a chunk cannot be written (disk full, wrong offset).
    pub fn write(&self, variable: &str, chunks: &[Chunk]) -> Result<(), ChunkError> {
        self.with(|file| write_all(file, variable, chunks))
    }

    /// Replaces the value of an attribute of a variable, or without one of the file, by another of the same type and
    /// size. The file becomes the same as if this had been written at first.
    ///
    /// # Errors
    /// Returns an error if there is no such attribute, or if it has another type or size.
    pub(crate) fn set_attribute(
        &self,
        variable: Option<&str>,
        attribute: &str,
        value: &Value,
    ) -> Result<(), ChunkError> {
        self.with(|file| set_attribute(file, variable, attribute, value))
    }

    /// Replaces the values of a variable that is stored in one block by as many others of the same type. The file
    /// becomes the same as if these had been written at first.
    ///
    /// # Errors
    /// Returns an error if there is no such variable, or if it has another type or size.
    pub(crate) fn set_values(&self, variable: &str, values: &Values) -> Result<(), ChunkError> {
        self.with(|file| set_values(file, variable, values))
    }

    /// Removes an attribute of a variable.
    ///
    /// # Errors
    /// Returns an error if there is no such attribute.
    pub(crate) fn remove_attribute(&self, variable: &str, attribute: &str) -> Result<(), ChunkError> {
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
    /// Returns an error if anything could not be written.
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

/// Returns true if the type is that of values of this class and width, in little-endian order where there is one, and
/// not of texts that are stored elsewhere.
fn is_type(stored: &Id, class: h5t::H5T_class_t, width: usize) -> bool {
    let is_text = class == h5t::H5T_class_t::H5T_STRING;
    // SAFETY: the lock is held, and the type is open.
    unsafe {
        h5t::H5Tget_class(stored.0) == class
            && h5t::H5Tget_size(stored.0) == width
            && if is_text {
                h5t::H5Tis_variable_str(stored.0) == 0
            } else {
                width == 1 || h5t::H5Tget_order(stored.0) == h5t::H5T_order_t::H5T_ORDER_LE
            }
    }
}

/// Returns the bytes of values as they are stored.
fn plain<T: Element>(values: &[T]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of_val(values));
    T::bytes(values, false, &mut bytes);
    bytes
}

fn set_attribute(file: &File<'_>, variable: Option<&str>, attribute: &str, value: &Value) -> Result<(), ChunkError> {
    let fail = |action| error(file.path, action, format!("{}:{attribute}", variable.unwrap_or_default()));
    let (object, name) = (file.object(variable)?, c_string(file.path, attribute.as_bytes())?);
    // SAFETY: the lock is held, the object is open, the name lives through the call.
    let id = unsafe { h5a::H5Aopen(object.0, name.as_ptr(), h5p::H5P_DEFAULT) };
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
    use h5t::H5T_class_t::{H5T_FLOAT, H5T_INTEGER, H5T_STRING};
    let (class, width, bytes) = match value {
        Value::F32(numbers) => (H5T_FLOAT, 4, plain(numbers)),
        Value::F64(numbers) => (H5T_FLOAT, 8, plain(numbers)),
        Value::I32(numbers) => (H5T_INTEGER, 4, plain(numbers)),
        Value::Text(text) => (H5T_STRING, text.len(), text.as_bytes().to_vec()),
    };
    // SAFETY: the lock is held, and the attribute is open.
    if !is_type(&stored, class, width) || unsafe { h5a::H5Aget_storage_size(id.0) } != bytes.len() as u64 {
        return Err(fail("put a value of another type or size into attribute "));
    }
    // SAFETY: the lock is held, attribute and type are open; the buffer has as many bytes as the attribute (checked
    // above), in the very type that it is stored in, and lives through the call.
    let status = unsafe { h5a::H5Awrite(id.0, stored.0, bytes.as_ptr().cast()) };
    if status < 0 { Err(fail("write attribute ")) } else { Ok(()) }
}

fn set_values(file: &File<'_>, variable: &str, values: &Values) -> Result<(), ChunkError> {
    let fail = |action| error(file.path, action, variable.into());
    let dataset = file.dataset(variable)?;
    // SAFETY: the lock is held and the dataset is open; the type is closed by Id.
    let stored = unsafe { h5d::H5Dget_type(dataset.0) };
    if stored < 0 {
        return Err(fail("read the type of variable "));
    }
    let stored = Id(stored, h5t::H5Tclose);
    use h5t::H5T_class_t::{H5T_FLOAT, H5T_INTEGER};
    let (class, width, bytes) = match values {
        Values::I8(values) => (H5T_INTEGER, 1, plain(values)),
        Values::I32(values) => (H5T_INTEGER, 4, plain(values)),
        Values::F32(values) => (H5T_FLOAT, 4, plain(values)),
        Values::F64(values) => (H5T_FLOAT, 8, plain(values)),
    };
    // SAFETY: the lock is held, and the dataset is open.
    if !is_type(&stored, class, width) || unsafe { h5d::H5Dget_storage_size(dataset.0) } != bytes.len() as u64 {
        return Err(fail("put values of another type, or another number of them, into variable "));
    }
    // SAFETY: the lock is held, dataset and type are open; the buffer has as many bytes as the whole dataset (checked
    // above), in the very type that it is stored in, and lives through the call.
    let status = unsafe {
        h5d::H5Dwrite(dataset.0, stored.0, h5s::H5S_ALL, h5s::H5S_ALL, h5p::H5P_DEFAULT, bytes.as_ptr().cast())
    };
    if status < 0 { Err(fail("write variable ")) } else { Ok(()) }
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

/// Returns filters and chunks of variables of a file.
///
/// # Errors
/// Returns an error if the file or a variable cannot be opened, or if an index is damaged.
pub fn layouts(path: &Path, variables: &[&str]) -> Result<Vec<Layout>, ChunkError> {
    let _lock = netcdf_sys::libnetcdf_lock.lock();
    let id = open(path, h5f::H5F_ACC_RDONLY)?; // closed before the lock is released
    variables.iter().map(|name| layout(&File { id: &id, path }, name)).collect()
}

/// The operation that is always refused.
const OUTSIDE: &str = "take values from another file, for ";

/// Returns true if HDF5 would take the values of a dataset from other files, by its creation properties. Call it while
/// the lock is held.
fn is_elsewhere(list: &Id) -> bool {
    // SAFETY: the lock is held and the list is open.
    let (kind, files) = unsafe { (h5p::H5Pget_layout(list.0), h5p::H5Pget_external_count(list.0)) };
    kind == h5d::H5D_layout_t::H5D_VIRTUAL || files != 0
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
    let kind = unsafe { h5p::H5Pget_layout(list.0) };
    if is_elsewhere(&list) {
        return Err(error(file.path, OUTSIDE, name.into()));
    }
    if kind != h5d::H5D_layout_t::H5D_CHUNKED {
        // SAFETY: the lock is held and the dataset is open.
        let (address, size) = unsafe { (h5d::H5Dget_offset(dataset.0), h5d::H5Dget_storage_size(dataset.0)) };
        // Values that were never written, and those of a few bytes that are stored among the definitions, have no
        // address.
        return Ok(Layout { block: (address != u64::MAX).then_some((address, size)), ..Layout::default() });
    }
    let chunk = sizes(rank, |sizes| {
        // SAFETY: the lock is held and the list is open; there is room for as many sizes as the dataset has dimensions.
        unsafe { h5p::H5Pget_chunk(list.0, rank as i32, sizes) }
    });
    let chunk = chunk.ok_or_else(|| error(file.path, "read the chunk shape of ", name.into()))?;
    let filters = filters(&list).ok_or_else(|| error(file.path, "read the filters of ", name.into()))?;
    let space = space(file, &dataset, name)?;
    let shape = sizes(rank, |sizes| {
        // SAFETY: the lock is held and the space is open; there is room for as many lengths as it has dimensions.
        unsafe { h5s::H5Sget_simple_extent_dims(space.0, sizes, std::ptr::null_mut()) }
    });
    let shape = shape.ok_or_else(|| error(file.path, "read the shape of ", name.into()))?;
    let chunk_bytes = chunk.iter().try_fold(width(file, &dataset, name)?, |all, size| all.checked_mul(*size));
    let chunk_bytes = chunk_bytes.ok_or_else(|| error(file.path, "have chunks so large for ", name.into()))?;
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
    Ok(Layout { filters, chunks, shape, chunk, chunk_bytes, block: None })
}

/// Returns the sizes in all dimensions, from a function that returns the number of those that it has filled in.
fn sizes(rank: usize, fill: impl FnOnce(*mut u64) -> i32) -> Option<Vec<u64>> {
    let mut sizes = vec![0; rank];
    let filled = fill(sizes.as_mut_ptr());
    (usize::try_from(filled) == Ok(rank)).then_some(sizes)
}

/// Returns the size of an element in bytes.
fn width(file: &File<'_>, dataset: &Id, name: &str) -> Result<u64, ChunkError> {
    // SAFETY: the lock is held and the dataset is open; the type is closed by Id.
    let stored = unsafe { h5d::H5Dget_type(dataset.0) };
    if stored < 0 {
        return Err(error(file.path, "read the type of ", name.into()));
    }
    let stored = Id(stored, h5t::H5Tclose);
    // SAFETY: the lock is held and the type is open.
    Ok(unsafe { h5t::H5Tget_size(stored.0) } as u64)
}

/// Returns the filters in a list of creation properties.
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
        if id < 0 {
            return None;
        }
        found.push(Filter::of(id, &values));
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

    fn stored(offset: &[u64], address: u64) -> Stored {
        Stored { offset: offset.into(), address, size: 9, filter_mask: 0 }
    }

    #[test]
    fn places_are_in_the_order_of_the_values() {
        let chunks = vec![stored(&[0, 12], 70), stored(&[0, 0], 90), stored(&[0, 6], 80)];
        let layout = Layout { chunks, ..Layout::default() };
        assert_eq!(layout.places("SSH").places, [(90, 9), (80, 9), (70, 9)]);
    }

    #[test]
    fn chunks_are_held_against_the_shape() {
        let all = [[0, 0], [0, 4], [3, 0], [3, 4]];
        let layout = |offsets: &[[u64; 2]]| Layout {
            chunks: offsets.iter().map(|offset| stored(offset, 0)).collect(),
            shape: vec![4, 6],
            chunk: vec![3, 4],
            ..Layout::default()
        };
        assert_eq!(layout(&all).missing(), None);
        assert_eq!(Layout::default().missing(), None);
        let missing = |offsets: &[[u64; 2]]| layout(offsets).missing().unwrap_or_default();
        assert_eq!(missing(&[]), "0 of 4 chunks are there, none at [0, 0]");
        assert_eq!(missing(&all[..3]), "3 of 4 chunks are there, none at [3, 4]");
        assert_eq!(missing(&[all[3], all[0], all[2]]), "3 of 4 chunks are there, none at [0, 4]");
        assert_eq!(missing(&[all[0], all[1], all[1], all[3]]), "a chunk is there twice");
        assert_eq!(missing(&[[0, 0], [0, 5]]), "a chunk at [0, 5], where none can be");
        assert_eq!(missing(&[[6, 0]]), "a chunk at [6, 0], where none can be");
        let endless = Layout { shape: vec![u64::MAX; 2], chunk: vec![1; 2], ..Layout::default() };
        assert!(endless.missing().is_some_and(|what| what.starts_with("more chunks than can be")));
    }
}
