//! Objects over S3: PUT, GET, HEAD and DELETE as requests of the plain lane, with headers passed on as they are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blobstore_sidecar_s3::names::path_of;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE,
    ETAG, EXPIRES, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE,
    RANGE,
};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use s3s::dto::{
    ChecksumType, ETag, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, PutObjectInput,
    PutObjectOutput, StreamingBlob,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, TrailingHeaders, s3_error};

use super::call::{Call, object_name};
use super::headers::refuse_unsupported;
use super::multipart::algorithm_of;
use super::partial::{self, Slice};
use super::sums::{describe_sum, kept_sum, wants_sums};
use super::upload::Proof;
use super::{error, expiry, upload};
use super::{tagging, versions};
use crate::body::{Body, RequestBody};
use crate::lane::{HEADER_CHECKSUM, HEADER_ETAG, HEADER_TAGS};
use crate::route;

/// Single uploads up to this get their MD5 as ETag: clients compare it, and half a gigabyte per second and core is
/// enough for them. Larger ones get an ETag in the form that clients know not to compare.
pub(super) const MD5_BYTES_MAX: u64 = 8 << 20;
/// User metadata of one object, names and values, as S3 counts it.
const METADATA_BYTES_MAX: usize = 2 << 10;

/// Headers of an upload that are stored with the object.
const STORED: &[HeaderName] = &[CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LANGUAGE, CONTENT_TYPE, EXPIRES];
pub(super) const META: &str = "x-amz-meta-";
/// Conditions: an empty one is none.
const CONDITIONS: &[HeaderName] = &[IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];
/// S3's own, stored and given back as they came.
const ECHOED: &[&str] = &["x-amz-storage-class", "x-amz-website-redirect-location"];
/// What S3 says of an object without a type.
const TYPE_UNKNOWN: HeaderValue = HeaderValue::from_static("binary/octet-stream");

/// The headers that describe an object, for the plain lane.
pub(super) fn description(headers: &HeaderMap) -> S3Result<HeaderMap> {
    let mut kept = HeaderMap::new();
    for name in STORED {
        if let Some(value) = headers.get(name).filter(|value| !value.is_empty()) {
            kept.insert(name.clone(), value.clone());
        }
    }
    kept.entry(CONTENT_TYPE).or_insert(TYPE_UNKNOWN);
    if let Some(value) = headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok()) {
        // How the body came is not how the object is encoded.
        let own: Vec<&str> = value.split(',').map(str::trim).filter(|part| *part != "aws-chunked").collect();
        if let Some(value) = HeaderValue::from_str(&own.join(",")).ok().filter(|value| !value.is_empty()) {
            kept.insert(CONTENT_ENCODING, value);
        }
    }
    if let Some(tags) = headers.get("x-amz-tagging") {
        tagging::check_header(tags)?;
        kept.insert(HEADER_TAGS, tags.clone());
    }
    for name in ECHOED {
        if let Some(value) = headers.get(*name) {
            kept.insert(HeaderName::from_static(name), value.clone());
        }
    }
    let mut bytes = 0;
    for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with(META)) {
        bytes += name.as_str().len() - META.len() + value.len();
        kept.append(name.clone(), value.clone());
    }
    if bytes > METADATA_BYTES_MAX {
        return Err(s3_error!(MetadataTooLarge));
    }
    Ok(kept)
}

/// Metadata that comes more than once is one list, as it was signed.
pub(super) fn join_metadata(headers: &mut HeaderMap) {
    if headers.len() == headers.keys_len() {
        return;
    }
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(META)).cloned().collect();
    for name in names {
        let values: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(value) = HeaderValue::from_bytes(&values.join(&b","[..])) {
            headers.insert(name, value);
        }
    }
}

pub(super) fn pass(from: &HeaderMap, to: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        if let Some(value) = from.get(name)
            && !(value.is_empty() && CONDITIONS.contains(name))
        {
            to.insert(name.clone(), value.clone());
        }
    }
}

/// The ETag of an answer of the plain lane.
pub(super) fn etag(response: &Response<Body>) -> Option<ETag> {
    let value = response.headers().get(http::header::ETAG)?;
    ETag::parse_http_header(value.as_bytes()).ok()
}

/// What is not needed of the request, which is large, is dropped before anything is waited for.
pub(super) fn put<'a>(
    call: Call<'a>,
    request: S3Request<PutObjectInput>,
) -> impl Future<Output = S3Result<S3Response<PutObjectOutput>>> + Send + 'a {
    let S3Request { input, headers, trailing_headers, .. } = request;
    let PutObjectInput { bucket, key, body, content_length, .. } = input;
    async move {
        refuse_unsupported(&headers)?;
        let length = content_length.and_then(|length| u64::try_from(length).ok());
        let md5 = length.is_some_and(|length| length <= MD5_BYTES_MAX);
        let upload = Upload { bucket: &bucket, key: &key, headers: &headers, length, md5 };
        let mut response = S3Response::new(PutObjectOutput::default());
        response.headers = upload.store(&call, body, trailing_headers).await?;
        Ok(response)
    }
}

/// An object on its way in, described by S3's headers.
pub(super) struct Upload<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) length: Option<u64>,
    /// Small enough to get its MD5 as ETag.
    pub(super) md5: bool,
}

impl Upload<'_> {
    /// Stores what s3s has read, once it proves to be what was promised. The headers of the answer.
    pub(super) async fn store(
        self,
        call: &Call<'_>,
        body: Option<StreamingBlob>,
        trailers: Option<TrailingHeaders>,
    ) -> S3Result<HeaderMap> {
        let (body, proof) = upload::verified(call.shell, body, self.headers, trailers, self.length).await?;
        self.pass_on(call, body, &proof).await
    }

    /// The headers of the answer.
    pub(super) async fn pass_on(
        self,
        call: &Call<'_>,
        body: RequestBody,
        proof: &Proof,
    ) -> S3Result<HeaderMap> {
        let Self { bucket, key, headers, length, md5 } = self;
        object_name(key)?;
        let mut given = description(headers)?;
        pass(headers, &mut given, &[IF_MATCH, IF_NONE_MATCH, HeaderName::from_static("content-md5")]);
        if md5 {
            given.insert(HEADER_ETAG, HeaderValue::from_static("md5"));
        }
        let mut known = HeaderMap::new();
        pass(&given, &mut known, &[HEADER_TAGS]);
        if let Some(length) = length {
            known.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        if let Some(name) = proof.promised().and_then(upload::storable) {
            given.insert(HEADER_CHECKSUM, HeaderValue::from_static(name));
        } else if let Some(name) = headers.get("x-amz-checksum-algorithm").and_then(|name| name.to_str().ok())
        {
            given.insert(HEADER_CHECKSUM, HeaderValue::from_static(algorithm_of(name)?.name()));
        }
        let stored = match call.lane(Method::PUT, &path_of(bucket, key), given, Some(body)).await {
            Ok(stored) => stored,
            Err(refused) => match proof.refusal() {
                Some(refusal) => return Err(refusal),
                None => {
                    let unmet = call.unmet((bucket, key), headers, error::from_api(refused));
                    return Err(Box::pin(unmet).await);
                }
            },
        };
        let mut told = HeaderMap::new();
        pass(stored.headers(), &mut told, &[ETAG]);
        versions::pass(stored.headers(), &mut told);
        expiry::tell(call.shell, bucket, key, &known, &mut told).await;
        let sum =
            proof.sum().or_else(|| kept_sum(stored.headers()).map(|(algorithm, sum, _)| (algorithm, sum)));
        describe_sum(&mut told, sum, Some(ChecksumType::FULL_OBJECT));
        Ok(told)
    }
}

/// What a read of an object asks for, in headers.
const READ: &[HeaderName] = &[RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];

/// What is not ASCII travels back as an encoded word of RFC 2047, as AWS documents it.
fn mail_safe(value: &HeaderValue) -> HeaderValue {
    let text = std::str::from_utf8(value.as_bytes()).ok().filter(|text| !text.is_ascii());
    let word = text.map(|text| format!("=?UTF-8?B?{}?=", STANDARD.encode(text)));
    word.and_then(|word| HeaderValue::from_str(&word).ok()).unwrap_or_else(|| value.clone())
}

/// Of S3's own: ids, checksums, counts.
const HEADERS_MORE: usize = 4;

/// Headers of the plain lane's answer as S3 gives them. `sums`: the client wants checksums.
pub(super) fn shown(from: &HeaderMap, sums: bool, overridden: &[HeaderName]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(from.len() + HEADERS_MORE);
    for (name, value) in from {
        if !name.as_str().starts_with("x-blobstore-") && !overridden.contains(name) {
            headers.append(name.clone(), mail_safe(value));
        }
    }
    if sums
        && !from.contains_key(http::header::CONTENT_RANGE)
        && let Some((algorithm, sum, kind)) = kept_sum(from)
    {
        describe_sum(&mut headers, Some((algorithm, sum)), Some(kind));
    }
    let tags = from.get(HEADER_TAGS).map_or(0, |tags| tags.as_bytes().split(|byte| *byte == b'&').count());
    if tags > 0 {
        headers.insert(HeaderName::from_static("x-amz-tagging-count"), HeaderValue::from(tags));
    }
    headers
}

/// Headers of the answer that the request may choose itself.
const OVERRIDES: &[(&str, HeaderName)] = &[
    ("response-cache-control", CACHE_CONTROL),
    ("response-content-disposition", CONTENT_DISPOSITION),
    ("response-content-encoding", CONTENT_ENCODING),
    ("response-content-language", CONTENT_LANGUAGE),
    ("response-content-type", CONTENT_TYPE),
    ("response-expires", EXPIRES),
];

pub(super) fn overridden_by_nobody() -> S3Error {
    s3_error!(InvalidRequest, "Request specific response headers cannot be used for anonymous GET requests.")
}

fn overrides(call: &Call<'_>, uri: &Uri) -> S3Result<HeaderMap> {
    let parameters = route::parameters(uri.query().unwrap_or_default()).unwrap_or_default();
    let chosen = |(name, value): (String, String)| {
        let (_, header) = OVERRIDES.iter().find(|(known, _)| *known == name)?;
        let value = HeaderValue::from_str(&value);
        Some(
            value
                .map(|value| (header.clone(), value))
                .map_err(|_| s3_error!(InvalidArgument, "{name} is no header")),
        )
    };
    let chosen: HeaderMap = parameters.into_iter().filter_map(chosen).collect::<S3Result<_>>()?;
    if !chosen.is_empty() && call.who.is_none() {
        return Err(overridden_by_nobody());
    }
    Ok(chosen)
}

pub(super) async fn get(
    call: Call<'_>,
    request: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let S3Request { input, headers, uri, .. } = request;
    object_name(&input.key)?;
    let overridden = overrides(&call, &uri)?;
    let overridden: Vec<HeaderName> = overridden.keys().cloned().collect();
    let (found, slice) = read(&call, &input, &headers).await?;
    let sums = wants_sums(&headers);
    let (head, body) = found.into_parts();
    let output = GetObjectOutput {
        body: Some(StreamingBlob::from(s3s::Body::http_body_unsync(body))),
        ..Default::default()
    };
    let mut response = S3Response::new(output);
    response.headers = shown(&head.headers, sums, &overridden);
    expiry::tell(call.shell, &input.bucket, &input.key, &head.headers, &mut response.headers).await;
    if let Some(slice) = slice {
        slice.count(&mut response.headers);
        if sums {
            slice.describe_sum(&head.headers, &mut response.headers);
        }
    }
    if head.status == StatusCode::PARTIAL_CONTENT {
        // s3s takes the status from here.
        response.output.content_range = Some(String::new());
    }
    Ok(response)
}

pub(super) async fn head(
    call: Call<'_>,
    request: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let S3Request { input, headers, uri, .. } = request;
    object_name(&input.key)?;
    let overridden = overrides(&call, &uri)?;
    let version = input.version_id.as_deref();
    let slice = call.slice(&input.bucket, &input.key, version, input.part_number, &headers).await?;
    let mut asked = HeaderMap::new();
    pass(&headers, &mut asked, READ);
    let found = call.find(Method::HEAD, &input.bucket, &input.key, version, asked).await?;
    let mut response = S3Response::new(HeadObjectOutput::default());
    let sums = wants_sums(&headers);
    let length = found.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let size: u64 = length.unwrap_or_default();
    let range = match &slice {
        Some(slice) if slice.is_of(found.headers()) => Some(slice.range()),
        Some(_) => return Err(s3_error!(OperationAborted)),
        None => partial::head_range(&headers, size)?,
    };
    response.headers = shown(found.headers(), sums && range.is_none(), &[]);
    response.headers.extend(overridden);
    response.extensions.insert(found.status());
    expiry::tell(call.shell, &input.bucket, &input.key, found.headers(), &mut response.headers).await;
    if let Some(slice) = &slice {
        slice.count(&mut response.headers);
        if sums {
            slice.describe_sum(found.headers(), &mut response.headers);
        }
    }
    if let Some(range) = range {
        partial::cut(&mut response.headers, &range, size);
        response.extensions.insert(StatusCode::PARTIAL_CONTENT);
    }
    Ok(response)
}

/// The read itself, of the part that is asked for, if one is.
async fn read(
    call: &Call<'_>,
    input: &GetObjectInput,
    headers: &HeaderMap,
) -> S3Result<(Response<Body>, Option<Slice>)> {
    let version = input.version_id.as_deref();
    for _ in 0..partial::PART_TRIES_MAX {
        let slice = call.slice(&input.bucket, &input.key, version, input.part_number, headers).await?;
        let mut asked = HeaderMap::new();
        pass(headers, &mut asked, READ);
        if let Some(range) = slice.as_ref().and_then(Slice::header) {
            asked.insert(RANGE, range);
        }
        // A part without bytes is looked at only: no range names it.
        let method = if slice.as_ref().is_some_and(Slice::is_empty) { Method::HEAD } else { Method::GET };
        let mut found = call.find(method, &input.bucket, &input.key, version, asked).await?;
        if let Some(slice) = &slice {
            if !slice.is_of(found.headers()) {
                continue;
            }
            if slice.is_empty() {
                found.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
            }
        }
        return Ok((found, slice));
    }
    Err(s3_error!(OperationAborted))
}
