//! The roots beneath which recipes from a queue may read and write.

use edp_files::Files;
use edp_files::rooted::{RootError, RootedDirs};
use edp_protocol::location::LocationError;
use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use edp_protocol::{Location, ObjectAddress};
use std::sync::Arc;

/// Directories and prefixes on S3 beneath which everything that a recipe names must lie. Recipes come over the network;
/// without this, a recipe could read or write any file of the machine.
#[derive(Debug, Clone)]
pub struct AllowedRoots {
    directories: Arc<RootedDirs>,
    /// Addresses on S3.
    objects: Vec<ObjectAddress>,
}

/// The reason why a root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AllowedRootsError {
    /// There are no roots, so that nothing could be accessed.
    #[error("no root: say with --root (repeatable), or serve.roots in the settings, what recipes may read and write")]
    None,
    /// A root does not exist.
    #[error("root {0}")]
    Root(#[from] RootError),
    /// The text of a root is not a location.
    #[error("root {0}")]
    Location(#[from] LocationError),
}

impl AllowedRoots {
    /// Opens these roots: directories, which are kept open from now on, and prefixes on S3.
    ///
    /// # Errors
    /// Returns an error if there are none, or if one of the directories does not exist.
    pub fn open<'a>(roots: impl IntoIterator<Item = &'a Location>) -> Result<AllowedRoots, AllowedRootsError> {
        let (mut directories, mut objects) = (Vec::new(), Vec::new());
        for root in roots {
            match root {
                Location::Local(path) => directories.push(path.as_path()),
                Location::Object(object) => objects.push(object.clone()),
            }
        }
        if directories.is_empty() && objects.is_empty() {
            return Err(AllowedRootsError::None);
        }
        Ok(AllowedRoots { directories: Arc::new(RootedDirs::hold(directories)?), objects })
    }

    /// Parses roots of a setting: they are separated by `:` as in PATH, where the `:` of `s3://` does not separate.
    ///
    /// # Errors
    /// Returns an error if one of them is not a location.
    pub fn split(text: &str) -> Result<Vec<Location>, LocationError> {
        const SCHEME: &str = "s3://";
        let mut roots = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let start = if rest.starts_with(SCHEME) { SCHEME.len() } else { 0 };
            let end = rest[start..].find(':').map_or(rest.len(), |at| start + at);
            if end > 0 {
                roots.push(rest[..end].parse()?);
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        Ok(roots)
    }

    /// Returns the access to the files beneath the directories.
    pub fn files(&self) -> Files {
        Files::rooted(self.directories.clone())
    }

    /// Checks that the names of the directories still lead to those that are open.
    ///
    /// # Errors
    /// Returns an error for a directory that was replaced or cannot be inspected.
    pub fn is_there(&self) -> Result<(), RootError> {
        self.directories.are_there()
    }

    /// Accepts a recipe if everything that it names lies beneath the roots.
    ///
    /// # Errors
    /// Returns in words what does not.
    pub(crate) fn admit(&self, recipe: Recipe) -> Result<Recipe, String> {
        let shared =
            [&recipe.ecco_cfg_loc, &recipe.ecco_metadata_loc, &recipe.ecco_grid_loc, &recipe.ecco_mapping_factors_loc];
        let shared = shared.into_iter().flatten().map(String::as_str);
        let all = [recipe.granule.as_str()].into_iter().chain(recipe.input_paths()).chain(shared);
        let refused = |text: &str, why: String| format!("{}: {text}: {why}", recipe.granule);
        for text in all {
            self.check(text).map_err(|why| refused(text, why))?;
        }
        // Means are written; the records of their periods are read, and those of a series are in one directory.
        let series = recipe.means().flat_map(|(_, mean)| &mean.records);
        let series = series.filter_map(|series| recipe.at_source(&series.stem).ok());
        for text in series.chain(recipe.mean_places()) {
            self.check(&text).map_err(|why| refused(&text, why))?;
        }
        Ok(recipe)
    }

    fn check(&self, text: &str) -> Result<(), String> {
        match text.parse::<Location>().map_err(|e| chain(&e))? {
            Location::Local(path) => self.directories.resolve(&path).map(drop).map_err(|e| e.to_string()),
            // Keys are not paths, and nothing is resolved. A key that would mean something else as a path is refused
            // nevertheless, since copies of objects are kept under paths.
            Location::Object(object) if object.key.split('/').any(|part| matches!(part, "" | "." | "..")) => {
                Err("recipes from a queue name keys without empty parts, '.' and '..'".into())
            }
            Location::Object(object) => {
                if self.objects.iter().any(|root| object.is_within(root)) {
                    return Ok(());
                }
                Err("lies outside of what this worker may read and write (--root)".into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn roots(texts: &[&str]) -> Result<AllowedRoots, AllowedRootsError> {
        let roots: Vec<Location> = texts.iter().map(|text| text.parse().unwrap()).collect();
        AllowedRoots::open(&roots)
    }

    #[test]
    fn nothing_outside_is_reached() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        let (inside, outside) = (base.join("in"), base.join("out"));
        std::fs::create_dir_all(inside.join("a")).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        std::os::unix::fs::symlink(inside.join("a"), inside.join("friend")).unwrap();
        std::os::unix::fs::symlink(outside.join("later"), inside.join("dangling")).unwrap();
        let allowed = roots(&[inside.to_str().unwrap()]).unwrap();
        let check = |below: &str| allowed.check(&format!("{}/{below}", base.display()));
        for good in ["in/a", "in/a/b/c.nc", "in/friend/new.nc", "in/x"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["out/secret", "in/link/secret", "in/link/new/c.nc", "in/../out/secret", "in/dangling", "inn/x", ""]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
        for bad in ["a", "in/a", "s3://bucket/x", "/etc/passwd"] {
            assert!(allowed.check(bad).is_err(), "{bad}");
        }
        assert!(matches!(roots(&[]), Err(AllowedRootsError::None)));
        assert!(matches!(roots(&["/nowhere/at/all"]), Err(AllowedRootsError::Root(_))));
    }

    #[test]
    fn every_path_of_a_recipe_must_be_inside() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("in")).unwrap();
        let allowed = roots(&[base.join("in").to_str().unwrap()]).unwrap();
        let recipe = |outside: &str| {
            let at = |key: &str| base.join(if key == outside { "out" } else { "in" }).join(key);
            let recipe = serde_json::json!({
                "granule": at("granule"), "variables": {"V": [[at("data"), at("meta")]]},
                "ecco_cfg_loc": at("configuration"), "ecco_grid_loc": at("grid"), "ecco_metadata_loc": at("metadata"),
                "ecco_mapping_factors_loc": at("factors"), "input_netcdf": at("input"),
                "dynamic_metadata": {"name": "n", "dimension": "2D", "summary": "s"},
            });
            serde_json::from_value::<Recipe>(recipe).unwrap()
        };
        allowed.admit(recipe("nothing")).unwrap();
        for key in ["granule", "data", "meta", "configuration", "grid", "metadata", "factors", "input"] {
            assert!(allowed.admit(recipe(key)).unwrap_err().contains(&format!("out/{key}")), "{key}");
        }
    }

    #[test]
    fn no_other_bucket_is_reached() {
        let allowed = roots(&["s3://model/v4", "s3://all"]).unwrap();
        for good in ["s3://model/v4", "s3://model/v4/a/b.data", "s3://all/x"] {
            assert_eq!(allowed.check(good), Ok(()), "{good}");
        }
        for bad in [
            "s3://model",
            "s3://model/v44/x",
            "s3://model/v4/../x",
            "s3://all/./x",
            "s3://all//x",
            "s3://alla/x",
            "/etc/passwd",
        ] {
            assert!(allowed.check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn roots_of_a_setting_are_split() {
        let split = |text: &str| AllowedRoots::split(text).unwrap().iter().map(Location::to_string).collect::<Vec<_>>();
        assert_eq!(split("/a:/b"), ["/a", "/b"]);
        assert_eq!(split("s3://x/y:/b::s3://z"), ["s3://x/y", "/b", "s3://z"]);
        assert_eq!(split(":"), Vec::<String>::new());
        assert!(AllowedRoots::split("s3://:/b").is_err());
    }
}
