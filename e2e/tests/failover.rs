//! Nothing acknowledged is lost or altered, whatever is killed under load; what memory alone cannot keep is
//! reported as lost. Every stage prints its longest pause.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use ::kube::ResourceExt;
use blobstore_e2e::{
    client,
    error::{Error, Result},
    fault,
    http::Contents,
    images,
    load::{Load, Plan, Report},
    namespace,
    payload::Payload,
    process, progress, record,
    store::{self, Store},
    wait::{self, Seen},
};
use blobstore_operator_api::status::ShardStatus;
use k8s_openapi::api::core::v1::Pod;
use nix::sys::signal::Signal;
use serde_json::json;

const READY_LIMIT: Duration = Duration::from_secs(180);
/// Writes before a fault, so that it meets a running load, and after it, so that they have resumed.
const WRITES: u64 = 200;
/// From the fault to the next acknowledged writes: pauses of seconds, on a machine that compiles.
const RESUME_LIMIT: Duration = Duration::from_secs(120);
/// With a log, what was acknowledged within the last fsync period (one second, two when the disk is late) may go
/// with the power.
const LOG_WINDOW: Duration = Duration::from_secs(2);
/// Twice the longest pause between two tries to watch a record.
const WATCHED_AGAIN: Duration = Duration::from_secs(10);
/// Twice the time after which a silent engine counts as gone; less than what kubelets and the operator give a pod.
const STANDSTILL: Duration = Duration::from_secs(4);
/// The operator asks nobody to take over within 5 s of a record's last change.
const OPERATOR_PATIENCE: Duration = Duration::from_secs(6);
/// As the kernel names it: 15 characters.
const SIDECAR: &str = "blobstore-sidec";
/// The two minutes of the promise; who tries something may ask for less.
const API_AWAY: &str = "E2E_API_AWAY_SECONDS";
const API_AWAY_DEFAULT: u64 = 120;

/// 8 writers over few keys: every size is overwritten again and again, and three stages fit into one engine.
fn plan(bucket: &str) -> Plan {
    Plan { bucket: bucket.to_owned(), keys_per_writer: 12, ..Plan::default() }
}

async fn ready(scope: &namespace::Scope, name: &str, spec: &serde_json::Value) -> Result<Store> {
    let store = Store::create(scope, name, spec).await?;
    store.wait_ready(READY_LIMIT).await?;
    store.wait_redundant(READY_LIMIT).await?;
    Ok(store)
}

/// Load, fault, load again, all copies back, everything read.
async fn stage(store: &Store, name: &str, fault: impl Future<Output = Result<()>>) -> Result<Report> {
    let load = Load::of(store, plan(name)).await?;
    load.wait_writes(WRITES, RESUME_LIMIT).await?;
    fault.await?;
    load.wait_writes(WRITES, RESUME_LIMIT).await?;
    let back = store.wait_redundant(READY_LIMIT).await?;
    let report = load.finish().await?;
    report.show(&format!("{name} (all copies back {:.1} s later)", back.as_secs_f64()));
    report.check()?;
    Ok(report)
}

async fn shard(store: &Store) -> Result<ShardStatus> {
    let status = store.resource().await?.status.unwrap_or_default();
    status.shards.into_iter().next().ok_or_else(|| Error::Wrong("the status shows no shard".to_owned()))
}

/// Ends the load: nothing is lost or altered, and the primary is who it was, at the same epoch.
async fn undeposed(store: &Store, load: Load, before: &ShardStatus, what: &str) -> Result<()> {
    let report = load.finish().await?;
    report.show(what);
    report.check()?;
    let after = shard(store).await?;
    assert_eq!((after.epoch, &after.primary), (before.epoch, &before.primary), "nobody was deposed");
    Ok(())
}

fn restarts(pod: &Pod, container: &str) -> i32 {
    let status = pod.status.clone().unwrap_or_default();
    let all = status.container_statuses.into_iter().chain(status.init_container_statuses).flatten();
    all.filter(|one| one.name == container).map(|one| one.restart_count).sum()
}

async fn wait_pod(store: &Store, name: &str, what: &str, is_so: impl Fn(&Pod) -> bool) -> Result<()> {
    wait::until(format!("{name} {what}"), READY_LIMIT, || async {
        let pod = store.scope.pods().get(name).await.map_err(Error::kube(format!("get {name}")))?;
        Ok(Seen::when(is_so(&pod), (), || format!("{:?}", pod.status)))
    })
    .await
}

/// The primary, at a time when the record names its replica as well: else the kill may take the only copy of what was
/// just acknowledged, and no promise would be broken.
async fn whole_primary(store: &Store) -> Result<String> {
    let primaries = record::wait_whole(store, READY_LIMIT).await?;
    primaries.into_iter().next().ok_or_else(|| Error::Wrong("the store has no shard".to_owned()))
}

/// Kills a process of the primary and waits until its container was restarted.
async fn kill_in_primary(store: &Store, container: &str, program: &str) -> Result<()> {
    let name = whole_primary(store).await?;
    let before = store.scope.pods().get(&name).await.map_err(Error::kube("get the primary"))?;
    fault::signal(&store.scope, &name, container, program, Signal::SIGKILL).await?;
    wait_pod(store, &name, "was restarted", |pod| restarts(pod, container) > restarts(&before, container))
        .await
}

async fn delete_primary(store: &Store) -> Result<()> {
    fault::replace_pod_now(&store.scope, &whole_primary(store).await?, READY_LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_primary_loses_nothing_acknowledged() {
    namespace::with_operator("failover", |scope| async move {
        let store = ready(&scope, "fail", &store::spec(1, 1)).await?;
        let first = shard(&store).await?;
        stage(&store, "pod-deleted", delete_primary(&store)).await?;
        let second = shard(&store).await?;
        assert!(second.epoch > first.epoch && second.primary != first.primary, "{first:?} {second:?}");
        let engine = images::program_of(&images::chosen_engine());
        stage(&store, "engine-killed", kill_in_primary(&store, "engine", engine)).await?;
        stage(&store, "sidecar-killed", kill_in_primary(&store, "sidecar", SIDECAR)).await?;
        let last = shard(&store).await?;
        assert_eq!(last.losses, 0, "no data was lost: {last:?}");
        Ok(())
    })
    .await
    .expect("failover without a loss");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_stood_still_for_seconds_keeps_its_shard() {
    namespace::with_operator("still", |scope| async move {
        let store = ready(&scope, "still", &store::spec(1, 1)).await?;
        let before = shard(&store).await?;
        let load = Load::of(&store, plan("still")).await?;
        load.wait_writes(WRITES, RESUME_LIMIT).await?;
        let primary = whole_primary(&store).await?;
        fault::signal(&scope, &primary, "sidecar", SIDECAR, Signal::SIGSTOP).await?;
        let stopped = Instant::now();
        wait::until("it has stood still", READY_LIMIT, || async {
            Ok(Seen::when(stopped.elapsed() >= STANDSTILL, (), || format!("{:?}", stopped.elapsed())))
        })
        .await?;
        fault::signal(&scope, &primary, "sidecar", SIDECAR, Signal::SIGCONT).await?;
        load.wait_writes(WRITES, RESUME_LIMIT).await?;
        store.wait_redundant(READY_LIMIT).await?;
        undeposed(&store, load, &before, "sidecar of the primary stopped for 4 s").await
    })
    .await
    .expect("a shard that is kept");
}

async fn delete_all_pods(store: &Store) -> Result<()> {
    let pods = store.pods().await?;
    let names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
    let deletes = names.iter().map(|name| fault::delete_pod_now(&store.scope, name));
    futures::future::try_join_all(deletes).await.map(drop)
}

/// The engines' processes as they are now.
async fn engines(store: &Store) -> Result<Vec<process::Id>> {
    let mut found = Vec::new();
    for pod in store.pods().await? {
        found.extend(fault::processes(&store.scope, &pod.name_any(), "engine").await?);
    }
    Ok(found)
}

async fn wait_ended(engines: &[process::Id]) -> Result<()> {
    wait::until("the old engines have ended", READY_LIMIT, || async {
        let left = engines.iter().filter(|id| id.is_alive()).count();
        Ok(Seen::when(left == 0, (), || format!("{left} run")))
    })
    .await
}

/// All pods and their data at once. A pod that the API has forgotten lives on until its kubelet comes to it: on a busy
/// machine the next pod of the shard could copy its data, and nothing would be lost. Engines of another machine are left
/// to their kubelets.
async fn lose_all_pods(store: &Store) -> Result<()> {
    let is_here = store.scope.cluster.machine().is_ok();
    let engines = if is_here { engines(store).await? } else { Vec::new() };
    delete_all_pods(store).await?;
    // Not before: a pod that is still wanted would start its engine again.
    for id in &engines {
        id.signal(Signal::SIGKILL);
    }
    wait_ended(&engines).await
}

#[tokio::test(flavor = "multi_thread")]
async fn store_in_memory_says_that_it_lost_its_data_and_serves_again() {
    namespace::with_operator("lost", |scope| async move {
        let store = ready(&scope, "lost", &store::spec(1, 1)).await?;
        store.make_bucket("before").await?;
        let (http, urls) = (store.http().await?, store.urls_of(2, READY_LIMIT).await?);
        let payload = Payload { seed: 3, size: 1_000_000 };
        let put = http.ask_put(&format!("{}/before/blob", urls[0]), &Contents::Payload(payload)).await?;
        assert!(put.status.is_success(), "PUT answered {}", put.status);
        let start = Instant::now();
        lose_all_pods(&store).await?;
        let lost = store.wait_condition("DataLost", "True", READY_LIMIT).await?;
        let reported = start.elapsed().as_secs_f64();
        store.wait_ready(READY_LIMIT).await?;
        let served = start.elapsed().as_secs_f64();
        progress::say(&format!(
            "all pods killed: DataLost after {reported:.1} s, Ready after {served:.1} s: {lost}"
        ));
        let status = wait::until("the loss is counted", READY_LIMIT, || async {
            let status = shard(&store).await?;
            Ok(Seen::when(status.losses == 1, status.clone(), || format!("{status:?}")))
        })
        .await?;
        assert!(status.lost_at.is_some(), "{status:?}");
        let load = Load::of(&store, plan("after")).await?;
        load.wait_writes(WRITES, RESUME_LIMIT).await?;
        load.finish().await?.check()
    })
    .await
    .expect("a loss that is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn store_with_a_log_comes_back_with_everything_up_to_the_documented_second() {
    namespace::with_operator("log", |scope| async move {
        let mut spec = store::spec(1, 1);
        spec["persistence"] = json!("Aof");
        spec["storage"] = json!({ "size": "1Gi" });
        let store = ready(&scope, "log", &spec).await?;
        let start = Instant::now();
        let load = Load::of(&store, plan("log")).await?;
        load.wait_writes(WRITES, RESUME_LIMIT).await?;
        // The bucket, too, is a write that the last seconds may take along.
        while start.elapsed() < LOG_WINDOW * 3 {
            load.wait_writes(20, RESUME_LIMIT).await?;
        }
        let kill = Instant::now();
        load.excuse(kill - LOG_WINDOW..=kill);
        let engines = engines(&store).await?;
        delete_all_pods(&store).await?;
        // The API forgets the pods at once; until the last engine has ended, it may go on to acknowledge.
        wait_ended(&engines).await?;
        load.excuse(kill - LOG_WINDOW..=Instant::now());
        load.wait_writes(WRITES, RESUME_LIMIT).await?;
        let back = store.wait_redundant(READY_LIMIT).await?.as_secs_f64();
        let report = load.finish().await?;
        report.show(&format!(
            "all pods killed, with a log (all copies back {back:.1} s after the first writes)"
        ));
        report.check()?;
        let status = shard(&store).await?;
        assert_eq!(status.losses, 0, "a log is no loss: {status:?}");
        Ok(())
    })
    .await
    .expect("a log that holds");
}

async fn node_of_primary(store: &Store) -> Result<String> {
    let primary = whole_primary(store).await?;
    let pod = store.scope.pods().get(&primary).await.map_err(Error::kube("get the primary"))?;
    let node = pod.spec.and_then(|spec| spec.node_name);
    node.ok_or_else(|| Error::Wrong(format!("{primary} is on no node")))
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_node_takes_a_primary_and_writes_go_on() {
    namespace::with_operator_alone("node", |scope| async move {
        // Both copies on one node would go with it: by default the spread is a wish.
        let spec = store::spec_with(&[("scheduling.spread.node", json!("Required"))]);
        let store = ready(&scope, "node", &spec).await?;
        let load = Load::of(&store, plan("node")).await?;
        load.wait_writes(WRITES, RESUME_LIMIT).await?;
        let node = node_of_primary(&store).await?;
        fault::without_node(&scope.cluster, &node, load.wait_writes(WRITES, RESUME_LIMIT)).await?;
        store.wait_redundant(READY_LIMIT).await?;
        let report = load.finish().await?;
        report.show("node of the primary lost");
        report.check()
    })
    .await
    .expect("a store that outlives a node");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_only_said_to_be_lost_deposes_nobody() {
    namespace::with_operator_alone("said", |scope| async move {
        let store = ready(&scope, "said", &store::spec(1, 1)).await?;
        let (before, start) = (shard(&store).await?, Instant::now());
        let (node, primary) = (node_of_primary(&store).await?, store.primary(0).await?);
        let load = Load::of(&store, plan("said")).await?;
        write_for(&load, OPERATOR_PATIENCE.saturating_sub(start.elapsed())).await?;
        wait::until("the operator has heard of it", READY_LIMIT, || async {
            fault::call_node_lost(&scope, &node, &primary).await?;
            let resource = store.resource_json().await?;
            let degraded = client::condition(&resource, "Degraded").cloned().unwrap_or_default();
            Ok(Seen::when(degraded["reason"] == "ReplicaMissing", (), || degraded.to_string()))
        })
        .await?;
        store.wait_redundant(READY_LIMIT).await?;
        load.wait_writes(WRITES, RESUME_LIMIT).await?;
        undeposed(&store, load, &before, "node of the primary said to be lost").await
    })
    .await
    .expect("a primary that is believed");
}

/// The load goes on for so long, and something is written at its end.
async fn write_for(load: &Load, long: Duration) -> Result<()> {
    let start = Instant::now();
    loop {
        load.wait_writes(20, RESUME_LIMIT).await?;
        if start.elapsed() >= long {
            return Ok(());
        }
    }
}

async fn watch_errors(store: &Store) -> Result<f64> {
    let mut errors = 0.0;
    for pod in store.pods().await? {
        let page = store.metrics(&pod).await?;
        errors += store::metric(&page, "blobstore_sidecar_shard_record_watch_errors_total", &[])
            .ok_or_else(|| Error::Wrong("no counter of watches that broke".to_owned()))?;
    }
    Ok(errors)
}

#[tokio::test(flavor = "multi_thread")]
async fn api_server_away_changes_nothing_while_the_pods_live() {
    namespace::with_operator_alone("away", |scope| async move {
        let seconds = std::env::var(API_AWAY).ok().and_then(|value| value.parse().ok());
        let away = Duration::from_secs(seconds.unwrap_or(API_AWAY_DEFAULT));
        let store = ready(&scope, "away", &store::spec(1, 1)).await?;
        let (before, pods) = (shard(&store).await?, store.pods().await?);
        let load = Load::of(&store, plan("away")).await?;
        load.wait_writes(WRITES, RESUME_LIMIT).await?;
        fault::without_api_server(&scope.cluster, write_for(&load, away)).await?;
        load.wait_writes(WRITES, RESUME_LIMIT).await?;
        store.wait_redundant(READY_LIMIT).await?;
        // The API server remembers nothing older than its start, and the record was last written before.
        write_for(&load, WATCHED_AGAIN).await?;
        let errors = watch_errors(&store).await?;
        write_for(&load, WATCHED_AGAIN).await?;
        assert_eq!(watch_errors(&store).await?, errors, "the records are watched again");
        undeposed(&store, load, &before, &format!("API server away for {} s", away.as_secs())).await?;
        for (old, new) in pods.iter().zip(store.pods().await?) {
            assert_eq!(old.uid(), new.uid());
            assert_eq!(restarts(old, "engine"), restarts(&new, "engine"));
            // Controllers that lived on may call the pods of a node unready until its kubelet has reported again.
            wait_pod(&store, &new.name_any(), "is ready", client::is_pod_ready).await?;
        }
        Ok(())
    })
    .await
    .expect("a data path that needs no API server");
}
