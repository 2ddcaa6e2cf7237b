//! Multipart uploads over S3: open, fill, copy into, complete, abort. What is open is listed in `uploads.rs`.

use blobstore_sidecar_core::checksum as sums;
use blobstore_sidecar_s3::checksum::Algorithm;
use blobstore_sidecar_s3::names::path_of;
use http::header::{CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http::{Method, StatusCode};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumAlgorithm, ChecksumType,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart, CopyPartResult,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, UploadPartCopyInput, UploadPartCopyOutput,
    UploadPartInput, UploadPartOutput,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::call::{Call, object_name};
use super::headers::refuse_unsupported;
use super::object::{MD5_BYTES_MAX, description, etag};
use super::sums::{describe_sum, kept_sum, shown_sum};
use super::{copy, error, upload};
use crate::error::ApiError;
use crate::lane::{
    self, CopyAsk, HEADER_CHECKSUM, HEADER_CHECKSUM_SENT, HEADER_ETAG, HEADER_PART, part_mark,
};
use crate::wire::ask::{Ask, Completion, ListedPart, Packed, Place, Sum, Told};

/// Puts a checksum into the field of its algorithm: every document of s3s has five of them and no type for that.
macro_rules! put_sum {
    ($document:expr, $sum:expr) => {{
        use blobstore_sidecar_core::checksum::Algorithm;
        let field = match $sum.algorithm {
            Algorithm::Crc32 => &mut $document.checksum_crc32,
            Algorithm::Crc32c => &mut $document.checksum_crc32c,
            Algorithm::Crc64Nvme => &mut $document.checksum_crc64nvme,
            Algorithm::Sha1 => &mut $document.checksum_sha1,
            Algorithm::Sha256 => &mut $document.checksum_sha256,
        };
        *field = Some($sum.to_string());
    }};
}
pub(super) use put_sum;

/// S3's own limit.
const PART_NUMBER_MAX: u16 = 10_000;

pub(super) fn algorithm_of(name: &str) -> S3Result<sums::Algorithm> {
    sums::Algorithm::parse(name).ok_or_else(|| {
        s3_error!(
            InvalidRequest,
            "Checksum algorithm provided is unsupported. Please try again with any of the \
             valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]"
        )
    })
}

/// The checksum that the parts of a new upload carry.
fn upload_sum(headers: &HeaderMap) -> S3Result<Option<Sum>> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let kind = text("x-amz-checksum-type").map(str::to_ascii_uppercase);
    let kind = kind.as_deref();
    if kind.is_some_and(|kind| ![ChecksumType::COMPOSITE, ChecksumType::FULL_OBJECT].contains(&kind)) {
        return Err(s3_error!(InvalidRequest, "Value for x-amz-checksum-type header is invalid."));
    }
    let Some(name) = text("x-amz-checksum-algorithm") else {
        return match kind {
            None => Ok(None),
            Some(_) => Err(s3_error!(
                InvalidRequest,
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
            )),
        };
    };
    let algorithm = algorithm_of(name)?;
    let composite = match kind {
        Some(ChecksumType::COMPOSITE) => true,
        Some(_) => false,
        None => algorithm != sums::Algorithm::Crc64Nvme,
    };
    let fits = if composite { algorithm != sums::Algorithm::Crc64Nvme } else { algorithm.combines() };
    if !fits {
        let kind = if composite { "COMPOSITE" } else { "FULL_OBJECT" };
        return Err(s3_error!(
            InvalidRequest,
            "The {kind} checksum type cannot be used with the {} checksum algorithm.",
            algorithm.name().to_lowercase()
        ));
    }
    Ok(Some(Sum { algorithm: algorithm.name().to_owned(), composite }))
}

pub(super) fn sum_kind(sum: &Sum) -> (Option<ChecksumAlgorithm>, Option<ChecksumType>) {
    let kind = if sum.composite { ChecksumType::COMPOSITE } else { ChecksumType::FULL_OBJECT };
    (Some(ChecksumAlgorithm::from(sum.algorithm.clone())), Some(ChecksumType::from_static(kind)))
}

pub(super) async fn create(
    call: Call<'_>,
    request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let S3Request { input, headers, .. } = request;
    object_name(&input.key)?;
    refuse_unsupported(&headers)?;
    let attributes = lane::attributes(&description(&headers)?).map_err(error::from_api)?;
    let attributes = Packed::pack(&attributes).ok_or_else(|| s3_error!(MetadataTooLarge))?;
    let place = Place::new(&input.bucket, &input.key);
    let checksum = upload_sum(&headers)?;
    let told = call.owner(Ask::CreateUpload { place, attributes, checksum: checksum.clone() }).await?;
    let Told::Upload(upload) = told else { return Err(s3_error!(InternalError)) };
    let (checksum_algorithm, checksum_type) = checksum.as_ref().map(sum_kind).unwrap_or_default();
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(upload.upload),
        checksum_algorithm,
        checksum_type,
        ..Default::default()
    }))
}

pub(super) fn part_number(number: i32) -> S3Result<u16> {
    let number = u16::try_from(number).ok().filter(|number| (1..=PART_NUMBER_MAX).contains(number));
    number.ok_or_else(|| {
        s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive")
    })
}

fn mark(upload: &str, number: i32) -> S3Result<HeaderValue> {
    HeaderValue::from_str(&part_mark(upload, part_number(number)?)).map_err(|_| s3_error!(NoSuchUpload))
}

pub(super) async fn put_part(
    call: Call<'_>,
    request: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let S3Request { input, headers, trailing_headers, .. } = request;
    object_name(&input.key)?;
    let mut given = HeaderMap::new();
    given.insert(HEADER_PART, mark(&input.upload_id, input.part_number)?);
    super::object::pass(&headers, &mut given, &[HeaderName::from_static("content-md5")]);
    let length = input.content_length.and_then(|length| u64::try_from(length).ok());
    if length.is_some_and(|length| length <= MD5_BYTES_MAX) {
        given.insert(HEADER_ETAG, HeaderValue::from_static("md5"));
    }
    let (body, proof) = upload::verified(call.shell, input.body, &headers, trailing_headers, length).await?;
    if let Some(name) = proof.promised().and_then(upload::storable) {
        given.insert(HEADER_CHECKSUM, HeaderValue::from_static(name));
    }
    let sent = proof.promised().map_or_else(|| "null".to_owned(), |sent| sent.name().to_lowercase());
    if let Ok(sent) = HeaderValue::from_str(&sent) {
        given.insert(HEADER_CHECKSUM_SENT, sent);
    }
    let stored = match call.lane(Method::PUT, &path_of(&input.bucket, &input.key), given, Some(body)).await {
        Ok(stored) => stored,
        Err(refused) => {
            let refusal = proof.refusal().unwrap_or_else(|| error::from_api(refused));
            return Err(call.homeless(&input.bucket, refusal).await);
        }
    };
    let mut response = S3Response::new(UploadPartOutput { e_tag: etag(&stored), ..Default::default() });
    let sum = proof.sum().or_else(|| kept_sum(stored.headers()).map(|(algorithm, sum, _)| (algorithm, sum)));
    describe_sum(&mut response.headers, sum, None);
    Ok(response)
}

pub(super) async fn copy_part(
    call: Call<'_>,
    request: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let S3Request { input, headers, .. } = request;
    object_name(&input.key)?;
    let (bucket, key, version) = copy::source(&call, &input.copy_source).await?;
    let mut write = HeaderMap::new();
    write.insert(HEADER_PART, mark(&input.upload_id, input.part_number)?);
    let ask = CopyAsk {
        from: copy::source_path(&bucket, &key, version.as_deref()),
        to: path_of(&input.bucket, &input.key),
        read: copy::conditions(&headers),
        range: input.copy_source_range.as_deref().map(copy_range).transpose()?,
        write,
        described: Some(HeaderMap::new()),
    };
    let copied =
        lane::copy(call.shell, &call.request_id, ask).await.map_err(|refused| match refused.code {
            "InvalidRange" => beyond(&refused),
            _ => super::versions::source_refused(refused),
        })?;
    let (e_tag, last_modified) = copy::result(&copied);
    let mut result = CopyPartResult { e_tag, last_modified, ..Default::default() };
    let kept = copied.response.headers().get(HEADER_CHECKSUM).and_then(|value| value.to_str().ok());
    if let Some(sum) = kept.and_then(sums::Checksum::decode) {
        put_sum!(result, sum);
    }
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result: Some(result),
        copy_source_version_id: super::versions::version_of(&copied.source),
        ..Default::default()
    }))
}

/// A range that ends behind its source.
fn beyond(refused: &ApiError) -> S3Error {
    let range = refused.headers.iter().find(|(name, _)| *name == CONTENT_RANGE);
    let size = range.and_then(|(_, range)| range.to_str().ok()?.rsplit('/').next()).unwrap_or_default();
    s3_error!(InvalidArgument, "Range specified is not valid for source object of size: {size}")
}

/// `bytes=first-last`, and nothing else.
fn copy_range(text: &str) -> S3Result<(u64, u64)> {
    let range = text.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
    let range = range.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    range.filter(|(first, last): &(u64, u64)| first <= last).ok_or_else(|| {
        s3_error!(
            InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
             zero-based offsets of the first and last bytes to copy"
        )
    })
}

/// The one checksum among those that a document or its headers may carry, as the store encodes it.
fn one_sum(given: [(sums::Algorithm, &Option<String>); 5]) -> Result<Option<String>, Unclear> {
    let mut found = given.into_iter().filter_map(|(algorithm, text)| Some((algorithm, text.as_ref()?)));
    let Some((algorithm, text)) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(Unclear::Many);
    }
    let sum = sums::Checksum::parse(algorithm, text);
    sum.map(|sum| Some(sum.encode())).ok_or(Unclear::NoSum(algorithm))
}

/// Why checksums say nothing.
enum Unclear {
    Many,
    NoSum(sums::Algorithm),
}

impl Unclear {
    fn of_part(&self) -> S3Error {
        s3_error!(InvalidArgument, "Invalid Base64 or multiple checksums present in request")
    }

    fn of_whole(&self) -> S3Error {
        match self {
            Self::Many => s3_error!(
                InvalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
            ),
            Self::NoSum(algorithm) => s3_error!(
                InvalidRequest,
                "Value for x-amz-checksum-{} header is invalid.",
                algorithm.name().to_lowercase()
            ),
        }
    }
}

fn listed(part: CompletedPart) -> S3Result<ListedPart> {
    let (Some(number), true) = (part.part_number, part.e_tag.is_some()) else {
        return Err(s3_error!(MalformedXML));
    };
    if number < 1 {
        return Err(s3_error!(InvalidArgument, "PartNumber must be >= 1"));
    }
    let checksum = one_sum([
        (sums::Algorithm::Crc32, &part.checksum_crc32),
        (sums::Algorithm::Crc32c, &part.checksum_crc32c),
        (sums::Algorithm::Crc64Nvme, &part.checksum_crc64nvme),
        (sums::Algorithm::Sha1, &part.checksum_sha1),
        (sums::Algorithm::Sha256, &part.checksum_sha256),
    ])
    .map_err(|unclear| unclear.of_part())?;
    let number = u16::try_from(number).map_err(|_| s3_error!(InvalidPart))?;
    Ok(ListedPart { number, etag: part.e_tag.map(|etag| etag.into_value()), checksum })
}

/// Does the list say of checksums what the upload was opened with?
async fn fits(
    call: &Call<'_>,
    place: &Place,
    upload: &str,
    list: &Completion,
    kind: Option<&ChecksumType>,
) -> S3Result<()> {
    let bare = list.parts.iter().find(|part| part.checksum.is_none());
    if kind.is_none() && bare.is_none() {
        return Ok(());
    }
    let ask = Ask::ListParts { place: place.clone(), upload: upload.to_owned(), after: 0, max: 1 };
    // An upload that is complete already may be told so again.
    let Ok(Told::Parts { upload, .. }) = call.owner(ask).await else { return Ok(()) };
    let (_, opened) = upload.checksum.as_ref().map(sum_kind).unwrap_or_default();
    let opened = opened.as_ref().map_or(ChecksumType::FULL_OBJECT, ChecksumType::as_str);
    if kind.is_some_and(|kind| kind.as_str() != opened) {
        return Err(s3_error!(
            InvalidRequest,
            "The upload was created using the {opened} checksum mode. The complete request must use the same \
             checksum mode."
        ));
    }
    match (bare, upload.checksum) {
        (Some(part), Some(sum)) if sum.composite => Err(s3_error!(
            InvalidRequest,
            "The upload was created using a {} checksum. The complete request must include the checksum for each \
             part. It was missing for part {} in the request.",
            sum.algorithm.to_lowercase(),
            part.number
        )),
        _ => Ok(()),
    }
}

fn whole_size(size: i64) -> S3Result<u64> {
    u64::try_from(size).map_err(|_| {
        s3_error!(InvalidRequest, "Value for x-amz-mp-object-size header is less than zero: '{size}'")
    })
}

pub(super) async fn complete(
    call: Call<'_>,
    request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let S3Request { input, headers, .. } = request;
    object_name(&input.key)?;
    let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    if parts.is_empty() || parts.len() > usize::from(PART_NUMBER_MAX) {
        return Err(s3_error!(MalformedXML));
    }
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let list = Completion {
        parts: parts.into_iter().map(listed).collect::<S3Result<_>>()?,
        if_match: text(&IF_MATCH),
        if_none_match: text(&IF_NONE_MATCH),
        checksum: one_sum([
            (sums::Algorithm::Crc32, &input.checksum_crc32),
            (sums::Algorithm::Crc32c, &input.checksum_crc32c),
            (sums::Algorithm::Crc64Nvme, &input.checksum_crc64nvme),
            (sums::Algorithm::Sha1, &input.checksum_sha1),
            (sums::Algorithm::Sha256, &input.checksum_sha256),
        ])
        .map_err(|unclear| unclear.of_whole())?,
        size: input.mpu_object_size.map(whole_size).transpose()?,
    };
    let place = Place::new(&input.bucket, &input.key);
    fits(&call, &place, &input.upload_id, &list, input.checksum_type.as_ref()).await?;
    let told = call.owner(Ask::CompleteUpload { place, upload: input.upload_id, list: Box::new(list) }).await;
    let told = match told {
        Ok(told) => told,
        Err(error) => {
            let error = call.homeless(&input.bucket, error).await;
            return Err(call.unmet((&input.bucket, &input.key), &headers, error).await);
        }
    };
    let Told::Stored(stored) = told else { return Err(s3_error!(InternalError)) };
    let mut output = CompleteMultipartUploadOutput {
        location: Some(call.location(&headers, &input.bucket, &input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: s3s::dto::ETag::parse_http_header(format!("\"{}\"", stored.etag).as_bytes()).ok(),
        version_id: stored.version,
        ..Default::default()
    };
    let sum = stored.checksum.as_deref().and_then(sums::Checksum::decode);
    let (algorithm, value, kind) = match &sum {
        Some(sum) => shown_sum(sum),
        None => (Algorithm::Crc64Nvme, lane::crc64_text(stored.crc64), ChecksumType::FULL_OBJECT),
    };
    output.checksum_type = Some(ChecksumType::from_static(kind));
    match algorithm {
        Algorithm::Crc32 => output.checksum_crc32 = Some(value),
        Algorithm::Crc32c => output.checksum_crc32c = Some(value),
        Algorithm::Sha1 => output.checksum_sha1 = Some(value),
        Algorithm::Sha256 => output.checksum_sha256 = Some(value),
        _ => output.checksum_crc64nvme = Some(value),
    }
    Ok(S3Response::new(output))
}

pub(super) async fn abort(
    call: Call<'_>,
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let input = request.input;
    object_name(&input.key)?;
    let place = Place::new(&input.bucket, &input.key);
    if let Err(error) = call.owner(Ask::AbortUpload { place, upload: input.upload_id }).await {
        return Err(call.homeless(&input.bucket, error).await);
    }
    Ok(S3Response::with_status(AbortMultipartUploadOutput::default(), StatusCode::NO_CONTENT))
}
