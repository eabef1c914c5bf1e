//! Loading of resources, and their digests.

use super::load_once::{Limit, LoadOnce};
use super::{ModelGrid, ResourceError, Target, Texts};
use crate::cancel;
use crate::granule::skeletons::Skeletons;
use crate::granule::static_coordinates::StaticCoordinates;
use crate::grid::{self, GridError, Latlon, Native};
use crate::mapping::{self, Factors};
use crate::metadata::configuration::Configuration;
use crate::metadata::podaac::Table;
use crate::metadata::source::{self, Metadata};
use crate::metadata::{self, MAX_FILE_BYTES};
use crate::verified_files::{self, VerifiedFiles};
use edp_files::Files;
use edp_protocol::recipe::Digests;
use edp_protocol::{Digest, Location};
use edp_store::{Mirror, StoreError, Stores};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

/// Reads a text file written by the user: a configuration, a table or a job file.
///
/// # Errors
/// Returns an error if the file cannot be read, or if it is larger than [`MAX_FILE_BYTES`]; then it is something else,
/// and is not read to its end.
pub fn read(location: &Location, stores: &Stores) -> Result<Vec<u8>, ResourceError> {
    stores.read(location, MAX_FILE_BYTES as u64).map_err(|error| unread_text(error, location))
}

/// Reads a list that the user names, such as a job file. It is like [`read`], but the list may also come through a
/// pipe; see [`Stores::read_list`].
///
/// # Errors
/// Returns the errors of [`read`].
pub fn read_list(location: &Location, stores: &Stores) -> Result<Vec<u8>, ResourceError> {
    stores.read_list(location, MAX_FILE_BYTES as u64).map_err(|error| unread_text(error, location))
}

fn unread_text(error: StoreError, location: &Location) -> ResourceError {
    match (error, location) {
        (StoreError::Io { path, source }, _) => ResourceError::Read { path, source },
        (StoreError::TooLarge { .. }, Location::Local(path)) => ResourceError::TooLarge { path: path.clone() },
        (error, _) => ResourceError::Store(error),
    }
}

/// Returns a local directory with the content of a location, which is copied if it is on S3.
///
/// # Errors
/// Returns an error if the text is no location, or if its content cannot be fetched.
pub(super) fn directory(text: &str, stores: &Stores) -> Result<PathBuf, ResourceError> {
    stores.mirror(&text.parse()?).map_err(ResourceError::Store)
}

/// Returns the result of `look` at a directory if its digest is the planned one. On S3 the local copy may be out of
/// date; then it is made once more.
fn digested<T>(
    what: &'static str,
    location: &str,
    planned: &Digest,
    stores: &Stores,
    cancel: &AtomicBool,
    look: impl Fn(&Path, &Files) -> Result<(Digest, T), ResourceError>,
) -> Result<(Mirror, T), ResourceError> {
    let at: Location = location.parse()?;
    let files = stores.files_at(&at);
    let mirror = || stores.mirror_unless(&at, cancel).map_err(ResourceError::Store);
    let first = mirror()?;
    let (found, looked) = look(first.path(), &files)?;
    if found == *planned {
        return Ok((first, looked));
    }
    if !at.is_remote() {
        return Err(changed(what, location, found, planned));
    }
    stores.forget(&at, first.path());
    let again = mirror()?;
    let (found, looked) = look(again.path(), &files)?;
    if found == *planned { Ok((again, looked)) } else { Err(changed(what, location, found, planned)) }
}

/// Converts an error: a file of the grid that cannot be read is reported as for any other resource.
fn unread(error: GridError) -> ResourceError {
    match error {
        GridError::Read { path, source } => ResourceError::Read { path, source },
        error => ResourceError::Grid(error),
    }
}

/// Loads a part of the grid with the netCDF library.
///
/// The library reports that something is wrong, but not whether the content is wrong or a disk failed at that moment.
/// So its error counts only if all files can be read again and are unchanged, and the library reports it once more.
///
/// # Errors
/// Returns an error if a file cannot be read, was changed, or has unusable content.
pub(super) fn confirmed<T>(
    verified: &VerifiedFiles,
    cancel: &AtomicBool,
    load: impl Fn() -> Result<T, GridError>,
) -> Result<T, ResourceError> {
    match load() {
        Err(error) if !matches!(error, GridError::Read { .. }) => {
            verified.read_again(cancel)?;
            load().map_err(unread)
        }
        loaded => loaded.map_err(unread),
    }
}

fn changed(what: &'static str, location: &str, found: Digest, planned: &Digest) -> ResourceError {
    ResourceError::Changed { what, location: location.into(), found, planned: planned.clone() }
}

/// Loads the configuration and the metadata.
pub(super) fn load_texts(
    configuration: &str,
    metadata: &str,
    digests: &Digests,
    stores: &Stores,
    cancel: &AtomicBool,
) -> Result<Texts, ResourceError> {
    let bytes = read(&configuration.parse()?, stores)?;
    let found = Digest::of(&bytes);
    if found != digests.configuration {
        return Err(changed("configuration", configuration, found, &digests.configuration));
    }
    let (parsed, _) = Configuration::parse(configuration, &bytes)?;
    let look = |directory: &Path, files: &Files| {
        let paths = source::files(directory, files)?;
        let (verified, digests) = VerifiedFiles::open(paths.clone(), files, |_| MAX_FILE_BYTES as u64, cancel)?;
        Ok((digest_of_set(directory, &digests), (paths, verified)))
    };
    let (copy, (paths, verified)) = digested("metadata", metadata, &digests.metadata, stores, cancel, look)?;
    let (loaded, _) = Metadata::load_verified(copy.path(), paths, &verified)?;
    let (podaac, _) = load_table(copy.path(), &parsed, &verified)?;
    verified.are_unchanged()?;
    Ok(Texts { configuration: parsed, metadata: loaded, podaac })
}

/// Reads the PO.DAAC table that a configuration names, and returns it with the warnings about it. If the verified files
/// include it, the open file is read.
///
/// # Errors
/// Returns an error if the file is not in the metadata directory, or is not such a table.
pub(super) fn load_table(
    metadata: &Path,
    configuration: &Configuration,
    verified: &VerifiedFiles,
) -> Result<(Table, Vec<metadata::Warning>), ResourceError> {
    if configuration.podaac_file.is_empty() {
        return Ok((Table::none(), Vec::new()));
    }
    let path = metadata.join(&configuration.podaac_file);
    // The digest of the metadata covers the files of this directory; a table elsewhere could change under an unchanged
    // recipe.
    if path.extension().is_none_or(|end| end != "csv") || path.parent() != Some(metadata) {
        return Err(ResourceError::TableName { path });
    }
    let read = verified.read(&path, MAX_FILE_BYTES);
    let bytes = read.map_err(|source| ResourceError::Read { path: path.clone(), source })?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(ResourceError::TooLarge { path });
    }
    Ok(Table::parse(&path.display().to_string(), &bytes)?)
}

/// Loads the model grid, unless it would take more than `limit` bytes.
pub(super) fn load_grid(
    location: &str,
    planned: &Digest,
    stores: &Stores,
    cancel: &AtomicBool,
    limit: u64,
) -> Result<ModelGrid, ResourceError> {
    let look = |directory: &Path, files: &Files| {
        let (verified, digests) =
            VerifiedFiles::open(grid::files(directory, files).map_err(unread)?, files, grid::largest, cancel)?;
        Ok((digest_of_set(directory, &digests), verified))
    };
    let (directory, verified) = digested("grid", location, planned, stores, cancel, look)?;
    let verified = Arc::new(verified);
    let diagnostics = grid::diagnostics(directory.path(), &verified).map_err(unread)?.unwrap_or_default();
    let native = confirmed(&verified, cancel, || Native::load_verified(directory.path(), verified.clone(), limit))?;
    verified.are_unchanged()?;
    let positions = vec![OnceLock::new(); native.levels];
    Ok(ModelGrid {
        directory,
        verified,
        native,
        diagnostics,
        statics: StaticCoordinates::default(),
        skeletons: Skeletons::default(),
        positions,
        corners: OnceLock::new(),
        overrides: LoadOnce::new(Limit {
            count: MASKS,
            bytes: usize::try_from(limit).unwrap_or(usize::MAX),
            size: |mask| mask.bytes(),
        }),
    })
}

/// Loads the target grid and the mapping factors without their levels. The levels that are kept later may take `memory`
/// bytes.
pub(super) fn load_target(
    model: &ModelGrid,
    [grid, factors]: [&str; 2],
    planned: &Digest,
    stores: &Stores,
    cancel: &AtomicBool,
    memory: u64,
) -> Result<Target, ResourceError> {
    let look = |directory: &Path, files: &Files| {
        let seals = digests_of_files(mapping::files(directory, files)?, files, mapping::largest, cancel)?;
        Ok((digest_of_set(directory, &seals), (seals, files.clone())))
    };
    let (at, (seals, files)) = digested("mapping factors", factors, planned, stores, cancel, look)?;
    // This is the copy whose digest is the planned one; on S3 there may be another by now.
    let latlon = confirmed(&model.verified, cancel, || Latlon::load_verified(model.directory.path(), &model.verified))?;
    model.verified.are_unchanged()?;
    let loaded = Factors::open_sealed(at.path(), seals, files, memory)?;
    let (found, wanted) = ([latlon.latitude.len(), latlon.longitude.len()], <[usize; 2]>::from(loaded.shape()));
    if found != wanted {
        return Err(ResourceError::Target { grid: grid.into(), factors: factors.into(), found, wanted });
    }
    Ok(Target { latlon, factors: loaded, _directory: at })
}

/// Number of masks that are kept in addition to those of the grid. Each is named by some variables of the metadata.
const MASKS: usize = 16;

/// Returns the digest of a configuration file.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub fn configuration_digest(location: &str, stores: &Stores) -> Result<Digest, ResourceError> {
    Ok(Digest::of(&read(&location.parse()?, stores)?))
}

/// Returns the digest of those files of a metadata directory that production reads.
///
/// # Errors
/// Returns an error if the directory or a file cannot be read.
pub fn metadata_digest(location: &str, stores: &Stores) -> Result<Digest, ResourceError> {
    let directory = directory(location, stores)?;
    digest_of_directory(&directory, source::files(&directory, &Files::default())?, |_| MAX_FILE_BYTES as u64)
}

/// Returns the digest of those files of a grid directory that production reads.
///
/// # Errors
/// Returns an error if the directory or a file cannot be read.
pub fn grid_digest(location: &str, stores: &Stores) -> Result<Digest, ResourceError> {
    let directory = directory(location, stores)?;
    digest_of_directory(&directory, grid::files(&directory, &Files::default())?, grid::largest)
}

/// Returns the digest of those files of a directory of mapping factors that production reads.
///
/// # Errors
/// Returns an error if the directory or a file cannot be read.
pub fn factors_digest(location: &str, stores: &Stores) -> Result<Digest, ResourceError> {
    let directory = directory(location, stores)?;
    digest_of_directory(&directory, mapping::files(&directory, &Files::default())?, mapping::largest)
}

fn digest_of_directory(
    directory: &Path,
    files: Vec<PathBuf>,
    largest: impl Fn(&Path) -> u64,
) -> Result<Digest, ResourceError> {
    Ok(digest_of_set(directory, &digests_of_files(files, &Files::default(), largest, &AtomicBool::new(false))?))
}

/// Returns the digests of files. A file with more bytes than `largest` returns for it is refused.
fn digests_of_files(
    paths: Vec<PathBuf>,
    files: &Files,
    largest: impl Fn(&Path) -> u64,
    cancel: &AtomicBool,
) -> Result<BTreeMap<PathBuf, Digest>, ResourceError> {
    let mut digests = BTreeMap::new();
    for path in paths {
        let read = files.open(&path).and_then(|file| {
            verified_files::check_size(&file.metadata()?, largest(&path))?;
            cancel::digest(file, cancel)
        });
        let digest = read.map_err(|source| ResourceError::Read { path: path.clone(), source })?;
        digests.insert(path, digest);
    }
    Ok(digests)
}

/// Returns the digest of a set of files by their paths below a directory; the place of the directory is not part of it.
fn digest_of_set(root: &Path, files: &BTreeMap<PathBuf, Digest>) -> Digest {
    let name = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
    let parts: Vec<(String, &Digest)> = files.iter().map(|(path, digest)| (name(path), digest)).collect();
    Digest::of_parts(parts.iter().map(|(name, digest)| (name.as_str(), *digest)))
}
