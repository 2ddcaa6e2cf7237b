//! What the rest of the sidecar offers to hygiene: its counter pairs, and the memory it can give back. The program
//! wires this; no crate of the data path depends on us.

use std::sync::Arc;

use blobstore_sidecar_core::hygiene::sample::{CacheFigures, PoolFigures};
use blobstore_sidecar_store::Store;

/// What a trim gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    pub bytes: u64,
    pub handles: u64,
}

/// Implemented over the caches, the pool and the client handles. Calls are cheap and never block.
pub trait Trimmable: Send + Sync + std::fmt::Debug + 'static {
    fn pool(&self) -> Option<PoolFigures>;
    /// One entry per cache, names from a bounded set.
    fn caches(&self) -> Vec<CacheFigures>;
    /// Tasks that should be alive: the fixed ones and so many per open connection. None: nobody counts.
    fn expected_tasks(&self) -> Option<u64>;
    /// Shrinks every cache to `percent` of what it holds, or may hold if that is less, and closes handles that nobody uses.
    fn trim(&self, percent: u32) -> Trimmed;
}

/// For tools and tests: nothing to balance, nothing to trim.
#[derive(Debug)]
pub struct NoHooks;

impl Trimmable for NoHooks {
    fn pool(&self) -> Option<PoolFigures> {
        None
    }
    fn caches(&self) -> Vec<CacheFigures> {
        Vec::new()
    }
    fn expected_tasks(&self) -> Option<u64> {
        None
    }
    fn trim(&self, _percent: u32) -> Trimmed {
        Trimmed::default()
    }
}

/// How many tasks open connections explain; asked at each sample.
type ExpectedTasks = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The hooks over a store: its cache, its pool, its idle lanes.
#[derive(Clone)]
pub struct StoreHooks {
    store: Store,
    expected_tasks: Option<ExpectedTasks>,
}

impl std::fmt::Debug for StoreHooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreHooks").field("store", &self.store).finish_non_exhaustive()
    }
}

impl StoreHooks {
    /// Without a count of expected tasks a task leak is not judged.
    pub fn new(store: Store, expected_tasks: Option<ExpectedTasks>) -> Self {
        Self { store, expected_tasks }
    }
}

impl Trimmable for StoreHooks {
    fn pool(&self) -> Option<PoolFigures> {
        let (stats, oldest) = (self.store.pool().stats(), self.store.pool().oldest());
        Some(PoolFigures {
            taken: stats.taken,
            returned: stats.returned,
            // What a cache keeps is out of the pool, but not in use: it has no age.
            outstanding: stats.outstanding + stats.kept,
            outstanding_bytes: self.store.budget().used(),
            oldest_lease_seconds: oldest.map_or(0, |lease| lease.age.as_secs()),
            oldest_lease: oldest.map_or("none", |lease| lease.name).to_owned(),
        })
    }

    fn caches(&self) -> Vec<CacheFigures> {
        let stats = self.store.cache_stats();
        vec![CacheFigures {
            name: "chunks".to_owned(),
            bytes: stats.bytes,
            bytes_max: stats.bytes_max,
            inserted: stats.inserted,
            removed: stats.evicted,
            entries: stats.entries,
        }]
    }

    fn expected_tasks(&self) -> Option<u64> {
        self.expected_tasks.as_ref().map(|expected| expected())
    }

    fn trim(&self, percent: u32) -> Trimmed {
        let stats = self.store.cache_stats();
        let wanted = stats.bytes.min(stats.bytes_max) / 100 * u64::from(percent);
        let bytes = self.store.trim_cache(wanted) + self.store.trim_idle();
        Trimmed { bytes, handles: 0 }
    }
}
