//! Reads of a version by its name. Its record is fetched each time, its chunks come from the cache like any other's.

use std::sync::Arc;

use blobstore_sidecar_core::version::Version;
use blobstore_sidecar_runtime::authority::Tenure;

use super::Found;
use crate::{
    Attributes, ErrorKind, GetOutcome, GetRequest, HeadRequest, ObjectMeta, Store, StoreError, UpdateRequest,
    context::{Inner, Target},
    record_entry::RecordEntry,
};

/// Looks for a version that moves while it is looked for: each saw it become current, or cease to be.
const FIND_TRIES_MAX: u32 = 8;

impl Store {
    /// As [`Store::get`], of one version.
    pub async fn get_version(&self, request: GetRequest, version: Version) -> Result<GetOutcome, StoreError> {
        self.inner.get(request, Some(version)).await
    }

    /// As [`Store::head`], of one version.
    pub async fn head_version(
        &self,
        request: HeadRequest,
        version: Version,
    ) -> Result<ObjectMeta, StoreError> {
        self.inner.head(&request, Some(version)).await
    }

    /// As [`Store::update`], of one version.
    pub async fn update_version(
        &self,
        request: UpdateRequest,
        version: Version,
    ) -> Result<ObjectMeta, StoreError> {
        self.change(request, Some(version)).await
    }
}

impl Inner {
    /// A version that can be shown.
    pub(crate) async fn shown(
        &self,
        target: &Target,
        tenure: &Tenure,
        version: Version,
    ) -> Result<Found, StoreError> {
        let found = self.find(target, version.bytes()).await?;
        match found.filter(|found| !self.times.is_over(found.head.expires_ms)) {
            Some(found) if found.head.delete_marker => {
                self.may_answer(target, tenure).await?;
                Err(marked(ErrorKind::DeleteMarker, "this version is a delete marker", &found))
            }
            Some(found) => Ok(found),
            None => match self.absent(target, tenure).await {
                error if error.kind == ErrorKind::NotFound => {
                    let message = format!("no version {version} of {:?}", target.name.as_str());
                    Err(StoreError::new(ErrorKind::NoSuchVersion, message))
                }
                error => Err(error),
            },
        }
    }

    /// The version's record, checked, and where it lies.
    pub(crate) async fn version_record(
        &self,
        target: &Target,
        tenure: &Tenure,
        version: Version,
    ) -> Result<(String, Arc<RecordEntry>), StoreError> {
        for _ in 0..FIND_TRIES_MAX {
            let Found { key, head } = self.shown(target, tenure, version).await?;
            let entry = self.fetch_record_at(&key, target, tenure).await?;
            if let Some(entry) = entry.filter(|entry| entry.record.head.generation == head.generation) {
                return Ok((key, Arc::new(entry)));
            }
        }
        Err(StoreError::new(ErrorKind::Busy, "the object changes too often: retry in a moment"))
    }

    pub(crate) async fn version_meta(
        &self,
        target: &Target,
        tenure: &Tenure,
        version: Version,
    ) -> Result<ObjectMeta, StoreError> {
        for _ in 0..FIND_TRIES_MAX {
            let Found { key, head } = self.shown(target, tenure, version).await?;
            let meta = self.read_head_at(&key).await?;
            if let Some(meta) = meta.filter(|meta| meta.generation == head.generation) {
                return Ok(meta);
            }
        }
        Err(StoreError::new(ErrorKind::Busy, "the object changes too often: retry in a moment"))
    }
}

/// An error that tells of a delete marker.
fn marked(kind: ErrorKind, message: &str, found: &Found) -> StoreError {
    let mut error = StoreError::new(kind, message);
    error.current = Some(Box::new(ObjectMeta::of(&found.head, Arc::new(Attributes::default()))));
    error
}
