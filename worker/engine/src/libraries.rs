//! The netCDF and HDF5 libraries, as every program here uses them.
//!
//! Three of their defaults do harm in a production, and are switched off for every program that contains this crate:
//!
//! * **File locks.** HDF5 locks each file that it opens. Some parallel and network file systems have no locks, so that
//!   opening fails there; and a grid that another process has open for writing would fail the recipes that need it.
//!   Granules are written under names of their own, and inputs are protected by their digests, so locks protect
//!   nothing.
//! * **Descriptors that children inherit.** HDF5 opens files without `O_CLOEXEC`. [`open`] and [`create`] set the flag
//!   afterwards, so that a program that is started later does not keep a file open.
//! * **Messages on the terminal.** Callers get errors as values; see [`silence_hdf5`].
//!
//! `unsafe` is needed for one call of the C library before `main`, for calls of the two libraries that no safe crate
//! offers, and to refer to descriptors by their numbers.
#![allow(unsafe_code)]

use crate::codec;
use edp_protocol::Mode;
use edp_protocol::recipe::output_version;
use hdf5_metno_sys::{h5, h5e};
use rustix::io::FdFlags;
use std::ffi::{CStr, c_char, c_int, c_uint};
use std::fs;
use std::os::fd::{BorrowedFd, RawFd};
use std::path::Path;

unsafe extern "C" {
    fn setenv(name: *const c_char, value: *const c_char, overwrite: c_int) -> c_int;
    /// The function as the library has it; the binding takes a pointer in place of the mask.
    fn H5PLset_loading_state(mask: c_uint) -> h5::herr_t;
}

/// HDF5 reads this variable when it is first used, and the netCDF library, which opens the files, has no other way to
/// set it. Changing the environment is safe only while the process has one thread, which for a library is before
/// `main`. This way it holds for test programs too, whose `main` is not ours.
extern "C" fn switch_locks_off() {
    // SAFETY: the loader runs this before `main`, when there is one thread; both strings are static and end with NUL.
    unsafe { setenv(c"HDF5_USE_FILE_LOCKING".as_ptr(), c"FALSE".as_ptr(), 1) };
}

// SAFETY: these sections hold pointers to functions of this type, which the loader calls one after the other.
#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
static BEFORE_MAIN: extern "C" fn() = switch_locks_off;

/// Keeps HDF5 from printing its own error messages in this thread, where callers get errors as values, and from loading
/// plugins in this process: a file with a filter that the library does not have would otherwise run whatever is in the
/// directories of `HDF5_PLUGIN_PATH`. Granules and inputs need no plugins.
///
/// By default the library prints errors, which is set for each thread; the netCDF library switches it off only in the
/// thread that used it first. Call this before files are opened in a new thread, and first of all in `main`: only the
/// first call in a process can also keep the library from cleaning up when the process ends. After a close that has
/// failed because the disk was full, that clean-up reads freed memory and ends the process by a signal. Files that were
/// written are closed long before.
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

/// Returns the versions of the netCDF and HDF5 libraries.
fn versions() -> [String; 2] {
    let _lock = netcdf_sys::libnetcdf_lock.lock();
    let (mut major, mut minor, mut release) = (0, 0, 0);
    // SAFETY: the lock is held; the netCDF library gives a text that it keeps, the HDF5 library fills three numbers.
    let netcdf = unsafe {
        h5::H5get_libversion(&mut major, &mut minor, &mut release);
        CStr::from_ptr(netcdf_sys::nc_inq_libvers())
    };
    // "4.9.0 of ..." and the date of the build, which has no influence on files.
    let netcdf = netcdf.to_string_lossy().split_whitespace().next().unwrap_or_default().to_owned();
    [netcdf, format!("{major}.{minor}.{release}")]
}

/// Returns what decides the bytes of a granule besides its recipe, and nothing else: the output version of each mode,
/// the two libraries that arrange the file, and the encoders. Two programs with the same fingerprint make the same bytes
/// of the same recipe, whatever their own versions are.
pub fn fingerprint() -> String {
    // first of all: only the first call into the library can keep it from cleaning up at the end of the process
    silence_hdf5();
    let [netcdf, hdf5] = versions();
    let [corrected, edp2024, edp2026] = Mode::ALL.map(output_version);
    let libraries = codec::LIBRARIES.map(|(name, _, version)| format!(", {name} {version}")).concat();
    let encoders = codec::ENCODERS.map(|(name, version)| format!(", {name} {version}")).concat();
    format!("output {corrected}/{edp2024}/{edp2026}, netCDF-C {netcdf}, HDF5 {hdf5}{libraries}{encoders}")
}

/// Opens a NetCDF file for reading.
///
/// # Errors
/// Returns an error if it does not exist, or is not a NetCDF file.
pub fn open(path: &Path) -> netcdf::Result<netcdf::File> {
    silence_hdf5();
    let file = netcdf::open(path)?;
    keep_from_children(path);
    Ok(file)
}

/// Creates a NetCDF-4 file, replacing an existing one.
///
/// # Errors
/// Returns an error if it cannot be created.
pub fn create(path: &Path) -> netcdf::Result<netcdf::FileMut> {
    silence_hdf5();
    let file = netcdf::create_with(path, netcdf::Options::NETCDF4)?;
    keep_from_children(path);
    Ok(file)
}

/// Keeps programs that this process starts from now on from inheriting the descriptors of a file that a library has
/// just opened. A program that is started between the opening and this call still inherits them: it keeps the file from
/// being freed while it runs, and does no other harm, since no lock is tied to it.
pub(crate) fn keep_from_children(path: &Path) {
    let Ok(wanted) = rustix::fs::stat(path) else { return };
    let directory = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
    let Ok(entries) = fs::read_dir(directory) else { return };
    // All are listed before any is inspected: inspecting opens none, but the listing itself has a descriptor.
    let numbers: Vec<RawFd> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok())).collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // SAFETY: the descriptor is used for two calls here. Should another thread have closed it meanwhile, they fail,
        // or concern another file, which is then told apart by its identity.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let Ok(found) = rustix::fs::fstat(descriptor) else { continue };
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino) {
            // if this fails, the file is merely inherited
            let _ = rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn the_fingerprint_names_what_decides_bytes_and_nothing_else() {
        let [netcdf, hdf5] = versions();
        let [corrected, edp2024, edp2026] = Mode::ALL.map(output_version);
        let expected = format!(
            "output {corrected}/{edp2024}/{edp2026}, netCDF-C {netcdf}, HDF5 {hdf5}, libdeflate 1.26.1, planes 1"
        );
        assert_eq!(fingerprint(), expected);
        // Then netCDF-C and HDF5 are those that this workspace builds.
        if cfg!(feature = "static") {
            assert_eq!([netcdf.as_str(), &hdf5], ["4.10.1", "2.2.0"]);
        }
    }

    #[test]
    fn the_version_of_the_encoder_is_that_of_the_lock_file() {
        let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock")).unwrap();
        for (_, package, version) in codec::LIBRARIES {
            let (_, entry) = lock.split_once(&format!("name = \"{package}\"\nversion = \"")).unwrap();
            assert_eq!(entry.split('"').next().unwrap(), version);
        }
    }

    #[test]
    fn a_locked_file_is_read_and_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("locked.nc");
        create(&path).unwrap().close().unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        file.lock().unwrap();
        assert!(File::open(&path).unwrap().try_lock().is_err(), "the lock does not hold: nothing would be seen below");
        open(&path).unwrap();
        crate::granule::chunks::ChunkWriter::open(&path).unwrap().close().unwrap();
        create(&path).unwrap().close().unwrap();
    }

    #[test]
    fn a_child_does_not_inherit_files_of_the_libraries() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("parent.nc");
        let inherits = || {
            // the files that are open in the child, by the operating system's names
            let list = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
            assert!(list.status.success());
            String::from_utf8_lossy(&list.stdout).contains("parent.nc")
        };
        if !cfg!(target_os = "linux") {
            return;
        }
        let created = create(&path).unwrap();
        assert!(!inherits());
        created.close().unwrap();
        let opened = open(&path).unwrap();
        assert!(!inherits());
        drop(opened);
        let careless = netcdf::open(&path).unwrap();
        assert!(inherits(), "a file that is opened in another way is not seen either: nothing was seen above");
        drop(careless);
        let writer = crate::granule::chunks::ChunkWriter::open(&path).unwrap();
        assert!(!inherits());
        writer.close().unwrap();
    }
}
