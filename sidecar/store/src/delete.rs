//! Deletion: one script takes the object away, its chunks are freed behind it.

use std::sync::Arc;

use blobstore_sidecar_core::{
    ledger::Family,
    precondition::{Access, Current, Outcome},
    record::Head,
    version::Version,
};
use blobstore_sidecar_runtime::{authority::Tenure, tasks};

use crate::{
    BucketInfo, CrashPoint, DeleteOutcome, DeleteRequest, ErrorKind, StoreError,
    commit::Before,
    context::{Inner, Target},
    doomed::Doomed,
    engine::errors,
    scripts,
};

/// Tries of a conditional deletion whose object changes under it.
const DELETE_TRIES_MAX: u32 = 8;

impl Inner {
    pub(crate) async fn delete(
        self: &Arc<Self>,
        request: DeleteRequest,
        version: Option<Version>,
    ) -> Result<DeleteOutcome, StoreError> {
        // Seen through even if the client leaves: caches and ledger have to learn what happened.
        let inner = Arc::clone(self);
        tasks::seen_through("delete", async move { inner.delete_now(&request, version).await }).await
    }

    async fn delete_now(
        &self,
        request: &DeleteRequest,
        version: Option<Version>,
    ) -> Result<DeleteOutcome, StoreError> {
        let target = self.target(&request.bucket, &request.name);
        let tenure = self.owned(target.tag.slot())?;
        let bucket = self.bucket(&request.bucket, false).await?;
        for _ in 0..DELETE_TRIES_MAX {
            let want = match self.want_deleted(request, &target, &tenure, version).await? {
                Some(head) => head.generation.0.to_vec(),
                None => b"any".to_vec(),
            };
            let change = self.changing.begin(&target.cache_key);
            match self.remove(&target, &bucket, &want, version).await? {
                Deleted::Changed | Deleted::Sealed => change.acknowledged(),
                Deleted::Absent => {
                    self.authority.acknowledged(&tenure).await?;
                    change.acknowledged();
                    return Ok(DeleteOutcome { existed: false, version, marker: false });
                }
                Deleted::Done(Gone { free, outcome }) => {
                    self.crash_at(CrashPoint::Deleted)?;
                    let acknowledged = self.authority.acknowledged(&tenure);
                    let (acknowledged, ()) = tokio::join!(acknowledged, self.free_all(free));
                    acknowledged?;
                    change.acknowledged();
                    return Ok(outcome);
                }
            }
        }
        Err(StoreError::new(ErrorKind::Busy, "the object changes too often: retry in a moment"))
    }

    /// `None`: whatever is there may go.
    async fn want_deleted(
        &self,
        request: &DeleteRequest,
        target: &Target,
        tenure: &Tenure,
        version: Option<Version>,
    ) -> Result<Option<Head>, StoreError> {
        if request.conditions.is_empty() {
            return Ok(None);
        }
        let head = match version {
            None => self.head_of(target, tenure).await?,
            Some(version) => self.find(target, version.bytes()).await?.map(|found| found.head),
        };
        let current = head.as_ref().map(|head| Current { etag: &head.etag, modified_ms: head.modified_ms });
        match (request.conditions.evaluate(Access::Write, current), head) {
            (Outcome::Proceed, head) => Ok(head),
            _ => Err(StoreError::new(ErrorKind::Precondition, "the object does not meet the condition")),
        }
    }

    /// Removes an object as its bucket wants it, or one version of it, if the current one still is the wanted one
    /// (`any`, or 16 bytes of generation). A bucket whose setting changed is asked again.
    pub(crate) async fn remove(
        &self,
        target: &Target,
        bucket: &BucketInfo,
        want: &[u8],
        version: Option<Version>,
    ) -> Result<Deleted, StoreError> {
        let mut known = bucket.clone();
        for _ in 0..DELETE_TRIES_MAX {
            let deleted = match version {
                Some(version) => self.purge(target, &known, version).await?,
                None if known.versioning().keeps() => self.mark(target, &known, want).await?,
                None => self.delete_record(target, &known.epoch.to_string(), want).await?,
            };
            match deleted {
                Deleted::Sealed => known = self.reopened(&known).await?,
                deleted => return Ok(deleted),
            }
        }
        Err(StoreError::new(ErrorKind::Busy, "the bucket changes too often: retry in a moment"))
    }

    /// Takes the record away without a trace. `epoch`: the bucket's, or nothing where there is no bucket any more.
    pub(crate) async fn delete_record(
        &self,
        target: &Target,
        epoch: &str,
        want: &[u8],
    ) -> Result<Deleted, StoreError> {
        let Target { name, tag, .. } = target;
        let (record, names) = (target.record(), target.names());
        self.cache.invalidate_record(&target.cache_key);
        let unread: &[u8] = if self.readers.any_of(&target.cache_key) { b"0" } else { b"1" };
        let answer: Result<(String, Vec<u8>, String), StoreError> =
            self.meta.script(&scripts::DELETE, &[&record], &[want, epoch.as_bytes(), unread]).await;
        self.cache.invalidate_record(&target.cache_key);
        let (word, head, freed) = answer?;
        match word.as_str() {
            "ABSENT" => Ok(Deleted::Absent),
            "CHANGED" => Ok(Deleted::Changed),
            "SEALED" => Ok(Deleted::Sealed),
            "OK" => {
                self.damage.doubt(&target.cache_key);
                self.ledger.member_removed(Family::Names, names.as_bytes(), name.as_str().len());
                let head = Head::decode(&head).ok();
                if let Some(head) = &head {
                    self.ledger.string_removed(Family::Record, record.len(), head.value_len());
                }
                let outcome = DeleteOutcome { existed: true, version: None, marker: false };
                let freed = freed == "1";
                let before = Before { replaced: head, freed, ..Before::default() };
                Ok(Deleted::Done(Gone { free: self.retire_before(*tag, &before), outcome }))
            }
            _ => Err(errors::garbage()),
        }
    }
}

/// What became of a deletion.
#[derive(Debug)]
pub(crate) enum Deleted {
    Absent,
    Changed,
    /// What is known of the bucket holds no more.
    Sealed,
    Done(Gone),
}

/// A deletion that is done.
#[derive(Debug)]
pub(crate) struct Gone {
    /// What can be freed now.
    pub(crate) free: Vec<Doomed>,
    pub(crate) outcome: DeleteOutcome,
}
