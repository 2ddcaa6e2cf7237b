//! Deletion: one script takes the object away, its chunks are freed behind it.

use std::sync::Arc;

use blobstore_sidecar_core::{
    key,
    ledger::Family,
    precondition::{Access, Current, Outcome},
    record::Head,
};
use blobstore_sidecar_runtime::{authority::Tenure, tasks};

use crate::{
    CrashPoint, DeleteOutcome, DeleteRequest, ErrorKind, StoreError,
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
    ) -> Result<DeleteOutcome, StoreError> {
        // Seen through even if the client leaves: caches and ledger have to learn what happened.
        let inner = Arc::clone(self);
        let done = tasks::spawn("delete", async move { inner.delete_now(&request).await });
        done.await.unwrap_or_else(|error| {
            Err(StoreError::new(ErrorKind::Protocol, "the deletion ended unexpectedly").caused_by(error))
        })
    }

    async fn delete_now(&self, request: &DeleteRequest) -> Result<DeleteOutcome, StoreError> {
        let target = self.target(&request.bucket, &request.name);
        let tenure = self.owned(target.tag.slot())?;
        self.bucket(&request.bucket, false).await?;
        for _ in 0..DELETE_TRIES_MAX {
            let want = match self.want_deleted(request, &target, &tenure).await? {
                Some(head) => head.generation.0.to_vec(),
                None => b"any".to_vec(),
            };
            let change = self.changing.begin(&target.cache_key);
            match self.delete_record(&target, &want).await? {
                Deleted::Changed => change.acknowledged(),
                Deleted::Absent => {
                    self.authority.acknowledged(&tenure).await?;
                    change.acknowledged();
                    return Ok(DeleteOutcome { existed: false });
                }
                Deleted::Done(doomed) => {
                    self.crash_at(CrashPoint::Deleted)?;
                    let acknowledged = self.authority.acknowledged(&tenure);
                    let (acknowledged, ()) = tokio::join!(acknowledged, self.free_or_leave(doomed));
                    acknowledged?;
                    change.acknowledged();
                    return Ok(DeleteOutcome { existed: true });
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
    ) -> Result<Option<Head>, StoreError> {
        if request.conditions.is_empty() {
            return Ok(None);
        }
        let head = self.head_of(target, tenure).await?;
        let current = head.as_ref().map(|head| Current { etag: &head.etag, modified_ms: head.modified_ms });
        match (request.conditions.evaluate(Access::Write, current), head) {
            (Outcome::Proceed, head) => Ok(head),
            _ => Err(StoreError::new(ErrorKind::Precondition, "the object does not meet the condition")),
        }
    }

    /// Takes the record away, if it still is the wanted one (`any`, or 16 bytes of generation).
    pub(crate) async fn delete_record(&self, target: &Target, want: &[u8]) -> Result<Deleted, StoreError> {
        let Target { bucket, name, tag, .. } = target;
        let (record, names, sums) = (target.record(), target.names(), key::sums(*tag));
        let list = key::pending_free(*tag);
        self.cache.invalidate_record(&target.cache_key);
        let keys = [record.as_str(), names.as_str(), sums.as_str(), list.as_str()];
        let args = [bucket.as_str().as_bytes(), name.as_str().as_bytes(), want];
        let answer: Result<(String, Vec<u8>), StoreError> =
            self.meta.script(&scripts::DELETE, &keys, &args).await;
        self.cache.invalidate_record(&target.cache_key);
        let (word, head) = answer?;
        match word.as_str() {
            "ABSENT" => Ok(Deleted::Absent),
            "CHANGED" => Ok(Deleted::Changed),
            "OK" => {
                self.damage.lift(&target.cache_key);
                self.ledger.member_removed(Family::Names, names.as_bytes(), name.as_str().len());
                let Ok(head) = Head::decode(&head) else { return Ok(Deleted::Done(None)) };
                self.ledger.string_removed(Family::Record, record.len(), head.value_len());
                let doomed = Doomed::of(*tag, &head);
                Ok(Deleted::Done(doomed.and_then(|doomed| self.retire(doomed))))
            }
            _ => Err(errors::garbage()),
        }
    }
}

/// What the delete script said.
#[derive(Debug)]
pub(crate) enum Deleted {
    Absent,
    Changed,
    /// Gone; what can be freed now.
    Done(Option<Doomed>),
}
