//! GetObjectAttributes: what HEAD tells, as a document.

use blobstore_sidecar_core::checksum as sums;
use blobstore_sidecar_s3::checksum::Algorithm;
use http::header::{CONTENT_LENGTH, ETAG, LAST_MODIFIED};
use http::{HeaderMap, Method};
use s3s::dto::{
    self as dto, Checksum, ChecksumType, ETag, GetObjectAttributesInput, GetObjectAttributesOutput,
    GetObjectAttributesParts, StorageClass,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::call::{Call, object_name};
use super::copy::modified;
use super::multipart::put_sum;
use super::sums::kept_sum;
use crate::lane::HEADER_CLASS;
use crate::wire::ask::ObjectPart;

/// What may be asked for.
const KNOWN: &[&str] = &["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];

/// Parts of a page: S3's own limit.
const PARTS_MAX: usize = 1_000;

pub(super) async fn get(
    call: Call<'_>,
    request: S3Request<GetObjectAttributesInput>,
) -> S3Result<S3Response<GetObjectAttributesOutput>> {
    let input = request.input;
    object_name(&input.key)?;
    // s3s leaves a list in one header as it is.
    let names = input.object_attributes.iter().flat_map(|names| names.as_str().split(','));
    let asked: Vec<&str> = names.map(str::trim).collect();
    if asked.iter().all(|name| name.is_empty()) {
        return Err(s3_error!(
            InvalidRequest,
            "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty"
        ));
    }
    if asked.iter().any(|name| !KNOWN.contains(name)) {
        return Err(s3_error!(InvalidArgument, "Invalid attribute name specified."));
    }
    let found = call
        .find(Method::HEAD, &input.bucket, &input.key, input.version_id.as_deref(), HeaderMap::new())
        .await?;
    let headers = found.headers();
    let text = |name: &http::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let wanted = |name: &str| asked.contains(&name);
    let mut output = GetObjectAttributesOutput {
        version_id: super::versions::version_of(headers),
        last_modified: text(&LAST_MODIFIED).and_then(modified),
        ..GetObjectAttributesOutput::default()
    };
    if wanted("ETag") {
        // Without quotes here, unlike everywhere else.
        output.e_tag = text(&ETAG).and_then(|tag| ETag::parse_http_header(tag.as_bytes()).ok());
    }
    if wanted("ObjectSize") {
        output.object_size = text(&CONTENT_LENGTH).and_then(|length| length.parse().ok());
    }
    if wanted("StorageClass") {
        let class = text(&HEADER_CLASS).unwrap_or(StorageClass::STANDARD);
        output.storage_class = Some(StorageClass::from(class.to_owned()));
    }
    if wanted("Checksum") {
        output.checksum = kept_sum(headers).map(|(algorithm, sum, kind)| checksum(algorithm, sum, kind));
    }
    if wanted("ObjectParts") {
        output.object_parts = parts(&call, &input).await?;
    }
    Ok(S3Response::new(output))
}

/// `None`: the object was not uploaded in parts. Parts without checksums are counted only.
async fn parts(
    call: &Call<'_>,
    input: &GetObjectAttributesInput,
) -> S3Result<Option<GetObjectAttributesParts>> {
    let max = input.max_parts.and_then(|max| usize::try_from(max).ok()).unwrap_or(PARTS_MAX).min(PARTS_MAX);
    let after = input.part_number_marker.map(|marker| marker.to_string()).unwrap_or_default();
    let after = after.parse::<u16>().unwrap_or_default();
    let found = call.object_parts(&input.bucket, &input.key, input.version_id.as_deref(), after, max).await?;
    if found.count == 0 {
        return Ok(None);
    }
    let total_parts_count = Some(i32::from(found.count));
    if found.parts.iter().all(|part| part.checksum.is_none()) && !found.parts.is_empty() {
        return Ok(Some(GetObjectAttributesParts {
            total_parts_count,
            ..GetObjectAttributesParts::default()
        }));
    }
    let last = found.parts.last().map_or(after, |part| part.number);
    Ok(Some(GetObjectAttributesParts {
        is_truncated: Some(found.truncated),
        max_parts: i32::try_from(max).ok(),
        next_part_number_marker: i32::from(last).to_string().parse().ok(),
        part_number_marker: i32::from(after).to_string().parse().ok(),
        parts: Some(found.parts.iter().map(part).collect()),
        total_parts_count,
    }))
}

fn part(part: &ObjectPart) -> dto::ObjectPart {
    let mut shown = dto::ObjectPart {
        part_number: Some(i32::from(part.number)),
        size: i64::try_from(part.size).ok(),
        ..dto::ObjectPart::default()
    };
    if let Some(sum) = part.checksum.as_deref().and_then(sums::Checksum::decode) {
        put_sum!(shown, sum);
    }
    shown
}

fn checksum(algorithm: Algorithm, sum: String, kind: &'static str) -> Checksum {
    let mut shown = Checksum { checksum_type: Some(ChecksumType::from_static(kind)), ..Checksum::default() };
    let field = match algorithm {
        Algorithm::Crc32 => &mut shown.checksum_crc32,
        Algorithm::Crc32c => &mut shown.checksum_crc32c,
        Algorithm::Sha1 => &mut shown.checksum_sha1,
        Algorithm::Sha256 => &mut shown.checksum_sha256,
        _ => &mut shown.checksum_crc64nvme,
    };
    *field = Some(sum);
    shown
}
