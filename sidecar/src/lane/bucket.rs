//! Buckets: create or change (an idempotent PUT), look at, delete. At the bucket's home, except the look.

use blobstore_sidecar_core::key::BucketName;
use blobstore_sidecar_store::{BucketInfo, ErrorKind, StoreError};
use http::header::{HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION};
use http::{Response, StatusCode};

use super::{Exchange, HEADER_ETAG, Refused, etags};
use crate::body::Body;
use crate::error::ApiError;

/// The bucket's quota in bytes; `none` lifts it.
const HEADER_QUOTA: HeaderName = HeaderName::from_static("x-blobstore-quota-bytes");

/// What the client says about the quota: nothing, or a new one.
fn quota(exchange: &Exchange<'_>) -> Result<Option<Option<u64>>, ApiError> {
    let Some(value) = exchange.head.headers.get(HEADER_QUOTA) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    if text == "none" {
        return Ok(Some(None));
    }
    let bytes = text.parse::<u64>().ok().filter(|bytes| *bytes > 0);
    bytes.map(|bytes| Some(Some(bytes))).ok_or_else(|| {
        ApiError::bad_request(
            "InvalidArgument",
            format!("{HEADER_QUOTA} is neither none nor a number above 0"),
        )
    })
}

pub(super) async fn create(exchange: &Exchange<'_>, bucket: &BucketName) -> Result<Response<Body>, Refused> {
    let quota = quota(exchange)?;
    let etag = etags::setting(&exchange.head.headers)?;
    let store = &exchange.shell.store;
    let info = match store.create_bucket(bucket, quota.flatten()).await {
        Ok(info) => info,
        Err(error) if error.kind == ErrorKind::BucketExists && !only_new(exchange) => match quota {
            Some(quota) => store.set_bucket(bucket, quota).await?,
            None => store.get_bucket(bucket).await?,
        },
        Err(error) => return Err(error.into()),
    };
    let info = match etag {
        Some(kind) => etags::set(exchange.shell, bucket, kind).await?,
        None => info,
    };
    let mut response = describe(&info);
    if let Ok(value) = HeaderValue::from_str(&format!("/{bucket}")) {
        response.headers_mut().insert(LOCATION, value);
    }
    Ok(response)
}

/// `If-None-Match: *`: the client wants to be the one who creates it.
fn only_new(exchange: &Exchange<'_>) -> bool {
    exchange.head.headers.get(IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == b"*")
}

pub(super) async fn head(exchange: &Exchange<'_>, bucket: &BucketName) -> Result<Response<Body>, StoreError> {
    exchange.shell.store.get_bucket(bucket).await.map(|info| describe(&info))
}

pub(super) async fn delete(exchange: &Exchange<'_>, bucket: &BucketName) -> Result<Response<Body>, Refused> {
    exchange.shell.store.delete_bucket(bucket).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn describe(info: &BucketInfo) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    if let Some(bytes) = info.quota_bytes {
        response.headers_mut().insert(HEADER_QUOTA, HeaderValue::from(bytes));
    }
    if let Some(kind) = etags::of_bucket(info) {
        response.headers_mut().insert(HEADER_ETAG, HeaderValue::from_static(kind));
    }
    response
}
