//! Who may reach which port. Credentials, unique per store, are the real wall; this keeps the noise away from it.

use blobstore_operator_api::names;
use blobstore_sidecar_api::ports;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use super::{BuildError, labels, metadata, selector, typed};
use crate::context::Context;
use crate::validate::ValidStore;

pub(super) fn network_policy(store: &ValidStore, context: &Context) -> Result<NetworkPolicy, BuildError> {
    let tcp = |port: u16| json!({ "protocol": "TCP", "port": port });
    let pods = json!({ "podSelector": { "matchLabels": selector(store) } });
    let document = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(store, &names::network_policy(&store.name), &labels(store)),
        "spec": {
            "podSelector": { "matchLabels": selector(store) },
            "policyTypes": ["Ingress"],
            "ingress": [
                { "ports": [tcp(ports::CLIENT_PORT)] },
                { "ports": [tcp(ports::ADMIN_PORT)], "from": admin_sources(context) },
                {
                    "ports": [tcp(ports::PEER_PORT), tcp(ports::ENGINE_PORT), tcp(ports::ENGINE_BUS_PORT)],
                    "from": [pods],
                },
            ],
        },
    });
    typed("NetworkPolicy", document)
}

/// The operator's namespace and the monitoring's.
fn admin_sources(context: &Context) -> Value {
    let namespace = |name: &str| json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } } });
    let operator = std::iter::once(context.operator_namespace.as_str());
    let monitoring =
        context.monitoring_namespace.as_deref().filter(|name| *name != context.operator_namespace);
    operator.chain(monitoring).map(namespace).collect()
}
