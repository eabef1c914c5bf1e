//! Access to the places that locations name: file systems of this machine, and stores of objects (S3).
//!
//! ```text
//! Stores ─┬─ Files         local paths, perhaps beneath given roots only (crate edp-files)
//!         └─ ObjectStore   s3://bucket/key, connected to at the first use
//! ```
//!
//! [`Stores`] reads files and objects at offsets, inspects them, makes local copies of what code needs as paths, and
//! puts a granule under a name that must not be taken yet. What is particular to S3 is behind the trait
//! [`ObjectStore`]; the client that implements it is a crate of its own, so that programs without it have no network.
//! [`local`] lists directories.
//!
//! ```
//! use edp_store::Stores;
//!
//! let directory = tempfile::tempdir()?;
//! let location = edp_protocol::Location::Local(directory.path().join("cfg.yaml"));
//! let stores = Stores::default();
//! stores.write(&location, b"model_timestep: 3600\n")?;
//! assert_eq!(stores.read(&location, 1 << 20)?, b"model_timestep: 3600\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod local;
mod objects;
mod s3_error;
mod scratch;
mod settings;

pub use objects::{ConnectClient, Copied, Object, ObjectStore};
pub use s3_error::{S3Error, TryCount};
pub use scratch::{LocalCopy, Mirror};
pub use settings::{S3Settings, StoreSettings};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use edp_files::commit::{CommitError, Committed};
use edp_files::{Files, ReadAt};
use edp_protocol::location::LocationError;
use edp_protocol::recipe::Version;
use edp_protocol::{Digest, Location, ObjectAddress};
use flate2::read::MultiGzDecoder;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Metadata of a file or an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Size of the file or object in bytes.
    pub size: u64,
    /// Entity tag of an object on S3.
    pub etag: Option<String>,
    /// Time of the last modification.
    pub modified: std::time::SystemTime,
    /// Id of the recipe of which it is the granule, from the metadata of an object. It is absent for local files, which
    /// state it inside.
    pub recipe_id: Option<String>,
    /// SHA-256 of an object's content that its store keeps. It is there only if it was asked for, by
    /// [`Stores::head_with_checksum`].
    pub checksum: Option<Checksum>,
}

impl Head {
    /// Returns the version of the file or object, which is at `at`, as recipes record it.
    pub fn version(&self, at: &Location) -> Version {
        match at {
            Location::Local(_) => Version::of_file(self.size, self.modified),
            Location::Object(_) => Version::of_object(self.size, self.etag.clone()),
        }
    }
}

/// A SHA-256 that a store keeps with an object. The store has computed it of the bytes that it has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// The digest of the whole object.
    Whole(Digest),
    /// The digest of the digests of the parts in which the object was uploaded, as the store writes it: base64, a
    /// hyphen, and their number.
    OfParts(String),
}

impl Checksum {
    /// Parses the base64 text that S3 gives. Returns `None` if it is malformed.
    pub fn parse(text: &str) -> Option<Checksum> {
        if text.contains('-') {
            return (text.len() <= 64).then(|| Checksum::OfParts(text.to_owned()));
        }
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        Some(Checksum::Whole(Digest::from_bytes(&bytes.try_into().ok()?)))
    }

    /// Returns the digest if it is that of the whole object.
    pub fn whole(&self) -> Option<&Digest> {
        match self {
            Checksum::Whole(digest) => Some(digest),
            Checksum::OfParts(_) => None,
        }
    }
}

/// The reason why an operation on a store has failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The location cannot be understood.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// An operation on a local file has failed.
    #[error("{path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A granule could not be committed to a local directory.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The file or object is larger than it may be.
    #[error("{location}: larger than the {limit} bytes that it may have")]
    TooLarge {
        /// Location of the file or object.
        location: Location,
        /// The limit in bytes.
        limit: u64,
    },
    /// The object is another version than the one that was asked for.
    #[error(
        "{location}: it is not the one that was planned with (entity tag {found}, planned with {planned}): plan again"
    )]
    Changed {
        /// Location of the object.
        location: Location,
        /// Entity tag of the present version, as far as the store states it.
        found: String,
        /// Entity tag in the recipe.
        planned: String,
    },
    /// An operation on S3 has failed.
    #[error(transparent)]
    S3(S3Error),
}

impl From<S3Error> for StoreError {
    fn from(error: S3Error) -> StoreError {
        let location = Location::Object;
        match error {
            S3Error::TooLarge { at, limit } => StoreError::TooLarge { location: location(at), limit },
            S3Error::Changed { at, found, planned } => StoreError::Changed { location: location(at), found, planned },
            error => StoreError::S3(error),
        }
    }
}

impl StoreError {
    /// Returns true if the file or object does not exist.
    pub fn is_missing(&self) -> bool {
        match self {
            StoreError::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            StoreError::S3(error) => error.is_missing(),
            _ => false,
        }
    }

    /// Returns true if the store or the operating system denies permission.
    pub fn is_denied(&self) -> bool {
        match self {
            StoreError::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            StoreError::S3(error) => matches!(error, S3Error::Denied { .. }),
            _ => false,
        }
    }

    /// Returns true if conditional writes are impossible there: the store ignores conditions, or its settings cannot be
    /// used.
    pub fn forbids_commits(&self) -> bool {
        matches!(self, StoreError::S3(error) if matches!(error, S3Error::IgnoresConditions { .. }) || error.is_of_settings())
    }

    /// Returns true if the error concerns everything in this store: without valid settings or credentials nothing can
    /// be read from it.
    pub fn is_of_access(&self) -> bool {
        use S3Error::{NoCredentials, Settings, Start};
        matches!(self, StoreError::S3(Start(_) | NoCredentials(_) | Settings { .. }))
    }

    /// Returns true if the store cannot be used: it does not answer, has no such bucket, or denies the request, for
    /// want of credentials or a permission, for example. Then the request itself is not what has to be changed.
    pub fn is_unusable(&self) -> bool {
        matches!(self, StoreError::S3(error) if error.is_unusable())
    }

    /// Returns true if the same operation may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::S3(error) if error.is_transient())
    }
}

/// Access to all places that locations name: file systems of this machine, and S3. Clones share connections. Every call
/// blocks and has a deadline; it must not be made from within an asynchronous task.
#[derive(Debug, Clone)]
pub struct Stores {
    settings: StoreSettings,
    files: Files,
    begin: ConnectClient,
    /// The client of S3, which is made at the first use.
    s3: Arc<OnceLock<LazyClient>>,
}

/// The client of S3, or the reason why there is none.
type LazyClient = Result<Box<dyn ObjectStore>, Arc<S3Error>>;

/// The default has the files of this machine alone.
impl Default for Stores {
    fn default() -> Stores {
        Stores::new(&StoreSettings::default(), |_| Err(S3Error::NoClient))
    }
}

impl Stores {
    /// Makes stores by the settings. `begin` makes the client of S3 when it is first needed.
    pub fn new(settings: &StoreSettings, begin: ConnectClient) -> Stores {
        Stores { settings: settings.clone(), files: Files::default(), begin, s3: Arc::default() }
    }

    /// Returns the same stores, with these local files only.
    pub fn confined(self, files: Files) -> Stores {
        Stores { files, ..self }
    }

    /// Returns the access to local files.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Returns the client of the object store, which connects at the first call.
    ///
    /// # Errors
    /// Returns an error if the client could not be made, now or at the first call.
    pub fn objects(&self) -> Result<&dyn ObjectStore, StoreError> {
        let s3 = self.s3.get_or_init(|| (self.begin)(&self.settings).map_err(Arc::new));
        match s3 {
            Ok(s3) => Ok(&**s3),
            Err(error) => Err(StoreError::S3(S3Error::Start(error.clone()))),
        }
    }

    /// Lists all objects below an address, and calls `visit` with each; their paths are relative to it.
    ///
    /// # Errors
    /// Returns an error if they cannot be listed.
    pub fn list(&self, at: &ObjectAddress, visit: &mut dyn FnMut(Object)) -> Result<(), StoreError> {
        Ok(self.objects()?.list(&at.bucket, &at.key, visit)?)
    }

    /// Returns the locations of all files and objects whose names begin with that at `at` and continue with an end that
    /// is accepted. Files are looked for in one directory; the keys of objects may continue with slashes.
    ///
    /// # Errors
    /// Returns an error if they cannot be listed.
    pub fn beginning(&self, at: &Location, end: &dyn Fn(&str) -> bool) -> Result<Vec<Location>, StoreError> {
        let mut found = Vec::new();
        match at {
            Location::Local(path) => {
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(found) };
                let directory = match path.parent() {
                    Some(directory) if !directory.as_os_str().is_empty() => directory,
                    _ => Path::new("."),
                };
                let fail = |source| StoreError::Io { path: directory.to_owned(), source };
                for entry in directory.read_dir().map_err(fail)? {
                    let entry = entry.map_err(fail)?;
                    if entry.file_name().to_str().and_then(|other| other.strip_prefix(name)).is_some_and(end) {
                        found.push(Location::Local(entry.path()));
                    }
                }
            }
            // By the beginning of their keys, since millions of granules may be in the same directory.
            Location::Object(address) => {
                let mut see = |object: Object| {
                    if end(&object.path) {
                        found.push(at.appended(&object.path));
                    }
                };
                self.objects()?.list_beginning(&address.bucket, &address.key, &mut see)?;
            }
        }
        Ok(found)
    }

    /// Aborts unfinished uploads of the objects below an address whose keys are accepted. Returns their number.
    ///
    /// # Errors
    /// Returns an error if they cannot be listed or aborted.
    pub fn abort_uploads(&self, below: &ObjectAddress, keys: &dyn Fn(&str) -> bool) -> Result<usize, StoreError> {
        Ok(self.objects()?.abort_uploads(&below.bucket, &below.key, keys)?)
    }

    /// Returns size and version of the file or object at a location, or `None` if there is none.
    ///
    /// # Errors
    /// Returns an error if it cannot be inspected.
    pub fn head(&self, at: &Location) -> Result<Option<Head>, StoreError> {
        let path = match at {
            Location::Local(path) => path,
            Location::Object(ObjectAddress { bucket, key }) => return Ok(self.objects()?.head(bucket, key)?),
        };
        let fail = |source| StoreError::Io { path: path.clone(), source };
        match self.files.metadata(path) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(fail(e)),
            Ok(found) => Ok(Some(Head {
                size: found.len(),
                etag: None,
                modified: found.modified().map_err(fail)?,
                recipe_id: None,
                checksum: None,
            })),
        }
    }

    /// Returns the same as [`Stores::head`], with the checksum that S3 keeps of an object. For objects that are
    /// encrypted by a key of KMS this requires the permission `kms:Decrypt`.
    ///
    /// # Errors
    /// Returns an error if it cannot be inspected.
    pub fn head_with_checksum(&self, at: &Location) -> Result<Option<Head>, StoreError> {
        match at {
            Location::Local(_) => self.head(at),
            Location::Object(ObjectAddress { bucket, key }) => Ok(self.objects()?.head_with_checksum(bucket, key)?),
        }
    }

    /// Returns the same as [`Stores::head_with_checksum`], but without the checksum if the store does not give it to
    /// us: it requires permissions that inspecting the object does not.
    ///
    /// # Errors
    /// Returns an error if it cannot be inspected.
    pub fn head_with_any_checksum(&self, at: &Location) -> Result<Option<Head>, StoreError> {
        match at {
            Location::Local(_) => self.head(at),
            Location::Object(ObjectAddress { bucket, key }) => {
                Ok(self.objects()?.head_with_any_checksum(bucket, key)?)
            }
        }
    }

    /// Opens a file or an object for reading. An object is in memory when this returns. With an entity tag, only that
    /// version of an object is accepted.
    ///
    /// # Errors
    /// Returns an error if it does not exist, is not a regular file, is another version, or is larger than `limit`
    /// bytes.
    pub fn open(&self, at: &Location, etag: Option<&str>, limit: u64) -> Result<Box<dyn ReadAt>, StoreError> {
        let path = match at {
            Location::Local(path) => path,
            Location::Object(ObjectAddress { bucket, key }) => {
                return Ok(Box::new(self.objects()?.read(bucket, key, etag, limit)?));
            }
        };
        let fail = |source| StoreError::Io { path: path.clone(), source };
        let file = self.files.open(path).map_err(fail)?;
        if file.length().map_err(fail)? > limit {
            return Err(StoreError::TooLarge { location: at.clone(), limit });
        }
        Ok(Box::new(file))
    }

    /// Reads a small file or object.
    ///
    /// # Errors
    /// Returns an error if it does not exist, or is larger than `limit` bytes.
    pub fn read(&self, at: &Location, limit: u64) -> Result<Vec<u8>, StoreError> {
        let path = match at {
            Location::Local(path) => path,
            Location::Object(ObjectAddress { bucket, key }) => {
                return Ok(self.objects()?.read(bucket, key, None, limit)?);
            }
        };
        let fail = |source| StoreError::Io { path: path.clone(), source };
        let mut bytes = Vec::new();
        self.files.open(path).map_err(fail)?.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(fail)?;
        if bytes.len() as u64 > limit {
            return Err(StoreError::TooLarge { location: at.clone(), limit });
        }
        Ok(bytes)
    }

    /// Opens a list that the user names, to be read step by step. A file may also be a pipe, see
    /// [`edp_files::regular::open_named`]; an object is in memory when this returns. A list whose name ends with `.gz` is
    /// decompressed as it is read.
    ///
    /// # Errors
    /// Returns an error if it does not exist, or if it is an object of more than `limit` bytes.
    pub fn open_list(&self, at: &Location, limit: u64) -> Result<Box<dyn io::Read>, StoreError> {
        let list: Box<dyn io::Read> = match at {
            Location::Object(_) => Box::new(io::Cursor::new(self.read(at, limit)?)),
            Location::Local(path) => {
                let file = edp_files::regular::open_named(path);
                Box::new(file.map_err(|source| StoreError::Io { path: path.clone(), source })?)
            }
        };
        Ok(match scratch::is_packed(at) {
            true => Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(1 << 20, list))),
            false => list,
        })
    }

    /// Returns the access to the files of a location or of its copy: copies of objects are outside of the places that
    /// recipes may use.
    pub fn files_at(&self, at: &Location) -> Files {
        if at.is_remote() { Files::default() } else { self.files.clone() }
    }

    /// Returns the path of a location in a form that is the same for all its spellings. A path that cannot be resolved
    /// is returned as it is.
    pub fn resolved(&self, at: &Location) -> PathBuf {
        match at {
            Location::Local(path) => self.files.resolve(path).unwrap_or_else(|_| path.clone()),
            // Parsing has removed slashes at its end.
            Location::Object(object) => object.to_string().into(),
        }
    }

    /// Gives a finished file the name of a location, in place of what is there. A local file is synced and renamed; it
    /// must be on the file system of the location. An object is put with `label` in place of a recipe's id.
    ///
    /// # Errors
    /// Returns an error if it cannot be renamed or put.
    pub fn publish(&self, file: &Path, at: &Location, label: &str) -> Result<(), StoreError> {
        let Location::Local(path) = at else { return self.put(file, at, label, true).map(drop) };
        let renamed =
            edp_files::regular::open(file).and_then(|file| file.sync_all()).and_then(|()| std::fs::rename(file, path));
        renamed.map_err(|source| StoreError::Io { path: file.into(), source })
    }

    /// Reads a list that the user names. It may also come through a pipe, see [`edp_files::regular::read_named`]. Files
    /// that a recipe names are never read by this function.
    ///
    /// # Errors
    /// Returns the errors of [`Stores::read`].
    pub fn read_list(&self, at: &Location, limit: u64) -> Result<Vec<u8>, StoreError> {
        let Location::Local(path) = at else { return self.read(at, limit) };
        edp_files::regular::read_named(path, limit).map_err(|source| match source.kind() {
            io::ErrorKind::FileTooLarge => StoreError::TooLarge { location: at.clone(), limit },
            _ => StoreError::Io { path: path.clone(), source },
        })
    }

    /// Returns a local path where the file, or everything below the directory, at a location can be read. A local
    /// location is itself the path, to be read through [`Stores::files`]. A location on S3 is copied at the first call;
    /// the copy is removed with the last clone of these stores.
    ///
    /// # Errors
    /// Returns an error if there is nothing, or it cannot be copied.
    pub fn mirror(&self, at: &Location) -> Result<PathBuf, StoreError> {
        match at {
            Location::Local(path) => Ok(path.clone()),
            Location::Object(ObjectAddress { bucket, key }) => Ok(self.objects()?.mirror(bucket, key)?),
        }
    }

    /// Makes the next call of [`Stores::mirror`] copy a location on S3 again, because this copy is not the expected one
    /// (its digest differs). Copies that others use remain.
    pub fn forget(&self, at: &Location, copy: &Path) {
        if let (Location::Object(ObjectAddress { bucket, key }), Ok(s3)) = (at, self.objects()) {
            s3.forget(bucket, key, copy);
        }
    }

    /// Finds out whether a store respects the conditions by which granules below a location are written only once.
    /// Local directories are tried by [`edp_files::commit::check`].
    ///
    /// # Errors
    /// Returns an error if the store ignores or refuses conditions, may not be written to, or does not answer.
    pub fn check_conditions(&self, at: &Location) -> Result<(), StoreError> {
        match at {
            Location::Local(_) => Ok(()),
            Location::Object(ObjectAddress { bucket, key }) => Ok(self.objects()?.check_conditions(bucket, key)?),
        }
    }

    /// Puts a local file, the granule of the recipe `recipe_id`, to a location on S3 if nothing is there, or in any
    /// case if `replace` is true. Local granules are committed by [`edp_files::commit::PartialFile`].
    ///
    /// # Errors
    /// Returns an error if the store refuses the object, does not answer in time, or ignores conditions.
    pub fn put(&self, file: &Path, at: &Location, recipe_id: &str, replace: bool) -> Result<Committed, StoreError> {
        let Location::Object(ObjectAddress { bucket, key }) = at else {
            let source =
                io::Error::other("a local granule is committed as a partial file beside it; please report this");
            return Err(StoreError::Io { path: file.into(), source });
        };
        Ok(self.objects()?.put(file, bucket, key, recipe_id, replace)?)
    }
}
