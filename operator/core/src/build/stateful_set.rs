//! One StatefulSet per shard: `OnDelete`, so that nothing but our roll restarts a pod; parallel, so that a pod that
//! cannot start holds nobody up.

use blobstore_operator_api::names;
use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Value, json};

use super::{BuildError, config_map, metadata, pod, revision, selector, shard_labels, shard_selector, typed};
use crate::action::Plan;
use crate::context::Context;
use crate::validate::ValidStore;

/// Old templates kept by Kubernetes: nobody rolls back to them, the resource is the source.
const REVISIONS_KEPT: u32 = 2;

pub(super) fn stateful_set(
    store: &ValidStore,
    plan: &Plan,
    context: &Context,
    shard: u32,
) -> Result<StatefulSet, BuildError> {
    let labels = shard_labels(store, shard);
    let name = names::shard_set(&store.name, shard);
    let size = plan.sizes.get(&shard).copied().unwrap_or(store.members());
    let mut template = pod::template(store, context, shard);
    template["metadata"]["annotations"][names::ANNOTATION_REVISION] = json!(revision(store, context, shard));
    template["metadata"]["annotations"][names::ANNOTATION_CONFIG] = json!(config_map::checksum(store));
    let mut spec = json!({
        "serviceName": names::peers_service(&store.name),
        "replicas": size,
        "podManagementPolicy": "Parallel",
        "updateStrategy": { "type": "OnDelete" },
        "revisionHistoryLimit": REVISIONS_KEPT,
        "selector": { "matchLabels": shard_selector(store, shard) },
        "template": template,
        // The surge pod's volume goes with it: a stale copy would only be mistaken for data. The others stay.
        "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Retain", "whenScaled": "Delete" },
    });
    if let Some(claim) = claim_template(store, plan, shard) {
        spec["volumeClaimTemplates"] = json!([claim]);
    }
    let document = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(store, &name, &labels),
        "spec": spec,
    });
    typed("StatefulSet", document)
}

/// The template keeps the size it was created with, because Kubernetes refuses to change it; volumes grow by
/// `Action::Grow`.
fn claim_template(store: &ValidStore, plan: &Plan, shard: u32) -> Option<Value> {
    let storage = store.storage.as_ref()?;
    let size = plan.claim_sizes.get(&shard).unwrap_or(&storage.size);
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": { "requests": { "storage": size } },
    });
    if let Some(class_name) = &storage.class_name {
        spec["storageClassName"] = json!(class_name);
    }
    let mut labels = selector(store);
    labels[names::LABEL_MANAGED_BY] = json!(names::MANAGED_BY);
    labels[names::LABEL_SHARD] = json!(shard.to_string());
    Some(json!({ "metadata": { "name": "data", "labels": labels }, "spec": spec }))
}
