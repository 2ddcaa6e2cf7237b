//! What a cluster needs before anyone can use it: names of Services, a storage class; and the wait until
//! all nodes and names are there.

use std::time::Duration;

use ::kube::{Api, Client, ResourceExt, api::ListParams};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, ServiceAccount},
};

use crate::{
    client,
    error::{Error, Result},
    wait::{self, Seen},
};

const YAML: &str = include_str!("../cluster/addons.yaml");
/// Ready in 8 s on an idle machine; the rest is for neighbours that compile.
const READY_LIMIT: Duration = Duration::from_secs(180);

pub async fn apply(client: &Client) -> Result<()> {
    client::apply(client, None, YAML).await
}

pub async fn wait_nodes(client: &Client, count: usize) -> Result<()> {
    wait::until(format!("{count} nodes are ready"), READY_LIMIT, || async move {
        let ready = ready_nodes(client).await?;
        Ok(Seen::when(ready.len() >= count, (), || format!("ready: {}", ready.join(", "))))
    })
    .await
}

pub async fn ready_nodes(client: &Client) -> Result<Vec<String>> {
    let nodes: Api<Node> = Api::all(client.clone());
    let all = nodes.list(&ListParams::default()).await.map_err(Error::kube("list nodes"))?;
    Ok(all.iter().filter(|node| is_ready(node)).map(ResourceExt::name_any).collect())
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

/// All replicas: one alone would take the names away with its node.
pub async fn wait_names(client: &Client) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "kube-system");
    wait::until("CoreDNS is ready", READY_LIMIT, || {
        let deployments = deployments.clone();
        async move {
            let deployment = deployments.get("coredns").await.map_err(Error::kube("get coredns"))?;
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
            let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas);
            Ok(Seen::when(ready.is_some() && ready == wanted, (), || format!("{ready:?} of {wanted:?}")))
        }
    })
    .await?;
    wait_default_account(client).await
}

/// Pods of a namespace are refused until its account exists.
async fn wait_default_account(client: &Client) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    wait::until("the default service account exists", READY_LIMIT, || {
        let accounts = accounts.clone();
        async move {
            let found = accounts.get_opt("default").await.map_err(Error::kube("get service account"))?;
            Ok(Seen::when(found.is_some(), (), || "not yet".to_owned()))
        }
    })
    .await
}
