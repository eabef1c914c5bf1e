//! A trial of whether a store respects conditions of writes.

use super::call::Call;
use super::folder;
use super::link::SharedClient;
use aws_sdk_s3::primitives::ByteStream;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use edp_store::S3Error;
use md5::{Digest as _, Md5};

/// Name of the object for the trial, below the prefix in question.
const OBJECT: &str = ".edp/conditions";

/// Content of that object, for people who find it.
const CONTENT: &[u8] = b"Coordinators find out by this object whether the store heeds conditions of writes. \
It holds no data, and may be removed.\n";

impl SharedClient {
    /// Finds out whether a store respects conditions: of two conditional puts of one object the second must be refused.
    /// The object remains, so that no permission to delete is needed, and a single put is enough the next time.
    pub(super) async fn check_conditions(&self, bucket: &str, prefix: &str) -> Result<(), S3Error> {
        let key = format!("{}{OBJECT}", folder(prefix));
        let call = Call { action: "try conditions", permission: "s3:PutObject", bucket, key: &key, bytes: 0 };
        for _ in 0..2 {
            let put = self.call(call, async |client| {
                let request = self.put_object(&client, bucket, &key, true);
                let request =
                    request.content_type("text/plain").content_md5(BASE64_STANDARD.encode(Md5::digest(CONTENT)));
                request.body(ByteStream::from_static(CONTENT)).send().await?;
                Ok(())
            });
            match put.await {
                Ok(()) => {}
                // 412, even if the reply to our own put was lost; 409 if others write at the same time
                Err(error) if matches!(error.status(), Some(409 | 412)) => return Ok(()),
                Err(error) if super::error::refuses_conditions(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Err(S3Error::IgnoresConditions { bucket: bucket.into() })
    }
}
