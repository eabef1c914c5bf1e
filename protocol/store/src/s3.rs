//! Objects on S3.

mod advice;
mod client;
mod conditions;
mod error;
mod link;
mod list;
mod mirror;
mod profile;
mod put;
mod read;
mod writing;

pub use error::{At, S3Error, Tried};

use super::{Checksum, Head};
use crate::StoreSettings;
use aws_sdk_s3::types::ChecksumMode;
use edp_files::commit::Committed;
use link::{Call, Link};
pub use mirror::Copied;
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

/// Threads that serve the connections; what is read is handled by the callers' threads.
const THREADS: usize = 2;

/// An object that was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key below the prefix that was listed, without a slash at the beginning.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Entity tag, without quotes.
    pub etag: String,
}

/// Ready soon after a flag is set.
async fn set(flag: &AtomicBool) {
    while !flag.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A client of S3, with threads of its own. Its calls block, and must not be made from within an asynchronous task.
///
/// Each call has a deadline (`store.s3.timeout`, and a second more for each 64 KiB), and is tried up to
/// `store.s3.attempts` times while what fails is the connection, the store's load, or the age of the credentials.
pub struct S3 {
    link: Arc<Link>,
    mirrors: Mirrors,
    /// Copies that stay as long as this client, by their paths.
    pinned: Mutex<BTreeMap<PathBuf, Arc<Copied>>>,
    /// Whether puts are told their condition; otherwise it is only looked before whether something is there.
    conditions: bool,
    /// MiB from which on granules are put in parts.
    multipart: Option<u32>,
    /// Whether the store is known to refuse requests for the checksums of objects.
    no_checksums: AtomicBool,
    /// Taken when this is dropped.
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
    /// A client as the settings have it, with credentials from the usual places of AWS programs. Nothing is connected
    /// to but those places.
    ///
    /// # Errors
    /// There are no credentials or no region, or no threads.
    pub fn start(settings: &StoreSettings) -> Result<S3, S3Error> {
        let threads = Builder::new_multi_thread().worker_threads(THREADS).thread_name("edp-s3").enable_all().build();
        let runtime = threads.map_err(|source| S3Error::Io { path: "threads of S3".into(), source })?;
        let link = Arc::new(runtime.block_on(Link::connect(&settings.s3))?);
        Ok(S3 {
            link,
            mirrors: Mirrors::new(settings.scratch.as_deref()),
            pinned: Mutex::default(),
            conditions: !settings.s3.unconditional.unwrap_or(false),
            multipart: settings.s3.multipart,
            no_checksums: AtomicBool::new(false),
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.handle.block_on(work)
    }

    /// What is said of an object; none if there is none (or no such bucket: S3 does not tell which here).
    ///
    /// # Errors
    /// It may not be read, or the store does not answer.
    pub fn head(&self, bucket: &str, key: &str) -> Result<Option<Head>, S3Error> {
        self.wait(self.link.head(bucket, key))
    }

    /// The same, with the checksum that the store keeps.
    ///
    /// # Errors
    /// It may not be read, or the store does not answer.
    pub fn head_with_checksum(&self, bucket: &str, key: &str) -> Result<Option<Head>, S3Error> {
        self.wait(self.link.look(bucket, key, Some(ChecksumMode::Enabled)))
    }

    /// The same, without the checksum where the store refuses to give it out, or does not know such requests.
    ///
    /// # Errors
    /// It may not be read, or the store does not answer.
    pub fn head_with_any_checksum(&self, bucket: &str, key: &str) -> Result<Option<Head>, S3Error> {
        if self.no_checksums.load(Ordering::Relaxed) {
            return self.head(bucket, key);
        }
        let refused = match self.head_with_checksum(bucket, key) {
            Err(error) if matches!(error, S3Error::Denied { .. }) => error,
            Err(error) if matches!(error.status(), Some(400 | 501)) => error,
            found => return found,
        };
        // Refused again if that was not the reason.
        let found = self.head(bucket, key)?;
        if !matches!(refused, S3Error::Denied { .. }) {
            self.no_checksums.store(true, Ordering::Relaxed);
        }
        Ok(found)
    }

    /// The whole object, in memory, read in parts of one version. With an entity tag, that version or none.
    ///
    /// # Errors
    /// It is not there, another version, larger than `limit` bytes, may not be read, or the store does not answer.
    pub fn read(&self, bucket: &str, key: &str, etag: Option<&str>, limit: u64) -> Result<Vec<u8>, S3Error> {
        self.wait(self.link.read(bucket, key, etag, limit))
    }

    /// Visits all objects below a prefix (all keys that begin with it and a slash), in the order of their keys. Keys
    /// that end in a slash are folders of the console, and left out.
    ///
    /// # Errors
    /// There is no such bucket, it may not be listed, or the store does not answer; not if there are no such objects.
    pub fn list(&self, bucket: &str, prefix: &str, visit: &mut dyn FnMut(Entry)) -> Result<(), S3Error> {
        self.wait(self.link.list(bucket, &folder(prefix), visit))
    }

    /// Visits all objects whose keys begin with a text, in the order of their keys; their paths are what follows it.
    ///
    /// # Errors
    /// As [`S3::list`].
    pub fn list_beginning(&self, bucket: &str, text: &str, visit: &mut dyn FnMut(Entry)) -> Result<(), S3Error> {
        self.wait(self.link.list(bucket, text, visit))
    }

    /// The path of a local copy of an object, or of all objects below a prefix. It is made at the first call (others
    /// who ask meanwhile wait for it), given again by later ones without a look at the store, and removed with this
    /// client. All copies of a client may have 8 GiB.
    ///
    /// # Errors
    /// Nothing is there, it may not be read, is too large, changes under way, or has keys that are no paths; the disk
    /// is full, or the store does not answer.
    pub fn mirror(&self, bucket: &str, key: &str) -> Result<PathBuf, S3Error> {
        let copied = self.mirror_unless(bucket, key, &AtomicBool::new(false))?;
        let path = copied.path().to_owned();
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), copied);
        Ok(path)
    }

    /// The same, given up once `cancel` is set. The copy may be removed when the result is dropped, if there is no room
    /// for others.
    ///
    /// # Errors
    /// Those of [`S3::mirror`], and [`S3Error::Cancelled`].
    pub fn mirror_unless(&self, bucket: &str, key: &str, cancel: &AtomicBool) -> Result<Arc<Copied>, S3Error> {
        let copy = |into: &Path, limit| {
            self.wait(async {
                tokio::select! {
                    copied = self.link.copy(bucket, key, into, limit) => copied,
                    () = set(cancel) => Err(S3Error::Cancelled { at: At::new(bucket, key) }),
                }
            })
        };
        self.mirrors.get(bucket, key, copy)
    }

    /// Lets the next call of [`S3::mirror`] make a new copy, because this one is not what was expected; it stays for
    /// those who use it. Of many who say so of the same copy, one has it made anew.
    pub fn forget(&self, bucket: &str, key: &str, copy: &Path) {
        self.mirrors.forget(bucket, key, copy);
    }

    /// Puts a local file, the granule of the recipe `recipe_id`, if there is no such object yet, or in any case if
    /// `replace`. It appears whole or not at all.
    ///
    /// [`Committed::AlreadyThere`] says that something is there, which may be this very file: if the reply to a put is
    /// lost, the next try finds what it put. Its recipe's id tells, by [`S3::head`].
    ///
    /// Whether the store heeds conditions at all is not found out here, but by [`S3::check_conditions`]. With
    /// `store.s3.unconditional` it is only looked whether something is there. SHA-256 goes with the bytes; to a store
    /// that refuses its headers, MD5 does.
    ///
    /// # Errors
    /// The file cannot be read, the store refuses conditions, it may not be written to, or does not answer.
    pub fn put(
        &self,
        file: &Path,
        bucket: &str,
        key: &str,
        recipe_id: &str,
        replace: bool,
    ) -> Result<Committed, S3Error> {
        let put = |checksums| {
            let upload = Upload::new(file, [bucket, key], recipe_id, self.multipart, checksums)?;
            self.wait(self.link.put(upload, replace, self.conditions))
        };
        let checksums = self.link.writing.checksums();
        let mut result = put(checksums);
        if checksums == Checksums::Sha256 && result.as_ref().is_err_and(S3Error::refuses_checksums) {
            result = put(Checksums::Md5);
            if result.is_ok() {
                self.link.writing.use_md5();
            }
        }
        match result {
            Err(error) if self.conditions && !replace && error.refuses_conditions() => {
                Err(S3Error::IgnoresConditions { bucket: bucket.into() })
            }
            result => result,
        }
    }

    /// Finds out whether the store heeds conditions of writes below a prefix, by an object `.edp/conditions` there. With
    /// `store.s3.unconditional` that does not matter, and nothing is done.
    ///
    /// # Errors
    /// The store ignores or refuses conditions, may not be written to, or does not answer.
    pub fn check_conditions(&self, bucket: &str, prefix: &str) -> Result<(), S3Error> {
        if self.conditions { self.wait(self.link.check_conditions(bucket, prefix)) } else { Ok(()) }
    }

    /// Aborts uploads in parts below a prefix that were begun and never ended, by whomever, of keys that are wanted
    /// gone; says how many.
    ///
    /// # Errors
    /// They may not be listed or aborted, or the store does not answer.
    pub fn abort_uploads(&self, bucket: &str, prefix: &str, keys: &dyn Fn(&str) -> bool) -> Result<usize, S3Error> {
        self.wait(self.link.abort_uploads(bucket, prefix, keys))
    }
}

impl Link {
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

    /// The error of a reading call that was denied, made exact: without s3:ListBucket, S3 denies what is not there too,
    /// and the answer to HEAD has no body that could name the reason. A listing tells.
    async fn or_missing(&self, error: S3Error, bucket: &str, key: &str) -> S3Error {
        let S3Error::Denied { at, action, code, permission, advice } = error else { return error };
        let call = Call { action, permission: "s3:ListBucket", bucket, key, bytes: 0 };
        let listed = self.call(call, async |client| {
            let request = client.list_objects_v2().bucket(bucket).prefix(key).max_keys(1);
            Ok(request.set_request_payer(self.payer()).send().await?)
        });
        match listed.await {
            // the key itself comes before all that begin with it
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

/// What the keys below a prefix begin with.
fn folder(prefix: &str) -> String {
    if prefix.is_empty() { String::new() } else { format!("{}/", prefix.trim_end_matches('/')) }
}

/// An entity tag without the quotes of its header.
fn bare(etag: &str) -> &str {
    etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"')).unwrap_or(etag)
}
