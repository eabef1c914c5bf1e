//! The objects of the S3 server, in memory: the guarantees of S3 about them, and nothing else.
//!
//! Conditions (`If-None-Match: *`, `If-Match`) are checked under the same lock as the write that they guard, and an
//! object appears completely, with its metadata. Listings are in the order of keys, in pages, with common prefixes and
//! entity tags. Checksums in requests are verified. Versions, policies and lifecycles do not exist.

use futures_util::TryStreamExt as _;
use hyper::body::Bytes;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5, Sha256};
use s3s::dto::*;
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Smallest size in bytes of a part of a multipart upload, except the last part.
const MIN_PART: usize = 5 << 20;

/// An object in a bucket.
#[derive(Debug, Clone)]
pub struct TestObject {
    /// Content of the object.
    pub bytes: Bytes,
    /// Entity tag of the object, without quotes.
    pub etag: String,
    /// The user metadata given by the writer.
    pub metadata: HashMap<String, String>,
    /// Content type of the object.
    pub content_type: Option<String>,
    /// The encryption, its key, the storage class and the access control list, as requested by the writer.
    pub placing: [Option<String>; 4],
    /// Time at which the object was written.
    pub modified: SystemTime,
    /// SHA-256 given by the writer, in base64; for a multipart upload that of the digests of its parts.
    pub checksum: Option<String>,
}

/// The target of a multipart upload, and its parts so far.
#[derive(Debug)]
pub(super) struct TestUpload {
    bucket: String,
    key: String,
    metadata: HashMap<String, String>,
    content_type: Option<String>,
    placing: [Option<String>; 4],
    parts: BTreeMap<i32, (Bytes, String, Option<String>)>,
}

#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) buckets: BTreeMap<String, BTreeMap<String, TestObject>>,
    pub(super) uploads: BTreeMap<String, TestUpload>,
    pub(super) begun: usize,
    /// True if writes happen whatever their conditions are.
    pub(super) ignore_conditions: bool,
    /// Largest number of entries in a page of a listing, whatever the request asks for.
    pub(super) page: usize,
}

impl Objects {
    fn bucket(&mut self, name: &str) -> S3Result<&mut BTreeMap<String, TestObject>> {
        self.buckets.get_mut(name).ok_or_else(|| s3_error!(NoSuchBucket))
    }

    fn object(&mut self, bucket: &str, key: &str) -> S3Result<&TestObject> {
        self.bucket(bucket)?.get(key).ok_or_else(|| s3_error!(NoSuchKey))
    }

    /// Stores an object if the condition allows it.
    fn write(
        &mut self,
        bucket: &str,
        key: &str,
        condition: Option<&ETagCondition>,
        object: TestObject,
    ) -> S3Result<()> {
        let obeyed = !self.ignore_conditions && condition.is_some_and(ETagCondition::is_any);
        let bucket = self.bucket(bucket)?;
        if obeyed && bucket.contains_key(key) {
            return Err(s3_error!(PreconditionFailed));
        }
        bucket.insert(key.into(), object);
        Ok(())
    }

    fn upload(&mut self, bucket: &str, key: &str, id: &str) -> S3Result<&mut TestUpload> {
        let upload = self.uploads.get_mut(id).filter(|upload| upload.bucket == bucket && upload.key == key);
        upload.ok_or_else(|| s3_error!(NoSuchUpload))
    }

    /// Returns the keys of the uploads that were begun and neither completed nor aborted.
    pub(super) fn pending(&self) -> Vec<String> {
        self.uploads.values().map(|upload| upload.key.clone()).collect()
    }
}

/// The S3 service, shared by all connections.
#[derive(Debug, Clone)]
pub(super) struct TestBuckets(pub(super) Arc<Mutex<Objects>>);

impl TestBuckets {
    pub(super) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes an object with this content, written now.
pub(super) fn object(bytes: Bytes) -> TestObject {
    let etag = hex(Md5::checksum(&bytes).as_ref());
    TestObject {
        bytes,
        etag,
        metadata: HashMap::new(),
        content_type: None,
        placing: Default::default(),
        modified: SystemTime::now(),
        checksum: None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a body to its end, and checks its announced length and its checksum if one was given.
async fn receive(
    body: Option<StreamingBlob>,
    length: Option<i64>,
    sha256: Option<&str>,
    md5: Option<&str>,
) -> S3Result<Bytes> {
    let body = body.ok_or_else(|| s3_error!(IncompleteBody))?;
    let chunks: Vec<Bytes> = body.try_collect().await.map_err(|_| s3_error!(IncompleteBody))?;
    let bytes = Bytes::from(chunks.concat());
    if length.is_some_and(|length| i64::try_from(bytes.len()) != Ok(length)) {
        return Err(s3_error!(IncompleteBody));
    }
    if sha256.is_some_and(|sha256| self::sha256(&bytes) != sha256) {
        return Err(s3_error!(BadDigest));
    }
    if md5.is_some_and(|md5| base64(Md5::checksum(&bytes).as_ref()) != md5) {
        return Err(s3_error!(BadDigest));
    }
    Ok(bytes)
}

/// Encodes bytes in base64 (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let digits =
        bits.chunks(6).map(|six| (0..6).fold(0, |n, at| n << 1 | usize::from(six.get(at).is_some_and(|b| *b == 1))));
    let text: String = digits.map(|digit| char::from(DIGITS[digit])).collect();
    let padded = text.len().next_multiple_of(4);
    format!("{text:=<padded$}")
}

/// Returns the SHA-256 of bytes in base64.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let mut hasher = ChecksumHasher { sha256: Some(Default::default()), ..Default::default() };
    hasher.update(bytes);
    hasher.finalize().checksum_sha256.unwrap_or_default()
}

fn length(bytes: &[u8]) -> Option<i64> {
    i64::try_from(bytes.len()).ok()
}

#[async_trait::async_trait]
impl S3 for TestBuckets {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let (sha256, md5) = (input.checksum_sha256.as_deref(), input.content_md5.as_deref());
        let bytes = receive(input.body, input.content_length, sha256, md5).await?;
        let (metadata, content_type) = (input.metadata.unwrap_or_default(), input.content_type);
        let placing = [
            input.server_side_encryption.map(|sse| sse.as_str().to_owned()),
            input.ssekms_key_id,
            input.storage_class.map(|class| class.as_str().to_owned()),
            input.acl.map(|acl| acl.as_str().to_owned()),
        ];
        let object = TestObject { metadata, content_type, placing, checksum: input.checksum_sha256, ..object(bytes) };
        let etag = object.etag.clone();
        self.objects().write(&input.bucket, &input.key, input.if_none_match.as_ref(), object)?;
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(ETag::Strong(etag)), ..Default::default() }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let object = self.objects().object(&input.bucket, &input.key)?.clone();
        let wanted = input.if_match.as_ref().and_then(ETagCondition::as_etag);
        if wanted.is_some_and(|etag| etag.value() != object.etag) {
            return Err(s3_error!(PreconditionFailed));
        }
        let total = object.bytes.len();
        let (bytes, content_range) = match input.range {
            None => (object.bytes, None),
            Some(range) => {
                let range = range.check(total as u64).map_err(|_| s3_error!(InvalidRange))?;
                let (start, end) = (range.start as usize, range.end as usize);
                (object.bytes.slice(start..end), Some(format!("bytes {start}-{}/{total}", end - 1)))
            }
        };
        let content_length = length(&bytes);
        // The body is sent in pieces, as it would come from a network.
        let pieces: Vec<_> = (0..bytes.len())
            .step_by(1 << 16)
            .map(|start| Ok::<_, std::io::Error>(bytes.slice(start..bytes.len().min(start + (1 << 16)))))
            .collect();
        Ok(S3Response::new(GetObjectOutput {
            body: Some(StreamingBlob::wrap(futures_util::stream::iter(pieces))),
            content_length,
            content_range,
            content_type: object.content_type,
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(object.modified.into()),
            metadata: Some(object.metadata),
            ..Default::default()
        }))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let object = self.objects().object(&request.input.bucket, &request.input.key)?.clone();
        Ok(S3Response::new(HeadObjectOutput {
            checksum_sha256: object.checksum.filter(|_| request.input.checksum_mode.is_some()),
            content_length: length(&object.bytes),
            content_type: object.content_type,
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(object.modified.into()),
            metadata: Some(object.metadata),
            ..Default::default()
        }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.objects().bucket(&request.input.bucket)?.remove(&request.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let mut objects = self.objects();
        let most = usize::try_from(input.max_keys.unwrap_or(1000)).unwrap_or(0).min(objects.page);
        let bucket = objects.bucket(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let delimiter = input.delimiter.clone().filter(|delimiter| !delimiter.is_empty());
        // A token is the last key or common prefix of the previous page, with `k` or `p` in front of it.
        let mut after = input.continuation_token.clone();
        let (mut contents, mut common) = (Vec::new(), Vec::new());
        let truncated = loop {
            let start = match after.as_deref().map(|last| last.split_at(1)) {
                // The entries after a common prefix come after all keys that begin with it.
                Some(("p", last)) => Bound::Excluded(format!("{last}\u{10ffff}")),
                Some((_, last)) => Bound::Excluded(last.into()),
                None => Bound::Included(prefix.clone()),
            };
            let next = bucket.range((start, Bound::Unbounded)).next();
            let Some((key, object)) = next.filter(|(key, _)| key.starts_with(&prefix)) else { break false };
            if contents.len() + common.len() == most {
                break true;
            }
            let rest = &key[prefix.len()..];
            if let Some((first, d)) = delimiter.as_ref().and_then(|d| Some((rest.split_once(d.as_str())?.0, d))) {
                let folder = format!("{prefix}{first}{d}");
                after = Some(format!("p{folder}"));
                common.push(CommonPrefix { prefix: Some(folder) });
            } else {
                after = Some(format!("k{key}"));
                contents.push(s3s::dto::Object {
                    key: Some(key.clone()),
                    size: length(&object.bytes),
                    e_tag: Some(ETag::Strong(object.etag.clone())),
                    last_modified: Some(object.modified.into()),
                    ..Default::default()
                });
            }
        };
        Ok(S3Response::new(ListObjectsV2Output {
            key_count: i32::try_from(contents.len() + common.len()).ok(),
            is_truncated: Some(truncated),
            next_continuation_token: after.filter(|_| truncated),
            contents: Some(contents),
            common_prefixes: Some(common),
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter: input.delimiter,
            max_keys: input.max_keys,
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        let mut objects = self.objects();
        objects.bucket(&input.bucket)?;
        objects.begun += 1;
        let id = format!("upload-{}", objects.begun);
        let upload = TestUpload {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            metadata: input.metadata.unwrap_or_default(),
            content_type: input.content_type,
            placing: [
                input.server_side_encryption.map(|sse| sse.as_str().to_owned()),
                input.ssekms_key_id,
                input.storage_class.map(|class| class.as_str().to_owned()),
                input.acl.map(|acl| acl.as_str().to_owned()),
            ],
            parts: BTreeMap::new(),
        };
        objects.uploads.insert(id.clone(), upload);
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..Default::default()
        }))
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let sha256 = input.checksum_sha256;
        let bytes = receive(input.body, input.content_length, sha256.as_deref(), input.content_md5.as_deref()).await?;
        let etag = hex(Md5::checksum(&bytes).as_ref());
        let mut objects = self.objects();
        let upload = objects.upload(&input.bucket, &input.key, &input.upload_id)?;
        upload.parts.insert(input.part_number, (bytes, etag.clone(), sha256.clone()));
        Ok(S3Response::new(UploadPartOutput {
            e_tag: Some(ETag::Strong(etag)),
            checksum_sha256: sha256,
            ..Default::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let named = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let mut objects = self.objects();
        let upload = objects.upload(&input.bucket, &input.key, &input.upload_id)?;
        let (mut bytes, mut digests, mut checksums) = (Vec::new(), Vec::new(), Vec::new());
        for (at, part) in named.iter().enumerate() {
            let known = part.part_number.and_then(|number| upload.parts.get(&number));
            let matches = |etag: &String| part.e_tag.as_ref().is_some_and(|named| named.value() == etag);
            let known = known.filter(|(_, etag, _)| matches(etag));
            let (content, _, checksum) = known.ok_or_else(|| s3_error!(InvalidPart))?;
            if content.len() < MIN_PART && at + 1 < named.len() {
                return Err(s3_error!(EntityTooSmall));
            }
            bytes.extend_from_slice(content);
            digests.extend_from_slice(Md5::checksum(content).as_ref());
            if checksum.is_some() {
                checksums.extend_from_slice(Sha256::checksum(content).as_ref());
            }
        }
        if named.is_empty() {
            return Err(s3_error!(InvalidPart));
        }
        let etag = format!("{}-{}", hex(Md5::checksum(&digests).as_ref()), named.len());
        let (metadata, content_type) = (upload.metadata.clone(), upload.content_type.clone());
        let checksum = (!checksums.is_empty()).then(|| format!("{}-{}", sha256(&checksums), named.len()));
        let placing = upload.placing.clone();
        let object =
            TestObject { etag: etag.clone(), metadata, content_type, placing, checksum, ..object(bytes.into()) };
        objects.write(&input.bucket, &input.key, input.if_none_match.as_ref(), object)?;
        objects.uploads.remove(&input.upload_id);
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(etag)),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        let mut objects = self.objects();
        objects.upload(&input.bucket, &input.key, &input.upload_id)?;
        objects.uploads.remove(&input.upload_id);
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let mut objects = self.objects();
        objects.bucket(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let last = (input.key_marker.unwrap_or_default(), input.upload_id_marker.unwrap_or_default());
        let mut found: Vec<_> = objects
            .uploads
            .iter()
            .filter(|(_, upload)| upload.bucket == input.bucket && upload.key.starts_with(&prefix))
            .map(|(id, upload)| (upload.key.clone(), id.clone()))
            .filter(|found| *found > last)
            .collect();
        found.sort();
        let truncated = found.len() > objects.page;
        found.truncate(objects.page);
        let (next_key_marker, next_upload_id_marker) = found.last().filter(|_| truncated).cloned().unzip();
        let uploads = found.into_iter().map(|(key, id)| MultipartUpload {
            key: Some(key),
            upload_id: Some(id),
            initiated: Some(SystemTime::now().into()),
            ..Default::default()
        });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            is_truncated: Some(truncated),
            next_key_marker,
            next_upload_id_marker,
            uploads: Some(uploads.collect()),
            ..Default::default()
        }))
    }
}

/// Returns the error for a request that the credentials do not permit.
pub(super) fn denied() -> S3Error {
    s3_error!(AccessDenied)
}
