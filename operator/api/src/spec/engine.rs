//! The engine: image and the options a user may set. The options we own are rejected by name.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A configuration of hundreds of options is a fork, not a setting.
pub const ENGINE_OPTIONS_MAX: usize = 64;

/// Options that the launcher and the sidecar set themselves, as one anchored expression: safety of the shard
/// protocol (cluster, repl, min-replicas), of the ledger (maxmemory, eviction) and of the pod (ports, files, users).
pub const ENGINE_KEYS_OWNED: &str = "^(bind|bind-source-addr|port|socket-mark-id|unixsocket|unixsocketperm|\
dir|daemonize|pidfile|supervised|logfile|syslog-.*|include|loadmodule|protected-mode|requirepass|rename-command|\
user|aclfile|acl-pubsub-default|masteruser|masterauth|primaryuser|primaryauth|replicaof|slaveof|replica-.*|slave-.*|\
repl-.*|min-replicas-.*|min-slaves-.*|cluster-.*|tls-.*|maxmemory|maxmemory-policy|maxmemory-clients|\
append.*|aof-.*|auto-aof-.*|save|dbfilename|rdb-.*|databases|enable-.*|shutdown-.*|\
crash-.*|set-proc-title|proc-title-template|always-show-logo|io-uring.*)$";

/// The engine: image and extra options.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EngineSpec {
    /// Any Redis ≥ 7.0 or Valkey ≥ 7.2 image, unchanged. Default `docker.io/valkey/valkey:8.1`.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// Extra engine options, at most 64: `{"hz": "50", "io-threads": "2"}`. A change rolls the pods. Options that the
    /// operator sets itself (ports, files, users, cluster, replication, memory limit, persistence) are refused.
    pub config: EngineConfig,
}

impl Default for EngineSpec {
    fn default() -> Self {
        Self { image: "docker.io/valkey/valkey:8.1".to_owned(), config: EngineConfig::default() }
    }
}

/// Option name → value, as in the engine's configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EngineConfig(pub BTreeMap<String, String>);

impl JsonSchema for EngineConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EngineConfig".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "maxProperties": ENGINE_OPTIONS_MAX,
            // No line breaks: a value must not smuggle in a second option.
            "additionalProperties": { "type": "string", "maxLength": 512, "pattern": "^[ -~]*$" }
        })
    }
}
