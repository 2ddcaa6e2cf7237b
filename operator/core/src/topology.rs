//! Cluster formation: which engine meets whom, and which dead node is forgotten. Slots and replication inside a
//! shard are the sidecars' own work; here the shards become one cluster, and a stranger in it stops everything.

use std::collections::{BTreeMap, BTreeSet};

use blobstore_sidecar_api::action::name;
use blobstore_sidecar_api::topology::{EngineView, NodeView};
use jiff::Timestamp;

use crate::action::Action;
use crate::ask;
use crate::observed::{Observed, PodSeen};
use crate::validate::ValidStore;

/// A pass of at most this many introductions; gossip spreads the rest, the next pass does what is left.
pub const MEETS_MAX: usize = 64;
/// Every node must forget a dead id within 60 s or gossip brings it back: all nodes in one pass, few ids at once.
pub const FORGOTTEN_IDS_MAX: usize = 4;
/// A deleted pod's node looks alive to the others until they have missed it for the engines' node timeout (2 s), and
/// two copies of that view follow one another to us. Only then can an unknown node be called a stranger.
pub const FADING_MS: i64 = 10_000;
/// Slots of a Redis Cluster.
pub const SLOTS: u32 = 16_384;

/// What formation wants now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Formation {
    pub actions: Vec<Action>,
    /// A live node that is none of ours: nothing is met, rolled or restarted until a person has looked.
    pub stranger: Option<String>,
    /// An unknown node that a pod or a primary which has just gone may have left: formation waits for it to fade.
    pub fading: bool,
    /// Slots that nobody serves.
    pub slots_missing: u32,
}

pub fn formation(store: &ValidStore, observed: &Observed, now: Timestamp) -> Formation {
    let mut engines: Vec<(&PodSeen, &EngineView)> = observed
        .pods
        .iter()
        .filter(|pod| !pod.deleting)
        .filter_map(|pod| Some((pod, pod.engine()?)))
        .collect();
    engines.sort_by_key(|(pod, _)| (pod.shard, pod.ordinal));
    let slots_missing = SLOTS.saturating_sub(slots_served(&engines));
    if let Some(message) = stranger(observed, &engines) {
        let fading = unsettled(observed, now);
        let stranger = (!fading).then_some(message);
        return Formation { stranger, fading, slots_missing, ..Formation::default() };
    }
    // Forget first: a replacement met before would be told of its dead predecessor.
    let mut actions = forgets(store, observed, &engines, now);
    if actions.is_empty() {
        actions = meets(&engines, now);
    }
    Formation { actions, slots_missing, ..Formation::default() }
}

/// Members have come or gone a moment ago.
fn unsettled(observed: &Observed, now: Timestamp) -> bool {
    let recent = |at: Timestamp| now.as_millisecond().saturating_sub(at.as_millisecond()) < FADING_MS;
    observed.pods.iter().any(|pod| pod.deleting || pod.created.is_some_and(recent))
        || observed.records.values().any(|record| record.written.is_some_and(recent))
}

fn slots_served(engines: &[(&PodSeen, &EngineView)]) -> u32 {
    let served: BTreeSet<[u16; 2]> = engines
        .iter()
        .filter(|(_, engine)| engine.is_primary)
        .flat_map(|(_, engine)| engine.slots.iter().copied())
        .collect();
    slots(&served)
}

/// Slots in a set of disjoint inclusive ranges.
pub fn slots<'a>(ranges: impl IntoIterator<Item = &'a [u16; 2]>) -> u32 {
    ranges.into_iter().map(|[first, last]| u32::from(last.saturating_sub(*first)) + 1).sum()
}

/// A live node with an id that neither a pod nor a record knows, at an address that is no pod's.
fn stranger(observed: &Observed, engines: &[(&PodSeen, &EngineView)]) -> Option<String> {
    let ids = known_ids(observed, engines);
    let addresses: BTreeSet<&str> = observed.pods.iter().filter_map(|pod| pod.ip.as_deref()).collect();
    engines.iter().find_map(|(pod, engine)| {
        let node = engine.nodes.iter().find(|node| {
            node.linked
                && !node.failed
                && !node.suspected
                && !node.handshake
                && !ids.contains(node.node_id.as_str())
                && !addresses.contains(node.ip.as_str())
        })?;
        Some(format!("{} sees node {} at {}, which is not of this store", pod.name, node.node_id, node.ip))
    })
}

fn known_ids<'a>(observed: &'a Observed, engines: &[(&'a PodSeen, &'a EngineView)]) -> BTreeSet<&'a str> {
    let recorded = observed
        .records
        .values()
        .filter_map(|seen| seen.record.present())
        .flat_map(|record| record.in_sync.iter().chain(record.primary.as_ref()))
        .map(|member| member.node_id.as_str());
    engines.iter().map(|(_, engine)| engine.member.node_id.as_str()).chain(recorded).collect()
}

/// Dead in this engine's eyes, whether or not a majority agrees: alone, an engine never gets beyond a suspicion.
fn missed(node: &NodeView) -> bool {
    node.failed || node.suspected
}

/// Slotless dead ids of pods that have a new id now, or none; asked of every node at once, and only when every
/// pod has answered: a silent pod may be the one.
fn forgets(
    store: &ValidStore,
    observed: &Observed,
    engines: &[(&PodSeen, &EngineView)],
    now: Timestamp,
) -> Vec<Action> {
    let expected: u32 = (0..store.shards)
        .map(|shard| observed.sets.get(&shard).map_or(store.members(), |set| set.size))
        .sum();
    if engines.len() < expected as usize || engines.len() < observed.pods.len() {
        return Vec::new();
    }
    let living: BTreeSet<&str> = engines.iter().map(|(_, engine)| engine.member.node_id.as_str()).collect();
    let mut views: BTreeMap<&str, Vec<&NodeView>> = BTreeMap::new();
    for node in engines.iter().flat_map(|(_, engine)| engine.nodes.iter()) {
        views.entry(node.node_id.as_str()).or_default().push(node);
    }
    let dead: Vec<&str> = views
        .into_iter()
        .filter(|(id, views)| {
            !living.contains(id)
                && views.iter().any(|node| missed(node))
                && views.iter().all(|node| node.slots.is_empty() && (missed(node) || !node.linked))
        })
        .map(|(id, _)| id)
        .take(FORGOTTEN_IDS_MAX)
        .collect();
    let mut actions = Vec::new();
    for id in dead {
        for (pod, engine) in engines {
            if engine.nodes.iter().any(|node| node.node_id == id) {
                let params = [("node_id", id.to_owned())];
                actions.extend(ask::ask(pod, name::FORGET, None, &params, "dead and without slots", now));
            }
        }
    }
    actions
}

/// The first engine introduces itself to everyone it does not know, or knows at an old address.
fn meets(engines: &[(&PodSeen, &EngineView)], now: Timestamp) -> Vec<Action> {
    let Some(((hub_pod, hub), others)) = engines.split_first() else { return Vec::new() };
    others
        .iter()
        .filter(|(_, engine)| !knows(hub, engine) || !knows(engine, hub))
        .filter_map(|(_, engine)| {
            let params = [("node_id", engine.member.node_id.clone()), ("ip", engine.member.ip.clone())];
            ask::ask(hub_pod, name::MEET, None, &params, "not yet in the cluster", now)
        })
        .take(MEETS_MAX)
        .collect()
}

fn knows(engine: &EngineView, other: &EngineView) -> bool {
    engine
        .nodes
        .iter()
        .any(|node| node.node_id == other.member.node_id && node.ip == other.member.ip && !node.handshake)
}
