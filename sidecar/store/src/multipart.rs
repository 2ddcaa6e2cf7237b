//! Multipart uploads: opened, filled part by part, completed into one object whose body stays where the parts put it,
//! or aborted. All of an upload lives in the partition of its object.

use std::{fmt::Display, sync::Arc};

use blobstore_sidecar_core::key;
use bytes::Bytes;
use futures::Stream;
use redis::cmd;

use crate::{
    ErrorKind, PutOutcome, Store, StoreError,
    context::{Inner, Target},
    engine::errors,
    scripts,
    uploads::{EntryKind, JournalEntry},
};

mod abort;
mod api;
mod complete;
mod list;
mod listed;
mod part;
mod spans;
pub(crate) mod state;

pub use api::{
    CompleteUpload, CreateUpload, ListPartsRequest, ListUploadsRequest, PART_BYTES_MIN, PartCopyRequest,
    PartInfo, PartRef, PartRequest, PartsPage, UploadChecksum, UploadId, UploadInfo, UploadItem, UploadRef,
    UploadsPage,
};
pub(crate) use part::COPIES_MAX;
pub use spans::{ObjectPart, ObjectParts};
use state::UploadMeta;

/// Tries against a bucket that is closed and opened again under the call.
const CREATE_TRIES_MAX: u32 = 4;

impl Store {
    /// Opens an upload. It stays open until it is completed, aborted, or without a new part for long.
    pub async fn create_upload(&self, request: CreateUpload) -> Result<UploadInfo, StoreError> {
        self.inner.create_upload(request).await
    }

    /// Stores one part; a part of the same number is replaced.
    pub async fn put_part<S, E>(&self, request: PartRequest, body: S) -> Result<PartInfo, StoreError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Display + Send,
    {
        self.inner.put_part(request, body).await
    }

    /// Stores one part from an object that is served here; else `NotOwner`: then stream it to `put_part`.
    pub async fn copy_part(&self, request: PartCopyRequest) -> Result<PartInfo, StoreError> {
        self.inner.copy_part(request).await
    }

    pub async fn list_parts(&self, request: ListPartsRequest) -> Result<PartsPage, StoreError> {
        self.inner.list_parts(&request).await
    }

    /// Over the partitions that this store serves.
    pub async fn list_uploads(&self, request: ListUploadsRequest) -> Result<UploadsPage, StoreError> {
        self.inner.list_uploads(&request).await
    }

    /// Makes the listed parts the object. A second call for the same upload answers the same, as long as the object is
    /// still that one.
    pub async fn complete_upload(&self, request: CompleteUpload) -> Result<PutOutcome, StoreError> {
        self.inner.complete_upload(request).await
    }

    pub async fn abort_upload(&self, upload: &UploadRef) -> Result<(), StoreError> {
        self.inner.abort_upload(upload).await
    }
}

pub(crate) fn no_such_upload(upload: UploadId) -> StoreError {
    let message = format!("there is no open upload {upload}: it was completed, aborted or swept");
    StoreError::new(ErrorKind::NoSuchUpload, message)
}

/// The upload's own entry in the journal: not a body, but what ends it when it is abandoned.
fn journal_entry(target: &Target, upload: UploadId) -> JournalEntry {
    JournalEntry {
        kind: EntryKind::Multipart,
        generation: upload.0,
        declared: None,
        reserved: 0,
        bucket: target.bucket.as_str().into(),
        name: target.name.as_str().into(),
    }
}

impl Inner {
    async fn create_upload(self: &Arc<Self>, request: CreateUpload) -> Result<UploadInfo, StoreError> {
        let target = self.target(&request.bucket, &request.name);
        let tenure = self.owned(target.tag.slot())?;
        let mut bucket = self.bucket(&request.bucket, false).await?;
        let upload = UploadId(self.new_generation());
        let (tag, ttl) = (target.tag, self.options.timing.upload_ttl.as_millis().to_string());
        let keys = [
            key::upload(tag, upload.0),
            key::open_uploads(tag, request.bucket.as_str()),
            key::journal(tag),
            key::sums(tag),
        ];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let member = state::member(request.name.as_str(), upload.0);
        let entry = journal_entry(&target, upload).member();
        for _ in 0..CREATE_TRIES_MAX {
            let meta = UploadMeta {
                bucket_created_ms: bucket.created_ms,
                expires_ms: request.expires_ms,
                checksum: request.checksum,
                attributes: request.attributes.clone(),
            };
            let meta = meta.encode().ok_or_else(|| {
                let message = "the object's headers, metadata and tags are larger than 8 KiB together";
                StoreError::new(ErrorKind::MetadataTooLarge, message)
            })?;
            let epoch = bucket.epoch.to_string();
            let args: [&[u8]; 6] = [
                &meta,
                &member,
                entry.as_bytes(),
                ttl.as_bytes(),
                request.bucket.as_str().as_bytes(),
                epoch.as_bytes(),
            ];
            let answer: Vec<String> = self.meta.script(&scripts::UPLOAD_CREATE, &keys, &args).await?;
            match answer.first().map(String::as_str) {
                Some("OK") => {
                    self.account_opened(&target, upload, meta.len());
                    self.authority.acknowledged(&tenure).await?;
                    return Ok(UploadInfo {
                        name: request.name.as_str().into(),
                        upload,
                        initiated_ms: upload.0.born_ms(),
                        attributes: request.attributes,
                        checksum: request.checksum,
                    });
                }
                Some("SEALED") => bucket = self.reopened(&bucket).await?,
                _ => return Err(errors::garbage()),
            }
        }
        Err(StoreError::new(ErrorKind::Busy, "the bucket changes too often: retry in a moment"))
    }

    /// What an open upload is, or that there is none.
    async fn upload_meta(&self, target: &Target, upload: UploadId) -> Result<UploadMeta, StoreError> {
        let bucket = self.bucket(&target.bucket, false).await?;
        let read = cmd("HMGET").arg(key::upload(target.tag, upload.0)).arg("meta").arg("closed").to_owned();
        let (meta, closed): (Option<Vec<u8>>, Option<u64>) = self.meta.query("read an upload", &read).await?;
        let open = meta.filter(|_| closed.is_none()).as_deref().and_then(UploadMeta::decode);
        let open = open.filter(|meta| meta.bucket_created_ms == bucket.created_ms);
        open.ok_or_else(|| no_such_upload(upload))
    }
}

/// The checksum kinds that S3 knows for uploads in parts.
impl UploadChecksum {
    /// The SHAs of parts cannot be joined to that of the whole; CRC64-NVME is always of the whole.
    pub fn is_possible(&self) -> bool {
        use blobstore_sidecar_core::checksum::Algorithm;
        match self.algorithm {
            Algorithm::Crc64Nvme => !self.composite,
            algorithm => self.composite || algorithm.combines(),
        }
    }
}
