//! What the rest of the sidecar offers to hygiene: its counter pairs, and the memory it can give back. The program
//! wires this; no crate of the data path depends on us.

use blobstore_sidecar_core::hygiene::sample::{CacheFigures, PoolFigures};

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
    /// Shrinks every cache to `percent` of what it holds, and closes handles that nobody uses.
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
