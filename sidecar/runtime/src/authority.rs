//! What the data path asks of the shard protocol: may I serve, has it been acknowledged, who owns this slot.
//! The cluster's answer lives in `blobstore-sidecar-shard`; `Alone` is the answer of one engine without replicas.

use std::sync::Arc;

use futures::future::BoxFuture;

/// The right to serve, bound to one run of one engine at one epoch. A write that began under one tenure never
/// ends under another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenure {
    pub epoch: u64,
    pub run_id: Arc<str>,
}

/// Who serves a slot now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This pod.
    Here(Tenure),
    /// The sidecar beside the primary: `ip:port` of its peer port.
    Peer { address: String, epoch: Option<u64> },
    /// Formation, failover or loss: a retry may find one.
    Nobody,
}

/// Why the protocol does not let an answer out. Both are worth a retry (503).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// The tenure has ended: the outcome of a write is unknown, a read may be stale.
    Deposed,
    /// An in-sync member has not acknowledged and could not be removed from the record.
    NotAcknowledged,
}

impl std::fmt::Display for Withheld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Deposed => "this pod is no longer the shard's primary",
            Self::NotAcknowledged => "a replica has not acknowledged in time",
        })
    }
}

impl std::error::Error for Withheld {}

/// The shard protocol as the data path sees it.
pub trait Authority: Send + Sync + std::fmt::Debug + 'static {
    /// The owner of `slot` (0 to 16383).
    fn owner(&self, slot: u16) -> Owner;
    /// Our own tenure, if this pod serves.
    fn tenure(&self) -> Option<Tenure>;
    /// Resolves when every in-sync member holds everything that the engine had executed before the call.
    /// Call it after the commit's reply, before answering success.
    fn acknowledged<'a>(&'a self, tenure: &'a Tenure) -> BoxFuture<'a, Result<(), Withheld>>;
    /// The read rule: call it when the data is in hand, before the first byte goes out.
    fn may_read<'a>(&'a self, tenure: &'a Tenure) -> BoxFuture<'a, Result<(), Withheld>>;
    /// Pods that hold what this one serves: `ip:port` of their peer ports.
    fn copies(&self) -> Vec<String> {
        Vec::new()
    }
}

/// One engine, no replicas: always the owner, nothing to wait for.
#[derive(Debug)]
pub struct Alone(pub Tenure);

impl Authority for Alone {
    fn owner(&self, _slot: u16) -> Owner {
        Owner::Here(self.0.clone())
    }
    fn tenure(&self) -> Option<Tenure> {
        Some(self.0.clone())
    }
    fn acknowledged<'a>(&'a self, _tenure: &'a Tenure) -> BoxFuture<'a, Result<(), Withheld>> {
        Box::pin(async { Ok(()) })
    }
    fn may_read<'a>(&'a self, _tenure: &'a Tenure) -> BoxFuture<'a, Result<(), Withheld>> {
        Box::pin(async { Ok(()) })
    }
}
