//! The shard record: one Lease per shard used as a compare-and-swap register (`resourceVersion`).
//! It says who is primary and which members hold every acknowledged write. Written only when that changes.

use serde::{Deserialize, Serialize};

/// Annotation of the Lease that holds the record as JSON. `spec.holderIdentity` repeats the primary's pod,
/// `spec.leaseTransitions` the epoch, for people who look with kubectl.
pub const RECORD_ANNOTATION: &str = "cachehygiene.io/shard-record";

/// One run of one engine: a pod name alone could come back empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    pub pod: String,
    /// The engine's `run_id` (INFO server): new at every start of the process.
    pub run_id: String,
    /// The engine's cluster node id.
    pub node_id: String,
    /// The pod's IP when it wrote itself in.
    pub ip: String,
}

/// What a Lease of a shard holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardRecord {
    /// Grows by one with every change of the primary. 0: the shard has never had one.
    pub epoch: u64,
    pub primary: Option<Member>,
    /// Members that have every acknowledged write, the primary among them.
    #[serde(default)]
    pub in_sync: Vec<Member>,
    /// Set by the operator when no member of the shard has data any more: this pod may start as an empty primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// How often a release was carried out: each one is a loss of the shard's data.
    #[serde(default)]
    pub losses: u64,
}

/// The operator's leave to start empty. Valid only while the record's epoch is `epoch`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    pub pod: String,
    pub epoch: u64,
}
