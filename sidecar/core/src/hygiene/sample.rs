//! One sample of everything: what the shell measured, for the detector to judge. A missing part is `None`.

use blobstore_sidecar_api::report::VerdictClass;

use crate::hygiene::book::LedgerSnapshot;
use crate::hygiene::info::EngineFigures;

/// Everything measured at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// None: the engine did not answer.
    pub engine: Option<EngineFigures>,
    pub keyspace: Option<Keyspace>,
    pub audit: Option<AuditFindings>,
    /// The connections that hold the most, when the engine was asked.
    pub clients: Vec<ClientFigures>,
    pub balances: Balances,
    /// The least of `maxmemory` and the container's limit, bytes; 0: none.
    pub limit: u64,
}

/// Both sides of the identity, when there is a calibrated model.
#[derive(Clone, Debug, PartialEq)]
pub enum Keyspace {
    /// Why the model does not hold: the engine is not calibrated, or this pod has no ledger of its own.
    NotComparable(String),
    Compared {
        engine_bytes: i64,
        ledger: LedgerSnapshot,
    },
}

/// The last finished audit passes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditFindings {
    pub passes: u64,
    /// What two passes agree on, and the oldest pass has not freed meanwhile.
    pub orphan_keys: u64,
    pub orphan_bytes: u64,
    /// What the last pass alone saw: explained, not yet proved.
    pub unproved_orphan_bytes: u64,
    /// A few of them, for people.
    pub orphan_examples: Vec<String>,
    /// Keys outside the data model.
    pub foreign_keys: u64,
    pub foreign_bytes: u64,
    pub foreign_examples: Vec<String>,
}

/// A connection that holds memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFigures {
    pub description: String,
    pub bytes: u64,
    pub replies: u64,
    pub idle_seconds: u64,
}

/// Counter pairs of the sidecar itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Balances {
    pub pool: Option<PoolFigures>,
    pub caches: Vec<CacheFigures>,
    pub tasks: Option<TaskFigures>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolFigures {
    pub taken: u64,
    pub returned: u64,
    pub outstanding: u64,
    pub outstanding_bytes: u64,
    pub oldest_lease_seconds: u64,
    /// Name of the oldest lease.
    pub oldest_lease: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct CacheFigures {
    pub name: String,
    pub bytes: u64,
    pub bytes_max: u64,
    pub inserted: u64,
    pub removed: u64,
    pub entries: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskFigures {
    pub alive: u64,
    /// Fixed tasks and those that open connections explain.
    pub expected: u64,
    /// The name with the most alive.
    pub largest: String,
}

/// Every class, in the order in which to act.
pub const CLASSES: [VerdictClass; 11] = [
    VerdictClass::ClientBuffers,
    VerdictClass::Orphaned,
    VerdictClass::PoolImbalance,
    VerdictClass::TaskLeak,
    VerdictClass::CacheOverrun,
    VerdictClass::RetainedPages,
    VerdictClass::Fragmented,
    VerdictClass::Growing,
    VerdictClass::CapacityGrowth,
    VerdictClass::Unknown,
    VerdictClass::Healthy,
];
