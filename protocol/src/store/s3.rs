//! Objects on S3.

use super::Head;
use super::commit::Committed;
use crate::settings::StoreSettings;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why S3 did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// It could not be begun with.
    #[error("S3 cannot be used: {0}")]
    Start(Arc<S3Error>),
    /// Not there yet.
    #[error("s3:// locations are not understood yet")]
    Absent,
}

impl S3Error {
    pub(super) fn is_missing(&self) -> bool {
        false
    }

    pub(super) fn is_of_access(&self) -> bool {
        false
    }

    pub(super) fn is_transient(&self) -> bool {
        false
    }
}

/// An object that was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key below the prefix that was listed, without a slash at the beginning.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Entity tag.
    pub etag: String,
}

/// A client of S3, with threads of its own.
#[derive(Debug)]
pub struct S3 {}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl S3 {
    pub fn start(_: &StoreSettings) -> Result<S3, S3Error> {
        Err(S3Error::Absent)
    }

    pub fn head(&self, _bucket: &str, _key: &str) -> Result<Option<Head>, S3Error> {
        Err(S3Error::Absent)
    }

    /// The whole object, in memory.
    pub fn read(&self, _bucket: &str, _key: &str, _etag: Option<&str>, _limit: u64) -> Result<Vec<u8>, S3Error> {
        Err(S3Error::Absent)
    }

    /// All objects below a prefix, in the order of their keys; an empty list if there are none.
    pub fn list(&self, _bucket: &str, _prefix: &str, _visit: &mut dyn FnMut(Entry)) -> Result<(), S3Error> {
        Err(S3Error::Absent)
    }

    pub fn mirror(&self, _bucket: &str, _key: &str) -> Result<PathBuf, S3Error> {
        Err(S3Error::Absent)
    }

    pub fn put(
        &self,
        _file: &Path,
        _bucket: &str,
        _key: &str,
        _recipe_id: &str,
        _replace: bool,
    ) -> Result<Committed, S3Error> {
        Err(S3Error::Absent)
    }

    /// Aborts uploads of these keys that were begun and never ended, by whomever; says how many.
    pub fn abort_uploads(&self, _bucket: &str, _prefix: &str, _keys: &dyn Fn(&str) -> bool) -> Result<usize, S3Error> {
        Err(S3Error::Absent)
    }
}
