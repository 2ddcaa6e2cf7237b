//! Between HTTP headers and what the store keeps: content headers, user metadata, conditions, ranges.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blobstore_sidecar_core::checksum::Algorithm;
use blobstore_sidecar_core::etag::TagSet;
use blobstore_sidecar_core::precondition::{Conditions, IfRange, http_date, parse_http_date};
use blobstore_sidecar_core::range::ByteRange;
use blobstore_sidecar_core::record::TAGS_MAX;
use blobstore_sidecar_origins::NONE_YET;
use blobstore_sidecar_store::{Attributes, BodyChecks, ObjectMeta};
use http::HeaderMap;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE,
    ETAG, EXPIRES, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::ApiError;

/// User metadata is taken under both and comes back under both: S3's clients and ours read their own.
const META_PREFIXES: [&str; 2] = ["x-amz-meta-", "x-blobstore-meta-"];
/// Asks for the kind of ETag that an upload gets, `md5` or `opaque` (which it is without this); with a bucket, for the
/// kind that all its uploads get, whatever they ask for.
pub const HEADER_ETAG: HeaderName = HeaderName::from_static("x-blobstore-etag");
/// CRC64-NVME of the whole object: base64 of its eight bytes, as S3 writes it.
pub const HEADER_CRC64: HeaderName = HeaderName::from_static("x-blobstore-crc64nvme");
/// Between sidecars: the checksum to compute and keep (a request), or that is kept (an answer, with its value).
pub const HEADER_CHECKSUM: HeaderName = HeaderName::from_static("x-blobstore-checksum");
/// Between sidecars: the algorithm of the checksum that a client sent with a part, in lower case, or `null`. Without it
/// nobody sent the part: it is copied.
pub const HEADER_CHECKSUM_SENT: HeaderName = HeaderName::from_static("x-blobstore-checksum-sent");
/// Tags as in a query string: `a=b&c=d`.
pub const HEADER_TAGS: HeaderName = HeaderName::from_static("x-blobstore-tags");
/// Stored as they come, and given back.
pub const HEADER_CLASS: HeaderName = HeaderName::from_static("x-amz-storage-class");
pub const HEADER_REDIRECT: HeaderName = HeaderName::from_static("x-amz-website-redirect-location");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

fn text(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(name).iter().peekable();
    if values.peek().is_none() {
        return Ok(None);
    }
    let parts: Result<Vec<&str>, _> = values.map(|value| std::str::from_utf8(value.as_bytes())).collect();
    parts
        .map(|parts| Some(parts.join(", ")))
        .map_err(|_| ApiError::bad_request("InvalidArgument", format!("the header {name} is not UTF-8")))
}

/// What is stored with an upload.
pub fn attributes(headers: &HeaderMap) -> Result<Attributes, ApiError> {
    let mut user: Vec<(String, String)> = Vec::new();
    for name in headers.keys() {
        let Some(short) = META_PREFIXES.iter().find_map(|prefix| name.as_str().strip_prefix(prefix)) else {
            continue;
        };
        let value = text(headers, name)?.unwrap_or_default();
        if !short.is_empty() && !user.iter().any(|(known, _)| known == short) {
            user.push((short.to_owned(), value));
        }
    }
    Ok(Attributes {
        content_type: text(headers, &CONTENT_TYPE)?,
        content_encoding: text(headers, &CONTENT_ENCODING)?,
        content_disposition: text(headers, &CONTENT_DISPOSITION)?,
        content_language: text(headers, &CONTENT_LANGUAGE)?,
        cache_control: text(headers, &CACHE_CONTROL)?,
        expires: text(headers, &EXPIRES)?,
        user,
        tags: tags(headers)?,
        storage_class: text(headers, &HEADER_CLASS)?,
        redirect: text(headers, &HEADER_REDIRECT)?,
        ..Attributes::default()
    })
}

fn tags(headers: &HeaderMap) -> Result<Vec<(String, String)>, ApiError> {
    let Some(text) = text(headers, &HEADER_TAGS)? else { return Ok(Vec::new()) };
    let tags = crate::route::parameters(&text)?;
    if tags.len() > TAGS_MAX {
        return Err(ApiError::bad_request("InvalidTag", format!("an object has at most {TAGS_MAX} tags")));
    }
    Ok(tags)
}

/// Tags as [`HEADER_TAGS`] carries them.
pub fn tags_text(tags: &[(String, String)]) -> String {
    let plain = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs: Vec<String> =
        tags.iter().map(|(key, value)| format!("{}={}", plain(key), plain(value))).collect();
    pairs.join("&")
}

/// The checksum that the store is to compute.
pub(super) fn checks(headers: &HeaderMap) -> Result<BodyChecks, ApiError> {
    let Some(name) = headers.get(HEADER_CHECKSUM) else { return Ok(BodyChecks::default()) };
    let algorithm = name.to_str().ok().and_then(Algorithm::parse).ok_or_else(|| {
        ApiError::bad_request("InvalidArgument", format!("{HEADER_CHECKSUM} names no checksum of S3"))
    })?;
    Ok(BodyChecks { algorithm: Some(algorithm), ..BodyChecks::default() })
}

/// As S3 writes it.
pub fn crc64_text(sum: u64) -> String {
    STANDARD.encode(sum.to_be_bytes())
}

pub(super) fn crc64(sum: u64) -> HeaderValue {
    HeaderValue::from_str(&crc64_text(sum)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// `Content-MD5`, when there is one.
pub(super) fn content_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, ApiError> {
    let Some(value) = headers.get(CONTENT_MD5) else { return Ok(None) };
    let bytes = STANDARD.decode(value.as_bytes()).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    match bytes {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(ApiError::bad_request("InvalidDigest", "Content-MD5 is not the base64 of 16 bytes")),
    }
}

/// The conditions of a request. A tag list that cannot be read would silently drop a condition: refused instead.
pub(super) fn conditions(headers: &HeaderMap) -> Result<Conditions, ApiError> {
    let tags = |name: &HeaderName| -> Result<Option<TagSet>, ApiError> {
        let Some(text) = text(headers, name)? else { return Ok(None) };
        match TagSet::parse(&text) {
            Some(tags) => Ok(Some(tags)),
            None => Err(ApiError::bad_request(
                "InvalidArgument",
                format!("{name} is neither * nor a list of quoted ETags"),
            )),
        }
    };
    let date = |name: &HeaderName| -> Option<i64> {
        headers.get(name).and_then(|value| value.to_str().ok()).and_then(parse_http_date)
    };
    Ok(Conditions {
        if_match: tags(&IF_MATCH)?,
        if_none_match: tags(&IF_NONE_MATCH)?,
        if_modified_since: date(&IF_MODIFIED_SINCE),
        if_unmodified_since: date(&IF_UNMODIFIED_SINCE),
    })
}

/// The range of a GET and the condition it hangs on.
pub(super) fn range(headers: &HeaderMap) -> (Option<ByteRange>, Option<IfRange>) {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let range = text(&RANGE).and_then(ByteRange::parse);
    match text(&IF_RANGE) {
        None => (range, None),
        // An If-Range that cannot be read can never hold: the whole body.
        Some(value) => IfRange::parse(value).map_or((None, None), |condition| (range, Some(condition))),
    }
}

/// The headers that describe an object, in a GET as in a HEAD.
pub(super) fn describe(out: &mut HeaderMap, meta: &ObjectMeta) {
    let Attributes {
        content_type,
        content_encoding,
        content_disposition,
        content_language,
        cache_control,
        expires,
        user,
        origin: _,
        tags,
        storage_class,
        redirect,
        checksum,
    } = meta.attributes.as_ref();
    let mut put = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            out.insert(name, value);
        }
    };
    put(ETAG, &meta.etag.quoted());
    put(LAST_MODIFIED, &http_date(meta.modified_ms));
    let stored = [
        (CONTENT_TYPE, content_type),
        (CONTENT_ENCODING, content_encoding),
        (CONTENT_DISPOSITION, content_disposition),
        (CONTENT_LANGUAGE, content_language),
        (CACHE_CONTROL, cache_control),
        (EXPIRES, expires),
        (HEADER_CLASS, storage_class),
        (HEADER_REDIRECT, redirect),
    ];
    for (name, value) in stored {
        if let Some(value) = value {
            put(name, value);
        }
    }
    for (short, value) in user {
        for prefix in META_PREFIXES {
            if let Ok(name) = HeaderName::from_bytes(format!("{prefix}{short}").as_bytes()) {
                put(name, value);
            }
        }
    }
    if !tags.is_empty() {
        put(HEADER_TAGS, &tags_text(tags));
    }
    if let Some(checksum) = checksum {
        put(HEADER_CHECKSUM, &checksum.encode());
    }
    // A body that still comes from its origin has no checksum yet.
    if meta.generation != NONE_YET {
        out.insert(HEADER_CRC64, crc64(meta.crc64));
    }
    out.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if content_type.is_none() {
        out.insert(CONTENT_TYPE, OCTETS);
    }
}
