//! Requests to sidecars, with ids that the same cause repeats.

use blobstore_sidecar_api::action::ActionRequest;
use jiff::Timestamp;

use crate::action::Action;
use crate::observed::PodSeen;

/// An id is good for this long: then the same wish becomes a new request, so that a refusal is not for ever.
pub const ID_PERIOD_MS: i64 = 20_000;

/// A request to the pod's sidecar; `None` while the pod has no address.
pub fn ask(
    pod: &PodSeen,
    name: &'static str,
    expected_epoch: Option<u64>,
    params: &[(&str, String)],
    why: &str,
    now: Timestamp,
) -> Option<Action> {
    let cause: Vec<&str> = params.iter().map(|(_, value)| value.as_str()).collect();
    let epoch = expected_epoch.unwrap_or_default();
    let period = now.as_millisecond().div_euclid(ID_PERIOD_MS);
    let id = format!("{name}-{}-{epoch}-{}-{period}", pod.name, cause.join("-"));
    named(pod, name, id, expected_epoch, params, why)
}

/// The same with an id of the caller's.
pub fn named(
    pod: &PodSeen,
    name: &'static str,
    id: String,
    expected_epoch: Option<u64>,
    params: &[(&str, String)],
    why: &str,
) -> Option<Action> {
    let params = params.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    Some(Action::Ask {
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        ip: pod.ip.clone()?,
        name,
        request: ActionRequest { id, expected_epoch, params },
        why: why.to_owned(),
    })
}
