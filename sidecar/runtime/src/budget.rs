//! One budget of payload bytes for the pod. The first permit of a request waits in line, read-ahead only tries; a
//! permit is given back when it is dropped.

use std::{
    collections::VecDeque,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus::{IntCounter, IntGauge};
use tokio::sync::oneshot;

use crate::metrics::{counter, gauge};

/// Requests that may wait at once. More than this could not be served within any useful time.
pub const WAITERS_MAX: usize = 1024;

static TAKEN: LazyLock<IntCounter> = LazyLock::new(|| {
    counter("blobstore_sidecar_inflight_bytes_taken_total", "Payload bytes taken from the pod's budget.")
});
static RETURNED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "blobstore_sidecar_inflight_bytes_returned_total",
        "Payload bytes given back to the pod's budget.",
    )
});
static REFUSED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter("blobstore_sidecar_inflight_refused_total", "Permits refused because the budget stayed used up.")
});
static PEAK: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge("blobstore_sidecar_inflight_bytes_peak", "Most payload bytes in flight at once since the start.")
});

/// The budget stayed used up for the whole wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

impl std::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the pod's budget of bytes in flight is used up")
    }
}

impl std::error::Error for Exhausted {}

#[derive(Debug, Default)]
struct State {
    used: u64,
    waiting: VecDeque<(u64, oneshot::Sender<Permit>)>,
}

#[derive(Debug)]
struct Inner {
    limit: u64,
    state: Mutex<State>,
    peak: AtomicU64,
}

/// Shared by everything that holds payload.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

/// Bytes that may be held until this is dropped.
#[derive(Debug)]
pub struct Permit {
    inner: Arc<Inner>,
    bytes: u64,
}

impl Budget {
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Inner { limit, state: Mutex::default(), peak: AtomicU64::new(0) }))
    }

    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    pub fn used(&self) -> u64 {
        self.0.lock().used
    }

    pub fn peak(&self) -> u64 {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// Requests in line.
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }

    /// Read-ahead: now, or not at all. Never overtakes a request in line.
    pub fn try_permit(&self, bytes: u64) -> Option<Permit> {
        let mut state = self.0.lock();
        if state.waiting.is_empty() { Inner::take(&self.0, &mut state, bytes) } else { None }
    }

    /// Waits in line for up to `wait`. A request larger than the whole budget is cut down to it, or it could
    /// never run.
    pub async fn permit(&self, bytes: u64, wait: Duration) -> Result<Permit, Exhausted> {
        let bytes = bytes.min(self.0.limit);
        let waiter = {
            let mut state = self.0.lock();
            if state.waiting.is_empty()
                && let Some(permit) = Inner::take(&self.0, &mut state, bytes)
            {
                return Ok(permit);
            }
            if state.waiting.len() >= WAITERS_MAX {
                REFUSED.inc();
                return Err(Exhausted);
            }
            let (sender, waiter) = oneshot::channel();
            state.waiting.push_back((bytes, sender));
            waiter
        };
        if let Ok(Ok(permit)) = tokio::time::timeout(wait, waiter).await {
            return Ok(permit);
        }
        // Our place in line is dead now; whoever stands behind it must not wait for the next return.
        self.0.serve();
        REFUSED.inc();
        Err(Exhausted)
    }

    /// Takes bytes that are held already, over the limit if need be: what left the cache while a reader holds it.
    pub fn force(&self, bytes: u64) -> Permit {
        let mut state = self.0.lock();
        Inner::count(&self.0, &mut state, bytes)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(this: &Arc<Self>, state: &mut State, bytes: u64) -> Option<Permit> {
        (state.used.saturating_add(bytes) <= this.limit).then(|| Self::count(this, state, bytes))
    }

    fn count(this: &Arc<Self>, state: &mut State, bytes: u64) -> Permit {
        state.used += bytes;
        TAKEN.inc_by(bytes);
        if this.peak.fetch_max(state.used, Ordering::Relaxed) < state.used {
            PEAK.set(i64::try_from(state.used).unwrap_or(i64::MAX));
        }
        Permit { inner: Arc::clone(this), bytes }
    }

    /// Hands free bytes to those who wait, in order.
    fn serve(self: &Arc<Self>) {
        // A permit that comes back from a waiter who has left is dropped outside the lock: its drop locks again.
        let mut orphans = Vec::new();
        let mut state = self.lock();
        loop {
            while state.waiting.front().is_some_and(|(_, sender)| sender.is_closed()) {
                state.waiting.pop_front();
            }
            let Some(bytes) = state.waiting.front().map(|(bytes, _)| *bytes) else { break };
            let Some(permit) = Self::take(self, &mut state, bytes) else { break };
            if let Some((_, sender)) = state.waiting.pop_front()
                && let Err(permit) = sender.send(permit)
            {
                orphans.push(permit);
            }
        }
        drop(state);
    }
}

impl Permit {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives back all but `bytes`.
    pub fn shrink(&mut self, bytes: u64) {
        let rest = self.bytes.saturating_sub(bytes);
        self.bytes -= rest;
        drop(Permit { inner: Arc::clone(&self.inner), bytes: rest });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.inner.lock();
            state.used = state.used.saturating_sub(self.bytes);
            !state.waiting.is_empty()
        };
        RETURNED.inc_by(self.bytes);
        if waiting {
            self.inner.serve();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn waits_in_line_and_gives_back() {
        let budget = Budget::new(10);
        let first = budget.permit(8, SHORT).await.expect("free");
        assert_eq!(budget.permit(3, SHORT).await.err(), Some(Exhausted));
        let waiter = {
            let budget = budget.clone();
            crate::tasks::spawn(
                "test",
                async move { budget.permit(10, LONG).await.map(|permit| permit.bytes()) },
            )
        };
        while budget.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(budget.try_permit(1).is_none(), "read-ahead does not overtake");
        drop(first);
        assert_eq!(waiter.await.expect("no panic"), Ok(10));
        assert_eq!((budget.used(), budget.peak()), (0, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_gives_up_does_not_block_the_next() {
        let budget = Budget::new(10);
        let held = budget.permit(5, SHORT).await.expect("free");
        let (large, small) = tokio::join!(budget.permit(9, SHORT), budget.permit(4, LONG));
        assert_eq!(large.err(), Some(Exhausted));
        assert_eq!(small.expect("fits once the large one has left").bytes(), 4);
        drop(held);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_everything_is_cut_down() {
        let budget = Budget::new(10);
        let mut permit = budget.permit(99, SHORT).await.expect("cut");
        assert_eq!(permit.bytes(), 10);
        permit.shrink(4);
        assert_eq!((permit.bytes(), budget.used()), (4, 4));
        permit.shrink(9);
        assert_eq!((permit.bytes(), budget.used()), (4, 4));
        drop(permit);
        let forced = budget.force(25);
        assert_eq!(budget.used(), 25);
        drop(forced);
        assert_eq!(budget.used(), 0);
    }
}
