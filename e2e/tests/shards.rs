//! A store from nothing to gone: ready, blobs in and out through any pod, silent when steady, put right when
//! somebody changes it, removed without a trace.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ::kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use blobstore_e2e::{
    client,
    error::{Error, Result},
    http::Contents,
    namespace,
    payload::{self, Payload},
    progress,
    store::{self, Store},
    wait::{self, Seen},
};
use blobstore_operator_api::names;
use futures::{StreamExt, TryStreamExt};
use http::StatusCode;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Service},
    policy::v1::PodDisruptionBudget,
};
use serde_json::json;

/// Under 10 s on an idle machine; the rest is for neighbours that compile.
const READY_LIMIT: Duration = Duration::from_secs(180);
const BLOBS: usize = 1_000;
/// Empty, inline to its limit, one piece, whole chunks, several chunks.
const SIZES: &[u64] = &[0, 1, 100, 4_096, 16_384, 16_385, 65_536, 262_080, 262_081, 700_000];
/// As many clients as the failover tests have.
const CLIENTS: usize = 8;
/// A store that changes nothing for a minute writes nothing at all: every period of the product is shorter.
const STEADY: Duration = Duration::from_secs(60);
/// Between two looks at everything; a dozen requests each.
const STEADY_LOOK: Duration = Duration::from_secs(5);
/// Figures that load moved may take a few passes to come to rest.
const STEADY_LIMIT: Duration = Duration::from_secs(240);
const DRIFT_LIMIT: Duration = Duration::from_secs(60);

fn blob(index: usize) -> Payload {
    Payload { seed: index as u64 * 2 + 1, size: SIZES[index % SIZES.len()] }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_shards_serve_through_any_pod_rest_when_steady_and_go_without_a_trace() {
    namespace::with_operator("shards", |scope| async move {
        let store = Store::create(&scope, "three", &store::spec(3, 1)).await?;
        let ready = store.wait_ready(READY_LIMIT).await?;
        store.wait_redundant(READY_LIMIT).await?;
        progress::say(&format!("3 shards x 1 replica: Ready after {:.1} s", ready.as_secs_f64()));
        in_and_out(&store).await?;
        writes_nothing_when_steady(&store).await?;
        drift_is_put_right(&store).await?;
        store.delete().await?;
        store.wait_gone(READY_LIMIT).await
    })
    .await
    .expect("a store of three shards");
}

/// Every blob goes in at one pod and comes out at another; all pods take part in both. A shard may hand over meanwhile:
/// who is told 503 asks that same pod again.
async fn in_and_out(store: &Store) -> Result<()> {
    store.make_bucket("mixed").await?;
    let (http, urls) = (store.http().await?, store.urls_of(6, READY_LIMIT).await?);
    let url = |index: usize, shift: usize| {
        format!("{}/mixed/{}/blob-{index}", urls[(index + shift) % urls.len()], index % 7)
    };
    let start = Instant::now();
    let puts = (0..BLOBS).map(|index| {
        let (http, url) = (http.clone(), url(index, 0));
        async move {
            let answer = http.ask_put(&url, &Contents::Payload(blob(index))).await?;
            assert!(answer.status.is_success(), "PUT {url} answered {}", answer.status);
            Ok::<(), Error>(())
        }
    });
    futures::stream::iter(puts).buffer_unordered(CLIENTS).try_collect::<Vec<()>>().await?;
    let put = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let gets = (0..BLOBS).map(|index| {
        // Shifts of 1 to 5 in turn: never the pod of the upload.
        let (http, url) = (http.clone(), url(index, 1 + index % 5));
        async move {
            let answer = http.ask_get(&url).await?;
            assert_eq!(answer.status, StatusCode::OK, "GET {url}");
            assert_eq!(payload::checksum(&answer.body), blob(index).checksum(), "contents of {url}");
            Ok::<(), Error>(())
        }
    });
    futures::stream::iter(gets).buffer_unordered(CLIENTS).try_collect::<Vec<()>>().await?;
    let get = start.elapsed().as_secs_f64();
    progress::say(&format!("{BLOBS} blobs through 6 pods: in {put:.1} s in, {get:.1} s out"));
    Ok(())
}

async fn versions(store: &Store) -> Result<BTreeMap<String, String>> {
    let version = |object: Option<String>| object.unwrap_or_default();
    let mut all: BTreeMap<String, String> = store
        .children()
        .await?
        .into_iter()
        .map(|(name, object)| (name, version(object.resource_version())))
        .collect();
    all.insert("BlobStore".to_owned(), version(store.resource().await?.resource_version()));
    Ok(all)
}

async fn writes_nothing_when_steady(store: &Store) -> Result<()> {
    let first = versions(store).await?;
    for kind in ["StatefulSet/", "Lease/", "Pod/", "Service/", "ConfigMap/", "PodDisruptionBudget/"] {
        assert!(first.keys().any(|name| name.starts_with(kind)), "{kind} is among {:?}", first.keys());
    }
    let seen = tokio::sync::Mutex::new((first, Instant::now(), String::new()));
    let ticks = tokio::sync::Mutex::new(tokio::time::interval(STEADY_LOOK));
    wait::until("nothing of the store is written for a minute", STEADY_LIMIT, || async {
        ticks.lock().await.tick().await;
        let now = versions(store).await?;
        let mut seen = seen.lock().await;
        if seen.0 != now {
            let changed = now.iter().filter(|(name, version)| seen.0.get(*name) != Some(version));
            let names: Vec<&str> = changed.map(|(name, _)| name.as_str()).collect();
            let names = names.join(", ");
            *seen = (now, Instant::now(), names);
        }
        Ok(Seen::when(seen.1.elapsed() >= STEADY, (), || format!("changed: {}", seen.2)))
    })
    .await
}

async fn drift_is_put_right(store: &Store) -> Result<()> {
    let services = store.scope.api::<Service>();
    let maps = store.scope.api::<ConfigMap>();
    let budgets = store.scope.api::<PodDisruptionBudget>();
    let start = Instant::now();
    client::delete(&services, &names::client_service(&store.name), &DeleteParams::default()).await?;
    client::delete(&maps, &names::config_map(&store.name), &DeleteParams::default()).await?;
    let budget = names::disruption_budget(&store.name, 0);
    let wrong = Patch::Merge(json!({ "spec": { "maxUnavailable": 2 } }));
    budgets.patch(&budget, &PatchParams::default(), &wrong).await.map_err(Error::kube("change a budget"))?;
    wait::until("Service, ConfigMap and budget are as they were", DRIFT_LIMIT, || async {
        let service = services.get_opt(&names::client_service(&store.name)).await;
        let map = maps.get_opt(&names::config_map(&store.name)).await;
        let spec = budgets.get(&budget).await.map_err(Error::kube("get a budget"))?.spec;
        let budget = spec.and_then(|spec| spec.max_unavailable);
        let there = |name: &str, found: bool| if found { String::new() } else { format!("no {name} ") };
        let missing = there("Service", matches!(service, Ok(Some(_))))
            + &there("ConfigMap", matches!(map, Ok(Some(_))));
        let is_right = missing.is_empty() && serde_json::to_value(&budget).is_ok_and(|value| value == 1);
        Ok(Seen::when(is_right, (), || format!("{missing}budget {budget:?}")))
    })
    .await?;
    progress::say(&format!("drift put right after {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}
