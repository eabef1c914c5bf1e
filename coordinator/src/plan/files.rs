//! Files below a root of results, and their versions.

use edp_protocol::recipe::Version;
use std::time::SystemTime;

/// A `.data` file and its `.meta` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Path of the `.data` file: the root as it was given, joined with the path below it.
    pub data: String,
    /// Path of the `.meta` file.
    pub meta: String,
    /// Version of the `.data` file.
    pub data_version: Version,
    /// Version of the `.meta` file.
    pub meta_version: Version,
}

/// A file below a root that is not the result of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherFile {
    /// Path of the file: the root as it was given, joined with the path below it.
    pub path: String,
    /// Version of the file.
    pub version: Version,
}

/// The `.data` file and the `.meta` file of a pair.
#[derive(Debug, Clone)]
pub(super) struct FilePair {
    pub(super) data: FileVersion,
    pub(super) meta: FileVersion,
}

/// Size and version of one file of a pair.
#[derive(Debug, Clone)]
pub(super) struct FileVersion {
    pub(super) size: u64,
    pub(super) seen: Seen,
}

/// A property that tells versions of a file of the same size apart.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    /// Time of the last modification of a local file.
    Modified(SystemTime),
    /// Entity tag of an object.
    Tagged(Box<str>),
}

impl FileVersion {
    /// Returns the version as recipes have it.
    pub(super) fn version(&self) -> Version {
        match &self.seen {
            Seen::Modified(time) => Version::of_file(self.size, *time),
            Seen::Tagged(etag) => Version::of_object(self.size, Some(etag.as_ref().to_owned())),
        }
    }
}

/// Returns the path of a name in a directory.
pub(super) fn join(directory: &str, name: &str) -> String {
    if directory.ends_with('/') { format!("{directory}{name}") } else { format!("{directory}/{name}") }
}
