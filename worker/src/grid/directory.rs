//! Which files of a grid directory production reads.

use super::diagnostics::DIAGNOSTICS_FILE;
use super::error::GridError;
use crate::mds::MdsFile;
use std::path::{Path, PathBuf};

/// Grid files in MDS format that take precedence over the geometry file.
pub(super) const MDS_GRID: [&str; 6] = ["XC", "YC", "XG", "YG", "RC", "RF"];

/// The files of a grid directory that decide what granules hold, sorted: native geometry, latlon geometry, list of
/// diagnostics and MDS grid files. All but the native geometry are left out where they are absent.
///
/// # Errors
/// The directory cannot be read; the native geometry is missing; a geometry is there several times.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>, GridError> {
    let mut files = vec![native(directory)?];
    files.extend(find(directory, "latlon")?);
    let mds = MDS_GRID.iter().flat_map(|name| MdsFile::pair(&directory.join(name)));
    for path in mds.chain([directory.join(DIAGNOSTICS_FILE)]) {
        if exists(&path)? {
            files.push(path);
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// The native geometry.
pub(super) fn native(directory: &Path) -> Result<PathBuf, GridError> {
    find(directory, "native")?.ok_or_else(|| GridError::NoGeometry {
        directory: directory.to_owned(),
        what: "native",
        pattern: "*native*.nc",
    })
}

/// The latlon geometry.
pub(super) fn latlon(directory: &Path) -> Result<PathBuf, GridError> {
    find(directory, "latlon")?.ok_or_else(|| GridError::NoGeometry {
        directory: directory.to_owned(),
        what: "latlon",
        pattern: "*latlon*.nc",
    })
}

/// Whether a file is there; an error if that cannot be found out.
pub(super) fn exists(path: &Path) -> Result<bool, GridError> {
    path.try_exists().map_err(|source| GridError::Read { path: path.to_owned(), source })
}

/// The one file `*<word>*.nc` of a directory, if any.
fn find(directory: &Path, word: &'static str) -> Result<Option<PathBuf>, GridError> {
    let fail = |source| GridError::Read { path: directory.to_owned(), source };
    let mut names = Vec::new();
    for entry in directory.read_dir().map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        // hidden files are what other programs keep beside the real ones
        if let Some(name) = name.to_str()
            && !name.starts_with('.')
            && name.strip_suffix(".nc").is_some_and(|stem| stem.contains(word))
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    match names.as_slice() {
        [] => Ok(None),
        [name] => Ok(Some(directory.join(name))),
        _ => Err(GridError::SeveralGeometries { directory: directory.to_owned(), what: word, names }),
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
        let message = files(dir.path()).unwrap_err().to_string();
        assert!(message.contains("no native geometry: a file *native*.nc is expected"), "{message}");
        touch("GRID_native_llc0004.nc");
        for name in ["XC.data", "XC.meta", "RF.data", "hFacC.data", "notes.txt", DIAGNOSTICS_FILE, "a_latlon.nc"] {
            touch(name);
        }
        touch("._GRID_native_llc0004.nc");
        let names: Vec<_> = files(dir.path()).unwrap();
        let names: Vec<_> = names.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["GRID_native_llc0004.nc", "RF.data", "XC.data", "XC.meta", "a_latlon.nc", DIAGNOSTICS_FILE]);
        touch("b_native.nc");
        let message = files(dir.path()).unwrap_err().to_string();
        assert!(message.contains("several native geometries: GRID_native_llc0004.nc, b_native.nc: keep"), "{message}");
        assert!(files(&dir.path().join("absent")).unwrap_err().to_string().contains("absent: cannot be read"));
    }
}
