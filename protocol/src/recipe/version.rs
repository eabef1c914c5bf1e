//! Versions of input files.

use super::error::printable;
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// The version of an input file. When the granule is made, the input is compared with it: by content if the SHA-256 is
/// recorded, else by size and by entity tag or time.
///
/// Only the SHA-256 is part of the recipe's id: results that were copied to another disk or to S3 have other entity
/// tags and times, but make the same granules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Size of the file in bytes.
    pub size: u64,
    /// Entity tag of an object on S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Time of the last modification of a local file, `YYYY-MM-DDThh:mm:ssZ`. It has whole seconds, since file systems
    /// and servers differ in the fractions that they keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// SHA-256 of the content, recorded by `plan --digests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

impl Version {
    /// Returns the version of a local file.
    pub fn of_file(size: u64, modified: SystemTime) -> Version {
        Version { size, modified: time_text(modified), ..Version::default() }
    }

    /// Returns the version of an object on S3. A store without entity tags gives empty ones, which count as none.
    pub fn of_object(size: u64, etag: Option<String>) -> Version {
        Version { size, etag: etag.filter(|etag| !etag.is_empty()), ..Version::default() }
    }

    /// Describes the difference between the planned version and the one that was found; `None` if they may be the same.
    /// Entity tags and times count only if no SHA-256 is recorded, and if both versions have them.
    pub fn difference(&self, found: &Version) -> Option<String> {
        if self.size != found.size {
            return Some(format!("has {} bytes, but had {} when the recipe was planned", found.size, self.size));
        }
        if self.sha256.is_some() {
            return None;
        }
        let differ = |what: &str, planned: &Option<String>, found: &Option<String>| match (planned, found) {
            (Some(planned), Some(found)) if planned != found => {
                Some(format!("{what} {}, but {} when the recipe was planned", printable(found), printable(planned)))
            }
            _ => None,
        };
        differ("was modified at", &self.modified, &found.modified)
            .or_else(|| differ("has the entity tag", &self.etag, &found.etag))
    }
}

/// Writes a time in UTC with whole seconds.
fn time_text(time: SystemTime) -> Option<String> {
    let time = jiff::Timestamp::try_from(time).ok()?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_inputs_are_compared_by_content_where_it_is_recorded() {
        let time = |seconds: u64| SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(seconds * 1000 + 999);
        let file = Version::of_file(8, time(0));
        assert_eq!(file.modified.as_deref(), Some("1970-01-01T00:00:00Z"));
        let object = |etag: &str| Version::of_object(8, Some(etag.into()));
        let digest = |version: Version| Version { sha256: Some(Digest::of(b"x")), ..version };
        for (planned, found, same) in [
            (file.clone(), file.clone(), true),
            (file.clone(), Version::of_file(8, time(1)), false),
            (file.clone(), Version::of_file(9, time(0)), false),
            (digest(file.clone()), Version::of_file(8, time(1)), true),
            (digest(file.clone()), Version::of_file(9, time(0)), false),
            (object("a"), object("a"), true),
            (object("a"), object("b"), false),
            (object("a"), object(""), true),
            (file.clone(), object("a"), true),
            // Inputs planned by an earlier program have neither an entity tag nor a time.
            (Version { size: 8, ..Version::default() }, Version::of_file(8, time(1)), true),
        ] {
            assert_eq!(planned.difference(&found).is_none(), same, "{planned:?} {found:?}");
        }
        let odd = Version { modified: Some("\u{1b}[2J".into()), ..file.clone() };
        assert!(!odd.difference(&file).unwrap().contains('\u{1b}'));
    }
}
