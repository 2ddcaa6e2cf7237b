//! The handle that the lanes hold. Cheap to clone.

use std::{
    fmt::Display,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use blobstore_sidecar_core::{
    key::{BucketName, ObjectName},
    ledger::LedgerSink,
    list::ListPage,
};
use blobstore_sidecar_runtime::{
    authority::{Authority, Owner},
    budget::Budget,
    pool::Pool,
    tasks,
};
use bytes::Bytes;
use futures::Stream;

use crate::{
    BucketInfo, BucketUsage, CacheStats, DeleteOutcome, DeleteRequest, EngineAddress, GetOutcome, GetRequest,
    HeadRequest, LeaseAsk, ListRequest, ObjectMeta, PutOutcome, PutRequest, StoreError, StoreOptions,
    UploadProgress, cold, context::Inner, metrics, scrub, sweep,
};

/// How often a drain looks whether the uploads have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// The store beside one engine. Its background work ends with its last clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

impl Store {
    /// Connects when first used: the engine may start later, and may restart. Call it inside a runtime.
    pub fn open(
        address: EngineAddress,
        options: StoreOptions,
        authority: Arc<dyn Authority>,
        ledger: Arc<dyn LedgerSink>,
    ) -> Self {
        metrics::register();
        let inner = Arc::new(Inner::new(&address, options, authority, ledger));
        tasks::spawn("sweeper", sweep::run(Arc::downgrade(&inner)));
        tasks::spawn("scrubber", scrub::run(Arc::downgrade(&inner)));
        tasks::spawn("packer", cold::run(Arc::downgrade(&inner)));
        Self { inner }
    }

    pub fn options(&self) -> &StoreOptions {
        &self.inner.options
    }

    /// The pod's budget of bytes in flight, to be shared with forwarding.
    pub fn budget(&self) -> &Budget {
        &self.inner.budget
    }

    pub fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    /// The slot of an object; `Authority::owner` tells who serves it.
    pub fn slot_of(&self, bucket: &BucketName, name: &ObjectName) -> u16 {
        self.inner.slot_of(bucket, name)
    }

    /// The slot of a bucket's home.
    pub fn home_slot_of(&self, bucket: &BucketName) -> u16 {
        self.inner.home(bucket).slot()
    }

    /// Who serves the object now.
    pub fn owner_of(&self, bucket: &BucketName, name: &ObjectName) -> Owner {
        self.inner.authority.owner(self.slot_of(bucket, name))
    }

    /// Stores a body. Nothing is visible, and nothing is left behind, unless all of it arrived.
    pub fn put<S, E>(
        &self,
        request: PutRequest,
        body: S,
    ) -> impl Future<Output = Result<PutOutcome, StoreError>> + Send
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Display + Send,
    {
        self.inner.put(Arc::new(request), body)
    }

    /// Bytes of an upload that still runs, from `at` to the end of a chunk; below [`UploadProgress::readable`].
    pub async fn read_upload(
        &self,
        bucket: &BucketName,
        name: &ObjectName,
        progress: &UploadProgress,
        at: u64,
    ) -> Result<Bytes, StoreError> {
        self.inner.read_upload(&self.inner.target(bucket, name), progress, at).await
    }

    pub async fn head(&self, request: HeadRequest) -> Result<ObjectMeta, StoreError> {
        self.inner.head(&request, None).await
    }

    /// Answers when the first bytes are in hand and may go out.
    pub async fn get(&self, request: GetRequest) -> Result<GetOutcome, StoreError> {
        self.inner.get(request, None).await
    }

    /// As [`Store::get`], if all of it is in memory. `None` is no answer: ask in full.
    pub fn get_at_once(&self, request: &GetRequest) -> Option<GetOutcome> {
        self.inner.get_at_once(request)
    }

    pub async fn delete(&self, request: DeleteRequest) -> Result<DeleteOutcome, StoreError> {
        self.inner.delete(request, None).await
    }

    pub async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        self.inner.list(&request).await
    }

    /// At the bucket's home only (else `NotOwner`).
    pub async fn create_bucket(
        &self,
        name: &BucketName,
        quota_bytes: Option<u64>,
    ) -> Result<BucketInfo, StoreError> {
        self.inner.create_bucket(name, quota_bytes).await
    }

    /// From anywhere: asks the home through [`crate::Peers`] when it is elsewhere. Cached for a moment.
    pub async fn get_bucket(&self, name: &BucketName) -> Result<BucketInfo, StoreError> {
        self.inner.bucket(name, false).await
    }

    /// At the bucket's home only. `None` lifts the quota.
    pub async fn set_bucket(
        &self,
        name: &BucketName,
        quota_bytes: Option<u64>,
    ) -> Result<BucketInfo, StoreError> {
        self.inner.set_bucket(name, quota_bytes).await
    }

    /// At the bucket's home only.
    pub async fn delete_bucket(&self, name: &BucketName) -> Result<(), StoreError> {
        self.inner.delete_bucket(name).await
    }

    /// Buckets whose home is served here, in order. A store of several shards joins those of all.
    pub async fn list_buckets(&self) -> Result<Vec<BucketInfo>, StoreError> {
        self.inner.list_buckets().await
    }

    /// Sums over the partitions served here.
    pub async fn bucket_usage(&self, name: &BucketName) -> Result<BucketUsage, StoreError> {
        self.inner.bucket_usage(name).await
    }

    /// For a peer: [`crate::Peers::bucket`], answered by the home.
    pub async fn bucket_here(&self, name: &BucketName) -> Result<Option<BucketInfo>, StoreError> {
        self.inner.bucket_here(name).await
    }

    /// For a peer: [`crate::Peers::lease`], answered by the home.
    pub async fn lease_here(&self, ask: &LeaseAsk) -> Result<u64, StoreError> {
        self.inner.lease_here(ask).await
    }

    /// For a peer: [`crate::Peers::seal`], answered for the partitions served here.
    pub async fn seal_here(&self, name: &BucketName, epoch: u64) -> Result<bool, StoreError> {
        self.inner.seal_here(name, epoch).await
    }

    pub fn cache_stats(&self) -> CacheStats {
        self.inner.cache.stats()
    }

    /// Drops cached entries until at most `bytes` are held; tells how many bytes went.
    pub fn trim_cache(&self, bytes: u64) -> u64 {
        self.inner.cache.trim(bytes)
    }

    /// Frees idle buffers and closes idle lanes; tells how many bytes went.
    pub fn trim_idle(&self) -> u64 {
        self.inner.write_lanes.close();
        self.inner.read_lanes.close();
        self.inner.pool.trim()
    }

    /// One pass of the sweeper, now. The background task does the same by itself.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        self.inner.pass().await
    }

    /// Uploads under way.
    pub fn uploads(&self) -> usize {
        self.inner.uploads.count()
    }

    /// Refuses new uploads, waits up to `grace` for those under way, then closes what is idle.
    pub async fn drain(&self, grace: Duration) {
        self.inner.draining.store(true, Ordering::Release);
        let until = Instant::now() + grace;
        while self.inner.uploads.count() > 0 && Instant::now() < until {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
        self.inner.write_lanes.close();
        self.inner.read_lanes.close();
        self.inner.meta.close().await;
        self.inner.wake.notify_one();
    }
}
