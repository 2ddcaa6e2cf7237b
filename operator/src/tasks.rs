//! The only caller of `tokio::spawn` in the operator: every task has a static name and is counted at both ends.

use std::future::Future;
use std::sync::LazyLock;

use prometheus::{IntCounterVec, Opts};
use tokio::task::JoinHandle;

/// Started and ended, by task; `None` only if a name were malformed, which the metrics test would show.
pub(crate) static COUNTERS: LazyLock<Option<(IntCounterVec, IntCounterVec)>> = LazyLock::new(|| {
    let started = Opts::new("blobstore_operator_tasks_started_total", "Tasks started, by name.");
    let ended = Opts::new("blobstore_operator_tasks_ended_total", "Tasks ended, whichever way, by name.");
    Some((IntCounterVec::new(started, &["task"]).ok()?, IntCounterVec::new(ended, &["task"]).ok()?))
});

/// Counts a task's end when dropped: finished, cancelled or panicked.
struct Ended(&'static str);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some((_, ended)) = &*COUNTERS {
            ended.with_label_values(&[self.0]).inc();
        }
    }
}

/// Spawns `future` under `name`. The handle may be dropped: the task runs on, still counted.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    if let Some((started, _)) = &*COUNTERS {
        started.with_label_values(&[name]).inc();
    }
    let ended = Ended(name);
    #[expect(clippy::disallowed_methods, reason = "the one wrapper")]
    tokio::spawn(async move {
        let _ended = ended;
        future.await
    })
}
