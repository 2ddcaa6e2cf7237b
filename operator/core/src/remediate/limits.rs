//! What limits the ladder: budgets, cooldowns, the breaker, the freeze. All of it computed from the history in
//! the status.

use std::collections::BTreeSet;

use blobstore_operator_api::spec::Rung;
use blobstore_operator_api::status::{
    BreakerState, BudgetStatus, HISTORY_MAX, HistoryEntry, RemediationStatus, RemedyResult,
};
use blobstore_sidecar_api::report::VerdictClass;
use jiff::Timestamp;

use super::{disruptive, findings, later, millis, text};
use crate::action::Event;
use crate::observed::Observed;
use crate::validate::ValidStore;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The longest period any limit looks back.
const HISTORY_MS: i64 = 2 * DAY_MS;
/// Fewer pods than this are no crowd: two pods of one shard share their data and so their findings.
const MASS_PODS_MIN: usize = 3;
/// The third time a remedy that worked did not last, it is not the remedy that is needed.
const RETURNS_MAX: usize = 3;

pub(super) fn forget_old(status: &mut RemediationStatus, now: Timestamp) {
    let keep = |entry: &HistoryEntry| age(entry, now).is_some_and(|age| age < HISTORY_MS);
    status.history.retain(keep);
    let excess = status.history.len().saturating_sub(HISTORY_MAX);
    status.history.drain(..excess);
}

fn age(entry: &HistoryEntry, now: Timestamp) -> Option<i64> {
    Some(now.as_millisecond().saturating_sub(millis(&entry.at)?))
}

pub(super) fn within<'a>(
    status: &'a RemediationStatus,
    now: Timestamp,
    ms: i64,
) -> impl Iterator<Item = &'a HistoryEntry> + 'a {
    status.history.iter().filter(move |entry| age(entry, now).is_some_and(|age| age < ms))
}

pub(super) fn window(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// A new value of the annotation closes the breaker and forgives what did not work.
pub(super) fn acknowledge(store: &ValidStore, status: &mut RemediationStatus, now: Timestamp) {
    if store.acknowledged.is_none() || store.acknowledged == status.acknowledged {
        return;
    }
    status.acknowledged.clone_from(&store.acknowledged);
    status.acknowledged_at = Some(text(now));
    status.breaker = BreakerState::Closed;
    status.breaker_until = None;
    status.breaker_reason = None;
    status.history.retain(|entry| entry.result != RemedyResult::Ineffective);
}

pub(super) fn breaker(
    store: &ValidStore,
    observed: &Observed,
    status: &mut RemediationStatus,
    events: &mut Vec<Event>,
    now: Timestamp,
) {
    if status.breaker == BreakerState::Frozen {
        return;
    }
    if let Some(reason) = mass_verdict(store, observed, status, now) {
        status.breaker = BreakerState::Frozen;
        status.breaker_until = None;
        status.breaker_reason = Some(reason.clone());
        events.push(Event { warning: true, reason: "RemediationFrozen".into(), message: reason });
        return;
    }
    if status.breaker == BreakerState::Open {
        let over = status
            .breaker_until
            .as_deref()
            .and_then(millis)
            .is_none_or(|until| until <= now.as_millisecond());
        if !over {
            return;
        }
        status.breaker = BreakerState::Closed;
        status.breaker_until = None;
        status.breaker_reason = None;
        // What opened it has been paid for.
        status.history.retain(|entry| entry.result != RemedyResult::Ineffective);
    }
    if let Some(reason) = exhausted(store, status, now) {
        status.breaker = BreakerState::Open;
        status.breaker_until = Some(text(later(now, store.hygiene.breaker.open)));
        status.breaker_reason = Some(reason.clone());
        events.push(Event { warning: true, reason: "RemediationExhausted".into(), message: reason });
    }
}

/// Different rungs without effect, or one that works and does not last.
fn exhausted(store: &ValidStore, status: &RemediationStatus, now: Timestamp) -> Option<String> {
    let limits = &store.hygiene.breaker;
    let failed: BTreeSet<Rung> = within(status, now, window(limits.window))
        .filter(|entry| entry.result == RemedyResult::Ineffective)
        .map(|entry| entry.rung)
        .collect();
    if failed.len() >= limits.ineffective_max as usize {
        let names: Vec<String> = failed.iter().map(|rung| format!("{rung:?}")).collect();
        return Some(format!("{} had no effect", names.join(" and ")));
    }
    let worked: Vec<&HistoryEntry> = within(status, now, window(limits.window))
        .filter(|entry| entry.result == RemedyResult::Effective)
        .collect();
    status
        .findings
        .iter()
        .filter(|finding| finding.state == "Confirmed")
        .find(|finding| {
            let same = |entry: &&&HistoryEntry| entry.pod == finding.pod && entry.class == finding.class;
            worked.iter().filter(same).count() >= RETURNS_MAX
        })
        .map(|finding| format!("{} on {} came back {RETURNS_MAX} times", finding.class, finding.pod))
}

/// Many pods of several shards with the same new finding: a release, not a pod.
fn mass_verdict(
    store: &ValidStore,
    observed: &Observed,
    status: &RemediationStatus,
    now: Timestamp,
) -> Option<String> {
    let limits = &store.hygiene.breaker;
    let pods = observed.pods.len();
    if pods < MASS_PODS_MIN {
        return None;
    }
    let since = now.as_millisecond().saturating_sub(window(limits.mass_window));
    let since = since.max(status.acknowledged_at.as_deref().and_then(millis).unwrap_or(i64::MIN));
    let fresh: Vec<(u32, &str, VerdictClass)> = findings::ordered(observed)
        .into_iter()
        .filter(|(_, verdict)| findings::confirmed(verdict) && verdict.class != VerdictClass::CapacityGrowth)
        .filter(|(_, verdict)| millis(&verdict.since).is_some_and(|at| at >= since))
        .map(|(pod, verdict)| (pod.shard, pod.name.as_str(), verdict.class))
        .collect();
    let classes: BTreeSet<VerdictClass> = fresh.iter().map(|(_, _, class)| *class).collect();
    classes.into_iter().find_map(|class| {
        let hit: BTreeSet<(u32, &str)> =
            fresh.iter().filter(|entry| entry.2 == class).map(|entry| (entry.0, entry.1)).collect();
        let shards: BTreeSet<u32> = hit.iter().map(|(shard, _)| *shard).collect();
        let many = hit.len() * 100 >= pods * limits.mass_percent as usize;
        (shards.len() > 1 && many).then(|| {
            format!("{} of {pods} pods became {class:?} at the same time: a release, not a pod", hit.len())
        })
    })
}

/// Why this rung may not run on this pod now.
pub(super) fn hold(
    store: &ValidStore,
    status: &RemediationStatus,
    rung: Rung,
    pod: &str,
    now: Timestamp,
) -> Option<String> {
    match status.breaker {
        BreakerState::Closed => {}
        BreakerState::Open | BreakerState::Frozen => {
            let reason = status.breaker_reason.as_deref().unwrap_or_default();
            return Some(format!("breaker {:?}: {reason}", status.breaker));
        }
    }
    if status.history.len() >= HISTORY_MAX {
        return Some(format!("{HISTORY_MAX} remedies in two days"));
    }
    if disruptive(rung) { restart_hold(store, status, pod, now) } else { soft_hold(store, status, pod, now) }
}

fn soft_hold(store: &ValidStore, status: &RemediationStatus, pod: &str, now: Timestamp) -> Option<String> {
    let budgets = &store.hygiene.budgets;
    let soft = |entry: &&HistoryEntry| !disruptive(entry.rung) && entry.rung != Rung::Observe;
    let store_count = within(status, now, HOUR_MS).filter(soft).count();
    if store_count >= budgets.soft_per_hour as usize {
        return Some(format!("budget: {store_count} of {} soft remedies this hour", budgets.soft_per_hour));
    }
    let pod_count = within(status, now, HOUR_MS).filter(soft).filter(|entry| entry.pod == pod).count();
    if pod_count >= budgets.soft_per_pod_per_hour as usize {
        return Some(format!(
            "budget: {pod_count} of {} soft remedies on {pod} this hour",
            budgets.soft_per_pod_per_hour
        ));
    }
    // An ineffective remedy makes way for the next rung at once; rest is for what worked.
    let resting = within(status, now, window(store.hygiene.cooldowns.soft))
        .filter(soft)
        .any(|entry| entry.pod == pod && entry.result == RemedyResult::Effective);
    resting.then(|| format!("cooldown after a soft remedy on {pod}"))
}

fn restart_hold(store: &ValidStore, status: &RemediationStatus, pod: &str, now: Timestamp) -> Option<String> {
    let budgets = &store.hygiene.budgets;
    let restart = |entry: &&HistoryEntry| disruptive(entry.rung);
    let day = within(status, now, DAY_MS).filter(restart).count();
    if day >= budgets.restarts_per_day as usize {
        return Some(format!("budget: {day} of {} restarts today", budgets.restarts_per_day));
    }
    let pods = store.shards.saturating_mul(store.members());
    let hourly = (pods.saturating_mul(budgets.restart_percent_per_hour) / 100).max(1);
    let hour = within(status, now, HOUR_MS).filter(restart).count();
    if hour >= hourly as usize {
        return Some(format!("budget: {hour} of {hourly} restarts this hour"));
    }
    let cooldowns = &store.hygiene.cooldowns;
    let failover =
        within(status, now, window(cooldowns.failover)).any(|entry| entry.rung == Rung::FailoverAndRestart);
    if failover {
        return Some("cooldown after a failover".to_owned());
    }
    let same_pod =
        within(status, now, window(cooldowns.restart)).filter(restart).any(|entry| entry.pod == pod);
    same_pod.then(|| format!("cooldown after a restart of {pod}"))
}

/// Used of allowed, and when the store may act again.
pub(super) fn figures(store: &ValidStore, status: &mut RemediationStatus, now: Timestamp) {
    let budgets = &store.hygiene.budgets;
    let soft =
        within(status, now, HOUR_MS).filter(|entry| !disruptive(entry.rung) && entry.rung != Rung::Observe);
    let soft = soft.count();
    let restarts = within(status, now, DAY_MS).filter(|entry| disruptive(entry.rung)).count();
    status.budget = Some(BudgetStatus {
        soft_last_hour: format!("{soft}/{}", budgets.soft_per_hour),
        restarts_last_day: format!("{restarts}/{}", budgets.restarts_per_day),
    });
    let cooldowns = &store.hygiene.cooldowns;
    let until = status
        .history
        .iter()
        .filter_map(|entry| {
            let rest = match entry.rung {
                Rung::FailoverAndRestart => cooldowns.failover,
                Rung::RestartReplica => cooldowns.restart,
                _ if entry.result == RemedyResult::Effective => cooldowns.soft,
                _ => return None,
            };
            Some(later(entry.at.parse().ok()?, rest))
        })
        .filter(|until| *until > now)
        .max();
    status.cooldown_until = until.map(text);
}
