//! What recipes from a queue may read and write.

use edp_protocol::Location;
use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Directories beneath which everything that a recipe names must lie. Recipes come over the network; without this, one
/// could have any file of the machine read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Resolved: without symbolic links.
    roots: Vec<PathBuf>,
    /// Buckets, each with the part of its keys before a slash that all must have.
    buckets: Vec<(String, String)>,
}

/// Why a root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// Nothing may be reached.
    #[error("no root: say with --root (repeatable), or serve.roots in the settings, what recipes may read and write")]
    None,
    /// It is not there.
    #[error("root {root}: {source}")]
    Root {
        /// The root.
        root: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Reach {
    /// Everything beneath some directories, or on S3 prefixes.
    ///
    /// # Errors
    /// There are none, or one of them is not there.
    pub fn beneath<'a>(roots: impl IntoIterator<Item = &'a Path>) -> Result<Reach, ReachError> {
        let resolve =
            |root: &Path| root.canonicalize().map_err(|source| ReachError::Root { root: root.into(), source });
        let (mut buckets, mut directories) = (Vec::new(), Vec::new());
        for root in roots {
            match root.to_str().map(str::parse) {
                Some(Ok(Location::S3 { bucket, key })) => buckets.push((bucket, key)),
                _ => directories.push(resolve(root)?),
            }
        }
        if directories.is_empty() && buckets.is_empty() {
            return Err(ReachError::None);
        }
        Ok(Reach { roots: directories, buckets })
    }

    /// Lets a recipe in if all that it names is within reach.
    ///
    /// # Errors
    /// What is not, in words.
    pub fn admit(&self, recipe: Recipe) -> Result<Recipe, String> {
        let shared =
            [&recipe.ecco_cfg_loc, &recipe.ecco_metadata_loc, &recipe.ecco_grid_loc, &recipe.ecco_mapping_factors_loc];
        let inputs = recipe.variables.values().flatten().flatten();
        let all = [&recipe.granule].into_iter().chain(inputs).chain(shared.into_iter().flatten());
        for text in all {
            self.check(text).map_err(|why| format!("{}: {text}: {why}", recipe.granule))?;
        }
        Ok(recipe)
    }

    fn check(&self, text: &str) -> Result<(), String> {
        let location: Location = text.parse().map_err(|e| chain(&e))?;
        let path = match &location {
            Location::Local(path) => path.as_path(),
            Location::S3 { bucket, key } => return self.check_object(bucket, key),
        };
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return Err("recipes from a queue name absolute paths without '..'".into());
        }
        // What is not there yet lies where the nearest directory above it that is there really is.
        let mut there = path;
        let resolved = loop {
            match there.canonicalize() {
                Ok(resolved) => break resolved,
                // A link that leads nowhere is there, and may lead anywhere tomorrow.
                Err(e) if e.kind() == io::ErrorKind::NotFound && there.symlink_metadata().is_err() => {
                    there = there.parent().unwrap_or(Path::new("/"));
                }
                Err(e) => return Err(e.to_string()),
            }
        };
        if self.roots.iter().any(|root| resolved.starts_with(root)) {
            return Ok(());
        }
        Err("lies outside of what this worker may read and write (--root)".into())
    }
}

impl Reach {
    /// Keys are no paths: nothing is resolved. What would mean something else as a path is refused all the same, since
    /// copies of objects lie under paths.
    fn check_object(&self, bucket: &str, key: &str) -> Result<(), String> {
        if key.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err("recipes from a queue name keys without empty parts, '.' and '..'".into());
        }
        let beneath = |prefix: &str| {
            let rest = key.strip_prefix(prefix);
            prefix.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if self.buckets.iter().any(|(own, prefix)| own == bucket && beneath(prefix)) {
            return Ok(());
        }
        Err("lies outside of what this worker may read and write (--root)".into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn other_buckets_and_keys_outside_the_prefix_are_not_reached() {
        let reach = Reach::beneath(["s3://ours/ecco/V4r4/", "s3://whole"].map(Path::new)).unwrap();
        for good in ["s3://ours/ecco/V4r4", "s3://ours/ecco/V4r4/a/b.nc", "s3://whole/x", "s3://whole/a/..b"] {
            assert_eq!(reach.check(good), Ok(()), "{good}");
        }
        for bad in [
            "s3://theirs/ecco/V4r4/a",
            "s3://ours/ecco/V4r4x/a",
            "s3://ours/ecco",
            "s3://ours",
            "s3://whole",
            "s3://ours/ecco/V4r4/../secret",
            "s3://ours//ecco/V4r4/a",
            "s3://ours/ecco/V4r4//a",
            "s3://ours/ecco/V4r4/./a",
            "s3://whole/../ours/x",
            "/tmp",
        ] {
            assert!(reach.check(bad).is_err(), "{bad}");
        }
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
        let reach = Reach::beneath([inside.as_path()]).unwrap();
        let check = |below: &str| reach.check(&format!("{}/{below}", base.display()));
        for good in ["in/a", "in/a/b/c.nc", "in/friend/new.nc", "in/x"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["out/secret", "in/link/secret", "in/link/new/c.nc", "in/../out/secret", "in/dangling", "inn/x", ""]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
        for bad in ["a", "in/a", "s3://bucket/x", "/etc/passwd"] {
            assert!(reach.check(bad).is_err(), "{bad}");
        }
        assert!(matches!(Reach::beneath([]), Err(ReachError::None)));
        assert!(matches!(Reach::beneath([Path::new("/nowhere/at/all")]), Err(ReachError::Root { .. })));
    }
}
