//! PUT, GET, HEAD and DELETE of one object that this pod owns.

use blobstore_sidecar_core::key::{BucketName, ObjectName};
use blobstore_sidecar_core::precondition::http_date;
use blobstore_sidecar_store::{DeleteRequest, GetOutcome, GetRequest, HeadRequest, PutRequest, Version};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderValue, LAST_MODIFIED};
use http::{HeaderMap, Response, StatusCode};

use super::{Exchange, Refused, etags, headers, versions};
use crate::body::{Body, RequestBody};
use crate::error::ApiError;
use crate::shell::Shell;

/// A client that frames its body in S3's signed chunks without signing: storing the frames would corrupt it.
const HEADER_SHA256: &str = "x-amz-content-sha256";

pub(super) async fn put(
    exchange: &Exchange<'_>,
    bucket: &BucketName,
    name: &ObjectName,
    body: &mut RequestBody,
) -> Result<Response<Body>, Refused> {
    let given = &exchange.head.headers;
    if given.get(HEADER_SHA256).is_some_and(|value| value.as_bytes().starts_with(b"STREAMING-")) {
        return Err(ApiError::not_implemented("A body in S3's streaming chunks").into());
    }
    writable(exchange, bucket, name)?;
    let etag = etags::wanted(exchange.shell, bucket, given).await?;
    let request = PutRequest {
        attributes: headers::attributes(given)?,
        conditions: headers::conditions(given)?,
        content_md5: headers::content_md5(given)?,
        want_md5_etag: etag.md5,
        md5_always: etag.always,
        checks: headers::checks(given)?,
        ..PutRequest::new(bucket.clone(), name.clone(), body.length())
    };
    let stored = exchange.shell.store.put(request, body).await?;
    let mut response = Response::new(Body::empty());
    versions::tell(response.headers_mut(), stored.version);
    set(response.headers_mut(), ETAG, &stored.etag.quoted());
    set(response.headers_mut(), LAST_MODIFIED, &http_date(stored.modified_ms));
    response.headers_mut().insert(headers::HEADER_CRC64, headers::crc64(stored.crc64));
    if let Some(checksum) = &stored.checksum {
        set(response.headers_mut(), headers::HEADER_CHECKSUM, &checksum.encode());
    }
    Ok(response)
}

pub(super) async fn get(
    exchange: &Exchange<'_>,
    bucket: &BucketName,
    name: &ObjectName,
) -> Result<Response<Body>, Refused> {
    let given = &exchange.head.headers;
    let outcome = read(exchange, asked(given, bucket, name)?).await?;
    let version = versions::described(exchange.shell, bucket, &outcome.meta).await;
    Ok(Found { outcome, version }.into())
}

/// What is asked for, if all of it is in memory. `keeps`: the bucket keeps versions.
pub(super) fn get_at_once(shell: &Shell, request: &GetRequest, keeps: bool) -> Option<Found> {
    if shell.origins.covers(&request.bucket, &request.name) {
        return None;
    }
    let outcome = shell.store.get_at_once(request)?;
    let version = versions::described_where(keeps, &outcome.meta);
    Some(Found { outcome, version })
}

pub(super) fn asked(
    given: &HeaderMap,
    bucket: &BucketName,
    name: &ObjectName,
) -> Result<GetRequest, ApiError> {
    let (range, if_range) = headers::range(given);
    let conditions = headers::conditions(given)?;
    Ok(GetRequest { bucket: bucket.clone(), name: name.clone(), conditions, range, if_range })
}

/// What describes an object, with what every answer has: a map that grows on the way is made twice.
const HEADERS_USUAL: usize = 12;

/// An object that was asked for.
#[derive(Debug)]
pub struct Found {
    outcome: GetOutcome,
    /// As it is told, where it is.
    version: Option<Version>,
}

impl Found {
    /// `out`: the map to use, whatever is in it.
    pub(super) fn into_response(self, mut out: HeaderMap) -> Response<Body> {
        let Self { outcome: GetOutcome { meta, range, partial, body }, version } = self;
        let length = range.end.saturating_sub(range.start);
        out.clear();
        headers::describe(&mut out, &meta);
        versions::tell(&mut out, version);
        out.insert(CONTENT_LENGTH, HeaderValue::from(length));
        if partial {
            let last = range.end.saturating_sub(1);
            set(&mut out, CONTENT_RANGE, &format!("bytes {}-{last}/{}", range.start, meta.size));
        }
        let body = body.into_whole().map_or_else(|body| Body::stream(length, body), Body::whole);
        let mut response = Response::new(body);
        *response.headers_mut() = out;
        if partial {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        response
    }
}

impl From<Found> for Response<Body> {
    fn from(found: Found) -> Self {
        found.into_response(HeaderMap::with_capacity(HEADERS_USUAL))
    }
}

pub(super) async fn head(
    exchange: &Exchange<'_>,
    bucket: &BucketName,
    name: &ObjectName,
) -> Result<Response<Body>, Refused> {
    let given = &exchange.head.headers;
    let conditions = headers::conditions(given)?;
    let request = HeadRequest { bucket: bucket.clone(), name: name.clone(), conditions };
    let shell = exchange.shell;
    let meta = match (versions::asked(&exchange.head.uri)?, shell.origins.covers(bucket, name)) {
        (Some(version), _) => shell.store.head_version(request, version).await?,
        (None, true) => shell.origins.head(request).await?,
        (None, false) => shell.store.head(request).await?,
    };
    let mut response = Response::new(Body::empty());
    let out = response.headers_mut();
    headers::describe(out, &meta);
    versions::tell(out, versions::described(shell, bucket, &meta).await);
    out.insert(CONTENT_LENGTH, HeaderValue::from(meta.size));
    Ok(response)
}

pub(super) async fn delete(
    exchange: &Exchange<'_>,
    bucket: &BucketName,
    name: &ObjectName,
) -> Result<Response<Body>, Refused> {
    writable(exchange, bucket, name)?;
    let conditions = headers::conditions(&exchange.head.headers)?;
    let request = DeleteRequest { bucket: bucket.clone(), name: name.clone(), conditions };
    let store = &exchange.shell.store;
    let outcome = match versions::asked(&exchange.head.uri)? {
        Some(version) => store.delete_version(request, version).await?,
        None => store.delete(request).await?,
    };
    let mut response = Response::new(Body::empty());
    versions::tell_deleted(response.headers_mut(), &outcome);
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// From the store, and from the origin behind the bucket if there is one.
async fn read(exchange: &Exchange<'_>, request: GetRequest) -> Result<GetOutcome, Refused> {
    let Shell { store, origins, .. } = exchange.shell.as_ref();
    let found = match (versions::asked(&exchange.head.uri)?, origins.covers(&request.bucket, &request.name)) {
        (Some(version), _) => store.get_version(request, version).await,
        (None, true) => origins.get(request).await,
        (None, false) => store.get(request).await,
    };
    Ok(found?)
}

/// A bucket that shows an origin may take no writes.
pub(super) fn writable(
    exchange: &Exchange<'_>,
    bucket: &BucketName,
    name: &ObjectName,
) -> Result<(), Refused> {
    match exchange.shell.origins.refuses(bucket, name) {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

pub(super) fn set(headers: &mut HeaderMap, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
