//! Versions over S3: what a bucket keeps, and the listing of everything that it kept.

use blobstore_sidecar_core::key::BucketName;
use blobstore_sidecar_s3::names;
use blobstore_sidecar_store::{Version, VersionMarker, Versioning};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use s3s::dto::{
    BucketVersioningStatus, CommonPrefix, DeleteMarkerEntry, ETag, GetBucketVersioningInput,
    GetBucketVersioningOutput, ListObjectVersionsInput, ListObjectVersionsOutput, MFADelete, ObjectVersion,
    ObjectVersionStorageClass, PutBucketVersioningInput, PutBucketVersioningOutput,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::call::{Call, bucket_name};
use super::error;
use super::listing::{is_url, keys_max, owner, timestamp};
use crate::error::ApiError;
use crate::lane::{self, HEADER_MARKER, HEADER_VERSION};
use crate::wire::ItemsAsk;
use crate::wire::ask::Ask;
use crate::wire::versions::{Item, Shown};

/// Headers that tell of versions: they go to the client as they are.
const TOLD: [HeaderName; 2] = [HEADER_VERSION, HEADER_MARKER];

/// What an answer of the plain lane tells of versions.
pub(super) fn pass(from: &HeaderMap, to: &mut HeaderMap) {
    super::object::pass(from, to, &TOLD);
}

/// Tells of a version, if the bucket keeps any.
pub(super) async fn tell(call: &Call<'_>, bucket: &str, version: &str, to: &mut HeaderMap) {
    let Ok(bucket) = bucket_name(bucket) else { return };
    let told = version != "null" || call.shell.store.keeps_versions(&bucket).await;
    if let Some(value) = HeaderValue::from_str(version).ok().filter(|_| told) {
        to.insert(HEADER_VERSION, value);
    }
}

/// The version of an answer of the plain lane.
pub(super) fn version_of(headers: &HeaderMap) -> Option<String> {
    headers.get(HEADER_VERSION).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Is the version that an answer tells of a delete marker?
pub(super) fn is_marker(headers: &HeaderMap) -> bool {
    headers.contains_key(HEADER_MARKER)
}

/// Why a source could not be copied: a delete marker is none.
pub(super) fn source_refused(refused: ApiError) -> S3Error {
    if refused.status == StatusCode::METHOD_NOT_ALLOWED
        && refused.headers.iter().any(|(name, _)| *name == HEADER_MARKER)
    {
        let message =
            "The source of a copy request may not specifically refer to a delete marker by version id.";
        return s3_error!(InvalidRequest, "{message}");
    }
    error::from_api(refused)
}

/// A version's id that can be one.
pub(super) fn checked(version: Option<&str>) -> S3Result<Option<String>> {
    if version.is_some_and(str::is_empty) {
        return Err(s3_error!(InvalidArgument, "Version id cannot be the empty string"));
    }
    if version.is_some_and(|version| Version::parse(version).is_none()) {
        return Err(s3_error!(InvalidArgument, "Invalid version id specified"));
    }
    Ok(version.map(str::to_owned))
}

/// The path of an object, or of one version of it.
pub(super) fn path(bucket: &str, key: &str, version: Option<&str>) -> S3Result<String> {
    checked(version)?;
    Ok(super::copy::source_path(bucket, key, version))
}

pub(super) async fn get_state(
    call: Call<'_>,
    request: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    let bucket = bucket_name(&request.input.bucket)?;
    call.bucket_exists(bucket.as_str()).await?;
    let info = call.shell.store.get_bucket(&bucket).await;
    let info = info.map_err(|_| s3_error!(ServiceUnavailable))?;
    let status = Some(info.versioning()).filter(|keeps| keeps.keeps());
    let status = status.map(|keeps| BucketVersioningStatus::from_static(keeps.text()));
    Ok(S3Response::new(GetBucketVersioningOutput { status, ..Default::default() }))
}

pub(super) async fn put_state(
    call: Call<'_>,
    request: S3Request<PutBucketVersioningInput>,
) -> S3Result<S3Response<PutBucketVersioningOutput>> {
    let input = request.input;
    let bucket: BucketName = bucket_name(&input.bucket)?;
    let asked = input.versioning_configuration;
    let locks = asked.mfa_delete.as_ref().is_some_and(|mfa| mfa.as_str() != MFADelete::DISABLED);
    if locks || input.mfa.is_some() {
        return Err(s3_error!(NotImplemented, "MFA delete is not implemented"));
    }
    let known = |status: &BucketVersioningStatus| {
        Versioning::parse(status.as_str()).ok_or_else(|| s3_error!(MalformedXML))
    };
    let keeps = asked.status.as_ref().map(known).transpose()?.ok_or_else(|| {
        let message = "The Versioning element must be specified";
        S3Error::with_message(s3s::S3ErrorCode::IllegalVersioningConfigurationException, message)
    })?;
    call.bucket_exists(bucket.as_str()).await?;
    let (bucket, keeps) = (bucket.as_str().to_owned(), keeps.text().to_owned());
    call.owner(Ask::SetVersioning { bucket, keeps }).await?;
    Ok(S3Response::new(PutBucketVersioningOutput::default()))
}

/// How names are shown.
struct Show {
    url: bool,
}

impl Show {
    fn text(&self, text: &str) -> String {
        names::shown(text, self.url)
    }

    fn version(&self, shown: Shown) -> ObjectVersion {
        ObjectVersion {
            e_tag: Some(ETag::Strong(shown.etag)),
            is_latest: Some(shown.latest),
            key: Some(self.text(&shown.name)),
            last_modified: Some(timestamp(shown.modified_ms)),
            owner: Some(owner(None)),
            size: i64::try_from(shown.size).ok(),
            storage_class: Some(ObjectVersionStorageClass::from_static(ObjectVersionStorageClass::STANDARD)),
            version_id: Some(shown.version),
            ..Default::default()
        }
    }

    fn marker(&self, shown: Shown) -> DeleteMarkerEntry {
        DeleteMarkerEntry {
            is_latest: Some(shown.latest),
            key: Some(self.text(&shown.name)),
            last_modified: Some(timestamp(shown.modified_ms)),
            owner: Some(owner(None)),
            version_id: Some(shown.version),
        }
    }
}

pub(super) async fn list(
    call: Call<'_>,
    request: S3Request<ListObjectVersionsInput>,
) -> S3Result<S3Response<ListObjectVersionsOutput>> {
    let input = request.input;
    bucket_name(&input.bucket)?;
    let show = Show { url: is_url(input.encoding_type.as_ref())? };
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let ask = ItemsAsk {
        bucket: input.bucket.clone(),
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: given(&input.delimiter),
        after: given(&input.key_marker),
        after_item: given(&input.version_id_marker),
        max: keys_max(input.max_keys),
    };
    if input.version_id_marker.as_deref() == Some("") {
        return Err(s3_error!(InvalidArgument, "A version-id marker cannot be empty."));
    }
    if ask.after_item.is_some() && ask.after.is_none() {
        let message = "A version-id marker cannot be specified without a key marker.";
        return Err(s3_error!(InvalidArgument, "{message}"));
    }
    if ask.after_item.as_deref().is_some_and(|text| VersionMarker::parse(text).is_none()) {
        return Err(s3_error!(InvalidArgument, "Invalid version id specified"));
    }
    let page = lane::versions(call.shell, &call.request_id, &ask).await.map_err(error::from_api)?;
    let next = page.items.last().filter(|_| page.truncated).map(|item| match item {
        Item::Version(shown) => (shown.name.clone(), Some(shown.marker.clone())),
        Item::Prefix(prefix) => (prefix.clone(), None),
    });
    let (next_key, next_version) = next.unzip();
    let (mut versions, mut markers, mut prefixes) = (Vec::new(), Vec::new(), Vec::new());
    for item in page.items {
        match item {
            Item::Prefix(prefix) => prefixes.push(CommonPrefix { prefix: Some(show.text(&prefix)) }),
            Item::Version(shown) if shown.delete_marker => markers.push(show.marker(shown)),
            Item::Version(shown) => versions.push(show.version(shown)),
        }
    }
    Ok(S3Response::new(ListObjectVersionsOutput {
        common_prefixes: Some(prefixes),
        delete_markers: Some(markers),
        versions: Some(versions),
        delimiter: ask.delimiter.as_deref().map(|text| show.text(text)),
        encoding_type: input.encoding_type,
        is_truncated: Some(page.truncated),
        key_marker: Some(show.text(input.key_marker.as_deref().unwrap_or_default())),
        version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
        max_keys: i32::try_from(ask.max).ok(),
        name: Some(input.bucket),
        next_key_marker: next_key.map(|key| show.text(&key)),
        next_version_id_marker: next_version.flatten(),
        prefix: Some(show.text(&ask.prefix)),
        ..Default::default()
    }))
}
