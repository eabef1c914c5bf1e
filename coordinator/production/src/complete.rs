//! Completes a recipe that EDP wrote with what this project needs: identity, sizes of inputs, roots, units of time.

use edp_protocol::calendar::{self, CalendarError, Period};
use edp_protocol::name::{GranuleName, NameError, base_name};
use edp_protocol::recipe::{Digests, Plan, Recipe, RecipeError, Roots, Version};
use edp_protocol::{GridKind, Location, Mode};
use edp_store::{StoreError, Stores};
use jiff::Timestamp;
use jiff::civil::DateTime;
use std::collections::BTreeMap;
use std::io;
use std::time::SystemTime;

/// Information that a list of EDP does not have.
#[derive(Debug)]
pub struct Completion<'a> {
    /// Access to the inputs.
    pub stores: &'a Stores,
    /// Location of the configuration, for recipes that name none.
    pub configuration_location: Option<&'a str>,
    /// Digests of configuration, metadata, grid and factors. That of the factors is used on the longitude-latitude grid
    /// only.
    pub digests: &'a Digests,
    /// Options that change content, by name.
    pub options: &'a BTreeMap<String, serde_json::Value>,
    /// Units of `time` in the metadata of the time coordinate.
    pub edp_time_units: &'a str,
    /// Date of the production, `YYYY-MM-DDThh:mm:ssZ`. The default is the latest modification time of the recipe's
    /// inputs.
    pub production_date: Option<&'a str>,
    /// Mode of time-invariant tasks, which people write by hand; else that of EDP, see [`Recipe::generation`].
    pub invariant_mode: Option<Mode>,
}

/// The reason why a recipe cannot be completed.
#[derive(Debug, thiserror::Error)]
pub enum CompleteError {
    /// The granule's name, which states grid and period, cannot be parsed.
    #[error("recipe {granule}: {source}")]
    Name {
        /// Path or address of the granule.
        granule: String,
        /// Description of the problem.
        source: NameError,
    },
    /// The recipe has no input.
    #[error("recipe {granule}: it lists no input files")]
    NoInputs {
        /// Path or address of the granule.
        granule: String,
    },
    /// A time of the granule is absent or malformed.
    #[error("recipe {granule}: {key} is {found}; it must be a time such as 1992-01-16T18:00:00")]
    Time {
        /// Path or address of the granule.
        granule: String,
        /// Key of the dynamic metadata.
        key: &'static str,
        /// The text that was found.
        found: String,
    },
    /// The units of time do not suit the granule's times.
    #[error("recipe {granule}: {source}")]
    Units {
        /// Path or address of the granule.
        granule: String,
        /// Description of the problem.
        source: CalendarError,
    },
    /// The time, the name and the inputs of the recipe do not fit together.
    #[error("recipe {granule}: {why}")]
    TimeInvariant {
        /// The granule.
        granule: String,
        /// Description of the problem.
        why: &'static str,
    },
    /// An input cannot be inspected.
    #[error("recipe {granule}: input {path}: {source}")]
    Input {
        /// Path or address of the granule.
        granule: String,
        /// Path or address of the input.
        path: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A granule on the longitude-latitude grid has no mapping factors.
    #[error("recipe {granule}: granules on the latlon grid need mapping factors; give --mapping-factors")]
    Factors {
        /// Path or address of the granule.
        granule: String,
    },
    /// The recipe contradicts itself.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
}

/// Completes a recipe that has no key `recipe`; any other stays as it is.
///
/// Times and names are kept, and the mode is that of the EDP that wrote the recipe, see [`Recipe::generation`].
/// Everything comes from the recipe itself and from `with`, so that a recipe gets the same id in every list.
///
/// # Errors
/// Returns what is missing or wrong; the recipe is then unchanged.
pub fn complete(recipe: &mut Recipe, with: &Completion<'_>) -> Result<(), CompleteError> {
    if recipe.recipe.is_some() {
        return Ok(());
    }
    let granule = || recipe.granule.clone();
    let name = recipe.name().map_err(|source| CompleteError::Name { granule: granule(), source })?;
    let mut digests = with.digests.clone();
    match name.grid {
        GridKind::Native | GridKind::Series => digests.factors = None,
        GridKind::Latlon if digests.factors.is_none() => return Err(CompleteError::Factors { granule: granule() }),
        GridKind::Latlon => {}
    }
    if let Some(why) = recipe.contradiction_in_time(&name) {
        return Err(CompleteError::TimeInvariant { granule: granule(), why });
    }
    let time_units = if recipe.is_time_invariant() {
        String::new()
    } else {
        calendar::edp_time_units(with.edp_time_units, &period(recipe)?)
            .map_err(|source| CompleteError::Units { granule: granule(), source })?
    };
    let paths: Vec<&str> = recipe.input_paths().collect();
    let source = common_directory(&paths).ok_or_else(|| CompleteError::NoInputs { granule: granule() })?;
    let mut versions = BTreeMap::new();
    let mut newest = SystemTime::UNIX_EPOCH;
    for path in paths {
        let (version, modified) = look_at(path, with.stores).map_err(|source| CompleteError::Input {
            granule: granule(),
            path: path.into(),
            source,
        })?;
        versions.insert(path.to_owned(), version);
        newest = newest.max(modified);
    }
    let production_date = match with.production_date {
        Some(date) => date.to_owned(),
        None => Timestamp::try_from(newest).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    };
    let asked = with.invariant_mode.filter(|_| recipe.is_time_invariant());
    let mode = asked.unwrap_or_else(|| recipe.generation());
    let mut completed = recipe.clone();
    if completed.ecco_cfg_loc.is_none() {
        completed.ecco_cfg_loc = with.configuration_location.map(str::to_owned);
    }
    let roots = Roots { source: source.into(), destination: destination_root(&recipe.granule, &name).into() };
    let planned = Plan::new(mode, time_units, digests, roots, production_date);
    let mut plan = Plan { options: with.options.clone(), ..planned };
    completed.recipe = Some(plan.clone());
    for (path, version) in versions {
        plan.inputs.insert(completed.input_below_root(&path)?.to_owned(), version);
    }
    completed.recipe = Some(plan.clone());
    plan.id = completed.computed_id()?;
    completed.recipe = Some(plan);
    *recipe = completed;
    Ok(())
}

/// Returns version and modification time of an input.
fn look_at(path: &str, stores: &Stores) -> io::Result<(Version, SystemTime)> {
    let location: Location = path.parse().map_err(io::Error::other)?;
    let head = stores.head(&location).map_err(|error| match error {
        StoreError::Io { source, .. } => source,
        other => io::Error::other(other),
    })?;
    let head = head.ok_or(io::ErrorKind::NotFound)?;
    if matches!(&location, Location::Local(path) if !path.is_file()) {
        return Err(io::Error::other("it is not a file"));
    }
    Ok((head.version(&location), head.modified))
}

/// Returns the times of a recipe. Snapshots may have a centre only.
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

/// Returns the root of the destination: the granule's path without its last five parts if they are
/// `<version>/<grid>/<period>/<filename>/<name>`, for time-invariant data without its last three if they are
/// `<version>/<grid>/<name>`, else its directory.
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

/// Returns the longest directory that all paths have in common. It is `.` for relative paths that have none.
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
    #![allow(clippy::unwrap_used)]
    use super::*;

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
