//! Inspection of existing granules: their identity and their integrity. It needs a recipe and the file, and nothing
//! else.
//!
//! The files may contain anything, so they are read by the [`reader`](crate::reader): whatever a file does to the
//! process that reads it is a finding about the file.

pub use super::inspected::{Identity, Inspected, InspectionDepth};
use crate::reader::{ReadError, ReaderSession};
use edp_protocol::recipe::{Recipe, RecipeError};
use edp_protocol::{Location, wire};
use edp_store::{Head, StoreError, Stores};
use std::io;
use std::path::Path;

/// The reason why a granule could not be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The file cannot be read; [`ReadError`] tells whether its content is to blame.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The recipe cannot be used.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The object cannot be fetched.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl InspectError {
    /// Returns the error of the storage or of this machine, if that is to blame and not the content of the file.
    ///
    /// # Errors
    /// Returns this error if it says something about the file or the recipe.
    pub fn into_unread(self) -> Result<io::Error, InspectError> {
        match self {
            InspectError::Read(ReadError::Io { source, .. }) => Ok(source),
            error => Err(error),
        }
    }
}

/// Largest object that is fetched for an inspection, in bytes.
pub const MAX_COPY: u64 = 4 << 30;

/// Inspects a file at once: its identity, its problems, and the places of its chunks.
///
/// # Errors
/// Returns an error if the file cannot be read, or if the recipe has no plan. Problems of a readable file are returned
/// as a list.
pub fn look(path: &Path, recipe: &Recipe, depth: InspectionDepth, places: bool) -> Result<Inspected, InspectError> {
    recipe.plan()?;
    Ok(ReaderSession::open(path)?.look(Some(recipe), depth, places)?)
}

/// Compares the identity of an existing file with a recipe: by `recipe_id`, or by `uuid` in the modes that keep EDP's
/// attributes.
///
/// # Errors
/// Returns an error if the file cannot be read, or if the recipe has no plan.
pub fn identify(path: &Path, recipe: &Recipe) -> Result<Identity, InspectError> {
    Ok(look(path, recipe, InspectionDepth::Present, false)?.identity)
}

/// Does the same as [`identify`] for an object: by the id in its metadata, else by its content.
///
/// # Errors
/// Returns an error if the object cannot be fetched or read, or if the recipe has no plan.
pub fn identify_object(at: &Location, head: &Head, recipe: &Recipe, stores: &Stores) -> Result<Identity, InspectError> {
    if head.recipe_id.as_deref() == Some(recipe.plan()?.id.as_str()) {
        return Ok(Identity::Same);
    }
    if let Some((version, _)) = recipe.earlier_ids()?.into_iter().find(|(_, id)| head.recipe_id.as_ref() == Some(id)) {
        return Ok(Identity::Older(version));
    }
    identify(stores.local_copy(at, MAX_COPY)?.path(), recipe)
}

/// Checks the structure of an existing granule against its recipe: every variable exists, every chunk exists within the
/// file, fill values, time and bounds are as planned, and no placeholder remains.
///
/// # Errors
/// Returns an error if the file cannot be read, or if the recipe has no plan. Problems of a readable file are returned
/// as a list.
pub fn structure(path: &Path, recipe: &Recipe) -> Result<Vec<String>, InspectError> {
    Ok(look(path, recipe, InspectionDepth::Structure, false)?.problems)
}

/// Checks the structure and the content of an existing granule of a recipe: every chunk of every variable is inflated,
/// to exactly the required size, and compared with its own checksums. Thus any damage to compressed data is found;
/// contiguous data have no checksum in the file.
///
/// # Errors
/// Returns an error if the file cannot be read, or if the recipe has no plan. Problems of a readable file are returned
/// as a list.
pub fn content(path: &Path, recipe: &Recipe) -> Result<Vec<String>, InspectError> {
    Ok(look(path, recipe, InspectionDepth::Content, false)?.problems)
}

/// Returns the places of the chunks of every chunked variable of a file.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub fn places(path: &Path) -> Result<Vec<wire::ChunkPlaces>, InspectError> {
    Ok(ReaderSession::open(path)?.look(None, InspectionDepth::Present, true)?.places)
}
