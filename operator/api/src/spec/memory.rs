//! Memory, CPU and disk of a pod.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Cpu};

/// Memory and CPU of the two containers of every pod.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourcesSpec {
    /// The engine container. Its memory limit is required: maxmemory is computed from it.
    pub engine: EngineResources,
    /// The sidecar container. Default: requests 100m CPU and 128Mi, limit 384Mi.
    #[serde(default)]
    pub sidecar: SidecarResources,
}

/// The engine container's share of a node.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineResources {
    /// Upper bounds.
    pub limits: EngineLimits,
    /// Guaranteed amounts; memory defaults to the limit, so that an engine is never the first to be evicted.
    #[serde(default)]
    pub requests: Amounts,
}

/// Upper bounds of the engine container.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineLimits {
    /// Memory limit, for example 1Gi; at least 64Mi.
    pub memory: Bytes,
    /// CPU limit, for example 2. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
}

/// The sidecar container's share of a node.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SidecarResources {
    /// Upper bounds.
    pub limits: SidecarLimits,
    /// Guaranteed amounts. Default 100m CPU and 128Mi.
    pub requests: Amounts,
}

/// Upper bounds of the sidecar container.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SidecarLimits {
    /// Memory limit; must hold the cache, the bytes in flight and 64Mi of base. Default 384Mi.
    pub memory: Bytes,
    /// CPU limit, for example 2. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
}

/// Memory and CPU, each optional.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Amounts {
    /// Memory, for example 512Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// CPU, for example 500m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
}

/// How the engine's memory limit is used.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemorySpec {
    /// Share of the engine's memory limit given to maxmemory, in percent, 10 to 90; the rest is for buffers,
    /// fragmentation and the replication backlog. Default 75.
    pub maxmemory_percent: u32,
}

/// Whether writes also go to disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Persistence {
    /// Memory only: replicas are what survives a lost pod.
    #[default]
    None,
    /// Append-only file, fsync every second: after power loss at most the last second is missing.
    Aof,
}

/// The volume of every pod. Volumes outlive the store (they are retained when it is deleted).
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageSpec {
    /// Size of each pod's volume, for example 10Gi; it can grow, never shrink. Twice the engine's memory limit
    /// leaves room for rewriting the log.
    pub size: Bytes,
    /// StorageClass of the volumes; empty means the cluster's default. Immutable.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub class_name: String,
}

impl Default for SidecarResources {
    fn default() -> Self {
        Self {
            limits: SidecarLimits::default(),
            requests: Amounts { memory: Some("128Mi".into()), cpu: Some("100m".into()) },
        }
    }
}

impl Default for SidecarLimits {
    fn default() -> Self {
        Self { memory: "384Mi".into(), cpu: None }
    }
}

impl Default for MemorySpec {
    fn default() -> Self {
        Self { maxmemory_percent: 75 }
    }
}
