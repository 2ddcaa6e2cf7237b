//! A store under test: made from a spec, waited for by condition, reached straight at its pods' addresses.

use std::time::{Duration, Instant};

use ::kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    core::GroupVersionKind,
};
use blobstore_operator_api::{BlobStore, names};
use blobstore_sidecar_api::ports;
use http::{HeaderMap, HeaderValue, Method, header::AUTHORIZATION};
use k8s_openapi::api::core::v1::{Pod, Secret};
use serde_json::{Value, json};

use crate::{
    client,
    error::{Error, Result},
    http::{Answer, Contents, Http},
    images,
    namespace::Scope,
    signature::Signer,
    wait::{self, Seen},
};

/// A bucket is one write; a store that just became ready may answer 503 for a moment.
const BUCKET_LIMIT: Duration = Duration::from_secs(30);
/// What the operator makes for a store, and the pods that come of it.
const CHILD_KINDS: &[(&str, &str, &str)] = &[
    ("", "v1", "ConfigMap"),
    ("", "v1", "Pod"),
    ("", "v1", "Secret"),
    ("", "v1", "Service"),
    ("", "v1", "ServiceAccount"),
    ("apps", "v1", "StatefulSet"),
    ("coordination.k8s.io", "v1", "Lease"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io", "v1", "Role"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
];

#[derive(Debug, Clone)]
pub struct Store {
    pub scope: Scope,
    pub name: String,
}

/// The smallest store that the rules allow, with the images of the harness.
pub fn spec(shards: u32, replicas: u32) -> Value {
    json!({
        "shards": shards,
        "replicas": replicas,
        "engine": { "image": images::chosen_engine() },
        "resources": {
            "engine": { "requests": { "cpu": "50m" }, "limits": { "memory": "256Mi" } },
            "sidecar": { "requests": { "cpu": "50m" }, "limits": { "memory": "192Mi" } },
        },
        // Cache, bytes in flight and 64Mi of base fit into the sidecar's limit.
        "sidecar": {
            "cache": { "maxBytes": "32Mi", "maxEntryBytes": "16Mi" },
            "limits": { "inflightBytesMax": "32Mi" },
        },
    })
}

/// The smallest store with some of it replaced: dotted paths and values; null stands for nothing.
pub fn spec_with(changes: &[(&str, Value)]) -> Value {
    let mut spec = spec(1, 1);
    for (path, value) in changes {
        let mut at = &mut spec;
        for part in path.split('.') {
            at = &mut at[part];
        }
        *at = value.clone();
    }
    spec
}

impl Store {
    /// Applies the resource; returns at once.
    pub async fn create(scope: &Scope, name: &str, spec: &Value) -> Result<Self> {
        let store = Self { scope: scope.clone(), name: name.to_owned() };
        store.apply_spec(spec).await?;
        Ok(store)
    }

    /// Also changes a store: what the spec no longer names goes back to its default.
    pub async fn apply_spec(&self, spec: &Value) -> Result<()> {
        let resource = json!({
            "apiVersion": format!("{}/{}", names::GROUP, names::VERSION),
            "kind": "BlobStore",
            "metadata": { "name": self.name },
            "spec": spec,
        });
        self.scope.apply(&resource.to_string()).await
    }

    pub async fn merge(&self, patch: &Value) -> Result<()> {
        let api: Api<BlobStore> = self.scope.api();
        api.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(Error::kube(format!("patch {}", self.name)))?;
        Ok(())
    }

    pub async fn resource(&self) -> Result<BlobStore> {
        let api: Api<BlobStore> = self.scope.api();
        api.get(&self.name).await.map_err(Error::kube(format!("get {}", self.name)))
    }

    pub async fn resource_json(&self) -> Result<Value> {
        serde_json::to_value(self.resource().await?).map_err(Error::other("show the resource as JSON"))
    }

    /// Waits for Ready of the spec as it is now; says how long that took.
    pub async fn wait_ready(&self, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        self.wait_condition("Ready", "True", limit).await?;
        Ok(start.elapsed())
    }

    /// The condition as it was found: a test may look at its reason and message.
    pub async fn wait_condition(&self, name: &str, status: &str, limit: Duration) -> Result<Value> {
        self.wait_until(&format!("{name} is {status}"), limit, |resource| {
            let generation = &resource["metadata"]["generation"];
            let current = resource.pointer("/status/observedGeneration") == Some(generation);
            let condition = client::condition(resource, name)?;
            (current && condition["status"] == status).then(|| condition.clone())
        })
        .await
    }

    /// Looks at the whole resource until the check finds what it wants.
    pub async fn wait_until<T>(
        &self,
        what: &str,
        limit: Duration,
        check: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        let check = &check;
        wait::until(format!("{} of {}", what, self.name), limit, || async move {
            let value = self.resource_json().await?;
            Ok(check(&value).map_or_else(|| Seen::NotYet(value["status"].to_string()), Seen::Yes))
        })
        .await
    }

    pub async fn pods(&self) -> Result<Vec<Pod>> {
        let selected = ListParams::default().labels(&names::store_selector(&self.name));
        let pods = self.scope.pods().list(&selected).await.map_err(Error::kube("list the store's pods"))?;
        Ok(pods.items)
    }

    pub async fn pod(&self, shard: u32, ordinal: u32) -> Result<Pod> {
        let name = names::pod(&self.name, shard, ordinal);
        self.scope.pods().get(&name).await.map_err(Error::kube(format!("get pod {name}")))
    }

    /// Where clients go: every ready pod's own address.
    pub async fn urls(&self) -> Result<Vec<String>> {
        let pods = self.pods().await?;
        let mut urls = Vec::new();
        for pod in pods.iter().filter(|pod| client::is_pod_ready(pod)) {
            urls.extend(self.scope.reach(pod, ports::CLIENT_PORT).await?);
        }
        Ok(urls)
    }

    /// The same once so many pods are ready: on a busy machine a probe that came late takes a pod out for a moment.
    pub async fn urls_of(&self, count: usize, limit: Duration) -> Result<Vec<String>> {
        wait::until(format!("{count} pods of {} are ready", self.name), limit, || async {
            let urls = self.urls().await?;
            let found = urls.len();
            Ok(Seen::when(found == count, urls, || format!("{found} are")))
        })
        .await
    }

    /// Everything that belongs to the store, by kind and name.
    pub async fn children(&self) -> Result<Vec<(String, DynamicObject)>> {
        let selected = ListParams::default().labels(&names::store_selector(&self.name));
        let mut children = Vec::new();
        for (group, version, kind) in CHILD_KINDS {
            let gvk = GroupVersionKind::gvk(group, version, kind);
            let api = client::api_of(&self.scope.client, &gvk, Some(&self.scope.namespace));
            let found = api.list(&selected).await.map_err(Error::kube(format!("list {kind}")))?;
            children.extend(found.items.into_iter().map(|one| (format!("{kind}/{}", one.name_any()), one)));
        }
        Ok(children)
    }

    /// Deletes the resource; returns at once.
    pub async fn delete(&self) -> Result<()> {
        let api: Api<BlobStore> = self.scope.api();
        client::delete(&api, &self.name, &DeleteParams::default()).await
    }

    /// Waits until nothing that was made for the store is left.
    pub async fn wait_gone(&self, limit: Duration) -> Result<()> {
        wait::until(format!("all children of {} are gone", self.name), limit, || async {
            let left: Vec<String> = self.children().await?.into_iter().map(|(name, _)| name).collect();
            Ok(Seen::when(left.is_empty(), (), || left.join(", ")))
        })
        .await
    }

    /// Every copy that was asked for is there and in sync, and all pods are ready.
    pub async fn wait_redundant(&self, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        wait::until(format!("{} is ready and fully redundant", self.name), limit, || async {
            let resource = self.resource_json().await?;
            let holds = |name: &str, status: &str| {
                client::condition(&resource, name).is_some_and(|found| found["status"] == status)
            };
            let spec = &resource["spec"];
            let wanted = spec["shards"].as_u64().zip(spec["replicas"].as_u64());
            let wanted = wanted.map_or(0, |(shards, replicas)| shards * (replicas + 1));
            let ready = self.pods().await?.iter().filter(|pod| client::is_pod_ready(pod)).count() as u64;
            let is_settled = holds("Ready", "True") && holds("Degraded", "False") && ready == wanted;
            Ok(Seen::when(is_settled, (), || {
                format!("{ready} of {wanted} pods ready, {}", resource["status"])
            }))
        })
        .await?;
        Ok(start.elapsed())
    }

    /// Blobs go into buckets: one must exist before the first upload.
    pub async fn make_bucket(&self, bucket: &str) -> Result<()> {
        let http = self.http().await?;
        wait::until(format!("bucket {bucket} is made"), BUCKET_LIMIT, || async {
            let urls = self.urls().await?;
            let base = urls.first().ok_or_else(|| Error::Wrong("no pod is ready".to_owned()))?;
            let answer = http.put(&format!("{base}/{bucket}"), Contents::None).await?;
            let status = answer.status;
            Ok(Seen::when(status.is_success(), (), || format!("PUT answered {status}")))
        })
        .await
    }

    pub async fn primary(&self, shard: u32) -> Result<String> {
        let status = self.resource().await?.status.unwrap_or_default();
        let found = status.shards.iter().find(|one| one.shard == shard).and_then(|one| one.primary.clone());
        found.ok_or_else(|| Error::Wrong(format!("shard {shard} of {} shows no primary", self.name)))
    }

    /// A client with the rights of the store's generated user.
    pub async fn http(&self) -> Result<Http> {
        let users = self.secret(ports::SECRET_USERS).await?;
        let users: Value = serde_yaml_ng::from_str(&users).map_err(Error::other("read users.yaml"))?;
        let token = users[0]["token"].as_str();
        bearer(token.ok_or_else(|| Error::Wrong("the first user has no token".to_owned()))?)
    }

    /// A client of the S3 API with the keys of the store's generated user.
    pub async fn s3(&self) -> Result<Http> {
        let users = self.secret(ports::SECRET_USERS).await?;
        let users: Value = serde_yaml_ng::from_str(&users).map_err(Error::other("read users.yaml"))?;
        match (users[0]["accessKey"].as_str(), users[0]["secretKey"].as_str()) {
            (Some(access), Some(secret)) => {
                let mut http = Http::default();
                http.signer = Some(Signer::new(access, secret));
                Ok(http)
            }
            _ => Err(Error::Wrong("the first user has no keys".to_owned())),
        }
    }

    /// A client for the admin port.
    pub async fn admin(&self) -> Result<Http> {
        bearer(self.secret(ports::SECRET_ADMIN_TOKEN).await?.trim())
    }

    pub async fn secret(&self, key: &str) -> Result<String> {
        let api: Api<Secret> = self.scope.api();
        let name = names::auth_secret(&self.name);
        let secret = api.get(&name).await.map_err(Error::kube(format!("get secret {name}")))?;
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        value
            .map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
            .ok_or_else(|| Error::Wrong(format!("secret {name} has no {key}")))
    }

    async fn admin_url(&self, pod: &Pod) -> Result<String> {
        let url = self.scope.reach(pod, ports::ADMIN_PORT).await?;
        url.ok_or_else(|| Error::Wrong(format!("pod {} has no address", pod.name_any())))
    }

    pub async fn report(&self, pod: &Pod) -> Result<Value> {
        let url = self.admin_url(pod).await?;
        self.admin().await?.json(&format!("{url}/v1/report")).await
    }

    pub async fn metrics(&self, pod: &Pod) -> Result<String> {
        Http::default().text(&format!("{}/metrics", self.admin_url(pod).await?)).await
    }

    /// An admin request to one pod, such as `POST /v1/actions/trim`.
    pub async fn admin_post(&self, pod: &Pod, path: &str, body: &Value) -> Result<Answer> {
        let url = format!("{}{path}", self.admin_url(pod).await?);
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let contents = Contents::Bytes(body.to_string().into());
        self.admin().await?.send(Method::POST, &url, headers, contents).await
    }

    /// The engine's own command line in a pod, as the sidecar's user.
    pub async fn engine(&self, pod: &str, command: &[&str]) -> Result<String> {
        let password = self.secret(ports::SECRET_ENGINE_PASSWORD).await?;
        let login =
            ["redis-cli", "--no-auth-warning", "-s", ports::ENGINE_SOCKET, "--user", ports::ENGINE_USER];
        let all = [login.as_slice(), &["--pass", password.trim()], command].concat();
        let answer = client::exec(&self.scope.pods(), pod, "engine", &all).await?;
        Ok(answer.trim_end().to_owned())
    }
}

fn bearer(token: &str) -> Result<Http> {
    let mut http = Http::default();
    let value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(Error::other("use a token"))?;
    http.headers.insert(AUTHORIZATION, value);
    Ok(http)
}

/// The value of a metric's first line with these labels, from the text of a metrics page.
pub fn metric(page: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let wanted: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    page.lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .find(|line| wanted.iter().all(|one| line.contains(one.as_str())))
        .and_then(|line| line.rsplit(' ').next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_is_found_by_whole_name_and_labels() {
        let page =
            "# HELP a_b x\na_b_total 1\na_b{op=\"get\"} 2\na_b{op=\"put\",code=\"200\"} 3.5\nplain 7\n";
        assert_eq!(metric(page, "a_b", &[("op", "put")]), Some(3.5));
        assert_eq!(metric(page, "plain", &[]), Some(7.0));
        assert_eq!(metric(page, "a", &[]), None);
    }
}
