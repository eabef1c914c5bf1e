//! Section `store` of the settings.

use serde::Deserialize;
use std::path::PathBuf;

/// Section `store`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// Where copies of grids, factors and metadata on S3 lie, and granules on their way there (the system's directory
    /// for temporary files).
    pub scratch: Option<PathBuf>,
    /// Section `store.s3`.
    pub s3: S3Settings,
}

/// Section `store.s3`. Credentials and region come from the usual places of AWS programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Settings {
    /// Another service than that of AWS: `https://host:port`.
    #[serde(deserialize_with = "endpoint")]
    pub endpoint: Option<String>,
    /// Its region, if the usual places do not say it.
    pub region: Option<String>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
    /// A file of credentials in the form of AWS programs, instead of all the usual places.
    pub credentials: Option<PathBuf>,
    /// The bucket in the path instead of the host name (true with an endpoint).
    pub path_style: Option<bool>,
    /// Reads without credentials, from buckets open to all.
    pub anonymous: Option<bool>,
    /// The requester pays, for buckets that are set up so.
    pub requester_pays: Option<bool>,
    /// Seconds that one call may take, without the time for its bytes (30).
    pub timeout: Option<u32>,
    /// How often a call is made at most (5).
    pub attempts: Option<u32>,
    /// Lets a store be written to that ignores conditions: two workers may then write the same granule.
    pub unconditional: Option<bool>,
    /// MiB from which on a granule is uploaded in parts (256).
    pub multipart: Option<u32>,
    /// Encryption by the store of what is written: `AES256`, `aws:kms` or `aws:kms:dsse` (what the bucket does itself).
    pub sse: Option<String>,
    /// The key of KMS that it is encrypted with: id, alias or ARN (that of the bucket, or of AWS).
    pub sse_kms_key: Option<String>,
    /// Storage class of what is written, such as `STANDARD_IA` (that of the bucket).
    pub storage_class: Option<String>,
    /// Canned access list of what is written, such as `bucket-owner-full-control` (none).
    pub acl: Option<String>,
}

impl S3Settings {
    /// Takes an option that goes beyond the setting in.
    pub fn allow_unconditional(&mut self, option: bool) {
        self.unconditional = Some(option || self.unconditional.unwrap_or(false));
    }
}

/// An address without a user in it: it is shown in messages, where a password must not be.
fn endpoint<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    let endpoint = Option::<String>::deserialize(value)?;
    let good = |text: &String| (text.starts_with("https://") || text.starts_with("http://")) && !text.contains('@');
    match endpoint {
        Some(text) if !good(&text) => {
            Err(serde::de::Error::custom("endpoint: write https://host:port, without user and password"))
        }
        endpoint => Ok(endpoint),
    }
}
