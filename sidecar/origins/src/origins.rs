//! Reads of buckets with an origin: the store first, then what the age of its copy asks for.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blobstore_sidecar_api::config::ClientsConfig;
use blobstore_sidecar_api::origins::{OriginConfig, OriginWrites};
use blobstore_sidecar_core::key::{BucketName, ObjectName};
use blobstore_sidecar_core::precondition::Conditions;
use blobstore_sidecar_runtime::clients::Clients;
use blobstore_sidecar_store::{ErrorKind, GetOutcome, GetRequest, HeadRequest, ObjectMeta, StoreError};

use crate::blobs::{Key, SharedBlobs};
use crate::client::{Client, ClientKey, IDLE_CONNECTIONS_MAX};
use crate::failure::Failure;
use crate::filling::{Filling, Old, now_ms};
use crate::freshness::{Freshness, age_ms, freshness};
use crate::line::{Line, Pod, REQUESTS_MAX, WAITING_MAX};
use crate::mark::Mark;
use crate::metrics::{self, READS};
use crate::origin::Origin;

mod absent;
mod expired;

pub use absent::NONE_YET;

/// A copy may be evicted, or replaced, between the answer about it and its read; once more than twice is a storm.
const TRIES_MAX: usize = 3;

/// All origins of the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Origins(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    /// By bucket, the longest prefix first.
    origins: Vec<Arc<Origin>>,
    filling: Arc<Filling>,
    clients: Arc<Clients<ClientKey, Client>>,
}

/// What the store has of an object, and how old it is.
struct Copy {
    old: Old,
    freshness: Freshness,
}

impl Origins {
    /// `admission_wait`: the longest wait in line.
    pub fn new(
        configs: Vec<OriginConfig>,
        clients: &ClientsConfig,
        admission_wait: Duration,
        blobs: SharedBlobs,
    ) -> Self {
        let max = usize::try_from(clients.max).ok().and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN);
        let clients = Arc::new(Clients::new(max, Duration::from_secs(clients.ttl_seconds)));
        let pod = Pod::new(admission_wait);
        let open = |config: OriginConfig| {
            metrics::register(&config.name);
            Arc::new(Origin::new(config, Line::new(Arc::clone(&pod)), Arc::clone(&clients)))
        };
        let mut origins: Vec<Arc<Origin>> = configs.into_iter().map(open).collect();
        origins.sort_by_key(|origin| std::cmp::Reverse(origin.config.prefix.len()));
        Self(Arc::new(Inner { origins, filling: Arc::new(Filling::new(blobs)), clients }))
    }

    /// Buckets that must be there for anything to be stored.
    pub fn buckets(&self) -> impl Iterator<Item = &str> {
        self.0.origins.iter().map(|origin| origin.config.bucket.as_str())
    }

    /// An origin stands behind this name: read it here. All others are the store's alone.
    pub fn covers(&self, bucket: &BucketName, name: &ObjectName) -> bool {
        self.0.find(bucket, name).is_some()
    }

    /// Tasks that fills and connections may be, when every line is full and every client has idle connections.
    pub fn tasks_max(&self) -> u64 {
        let idle = self.0.clients.count().saturating_mul(IDLE_CONNECTIONS_MAX);
        u64::try_from(3 * REQUESTS_MAX + WAITING_MAX + idle).unwrap_or(u64::MAX)
    }

    /// Clients in the LRU now.
    pub fn clients_open(&self) -> usize {
        self.0.clients.count()
    }

    /// Closes clients that are too old; for the housekeeping tick.
    pub fn sweep(&self, now: Instant) {
        self.0.clients.sweep(now);
    }

    /// Closes clients that nobody uses; tells how many.
    pub fn trim(&self) -> u64 {
        self.0.clients.trim_idle()
    }

    /// Closes every client: shutdown. One in use closes with its last user.
    pub fn clear(&self) {
        self.0.clients.clear();
    }

    /// A write or delete that the resource forbids.
    pub fn refuses(&self, bucket: &BucketName, name: &ObjectName) -> Option<StoreError> {
        let origin = self.0.find(bucket, name)?;
        if origin.config.writes == OriginWrites::Local {
            return None;
        }
        let message = format!("this bucket shows the origin {} and takes no writes", origin.name);
        Some(StoreError::new(ErrorKind::ReadOnly, message))
    }

    /// [`blobstore_sidecar_store::Store::get`], with what the store does not have.
    pub async fn get(&self, request: GetRequest) -> Result<GetOutcome, StoreError> {
        match self.0.find(&request.bucket, &request.name) {
            None => self.0.filling.blobs.get(request).await,
            Some(origin) => Box::pin(self.0.get(origin, request)).await,
        }
    }

    /// [`blobstore_sidecar_store::Store::head`]; asks the origin for headers at most.
    pub async fn head(&self, request: HeadRequest) -> Result<ObjectMeta, StoreError> {
        match self.0.find(&request.bucket, &request.name) {
            None => self.0.filling.blobs.head(request).await,
            Some(origin) => Box::pin(self.0.head(origin, request)).await,
        }
    }
}

impl Inner {
    fn find(&self, bucket: &BucketName, name: &ObjectName) -> Option<&Arc<Origin>> {
        let here = |origin: &&Arc<Origin>| {
            origin.config.bucket == bucket.as_str() && name.as_str().starts_with(&origin.config.prefix)
        };
        self.origins.iter().find(here)
    }

    async fn get(&self, origin: &Arc<Origin>, request: GetRequest) -> Result<GetOutcome, StoreError> {
        let key = Key { bucket: request.bucket.clone(), name: request.name.clone() };
        for attempt in 1..=TRIES_MAX {
            // Where fills keep ending without success, the last try begins one all the same.
            let since = (attempt < TRIES_MAX).then(|| self.filling.moment());
            let found = self.filling.blobs.get(request.clone()).await;
            let meta = match &found {
                Ok(found) => Some(found.meta.clone()),
                Err(error) => self.meta_behind(&key, error).await?,
            };
            let Some(meta) = meta else {
                if matches!(&found, Err(error) if error.kind != ErrorKind::NotFound) {
                    return found;
                }
                match self.get_absent(origin, &key, &request, since).await? {
                    Some(found) => return Ok(found),
                    None => continue,
                }
            };
            let Some(copy) = self.copy(origin, &key, &meta) else {
                return found;
            };
            match copy.freshness {
                Freshness::Fresh => {
                    self.count(origin, "hit");
                    return found;
                }
                Freshness::Refresh => {
                    self.refresh(origin, &key, copy.old);
                    self.count(origin, "stale");
                    return found;
                }
                Freshness::Expired { if_error } => {
                    // The bytes in hand may be outdated: their permits go to others meanwhile.
                    drop(found);
                    match self.get_expired(origin, &key, &request, copy.old, if_error).await? {
                        Some(found) => return Ok(found),
                        None => continue,
                    }
                }
            }
        }
        Err(StoreError::new(ErrorKind::Busy, "the object changes too often: retry in a moment"))
    }

    async fn head(&self, origin: &Arc<Origin>, request: HeadRequest) -> Result<ObjectMeta, StoreError> {
        let key = Key { bucket: request.bucket.clone(), name: request.name.clone() };
        let found = self.filling.blobs.head(request.clone()).await;
        let meta = match &found {
            Ok(meta) => Some(meta.clone()),
            Err(error) => self.meta_behind(&key, error).await?,
        };
        let Some(meta) = meta else {
            if matches!(&found, Err(error) if error.kind != ErrorKind::NotFound) {
                return found;
            }
            return self.head_absent(origin, &key, &request.conditions).await;
        };
        let Some(copy) = self.copy(origin, &key, &meta) else {
            return found;
        };
        match copy.freshness {
            Freshness::Fresh => self.count(origin, "hit"),
            Freshness::Refresh => {
                self.refresh(origin, &key, copy.old);
                self.count(origin, "stale");
            }
            Freshness::Expired { if_error } => {
                if let Some(now) = self.head_expired(origin, &key, copy.old, if_error).await? {
                    return evaluated(&request.conditions, now);
                }
            }
        }
        found
    }

    /// An error that is an answer about a stored object: about which one? `None`: there is none, or it is no answer.
    async fn meta_behind(&self, key: &Key, error: &StoreError) -> Result<Option<ObjectMeta>, StoreError> {
        match error.kind {
            ErrorKind::NotModified | ErrorKind::Precondition | ErrorKind::RangeNotSatisfiable { .. } => {
                if let Some(current) = &error.current {
                    return Ok(Some((**current).clone()));
                }
                match self.filling.blobs.head(plain_head(key)).await {
                    Ok(meta) => Ok(Some(meta)),
                    Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error),
                }
            }
            _ => Ok(None),
        }
    }

    /// `None`: not a copy; somebody wrote it here, and it stays as it is.
    fn copy(&self, origin: &Origin, key: &Key, meta: &ObjectMeta) -> Option<Copy> {
        let mark = Mark::decode(meta.attributes.origin.as_deref()?)?;
        let validated = self.filling.memory.validated_ms(key, meta.etag.bytes());
        let since = meta.modified_ms.max(validated.unwrap_or_default());
        let same = mark.origin == *origin.name;
        let freshness = if same {
            freshness(&origin.config, age_ms(now_ms(), since))
        } else {
            // The resource names another origin now: what the old one said counts for nothing.
            Freshness::Expired { if_error: true }
        };
        Some(Copy { old: Old { etag: meta.etag, mark: same.then_some(mark) }, freshness })
    }

    /// Asks the origin in the background, unless it is asked already, or others wait for it.
    fn refresh(&self, origin: &Arc<Origin>, key: &Key, old: Old) {
        if origin.has_room() && !self.filling.is_running(key) {
            self.filling.enter(origin, key, Some(old)).0.want();
        }
    }

    fn count(&self, origin: &Origin, result: &str) {
        READS.with_label_values(&[&*origin.name, result]).inc();
    }

    /// A failure as a client gets it.
    fn failed(&self, origin: &Origin, failure: Failure) -> StoreError {
        self.count(origin, "failed");
        tracing::debug!(origin = &*origin.name, category = failure.kind.category(), %failure, "read failed");
        failure.into()
    }
}

fn plain_head(key: &Key) -> HeadRequest {
    HeadRequest { bucket: key.bucket.clone(), name: key.name.clone(), conditions: Conditions::default() }
}

/// The conditions of a read against what the origin says.
pub(crate) fn evaluated(conditions: &Conditions, meta: ObjectMeta) -> Result<ObjectMeta, StoreError> {
    use blobstore_sidecar_core::precondition::{Access, Current, Outcome};
    let current = Current { etag: &meta.etag, modified_ms: meta.modified_ms };
    let (kind, message) = match conditions.evaluate(Access::Read, Some(current)) {
        Outcome::Proceed => return Ok(meta),
        Outcome::NotModified => (ErrorKind::NotModified, "the object is the one that the client has"),
        Outcome::Failed => (ErrorKind::Precondition, "the object does not meet the condition"),
    };
    let mut error = StoreError::new(kind, message);
    error.current = Some(Box::new(meta));
    Err(error)
}
