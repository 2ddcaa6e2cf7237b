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

/// What is wrong with which pod. What a primary is told its replicas do as well, and may be named for it first: who
/// waits for a finding or a remedy says whose.
#[derive(Debug, Clone, Copy)]
pub struct Fault<'a> {
    pub class: &'a str,
    pub pod: &'a str,
}

impl std::fmt::Display for Fault<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} on {}", self.class, self.pod)
    }
}

/// The confirmed finding, with the whole of remediation as it was then.
pub async fn wait_finding(
    store: &Store,
    fault: Fault<'_>,
    limit: Duration,
) -> Result<(Finding, RemediationStatus)> {
    wait_remediation(store, &format!("the confirmed finding {fault}"), limit, |all| {
        let is_it =
            |one: &&Finding| one.class == fault.class && one.pod == fault.pod && one.state == "Confirmed";
        all.findings.iter().find(is_it).map(|found| (found.clone(), all.clone()))
    })
    .await
}

/// The remedy that has shown its effect.
pub async fn wait_effective(store: &Store, fault: Fault<'_>, limit: Duration) -> Result<Remedy> {
    wait_remediation(store, &format!("an effective remedy of {fault}"), limit, |all| {
        let is_it = |one: &&Remedy| {
            one.class == fault.class && one.pod == fault.pod && one.result == RemedyResult::Effective
        };
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
