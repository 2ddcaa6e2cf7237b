//! What is open: the parts of one upload, the uploads of one bucket.

use blobstore_sidecar_core::checksum::{Algorithm, Checksum};
use blobstore_sidecar_s3::names;
use s3s::dto::{
    CommonPrefix, ETag, EncodingType, Initiator, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    ListPartsInput, ListPartsOutput, MultipartUpload, Owner, Part, StorageClass,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::call::{Call, bucket_name, object_name};
use super::error;
use super::listing::{is_url, owner, timestamp};
use super::multipart::sum_kind;
use crate::lane;
use crate::wire::ItemsAsk;
use crate::wire::ask::{self, Ask, OpenItem, Place, Told};

/// Most items of a page: the limit of S3.
const PAGE_ITEMS_MAX: usize = 1_000;

fn initiator() -> Initiator {
    let Owner { display_name, id } = owner(None);
    Initiator { display_name, id }
}

fn class(name: Option<String>) -> StorageClass {
    name.map_or_else(|| StorageClass::from_static(StorageClass::STANDARD), StorageClass::from)
}

fn at_most(asked: Option<i32>) -> usize {
    asked.and_then(|count| usize::try_from(count).ok()).unwrap_or(PAGE_ITEMS_MAX).min(PAGE_ITEMS_MAX)
}

pub(super) async fn parts(
    call: Call<'_>,
    request: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let input = request.input;
    object_name(&input.key)?;
    let marker = input.part_number_marker.unwrap_or_default();
    let marker = marker.to_string().parse::<i32>().unwrap_or_default();
    let after = u16::try_from(marker).unwrap_or(u16::MAX);
    let max = at_most(input.max_parts);
    let place = Place::new(&input.bucket, &input.key);
    let told = call.owner(Ask::ListParts { place, upload: input.upload_id.clone(), after, max }).await;
    let told = match told {
        Ok(told) => told,
        Err(error) => return Err(call.homeless(&input.bucket, error).await),
    };
    let Told::Parts { upload, parts, next } = told else { return Err(s3_error!(InternalError)) };
    let (checksum_algorithm, checksum_type) = upload.checksum.as_ref().map(sum_kind).unwrap_or_default();
    let last = parts.last().map_or(after, |part| part.number);
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        checksum_algorithm,
        checksum_type,
        initiator: Some(initiator()),
        owner: Some(owner(None)),
        is_truncated: Some(next.is_some()),
        max_parts: i32::try_from(max).ok(),
        part_number_marker: i32::from(after).to_string().parse().ok(),
        next_part_number_marker: i32::from(last).to_string().parse().ok(),
        storage_class: Some(class(upload.storage_class)),
        parts: Some(parts.into_iter().map(part).collect()),
        ..Default::default()
    }))
}

fn part(part: ask::Part) -> Part {
    let ask::Part { number, etag, size, modified_ms, checksum } = part;
    let mut shown = Part {
        e_tag: ETag::parse_http_header(format!("\"{etag}\"").as_bytes()).ok(),
        last_modified: Some(timestamp(modified_ms)),
        part_number: Some(i32::from(number)),
        size: i64::try_from(size).ok(),
        ..Default::default()
    };
    if let Some(sum) = checksum.as_deref().and_then(Checksum::decode) {
        let value = Some(sum.to_string());
        match sum.algorithm {
            Algorithm::Crc32 => shown.checksum_crc32 = value,
            Algorithm::Crc32c => shown.checksum_crc32c = value,
            Algorithm::Crc64Nvme => shown.checksum_crc64nvme = value,
            Algorithm::Sha1 => shown.checksum_sha1 = value,
            Algorithm::Sha256 => shown.checksum_sha256 = value,
        }
    }
    shown
}

pub(super) async fn open(
    call: Call<'_>,
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let input = request.input;
    bucket_name(&input.bucket)?;
    let url = is_url(input.encoding_type.as_ref())?;
    let text = |text: &str| names::shown(text, url);
    let max = at_most(input.max_uploads);
    let ask = ItemsAsk {
        bucket: input.bucket.clone(),
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().filter(|delimiter| !delimiter.is_empty()),
        after: input.key_marker.clone().filter(|marker| !marker.is_empty()),
        after_item: input.upload_id_marker.clone().filter(|marker| !marker.is_empty()),
        max,
    };
    let page = lane::open_uploads(call.shell, &call.request_id, &ask).await.map_err(error::from_api)?;
    let last = page.items.last().map(|item| {
        let (name, upload) = item.key();
        (name.to_owned(), upload.to_owned())
    });
    let (mut uploads, mut prefixes) = (Vec::new(), Vec::new());
    for item in page.items {
        match item {
            OpenItem::Prefix(prefix) => prefixes.push(CommonPrefix { prefix: Some(text(&prefix)) }),
            OpenItem::Upload(upload) => uploads.push(shown(upload, &text)),
        }
    }
    let next = last.filter(|_| page.truncated);
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: input.prefix.as_deref().map(text),
        delimiter: ask.delimiter.as_deref().map(text),
        key_marker: Some(text(input.key_marker.as_deref().unwrap_or_default())),
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        next_key_marker: next.as_ref().map(|(name, _)| text(name)),
        next_upload_id_marker: next.map(|(_, upload)| upload),
        max_uploads: i32::try_from(max).ok(),
        is_truncated: Some(page.truncated),
        encoding_type: input.encoding_type.map(|kind: EncodingType| kind),
        uploads: Some(uploads),
        common_prefixes: Some(prefixes),
        ..Default::default()
    }))
}

fn shown(upload: ask::Upload, text: &impl Fn(&str) -> String) -> MultipartUpload {
    let (checksum_algorithm, checksum_type) = upload.checksum.as_ref().map(sum_kind).unwrap_or_default();
    MultipartUpload {
        key: Some(text(&upload.name)),
        upload_id: Some(upload.upload),
        initiated: Some(timestamp(upload.initiated_ms)),
        initiator: Some(initiator()),
        owner: Some(owner(None)),
        storage_class: Some(class(upload.storage_class)),
        checksum_algorithm,
        checksum_type,
    }
}
