//! `POST /v1/actions/{name}`: what the operator may ask of a sidecar. Repeating the same id repeats no effect.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Names of the actions, as in the URL.
pub mod name {
    /// Params: node_id, ip. Proves the store's UID over the peer port, then CLUSTER MEET.
    pub const MEET: &str = "meet";
    /// Params: node_id. CLUSTER FORGET of a slotless dead node.
    pub const FORGET: &str = "forget";
    /// Candidate only. Params: reason. Writes itself into the record and takes over.
    pub const PROMOTE: &str = "promote";
    /// Primary only. Params: to (pod, optional). Stops serving and lets an in-sync replica take over: that of pod `to`,
    /// if it is in sync and answers within half a second.
    pub const HAND_OVER: &str = "hand-over";
    /// Soft rungs of the remediation ladder.
    pub const TRIM: &str = "trim";
    pub const AUDIT: &str = "audit";
    pub const RECLAIM_ORPHANS: &str = "reclaim-orphans";
    pub const KILL_CLIENTS: &str = "kill-clients";
    pub const PURGE: &str = "purge";
    pub const DEFRAG: &str = "defrag";
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionRequest {
    /// Chosen by the caller from what it saw: the same cause gives the same id.
    pub id: String,
    /// The shard epoch the caller planned with; refused when it has moved.
    #[serde(default)]
    pub expected_epoch: Option<u64>,
    #[serde(default)]
    pub params: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionResult {
    pub id: String,
    pub state: ActionState,
    /// One sentence: what happened, or why not.
    pub message: String,
    /// The metric that the action predicts to move, in bytes unless the name says otherwise.
    #[serde(default)]
    pub before: BTreeMap<String, f64>,
    #[serde(default)]
    pub after: BTreeMap<String, f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub enum ActionState {
    Running,
    Done,
    /// Not carried out: the message says what stood against it. Nothing was changed.
    Refused,
    Failed,
}
