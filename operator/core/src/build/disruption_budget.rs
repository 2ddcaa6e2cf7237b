//! One PodDisruptionBudget per shard, and so exactly one per pod: a pod under two budgets cannot be evicted at all.

use blobstore_operator_api::names;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::json;

use super::{BuildError, metadata, shard_labels, shard_selector, typed};
use crate::validate::ValidStore;

pub(super) fn disruption_budget(store: &ValidStore, shard: u32) -> Result<PodDisruptionBudget, BuildError> {
    let name = names::disruption_budget(&store.name, shard);
    let document = json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(store, &name, &shard_labels(store, shard)),
        "spec": {
            "maxUnavailable": 1,
            // A pod that is not ready may still hold the last copy.
            "unhealthyPodEvictionPolicy": "IfHealthyBudget",
            "selector": { "matchLabels": shard_selector(store, shard) },
        },
    });
    typed("PodDisruptionBudget", document)
}
