//! Reading at offsets, listing, and committing what must not exist yet.

pub mod local;
mod objects;
mod s3_error;
mod scratch;
mod settings;

pub use objects::{ConnectClient, Copied, Object, ObjectStore};
pub use s3_error::{S3Error, StorePlace, TryCount};
pub use scratch::{LocalCopy, Mirror};
pub use settings::{S3Settings, StoreSettings};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use edp_files::commit::{CommitError, Committed};
use edp_files::{Files, ReadAt};
use edp_protocol::location::LocationError;
use edp_protocol::{Digest, Location};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Metadata of a file or an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Size in bytes.
    pub size: u64,
    /// Entity tag of an object on S3.
    pub etag: Option<String>,
    /// When it was written last.
    pub modified: std::time::SystemTime,
    /// Id of the recipe that it is the granule of, as the object's metadata have it; files have it inside.
    pub recipe_id: Option<String>,
    /// SHA-256 of the object's content that its store keeps; only where it was asked for, by
    /// [`Stores::head_with_checksum`].
    pub checksum: Option<Checksum>,
}

/// A SHA-256 that a store keeps of an object: it was computed of the bytes as they were stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// Of the whole object.
    Whole(Digest),
    /// Of the digests of the parts that it was uploaded in, as the store writes it: base64, a hyphen, their number.
    OfParts(String),
}

impl Checksum {
    /// From base64 as S3 gives it; nothing if it is not such a text.
    pub fn parse(text: &str) -> Option<Checksum> {
        if text.contains('-') {
            return (text.len() <= 64).then(|| Checksum::OfParts(text.to_owned()));
        }
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        Some(Checksum::Whole(Digest::from_bytes(&bytes.try_into().ok()?)))
    }

    /// The digest of the whole, if it is that.
    pub fn whole(&self) -> Option<&Digest> {
        match self {
            Checksum::Whole(digest) => Some(digest),
            Checksum::OfParts(_) => None,
        }
    }
}

/// The reason why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The location cannot be understood.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// A local file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A granule could not be committed to a local directory.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// It is larger than such a thing may be.
    #[error("{location}: larger than the {limit} bytes that it may have")]
    TooLarge {
        /// Where.
        location: Location,
        /// The limit.
        limit: u64,
    },
    /// Another version is there than the one that was asked for.
    #[error(
        "{location}: it is not the one that was planned with (entity tag {found}, planned with {planned}): plan again"
    )]
    Changed {
        /// Where.
        location: Location,
        /// Entity tag there, if the store says it.
        found: String,
        /// Entity tag in the recipe.
        planned: String,
    },
    /// S3.
    #[error(transparent)]
    S3(S3Error),
}

impl From<S3Error> for StoreError {
    fn from(error: S3Error) -> StoreError {
        let location = |StorePlace { bucket, key }| Location::S3 { bucket, key };
        match error {
            S3Error::TooLarge { at, limit } => StoreError::TooLarge { location: location(at), limit },
            S3Error::Changed { at, found, planned } => StoreError::Changed { location: location(at), found, planned },
            error => StoreError::S3(error),
        }
    }
}

impl StoreError {
    /// Whether the thing is not there.
    pub fn is_missing(&self) -> bool {
        match self {
            StoreError::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            StoreError::S3(error) => error.is_missing(),
            _ => false,
        }
    }

    /// Whether the store or the system refuses what was asked for, for want of a permission.
    pub fn is_denied(&self) -> bool {
        match self {
            StoreError::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            StoreError::S3(error) => matches!(error, S3Error::Denied { .. }),
            _ => false,
        }
    }

    /// Whether conditional writes are impossible there: the store ignores conditions, or its settings
    /// cannot be used.
    pub fn forbids_commits(&self) -> bool {
        matches!(self, StoreError::S3(error) if matches!(error, S3Error::IgnoresConditions { .. }) || error.is_of_settings())
    }

    /// Whether it concerns everything in this store, not what was asked for: without settings or credentials that can
    /// be used, nothing else is given out either.
    pub fn is_of_access(&self) -> bool {
        use S3Error::{NoCredentials, Settings, Start};
        matches!(self, StoreError::S3(Start(_) | NoCredentials(_) | Settings { .. }))
    }

    /// Whether the store cannot be used: it does not answer, has no such bucket, or refuses what was asked, for want of
    /// credentials or of a permission, say. What is to be changed then is not what was asked for.
    pub fn is_unusable(&self) -> bool {
        matches!(self, StoreError::S3(error) if error.is_unusable())
    }

    /// Whether the same may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::S3(error) if error.is_transient())
    }
}

/// All places that locations name: file systems of this machine, and S3. Clones share connections. Every call blocks,
/// has a deadline, and must not be made from within an asynchronous task.
#[derive(Debug, Clone)]
pub struct Stores {
    settings: StoreSettings,
    files: Files,
    begin: ConnectClient,
    /// Begun with the first location on S3.
    s3: Arc<OnceLock<LazyClient>>,
}

/// The client of S3, or why there is none.
type LazyClient = Result<Box<dyn ObjectStore>, Arc<S3Error>>;

/// Files of this machine alone.
impl Default for Stores {
    fn default() -> Stores {
        Stores::new(&StoreSettings::default(), |_| Err(S3Error::NoClient))
    }
}

impl Stores {
    /// Stores as the settings have them; `begin` gives the client of S3 when it is first needed.
    pub fn new(settings: &StoreSettings, begin: ConnectClient) -> Stores {
        Stores { settings: settings.clone(), files: Files::default(), begin, s3: Arc::default() }
    }

    /// The same stores with these files of this machine alone.
    pub fn confined(self, files: Files) -> Stores {
        Stores { files, ..self }
    }

    /// Files of this machine.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// S3, connected to at the first call.
    ///
    /// # Errors
    /// Its settings cannot be used, now or at the first call.
    pub fn s3(&self) -> Result<&dyn ObjectStore, StoreError> {
        let s3 = self.s3.get_or_init(|| (self.begin)(&self.settings).map_err(Arc::new));
        match s3 {
            Ok(s3) => Ok(&**s3),
            Err(error) => Err(StoreError::S3(S3Error::Start(error.clone()))),
        }
    }

    /// Size and version of the file or object at a location; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn head(&self, at: &Location) -> Result<Option<Head>, StoreError> {
        let path = match at {
            Location::Local(path) => path,
            Location::S3 { bucket, key } => return Ok(self.s3()?.head(bucket, key)?),
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

    /// The same, with the checksum that S3 keeps of the object. Objects that are encrypted by a key of KMS need
    /// `kms:Decrypt` for that.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn head_with_checksum(&self, at: &Location) -> Result<Option<Head>, StoreError> {
        match at {
            Location::Local(_) => self.head(at),
            Location::S3 { bucket, key } => Ok(self.s3()?.head_with_checksum(bucket, key)?),
        }
    }

    /// The same, without the checksum where the store does not give it out to us: what it is asked for costs rights
    /// that a look at the object does not.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn head_with_any_checksum(&self, at: &Location) -> Result<Option<Head>, StoreError> {
        match at {
            Location::Local(_) => self.head(at),
            Location::S3 { bucket, key } => Ok(self.s3()?.head_with_any_checksum(bucket, key)?),
        }
    }

    /// Opens a file or an object for reading; an object is in memory when this returns. With an entity tag, only
    /// that version of an object is given.
    ///
    /// # Errors
    /// It is not there, no regular file, another version, or larger than `limit` bytes.
    pub fn open(&self, at: &Location, etag: Option<&str>, limit: u64) -> Result<Box<dyn ReadAt>, StoreError> {
        let path = match at {
            Location::Local(path) => path,
            Location::S3 { bucket, key } => return Ok(Box::new(self.s3()?.read(bucket, key, etag, limit)?)),
        };
        let fail = |source| StoreError::Io { path: path.clone(), source };
        let file = self.files.open(path).map_err(fail)?;
        if file.length().map_err(fail)? > limit {
            return Err(StoreError::TooLarge { location: at.clone(), limit });
        }
        Ok(Box::new(file))
    }

    /// The bytes of a small file or object.
    ///
    /// # Errors
    /// It is not there, or larger than `limit` bytes.
    pub fn read(&self, at: &Location, limit: u64) -> Result<Vec<u8>, StoreError> {
        let path = match at {
            Location::Local(path) => path,
            Location::S3 { bucket, key } => return Ok(self.s3()?.read(bucket, key, None, limit)?),
        };
        let fail = |source| StoreError::Io { path: path.clone(), source };
        let mut bytes = Vec::new();
        self.files.open(path).map_err(fail)?.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(fail)?;
        if bytes.len() as u64 > limit {
            return Err(StoreError::TooLarge { location: at.clone(), limit });
        }
        Ok(bytes)
    }

    /// The same of a list that the user names: it may also come through a pipe, as [`edp_files::regular::read_named`]
    /// says. What a recipe names is never read by this.
    ///
    /// # Errors
    /// Those of [`Stores::read`].
    pub fn read_list(&self, at: &Location, limit: u64) -> Result<Vec<u8>, StoreError> {
        let Location::Local(path) = at else { return self.read(at, limit) };
        edp_files::regular::read_named(path, limit).map_err(|source| match source.kind() {
            io::ErrorKind::FileTooLarge => StoreError::TooLarge { location: at.clone(), limit },
            _ => StoreError::Io { path: path.clone(), source },
        })
    }

    /// A local path where the file, or everything below the directory, at a location can be read: itself if it is
    /// local, to be read through [`Stores::files`]; on S3 a copy of it, made at the first call and removed with the
    /// last clone of these stores.
    ///
    /// # Errors
    /// It is not there, or cannot be copied.
    pub fn mirror(&self, at: &Location) -> Result<PathBuf, StoreError> {
        match at {
            Location::Local(path) => Ok(path.clone()),
            Location::S3 { bucket, key } => Ok(self.s3()?.mirror(bucket, key)?),
        }
    }

    /// Lets the next call of [`Stores::mirror`] copy a location on S3 anew, because this copy is not what was expected
    /// (its digest differs). Copies that others use stay.
    pub fn forget(&self, at: &Location, copy: &Path) {
        if let (Location::S3 { bucket, key }, Ok(s3)) = (at, self.s3()) {
            s3.forget(bucket, key, copy);
        }
    }

    /// Finds out whether a store heeds the conditions by which granules below a location are written once. Local
    /// directories are tried by [`commit::check`].
    ///
    /// # Errors
    /// It ignores or refuses them, may not be written to, or does not answer.
    pub fn check_conditions(&self, at: &Location) -> Result<(), StoreError> {
        match at {
            Location::Local(_) => Ok(()),
            Location::S3 { bucket, key } => Ok(self.s3()?.check_conditions(bucket, key)?),
        }
    }

    /// Puts a local file, the granule of the recipe `recipe_id`, to a location on S3 if nothing is there, or in any
    /// case if `replace`. Local granules are committed by [`commit::Part`].
    ///
    /// # Errors
    /// The object store refuses it, does not answer in time, or ignores conditions.
    pub fn put(&self, file: &Path, at: &Location, recipe_id: &str, replace: bool) -> Result<Committed, StoreError> {
        let Location::S3 { bucket, key } = at else {
            let source =
                io::Error::other("a local granule is committed as a partial file beside it; please report this");
            return Err(StoreError::Io { path: file.into(), source });
        };
        Ok(self.s3()?.put(file, bucket, key, recipe_id, replace)?)
    }
}
