//! What an inspection finds in a granule, in the process that has opened it.

use super::chunks::{self, Layout};
use super::content::{Attributes, Value, get};
use super::file;
use super::stored;
use super::time;
use crate::metadata::global::{is_placeholder, time_text};
use crate::reader::open_file::OpenFile;
use edp_protocol::name::base_name;
use edp_protocol::recipe::{Plan, Recipe};
use edp_protocol::{GridKind, Mode, wire};
use netcdf::types::{FloatType, IntType, NcVariableType};
use serde::{Deserialize, Serialize};

/// The identity of a granule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// It is the recipe's own granule.
    Same,
    /// It is the same recipe's granule, made by this earlier output version.
    Older(u32),
    /// It is the granule of another recipe, or not one of this project; the differences, as `name: found, wanted`.
    Other(Vec<String>),
}

/// The depth of an inspection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum InspectionDepth {
    /// The identity of the granule only.
    Present,
    /// Also its variables, fill values, time, bounds, and the existence of every chunk; see
    /// [`super::inspect::structure`].
    Structure,
    /// Also every chunk is inflated, if it is the recipe's granule; see [`super::inspect::content`].
    Content,
}

/// The result of an inspection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspected {
    /// Identity of the granule.
    pub identity: Identity,
    /// Problems of the file, as far as it was inspected.
    pub problems: Vec<String>,
    /// Places of the chunks of every chunked variable, if these were asked for.
    pub places: Vec<wire::ChunkPlaces>,
}

/// Inspects an open file: its identity, its problems, and the places of its chunks. Without a recipe, the identity is
/// not compared.
///
/// # Errors
/// Returns a description of the problem if the file cannot be read.
pub(crate) fn look_at(
    opened: &mut OpenFile<'_>,
    recipe: Option<&Recipe>,
    depth: InspectionDepth,
    places: bool,
) -> Result<Inspected, String> {
    let mut looked = Inspected { identity: Identity::Other(Vec::new()), problems: Vec::new(), places: Vec::new() };
    if let Some(recipe) = recipe {
        looked.identity = identity(&globals(opened).map_err(in_words)?, recipe)?;
        if depth > InspectionDepth::Present {
            looked.problems = structure_of(opened, recipe)?;
        }
    }
    let inflated = depth == InspectionDepth::Content && looked.identity == Identity::Same;
    if inflated || places {
        let names: Vec<String> = opened.file().map_err(in_words)?.variables().map(|variable| variable.name()).collect();
        let layouts = layouts(opened, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
        if inflated {
            looked.problems.extend(stored::check(opened.image().bytes(), &names, &layouts));
        }
        if places {
            let places = names.iter().zip(&layouts).map(|(name, layout)| layout.places(name));
            looked.places = places.filter(|chunks| !chunks.places.is_empty()).collect();
        }
    }
    Ok(looked)
}

#[allow(clippy::needless_pass_by_value)] // as `map_err` wants it
fn in_words(error: netcdf::Error) -> String {
    error.to_string()
}

fn layouts(opened: &OpenFile<'_>, names: &[&str]) -> Result<Vec<Layout>, String> {
    opened.image().layouts(names).map_err(|error| error.what())
}

fn identity(attributes: &Attributes, recipe: &Recipe) -> Result<Identity, String> {
    let plan = recipe.plan().map_err(|error| error.to_string())?;
    let uuid = Recipe::uuid_of(&plan.id);
    let (key, id) = match plan.mode {
        Mode::Corrected => ("recipe_id", plan.id.as_str()),
        Mode::Edp2024 | Mode::Edp2026 => ("uuid", uuid.as_str()),
    };
    let found = |name: &str| get(attributes, name).and_then(Value::text);
    if found(key) == Some(id) {
        return Ok(Identity::Same);
    }
    for (version, earlier) in recipe.earlier_ids().map_err(|error| error.to_string())? {
        let uuid = Recipe::uuid_of(&earlier);
        let id = if plan.mode == Mode::Corrected { earlier.as_str() } else { uuid.as_str() };
        if found(key) == Some(id) {
            return Ok(Identity::Older(version));
        }
    }
    let dynamic = &recipe.dynamic_metadata;
    let time = |time: &Option<String>| time.as_deref().map(|time| time_text(time, plan.mode));
    let (start, end) = (time(&dynamic.time_coverage_start), time(&dynamic.time_coverage_end));
    let wanted = [
        (key, Some(id)),
        ("product_name", Some(base_name(&recipe.granule))),
        ("time_coverage_start", start.as_deref()),
        ("time_coverage_end", end.as_deref()),
        ("date_created", Some(plan.production_date.as_str())),
    ];
    let differs = wanted.into_iter().filter(|(name, wanted)| found(name) != *wanted).map(|(name, wanted)| {
        format!("{name}: {}, wanted {}", found(name).unwrap_or("none"), wanted.unwrap_or("none"))
    });
    Ok(Identity::Other(differs.collect()))
}

fn globals(opened: &mut OpenFile<'_>) -> netcdf::Result<Attributes> {
    // Other files may have attributes of types that granules never have. These are ignored.
    let file = opened.file()?;
    let known = file.attributes().filter(|a| a.value().ok().and_then(file::attribute_from).is_some());
    file::attributes_of(known)
}

/// Attributes of a data variable that are numbers of the type of its values, and attributes that are texts.
const NUMBERS: [&str; 6] = ["_FillValue", "missing_value", "valid_min", "valid_max", "valid_range", "actual_range"];
const TEXTS: [&str; 6] = ["long_name", "standard_name", "units", "coordinates", "comment", "cell_methods"];

/// Returns the problems with the types of a data variable and of its attributes.
fn types_of(variable: &netcdf::Variable<'_>) -> Vec<String> {
    let double = match variable.vartype() {
        NcVariableType::Float(FloatType::F32) => false,
        NcVariableType::Float(FloatType::F64) => true,
        other => return vec![format!("its type is {other:?}, should be single or double precision")],
    };
    let mut problems = Vec::new();
    let mut check = |names: &[&str], right: fn(&Value, bool) -> bool| {
        for name in names {
            let found = variable.attribute_value(name).map(|value| value.ok().and_then(file::attribute_from));
            if found.is_some_and(|value| !value.is_some_and(|value| right(&value, double))) {
                problems.push(format!("attribute {name} is of another type than it should be"));
            }
        }
    };
    check(&NUMBERS, |value, double| match value {
        Value::F32(_) => !double,
        Value::F64(_) => double,
        Value::I32(_) | Value::Text(_) => false,
    });
    check(&TEXTS, |value, _| value.text().is_some());
    problems
}

fn structure_of(opened: &mut OpenFile<'_>, recipe: &Recipe) -> Result<Vec<String>, String> {
    let plan = recipe.plan().map_err(|error| error.to_string())?;
    let mut problems = Vec::new();
    let mut chunked = Vec::new();
    let file = opened.file().map_err(in_words)?;
    for name in recipe.variables.keys() {
        let Some(variable) = file.variable(name) else {
            problems.push(format!("{name}: missing"));
            continue;
        };
        if variable.attribute("_FillValue").is_none() {
            problems.push(format!("{name}: no fill value"));
        }
        problems.extend(types_of(&variable).into_iter().map(|what| format!("{name}: {what}")));
        match variable.chunking().map_err(in_words)? {
            None => problems.push(format!("{name}: not stored in chunks")),
            Some(_) => chunked.push(name.clone()),
        }
    }
    if recipe.input_netcdf.is_some() {
        // The recipe does not say which variables its input has.
        for variable in file.variables() {
            if variable.chunking().map_err(in_words)?.is_some() {
                chunked.push(variable.name());
            }
        }
        if chunked.is_empty() {
            problems.push("no variable is stored in chunks".into());
        }
    } else if is_series(recipe) {
        problems.extend(series_times_of(file, plan));
    } else if !recipe.is_time_invariant() {
        problems.extend(time_of(file, recipe, plan));
    }
    if plan.mode == Mode::Corrected {
        let placeholders = globals(opened).map_err(in_words)?.into_iter().filter(|(_, value)| is_placeholder(value));
        problems.extend(placeholders.map(|(name, value)| format!("{name}: placeholder {value:?} left")));
    }
    let length = opened.image().bytes().len() as u64;
    let chunked: Vec<&str> = chunked.iter().map(String::as_str).collect();
    for (name, layout) in chunked.iter().zip(layouts(opened, &chunked)?) {
        problems.extend(layout.missing().map(|what| format!("{name}: {what}")));
        let outside = |chunk: &chunks::Stored| chunk.address.checked_add(chunk.size).is_none_or(|end| end > length);
        if layout.chunks.iter().any(outside) {
            problems.push(format!("{name}: chunks beyond the end of the file"));
        }
    }
    Ok(problems)
}

/// Returns true if the granule of a recipe is a time series.
fn is_series(recipe: &Recipe) -> bool {
    recipe.name().is_ok_and(|name| name.grid == GridKind::Series)
}

/// Checks the times of a time series, which its recipe does not list: they ascend, in the units that were planned.
fn series_times_of(file: &netcdf::File, plan: &Plan) -> Vec<String> {
    let Some(time) = file.variable("time") else { return vec!["time: missing".into()] };
    let mut problems = Vec::new();
    match time.get_values::<f64, _>(..) {
        Ok(values) if values.is_empty() => problems.push("time: no values".into()),
        Ok(values) if values.is_sorted_by(|a, b| a < b) => {}
        Ok(_) => problems.push("time: its values do not ascend".into()),
        Err(error) => problems.push(format!("time: {error}")),
    }
    problems.extend(unplanned_units(&time, plan));
    problems
}

/// Compares the units of time with those of the recipe.
fn unplanned_units(time: &netcdf::Variable<'_>, plan: &Plan) -> Option<String> {
    let units = time.attribute_value("units").and_then(Result::ok).and_then(file::attribute_from);
    (units.as_ref().and_then(Value::text) != Some(plan.time_units.as_str()))
        .then(|| format!("time: units {units:?}, planned '{}'", plan.time_units))
}

/// Compares the time of a granule with that of its recipe.
fn time_of(file: &netcdf::File, recipe: &Recipe, plan: &Plan) -> Vec<String> {
    let mut problems = Vec::new();
    match time::encode_long(&recipe.dynamic_metadata, &plan.time_units) {
        Err(error) => problems.push(error.to_string()),
        Ok(time) => {
            for (name, wanted) in [("time", vec![time.center]), ("time_bnds", vec![time.start, time.end])] {
                let variable = file.variable(name);
                // Floating-point numbers if the whole run is too long for 32 bits.
                let is_as_planned = |found: &netcdf::Variable<'_>| match found.vartype() {
                    NcVariableType::Int(IntType::I32) => time.is_short(),
                    NcVariableType::Float(FloatType::F64) => plan.mode == Mode::Corrected,
                    _ => false,
                };
                if variable.as_ref().is_some_and(|found| !is_as_planned(found)) {
                    problems.push(format!("{name}: its type is not that of integers of 32 bits"));
                }
                let wanted: Vec<f64> = wanted.into_iter().map(|time| time as f64).collect();
                match variable.filter(|found| found.len() == wanted.len()).map(|found| found.get_values::<f64, _>(..)) {
                    None => problems.push(format!("{name}: missing, or not {} values", wanted.len())),
                    Some(Ok(found)) if found == wanted => {}
                    Some(Ok(found)) => problems.push(format!("{name}: {found:?}, planned {wanted:?}")),
                    Some(Err(error)) => problems.push(format!("{name}: {error}")),
                }
            }
            problems.extend(file.variable("time").and_then(|time| unplanned_units(&time, plan)));
        }
    }
    problems
}
