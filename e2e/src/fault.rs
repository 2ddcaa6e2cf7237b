//! What can go wrong, done on purpose: pods deleted, processes killed, addresses cut off, a node without
//! power, the API server away. What is taken away is given back whatever the work in between does.

use std::{future::Future, panic::AssertUnwindSafe, time::Duration};

use ::kube::api::{Api, DeleteParams, Patch, PatchParams};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    addons, cgroup, client,
    cluster::Cluster,
    controlplane,
    error::{Error, Result},
    namespace::Scope,
    net, node, process,
    process::Id,
    wait::{self, Seen},
};

/// A killed process ends at once, when the machine comes to it.
const KILL_LIMIT: Duration = Duration::from_secs(60);

/// Deletes a pod without a grace period: gone from the API at once, its processes killed.
pub async fn delete_pod_now(scope: &Scope, pod: &str) -> Result<()> {
    client::delete(&scope.pods(), pod, &DeleteParams::default().grace_period(0)).await
}

/// As `delete_pod_now`, until another pod has its name.
pub async fn replace_pod_now(scope: &Scope, pod: &str, limit: Duration) -> Result<()> {
    let pods = scope.pods();
    let before = pods.get(pod).await.map_err(Error::kube(format!("get pod {pod}")))?.metadata.uid;
    delete_pod_now(scope, pod).await?;
    wait::until(format!("{pod} is another pod"), limit, || async {
        let now = pods.get_opt(pod).await.map_err(Error::kube(format!("get pod {pod}")))?;
        let is_new = now.is_some_and(|now| now.metadata.uid != before);
        Ok(Seen::when(is_new, (), || "not yet".to_owned()))
    })
    .await
}

/// The processes of one container, found by the cgroup that carries its id.
pub async fn processes(scope: &Scope, pod: &str, container: &str) -> Result<Vec<Id>> {
    scope.cluster.machine()?;
    let pod = scope.pods().get(pod).await.map_err(Error::kube(format!("get pod {pod}")))?;
    let (node, id) = place_of(&pod, container)?;
    Ok(cgroup::processes_of_container(node, &id))
}

fn place_of(pod: &Pod, container: &str) -> Result<(u8, String)> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    let id = statuses(pod)
        .find(|status| status.name == container)
        .and_then(|status| status.container_id.as_deref())
        .and_then(|id| id.strip_prefix("containerd://"))
        .ok_or_else(|| Error::Wrong(format!("{name} runs no container {container}")))?;
    Ok((node::number(node)?, id.to_owned()))
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| {
        status.container_statuses.iter().chain(status.init_container_statuses.iter()).flatten()
    })
}

/// Sends a signal to every process of that program in a container; at least one must be there.
pub async fn signal(scope: &Scope, pod: &str, container: &str, program: &str, signal: Signal) -> Result<()> {
    let all = processes(scope, pod, container).await?;
    let chosen: Vec<Id> = all.into_iter().filter(|id| process::program_of(*id) == program).collect();
    if chosen.is_empty() {
        return Err(Error::Wrong(format!("no {program} in {pod}/{container}")));
    }
    for id in &chosen {
        id.signal(signal);
    }
    if signal != Signal::SIGKILL {
        return Ok(());
    }
    wait::until(format!("{program} of {pod} has ended"), KILL_LIMIT, || async {
        Ok(Seen::when(chosen.iter().all(|id| !id.is_alive()), (), || "it runs".to_owned()))
    })
    .await
}

/// The API server is away while the work runs.
pub async fn without_api_server<T>(cluster: &Cluster, work: impl Future<Output = Result<T>>) -> Result<T> {
    let paths = cluster.machine()?;
    controlplane::stop_api_server(paths).await?;
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    controlplane::start_api_server(paths).await?;
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The node has no power while the work runs; afterwards it boots and is waited for.
pub async fn without_node<T>(
    cluster: &Cluster,
    name: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let paths = cluster.machine()?;
    let number = node::number(name)?;
    node::lose(paths, number).await?;
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    node::bring_back(paths, number).await?;
    addons::wait_nodes(&cluster.client().await?, usize::from(node::NODES)).await?;
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The API says of a node and of a pod on it what the controllers say when the kubelet is silent, as of all of them
/// after an absence of the API server. The kubelet puts it right within its ten seconds.
pub async fn call_node_lost(scope: &Scope, node: &str, pod: &str) -> Result<()> {
    scope.cluster.machine()?;
    let lost = json!({
        "type": "Ready",
        "status": "Unknown",
        "reason": "NodeStatusUnknown",
        "message": "Kubelet stopped posting node status.",
    });
    let unready = json!({ "type": "Ready", "status": "False" });
    let says = |condition| Patch::Strategic(json!({ "status": { "conditions": [condition] } }));
    let (nodes, parameters) = (Api::<Node>::all(scope.cluster.client().await?), PatchParams::default());
    let called = nodes.patch_status(node, &parameters, &says(lost)).await;
    called.map_err(Error::kube(format!("call {node} lost")))?;
    let called = scope.pods().patch_status(pod, &parameters, &says(unready)).await;
    called.map(drop).map_err(Error::kube(format!("call {pod} unready")))
}

/// From whom an address is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// From all other pods; the API server still answers.
    Pods,
    /// From everything but its own node's kubelet.
    All,
}

/// No packet passes between a pod and the others while the work runs.
pub async fn without_network<T>(
    cluster: &Cluster,
    address: &str,
    cut: Cut,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    cluster.machine()?;
    rules(address, cut, "--insert").await?;
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    rules(address, cut, "--delete").await?;
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Pods of one node are routed by the host as well, so one chain sees all that passes between pods.
async fn rules(address: &str, cut: Cut, action: &str) -> Result<()> {
    let drop = ["-m", "comment", "--comment", net::RULE_COMMENT, "-j", "DROP"];
    let mut matches =
        vec![["FORWARD", "-s", address, "-d", net::PODS], ["FORWARD", "-d", address, "-s", net::PODS]];
    let host = format!("{}/32", net::host());
    if cut == Cut::All {
        // The API server is a process of the host: its packets do not pass FORWARD.
        matches.push(["INPUT", "-s", address, "-d", &host]);
    }
    for one in matches {
        process::run("iptables", &[&["--wait", action], one.as_slice(), &drop].concat()).await?;
    }
    Ok(())
}
