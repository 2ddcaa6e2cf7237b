//! Surging rolls: one pod more, wait until it is in sync, then replicas, hand-over, old primary, and the extra pod
//! goes. Every step follows from what is seen, so a roll survives any interruption. Scaling in and restarts for
//! memory take the same path.

mod steps;

use std::collections::{BTreeMap, BTreeSet};

use blobstore_operator_api::names;
use blobstore_operator_api::status::RollStatus;
use jiff::Timestamp;

use crate::action::{Action, Hold};
use crate::observed::{Observed, PodSeen};
use crate::safety;
use crate::validate::ValidStore;

/// What the rolls of a store want now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Roll {
    /// Size of every shard's StatefulSet.
    pub sizes: BTreeMap<u32, u32>,
    /// At most one.
    pub action: Option<Action>,
    pub holds: Vec<Hold>,
    /// Present while pods run another revision than wanted, or a surge pod is there.
    pub status: Option<RollStatus>,
    /// A shard is between two steps: nothing else may disturb the store.
    pub busy: bool,
}

/// One shard as a roll looks at it.
pub(crate) struct Shard<'a> {
    pub index: u32,
    /// Pods the spec asks for.
    pub wanted: u32,
    /// Pods the StatefulSet asks for now.
    pub size: u32,
    pub pods: Vec<&'a PodSeen>,
    pub revision: &'a str,
    pub restarts: &'a BTreeSet<String>,
    pub observed: &'a Observed,
    pub now: Timestamp,
}

/// What one shard wants.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Step {
    pub size: u32,
    pub action: Option<Action>,
    pub hold: Option<Hold>,
}

/// Decides for all shards: urgent repairs anywhere, otherwise one shard at a time, lowest index first.
pub fn roll(
    store: &ValidStore,
    observed: &Observed,
    revisions: &BTreeMap<u32, String>,
    restarts: &BTreeSet<String>,
    now: Timestamp,
) -> Roll {
    let mut roll = Roll::default();
    let shards: Vec<Shard<'_>> = (0..store.shards)
        .map(|index| {
            shard(store, observed, revisions.get(&index).map_or("", String::as_str), restarts, index, now)
        })
        .collect();
    for shard in &shards {
        roll.sizes.insert(shard.index, shard.size.max(shard.wanted));
    }
    // A pod that cannot run and holds nothing is replaced wherever it is: else a bad image could not be repaired.
    if let Some(action) = shards.iter().find_map(steps::repair) {
        roll.action = Some(action);
        roll.busy = true;
    }
    let active =
        shards.iter().find(|shard| shard.surged()).or_else(|| shards.iter().find(|shard| shard.unfinished()));
    if let Some(shard) = active
        && roll.action.is_none()
    {
        let step = steps::step(shard);
        roll.sizes.insert(shard.index, step.size);
        roll.action = step.action;
        roll.holds.extend(step.hold);
        roll.busy = true;
    }
    roll.status = status(&shards, &roll);
    roll
}

fn shard<'a>(
    store: &ValidStore,
    observed: &'a Observed,
    revision: &'a str,
    restarts: &'a BTreeSet<String>,
    index: u32,
    now: Timestamp,
) -> Shard<'a> {
    let wanted = store.members();
    let size = observed.sets.get(&index).map_or(wanted, |set| set.size);
    Shard { index, wanted, size, pods: observed.shard_pods(index), revision, restarts, observed, now }
}

fn status(shards: &[Shard<'_>], roll: &Roll) -> Option<RollStatus> {
    if !roll.busy {
        return None;
    }
    let pods: Vec<(&Shard<'_>, &&PodSeen)> =
        shards.iter().flat_map(|shard| shard.members().map(move |pod| (shard, pod))).collect();
    let fresh = pods.iter().filter(|(shard, pod)| !shard.stale(pod)).count();
    let wanted: u32 = shards.iter().map(|shard| shard.wanted).sum();
    Some(RollStatus {
        summary: format!("{fresh}/{wanted}"),
        revisions: shards.iter().map(|shard| (shard.index.to_string(), shard.revision.to_owned())).collect(),
        waiting_for: roll.holds.first().map(|hold| hold.message.clone()),
    })
}

impl<'a> Shard<'a> {
    /// Pods that stay.
    pub(crate) fn members(&self) -> impl Iterator<Item = &&'a PodSeen> {
        self.pods.iter().filter(|pod| pod.ordinal < self.wanted)
    }

    pub(crate) fn ordinal(&self, ordinal: u32) -> Option<&'a PodSeen> {
        self.pods.iter().copied().find(|pod| pod.ordinal == ordinal)
    }

    /// Must be restarted: another revision, or chosen by the memory ladder.
    pub(crate) fn stale(&self, pod: &PodSeen) -> bool {
        pod.revision.as_deref() != Some(self.revision) || self.restarts.contains(&pod.uid)
    }

    /// There are more pods than the spec asks for.
    pub(crate) fn surged(&self) -> bool {
        self.size > self.wanted
    }

    pub(crate) fn unfinished(&self) -> bool {
        self.surged() || self.members().any(|pod| self.stale(pod))
    }

    pub(crate) fn in_sync(&self, pod: &PodSeen) -> bool {
        self.observed.surely_in_sync(pod) && !self.observed.node_lost(pod)
    }

    /// The record's primary, serving in this run.
    pub(crate) fn primary(&self) -> Option<&'a PodSeen> {
        self.observed.serving_primary(self.index)
    }

    pub(crate) fn spares(&self, pod: &PodSeen) -> usize {
        safety::in_sync_without(self.observed, pod)
    }

    pub(crate) fn pod_name(&self, ordinal: u32) -> String {
        let store = self.pods.first().and_then(|pod| pod.name.rsplitn(3, '-').nth(2)).unwrap_or_default();
        names::pod(store, self.index, ordinal)
    }
}
