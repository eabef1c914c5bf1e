//! The operations of a store of objects. The client that implements them is a crate of its own.

use crate::{Head, S3Error, StoreSettings};
use edp_files::commit::Committed;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// An object that was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Key below the prefix that was listed, without a slash at its beginning.
    pub path: String,
    /// Size of the object in bytes.
    pub size: u64,
    /// Entity tag, without quotes.
    pub etag: String,
}

/// A local copy of an object, or of all objects below a prefix. It may be removed once its last user has dropped it.
pub trait Copied: Debug + Send + Sync {
    /// Path of the file, or of the directory with the files.
    fn path(&self) -> &Path;
}

/// A function that makes the client of S3 by the settings.
pub type ConnectClient = fn(&StoreSettings) -> Result<Box<dyn ObjectStore>, S3Error>;

/// A client of S3. Its calls block, and must not be made from within an asynchronous task. Each call has a deadline
/// (`store.s3.timeout`, and one more second for each 64 KiB), and is tried up to `store.s3.attempts` times while the
/// connection fails, the store is overloaded, or the credentials have expired.
pub trait ObjectStore: Debug + Send + Sync {
    /// Returns the metadata of an object, or `None` if there is none. S3 gives the same answer if there is no such
    /// bucket.
    ///
    /// # Errors
    /// Returns an error if the object may not be read, or the store does not answer.
    fn head(&self, bucket: &str, key: &str) -> Result<Option<Head>, S3Error>;

    /// Returns the same as [`ObjectStore::head`], with the checksum that the store keeps.
    ///
    /// # Errors
    /// Returns an error if the object may not be read, or the store does not answer.
    fn head_with_checksum(&self, bucket: &str, key: &str) -> Result<Option<Head>, S3Error>;

    /// Returns the same as [`ObjectStore::head_with_checksum`], but without the checksum if the store refuses to give
    /// it, or does not know such requests.
    ///
    /// # Errors
    /// Returns an error if the object may not be read, or the store does not answer.
    fn head_with_any_checksum(&self, bucket: &str, key: &str) -> Result<Option<Head>, S3Error>;

    /// Reads a whole object into memory, in parts of one version. With an entity tag, only that version is accepted.
    ///
    /// # Errors
    /// Returns an error if the object does not exist, is another version, is larger than `limit` bytes, or may not be
    /// read, or if the store does not answer.
    fn read(&self, bucket: &str, key: &str, etag: Option<&str>, limit: u64) -> Result<Vec<u8>, S3Error>;

    /// Visits all objects below a prefix (all keys that begin with it and a slash), in the order of their keys. Keys
    /// that end in a slash are folders of the AWS console, and are left out.
    ///
    /// # Errors
    /// Returns an error if there is no such bucket, it may not be listed, or the store does not answer. It is not an
    /// error if there are no such objects.
    fn list(&self, bucket: &str, prefix: &str, visit: &mut dyn FnMut(Object)) -> Result<(), S3Error>;

    /// Visits all objects whose keys begin with a text, in the order of their keys. The path of each is the part of its
    /// key that follows the text.
    ///
    /// # Errors
    /// Returns the errors of [`ObjectStore::list`].
    fn list_beginning(&self, bucket: &str, text: &str, visit: &mut dyn FnMut(Object)) -> Result<(), S3Error>;

    /// Returns the path of a local copy of an object, or of all objects below a prefix. The copy is made at the first
    /// call, and other callers wait for it. Later calls return it without asking the store, and it is removed with this
    /// client. All copies of a client may have 8 GiB together.
    ///
    /// # Errors
    /// Returns an error if there is nothing, or it may not be read, is too large, changes meanwhile, or has keys that
    /// are not paths; if the disk is full; or if the store does not answer.
    fn mirror(&self, bucket: &str, key: &str) -> Result<PathBuf, S3Error>;

    /// Returns the same as [`ObjectStore::mirror`], unless `cancel` is set meanwhile. The copy may be removed after the
    /// result is dropped, if others need the room.
    ///
    /// # Errors
    /// Returns the errors of [`ObjectStore::mirror`], and [`S3Error::Cancelled`].
    fn mirror_unless(&self, bucket: &str, key: &str, cancel: &AtomicBool) -> Result<Arc<dyn Copied>, S3Error>;

    /// Makes the next call of [`ObjectStore::mirror`] copy again, because this copy is not the expected one. It remains
    /// for those who use it. If several callers report the same copy, it is made again once.
    fn forget(&self, bucket: &str, key: &str, copy: &Path);

    /// Puts a local file, the granule of the recipe `recipe_id`, if there is no such object yet, or in any case if
    /// `replace` is true. The object appears as a whole or not at all.
    ///
    /// [`Committed::AlreadyThere`] means that there is an object. It may be this very file: if the reply to a put is
    /// lost, the next try finds the object that the first one has put. The recipe's id from [`ObjectStore::head`]
    /// tells.
    ///
    /// This does not find out whether the store respects conditions at all; [`ObjectStore::check_conditions`] does.
    /// With `store.s3.unconditional` it only checks first whether there is an object. A SHA-256 is sent with the bytes,
    /// or an MD5 if the store refuses its headers.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or if the store refuses conditions, may not be written to, or does
    /// not answer.
    fn put(&self, file: &Path, bucket: &str, key: &str, recipe_id: &str, replace: bool) -> Result<Committed, S3Error>;

    /// Finds out whether the store respects conditions of writes below a prefix, by an object `.edp/conditions` there.
    /// With `store.s3.unconditional` that does not matter, and nothing is done.
    ///
    /// # Errors
    /// Returns an error if the store ignores or refuses conditions, may not be written to, or does not answer.
    fn check_conditions(&self, bucket: &str, prefix: &str) -> Result<(), S3Error>;

    /// Aborts multipart uploads below a prefix that were begun, by anyone, and never completed, of the keys for which
    /// `keys` returns true. Returns their number.
    ///
    /// # Errors
    /// Returns an error if they may not be listed or aborted, or the store does not answer.
    fn abort_uploads(&self, bucket: &str, prefix: &str, keys: &dyn Fn(&str) -> bool) -> Result<usize, S3Error>;
}
