//! The words between the machine and the shell that carries out its effects.

use std::collections::BTreeSet;

use blobstore_sidecar_api::record::{Member, ShardRecord};

/// Milliseconds on the process's own monotonic clock. Never compared between pods.
pub type Millis = u64;

/// What a member knows of itself and of time. Constant for the life of the process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    pub pod: String,
    /// The number at the end of the pod's name: ties between equals are broken by it.
    pub ordinal: u32,
    /// The engine's data outlives its process.
    pub persistent: bool,
    pub read_window: Millis,
    pub ack_timeout: Millis,
    pub failover_after: Millis,
    /// With persistence: how long the record's primary may stay away before another in-sync pod with data claims.
    pub absent_primary_wait: Millis,
    /// A rule left out on purpose, so that the model test can prove that it would notice.
    #[cfg(test)]
    pub(crate) broken: Option<Broken>,
}

/// Rules that the mutation check leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    AckWithoutAll,
    PromoteNonMember,
    SkipReadWindow,
    ResumeWithoutSwap,
    JoinWithoutCatchUp,
    TenureOnUnknownSwap,
}

impl Rules {
    /// A member's rules with the default times of the configuration.
    pub fn new(pod: &str, persistent: bool) -> Self {
        let ordinal = crate::shard::reign::ordinal(pod);
        Self {
            pod: pod.to_owned(),
            ordinal: if ordinal == u32::MAX { 0 } else { ordinal },
            persistent,
            read_window: 3_000,
            ack_timeout: 1_000,
            failover_after: 2_000,
            absent_primary_wait: 60_000,
            #[cfg(test)]
            broken: None,
        }
    }

    #[must_use]
    pub fn with_times(self, read_window: Millis, ack_timeout: Millis, failover_after: Millis) -> Self {
        Self { read_window, ack_timeout, failover_after, ..self }
    }

    #[must_use]
    pub fn with_absent_primary_wait(self, absent_primary_wait: Millis) -> Self {
        Self { absent_primary_wait, ..self }
    }

    #[cfg(test)]
    pub(crate) fn broken(&self, which: Broken) -> bool {
        self.broken == Some(which)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "the test build reads a field")]
    pub(crate) fn broken(&self, _which: Broken) -> bool {
        false
    }
}

/// The local engine as it last answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EngineFacts {
    pub member: Member,
    pub loading: bool,
    /// It started with data, or has some by now.
    pub has_data: bool,
    /// The replication link to its primary is up.
    pub link_up: bool,
    /// Node id of the primary it is configured to follow.
    pub follows: Option<String>,
    /// It is a primary of no slot.
    pub slotless: bool,
}

/// A record and its version. Versions grow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    pub version: u64,
    pub record: ShardRecord,
}

/// How a swap ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Swapped(u64),
    /// Certainly not ours.
    Conflict,
    /// It may have happened, or happen yet.
    Unknown,
}

/// What a replica has acknowledged, by the run id it announces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReplicaAck {
    pub run_id: String,
    pub offset: u64,
}

/// One turn of the owner's ack loop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Round {
    /// `Snapshot::view` read before anything was sent.
    pub view: u64,
    /// Before anything was sent.
    pub sent_at: Millis,
    /// Commits registered before anything was sent: all up to this number.
    pub upto: u64,
    /// A marker was written in this turn, before the offset was read.
    pub marked: bool,
    /// The engine's replication offset, read after the marker and before the acks.
    pub offset: u64,
    /// Replicas that are online.
    pub replicas: Vec<ReplicaAck>,
}

/// A look at the sidecar beside the record's primary.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Probe {
    /// Whom the record named when the probe was sent.
    pub run_id: String,
    pub epoch: u64,
    /// `None`: it did not answer.
    pub status: Option<ProbeStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProbeStatus {
    pub run_id: Option<String>,
    pub serving: Option<u64>,
    pub relinquished: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// From the watch, or the answer to `Effect::Read` with its number.
    Record {
        seen: Seen,
        read: Option<u64>,
    },
    Swap {
        id: u64,
        outcome: Outcome,
    },
    /// `None`: exited, or silent for too long.
    Engine(Option<EngineFacts>),
    Round(Round),
    Done {
        id: u64,
        ok: bool,
    },
    Probe(Probe),
    /// A replica says that it follows us.
    Join(Member),
    /// A peer or the operator asks us to take over. `relinquished`: the owner's word that it serves no more.
    Promote {
        relinquished: Option<u64>,
    },
    /// `leaving`: the pod is about to stop. `to`: the pod that should take over, if it is in sync; it is asked first.
    HandOver {
        leaving: bool,
        to: Option<String>,
    },
    /// This process has not run for a while: what it waited for may have come in the meantime.
    Woke,
    Tick,
}

/// What the engine shall do. Carried out one after the other, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Let no more replication data in and no more acks out, until `Follow` or `Assume`.
    BreakLink,
    /// Be the primary of the shard's band, with the replication user on.
    Assume,
    /// Replication user off, replicas cut.
    CloseReplication,
    /// Be a replica of this member, after it has proved who it is.
    Follow(Member),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    Swap {
        id: u64,
        expected: u64,
        record: ShardRecord,
    },
    /// Read the record; keep trying.
    Read {
        id: u64,
    },
    Command {
        id: u64,
        command: Command,
    },
    /// Every commit up to this number is held by every in-sync member.
    Acknowledged {
        upto: u64,
    },
    /// Ask this member to take over: we served until `relinquished` and never will again at that epoch.
    Nudge {
        to: Member,
        relinquished: u64,
    },
    /// For metrics and events: this pod serves from now on.
    Granted {
        epoch: u64,
        why: Why,
    },
}

/// Why a member claims the shard. Also the label of the failover counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The shard never had a primary.
    Formation,
    /// The record names this run already: the sidecar restarted, or nobody took over.
    Resume,
    /// The owner handed over or lost its engine, and said so.
    HandOver,
    /// The owner is gone.
    Failover,
    /// Asked by the operator.
    Asked,
    /// Persistent data came back.
    Return,
    /// Leave to start empty.
    Release,
}

impl Why {
    pub fn label(self) -> &'static str {
        match self {
            Self::Formation => "formation",
            Self::Resume => "resume",
            Self::HandOver => "hand-over",
            Self::Failover => "failover",
            Self::Asked => "asked",
            Self::Return => "return",
            Self::Release => "release",
        }
    }
}

/// What the data path may do now. Published after every step that changes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// Grows when tenure or the required set changes.
    pub view: u64,
    /// Epoch at which this pod serves.
    pub tenure: Option<u64>,
    /// Epoch at which commits are still acknowledged; outlives the tenure while handing over.
    pub acking: Option<u64>,
    /// Run id of the engine of both.
    pub run_id: String,
    /// Members besides this one that must hold a commit before it is acknowledged.
    pub required: BTreeSet<String>,
    /// Every required member has sent an acknowledgement after this moment. Meaningless while nobody is required.
    pub evidence: Option<Millis>,
}
