//! What a call to the store is for.

use edp_protocol::ObjectAddress;
use edp_store::{S3Error, TryCount};
use std::time::Duration;

/// Description of a call, for its deadline and for messages.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) action: &'static str,
    pub(super) permission: &'static str,
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    /// Number of bytes that are transferred.
    pub(super) bytes: u64,
}

impl Call<'_> {
    pub(super) fn at(&self) -> ObjectAddress {
        ObjectAddress::new(self.bucket, self.key)
    }

    /// Returns the error for an answer that is of no use, where another try would not help.
    pub(super) fn failed(&self, what: impl Into<String>) -> S3Error {
        S3Error::Failed {
            at: self.at(),
            action: self.action,
            status: None,
            what: what.into(),
            tries: TryCount(1),
            elapsed: Duration::ZERO,
            transient: false,
        }
    }
}
