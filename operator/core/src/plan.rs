//! The planner: everything a pass wants, in the order of urgency, with at most one disturbance of the store.

use std::collections::BTreeMap;
use std::time::Duration;

use blobstore_operator_api::BlobStoreStatus;
use blobstore_operator_api::status::reason;
use blobstore_sidecar_api::topology::ShardState;
use jiff::Timestamp;

use crate::action::{Action, Event, Hold, Plan};
use crate::context::Context;
use crate::dataloss::{self, Loss};
use crate::observed::Observed;
use crate::remediate::{self, Calm};
use crate::roll::{self, Roll};
use crate::topology::{self, Formation};
use crate::validate::ValidStore;
use crate::{build, diagnose, failover, safety, stranded};

/// Nothing under way: verdicts are looked at twice a minute (leaks survey, 5.1).
pub const REQUEUE_STEADY: Duration = Duration::from_secs(30);
/// Something under way: a step of a roll or of formation should not wait for a timer that a person can feel.
pub const REQUEUE_BUSY: Duration = Duration::from_millis(500);
/// Something to wait for that only time or Kubernetes brings.
pub const REQUEUE_WAITING: Duration = Duration::from_secs(2);

pub fn plan(
    store: &ValidStore,
    observed: &Observed,
    context: &Context,
    old: &BlobStoreStatus,
    now: Timestamp,
) -> Plan {
    let revisions = (0..store.shards).map(|shard| (shard, build::revision(store, context, shard))).collect();
    let mut plan = Plan {
        revisions,
        sizes: sizes_now(store, observed),
        claim_sizes: observed
            .sets
            .iter()
            .filter_map(|(shard, set)| Some((*shard, set.claim_size.clone()?)))
            .collect(),
        causes: diagnose::causes(store, &observed.told(now), old, now),
        requeue: REQUEUE_STEADY,
        ..Plan::default()
    };
    let formation = topology::formation(store, observed, now);
    if store.paused {
        let message = "spec.lifecycle.paused is true: nothing is changed".to_owned();
        plan.holds.push(Hold { reason: reason::PAUSED, message });
        plan.remediation = remediate::paused(old);
        plan.roll = old.roll.clone();
        return plan;
    }
    urgent(store, observed, &mut plan, now);
    plan.actions.extend(stranded::release(observed));
    formation_steps(formation.clone(), &mut plan);
    upkeep(store, observed, &mut plan);
    let rolled = if formation.stranger.is_some() {
        Roll::default()
    } else {
        rolls(store, observed, old, &mut plan, now)
    };
    remedies(store, observed, old, &formation, &rolled, &mut plan, now);
    safety::enforce(observed, &mut plan);
    plan.scaling = scaling(store, observed);
    plan.requeue = requeue(store, observed, &rolled, &plan, now);
    if formation.fading {
        plan.requeue = plan.requeue.min(REQUEUE_WAITING);
    }
    plan
}

/// What exists stays; what is missing is made as the spec says.
fn sizes_now(store: &ValidStore, observed: &Observed) -> BTreeMap<u32, u32> {
    (0..store.shards)
        .map(|shard| (shard, observed.sets.get(&shard).map_or(store.members(), |set| set.size)))
        .collect()
}

/// Shards without a primary come first.
fn urgent(store: &ValidStore, observed: &Observed, plan: &mut Plan, now: Timestamp) {
    plan.actions.extend(failover::promotions(store, observed, now));
    for shard in 0..store.shards {
        match dataloss::loss(store, observed, shard) {
            Loss::None => {}
            Loss::Suspected(message) => plan.holds.push(Hold { reason: reason::MISSING_PRIMARY, message }),
            Loss::Released(message) => {
                plan.data_lost.insert(shard, message);
            }
            Loss::Certain { message, release } => {
                plan.events.push(Event {
                    warning: true,
                    reason: "DataLost".into(),
                    message: message.clone(),
                });
                plan.data_lost.insert(shard, message);
                plan.actions.push(*release);
            }
        }
    }
}

fn formation_steps(formation: Formation, plan: &mut Plan) {
    plan.actions.extend(formation.actions);
    if let Some(message) = formation.stranger {
        plan.events.push(Event {
            warning: true,
            reason: reason::UNKNOWN_NODE.into(),
            message: message.clone(),
        });
        plan.holds.push(Hold { reason: reason::UNKNOWN_NODE, message });
    }
}

/// Labels that follow the record, volumes that follow the spec.
fn upkeep(store: &ValidStore, observed: &Observed, plan: &mut Plan) {
    for pod in &observed.pods {
        let Some(primary) = observed.recorded_primary(pod.shard) else { continue };
        let role = if primary.pod == pod.name { "primary" } else { "replica" };
        if pod.role.as_deref() != Some(role) && !pod.deleting {
            plan.actions.push(Action::Label { pod: pod.name.clone(), role });
        }
    }
    let Some(storage) = &store.storage else { return };
    for (claim, size) in &observed.claims {
        let bytes = blobstore_operator_api::units::Bytes(size.clone()).parse().unwrap_or(u64::MAX);
        if bytes < storage.size_bytes {
            plan.actions.push(Action::Grow {
                claim: claim.clone(),
                size: storage.size.clone(),
                why: format!("spec.storage.size is {}", storage.size),
            });
        }
    }
}

fn rolls(
    store: &ValidStore,
    observed: &Observed,
    old: &BlobStoreStatus,
    plan: &mut Plan,
    now: Timestamp,
) -> Roll {
    let restarts = remediate::restarts(old.remediation.as_ref());
    let rolled = roll::roll(store, observed, &plan.revisions, &restarts, now);
    plan.sizes.clone_from(&rolled.sizes);
    plan.actions.extend(rolled.action.clone());
    plan.holds.extend(rolled.holds.iter().cloned());
    plan.roll.clone_from(&rolled.status);
    rolled
}

fn remedies(
    store: &ValidStore,
    observed: &Observed,
    old: &BlobStoreStatus,
    formation: &Formation,
    rolled: &Roll,
    plan: &mut Plan,
    now: Timestamp,
) {
    if observed.holds_breath(now) && old.remediation.is_some() {
        // A look that was missed is no reason to change one's mind, and none to act.
        plan.remediation.clone_from(&old.remediation);
        return;
    }
    let calm = Calm { blockers: blockers(store, observed, formation, rolled) };
    let decision = remediate::decide(store, observed, old.remediation.as_ref(), &calm, now);
    plan.remediation = decision.status;
    plan.actions.extend(decision.action);
    plan.events.extend(decision.events);
}

/// Why no pod may be disturbed for memory now.
fn blockers(store: &ValidStore, observed: &Observed, formation: &Formation, rolled: &Roll) -> Vec<String> {
    let mut blockers = Vec::new();
    if formation.stranger.is_some() {
        blockers.push("an unknown node is in the cluster".to_owned());
    }
    if rolled.busy {
        blockers.push("a roll is under way".to_owned());
    }
    for shard in 0..store.shards {
        if observed.serving_primary(shard).is_none() {
            blockers.push(format!("shard {shard} has no serving primary"));
        }
        let in_sync = safety::in_sync(observed, shard).count();
        if in_sync < store.members() as usize {
            blockers.push(format!("shard {shard} has {in_sync} of {} pods in sync", store.members()));
        }
    }
    blockers
}

fn scaling(store: &ValidStore, observed: &Observed) -> bool {
    (0..store.shards).any(|shard| {
        let pods = observed.pods.iter().filter(|pod| pod.shard == shard && !pod.deleting).count();
        pods != store.members() as usize
            || observed.sets.get(&shard).is_none_or(|set| set.size != store.members())
    })
}

fn requeue(store: &ValidStore, observed: &Observed, rolled: &Roll, plan: &Plan, now: Timestamp) -> Duration {
    let asks = plan.actions.iter().any(|action| !matches!(action, Action::Label { .. }));
    if asks {
        return REQUEUE_BUSY;
    }
    let moving = observed.pods.iter().any(|pod| {
        pod.deleting
            || pod.topology.is_unknown()
            || pod
                .topology
                .present()
                .is_some_and(|seen| !matches!(seen.state, ShardState::Primary | ShardState::InSync))
    });
    let serving = (0..store.shards).all(|shard| observed.serving_primary(shard).is_some());
    if rolled.busy || moving || !serving || plan.scaling || !plan.data_lost.is_empty() {
        return REQUEUE_WAITING;
    }
    plan.remediation
        .as_ref()
        .and_then(|remediation| remediate::next_look(remediation, now))
        .map_or(REQUEUE_STEADY, |next| next.clamp(REQUEUE_BUSY, REQUEUE_STEADY))
}
