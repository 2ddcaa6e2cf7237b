//! What one pass saw, read once. Holds no client and no handle; unknown is a state of its own and never
//! treated as absent.

pub mod read;

use std::collections::{BTreeMap, BTreeSet};

use blobstore_sidecar_api::record::{Member, ShardRecord};
use blobstore_sidecar_api::report::LeakReport;
use blobstore_sidecar_api::topology::PodTopology;
use jiff::Timestamp;

use crate::secrets::SecretSeen;

/// The result of looking: it is not there, we could not tell, or this is it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Seen<T> {
    Absent,
    #[default]
    Unknown,
    Present(T),
}

impl<T> Seen<T> {
    pub fn present(&self) -> Option<&T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent | Self::Unknown => None,
        }
    }
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

/// Everything a pass decides from. The shell fills it: lists by label selector, one GET per sidecar and document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Pods with the store's labels, any order; `read::pod` makes one from the API object.
    pub pods: Vec<PodSeen>,
    /// StatefulSets with the store's labels, by shard.
    pub sets: BTreeMap<u32, SetSeen>,
    /// The shards' records; a Lease without record is `Present` with a default record. Missing key: `Unknown`.
    pub records: BTreeMap<u32, RecordSeen>,
    /// PersistentVolumeClaims with the store's labels: name (`data-<pod>`) → requested size, as written.
    pub claims: BTreeMap<String, String>,
    /// Nodes that are not Ready or gone, by name: their pods cannot be asked.
    pub nodes_lost: BTreeSet<String>,
    /// Those of them that are gone or tainted out-of-service: no process of theirs runs any more.
    pub nodes_out: BTreeSet<String>,
    /// Data of Secret `<store>-auth`: generated values are kept, never replaced.
    pub auth: Seen<BTreeMap<String, Vec<u8>>>,
    /// Secrets that the resource names, by the field that does.
    pub secrets: BTreeMap<String, Seen<SecretSeen>>,
    /// Steps of this pass that the API server refused: category and message, for `Reconcilable`.
    pub failures: Vec<Failure>,
}

/// A step that did not work, in the words of the shell's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// True: 403, which a person must put right.
    pub forbidden: bool,
    pub message: String,
}

/// A pod, its node, and what its sidecar says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSeen {
    pub name: String,
    pub uid: String,
    pub shard: u32,
    pub ordinal: u32,
    pub ip: Option<String>,
    pub node: Option<String>,
    pub created: Option<Timestamp>,
    /// Deletion was asked for.
    pub deleting: bool,
    /// The pod's Ready condition.
    pub ready: bool,
    /// Since when the Ready condition has its value.
    pub ready_since: Option<Timestamp>,
    /// Annotation `cachehygiene.io/revision`.
    pub revision: Option<String>,
    /// Label `cachehygiene.io/role`.
    pub role: Option<String>,
    /// The scheduler's sentence while no node fits.
    pub unschedulable: Option<String>,
    /// Containers by name, init containers included.
    pub containers: BTreeMap<String, ContainerSeen>,
    /// `GET /v1/topology`. `Unknown`: no answer, which proves nothing. `Absent`: no sidecar can run (no IP yet).
    pub topology: Seen<PodTopology>,
    /// `GET /v1/report`.
    pub report: Seen<LeakReport>,
    /// The first look that got no answer, while topology or report is `Unknown`. `None`: nobody has kept count.
    pub silent_since: Option<Timestamp>,
    /// What the sidecar said when it last answered, while it does not. For telling, never for deciding.
    pub last_word: Option<LastWord>,
}

/// The last answers of a sidecar that is silent now; the cluster's other nodes are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct LastWord {
    pub topology: Option<PodTopology>,
    pub report: Option<LeakReport>,
}

/// A sidecar that misses a look is not yet a fault: until this long after, the status tells its last word. Looks at
/// a silent sidecar are 2 s apart, so it has been asked five times by then.
pub const SILENCE_HELD_MS: i64 = 10_000;

/// A container's state, as far as a diagnosis needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSeen {
    pub running: bool,
    pub ready: bool,
    pub restarts: i32,
    /// Reason and message while it waits, for example `ImagePullBackOff`.
    pub waiting: Option<(String, String)>,
    /// How it ended last.
    pub last_end: Option<EndSeen>,
}

/// A termination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndSeen {
    pub reason: String,
    /// The termination message: the launcher writes the engine's last words there.
    pub message: String,
    pub exit_code: i32,
    pub at: Option<Timestamp>,
}

/// A StatefulSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetSeen {
    /// `spec.replicas`.
    pub size: u32,
    /// Revision annotation of the pod template.
    pub revision: Option<String>,
    /// Size in the claim template, which Kubernetes never lets change.
    pub claim_size: Option<String>,
}

/// A shard's Lease.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordSeen {
    pub record: Seen<ShardRecord>,
    /// Precondition of a write.
    pub resource_version: String,
    /// When the record was last written (`spec.renewTime`), if known.
    pub written: Option<Timestamp>,
}

impl Observed {
    /// The same without what the sidecars said: as it is before they are asked.
    pub fn unasked(&self) -> Self {
        let pods = self.pods.iter().map(PodSeen::unasked).collect();
        Self {
            pods,
            nodes_lost: BTreeSet::new(),
            nodes_out: BTreeSet::new(),
            failures: Vec::new(),
            ..self.clone()
        }
    }

    /// The same with the last words of sidecars that have been silent for a moment only: for the status, which would
    /// otherwise be written twice for every lost packet. Decisions rest on what was answered.
    pub fn told(&self, now: Timestamp) -> Self {
        Self { pods: self.pods.iter().map(|pod| pod.told(now)).collect(), ..self.clone() }
    }

    /// A sidecar misses a look that the status does not tell yet.
    pub fn holds_breath(&self, now: Timestamp) -> bool {
        self.pods.iter().any(|pod| pod.word_held(now).is_some())
    }

    pub fn pod(&self, name: &str) -> Option<&PodSeen> {
        self.pods.iter().find(|pod| pod.name == name)
    }

    /// The shard's pods by ordinal.
    pub fn shard_pods(&self, shard: u32) -> Vec<&PodSeen> {
        let mut pods: Vec<&PodSeen> = self.pods.iter().filter(|pod| pod.shard == shard).collect();
        pods.sort_by_key(|pod| pod.ordinal);
        pods
    }

    pub fn record(&self, shard: u32) -> Option<&ShardRecord> {
        self.records.get(&shard)?.record.present()
    }

    /// The node is gone or not Ready: the pod cannot be asked and cannot be counted on.
    pub fn node_lost(&self, pod: &PodSeen) -> bool {
        pod.node.as_ref().is_some_and(|node| self.nodes_lost.contains(node))
    }

    /// The pod's engine, in this very run, is in the record's in-sync set: it has every acknowledged write.
    pub fn surely_in_sync(&self, pod: &PodSeen) -> bool {
        let (Some(record), Some(run)) = (self.record(pod.shard), pod.run_id()) else { return false };
        !pod.deleting && record.in_sync.iter().any(|member| member.pod == pod.name && member.run_id == run)
    }

    /// The record's primary, serving in this run.
    pub fn serving_primary(&self, shard: u32) -> Option<&PodSeen> {
        let member = self.record(shard)?.primary.as_ref()?;
        let pod = self.pod(&member.pod)?;
        let engine = pod.engine()?;
        (engine.member.run_id == member.run_id && engine.is_primary && pod.serving()).then_some(pod)
    }

    /// The pod that the record names as primary, whatever its state.
    pub fn recorded_primary(&self, shard: u32) -> Option<&Member> {
        self.record(shard)?.primary.as_ref()
    }
}

impl PodSeen {
    /// The pod with its sidecar's word open, or impossible without an address.
    fn unasked(&self) -> Self {
        let (topology, report) =
            if self.ip.is_some() { (Seen::Unknown, Seen::Unknown) } else { (Seen::Absent, Seen::Absent) };
        Self { topology, report, silent_since: None, last_word: None, ..self.clone() }
    }

    /// For how long the sidecar has not answered, in milliseconds.
    pub fn silence_ms(&self, now: Timestamp) -> Option<i64> {
        let since = self.silent_since?;
        Some(now.as_millisecond().saturating_sub(since.as_millisecond()))
    }

    fn word_held(&self, now: Timestamp) -> Option<&LastWord> {
        let silent = self.topology.is_unknown() || self.report.is_unknown();
        let word = self.last_word.as_ref().filter(|_| silent && !self.deleting)?;
        (self.silence_ms(now)? < SILENCE_HELD_MS).then_some(word)
    }

    fn told(&self, now: Timestamp) -> Self {
        let mut told = self.clone();
        let Some(word) = self.word_held(now) else { return told };
        if let (Seen::Unknown, Some(topology)) = (&self.topology, &word.topology) {
            told.topology = Seen::Present(topology.clone());
        }
        if let (Seen::Unknown, Some(report)) = (&self.report, &word.report) {
            told.report = Seen::Present(report.clone());
        }
        told
    }

    pub fn engine(&self) -> Option<&blobstore_sidecar_api::topology::EngineView> {
        self.topology.present()?.engine.as_ref()
    }

    pub fn run_id(&self) -> Option<&str> {
        Some(self.engine()?.member.run_id.as_str())
    }

    /// Its sidecar says that it serves its slots.
    pub fn serving(&self) -> bool {
        use blobstore_sidecar_api::topology::ShardState;
        self.topology.present().is_some_and(|topology| topology.state == ShardState::Primary)
    }
}
