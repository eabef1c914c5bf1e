//! Advice for users on answers that another try would not change.

use super::call::Call;
use edp_store::S3Settings;

/// Codes of answers that concern the credentials themselves, whatever they were used for.
const OF_CREDENTIALS: [&str; 4] = ["InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AccountProblem"];

/// Returns true if the description of an answer says that the credentials themselves are not valid.
pub(super) fn is_of_credentials(what: &str) -> bool {
    OF_CREDENTIALS.iter().any(|code| what.contains(code))
}

/// Returns advice on a call that was denied: `code` is the store's code, `what` its description.
pub(super) fn denied(call: &Call<'_>, code: &str, what: &str, settings: &S3Settings) -> String {
    match code {
        "InvalidAccessKeyId" | "InvalidToken" => {
            return "the store does not know these credentials: check them, store.s3.profile and store.s3.endpoint"
                .into();
        }
        "SignatureDoesNotMatch" => {
            return "the secret key is another one, or something between here and the store changes requests".into();
        }
        "InvalidObjectState" => {
            return "it is in a storage class for archives: restore it before it is read".into();
        }
        _ => {}
    }
    if settings.anonymous {
        return format!(
            "nobody has {} there without credentials: unset store.s3.anonymous if you have some",
            call.permission
        );
    }
    let mut causes = vec![format!("the credentials in use need {} there", call.permission)];
    let sse = settings.sse.as_deref();
    match call.permission {
        "s3:PutObject" => {
            if sse.is_some_and(|sse| sse.starts_with("aws:kms")) {
                causes.push("and kms:GenerateDataKey and kms:Decrypt for the key of store.s3.sse_kms_key".into());
            }
            if settings.acl.is_some() {
                causes.push("and s3:PutObjectAcl for store.s3.acl".into());
            }
            match (sse, &settings.acl) {
                (None, None) => causes.push(
                    "or the bucket's policy asks for encryption (store.s3.sse) or an access list (store.s3.acl)".into(),
                ),
                (None, Some(_)) => causes.push("or the bucket's policy asks for encryption (store.s3.sse)".into()),
                (Some(_), _) => {
                    causes.push("or the bucket's policy asks for other encryption than store.s3.sse".into())
                }
            }
        }
        _ if what.contains("kms:") => causes.push("and kms:Decrypt for the key that it is encrypted with".into()),
        _ => {}
    }
    if !settings.requester_pays {
        causes.push("or the bucket lets those pay who use it (store.s3.requester_pays)".into());
    }
    causes.join(", ")
}

/// Returns advice on any other answer, if there is any; `region` is the region that the store has named.
pub(super) fn failed(status: Option<u16>, code: &str, what: &str, region: Option<&str>) -> Option<String> {
    match (status, code) {
        (Some(301 | 307), _) | (_, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            Some(match region {
                Some(region) => format!("the bucket is in region {region}: set AWS_REGION or store.s3.region"),
                None => "the bucket is in another region: set AWS_REGION or store.s3.region".into(),
            })
        }
        (_, "RequestTimeTooSkewed") => Some("set the clock of this machine".into()),
        (_, "AccessControlListNotSupported") => Some("the bucket has no access lists: unset store.s3.acl".into()),
        (_, "InvalidStorageClass") => Some("check store.s3.storage_class".into()),
        (_, code) if code.starts_with("KMS.") => Some("check store.s3.sse_kms_key".into()),
        (Some(400), _) if what.contains("kms") || what.contains("KMS") => Some("check store.s3.sse_kms_key".into()),
        (Some(407), _) => Some("a proxy stands between here and the store: check HTTPS_PROXY and NO_PROXY".into()),
        _ => None,
    }
}
