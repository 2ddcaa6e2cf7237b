//! The Kubernetes client: from a kubeconfig that is always named, never from the environment. Applying,
//! looking, running commands in pods and reading their logs.

use std::{path::Path, time::Duration};

use ::kube::{
    Api, Client, Config, ResourceExt,
    api::{
        ApiResource, AttachParams, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams,
    },
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde::Deserialize;
use tokio::io::AsyncReadExt;

use crate::error::{Error, Result};

/// The harness's field manager: what it applied, it may change again.
const MANAGER: &str = "blobstore-e2e";
/// Anything but a watch answers within this, or the API server is as good as away.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// Kinds that live outside namespaces, among those that the harness and its tests apply.
const CLUSTER_KINDS: &[&str] = &[
    "Namespace",
    "Node",
    "ClusterRole",
    "ClusterRoleBinding",
    "StorageClass",
    "PersistentVolume",
    "PriorityClass",
    "CustomResourceDefinition",
];

pub async fn from_kubeconfig(file: &Path) -> Result<Client> {
    let wrong = || format!("use the kubeconfig {}", file.display());
    let kubeconfig = Kubeconfig::read_from(file).map_err(Error::other(wrong()))?;
    let options = KubeConfigOptions::default();
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(Error::other(wrong()))?;
    config.connect_timeout = Some(REQUEST_LIMIT);
    config.proxy_url = None;
    Client::try_from(config).map_err(Error::kube(wrong()))
}

/// A path of the API server as text, such as `/readyz` or an aggregated metric.
pub async fn get_raw(client: &Client, path: &str) -> Result<String> {
    let request = http::Request::get(path).body(Vec::new()).map_err(Error::other("build a request"))?;
    client.request_text(request).await.map_err(Error::kube(format!("get {path}")))
}

/// The address of any kind of object by its names.
pub fn api_of(client: &Client, kind: &GroupVersionKind, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(kind);
    match namespace.filter(|_| !CLUSTER_KINDS.contains(&kind.kind.as_str())) {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// The documents of a YAML text.
pub fn parse(yaml: &str) -> Result<Vec<DynamicObject>> {
    serde_yaml_ng::Deserializer::from_str(yaml)
        .map(Option::<DynamicObject>::deserialize)
        .filter_map(|parsed| parsed.map_err(Error::other("parse YAML")).transpose())
        .collect()
}

/// Server-side apply of every document; the namespace is for those that name none.
pub async fn apply(client: &Client, namespace: Option<&str>, yaml: &str) -> Result<()> {
    for object in parse(yaml)? {
        apply_one(client, namespace, &object).await?;
    }
    Ok(())
}

pub async fn apply_one(
    client: &Client,
    namespace: Option<&str>,
    object: &DynamicObject,
) -> Result<DynamicObject> {
    let kind = kind_of(object)?;
    let own = object.namespace();
    let api = api_of(client, &kind, own.as_deref().or(namespace));
    let parameters = PatchParams::apply(MANAGER).force();
    api.patch(&object.name_any(), &parameters, &Patch::Apply(object)).await.map_err(Error::kube(format!(
        "apply {} {}",
        kind.kind,
        object.name_any()
    )))
}

fn kind_of(object: &DynamicObject) -> Result<GroupVersionKind> {
    let types = object
        .types
        .as_ref()
        .ok_or_else(|| Error::Wrong(format!("{} names no apiVersion and kind", object.name_any())))?;
    GroupVersionKind::try_from(types).map_err(Error::other(format!("read apiVersion {}", types.api_version)))
}

/// Deletes one object; fine when it is not there.
pub async fn delete<K>(api: &Api<K>, name: &str, parameters: &DeleteParams) -> Result<()>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    match api.delete(name, parameters).await {
        Ok(_) => Ok(()),
        Err(::kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Error::kube(format!("delete {name}"))(error)),
    }
}

/// Runs a command in a container and returns what it wrote; an exit code other than 0 is an error.
pub async fn exec(pods: &Api<Pod>, pod: &str, container: &str, command: &[&str]) -> Result<String> {
    let doing = || format!("run {} in {pod}/{container}", command.join(" "));
    let parameters = AttachParams::default().container(container).stdin(false).stdout(true).stderr(true);
    let mut process =
        pods.exec(pod, command.iter().copied(), &parameters).await.map_err(Error::kube(doing()))?;
    let (stdout, stderr, status) = (process.stdout(), process.stderr(), process.take_status());
    let (output, errors) = futures::join!(drain(stdout), drain(stderr));
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    let success = status.as_ref().is_some_and(|status| status.status.as_deref() == Some("Success"));
    if success {
        return Ok(output);
    }
    let reason = status.and_then(|status| status.message).unwrap_or_else(|| "no status".to_owned());
    Err(Error::Command { command: doing(), status: reason, output: format!("{output}{errors}") })
}

async fn drain(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut text = Vec::new();
    if let Some(mut stream) = stream {
        // A stream that breaks off shows as a missing status; what came before is worth showing.
        let _read_so_far = stream.read_to_end(&mut text).await.is_ok();
    }
    String::from_utf8_lossy(&text).into_owned()
}

pub async fn logs(pods: &Api<Pod>, pod: &str, container: &str, previous: bool) -> Result<String> {
    let parameters = LogParams { container: Some(container.to_owned()), previous, ..LogParams::default() };
    pods.logs(pod, &parameters).await.map_err(Error::kube(format!("logs of {pod}/{container}")))
}

/// The status of a condition by type, of any object that has them.
pub fn condition<'a>(object: &'a serde_json::Value, name: &str) -> Option<&'a serde_json::Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == name)
}

pub fn is_pod_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_ref())
            .is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

/// What pods may ask of one node, in thousandths of a CPU; the smallest node counts.
pub async fn node_millicpu(client: &Client) -> Result<u64> {
    let nodes: Api<Node> = Api::all(client.clone());
    let all = nodes.list(&ListParams::default()).await.map_err(Error::kube("list nodes"))?;
    let cpu = |node: &Node| {
        let text = node.status.as_ref()?.allocatable.as_ref()?.get("cpu")?.0.clone();
        let (digits, unit) = text.strip_suffix('m').map_or((text.as_str(), 1_000), |digits| (digits, 1));
        Some(digits.parse::<u64>().ok()? * unit)
    };
    let least = all.items.iter().map(|node| cpu(node).unwrap_or_default()).min().unwrap_or_default();
    if least == 0 { Err(Error::Wrong("a node says nothing of its CPUs".to_owned())) } else { Ok(least) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_split_and_empty_ones_left_out() {
        let yaml = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n\n---\n\
                    apiVersion: v1\nkind: Secret\nmetadata: {name: b}\n";
        let objects = parse(yaml).expect("the text is YAML");
        let names: Vec<String> = objects.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn condition_is_found_by_type() {
        let object = serde_json::json!({"status": {"conditions": [
            {"type": "Progressing", "status": "False"}, {"type": "Ready", "status": "True"},
        ]}});
        assert_eq!(condition(&object, "Ready").map(|one| &one["status"]), Some(&"True".into()));
        assert!(condition(&object, "Degraded").is_none());
    }
}
