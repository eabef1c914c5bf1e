//! The recipe: one JSON object that states everything about one granule.
//!
//! The layout is that of EDP's task, in both of its generations. What this project adds is below the one key `recipe`,
//! see [`Plan`]. A task list is a JSON array of recipes, or has one recipe in each line.

mod derived;
mod error;
mod kind;
mod list;
mod plan;
#[cfg(test)]
mod tests;
mod version;

pub use derived::{
    Anomaly, Derivation, MEAN_ENDING, MEANS, PeriodMean, PeriodRecord, RecordSeries, RecordVersions, Rule,
};
pub use error::RecipeError;
pub use kind::{KindError, Orientation, VariableKind};
pub use list::{
    ListForm, ListWriter, UniqueCheck, VersionsCheck, check_unique, check_versions, format_list, parse_list, read_each,
    read_list,
};
pub use plan::{Digests, Plan, Roots};
pub use version::Version;

use crate::compression::{ChunkShapes, FieldEncoder};
use crate::digest::Digest;
use crate::location::{Location, without_parents};
use crate::name::{GranuleName, NameError, PROJECT, base_name};
use crate::text::is_unsafe;
use crate::vocabulary::{Frequency, Mode};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path};

/// Returns the output version of a mode. It is raised when the granules that the mode makes of the same input change,
/// at most once between releases. It is part of every recipe's id.
///
/// Version 1: the id covers the sizes and entity tags of inputs. Version 2: it covers their SHA-256 where the plan has
/// recorded it, see [`Version`]. Version 3 of `corrected`: identifiers are those that the archive has used since
/// Release 6; the change log lists the other changes. Version 4 of `corrected`: fields are compressed by
/// [`FieldEncoder::Planes`].
pub const fn output_version(mode: Mode) -> u32 {
    match mode {
        Mode::Corrected => 4,
        Mode::Edp2024 | Mode::Edp2026 => 2,
    }
}

/// The namespace of granule UUIDs: a granule's UUID is the version-5 UUID of its lower-case hexadecimal recipe id in
/// it. The namespace is itself the version-5 UUID of `edp.recipe` in the DNS namespace of RFC 9562.
pub(crate) const UUID_NAMESPACE: uuid::Uuid = uuid::uuid!("7c25c529-4610-5cd1-9003-4e427d2f7c57");

/// Names of the options that change content. A program refuses a recipe with any other option, since it would make
/// something else than was asked for.
///
/// * `allow_partial` (`true`, only where outputs are missing): the granule is made without them.
/// * `chunks` (`maps` or `columns`, only where the shape of chunks is not EDP's): see [`ChunkShapes`].
/// * `dates` (`header`, only where it makes a difference): the times are those of the headers, not those of the steps.
/// * `encoder` (`planes` or `libdeflate`, only where it is not the mode's own): see [`FieldEncoder`].
/// * `project` (a text, only where it is not `ECCO`): the words for the project in the name of the granule.
/// * `series` (an object from outputs of a time series to an object with `unset_first`, a number of values that become
///   fill if the series begins with the model, and `remove_mean`, true if the mean of the others is subtracted).
/// * `valid_range` (an object from each output to the smallest and largest value of the whole collection, or to `null`
///   if it never has any): the range is written, and values outside of it are refused.
/// * `vectors` (`target`): vectors are rotated to the directions at the cells of the longitude-latitude grid.
/// * `vertical` (`faces`): variables at upper cell faces keep the depths of these faces on the longitude-latitude grid.
pub const OPTIONS: [&str; 9] =
    ["allow_partial", CHUNKS, "dates", ENCODER, "project", "series", "valid_range", "vectors", "vertical"];

/// Names of the options for the encoder of fields, and for the shapes of their chunks.
const ENCODER: &str = "encoder";
const CHUNKS: &str = "chunks";

/// One input of a variable: the `.data` file and its `.meta` header, as EDP lists them. For an array in several pieces
/// it has the two files of each piece.
pub type InputPaths = Vec<String>;

/// The recipe of one granule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Full path or `s3://` address of the granule.
    pub granule: String,
    /// Output variables in the order of the file, each with its inputs: one, two (x, then y) for a rotated variable, or
    /// as many as its rule has for a derived one.
    #[serde(default)]
    pub variables: IndexMap<String, Vec<InputPaths>>,
    /// Location of the configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecco_cfg_loc: Option<String>,
    /// Location of the grid directory.
    #[serde(default)]
    pub ecco_grid_loc: Option<String>,
    /// Location of the mapping factors. Native granules do not need it.
    #[serde(default)]
    pub ecco_mapping_factors_loc: Option<String>,
    /// Location of the metadata directory.
    #[serde(default)]
    pub ecco_metadata_loc: Option<String>,
    /// Attributes of this granule that the planner computes.
    pub dynamic_metadata: DynamicMetadata,
    /// The file that holds the data, in time-invariant tasks of EDP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_netcdf: Option<String>,
    /// True if the attributes of that file are dropped, as the task says it, in time-invariant tasks only; see
    /// [`Recipe::strips_attributes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strip_attributes: Option<FlagOrText>,
    /// The addition of this project, which is absent in lists that EDP wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Plan>,
}

/// A truth value that people write as one, or as a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "strip_attributes is neither true, false nor a text")]
pub enum FlagOrText {
    /// JSON `true` or `false`.
    Flag(bool),
    /// A text such as `"True"`.
    Text(String),
}

/// The value of `time_coverage_duration` and `time_coverage_resolution` that makes a task time-invariant.
pub const TIME_INVARIANT: &str = "TIME-INVARIANT";

/// Attributes of one granule that depend on its dataset and time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DynamicMetadata {
    /// Name of the dataset's grouping.
    pub name: String,
    /// Number of spatial dimensions: `2D` or `3D`.
    pub dimension: String,
    /// Start of the period, `YYYY-MM-DDThh:mm:ss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_coverage_start: Option<String>,
    /// End of the period, in the same form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_coverage_end: Option<String>,
    /// Middle of the period, in the same form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_coverage_center: Option<String>,
    /// Comment of the dataset's grouping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Text for the time coordinate: `center time of averaging period` or `snapshot time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_long_name: Option<String>,
    /// Duration of the period as in ISO 8601: `P1D`, `P1M` or `PT0S`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_coverage_duration: Option<String>,
    /// Resolution in time; the same text as the duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_coverage_resolution: Option<String>,
    /// For each rotated output, the model components of which it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_components: Option<IndexMap<String, Components>>,
    /// Direction of each rotated output: `zonal` or `meridional`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_orientations: Option<IndexMap<String, String>>,
    /// First half of the `summary` attribute.
    pub summary: String,
}

/// The two components of a vector on the model's grid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Components {
    /// Variable along the model's i axis.
    pub x: String,
    /// Variable along the model's j axis.
    pub y: String,
}

impl Recipe {
    /// Returns the part that the planner has added.
    ///
    /// # Errors
    /// Returns [`RecipeError::NoPlan`] if EDP wrote the recipe and it was not completed.
    pub fn plan(&self) -> Result<&Plan, RecipeError> {
        self.recipe.as_ref().ok_or_else(|| RecipeError::NoPlan { granule: self.granule.clone() })
    }

    /// Returns the path of the granule below the destination root, with `/` between its parts.
    ///
    /// # Errors
    /// Returns an error if the granule is not below the root, or its path contains `..` or control characters.
    pub fn granule_below_root(&self) -> Result<&str, RecipeError> {
        let path = below(&self.granule, &self.granule, &self.plan()?.roots.destination)?;
        if path.contains(is_unsafe) {
            return Err(RecipeError::Unseen { granule: self.granule.clone() });
        }
        Ok(path)
    }

    /// Returns true if the granule has no time, since its time coverage has the resolution `TIME-INVARIANT`, in any
    /// case.
    pub fn is_time_invariant(&self) -> bool {
        let resolution = self.dynamic_metadata.time_coverage_resolution.as_deref();
        resolution.is_some_and(|resolution| resolution.eq_ignore_ascii_case(TIME_INVARIANT))
    }

    /// Returns true if the attributes of `input_netcdf` are dropped. EDP drops them for any text that is not empty,
    /// also for `"False"`; `corrected` reads true, false, yes, no, 1 and 0 in any case.
    ///
    /// # Errors
    /// [`RecipeError::Strip`] if `corrected` finds another text.
    pub fn strips_attributes(&self, mode: Mode) -> Result<bool, RecipeError> {
        match &self.strip_attributes {
            None => Ok(false),
            Some(FlagOrText::Flag(flag)) => Ok(*flag),
            Some(FlagOrText::Text(text)) if mode.is_edp() => Ok(!text.is_empty()),
            Some(FlagOrText::Text(text)) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" => Ok(true),
                "false" | "no" | "0" | "" => Ok(false),
                _ => Err(RecipeError::Strip { granule: self.granule.clone(), text: text.clone() }),
            },
        }
    }

    /// Returns the words for the project in the name of the granule (option `project`).
    pub fn project(&self) -> &str {
        let option = self.recipe.as_ref().and_then(|plan| plan.options.get("project"));
        option.and_then(serde_json::Value::as_str).unwrap_or(PROJECT)
    }

    /// Returns the parts of the name of the granule.
    ///
    /// # Errors
    /// Returns [`NameError`] if the last part of the granule's path is not a name of a granule of the project.
    pub fn name(&self) -> Result<GranuleName, NameError> {
        GranuleName::parse_of(self.project(), base_name(&self.granule))
    }

    /// Returns the reason why the time, the name and the inputs of the recipe do not fit together, if they do not.
    pub fn contradiction_in_time(&self, name: &GranuleName) -> Option<&'static str> {
        let named = name.frequency == Frequency::TimeInvariant;
        let plain =
            |path: &str| path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/");
        let granule = plain(&self.granule);
        if self.input_paths().any(|path| plain(path) == granule) {
            return Some("its granule is one of its inputs, which it would replace: give the granule another path");
        }
        match (self.is_time_invariant(), named, &self.input_netcdf) {
            (true, true, Some(_)) if !self.variables.is_empty() => {
                Some("a time-invariant task has 'input_netcdf' or 'variables', not both")
            }
            (true, true, None) if self.variables.is_empty() => Some(
                "its time_coverage_resolution is TIME-INVARIANT, so that the key 'input_netcdf' must name its data, or \
                 'variables' the binary files of each of them",
            ),
            (true, true, _) | (false, false, None) => None,
            (true, false, _) => Some(
                "its time_coverage_resolution is TIME-INVARIANT, so that its name must be \
                 <filename>_<project>_<version>_<grid>_<label>.nc",
            ),
            (false, true, _) => Some(
                "its name has no time, so that time_coverage_resolution in its dynamic_metadata must be TIME-INVARIANT",
            ),
            (false, false, Some(_)) => {
                Some("'input_netcdf' is for tasks whose time_coverage_resolution is TIME-INVARIANT only")
            }
        }
    }

    /// Returns the paths of everything that the granule is made of: the files of each variable, and `input_netcdf`.
    pub fn input_paths(&self) -> impl Iterator<Item = &str> {
        let files = self.variables.values().flatten().flatten();
        files.chain(&self.input_netcdf).map(String::as_str)
    }

    /// Path of an input below the source root.
    ///
    /// # Errors
    /// Returns an error if the input is not below the root, or its path contains `..`.
    pub fn input_below_root<'a>(&self, input: &'a str) -> Result<&'a str, RecipeError> {
        below(&self.granule, input, &self.plan()?.roots.source)
    }

    /// Returns the mode of a recipe that has no key `recipe`, by the EDP that wrote it: EDP of 2024 names no
    /// configuration, and has no time-invariant tasks.
    pub fn generation(&self) -> Mode {
        if self.ecco_cfg_loc.is_some() || self.is_time_invariant() { Mode::Edp2026 } else { Mode::Edp2024 }
    }

    /// Computes the id of this recipe: SHA-256 of the RFC 8785 form of everything that decides the granule's content,
    /// by the rule of the recipe's output version. It does not cover roots, the date of production, sizes, entity tags
    /// and times of inputs, nor the id that is recorded.
    ///
    /// # Errors
    /// Returns an error if the recipe has no plan, or paths outside its roots.
    pub fn computed_id(&self) -> Result<String, RecipeError> {
        self.id_as_of(self.plan()?.format)
    }

    /// Computes the ids that this recipe had under earlier output versions, the latest first, each with its version.
    /// Granules of these versions are recognized by them.
    ///
    /// # Errors
    /// Returns an error if the recipe has no plan, or paths outside its roots.
    pub fn earlier_ids(&self) -> Result<Vec<(u32, String)>, RecipeError> {
        let format = self.plan()?.format.min(output_version(self.plan()?.mode));
        (1..format).rev().map(|format| Ok((format, self.id_as_of(format)?))).collect()
    }

    /// Computes the id by the rule of an output version.
    fn id_as_of(&self, format: u32) -> Result<String, RecipeError> {
        let plan = self.plan()?;
        let mut variables = Vec::new();
        for (name, inputs) in &self.variables {
            let mut below = Vec::new();
            for input in inputs {
                below.push(input.iter().map(|path| self.input_below_root(path)).collect::<Result<Vec<_>, _>>()?);
            }
            variables.push(serde_json::json!([name, below]));
        }
        let inputs: serde_json::Map<String, serde_json::Value> = if format < 2 {
            let seen = |version: &Version| match &version.etag {
                Some(etag) => serde_json::json!({"size": version.size, "etag": etag}),
                None => serde_json::json!({"size": version.size}),
            };
            plan.inputs.iter().map(|(path, version)| (path.clone(), seen(version))).collect()
        } else {
            let digest = |version: &Version| version.sha256.as_ref().map(|digest| digest.as_str().into());
            plan.inputs.iter().filter_map(|(path, version)| Some((path.clone(), digest(version)?))).collect()
        };
        let mut options = plan.options.clone();
        if plan.mode == Mode::Corrected && format < 4 {
            // There was no choice of these.
            options.remove(ENCODER);
            options.remove(CHUNKS);
        }
        let mut content = serde_json::json!({
            "format": format,
            "granule": self.granule_below_root()?,
            "variables": variables,
            "inputs": inputs,
            "dynamic_metadata": self.dynamic_metadata,
            "mode": plan.mode,
            "options": options,
            "time_units": plan.time_units,
            "digests": plan.digests,
        });
        if !plan.fields.is_empty() {
            content["fields"] = serde_json::json!(plan.fields);
        }
        if !plan.derived.is_empty() {
            content["derived"] = Recipe::derived_content(&plan.derived);
        }
        if let Some(input) = &self.input_netcdf {
            content["input_netcdf"] = self.input_below_root(input)?.into();
            // As it is written, so that two spellings may stand in one list.
            content["strip_attributes"] = serde_json::json!(self.strip_attributes);
        }
        // The value consists of strings, integers, arrays and string-keyed objects, all of which have a canonical form.
        let bytes = serde_json_canonicalizer::to_vec(&content)
            .map_err(|source| RecipeError::Json { list: self.granule.clone(), source })?;
        Ok(Digest::of(&bytes).as_str().to_owned())
    }

    /// Makes every relative local path absolute, beneath `base`, and resolves `..`. This is for recipes that are sent
    /// to other machines, where workers do not follow paths that lead out of their roots. A path with a `..` that
    /// cannot be resolved keeps it. The id does not change, since it covers paths below the roots only.
    pub fn make_absolute(&mut self, base: &Path) {
        let absolute = |text: &mut String| {
            let Ok(Location::Local(path)) = text.parse::<Location>() else { return };
            let has_parents = path.components().any(|part| part == Component::ParentDir);
            if path.is_relative() || has_parents {
                // `./` and `.` would otherwise stay in the middle of the path.
                let below = path.strip_prefix(".").unwrap_or(&path);
                let joined = if below.as_os_str().is_empty() { base.to_owned() } else { base.join(below) };
                let resolved = if has_parents { without_parents(&joined).unwrap_or(joined) } else { joined };
                *text = resolved.display().to_string();
            }
        };
        absolute(&mut self.granule);
        self.variables.values_mut().flatten().flatten().chain(&mut self.input_netcdf).for_each(absolute);
        for shared in [
            &mut self.ecco_cfg_loc,
            &mut self.ecco_metadata_loc,
            &mut self.ecco_grid_loc,
            &mut self.ecco_mapping_factors_loc,
        ] {
            shared.iter_mut().for_each(absolute);
        }
        if let Some(plan) = &mut self.recipe {
            absolute(&mut plan.roots.source);
            absolute(&mut plan.roots.destination);
        }
    }

    /// Sets an option that changes content, and updates the id.
    ///
    /// # Errors
    /// Returns an error if the recipe has no plan, or paths outside its roots.
    pub fn set_option(&mut self, name: &str, value: serde_json::Value) -> Result<(), RecipeError> {
        self.change(|plan| drop(plan.options.insert(name.to_owned(), value)))
    }

    /// Changes the planner's part, and updates the id.
    ///
    /// # Errors
    /// Returns an error, and leaves the recipe unchanged, if it has no plan, or paths outside its roots.
    pub fn change(&mut self, change: impl FnOnce(&mut Plan)) -> Result<(), RecipeError> {
        let without = || RecipeError::NoPlan { granule: self.granule.clone() };
        let mut changed = self.clone();
        change(changed.recipe.as_mut().ok_or_else(without)?);
        let id = changed.computed_id()?;
        if let Some(plan) = &mut changed.recipe {
            plan.id = id;
        }
        *self = changed;
        Ok(())
    }

    /// Refuses a recipe that was edited after planning, was planned for another output version, or has unknown options.
    ///
    /// # Errors
    /// Returns the [`RecipeError`] that says which of these it is.
    pub fn check_identity(&self) -> Result<(), RecipeError> {
        let plan = self.plan()?;
        let made = output_version(plan.mode);
        if plan.format != made {
            return Err(RecipeError::Format { granule: self.granule.clone(), found: plan.format, made });
        }
        self.check_date()?;
        if let Some(option) = plan.options.keys().find(|option| !OPTIONS.contains(&option.as_str())) {
            return Err(RecipeError::Option { granule: self.granule.clone(), option: option.clone() });
        }
        let unknown = |source| RecipeError::Choice { granule: self.granule.clone(), source };
        let own = plan.encoder().map_err(unknown)? == FieldEncoder::of_mode(plan.mode);
        let edp = plan.chunks().map_err(unknown)? == ChunkShapes::Edp;
        // One granule has one id; and granules of EDP's modes have one form.
        for (option, is_default) in [(ENCODER, own), (CHUNKS, edp)] {
            if plan.options.contains_key(option) && (is_default || plan.mode.is_edp()) {
                return Err(RecipeError::Choices { granule: self.granule.clone(), option, mode: plan.mode });
            }
        }
        self.check_derived()?;
        self.check_id()
    }

    /// Refuses a recipe that was edited after planning, so that its recorded id is not that of its content.
    ///
    /// # Errors
    /// Returns an error if the recipe has no plan, has paths outside its roots, or has another id.
    pub(crate) fn check_id(&self) -> Result<(), RecipeError> {
        let (found, computed) = (&self.plan()?.id, self.computed_id()?);
        if computed != *found {
            return Err(RecipeError::Id { granule: self.granule.clone(), found: found.clone(), computed });
        }
        Ok(())
    }

    /// Refuses a malformed date of production. The id does not cover the date, and every granule carries it.
    fn check_date(&self) -> Result<(), RecipeError> {
        let Some(plan) = &self.recipe else { return Ok(()) };
        let date = &plan.production_date;
        if is_production_date(date) {
            Ok(())
        } else {
            Err(RecipeError::Date { granule: self.granule.clone(), date: date.clone() })
        }
    }

    /// Returns the UUID of a granule: the version-5 UUID of the recipe's id.
    pub fn uuid_of(id: &str) -> String {
        uuid::Uuid::new_v5(&UUID_NAMESPACE, id.as_bytes()).to_string()
    }
}

/// Returns true if a text is a date of production as granules have it: `YYYY-MM-DDThh:mm:ssZ` in exactly this form,
/// although other texts may stand for the same time.
pub fn is_production_date(text: &str) -> bool {
    let form = text.len() == 20 && text.starts_with(|c: char| c.is_ascii_digit());
    form && text.parse::<jiff::Timestamp>().is_ok_and(|time| time.to_string() == text)
}

/// Returns the part of a path that is below a root, or `None` if it is not below it.
pub fn below_root<'a>(path: &'a str, root: &str) -> Option<&'a str> {
    below("", path, root).ok()
}

/// Returns `path` relative to `root`. The root `.`, or an empty one, stands for relative paths, which are returned as
/// they are.
fn below<'a>(granule: &str, path: &'a str, root: &str) -> Result<&'a str, RecipeError> {
    let outside = || RecipeError::OutsideRoot { granule: granule.into(), path: path.into(), root: root.into() };
    let absolute = root.starts_with('/');
    let root = root.trim_end_matches('/');
    let rest = if root.is_empty() && absolute {
        path.strip_prefix('/').ok_or_else(outside)?
    } else if root.is_empty() || root == "." {
        path.strip_prefix("./").unwrap_or(path)
    } else {
        path.strip_prefix(root).and_then(|rest| rest.strip_prefix('/')).ok_or_else(outside)?
    };
    let clean = !rest.is_empty()
        && rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && !rest.contains('\0');
    if clean { Ok(rest) } else { Err(outside()) }
}
