//! `sidecar.json`: everything of the resource that a sidecar and its launcher need, written by the operator.
//! Secrets are not in it; the pod's own facts come from the environment.

use serde::{Deserialize, Serialize};

use crate::origins::OriginConfig;

/// The whole document. Unknown fields are refused, so that an old sidecar says that it is old.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SidecarConfig {
    pub store: StoreIdentity,
    pub shards: u32,
    /// Pods per shard that the resource asks for, the primary included.
    pub members: u32,
    /// Partitions of the store, at most 256; immutable.
    pub partitions: u32,
    pub persistence: Persistence,
    /// Share of the engine's memory limit given to `maxmemory`, in percent.
    pub maxmemory_percent: u32,
    /// True: evict the coldest objects from 90 % of `maxmemory`. False: refuse uploads (507).
    pub evict: bool,
    pub cache: CacheConfig,
    pub clients: ClientsConfig,
    pub limits: LimitsConfig,
    pub timing: TimingConfig,
    pub hygiene: HygieneConfig,
    /// Everything is allowed without credentials.
    pub anonymous: bool,
    /// Absent without origins, so that a sidecar of before them can read the document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<OriginConfig>,
    /// Absent when nothing is packed, so that a sidecar of before it can read the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<CompressionConfig>,
    /// The client port speaks TLS, with the certificate in the Secret's folder. Absent when it does not, so that a
    /// sidecar of before it can read the document.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// Domains before which a bucket may stand in a host name. Absent without any, so that a sidecar of before them
    /// can read the document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub s3_domains: Vec<String>,
}

/// zstd for bodies that nobody uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CompressionConfig {
    /// Neither read nor written for this long.
    pub min_age_seconds: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreIdentity {
    pub name: String,
    pub namespace: String,
    /// The resource's UID: proved to a peer before it is met.
    pub uid: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Persistence {
    None,
    /// Append-only file, fsync every second: after power loss at most the last second is missing.
    Aof,
}

/// Chunk and metadata cache. `max_bytes` 0 switches it off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CacheConfig {
    pub max_bytes: u64,
    /// A blob larger than this streams past the cache.
    pub max_entry_bytes: u64,
    /// Largest share of the cache one bucket may hold, in percent.
    pub tenant_share_percent: u32,
}

/// LRU of handles to engines, peers and origins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientsConfig {
    pub max: u32,
    pub ttl_seconds: u64,
}

/// Bounds of the data path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitsConfig {
    pub connections_max: u32,
    /// One budget for the pod: payload bytes held by requests.
    pub inflight_bytes_max: u64,
    pub body_bytes_max: u64,
    /// A body that moves nothing for this long is cut.
    pub body_idle_seconds: u64,
    /// A request's header must arrive within this time.
    pub header_seconds: u64,
    /// After SIGTERM, open requests get this long.
    pub drain_seconds: u64,
    /// Longest wait for the first byte permit; then 503 with Retry-After.
    pub admission_wait_ms: u64,
}

/// Times of the shard protocol, milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TimingConfig {
    /// Every in-sync replica must have acknowledged within this for a read to be answered.
    pub read_window_ms: u64,
    /// Without an acknowledgement for this long the owner removes a member from the record.
    pub ack_timeout_ms: u64,
    /// An engine or an owner that does not answer for this long is failed over.
    pub failover_after_ms: u64,
}

/// Sampling and thresholds of the leak detector; times in seconds, sizes in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HygieneConfig {
    pub enabled: bool,
    pub sample_seconds: u64,
    /// A finished audit pass is followed by the next after this long.
    pub audit_interval_seconds: u64,
    /// A chunk without manifest or record is an orphan when its generation is older than this.
    pub orphan_grace_seconds: u64,
    pub orphan_bytes_min: u64,
    pub orphan_keys_min: u64,
    /// Residual floor: max of these two and 5 sigma.
    pub residual_bytes_min: u64,
    pub residual_permille: u64,
    /// A condition must hold this long before the identity test confirms it.
    pub confirm_seconds: u64,
    /// Young engines give `Unknown`.
    pub warmup_seconds: u64,
    /// Buckets of the trend tests.
    pub trend_bucket_seconds: u64,
    pub client_buffers_bytes_min: u64,
    pub client_bytes_max: u64,
    pub retained_bytes_min: u64,
    pub fragmented_bytes_min: u64,
    pub fragmented_used_bytes_min: u64,
    pub pool_lease_seconds_max: u64,
    pub task_excess_max: u64,
    pub balance_hold_seconds: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { max_bytes: 128 << 20, max_entry_bytes: 64 << 20, tenant_share_percent: 50 }
    }
}

impl Default for ClientsConfig {
    fn default() -> Self {
        Self { max: 100, ttl_seconds: 3600 }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            inflight_bytes_max: 40 << 20,
            body_bytes_max: 5 << 30,
            body_idle_seconds: 30,
            header_seconds: 10,
            drain_seconds: 20,
            admission_wait_ms: 2_000,
        }
    }
}

impl Default for TimingConfig {
    fn default() -> Self {
        Self { read_window_ms: 3_000, ack_timeout_ms: 1_000, failover_after_ms: 2_000 }
    }
}

impl Default for HygieneConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            sample_seconds: 15,
            audit_interval_seconds: 300,
            orphan_grace_seconds: 900,
            orphan_bytes_min: 4 << 20,
            orphan_keys_min: 1_000,
            residual_bytes_min: 4 << 20,
            residual_permille: 5,
            confirm_seconds: 600,
            warmup_seconds: 600,
            trend_bucket_seconds: 300,
            client_buffers_bytes_min: 64 << 20,
            client_bytes_max: 16 << 20,
            retained_bytes_min: 64 << 20,
            fragmented_bytes_min: 64 << 20,
            fragmented_used_bytes_min: 100 << 20,
            pool_lease_seconds_max: 120,
            task_excess_max: 64,
            balance_hold_seconds: 120,
        }
    }
}
