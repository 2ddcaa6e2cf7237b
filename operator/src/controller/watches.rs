//! One watch per kind of child: metadata only, by label, in pages, nothing kept.

use std::fmt::Debug;

use blobstore_operator_api::names;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::core::PartialObjectMeta;
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::{Subject, owner};
use crate::shared::Shared;

/// Objects per page of a list: a page of metadata is then below 100 kB.
const PAGE_SIZE: u32 = 50;

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
fn child<K>(controller: Controller<Subject>, shared: &Shared, namespace: Option<&str>) -> Controller<Subject>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let changes = watcher(api::<PartialObjectMeta<K>>(shared, namespace), labelled())
        .default_backoff()
        .touched_objects();
    controller.watches_stream(changes, |object| owner(&object))
}

pub(super) fn children(
    mut controller: Controller<Subject>,
    shared: &Shared,
    namespace: Option<&str>,
) -> Controller<Subject> {
    controller = child::<ServiceAccount>(controller, shared, namespace);
    controller = child::<Role>(controller, shared, namespace);
    controller = child::<RoleBinding>(controller, shared, namespace);
    controller = child::<Secret>(controller, shared, namespace);
    controller = child::<ConfigMap>(controller, shared, namespace);
    controller = child::<Service>(controller, shared, namespace);
    controller = child::<NetworkPolicy>(controller, shared, namespace);
    controller = child::<PodDisruptionBudget>(controller, shared, namespace);
    controller = child::<Lease>(controller, shared, namespace);
    controller = child::<StatefulSet>(controller, shared, namespace);
    child::<Pod>(controller, shared, namespace)
}
