//! What recipes share: configuration, metadata, grid and mapping factors, loaded once per process.

use crate::granule::codec::Codec;
use crate::granule::coordinates::Static;
use crate::grid::{self, Diagnostics, GridError, Latlon, Mask, Native};
use crate::hashed::Hashed;
use crate::held::{Held, HeldError};
use crate::mapping::{self, Factors, Level, MappingError};
use crate::metadata::configuration::{Configuration, ConfigurationError};
use crate::metadata::podaac::{Table, TableError};
use crate::metadata::source::{self, Metadata, MetadataError};
use crate::metadata::{self, MAX_FILE_BYTES};
use edp_protocol::location::LocationError;
use edp_protocol::recipe::{Digests, Recipe, RecipeError};
use edp_protocol::store::{Files, StoreError, Stores};
use edp_protocol::{Digest, GridKind, Location};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Why a resource cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// A recipe does not name it.
    #[error("recipe {granule}: it names no {what} ({key}): plan it again with --{option}")]
    NotNamed {
        /// The granule.
        granule: String,
        /// What is missing.
        what: &'static str,
        /// Key of the recipe.
        key: &'static str,
        /// Option of the planner.
        option: &'static str,
    },
    /// Its location cannot be understood or reached.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// It cannot be fetched.
    #[error("{0}")]
    Store(#[source] StoreError),
    /// A file cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no text that somebody wrote.
    #[error("{path}: larger than the {MAX_FILE_BYTES} bytes that such a file may have")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It changed since the recipes were planned.
    #[error(
        "{location}: the {what} changed since the recipe was planned (SHA-256 {found}, planned with {planned}): plan again"
    )]
    Changed {
        /// Which resource.
        what: &'static str,
        /// Where it is.
        location: String,
        /// Digest of what is there.
        found: Digest,
        /// Digest in the recipe.
        planned: Digest,
    },
    /// The recipe itself.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The configuration.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The metadata.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The PO.DAAC table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The PO.DAAC table is no file whose digest is taken.
    #[error("{}: podaac_metadata_filename must name a .csv file of the metadata directory", .path.display())]
    TableName {
        /// The file that the configuration names.
        path: PathBuf,
    },
    /// It could not be used before, and nothing has been loaded since.
    #[error("{0}")]
    Earlier(String),
    /// The grid.
    #[error(transparent)]
    Grid(#[from] GridError),
    /// The mapping factors.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// The target grid has not the shape of the weights.
    #[error("{grid}: its latitudes and longitudes are {found:?}, those of the mapping factors {factors}: {wanted:?}")]
    Target {
        /// The grid directory.
        grid: String,
        /// The mapping factors.
        factors: String,
        /// Shape of the latlon geometry.
        found: [usize; 2],
        /// Shape of the factors.
        wanted: [usize; 2],
    },
}

/// Configuration with the metadata that it selects a table of.
#[derive(Debug)]
pub struct Texts {
    /// The configuration.
    pub configuration: Configuration,
    /// The metadata directory.
    pub metadata: Metadata,
    /// The PO.DAAC table that the configuration names.
    pub podaac: Table,
}

/// The model grid and what is derived from it once.
#[derive(Debug)]
pub struct ModelGrid {
    /// Where its files are, and they themselves.
    directory: PathBuf,
    held: Arc<Held>,
    /// The native geometry.
    pub native: Native,
    /// Places of the model's diagnostics; empty if the directory has no list.
    pub diagnostics: Diagnostics,
    /// Static coordinates, ready to be written.
    pub statics: Static,
    positions: Vec<OnceLock<Vec<u32>>>,
    corners: OnceLock<Mask>,
    overrides: Mutex<HashMap<String, Arc<Mask>>>,
}

impl ModelGrid {
    /// [`Native::mask_z`], found at the first call.
    pub fn mask_z(&self) -> &Mask {
        self.corners.get_or_init(|| self.native.mask_z())
    }

    /// [`Native::read_mask`], read at the first call.
    ///
    /// # Errors
    /// The native geometry has no such mask.
    pub fn named_mask(&self, name: &str) -> Result<Arc<Mask>, GridError> {
        let mut overrides = self.overrides.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mask) = overrides.get(name) {
            return Ok(mask.clone());
        }
        let mask = Arc::new(self.native.read_mask(name)?);
        overrides.insert(name.to_owned(), mask.clone());
        Ok(mask)
    }

    /// [`Native::wet_positions`] of a level, found at the first call.
    fn wet_positions(&self, k: usize) -> &[u32] {
        match self.positions.get(k) {
            Some(positions) => positions.get_or_init(|| self.native.wet_positions(k)),
            None => &[],
        }
    }
}

/// The regular grid and the weights onto it.
#[derive(Debug)]
pub struct Target {
    /// Its axes.
    pub latlon: Latlon,
    /// The weights.
    pub factors: Factors,
}

/// Everything that one recipe needs besides its inputs.
#[derive(Debug, Clone)]
pub struct Resources {
    /// Configuration and metadata.
    pub texts: Arc<Texts>,
    /// The model grid.
    pub grid: Arc<ModelGrid>,
    /// The target grid, for latlon granules.
    pub target: Option<Arc<Target>>,
}

impl Resources {
    /// Weights and land mask of a level, loaded at the first call.
    ///
    /// # Errors
    /// The factors of the level cannot be read or do not fit the grid.
    pub fn level(&self, target: &Target, k: usize) -> Result<Arc<Level>, MappingError> {
        target.factors.level(k, self.grid.wet_positions(k))
    }
}

/// The resources of all recipes of this process, by location and digest.
#[derive(Debug, Default)]
pub struct Cache {
    stores: Stores,
    hashed: Hashed,
    shelves: Mutex<Shelves>,
}

#[derive(Debug, Default)]
struct Shelves {
    texts: HashMap<(String, String, Digest, Digest), Arc<Texts>>,
    grids: HashMap<(String, Digest), Arc<ModelGrid>>,
    targets: HashMap<(String, String, Digest, Digest), Arc<Target>>,
    /// What could not be used, with the reason: another try would read and refuse it all again, for every recipe.
    refused: HashMap<Wanted, String>,
}

/// What a recipe names: configuration, metadata, grid, factors, and their digests.
type Wanted = ([Option<String>; 4], Digests, GridKind);

impl Cache {
    /// A cache of what is in these stores.
    pub fn new(stores: Stores) -> Cache {
        Cache { stores, ..Cache::default() }
    }

    /// Where everything comes from.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Digests of inputs that were made into granules before.
    pub fn hashed(&self) -> &Hashed {
        &self.hashed
    }

    /// The resources of a recipe. What is not there yet is loaded by the first that asks, and refused if its digest
    /// is not the recipe's; others wait.
    ///
    /// # Errors
    /// A resource is not named, not readable, damaged, or changed since planning.
    pub fn resources(&self, recipe: &Recipe, grid_kind: GridKind) -> Result<Resources, ResourceError> {
        // A panic while loading leaves the shelves without the new entry, which is a state they can be in.
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let locations = [
            recipe.ecco_cfg_loc.clone(),
            recipe.ecco_metadata_loc.clone(),
            recipe.ecco_grid_loc.clone(),
            recipe.ecco_mapping_factors_loc.clone(),
        ];
        let wanted = (locations, recipe.plan()?.digests.clone(), grid_kind);
        if let Some(reason) = shelves.refused.get(&wanted) {
            return Err(ResourceError::Earlier(reason.clone()));
        }
        let found = shelves.load(recipe, grid_kind, &self.stores);
        match &found {
            // A file that cannot be read now may be readable later; what was read and refused stays refused.
            Err(ResourceError::Read { .. } | ResourceError::Store(_) | ResourceError::NotNamed { .. }) => {}
            Err(error) => {
                shelves.refused.insert(wanted, edp_protocol::message::chain(error));
            }
            Ok(_) => {}
        }
        found
    }
}

impl Shelves {
    fn load(&mut self, recipe: &Recipe, grid_kind: GridKind, stores: &Stores) -> Result<Resources, ResourceError> {
        let digests = &recipe.plan()?.digests;
        let named = |what, key, option, value: &Option<String>| {
            let missing = || ResourceError::NotNamed { granule: recipe.granule.clone(), what, key, option };
            value.clone().ok_or_else(missing)
        };
        let configuration = named("configuration", "ecco_cfg_loc", "config", &recipe.ecco_cfg_loc)?;
        let metadata = named("metadata", "ecco_metadata_loc", "metadata", &recipe.ecco_metadata_loc)?;
        let grid = named("grid", "ecco_grid_loc", "grid", &recipe.ecco_grid_loc)?;
        let shelves = self;
        let key = (configuration.clone(), metadata.clone(), digests.configuration.clone(), digests.metadata.clone());
        let texts = match shelves.texts.get(&key) {
            Some(texts) => texts.clone(),
            None => {
                let texts = Arc::new(load_texts(&configuration, &metadata, digests, stores)?);
                shelves.texts.insert(key, texts.clone());
                texts
            }
        };
        let key = (grid.clone(), digests.grid.clone());
        let model = match shelves.grids.get(&key) {
            Some(model) => model.clone(),
            None => {
                let model = Arc::new(load_grid(&grid, digests, stores)?);
                shelves.grids.insert(key, model.clone());
                model
            }
        };
        let target = match grid_kind {
            GridKind::Native => None,
            GridKind::Latlon => {
                let what = "mapping factors";
                let factors =
                    named(what, "ecco_mapping_factors_loc", "mapping-factors", &recipe.ecco_mapping_factors_loc)?;
                let planned = digests.factors.clone().ok_or_else(|| ResourceError::NotNamed {
                    granule: recipe.granule.clone(),
                    what,
                    key: "recipe.digests.factors",
                    option: "mapping-factors",
                })?;
                let key = (grid.clone(), factors.clone(), digests.grid.clone(), planned.clone());
                Some(match shelves.targets.get(&key) {
                    Some(target) => target.clone(),
                    None => {
                        let target = Arc::new(load_target(&model, &grid, &factors, &planned, stores)?);
                        shelves.targets.insert(key, target.clone());
                        target
                    }
                })
            }
        };
        Ok(Resources { texts, grid: model, target })
    }
}

/// Reads a text of the user: configuration, table, job file.
///
/// # Errors
/// It cannot be read, or is larger than [`MAX_FILE_BYTES`]: then it is something else, and not read to its end.
pub fn read(location: &Location, stores: &Stores) -> Result<Vec<u8>, ResourceError> {
    stores.read(location, MAX_FILE_BYTES as u64).map_err(|error| match (error, location) {
        (StoreError::Io { path, source }, _) => ResourceError::Read { path, source },
        (StoreError::TooLarge { .. }, Location::Local(path)) => ResourceError::TooLarge { path: path.clone() },
        (error, _) => ResourceError::Store(error),
    })
}

/// A local directory with what a location holds.
///
/// # Errors
/// The location is none, or what it holds cannot be fetched.
pub fn directory(text: &str, stores: &Stores) -> Result<PathBuf, ResourceError> {
    stores.mirror(&text.parse()?).map_err(ResourceError::Store)
}

/// Gives what a look at a directory finds if that has the digest that was planned with. On S3 it may be the copy that
/// has not: it is made once more then.
fn digested<T>(
    what: &'static str,
    location: &str,
    planned: &Digest,
    stores: &Stores,
    look: impl Fn(&Path, &Files) -> Result<(Digest, T), ResourceError>,
) -> Result<(PathBuf, T), ResourceError> {
    let at: Location = location.parse()?;
    // Copies of objects lie elsewhere than recipes may reach.
    let files = if matches!(at, Location::Local(_)) { stores.files().clone() } else { Files::default() };
    let first = directory(location, stores)?;
    let (found, looked) = look(&first, &files)?;
    if found == *planned {
        return Ok((first, looked));
    }
    if matches!(at, Location::Local(_)) {
        return Err(changed(what, location, found, planned));
    }
    let again = stores.mirror_anew(&at, &first).map_err(ResourceError::Store)?;
    let (found, looked) = look(&again, &files)?;
    if found == *planned { Ok((again, looked)) } else { Err(changed(what, location, found, planned)) }
}

/// A file of the grid that cannot be read, or not now, is like that of any other resource.
fn unread(error: GridError) -> ResourceError {
    match error {
        GridError::Read { path, source } => ResourceError::Read { path, source },
        error => ResourceError::Grid(error),
    }
}

impl From<HeldError> for ResourceError {
    fn from(HeldError { path, source }: HeldError) -> ResourceError {
        ResourceError::Read { path, source }
    }
}

fn changed(what: &'static str, location: &str, found: Digest, planned: &Digest) -> ResourceError {
    ResourceError::Changed { what, location: location.into(), found, planned: planned.clone() }
}

fn load_texts(configuration: &str, metadata: &str, digests: &Digests, stores: &Stores) -> Result<Texts, ResourceError> {
    let bytes = read(&configuration.parse()?, stores)?;
    let found = Digest::of(&bytes);
    if found != digests.configuration {
        return Err(changed("configuration", configuration, found, &digests.configuration));
    }
    let (parsed, _) = Configuration::parse(configuration, &bytes)?;
    let look = |directory: &Path, files: &Files| {
        let paths = source::files(directory, files)?;
        let (held, digests) = Held::open(paths.clone(), files)?;
        Ok((digest_of_set(directory, &digests), (paths, held)))
    };
    let (directory, (paths, held)) = digested("metadata", metadata, &digests.metadata, stores, look)?;
    let (loaded, _) = Metadata::load_held(&directory, paths, &held)?;
    let (podaac, _) = load_table(&directory, &parsed, &held)?;
    held.are_unchanged()?;
    Ok(Texts { configuration: parsed, metadata: loaded, podaac })
}

/// Reads the PO.DAAC table that a configuration names, the one that is held if files are, and what is odd about it.
///
/// # Errors
/// The file is not in the metadata directory, or is no such table.
pub fn load_table(
    metadata: &Path,
    configuration: &Configuration,
    held: &Held,
) -> Result<(Table, Vec<metadata::Warning>), ResourceError> {
    let path = metadata.join(&configuration.podaac_file);
    // The digest of the metadata covers these files; a table outside of it could change under an unchanged recipe.
    if path.extension().is_none_or(|end| end != "csv") || path.parent() != Some(metadata) {
        return Err(ResourceError::TableName { path });
    }
    let read = held.read(&path, MAX_FILE_BYTES);
    let bytes = read.map_err(|source| ResourceError::Read { path: path.clone(), source })?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(ResourceError::TooLarge { path });
    }
    Ok(Table::parse(&path.display().to_string(), &bytes)?)
}

fn load_grid(location: &str, digests: &Digests, stores: &Stores) -> Result<ModelGrid, ResourceError> {
    let look = |directory: &Path, files: &Files| {
        let (held, digests) = Held::open(grid::files(directory, files).map_err(unread)?, files)?;
        Ok((digest_of_set(directory, &digests), held))
    };
    let (directory, held) = digested("grid", location, &digests.grid, stores, look)?;
    let held = Arc::new(held);
    let diagnostics = Diagnostics::load(&directory, &held)?.unwrap_or_default();
    let native = Native::load_held(&directory, held.clone())?;
    held.are_unchanged()?;
    let positions = vec![OnceLock::new(); native.levels];
    Ok(ModelGrid {
        directory,
        held,
        native,
        diagnostics,
        statics: Static::default(),
        positions,
        corners: OnceLock::new(),
        overrides: Mutex::default(),
    })
}

fn load_target(
    model: &ModelGrid,
    grid: &str,
    factors: &str,
    planned: &Digest,
    stores: &Stores,
) -> Result<Target, ResourceError> {
    let look = |directory: &Path, files: &Files| {
        let seals = digests_of_files(mapping::files(directory, files)?, files)?;
        Ok((digest_of_set(directory, &seals), (seals, files.clone())))
    };
    let (at, (seals, files)) = digested("mapping factors", factors, planned, stores, look)?;
    // Where the digest was found to be the planned one: on S3 there may be another copy by now.
    let latlon = Latlon::load_held(&model.directory, &model.held)?;
    model.held.are_unchanged()?;
    let loaded = Factors::open_sealed(&at, seals, files)?;
    let (found, wanted) = ([latlon.latitude.len(), latlon.longitude.len()], <[usize; 2]>::from(loaded.shape()));
    if found != wanted {
        return Err(ResourceError::Target { grid: grid.into(), factors: factors.into(), found, wanted });
    }
    Ok(Target { latlon, factors: loaded })
}

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
    digest_of_directory(&directory, source::files(&directory, &Files::default())?)
}

/// Digest of the files of a grid directory that production reads.
///
/// # Errors
/// The directory or a file cannot be read.
pub fn grid_digest(location: &str, stores: &Stores) -> Result<Digest, ResourceError> {
    let directory = directory(location, stores)?;
    digest_of_directory(&directory, grid::files(&directory, &Files::default())?)
}

/// Digest of the files of a directory of mapping factors that production reads.
///
/// # Errors
/// The directory or a file cannot be read.
pub fn factors_digest(location: &str, stores: &Stores) -> Result<Digest, ResourceError> {
    let directory = directory(location, stores)?;
    digest_of_directory(&directory, mapping::files(&directory, &Files::default())?)
}

fn digest_of_directory(directory: &Path, files: Vec<PathBuf>) -> Result<Digest, ResourceError> {
    Ok(digest_of_set(directory, &digests_of_files(files, &Files::default())?))
}

fn digests_of_files(paths: Vec<PathBuf>, files: &Files) -> Result<BTreeMap<PathBuf, Digest>, ResourceError> {
    let mut digests = BTreeMap::new();
    for path in paths {
        let read = files.open(&path).and_then(Digest::of_reader);
        let (digest, _) = read.map_err(|source| ResourceError::Read { path: path.clone(), source })?;
        digests.insert(path, digest);
    }
    Ok(digests)
}

/// Digest of files by their path below a directory; where the directory lies is no part of it.
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
