//! Classification of the errors of S3: which of them justify another try.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use edp_store::S3Error;
use std::error::Error;

/// Returns true if the store may have refused a header with a checksum: its answer names the header, or says that it
/// does not know some header.
pub(super) fn refuses_checksums(error: &S3Error) -> bool {
    match error {
        S3Error::Failed { status: Some(400), what, .. } => {
            let what = what.to_ascii_lowercase();
            what.contains("x-amz-checksum") || what.contains("x-amz-sdk-checksum")
        }
        error => error.status() == Some(501),
    }
}

/// Returns true if the store has refused a header with a condition.
pub(super) fn refuses_conditions(error: &S3Error) -> bool {
    match error {
        S3Error::Failed { status: Some(400), what, .. } => what.to_ascii_lowercase().contains("if-none-match"),
        error => error.status() == Some(501),
    }
}

/// The action that may help after a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The same call can be made again, later.
    Again,
    /// The same call can be made again, after a longer pause and with fewer others at the same time.
    Slower,
    /// The same call can be made again, with new credentials.
    Renew,
    /// No action would help.
    None,
}

/// A try of a call that has failed.
#[derive(Debug)]
pub(super) enum CallFailure {
    /// The store gave an error, or no answer. `region` is that of the bucket, if the error was that the request went to
    /// another one.
    Call { remedy: Remedy, status: Option<u16>, code: String, what: String, region: Option<String> },
    /// The store gave an answer that is of no use.
    Final(S3Error),
}

impl CallFailure {
    /// Returns the failure for another client that wrote at the same time.
    pub(super) fn conflict(what: impl Into<String>) -> CallFailure {
        CallFailure::Call {
            remedy: Remedy::Again,
            status: Some(409),
            code: String::new(),
            what: what.into(),
            region: None,
        }
    }

    /// Returns the failure of a connection.
    pub(super) fn broken(what: impl Into<String>) -> CallFailure {
        CallFailure::Call { remedy: Remedy::Again, status: None, code: String::new(), what: what.into(), region: None }
    }
}

/// Codes of answers that may be different a little later.
const PASSING: [&str; 4] = ["RequestTimeout", "RequestTimeoutException", "OperationAborted", "InternalError"];

/// Codes of answers of a store that gets more requests than it takes.
const TOO_MANY: [&str; 5] =
    ["SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"];

/// Codes of answers to credentials that have expired.
const EXPIRED: [&str; 4] = ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"];

impl<E: ProvideErrorMetadata + Error + 'static> From<SdkError<E>> for CallFailure {
    fn from(error: SdkError<E>) -> CallFailure {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let (code, message) = match &error {
            SdkError::ServiceError(error) => (error.err().code(), error.err().message()),
            _ => (None, None),
        };
        let code = code.unwrap_or_default().to_owned();
        let remedy = match (&error, status) {
            // the answer to HEAD has no body that could say so
            (SdkError::ServiceError(_), Some(400)) if code.is_empty() || EXPIRED.contains(&code.as_str()) => {
                Remedy::Renew
            }
            // 503 without a code is the answer to HEAD, which has no body.
            (SdkError::ServiceError(_), Some(status))
                if status == 429 || TOO_MANY.contains(&code.as_str()) || status == 503 && code.is_empty() =>
            {
                Remedy::Slower
            }
            (SdkError::ServiceError(_), Some(status))
                if status >= 500 && status != 501 || PASSING.contains(&code.as_str()) =>
            {
                Remedy::Again
            }
            (SdkError::ServiceError(_), Some(status)) if status == 403 && EXPIRED.contains(&code.as_str()) => {
                Remedy::Renew
            }
            (SdkError::TimeoutError(_) | SdkError::ResponseError(_), _) => Remedy::Again,
            (SdkError::DispatchFailure(failure), _) if failure.is_io() || failure.is_timeout() => Remedy::Again,
            // the connection has failed, or a server has answered with something other than HTTP
            (SdkError::DispatchFailure(failure), _) if !failure.is_user() => Remedy::Again,
            _ => Remedy::None,
        };
        let what = match (status, message) {
            (Some(status), message) if !code.is_empty() => {
                format!("HTTP {status} {code}{}", message.map(|m| format!(", {m}")).unwrap_or_default())
            }
            (Some(status), _) if matches!(error, SdkError::ServiceError(_)) => format!("HTTP {status}"),
            _ => causes(&error),
        };
        let region = region(&error, status, message);
        CallFailure::Call { remedy, status, code, what, region }
    }
}

/// Returns the region of the bucket, if an answer says that the request was sent to another one. Headers name it in
/// answers to HEAD as well, which have no body, and in answers that have nothing to do with regions.
fn region<E>(error: &SdkError<E>, status: Option<u16>, message: Option<&str>) -> Option<String> {
    if !matches!(status, Some(301 | 307 | 400)) {
        return None;
    }
    let header = error.raw_response().and_then(|response| response.headers().get("x-amz-bucket-region"));
    let named = || message?.split_once("expecting '")?.1.split_once('\'').map(|(region, _)| region);
    let is_name = |text: &&str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    header.or_else(named).filter(|text| !text.is_empty()).filter(is_name).map(str::to_owned)
}

/// Returns an error and its causes in one line, without the debugging output that the SDK adds to them.
pub(super) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
