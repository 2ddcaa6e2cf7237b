//! Watches and the work queue. Only metadata is watched, by label, in pages; a pass reads what it needs itself.
//!
//! Rights of the operator's ServiceAccount, exactly (verbs on resources, everywhere that stores are watched):
//! - cachehygiene.io: blobstores get list watch; blobstores/status patch
//! - apps: statefulsets get list watch create patch delete
//! - core: services configmaps serviceaccounts get list watch create patch delete; secrets get list watch create
//!   patch; pods get list watch patch delete; pods/eviction create; persistentvolumeclaims get list patch
//! - policy: poddisruptionbudgets, networking.k8s.io: networkpolicies, rbac.authorization.k8s.io: roles and
//!   rolebindings: get list watch create patch delete
//! - coordination.k8s.io: leases get list watch create update patch (update because our Role grants it)
//! - events.k8s.io: events create
//!
//! In the whole cluster: nodes get; apiextensions.k8s.io customresourcedefinitions get (resourceNames:
//! blobstores.cachehygiene.io). In its own namespace: coordination.k8s.io leases get create update (its Lease).

mod watches;

use std::sync::Arc;
use std::time::Duration;

use blobstore_operator_api::{BlobStore, names};
use futures::{Stream, StreamExt};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Config as Queue, Error as QueueError};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, WatchStreamExt, predicates, reflector, watcher};
use kube::{Resource, ResourceExt};
use tokio::sync::{broadcast, watch};
use tracing::Instrument;

use crate::error::{Error, chain};
use crate::reconcile::{on_error, reconcile};
use crate::shared::Shared;
use crate::webhook::Hint;

/// A change of ours comes back as several events within milliseconds: one pass answers them all.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// The BlobStore as the watch holds it.
pub type Subject = PartialObjectMeta<BlobStore>;

/// Namespace of one controller; `None`: the cluster.
pub type Namespace = Option<String>;

/// Runs until `stop` changes; a pass that is under way is finished.
pub async fn run(
    shared: Arc<Shared>,
    namespace: Namespace,
    concurrency: u16,
    hints: broadcast::Receiver<Hint>,
    mut stop: watch::Receiver<bool>,
) {
    let (subjects, reader) = subjects(&shared, namespace.as_deref());
    let hinted = hinted(reader.clone(), hints);
    let controller = Controller::for_stream(subjects, reader.clone())
        .with_config(Queue::default().concurrency(concurrency).debounce(DEBOUNCE))
        .reconcile_on(hinted)
        .graceful_shutdown_on(async move { drop(stop.wait_for(|stop| *stop).await) });
    let controller = watches::children(controller, &shared, namespace.as_deref());
    let passes = controller.run(root_span, on_error, Arc::clone(&shared));
    passes
        .for_each(|pass| {
            let held = i64::try_from(reader.len()).unwrap_or(i64::MAX);
            shared.metrics.watch_objects.with_label_values(&["BlobStore"]).set(held);
            log_queue(pass.err());
            std::future::ready(())
        })
        .await;
}

/// The span of a pass is a root: fields name the store.
async fn root_span(
    subject: Arc<Subject>,
    shared: Arc<Shared>,
) -> Result<kube::runtime::controller::Action, Error> {
    let span = tracing::info_span!(
        parent: None,
        "reconcile",
        namespace = subject.namespace(),
        name = subject.name_any(),
        generation = subject.meta().generation
    );
    Box::pin(reconcile(subject, shared)).instrument(span).await
}

/// Failed passes were logged by `on_error`; a store that is gone is no failure; the rest is the watches' trouble.
fn log_queue(error: Option<QueueError<Error, watcher::Error>>) {
    match error {
        None | Some(QueueError::ReconcilerFailed(..) | QueueError::ObjectNotFound(_)) => {}
        Some(error) => tracing::warn!(error = %chain(&error), "watch"),
    }
}

/// Stores whose spec or annotations changed: our own status writes wake nobody.
fn subjects(
    shared: &Arc<Shared>,
    namespace: Option<&str>,
) -> (impl Stream<Item = Result<Subject, watcher::Error>> + Send + 'static, Store<Subject>) {
    let (reader, writer) = reflector::store();
    let predicate = Changed;
    let stream =
        watcher(watches::api::<Subject>(shared, namespace), watches::paged()).backoff(watches::pauses());
    let stream = watches::remembered(stream, watches::unsure(shared))
        .modify(watches::strip)
        .reflect(writer)
        .touched_objects()
        .predicate_filter(predicate, kube::runtime::PredicateConfig::default());
    (watches::heard(stream, "BlobStore", shared), reader)
}

/// Generation, annotations and the wish to be deleted.
struct Changed;

impl kube::runtime::Predicate<Subject> for Changed {
    fn hash_property(&self, subject: &Subject) -> Option<u64> {
        let deleting = u64::from(subject.metadata.deletion_timestamp.is_some());
        let generation = predicates::generation(subject).unwrap_or_default();
        let annotations = predicates::annotations(subject).unwrap_or_default();
        Some(generation.rotate_left(1) ^ annotations.rotate_left(17) ^ deleting)
    }
}

/// Hints of webhooks, as references to stores that exist.
fn hinted(
    reader: Store<Subject>,
    hints: broadcast::Receiver<Hint>,
) -> impl Stream<Item = ObjectRef<Subject>> + Send + 'static {
    let next = |mut hints: broadcast::Receiver<Hint>| async move {
        loop {
            match hints.recv().await {
                Ok(hint) => return Some((hint, hints)),
                // Lost hints shorten nothing: the regular look comes anyway.
                Err(broadcast::error::RecvError::Lagged(lost)) => tracing::warn!(lost, "webhook hints lost"),
                Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
            }
        }
    };
    futures::stream::unfold(hints, next).flat_map(move |hint| {
        let named: Vec<_> =
            reader.state().iter().filter(|subject| names_it(&hint, subject)).cloned().collect();
        tracing::info!(?hint, stores = named.len(), "webhook hint");
        futures::stream::iter(named.into_iter().map(|subject| ObjectRef::from_obj(&*subject)))
    })
}

fn names_it(hint: &Hint, subject: &Subject) -> bool {
    let namespace = subject.namespace();
    match hint {
        Hint::Store { namespace: wanted, name } => {
            namespace.as_ref() == Some(wanted) && subject.name_any() == *name
        }
        Hint::Every { namespace: wanted } => wanted.is_none() || namespace == *wanted,
    }
}

/// The store that a labelled object belongs to.
fn owner<K: Resource>(object: &K) -> Option<ObjectRef<Subject>> {
    let store = object.labels().get(names::LABEL_STORE)?;
    Some(ObjectRef::new(store).within(object.meta().namespace.as_deref()?))
}
