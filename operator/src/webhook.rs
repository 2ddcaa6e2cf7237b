//! Webhooks of Alertmanager and Grafana, as hints: a verified call names stores to look at now. A hint carries no
//! verdict and no action; what happens is decided by the operator's own fresh look.

mod auth;
mod dedupe;

pub use auth::{Credentials, Denied, SIGNATURE_HEADER, TIMESTAMP_HEADER};
pub use dedupe::Recent;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// Alertmanager groups can be large; what names a store fits long before this.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// Hints wait here for the controllers. Each names a store; twice the stores of a large installation.
pub const QUEUE_MAX: usize = 256;

/// What a call asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    Store {
        namespace: String,
        name: String,
    },
    /// The sender cut its list: every store of the namespace, or all.
    Every {
        namespace: Option<String>,
    },
}

/// The part of both payloads that we read; unknown fields are the senders' business.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    #[serde(default, deserialize_with = "count")]
    truncated_alerts: u64,
    #[serde(default)]
    common_labels: BTreeMap<String, String>,
    #[serde(default)]
    alerts: Vec<Alert>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    #[serde(default)]
    status: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    starts_at: String,
    #[serde(default)]
    fingerprint: String,
}

/// Alertmanager writes a number, some Grafana versions a string.
fn count<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Count {
        Number(u64),
        Text(String),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Count::deserialize(deserializer)? {
        Count::Number(count) => count,
        Count::Text(text) => text.parse().unwrap_or(0),
        Count::Other(serde::de::IgnoredAny) => 0,
    })
}

const NAMESPACE_LABEL: &str = "namespace";
/// What our own alert rules carry, from the operator's and the sidecars' metrics alike.
pub const STORE_LABEL: &str = "store";

fn store(labels: &BTreeMap<String, String>) -> Option<Hint> {
    let namespace = labels.get(NAMESPACE_LABEL)?.clone();
    let name = labels.get(STORE_LABEL)?.clone();
    Some(Hint::Store { namespace, name })
}

/// The hints of one verified body, each new alert once.
pub fn hints(body: &[u8], recent: &mut Recent) -> Result<BTreeSet<Hint>, serde_json::Error> {
    let payload: Payload = serde_json::from_slice(body)?;
    let mut hints = BTreeSet::new();
    for alert in &payload.alerts {
        if alert.status == "resolved" {
            recent.forget(&alert.fingerprint, &alert.starts_at);
            continue;
        }
        let Some(hint) = store(&alert.labels) else { continue };
        if recent.is_new(&alert.fingerprint, &alert.starts_at) {
            hints.insert(hint);
        }
    }
    if payload.truncated_alerts > 0 {
        hints.insert(store(&payload.common_labels).unwrap_or_else(|| Hint::Every {
            namespace: payload.common_labels.get(NAMESPACE_LABEL).cloned(),
        }));
    }
    Ok(hints)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(status: &str, store: &str, fingerprint: &str) -> serde_json::Value {
        serde_json::json!({
            "status": status, "fingerprint": fingerprint, "startsAt": "2026-01-01T00:00:00Z",
            "labels": {"namespace": "shop", "store": store, "alertname": "X"}, "values": {"A": 1},
        })
    }

    fn check(recent: &mut Recent, payload: &serde_json::Value, want: &[Hint]) {
        let body = serde_json::to_vec(payload).expect("payload is JSON");
        let got = hints(&body, recent).expect("payload parses");
        assert_eq!(got.into_iter().collect::<Vec<_>>(), want);
    }

    fn shop(name: &str) -> Hint {
        Hint::Store { namespace: "shop".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn one_alert_hints_once_until_it_resolves() {
        let mut recent = Recent::default();
        let firing = serde_json::json!({"version": "4", "alerts": [alert("firing", "a", "f1")]});
        check(&mut recent, &firing, &[shop("a")]);
        check(&mut recent, &firing, &[]);
        let resolved = serde_json::json!({"alerts": [alert("resolved", "a", "f1")]});
        check(&mut recent, &resolved, &[]);
        check(&mut recent, &firing, &[shop("a")]);
    }

    #[test]
    fn truncated_list_asks_for_the_group_and_falls_back_to_everything() {
        let mut recent = Recent::default();
        let group = serde_json::json!({"truncatedAlerts": 3, "alerts": [],
            "commonLabels": {"namespace": "shop", "store": "b"}});
        check(&mut recent, &group, &[shop("b")]);
        let namespace = serde_json::json!({"truncatedAlerts": "2", "commonLabels": {"namespace": "shop"}});
        check(&mut recent, &namespace, &[Hint::Every { namespace: Some("shop".to_owned()) }]);
        check(&mut recent, &serde_json::json!({"truncatedAlerts": 1}), &[Hint::Every { namespace: None }]);
    }

    #[test]
    fn alerts_without_a_store_say_nothing() {
        let mut recent = Recent::default();
        let foreign = serde_json::json!({"alerts": [{"status": "firing", "labels": {"namespace": "x"}}]});
        check(&mut recent, &foreign, &[]);
    }

    #[test]
    fn garbage_is_refused() {
        assert!(hints(b"[]}", &mut Recent::default()).is_err());
    }
}
