//! Properties that objects get when they are written, in addition to their content.

use aws_sdk_s3::types::{ObjectCannedAcl, ServerSideEncryption, StorageClass};
use edp_store::{S3Error, S3Settings};
use std::sync::atomic::{AtomicBool, Ordering};

/// Checksums that are sent to a store with the bytes, so that it can refuse bytes that were damaged on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksums {
    /// SHA-256 in headers of their own, which the store keeps with the object.
    Sha256,
    /// MD5 in `Content-MD5`, which stores know that refuse the other headers.
    Md5,
}

/// The checked settings of writing.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) sse: Option<ServerSideEncryption>,
    pub(super) kms_key: Option<String>,
    pub(super) storage_class: Option<StorageClass>,
    pub(super) acl: Option<ObjectCannedAcl>,
    /// True once the store has refused the headers of SHA-256.
    only_md5: AtomicBool,
}

impl Writing {
    /// Checks the settings.
    ///
    /// # Errors
    /// Returns an error if one of them has an unknown value, or contradicts another.
    pub(super) fn new(settings: &S3Settings) -> Result<Writing, S3Error> {
        let fail = |key, what: String| Err(S3Error::Settings { key, what });
        let (sse, key) = (settings.sse.as_deref(), settings.sse_kms_key.as_deref());
        let sse = match (sse, key) {
            (None, None) => None,
            (None, Some(_)) => Some(ServerSideEncryption::AwsKms),
            (Some("AES256"), Some(_)) => {
                return fail("sse_kms_key", "is for sse = \"aws:kms\", not for \"AES256\"".into());
            }
            (Some(text @ ("AES256" | "aws:kms" | "aws:kms:dsse")), _) => Some(ServerSideEncryption::from(text)),
            (Some(_), _) => return fail("sse", "write \"AES256\", \"aws:kms\" or \"aws:kms:dsse\"".into()),
        };
        for (name, text) in [("sse_kms_key", key), ("storage_class", settings.storage_class.as_deref())] {
            if text.is_some_and(|text| text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic())) {
                return fail(name, "write letters, digits and signs, without spaces".into());
            }
        }
        let acl = match settings.acl.as_deref() {
            None => None,
            Some(text) if ObjectCannedAcl::values().contains(&text) => Some(ObjectCannedAcl::from(text)),
            Some(_) => return fail("acl", format!("write one of {}", ObjectCannedAcl::values().join(", "))),
        };
        Ok(Writing {
            sse,
            kms_key: key.map(str::to_owned),
            // stores other than AWS have storage classes of their own
            storage_class: settings.storage_class.as_deref().map(StorageClass::from),
            acl,
            only_md5: AtomicBool::new(false),
        })
    }

    /// Returns the kind of checksums that the store accepts, as far as is known.
    pub(super) fn checksums(&self) -> Checksums {
        if self.only_md5.load(Ordering::Relaxed) { Checksums::Md5 } else { Checksums::Sha256 }
    }

    /// Records that the store has accepted `Content-MD5` after it had refused the headers of SHA-256.
    pub(super) fn use_md5(&self) {
        if !self.only_md5.swap(true, Ordering::Relaxed) {
            tracing::info!("the store refuses x-amz-checksum-sha256: Content-MD5 goes with what is written");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn writing(sse: Option<&str>, key: Option<&str>, acl: Option<&str>) -> Result<Writing, String> {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let settings = S3Settings { sse: text(sse), sse_kms_key: text(key), acl: text(acl), ..S3Settings::default() };
        Writing::new(&settings).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_are_checked_before_anything_is_sent() {
        let none = writing(None, None, None).unwrap();
        assert_eq!((none.sse, none.kms_key, none.acl), (None, None, None));
        assert_eq!(writing(None, Some("alias/k"), None).unwrap().sse, Some(ServerSideEncryption::AwsKms));
        assert_eq!(writing(Some("AES256"), None, None).unwrap().sse, Some(ServerSideEncryption::Aes256));
        for (sse, key, acl, part) in [
            (Some("aes"), None, None, "store.s3.sse: write"),
            (Some("AES256"), Some("k"), None, "store.s3.sse_kms_key"),
            (None, Some("a\nb"), None, "store.s3.sse_kms_key"),
            (None, None, Some("everybody"), "bucket-owner-full-control"),
        ] {
            let error = writing(sse, key, acl).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
