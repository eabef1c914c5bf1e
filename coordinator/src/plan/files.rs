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
    /// Entity tag that is an MD5 in hexadecimal digits, as most are: so it takes a third of the memory.
    Md5([u8; 16]),
}

impl Seen {
    /// Returns what an entity tag says.
    pub(super) fn tagged(etag: &str) -> Seen {
        let is_md5 = etag.len() == 32 && etag.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        match u128::from_str_radix(etag, 16) {
            Ok(md5) if is_md5 => Seen::Md5(md5.to_be_bytes()),
            _ => Seen::Tagged(etag.into()),
        }
    }
}

impl FileVersion {
    /// Returns the version as recipes have it.
    pub(super) fn version(&self) -> Version {
        match &self.seen {
            Seen::Modified(time) => Version::of_file(self.size, *time),
            Seen::Tagged(etag) => Version::of_object(self.size, Some(etag.as_ref().to_owned())),
            Seen::Md5(md5) => Version::of_object(self.size, Some(format!("{:032x}", u128::from_be_bytes(*md5)))),
        }
    }
}

/// Returns the path of a name in a directory.
pub(super) fn join(directory: &str, name: &str) -> String {
    if directory.ends_with('/') { format!("{directory}{name}") } else { format!("{directory}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags_come_back_as_they_were() {
        let md5 = "00b204e9800998ecf8427ed41d8cd98f";
        for (etag, packed) in
            [(md5, true), (&md5.to_uppercase(), false), (&format!("{md5}-2"), false), (&md5[1..], false), ("", false)]
        {
            let seen = Seen::tagged(etag);
            assert_eq!(matches!(seen, Seen::Md5(_)), packed, "{etag}");
            assert_eq!(FileVersion { size: 7, seen }.version(), Version::of_object(7, Some(etag.to_owned())));
        }
        assert!(matches!(Seen::tagged(&format!("+{}", &md5[1..])), Seen::Tagged(_)));
    }
}
