//! What a pass wants done: plain values. The shell carries them out in order and reports an `Outcome` for each.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use blobstore_operator_api::status::{RemediationStatus, RollStatus};
use blobstore_sidecar_api::action::{ActionRequest, ActionResult};
use blobstore_sidecar_api::record::ShardRecord;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// `POST /v1/actions/{name}` at the pod's sidecar. Repeating an id repeats no effect.
    Ask { pod: String, uid: String, ip: String, name: &'static str, request: ActionRequest, why: String },
    /// The Eviction API with the UID as precondition: budgets are honoured, 429 means later.
    Evict { pod: String, uid: String, why: String },
    /// DELETE with the UID as precondition: only for a pod that is not ready and provably holds no sole copy.
    Delete { pod: String, uid: String, why: String },
    /// DELETE without a grace period, with the UID as precondition: only for a pod that was to end, on a node that is
    /// gone or out of service, while the shard's primary serves elsewhere.
    Remove { pod: String, uid: String, why: String },
    /// Write `record` into the shard's Lease with `resource_version` as precondition: leave to start empty.
    Release { shard: u32, resource_version: String, record: ShardRecord, why: String },
    /// Merge patch of `spec.resources.requests.storage` of a PersistentVolumeClaim: volumes only grow.
    Grow { claim: String, size: String, why: String },
    /// Merge patch of the pod's label `cachehygiene.io/role`, for people and selectors.
    Label { pod: String, role: &'static str },
}

/// What came of an action. The shell makes one per action carried out; a conflict or 429 is `Deferred`.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub action: Action,
    pub result: Result<Done, String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// Kubernetes took it.
    Accepted,
    /// Not now: a budget, a conflict, or a precondition. The next pass looks again.
    Deferred(String),
    /// The sidecar's answer.
    Answer(ActionResult),
}

/// A pass's decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Pods that each shard's StatefulSet should have now, the surge pod of a roll included.
    pub sizes: BTreeMap<u32, u32>,
    /// Size in each existing StatefulSet's claim template: it cannot change, so it is built as it is.
    pub claim_sizes: BTreeMap<u32, String>,
    /// Revision each shard's pods should run.
    pub revisions: BTreeMap<u32, String>,
    /// In order; at most one of them, or one shrinking size, is disruptive.
    pub actions: Vec<Action>,
    /// Look again after this long, whatever the watches say.
    pub requeue: Duration,
    /// Why something that is wanted does not happen now.
    pub holds: Vec<Hold>,
    /// What is wrong, with its cause.
    pub causes: Vec<Cause>,
    /// Events worth telling; the shell drops repeats.
    pub events: Vec<Event>,
    /// Findings, intent and limits: becomes `status.remediation`.
    pub remediation: Option<RemediationStatus>,
    pub roll: Option<RollStatus>,
    /// Shards without data anywhere: their index and what was done about it.
    pub data_lost: BTreeMap<u32, String>,
    /// True: the spec asks for pods that are being added or removed.
    pub scaling: bool,
}

/// Something wanted that has to wait. `reason` is one of `status::reason`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub reason: &'static str,
    pub message: String,
}

/// A fault and where it sits. `reason` is one of `status::reason`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    pub reason: &'static str,
    pub pod: String,
    pub message: String,
}

/// A Kubernetes Event regarding the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub warning: bool,
    pub reason: Cow<'static, str>,
    pub message: String,
}

impl Action {
    /// It takes a pod or a primary away for a while.
    pub fn disruptive(&self) -> bool {
        use blobstore_sidecar_api::action::name;
        match self {
            Self::Evict { .. } | Self::Delete { .. } | Self::Remove { .. } => true,
            Self::Ask { name, .. } => *name == name::HAND_OVER,
            Self::Release { .. } | Self::Grow { .. } | Self::Label { .. } => false,
        }
    }

    /// The pod it is about, if it is one.
    pub fn pod(&self) -> Option<&str> {
        match self {
            Self::Ask { pod, .. }
            | Self::Evict { pod, .. }
            | Self::Delete { pod, .. }
            | Self::Remove { pod, .. }
            | Self::Label { pod, .. } => Some(pod),
            Self::Release { .. } | Self::Grow { .. } => None,
        }
    }
}
