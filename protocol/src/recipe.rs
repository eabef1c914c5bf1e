//! The recipe: one JSON object that says all there is to say about one granule.
//!
//! The layout is EDP's task, in both its generations; everything of ours sits under the one key
//! `recipe`, see [`Plan`]. A task list is a JSON array of recipes.

mod error;
mod list;
#[cfg(test)]
mod tests;
mod version;

pub use error::RecipeError;
pub use list::{check_unique, check_versions, format_list, parse_list, read_list};
pub use version::Version;

use crate::digest::Digest;
use crate::location::{Location, without_parents};
use crate::text::is_unsafe;
use crate::vocabulary::Mode;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Component, Path};

/// The output version of a mode: raised when the output of this mode for the same input changes, at most once between
/// releases. It is part of every recipe id.
///
/// Version 1: the id covers the sizes and entity tags of inputs. Version 2: it covers their SHA-256 where the plan has
/// recorded it, see [`Version`]. Version 3 of `corrected`: identifiers as the archive has had them since Release 6, and what the
/// change log lists under it.
pub const fn output_version(mode: Mode) -> u32 {
    match mode {
        Mode::Corrected => 3,
        Mode::Edp2024 | Mode::Edp2026 => 2,
    }
}

/// The namespace of granule UUIDs (version 5, of the lower-case hexadecimal recipe id).
/// It is itself the version-5 UUID of `edp.recipe` in the DNS namespace of RFC 9562.
pub const UUID_NAMESPACE: uuid::Uuid = uuid::uuid!("7c25c529-4610-5cd1-9003-4e427d2f7c57");

/// The options that change content, by name. A program refuses recipes with any other: it would make something else
/// than was asked for.
///
/// `allow_partial` (`true`, only where outputs are missing): made without them; `dates` (`header`, only where it makes a
/// difference): the times are those of the headers, not those of the steps; `valid_range` (object, output to the
/// smallest and largest value of the whole collection, or `null` if it never has any): written, and held to;
/// `vectors` (`target`): rotated vectors get their direction at the cells of the longitude-latitude grid; `vertical`
/// (`faces`): variables at upper cell faces keep these depths there.
pub const OPTIONS: [&str; 5] = ["allow_partial", "dates", "valid_range", "vectors", "vertical"];

/// One input of a variable: the `.data` file and its `.meta` header, as EDP lists them; of an array in several pieces
/// the two files of each piece.
pub type InputPaths = Vec<String>;

/// One granule to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Full path or `s3://` address of the granule.
    pub granule: String,
    /// Output variable, in file order, to its inputs: one, or two (x then y) if rotated.
    #[serde(default)]
    pub variables: IndexMap<String, Vec<InputPaths>>,
    /// Location of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecco_cfg_loc: Option<String>,
    /// Location of the grid directory.
    #[serde(default)]
    pub ecco_grid_loc: Option<String>,
    /// Location of the mapping factors; native granules do not read it.
    #[serde(default)]
    pub ecco_mapping_factors_loc: Option<String>,
    /// Location of the metadata directory.
    #[serde(default)]
    pub ecco_metadata_loc: Option<String>,
    /// What the plan found out about this granule.
    pub dynamic_metadata: DynamicMetadata,
    /// Time-invariant tasks only: the file that holds the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_netcdf: Option<String>,
    /// Time-invariant tasks only: whether attributes of that file are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strip_attributes: Option<bool>,
    /// Our own part; absent in lists that EDP wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Plan>,
}

/// Attributes of one granule that depend on its dataset and time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DynamicMetadata {
    /// Name of the grouping.
    pub name: String,
    /// `2D` or `3D`.
    pub dimension: String,
    /// Start of the period, `YYYY-MM-DDThh:mm:ss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_coverage_start: Option<String>,
    /// End of the period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_coverage_end: Option<String>,
    /// Middle of the period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_coverage_center: Option<String>,
    /// Comment of the grouping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// `center time of averaging period` or `snapshot time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_long_name: Option<String>,
    /// ISO 8601 duration: `P1D`, `P1M`, `PT0S`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_coverage_duration: Option<String>,
    /// The same as the duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_coverage_resolution: Option<String>,
    /// Rotated outputs: the model components they are made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_components: Option<IndexMap<String, Components>>,
    /// Rotated outputs: `zonal` or `meridional`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_orientations: Option<IndexMap<String, String>>,
    /// First half of the `summary` attribute.
    pub summary: String,
}

/// The two model components of a vector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Components {
    /// Variable along the model's i axis.
    pub x: String,
    /// Variable along the model's j axis.
    pub y: String,
}

/// Our own part of a recipe, under the key `recipe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// SHA-256 of all that decides the content, see [`Recipe::computed_id`].
    pub id: String,
    /// [`output_version`] of the planner.
    pub format: u32,
    /// Whose results are asked for.
    pub mode: Mode,
    /// Every other option that changes content, by name.
    #[serde(default)]
    pub options: BTreeMap<String, serde_json::Value>,
    /// CF units of the granule's time, such as `hours since 1992-01-01T12:00:00`.
    pub time_units: String,
    /// SHA-256 of what the granule is made with.
    pub digests: Digests,
    /// Input path below the source root to the version seen when planning. Of these only the recorded SHA-256 are part
    /// of the id.
    pub inputs: BTreeMap<String, Version>,
    /// Source and destination root; not part of the id.
    pub roots: Roots,
    /// Outputs whose inputs are files with other names than their variables: the model variable in each of the inputs,
    /// by which its record is found. Part of the id where there are any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Vec<String>>,
    /// Outputs of the grouping that have no input at this time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Date of the production, `YYYY-MM-DDThh:mm:ssZ`; not part of the id.
    pub production_date: String,
}

/// Digests of the resources that recipes share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digests {
    /// Of the configuration file.
    pub configuration: Digest,
    /// Of the metadata directory.
    pub metadata: Digest,
    /// Of the grid files that production reads.
    pub grid: Digest,
    /// Of the mapping factors that production reads; absent for native granules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factors: Option<Digest>,
}

/// Where a production reads and writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roots {
    /// Root of the model results.
    pub source: String,
    /// Root of the granules.
    pub destination: String,
}

impl Plan {
    /// Whether the granule may be made although outputs are missing (option `allow_partial`).
    pub fn allows_partial(&self) -> bool {
        self.options.get("allow_partial").is_some_and(|value| value == true)
    }

    /// Whether the granule is held: outputs have no input, and it is not to be made without them.
    pub fn is_held(&self) -> bool {
        self.mode == Mode::Corrected && !self.missing.is_empty() && !self.allows_partial()
    }

    /// Whether rotated vectors get their direction at the cells of the longitude-latitude grid (option `vectors`).
    pub fn projects_at_target(&self) -> bool {
        self.options.get("vectors").is_some_and(|value| value == "target")
    }

    /// Whether variables at upper cell faces keep the depths of these on the longitude-latitude grid (option
    /// `vertical`).
    pub fn keeps_faces(&self) -> bool {
        self.options.get("vertical").is_some_and(|value| value == "faces")
    }
}

impl Recipe {
    /// The planner's part.
    ///
    /// # Errors
    /// [`RecipeError::NoPlan`] where EDP wrote the recipe and it was not completed.
    pub fn plan(&self) -> Result<&Plan, RecipeError> {
        self.recipe.as_ref().ok_or_else(|| RecipeError::NoPlan { granule: self.granule.clone() })
    }

    /// Path of the granule below the destination root, with `/` between parts.
    ///
    /// # Errors
    /// The granule is not below the root, or has `..` or control characters in it.
    pub fn granule_below_root(&self) -> Result<&str, RecipeError> {
        let path = below(&self.granule, &self.granule, &self.plan()?.roots.destination)?;
        if path.contains(is_unsafe) {
            return Err(RecipeError::Unseen { granule: self.granule.clone() });
        }
        Ok(path)
    }

    /// Path of an input below the source root.
    ///
    /// # Errors
    /// The input is not below the root, or has `..` in it.
    pub fn input_below_root<'a>(&self, input: &'a str) -> Result<&'a str, RecipeError> {
        below(&self.granule, input, &self.plan()?.roots.source)
    }

    /// The mode of a recipe without our key, by the year of the EDP that wrote it: the EDP of 2024 names no configuration.
    pub fn generation(&self) -> Mode {
        if self.ecco_cfg_loc.is_some() { Mode::Edp2026 } else { Mode::Edp2024 }
    }

    /// The id of what this recipe holds: SHA-256 of the RFC 8785 form of everything that decides the granule's content,
    /// by the rule of the recipe's output version. Roots, dates, sizes, entity tags and times of inputs, and the
    /// recorded id are not part of it.
    ///
    /// # Errors
    /// The recipe has no plan, or paths outside its roots.
    pub fn computed_id(&self) -> Result<String, RecipeError> {
        self.id_as_of(self.plan()?.format)
    }

    /// The ids that this recipe had when it was planned for earlier output versions, the latest first, each with its
    /// version: by them, granules of these versions are recognized.
    ///
    /// # Errors
    /// The recipe has no plan, or paths outside its roots.
    pub fn earlier_ids(&self) -> Result<Vec<(u32, String)>, RecipeError> {
        let format = self.plan()?.format.min(output_version(self.plan()?.mode));
        (1..format).rev().map(|format| Ok((format, self.id_as_of(format)?))).collect()
    }

    /// The id by the rule of an output version.
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
        let mut content = serde_json::json!({
            "format": format,
            "granule": self.granule_below_root()?,
            "variables": variables,
            "inputs": inputs,
            "dynamic_metadata": self.dynamic_metadata,
            "mode": plan.mode,
            "options": plan.options,
            "time_units": plan.time_units,
            "digests": plan.digests,
        });
        if !plan.fields.is_empty() {
            content["fields"] = serde_json::json!(plan.fields);
        }
        // The value was built just now from strings, integers, arrays and string-keyed objects: all of them have a canonical form.
        let bytes = serde_json_canonicalizer::to_vec(&content)
            .map_err(|source| RecipeError::Json { list: self.granule.clone(), source })?;
        Ok(Digest::of(&bytes).as_str().to_owned())
    }

    /// Makes every relative local path absolute, beneath `base`, and resolves `..`: for recipes that go to other
    /// machines, where workers do not follow paths out of their roots. A path with a `..` that leads nowhere keeps it.
    /// The id stays, since it knows paths below the roots only.
    pub fn make_absolute(&mut self, base: &Path) {
        let absolute = |text: &mut String| {
            let Ok(Location::Local(path)) = text.parse::<Location>() else { return };
            let has_parents = path.components().any(|part| part == Component::ParentDir);
            if path.is_relative() || has_parents {
                // `./` and `.` would stay in the middle of the path.
                let below = path.strip_prefix(".").unwrap_or(&path);
                let joined = if below.as_os_str().is_empty() { base.to_owned() } else { base.join(below) };
                let resolved = if has_parents { without_parents(&joined).unwrap_or(joined) } else { joined };
                *text = resolved.display().to_string();
            }
        };
        absolute(&mut self.granule);
        self.variables.values_mut().flatten().flatten().for_each(absolute);
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

    /// Sets an option that changes content, and the id with it.
    ///
    /// # Errors
    /// The recipe has no plan, or paths outside its roots.
    pub fn set_option(&mut self, name: &str, value: serde_json::Value) -> Result<(), RecipeError> {
        self.change(|plan| drop(plan.options.insert(name.to_owned(), value)))
    }

    /// Changes the planner's part, and the id with it.
    ///
    /// # Errors
    /// The recipe has no plan, or paths outside its roots; it is unchanged then.
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

    /// Refuses a recipe that was edited after planning, planned for another output version, or with unknown options.
    ///
    /// # Errors
    /// Description of the problem.
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
        self.check_id()
    }

    /// Refuses a recipe that was edited after planning: its id is not that of what it holds.
    ///
    /// # Errors
    /// The recipe has no plan, paths outside its roots, or another id.
    pub fn check_id(&self) -> Result<(), RecipeError> {
        let (found, computed) = (&self.plan()?.id, self.computed_id()?);
        if computed != *found {
            return Err(RecipeError::Id { granule: self.granule.clone(), found: found.clone(), computed });
        }
        Ok(())
    }

    /// Refuses a date of the production that is none: the id does not cover it, and every granule has it.
    fn check_date(&self) -> Result<(), RecipeError> {
        let Some(plan) = &self.recipe else { return Ok(()) };
        let date = &plan.production_date;
        if is_production_date(date) {
            Ok(())
        } else {
            Err(RecipeError::Date { granule: self.granule.clone(), date: date.clone() })
        }
    }

    /// The granule's UUID: version 5 of the recipe id.
    pub fn uuid_of(id: &str) -> String {
        uuid::Uuid::new_v5(&UUID_NAMESPACE, id.as_bytes()).to_string()
    }
}

/// Whether a text is the date of a production as granules have it: `YYYY-MM-DDThh:mm:ssZ`, in these characters and no
/// others that may stand for the same time.
pub fn is_production_date(text: &str) -> bool {
    let form = text.len() == 20 && text.starts_with(|c: char| c.is_ascii_digit());
    form && text.parse::<jiff::Timestamp>().is_ok_and(|time| time.to_string() == text)
}

/// `path` relative to `root`; the root `.` (or an empty one) stands for relative paths as they are.
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
