//! The only caller of `tokio::spawn`: every task has a static name and is counted when it starts and ends,
//! so that a task leak shows as `started - ended` growing under that name.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::LazyLock;

use prometheus::IntCounterVec;
use tokio::task::JoinHandle;

use crate::metrics::counter_vec;

static STARTED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec("blobstore_sidecar_tasks_started_total", "Tasks started, by name.", &["task"])
});
static ENDED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "blobstore_sidecar_tasks_ended_total",
        "Tasks ended, finished, cancelled or panicked, by name.",
        &["task"],
    )
});
static NAMES: LazyLock<std::sync::Mutex<BTreeMap<&'static str, ()>>> = LazyLock::new(Default::default);

/// Counts a task's end when dropped, whichever way it ends.
struct Ended(&'static str);

impl Drop for Ended {
    fn drop(&mut self) {
        ENDED.with_label_values(&[self.0]).inc();
    }
}

/// Spawns `future` under `name`. The handle may be dropped: the task then runs on, still counted.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    if let Ok(mut names) = NAMES.lock() {
        names.entry(name).or_default();
    }
    STARTED.with_label_values(&[name]).inc();
    let ended = Ended(name);
    #[expect(clippy::disallowed_methods, reason = "the one wrapper")]
    tokio::spawn(async move {
        let _ended = ended;
        future.await
    })
}

/// Tasks alive now, by name: started less ended.
pub fn alive() -> Vec<(&'static str, u64)> {
    let names: Vec<&'static str> =
        NAMES.lock().map(|names| names.keys().copied().collect()).unwrap_or_default();
    let alive = |name: &&'static str| {
        STARTED.with_label_values(&[*name]).get().saturating_sub(ENDED.with_label_values(&[*name]).get())
    };
    names.iter().map(|name| (*name, alive(name))).collect()
}
