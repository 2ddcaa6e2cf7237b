//! Events regarding a store. The same words about the same store are told once in a while, not on every pass; what
//! was told is remembered in a bounded table.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::PoisonError;

use blobstore_operator_api::{BlobStore, names};
use blobstore_operator_core::action::Event;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as ApiEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Resource, ResourceExt};

use crate::error::chain;
use crate::shared::{Shared, ask};

/// A state that lasts is told again each hour, while events live (an hour by default).
const REPEAT_AFTER: SignedDuration = SignedDuration::from_hours(1);
/// Twenty stories for each of fifty stores.
const TOLD_MAX: usize = 1_024;
/// The API refuses longer notes.
const NOTE_CHARS_MAX: usize = 1_000;

/// What was told when, by store and words.
#[derive(Debug, Default)]
pub struct Told(BTreeMap<(String, Cow<'static, str>, String), Timestamp>);

impl Told {
    /// True if these words are new, or old enough to be told again.
    pub fn is_news(&mut self, uid: &str, event: &Event, now: Timestamp) -> bool {
        self.0.retain(|_, at| now.duration_since(*at) < REPEAT_AFTER);
        let key = (uid.to_owned(), event.reason.clone(), event.message.clone());
        if self.0.contains_key(&key) {
            return false;
        }
        if self.0.len() >= TOLD_MAX
            && let Some(oldest) = self.0.iter().min_by_key(|(_, at)| **at).map(|(key, _)| key.clone())
        {
            self.0.remove(&oldest);
        }
        self.0.insert(key, now);
        true
    }
}

fn event(store: &BlobStore, told: &Event, identity: &str, now: Timestamp) -> ApiEvent {
    let regarding: ObjectReference = store.object_ref(&());
    ApiEvent {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", store.name_any(), now.as_nanosecond())),
            namespace: store.namespace(),
            ..ObjectMeta::default()
        },
        action: Some("Reconcile".to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(told.message.chars().take(NOTE_CHARS_MAX).collect()),
        reason: Some(told.reason.clone().into_owned()),
        regarding: Some(regarding),
        reporting_controller: Some(names::FIELD_MANAGER.to_owned()),
        reporting_instance: Some(identity.to_owned()),
        type_: Some(if told.warning { "Warning" } else { "Normal" }.to_owned()),
        ..ApiEvent::default()
    }
}

/// Best effort: an event that cannot be written fails no pass.
pub async fn tell(shared: &Shared, store: &BlobStore, events: &[Event], now: Timestamp) {
    let uid = store.uid().unwrap_or_default();
    let api: Api<ApiEvent> = Api::namespaced(shared.client.clone(), &store.namespace().unwrap_or_default());
    for (index, told) in events.iter().enumerate() {
        let news = shared.told.lock().unwrap_or_else(PoisonError::into_inner).is_news(&uid, told, now);
        if !news {
            shared.metrics.events.with_label_values(&["repeated"]).inc();
            continue;
        }
        // Names carry the time: a nanosecond apart within a pass.
        let at = now.saturating_add(SignedDuration::from_nanos(i64::try_from(index).unwrap_or(0)));
        let event = event(store, told, &shared.identity, at.unwrap_or(now));
        let result = match ask(api.create(&PostParams::default(), &event)).await {
            Ok(_) => "written",
            Err(error) => {
                tracing::warn!(error = %chain(&error), reason = %told.reason, "write an event");
                "failed"
            }
        };
        shared.metrics.events.with_label_values(&[result]).inc();
        shared.metrics.wrote("Event", "create");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(told: &mut Told, message: &str, minute: i64) -> bool {
        let event = Event { warning: false, reason: "RollHeld".into(), message: message.to_owned() };
        let now = Timestamp::from_second(minute * 60).expect("a time");
        told.is_news("uid", &event, now)
    }

    #[test]
    fn same_words_are_told_again_after_an_hour_only() {
        let mut told = Told::default();
        assert!(news(&mut told, "no room", 0));
        assert!(!news(&mut told, "no room", 59));
        assert!(news(&mut told, "no room on node b", 59));
        assert!(news(&mut told, "no room", 61));
    }

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest() {
        let mut told = Told::default();
        assert!(news(&mut told, "first", 0));
        for number in 0..TOLD_MAX {
            assert!(news(&mut told, &number.to_string(), 1));
        }
        assert_eq!(told.0.len(), TOLD_MAX);
        assert!(news(&mut told, "first", 2), "the oldest was forgotten");
    }
}
