//! Section `store` of the settings.

use std::path::PathBuf;

edp_protocol::settings! {
    /// The settings of section `store`.
    pub struct StoreSettings {
        /// Directory for copies of grids, factors and metadata that are on S3, and for granules before their upload. It
        /// needs room for these copies, and for one granule for each slot.
        pub scratch: Option<PathBuf> = None, default "the system's directory for temporary files";
    }
    sections {
        /// The settings of section `store.s3`.
        pub s3: S3Settings;
    }
}

edp_protocol::settings! {
    /// The settings of section `store.s3`. Credentials and region come from the usual places of AWS programs.
    pub struct S3Settings {
        /// Address of another service than AWS's, with its port.
        #[serde(deserialize_with = "endpoint")]
        pub endpoint: Option<String> = None,
            default "`AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, `endpoint_url` of a profile, or AWS",
            limits "`https://host:port` or `http://host:port`, without a user";
        /// Region of the service.
        pub region: Option<String> = None, default "as the usual places of AWS programs have it";
        /// Profile of the AWS configuration files. It must exist.
        pub profile: Option<String> = None, default "`AWS_PROFILE`, or `default`";
        /// File of credentials in the form of AWS programs, which is used instead of all the usual places.
        pub credentials: Option<PathBuf> = None, default "the usual places of AWS programs";
        /// The bucket is part of the path of a request instead of the host name.
        pub path_style: Option<bool> = None, default "`true` with an endpoint, else `false`";
        /// Objects are read without credentials, from buckets that are open to all.
        pub anonymous: bool = false;
        /// The user of a bucket pays for the requests, if the bucket requires that.
        pub requester_pays: bool = false;
        /// Time that one call may take, without the time for its bytes.
        pub timeout: u32 = 30, unit "s", range 1..=u32::MAX;
        /// Largest number of times that a call is made.
        pub attempts: u32 = 5, range 1..=u32::MAX;
        /// As `--unconditional`: granules may be written to a store that ignores conditions. Two workers may then write
        /// the same granule.
        pub unconditional: bool = false;
        /// Size from which a granule is uploaded in parts.
        pub multipart: u32 = 256, unit "MiB";
        /// Encryption of written objects by the store.
        pub sse: Option<String> = None, default "as the bucket does it", limits "`AES256`, `aws:kms` or `aws:kms:dsse`";
        /// Key of KMS for that encryption: its id, alias or ARN.
        pub sse_kms_key: Option<String> = None, default "the key of the bucket, or AWS's own";
        /// Storage class of written objects, such as `STANDARD_IA`.
        pub storage_class: Option<String> = None, default "as the bucket does it";
        /// Canned access control list of written objects.
        pub acl: Option<String> = None, limits "a name that S3 knows, such as `bucket-owner-full-control`";
    }
}

impl S3Settings {
    /// Applies the option of the command line, which adds to the setting.
    pub fn allow_unconditional(&mut self, option: bool) {
        self.unconditional |= option;
    }
}

/// Parses an address that contains no user: it is shown in messages, where a password must not appear.
fn endpoint<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    let endpoint = <Option<String> as serde::Deserialize>::deserialize(value)?;
    let good = |text: &String| (text.starts_with("https://") || text.starts_with("http://")) && !text.contains('@');
    match endpoint {
        Some(text) if !good(&text) => {
            Err(serde::de::Error::custom("endpoint: write https://host:port, without user and password"))
        }
        endpoint => Ok(endpoint),
    }
}
