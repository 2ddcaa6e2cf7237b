//! The shard that lost everything: every member is reachable and empty, no volume is away. Only then may one of
//! them start as an empty primary, and the loss is told.

use blobstore_sidecar_api::record::{Release, ShardRecord};
use blobstore_sidecar_api::topology::ShardState;

use crate::action::Action;
use crate::observed::{Observed, PodSeen};
use crate::validate::ValidStore;

/// What a shard's state says about its data.
#[derive(Clone, Debug, PartialEq)]
pub enum Loss {
    /// A primary serves, or somebody may still have the data.
    None,
    /// Nobody reachable has it, but not everybody was heard: wait.
    Suspected(String),
    /// Gone for certain; the action lets one member start empty.
    Certain { message: String, release: Box<Action> },
    /// Released, and not yet serving.
    Released(String),
}

pub fn loss(store: &ValidStore, observed: &Observed, shard: u32) -> Loss {
    let Some(seen) = observed.records.get(&shard) else { return Loss::None };
    let Some(record) = seen.record.present() else { return Loss::None };
    if record.epoch == 0 || record.primary.is_none() || observed.serving_primary(shard).is_some() {
        return Loss::None;
    }
    let pods = observed.shard_pods(shard);
    if !pods.iter().any(|pod| empty(pod)) {
        return Loss::None;
    }
    if let Some(release) = record.release.as_ref().filter(|release| release.epoch == record.epoch) {
        return Loss::Released(format!("shard {shard} lost its data; {} starts empty", release.pod));
    }
    match away(store, observed, record, shard, &pods) {
        Some(reason) => {
            Loss::Suspected(format!("shard {shard} has an empty member without a primary: {reason}"))
        }
        None => certain(record, &seen.resource_version, shard, &pods),
    }
}

fn certain(record: &ShardRecord, resource_version: &str, shard: u32, pods: &[&PodSeen]) -> Loss {
    // The lowest ordinal: it stays whatever the store is scaled to.
    let Some(first) = pods.iter().min_by_key(|pod| pod.ordinal) else { return Loss::None };
    let message = format!("shard {shard} lost its data: all {} members restarted empty", pods.len());
    let released = ShardRecord {
        release: Some(Release { pod: first.name.clone(), epoch: record.epoch }),
        ..record.clone()
    };
    let release = Box::new(Action::Release {
        shard,
        resource_version: resource_version.to_owned(),
        record: released,
        why: message.clone(),
    });
    Loss::Certain { message, release }
}

/// The first reason why somebody who is not here may still have the data.
fn away(
    store: &ValidStore,
    observed: &Observed,
    record: &ShardRecord,
    shard: u32,
    pods: &[&PodSeen],
) -> Option<String> {
    let size = observed.sets.get(&shard).map_or(store.members(), |set| set.size);
    if (pods.len() as u64) < u64::from(size) {
        return Some(format!("{} of {size} pods exist", pods.len()));
    }
    for member in &record.in_sync {
        if observed.pod(&member.pod).is_none() {
            return Some(format!("pod {} is away", member.pod));
        }
    }
    if let Some(pod) = pods.iter().find(|pod| pod.deleting || !empty(pod)) {
        return Some(format!("pod {} has not said that it is empty", pod.name));
    }
    if pods
        .iter()
        .any(|pod| pod.topology.present().is_none_or(|topology| topology.record.as_ref() != Some(record)))
    {
        return Some("not every member has read the latest record".to_owned());
    }
    store.storage.as_ref()?;
    let claim = observed.claims.keys().find(|claim| {
        let pod = claim.strip_prefix("data-").unwrap_or(claim);
        belongs(store, pod, shard) && observed.pod(pod).is_none()
    })?;
    Some(format!("volume {claim} is not attached"))
}

fn belongs(store: &ValidStore, pod: &str, shard: u32) -> bool {
    blobstore_operator_api::names::parse_pod(&store.name, pod).is_some_and(|(index, _)| index == shard)
}

/// The engine runs, has nothing, and its sidecar waits for leave to start over.
fn empty(pod: &PodSeen) -> bool {
    pod.topology.present().is_some_and(|topology| {
        topology.state == ShardState::Empty
            && topology.record_fresh
            && topology.engine.as_ref().is_some_and(|engine| engine.keys == 0 && !engine.loading)
    })
}
