//! Deletes children that are no longer wanted, last of all. Never a Secret, a Lease or a claim: they hold what
//! cannot be made again. Only what carries our mark and this store as owner is ours to delete.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use serde_json::Value;

use super::ApplyError;
use super::owned::ANNOTATION_APPLIED;
use crate::observe::{Child, Key, Look};
use crate::shared::{Shared, ask};

/// Children that should be.
pub(super) type Wanted = BTreeSet<Key>;

pub(super) async fn prune(shared: &Shared, look: &Look, wanted: &Wanted) -> Result<(), ApplyError> {
    kind::<StatefulSet>(shared, look, wanted).await?;
    kind::<PodDisruptionBudget>(shared, look, wanted).await?;
    kind::<NetworkPolicy>(shared, look, wanted).await?;
    kind::<Service>(shared, look, wanted).await?;
    kind::<ConfigMap>(shared, look, wanted).await?;
    kind::<RoleBinding>(shared, look, wanted).await?;
    kind::<Role>(shared, look, wanted).await?;
    kind::<ServiceAccount>(shared, look, wanted).await
}

async fn kind<K: Child>(shared: &Shared, look: &Look, wanted: &Wanted) -> Result<(), ApplyError> {
    let kind = K::kind(&()).into_owned();
    for (name, live) in look.live.of_kind(&kind) {
        if wanted.contains(&(kind.clone(), name.to_owned())) || !ours(live) {
            continue;
        }
        let (Some(namespace), Some(uid)) =
            (live["metadata"]["namespace"].as_str(), live["metadata"]["uid"].as_str())
        else {
            continue;
        };
        tracing::info!(kind, child = name, "delete: no longer wanted");
        let api: Api<K> = Api::namespaced(shared.client.clone(), namespace);
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match ask(api.delete(name, &params)).await {
            Ok(_) => shared.metrics.wrote(&kind, "delete"),
            // Gone already.
            Err(error) if error.code() == Some(404) => {}
            Err(source) => return Err(super::failed::<K>("delete", name, source)),
        }
    }
    Ok(())
}

/// Made by us, and not on its way out already. The label selector chose the store; the mark says who applied it.
fn ours(live: &Value) -> bool {
    let metadata = &live["metadata"];
    metadata["annotations"][ANNOTATION_APPLIED].is_string() && metadata["deletionTimestamp"].is_null()
}
