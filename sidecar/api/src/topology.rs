//! `GET /v1/topology`: what a sidecar knows of its pod, its engine and its shard. The operator plans from these.

use serde::{Deserialize, Serialize};

use crate::record::{Member, ShardRecord};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTopology {
    pub pod: String,
    pub pod_ip: String,
    pub store_uid: String,
    pub shard: u32,
    pub sidecar_version: String,
    /// Hash of the `sidecar.json` this process runs with.
    pub config_hash: String,
    pub state: ShardState,
    /// One sentence for people: what the shard member waits for or does.
    pub message: String,
    /// The last record this sidecar read, and whether it can still reach the API.
    pub record: Option<ShardRecord>,
    pub record_fresh: bool,
    pub engine: Option<EngineView>,
    /// Why the last engine ended, until the next one serves.
    pub last_exit: Option<EngineExit>,
}

/// Where this member stands in the shard protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub enum ShardState {
    /// No engine answers yet.
    Starting,
    /// The engine runs and is empty, the record names a primary that is gone, and nobody has the data:
    /// waits for the operator's release.
    Empty,
    /// Follows the primary, not yet in sync.
    Syncing,
    /// In the in-sync set.
    InSync,
    /// Takes over: the record names it, the engine is not yet switched.
    Promoting,
    /// Serves its slots.
    Primary,
    /// Stops serving and hands over.
    HandingOver,
    /// The record names another; the engine is being turned into its replica.
    Deposed,
    /// The engine has ended or does not answer.
    EngineDown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineView {
    /// `redis` or `valkey`.
    pub flavor: String,
    pub version: String,
    /// Pod, run id, node id and address, as this member would stand in the record.
    pub member: Member,
    pub is_primary: bool,
    pub loading: bool,
    pub replication_link_up: bool,
    pub replication_offset: u64,
    pub keys: u64,
    pub used_memory: u64,
    pub rss: u64,
    pub maxmemory: u64,
    pub uptime_seconds: u64,
    /// Slot ranges this node serves, inclusive.
    pub slots: Vec<[u16; 2]>,
    /// The cluster as this node sees it, itself excluded.
    pub nodes: Vec<NodeView>,
}

/// One line of `CLUSTER NODES`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    pub node_id: String,
    pub ip: String,
    pub primary_id: Option<String>,
    pub failed: bool,
    /// `fail?`: this engine misses it. Stays so where no majority of primaries can agree, as in a store of one pod.
    #[serde(default)]
    pub suspected: bool,
    pub handshake: bool,
    pub linked: bool,
    pub slots: Vec<[u16; 2]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineExit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub oom_killed: bool,
    /// The engine's own last words, at most 5 lines.
    pub last_lines: Vec<String>,
}
