//! CopyObject: the plain lane's copy, with S3's directives and conditions.

use blobstore_sidecar_core::precondition::parse_http_date;
use blobstore_sidecar_s3::checksum::Algorithm;
use blobstore_sidecar_s3::names::path_of;
use http::HeaderMap;
use http::header::{
    ETAG, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE,
    LAST_MODIFIED,
};
use s3s::dto::{
    ChecksumType, CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, ETag, Timestamp,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::call::{Call, Operation, object_name};
use super::headers::refuse_unsupported;
use super::listing::timestamp;
use super::multipart::algorithm_of;
use super::object::{description, pass};
use super::sums::kept_sum;
use super::versions::{source_refused, version_of};
use crate::auth::Right;
use crate::lane::{Copied, CopyAsk, HEADER_CHECKSUM, HEADER_TAGS, copy};

/// Conditions on the source, and what they are called in the read.
const CONDITIONS: &[(&str, HeaderName)] = &[
    ("x-amz-copy-source-if-match", IF_MATCH),
    ("x-amz-copy-source-if-none-match", IF_NONE_MATCH),
    ("x-amz-copy-source-if-modified-since", IF_MODIFIED_SINCE),
    ("x-amz-copy-source-if-unmodified-since", IF_UNMODIFIED_SINCE),
];
/// Headers by which a copy onto itself changes something even without REPLACE.
const CHANGES: &[&str] = &["x-amz-storage-class", "x-amz-website-redirect-location"];

/// Bucket, key and version of a source, which the client must be allowed to read.
pub(super) async fn source(
    call: &Call<'_>,
    source: &CopySource,
) -> S3Result<(String, String, Option<String>)> {
    let CopySource::Bucket { bucket, key, version_id } = source else {
        return Err(s3_error!(NotImplemented, "Access points are not implemented"));
    };
    object_name(key)?;
    super::versions::checked(version_id.as_deref())?;
    let version = version_id.is_some();
    call.allow(&Operation { name: "GetObject", right: Right::Read, bucket, key, version }).await?;
    Ok((bucket.to_string(), key.to_string(), version_id.as_ref().map(ToString::to_string)))
}

/// Where the read of a source goes.
pub(super) fn source_path(bucket: &str, key: &str, version: Option<&str>) -> String {
    match version {
        None => path_of(bucket, key),
        Some(version) => format!("{}?versionId={version}", path_of(bucket, key)),
    }
}

pub(super) fn conditions(headers: &HeaderMap) -> HeaderMap {
    let given = CONDITIONS.iter().filter_map(|(name, to)| Some((to.clone(), headers.get(*name)?.clone())));
    given.collect()
}

/// `what`: metadata or tagging.
fn replaces(headers: &HeaderMap, what: &str) -> S3Result<bool> {
    match headers.get(format!("x-amz-{what}-directive")).map(HeaderValue::as_bytes) {
        None | Some(b"COPY") => Ok(false),
        Some(b"REPLACE") => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "Unknown {what} directive.")),
    }
}

/// An HTTP date as S3's documents have it.
pub(super) fn modified(text: &str) -> Option<Timestamp> {
    let seconds = parse_http_date(text).and_then(|seconds| u64::try_from(seconds).ok())?;
    Some(timestamp(seconds.saturating_mul(1_000)))
}

/// When a copy was made, and its ETag.
pub(super) fn result(copied: &Copied) -> (Option<ETag>, Option<Timestamp>) {
    let headers = copied.response.headers();
    let etag = headers.get(ETAG).and_then(|value| ETag::parse_http_header(value.as_bytes()).ok());
    (etag, headers.get(LAST_MODIFIED).and_then(|value| value.to_str().ok()).and_then(modified))
}

pub(super) async fn object(
    call: Call<'_>,
    request: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let S3Request { input, headers, .. } = request;
    object_name(&input.key)?;
    refuse_unsupported(&headers)?;
    let (bucket, key, version) = source(&call, &input.copy_source).await?;
    let (replace, replace_tags) = (replaces(&headers, "metadata")?, replaces(&headers, "tagging")?);
    let algorithm = headers.get("x-amz-checksum-algorithm").and_then(|name| name.to_str().ok());
    let algorithm = algorithm.map(algorithm_of).transpose()?;
    let changes = CHANGES.iter().any(|name| headers.contains_key(*name));
    if bucket == input.bucket && key == input.key && version.is_none() && !replace && !changes {
        return Err(s3_error!(
            InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without changing the \
             object's metadata, storage class, website redirect location or encryption attributes."
        ));
    }
    let mut write = HeaderMap::new();
    pass(&headers, &mut write, &[IF_MATCH, IF_NONE_MATCH]);
    let names: Vec<HeaderName> = CHANGES.iter().map(|name| HeaderName::from_static(name)).collect();
    pass(&headers, &mut write, &names);
    let tags = headers.get("x-amz-tagging").cloned().unwrap_or_else(|| HeaderValue::from_static(""));
    if replace_tags {
        super::tagging::check_header(&tags)?;
        write.insert(HEADER_TAGS, tags);
    }
    if let Some(algorithm) = algorithm {
        write.insert(HEADER_CHECKSUM, HeaderValue::from_static(algorithm.name()));
    }
    let ask = CopyAsk {
        from: source_path(&bucket, &key, version.as_deref()),
        to: path_of(&input.bucket, &input.key),
        read: conditions(&headers),
        range: None,
        write,
        described: if replace { Some(description(&headers)?) } else { None },
    };
    let copied = copy(call.shell, &call.request_id, ask).await.map_err(source_refused)?;
    let (e_tag, last_modified) = result(&copied);
    let mut result = CopyObjectResult { e_tag, last_modified, ..Default::default() };
    if let Some((algorithm, sum, kind)) = kept_sum(copied.response.headers()) {
        result.checksum_type = Some(ChecksumType::from_static(kind));
        let field = match algorithm {
            Algorithm::Crc32 => &mut result.checksum_crc32,
            Algorithm::Crc32c => &mut result.checksum_crc32c,
            Algorithm::Sha1 => &mut result.checksum_sha1,
            Algorithm::Sha256 => &mut result.checksum_sha256,
            _ => &mut result.checksum_crc64nvme,
        };
        *field = Some(sum);
    }
    Ok(S3Response::new(CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id: version_of(&copied.source),
        version_id: version_of(copied.response.headers()),
        ..Default::default()
    }))
}
