//! The harness's own faults do what they say, and all of it is undone afterwards: what the store's
//! failover tests stand on. Each test has the cluster alone.

use std::time::Duration;

use ::kube::ResourceExt;
use blobstore_e2e::{
    client,
    error::{Error, Result},
    fault::{self, Cut},
    namespace::{self, Scope},
    wait::{self, Seen},
};
use k8s_openapi::api::core::v1::Pod;
use nix::sys::signal::Signal;

const READY_LIMIT: Duration = Duration::from_secs(120);

/// Two engines on two nodes; no volume, so a restart shows.
const ENGINES: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: engine}
spec:
  serviceName: engine
  podManagementPolicy: Parallel
  replicas: 2
  selector: {matchLabels: {app: engine}}
  template:
    metadata: {labels: {app: engine}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: DoNotSchedule
          labelSelector: {matchLabels: {app: engine}}
      containers:
        - name: engine
          image: localhost/redis:e2e
          args: [--save, "", --protected-mode, "no"]
          readinessProbe: {exec: {command: [redis-cli, ping]}, periodSeconds: 3, timeoutSeconds: 10}
"#;

async fn ready(scope: &Scope, pod: &str) -> Result<Pod> {
    wait::until(format!("{pod} is ready"), READY_LIMIT, || async {
        let found = scope.pods().get(pod).await.map_err(Error::kube(format!("get {pod}")))?;
        Ok(Seen::when(client::is_pod_ready(&found), found, || "not yet".to_owned()))
    })
    .await
}

async fn engine(scope: &Scope, pod: &str, arguments: &[&str]) -> Result<String> {
    let command = [&["redis-cli", "-e"], arguments].concat();
    let answer = client::exec(&scope.pods(), pod, "engine", &command).await?;
    Ok(answer.trim().to_owned())
}

/// Sends a key from one engine to the other's address: the engine's own client gives up after a second.
async fn send(scope: &Scope, from: &str, to: &str) -> Result<String> {
    engine(scope, from, &["set", "key", "value"]).await?;
    engine(scope, from, &["migrate", to, "6379", "key", "0", "1000", "copy", "replace"]).await
}

/// The key arrives: on a busy machine a second may be too short for one try. Only where nothing may arrive does one
/// try tell all.
async fn arrives(scope: &Scope, from: &str, to: &str) -> Result<()> {
    wait::until(format!("{from} sends to {to}"), READY_LIMIT, || async {
        let answer = send(scope, from, to).await?;
        Ok(Seen::when(answer == "OK", (), || answer))
    })
    .await
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).sum()
}

fn address(pod: &Pod) -> String {
    pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_process_restarts_in_its_pod() {
    namespace::with_cluster_alone("kill", |scope| async move {
        scope.apply(ENGINES).await?;
        let before = ready(&scope, "engine-0").await?;
        fault::signal(&scope, "engine-0", "engine", "redis-server", Signal::SIGKILL).await?;
        wait::until("the container was restarted", READY_LIMIT, || async {
            let pod = scope.pods().get("engine-0").await.map_err(Error::kube("get engine-0"))?;
            Ok(Seen::when(restarts(&pod) == 1 && client::is_pod_ready(&pod), (), || "not yet".to_owned()))
        })
        .await?;
        let after = ready(&scope, "engine-0").await?;
        assert_eq!(before.uid(), after.uid(), "the pod is the same");
        let absent = fault::signal(&scope, "engine-0", "engine", "nginx", Signal::SIGKILL).await;
        assert!(absent.is_err(), "a program that does not run cannot be killed");
        Ok(())
    })
    .await
    .expect("a killed process");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_live_on_while_the_api_server_is_away() {
    namespace::with_cluster_alone("api", |scope| async move {
        scope.apply(ENGINES).await?;
        let pod = ready(&scope, "engine-0").await?;
        let pods = fault::processes(&scope, "engine-0", "engine").await?;
        assert!(!pods.is_empty(), "the engine runs");
        fault::without_api_server(&scope.cluster, async {
            let away = client::get_raw(&scope.client, "/readyz").await;
            assert!(away.is_err(), "nobody answers");
            assert!(pods.iter().all(|id| id.is_alive()), "the engine lives on");
            Ok(())
        })
        .await?;
        assert_eq!(restarts(&ready(&scope, "engine-0").await?), restarts(&pod), "nothing was restarted");
        Ok(())
    })
    .await
    .expect("an API server that comes back");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_node_takes_its_pods_and_brings_them_back() {
    namespace::with_cluster_alone("node", |scope| async move {
        scope.apply(ENGINES).await?;
        let (lost, other) = (ready(&scope, "engine-0").await?, ready(&scope, "engine-1").await?);
        let node = lost.spec.as_ref().and_then(|spec| spec.node_name.clone()).expect("a node");
        let dead = fault::processes(&scope, "engine-0", "engine").await?;
        let alive = fault::processes(&scope, "engine-1", "engine").await?;
        fault::without_node(&scope.cluster, &node, async {
            assert!(dead.iter().all(|id| !id.is_alive()), "no process of the node is left");
            assert!(alive.iter().all(|id| id.is_alive()), "other nodes feel nothing");
            let pong = engine(&scope, "engine-1", &["-h", &address(&other), "ping"]).await?;
            assert_eq!(pong, "PONG");
            let silent = send(&scope, "engine-1", &address(&lost)).await;
            assert!(silent.is_err(), "the lost pod does not answer: {silent:?}");
            Ok(())
        })
        .await?;
        wait::until("engine-0 runs again", READY_LIMIT, || async {
            let pod = scope.pods().get("engine-0").await.map_err(Error::kube("get engine-0"))?;
            let back = client::is_pod_ready(&pod) && (restarts(&pod) > 0 || pod.uid() != lost.uid());
            Ok(Seen::when(back, (), || format!("{:?}", pod.status)))
        })
        .await
    })
    .await
    .expect("a node that comes back");
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_pod_is_reached_by_nobody_until_it_is_joined_again() {
    namespace::with_cluster_alone("cut", |scope| async move {
        scope.apply(ENGINES).await?;
        let cut = address(&ready(&scope, "engine-0").await?);
        ready(&scope, "engine-1").await?;
        arrives(&scope, "engine-1", &cut).await?;
        fault::without_network(&scope.cluster, &cut, Cut::Pods, async {
            assert!(send(&scope, "engine-1", &cut).await.is_err(), "no packet passes");
            assert_eq!(engine(&scope, "engine-0", &["ping"]).await?, "PONG", "the pod itself lives");
            Ok(())
        })
        .await?;
        // Joined again.
        arrives(&scope, "engine-1", &cut).await
    })
    .await
    .expect("a pod that is cut off");
}
