//! Which files of a grid directory production reads.

use super::diagnostics::DIAGNOSTICS_FILE;
use super::error::GridError;
use crate::held::Held;
use crate::mds::MdsFile;
use edp_protocol::store::Files;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Grid files in MDS format that take precedence over the geometry file.
pub(super) const MDS_GRID: [&str; 6] = ["XC", "YC", "XG", "YG", "RC", "RF"];

/// The files of a grid directory that decide what granules hold, sorted: native geometry, latlon geometry, list of
/// diagnostics and MDS grid files. All but the native geometry are left out where they are absent.
///
/// # Errors
/// The directory cannot be read; the native geometry is missing; a geometry is there several times.
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
    found.sort();
    found.dedup();
    Ok(found)
}

/// The native geometry.
pub(super) fn native(directory: &Path, held: &Held) -> Result<PathBuf, GridError> {
    one(directory, held, "native", "*native*.nc")
}

/// The latlon geometry.
pub(super) fn latlon(directory: &Path, held: &Held) -> Result<PathBuf, GridError> {
    one(directory, held, "latlon", "*latlon*.nc")
}

fn one(directory: &Path, held: &Held, what: &'static str, pattern: &'static str) -> Result<PathBuf, GridError> {
    let names = held.names(directory).map_err(|source| GridError::Read { path: directory.to_owned(), source })?;
    find(directory, &names, what)?.ok_or_else(|| none(directory, what, pattern))
}

fn none(directory: &Path, what: &'static str, pattern: &'static str) -> GridError {
    GridError::NoGeometry { directory: directory.to_owned(), what, pattern }
}

/// The one name `*<word>*.nc` among those of a directory, if any, as a path.
fn find(directory: &Path, names: &[OsString], word: &'static str) -> Result<Option<PathBuf>, GridError> {
    // hidden files are what other programs keep beside the real ones
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

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
