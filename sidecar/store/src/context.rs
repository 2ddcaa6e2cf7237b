//! What every operation of the store shares: engine, caches, registries, and the questions to the authority.

use std::sync::{Arc, Mutex, atomic::AtomicBool};

use blobstore_sidecar_core::{
    chunk::class_payloads,
    generation::Generation,
    key::{self, BucketName, ObjectName},
    ledger::LedgerSink,
    partition::{PartitionTag, partition_of, tag_of},
};
use blobstore_sidecar_runtime::{
    authority::{Authority, Owner, Tenure},
    budget::Budget,
    pool::Pool,
};
use rand::RngCore;
use tokio::sync::{Notify, Semaphore};

use crate::{
    CrashPoint, EngineAddress, ErrorKind, StoreError, StoreOptions,
    buckets::BucketCache,
    cache::Cache,
    changing::Changing,
    clock::Times,
    damage::Damage,
    engine::{Lanes, Meta},
    memory::Memory,
    multipart::COPIES_MAX,
    readers::Readers,
    uploads::Uploads,
};

/// Idle buffers kept for the next request: 32 chunks.
const POOL_IDLE_BYTES_MAX: u64 = 8 << 20;

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) address: EngineAddress,
    pub(crate) options: StoreOptions,
    pub(crate) authority: Arc<dyn Authority>,
    pub(crate) ledger: Arc<dyn LedgerSink>,
    /// Writers and readers have lanes of their own: slow readers must not keep a commit waiting.
    pub(crate) write_lanes: Lanes,
    pub(crate) read_lanes: Lanes,
    pub(crate) meta: Meta,
    pub(crate) pool: Pool,
    pub(crate) budget: Budget,
    pub(crate) cache: Cache,
    pub(crate) readers: Readers,
    pub(crate) uploads: Uploads,
    pub(crate) changing: Changing,
    pub(crate) memory: Memory,
    pub(crate) buckets: BucketCache,
    /// Records whose last-access hour is out of date.
    pub(crate) touched: Mutex<Vec<(PartitionTag, String, Generation)>>,
    /// Wakes the sweeper: something is to be freed now.
    pub(crate) wake: Arc<Notify>,
    pub(crate) draining: AtomicBool,
    pub(crate) damage: Damage,
    pub(crate) times: Times,
    /// Copies that pass through this pod take turns.
    pub(crate) copies: Semaphore,
}

/// Buffers for whatever is read from an engine.
pub(crate) fn pool() -> Pool {
    Pool::new(class_payloads().map(|len| len as usize), POOL_IDLE_BYTES_MAX)
}

impl Inner {
    pub(crate) fn new(
        address: &EngineAddress,
        options: StoreOptions,
        authority: Arc<dyn Authority>,
        ledger: Arc<dyn LedgerSink>,
    ) -> Self {
        let budget = Budget::new(options.limits.inflight_bytes_max);
        let timeout = options.timing.engine_timeout;
        let wait = timeout + std::time::Duration::from_millis(options.limits.admission_wait_ms);
        let lanes = || Lanes::new(address.clone(), options.auth.clone(), timeout, wait);
        let wake = Arc::new(Notify::new());
        Self {
            address: address.clone(),
            write_lanes: lanes(),
            read_lanes: lanes(),
            meta: Meta::new(address.clone(), options.auth.clone(), timeout),
            pool: pool(),
            cache: Cache::new(options.cache.clone(), budget.clone()),
            readers: Readers::new(Arc::clone(&wake)),
            uploads: Uploads::new(Arc::clone(&wake)),
            memory: Memory::default(),
            changing: Changing::default(),
            buckets: BucketCache::default(),
            touched: Mutex::default(),
            draining: AtomicBool::new(false),
            damage: Damage::default(),
            times: Times::new(Arc::clone(&options.clock)),
            copies: Semaphore::new(COPIES_MAX),
            wake,
            budget,
            options,
            authority,
            ledger,
        }
    }

    /// The right to serve the slot, or who has it.
    pub(crate) fn owned(&self, slot: u16) -> Result<Tenure, StoreError> {
        match self.authority.owner(slot) {
            Owner::Here(tenure) => Ok(tenure),
            Owner::Peer { address, epoch } => {
                let message = format!("another pod owns this object: {address}");
                let kind = ErrorKind::NotOwner { address: Some(address), epoch };
                Err(StoreError::new(kind, message))
            }
            Owner::Nobody => Err(StoreError::new(
                ErrorKind::Withheld,
                "no pod serves this part of the store right now: retry in a moment",
            )),
        }
    }

    /// Partitions that this store serves now.
    pub(crate) fn served(&self) -> impl Iterator<Item = PartitionTag> + '_ {
        let partitions = self.options.partitions;
        (0..partitions)
            .map(move |partition| tag_of(partition, partitions))
            .filter(|tag| matches!(self.authority.owner(tag.slot()), Owner::Here(_)))
    }

    pub(crate) fn target(&self, bucket: &BucketName, name: &ObjectName) -> Target {
        let partitions = self.options.partitions;
        let partition = partition_of(bucket.as_str(), name.as_str(), partitions);
        let tag = tag_of(partition, partitions);
        Target {
            bucket: bucket.clone(),
            name: name.clone(),
            partition,
            tag,
            cache_key: Arc::from(format!("{bucket}/{name}")),
            cache_bucket: bucket.shared(),
        }
    }

    /// The slot of an object.
    pub(crate) fn slot_of(&self, bucket: &BucketName, name: &ObjectName) -> u16 {
        let partitions = self.options.partitions;
        tag_of(partition_of(bucket.as_str(), name.as_str(), partitions), partitions).slot()
    }

    pub(crate) fn new_generation(&self) -> Generation {
        let mut random = [0; 10];
        rand::rng().fill_bytes(&mut random);
        Generation::new(self.times.birth_ms(), random)
    }

    /// True: the test wants the store to stop here.
    pub(crate) fn crash_at(&self, point: CrashPoint) -> Result<(), StoreError> {
        if self.options.crash == Some(point) {
            return Err(StoreError::new(ErrorKind::EngineDown, "stopped at a crash point"));
        }
        Ok(())
    }

    pub(crate) fn crashes(&self) -> bool {
        self.options.crash.is_some()
    }
}

/// One object and where it lives.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) bucket: BucketName,
    pub(crate) name: ObjectName,
    pub(crate) partition: u32,
    pub(crate) tag: PartitionTag,
    pub(crate) cache_key: Arc<str>,
    pub(crate) cache_bucket: Arc<str>,
}

impl Target {
    pub(crate) fn record(&self) -> String {
        key::record(self.tag, self.bucket.as_str(), self.name.as_str())
    }

    pub(crate) fn names(&self) -> String {
        key::names(self.tag, self.bucket.as_str())
    }

    pub(crate) fn not_found(&self) -> StoreError {
        StoreError::new(
            ErrorKind::NotFound,
            format!("no object {:?} in bucket {}", self.name.as_str(), self.bucket),
        )
    }
}
