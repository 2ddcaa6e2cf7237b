//! The end of an upload without an object: asked for, or because nobody went on with it.

use std::sync::Arc;

use blobstore_sidecar_core::{
    generation::Generation,
    key::{self, BucketName, ObjectName},
    ledger::Family,
    partition::PartitionTag,
};
use blobstore_sidecar_runtime::tasks;
use redis::cmd;

use super::{
    UploadId, UploadRef, journal_entry, no_such_upload,
    state::{self, UploadMeta},
};
use crate::{
    ErrorKind, StoreError,
    context::{Inner, Target},
    doomed::{Doomed, unlink},
    engine::errors,
    scripts,
};

/// Parts that one call of the script gives away: about a millisecond of the engine's time.
const PARTS_AT_A_TIME: &[u8] = b"256";
/// Calls for one upload: twice what the most parts need.
const CALLS_MAX: usize = 80;

impl Inner {
    pub(super) async fn abort_upload(self: &Arc<Self>, upload: &UploadRef) -> Result<(), StoreError> {
        let target = self.target(&upload.bucket, &upload.name);
        let tenure = self.owned(target.tag.slot())?;
        self.upload_meta(&target, upload.upload).await?;
        let (inner, id) = (Arc::clone(self), upload.upload);
        // Seen through even if the client leaves.
        tasks::seen_through("abort an upload", async move {
            inner.close_upload(&target, id.0).await?;
            inner.authority.acknowledged(&tenure).await?;
            Ok(())
        })
        .await
    }

    /// By the sweeper: an upload whose time is over.
    pub(crate) async fn expire_upload(
        &self,
        tag: PartitionTag,
        bucket: &str,
        name: &str,
        upload: Generation,
    ) -> Result<(), StoreError> {
        let (Ok(bucket), Ok(name)) = (BucketName::parse(bucket), ObjectName::parse(name)) else {
            return Err(errors::garbage());
        };
        let target = Target { tag, ..self.target(&bucket, &name) };
        self.close_upload(&target, upload).await?;
        crate::metrics::UPLOADS_EXPIRED.inc();
        Ok(())
    }

    /// Safe to repeat: the upload is closed first, then its parts go, itself last.
    async fn close_upload(&self, target: &Target, upload: Generation) -> Result<(), StoreError> {
        let tag = target.tag;
        let keys = [
            key::upload(tag, upload),
            key::open_uploads(tag, target.bucket.as_str()),
            key::journal(tag),
            key::sums(tag),
            key::pending_free(tag),
        ];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let member = state::member(target.name.as_str(), upload);
        let entry = journal_entry(target, UploadId(upload)).member();
        let bucket = target.bucket.as_str().as_bytes();
        for _ in 0..CALLS_MAX {
            let args: [&[u8]; 4] = [&member, entry.as_bytes(), bucket, PARTS_AT_A_TIME];
            let answer: Vec<String> = self.meta.script(&scripts::UPLOAD_ABORT, &keys, &args).await?;
            for doomed in answer.iter().skip(1).filter_map(|entry| Doomed::parse(tag, entry)) {
                let doomed = self.retire(doomed);
                self.free_or_leave(doomed).await;
            }
            match answer.first().map(String::as_str) {
                Some("MORE") => {}
                Some("OK" | "ABSENT") => {
                    self.account_closed(target, upload);
                    return self.drop_unfinished(tag, upload).await;
                }
                _ => return Err(errors::garbage()),
            }
        }
        Err(no_such_upload(UploadId(upload)))
    }

    /// After a bucket was deleted: its uploads are nobody's. Those of a new bucket of this name stay.
    pub(crate) async fn drop_uploads_of(&self, bucket: &BucketName) -> Result<(), StoreError> {
        let created_ms = match self.bucket(bucket, true).await {
            Ok(info) => Some(info.created_ms),
            Err(error) if error.kind == ErrorKind::NoSuchBucket => None,
            Err(error) => return Err(error),
        };
        let tags: Vec<PartitionTag> = self.served().collect();
        for tag in tags {
            let list = cmd("ZRANGE").arg(key::open_uploads(tag, bucket.as_str())).arg(0).arg(-1).to_owned();
            let members: Vec<Vec<u8>> = self.meta.query("list a bucket's uploads", &list).await?;
            for (name, upload) in members.iter().filter_map(|member| state::parse_member(member)) {
                let read = cmd("HGET").arg(key::upload(tag, upload)).arg("meta").to_owned();
                let meta: Option<Vec<u8>> = self.meta.query("read an upload", &read).await?;
                let meta = meta.as_deref().and_then(UploadMeta::decode);
                if meta.is_none_or(|meta| Some(meta.bucket_created_ms) != created_ms) {
                    self.expire_upload(tag, bucket.as_str(), &name, upload).await?;
                }
            }
        }
        Ok(())
    }

    /// What a completion that did not come to its commit may have left.
    async fn drop_unfinished(&self, tag: PartitionTag, upload: Generation) -> Result<(), StoreError> {
        let keys = [key::part_list(tag, upload), key::staged(tag, upload)];
        let _gone: u64 = self.meta.query("drop a part list", &unlink(&keys)).await?;
        Ok(())
    }

    pub(super) fn account_opened(&self, target: &Target, upload: UploadId, meta_len: usize) {
        let (tag, ledger) = (target.tag, &self.ledger);
        let member = target.name.as_str().len() + 33;
        ledger.member_added(Family::Upload, key::upload(tag, upload.0).as_bytes(), 4 + meta_len);
        let open = key::open_uploads(tag, target.bucket.as_str());
        ledger.member_added(Family::OpenUploads, open.as_bytes(), member);
        let entry = journal_entry(target, upload).member().len();
        ledger.member_added(Family::Journal, key::journal(tag).as_bytes(), entry);
    }

    /// The upload's hash is gone as a whole, with whatever was in it.
    pub(super) fn account_closed(&self, target: &Target, upload: Generation) {
        let (tag, ledger) = (target.tag, &self.ledger);
        ledger.collection_removed(Family::Upload, key::upload(tag, upload).as_bytes());
        let open = key::open_uploads(tag, target.bucket.as_str());
        ledger.member_removed(Family::OpenUploads, open.as_bytes(), target.name.as_str().len() + 33);
        let entry = journal_entry(target, UploadId(upload)).member().len();
        ledger.member_removed(Family::Journal, key::journal(tag).as_bytes(), entry);
    }
}
