//! What goes wrong with S3.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The reason why S3 did not do what was asked. Nothing in it is secret.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// This program was not set up to reach S3.
    #[error("this program cannot reach S3")]
    NoClient,
    /// It could not be begun with.
    #[error("S3 cannot be used: {0}")]
    Start(Arc<S3Error>),
    /// The settings cannot be used.
    #[error("settings, store.s3.{key}: {what}")]
    Settings {
        /// Which one.
        key: &'static str,
        /// What is wrong, and what to write.
        what: String,
    },
    /// Neither the settings nor the usual places have credentials.
    #[error(
        "no credentials for S3 ({0}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile (store.s3.profile), \
         a role of this machine, or store.s3.anonymous for open buckets"
    )]
    NoCredentials(String),
    /// A local file or directory, or threads.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// It was given up on request.
    #[error("{at}: stopped before it was copied")]
    Cancelled {
        /// Where.
        at: StorePlace,
    },
    /// There is no such object.
    #[error("{at}: there is no such object")]
    Missing {
        /// Where.
        at: StorePlace,
    },
    /// There is no such bucket.
    #[error("s3://{bucket}: there is no such bucket; check its name, and the endpoint and region of store.s3")]
    NoBucket {
        /// Its name.
        bucket: String,
    },
    /// The store does not allow it.
    #[error("{at}: not allowed to {action} ({code}): {advice}")]
    Denied {
        /// Where.
        at: StorePlace,
        /// The operation that failed.
        action: &'static str,
        /// The store's code and message.
        code: Box<str>,
        /// The permission that it takes on AWS.
        permission: &'static str,
        /// What may be the cause, and what to do about it.
        advice: Box<str>,
    },
    /// Another version is there than the one that was asked for, or it was replaced while it was read.
    #[error("{at}: another version is there (entity tag {found}) than the one asked for ({planned})")]
    Changed {
        /// Where.
        at: StorePlace,
        /// Entity tag there.
        found: String,
        /// Entity tag that was asked for.
        planned: String,
    },
    /// It is larger than such a thing may be.
    #[error("{at}: larger than the {limit} bytes that it may have")]
    TooLarge {
        /// Where.
        at: StorePlace,
        /// The limit, in bytes.
        limit: u64,
    },
    /// It has more objects than a copy may have.
    #[error("{at}: more than the {limit} objects that a copy may have; name a smaller prefix")]
    TooMany {
        /// The prefix.
        at: StorePlace,
        /// The limit.
        limit: usize,
    },
    /// A key cannot become a path below a directory.
    #[error("{at}: part '{part}' of the key would lead outside of the copy's directory; not copied")]
    Escapes {
        /// The object.
        at: StorePlace,
        /// The part of its key.
        part: String,
    },
    /// The store writes although a condition forbids it, or does not know conditions.
    #[error(
        "s3://{bucket}: this store ignores or refuses `If-None-Match`, so that two workers may overwrite each other's \
         granules; use a store that heeds it, or set store.s3.unconditional"
    )]
    IgnoresConditions {
        /// The bucket that was tried.
        bucket: String,
    },
    /// Anything else that it answered, or that it did not answer.
    #[error("{at}: could not {action}: {what} (tried {tries} in {elapsed:.1?}){}", advice(*transient))]
    Failed {
        /// Where.
        at: StorePlace,
        /// The operation that failed.
        action: &'static str,
        /// Status of the answer, if there was one.
        status: Option<u16>,
        /// The store's code and message, or what happened to the connection.
        what: String,
        /// How often it was tried.
        tries: TryCount,
        /// For how long, with the pauses between.
        elapsed: Duration,
        /// Whether the same may succeed later.
        transient: bool,
    },
}

fn advice(transient: bool) -> &'static str {
    if transient { "; it may succeed later" } else { "" }
}

/// A place in a store, as users write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorePlace {
    /// The bucket.
    pub bucket: String,
    /// Key, or prefix of keys.
    pub key: String,
}

impl StorePlace {
    /// A key in a bucket.
    pub fn new(bucket: &str, key: &str) -> StorePlace {
        StorePlace { bucket: bucket.into(), key: key.into() }
    }
}

impl std::fmt::Display for StorePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// A number of tries.
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
    /// Whether there is no such object.
    pub fn is_missing(&self) -> bool {
        matches!(self, S3Error::Missing { .. })
    }

    /// Whether the same may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            S3Error::Failed { transient, .. } => *transient,
            S3Error::Start(error) => error.is_transient(),
            _ => false,
        }
    }

    /// Whether the store cannot be used as things are, whatever the request: it does not answer, or it refuses.
    pub fn is_unusable(&self) -> bool {
        use S3Error::{Denied, Failed, IgnoresConditions, NoBucket, NoCredentials, Start};
        match self {
            NoCredentials(_) | NoBucket { .. } | Denied { .. } | Failed { .. } | IgnoresConditions { .. } => true,
            Start(error) => error.is_unusable(),
            _ => false,
        }
    }

    /// Whether the settings of the store cannot be used.
    pub fn is_of_settings(&self) -> bool {
        match self {
            S3Error::Settings { .. } => true,
            S3Error::Start(error) => error.is_of_settings(),
            _ => false,
        }
    }

    /// Status of the answer, where more than one is told apart by it.
    pub fn status(&self) -> Option<u16> {
        match self {
            S3Error::Failed { status, .. } => *status,
            _ => None,
        }
    }
}
