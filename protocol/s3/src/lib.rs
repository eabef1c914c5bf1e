//! The client of S3, and of other stores with the same interface.
//!
//! Other crates reach objects through [`edp_store::Stores`] and the trait [`ObjectStore`], and do not depend on this
//! one. A program calls [`stores`], which gives them this client:
//!
//! ```
//! use edp_store::StoreSettings;
//!
//! // Nothing is connected to before a location on S3 is used.
//! let stores = edp_s3::stores(&StoreSettings::default());
//! # drop(stores);
//! ```
//!
//! Each call has a deadline. It is tried again after errors that may pass, with new credentials after the old ones have
//! expired, and in the region of the bucket if the store names another one. A granule is put under the condition that
//! there is no such object yet, so that of several workers exactly one succeeds, even if replies are lost.

mod advice;
mod call;
mod client;
mod conditions;
mod error;
mod link;
mod list;
mod mirror;
mod pace;
mod profile;
mod put;
mod read;
mod writing;

use aws_sdk_s3::types::ChecksumMode;
use call::Call;
use edp_files::commit::Committed;
use edp_protocol::ObjectAddress;
use edp_store::{Checksum, Copied, Head, Object, ObjectStore, S3Error, StoreSettings, Stores};
use link::SharedClient;
use mirror::Mirrors;
pub use profile::check_profile;
use put::{RECIPE_ID, Upload};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::runtime::{Builder, Runtime};
use writing::Checksums;

/// Makes stores with the client of S3. Nothing is connected to before it is needed.
pub fn stores(settings: &StoreSettings) -> Stores {
    Stores::new(settings, |settings| Ok(Box::new(S3::start(settings)?)))
}

/// Number of threads that serve the connections. The callers' own threads process what is read.
const THREADS: usize = 2;

/// Completes soon after a flag is set.
async fn set(flag: &AtomicBool) {
    while !flag.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A client of S3 with threads of its own. Its calls block, and must not be made from within an asynchronous task.
///
/// Each call has a deadline (`store.s3.timeout`, and one more second for each 64 KiB), and is tried up to
/// `store.s3.attempts` times while the connection fails, the store is overloaded, or the credentials have expired.
pub struct S3 {
    link: Arc<SharedClient>,
    mirrors: Mirrors,
    /// Copies that exist as long as this client, by their paths.
    pinned: Mutex<BTreeMap<PathBuf, Arc<dyn Copied>>>,
    /// True if puts are sent with their condition. Otherwise it is only checked first whether there is an object.
    conditions: bool,
    /// Size in MiB from which on granules are put in parts.
    multipart: u32,
    /// True once the store has refused requests for the checksums of objects.
    no_checksums: AtomicBool,
    /// Is `None` only while this is dropped.
    runtime: Option<Runtime>,
    handle: tokio::runtime::Handle,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("mirrors", &self.mirrors).finish_non_exhaustive()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background(); // the last owner may be a task, where waiting is not allowed
        }
    }
}

impl S3 {
    /// Makes a client by the settings, with credentials from the usual places of AWS programs. It connects to nothing
    /// but those places.
    ///
    /// # Errors
    /// Returns an error if there are no credentials or no region, if a setting cannot be used, or if the threads cannot
    /// be started.
    pub fn start(settings: &StoreSettings) -> Result<S3, S3Error> {
        let threads = Builder::new_multi_thread().worker_threads(THREADS).thread_name("edp-s3").enable_all().build();
        let runtime = threads.map_err(|source| S3Error::Io { path: "threads of S3".into(), source })?;
        let link = Arc::new(runtime.block_on(SharedClient::connect(&settings.s3))?);
        Ok(S3 {
            link,
            mirrors: Mirrors::new(settings.scratch.as_deref()),
            pinned: Mutex::default(),
            conditions: !settings.s3.unconditional,
            multipart: settings.s3.multipart,
            no_checksums: AtomicBool::new(false),
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.handle.block_on(work)
    }
}

impl ObjectStore for S3 {
    fn head(&self, bucket: &str, key: &str) -> Result<Option<Head>, S3Error> {
        self.wait(self.link.head(bucket, key))
    }

    fn head_with_checksum(&self, bucket: &str, key: &str) -> Result<Option<Head>, S3Error> {
        self.wait(self.link.look(bucket, key, Some(ChecksumMode::Enabled)))
    }

    fn head_with_any_checksum(&self, bucket: &str, key: &str) -> Result<Option<Head>, S3Error> {
        if self.no_checksums.load(Ordering::Relaxed) {
            return self.head(bucket, key);
        }
        let refused = match self.head_with_checksum(bucket, key) {
            Err(error) if matches!(error, S3Error::Denied { .. }) => error,
            Err(error) if matches!(error.status(), Some(400 | 501)) => error,
            found => return found,
        };
        // If checksums were not the reason, this is refused too.
        let found = self.head(bucket, key)?;
        if !matches!(refused, S3Error::Denied { .. }) {
            self.no_checksums.store(true, Ordering::Relaxed);
        }
        Ok(found)
    }

    fn read(&self, bucket: &str, key: &str, etag: Option<&str>, limit: u64) -> Result<Vec<u8>, S3Error> {
        self.wait(self.link.read(bucket, key, etag, limit))
    }

    fn list(&self, bucket: &str, prefix: &str, visit: &mut dyn FnMut(Object)) -> Result<(), S3Error> {
        self.wait(self.link.list(bucket, &folder(prefix), visit))
    }

    fn list_beginning(&self, bucket: &str, text: &str, visit: &mut dyn FnMut(Object)) -> Result<(), S3Error> {
        self.wait(self.link.list(bucket, text, visit))
    }

    fn mirror(&self, bucket: &str, key: &str) -> Result<PathBuf, S3Error> {
        let copied = self.mirror_unless(bucket, key, &AtomicBool::new(false))?;
        let path = copied.path().to_owned();
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), copied);
        Ok(path)
    }

    fn mirror_unless(&self, bucket: &str, key: &str, cancel: &AtomicBool) -> Result<Arc<dyn Copied>, S3Error> {
        let copy = |into: &Path, limit| {
            self.wait(async {
                tokio::select! {
                    copied = self.link.copy(bucket, key, into, limit) => copied,
                    () = set(cancel) => Err(S3Error::Cancelled { at: ObjectAddress::new(bucket, key) }),
                }
            })
        };
        Ok(self.mirrors.get(bucket, key, copy)?)
    }

    fn forget(&self, bucket: &str, key: &str, copy: &Path) {
        self.mirrors.forget(bucket, key, copy);
    }

    fn put(&self, file: &Path, bucket: &str, key: &str, recipe_id: &str, replace: bool) -> Result<Committed, S3Error> {
        let put = |checksums| {
            let upload = Upload::new(file, [bucket, key], recipe_id, self.multipart, checksums)?;
            self.wait(self.link.put(upload, replace, self.conditions))
        };
        let checksums = self.link.writing.checksums();
        let mut result = put(checksums);
        if checksums == Checksums::Sha256 && result.as_ref().is_err_and(error::refuses_checksums) {
            result = put(Checksums::Md5);
            if result.is_ok() {
                self.link.writing.use_md5();
            }
        }
        match result {
            Err(error) if self.conditions && !replace && error::refuses_conditions(&error) => {
                Err(S3Error::IgnoresConditions { bucket: bucket.into() })
            }
            result => result,
        }
    }

    fn check_conditions(&self, bucket: &str, prefix: &str) -> Result<(), S3Error> {
        if self.conditions { self.wait(self.link.check_conditions(bucket, prefix)) } else { Ok(()) }
    }

    fn abort_uploads(&self, bucket: &str, prefix: &str, keys: &dyn Fn(&str) -> bool) -> Result<usize, S3Error> {
        self.wait(self.link.abort_uploads(bucket, prefix, keys))
    }
}

impl SharedClient {
    async fn head(&self, bucket: &str, key: &str) -> Result<Option<Head>, S3Error> {
        self.look(bucket, key, None).await
    }

    async fn look(&self, bucket: &str, key: &str, checksum: Option<ChecksumMode>) -> Result<Option<Head>, S3Error> {
        let call = Call { action: "look at it", permission: "s3:GetObject", bucket, key, bytes: 0 };
        let found = self.call(call, async |client| {
            let request = client.head_object().bucket(bucket).key(key).set_request_payer(self.payer());
            let request = request.set_checksum_mode(checksum.clone());
            Ok(request.send().await?)
        });
        let found = match found.await {
            Ok(found) => found,
            Err(error) => {
                return match self.or_missing(error, bucket, key).await {
                    error if error.is_missing() => Ok(None),
                    error => Err(error),
                };
            }
        };
        let modified = found.last_modified.and_then(|time| SystemTime::try_from(time).ok());
        Ok(Some(Head {
            size: found.content_length.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            etag: found.e_tag.as_deref().map(|etag| bare(etag).to_owned()),
            modified: modified.unwrap_or(SystemTime::UNIX_EPOCH),
            recipe_id: found.metadata.and_then(|mut all| all.remove(RECIPE_ID)),
            checksum: found.checksum_sha256.as_deref().and_then(Checksum::parse),
        }))
    }

    /// Makes the error of a denied read exact. Without `s3:ListBucket`, S3 also denies objects that do not exist, and
    /// the answer to HEAD has no body with the reason; a listing tells the two apart.
    async fn or_missing(&self, error: S3Error, bucket: &str, key: &str) -> S3Error {
        let S3Error::Denied { at, action, code, permission, advice } = error else { return error };
        let call = Call { action, permission: "s3:ListBucket", bucket, key, bytes: 0 };
        let listed = self.call(call, async |client| {
            let request = client.list_objects_v2().bucket(bucket).prefix(key).max_keys(1);
            Ok(request.set_request_payer(self.payer()).send().await?)
        });
        match listed.await {
            // in the order of keys, the key itself comes before all others that begin with it
            Ok(page) if page.contents().first().is_none_or(|first| first.key() != Some(key)) => S3Error::Missing { at },
            Err(S3Error::Denied { code: of_list, advice: of_key, .. }) if advice::is_of_credentials(&of_list) => {
                S3Error::Denied { at, action, code: of_list, permission, advice: of_key }
            }
            Err(S3Error::Denied { .. }) => {
                let need = format!(
                    "{advice}; s3:ListBucket for the bucket is missing too, without which S3 denies what is not there"
                );
                S3Error::Denied { at, action, code, permission, advice: need.into() }
            }
            _ => S3Error::Denied { at, action, code, permission, advice },
        }
    }

    async fn abort_uploads(&self, bucket: &str, prefix: &str, keys: &dyn Fn(&str) -> bool) -> Result<usize, S3Error> {
        let prefix = folder(prefix);
        let permission = "s3:ListBucketMultipartUploads";
        let call = Call { action: "list the uploads below it", permission, bucket, key: &prefix, bytes: 0 };
        let (mut aborted, mut after) = (0, (None, None));
        loop {
            let page = self.call(call, async |client| {
                let request = client
                    .list_multipart_uploads()
                    .bucket(bucket)
                    .prefix(&prefix)
                    .set_key_marker(after.0.clone())
                    .set_upload_id_marker(after.1.clone())
                    .set_request_payer(self.payer());
                Ok(request.send().await?)
            });
            let page = page.await?;
            for upload in page.uploads.unwrap_or_default() {
                if let (Some(key), Some(id)) = (&upload.key, &upload.upload_id)
                    && keys(key)
                {
                    self.abort(bucket, key, id).await?;
                    aborted += 1;
                }
            }
            let next = (page.next_key_marker, page.next_upload_id_marker);
            if page.is_truncated != Some(true) || next == after || next.0.is_none() {
                return Ok(aborted);
            }
            after = next;
        }
    }
}

/// Returns the text with which all keys below a prefix begin.
fn folder(prefix: &str) -> String {
    if prefix.is_empty() { String::new() } else { format!("{}/", prefix.trim_end_matches('/')) }
}

/// Returns an entity tag without the quotes of its header.
fn bare(etag: &str) -> &str {
    etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"')).unwrap_or(etag)
}
