//! Copies whose time is over: the origin is asked first, once for all who wait.

use std::sync::Arc;

use blobstore_sidecar_store::{ErrorKind, GetOutcome, GetRequest, ObjectMeta, StoreError};

use super::absent::{meta, opened};
use super::{Inner, plain_head};
use crate::blobs::Key;
use crate::failure::{Failure, FailureKind};
use crate::filling::{Old, now_ms};
use crate::metrics::REVALIDATIONS;
use crate::origin::Origin;

impl Inner {
    /// `None`: the copy has left the store meanwhile.
    pub(super) async fn get_expired(
        &self,
        origin: &Arc<Origin>,
        key: &Key,
        request: &GetRequest,
        old: Old,
        if_error: bool,
    ) -> Result<Option<GetOutcome>, StoreError> {
        let member = self.filling.enter(origin, key, Some(old));
        match opened(&member).await {
            Ok(info) => {
                self.count(origin, "miss");
                self.read(member, info, request).await.map(Some)
            }
            Err(failure) if failure.kind == FailureKind::NotModified => {
                self.count(origin, "hit");
                self.again(request).await
            }
            Err(failure) if if_error && failure.kind.may_be_stale() => {
                self.stale(origin, &failure);
                self.again(request).await
            }
            Err(failure) => Err(self.failed(origin, failure)),
        }
    }

    async fn again(&self, request: &GetRequest) -> Result<Option<GetOutcome>, StoreError> {
        match self.filling.blobs.get(request.clone()).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `None`: the copy is current, or has to do.
    pub(super) async fn head_expired(
        &self,
        origin: &Arc<Origin>,
        key: &Key,
        old: Old,
        if_error: bool,
    ) -> Result<Option<ObjectMeta>, StoreError> {
        let revalidated = |result| REVALIDATIONS.with_label_values(&[&*origin.name, result]).inc();
        match origin.head(&key.name).await {
            Ok(info) if old.mark.as_ref() == Some(&info.mark) => {
                revalidated("unchanged");
                self.filling.memory.set_validated(key, *old.etag.bytes(), now_ms());
                Ok(None)
            }
            Ok(info) => {
                revalidated("changed");
                meta(&info).map(Some)
            }
            Err(failure) if failure.kind == FailureKind::NotFound => {
                revalidated("gone");
                self.filling.gone(origin, key, Some(&old.etag)).await;
                Err(self.failed(origin, failure))
            }
            Err(failure) if if_error && failure.kind.may_be_stale() => {
                revalidated("failed");
                self.stale(origin, &failure);
                self.filling.blobs.head(plain_head(key)).await.map(|_| None)
            }
            Err(failure) => {
                revalidated("failed");
                Err(self.failed(origin, failure))
            }
        }
    }

    fn stale(&self, origin: &Origin, failure: &Failure) {
        self.count(origin, "stale");
        tracing::debug!(origin = &*origin.name, %failure, "a stale copy stands in");
    }
}
