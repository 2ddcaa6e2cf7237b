//! Memory hygiene: thresholds of the findings, the ladder of remedies, and everything that limits the ladder.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Period};

/// Memory hygiene: what counts as a finding, and what is done about it.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HygieneSpec {
    /// "Off": nothing is measured; quote it, YAML reads a bare Off as false. Observe: findings and the plan are
    /// written to status and events, nothing is touched. Auto: the plan is carried out. Default Observe.
    pub mode: HygieneMode,
    /// What counts as a finding.
    pub thresholds: ThresholdsSpec,
    /// The remedies allowed, gentlest first; the ladder is climbed in this order. Default: all of them.
    #[schemars(length(max = 7), extend("x-kubernetes-list-type" = "set"))]
    pub ladder: Vec<Rung>,
    /// How often remedies may run.
    pub budgets: BudgetsSpec,
    /// Rest after a remedy.
    pub cooldowns: CooldownsSpec,
    /// How long a remedy has to show the effect it predicts.
    pub deadlines: DeadlinesSpec,
    /// When automation stops itself.
    pub breaker: BreakerSpec,
    /// True: restarts are allowed although there is no replica. The data of a store without persistence is then
    /// lost. Default false.
    pub allow_downtime: bool,
}

/// Whether findings are acted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HygieneMode {
    Off,
    #[default]
    Observe,
    Auto,
}

/// One remedy of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Rung {
    /// Event, condition and metric only.
    Observe,
    /// The sidecar trims its cache, closes idle handles, shrinks its pool.
    Trim,
    /// Chunks that no object names are deleted, each proved again in the deleting script.
    ReclaimOrphans,
    /// Clients whose buffers are too large are disconnected, biggest first.
    KillClients,
    /// The engine gives retained pages back to the system.
    Purge,
    /// A replica is evicted and comes back with fresh memory.
    RestartReplica,
    /// A primary hands over to an in-sync replica and is then restarted.
    FailoverAndRestart,
}

/// Gentlest first.
pub const LADDER_DEFAULT: [Rung; 7] = [
    Rung::Observe,
    Rung::Trim,
    Rung::ReclaimOrphans,
    Rung::KillClients,
    Rung::Purge,
    Rung::RestartReplica,
    Rung::FailoverAndRestart,
];

/// What counts as a finding.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ThresholdsSpec {
    /// Time between samples. Default 15s.
    pub sample: Period,
    /// Rest between two audit passes over the engine's keys. Default 5m.
    pub audit_interval: Period,
    /// A chunk that nothing names is an orphan when it is older than this. Default 15m.
    pub orphan_grace: Period,
    /// Orphaned bytes that make a finding. Default 4Mi.
    pub orphan_bytes_min: Bytes,
    /// Orphaned keys that make a finding, whatever their bytes. Default 1000.
    pub orphan_keys_min: u64,
    /// Memory that no ledger explains is a finding above this, ... Default 4Mi.
    pub residual_bytes_min: Bytes,
    /// ... and above this share of the ledger, in thousandths. Default 5.
    #[schemars(range(min = 1, max = 1000))]
    pub residual_permille: u64,
    /// A condition must hold this long to be confirmed. Default 10m.
    pub confirm: Period,
    /// A young engine gives no verdict for this long. Default 10m.
    pub warmup: Period,
    /// Width of the buckets of the trend tests. Default 5m.
    pub trend_bucket: Period,
    /// Buffers of all clients together that make a finding. Default 64Mi.
    pub client_buffers_bytes_min: Bytes,
    /// Buffers of one client that make a finding. Default 16Mi.
    pub client_bytes_max: Bytes,
    /// Pages the allocator keeps unused that make a finding. Default 64Mi.
    pub retained_bytes_min: Bytes,
    /// Waste inside partly used pages that makes a finding. Default 64Mi.
    pub fragmented_bytes_min: Bytes,
    /// Below this much used memory fragmentation is not looked at. Default 100Mi.
    pub fragmented_used_bytes_min: Bytes,
    /// A pooled buffer held longer than this is a finding. Default 2m.
    pub pool_lease_max: Period,
    /// Tasks above the expected number that make a finding. Default 64.
    pub task_excess_max: u64,
    /// A counter pair must be out of balance this long. Default 2m.
    pub balance_hold: Period,
}

/// How often remedies may run.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BudgetsSpec {
    /// Soft remedies per pod and hour. Default 3.
    pub soft_per_pod_per_hour: u32,
    /// Soft remedies per store and hour. Default 20.
    pub soft_per_hour: u32,
    /// Restarts per store and day. Default 2.
    pub restarts_per_day: u32,
    /// Restarts per hour as a share of the store's pods, in percent; at least one restart. Default 10.
    #[schemars(range(min = 1, max = 100))]
    pub restart_percent_per_hour: u32,
    /// Share of the dataset that one orphan run may delete, in percent; at least 256Mi. Default 5.
    #[schemars(range(min = 1, max = 100))]
    pub orphan_percent_per_run: u32,
}

/// Rest after a remedy.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CooldownsSpec {
    /// After a soft remedy, for the same pod. Default 10m.
    pub soft: Period,
    /// After a failover, for the store. Default 30m.
    pub failover: Period,
    /// After a restart, for the same pod. Default 6h.
    pub restart: Period,
}

/// How long a remedy has to show the effect it predicts, before it counts as ineffective.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeadlinesSpec {
    /// Trim: the excess has halved. Default 60s.
    pub trim: Period,
    /// Orphan reclaim: 80 % of the listed bytes are free. Default 60s.
    pub reclaim_orphans: Period,
    /// Client kill: 80 % of the targeted buffers are gone. Default 10s.
    pub kill_clients: Period,
    /// Purge: half of the retained pages are returned. Default 30s.
    pub purge: Period,
    /// Restart: the pod is back in sync and the finding is gone. Default 10m.
    pub restart: Period,
}

/// When automation stops itself.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BreakerSpec {
    /// This many different rungs without effect within the window open the breaker. Default 2.
    #[schemars(range(min = 1, max = 7))]
    pub ineffective_max: u32,
    /// Window of the count. Default 1h.
    pub window: Period,
    /// How long the breaker stays open. Default 6h.
    pub open: Period,
    /// This share of pods with the same new finding freezes automation: a release bug, not a pod. Counted from
    /// three pods up. Percent, default 30.
    #[schemars(range(min = 1, max = 100))]
    pub mass_percent: u32,
    /// Window in which equal findings count as one event. Default 15m.
    pub mass_window: Period,
    /// Below this share of healthy pods nothing disruptive is done. Percent, default 51.
    #[schemars(range(min = 0, max = 100))]
    pub healthy_percent_min: u32,
}

impl Default for HygieneSpec {
    fn default() -> Self {
        Self {
            mode: HygieneMode::default(),
            thresholds: ThresholdsSpec::default(),
            ladder: LADDER_DEFAULT.to_vec(),
            budgets: BudgetsSpec::default(),
            cooldowns: CooldownsSpec::default(),
            deadlines: DeadlinesSpec::default(),
            breaker: BreakerSpec::default(),
            allow_downtime: false,
        }
    }
}

impl Default for ThresholdsSpec {
    fn default() -> Self {
        Self {
            sample: "15s".into(),
            audit_interval: "5m".into(),
            orphan_grace: "15m".into(),
            orphan_bytes_min: "4Mi".into(),
            orphan_keys_min: 1_000,
            residual_bytes_min: "4Mi".into(),
            residual_permille: 5,
            confirm: "10m".into(),
            warmup: "10m".into(),
            trend_bucket: "5m".into(),
            client_buffers_bytes_min: "64Mi".into(),
            client_bytes_max: "16Mi".into(),
            retained_bytes_min: "64Mi".into(),
            fragmented_bytes_min: "64Mi".into(),
            fragmented_used_bytes_min: "100Mi".into(),
            pool_lease_max: "2m".into(),
            task_excess_max: 64,
            balance_hold: "2m".into(),
        }
    }
}

impl Default for BudgetsSpec {
    fn default() -> Self {
        Self {
            soft_per_pod_per_hour: 3,
            soft_per_hour: 20,
            restarts_per_day: 2,
            restart_percent_per_hour: 10,
            orphan_percent_per_run: 5,
        }
    }
}

impl Default for CooldownsSpec {
    fn default() -> Self {
        Self { soft: "10m".into(), failover: "30m".into(), restart: "6h".into() }
    }
}

impl Default for DeadlinesSpec {
    fn default() -> Self {
        Self {
            trim: "60s".into(),
            reclaim_orphans: "60s".into(),
            kill_clients: "10s".into(),
            purge: "30s".into(),
            restart: "10m".into(),
        }
    }
}

impl Default for BreakerSpec {
    fn default() -> Self {
        Self {
            ineffective_max: 2,
            window: "1h".into(),
            open: "6h".into(),
            mass_percent: 30,
            mass_window: "15m".into(),
            healthy_percent_min: 51,
        }
    }
}
