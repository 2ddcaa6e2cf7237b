//! The sidecar: caches, clients, limits of the data path, times of the shard protocol.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Period};

/// The sidecar: chunk cache, clients, limits of the data path, times of the shard protocol.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SidecarSpec {
    /// Chunk and metadata cache in the sidecar's own memory.
    pub cache: CacheSpec,
    /// Handles to engines, peers and origins.
    pub clients: ClientsSpec,
    /// Bounds of the data path. Over a bound the answer is 503 with Retry-After.
    pub limits: LimitsSpec,
    /// Times of the shard protocol.
    pub timing: TimingSpec,
    /// zstd for blobs that nobody uses.
    pub compression: CompressionSpec,
    /// What only S3 clients see.
    pub s3: S3Spec,
    /// Starts the sidecar ready for heap profiles, which GET /v1/heap-profile of its admin port then takes: what was
    /// allocated and stayed, by stack. About 1Mi of memory; a change rolls the pods. Default false.
    pub heap_profiles: bool,
}

/// Domains of one store: every request looks through them.
pub const DOMAINS_MAX: u32 = 16;

/// What only S3 clients see.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct S3Spec {
    /// Domains before which a bucket may stand in the host name: bucket.DOMAIN/key is /bucket/key. DNS has to lead
    /// *.DOMAIN to the store's Service. Default none: buckets are named by the path.
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub domains: Vec<String>,
}

/// zstd for blobs that nobody uses: in the engine alone, where it pays. Clients see no difference.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CompressionSpec {
    /// "Off": blobs stay as they were written; quote it, YAML reads a bare Off as false. Cold: a blob that was neither
    /// read nor written for minAge is compressed in the background. Default "Off".
    pub mode: CompressionMode,
    /// What counts as cold; reads are known to the hour. Default 24h.
    pub min_age: Period,
}

/// Which blobs are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CompressionMode {
    #[default]
    Off,
    Cold,
}

/// Chunk and metadata cache.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CacheSpec {
    /// Upper bound of the cache; 0 switches it off. Default 128Mi.
    pub max_bytes: Bytes,
    /// A blob larger than this streams past the cache. Default 64Mi.
    pub max_entry_bytes: Bytes,
    /// Largest share of the cache one bucket may hold, in percent, 1 to 100. Default 50.
    #[schemars(range(min = 1, max = 100))]
    pub tenant_share_percent: u32,
}

/// Handles to engines, peers and origins: least recently used goes first.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientsSpec {
    /// Handles kept, 1 to 100. Default 100.
    #[schemars(range(min = 1, max = 100))]
    pub max: u32,
    /// A handle unused for this long is closed. Default 1h.
    pub ttl: Period,
}

/// Bounds of the data path, per pod.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitsSpec {
    /// Client connections. Default 10000.
    #[schemars(range(min = 1, max = 100000))]
    pub connections_max: u32,
    /// Payload bytes held by all requests together; at least 4Mi. Default 40Mi.
    pub inflight_bytes_max: Bytes,
    /// Largest blob. Default 5Gi.
    pub body_bytes_max: Bytes,
    /// A body that moves nothing for this long is cut. Default 30s.
    pub body_idle: Period,
    /// A request's header must arrive within this time. Default 10s.
    pub header: Period,
    /// Open requests get this long when a pod stops. Default 20s.
    pub drain: Period,
    /// Longest wait for the first byte permit, then 503. Default 2s.
    pub admission_wait: Period,
}

/// Times of the shard protocol. Shorter means faster failover and more false alarms.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TimingSpec {
    /// A read is answered only if an in-sync replica acknowledged within this time. Default 3s.
    pub read_window: Period,
    /// A replica that has not acknowledged a write for this long leaves the in-sync set. Default 1s.
    pub ack_timeout: Period,
    /// An engine or primary that does not answer for this long is failed over. Default 2s.
    pub failover_after: Period,
}

impl Default for CacheSpec {
    fn default() -> Self {
        Self { max_bytes: "128Mi".into(), max_entry_bytes: "64Mi".into(), tenant_share_percent: 50 }
    }
}

impl Default for ClientsSpec {
    fn default() -> Self {
        Self { max: 100, ttl: "1h".into() }
    }
}

impl Default for CompressionSpec {
    fn default() -> Self {
        Self { mode: CompressionMode::Off, min_age: "24h".into() }
    }
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            inflight_bytes_max: "40Mi".into(),
            body_bytes_max: "5Gi".into(),
            body_idle: "30s".into(),
            header: "10s".into(),
            drain: "20s".into(),
            admission_wait: "2s".into(),
        }
    }
}

impl Default for TimingSpec {
    fn default() -> Self {
        Self { read_window: "3s".into(), ack_timeout: "1s".into(), failover_after: "2s".into() }
    }
}
