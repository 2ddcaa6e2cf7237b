//! The loop on real engines: a fault goes in, the verdict names it, Observe only says what it would do, Auto does
//! it and measures the effect; an alert says so outside.

use std::time::{Duration, Instant};

use ::kube::{Api, api::ListParams};
use blobstore_e2e::{
    client,
    error::{Error, Result},
    helm,
    http::Http,
    hygiene, namespace, orphans, progress, prometheus,
    store::{self, Store},
    wait::{self, Seen},
};
use blobstore_operator_api::spec::Rung;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Event, Pod, Secret},
};
use serde_json::json;

const READY_LIMIT: Duration = Duration::from_secs(180);
/// Two audit passes of seconds, the confirmation, a pass of the operator.
const VERDICT_LIMIT: Duration = Duration::from_secs(120);
const REMEDY_LIMIT: Duration = Duration::from_secs(120);
/// Scrapes of 2 s, rules with `for` of 2 s, groups sent after 1 s.
const ALERT_LIMIT: Duration = Duration::from_secs(120);
const ALERT: &str = "BlobStoreOrphanedBytes";
const RULES: &str = "chart";
const WEBHOOKS: &str = "blobstore_operator_webhooks_total";
const METRICS_PORT: u16 = 8080;
/// 20 MiB: five times what makes a finding.
const CHUNKS: u64 = 80;
const AGE: Duration = Duration::from_secs(3600);

async fn ready(scope: &namespace::Scope, name: &str, mode: &str) -> Result<Store> {
    let mut spec = store::spec(1, 1);
    spec["hygiene"] = hygiene::quick(mode);
    let store = Store::create(scope, name, &spec).await?;
    store.wait_ready(READY_LIMIT).await?;
    store.wait_redundant(READY_LIMIT).await?;
    Ok(store)
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_named_in_observe_and_reclaimed_in_auto() {
    namespace::with_operator("orphans", |scope| async move {
        let store = ready(&scope, "loop", "Observe").await?;
        let primary = store.primary(0).await?;
        let start = Instant::now();
        let made = orphans::inject(&store, &primary, CHUNKS, AGE).await?;
        let dirty = orphans::memory(&store, &primary, "used_memory").await?;
        let fault = hygiene::Fault { class: "Orphaned", pod: &primary };
        let (finding, seen) = hygiene::wait_finding(&store, fault, VERDICT_LIMIT).await?;
        let named = start.elapsed().as_secs_f64();
        let found = finding.mib << 20;
        assert!(found.abs_diff(made.bytes()) <= 2 << 20, "{found} of {} bytes", made.bytes());
        assert!(!finding.evidence.is_empty(), "{finding:?}");
        let plan = seen.plan.clone().ok_or_else(|| Error::Wrong(format!("no plan: {seen:?}")))?;
        assert_eq!((plan.rung, plan.class.as_str()), (Rung::ReclaimOrphans, "Orphaned"), "{plan:?}");
        event_names(&store, "Orphaned").await?;
        assert_eq!(orphans::left(&store, &made).await?, CHUNKS, "Observe touches nothing");
        assert!(hygiene::remediation(&store).await?.last_actions.is_empty(), "nothing was done");
        let start = Instant::now();
        store.merge(&json!({ "spec": { "hygiene": { "mode": "Auto" } } })).await?;
        let remedy = hygiene::wait_effective(&store, fault, REMEDY_LIMIT).await?;
        let healed = start.elapsed().as_secs_f64();
        assert_eq!(remedy.rung, Rung::ReclaimOrphans);
        let after = remedy.after.ok_or_else(|| Error::Wrong(format!("no figure after: {remedy:?}")))?;
        assert!(after <= remedy.target && after < remedy.before, "{remedy:?}");
        assert_eq!(orphans::left(&store, &made).await?, 0);
        let clean = orphans::memory(&store, &primary, "used_memory").await?;
        assert!(dirty - clean > made.bytes() / 10 * 9, "from {dirty} to {clean}");
        progress::say(&format!(
            "orphans of {} bytes: named after {named:.1} s, reclaimed {healed:.1} s after Auto, {} from {} to {after}",
            made.bytes(), remedy.figure, remedy.before
        ));
        // With its replica, whose growth nobody judges.
        store
            .wait_until("the store's memory is healthy", VERDICT_LIMIT, |resource| {
                let found = client::condition(resource, "MemoryHealthy")?;
                (found["status"] == "True").then_some(())
            })
            .await?;
        Ok(())
    })
    .await
    .expect("a loop that closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn alert_of_orphans_fires_and_its_webhook_reaches_the_operator() {
    // Alone: the other store's orphans would fire the same alert, and nobody could tell whose webhook was taken.
    namespace::with_operator_alone("alert", |scope| async move {
        let paths = scope.cluster.machine()?;
        let leader = leader(&scope).await?;
        let url = format!("{leader}/v1/webhooks/alertmanager");
        let webhook = prometheus::Webhook { url, bearer_token: Some(webhook_token(&scope).await?) };
        prometheus::send_alerts_to(paths, &webhook).await?;
        prometheus::load_rules(paths, RULES, &quick_rules(&scope).await?).await?;
        let outcome = alert_arrives(&scope, &leader).await;
        // The operator shall not hear of stores that come later.
        let forgotten = prometheus::forget(paths, RULES).await;
        outcome.and(forgotten)
    })
    .await
    .expect("an alert that arrives");
}

async fn alert_arrives(scope: &namespace::Scope, leader: &str) -> Result<()> {
    let accepted = || async {
        let page = Http::default().text(&format!("{leader}/metrics")).await?;
        let labels = [("source", "alertmanager"), ("result", "accepted")];
        Ok::<f64, Error>(store::metric(&page, WEBHOOKS, &labels).unwrap_or_default())
    };
    let before = accepted().await?;
    let store = ready(scope, "alert", "Observe").await?;
    let primary = store.primary(0).await?;
    let start = Instant::now();
    orphans::inject(&store, &primary, CHUNKS, AGE).await?;
    wait::until("the alert is at Alertmanager", ALERT_LIMIT, || async {
        let url = format!("{}/api/v2/alerts", prometheus::alertmanager_url());
        let alerts = Http::default().json(&url).await?;
        let is_ours = |alert: &&serde_json::Value| {
            alert["labels"]["alertname"] == ALERT && alert["labels"]["namespace"] == scope.namespace.as_str()
        };
        let found = alerts.as_array().is_some_and(|all| all.iter().any(|one| is_ours(&one)));
        Ok(Seen::when(found, (), || alerts.to_string()))
    })
    .await?;
    let fired = start.elapsed().as_secs_f64();
    wait::until("the operator took the hint", ALERT_LIMIT, || async {
        let now = accepted().await?;
        Ok(Seen::when(now > before, (), || format!("{now} accepted, {before} before")))
    })
    .await?;
    let told = start.elapsed().as_secs_f64();
    progress::say(&format!("{ALERT} fired after {fired:.1} s, its webhook was taken after {told:.1} s"));
    Ok(())
}

/// The chart's rules with their times scaled down; what they ask is as it is.
async fn quick_rules(scope: &namespace::Scope) -> Result<String> {
    let mut rules = helm::alert_rules(&scope.cluster).await?;
    for group in rules["groups"].as_array_mut().into_iter().flatten() {
        group["interval"] = json!("2s");
        for rule in group["rules"].as_array_mut().into_iter().flatten() {
            if rule.get("for").is_some() {
                rule["for"] = json!("2s");
            }
        }
    }
    serde_yaml_ng::to_string(&rules).map_err(Error::other("write rules"))
}

/// The address of the operator that leads: the others answer a webhook with 503.
async fn leader(scope: &namespace::Scope) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(scope.client.clone(), helm::NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(scope.client.clone(), helm::NAMESPACE);
    wait::until("an operator leads", READY_LIMIT, || async {
        let all = leases.list(&ListParams::default()).await.map_err(Error::kube("list Leases"))?;
        let holders = all.iter().filter_map(|lease| lease.spec.as_ref()?.holder_identity.clone());
        for holder in holders {
            let name = holder.split('/').next().unwrap_or_default();
            if let Some(pod) = pods.get_opt(name).await.map_err(Error::kube("get the leader"))?
                && let Some(url) = scope.reach(&pod, METRICS_PORT).await?
            {
                return Ok(Seen::Yes(url));
            }
        }
        Ok(Seen::NotYet("no Lease names a pod".to_owned()))
    })
    .await
}

async fn webhook_token(scope: &namespace::Scope) -> Result<String> {
    let secrets: Api<Secret> = Api::namespaced(scope.client.clone(), helm::NAMESPACE);
    let name = format!("{}-operator-webhook", helm::RELEASE);
    let secret = secrets.get(&name).await.map_err(Error::kube("get the webhook's Secret"))?;
    let token = secret.data.as_ref().and_then(|data| data.get("token"));
    let token = token.ok_or_else(|| Error::Wrong(format!("{name} has no token")))?;
    Ok(String::from_utf8_lossy(&token.0).into_owned())
}

async fn event_names(store: &Store, word: &str) -> Result<()> {
    let events = store.scope.api::<Event>();
    wait::until(format!("an event of the store names {word}"), VERDICT_LIMIT, || async {
        let all = events.list(&ListParams::default()).await.map_err(Error::kube("list events"))?;
        let own = all.iter().filter(|event| event.involved_object.kind.as_deref() == Some("BlobStore"));
        let said: Vec<String> = own.filter_map(|event| event.message.clone()).collect();
        Ok(Seen::when(said.iter().any(|text| text.contains(word)), (), || said.join("; ")))
    })
    .await
}
