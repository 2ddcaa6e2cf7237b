//! The store's one clock. Waiting and patience go by `Instant`; wall time is asked here, where it means wall time: when
//! something was written, and when it ends.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use blobstore_sidecar_core::clock::Steady;
use redis::cmd;

use crate::{StoreError, context::Inner};

/// A seam for tests that step the wall clock.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Milliseconds since 1970.
    fn wall_ms(&self) -> u64;
    /// Since some moment of this process; steps of the wall clock do not touch it.
    fn passed(&self) -> Duration;
    /// What the engine says the time is: of its own machine, which may be stepped, too.
    fn engine_ms(&self, told: u64) -> u64 {
        told
    }
}

/// The machine's.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn passed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The times that the store goes by.
#[derive(Debug)]
pub(crate) struct Times {
    clock: Arc<dyn Clock>,
    pod: Mutex<Steady>,
    /// `None`: the engine was not asked yet.
    engine: Mutex<Option<Steady>>,
    /// Of the youngest generation.
    born_ms: AtomicU64,
}

impl Times {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let steady = Steady::new(clock.wall_ms(), clock.passed());
        Self { clock, pod: Mutex::new(steady), engine: Mutex::default(), born_ms: AtomicU64::new(0) }
    }

    /// Milliseconds since 1970 by the pod's clock, a step ahead left out until it has lasted.
    pub(crate) fn now_ms(&self) -> u64 {
        let mut pod = self.pod.lock().unwrap_or_else(PoisonError::into_inner);
        pod.now_ms(self.clock.wall_ms(), self.clock.passed())
    }

    /// Has this end come? 0: there is none, and no clock is asked.
    pub(crate) fn is_over(&self, expires_ms: u64) -> bool {
        expires_ms > 0 && expires_ms <= self.now_ms()
    }

    /// Hours since 1970.
    pub(crate) fn hour(&self) -> u32 {
        u32::try_from(self.now_ms() / 3_600_000).unwrap_or(u32::MAX)
    }

    /// For a new generation: never before an older one of this process.
    pub(crate) fn birth_ms(&self) -> u64 {
        let now = self.now_ms();
        self.born_ms.fetch_max(now, Ordering::AcqRel).max(now)
    }

    fn engine_ms(&self, told: u64) -> u64 {
        let (told, passed) = (self.clock.engine_ms(told), self.clock.passed());
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        engine.get_or_insert_with(|| Steady::new(told, passed)).now_ms(told, passed)
    }
}

impl Inner {
    /// By which the sweeper ends what is due: the engine's, in which deadlines are written.
    pub(crate) async fn engine_now(&self) -> Result<u64, StoreError> {
        let time: (u64, u64) = self.meta.query("read the time", &cmd("TIME")).await?;
        Ok(self.times.engine_ms(time.0 * 1000 + time.1 / 1000))
    }
}
