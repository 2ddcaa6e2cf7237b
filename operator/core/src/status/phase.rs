//! The phase: one word and one sentence, from the conditions alone. First match wins.

use blobstore_operator_api::BlobStoreStatus;
use blobstore_operator_api::status::{condition, reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Condition, its status, an optional reason → phase.
const PHASES: &[(&str, &str, Option<&str>, &str)] = &[
    (condition::RECONCILABLE, "False", Some(reason::PAUSED), "Paused"),
    (condition::RECONCILABLE, "False", Some(reason::SPEC_INVALID), "Invalid"),
    (condition::DATA_LOST, "True", Some(reason::ALL_MEMBERS_EMPTY), "DataLost"),
    (condition::READY, "False", Some(reason::INITIALIZING), "Creating"),
    (condition::READY, "False", None, "Unready"),
    (condition::RECONCILABLE, "False", None, "Unready"),
    (condition::DEGRADED, "True", None, "Degraded"),
    (condition::PROGRESSING, "True", Some(reason::SCALING), "Scaling"),
    (condition::PROGRESSING, "True", None, "Rolling"),
    (condition::REMEDIATION_ACTIVE, "True", Some(reason::REMEDYING), "Remediating"),
    (condition::REMEDIATION_ACTIVE, "True", Some(reason::VERIFYING), "Remediating"),
    (condition::READY, "True", None, "Ready"),
];

pub(super) fn name(status: &mut BlobStoreStatus) {
    let found = PHASES.iter().find_map(|(type_, value, reason, phase)| {
        let condition = find(&status.conditions, type_)?;
        let fits = condition.status == *value && reason.is_none_or(|reason| condition.reason == reason);
        fits.then(|| ((*phase).to_owned(), sentence(condition)))
    });
    let (phase, reason) = found.unwrap_or_else(|| ("Pending".to_owned(), "nothing is known yet".to_owned()));
    // A creation that is stuck on a named fault is told by the fault.
    let cause = find(&status.conditions, condition::DEGRADED)
        .filter(|degraded| degraded.status == "True" && matches!(phase.as_str(), "Creating" | "Unready"));
    status.phase_reason = Some(cause.map_or(reason, sentence));
    status.phase = Some(phase);
}

fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

fn sentence(condition: &Condition) -> String {
    if condition.message.is_empty() { condition.reason.clone() } else { condition.message.clone() }
}
