//! The pool of lanes to one engine: bounded in number, idle ones kept for a while, dead ones dropped.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Lane;
use crate::{
    EngineAddress, EngineAuth, ErrorKind, StoreError,
    metrics::{LANES_BUSY, LANES_CLOSED, LANES_OPENED},
};

/// Lanes of one kind. The engine reads one at a time; more than this only fills its buffers (256 KiB each).
pub(crate) const LANES_MAX: usize = 48;
/// A reader whose client has taken nothing for this long loses its lane to the next who needs one.
const PARKED_MAX: Duration = Duration::from_millis(50);
/// Idle lanes are closed after this: a quiet store holds no connections, and a new one on this host costs 0.1 ms.
const IDLE_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Inner {
    address: EngineAddress,
    auth: Option<EngineAuth>,
    timeout: Duration,
    wait: Duration,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<(Lane, Instant)>>,
    parking: Mutex<Vec<Weak<Parking>>>,
}

/// Where a reader leaves its lane while its client takes what was read. Replies that are still to come wait in it.
#[derive(Debug, Default)]
pub(crate) struct Parking(Mutex<Option<(LaneLease, Instant)>>);

impl Parking {
    pub(crate) fn park(&self, lane: LaneLease) {
        *self.lock() = Some((lane, Instant::now()));
    }

    /// `None`: nothing was parked, or somebody needed it more.
    pub(crate) fn fetch(&self) -> Option<LaneLease> {
        self.lock().take().map(|(lane, _)| lane)
    }

    fn since(&self) -> Option<Instant> {
        self.lock().as_ref().map(|(_, since)| *since)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(LaneLease, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Lanes(Arc<Inner>);

/// A lane in use. Dropped clean it goes back to the pool, else it is closed.
#[derive(Debug)]
pub(crate) struct LaneLease {
    lane: Option<Lane>,
    lanes: Lanes,
    _permit: OwnedSemaphorePermit,
}

impl Lanes {
    pub(crate) fn new(
        address: EngineAddress,
        auth: Option<EngineAuth>,
        timeout: Duration,
        wait: Duration,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(LANES_MAX));
        Self(Arc::new(Inner {
            address,
            auth,
            timeout,
            wait,
            permits,
            idle: Mutex::default(),
            parking: Mutex::default(),
        }))
    }

    /// An idle lane, or a new one. Waits while all are in use.
    pub(crate) async fn take(&self) -> Result<LaneLease, StoreError> {
        self.take_within(self.0.wait).await
    }

    /// As [`Lanes::take`], with a patience of the caller's own: an upload that is let in waits its turn.
    pub(crate) async fn take_within(&self, wait: Duration) -> Result<LaneLease, StoreError> {
        let permit = self.permit(wait).await?;
        let lane = match self.idle_lane() {
            Some(lane) => lane,
            None => {
                // Boxed: it is rare, and everybody waits here.
                let connect = Lane::connect(&self.0.address, self.0.auth.as_ref(), self.0.timeout);
                let lane = Box::pin(connect).await?;
                LANES_OPENED.inc();
                lane
            }
        };
        LANES_BUSY.inc();
        Ok(LaneLease { lane: Some(lane), lanes: self.clone(), _permit: permit })
    }

    /// Place for a lane between two reads of one request.
    pub(crate) fn parking(&self) -> Arc<Parking> {
        let place = Arc::new(Parking::default());
        let mut parking = self.0.parking.lock().unwrap_or_else(PoisonError::into_inner);
        if parking.len() >= 2 * LANES_MAX {
            parking.retain(|place| place.strong_count() > 0);
        }
        parking.push(Arc::downgrade(&place));
        place
    }

    async fn permit(&self, wait: Duration) -> Result<OwnedSemaphorePermit, StoreError> {
        let until = Instant::now() + wait;
        // One future for the whole wait: permits are given in turn, and a new one would queue at the end again.
        let mut permit = pin!(Arc::clone(&self.0.permits).acquire_owned());
        loop {
            if let Ok(Ok(permit)) = tokio::time::timeout(PARKED_MAX, permit.as_mut()).await {
                return Ok(permit);
            }
            self.close_parked();
            if Instant::now() >= until {
                return Err(StoreError::new(ErrorKind::Busy, "all connections to the engine are in use"));
            }
        }
    }

    /// Takes the lane from the reader whose client has been slow for longest.
    fn close_parked(&self) {
        let parking = self.0.parking.lock().unwrap_or_else(PoisonError::into_inner);
        let places = parking.iter().filter_map(Weak::upgrade);
        let parked = places.filter_map(|place| Some((place.since()?, place)));
        let slowest =
            parked.min_by_key(|(since, _)| *since).filter(|(since, _)| since.elapsed() >= PARKED_MAX);
        drop(parking);
        if let Some(lane) = slowest.and_then(|(_, place)| place.fetch()) {
            LANES_CLOSED.with_label_values(&["slow_client"]).inc();
            drop(lane);
        }
    }

    /// Somebody waits for a lane: long users should let go for a moment.
    pub(crate) fn contended(&self) -> bool {
        self.0.permits.available_permits() == 0
    }

    /// Closes lanes that have been idle for long.
    pub(crate) fn prune(&self) {
        self.lock().retain(|(_, since)| {
            let keep = since.elapsed() < IDLE_MAX;
            if !keep {
                LANES_CLOSED.with_label_values(&["idle"]).inc();
            }
            keep
        });
    }

    /// Closes all idle lanes.
    pub(crate) fn close(&self) {
        let closed = u64::try_from(self.lock().drain(..).count()).unwrap_or(0);
        LANES_CLOSED.with_label_values(&["shutdown"]).inc_by(closed);
    }

    fn idle_lane(&self) -> Option<Lane> {
        loop {
            let (lane, _) = self.lock().pop()?;
            if lane.alive() {
                return Some(lane);
            }
            LANES_CLOSED.with_label_values(&["dead"]).inc();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Lane, Instant)>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::ops::Deref for LaneLease {
    type Target = Lane;
    fn deref(&self) -> &Lane {
        #[expect(clippy::expect_used, reason = "only drop takes it")]
        self.lane.as_ref().expect("a lease holds its lane")
    }
}

impl std::ops::DerefMut for LaneLease {
    fn deref_mut(&mut self) -> &mut Lane {
        #[expect(clippy::expect_used, reason = "only drop takes it")]
        self.lane.as_mut().expect("a lease holds its lane")
    }
}

impl Drop for LaneLease {
    fn drop(&mut self) {
        LANES_BUSY.dec();
        if let Some(lane) = self.lane.take() {
            if lane.clean() {
                self.lanes.lock().push((lane, Instant::now()));
            } else {
                LANES_CLOSED.with_label_values(&["unfinished"]).inc();
            }
        }
    }
}
