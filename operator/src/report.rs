//! Says what came of a pass: status (only if it differs), events, gauges, one outcome line.

use blobstore_operator_api::status::{
    BlobStoreStatus, BreakerState, RemediationStatus, ShardStatus, condition,
};
use blobstore_operator_api::{BlobStore, names};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::metrics::{ShardFigures, StoreFigures};
use crate::shared::{ApiError, Shared, ask};

#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("write the status")]
    Status(#[source] ApiError),
}

/// Writes `next` unless the store has it. The version we read is the precondition: a spec that changed meanwhile
/// is a conflict, and the next pass decides anew.
pub async fn write_status(
    shared: &Shared,
    store: &mut BlobStore,
    next: BlobStoreStatus,
) -> Result<(), ReportError> {
    if store.status.as_ref() == Some(&next) {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": format!("{}/{}", names::GROUP, names::VERSION),
        "kind": "BlobStore",
        "metadata": { "resourceVersion": store.resource_version() },
        "status": next,
    });
    let api: Api<BlobStore> = Api::namespaced(shared.client.clone(), &store.namespace().unwrap_or_default());
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    let written = ask(api.patch_status(&store.name_any(), &params, &Patch::Apply(&patch))).await;
    let written = written.map_err(ReportError::Status)?;
    shared.metrics.wrote("BlobStore", "status");
    store.metadata.resource_version = written.metadata.resource_version;
    store.status = Some(next);
    Ok(())
}

/// Gauges of the store, and a count for every remedy that reached its end in this pass.
pub fn measure(shared: &Shared, store: &BlobStore, before: &BlobStoreStatus, after: &BlobStoreStatus) {
    let remediation = after.remediation.as_ref();
    let ready =
        after.conditions.iter().any(|found| found.type_ == condition::READY && found.status == "True");
    let figures = StoreFigures {
        ready,
        findings_open: remediation.map_or(0, |found| i64::try_from(found.findings.len()).unwrap_or(i64::MAX)),
        budget_left: remediation.map_or(0, budget_left),
        breaker_open: remediation.is_some_and(|found| found.breaker != BreakerState::Closed),
    };
    let (namespace, name) = (store.namespace().unwrap_or_default(), store.name_any());
    shared.metrics.set_store(&namespace, &name, &figures);
    let shard = |seen: &ShardStatus| ShardFigures {
        shard: seen.shard,
        epoch: seen.epoch,
        in_sync: seen.in_sync.len(),
        data_lost: seen.lost_at.is_some(),
    };
    let shards: Vec<ShardFigures> = after.shards.iter().map(shard).collect();
    shared.metrics.set_shards(&namespace, &name, store.spec.replicas.saturating_add(1), &shards);
    let known = before.remediation.as_ref().map(|found| found.last_actions.as_slice()).unwrap_or_default();
    for remedy in remediation.into_iter().flat_map(|found| &found.last_actions) {
        if known.iter().any(|old| old.id == remedy.id && old.result == remedy.result) {
            continue;
        }
        let (rung, result) = (format!("{:?}", remedy.rung), format!("{:?}", remedy.result));
        shared.metrics.remedies.with_label_values(&[rung.as_str(), result.as_str()]).inc();
    }
}

/// `1/20`: one used of twenty. Restarts are the scarcer good.
fn budget_left(remediation: &RemediationStatus) -> i64 {
    let left = |text: &str| {
        let (used, allowed) = text.split_once('/')?;
        Some(allowed.trim().parse::<i64>().ok()? - used.trim().parse::<i64>().ok()?)
    };
    remediation.budget.as_ref().and_then(|budget| left(&budget.restarts_last_day)).unwrap_or(0)
}
