//! Admission: does a body of this length fit into the engine, with everything that is already on its way? Asked
//! before the first byte is taken.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use blobstore_sidecar_core::chunk::CHUNK_BYTES;
use redis::cmd;

use crate::{ErrorKind, StoreError, context::Inner, engine::errors, metrics::REFUSED};

/// How old the engine's own figures may be. What we stored since then is added to them.
const FIGURES_AGE_MAX: Duration = Duration::from_millis(250);
/// Eviction begins above this share of `maxmemory` and ends below the second.
pub(crate) const EVICT_FROM_PERCENT: u64 = 90;
pub(crate) const EVICT_TO_PERCENT: u64 = 85;
/// Arguments above this get a buffer of their own in the engine (`PROTO_MBULK_BIG_ARG`).
const LARGE_ARGUMENT_BYTES: u64 = 32 << 10;
/// Looks at the engine while an upload waits for eviction to make room.
const EVICTION_ROUNDS: u32 = 8;

/// The engine's memory as it last said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) used: u64,
    /// 0: no limit.
    pub(crate) limit: u64,
}

impl Figures {
    pub(crate) fn above(&self, percent: u64) -> bool {
        self.limit > 0 && self.used > self.limit / 100 * percent
    }
}

#[derive(Debug, Default)]
pub(crate) struct Memory {
    figures: Mutex<Option<(Figures, Instant)>>,
    /// Declared and not yet stored.
    pending: Arc<AtomicU64>,
    /// What the engine reads the uploads under way into.
    buffers: Arc<AtomicU64>,
    /// Stored since the figures were read.
    since: AtomicU64,
}

/// The bytes of an upload that the engine still has to take.
#[derive(Debug)]
pub(crate) struct Admission {
    pending: Arc<AtomicU64>,
    left: u64,
    buffers: Arc<AtomicU64>,
    buffer: u64,
}

impl Admission {
    /// `bytes` of it have been stored.
    pub(crate) fn stored(&mut self, memory: &Memory, bytes: u64) {
        let bytes_pending = bytes.min(self.left);
        self.left -= bytes_pending;
        self.pending.fetch_sub(bytes_pending, Ordering::Relaxed);
        memory.since.fetch_add(in_engine(bytes), Ordering::Relaxed);
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.pending.fetch_sub(self.left, Ordering::Relaxed);
        self.buffers.fetch_sub(self.buffer, Ordering::Relaxed);
    }
}

impl Memory {
    pub(crate) fn last(&self) -> Figures {
        let figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        figures.map(|(figures, _)| figures).unwrap_or_default()
    }

    fn fresh(&self) -> Option<Figures> {
        let figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        figures.filter(|(_, at)| at.elapsed() < FIGURES_AGE_MAX).map(|(figures, _)| figures)
    }

    fn set(&self, figures: Figures) {
        self.since.store(0, Ordering::Relaxed);
        let now = Some((figures, Instant::now()));
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn admit(&self, bytes: u64) -> Admission {
        self.pending.fetch_add(bytes, Ordering::Relaxed);
        let buffer = read_into(bytes);
        self.buffers.fetch_add(buffer, Ordering::Relaxed);
        let (pending, buffers) = (Arc::clone(&self.pending), Arc::clone(&self.buffers));
        Admission { pending, left: bytes, buffers, buffer }
    }
}

impl Inner {
    /// Reads the engine's figures, unless they are fresh.
    pub(crate) async fn figures(&self, fresh: bool) -> Result<Figures, StoreError> {
        if let (true, Some(figures)) = (fresh, self.memory.fresh()) {
            return Ok(figures);
        }
        let info: String = self.meta.query("read memory figures", cmd("INFO").arg("memory")).await?;
        let field = |name: &str| -> u64 {
            let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
        };
        // Replication and AOF buffers are in the first figure, and not in what the engine compares.
        let used = field("used_memory").saturating_sub(field("mem_not_counted_for_evict"));
        let figures = Figures { used, limit: field("maxmemory") };
        self.memory.set(figures);
        Ok(figures)
    }

    /// Lets a body in, or refuses it with the reason.
    pub(crate) async fn admit(&self, declared: Option<u64>) -> Result<Admission, StoreError> {
        let bytes = declared.unwrap_or(0);
        for round in 0..EVICTION_ROUNDS {
            let figures = self.figures(round == 0).await?;
            if figures.limit == 0 || self.fits(figures, bytes) {
                if self.options.evict && figures.above(EVICT_FROM_PERCENT) {
                    self.wake.notify_one();
                }
                return Ok(self.memory.admit(bytes));
            }
            // The first look may be old: what was freed since is not in it.
            if round == 0 {
                continue;
            }
            if !self.options.evict || bytes > figures.limit {
                break;
            }
            // Boxed: it is rare, and every upload waits here.
            Box::pin(self.evict(bytes)).await?;
        }
        REFUSED.with_label_values(&["engine_full"]).inc();
        let Figures { used, limit } = self.memory.last();
        let error = StoreError::new(
            ErrorKind::EngineFull,
            format!("{bytes} bytes do not fit: the engine uses {used} of {limit} bytes"),
        );
        Err(if bytes == 0 { errors::full() } else { error })
    }

    fn fits(&self, figures: Figures, bytes: u64) -> bool {
        let pending = in_engine(self.memory.pending.load(Ordering::Relaxed));
        let since = self.memory.since.load(Ordering::Relaxed);
        let buffers = self.memory.buffers.load(Ordering::Relaxed) + read_into(bytes);
        figures.used + pending + since + buffers + in_engine(bytes) <= figures.limit
    }
}

/// The engine keeps a buffer of the last argument's size for the next one, on each connection that has sent a large one
/// (Redis and Valkey, `processMultibulkBuffer`); it counts as memory in use.
fn read_into(bytes: u64) -> u64 {
    if bytes > LARGE_ARGUMENT_BYTES { u64::from(CHUNK_BYTES) } else { 0 }
}

/// What a write of `bytes` takes there, at most: size classes from 64 KiB up, a thirty-second part; key, header and name
/// of a small one.
fn in_engine(bytes: u64) -> u64 {
    bytes + bytes / 32 + 512
}
