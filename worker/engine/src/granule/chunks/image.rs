//! Access through HDF5 to a file whose bytes are in memory, and checks of what such a file may contain.

use super::{ChunkError, File, Id, Layout, OUTSIDE, c_string, error, is_elsewhere, layout};
use crate::libraries::silence_hdf5;
use hdf5_metno_sys::{h5, h5d, h5f, h5fd, h5g, h5i, h5l, h5o, h5p};
use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Largest number of objects of a file, counted along all paths that lead to them.
const MOST_OBJECTS: usize = 100_000;

/// Largest length of the name of a link in bytes.
const LONGEST_NAME: usize = 4096;

/// Largest depth of groups within groups.
const DEEPEST: usize = 32;

/// Refuses a file that leads to other files: by external, symbolic or user-defined links, or by datasets that are
/// stored in other files or are composed of datasets of other files. No target of such a link is opened, and no values
/// are read. Symbolic links are refused even if they lead into the same file, since they can pass through other links;
/// no known program writes them into NetCDF files.
///
/// # Errors
/// Returns an error if the file does so, if it is not an HDF5 file, if it is damaged, or if it has more objects or
/// deeper groups than any file needs.
pub(crate) fn refuse_outside(image: &[u8]) -> Result<(), ChunkError> {
    let _lock = netcdf_sys::libnetcdf_lock.lock();
    let path = Path::new("");
    let id = open_image(path, image)?; // closed before the lock is released
    check_group(&File { id: &id, path }, &id, &mut Vec::new(), &mut 0)
}

/// Checks the content of a group and of the groups below it. `way` has the names of the groups that lead here. Groups
/// may contain themselves, which the limits end.
fn check_group(file: &File<'_>, group: &Id, way: &mut Vec<String>, objects: &mut usize) -> Result<(), ChunkError> {
    let fail = |action, name: &str| error(file.path, action, name.to_owned());
    let mut info = h5g::H5G_info_t::default();
    // SAFETY: the lock is held, the group is open, and the library fills what it is given.
    if unsafe { h5g::H5Gget_info(group.0, &mut info) } < 0 {
        return Err(fail("read the group /", &way.join("/")));
    }
    for number in 0..info.nlinks {
        *objects += 1;
        if *objects > MOST_OBJECTS || way.len() > DEEPEST {
            return Err(fail("read so many objects, or groups so deep, below /", &way.join("/")));
        }
        let Some(name) = link_name(group, number) else {
            return Err(fail("read the name of a link of /", &way.join("/")));
        };
        let shown = name.to_string_lossy().into_owned();
        let whole = way.iter().chain([&shown]).cloned().collect::<Vec<_>>().join("/");
        // HDF5 would take the name of a link that contains a slash for a path through groups.
        if name.as_bytes().contains(&b'/') {
            return Err(fail("be given a link of the name ", &whole));
        }
        let mut link = MaybeUninit::<h5l::H5L_info1_t>::zeroed();
        // SAFETY: the lock is held and the group is open; the name ends with NUL, and the library fills what it is given.
        #[allow(deprecated)] // all versions of the library have this one
        if unsafe { h5l::H5Lget_info1(group.0, name.as_ptr(), link.as_mut_ptr(), h5p::H5P_DEFAULT) } < 0 {
            return Err(fail("read the link ", &whole));
        }
        // SAFETY: the kind of the link is the first field, a C enumeration, which may have values that the type in Rust
        // does not have; so it is read as the number that it is.
        let kind = unsafe { link.as_ptr().cast::<c_int>().read() };
        if kind != h5l::H5L_type_t::H5L_TYPE_HARD as c_int {
            return Err(fail("follow a link, which may lead to another file: ", &whole));
        }
        // SAFETY: as above; a hard link leads to an object of this file.
        let object = unsafe { h5o::H5Oopen(group.0, name.as_ptr(), h5p::H5P_DEFAULT) };
        if object < 0 {
            return Err(fail("open ", &whole));
        }
        let object = Id(object, h5o::H5Oclose);
        // SAFETY: the lock is held and the object is open.
        match unsafe { h5i::H5Iget_type(object.0) } {
            h5i::H5I_type_t::H5I_GROUP => {
                way.push(shown);
                check_group(file, &object, way, objects)?;
                way.pop();
            }
            h5i::H5I_type_t::H5I_DATASET => {
                // SAFETY: the lock is held and the object is open; the list is closed by Id.
                let list = unsafe { h5d::H5Dget_create_plist(object.0) };
                if list < 0 {
                    return Err(fail("read the layout of ", &whole));
                }
                if is_elsewhere(&Id(list, h5p::H5Pclose)) {
                    return Err(fail(OUTSIDE, &whole));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns the name of a link of a group, by its number; `None` if it cannot be read or is too long.
fn link_name(group: &Id, number: u64) -> Option<CString> {
    let get = |name: *mut c_char, bytes: usize| {
        let (by, order) = (h5::H5_index_t::H5_INDEX_NAME, h5::H5_iter_order_t::H5_ITER_INC);
        // SAFETY: the lock is held and the group is open; the library writes at most so many bytes, and none without a
        // place for them.
        unsafe { h5l::H5Lget_name_by_idx(group.0, c".".as_ptr(), by, order, number, name, bytes, h5p::H5P_DEFAULT) }
    };
    let length = usize::try_from(get(std::ptr::null_mut(), 0)).ok().filter(|length| *length <= LONGEST_NAME)?;
    let mut bytes = vec![0_u8; length + 1];
    let written = get(bytes.as_mut_ptr().cast(), bytes.len());
    if usize::try_from(written) != Ok(length) {
        return None;
    }
    CString::new(&bytes[..length]).ok()
}

/// Returns the same as [`super::layouts`], for a file whose bytes are in memory, and which [`refuse_outside`] has
/// accepted. It has no name, so errors do not name it either.
///
/// # Errors
/// Returns the errors of [`super::layouts`].
pub(crate) fn layouts_of(image: &[u8], variables: &[&str]) -> Result<Vec<Layout>, ChunkError> {
    let _lock = netcdf_sys::libnetcdf_lock.lock();
    let path = Path::new("");
    let id = open_image(path, image)?; // closed before the lock is released
    variables.iter().map(|name| layout(&File { id: &id, path }, name)).collect()
}

/// Opens bytes in memory through HDF5, which reads them in place. Call it, and drop the identifier, while the lock is
/// held and the bytes exist.
fn open_image(path: &Path, image: &[u8]) -> Result<Id, ChunkError> {
    silence_hdf5();
    let fail = || error(path, "open the file", String::new());
    // HDF5 takes two images of one name for the same file.
    let name = format!("/image-{}", IMAGES.fetch_add(1, Ordering::Relaxed));
    let name = c_string(path, name.as_bytes())?;
    // SAFETY: the lock is held; the list is closed by Id.
    let list = unsafe { h5p::H5Pcreate(*h5p::H5P_CLS_FILE_ACCESS) };
    if list < 0 {
        return Err(fail());
    }
    let list = Id(list, h5p::H5Pclose);
    let mut callbacks = h5fd::H5FD_file_image_callbacks_t {
        image_malloc: Some(image_malloc),
        image_memcpy: Some(image_memcpy),
        image_realloc: Some(image_realloc),
        image_free: Some(image_free),
        udata_copy: Some(image_of),
        udata_free: Some(image_kept),
        udata: image.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the lock is held and the list is open. The functions give out the bytes themselves wherever the library
    // would make a copy of them; opened for reading, it never writes to them. They live as long as the file is open,
    // which is the caller's promise.
    let id = unsafe {
        let ready = h5p::H5Pset_fapl_core(list.0, 1 << 16, 0) >= 0
            && h5p::H5Pset_file_image_callbacks(list.0, &mut callbacks) >= 0
            && h5p::H5Pset_file_image(list.0, image.as_ptr().cast_mut().cast(), image.len()) >= 0;
        if ready { h5f::H5Fopen(name.as_ptr(), h5f::H5F_ACC_RDONLY, list.0) } else { -1 }
    };
    if id < 0 { Err(fail()) } else { Ok(Id(id, h5f::H5Fclose)) }
}

/// Number of images that were opened.
static IMAGES: AtomicU64 = AtomicU64::new(0);

extern "C" fn image_malloc(_: usize, _: h5fd::H5FD_file_image_op_t, image: *mut c_void) -> *mut c_void {
    image
}

extern "C" fn image_memcpy(
    to: *mut c_void,
    _: *const c_void,
    _: usize,
    _: h5fd::H5FD_file_image_op_t,
    _: *mut c_void,
) -> *mut c_void {
    to // source and target are the image
}

extern "C" fn image_realloc(_: *mut c_void, _: usize, _: h5fd::H5FD_file_image_op_t, _: *mut c_void) -> *mut c_void {
    std::ptr::null_mut() // a file that is only read never grows
}

extern "C" fn image_free(_: *mut c_void, _: h5fd::H5FD_file_image_op_t, _: *mut c_void) -> h5::herr_t {
    0
}

unsafe extern "C" fn image_of(image: *mut c_void) -> *mut c_void {
    image
}

unsafe extern "C" fn image_kept(_: *mut c_void) -> h5::herr_t {
    0
}
