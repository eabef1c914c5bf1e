//! Errors of S3.

use edp_protocol::ObjectAddress;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The reason why an operation on S3 has failed. Nothing in it is secret.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// This program was set up without a client of S3.
    #[error("this program cannot reach S3")]
    NoClient,
    /// The client of S3 could not be made.
    #[error("S3 cannot be used: {0}")]
    Start(Arc<S3Error>),
    /// The settings cannot be used.
    #[error("settings, store.s3.{key}: {what}")]
    Settings {
        /// Key of the setting.
        key: &'static str,
        /// Description of the problem, with advice on what to write.
        what: String,
    },
    /// Neither the settings nor the usual places have credentials.
    #[error(
        "no credentials for S3 ({0}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile (store.s3.profile), \
         a role of this machine, or store.s3.anonymous for open buckets"
    )]
    NoCredentials(String),
    /// An operation on a local file or directory has failed, or a thread could not be started.
    #[error("{path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The operation was cancelled on request.
    #[error("{at}: stopped before it was copied")]
    Cancelled {
        /// The object or prefix.
        at: ObjectAddress,
    },
    /// There is no such object.
    #[error("{at}: there is no such object")]
    Missing {
        /// The object that is missing.
        at: ObjectAddress,
    },
    /// There is no such bucket.
    #[error("s3://{bucket}: there is no such bucket; check its name, and the endpoint and region of store.s3")]
    NoBucket {
        /// Name of the bucket.
        bucket: String,
    },
    /// The store denies permission.
    #[error("{at}: not allowed to {action} ({code}): {advice}")]
    Denied {
        /// The object or prefix.
        at: ObjectAddress,
        /// The operation that was denied.
        action: &'static str,
        /// The store's code and message.
        code: Box<str>,
        /// The permission that the operation requires on AWS.
        permission: &'static str,
        /// A possible cause, and advice on what to do about it.
        advice: Box<str>,
    },
    /// The object is another version than the one that was asked for, or it was replaced while it was read.
    #[error("{at}: another version is there (entity tag {found}) than the one asked for ({planned})")]
    Changed {
        /// The object that has changed.
        at: ObjectAddress,
        /// Entity tag of the present version.
        found: String,
        /// Entity tag that was asked for.
        planned: String,
    },
    /// The object is larger than it may be.
    #[error("{at}: larger than the {limit} bytes that it may have")]
    TooLarge {
        /// The object that is too large.
        at: ObjectAddress,
        /// The limit in bytes.
        limit: u64,
    },
    /// There are more objects than a copy may have.
    #[error("{at}: more than the {limit} objects that a copy may have; name a smaller prefix")]
    TooMany {
        /// The prefix of the objects.
        at: ObjectAddress,
        /// Largest permitted number of objects.
        limit: usize,
    },
    /// A key cannot become a path below a directory.
    #[error("{at}: part '{part}' of the key would lead outside of the copy's directory; not copied")]
    Escapes {
        /// The object with that key.
        at: ObjectAddress,
        /// The offending part of its key.
        part: String,
    },
    /// The store writes although a condition forbids it, or does not know conditions.
    #[error(
        "s3://{bucket}: this store ignores or refuses `If-None-Match`, so that two workers may overwrite each other's \
         granules; use a store that obeys it, or set store.s3.unconditional"
    )]
    IgnoresConditions {
        /// Name of the bucket that was tried.
        bucket: String,
    },
    /// The store gave another error, or did not answer.
    #[error("{at}: could not {action}: {what} (tried {tries} in {elapsed:.1?}){}", advice(*transient))]
    Failed {
        /// The object or prefix.
        at: ObjectAddress,
        /// The operation that has failed.
        action: &'static str,
        /// HTTP status of the answer, if there was one.
        status: Option<u16>,
        /// The store's code and message, or the error of the connection.
        what: String,
        /// Number of tries that were made.
        tries: TryCount,
        /// Duration of all tries, with the pauses between them.
        elapsed: Duration,
        /// True if the same operation may succeed later.
        transient: bool,
    },
}

fn advice(transient: bool) -> &'static str {
    if transient { "; it may succeed later" } else { "" }
}

/// A number of tries, displayed in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TryCount(pub u32);

impl std::fmt::Display for TryCount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            1 => write!(f, "once"),
            n => write!(f, "{n} times"),
        }
    }
}

impl S3Error {
    /// Returns true if there is no such object.
    pub fn is_missing(&self) -> bool {
        matches!(self, S3Error::Missing { .. })
    }

    /// Returns true if the same operation may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            S3Error::Failed { transient, .. } => *transient,
            S3Error::Start(error) => error.is_transient(),
            _ => false,
        }
    }

    /// Returns true if the store cannot be used at present, whatever the request: it does not answer, or it refuses.
    pub fn is_unusable(&self) -> bool {
        use S3Error::{Denied, Failed, IgnoresConditions, NoBucket, NoCredentials, Start};
        match self {
            NoCredentials(_) | NoBucket { .. } | Denied { .. } | Failed { .. } | IgnoresConditions { .. } => true,
            Start(error) => error.is_unusable(),
            _ => false,
        }
    }

    /// Returns true if the settings of the store cannot be used.
    pub fn is_of_settings(&self) -> bool {
        match self {
            S3Error::Settings { .. } => true,
            S3Error::Start(error) => error.is_of_settings(),
            _ => false,
        }
    }

    /// Returns the HTTP status of the answer, for errors that have no variant of their own.
    pub fn status(&self) -> Option<u16> {
        match self {
            S3Error::Failed { status, .. } => *status,
            _ => None,
        }
    }
}
