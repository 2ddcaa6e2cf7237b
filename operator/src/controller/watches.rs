//! One watch per kind of child: metadata only, by label, in pages, nothing kept. Each watch waits for itself after
//! an error; no error reaches the queue, which would hold up all watches together.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use blobstore_operator_api::names;
use futures::{Stream, StreamExt, future};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::ExponentialBackoff;
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Api, Resource};
use prometheus::IntCounterVec;
use serde::de::DeserializeOwned;

use super::{Subject, owner};
use crate::error::chain;
use crate::shared::Shared;

/// Objects per page of a list: a page of metadata is then below 100 kB.
const PAGE_SIZE: u32 = 50;

/// First and longest pause of one watch after an error: soon after the API server is back every watch is, and while
/// it is away a dozen requests in ten seconds harm nobody.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Pauses of one watch, with jitter, doubled from failure to failure.
pub(super) fn pauses() -> ExponentialBackoff {
    let builder = backon::ExponentialBuilder::default()
        .with_min_delay(PAUSE.0)
        .with_max_delay(PAUSE.1)
        .without_max_times()
        .with_jitter();
    builder.into()
}

/// What a watch tells, without its errors: they are logged and counted here. The queue answers an error of any stream
/// with a pause of all of them: after an outage a dozen watches that list again would leave stores unseen for
/// minutes.
pub(super) fn heard<T>(
    watch: impl Stream<Item = Result<T, watcher::Error>> + Send + 'static,
    kind: &'static str,
    shared: &Shared,
) -> impl Stream<Item = Result<T, watcher::Error>> + Send + 'static
where
    T: Send + 'static,
{
    told(watch, kind, shared.metrics.watch_errors.clone())
}

fn told<T>(
    watch: impl Stream<Item = Result<T, watcher::Error>> + Send + 'static,
    kind: &'static str,
    errors: IntCounterVec,
) -> impl Stream<Item = Result<T, watcher::Error>> + Send + 'static
where
    T: Send + 'static,
{
    watch.filter(move |event| {
        if let Err(error) = event {
            errors.with_label_values(&[kind]).inc();
            tracing::warn!(kind, error = %chain(error), "watch");
        }
        future::ready(event.is_ok())
    })
}

/// A watch over what carries our label.
fn labelled() -> watcher::Config {
    paged().labels(&format!("{}={}", names::LABEL_MANAGED_BY, names::MANAGED_BY))
}

pub(super) fn paged() -> watcher::Config {
    watcher::Config::default().page_size(PAGE_SIZE)
}

pub(super) fn api<K>(shared: &Shared, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(shared.client.clone(), namespace),
        None => Api::all(shared.client.clone()),
    }
}

/// Who manages which field is most of the metadata's bytes, and nothing here reads it.
pub(super) fn strip<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// Wakes the store that a child belongs to. Whatever happened to the child, the pass finds out.
fn child<K>(
    controller: Controller<Subject>,
    shared: &Arc<Shared>,
    namespace: Option<&str>,
    kind: &'static str,
) -> Controller<Subject>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let changes = watcher(api::<PartialObjectMeta<K>>(shared, namespace), labelled()).backoff(pauses());
    let changes = heard(remembered(changes, unsure(shared)).touched_objects(), kind, shared);
    let shared = Arc::clone(shared);
    controller.watches_stream(changes, move |object| {
        let owner = owner(&object)?;
        shared.kept.changed(owner.namespace.as_deref().unwrap_or_default(), &owner.name);
        Some(owner)
    })
}

/// What a watch calls when it does not know what it has missed.
pub(super) fn unsure(shared: &Arc<Shared>) -> impl Fn() + Send + 'static {
    let shared = Arc::clone(shared);
    move || shared.kept.unsure()
}

/// Voids what is kept of all stores when a watch fails, and when it has listed anew: what was deleted meanwhile is
/// told by nobody.
pub(super) fn remembered<K: Send + 'static>(
    watch: impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send + 'static,
    unsure: impl Fn() + Send + 'static,
) -> impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send + 'static {
    watch.inspect(move |event| {
        if matches!(event, Err(_) | Ok(watcher::Event::InitDone)) {
            unsure();
        }
    })
}

pub(super) fn children(
    mut controller: Controller<Subject>,
    shared: &Arc<Shared>,
    namespace: Option<&str>,
) -> Controller<Subject> {
    controller = child::<ServiceAccount>(controller, shared, namespace, "ServiceAccount");
    controller = child::<Role>(controller, shared, namespace, "Role");
    controller = child::<RoleBinding>(controller, shared, namespace, "RoleBinding");
    controller = child::<Secret>(controller, shared, namespace, "Secret");
    controller = child::<ConfigMap>(controller, shared, namespace, "ConfigMap");
    controller = child::<Service>(controller, shared, namespace, "Service");
    controller = child::<NetworkPolicy>(controller, shared, namespace, "NetworkPolicy");
    controller = child::<PodDisruptionBudget>(controller, shared, namespace, "PodDisruptionBudget");
    controller = child::<Lease>(controller, shared, namespace, "Lease");
    controller = child::<StatefulSet>(controller, shared, namespace, "StatefulSet");
    child::<Pod>(controller, shared, namespace, "Pod")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failed_or_renewed_watch_voids_what_is_kept_and_a_change_does_not() {
        use std::sync::atomic::{AtomicU32, Ordering};
        use watcher::Event;
        let told = vec![Ok(Event::Init), Ok(Event::InitApply(1)), Ok(Event::InitDone), Ok(Event::Apply(2))];
        let told = told.into_iter().chain([Err(watcher::Error::NoResourceVersion), Ok(Event::Delete(2))]);
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let unsure = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        let mut watch = std::pin::pin!(remembered(futures::stream::iter(told), unsure));
        let mut after = Vec::new();
        while watch.next().await.is_some() {
            after.push(calls.load(Ordering::Relaxed));
        }
        assert_eq!(after, [0, 0, 1, 1, 2, 2]);
    }

    #[tokio::test]
    async fn errors_of_a_watch_are_counted_and_never_reach_the_queue() {
        let errors = IntCounterVec::new(prometheus::opts!("errors", "help"), &["kind"]).expect("a counter");
        let told = vec![Ok(1), Err(watcher::Error::NoResourceVersion), Ok(2)];
        let heard: Vec<_> = super::told(futures::stream::iter(told), "Pod", errors.clone()).collect().await;
        assert_eq!(heard.into_iter().map(|event| event.expect("no error")).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(errors.with_label_values(&["Pod"]).get(), 1);
    }
}
