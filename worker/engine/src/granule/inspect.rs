//! Looking at granules that exist: whose they are, and whether they are whole. Needs a recipe and the file, nothing else.

use super::chunks::{self, ChunkError};
use super::dataset::{Attributes, Value, get};
use super::file;
use super::time;
use crate::libraries;
use crate::metadata::global::is_placeholder;
use edp_protocol::name::base_name;
use edp_protocol::recipe::{Recipe, RecipeError};
use edp_protocol::store::{Head, StoreError, Stores};
use edp_protocol::{Location, Mode, wire};
use std::path::{Path, PathBuf};

/// Why a granule could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It is no readable NetCDF file.
    #[error("{path}: cannot be read as NetCDF: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the library says.
        source: netcdf::Error,
    },
    /// Its chunks cannot be listed.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The recipe is not usable.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// It cannot be fetched.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Largest object that is fetched to be looked at, in bytes.
pub const MAX_COPY: u64 = 4 << 30;

/// Whose granule a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The recipe's own.
    Same,
    /// The same recipe's, made by this earlier output version.
    Older(u32),
    /// Another recipe's, or nobody's: what differs, as `name: found, wanted`.
    Other(Vec<String>),
}

/// Holds the identity of an existing file against a recipe: by `recipe_id`, or by `uuid` where EDP's attributes are kept.
///
/// # Errors
/// The file is not readable, or the recipe has no plan.
pub fn identify(path: &Path, recipe: &Recipe) -> Result<Identity, InspectError> {
    let plan = recipe.plan()?;
    let attributes = globals(path)?;
    let uuid = Recipe::uuid_of(&plan.id);
    let (key, id) = match plan.mode {
        Mode::Corrected => ("recipe_id", plan.id.as_str()),
        Mode::Edp2024 => ("uuid", uuid.as_str()),
    };
    let found = |name: &str| get(&attributes, name).and_then(Value::text);
    if found(key) == Some(id) {
        return Ok(Identity::Same);
    }
    for (version, earlier) in recipe.earlier_ids()? {
        let uuid = Recipe::uuid_of(&earlier);
        let id = if plan.mode == Mode::Corrected { earlier.as_str() } else { uuid.as_str() };
        if found(key) == Some(id) {
            return Ok(Identity::Older(version));
        }
    }
    let dynamic = &recipe.dynamic_metadata;
    let wanted = [
        (key, Some(id)),
        ("product_name", Some(base_name(&recipe.granule))),
        ("time_coverage_start", dynamic.time_coverage_start.as_deref()),
        ("time_coverage_end", dynamic.time_coverage_end.as_deref()),
        ("date_created", Some(plan.production_date.as_str())),
    ];
    let differs = wanted.into_iter().filter(|(name, wanted)| found(name) != *wanted).map(|(name, wanted)| {
        format!("{name}: {}, wanted {}", found(name).unwrap_or("none"), wanted.unwrap_or("none"))
    });
    Ok(Identity::Other(differs.collect()))
}

/// [`identify`] for an object: by the id that its store has for it, else by what is in it.
///
/// # Errors
/// It cannot be fetched, is not readable, or the recipe has no plan.
pub fn identify_object(at: &Location, head: &Head, recipe: &Recipe, stores: &Stores) -> Result<Identity, InspectError> {
    if head.recipe_id.as_deref() == Some(recipe.plan()?.id.as_str()) {
        return Ok(Identity::Same);
    }
    if let Some((version, _)) = recipe.earlier_ids()?.into_iter().find(|(_, id)| head.recipe_id.as_ref() == Some(id)) {
        return Ok(Identity::Older(version));
    }
    identify(stores.local_copy(at, MAX_COPY)?.path(), recipe)
}

fn globals(path: &Path) -> Result<Attributes, InspectError> {
    let read = |source| InspectError::Read { path: path.into(), source };
    let file = libraries::open(path).map_err(read)?;
    // Files of other origin may hold attributes of types that granules never do: they are not looked at.
    let known = file.attributes().filter(|a| a.value().ok().and_then(file::attribute_from).is_some());
    file::attributes_of(known).map_err(read)
}

/// Where the chunks of every variable of a file are that has any.
///
/// # Errors
/// The file is not readable.
pub fn places(path: &Path) -> Result<Vec<wire::Chunks>, InspectError> {
    let read = |source| InspectError::Read { path: path.into(), source };
    let names: Vec<String> = libraries::open(path).map_err(read)?.variables().map(|variable| variable.name()).collect();
    let layouts = chunks::layouts(path, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
    let places = names.iter().zip(&layouts).map(|(name, layout)| layout.places(name));
    Ok(places.filter(|chunks| !chunks.places.is_empty()).collect())
}

/// Checks the content of an existing granule of which nothing is recorded: its structure.
///
/// # Errors
/// The file is not readable, or the recipe has no plan. What is wrong with a readable file is returned as a list.
pub fn content(path: &Path, recipe: &Recipe) -> Result<Vec<String>, InspectError> {
    structure(path, recipe)
}

/// Checks the structure of an existing granule against its recipe: every variable there, every chunk there and within
/// the file, fill values, time and bounds as planned, no placeholder left.
///
/// # Errors
/// The file is not readable, or the recipe has no plan. What is wrong with a readable file is returned as a list.
pub fn structure(path: &Path, recipe: &Recipe) -> Result<Vec<String>, InspectError> {
    let read = |source| InspectError::Read { path: path.into(), source };
    let plan = recipe.plan()?;
    let mut problems = Vec::new();
    let mut wanted_chunks = Vec::new();
    {
        let file = libraries::open(path).map_err(read)?;
        for name in recipe.variables.keys() {
            let Some(variable) = file.variable(name) else {
                problems.push(format!("{name}: missing"));
                continue;
            };
            if variable.attribute("_FillValue").is_none() {
                problems.push(format!("{name}: no fill value"));
            }
            match variable.chunking().map_err(read)? {
                None => problems.push(format!("{name}: not stored in chunks")),
                Some(chunk) => {
                    let lengths = variable.dimensions().iter().map(netcdf::Dimension::len);
                    let count: usize =
                        lengths.zip(&chunk).map(|(length, size)| length.div_ceil((*size).max(1))).product();
                    wanted_chunks.push((name.as_str(), count));
                }
            }
        }
        match time::encode(&recipe.dynamic_metadata, &plan.time_units) {
            Err(error) => problems.push(error.to_string()),
            Ok(time) => {
                for (name, wanted) in [("time", vec![time.center]), ("time_bnds", vec![time.start, time.end])] {
                    let found = file.variable(name).map(|variable| variable.get_values::<i32, _>(..));
                    match found {
                        None => problems.push(format!("{name}: missing")),
                        Some(Ok(found)) if found == wanted => {}
                        Some(Ok(found)) => problems.push(format!("{name}: {found:?}, planned {wanted:?}")),
                        Some(Err(error)) => problems.push(format!("{name}: {error}")),
                    }
                }
                let units = file.variable("time").and_then(|time| time.attribute_value("units"));
                let units = units.and_then(Result::ok).and_then(file::attribute_from);
                if units.as_ref().and_then(Value::text) != Some(plan.time_units.as_str()) {
                    problems.push(format!("time: units {units:?}, planned '{}'", plan.time_units));
                }
            }
        }
    }
    if plan.mode == Mode::Corrected {
        let placeholders = globals(path)?.into_iter().filter(|(_, value)| is_placeholder(value));
        problems.extend(placeholders.map(|(name, value)| format!("{name}: placeholder {value:?} left")));
    }
    let length = std::fs::metadata(path).map_err(|e| read(e.to_string().into()))?.len();
    let names: Vec<&str> = wanted_chunks.iter().map(|(name, _)| *name).collect();
    for ((name, count), layout) in wanted_chunks.iter().zip(chunks::layouts(path, &names)?) {
        if layout.chunks.len() != *count {
            problems.push(format!("{name}: {} of {count} chunks are there", layout.chunks.len()));
        }
        let outside = |chunk: &chunks::Stored| chunk.address.checked_add(chunk.size).is_none_or(|end| end > length);
        if layout.chunks.iter().any(outside) {
            problems.push(format!("{name}: chunks beyond the end of the file"));
        }
    }
    Ok(problems)
}
