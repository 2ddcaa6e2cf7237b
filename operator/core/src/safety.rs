//! Which pods hold copies that count, and the last gate of every plan: no action may take away a shard's last
//! in-sync copy, and only one thing is disturbed at a time. Planners ask the same questions; this does not trust them.

use std::collections::BTreeMap;

use blobstore_operator_api::status::reason;

use crate::action::{Action, Hold, Plan};
use crate::observed::{Observed, PodSeen};
use crate::stranded;

/// Two pods at once could be both copies of a shard.
pub const DISRUPTIONS_MAX: usize = 1;

/// Nothing in this pod can be the only copy of anything.
pub fn holds_no_sole_copy(observed: &Observed, pod: &PodSeen) -> bool {
    if engine_stopped(pod) {
        // Memory is gone, and a volume outlives the pod.
        return true;
    }
    match observed.record(pod.shard) {
        None => false,
        // The shard has never had a primary, so nothing was ever acknowledged.
        Some(record) if record.epoch == 0 => true,
        Some(record) => {
            !record.in_sync.iter().any(|member| member.pod == pod.name)
                && in_sync(observed, pod.shard).any(|other| other.name != pod.name)
        }
    }
}

/// The kubelet says that no engine process can be running.
pub fn engine_stopped(pod: &PodSeen) -> bool {
    match pod.containers.get("engine") {
        Some(engine) => !engine.running,
        // Never started: not even an address.
        None => pod.ip.is_none() && pod.topology.present().is_none(),
    }
}

/// Pods of a shard that surely have every acknowledged write.
pub fn in_sync(observed: &Observed, shard: u32) -> impl Iterator<Item = &PodSeen> {
    observed
        .pods
        .iter()
        .filter(move |pod| pod.shard == shard && observed.surely_in_sync(pod) && !observed.node_lost(pod))
}

/// Surely in-sync pods of the shard without this one.
pub fn in_sync_without(observed: &Observed, pod: &PodSeen) -> usize {
    in_sync(observed, pod.shard).filter(|other| other.name != pod.name).count()
}

/// Drops whatever would break the invariants, and says so. A planner that is right never meets this.
pub fn enforce(observed: &Observed, plan: &mut Plan) {
    let mut allowed = DISRUPTIONS_MAX;
    let mut held = Vec::new();
    shrink_once(observed, plan, &mut allowed, &mut held);
    plan.actions.retain(|action| {
        if !action.disruptive() {
            return true;
        }
        let verdict = judge(observed, action)
            .and_then(|()| if allowed == 0 { Err("one disruption at a time".to_owned()) } else { Ok(()) });
        match verdict {
            Ok(()) => {
                allowed -= 1;
                true
            }
            Err(message) => {
                held.push(message);
                false
            }
        }
    });
    plan.holds.extend(held.into_iter().map(|message| Hold { reason: reason::ROLL_HELD, message }));
}

fn judge(observed: &Observed, action: &Action) -> Result<(), String> {
    let (Action::Evict { pod, uid, .. } | Action::Delete { pod, uid, .. } | Action::Remove { pod, uid, .. }) =
        action
    else {
        return Ok(());
    };
    let Some(seen) = observed.pod(pod).filter(|seen| seen.uid == *uid) else {
        return Err(format!("pod {pod} is not the one that was looked at"));
    };
    if matches!(action, Action::Delete { .. }) && seen.ready {
        return Err(format!("pod {pod} is ready: it leaves by eviction only"));
    }
    if matches!(action, Action::Remove { .. }) && !stranded::releasable(observed, seen) {
        return Err(format!("pod {pod} may still run on its node"));
    }
    removable(observed, seen)
}

fn removable(observed: &Observed, pod: &PodSeen) -> Result<(), String> {
    if holds_no_sole_copy(observed, pod) || in_sync_without(observed, pod) > 0 {
        return Ok(());
    }
    Err(format!("pod {} may hold the last in-sync copy of shard {}", pod.name, pod.shard))
}

/// A StatefulSet may shrink by one pod, the highest, under the same rule as an eviction.
fn shrink_once(observed: &Observed, plan: &mut Plan, allowed: &mut usize, held: &mut Vec<String>) {
    let now: BTreeMap<u32, u32> = observed.sets.iter().map(|(shard, set)| (*shard, set.size)).collect();
    for (shard, size) in &mut plan.sizes {
        let Some(current) = now.get(shard).copied().filter(|current| *size < *current) else { continue };
        let top = observed.pods.iter().find(|pod| pod.shard == *shard && pod.ordinal + 1 == current);
        let verdict = if *allowed == 0 {
            Err("one disruption at a time".to_owned())
        } else {
            top.map_or(Ok(()), |pod| removable(observed, pod))
        };
        match verdict {
            Ok(()) => {
                *size = current - 1;
                *allowed -= 1;
            }
            Err(message) => {
                *size = current;
                held.push(message);
            }
        }
    }
}
