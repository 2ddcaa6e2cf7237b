//! The remedy under way: asked again until answered, measured until its deadline, then written into the history.

use blobstore_operator_api::spec::HygieneMode;
use blobstore_operator_api::status::{ACTIONS_MAX, HistoryEntry, RemediationStatus, Remedy, RemedyResult};
use blobstore_sidecar_api::action::{ActionResult, ActionState};
use jiff::Timestamp;

use super::rungs::class_name;
use super::{Decision, choose, disruptive, findings, millis, text};
use crate::action::Event;
use crate::observed::{Observed, PodSeen};
use crate::validate::ValidStore;

/// A pod that must be replaced gets this many deadlines to be back: the roll around it surges first.
const RESTART_DEADLINES: i64 = 3;

pub(super) fn advance(
    store: &ValidStore,
    observed: &Observed,
    status: &mut RemediationStatus,
    decision: &mut Decision,
    now: Timestamp,
) {
    let Some(mut remedy) = status.current.take() else { return };
    let verdict = match remedy.result {
        RemedyResult::Planned => planned(store, observed, &mut remedy, decision, now),
        _ => verifying(observed, &mut remedy, now),
    };
    match verdict {
        None => status.current = Some(remedy),
        Some((result, message)) => finish(status, remedy, result, message, decision, now),
    }
}

type Verdict = Option<(RemedyResult, String)>;

/// Asks again with the same id; a restart has happened when the pod has another UID.
fn planned(
    store: &ValidStore,
    observed: &Observed,
    remedy: &mut Remedy,
    decision: &mut Decision,
    now: Timestamp,
) -> Verdict {
    if store.hygiene.mode != HygieneMode::Auto {
        return Some((RemedyResult::Abandoned, "spec.hygiene.mode is no longer Auto".to_owned()));
    }
    let pod = observed.pod(&remedy.pod);
    if disruptive(remedy.rung) {
        let replaced = pod.is_some_and(|pod| Some(&pod.uid) != remedy.pod_uid.as_ref());
        if replaced {
            remedy.result = RemedyResult::Verifying;
            remedy.message = Some("the pod was replaced".to_owned());
            return None;
        }
        return overdue(remedy, now, RESTART_DEADLINES)
            .then(|| (RemedyResult::Abandoned, "the pod could not be restarted in time".to_owned()));
    }
    match pod.filter(|pod| Some(&pod.uid) == remedy.pod_uid.as_ref()) {
        None => Some((RemedyResult::Abandoned, "the pod went away".to_owned())),
        Some(_) if overdue(remedy, now, 2) => {
            Some((RemedyResult::Abandoned, "the sidecar did not answer in time".to_owned()))
        }
        Some(pod) => {
            decision.action = choose::request(store, pod, remedy);
            None
        }
    }
}

/// Whether `periods` times the time that the remedy was given has passed.
fn overdue(remedy: &Remedy, now: Timestamp, periods: i64) -> bool {
    let (Some(started), Some(deadline)) = (millis(&remedy.started_at), millis(&remedy.deadline)) else {
        return true;
    };
    now.as_millisecond() > started.saturating_add(deadline.saturating_sub(started).saturating_mul(periods))
}

fn verifying(observed: &Observed, remedy: &mut Remedy, now: Timestamp) -> Verdict {
    let periods = if disruptive(remedy.rung) { RESTART_DEADLINES } else { 1 };
    let late = overdue(remedy, now, periods);
    let Some(pod) = observed.pod(&remedy.pod) else {
        return late.then(|| (RemedyResult::Abandoned, "the pod went away".to_owned()));
    };
    if let Some(left) = measured(observed, pod, remedy) {
        remedy.after = Some(left);
        if left <= remedy.target {
            return Some((RemedyResult::Effective, reached(remedy)));
        }
    }
    // Slow is not ineffective: nothing is said before the deadline.
    late.then(|| (RemedyResult::Ineffective, missed(remedy)))
}

fn reached(remedy: &Remedy) -> String {
    format!("{} fell from {:.0} to {:.0}", remedy.figure, remedy.before, remedy.after.unwrap_or_default())
}

fn missed(remedy: &Remedy) -> String {
    match remedy.after {
        Some(after) => format!("{} is {after:.0}, predicted {:.0} or less", remedy.figure, remedy.target),
        None => format!("{} was not reported again", remedy.figure),
    }
}

/// Bytes at stake of the class, by a report that is newer than the remedy. A restarted pod must be in sync first.
fn measured(observed: &Observed, pod: &PodSeen, remedy: &Remedy) -> Option<f64> {
    if disruptive(remedy.rung) && !observed.surely_in_sync(pod) {
        return None;
    }
    let report = pod.report.present()?;
    if millis(&report.at)? <= millis(&remedy.started_at)? {
        return None;
    }
    if let Some(figure) = report.figures.get(&remedy.figure).filter(|_| !disruptive(remedy.rung)) {
        return Some(*figure);
    }
    let mut of_class = report
        .verdicts
        .iter()
        .filter(|verdict| class_name(verdict.class) == remedy.class && findings::confirmed(verdict))
        .peekable();
    if of_class.peek().is_none() {
        return Some(0.0);
    }
    // A finding without bytes is there or not.
    let left = of_class.map(|verdict| verdict.bytes).sum::<u64>().max(1);
    Some(choose::to_f64(left))
}

fn finish(
    status: &mut RemediationStatus,
    mut remedy: Remedy,
    result: RemedyResult,
    message: String,
    decision: &mut Decision,
    now: Timestamp,
) {
    let reason = match result {
        RemedyResult::Effective => "RemediationEffective",
        RemedyResult::Refused => "RemediationRefused",
        RemedyResult::Abandoned => "RemediationAbandoned",
        _ => "RemediationIneffective",
    };
    decision.events.push(Event {
        warning: result != RemedyResult::Effective,
        reason: reason.into(),
        message: format!("{} on {}: {:?}: {message}", remedy.class, remedy.pod, remedy.rung),
    });
    status.history.push(HistoryEntry {
        at: text(now),
        rung: remedy.rung,
        pod: remedy.pod.clone(),
        class: remedy.class.clone(),
        result,
    });
    remedy.result = result;
    remedy.message = Some(message);
    status.last_actions.insert(0, remedy);
    status.last_actions.truncate(ACTIONS_MAX);
}

/// Takes a sidecar's answer into the remedy it belongs to. Called while the status is made, after the act.
pub fn settle(status: &mut RemediationStatus, answer: &ActionResult, now: Timestamp) -> Vec<Event> {
    let mut decision = Decision::default();
    let Some(mut remedy) = status.current.take_if(|remedy| remedy.id == answer.id) else { return Vec::new() };
    if remedy.result != RemedyResult::Planned {
        status.current = Some(remedy);
        return Vec::new();
    }
    if let Some(before) = answer.before.get(&remedy.figure) {
        // The same fall, from where the sidecar found it.
        remedy.target = (remedy.target + before - remedy.before).max(0.0);
        remedy.before = *before;
    }
    if let Some(after) = answer.after.get(&remedy.figure) {
        remedy.after = Some(*after);
    }
    match answer.state {
        ActionState::Running => status.current = Some(remedy),
        ActionState::Done => {
            remedy.result = RemedyResult::Verifying;
            remedy.message = Some(answer.message.clone());
            if remedy.after.is_some_and(|after| after <= remedy.target) {
                let message = reached(&remedy);
                finish(status, remedy, RemedyResult::Effective, message, &mut decision, now);
            } else {
                status.current = Some(remedy);
            }
        }
        ActionState::Refused => {
            finish(status, remedy, RemedyResult::Refused, answer.message.clone(), &mut decision, now);
        }
        // An error is no measurement: whether the remedy helps is as unknown as before.
        ActionState::Failed => {
            finish(status, remedy, RemedyResult::Abandoned, answer.message.clone(), &mut decision, now);
        }
    }
    decision.events
}
