//! Whether a shard's record is still what a decision rests on. Between reading it and taking a pod away lie the
//! sidecars' answers, the status and the children: a member that fell behind meanwhile may have been the one counted on.

use blobstore_operator_api::{BlobStore, names};
use blobstore_operator_core::action::Plan;
use blobstore_operator_core::observed::{Observed, read};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, ResourceExt};

use crate::observe::ObserveError;
use crate::shared::{ApiError, Shared, ask};

/// The shard's record on the API server is the one in `observed`.
pub async fn record_stands(
    shared: &Shared,
    store: &BlobStore,
    observed: &Observed,
    shard: u32,
) -> Result<bool, ApiError> {
    let api: Api<Lease> = Api::namespaced(shared.client.clone(), &store.namespace().unwrap_or_default());
    let lease = ask(api.get_opt(&names::shard_lease(&store.name_any(), shard))).await?;
    let now = lease.map(|lease| read::record(&lease).record);
    Ok(now.as_ref() == observed.records.get(&shard).map(|seen| &seen.record))
}

/// The records of all shards that the plan makes smaller stand.
pub async fn shrinks_stand(
    shared: &Shared,
    store: &BlobStore,
    observed: &Observed,
    plan: &Plan,
) -> Result<bool, ObserveError> {
    for (shard, size) in &plan.sizes {
        let shrinks = observed.sets.get(shard).is_some_and(|set| set.size > *size);
        if !shrinks {
            continue;
        }
        let stands = record_stands(shared, store, observed, *shard).await;
        if !stands.map_err(|source| ObserveError::List { kind: "Lease", source })? {
            return Ok(false);
        }
    }
    Ok(true)
}
