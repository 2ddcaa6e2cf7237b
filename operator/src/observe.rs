//! All reads of a pass, once, concurrent and bounded. Nothing is written and nothing is decided here; what could
//! not be read is `Unknown` or fails the pass, never `Absent`.

mod contents;
mod live;
mod sidecars;

pub use live::{Child, Key, Live, key};
pub use sidecars::sidecar;

use std::collections::{BTreeMap, BTreeSet};

use blobstore_operator_api::{BlobStore, names};
use blobstore_operator_core::observed::{Failure, Observed, PodSeen, Seen, read};
use blobstore_operator_core::secrets::{self, SecretSeen};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, Secret};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::shared::{ApiError, Shared, ask};

/// Nodes asked about at once; only those under pods that are not ready are.
const NODES_CONCURRENT_MAX: usize = 8;

/// Users, certificate, one for each of at most 50 origins: seven round trips at the most.
const SECRETS_CONCURRENT_MAX: usize = 8;

/// What the pass could not do without. The rest becomes `Observed::failures`.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error("list {kind}")]
    List { kind: &'static str, source: ApiError },
}

/// One look at a store.
#[derive(Debug, Default)]
pub struct Look {
    pub observed: Observed,
    /// The children as the API server has them.
    pub live: Live,
    /// Everything could be read: only then may children be applied or pruned.
    pub complete: bool,
}

struct Reader<'a> {
    client: &'a Client,
    namespace: String,
    store: String,
}

/// Reads everything about `store`.
pub async fn observe(shared: &Shared, store: &BlobStore) -> Result<Look, ObserveError> {
    let reader = Reader::new(shared, store);
    let secret = names::auth_secret(&reader.store);
    let (pods, sets, leases, claims, auth, named, children) = futures::join!(
        reader.list::<Pod>("Pod"),
        reader.list::<StatefulSet>("StatefulSet"),
        reader.list::<Lease>("Lease"),
        reader.list::<PersistentVolumeClaim>("PersistentVolumeClaim"),
        reader.secret(&secret),
        reader.named_secrets(store),
        reader.children(),
    );
    let (pods, sets, leases) = (pods?, sets?, leases?);
    let mut look = Look { live: Live::default(), complete: true, observed: Observed::default() };
    look.keep_children(children);
    look.keep(claims, |seen, claims| {
        let sized = claims.iter().filter_map(|claim| Some((claim.name_any(), read::claim_size(claim)?)));
        seen.claims = sized.collect();
    });
    look.keep(auth, |seen, auth| seen.auth = auth);
    look.keep(named, |seen, named| seen.secrets = named);
    look.observed.sets = sets.iter().filter_map(read::set).collect();
    look.observed.records =
        leases.iter().filter_map(|lease| Some((shard_of(lease)?, read::record(lease)))).collect();
    look.live.extend(&sets);
    look.live.extend(&leases);
    let pods = pods.iter().filter_map(|pod| read::pod(&reader.store, pod)).collect();
    look.observed.pods = sidecars::ask_all(pods, &look.observed.auth).await;
    shared.words.hear(&mut look.observed.pods, Timestamp::now());
    reader.look_at_nodes(&mut look.observed).await;
    look.observed.failures.extend(crd_failure(shared));
    Ok(look)
}

/// What was read before, with the sidecars asked anew: their word, and that of a node under a pod that is silent or
/// not ready, never rests on memory. Nor do the user's own Secrets, of which no watch tells.
pub async fn observe_again(shared: &Shared, store: &BlobStore, kept: &Observed) -> Observed {
    let mut observed = kept.clone();
    let reader = Reader::new(shared, store);
    observed.pods = sidecars::ask_all(observed.pods, &observed.auth).await;
    shared.words.hear(&mut observed.pods, Timestamp::now());
    reader.look_at_nodes(&mut observed).await;
    match reader.named_secrets(store).await {
        Ok(named) => observed.secrets = named,
        Err(error) => {
            tracing::warn!(error = %crate::error::chain(&error), "read the Secrets that a store names")
        }
    }
    observed.failures.extend(crd_failure(shared));
    observed
}

fn crd_failure(shared: &Shared) -> Option<Failure> {
    shared.crd_problem().map(|message| Failure { forbidden: false, message })
}

fn shard_of(lease: &Lease) -> Option<u32> {
    lease.metadata.labels.as_ref()?.get(names::LABEL_SHARD)?.parse().ok()
}

impl Look {
    fn keep<T>(&mut self, read: Result<T, ObserveError>, fill: impl FnOnce(&mut Observed, T)) {
        match read {
            Ok(value) => fill(&mut self.observed, value),
            Err(error) => self.failed(&error),
        }
    }

    fn keep_children(&mut self, children: Vec<Result<Live, ObserveError>>) {
        for child in children {
            match child {
                Ok(live) => self.live.append(live),
                Err(error) => self.failed(&error),
            }
        }
    }

    fn failed(&mut self, error: &ObserveError) {
        let ObserveError::List { source, .. } = error;
        let forbidden = source.category() == "forbidden";
        self.complete = false;
        self.observed.failures.push(Failure { forbidden, message: crate::error::chain(error) });
    }
}

impl<'a> Reader<'a> {
    fn new(shared: &'a Shared, store: &BlobStore) -> Self {
        let namespace = store.namespace().unwrap_or_default();
        Self { client: &shared.client, namespace, store: store.name_any() }
    }

    async fn list<K>(&self, kind: &'static str) -> Result<Vec<K>, ObserveError>
    where
        K: live::Child,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        // One store's children: bounded by its shards and members, so no pages are needed.
        let params = ListParams::default().labels(&names::store_selector(&self.store));
        let list = ask(api.list(&params)).await.map_err(|source| ObserveError::List { kind, source })?;
        Ok(list.items)
    }

    async fn children(&self) -> Vec<Result<Live, ObserveError>> {
        use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
        use k8s_openapi::api::networking::v1::NetworkPolicy;
        use k8s_openapi::api::policy::v1::PodDisruptionBudget;
        use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
        let (accounts, roles, bindings, maps, services, policies, budgets) = futures::join!(
            self.live::<ServiceAccount>("ServiceAccount"),
            self.live::<Role>("Role"),
            self.live::<RoleBinding>("RoleBinding"),
            self.live::<ConfigMap>("ConfigMap"),
            self.live::<Service>("Service"),
            self.live::<NetworkPolicy>("NetworkPolicy"),
            self.live::<PodDisruptionBudget>("PodDisruptionBudget"),
        );
        vec![accounts, roles, bindings, maps, services, policies, budgets]
    }

    async fn live<K: live::Child>(&self, kind: &'static str) -> Result<Live, ObserveError> {
        let mut live = Live::default();
        live.extend(&self.list::<K>(kind).await?);
        Ok(live)
    }

    async fn secret(&self, name: &str) -> Result<Seen<SecretData>, ObserveError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = ask(api.get_opt(name)).await;
        let found = found.map_err(|source| ObserveError::List { kind: "Secret", source })?;
        Ok(found.map_or(Seen::Absent, |secret| {
            let data = secret.data.unwrap_or_default();
            Seen::Present(data.into_iter().map(|(key, value)| (key, value.0)).collect())
        }))
    }

    /// By field. A Secret that two fields name is read twice: nobody has many.
    async fn named_secrets(&self, store: &BlobStore) -> Result<NamedSecrets, ObserveError> {
        let reads = secrets::named(&store.spec).into_iter().map(|named| async move {
            let seen = match self.secret(&named.name).await? {
                Seen::Present(data) => Seen::Present(contents::judge(named.purpose, &data)),
                Seen::Absent => Seen::Absent,
                Seen::Unknown => Seen::Unknown,
            };
            Ok((named.field, seen))
        });
        futures::stream::iter(reads).buffer_unordered(SECRETS_CONCURRENT_MAX).try_collect().await
    }

    /// Asks only about nodes under pods that are not ready or do not answer. A node that could not be read counts
    /// as there: to call it lost would allow what is only allowed without it.
    async fn look_at_nodes(&self, observed: &mut Observed) {
        let looks = self.doubtful_nodes(&observed.pods).await;
        observed.nodes_out = named(&looks, |look| matches!(look, NodeLook::Gone | NodeLook::Out));
        observed.nodes_lost = named(&looks, |look| !matches!(look, NodeLook::There));
    }

    async fn doubtful_nodes(&self, pods: &[PodSeen]) -> Vec<(String, NodeLook)> {
        let api: Api<Node> = Api::all(self.client.clone());
        let doubtful: BTreeSet<String> = pods
            .iter()
            .filter(|pod| !pod.ready || pod.topology.is_unknown())
            .filter_map(|pod| pod.node.clone())
            .collect();
        let looks = futures::stream::iter(doubtful).map(|name| {
            let api = api.clone();
            async move {
                let look = match ask(api.get_opt(&name)).await {
                    Ok(Some(node)) => NodeLook::of(&node),
                    Ok(None) => NodeLook::Gone,
                    Err(error) => {
                        tracing::warn!(error = %crate::error::chain(&error), node = name, "read a node");
                        NodeLook::There
                    }
                };
                (name, look)
            }
        });
        looks.buffer_unordered(NODES_CONCURRENT_MAX).collect().await
    }
}

/// What a node under a doubtful pod is like.
#[derive(Clone, Copy, Debug)]
enum NodeLook {
    There,
    /// It does not report.
    Lost,
    /// It does not report, and somebody vouches that it is off.
    Out,
    Gone,
}

impl NodeLook {
    fn of(node: &Node) -> Self {
        match (read::node_lost(node), read::node_out(node)) {
            (false, _) => Self::There,
            (true, false) => Self::Lost,
            (true, true) => Self::Out,
        }
    }
}

fn named(looks: &[(String, NodeLook)], wanted: impl Fn(NodeLook) -> bool) -> BTreeSet<String> {
    looks.iter().filter(|(_, look)| wanted(*look)).map(|(name, _)| name.clone()).collect()
}

type SecretData = BTreeMap<String, Vec<u8>>;
/// By the field of the resource.
type NamedSecrets = BTreeMap<String, Seen<SecretSeen>>;
