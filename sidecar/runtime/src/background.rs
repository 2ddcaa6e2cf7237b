//! Work that nobody waits for and that may be left undone, because something else will do it later: so many at a time,
//! skipped when none of the places is free in time, ended when it takes too long. An engine that stalls piles up nothing.

use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use prometheus::IntCounterVec;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::metrics::counter_vec;
use crate::tasks;

/// A pod's engine is one thread: ten requests keep it busy, more only wait in line.
pub const RUNNING_MAX: usize = 10;
/// In front of the places, for [`WAIT_MAX`] each; the next one is skipped at once.
const WAITING_MAX: usize = 90;
const WAIT_MAX: Duration = Duration::from_millis(100);
/// A thousand times what a batch of frees takes.
const RUN_MAX: Duration = Duration::from_secs(5);

static OUTCOMES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help =
        "Background work by name and outcome: done, skipped (no place was free), ended (it took too long).";
    counter_vec("blobstore_sidecar_background_total", help, &["work", "outcome"])
});
static POD: LazyLock<Background> = LazyLock::new(Background::default);

/// The places, and the line in front of them.
#[derive(Clone, Debug)]
struct Background {
    admitted: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

impl Default for Background {
    fn default() -> Self {
        Self {
            admitted: Arc::new(Semaphore::new(RUNNING_MAX + WAITING_MAX)),
            running: Arc::new(Semaphore::new(RUNNING_MAX)),
        }
    }
}

/// Tries to get `work` done in the background, as a task called `name`. What is skipped or ended is counted, nothing
/// else: whoever calls knows what makes up for it.
pub fn attempt(name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    POD.attempt(name, work);
}

fn count(name: &str, outcome: &str) {
    OUTCOMES.with_label_values(&[name, outcome]).inc();
}

impl Background {
    fn attempt(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let Ok(admitted) = Arc::clone(&self.admitted).try_acquire_owned() else {
            count(name, "skipped");
            return;
        };
        let running = Arc::clone(&self.running);
        tasks::spawn(name, async move {
            let _admitted = admitted;
            let Ok(Ok(_place)) = timeout(WAIT_MAX, running.acquire()).await else {
                count(name, "skipped");
                return;
            };
            let outcome = if timeout(RUN_MAX, work).await.is_ok() { "done" } else { "ended" };
            count(name, outcome);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn counted(name: &str, outcome: &str) -> u64 {
        OUTCOMES.with_label_values(&[name, outcome]).get()
    }

    /// R002-5: ten at a time, skipped after 100 ms, ended after 5 s, all of it counted.
    #[tokio::test(start_paused = true)]
    async fn a_stalled_engine_piles_up_nothing() {
        let (background, begun) = (Background::default(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..1_000 {
            let begun = Arc::clone(&begun);
            background.attempt("stalled", async move {
                begun.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<()>().await;
            });
        }
        assert_eq!(counted("stalled", "skipped"), 900, "the line in front of the places is bounded");
        tokio::time::sleep(WAIT_MAX * 2).await;
        assert_eq!((begun.load(Ordering::Relaxed), counted("stalled", "skipped")), (RUNNING_MAX, 990));
        tokio::time::sleep(RUN_MAX).await;
        assert_eq!(counted("stalled", "ended"), 10, "what hangs is ended");
        assert!(!tasks::alive().iter().any(|(name, alive)| *name == "stalled" && *alive > 0));
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_taken_again() {
        let background = Background::default();
        for _ in 0..50 {
            background.attempt("quick", tokio::time::sleep(Duration::from_millis(10)));
        }
        tokio::time::sleep(WAIT_MAX).await;
        assert_eq!((counted("quick", "done"), counted("quick", "skipped")), (50, 0));
    }
}
