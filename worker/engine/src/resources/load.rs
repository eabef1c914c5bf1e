//! How resources are loaded, and their digests.

use super::load_once::{Limit, LoadOnce};
use super::{ModelGrid, ResourceError, Target, Texts};
use crate::cancel;
use crate::granule::codec::Codec;
use crate::granule::coordinates::Static;
use crate::grid::{self, Diagnostics, GridError, Latlon, Native};
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

/// Reads a text of the user: configuration, table, job file.
///
/// # Errors
/// It cannot be read, or is larger than [`MAX_FILE_BYTES`]: then it is something else, and not read to its end.
pub fn read(location: &Location, stores: &Stores) -> Result<Vec<u8>, ResourceError> {
    stores.read(location, MAX_FILE_BYTES as u64).map_err(|error| unread_text(error, location))
}

/// The same of a list that the user names, such as a job file: it may also come through a pipe, see
/// [`Stores::read_list`].
///
/// # Errors
/// Those of [`read`].
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

/// A local directory with what a location holds.
///
/// # Errors
/// The location is none, or what it holds cannot be fetched.
pub fn directory(text: &str, stores: &Stores) -> Result<PathBuf, ResourceError> {
    stores.mirror(&text.parse()?).map_err(ResourceError::Store)
}

/// Returns what a look at a directory finds if that has the digest that was planned with. On S3 it may be the copy that
/// has not: it is made once more then.
fn digested<T>(
    what: &'static str,
    location: &str,
    planned: &Digest,
    stores: &Stores,
    cancel: &AtomicBool,
    look: impl Fn(&Path, &Files) -> Result<(Digest, T), ResourceError>,
) -> Result<(Mirror, T), ResourceError> {
    let at: Location = location.parse()?;
    // Copies of objects lie elsewhere than recipes may reach.
    let files = if matches!(at, Location::Local(_)) { stores.files().clone() } else { Files::default() };
    let mirror = || stores.mirror_unless(&at, cancel).map_err(ResourceError::Store);
    let first = mirror()?;
    let (found, looked) = look(first.path(), &files)?;
    if found == *planned {
        return Ok((first, looked));
    }
    if matches!(at, Location::Local(_)) {
        return Err(changed(what, location, found, planned));
    }
    stores.forget(&at, first.path());
    let again = mirror()?;
    let (found, looked) = look(again.path(), &files)?;
    if found == *planned { Ok((again, looked)) } else { Err(changed(what, location, found, planned)) }
}

/// A file of the grid that cannot be read, or not now, is like that of any other resource.
fn unread(error: GridError) -> ResourceError {
    match error {
        GridError::Read { path, source } => ResourceError::Read { path, source },
        error => ResourceError::Grid(error),
    }
}

/// Loads something of the grid through the netCDF library.
///
/// The library says that something is wrong, never whether the content is or a disk that failed at that moment. So what
/// it says counts if all files can be read again, are still what they were, and the library says it once more.
///
/// # Errors
/// A file cannot be read or was changed, or its content cannot be used.
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

/// Loads configuration and metadata.
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

/// Reads the PO.DAAC table that a configuration names, the one that is held if files are, and what is odd about it.
///
/// # Errors
/// The file is not in the metadata directory, or is not such a table.
pub fn load_table(
    metadata: &Path,
    configuration: &Configuration,
    verified: &VerifiedFiles,
) -> Result<(Table, Vec<metadata::Warning>), ResourceError> {
    let path = metadata.join(&configuration.podaac_file);
    // The digest of the metadata covers these files; a table outside of it could change under an unchanged recipe.
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

/// Loads the model grid, unless it would take more bytes than `limit`.
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
    let diagnostics = Diagnostics::load(directory.path(), &verified).map_err(unread)?.unwrap_or_default();
    let native = confirmed(&verified, cancel, || Native::load_verified(directory.path(), verified.clone(), limit))?;
    verified.are_unchanged()?;
    let positions = vec![OnceLock::new(); native.levels];
    Ok(ModelGrid {
        directory,
        verified,
        native,
        diagnostics,
        statics: Static::default(),
        positions,
        corners: OnceLock::new(),
        overrides: LoadOnce::new(Limit {
            count: MASKS,
            bytes: usize::try_from(limit).unwrap_or(usize::MAX),
            size: |mask| mask.bytes(),
        }),
    })
}

/// Loads the target grid and the mapping factors, but for their levels. The levels that are kept may take `memory`
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
    // Where the digest was found to be the planned one: on S3 there may be another copy by now.
    let latlon = confirmed(&model.verified, cancel, || Latlon::load_verified(model.directory.path(), &model.verified))?;
    model.verified.are_unchanged()?;
    let loaded = Factors::open_sealed(at.path(), seals, files, memory)?;
    let (found, wanted) = ([latlon.latitude.len(), latlon.longitude.len()], <[usize; 2]>::from(loaded.shape()));
    if found != wanted {
        return Err(ResourceError::Target { grid: grid.into(), factors: factors.into(), found, wanted });
    }
    Ok(Target { latlon, factors: loaded, _directory: at })
}

/// Masks that are kept beside those of the grid: each is named by some variables of the metadata.
const MASKS: usize = 16;

/// Digest of a configuration file.
///
/// # Errors
/// The file cannot be read.
pub fn configuration_digest(location: &str, stores: &Stores) -> Result<Digest, ResourceError> {
    Ok(Digest::of(&read(&location.parse()?, stores)?))
}

/// Digest of the files of a metadata directory that production reads.
///
/// # Errors
/// The directory or a file cannot be read.
pub fn metadata_digest(location: &str, stores: &Stores) -> Result<Digest, ResourceError> {
    let directory = directory(location, stores)?;
    digest_of_directory(&directory, source::files(&directory, &Files::default())?, |_| MAX_FILE_BYTES as u64)
}

/// Digest of the files of a grid directory that production reads.
///
/// # Errors
/// The directory or a file cannot be read.
pub fn grid_digest(location: &str, stores: &Stores) -> Result<Digest, ResourceError> {
    let directory = directory(location, stores)?;
    digest_of_directory(&directory, grid::files(&directory, &Files::default())?, grid::largest)
}

/// Digest of the files of a directory of mapping factors that production reads.
///
/// # Errors
/// The directory or a file cannot be read.
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

/// Digests of files, none of which is read that has more bytes than `largest` says of it.
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

/// Digest of files by their path below a directory; where the directory lies is not part of it.
fn digest_of_set(root: &Path, files: &BTreeMap<PathBuf, Digest>) -> Digest {
    let name = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
    let parts: Vec<(String, &Digest)> = files.iter().map(|(path, digest)| (name(path), digest)).collect();
    Digest::of_parts(parts.iter().map(|(name, digest)| (name.as_str(), *digest)))
}

/// How a configuration wants data compressed.
pub fn codec(configuration: &Configuration) -> Codec {
    let compression = configuration.compression;
    Codec { level: compression.deflate.then_some(compression.level), shuffle: compression.shuffle }
}
