//! What a store of objects can do. The client that does it is in a crate of its own.

use crate::{Head, S3Error, StoreSettings};
use edp_files::commit::Committed;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// An object that was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its key below the prefix that was listed, without a slash at the beginning.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Entity tag, without quotes.
    pub etag: String,
}

/// A local copy of an object, or of all objects below a prefix. It may be removed once its last user has dropped it.
pub trait Copied: Debug + Send + Sync {
    /// The file, or the directory with the files.
    fn path(&self) -> &Path;
}

/// Connects to S3 as the settings have it.
pub type ConnectClient = fn(&StoreSettings) -> Result<Box<dyn ObjectStore>, S3Error>;

/// A client of S3. Its calls block, and must not be made from within an asynchronous task; each has a deadline
/// (`store.s3.timeout`, and a second more for each 64 KiB), and is tried up to `store.s3.attempts` times while what
/// fails is the connection, the store's load, or the age of the credentials.
pub trait ObjectStore: Debug + Send + Sync {
    /// Metadata of an object; `None` if there is none (or no such bucket: S3 does not tell which here).
    ///
    /// # Errors
    /// It may not be read, or the store does not answer.
    fn head(&self, bucket: &str, key: &str) -> Result<Option<Head>, S3Error>;

    /// The same, with the checksum that the store keeps.
    ///
    /// # Errors
    /// It may not be read, or the store does not answer.
    fn head_with_checksum(&self, bucket: &str, key: &str) -> Result<Option<Head>, S3Error>;

    /// The same, without the checksum where the store refuses to give it out, or does not know such requests.
    ///
    /// # Errors
    /// It may not be read, or the store does not answer.
    fn head_with_any_checksum(&self, bucket: &str, key: &str) -> Result<Option<Head>, S3Error>;

    /// The whole object, in memory, read in parts of one version. With an entity tag, that version or none.
    ///
    /// # Errors
    /// It is not there, another version, larger than `limit` bytes, may not be read, or the store does not answer.
    fn read(&self, bucket: &str, key: &str, etag: Option<&str>, limit: u64) -> Result<Vec<u8>, S3Error>;

    /// Visits all objects below a prefix (all keys that begin with it and a slash), in the order of their keys. Keys
    /// that end in a slash are folders of the console, and left out.
    ///
    /// # Errors
    /// There is no such bucket, it may not be listed, or the store does not answer; not if there are no such objects.
    fn list(&self, bucket: &str, prefix: &str, visit: &mut dyn FnMut(Object)) -> Result<(), S3Error>;

    /// Visits all objects whose keys begin with a text, in the order of their keys; their paths are what follows it.
    ///
    /// # Errors
    /// As [`ObjectStore::list`].
    fn list_beginning(&self, bucket: &str, text: &str, visit: &mut dyn FnMut(Object)) -> Result<(), S3Error>;

    /// The path of a local copy of an object, or of all objects below a prefix. It is made at the first call (others
    /// who ask meanwhile wait for it), given again by later ones without a look at the store, and removed with this
    /// client. All copies of a client may have 8 GiB.
    ///
    /// # Errors
    /// Nothing is there, it may not be read, is too large, changes under way, or has keys that are not paths; the disk
    /// is full, or the store does not answer.
    fn mirror(&self, bucket: &str, key: &str) -> Result<PathBuf, S3Error>;

    /// The same, given up once `cancel` is set. The copy may be removed when the result is dropped, if there is no room
    /// for others.
    ///
    /// # Errors
    /// Those of [`ObjectStore::mirror`], and [`S3Error::Cancelled`].
    fn mirror_unless(&self, bucket: &str, key: &str, cancel: &AtomicBool) -> Result<Arc<dyn Copied>, S3Error>;

    /// Lets the next call of [`ObjectStore::mirror`] make a new copy, because this one is not what was expected; it
    /// stays for those who use it. Of many who say so of the same copy, one has it made anew.
    fn forget(&self, bucket: &str, key: &str, copy: &Path);

    /// Puts a local file, the granule of the recipe `recipe_id`, if there is no such object yet, or in any case if
    /// `replace`. It appears whole or not at all.
    ///
    /// [`Committed::AlreadyThere`] says that something is there, which may be this very file: if the reply to a put is
    /// lost, the next try finds what it put. Its recipe's id tells, by [`ObjectStore::head`].
    ///
    /// Whether the store heeds conditions at all is not found out here, but by [`ObjectStore::check_conditions`]. With
    /// `store.s3.unconditional` it is only looked whether something is there. SHA-256 goes with the bytes; to a store
    /// that refuses its headers, MD5 does.
    ///
    /// # Errors
    /// The file cannot be read, the store refuses conditions, it may not be written to, or does not answer.
    fn put(&self, file: &Path, bucket: &str, key: &str, recipe_id: &str, replace: bool) -> Result<Committed, S3Error>;

    /// Finds out whether the store heeds conditions of writes below a prefix, by an object `.edp/conditions` there.
    /// With `store.s3.unconditional` that does not matter, and nothing is done.
    ///
    /// # Errors
    /// The store ignores or refuses conditions, may not be written to, or does not answer.
    fn check_conditions(&self, bucket: &str, prefix: &str) -> Result<(), S3Error>;

    /// Aborts uploads in parts below a prefix that were begun and never ended, by whomever, of keys that are wanted
    /// gone; returns how many.
    ///
    /// # Errors
    /// They may not be listed or aborted, or the store does not answer.
    fn abort_uploads(&self, bucket: &str, prefix: &str, keys: &dyn Fn(&str) -> bool) -> Result<usize, S3Error>;
}
