//! The only caller of `tokio::spawn`: every task has a static name and is counted when it starts and ends,
//! so that a task leak shows as `started - ended` growing under that name.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use prometheus::IntCounterVec;
use tokio::runtime::Handle;
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

/// Work that is seen through: who waits for it polls it, and if nobody waits any more it goes on as a task. Cheaper
/// than a task from the start, which another thread would take over.
#[must_use = "it runs when it is waited for"]
pub struct SeenThrough<T: Send + 'static> {
    name: &'static str,
    work: Option<BoxFuture<'static, T>>,
}

impl<T: Send + 'static> std::fmt::Debug for SeenThrough<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeenThrough").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Makes sure that `work` ends, whoever stops waiting for it; then as a task called `name`.
pub fn seen_through<T: Send + 'static>(
    name: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> SeenThrough<T> {
    SeenThrough { name, work: Some(Box::pin(work)) }
}

impl<T: Send + 'static> Future for SeenThrough<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let done = ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(done)
    }
}

impl<T: Send + 'static> Drop for SeenThrough<T> {
    fn drop(&mut self) {
        // What has panicked cannot go on, and without a runtime the program ends.
        if std::thread::panicking() || Handle::try_current().is_err() {
            return;
        }
        if let Some(work) = self.work.take() {
            spawn(self.name, work);
        }
    }
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

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_goes_on_when_nobody_waits_any_more() {
        let (go, gone) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        let mut work = seen_through("seen", async move {
            let _ = gone.await;
            let _ = tell.send(7);
        });
        assert_eq!((&mut work).now_or_never(), None);
        drop(work);
        assert!(alive().contains(&("seen", 1)));
        go.send(()).expect("it still waits");
        assert_eq!(told.await, Ok(7));
    }

    #[tokio::test]
    async fn work_that_was_waited_for_is_no_task() {
        assert_eq!(seen_through("waited", async { 5 }).await, 5);
        assert!(alive().iter().all(|(name, _)| *name != "waited"));
    }
}
