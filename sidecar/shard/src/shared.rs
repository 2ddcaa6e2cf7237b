//! What the actor, the ack loop and the data path share: the published snapshot, waiting commits, the slot map.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError, RwLock, atomic::AtomicU64},
    time::Instant,
};

use blobstore_sidecar_api::record::ShardRecord;
use blobstore_sidecar_core::shard::{Band, Millis, Snapshot};
use blobstore_sidecar_runtime::authority::Withheld;
use tokio::sync::{Notify, oneshot, watch};

/// The state that others may look at, replaced as a whole after each step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    pub(crate) snapshot: Snapshot,
    pub(crate) record: Option<ShardRecord>,
    /// A reign is under way, serving or not.
    pub(crate) reigning: bool,
    pub(crate) hurried: bool,
    /// The record names our engine's run.
    pub(crate) named: bool,
    pub(crate) in_sync: bool,
    pub(crate) link_up: bool,
}

#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) epoch: u64,
    pub(crate) answer: oneshot::Sender<Result<(), Withheld>>,
}

#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// Number of the newest commit; never reused.
    pub(crate) newest: u64,
    pub(crate) waiting: BTreeMap<u64, Waiter>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) published: watch::Sender<Published>,
    pub(crate) waiters: Mutex<Waiters>,
    /// Reads that wait for fresh evidence.
    pub(crate) readers: AtomicU64,
    /// A commit or a read waits: the ack loop should not sleep.
    pub(crate) wake: Notify,
    /// Primaries by slot range, from the local engine: first, last, ip.
    pub(crate) slots: RwLock<Vec<(u16, u16, String)>>,
    pub(crate) band: Band,
    pub(crate) peer_port: u16,
    pub(crate) read_window: Millis,
    pub(crate) ack_timeout: Millis,
    origin: Instant,
}

impl Shared {
    pub(crate) fn new(band: Band, peer_port: u16, read_window: Millis, ack_timeout: Millis) -> Self {
        Self {
            published: watch::Sender::new(Published::default()),
            waiters: Mutex::default(),
            readers: AtomicU64::new(0),
            wake: Notify::new(),
            slots: RwLock::default(),
            band,
            peer_port,
            read_window,
            ack_timeout,
            origin: Instant::now(),
        }
    }

    /// Milliseconds on the process's monotonic clock.
    pub(crate) fn now(&self) -> Millis {
        Millis::try_from(self.origin.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    pub(crate) fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a new state visible, then turns commits of an ended reign away.
    pub(crate) fn publish(&self, published: Published) {
        let acking = published.snapshot.acking;
        self.published.send_replace(published);
        let gone: Vec<Waiter> = {
            let mut waiters = self.waiters();
            waiters
                .waiting
                .extract_if(.., |_, waiter| Some(waiter.epoch) != acking)
                .map(|(_, gone)| gone)
                .collect()
        };
        // Nobody listens any more when the request was cancelled.
        gone.into_iter().for_each(|waiter| drop(waiter.answer.send(Err(Withheld::Deposed))));
    }

    pub(crate) fn acknowledge(&self, upto: u64) {
        let done = {
            let mut waiters = self.waiters();
            let later = waiters.waiting.split_off(&(upto + 1));
            std::mem::replace(&mut waiters.waiting, later)
        };
        done.into_values().for_each(|waiter| drop(waiter.answer.send(Ok(()))));
    }
}
