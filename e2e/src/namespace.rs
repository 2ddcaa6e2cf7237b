//! A namespace per test, with a random suffix: removed when the test passed, dumped when it failed.

use std::{future::Future, sync::Arc, time::Duration};

use ::kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PostParams},
};
use k8s_openapi::api::core::v1::{Namespace as Resource, Pod, ServiceAccount};
use serde_json::json;
use tokio::{sync::RwLock, task::JoinSet};

use crate::{
    client, cluster,
    cluster::{Cluster, Kind},
    diagnose,
    error::{Error, Result},
    helm, progress,
    tunnel::Tunnels,
    wait::{self, Seen},
};

/// Pods end within their grace periods; the namespace controller takes a few seconds on top.
const REMOVE_LIMIT: Duration = Duration::from_secs(180);
const ACCOUNT_LIMIT: Duration = Duration::from_secs(60);
/// Keeps the namespace of a passed test as well, for a look by hand.
const KEEP: &str = "KEEP_NAMESPACE";

/// What a test gets: its cluster, its own connections, its own namespace.
#[derive(Clone)]
pub struct Scope {
    pub cluster: Arc<Cluster>,
    pub client: Client,
    pub namespace: String,
    pub tunnels: Arc<Tunnels>,
}

impl std::fmt::Debug for Scope {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Scope({})", self.namespace)
    }
}

impl Scope {
    pub fn api<K>(&self) -> Api<K>
    where
        K: ::kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn pods(&self) -> Api<Pod> {
        self.api()
    }

    /// Where a client of this process reaches a port of a pod: its own address where we are on its network, else a
    /// tunnel. `None`: the pod has no address yet.
    pub async fn reach(&self, pod: &Pod, port: u16) -> Result<Option<String>> {
        let Some(address) = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()) else {
            return Ok(None);
        };
        match self.cluster.kind {
            Kind::Machine => Ok(Some(format!("http://{address}:{port}"))),
            Kind::Context(_) => {
                let pods = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
                self.tunnels.to(&pods, pod, port).await.map(|local| Some(format!("http://{local}")))
            }
        }
    }

    pub async fn apply(&self, yaml: &str) -> Result<()> {
        client::apply(&self.client, Some(&self.namespace), yaml).await
    }
}

/// Tests share the cluster; one that stops a node or the API server has it alone.
static CLUSTER_IN_USE: RwLock<()> = RwLock::const_new(());

/// Runs a test in a namespace of its own, side by side with others. A panic or error of the test dumps the namespace and fails with
/// the same words; what the test left is removed only when it passed.
pub async fn with<F, Fut>(name: &str, test: F) -> Result<()>
where
    F: FnOnce(Scope) -> Fut,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let _shared = CLUSTER_IN_USE.read().await;
    run(name, test).await
}

/// As `with`, while no other test of this program runs: for faults that all would feel.
pub async fn with_cluster_alone<F, Fut>(name: &str, test: F) -> Result<()>
where
    F: FnOnce(Scope) -> Fut,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let _alone = CLUSTER_IN_USE.write().await;
    run(name, test).await
}

/// As `with`, with the operator at work.
pub async fn with_operator<F, Fut>(name: &str, test: F) -> Result<()>
where
    F: FnOnce(Scope) -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    with(name, |scope| operated(scope, test)).await
}

/// As `with_cluster_alone`, with the operator at work.
pub async fn with_operator_alone<F, Fut>(name: &str, test: F) -> Result<()>
where
    F: FnOnce(Scope) -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    with_cluster_alone(name, |scope| operated(scope, test)).await
}

async fn operated<F, Fut>(scope: Scope, test: F) -> Result<()>
where
    F: FnOnce(Scope) -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    helm::installed(&scope.cluster).await?;
    test(scope).await
}

async fn run<F, Fut>(name: &str, test: F) -> Result<()>
where
    F: FnOnce(Scope) -> Fut,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let cluster = Arc::new(cluster::attach().await?);
    let client = cluster.client().await?;
    let namespace = format!("{name}-{:06x}", rand::random::<u32>() & 0x00ff_ffff);
    create(&client, &namespace).await?;
    let scope =
        Scope { cluster, client: client.clone(), namespace: namespace.clone(), tunnels: Arc::default() };
    let outcome = caught(test(scope)).await;
    match outcome {
        Ok(()) if std::env::var_os(KEEP).is_none() => remove(&client, &namespace).await,
        Ok(()) => Ok(()),
        Err(error) => {
            progress::say(&diagnose::dump(&client, &namespace).await);
            progress::say(&format!("namespace {namespace} is kept for a look"));
            Err(error)
        }
    }
}

/// The test as a task of its own: its panic must not skip the dump.
async fn caught(test: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(test);
    match tasks.join_next().await {
        Some(Ok(outcome)) => outcome,
        Some(Err(panic)) => Err(Error::other("the test panicked")(panic)),
        None => Err(Error::Wrong("the test never ran".to_owned())),
    }
}

async fn create(client: &Client, name: &str) -> Result<()> {
    let labels = json!({ "metadata": { "name": name, "labels": { "blobstore-e2e": "test" } } });
    let resource: Resource = serde_json::from_value(labels).map_err(Error::other("describe a namespace"))?;
    let namespaces: Api<Resource> = Api::all(client.clone());
    namespaces
        .create(&PostParams::default(), &resource)
        .await
        .map_err(Error::kube(format!("create namespace {name}")))?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
    wait::until(format!("{name} has its default account"), ACCOUNT_LIMIT, || async {
        let found = accounts.get_opt("default").await.map_err(Error::kube("get the account"))?;
        Ok(Seen::when(found.is_some(), (), || "not yet".to_owned()))
    })
    .await
}

async fn remove(client: &Client, name: &str) -> Result<()> {
    let namespaces: Api<Resource> = Api::all(client.clone());
    client::delete(&namespaces, name, &DeleteParams::default()).await?;
    wait::until(format!("namespace {name} is gone"), REMOVE_LIMIT, || async {
        let left = namespaces.get_opt(name).await.map_err(Error::kube("get the namespace"))?;
        Ok(Seen::when(left.is_none(), (), || serde_json::to_string(&left).unwrap_or_default()))
    })
    .await
}
