//! What Prometheus scrapes: the distribution's build cannot list pods itself, so the agent writes the list
//! it would find, with the labels that the chart's PodMonitor and ServiceMonitor give.

use std::path::PathBuf;

use ::kube::{
    Api, Client, ResourceExt,
    api::ListParams,
    runtime::{WatchStreamExt, watcher},
};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use crate::{
    error::{Error, Result},
    paths::{self, Paths},
};

/// The ports that serve metrics, by name: the sidecar's and the operator's.
const PORTS: &[(&str, &str)] = &[("admin", "blobstore-sidecar"), ("metrics", "blobstore-operator")];

pub fn file(paths: &Paths) -> PathBuf {
    paths.state.join("monitoring/targets.json")
}

/// Writes the list again whenever a pod comes, changes or goes.
pub async fn serve(paths: &Paths, client: Client) -> Result<()> {
    let pods: Api<Pod> = Api::all(client);
    let mut changes = watcher(pods.clone(), watcher::Config::default()).default_backoff().boxed();
    while let Some(change) = changes.next().await {
        if let Err(error) = change {
            tracing::warn!(%error, "the watch of pods starts again");
            continue;
        }
        if let Err(error) = write(paths, &pods).await {
            tracing::warn!(error = error.chain(), "the list of targets waits for the next change");
        }
    }
    Ok(())
}

async fn write(paths: &Paths, pods: &Api<Pod>) -> Result<()> {
    let all = pods.list(&ListParams::default()).await.map_err(Error::kube("list pods"))?;
    let targets: Vec<Value> = all.iter().flat_map(targets).collect();
    // Moved in place: Prometheus reads the file whenever it changes, and half a list is an error.
    let file = file(paths);
    let next = file.with_extension("next");
    paths::write(&next, Value::from(targets).to_string())?;
    std::fs::rename(&next, &file).map_err(Error::io("replace", &file))
}

fn targets(pod: &Pod) -> Vec<Value> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    let (Some(spec), Some(address)) = (pod.spec.as_ref(), address) else { return Vec::new() };
    let ours = pod
        .labels()
        .iter()
        .any(|(name, value)| name.starts_with("app.kubernetes.io/") && value.starts_with("blobstore"));
    if !ours {
        return Vec::new();
    }
    let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers
        .flat_map(metric_ports)
        .map(|(port, job)| {
            json!({
                "targets": [format!("{address}:{port}")],
                "labels": {
                    "job": job, "namespace": pod.namespace(), "pod": pod.name_any(),
                    "store": label("app.kubernetes.io/instance"), "shard": label("cachehygiene.io/shard"),
                },
            })
        })
        .collect()
}

fn metric_ports(container: &Container) -> Vec<(i32, &'static str)> {
    let ports = container.ports.iter().flatten();
    ports
        .filter_map(|port| {
            let name = port.name.as_deref()?;
            PORTS.iter().find(|(known, _)| *known == name).map(|(_, job)| (port.container_port, *job))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sidecar_among_the_init_containers_is_a_target() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "s-0-0", "namespace": "n", "labels": {
                "app.kubernetes.io/managed-by": "blobstore-operator",
                "app.kubernetes.io/instance": "s", "cachehygiene.io/shard": "0",
            }},
            "spec": {
                "containers": [{ "name": "engine", "ports": [{ "name": "redis", "containerPort": 6379 }] }],
                "initContainers": [{ "name": "sidecar", "ports": [{ "name": "admin", "containerPort": 9001 }] }],
            },
            "status": { "podIP": "198.18.1.7" },
        }))
        .expect("a pod");
        let want = json!([{ "targets": ["198.18.1.7:9001"], "labels": {
            "job": "blobstore-sidecar", "namespace": "n", "pod": "s-0-0", "store": "s", "shard": "0",
        }}]);
        assert_eq!(Value::from(targets(&pod)), want);
    }

    #[test]
    fn foreign_pod_is_left_alone() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "other", "labels": { "app.kubernetes.io/name": "web" } },
            "spec": { "containers": [{ "name": "web", "ports": [{ "name": "metrics", "containerPort": 1 }] }] },
            "status": { "podIP": "198.18.1.8" },
        }))
        .expect("a pod");
        assert!(targets(&pod).is_empty());
    }
}
