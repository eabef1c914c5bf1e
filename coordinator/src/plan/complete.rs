//! Gives a recipe that EDP wrote what it lacks to be made by us: identity, sizes of inputs, roots, units of time.

use super::calendar::{self, CalendarError, Period};
use edp_protocol::name::{GranuleName, NameError, base_name};
use edp_protocol::recipe::{Digests, FORMAT, Plan, Recipe, RecipeError, Roots, Version};
use edp_protocol::{GridKind, Location, Mode};
use jiff::Timestamp;
use jiff::civil::DateTime;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::SystemTime;

/// What an EDP list does not say.
#[derive(Debug)]
pub struct Completion<'a> {
    /// Location of the configuration, for recipes that name none.
    pub configuration_location: Option<&'a str>,
    /// Digests of configuration, metadata, grid and factors; the factors' is used on the longitude-latitude grid only.
    pub digests: &'a Digests,
    /// Options that change content, by name.
    pub options: &'a BTreeMap<String, serde_json::Value>,
    /// Units of `time` in the time coordinate metadata.
    pub edp_time_units: &'a str,
    /// Date of the production, `YYYY-MM-DDThh:mm:ssZ`; else the newest modification time among the recipe's inputs.
    pub production_date: Option<&'a str>,
}

/// Why a recipe cannot be completed.
#[derive(Debug, thiserror::Error)]
pub enum CompleteError {
    /// Grid kind and period are learnt from the name.
    #[error("recipe {granule}: {source}")]
    Name {
        /// The granule.
        granule: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// No input at all.
    #[error("recipe {granule}: it lists no input files; time-invariant tasks are not part of this version")]
    NoInputs {
        /// The granule.
        granule: String,
    },
    /// The time of the granule is not there or no time.
    #[error("recipe {granule}: {key} is {found}; it must be a time such as 1992-01-16T18:00:00")]
    Time {
        /// The granule.
        granule: String,
        /// Key of the dynamic metadata.
        key: &'static str,
        /// What was found.
        found: String,
    },
    /// The units of time do not fit.
    #[error("recipe {granule}: {source}")]
    Units {
        /// The granule.
        granule: String,
        /// What is wrong.
        source: CalendarError,
    },
    /// An input cannot be looked at.
    #[error("recipe {granule}: input {path}: {source}")]
    Input {
        /// The granule.
        granule: String,
        /// The input.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// Granules on the longitude-latitude grid need mapping factors.
    #[error("recipe {granule}: granules on the latlon grid need mapping factors; give --mapping-factors")]
    Factors {
        /// The granule.
        granule: String,
    },
    /// The recipe contradicts itself.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
}

/// Completes a recipe without our key; one that has it stays as it is.
///
/// Times and names are kept, the mode is [`Mode::Edp2024`]. All comes from the recipe itself and from `with`, so that
/// a recipe gets the same id in whatever list it stands.
///
/// # Errors
/// What the recipe lacks or gets wrong; it is unchanged then.
pub fn complete(recipe: &mut Recipe, with: &Completion<'_>) -> Result<(), CompleteError> {
    if recipe.recipe.is_some() {
        return Ok(());
    }
    let granule = || recipe.granule.clone();
    let name = GranuleName::parse(base_name(&recipe.granule))
        .map_err(|source| CompleteError::Name { granule: granule(), source })?;
    let mut digests = with.digests.clone();
    match name.grid {
        GridKind::Native => digests.factors = None,
        GridKind::Latlon if digests.factors.is_none() => return Err(CompleteError::Factors { granule: granule() }),
        GridKind::Latlon => {}
    }
    let time_units = calendar::edp_time_units(with.edp_time_units, &period(recipe)?)
        .map_err(|source| CompleteError::Units { granule: granule(), source })?;
    let paths: Vec<&str> = recipe.variables.values().flatten().flatten().map(String::as_str).collect();
    let source = common_directory(&paths).ok_or_else(|| CompleteError::NoInputs { granule: granule() })?;
    let mut sizes = BTreeMap::new();
    let mut newest = SystemTime::UNIX_EPOCH;
    for path in paths {
        let (size, modified) =
            look_at(path).map_err(|source| CompleteError::Input { granule: granule(), path: path.into(), source })?;
        sizes.insert(path.to_owned(), size);
        newest = newest.max(modified);
    }
    let production_date = match with.production_date {
        Some(date) => date.to_owned(),
        None => Timestamp::try_from(newest).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    };
    let mut completed = recipe.clone();
    if completed.ecco_cfg_loc.is_none() {
        completed.ecco_cfg_loc = with.configuration_location.map(str::to_owned);
    }
    let mut plan = Plan {
        id: String::new(),
        format: FORMAT,
        mode: Mode::Edp2024,
        options: with.options.clone(),
        time_units,
        digests,
        inputs: BTreeMap::new(),
        roots: Roots { source: source.into(), destination: destination_root(&recipe.granule, &name).into() },
        missing: Vec::new(),
        production_date,
    };
    completed.recipe = Some(plan.clone());
    for (path, size) in sizes {
        plan.inputs.insert(completed.input_below_root(&path)?.to_owned(), Version { size, etag: None });
    }
    completed.recipe = Some(plan.clone());
    plan.id = completed.computed_id()?;
    completed.recipe = Some(plan);
    *recipe = completed;
    Ok(())
}

/// Size and time of modification of a local file.
fn look_at(path: &str) -> io::Result<(u64, SystemTime)> {
    let location: Location = path.parse().map_err(io::Error::other)?;
    let metadata = fs::metadata(location.local().map_err(io::Error::other)?)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    Ok((metadata.len(), metadata.modified()?))
}

/// The times of a recipe. Snapshots may have a centre only.
fn period(recipe: &Recipe) -> Result<Period, CompleteError> {
    let dynamic = &recipe.dynamic_metadata;
    let center = &dynamic.time_coverage_center;
    let time = |key, text: &Option<String>| {
        let parsed: Option<DateTime> = text.as_deref().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| {
            let found = text.as_ref().map_or_else(|| "absent".into(), |text| format!("'{text}'"));
            CompleteError::Time { granule: recipe.granule.clone(), key, found }
        })
    };
    let or_center = |text: &Option<String>| text.clone().or_else(|| center.clone());
    Ok(Period {
        center: time("time_coverage_center", center)?,
        start: time("time_coverage_start", &or_center(&dynamic.time_coverage_start))?,
        end: time("time_coverage_end", &or_center(&dynamic.time_coverage_end))?,
    })
}

/// The granule's path without the last five parts if they are `<version>/<grid>/<period>/<filename>/<name>`, else its directory.
fn destination_root<'a>(granule: &'a str, name: &GranuleName) -> &'a str {
    let below = name.path();
    let root = match granule.strip_suffix(below.as_str()) {
        Some("") => "",
        Some(root) if root.ends_with('/') => root,
        _ => granule.strip_suffix(base_name(granule)).unwrap_or_default(),
    };
    match root.trim_end_matches('/') {
        "" if root.is_empty() => ".",
        "" => "/",
        trimmed => trimmed,
    }
}

/// The longest directory that all paths have in common; `.` for relative paths that share none.
fn common_directory<'a>(paths: &[&'a str]) -> Option<&'a str> {
    let (first, rest) = paths.split_first()?;
    let directory = |path: &'a str| path.rfind('/').map_or("", |slash| &path[..=slash]);
    let mut common = directory(first);
    for path in rest {
        while !path.starts_with(common) {
            common = directory(common.strip_suffix('/').unwrap_or_default());
        }
    }
    Some(match common.trim_end_matches('/') {
        "" if common.is_empty() => ".",
        "" => "/",
        trimmed => trimmed,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::fixture::{Production, digests, job};
    use super::super::plan;
    use super::*;
    use edp_protocol::Frequency;

    /// What EDP would have written for January 1992.
    fn edp_recipe(production: &Production, grid: GridKind) -> Recipe {
        let inventory = production.inventory();
        let request = production.request(&inventory, Mode::Edp2024, vec![job(1, 0, grid, Frequency::Month)]);
        let mut recipe = plan(&request).unwrap().recipes.remove(0);
        recipe.recipe = None;
        recipe.ecco_cfg_loc = None;
        recipe
    }

    fn completed(recipe: &Recipe, change: impl FnOnce(&mut Completion<'_>)) -> Result<Recipe, CompleteError> {
        let (digests, options) = (digests(), BTreeMap::new());
        let mut with = Completion {
            configuration_location: Some("config.yaml"),
            digests: &digests,
            options: &options,
            edp_time_units: "hours since 1992-01-01 12:00:00",
            production_date: None,
        };
        change(&mut with);
        let mut recipe = recipe.clone();
        complete(&mut recipe, &with).map(|()| recipe)
    }

    #[test]
    fn an_edp_recipe_gets_its_identity() {
        let production = Production::new("mon_mean", &["SSH", "ETAN"], &[732]);
        let stem = production.stem("mon_mean", "SSH", 732);
        let file = fs::File::options().write(true).open(format!("{stem}.data")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(4_000_000_000)).unwrap();
        let before = edp_recipe(&production, GridKind::Latlon);
        let recipe = completed(&before, |_| ()).unwrap();
        recipe.check_identity().unwrap();
        let plan = recipe.plan().unwrap();
        assert_eq!((plan.mode, plan.time_units.as_str()), (Mode::Edp2024, "hours since 1992-01-01T12:00:00"));
        assert_eq!(plan.roots.destination, "out");
        assert_eq!(plan.roots.source, format!("{}/V4r4/diags", production.root.path().display()));
        assert_eq!(plan.inputs.len(), 4);
        assert_eq!(plan.inputs["SSH_mon_mean/SSH_mon_mean.0000000732.data"], Version { size: 16, etag: None });
        assert_eq!(plan.production_date, "2096-10-02T07:06:40Z");
        assert!(plan.digests.factors.is_some());
        assert_eq!(recipe.ecco_cfg_loc.as_deref(), Some("config.yaml"));
        assert_eq!((&recipe.variables, &recipe.dynamic_metadata), (&before.variables, &before.dynamic_metadata));
        let dated = completed(&before, |with| with.production_date = Some("2020-01-01T00:00:00Z")).unwrap();
        assert_eq!(dated.plan().unwrap().production_date, "2020-01-01T00:00:00Z");
        assert_eq!(dated.plan().unwrap().id, plan.id);
    }

    #[test]
    fn our_own_recipes_stay_as_they_are() {
        let production = Production::new("mon_mean", &["SSH", "ETAN"], &[732]);
        let once = completed(&edp_recipe(&production, GridKind::Native), |_| ()).unwrap();
        assert!(once.plan().unwrap().digests.factors.is_none());
        let twice = completed(&once, |with| with.production_date = Some("2020-01-01T00:00:00Z")).unwrap();
        assert_eq!(twice, once);
    }

    #[test]
    fn what_is_wrong_is_said_and_changes_nothing() {
        let production = Production::new("mon_mean", &["SSH", "ETAN"], &[732]);
        let good = edp_recipe(&production, GridKind::Latlon);
        type Change = fn(&mut Recipe);
        let changes: [(Change, &str); 7] = [
            (|r| r.granule = "out/x.nc".into(), "no granule name"),
            (|r| r.variables.clear(), "no input files"),
            (|r| r.dynamic_metadata.time_coverage_center = None, "time_coverage_center is absent"),
            (|r| r.dynamic_metadata.time_coverage_end = Some("soon".into()), "time_coverage_end is 'soon'"),
            (|r| r.variables["SSH"][0][0].push('x'), "SSH_mon_mean.0000000732.datax: "),
            (|r| r.variables["SSH"][0][0] = "s3://b/x".into(), "not on a local disk"),
            (|r| r.granule = "out/../V4r4/../SSH_snap_1992_ECCO_V4r4_latlon_0p50deg.nc".into(), ""),
        ];
        for (change, why) in changes {
            let mut bad = good.clone();
            change(&mut bad);
            match completed(&bad, |_| ()) {
                Ok(_) => assert!(why.is_empty()),
                Err(error) => assert!(error.to_string().contains(why), "{error}"),
            }
        }
        let units = completed(&good, |with| with.edp_time_units = "moons since 1992-01-01");
        assert!(matches!(units, Err(CompleteError::Units { .. })));
        let (none, options) = (Digests { factors: None, ..digests() }, BTreeMap::new());
        let with = Completion {
            configuration_location: None,
            digests: &none,
            options: &options,
            edp_time_units: "hours since 1992-01-01",
            production_date: None,
        };
        let mut unchanged = good.clone();
        assert!(matches!(complete(&mut unchanged, &with), Err(CompleteError::Factors { .. })));
        assert_eq!(unchanged, good);
    }

    #[test]
    fn snapshots_may_have_a_centre_only() {
        let production = Production::new("mon_mean", &["SSH", "ETAN"], &[732]);
        let mut recipe = edp_recipe(&production, GridKind::Native);
        recipe.dynamic_metadata.time_coverage_start = None;
        recipe.dynamic_metadata.time_coverage_end = None;
        completed(&recipe, |_| ()).unwrap();
    }

    #[test]
    fn roots_from_paths() {
        let base = "A_mon_mean_1992-01_ECCO_V4r4_latlon_0p50deg.nc";
        let name = GranuleName::parse(base).unwrap();
        for (directory, root) in [
            ("out/V4r4/latlon/mon_mean/A/", "out"),
            ("s3://bucket/p/V4r4/latlon/mon_mean/A/", "s3://bucket/p"),
            ("V4r4/latlon/mon_mean/A/", "."),
            ("./V4r4/latlon/mon_mean/A/", "."),
            ("/V4r4/latlon/mon_mean/A/", "/"),
            ("out/V4r4/latlon/A/", "out/V4r4/latlon/A"),
            ("xV4r4/latlon/mon_mean/A/", "xV4r4/latlon/mon_mean/A"),
            ("", "."),
        ] {
            assert_eq!(destination_root(&format!("{directory}{base}"), &name), root, "{directory}");
        }
        for (paths, root) in [
            (&["a/b/x.1", "a/b/x.2", "a/c/x.1"][..], "a"),
            (&["a/bc/x", "a/b/x"], "a"),
            (&["a/b/x"], "a/b"),
            (&["x", "a/x"], "."),
            (&["b/x", "a/x"], "."),
            (&["/b/x", "/a/x"], "/"),
        ] {
            assert_eq!(common_directory(paths), Some(root));
        }
        assert_eq!(common_directory(&[]), None);
    }
}
