//! The second trigger of a failover. Sidecars promote by themselves; when a primary is gone and nothing has
//! happened for a while, the operator asks the best candidate. No proof of death is needed: the record fences.

use blobstore_sidecar_api::action::name;
use blobstore_sidecar_api::record::{Member, ShardRecord};
use blobstore_sidecar_api::topology::ShardState;
use jiff::Timestamp;

use crate::action::Action;
use crate::ask;
use crate::observed::{Observed, PodSeen, Seen};
use crate::safety;
use crate::validate::ValidStore;

/// The sidecars' own trigger acts after 2 s and needs one or two more: before this we would only get in its way.
pub const PATIENCE_MS: i64 = 5_000;

/// One request per shard whose primary is gone.
pub fn promotions(store: &ValidStore, observed: &Observed, now: Timestamp) -> Vec<Action> {
    (0..store.shards).filter_map(|shard| promotion(observed, shard, now)).collect()
}

fn promotion(observed: &Observed, shard: u32, now: Timestamp) -> Option<Action> {
    let record = observed.record(shard)?;
    let primary = record.primary.as_ref()?;
    if !quiet(observed, shard, now) || !gone(observed, primary, now) || somebody_acts(observed, shard) {
        return None;
    }
    let candidate = candidate(observed, record, shard)?;
    let why = format!("primary {} is gone", primary.pod);
    ask::ask(candidate, name::PROMOTE, Some(record.epoch), &[("reason", why.clone())], &why, now)
}

/// The record has not moved lately.
fn quiet(observed: &Observed, shard: u32, now: Timestamp) -> bool {
    let written = observed.records.get(&shard).and_then(|record| record.written);
    written.is_none_or(|at| older(at, now))
}

fn older(at: Timestamp, now: Timestamp) -> bool {
    now.as_millisecond().saturating_sub(at.as_millisecond()) >= PATIENCE_MS
}

fn gone(observed: &Observed, primary: &Member, now: Timestamp) -> bool {
    let Some(pod) = observed.pod(&primary.pod) else { return true };
    // Another run of the engine has the pod's name but not its data.
    if pod.run_id().is_some_and(|run| run != primary.run_id) {
        return true;
    }
    // Its sidecar's own word counts for more than what the API says of pod and node: right after a change of primary
    // every pod of the shard may be unready, and after an absence of the API server the controllers hold nodes for
    // lost whose kubelets have only not reported again.
    let unready = !pod.ready && pod.ready_since.is_some_and(|since| older(since, now));
    denies(pod, now) && (observed.node_lost(pod) || unready)
}

/// Its sidecar says that it does not serve, or is silent: not for one look, which a busy machine may miss.
fn denies(pod: &PodSeen, now: Timestamp) -> bool {
    match &pod.topology {
        Seen::Present(topology) => topology.state != ShardState::Primary,
        Seen::Absent => true,
        Seen::Unknown => pod.silence_ms(now).is_some_and(|silence| silence >= PATIENCE_MS),
    }
}

fn somebody_acts(observed: &Observed, shard: u32) -> bool {
    observed.shard_pods(shard).iter().any(|pod| {
        pod.topology
            .present()
            .is_some_and(|topology| matches!(topology.state, ShardState::Promoting | ShardState::HandingOver))
    })
}

/// In sync in this very run; the one that has read furthest, the lowest ordinal among equals.
fn candidate<'a>(observed: &'a Observed, record: &ShardRecord, shard: u32) -> Option<&'a PodSeen> {
    let primary = record.primary.as_ref().map(|member| member.pod.as_str());
    safety::in_sync(observed, shard).filter(|pod| Some(pod.name.as_str()) != primary).max_by_key(|pod| {
        let offset = pod.engine().map_or(0, |engine| engine.replication_offset);
        (offset, std::cmp::Reverse(pod.ordinal))
    })
}
