//! Section `store` of the settings.

use serde::Deserialize;
use std::path::PathBuf;

/// The settings in section `store`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// Directory for copies of grids, factors and metadata from S3, and for granules on their way there (default: the
    /// system's directory for temporary files).
    pub scratch: Option<PathBuf>,
    /// The settings in section `store.s3`.
    pub s3: S3Settings,
}

/// The settings in section `store.s3`. Credentials and region come from the usual places of AWS programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Settings {
    /// Address of a service other than AWS: `https://host:port`.
    #[serde(deserialize_with = "endpoint")]
    pub endpoint: Option<String>,
    /// Region of the service, if the usual places do not state it.
    pub region: Option<String>,
    /// Name of a profile in the AWS configuration files.
    pub profile: Option<String>,
    /// A file of credentials in the form of AWS programs, which replaces all the usual places.
    pub credentials: Option<PathBuf>,
    /// True if the bucket is a part of the path instead of the host name (default: true with an endpoint).
    pub path_style: Option<bool>,
    /// True if buckets that are open to the public are read without credentials.
    pub anonymous: Option<bool>,
    /// True if the requester pays, for buckets that are set up for this.
    pub requester_pays: Option<bool>,
    /// Time in seconds that one call may take, without the time for its bytes (default 30).
    pub timeout: Option<u32>,
    /// Largest number of tries of one call (default 5).
    pub attempts: Option<u32>,
    /// True if granules may be written to a store that ignores conditions. Two workers may then write the same granule.
    pub unconditional: Option<bool>,
    /// Size in MiB from which on a granule is uploaded in parts (default 256).
    pub multipart: Option<u32>,
    /// Encryption by the store of what is written: `AES256`, `aws:kms` or `aws:kms:dsse` (default: that of the bucket).
    pub sse: Option<String>,
    /// Key of KMS for the encryption: id, alias or ARN (default: that of the bucket, or of AWS).
    pub sse_kms_key: Option<String>,
    /// Storage class of what is written, such as `STANDARD_IA` (default: that of the bucket).
    pub storage_class: Option<String>,
    /// Canned access control list of what is written, such as `bucket-owner-full-control` (default: none).
    pub acl: Option<String>,
}

impl S3Settings {
    /// Applies the option of the command line, which adds to the setting.
    pub fn allow_unconditional(&mut self, option: bool) {
        self.unconditional = Some(option || self.unconditional.unwrap_or(false));
    }
}

/// Parses an address that contains no user: it is shown in messages, where a password must not appear.
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
