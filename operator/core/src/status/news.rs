//! Conditions that turned and primaries that changed, as events: what `kubectl describe` shows below the conditions, in order of time.

use blobstore_operator_api::status::{ShardStatus, condition, reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::action::Event;

/// Condition, its status, whether that is a warning.
const NEWS: &[(&str, &str, bool)] = &[
    (condition::RECONCILABLE, "False", true),
    (condition::DEGRADED, "True", true),
    (condition::READY, "True", false),
    (condition::READY, "False", true),
];

/// One event for each condition that has another status or another reason than before. Other words for the same
/// reason are none: they may change with every look.
pub(super) fn of(old: &[Condition], new: &[Condition]) -> Vec<Event> {
    let was_ready = find(old, condition::READY).is_some_and(|was| was.status == "True");
    let turned = NEWS.iter().filter_map(|(type_, status, warning)| {
        let now = find(new, type_).filter(|now| now.status == *status)?;
        let same = find(old, type_).is_some_and(|was| was.status == now.status && was.reason == now.reason);
        // A store that is being made has neither its primary nor its copies yet.
        let expected = !was_ready
            && (*type_ == condition::READY && *status == "False" || now.reason == reason::REPLICA_MISSING);
        (!same && !expected).then(|| Event {
            warning: *warning,
            reason: now.reason.clone().into(),
            message: now.message.clone(),
        })
    });
    turned.collect()
}

/// One event for each shard with another primary than before. Its first one is part of being made.
pub(super) fn of_shards(old: &[ShardStatus], new: &[ShardStatus]) -> Vec<Event> {
    let changed = new.iter().filter_map(|now| {
        let was = old.iter().find(|was| was.shard == now.shard)?;
        let name = |one: &ShardStatus| one.primary.clone().unwrap_or_else(|| "no pod".to_owned());
        (was.epoch > 0 && now.epoch > was.epoch).then(|| Event {
            warning: false,
            reason: reason::PRIMARY_CHANGED.into(),
            message: format!(
                "shard {}: {} is primary since epoch {}; {} was at epoch {}",
                now.shard,
                name(now),
                now.epoch,
                name(was),
                was.epoch
            ),
        })
    });
    changed.collect()
}

fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}
