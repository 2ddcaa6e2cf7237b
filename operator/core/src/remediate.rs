//! The memory ladder. Findings come from the sidecars, the remedy is the gentlest rung that fits and has not
//! failed, the intent is in the status before the act, and the predicted effect is measured before the next rung.
//! Everything that limits it derives from the status, so it survives the operator.

mod choose;
mod findings;
mod limits;
mod progress;
mod rungs;

use std::collections::BTreeSet;
use std::time::Duration;

use blobstore_operator_api::BlobStoreStatus;
use blobstore_operator_api::spec::{HygieneMode, Rung};
use blobstore_operator_api::status::{BreakerState, RemediationStatus, RemedyResult};
use jiff::Timestamp;

pub use progress::settle;

use crate::action::{Action, Event};
use crate::observed::Observed;
use crate::validate::ValidStore;

/// What the rest of the plan says about disturbing pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calm {
    /// Reasons against a disruptive rung; empty: go ahead.
    pub blockers: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// `None`: hygiene is off.
    pub status: Option<RemediationStatus>,
    pub action: Option<Action>,
    pub events: Vec<Event>,
}

/// One pass of the ladder.
pub fn decide(
    store: &ValidStore,
    observed: &Observed,
    old: Option<&RemediationStatus>,
    calm: &Calm,
    now: Timestamp,
) -> Decision {
    if store.hygiene.mode == HygieneMode::Off {
        return Decision::default();
    }
    let mut decision = Decision::default();
    let mut status = old.cloned().unwrap_or_default();
    status.mode = store.hygiene.mode;
    limits::forget_old(&mut status, now);
    status.findings = findings::findings(observed, &status.findings);
    status.findings_summary = findings::summary(&status.findings);
    limits::acknowledge(store, &mut status, now);
    progress::advance(store, observed, &mut status, &mut decision, now);
    limits::breaker(store, observed, &mut status, &mut decision.events, now);
    if status.current.is_none() {
        choose::choose(store, observed, calm, &mut status, &mut decision, now);
    } else {
        status.plan = None;
    }
    limits::figures(store, &mut status, now);
    decision.status = Some(status);
    decision
}

/// While the store is paused nothing is decided and nothing forgotten.
pub fn paused(old: &BlobStoreStatus) -> Option<RemediationStatus> {
    old.remediation.clone()
}

/// UIDs of pods that the ladder wants restarted: the roll does it, with its surge and its order.
pub fn restarts(status: Option<&RemediationStatus>) -> BTreeSet<String> {
    let current = status.and_then(|status| status.current.as_ref());
    current
        .filter(|remedy| {
            remedy.result == RemedyResult::Planned && disruptive(remedy.rung) && status_allows(status)
        })
        .and_then(|remedy| remedy.pod_uid.clone())
        .into_iter()
        .collect()
}

fn status_allows(status: Option<&RemediationStatus>) -> bool {
    status.is_some_and(|status| status.mode == HygieneMode::Auto && status.breaker != BreakerState::Frozen)
}

/// When the status wants to be looked at again.
pub fn next_look(status: &RemediationStatus, now: Timestamp) -> Option<Duration> {
    let current = status.current.as_ref()?;
    let deadline: Timestamp = current.deadline.parse().ok()?;
    let left = deadline.as_millisecond().saturating_sub(now.as_millisecond());
    // Half the time that is left: the effect usually shows before the deadline.
    Some(Duration::from_millis(u64::try_from(left / 2).unwrap_or(0)))
}

/// Takes a pod away for a while.
pub(crate) fn disruptive(rung: Rung) -> bool {
    matches!(rung, Rung::RestartReplica | Rung::FailoverAndRestart)
}

/// Milliseconds are enough for an order of events, and make short texts.
pub(crate) fn text(at: Timestamp) -> String {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at).to_string()
}

pub(crate) fn millis(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(|at| at.as_millisecond())
}

pub(crate) fn later(at: Timestamp, ms: u64) -> Timestamp {
    let ms = at.as_millisecond().saturating_add(i64::try_from(ms).unwrap_or(i64::MAX));
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}
