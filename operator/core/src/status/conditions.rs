//! Conditions: one function each, no condition looks at another. Reasons are stable, messages carry names and numbers.

use std::fmt::Write as _;

use blobstore_operator_api::BlobStoreStatus;
use blobstore_operator_api::status::{BreakerState, RemedyResult, condition, reason};
use blobstore_sidecar_api::report::VerdictClass;
use blobstore_sidecar_api::topology::ShardState;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{good, measured};
use crate::action::Plan;
use crate::observed::Observed;
use crate::safety;
use crate::topology::SLOTS;
use crate::validate::ValidStore;

/// A message is read by people: enough for three causes.
const MESSAGE_CHARS_MAX: usize = 900;

/// What a condition says, before it has times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    type_: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Statement {
    pub(super) fn yes(type_: &'static str, reason: &'static str, message: String) -> Self {
        Self { type_, status: "True", reason, message }
    }
    pub(super) fn no(type_: &'static str, reason: &'static str, message: String) -> Self {
        Self { type_, status: "False", reason, message }
    }
    fn unknown(type_: &'static str, reason: &'static str, message: String) -> Self {
        Self { type_, status: "Unknown", reason, message }
    }
}

pub(super) fn conditions(
    store: &ValidStore,
    observed: &Observed,
    plan: &Plan,
    status: &BlobStoreStatus,
    old: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let mut memory = memory_healthy(store, observed, status);
    if memory.reason == reason::NOT_MEASURED {
        keep_digits(&mut memory, old);
    }
    let statements = [
        ready(store, observed, status, old),
        progressing(store, observed, plan),
        degraded(store, observed, plan),
        safe_to_disrupt(store, observed),
        memory,
        remediation_active(status),
        config_applied(store, observed, plan),
        reconcilable(store, observed),
        data_lost(plan, status),
    ];
    let mut conditions = Vec::new();
    for statement in &statements {
        put(&mut conditions, statement, store.generation, old, now);
    }
    conditions
}

/// The transition time is kept while the status is.
pub(super) fn put(
    conditions: &mut Vec<Condition>,
    statement: &Statement,
    generation: i64,
    old: &[Condition],
    now: Timestamp,
) {
    let Statement { type_, status, reason, message } = statement;
    let since =
        old.iter().find(|condition| condition.type_ == *type_ && condition.status == *status).map_or_else(
            || Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
            |old| old.last_transition_time.clone(),
        );
    conditions.retain(|condition| condition.type_ != *type_);
    conditions.push(Condition {
        type_: (*type_).to_owned(),
        status: (*status).to_owned(),
        reason: (*reason).to_owned(),
        message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
        observed_generation: Some(generation),
        last_transition_time: since,
    });
}

/// Every slot is served, and clients reach a pod: a Service sends them to those that Kubernetes holds ready, of which a
/// new store has none until the kubelet's next probe.
fn ready(store: &ValidStore, observed: &Observed, status: &BlobStoreStatus, old: &[Condition]) -> Statement {
    let missing: Vec<u32> =
        (0..store.shards).filter(|shard| observed.serving_primary(*shard).is_none()).collect();
    let slots: u32 = status.shards.iter().map(|shard| shard.slots).sum();
    let born = status.shards.iter().any(|shard| shard.epoch > 0);
    let reachable = observed.pods.iter().any(|pod| pod.ready && !pod.deleting);
    match missing.first() {
        None if slots >= SLOTS && !reachable => {
            let begun = |one: &Condition| one.type_ == condition::READY && one.reason != reason::INITIALIZING;
            let reason = if old.iter().any(begun) { reason::NO_READY_POD } else { reason::INITIALIZING };
            let message = "every shard serves, but no pod is ready: the Service has nowhere to send clients";
            Statement::no(condition::READY, reason, message.to_owned())
        }
        None if slots >= SLOTS => Statement::yes(
            condition::READY,
            reason::ALL_SHARDS_SERVING,
            match store.shards {
                1 => "the one shard serves".to_owned(),
                shards => format!("all {shards} shards serve"),
            },
        ),
        None => Statement::no(
            condition::READY,
            if born { reason::SLOTS_UNCOVERED } else { reason::INITIALIZING },
            format!("{} of {SLOTS} slots are served", slots.min(SLOTS)),
        ),
        Some(_) if !born => Statement::no(
            condition::READY,
            reason::INITIALIZING,
            format!("{} of {} shards have a primary", store.shards as usize - missing.len(), store.shards),
        ),
        Some(shard) => {
            let doing = observed
                .shard_pods(*shard)
                .iter()
                .filter_map(|pod| Some(format!("{}: {}", pod.name, pod.topology.present()?.message)))
                .collect::<Vec<_>>();
            let message = format!("shard {shard} has no serving primary; {}", doing.join("; "));
            Statement::no(condition::READY, reason::MISSING_PRIMARY, message)
        }
    }
}

fn progressing(store: &ValidStore, observed: &Observed, plan: &Plan) -> Statement {
    let wanted = store.shards * store.members();
    if observed.sets.len() < store.shards as usize {
        return Statement::yes(
            condition::PROGRESSING,
            reason::CREATING,
            format!("{wanted} pods are being created"),
        );
    }
    if let Some(roll) = &plan.roll {
        let hold = plan.holds.iter().find(|hold| {
            matches!(hold.reason, reason::NO_ROOM_TO_SURGE | reason::ROLL_HELD | reason::ROLLING)
        });
        let reason = hold.map_or(reason::ROLLING, |hold| hold.reason);
        let waiting = hold.map_or_else(String::new, |hold| format!("; waiting for: {}", hold.message));
        let message = format!("{} pods at the wanted revision{waiting}", roll.summary);
        return Statement::yes(condition::PROGRESSING, reason, message);
    }
    if plan.scaling {
        let count = observed.pods.iter().filter(|pod| !pod.deleting).count();
        return Statement::yes(
            condition::PROGRESSING,
            reason::SCALING,
            format!("{count} of {wanted} pods exist"),
        );
    }
    Statement::no(condition::PROGRESSING, reason::COMPLETE, format!("{wanted} pods run the wanted revision"))
}

/// The first named fault; otherwise what is missing.
fn degraded(store: &ValidStore, observed: &Observed, plan: &Plan) -> Statement {
    if let Some(hold) = plan.holds.iter().find(|hold| hold.reason == reason::UNKNOWN_NODE) {
        return Statement::yes(condition::DEGRADED, hold.reason, hold.message.clone());
    }
    if let Some(cause) = plan.causes.first() {
        let mut message = cause.message.clone();
        for other in plan.causes.iter().skip(1).take(2) {
            let _ = write!(message, "; {}", other.message);
        }
        return Statement::yes(condition::DEGRADED, cause.reason, message);
    }
    let wanted = store.members() as usize;
    for shard in 0..store.shards {
        let good = observed.shard_pods(shard).into_iter().filter(|pod| good(observed, pod)).count();
        if good < wanted {
            let message = format!("shard {shard} has {good} of {wanted} pods ready and in sync");
            return Statement::yes(condition::DEGRADED, reason::REPLICA_MISSING, message);
        }
    }
    Statement::no(condition::DEGRADED, reason::FULLY_REDUNDANT, "every copy asked for is there".to_owned())
}

fn safe_to_disrupt(store: &ValidStore, observed: &Observed) -> Statement {
    if store.replicas == 0 {
        let message = "spec.replicas is 0: every shard is a single copy".to_owned();
        return Statement::no(condition::SAFE_TO_DISRUPT, reason::SINGLE_COPY, message);
    }
    for shard in 0..store.shards {
        if safety::in_sync(observed, shard).count() > 1 {
            continue;
        }
        let syncing = observed
            .shard_pods(shard)
            .into_iter()
            .find(|pod| pod.topology.present().is_some_and(|topology| topology.state == ShardState::Syncing));
        return match syncing {
            Some(pod) => Statement::no(
                condition::SAFE_TO_DISRUPT,
                reason::SYNC_IN_PROGRESS,
                format!("shard {shard}: {} copies the data", pod.name),
            ),
            None => Statement::no(
                condition::SAFE_TO_DISRUPT,
                reason::NO_IN_SYNC_REPLICA,
                format!("shard {shard} has no in-sync replica"),
            ),
        };
    }
    let message = "every shard has an in-sync copy to spare".to_owned();
    Statement::yes(condition::SAFE_TO_DISRUPT, reason::IN_SYNC_SPARE, message)
}

fn memory_healthy(store: &ValidStore, observed: &Observed, status: &BlobStoreStatus) -> Statement {
    if !measured(store) {
        let message = "spec.hygiene.mode is Off".to_owned();
        return Statement::unknown(condition::MEMORY_HEALTHY, reason::HYGIENE_OFF, message);
    }
    let findings =
        status.remediation.as_ref().map(|remediation| remediation.findings.as_slice()).unwrap_or_default();
    if let Some(finding) = findings.iter().find(|finding| finding.state == "Confirmed") {
        let evidence = finding.evidence.first().map_or("", String::as_str);
        let message = format!("{} on {}: {} MiB: {evidence}", finding.class, finding.pod, finding.mib);
        return Statement::no(condition::MEMORY_HEALTHY, reason::FINDING_CONFIRMED, message);
    }
    let blind = observed.pods.iter().find(|pod| {
        pod.report.present().is_none_or(|report| {
            // Growth is judged on the primary alone: a replica's report says so, and misses nothing else by it.
            let primary = observed.serving_primary(pod.shard).is_none_or(|primary| primary.name == pod.name);
            primary && report.verdicts.iter().any(|verdict| verdict.class == VerdictClass::Unknown)
        })
    });
    match blind {
        Some(pod) => {
            let why = pod.report.present().and_then(|report| report.gates.first());
            let why = why.map_or("its sidecar has not reported", String::as_str);
            let message = format!("{} has no verdict yet: {why}", pod.name);
            Statement::unknown(condition::MEMORY_HEALTHY, reason::NOT_MEASURED, message)
        }
        None => Statement::yes(condition::MEMORY_HEALTHY, reason::NO_FINDING, "no finding".to_owned()),
    }
}

/// A gate that counts seconds would write the status at every look: while only digits differ, the old words stand.
fn keep_digits(statement: &mut Statement, old: &[Condition]) {
    let told = old.iter().find(|old| {
        old.type_ == statement.type_
            && old.reason == statement.reason
            && without_digits(&old.message) == without_digits(&statement.message)
    });
    if let Some(told) = told {
        statement.message.clone_from(&told.message);
    }
}

fn without_digits(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for part in text.chars() {
        match part {
            '0'..='9' if out.ends_with('n') => {}
            '0'..='9' => out.push('n'),
            other => out.push(other),
        }
    }
    out
}

fn remediation_active(status: &BlobStoreStatus) -> Statement {
    let type_ = condition::REMEDIATION_ACTIVE;
    let Some(remediation) = &status.remediation else {
        return Statement::no(type_, reason::HYGIENE_OFF, "spec.hygiene.mode is Off".to_owned());
    };
    let why = remediation.breaker_reason.clone().unwrap_or_default();
    match remediation.breaker {
        BreakerState::Open => return Statement::no(type_, reason::BREAKER_OPEN, why),
        BreakerState::Frozen => return Statement::no(type_, reason::FROZEN, why),
        BreakerState::Closed => {}
    }
    if let Some(current) = &remediation.current {
        let verifying = current.result == RemedyResult::Verifying;
        let reason = if verifying { reason::VERIFYING } else { reason::REMEDYING };
        let message = format!("{:?} on {}: {}", current.rung, current.pod, current.prediction);
        return Statement::yes(type_, reason, message);
    }
    match &remediation.plan {
        Some(plan) => {
            let held = plan.held.clone().unwrap_or_default();
            let observing = held.contains("Observe");
            let reason = if observing { reason::OBSERVING } else { reason::HELD };
            let message = format!("would {:?} on {}: {}; {held}", plan.rung, plan.pod, plan.prediction);
            if observing {
                Statement::yes(type_, reason, message)
            } else {
                Statement::no(type_, reason, message)
            }
        }
        None => Statement::no(type_, reason::IDLE, "nothing to do".to_owned()),
    }
}

fn config_applied(store: &ValidStore, observed: &Observed, plan: &Plan) -> Statement {
    let members = observed.pods.iter().filter(|pod| pod.ordinal < store.members());
    let stale = members.filter(|pod| pod.revision.as_ref() != plan.revisions.get(&pod.shard)).count();
    if stale > 0 {
        let message = format!("{stale} pods run an older configuration until they are rolled");
        return Statement::no(condition::CONFIG_APPLIED, reason::RESTART_PENDING, message);
    }
    Statement::yes(
        condition::CONFIG_APPLIED,
        reason::APPLIED,
        "every pod runs the wanted configuration".to_owned(),
    )
}

fn reconcilable(store: &ValidStore, observed: &Observed) -> Statement {
    let type_ = condition::RECONCILABLE;
    if store.paused {
        return Statement::no(type_, reason::PAUSED, "spec.lifecycle.paused is true".to_owned());
    }
    match observed.failures.first() {
        Some(failure) if failure.forbidden => {
            Statement::no(type_, reason::PERMISSION_DENIED, failure.message.clone())
        }
        Some(failure) => Statement::no(type_, reason::API_FAILURE, failure.message.clone()),
        None => Statement::yes(type_, reason::RECONCILING, "the operator can act".to_owned()),
    }
}

/// True for as long as the object lives after a loss: nobody should have to have looked at the right second.
fn data_lost(plan: &Plan, status: &BlobStoreStatus) -> Statement {
    if let Some(message) = plan.data_lost.values().next() {
        return Statement::yes(condition::DATA_LOST, reason::ALL_MEMBERS_EMPTY, message.clone());
    }
    let lost: Vec<String> = status
        .shards
        .iter()
        .filter(|shard| shard.losses > 0)
        .map(|shard| {
            let at = shard.lost_at.as_deref().unwrap_or("an unknown time");
            format!("shard {} lost its data {} times, first seen at {at}", shard.shard, shard.losses)
        })
        .collect();
    if lost.is_empty() {
        return Statement::no(condition::DATA_LOST, reason::NO_LOSS, "no shard has lost its data".to_owned());
    }
    Statement::yes(condition::DATA_LOST, reason::RELEASED_EMPTY, lost.join("; "))
}
