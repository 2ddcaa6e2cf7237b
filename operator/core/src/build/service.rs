//! Services: `<store>` for clients, `<store>-peers` for the pods among themselves.

use blobstore_operator_api::names;
use blobstore_sidecar_api::ports;
use k8s_openapi::api::core::v1::Service;
use serde_json::json;

use super::{BuildError, labels, metadata, selector, typed};
use crate::validate::ValidStore;

pub(super) fn client(store: &ValidStore) -> Result<Service, BuildError> {
    let document = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(store, &names::client_service(&store.name), &labels(store)),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(store),
            "ports": [{ "name": "http", "port": ports::CLIENT_PORT, "targetPort": "http", "protocol": "TCP" }],
        },
    });
    typed("Service", document)
}

/// Not-ready addresses included: a shard cannot form if its members become findable only once they have formed.
pub(super) fn peers(store: &ValidStore) -> Result<Service, BuildError> {
    let port =
        |name: &str, port: u16| json!({ "name": name, "port": port, "targetPort": name, "protocol": "TCP" });
    let document = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(store, &names::peers_service(&store.name), &labels(store)),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": selector(store),
            "ports": [
                port("admin", ports::ADMIN_PORT),
                port("peer", ports::PEER_PORT),
                port("engine", ports::ENGINE_PORT),
                port("bus", ports::ENGINE_BUS_PORT),
            ],
        },
    });
    typed("Service", document)
}
