//! The recipe: one JSON object that says all there is to say about one granule.
//!
//! The layout is EDP's task, in both its generations; everything of ours sits under the one key
//! `recipe`, see [`Plan`]. A task list is a JSON array of recipes.

mod error;
mod list;
mod version;

pub use error::RecipeError;
pub use list::{check_unique, check_versions, format_list, parse_list, read_list};
pub use version::Version;

use crate::digest::Digest;
use crate::location::{Location, without_parents};
use crate::vocabulary::Mode;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Component, Path};

/// The output version of a mode: raised when the output of this mode for the same input changes, at most once between
/// releases. It is part of every recipe id.
///
/// Version 1: the id covers the sizes and entity tags of inputs. Version 2: it covers their SHA-256 where the plan has
/// recorded it, see [`Version`].
pub const fn output_version(mode: Mode) -> u32 {
    match mode {
        Mode::Corrected | Mode::Edp2024 => 2,
    }
}

/// The namespace of granule UUIDs (version 5, of the lower-case hexadecimal recipe id).
/// It is itself the version-5 UUID of `edp.recipe` in the DNS namespace of RFC 9562.
pub const UUID_NAMESPACE: uuid::Uuid = uuid::uuid!("7c25c529-4610-5cd1-9003-4e427d2f7c57");

/// The options that change content, by name. A program refuses recipes with any other: it would make something else
/// than was asked for.
///
/// `allow_partial` (`true`, only where outputs are missing): made without them; `valid_range` (object, output to the
/// smallest and largest value of the whole collection, or `null` if it never has any): written, and held to;
/// `vertical` (`faces`): variables at upper cell faces keep these depths on the longitude-latitude grid.
pub const OPTIONS: [&str; 3] = ["allow_partial", "valid_range", "vertical"];

/// One input of a variable: the `.data` file and its `.meta` header, as EDP lists them.
pub type Input = Vec<String>;

/// One granule to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Full path or `s3://` address of the granule.
    pub granule: String,
    /// Output variable, in file order, to its inputs: one `[data, meta]` pair, or two (x then y) if rotated.
    #[serde(default)]
    pub variables: IndexMap<String, Vec<Input>>,
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
    /// [`RecipeError::NoPlan`] where EDP wrote the recipe and nobody completed it.
    pub fn plan(&self) -> Result<&Plan, RecipeError> {
        self.recipe.as_ref().ok_or_else(|| RecipeError::NoPlan { granule: self.granule.clone() })
    }

    /// Path of the granule below the destination root, with `/` between parts.
    ///
    /// # Errors
    /// The granule is not below the root, or has `..` in it.
    pub fn granule_below_root(&self) -> Result<&str, RecipeError> {
        below(&self.granule, &self.granule, &self.plan()?.roots.destination)
    }

    /// Path of an input below the source root.
    ///
    /// # Errors
    /// The input is not below the root, or has `..` in it.
    pub fn input_below_root<'a>(&self, input: &'a str) -> Result<&'a str, RecipeError> {
        below(&self.granule, input, &self.plan()?.roots.source)
    }

    /// The id of what this recipe holds: SHA-256 of the RFC 8785 form of everything that decides the granule's content,
    /// by the rule of the recipe's output version. Roots, dates, sizes, entity tags and times of inputs, and the recorded
    /// id are no part of it.
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
        let content = serde_json::json!({
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
        // The value was built just now from strings, integers, arrays and string-keyed objects: all of them have a canonical form.
        let bytes = serde_json_canonicalizer::to_vec(&content)
            .map_err(|source| RecipeError::Json { list: self.granule.clone(), source })?;
        Ok(Digest::of(&bytes).as_str().to_owned())
    }

    /// Makes every relative local path absolute, beneath `base`, and resolves `..`: for recipes that go to other machines,
    /// where workers do not follow paths out of their roots. A path with a `..` that leads nowhere keeps it. The id stays,
    /// since it knows paths below the roots only.
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
    /// What is wrong.
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
        let form = date.len() == 20 && date.as_bytes()[10] == b'T' && date.ends_with('Z');
        let is_time = form && date.parse::<jiff::Timestamp>().is_ok();
        if is_time { Ok(()) } else { Err(RecipeError::Date { granule: self.granule.clone(), date: date.clone() }) }
    }

    /// The granule's UUID: version 5 of the recipe id.
    pub fn uuid_of(id: &str) -> String {
        uuid::Uuid::new_v5(&UUID_NAMESPACE, id.as_bytes()).to_string()
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn recipe() -> Recipe {
        let text = r#"{
            "granule": "out/V4r4/latlon/mon_mean/A/A_mon_mean_1992-01_ECCO_V4r4_latlon_0p50deg.nc",
            "variables": {"Z": [["res/d/Z.data", "res/d/Z.meta"]], "B": [["res/d/B.data", "res/d/B.meta"]]},
            "ecco_grid_loc": "grid", "ecco_mapping_factors_loc": null, "ecco_metadata_loc": "metadata",
            "dynamic_metadata": {"name": "a", "dimension": "2D", "summary": "s"},
            "recipe": {"id": "", "format": 2, "mode": "corrected", "options": {}, "time_units": "hours since 1992-01-01T12:00:00",
                "digests": {"configuration": "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc", "metadata": "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd", "grid": "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"},
                "inputs": {"d/Z.data": {"size": 8}}, "roots": {"source": "res", "destination": "out"},
                "production_date": "2020-01-01T00:00:00Z"}}"#;
        serde_json::from_str(text).unwrap()
    }

    fn plan_of(recipe: &mut Recipe) -> &mut Plan {
        recipe.recipe.as_mut().unwrap()
    }

    #[test]
    fn roots_dates_and_versions_of_inputs_are_no_part_of_the_id() {
        let a = recipe();
        let id = a.computed_id().unwrap();
        let mut b = recipe();
        b.granule = b.granule.replacen("out", "s3://bucket/x", 1);
        for inputs in b.variables.values_mut() {
            for path in inputs.iter_mut().flatten() {
                *path = path.replacen("res", "/elsewhere", 1);
            }
        }
        let plan = b.recipe.as_mut().unwrap();
        plan.roots = Roots { source: "/elsewhere/".into(), destination: "s3://bucket/x".into() };
        plan.production_date = "2021-01-01T00:00:00Z".into();
        plan.id = "anything".into();
        assert_eq!(b.computed_id().unwrap(), id);
        // A copy of the results on another disk or on S3 makes the same granules.
        let version = plan_of(&mut b).inputs.get_mut("d/Z.data").unwrap();
        *version = Version { etag: Some("e".into()), modified: Some("2020-01-01T00:00:00Z".into()), ..version.clone() };
        assert_eq!(b.computed_id().unwrap(), id);
        plan_of(&mut b).inputs.clear();
        assert_eq!(b.computed_id().unwrap(), id);
    }

    #[test]
    fn all_that_decides_the_content_is_part_of_the_id() {
        let id = recipe().computed_id().unwrap();
        let changes: [fn(&mut Recipe); 7] = [
            |r| r.granule = r.granule.replace("1992-01", "1992-02"),
            |r| r.variables.reverse(),
            |r| r.dynamic_metadata.summary.push('.'),
            |r| r.recipe.as_mut().unwrap().mode = Mode::Edp2024,
            |r| r.recipe.as_mut().unwrap().digests.grid = Digest::of(b"other"),
            |r| plan_of(r).inputs.get_mut("d/Z.data").unwrap().sha256 = Some(Digest::of(b"content")),
            |r| drop(r.recipe.as_mut().unwrap().options.insert("vertical".into(), "faces".into())),
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut changed = recipe();
            change(&mut changed);
            assert_ne!(changed.computed_id().unwrap(), id, "change {i}");
        }
    }

    #[test]
    fn an_edited_recipe_is_refused() {
        let mut r = recipe();
        r.recipe.as_mut().unwrap().id = r.computed_id().unwrap();
        r.check_identity().unwrap();
        r.dynamic_metadata.name = "other".into();
        assert!(matches!(r.check_identity(), Err(RecipeError::Id { .. })));
    }

    /// The id of a recipe that output version 1 planned, as that program computed it.
    #[test]
    fn recipes_of_an_earlier_output_version_keep_their_id() {
        let mut old = recipe();
        plan_of(&mut old).format = 1;
        let id = old.computed_id().unwrap();
        assert_eq!(id, "7171a7eab05e4359e05f763ab63e69050c155b7b173af4f3905220396d09a109");
        assert_eq!(recipe().earlier_ids().unwrap(), [(1, id.clone())]);
        assert!(old.earlier_ids().unwrap().is_empty());
        plan_of(&mut old).inputs.get_mut("d/Z.data").unwrap().size = 9;
        assert_ne!(old.computed_id().unwrap(), id);
        let error = old.check_identity().unwrap_err().to_string();
        assert!(error.contains("version 1") && error.contains("plan again"), "{error}");
        let mut new = recipe();
        plan_of(&mut new).format = 9;
        let error = check_versions("t.json", &[recipe(), new, old]).unwrap_err().to_string();
        assert!(error.starts_with("t.json: 2 of its 3 recipes") && error.contains("a newer one"), "{error}");
        check_versions("t.json", &[recipe()]).unwrap();
        assert!(recipe().change(|plan| plan.format = 1).is_ok());
    }

    #[test]
    fn a_production_date_that_is_none_is_refused_and_not_printed_raw() {
        for date in
            ["2099 EVIL\u{1b}[2J", "", "2020-01-01", "2020-13-01T00:00:00Z", "2020-01-01T00:00:60Z ", &"9".repeat(1000)]
        {
            let mut r = recipe();
            plan_of(&mut r).production_date = date.into();
            let error = parse_list("x", format_list(&[r.clone()]).unwrap().as_bytes()).unwrap_err().to_string();
            assert!(error.contains("production_date") && !error.contains('\u{1b}') && error.len() < 400, "{error}");
            assert!(matches!(r.check_identity(), Err(RecipeError::Date { .. })));
        }
    }

    #[test]
    fn options_are_part_of_the_id_to_the_last_bit() {
        let mut r = recipe();
        r.set_option("valid_range", serde_json::json!({"B": null, "Z": [-1.731_275_796_890_258_8, 0.1 + 0.2]}))
            .unwrap();
        assert_ne!(r.computed_id().unwrap(), recipe().computed_id().unwrap());
        let list = format_list(&[r.clone()]).unwrap();
        let back = parse_list("x", list.as_bytes()).unwrap().remove(0);
        back.check_identity().unwrap();
        assert_eq!(back, r);
        r.set_option("colour", "red".into()).unwrap();
        assert!(matches!(r.check_identity(), Err(RecipeError::Option { option, .. }) if option == "colour"));
        let mut r = recipe();
        assert!(!r.plan().unwrap().keeps_faces());
        r.set_option("vertical", "faces".into()).unwrap();
        assert!(r.plan().unwrap().keeps_faces());
    }

    #[test]
    fn paths_outside_the_roots_are_refused() {
        let mut at_the_top = recipe();
        at_the_top.recipe.as_mut().unwrap().roots.source = "/".into();
        assert_eq!(at_the_top.input_below_root("/data/x").unwrap(), "data/x");
        assert!(at_the_top.input_below_root("data/x").is_err());
        for path in ["res/../etc/passwd", "/etc/passwd", "resx/d", "res", "res//d", "res/./d"] {
            assert!(recipe().input_below_root(path).is_err(), "{path}");
        }
    }

    #[test]
    fn lists_survive_a_round_trip_with_the_order_of_variables() {
        let list = format_list(&[recipe()]).unwrap();
        assert!(list.starts_with("[\n    {\n        \"granule\""));
        let back = parse_list("x", list.as_bytes()).unwrap();
        assert_eq!(back, [recipe()]);
        assert_eq!(back[0].variables.keys().collect::<Vec<_>>(), ["Z", "B"]);
        let twice = format_list(&[recipe(), recipe()]).unwrap();
        assert!(matches!(parse_list("x", twice.as_bytes()), Err(RecipeError::Duplicate { first: 1, second: 2, .. })));
    }

    proptest! {
        #[test]
        fn no_list_makes_it_panic(bytes: Vec<u8>, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let _ = parse_list("x", &bytes);
            let mut list = format_list(&[recipe()]).unwrap().into_bytes();
            let at = at.index(list.len());
            list[at] = byte;
            if let Ok(recipes) = parse_list("x", &list) {
                let _ = recipes[0].computed_id().and_then(|_| recipes[0].check_identity());
                prop_assert_eq!(parse_list("x", format_list(&recipes).unwrap().as_bytes()).unwrap(), recipes);
            }
            prop_assert!(parse_list("x", &list[..cut.index(list.len() - 2)]).is_err());
        }

        // Whatever is said to lie below a root does: joined to it, it never leaves it.
        #[test]
        fn nothing_leaves_its_root(path in "(res)?[a./ ]{0,9}", root in "(res|[.]|/|[./a]{0,4})") {
            if let Ok(rest) = below("g", &path, &root) {
                prop_assert!(!rest.starts_with('/') && !rest.split('/').any(|part| part == ".." || part.is_empty()));
                prop_assert!(path.ends_with(rest));
            }
        }
    }
}
