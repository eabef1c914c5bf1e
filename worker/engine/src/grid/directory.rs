//! The files of a grid directory that production reads.

use super::diagnostics::{DIAGNOSTICS_FILE, Diagnostics, MAX_LIST};
use super::error::GridError;
use super::{MAX_LEVELS, MAX_N};
use crate::mds::compact::TILES;
use crate::mds::{Header, MAX_HEADER, MdsError, MdsFile};
use crate::verified_files::VerifiedFiles;
use edp_files::Files;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Names of the grid files in MDS format, which take precedence over the geometry file.
pub(super) const MDS_GRID: [&str; 6] = ["XC", "YC", "XG", "YG", "RC", "RF"];

/// Largest size of a geometry file in bytes. All fractions and masks of LLC1080 with 90 levels, uncompressed, have 20
/// GiB.
const MAX_GEOMETRY: u64 = 32 << 30;

/// Number of bytes that are hashed in a moment.
const LITTLE: u64 = 64 << 20;

/// Returns the largest size in bytes that a file of a grid directory may have, by its name. Nothing larger can be part
/// of a grid.
pub fn largest(path: &Path) -> u64 {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match name {
        DIAGNOSTICS_FILE => MAX_LIST as u64,
        "RC.data" | "RF.data" => 8 * (MAX_LEVELS as u64 + 1),
        _ if name.ends_with(".data") => 8 * (TILES * MAX_N * MAX_N) as u64,
        _ if name.ends_with(".meta") => MAX_HEADER as u64,
        _ => MAX_GEOMETRY,
    }
}

/// Refuses a data file that is much larger than its header says, before it is hashed. All other problems of the two
/// files show when they are read.
fn check_pair(stem: &Path, files: &Files) -> Result<(), GridError> {
    let [meta, data] = MdsFile::pair(stem);
    let mut text = Vec::new();
    let read = files.open(&meta).and_then(|file| file.take(MAX_HEADER as u64 + 1).read_to_end(&mut text));
    let (Ok(_), Ok(found)) = (read, files.metadata(&data)) else { return Ok(()) };
    match Header::parse(&meta.display().to_string(), &text) {
        Ok(header) if found.len() > header.byte_length().max(LITTLE) => {
            let (file, expected, found) = (data.display().to_string(), header.byte_length(), found.len());
            Err(MdsError::Length { file, expected, found }.into())
        }
        _ => Ok(()),
    }
}

/// Returns the files of a grid directory that decide the content of granules, sorted: native geometry, latlon geometry,
/// list of diagnostics and MDS grid files. Absent files are omitted, except the native geometry.
///
/// # Errors
/// Returns an error if the directory cannot be read, if the native geometry is missing, if there are several files for
/// one geometry, or if a data file is much larger than its header says.
pub fn files(directory: &Path, files: &Files) -> Result<Vec<PathBuf>, GridError> {
    let names = files.names(directory).map_err(|source| GridError::Read { path: directory.to_owned(), source })?;
    let mut found = vec![find(directory, &names, "native")?.ok_or_else(|| none(directory, "native", "*native*.nc"))?];
    found.extend(find(directory, &names, "latlon")?);
    let mds = MDS_GRID.iter().flat_map(|name| MdsFile::pair(&directory.join(name)));
    for path in mds.chain([directory.join(DIAGNOSTICS_FILE)]) {
        match files.metadata(&path) {
            Ok(_) => found.push(path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(GridError::Read { path, source }),
        }
    }
    for name in MDS_GRID {
        check_pair(&directory.join(name), files)?;
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Returns the path of the native geometry.
pub(super) fn native(directory: &Path, verified: &VerifiedFiles) -> Result<PathBuf, GridError> {
    one(directory, verified, "native", "*native*.nc")
}

/// Returns the path of the latlon geometry.
pub(super) fn latlon(directory: &Path, verified: &VerifiedFiles) -> Result<PathBuf, GridError> {
    one(directory, verified, "latlon", "*latlon*.nc")
}

fn one(
    directory: &Path,
    verified: &VerifiedFiles,
    what: &'static str,
    pattern: &'static str,
) -> Result<PathBuf, GridError> {
    let names = verified.names(directory).map_err(|source| GridError::Read { path: directory.to_owned(), source })?;
    find(directory, &names, what)?.ok_or_else(|| none(directory, what, pattern))
}

fn none(directory: &Path, what: &'static str, pattern: &'static str) -> GridError {
    GridError::NoGeometry { directory: directory.to_owned(), what, pattern }
}

/// Returns the path of the only file `*<word>*.nc` among the names of a directory, if there is one.
fn find(directory: &Path, names: &[OsString], word: &'static str) -> Result<Option<PathBuf>, GridError> {
    // hidden files belong to other programs
    let geometry =
        |name: &&str| !name.starts_with('.') && name.strip_suffix(".nc").is_some_and(|stem| stem.contains(word));
    let found: Vec<&str> = names.iter().filter_map(|name| name.to_str()).filter(geometry).collect();
    match found[..] {
        [] => Ok(None),
        [name] => Ok(Some(directory.join(name))),
        _ => {
            let names = found.into_iter().map(str::to_owned).collect();
            Err(GridError::SeveralGeometries { directory: directory.to_owned(), what: word, names })
        }
    }
}

/// Reads the list in a grid directory, from the verified files if there are any. Returns `None` if there is no
/// list.
///
/// # Errors
/// Returns an error if it exists but cannot be read or parsed.
pub fn diagnostics(directory: &Path, verified: &VerifiedFiles) -> Result<Option<Diagnostics>, GridError> {
    let path = directory.join(DIAGNOSTICS_FILE);
    let fail = |source| GridError::Read { path: path.clone(), source };
    if !verified.has(&path).map_err(fail)? {
        return Ok(None);
    }
    let text = verified.read(&path, MAX_LIST).map_err(fail)?; // the parser refuses what is larger
    Ok(Some(Diagnostics::parse(&path.display().to_string(), &text)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_list_of_diagnostics_may_be_absent() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(diagnostics(dir.path(), &VerifiedFiles::default()).unwrap(), None);
        let list = "   1 |THETA   | 50 |       |SMR     MR|degC            |Potential Temperature\n";
        std::fs::write(dir.path().join(DIAGNOSTICS_FILE), list).unwrap();
        assert!(diagnostics(dir.path(), &VerifiedFiles::default()).unwrap().is_some());
    }

    #[test]
    fn what_can_be_no_part_of_a_grid_is_not_hashed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a_native.nc"), "").unwrap();
        let text = "nDims=[2];dimList=[6,1,6,78,1,78];dataprec=['float32'];nrecords=[1];";
        std::fs::write(dir.path().join("XC.meta"), text).unwrap();
        let data = std::fs::File::create(dir.path().join("XC.data")).unwrap();
        data.set_len(4 * 6 * 78).unwrap();
        assert_eq!(files(dir.path(), &Files::default()).unwrap().len(), 3);
        data.set_len(30 << 30).unwrap();
        let message = files(dir.path(), &Files::default()).unwrap_err();
        let message = std::error::Error::source(&message).unwrap().to_string();
        assert!(message.contains("XC.data: 32212254720 bytes, but") && message.contains("exactly 1872"), "{message}");
        for (name, most) in [("RC.data", 8008), ("RF.meta", MAX_HEADER as u64), ("a_native.nc", MAX_GEOMETRY)] {
            assert_eq!(largest(&dir.path().join(name)), most, "{name}");
        }
        assert!(largest(Path::new("XG.data")) < 8 << 30);
    }

    #[test]
    fn lists_what_production_reads() {
        let dir = tempfile::tempdir().unwrap();
        let touch = |name: &str| std::fs::write(dir.path().join(name), "").unwrap();
        let message = files(dir.path(), &Files::default()).unwrap_err().to_string();
        assert!(message.contains("no native geometry: a file *native*.nc is expected"), "{message}");
        touch("GRID_native_llc0004.nc");
        for name in ["XC.data", "XC.meta", "RF.data", "hFacC.data", "notes.txt", DIAGNOSTICS_FILE, "a_latlon.nc"] {
            touch(name);
        }
        touch("._GRID_native_llc0004.nc");
        let names: Vec<_> = files(dir.path(), &Files::default()).unwrap();
        let names: Vec<_> = names.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["GRID_native_llc0004.nc", "RF.data", "XC.data", "XC.meta", "a_latlon.nc", DIAGNOSTICS_FILE]);
        touch("b_native.nc");
        let message = files(dir.path(), &Files::default()).unwrap_err().to_string();
        assert!(message.contains("several native geometries: GRID_native_llc0004.nc, b_native.nc: keep"), "{message}");
        assert!(
            files(&dir.path().join("absent"), &Files::default())
                .unwrap_err()
                .to_string()
                .contains("absent: cannot be read")
        );
    }
}
