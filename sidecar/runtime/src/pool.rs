//! Buffers by size class. A lease is filled, frozen into `Bytes`, and its buffer comes back when the last clone is
//! dropped. Taken = returned + outstanding + kept, always: a leak shows as an old lease with a name.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use prometheus::{IntCounter, IntGauge};

use crate::{
    budget::{Budget, Permit},
    metrics::{counter, gauge},
};

static TAKEN: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "blobstore_sidecar_pool_taken_total",
        "Buffers taken by requests: leased, or still read when a cache let go.",
    )
});
static RETURNED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "blobstore_sidecar_pool_returned_total",
        "Buffers that requests are done with: given back, or kept by a cache.",
    )
});
static KEPT: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("blobstore_sidecar_pool_kept", "Leased buffers that a cache owns for now."));
static OUTSTANDING: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge("blobstore_sidecar_pool_outstanding", "Leased buffers in use outside the caches.")
});

#[derive(Debug, Default)]
struct State {
    /// Free buffers by capacity.
    free: BTreeMap<usize, Vec<Vec<u8>>>,
    free_bytes: u64,
    /// By capacity: the fewest free buffers since the last [`Pool::shrink`]. Nobody needed these.
    unused: BTreeMap<usize, usize>,
    /// Outstanding leases, oldest first.
    leases: BTreeMap<u64, (&'static str, Instant)>,
    next: u64,
}

#[derive(Debug)]
struct Inner {
    classes: Vec<usize>,
    idle_bytes_max: u64,
    state: Mutex<State>,
    taken: AtomicU64,
    returned: AtomicU64,
    kept: AtomicU64,
}

/// The pool; clones share it.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Inner>);

/// What the pool has done and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    pub taken: u64,
    pub returned: u64,
    /// Owned by a cache.
    pub kept: u64,
    /// In use, and not owned by a cache.
    pub outstanding: u64,
    pub idle_bytes: u64,
}

/// A lease that has been out for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldestLease {
    pub name: &'static str,
    pub age: Duration,
}

impl Pool {
    /// `classes`: capacities that are kept for reuse, at most `idle_bytes_max` together.
    pub fn new(classes: impl IntoIterator<Item = usize>, idle_bytes_max: u64) -> Self {
        let mut classes: Vec<usize> = classes.into_iter().collect();
        classes.sort_unstable();
        Self(Arc::new(Inner {
            classes,
            idle_bytes_max,
            state: Mutex::default(),
            taken: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            kept: AtomicU64::new(0),
        }))
    }

    /// A buffer of `len` bytes with unspecified (but initialised) content. The permit, if any, goes back with it.
    pub fn lease(&self, len: usize, name: &'static str, permit: Option<Permit>) -> Lease {
        let inner = &self.0;
        // A class that would waste more than an eighth is not used: caches count whole buffers.
        let class = inner.classes.iter().find(|class| **class >= len).copied();
        let class = class.filter(|class| len >= class - class / 8);
        let mut state = inner.lock();
        let id = state.enter(name);
        let reused = class.and_then(|class| state.take(class));
        if let Some(buffer) = &reused {
            state.free_bytes -= size(buffer.len());
        }
        drop(state);
        // Zeroed pages come from the kernel as they are; a reused buffer is initialised already.
        let buffer = reused.unwrap_or_else(|| vec![0; class.unwrap_or(len)]);
        inner.taken.fetch_add(1, Ordering::Relaxed);
        TAKEN.inc();
        OUTSTANDING.inc();
        let capacity = buffer.len();
        let mode = Mutex::new(Mode::Outstanding { id, permit });
        let state = Arc::new(LeaseState { pool: Arc::clone(inner), mode, capacity });
        Lease { buffer, len, state }
    }

    pub fn stats(&self) -> PoolStats {
        let state = self.0.lock();
        PoolStats {
            taken: self.0.taken.load(Ordering::Relaxed),
            returned: self.0.returned.load(Ordering::Relaxed),
            kept: self.0.kept.load(Ordering::Relaxed),
            outstanding: u64::try_from(state.leases.len()).unwrap_or(u64::MAX),
            idle_bytes: state.free_bytes,
        }
    }

    /// The lease that has been outstanding for longest.
    pub fn oldest(&self) -> Option<OldestLease> {
        let state = self.0.lock();
        let (name, since) = state.leases.first_key_value()?.1;
        Some(OldestLease { name, age: since.elapsed() })
    }

    /// Frees the buffers that have lain idle since the last call; what traffic uses again and again stays. Tells how
    /// many bytes went.
    pub fn shrink(&self) -> u64 {
        let mut state = self.0.lock();
        let mut freed = 0;
        let State { free, unused, .. } = &mut *state;
        for (class, buffers) in free.iter_mut() {
            let spare = unused.get(class).copied().unwrap_or(0).min(buffers.len());
            buffers.truncate(buffers.len() - spare);
            freed += size(*class) * size(spare);
            unused.insert(*class, buffers.len());
        }
        state.free_bytes = state.free_bytes.saturating_sub(freed);
        freed
    }

    /// Frees the idle buffers; tells how many bytes went.
    pub fn trim(&self) -> u64 {
        let mut state = self.0.lock();
        state.free.clear();
        std::mem::take(&mut state.free_bytes)
    }
}

impl State {
    fn take(&mut self, class: usize) -> Option<Vec<u8>> {
        let free = self.free.get_mut(&class)?;
        let buffer = free.pop();
        if let Some(unused) = self.unused.get_mut(&class) {
            *unused = (*unused).min(free.len());
        }
        buffer
    }

    fn enter(&mut self, name: &'static str) -> u64 {
        let id = self.next;
        self.next += 1;
        self.leases.insert(id, (name, Instant::now()));
        id
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_back(&self, buffer: Vec<u8>) {
        let bytes = size(buffer.len());
        let mut state = self.lock();
        if self.classes.contains(&buffer.len()) && state.free_bytes + bytes <= self.idle_bytes_max {
            state.free_bytes += bytes;
            state.free.entry(buffer.len()).or_default().push(buffer);
        }
    }
}

fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[derive(Debug)]
enum Mode {
    Outstanding { id: u64, permit: Option<Permit> },
    Kept,
    Returned,
}

/// Where a leased buffer stands; shared by the buffer and by the cache that keeps it.
#[derive(Debug)]
pub struct LeaseState {
    pool: Arc<Inner>,
    mode: Mutex<Mode>,
    capacity: usize,
}

impl LeaseState {
    /// Bytes that the buffer occupies.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// A cache owns the buffer now: its bytes count there, not in the budget.
    pub fn keep(&self) {
        let old = self.swap(Mode::Kept);
        if let Mode::Outstanding { id, .. } = &old {
            self.pool.lock().leases.remove(id);
            OUTSTANDING.dec();
            RETURNED.inc();
            self.pool.kept.fetch_add(1, Ordering::Relaxed);
            KEPT.inc();
        }
    }

    /// The cache lets go. Until the last reader is done, the bytes count in the budget again.
    pub fn release(&self, budget: &Budget) {
        let mut mode = self.mode.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*mode, Mode::Kept) {
            self.pool.kept.fetch_sub(1, Ordering::Relaxed);
            KEPT.dec();
            OUTSTANDING.inc();
            TAKEN.inc();
            let id = self.pool.lock().enter("evicted");
            *mode = Mode::Outstanding { id, permit: Some(budget.force(size(self.capacity))) };
        }
    }

    fn swap(&self, next: Mode) -> Mode {
        std::mem::replace(&mut *self.mode.lock().unwrap_or_else(PoisonError::into_inner), next)
    }

    fn returned(&self) {
        match self.swap(Mode::Returned) {
            Mode::Outstanding { id, .. } => {
                self.pool.lock().leases.remove(&id);
                OUTSTANDING.dec();
                RETURNED.inc();
            }
            Mode::Kept => {
                self.pool.kept.fetch_sub(1, Ordering::Relaxed);
                KEPT.dec();
            }
            Mode::Returned => return,
        }
        self.pool.returned.fetch_add(1, Ordering::Relaxed);
    }
}

/// A buffer to be filled.
#[derive(Debug)]
pub struct Lease {
    buffer: Vec<u8>,
    len: usize,
    state: Arc<LeaseState>,
}

impl Lease {
    /// A buffer that was leased before its size was known counts under a permit that was taken for the most it
    /// could be; the rest goes back.
    pub fn count_under(&mut self, mut with: Permit) {
        with.shrink(size(self.state.capacity));
        let mut mode = self.state.mode.lock().unwrap_or_else(PoisonError::into_inner);
        if let Mode::Outstanding { permit, .. } = &mut *mode {
            *permit = Some(with);
        }
    }

    /// The permit passes on to another buffer that takes this one's place.
    pub fn take_permit(&mut self) -> Option<Permit> {
        match &mut *self.state.mode.lock().unwrap_or_else(PoisonError::into_inner) {
            Mode::Outstanding { permit, .. } => permit.take(),
            Mode::Kept | Mode::Returned => None,
        }
    }

    /// Shares the buffer. It comes back to the pool when the last clone or slice is dropped.
    pub fn freeze(self) -> Pooled {
        let state = Arc::clone(&self.state);
        Pooled { bytes: Bytes::from_owner(self), state }
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl AsMut<[u8]> for Lease {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.len]
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.state.pool.take_back(std::mem::take(&mut self.buffer));
        self.state.returned();
    }
}

/// Shared bytes in a buffer of exactly our own: fit for a cache.
#[derive(Clone, Debug)]
pub struct Pooled {
    pub bytes: Bytes,
    pub state: Arc<LeaseState>,
}

#[cfg(test)]
mod tests;
