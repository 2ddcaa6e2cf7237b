//! Small operations at the object's owner: answered here, or asked of the peer that has the object.

use std::sync::Arc;

use blobstore_sidecar_core::checksum::Checksum;
use blobstore_sidecar_core::etag::TagSet;
use blobstore_sidecar_core::key::BucketName;
use blobstore_sidecar_core::precondition::Conditions;
use blobstore_sidecar_runtime::authority::Owner;
use blobstore_sidecar_store::{
    Change, CompleteUpload, CreateUpload, ErrorKind, ListPartsRequest, PartRef, PutOutcome, StoreError,
    UpdateRequest, UploadId, UploadRef, Version, Versioning,
};
use http::StatusCode;

use super::{TRIES_MAX, TRY_PAUSE, failure};
use crate::error::{ApiError, known_code};
use crate::shell::Shell;
use crate::wire::ASK_PATH;
use crate::wire::ask::{Answer, Ask, Completion, ObjectParts, Part, Place, Refusal, Stored, Told, Upload};

/// Asks whoever owns the object. What the owner refuses comes back as an error.
pub async fn ask(shell: &Arc<Shell>, request_id: &str, ask: &Ask) -> Result<Told, ApiError> {
    if let Ask::SetVersioning { bucket, keeps } = ask
        && Versioning::parse(keeps) == Some(Versioning::Enabled)
        && shell.origins.buckets().any(|shown| shown == bucket)
    {
        let message = "the bucket shows an origin: each refill would be kept as a version";
        return Err(ApiError::new(StatusCode::CONFLICT, "InvalidBucketState", message));
    }
    let slot = slot(shell, ask).map_err(|error| failure::from_store(error, request_id))?;
    for attempt in 0..TRIES_MAX {
        if attempt > 0 {
            tokio::time::sleep(TRY_PAUSE).await;
        }
        let outcome = match shell.authority.owner(slot) {
            Owner::Here(_) => Box::pin(ask_here(shell, ask)).await.map(Answer::Told),
            Owner::Peer { address, epoch: _ } => shell.peering.call(&address, ASK_PATH, Some(ask)).await,
            Owner::Nobody => continue,
        };
        match outcome {
            Ok(Answer::Told(told)) => return Ok(told),
            Ok(Answer::Refused(refusal)) => return Err(from_refusal(refusal)),
            Err(error) if matches!(error.kind, ErrorKind::NotOwner { .. }) => {}
            Err(error) if error.kind == ErrorKind::NoSuchBucket => {
                return Err(ApiError::no_such_bucket(ask.bucket()));
            }
            Err(error) => return Err(failure::from_store(error, request_id)),
        }
    }
    Err(ApiError::unavailable("no pod owns this key at the moment: a primary is being chosen, retry"))
}

fn from_refusal(refusal: Refusal) -> ApiError {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    ApiError::new(status, known_code(&refusal.code), refusal.message)
}

/// For a peer: what it is told, refusals included. Not being the owner is none: the peer asks another pod.
pub async fn answer_here(shell: &Arc<Shell>, ask: &Ask) -> Result<Answer, StoreError> {
    let error = match Box::pin(ask_here(shell, ask)).await {
        Ok(told) => return Ok(Answer::Told(told)),
        Err(error) => error,
    };
    if matches!(error.kind, ErrorKind::NotOwner { .. }) {
        return Err(error);
    }
    let refused = match error.kind {
        ErrorKind::NoSuchBucket => ApiError::no_such_bucket(ask.bucket()),
        _ => failure::from_store(error, ""),
    };
    Ok(Answer::Refused(Refusal {
        status: refused.status.as_u16(),
        code: refused.code.to_owned(),
        message: refused.message.into_owned(),
    }))
}

async fn ask_here(shell: &Arc<Shell>, ask: &Ask) -> Result<Told, StoreError> {
    let store = &shell.store;
    Ok(match ask {
        Ask::CreateUpload { place, attributes, checksum } => {
            let (bucket, name) = place.parse()?;
            let attributes = attributes.unpack().ok_or_else(unreadable)?;
            let checksum = checksum.as_ref().map(|sum| sum.parse().ok_or_else(unreadable)).transpose()?;
            let request = CreateUpload { attributes, checksum, ..CreateUpload::new(bucket, name) };
            Told::Upload(Upload::from(store.create_upload(request).await?))
        }
        Ask::ListParts { place, upload, after, max } => {
            let to = upload_of(place, upload)?;
            let page = store.list_parts(ListPartsRequest { to, after: *after, max: *max }).await?;
            let parts = page.parts.into_iter().map(Part::from).collect();
            Told::Parts { upload: page.upload.into(), parts, next: page.next }
        }
        Ask::CompleteUpload { place, upload, list } => {
            let request = completion(upload_of(place, upload)?, list)?;
            Told::Stored(stored(&store.complete_upload(request).await?))
        }
        Ask::SetDocument { bucket, name, text } => {
            store.set_document(&BucketName::parse(bucket.clone())?, name, text.as_deref()).await?;
            Told::Done
        }
        Ask::SetVersioning { bucket, keeps } => {
            let keeps = Versioning::parse(keeps).ok_or_else(unreadable)?;
            store.set_versioning(&BucketName::parse(bucket.clone())?, keeps).await?;
            Told::Done
        }
        Ask::SetTags { place, version, tags } => {
            let (bucket, name) = place.parse()?;
            let (conditions, change) = (Conditions::default(), Change::Tags(tags.clone()));
            let request = UpdateRequest { bucket, name, conditions, change };
            let tagged = match version_of(version.as_deref())? {
                Some(version) => store.update_version(request, version).await?,
                None => store.update(request).await?,
            };
            Told::Tagged { version: tagged.version.to_string() }
        }
        Ask::ObjectParts { place, version, after, max } => {
            let version = version_of(version.as_deref())?;
            let (bucket, name) = place.parse()?;
            // What comes from an origin comes whole.
            let parts = match shell.origins.covers(&bucket, &name) {
                true => ObjectParts::default(),
                false => store.parts_of((&bucket, &name, version), *after, *max).await?.into(),
            };
            Told::ObjectParts(parts)
        }
        Ask::AbortUpload { place, upload } => {
            store.abort_upload(&upload_of(place, upload)?).await?;
            Told::Done
        }
    })
}

impl Ask {
    /// `None`: it is about the bucket itself.
    fn place(&self) -> Option<&Place> {
        match self {
            Self::CreateUpload { place, .. }
            | Self::ListParts { place, .. }
            | Self::CompleteUpload { place, .. }
            | Self::SetTags { place, .. }
            | Self::ObjectParts { place, .. }
            | Self::AbortUpload { place, .. } => Some(place),
            Self::SetDocument { .. } | Self::SetVersioning { .. } => None,
        }
    }

    fn bucket(&self) -> &str {
        match self {
            Self::SetDocument { bucket, .. } | Self::SetVersioning { bucket, .. } => bucket,
            other => other.place().map_or("", |place| &place.bucket),
        }
    }
}

/// Whose it is: the object's, or the bucket's home.
fn slot(shell: &Shell, ask: &Ask) -> Result<u16, StoreError> {
    match ask.place() {
        Some(place) => {
            let (bucket, name) = place.parse()?;
            Ok(shell.store.slot_of(&bucket, &name))
        }
        None => Ok(shell.store.home_slot_of(&BucketName::parse(ask.bucket())?)),
    }
}

fn version_of(text: Option<&str>) -> Result<Option<Version>, StoreError> {
    text.map(|text| Version::parse(text).ok_or_else(unreadable)).transpose()
}

fn unreadable() -> StoreError {
    StoreError::new(ErrorKind::Protocol, "a peer asked what cannot be read: is it of another version?")
}

fn upload_of(place: &Place, upload: &str) -> Result<UploadRef, StoreError> {
    place.upload(upload)?.ok_or_else(|| {
        let message = format!("no upload has the id {upload:?}");
        StoreError::new(ErrorKind::NoSuchUpload, message)
    })
}

fn completion(to: UploadRef, list: &Completion) -> Result<CompleteUpload, StoreError> {
    let tags = |text: &Option<String>| -> Result<Option<TagSet>, StoreError> {
        let Some(text) = text else { return Ok(None) };
        let message = "a condition is neither * nor a list of quoted ETags";
        TagSet::parse(text).map(Some).ok_or_else(|| StoreError::new(ErrorKind::InvalidName, message))
    };
    let sum = |text: &Option<String>| text.as_deref().and_then(Checksum::decode);
    let parts = list.parts.iter().map(|part| PartRef {
        number: part.number,
        etag: part.etag.clone(),
        checksum: sum(&part.checksum),
    });
    Ok(CompleteUpload {
        to,
        parts: parts.collect(),
        conditions: Conditions {
            if_match: tags(&list.if_match)?,
            if_none_match: tags(&list.if_none_match)?,
            ..Conditions::default()
        },
        checksum: sum(&list.checksum),
        size: list.size,
    })
}

pub(super) fn stored(outcome: &PutOutcome) -> Stored {
    Stored {
        etag: outcome.etag.to_string(),
        modified_ms: outcome.modified_ms,
        size: outcome.size,
        crc64: outcome.crc64,
        checksum: outcome.checksum.as_ref().map(Checksum::encode),
        version: outcome.version.map(|version| version.to_string()),
    }
}

/// `upload.number`, as [`super::HEADER_PART`] carries it.
pub fn part_mark(upload: &str, number: u16) -> String {
    format!("{upload}.{number}")
}

pub(super) fn parse_part_mark(text: &str) -> Option<(UploadId, u16)> {
    let (upload, number) = text.split_once('.')?;
    Some((UploadId::parse(upload)?, number.parse().ok()?))
}
