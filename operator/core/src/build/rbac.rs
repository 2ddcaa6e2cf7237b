//! What a sidecar may do in Kubernetes: read and write its store's Leases, by name, and nothing else.

use blobstore_operator_api::names;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde_json::json;

use super::{BuildError, labels, metadata, typed};
use crate::validate::ValidStore;

pub(super) fn service_account(store: &ValidStore) -> Result<ServiceAccount, BuildError> {
    let document = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(store, &names::sidecar_account(&store.name), &labels(store)),
        "automountServiceAccountToken": false,
    });
    typed("ServiceAccount", document)
}

pub(super) fn role(store: &ValidStore) -> Result<Role, BuildError> {
    let leases: Vec<String> = (0..store.shards).map(|shard| names::shard_lease(&store.name, shard)).collect();
    let document = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata(store, &names::sidecar_account(&store.name), &labels(store)),
        "rules": [{
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": leases,
            "verbs": ["get", "watch", "update"],
        }],
    });
    typed("Role", document)
}

pub(super) fn role_binding(store: &ValidStore) -> Result<RoleBinding, BuildError> {
    let name = names::sidecar_account(&store.name);
    let document = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata(store, &name, &labels(store)),
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": store.namespace }],
    });
    typed("RoleBinding", document)
}
