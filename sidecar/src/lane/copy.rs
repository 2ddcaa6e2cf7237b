//! Copies, renames and new metadata: a read and a write of the plain lane with the body streaming between them, at
//! whichever pods own the two names. Not atomic across them: the new object is there before the old one goes.

use std::sync::Arc;

use blobstore_sidecar_core::checksum::Checksum;
use blobstore_sidecar_core::key::{BucketName, ObjectName};
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, RANGE,
};
use http::{Method, Request, Response, StatusCode, request};
use http_body_util::BodyExt as _;

use super::headers::{HEADER_CHECKSUM, HEADER_CLASS, HEADER_ETAG, HEADER_REDIRECT, HEADER_TAGS};
use super::{Exchange, inside};
use crate::body::{Body, RequestBody};
use crate::error::ApiError;
use crate::shell::Shell;

/// Copies of the whole pod at once. Each holds a read and a write against the budget of bytes in flight: more could
/// wait for each other.
pub const COPIES_CONCURRENT_MAX: usize = 16;

/// Headers that describe an object, as a read gives them and a write takes them.
static DESCRIBING: [HeaderName; 9] = [
    CACHE_CONTROL,
    CONTENT_DISPOSITION,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_TYPE,
    EXPIRES,
    HEADER_CLASS,
    HEADER_REDIRECT,
    HEADER_TAGS,
];
const META: &str = "x-amz-meta-";

/// `bucket/key`, or `/bucket/key`, percent-encoded: where a copy or a rename comes from.
pub const HEADER_COPY_FROM: HeaderName = HeaderName::from_static("x-blobstore-copy-from");
pub const HEADER_RENAME_FROM: HeaderName = HeaderName::from_static("x-blobstore-rename-from");
/// `replace`: the copy gets this request's headers and metadata instead of the source's.
const HEADER_METADATA: HeaderName = HeaderName::from_static("x-blobstore-metadata");

/// What is copied where.
#[derive(Clone, Debug)]
pub struct CopyAsk {
    pub from: String,
    pub to: String,
    /// Conditions of the read.
    pub read: HeaderMap,
    /// First and last byte; all of it must be there.
    pub range: Option<(u64, u64)>,
    /// Of the write: its conditions, and what marks it (a part, a kind of ETag).
    pub write: HeaderMap,
    /// What the copy is described by; `None`: as the source is.
    pub described: Option<HeaderMap>,
}

/// A copy that is stored.
#[derive(Debug)]
pub struct Copied {
    /// The write's answer.
    pub response: Response<Body>,
    /// The source's headers.
    pub source: HeaderMap,
}

/// Copies; what both ends refuse comes back as an error, a source that has not changed as a failed condition.
pub async fn copy(shell: &Arc<Shell>, request_id: &str, ask: CopyAsk) -> Result<Copied, ApiError> {
    let wait = shell.peering.admission_wait();
    let permit = tokio::time::timeout(wait, Arc::clone(&shell.copies).acquire_owned()).await;
    let Ok(Ok(_permit)) = permit else {
        return Err(ApiError::slow_down("too many copies at once: retry in a moment"));
    };
    let mut wanted = ask.read;
    if let Some((first, last)) = ask.range
        && let Ok(value) = HeaderValue::from_str(&format!("bytes={first}-{last}"))
    {
        wanted.insert(RANGE, value);
    }
    let read = parts(Method::GET, &ask.from, wanted)?;
    let found = match Box::pin(inside(shell, &read, request_id, RequestBody::none())).await {
        Err(error) if error.status == StatusCode::NOT_MODIFIED => {
            let message = "the source does not meet the condition";
            return Err(ApiError::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", message));
        }
        found => found?,
    };
    let (source, body) = found.into_parts();
    if let Some((first, last)) = ask.range {
        let wanted = format!("bytes {first}-{last}/");
        let range = source.headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        if !range.is_some_and(|range| range.starts_with(&wanted)) {
            let message = "the range reaches beyond the end of the source";
            let refused = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", message);
            let size = range.and_then(|range| range.rsplit('/').next()).unwrap_or("*");
            let size = HeaderValue::from_str(&format!("bytes */{size}"));
            return Err(match size {
                Ok(size) => refused.with(CONTENT_RANGE, size),
                Err(_) => refused,
            });
        }
    }
    let length = source.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut given = ask.described.unwrap_or_else(|| described_by(&source.headers));
    given.extend(ask.write);
    // An ETag that is an MD5 stays one: who compares it finds what it knows.
    let is_md5 = source.headers.get(ETAG).is_some_and(|value| !value.as_bytes().contains(&b'-'));
    if is_md5 && !given.contains_key(HEADER_ETAG) {
        given.insert(HEADER_ETAG, HeaderValue::from_static("md5"));
    }
    // And its kind of checksum; a part gets that of its upload.
    let kept = source.headers.get(HEADER_CHECKSUM).and_then(|value| value.to_str().ok());
    if let Some(checksum) = kept.and_then(Checksum::decode)
        && !given.contains_key(HEADER_CHECKSUM)
        && !given.contains_key(super::HEADER_PART)
    {
        given.insert(HEADER_CHECKSUM, HeaderValue::from_static(checksum.algorithm.name()));
    }
    let write = parts(Method::PUT, &ask.to, given)?;
    let body = RequestBody::inner(body.into_data_stream(), length, shell.body_idle());
    let response = Box::pin(inside(shell, &write, request_id, body)).await?;
    Ok(Copied { response, source: source.headers })
}

pub(super) fn parts(method: Method, path: &str, headers: HeaderMap) -> Result<request::Parts, ApiError> {
    let request = Request::builder().method(method).uri(path).body(());
    let request = request.map_err(|_| ApiError::bad_request("InvalidURI", "the key makes no URI"))?;
    let (mut head, ()) = request.into_parts();
    head.headers = headers;
    Ok(head)
}

fn described_by(source: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, value) in source {
        if name.as_str().starts_with(META) || DESCRIBING.contains(name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// An object by its names.
pub(super) type Place<'a> = (&'a BucketName, &'a ObjectName);

pub(super) fn path((bucket, name): Place<'_>) -> String {
    blobstore_sidecar_s3::names::path_of(bucket.as_str(), name.as_str())
}

/// `PUT` with [`HEADER_COPY_FROM`] or [`HEADER_RENAME_FROM`].
pub(super) async fn put(
    exchange: &Exchange<'_>,
    from: Place<'_>,
    to: Place<'_>,
    rename: bool,
) -> Result<Response<Body>, ApiError> {
    let given = &exchange.head.headers;
    let replace = given.get(HEADER_METADATA).is_some_and(|value| value.as_bytes() == b"replace");
    let ask = CopyAsk {
        from: path(from),
        to: path(to),
        read: HeaderMap::new(),
        range: None,
        write: conditions(given),
        described: replace.then(|| own_description(given)),
    };
    if from == to && rename {
        return Err(ApiError::bad_request("InvalidArgument", "an object cannot be renamed to itself"));
    }
    let copied = copy(exchange.shell, exchange.request_id, ask).await?;
    if rename {
        let mut same = HeaderMap::new();
        if let Some(etag) = copied.source.get(ETAG) {
            same.insert(IF_MATCH, etag.clone());
        }
        let delete = parts(Method::DELETE, &path(from), same)?;
        Box::pin(inside(exchange.shell, &delete, exchange.request_id, RequestBody::none())).await?;
    }
    Ok(copied.response)
}

/// `PATCH`: the object gets this request's headers and metadata; its bytes stay.
pub(super) async fn patch(exchange: &Exchange<'_>, place: Place<'_>) -> Result<Response<Body>, ApiError> {
    let given = &exchange.head.headers;
    let path = path(place);
    let read = conditions(given);
    let ask = CopyAsk {
        from: path.clone(),
        to: path.clone(),
        read,
        range: None,
        write: HeaderMap::new(),
        described: Some(own_description(given)),
    };
    let head = parts(Method::HEAD, &path, HeaderMap::new())?;
    let now = Box::pin(inside(exchange.shell, &head, exchange.request_id, RequestBody::none())).await?;
    // Nobody's change in between is overwritten.
    let mut ask = ask;
    if let Some(etag) = now.headers().get(ETAG) {
        ask.write.insert(IF_MATCH, etag.clone());
    }
    Ok(copy(exchange.shell, exchange.request_id, ask).await?.response)
}

fn conditions(given: &HeaderMap) -> HeaderMap {
    let names = [IF_MATCH, IF_NONE_MATCH, HEADER_ETAG];
    names.into_iter().filter_map(|name| Some((name.clone(), given.get(name)?.clone()))).collect()
}

pub(super) fn own_description(given: &HeaderMap) -> HeaderMap {
    let ours = |name: &HeaderName| name.as_str().starts_with("x-blobstore-meta-");
    let mut kept = described_by(given);
    for (name, value) in given.iter().filter(|(name, _)| ours(name)) {
        kept.append(name.clone(), value.clone());
    }
    kept
}
