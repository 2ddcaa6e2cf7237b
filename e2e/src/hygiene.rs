//! The loop as a test or a person sees it: every time of the detector scaled down, findings and remedies read
//! from the resource's status.

use std::time::Duration;

use blobstore_operator_api::status::{Finding, RemediationStatus, Remedy, RemedyResult};
use serde_json::{Value, json};

use crate::{
    error::{Error, Result},
    store::Store,
};

/// Seconds instead of minutes, of the detector and of what follows it. The sizes are the defaults.
pub fn quick(mode: &str) -> Value {
    json!({
        "mode": mode,
        "thresholds": {
            "sample": "1s", "auditInterval": "2s", "orphanGrace": "5s", "confirm": "3s", "warmup": "1s",
            "trendBucket": "5s", "balanceHold": "10s",
        },
        "cooldowns": { "soft": "5s" },
        "breaker": { "massWindow": "30s" },
    })
}

/// The first confirmed finding of a class, with the whole of remediation as it was then.
pub async fn wait_finding(
    store: &Store,
    class: &str,
    limit: Duration,
) -> Result<(Finding, RemediationStatus)> {
    wait_remediation(store, &format!("a confirmed finding {class}"), limit, |all| {
        let is_it = |one: &&Finding| one.class == class && one.state == "Confirmed";
        all.findings.iter().find(is_it).map(|found| (found.clone(), all.clone()))
    })
    .await
}

/// The first remedy of a class that has shown its effect.
pub async fn wait_effective(store: &Store, class: &str, limit: Duration) -> Result<Remedy> {
    wait_remediation(store, &format!("an effective remedy of {class}"), limit, |all| {
        let is_it = |one: &&Remedy| one.class == class && one.result == RemedyResult::Effective;
        all.last_actions.iter().find(is_it).cloned()
    })
    .await
}

pub async fn wait_remediation<T>(
    store: &Store,
    what: &str,
    limit: Duration,
    check: impl Fn(&RemediationStatus) -> Option<T>,
) -> Result<T> {
    store
        .wait_until(what, limit, |resource| {
            let status = resource.pointer("/status/remediation")?.clone();
            check(&serde_json::from_value(status).ok()?)
        })
        .await
}

pub async fn remediation(store: &Store) -> Result<RemediationStatus> {
    let status = store.resource().await?.status.unwrap_or_default();
    status.remediation.ok_or_else(|| Error::Wrong("the status says nothing of remediation".to_owned()))
}
