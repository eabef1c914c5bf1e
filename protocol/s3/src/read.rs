//! Reading of objects, in parts of one version.

use super::bare;
use super::call::Call;
use super::error::CallFailure;
use super::link::{CallTries, SharedClient};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use edp_protocol::ObjectAddress;
use edp_store::S3Error;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

/// Size of a part in bytes.
pub(super) const PART: usize = 8 << 20;

/// Number of parts of one object that are read at once.
const AT_ONCE: usize = 4;

/// An object of which the beginning was read.
struct ObjectStart {
    /// As long as the object, with its beginning filled.
    buffer: Vec<u8>,
    filled: usize,
    etag: String,
}

impl SharedClient {
    /// Reads a whole object into memory. With an entity tag, only that version is accepted.
    pub(super) async fn read(
        &self,
        bucket: &str,
        key: &str,
        etag: Option<&str>,
        limit: u64,
    ) -> Result<Vec<u8>, S3Error> {
        let call = get(bucket, key, PART as u64);
        let first = self.call(call, |client| {
            let request = client
                .get_object()
                .bucket(bucket)
                .key(key)
                .range(format!("bytes=0-{}", PART - 1))
                .set_if_match(etag.map(quoted))
                .set_request_payer(self.payer());
            async move {
                let mut answer = self.begun(request.send()).await?;
                let total = total(&answer).ok_or_else(|| CallFailure::broken("an answer without the object's size"))?;
                if total > limit {
                    return Err(CallFailure::Final(S3Error::TooLarge { at: ObjectAddress::new(bucket, key), limit }));
                }
                let mut first = ObjectStart {
                    buffer: reserve(total)
                        .ok_or(CallFailure::Final(S3Error::TooLarge { at: ObjectAddress::new(bucket, key), limit }))?,
                    filled: 0,
                    etag: bare(answer.e_tag.as_deref().unwrap_or_default()).into(),
                };
                // missing bytes are requested again below
                let _ = fill(&mut answer.body, &mut first.buffer, &mut first.filled).await;
                Ok(first)
            }
        });
        let mut first = match first.await {
            Err(error) if error.status() == Some(412) => return Err(self.changed(bucket, key, etag).await),
            // an empty object has no first byte
            Err(error) if error.status() == Some(416) => {
                return match self.head(bucket, key).await? {
                    Some(head)
                        if head.size == 0 && etag.is_none_or(|etag| head.etag.as_deref() == Some(bare(etag))) =>
                    {
                        Ok(Vec::new())
                    }
                    Some(head) if head.size == 0 => Err(self.changed(bucket, key, etag).await),
                    _ => Err(error),
                };
            }
            Ok(first) => first,
            Err(error) => return Err(self.or_missing(error, bucket, key).await),
        };
        let etag = &first.etag;
        let rest = &mut first.buffer[first.filled..];
        let parts = rest.chunks_mut(PART).zip((first.filled as u64..).step_by(PART));
        stream::iter(parts)
            .map(|(part, offset)| self.read_part(bucket, key, etag, offset, part))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(first.buffer)
    }

    /// Fills a buffer from an offset of one version. Bytes that were read before a connection failed are kept.
    pub(super) async fn read_part(
        &self,
        bucket: &str,
        key: &str,
        etag: &str,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), S3Error> {
        let call = get(bucket, key, buffer.len() as u64);
        let (mut tries, mut filled) = (CallTries::new(), 0);
        while filled < buffer.len() {
            let range = format!("bytes={}-{}", offset + filled as u64, offset + buffer.len() as u64 - 1);
            let (rest, more) = (&mut buffer[filled..], &mut 0);
            let tried = self.once(&call, &mut tries, |client| {
                let request = client
                    .get_object()
                    .bucket(bucket)
                    .key(key)
                    .range(range)
                    .set_if_match((!etag.is_empty()).then(|| quoted(etag)))
                    .set_request_payer(self.payer());
                let more = &mut *more;
                async move {
                    let mut answer = self.begun(request.send()).await?;
                    if answer.content_range.is_none() {
                        let what = "the store does not give parts of objects, or the object has shrunk";
                        return Err(CallFailure::broken(what));
                    }
                    fill(&mut answer.body, rest, more).await
                }
            });
            let tried = tried.await;
            filled += *more;
            if let Err(failure) = tried {
                match self.again(&call, &mut tries, failure).await {
                    Err(error) if error.status() == Some(412) => {
                        return Err(self.changed(bucket, key, Some(etag)).await);
                    }
                    result => result?,
                }
            }
        }
        Ok(())
    }

    /// Returns the error for a version that no longer exists. It names the present one if that can be found out.
    async fn changed(&self, bucket: &str, key: &str, planned: Option<&str>) -> S3Error {
        match self.head(bucket, key).await {
            Ok(Some(head)) => S3Error::Changed {
                at: ObjectAddress::new(bucket, key),
                found: head.etag.unwrap_or_else(|| "unknown".into()),
                planned: bare(planned.unwrap_or("unknown")).into(),
            },
            Ok(None) => S3Error::Missing { at: ObjectAddress::new(bucket, key) },
            Err(error) => error,
        }
    }
}

fn get<'a>(bucket: &'a str, key: &'a str, bytes: u64) -> Call<'a> {
    Call { action: "read it", permission: "s3:GetObject", bucket, key, bytes }
}

/// Returns the size of the whole object, from an answer with a part of it.
fn total(answer: &GetObjectOutput) -> Option<u64> {
    match &answer.content_range {
        Some(range) => range.rsplit_once('/')?.1.parse().ok(),
        None => u64::try_from(answer.content_length?).ok(),
    }
}

/// Allocates a number of zero bytes; `None` if there is not enough memory.
fn reserve(length: u64) -> Option<Vec<u8>> {
    let length = usize::try_from(length).ok()?;
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(length).ok()?;
    buffer.resize(length, 0);
    Some(buffer)
}

/// Fills a buffer from a body, and updates the number of bytes after each piece.
async fn fill(body: &mut ByteStream, buffer: &mut [u8], filled: &mut usize) -> Result<(), CallFailure> {
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| CallFailure::broken(super::error::causes(&error)))?;
        let Some(space) = buffer.get_mut(*filled..*filled + piece.len()) else {
            return Err(CallFailure::broken("more bytes than were asked for"));
        };
        space.copy_from_slice(&piece);
        *filled += piece.len();
    }
    if *filled < buffer.len() { Err(CallFailure::broken("the body ended early")) } else { Ok(()) }
}

/// Returns an entity tag in quotes, as headers have it.
fn quoted(etag: &str) -> String {
    if etag.ends_with('"') { etag.into() } else { format!("\"{etag}\"") }
}
