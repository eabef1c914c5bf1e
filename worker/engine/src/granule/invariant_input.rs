//! The NetCDF file that a time-invariant granule is made of, and what its variables become.
//!
//! The file may come from anybody, so that only the helper processes of the [`reader`](crate::reader) look into it.
//! They get a private copy in memory, whose digest is the one that is told of: what is written over at the source
//! meanwhile reaches the granule neither wholly nor in part.

use super::assembly::Assembly;
use super::cancellable_reader::CancellableReader;
use super::content::Type;
use super::coordinates::BOUNDS;
use super::error::MakeError;
use super::stages::{Stage, Stages};
use crate::metadata::attribute::{self, Attributes, Value};
use crate::reader::{Outline, OutlinedVariable, ReaderSession, ValueKind};
use edp_files::ReadAt;
use edp_protocol::{Digest, Mode, wire};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek as _};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// A file that is read, and what it says of itself.
pub(super) struct InvariantInput {
    pub(super) session: ReaderSession,
    pub(super) outline: Outline,
    /// The file as outcomes tell of it.
    pub(super) read: wire::InputRead,
}

/// The part that a variable of the input plays in the granule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VariableRole {
    /// Named like its only dimension, or by an attribute `coordinates` of the file.
    Coordinate,
    /// Bounds of a coordinate.
    Bounds,
    /// Everything else.
    Data,
}

impl Assembly<'_> {
    /// Opens the input of a time-invariant recipe.
    pub(super) fn open_netcdf(&self, path: &str, limit: u64) -> Result<InvariantInput, MakeError> {
        let data = self.open_file(path, limit)?;
        let mut input = InvariantInput::copy(&*data, path, limit, self.cancel, self.stages)?;
        self.recipe.input_below_root(path)?.clone_into(&mut input.read.path);
        Ok(input)
    }
}

impl InvariantInput {
    /// Copies a file into memory of at most `limit` bytes, and reads its outline. The path is used in messages only.
    ///
    /// # Errors
    /// Returns an error if the file is larger, cannot be read, or is not a NetCDF file.
    pub(super) fn copy(
        data: &dyn ReadAt,
        path: &str,
        limit: u64,
        cancel: &AtomicBool,
        stages: &Stages,
    ) -> Result<InvariantInput, MakeError> {
        let fail = |source| MakeError::Input { path: path.into(), source };
        let size = data.length().map_err(fail)?;
        if size > limit {
            let (granule, variable) = (path.to_owned(), "the whole file".to_owned());
            return Err(MakeError::Memory { granule, variable, needed: size, limit });
        }
        let copy = rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC);
        let mut copy = File::from(copy.map_err(|error| fail(error.into()))?);
        let mut pass = CancellableReader { file: data, at: 0, size, stop: &[cancel] };
        stages.time(Stage::Read, size, || io::copy(&mut pass, &mut copy)).map_err(fail)?;
        copy.rewind().map_err(fail)?;
        let (digest, _) = stages.time(Stage::Hash, size, || Digest::of_reader(&copy)).map_err(fail)?;
        let read = wire::InputRead { path: path.to_owned(), size, sha256: digest.as_str().to_owned() };
        let mut session = ReaderSession::with(copy, Path::new(path))?;
        let outline = session.outline()?;
        Ok(InvariantInput { session, outline, read })
    }
}

/// Returns the type that a variable of the granule has. EDP writes all data of tasks as floating-point numbers; where
/// types are kept, truth values and integers stay, unless some of these are missing.
///
/// # Errors
/// Returns the reason why its values cannot be written.
pub(super) fn type_of(
    variable: &OutlinedVariable,
    role: VariableRole,
    precision: Type,
    keeps_types: bool,
) -> Result<Type, String> {
    if variable.kind == ValueKind::Other {
        return Err("its values are neither numbers nor truth values: leave it out of the input".into());
    }
    let packed = ["scale_factor", "add_offset"];
    if let Some(key) = packed.into_iter().find(|key| attribute::get(&variable.attributes(), key).is_some()) {
        return Err(format!("it is packed (attribute {key}): write its values as they are meant"));
    }
    let (kind, complete) = (variable.kind, variable.described.missing.is_empty());
    Ok(match role {
        VariableRole::Coordinate | VariableRole::Bounds if kind == ValueKind::Integer => Type::I32,
        VariableRole::Coordinate | VariableRole::Bounds => Type::F32,
        VariableRole::Data if !keeps_types => precision,
        VariableRole::Data => match kind {
            ValueKind::Flag => Type::I8,
            ValueKind::Integer | ValueKind::OtherInteger if complete => Type::I32,
            _ => precision,
        },
    })
}

/// Returns the role of each variable, in the order of the file. EDP takes as coordinates only what an attribute
/// `coordinates` names; `corrected` also bounds by their name, and the names that are `known` to be those of
/// coordinates.
pub(super) fn roles(outline: &Outline, mode: Mode, known: impl Fn(&str) -> bool) -> Vec<VariableRole> {
    let named = |attributes: &Attributes| {
        let text = attribute::get(attributes, "coordinates").and_then(Value::text).unwrap_or_default().to_owned();
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut coordinates: BTreeSet<String> = outline.dimensions.iter().map(|(name, _)| name.clone()).collect();
    coordinates.extend(named(&outline.attributes()));
    for variable in &outline.variables {
        coordinates.extend(named(&variable.attributes()));
    }
    let role = |variable: &OutlinedVariable| {
        let name = variable.described.name.as_str();
        let is_named = coordinates.contains(name) || mode == Mode::Corrected && known(name);
        match name.ends_with(BOUNDS) {
            true if is_named || mode == Mode::Corrected => VariableRole::Bounds,
            false if is_named => VariableRole::Coordinate,
            _ => VariableRole::Data,
        }
    };
    outline.variables.iter().map(role).collect()
}

/// Returns the attributes of a variable that still hold when its values have been decoded: those that describe the
/// storage are left out, and the names of coordinates are found anew.
pub(super) fn kept_attributes(variable: &OutlinedVariable) -> Attributes {
    let mut attributes = variable.attributes();
    for name in ["_FillValue", "missing_value", "coordinates"] {
        attribute::remove(&mut attributes, name);
    }
    if variable.kind == ValueKind::Flag {
        attribute::remove(&mut attributes, "dtype");
    }
    attributes
}
