//! Status from what was seen, planned and done. Conditions keep their transition times; figures are rounded, so that
//! the same state gives the same bytes and a steady store is never written.

mod conditions;
mod news;
mod phase;

use blobstore_operator_api::names;
use blobstore_operator_api::spec::HygieneMode;
use blobstore_operator_api::status::{
    Endpoints, MemoryStatus, NODES_MAX, NodeStatus, ShardStatus, condition, reason,
};
use blobstore_operator_api::{BlobStore, BlobStoreStatus};
use blobstore_sidecar_api::ports;
use blobstore_sidecar_api::topology::ShardState;
use jiff::Timestamp;

use crate::action::{Done, Event, Outcome, Plan};
use crate::observed::{Observed, PodSeen};
use crate::validate::{Invalid, ValidStore};
use crate::{remediate, topology};

/// Used memory is told in steps of this many MiB, and shares in steps of this many percent.
const MEMORY_STEP_MIB: u64 = 16;
const PERCENT_STEP: u64 = 5;
const PERCENT_SLACK: u64 = 1;

/// The status to write, and what the answers of this pass have to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub status: BlobStoreStatus,
    /// Beside `Plan::events`.
    pub events: Vec<Event>,
}

/// Called before the act without outcomes (the intent must be written first), and after it with them.
pub fn status(
    store: &ValidStore,
    observed: &Observed,
    plan: &Plan,
    outcomes: &[Outcome],
    old: &BlobStoreStatus,
    now: Timestamp,
) -> Told {
    let observed = &observed.told(now);
    let mut events = Vec::new();
    let mut remediation = plan.remediation.clone();
    if let Some(remediation) = &mut remediation {
        for outcome in outcomes {
            if let Ok(Done::Answer(answer)) = &outcome.result {
                events.extend(remediate::settle(remediation, answer, now));
            }
        }
    }
    let mut status = BlobStoreStatus {
        observed_generation: Some(store.generation),
        phase: None,
        phase_reason: None,
        ready: Some(ready(store, observed)),
        shards_ready: Some(shards_ready(store, observed)),
        replicas: Some(replicas(store, observed)),
        selector: Some(names::store_selector(&store.name)),
        conditions: Vec::new(),
        shards: (0..store.shards).map(|shard| shard_status(observed, plan, old, shard, now)).collect(),
        nodes: nodes(observed, old),
        memory: memory(observed, old),
        remediation,
        roll: plan.roll.clone(),
        endpoints: Some(endpoints(store)),
    };
    status.conditions = conditions::conditions(store, observed, plan, &status, &old.conditions, now);
    events.extend(news::of(&old.conditions, &status.conditions));
    events.extend(news::of_shards(&old.shards, &status.shards));
    phase::name(&mut status);
    Told { status, events }
}

/// A spec that cannot be built: said, and nothing else touched. What runs keeps running.
pub fn invalid(store: &BlobStore, why: &Invalid, old: &BlobStoreStatus, now: Timestamp) -> Told {
    let generation = store.metadata.generation.unwrap_or_default();
    let message = why.to_string();
    unable(old, generation, (reason::SPEC_INVALID, &message), now)
}

/// A pass that failed at the API server before anything could be decided.
pub fn failed(
    generation: i64,
    failure: &crate::observed::Failure,
    old: &BlobStoreStatus,
    now: Timestamp,
) -> Told {
    let reason = if failure.forbidden { reason::PERMISSION_DENIED } else { reason::API_FAILURE };
    unable(old, generation, (reason, &failure.message), now)
}

fn unable(old: &BlobStoreStatus, generation: i64, why: (&'static str, &str), now: Timestamp) -> Told {
    let mut status = BlobStoreStatus { observed_generation: Some(generation), ..old.clone() };
    let statement = conditions::Statement::no(condition::RECONCILABLE, why.0, why.1.to_owned());
    conditions::put(&mut status.conditions, &statement, generation, &old.conditions, now);
    phase::name(&mut status);
    let events = news::of(&old.conditions, &status.conditions);
    Told { status, events }
}

/// Serves its slots or has every acknowledged write.
fn good(observed: &Observed, pod: &PodSeen) -> bool {
    pod.ready && observed.surely_in_sync(pod)
}

fn ready(store: &ValidStore, observed: &Observed) -> String {
    let wanted = store.shards.saturating_mul(store.members());
    let count =
        observed.pods.iter().filter(|pod| pod.ordinal < store.members() && good(observed, pod)).count();
    format!("{count}/{wanted}")
}

fn shards_ready(store: &ValidStore, observed: &Observed) -> String {
    let count = (0..store.shards).filter(|shard| observed.serving_primary(*shard).is_some()).count();
    format!("{count}/{}", store.shards)
}

fn replicas(store: &ValidStore, observed: &Observed) -> i32 {
    let least = (0..store.shards)
        .map(|shard| observed.pods.iter().filter(|pod| pod.shard == shard && !pod.deleting).count())
        .min()
        .unwrap_or_default();
    i32::try_from(least.saturating_sub(1)).unwrap_or(i32::MAX)
}

fn shard_status(
    observed: &Observed,
    plan: &Plan,
    old: &BlobStoreStatus,
    shard: u32,
    now: Timestamp,
) -> ShardStatus {
    let before = old.shards.iter().find(|status| status.shard == shard);
    let Some(record) = observed.record(shard) else {
        // Not read: what was known stays known.
        return before.cloned().unwrap_or(ShardStatus { shard, ..ShardStatus::default() });
    };
    let engine = observed.serving_primary(shard).and_then(PodSeen::engine);
    let known = before.and_then(|before| before.lost_at.clone());
    let lost =
        plan.data_lost.contains_key(&shard) || before.is_some_and(|before| record.losses > before.losses);
    ShardStatus {
        shard,
        epoch: record.epoch,
        primary: record.primary.as_ref().map(|member| member.pod.clone()),
        in_sync: record.in_sync.iter().map(|member| member.pod.clone()).collect(),
        slots: engine.map_or(0, |engine| topology::slots(&engine.slots)),
        losses: record.losses,
        lost_at: if lost { known.or_else(|| Some(remediate::text(now))) } else { known },
    }
}

fn nodes(observed: &Observed, old: &BlobStoreStatus) -> Vec<NodeStatus> {
    let mut pods: Vec<&PodSeen> = observed.pods.iter().collect();
    pods.sort_by_key(|pod| (pod.shard, pod.ordinal));
    let before = |pod: &PodSeen| old.nodes.iter().find(|node| node.pod == pod.name);
    pods.into_iter().take(NODES_MAX).map(|pod| node(observed, pod, before(pod))).collect()
}

fn node(observed: &Observed, pod: &PodSeen, before: Option<&NodeStatus>) -> NodeStatus {
    let engine = pod.engine();
    let state = match &pod.topology {
        crate::observed::Seen::Absent => "Absent".to_owned(),
        crate::observed::Seen::Unknown => "Unknown".to_owned(),
        crate::observed::Seen::Present(topology) => format!("{:?}", topology.state),
    };
    let role = match pod.topology.present().map(|topology| topology.state) {
        Some(ShardState::Primary | ShardState::HandingOver) => "primary",
        Some(ShardState::InSync | ShardState::Syncing | ShardState::Promoting) => "replica",
        _ => "unknown",
    };
    NodeStatus {
        pod: pod.name.clone(),
        shard: pod.shard,
        role: role.to_owned(),
        state,
        in_sync: observed.surely_in_sync(pod),
        revision: pod.revision.clone(),
        used_mib: engine.map(|engine| steps(engine.used_memory, before.and_then(|before| before.used_mib))),
        rss_mib: engine.map(|engine| steps(engine.rss, before.and_then(|before| before.rss_mib))),
        maxmemory_mib: engine.map(|engine| engine.maxmemory >> 20),
    }
}

/// In whole steps, rounded up. A figure stays until it has left its step by a quarter: one that wavers about the
/// border of two would be written at every look.
fn steps(bytes: u64, before: Option<u64>) -> u64 {
    let mib = bytes >> 20;
    let slack = MEMORY_STEP_MIB / 4;
    let stays = |before: &u64| mib <= before + slack && mib + MEMORY_STEP_MIB + slack > *before;
    before.filter(stays).unwrap_or_else(|| mib.div_ceil(MEMORY_STEP_MIB) * MEMORY_STEP_MIB)
}

/// The fullest engine. As with `steps`, pod and figure stay while they are nearly so.
fn memory(observed: &Observed, old: &BlobStoreStatus) -> Option<MemoryStatus> {
    let share = |pod: &PodSeen| {
        let engine = pod.engine().filter(|engine| engine.maxmemory > 0)?;
        Some(engine.used_memory.saturating_mul(100) / engine.maxmemory)
    };
    let shares = observed.pods.iter().filter_map(|pod| Some((share(pod)?, pod)));
    let (fullest, pod) =
        shares.max_by(|(a, pod_a), (b, pod_b)| a.cmp(b).then_with(|| pod_b.name.cmp(&pod_a.name)))?;
    let stays = |before: &&MemoryStatus| {
        let told: Option<u64> = before.used_percent.strip_suffix('%').and_then(|told| told.parse().ok());
        let its = observed.pod(&before.pod).and_then(share);
        let near =
            |told: u64| fullest + PERCENT_SLACK >= told && fullest < told + PERCENT_STEP + PERCENT_SLACK;
        told.is_some_and(near) && its.is_some_and(|its| its + PERCENT_SLACK >= fullest)
    };
    let new = || MemoryStatus {
        used_percent: format!("{}%", fullest / PERCENT_STEP * PERCENT_STEP),
        pod: pod.name.clone(),
    };
    Some(old.memory.as_ref().filter(stays).cloned().unwrap_or_else(new))
}

fn endpoints(store: &ValidStore) -> Endpoints {
    let service = names::client_service(&store.name);
    let generated = !store.sidecar.anonymous && store.users_secret.is_none();
    let scheme = if store.tls_secret.is_some() { "https" } else { "http" };
    Endpoints {
        http: format!("{scheme}://{service}.{}.svc:{}", store.namespace, ports::CLIENT_PORT),
        credentials_secret: generated.then(|| names::auth_secret(&store.name)),
    }
}

/// Hygiene is on.
fn measured(store: &ValidStore) -> bool {
    store.hygiene.mode != HygieneMode::Off
}
