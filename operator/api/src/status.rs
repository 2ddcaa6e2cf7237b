//! `BlobStoreStatus`: what is, as the last pass saw it. Everything the operator must remember between passes
//! (remedies under way, budgets, the breaker) lives here too, so that a restarted operator goes on where it was.

pub mod reason;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{HygieneMode, Rung};

/// More nodes than this are counted, not listed: the object must stay small.
pub const NODES_MAX: usize = 64;
/// What a person reads at a glance; older actions are in the events and metrics.
pub const ACTIONS_MAX: usize = 10;
/// Findings listed, in the order in which to act.
pub const FINDINGS_MAX: usize = 16;
/// Entries of the ledger of past remedies that budgets and cooldowns are computed from. 20 soft remedies an hour
/// and 2 restarts a day need less; when it is full, no further remedy runs.
pub const HISTORY_MAX: usize = 96;

/// What is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlobStoreStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One word for the conditions: Pending, Creating, Ready, Degraded, Rolling, Remediating, DataLost, Scaling, Unready,
    /// Invalid, Paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// One sentence for the phase, from the condition that decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase_reason: Option<String>,
    /// Pods that serve or are in sync, of pods wanted: `2/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// Shards with a serving primary, of shards wanted: `1/1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards_ready: Option<String>,
    /// Replicas per shard that exist in every shard (scale subresource).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Label selector of the pods (scale subresource).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// What holds; types and reasons are stable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// One entry per shard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<ShardStatus>,
    /// One entry per pod, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeStatus>,
    /// Memory of the store as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStatus>,
    /// Findings, remedies and their limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remediation: Option<RemediationStatus>,
    /// The roll under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roll: Option<RollStatus>,
    /// Where clients go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
}

/// A shard as its record and its pods describe it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShardStatus {
    /// Index, from 0.
    pub shard: u32,
    /// Epoch of the record: grows with every change of the primary.
    pub epoch: u64,
    /// Pod of the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// Pods that have every acknowledged write, the primary among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_sync: Vec<String>,
    /// Slots served.
    pub slots: u32,
    /// How often the shard lost its data.
    pub losses: u64,
    /// When a loss was first seen, RFC 3339; kept while the condition DataLost is True.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<String>,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Name of the pod.
    pub pod: String,
    /// Its shard.
    pub shard: u32,
    /// primary, replica or unknown.
    pub role: String,
    /// Where it stands in the shard protocol.
    pub state: String,
    /// In the in-sync set of the record.
    pub in_sync: bool,
    /// Revision it runs; differs from the roll's while a roll is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Used memory, in MiB: rounded, so that a steady store writes no status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_mib: Option<u64>,
    /// Resident memory, in MiB, rounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_mib: Option<u64>,
    /// maxmemory, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maxmemory_mib: Option<u64>,
}

/// Memory of the store as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStatus {
    /// Used memory of the fullest engine as a share of its maxmemory, `42%`, in steps of 5 so that a steady store
    /// writes no status.
    pub used_percent: String,
    /// The pod it was measured on.
    pub pod: String,
}

/// Findings, remedies and their limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemediationStatus {
    /// Mode this was decided under.
    pub mode: HygieneMode,
    /// `none`, or classes with counts: `Orphaned×1`.
    pub findings_summary: String,
    /// What is wrong, in the order in which to act.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// What would be done now; in Observe it is never carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlannedRemedy>,
    /// The remedy under way: its intent is written here before the act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Remedy>,
    /// Newest first, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_actions: Vec<Remedy>,
    /// Past remedies that budgets, cooldowns and the breaker count, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
    /// Remedies used of what the budgets allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetStatus>,
    /// RFC 3339: no remedy for the store before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown_until: Option<String>,
    /// Closed, Open or Frozen.
    pub breaker: BreakerState,
    /// RFC 3339: when an open breaker closes by itself. None while frozen: a person must acknowledge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker_until: Option<String>,
    /// Why the breaker is not closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker_reason: Option<String>,
    /// Value of the annotation `cachehygiene.io/acknowledge` that was taken into account last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<String>,
    /// RFC 3339: when that was; findings older than this freeze nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<String>,
}

/// A verdict of a sidecar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The pod it was found on.
    pub pod: String,
    /// Class of the verdict, for example Orphaned.
    pub class: String,
    /// Suspect or Confirmed.
    pub state: String,
    /// RFC 3339: since when.
    pub since: String,
    /// Bytes at stake, rounded down to whole MiB so that a steady finding writes no status.
    pub mib: u64,
    /// Sentences with numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

/// What would be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedRemedy {
    pub rung: Rung,
    pub pod: String,
    pub class: String,
    /// What it is expected to change, with numbers.
    pub prediction: String,
    /// What stands against it now, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
}

/// A remedy, from intent to result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Remedy {
    /// Chosen from pod, class and time: a restarted operator repeats the same id.
    pub id: String,
    pub rung: Rung,
    pub pod: String,
    /// UID of the pod at the time of the intent: a restart has happened when it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    pub class: String,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339: the effect must show by then.
    pub deadline: String,
    /// What it is expected to change, with numbers.
    pub prediction: String,
    /// The predicted figure's name, as in the leak report.
    pub figure: String,
    /// The figure before, in bytes unless the name says otherwise.
    pub before: f64,
    /// The figure must fall to this or below.
    pub target: f64,
    /// The figure after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<f64>,
    pub result: RemedyResult,
    /// What happened, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Where a remedy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RemedyResult {
    /// Intent written, not yet carried out.
    Planned,
    /// Carried out, the effect is awaited.
    Verifying,
    /// The predicted effect was measured.
    Effective,
    /// The deadline passed without it: the next rung may be tried.
    Ineffective,
    /// The pod refused; nothing was changed.
    Refused,
    /// Came to nothing: not answered in time, ended in an error, or the pod went away.
    Abandoned,
}

/// A past remedy, as budgets, cooldowns and the breaker count it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// RFC 3339.
    pub at: String,
    pub rung: Rung,
    pub pod: String,
    pub class: String,
    pub result: RemedyResult,
}

/// Used of allowed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BudgetStatus {
    /// Soft remedies in the last hour, of allowed: `1/20`.
    pub soft_last_hour: String,
    /// Restarts in the last day, of allowed: `0/2`.
    pub restarts_last_day: String,
}

/// State of automation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BreakerState {
    #[default]
    Closed,
    /// Remedies did not help: nothing runs until it closes by itself.
    Open,
    /// Many pods show the same new finding: nothing runs until a person acknowledges.
    Frozen,
}

/// The roll under way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollStatus {
    /// `3/6`: pods at the wanted revision, of all.
    pub summary: String,
    /// Revision per shard set that is wanted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub revisions: BTreeMap<String, String>,
    /// What the next step waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
}

/// Where clients go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// HTTP and S3.
    pub http: String,
    /// Secret with the generated credentials; none if the store is anonymous or names its own users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<String>,
}

/// Condition types: stable, CamelCase.
pub mod condition {
    /// Reads and writes work on all data.
    pub const READY: &str = "Ready";
    /// The spec is being applied.
    pub const PROGRESSING: &str = "Progressing";
    /// It serves with less safety than asked for.
    pub const DEGRADED: &str = "Degraded";
    /// Every shard has an in-sync copy to spare.
    pub const SAFE_TO_DISRUPT: &str = "SafeToDisrupt";
    /// No confirmed memory finding.
    pub const MEMORY_HEALTHY: &str = "MemoryHealthy";
    /// A remedy runs, or would.
    pub const REMEDIATION_ACTIVE: &str = "RemediationActive";
    /// Every pod runs the wanted configuration.
    pub const CONFIG_APPLIED: &str = "ConfigApplied";
    /// The operator can act.
    pub const RECONCILABLE: &str = "Reconcilable";
    /// A shard lost its data.
    pub const DATA_LOST: &str = "DataLost";
}
