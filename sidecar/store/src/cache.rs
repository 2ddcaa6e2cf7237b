//! Chunks and records in memory: the `lru` crate for order, bytes for the bound, sharded locks, a share per bucket.
//! Only our own exact-size buffers enter. An entry's weight is computed once, when it comes in.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use blobstore_sidecar_api::config::CacheConfig;
use blobstore_sidecar_core::generation::Generation;
use blobstore_sidecar_runtime::{budget::Budget, pool::Pooled};
use lru::LruCache;
use prometheus::IntCounter;

use crate::{
    CacheStats,
    metrics::{
        CACHE_BYTES, CACHE_EVICTED, CACHE_INSERTED, CACHE_MISSES, CACHE_SKIPPED, CHUNK_HITS, RECORD_HITS,
    },
    record_entry::RecordEntry,
};

mod fills;

pub(crate) use fills::{Fill, FillGuard, Fills};

/// Locks of the cache. Two cores rarely meet in one of sixteen.
const SHARDS: usize = 16;
/// What an entry costs besides its buffer: map node, list links, control block, key.
const ENTRY_OVERHEAD: u64 = 256;
/// Entries looked at, from the coldest, to find one of a bucket that is over its share.
const SHARE_SCAN_MAX: usize = 64;
/// Stripes of the counters that keep an old record from entering after a commit.
const VERSIONS: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CacheKey {
    /// `bucket/name`.
    Record(Arc<str>),
    Chunk(Generation, u32),
}

#[derive(Clone, Debug)]
enum Held {
    Record(Arc<RecordEntry>),
    Chunk(Pooled),
}

#[derive(Debug)]
struct Entry {
    held: Held,
    bucket: Arc<str>,
    weight: u64,
}

#[derive(Debug)]
pub(crate) struct Cache {
    shards: Vec<Mutex<LruCache<CacheKey, Entry>>>,
    hasher: RandomState,
    config: CacheConfig,
    budget: Budget,
    bytes: AtomicU64,
    by_bucket: Mutex<HashMap<Arc<str>, u64>>,
    versions: Vec<AtomicU64>,
    hits: AtomicU64,
    misses: AtomicU64,
    inserted: AtomicU64,
    evicted: AtomicU64,
    pub(crate) fills: Fills,
}

impl Cache {
    pub(crate) fn new(config: CacheConfig, budget: Budget) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(LruCache::unbounded())).collect(),
            hasher: RandomState::new(),
            config,
            budget,
            bytes: AtomicU64::new(0),
            by_bucket: Mutex::default(),
            versions: (0..VERSIONS).map(|_| AtomicU64::new(0)).collect(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            inserted: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            fills: Fills::default(),
        }
    }

    pub(crate) fn enabled(&self) -> bool {
        self.config.max_bytes > 0
    }

    /// A blob of this size may enter.
    pub(crate) fn takes(&self, blob_bytes: u64) -> bool {
        self.enabled() && blob_bytes <= self.config.max_entry_bytes
    }

    pub(crate) fn record(&self, key: &Arc<str>) -> Option<Arc<RecordEntry>> {
        self.record_at_hand(key).or_else(|| {
            self.missed("record");
            None
        })
    }

    pub(crate) fn chunk(&self, generation: Generation, index: u32) -> Option<Pooled> {
        self.chunk_at_hand(generation, index).or_else(|| {
            self.missed("chunk");
            None
        })
    }

    /// As [`Cache::record`], by one who asks again if there is none: only then it counts as a miss.
    pub(crate) fn record_at_hand(&self, key: &Arc<str>) -> Option<Arc<RecordEntry>> {
        match self.get(&CacheKey::Record(Arc::clone(key)), &RECORD_HITS)? {
            Held::Record(record) => Some(record),
            Held::Chunk(_) => None,
        }
    }

    pub(crate) fn chunk_at_hand(&self, generation: Generation, index: u32) -> Option<Pooled> {
        match self.get(&CacheKey::Chunk(generation, index), &CHUNK_HITS)? {
            Held::Chunk(chunk) => Some(chunk),
            Held::Record(_) => None,
        }
    }

    fn get(&self, key: &CacheKey, hits: &IntCounter) -> Option<Held> {
        if !self.enabled() {
            return None;
        }
        let held = lock(self.shard(key)).get(key).map(|entry| entry.held.clone())?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        hits.inc();
        Some(held)
    }

    fn missed(&self, kind: &'static str) {
        if self.enabled() {
            self.misses.fetch_add(1, Ordering::Relaxed);
            CACHE_MISSES.with_label_values(&[kind]).inc();
        }
    }

    /// To be read before the engine is asked; see [`Cache::insert_record`].
    pub(crate) fn version(&self, key: &str) -> u64 {
        self.version_of(key).load(Ordering::Acquire)
    }

    /// Puts a record in, unless a write to the object began or ended since `version` was read.
    pub(crate) fn insert_record(
        &self,
        key: &Arc<str>,
        bucket: &Arc<str>,
        record: Arc<RecordEntry>,
        version: u64,
    ) {
        if !self.takes(record.value.state.capacity() as u64) {
            return;
        }
        let weight = record.weight() + ENTRY_OVERHEAD;
        let keep = record.value.clone();
        let cache_key = CacheKey::Record(Arc::clone(key));
        self.insert(cache_key, Held::Record(record), bucket, weight, || {
            let current = self.version(key) == version;
            if current {
                keep.state.keep();
            }
            current
        });
    }

    pub(crate) fn insert_chunk(&self, generation: Generation, index: u32, bucket: &Arc<str>, chunk: Pooled) {
        let weight = chunk.state.capacity() as u64 + ENTRY_OVERHEAD;
        let state = Arc::clone(&chunk.state);
        self.insert(CacheKey::Chunk(generation, index), Held::Chunk(chunk), bucket, weight, || {
            state.keep();
            true
        });
    }

    /// Drops a record before and after a write: no reader may put the old one back.
    pub(crate) fn invalidate_record(&self, key: &Arc<str>) {
        self.version_of(key).fetch_add(1, Ordering::AcqRel);
        self.remove(&CacheKey::Record(Arc::clone(key)), "replaced");
    }

    /// Drops the chunks of a generation that is gone.
    pub(crate) fn forget_chunks(&self, generation: Generation, chunks: u32) {
        if self.enabled() && self.bytes.load(Ordering::Relaxed) > 0 {
            for index in 0..chunks {
                self.remove(&CacheKey::Chunk(generation, index), "replaced");
            }
        }
    }

    /// Drops one chunk whose bytes turned out wrong.
    pub(crate) fn drop_chunk(&self, generation: Generation, index: u32) {
        self.remove(&CacheKey::Chunk(generation, index), "damaged");
    }

    /// Evicts until at most `bytes` are held; tells how many went.
    pub(crate) fn trim(&self, bytes: u64) -> u64 {
        let before = self.bytes.load(Ordering::Relaxed);
        self.shrink(bytes, 0, "trimmed");
        before.saturating_sub(self.bytes.load(Ordering::Relaxed))
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let mut stats = CacheStats {
            bytes: self.bytes.load(Ordering::Relaxed),
            bytes_max: self.config.max_bytes,
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            inserted: self.inserted.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
            ..CacheStats::default()
        };
        for shard in &self.shards {
            let shard = lock(shard);
            stats.entries += shard.len() as u64;
            let records = shard.iter().filter(|(key, _)| matches!(key, CacheKey::Record(_))).count();
            stats.records += records as u64;
        }
        stats
    }

    fn insert(
        &self,
        key: CacheKey,
        held: Held,
        bucket: &Arc<str>,
        weight: u64,
        admit: impl FnOnce() -> bool,
    ) {
        if !self.enabled() || weight > self.config.max_bytes || !self.make_room_in_share(bucket, weight, &key)
        {
            CACHE_SKIPPED.inc();
            return;
        }
        let index = self.shard_index(&key);
        let entry = Entry { held, bucket: Arc::clone(bucket), weight };
        let Some(shard) = self.shards.get(index) else { return };
        let old = {
            let mut shard = lock(shard);
            if !admit() {
                return;
            }
            self.bytes.fetch_add(weight, Ordering::Relaxed);
            *self.shares().entry(Arc::clone(bucket)).or_default() += weight;
            shard.push(key, entry)
        };
        self.inserted.fetch_add(1, Ordering::Relaxed);
        CACHE_INSERTED.inc();
        if let Some((_, old)) = old {
            self.let_go(old, "replaced");
        }
        self.shrink(self.config.max_bytes, index, "full");
        CACHE_BYTES.set(i64::try_from(self.bytes.load(Ordering::Relaxed)).unwrap_or(i64::MAX));
    }

    /// A bucket over its share makes room among its own entries, or stays out.
    fn make_room_in_share(&self, bucket: &Arc<str>, weight: u64, key: &CacheKey) -> bool {
        let share = self.config.max_bytes / 100 * u64::from(self.config.tenant_share_percent.min(100));
        let over = || self.shares().get(bucket).copied().unwrap_or(0) + weight > share;
        let first = self.shard_index(key);
        for offset in 0..SHARDS {
            if !over() {
                return true;
            }
            while over() && self.evict_of(bucket, (first + offset) % SHARDS) {}
        }
        !over()
    }

    fn evict_of(&self, bucket: &Arc<str>, shard: usize) -> bool {
        let Some(shard) = self.shards.get(shard) else { return false };
        let entry = {
            let mut shard = lock(shard);
            let coldest = shard.iter().rev().take(SHARE_SCAN_MAX).find(|(_, entry)| entry.bucket == *bucket);
            let key = coldest.map(|(key, _)| key.clone());
            key.and_then(|key| shard.pop(&key))
        };
        entry.map(|entry| self.let_go(entry, "share")).is_some()
    }

    /// Evicts the coldest entries, beginning with shard `first`, down to `bytes`.
    fn shrink(&self, bytes: u64, first: usize, reason: &'static str) {
        for offset in 0..SHARDS {
            let Some(shard) = self.shards.get((first + offset) % SHARDS) else { return };
            while self.bytes.load(Ordering::Relaxed) > bytes {
                let Some((_, entry)) = lock(shard).pop_lru() else { break };
                self.let_go(entry, reason);
            }
        }
    }

    fn remove(&self, key: &CacheKey, reason: &'static str) {
        let entry = lock(self.shard(key)).pop(key);
        if let Some(entry) = entry {
            self.let_go(entry, reason);
        }
    }

    fn let_go(&self, entry: Entry, reason: &'static str) {
        let before = self.bytes.fetch_sub(entry.weight, Ordering::Relaxed);
        CACHE_BYTES.set(i64::try_from(before.saturating_sub(entry.weight)).unwrap_or(i64::MAX));
        {
            let mut shares = self.shares();
            if let Some(share) = shares.get_mut(&entry.bucket) {
                *share = share.saturating_sub(entry.weight);
                if *share == 0 {
                    shares.remove(&entry.bucket);
                }
            }
        }
        self.evicted.fetch_add(1, Ordering::Relaxed);
        CACHE_EVICTED.with_label_values(&[reason]).inc();
        match &entry.held {
            Held::Record(record) => record.value.state.release(&self.budget),
            Held::Chunk(chunk) => chunk.state.release(&self.budget),
        }
    }

    fn shares(&self) -> MutexGuard<'_, HashMap<Arc<str>, u64>> {
        lock(&self.by_bucket)
    }

    fn shard_index(&self, key: &CacheKey) -> usize {
        usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0)
    }

    fn shard(&self, key: &CacheKey) -> &Mutex<LruCache<CacheKey, Entry>> {
        &self.shards[self.shard_index(key)]
    }

    fn version_of(&self, key: &str) -> &AtomicU64 {
        &self.versions[usize::try_from(self.hasher.hash_one(key) % VERSIONS as u64).unwrap_or(0)]
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
