//! The line in front of the origins: so many requests at once per origin and per pod, so many waiting, and none of them
//! for long. What does not fit is told so at once instead of piling up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::failure::{Failure, FailureKind};
use crate::metrics::WAITING;

/// Requests to one origin at once: half of the pod's, so that one slow origin leaves room for the others.
pub(crate) const REQUESTS_PER_ORIGIN_MAX: usize = 32;
/// Requests to all origins at once. Each holds up to a chunk and a half of the pod's budget (40 MiB by default).
pub(crate) const REQUESTS_MAX: usize = 64;
/// Requests in line at once: four times what is served; the rest would wait longer than they may.
pub(crate) const WAITING_MAX: usize = 256;

/// Shared by all origins of the pod.
#[derive(Debug)]
pub(crate) struct Pod {
    requests: Arc<Semaphore>,
    waiting: AtomicUsize,
    wait: Duration,
}

impl Pod {
    pub(crate) fn new(wait: Duration) -> Arc<Self> {
        Arc::new(Self {
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            waiting: AtomicUsize::new(0),
            wait,
        })
    }
}

/// One origin's line.
#[derive(Debug)]
pub(crate) struct Line {
    requests: Arc<Semaphore>,
    pod: Arc<Pod>,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "held, not read")] [OwnedSemaphorePermit; 2]);

/// Counts one who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        WAITING.dec();
    }
}

impl Line {
    pub(crate) fn new(pod: Arc<Pod>) -> Self {
        Self { requests: Arc::new(Semaphore::new(REQUESTS_PER_ORIGIN_MAX)), pod }
    }

    /// Room without waiting: background work has no claim to more.
    pub(crate) fn has_room(&self) -> bool {
        self.requests.available_permits() > 0 && self.pod.requests.available_permits() > 0
    }

    pub(crate) async fn enter(&self, origin: &str) -> Result<Place, Failure> {
        if let (Ok(own), Ok(pod)) = (
            Arc::clone(&self.requests).try_acquire_owned(),
            Arc::clone(&self.pod.requests).try_acquire_owned(),
        ) {
            return Ok(Place([own, pod]));
        }
        let busy = || {
            let message = format!("too many requests wait for the origin {origin}: retry in a moment");
            Failure::new(FailureKind::Busy, message)
        };
        let before = self.pod.waiting.fetch_add(1, Ordering::Relaxed);
        WAITING.inc();
        let _waiting = Waiting(&self.pod.waiting);
        if before >= WAITING_MAX {
            return Err(busy());
        }
        let both = async {
            // The origin's own first: who waits for a slow origin must not hold a place of the pod's.
            let own = Arc::clone(&self.requests).acquire_owned().await.ok()?;
            let pod = Arc::clone(&self.pod.requests).acquire_owned().await.ok()?;
            Some(Place([own, pod]))
        };
        match tokio::time::timeout(self.pod.wait, both).await {
            Ok(Some(place)) => Ok(place),
            Ok(None) | Err(_) => Err(busy()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_origin_leaves_room_for_the_others_and_nobody_waits_for_long() {
        let pod = Pod::new(Duration::from_secs(2));
        let (slow, other) = (Line::new(Arc::clone(&pod)), Line::new(Arc::clone(&pod)));
        let mut held = Vec::new();
        for _ in 0..REQUESTS_PER_ORIGIN_MAX {
            held.push(slow.enter("slow").await.expect("room"));
        }
        assert!(!slow.has_room() && other.has_room());
        assert_eq!(slow.enter("slow").await.expect_err("full").kind, FailureKind::Busy);
        other.enter("other").await.expect("room");
        held.pop();
        slow.enter("slow").await.expect("room again");
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_is_bounded() {
        let pod = Pod::new(Duration::from_secs(3600));
        let line = Line::new(Arc::clone(&pod));
        let mut held = Vec::new();
        for _ in 0..REQUESTS_PER_ORIGIN_MAX {
            held.push(line.enter("slow").await.expect("room"));
        }
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(line.enter("slow"))).collect();
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        assert_eq!(line.enter("slow").await.expect_err("too many").kind, FailureKind::Busy);
        drop(waiting);
        assert_eq!(pod.waiting.load(Ordering::Relaxed), 0);
    }
}
