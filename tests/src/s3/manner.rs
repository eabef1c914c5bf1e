//! Manners: the ways in which other stores, and buckets with policies, differ from a plain bucket.

use super::S3Call;
use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};
use s3s::Body;

/// A way in which a store differs from a plain bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// Requests with checksum headers are refused with status 400, which names the header, or with 501, which names
    /// none.
    NoChecksumHeaders(u16),
    /// The bucket is in this region, and requests that are signed for another region are redirected to it.
    Region(&'static str),
    /// The credentials may not list. Access to objects that do not exist is denied too.
    NoList,
    /// The credentials may not delete objects.
    NoDelete,
    /// The bucket makes its users pay, and denies requests that do not agree to that.
    RequesterPays,
    /// A policy of the bucket denies writes without this header, or with another value.
    Requires(&'static str, &'static str),
    /// Requests with `If-None-Match` are refused with status 400, which names the header, or with 501, which names
    /// none.
    NoConditions(u16),
    /// Requests that name an access control list are refused.
    NoAccessLists,
    /// The access key is not known.
    UnknownKey,
}

impl Manner {
    /// Returns the answer to a request that is refused; `None` if it is not.
    pub(super) fn refuse(&self, call: S3Call, headers: &HeaderMap) -> Option<Response<Body>> {
        let names =
            |start: &str| headers.keys().find(|name| name.as_str().starts_with(start)).map(|name| name.as_str());
        let begins = matches!(call, S3Call::Put | S3Call::BeginUpload);
        match self {
            Manner::NoChecksumHeaders(status) => {
                let name = names("x-amz-checksum").or_else(|| names("x-amz-sdk-checksum"))?;
                Some(unknown(*status, name))
            }
            Manner::NoConditions(status) => names("if-none-match").map(|name| unknown(*status, name)),
            Manner::NoAccessLists => names("x-amz-acl")
                .map(|_| answer(call, 400, "AccessControlListNotSupported", "The bucket does not allow ACLs", None)),
            Manner::Region(region) => {
                let signed = headers.get("authorization")?.to_str().ok()?;
                let other = !signed.contains(&format!("/{region}/s3/"));
                other.then(|| answer(call, 301, "PermanentRedirect", "use the specified endpoint", Some(region)))
            }
            Manner::NoList => (call == S3Call::List).then(|| denied(call)),
            Manner::NoDelete => (call == S3Call::Delete).then(|| denied(call)),
            Manner::RequesterPays => {
                let pays = headers.get("x-amz-request-payer").is_some_and(|value| value == "requester");
                (!pays).then(|| denied(call))
            }
            Manner::Requires(name, value) => {
                let has = headers.get(*name).is_some_and(|found| found == value);
                (begins && !has).then(|| denied(call))
            }
            Manner::UnknownKey => Some(answer(call, 403, "InvalidAccessKeyId", "The access key does not exist", None)),
        }
    }

    /// Returns the answer as this store changes it.
    pub(super) fn change(&self, call: S3Call, response: Response<Body>) -> Response<Body> {
        let missing = response.status() == StatusCode::NOT_FOUND && matches!(call, S3Call::Head | S3Call::Get);
        if *self == Manner::NoList && missing { denied(call) } else { response }
    }
}

fn unknown(status: u16, header: &str) -> Response<Body> {
    match status {
        501 => {
            let text = "A header you provided implies functionality that is not implemented";
            answer(S3Call::Put, status, "NotImplemented", text, None)
        }
        _ => {
            let text = format!("Unsupported header '{header}' received for this API call.");
            answer(S3Call::Put, status, "InvalidArgument", &text, None)
        }
    }
}

fn denied(call: S3Call) -> Response<Body> {
    answer(call, 403, "AccessDenied", "Access Denied", None)
}

/// Returns an answer in the format of S3. The answer to HEAD has no body.
fn answer(call: S3Call, status: u16, code: &str, message: &str, region: Option<&str>) -> Response<Body> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut response = Response::new(if call == S3Call::Head { Body::empty() } else { Body::from(text) });
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(region) = region.and_then(|region| region.parse().ok()) {
        response.headers_mut().insert("x-amz-bucket-region", region);
    }
    response
}
