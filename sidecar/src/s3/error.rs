//! From the plain lane's refusals to S3's: the code that AWS gives, and its sentence where it has a fixed one.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use s3s::{S3Error, S3ErrorCode};

use crate::body::Body;
use crate::error::ApiError;

pub(super) fn from_api(error: ApiError) -> S3Error {
    let ApiError { status, code, message, headers } = error;
    let code = match code {
        "BucketAlreadyExists" => S3ErrorCode::BucketAlreadyOwnedByYou,
        "Unauthorized" => S3ErrorCode::AccessDenied,
        "NotOwner" => S3ErrorCode::ServiceUnavailable,
        "DamagedObject" => S3ErrorCode::InternalError,
        known => S3ErrorCode::from_bytes(known.as_bytes()).unwrap_or(S3ErrorCode::InternalError),
    };
    let mut answer = match fixed(&code) {
        true => S3Error::new(code),
        // Of an MD5 there is one sentence; other checksums are named.
        false if code == S3ErrorCode::BadDigest && message.contains("Content-MD5") => S3Error::new(code),
        false => S3Error::with_message(code, message),
    };
    if answer.status_code().is_none() {
        let status = if status == StatusCode::INSUFFICIENT_STORAGE && is_quota(&answer) {
            StatusCode::FORBIDDEN
        } else {
            status
        };
        answer.set_status_code(status);
    }
    let mut map = HeaderMap::new();
    map.extend(headers.into_iter().filter(|(name, _)| *name != CONTENT_LENGTH && *name != CONTENT_TYPE));
    if !map.is_empty() {
        // s3s lets these headers replace its own.
        map.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        answer.set_headers(map);
    }
    answer
}

/// As it leaves, where s3s does not write it.
pub(super) fn told(error: S3Error) -> Result<Response<Body>, ApiError> {
    error.to_http_response().map(|answer| answer.map(Body::s3)).map_err(|error| {
        tracing::error!(%error, "a refusal cannot be told");
        ApiError::internal("the refusal of this request cannot be told: the log has the cause")
    })
}

/// A code that s3s does not know.
pub(super) fn custom(code: &'static str, status: StatusCode, message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
}

fn is_quota(error: &S3Error) -> bool {
    error.code().as_str() == "QuotaExceeded"
}

/// Codes whose sentence clients may compare.
fn fixed(code: &S3ErrorCode) -> bool {
    matches!(
        code,
        S3ErrorCode::NoSuchKey
            | S3ErrorCode::NoSuchBucket
            | S3ErrorCode::NoSuchUpload
            | S3ErrorCode::PreconditionFailed
            | S3ErrorCode::BucketNotEmpty
            | S3ErrorCode::BucketAlreadyOwnedByYou
            | S3ErrorCode::InvalidRange
            | S3ErrorCode::InvalidBucketName
            | S3ErrorCode::KeyTooLongError
            | S3ErrorCode::EntityTooLarge
    )
}
