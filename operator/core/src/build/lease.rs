//! The shard's Lease: metadata only. Its record belongs to the sidecars, its absence means a new shard.

use blobstore_operator_api::names;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::json;

use super::{BuildError, metadata, shard_labels, typed};
use crate::validate::ValidStore;

pub(super) fn lease(store: &ValidStore, shard: u32) -> Result<Lease, BuildError> {
    let name = names::shard_lease(&store.name, shard);
    let document = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata(store, &name, &shard_labels(store, shard)),
    });
    typed("Lease", document)
}
