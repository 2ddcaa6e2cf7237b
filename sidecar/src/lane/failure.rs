//! From the store's errors to what a client is told: one table.

use std::time::Duration;

use blobstore_sidecar_store::{ErrorKind, StoreError};
use http::StatusCode;
use http::header::{CONTENT_RANGE, ETAG, HeaderValue, LAST_MODIFIED};

use crate::error::ApiError;
use crate::forward::misdirected;
use crate::metrics::{REJECTED, reason};

/// 408: the client stopped sending.
pub(super) fn idle(after: Duration) -> ApiError {
    ApiError::new(
        StatusCode::REQUEST_TIMEOUT,
        "RequestTimeout",
        format!("nothing arrived for {after:?}: the upload was given up, repeat it"),
    )
}

pub(super) fn from_store(error: StoreError, request_id: &str) -> ApiError {
    log(&error, request_id);
    let (status, code) = match &error.kind {
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, "NoSuchKey"),
        ErrorKind::NoSuchVersion => (StatusCode::NOT_FOUND, "NoSuchVersion"),
        ErrorKind::DeleteMarker => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        ErrorKind::NoSuchBucket => (StatusCode::NOT_FOUND, "NoSuchBucket"),
        ErrorKind::BucketExists => (StatusCode::CONFLICT, "BucketAlreadyExists"),
        ErrorKind::BucketNotEmpty => (StatusCode::CONFLICT, "BucketNotEmpty"),
        ErrorKind::Precondition => (StatusCode::PRECONDITION_FAILED, "PreconditionFailed"),
        ErrorKind::NotModified => (StatusCode::NOT_MODIFIED, "NotModified"),
        ErrorKind::RangeNotSatisfiable { size } => return unsatisfiable(*size),
        ErrorKind::QuotaExceeded => (StatusCode::INSUFFICIENT_STORAGE, "QuotaExceeded"),
        ErrorKind::EngineFull => (StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage"),
        ErrorKind::NotOwner { address, epoch } => return misdirected(address.as_deref(), *epoch),
        ErrorKind::EngineDown | ErrorKind::Withheld => return ApiError::unavailable(error.message),
        ErrorKind::Busy => {
            REJECTED.with_label_values(&[reason::BUDGET]).inc();
            return ApiError::slow_down(error.message);
        }
        ErrorKind::Cut => return ApiError::unavailable(error.message),
        ErrorKind::OriginDown => (StatusCode::BAD_GATEWAY, "OriginUnavailable"),
        ErrorKind::OriginTimeout => (StatusCode::GATEWAY_TIMEOUT, "OriginTimeout"),
        ErrorKind::ReadOnly => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        ErrorKind::Swept => (StatusCode::REQUEST_TIMEOUT, "RequestTimeout"),
        ErrorKind::Damaged => (StatusCode::INTERNAL_SERVER_ERROR, "DamagedObject"),
        ErrorKind::Protocol => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        ErrorKind::BadDigest => (StatusCode::BAD_REQUEST, "BadDigest"),
        ErrorKind::Incomplete => (StatusCode::BAD_REQUEST, "IncompleteBody"),
        ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "EntityTooLarge"),
        ErrorKind::NoSuchUpload => (StatusCode::NOT_FOUND, "NoSuchUpload"),
        ErrorKind::InvalidPart => (StatusCode::BAD_REQUEST, "InvalidPart"),
        ErrorKind::InvalidPartOrder => (StatusCode::BAD_REQUEST, "InvalidPartOrder"),
        ErrorKind::PartTooSmall => (StatusCode::BAD_REQUEST, "EntityTooSmall"),
        ErrorKind::ChecksumKind => (StatusCode::BAD_REQUEST, "InvalidRequest"),
        ErrorKind::InvalidTag => (StatusCode::BAD_REQUEST, "InvalidTag"),
        ErrorKind::MetadataTooLarge => (StatusCode::BAD_REQUEST, "MetadataTooLarge"),
        ErrorKind::InvalidName => (StatusCode::BAD_REQUEST, "InvalidArgument"),
    };
    let mut answer = ApiError::new(status, code, error.message);
    if let (ErrorKind::NotFound | ErrorKind::DeleteMarker, Some(marker)) = (&error.kind, &error.current) {
        return super::versions::refuse_marker(answer, &error.kind, marker);
    }
    if let Some(current) = error.current {
        if let Ok(value) = HeaderValue::from_str(&current.etag.quoted()) {
            answer = answer.with(ETAG, value);
        }
        let modified = blobstore_sidecar_core::precondition::http_date(current.modified_ms);
        if let Ok(value) = HeaderValue::from_str(&modified) {
            answer = answer.with(LAST_MODIFIED, value);
        }
    }
    answer
}

fn unsatisfiable(size: u64) -> ApiError {
    let message = format!("the range begins behind the end: the object has {size} bytes");
    let error = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", message);
    match HeaderValue::from_str(&format!("bytes */{size}")) {
        Ok(value) => error.with(CONTENT_RANGE, value),
        Err(_) => error,
    }
}

/// What the operator of the store should see; what only the client got wrong is at debug with the request.
fn log(error: &StoreError, request_id: &str) {
    let source = error.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static));
    match error.kind {
        ErrorKind::Damaged | ErrorKind::Protocol => {
            tracing::error!(request_id, category = error.category(), error = %error, source, "request failed");
        }
        ErrorKind::EngineDown | ErrorKind::Withheld | ErrorKind::EngineFull | ErrorKind::Swept => {
            tracing::warn!(request_id, category = error.category(), error = %error, source, "request failed");
        }
        _ => {
            tracing::debug!(request_id, category = error.category(), error = %error, source, "request refused")
        }
    }
}
