//! The single steps of a shard's roll, first match wins.

use blobstore_operator_api::status::reason;
use blobstore_sidecar_api::action::name;

use super::{Shard, Step};
use crate::action::{Action, Hold};
use crate::ask;
use crate::observed::PodSeen;
use crate::safety;

/// An engine that runs and is merely not ready may be loading or copying: only after this long is it broken. A
/// primary that has just handed over is such a pod, and needed as a copy.
const BROKEN_AFTER_MS: i64 = 60_000;

/// A stale pod that cannot become ready and holds nothing: eviction would wait for ever, so it is deleted.
pub(super) fn repair(shard: &Shard<'_>) -> Option<Action> {
    let broken = shard.pods.iter().find(|pod| {
        !pod.ready
            && !pod.deleting
            && shard.stale(pod)
            && (safety::engine_stopped(pod) || unready_for_long(shard, pod))
            && safety::holds_no_sole_copy(shard.observed, pod)
    })?;
    Some(Action::Delete {
        pod: broken.name.clone(),
        uid: broken.uid.clone(),
        why: "it is not ready, holds no sole copy and runs an old revision".to_owned(),
    })
}

fn unready_for_long(shard: &Shard<'_>, pod: &PodSeen) -> bool {
    let since = pod.ready_since.or(pod.created);
    since.is_some_and(|since| {
        shard.now.as_millisecond().saturating_sub(since.as_millisecond()) >= BROKEN_AFTER_MS
    })
}

/// The next step of the one shard that is rolled now.
pub(super) fn step(shard: &Shard<'_>) -> Step {
    let stale = shard.members().any(|pod| shard.stale(pod));
    let room = if stale { shard.wanted + 1 } else { shard.wanted };
    if shard.size < room {
        return surge(shard);
    }
    if shard.size > room {
        return shrink(shard);
    }
    if !stale {
        return keep(shard);
    }
    if let Some(hold) = surge_pending(shard) {
        return Step { hold: Some(hold), ..keep(shard) };
    }
    replace(shard)
}

fn keep(shard: &Shard<'_>) -> Step {
    Step { size: shard.size, action: None, hold: None }
}

fn wait(shard: &Shard<'_>, message: String) -> Step {
    Step { hold: Some(Hold { reason: reason::ROLLING, message }), ..keep(shard) }
}

fn held(shard: &Shard<'_>, message: String) -> Step {
    Step { hold: Some(Hold { reason: reason::ROLL_HELD, message }), ..keep(shard) }
}

/// One pod more, if there is a primary that it can follow.
fn surge(shard: &Shard<'_>) -> Step {
    if shard.primary().is_none() {
        return held(shard, format!("shard {} has no serving primary to copy from", shard.index));
    }
    Step { size: shard.size + 1, ..keep(shard) }
}

/// Why the extra pod is not a copy yet.
fn surge_pending(shard: &Shard<'_>) -> Option<Hold> {
    let name = shard.pod_name(shard.wanted);
    let Some(pod) = shard.ordinal(shard.wanted) else {
        return Some(Hold { reason: reason::ROLLING, message: format!("pod {name} to be created") });
    };
    if shard.in_sync(pod) {
        return None;
    }
    Some(match &pod.unschedulable {
        Some(why) => Hold {
            reason: reason::NO_ROOM_TO_SURGE,
            message: format!("no node has room for {name}, the extra pod that a safe roll needs: {why}"),
        },
        None => Hold { reason: reason::ROLLING, message: format!("pod {name} to be in sync") },
    })
}

/// The extra pod is in sync: stale replicas first, the highest ordinal first; then the primary hands over.
fn replace(shard: &Shard<'_>) -> Step {
    let Some(primary) = shard.primary() else {
        return held(shard, format!("shard {} has no serving primary", shard.index));
    };
    let stale = shard.members().filter(|pod| shard.stale(pod));
    if let Some(replica) = stale.filter(|pod| pod.name != primary.name).max_by_key(|pod| pod.ordinal) {
        return evict(shard, replica);
    }
    // A hand-over leaves one member in the record for a moment: not while a copy is being made.
    complete(shard, primary).unwrap_or_else(|| hand_over(shard, primary, |_| true))
}

/// What to wait for until as many pods as wanted are in sync beside this one.
fn complete(shard: &Shard<'_>, pod: &PodSeen) -> Option<Step> {
    let spares = shard.spares(pod);
    let message = || {
        format!("{} in-sync pods beside {} in shard {}, {spares} so far", shard.wanted, pod.name, shard.index)
    };
    (spares < shard.wanted as usize).then(|| wait(shard, message()))
}

fn evict(shard: &Shard<'_>, pod: &PodSeen) -> Step {
    if pod.deleting {
        return wait(shard, format!("pod {} to end", pod.name));
    }
    if let Some(step) = complete(shard, pod) {
        return step;
    }
    let why = if shard.restarts.contains(&pod.uid) { "restart for memory" } else { "new revision" };
    Step {
        action: Some(Action::Evict { pod: pod.name.clone(), uid: pod.uid.clone(), why: why.to_owned() }),
        ..keep(shard)
    }
}

/// To an in-sync pod: one with the new revision before an old one, one that stays before the extra.
fn hand_over(shard: &Shard<'_>, primary: &PodSeen, eligible: impl Fn(&PodSeen) -> bool) -> Step {
    let candidates =
        shard.pods.iter().filter(|pod| pod.name != primary.name && shard.in_sync(pod) && eligible(pod));
    let best = candidates.min_by_key(|pod| (shard.stale(pod), pod.ordinal >= shard.wanted, pod.ordinal));
    let Some(to) = best else {
        return wait(shard, format!("an in-sync pod that {} can hand over to", primary.name));
    };
    let epoch = shard.observed.record(shard.index).map_or(0, |record| record.epoch);
    let why = format!("primary moves to {}", to.name);
    let params = [("to", to.name.clone())];
    match ask::ask(primary, name::HAND_OVER, Some(epoch), &params, &why, shard.now) {
        Some(action) => Step { action: Some(action), ..keep(shard) },
        None => wait(shard, format!("an address of pod {}", primary.name)),
    }
}

/// The highest pod leaves: never while it is the primary, and only when those that stay are complete, unless no
/// engine runs in it.
fn shrink(shard: &Shard<'_>) -> Step {
    let smaller = Step { size: shard.size - 1, ..keep(shard) };
    let Some(top) = shard.ordinal(shard.size - 1) else { return smaller };
    if safety::engine_stopped(top) && shard.spares(top) > 0 {
        return smaller;
    }
    let Some(primary) = shard.primary() else {
        return held(shard, format!("shard {} has no serving primary", shard.index));
    };
    if let Some(step) = complete(shard, top) {
        return step;
    }
    if primary.ordinal >= shard.wanted {
        return hand_over(shard, primary, |pod| pod.ordinal < shard.wanted);
    }
    smaller
}
