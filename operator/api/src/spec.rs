//! `BlobStoreSpec`: what a team asks for. Field docs become the schema's descriptions, rules become CEL;
//! defaults are applied by the API server, so a stored object says what it runs with.
#![expect(clippy::duplicated_attributes, reason = "every printer column has the same keys")]

mod access;
mod engine;
mod hygiene;
mod memory;
mod origins;
mod sidecar;

pub use access::{AuthSpec, LifecycleSpec, SchedulingSpec, SecretRef, Spread, SpreadSpec, Toleration};
pub use engine::{ENGINE_KEYS_OWNED, ENGINE_OPTIONS_MAX, EngineConfig, EngineSpec};
pub use hygiene::{
    BreakerSpec, BudgetsSpec, CooldownsSpec, DeadlinesSpec, HygieneMode, HygieneSpec, LADDER_DEFAULT, Rung,
    ThresholdsSpec,
};
pub use memory::{
    Amounts, EngineLimits, EngineResources, MemorySpec, Persistence, ResourcesSpec, SidecarLimits,
    SidecarResources, StorageSpec,
};
pub use origins::{
    AzureOrigin, FileOrigin, GcsOrigin, HttpOrigin, ORIGINS_MAX, OriginSpec, OriginTimeouts, OriginWrites,
    S3Origin,
};
pub use sidecar::{
    CacheSpec, ClientsSpec, CompressionMode, CompressionSpec, DOMAINS_MAX, LimitsSpec, S3Spec, SidecarSpec,
    TimingSpec,
};

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::BlobStoreStatus;

/// Three figures in three digits: enough for any cluster we could observe in one pass.
pub const SHARDS_MAX: u32 = 64;
/// Every write waits for every in-sync replica: more than five cost latency and buy no safety.
pub const REPLICAS_MAX: u32 = 5;
/// One hash tag per partition, from a constant table of 256.
pub const PARTITIONS_MAX: u32 = 256;

/// A blob cache and store: Redis or Valkey pods, each with a sidecar that serves HTTP and S3 on port 9000.
#[derive(CustomResource, JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "cachehygiene.io",
    version = "v1alpha1",
    kind = "BlobStore",
    plural = "blobstores",
    shortname = "bs",
    category = "blobstore",
    namespaced,
    derive = "PartialEq",
    status = "BlobStoreStatus",
    doc = "A blob cache and store on Redis or Valkey that keeps its own memory clean.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.ready",
        description = "Pods that serve or are in sync, of pods wanted"
    ),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Shards",
        type_ = "string",
        json_path = ".status.shardsReady",
        description = "Shards with a serving primary, of shards wanted"
    ),
    printcolumn(
        name = "Memory",
        type_ = "string",
        json_path = ".status.memory.usedPercent",
        description = "Used memory of the fullest engine, of its maxmemory"
    ),
    printcolumn(
        name = "Findings",
        type_ = "string",
        json_path = ".status.remediation.findingsSummary",
        description = "Confirmed memory findings"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.phaseReason", priority = 1),
    printcolumn(name = "Hygiene", type_ = "string", json_path = ".spec.hygiene.mode", priority = 1),
    printcolumn(name = "Breaker", type_ = "string", json_path = ".status.remediation.breaker", priority = 1),
    printcolumn(name = "Roll", type_ = "string", json_path = ".status.roll.summary", priority = 1),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.engine.image", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct BlobStoreSpec {
    /// Number of shards: primaries that share the data. Immutable until resharding ships. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub shards: u32,
    /// Replicas per shard, beside its primary: 1 survives the loss of a pod. Target of `kubectl scale`. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 5))]
    pub replicas: u32,
    /// Number of partitions the objects are spread over: a power of two up to 256. Immutable. Default 256.
    #[serde(default = "partitions")]
    #[schemars(range(min = 1, max = 256))]
    pub partitions: u32,
    /// The engine: image and extra options.
    #[serde(default)]
    pub engine: EngineSpec,
    /// Memory and CPU of the two containers of every pod.
    pub resources: ResourcesSpec,
    /// How the engine's memory limit is used.
    #[serde(default)]
    pub memory: MemorySpec,
    /// Whether writes also go to disk: None, or Aof (append-only file, fsync every second). Immutable.
    /// Default None.
    #[serde(default)]
    pub persistence: Persistence,
    /// The volume of every pod; required if and only if persistence is Aof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// True: a cache, which evicts the coldest objects from 90 % of maxmemory down to 85 %.
    /// False: a store, which refuses uploads (507) when it is full. Default false.
    #[serde(default)]
    pub cache: bool,
    /// The sidecar: chunk cache, clients, limits of the data path, times of the shard protocol.
    #[serde(default)]
    pub sidecar: SidecarSpec,
    /// Read-through origins: where buckets get from what the store does not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub origins: Vec<OriginSpec>,
    /// Memory hygiene: what counts as a finding, and what is done about it.
    #[serde(default)]
    pub hygiene: HygieneSpec,
    /// Who may use the store.
    #[serde(default)]
    pub auth: AuthSpec,
    /// Where pods run.
    #[serde(default)]
    pub scheduling: SchedulingSpec,
    /// Switches of the object's life.
    #[serde(default)]
    pub lifecycle: LifecycleSpec,
    /// True: the chart's admission policy refuses to delete this object until it is false. Default false.
    #[serde(default)]
    pub deletion_protection: bool,
}

fn one() -> u32 {
    1
}

fn partitions() -> u32 {
    PARTITIONS_MAX
}
