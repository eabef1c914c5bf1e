//! Locations of files and directories: a local path or `s3://bucket/prefix`.

use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// The reason why a text is not a location, or a location cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// The text is empty.
    #[error("an empty location: give a path or s3://bucket/prefix")]
    Empty,
    /// The text begins with `s3://`, but has no bucket.
    #[error("'{0}' names no bucket: write s3://bucket/prefix")]
    NoBucket(String),
    /// The text is a URL with a scheme other than `s3`.
    #[error("'{0}': only paths and s3:// locations are understood")]
    Scheme(String),
    /// A local path is needed, but the location is on S3.
    #[error("'{0}' is not on a local disk, where this has to be")]
    NotLocal(Location),
}

/// A local path or an S3 prefix. Its text form is exactly what the user wrote, except for trailing slashes of an S3
/// prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Location {
    /// A file or directory on a file system of this machine.
    Local(PathBuf),
    /// An object in a store, or all objects with a prefix.
    Object(ObjectAddress),
}

/// A bucket of an object store and a key or key prefix, without leading or trailing slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectAddress {
    /// Name of the bucket.
    pub bucket: String,
    /// The key, or the part of it before a slash. It may be empty.
    pub key: String,
}

impl ObjectAddress {
    /// Returns the address of a key in a bucket.
    pub fn new(bucket: &str, key: &str) -> ObjectAddress {
        ObjectAddress { bucket: bucket.into(), key: key.into() }
    }

    /// Returns true if this is the address `root`, or lies below it.
    pub fn is_within(&self, root: &ObjectAddress) -> bool {
        let below = self.key.strip_prefix(root.key.as_str());
        let is_below = |rest: &str| rest.is_empty() || rest.starts_with('/');
        self.bucket == root.bucket && (root.key.is_empty() || below.is_some_and(is_below))
    }

    /// Returns this address extended by a relative path that has `/` between its parts.
    pub fn join(&self, below: &str) -> ObjectAddress {
        let key = if self.key.is_empty() { below.to_owned() } else { format!("{}/{below}", self.key) };
        ObjectAddress { bucket: self.bucket.clone(), key }
    }

    /// Returns the address of the directory, which is the part of the key before its last slash, and the name below it.
    pub fn split(&self) -> (ObjectAddress, &str) {
        let (directory, name) = self.key.rsplit_once('/').unwrap_or(("", &self.key));
        (ObjectAddress { bucket: self.bucket.clone(), key: directory.to_owned() }, name)
    }
}

impl fmt::Display for ObjectAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectAddress { bucket, key } = self;
        if key.is_empty() { write!(f, "s3://{bucket}") } else { write!(f, "s3://{bucket}/{key}") }
    }
}

impl Location {
    /// Returns this location extended by a relative path that has `/` between its parts.
    pub fn join(&self, below: &str) -> Location {
        match self {
            Location::Local(path) => Location::Local(path.join(below)),
            Location::Object(address) => Location::Object(address.join(below)),
        }
    }

    /// Returns the location whose name has a text appended.
    pub fn appended(&self, end: &str) -> Location {
        match self {
            Location::Local(path) => {
                let mut path = path.clone().into_os_string();
                path.push(end);
                Location::Local(path.into())
            }
            Location::Object(ObjectAddress { bucket, key }) => {
                Location::Object(ObjectAddress { bucket: bucket.clone(), key: format!("{key}{end}") })
            }
        }
    }

    /// Returns true if a store keeps what is there, so that every access is a request to a server.
    pub fn is_remote(&self) -> bool {
        matches!(self, Location::Object(_))
    }

    /// Returns the path of a local location.
    ///
    /// # Errors
    /// Returns [`LocationError::NotLocal`] for a location on S3.
    pub fn local(&self) -> Result<&Path, LocationError> {
        match self {
            Location::Local(path) => Ok(path),
            Location::Object(_) => Err(LocationError::NotLocal(self.clone())),
        }
    }
}

/// Returns the path without `..`. The part up to the last `..` is resolved as the operating system does it, with its
/// symbolic links, so that the path means the same whether it is opened beneath a root or compared as text. A path
/// without `..` is returned as it is.
///
/// # Errors
/// Returns the operating system's error if that part does not exist or cannot be resolved.
pub fn without_parents(path: &Path) -> io::Result<PathBuf> {
    let parts: Vec<Component<'_>> = path.components().collect();
    let Some(last) = parts.iter().rposition(|part| *part == Component::ParentDir) else { return Ok(path.to_owned()) };
    let (above, below) = parts.split_at(last + 1);
    let mut resolved = above.iter().collect::<PathBuf>().canonicalize()?;
    resolved.extend(below);
    Ok(resolved)
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if text.is_empty() {
            return Err(LocationError::Empty);
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(LocationError::NoBucket(text.into()));
            }
            return Ok(Location::Object(ObjectAddress {
                bucket: bucket.into(),
                key: key.trim_end_matches('/').into(),
            }));
        }
        if text.contains("://") {
            return Err(LocationError::Scheme(text.into()));
        }
        let trimmed = text.trim_end_matches('/');
        Ok(Location::Local(PathBuf::from(if trimmed.is_empty() { "/" } else { trimmed })))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Local(path) => write!(f, "{}", path.display()),
            Location::Object(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn objects_lie_within_their_bucket_and_below_whole_parts_of_keys() {
        let root = ObjectAddress::new("b", "a/c");
        for (bucket, key, within) in
            [("b", "a/c", true), ("b", "a/c/d.nc", true), ("b", "a/cd", false), ("b", "a", false), ("x", "a/c", false)]
        {
            assert_eq!(ObjectAddress::new(bucket, key).is_within(&root), within, "{bucket} {key}");
        }
        assert!(root.is_within(&ObjectAddress::new("b", "")) && !root.is_within(&ObjectAddress::new("x", "")));
        assert_eq!(root.split(), (ObjectAddress::new("b", "a"), "c"));
        assert_eq!(ObjectAddress::new("b", "c").split(), (ObjectAddress::new("b", ""), "c"));
        assert_eq!("s3://b/l.json".parse::<Location>().unwrap().appended(".x").to_string(), "s3://b/l.json.x");
        assert_eq!("d/l.json".parse::<Location>().unwrap().appended(".x").to_string(), "d/l.json.x");
    }

    #[test]
    fn paths_and_buckets_keep_their_text() {
        for text in ["out", "/data/V4r4", "../x y", "s3://bucket", "s3://bucket/a/b", "/"] {
            assert_eq!(text.parse::<Location>().unwrap().to_string(), text);
        }
        assert_eq!("out//".parse::<Location>().unwrap().to_string(), "out");
        assert_eq!("s3://b/p/".parse::<Location>().unwrap().join("x.nc").to_string(), "s3://b/p/x.nc");
        assert_eq!("s3://b".parse::<Location>().unwrap().join("x.nc").to_string(), "s3://b/x.nc");
    }

    #[cfg(unix)]
    #[test]
    fn parents_are_those_that_the_system_finds() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("far/away/run")).unwrap();
        std::fs::create_dir(base.join("near")).unwrap();
        std::os::unix::fs::symlink(base.join("far/away/run"), base.join("near/link")).unwrap();
        for (path, resolved) in [
            ("near/../out/new", "out/new"),
            ("near/link/../x", "far/away/x"), // not near/x
            ("near/./link/../../x/y", "far/x/y"),
            ("near/link/x", "near/link/x"),
        ] {
            assert_eq!(without_parents(&base.join(path)).unwrap(), base.join(resolved), "{path}");
        }
        assert_eq!(without_parents(Path::new("a/b")).unwrap(), Path::new("a/b"));
        assert_eq!(without_parents(Path::new("/../x")).unwrap(), Path::new("/x"));
        assert!(without_parents(&base.join("nowhere/../x")).is_err());
    }

    #[test]
    fn what_is_no_location_is_refused() {
        assert_eq!("".parse::<Location>(), Err(LocationError::Empty));
        assert!(matches!("s3:///key".parse::<Location>(), Err(LocationError::NoBucket(_))));
        assert!(matches!("https://host/x".parse::<Location>(), Err(LocationError::Scheme(_))));
        assert!("s3://b/x".parse::<Location>().unwrap().local().is_err());
    }

    proptest! {
        // The text of a parsed location parses to the same location.
        #[test]
        fn whatever_is_understood_comes_back(text in "(s3://)?[a-z/. :é]{0,20}|\\PC*", below in "[a-z/]{1,9}") {
            if let Ok(location) = text.parse::<Location>() {
                prop_assert_eq!(location.to_string().parse::<Location>(), Ok(location.clone()));
                let _ = location.join(&below);
            }
        }
    }
}
