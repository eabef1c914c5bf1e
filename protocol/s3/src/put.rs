//! Putting granules exactly once, even if several workers put the same one and replies are lost.

use super::call::Call;
use super::error::CallFailure;
use super::link::{CallTries, SharedClient};
use super::writing::Checksums;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use edp_files::commit::Committed;
use edp_store::S3Error;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use md5::Md5;
use sha2::Sha256;
use sha2::digest::DynDigest;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Smallest size of a part in bytes. An upload may have at most 10,000 parts.
const PART: u64 = 16 << 20;

/// Number of parts of one upload that are sent at once.
const AT_ONCE: usize = 4;

/// Key in an object's metadata for the id of its recipe.
pub(super) const RECIPE_ID: &str = "recipe-id";

const TYPE: &str = "application/x-netcdf";

/// A file that is to be put.
pub(super) struct Upload<'a> {
    file: &'a Path,
    bucket: &'a str,
    key: &'a str,
    recipe_id: &'a str,
    /// True if the object must not exist yet.
    conditional: bool,
    size: u64,
    kind: Checksums,
    /// Checksum (in base64) of the file, or of each of its parts.
    checksums: Vec<String>,
    /// Size of each part in bytes; `None` if it is put as a whole.
    part: Option<u64>,
}

impl<'a> Upload<'a> {
    /// Reads the file once for its checksums. They are sent before the bytes, so that the store can refuse bytes that
    /// were damaged on the way, and so that the connection does not wait for any computation.
    pub(super) fn new(
        file: &'a Path,
        [bucket, key]: [&'a str; 2],
        recipe_id: &'a str,
        multipart: u32,
        kind: Checksums,
    ) -> Result<Upload<'a>, S3Error> {
        let fail = |source| S3Error::Io { path: file.into(), source };
        let mut content = File::open(file).map_err(fail)?;
        let size = content.metadata().map_err(fail)?.len();
        let part = (size >= u64::from(multipart) << 20).then(|| PART.max(size.div_ceil(10_000)));
        let mut checksums = Vec::new();
        let mut hash: Box<dyn DynDigest> = match kind {
            Checksums::Sha256 => Box::new(Sha256::default()),
            Checksums::Md5 => Box::new(Md5::default()),
        };
        let mut left = size;
        let mut buffer = vec![0; 1 << 18];
        while left > 0 || checksums.is_empty() {
            let mut of_part = part.unwrap_or(size).min(left);
            left -= of_part;
            while of_part > 0 {
                let most = buffer.len().min(usize::try_from(of_part).unwrap_or(usize::MAX));
                match content.read(&mut buffer[..most]) {
                    Ok(0) => return Err(fail(io::ErrorKind::UnexpectedEof.into())),
                    Ok(n) => {
                        hash.update(&buffer[..n]);
                        of_part -= n as u64;
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(fail(e)),
                }
            }
            checksums.push(BASE64_STANDARD.encode(hash.finalize_reset()));
        }
        Ok(Upload { file, bucket, key, recipe_id, conditional: false, size, kind, checksums, part })
    }

    /// Returns a checksum as the header of SHA-256, or as that of MD5.
    fn headers(&self, checksum: &str) -> (Option<String>, Option<String>) {
        match self.kind {
            Checksums::Sha256 => (Some(checksum.to_owned()), None),
            Checksums::Md5 => (None, Some(checksum.to_owned())),
        }
    }

    fn call(&self, action: &'static str, bytes: u64) -> Call<'a> {
        Call { action, permission: "s3:PutObject", bucket: self.bucket, key: self.key, bytes }
    }

    /// Returns a range of the file as a body that is read while it is sent.
    async fn body(&self, offset: u64, length: u64) -> Result<ByteStream, CallFailure> {
        let body = ByteStream::read_from().path(self.file).offset(offset).length(Length::Exact(length)).build().await;
        body.map_err(|error| {
            let source = io::Error::other(error);
            CallFailure::Final(S3Error::Io { path: PathBuf::from(self.file), source })
        })
    }
}

impl SharedClient {
    /// Puts a file if there is no such object, or in any case if `replace` is true. `conditions` tells whether the
    /// condition can be sent to the store, or has to be checked first.
    pub(super) async fn put(
        &self,
        mut upload: Upload<'_>,
        replace: bool,
        conditions: bool,
    ) -> Result<Committed, S3Error> {
        upload.conditional = conditions && !replace;
        if !conditions && !replace && self.head(upload.bucket, upload.key).await?.is_some() {
            return Ok(Committed::AlreadyThere);
        }
        let call = upload.call("upload it", upload.size);
        let mut tries = CallTries::new();
        loop {
            let put = match upload.part {
                None => self.put_whole(&upload).await,
                Some(part) => self.put_parts(&upload, part).await,
            };
            match put {
                Ok(()) => return Ok(Committed::New),
                Err(error) if upload.conditional && error.status() == Some(412) => return Ok(Committed::AlreadyThere),
                // another client writes the same key at this moment: the next try shows which one was first
                Err(S3Error::Failed { status: Some(409), what, .. }) => {
                    self.again(&call, &mut tries, CallFailure::conflict(what)).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes the request for a whole object, without its content and the properties of that.
    pub(super) fn put_object(
        &self,
        client: &Client,
        bucket: &str,
        key: &str,
        conditional: bool,
    ) -> PutObjectFluentBuilder {
        client
            .put_object()
            .bucket(bucket)
            .key(key)
            .set_if_none_match(conditional.then(|| "*".into()))
            .set_server_side_encryption(self.writing.sse.clone())
            .set_ssekms_key_id(self.writing.kms_key.clone())
            .set_storage_class(self.writing.storage_class.clone())
            .set_acl(self.writing.acl.clone())
            .set_request_payer(self.payer())
    }

    async fn put_whole(&self, upload: &Upload<'_>) -> Result<(), S3Error> {
        self.call(upload.call("upload it", upload.size), async |client| {
            let (sha256, md5) = upload.headers(&upload.checksums[0]);
            let request = self
                .put_object(&client, upload.bucket, upload.key, upload.conditional)
                .set_checksum_sha256(sha256)
                .set_content_md5(md5)
                .content_type(TYPE)
                .metadata(RECIPE_ID, upload.recipe_id)
                .body(upload.body(0, upload.size).await?);
            request.send().await?;
            Ok(())
        })
        .await
    }

    async fn put_parts(&self, upload: &Upload<'_>, part: u64) -> Result<(), S3Error> {
        let begun = self.call(upload.call("begin its upload", 0), async |client| {
            let request = client
                .create_multipart_upload()
                .bucket(upload.bucket)
                .key(upload.key)
                .set_checksum_algorithm((upload.kind == Checksums::Sha256).then_some(ChecksumAlgorithm::Sha256))
                .set_server_side_encryption(self.writing.sse.clone())
                .set_ssekms_key_id(self.writing.kms_key.clone())
                .set_storage_class(self.writing.storage_class.clone())
                .set_acl(self.writing.acl.clone())
                .content_type(TYPE)
                .metadata(RECIPE_ID, upload.recipe_id)
                .set_request_payer(self.payer());
            Ok(request.send().await?)
        });
        let id = begun.await?.upload_id.unwrap_or_default();
        let result = self.send_and_complete(upload, part, &id).await;
        if result.is_err() {
            // best effort: an upload that remains is aborted by the coordinator, or by a rule of the bucket
            if let Err(error) = self.abort(upload.bucket, upload.key, &id).await {
                tracing::warn!("an upload of s3://{}/{} stays: {error}", upload.bucket, upload.key);
            }
        }
        result
    }

    async fn send_and_complete(&self, upload: &Upload<'_>, part: u64, id: &str) -> Result<(), S3Error> {
        let parts = stream::iter(upload.checksums.iter().zip(1_i32..))
            .map(|(checksum, number)| async move {
                let offset = (number as u64 - 1) * part;
                let length = part.min(upload.size - offset);
                let (sha256, md5) = upload.headers(checksum);
                let sent = self.call(upload.call("upload a part of it", length), async |client| {
                    let request = client
                        .upload_part()
                        .bucket(upload.bucket)
                        .key(upload.key)
                        .upload_id(id)
                        .part_number(number)
                        .set_checksum_sha256(sha256.clone())
                        .set_content_md5(md5.clone())
                        .set_request_payer(self.payer())
                        .body(upload.body(offset, length).await?);
                    Ok(request.send().await?)
                });
                let etag = sent.await?.e_tag;
                Ok(CompletedPart::builder().part_number(number).set_checksum_sha256(sha256).set_e_tag(etag).build())
            })
            .buffered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        // the store needs some time to put the parts together
        let completed = self.call(upload.call("complete its upload", upload.size / 16), async |client| {
            let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.clone())).build();
            let request = client
                .complete_multipart_upload()
                .bucket(upload.bucket)
                .key(upload.key)
                .upload_id(id)
                .set_if_none_match(upload.conditional.then(|| "*".into()))
                .set_request_payer(self.payer())
                .multipart_upload(parts);
            request.send().await?;
            Ok(())
        });
        match completed.await {
            // The reply to a successful completion was lost, or the upload was aborted.
            Err(error) if error.status() == Some(404) => match self.head(upload.bucket, upload.key).await? {
                Some(head) if head.size == upload.size && head.recipe_id.as_deref() == Some(upload.recipe_id) => Ok(()),
                _ => Err(error),
            },
            completed => completed,
        }
    }

    /// Aborts a multipart upload. It is not an error if it does not exist any more.
    pub(super) async fn abort(&self, bucket: &str, key: &str, id: &str) -> Result<(), S3Error> {
        let call =
            Call { action: "abort an upload of it", permission: "s3:AbortMultipartUpload", bucket, key, bytes: 0 };
        let aborted = self.call(call, async |client| {
            let request = client.abort_multipart_upload().bucket(bucket).key(key).upload_id(id);
            request.set_request_payer(self.payer()).send().await?;
            Ok(())
        });
        match aborted.await {
            Err(error) if error.is_missing() || error.status() == Some(404) => Ok(()),
            aborted => aborted,
        }
    }
}
