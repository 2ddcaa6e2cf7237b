//! ConfigMap `<store>-config`: `sidecar.json` and `engine.conf`.

use blobstore_operator_api::names;
use blobstore_sidecar_api::config::SidecarConfig;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use super::{BuildError, labels, metadata, short_hash, typed};
use crate::validate::ValidStore;

const SIDECAR_JSON: &str = "sidecar.json";
const ENGINE_CONF: &str = "engine.conf";

pub(super) fn config_map(store: &ValidStore) -> Result<ConfigMap, BuildError> {
    let sidecar = sidecar_json(&store.sidecar)?;
    let document = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(store, &names::config_map(&store.name), &labels(store)),
        "data": { SIDECAR_JSON: sidecar, ENGINE_CONF: engine_conf(store) },
    });
    typed("ConfigMap", document)
}

/// Hash of what a process reads once at its start. The number of members may change under it.
pub(super) fn checksum(store: &ValidStore) -> String {
    let config = SidecarConfig { members: 0, ..store.sidecar.clone() };
    short_hash(&format!("{}\n{}", sidecar_json(&config).unwrap_or_default(), engine_conf(store)))
}

fn sidecar_json(config: &SidecarConfig) -> Result<String, BuildError> {
    let text = serde_json::to_string_pretty(config);
    text.map(|text| text + "\n").map_err(|source| BuildError { child: "ConfigMap", source })
}

/// One option a line, as the engine reads it; an empty value is written as `""`.
fn engine_conf(store: &ValidStore) -> String {
    store
        .engine
        .options
        .iter()
        .map(|(name, value)| format!("{name} {}\n", if value.is_empty() { "\"\"" } else { value }))
        .collect()
}
