//! `GET /v1/report`: the leak report. A verdict names a class, the bytes at stake and evidence a person can check.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeakReport {
    pub pod: String,
    /// RFC 3339.
    pub at: String,
    /// Grows with every evaluation.
    pub sequence: u64,
    pub engine_run_id: Option<String>,
    /// Findings in the order in which to act; `Healthy` or `Unknown` alone when there is none.
    pub verdicts: Vec<Verdict>,
    /// Why the detector holds back, when it does.
    pub gates: Vec<String>,
    /// Bytes by name: `used_memory`, `dataset`, `rss`, `ledger_committed`, `ledger_in_flight`, `ledger_pending_free`,
    /// `residual`, `residual_floor`, `orphan_bytes`, `orphan_keys`, `pool_outstanding`, `cache_bytes`, …
    pub figures: BTreeMap<String, f64>,
    pub audit: AuditProgress,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    pub class: VerdictClass,
    /// 0 to 1.
    pub confidence: f64,
    pub state: VerdictState,
    pub bytes: u64,
    pub slope_bytes_per_minute: f64,
    /// Seconds until the limit at this slope, if it grows.
    pub eta_seconds: Option<u64>,
    /// RFC 3339: since when this class has held.
    pub since: String,
    /// Sentences with numbers.
    pub evidence: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub enum VerdictState {
    Suspect,
    Confirmed,
}

/// In the order in which to act (leaks survey, 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub enum VerdictClass {
    ClientBuffers,
    Orphaned,
    PoolImbalance,
    TaskLeak,
    CacheOverrun,
    RetainedPages,
    Fragmented,
    Growing,
    CapacityGrowth,
    Unknown,
    Healthy,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditProgress {
    pub passes: u64,
    pub running: bool,
    pub keys_seen: u64,
    pub last_finished: Option<String>,
}
