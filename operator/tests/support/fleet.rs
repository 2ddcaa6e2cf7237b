//! Scripted pods: what the StatefulSet controller, the kubelet and the sidecars of many stores would do, on loopback
//! addresses of their own, so that the operator's real client talks to them on the real port.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use blobstore_operator::tasks;
use blobstore_operator_api::names;
use blobstore_sidecar_api::ports::ADMIN_PORT;
use blobstore_sidecar_api::record::{Member, RECORD_ANNOTATION, ShardRecord};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::FakeApi;

const SLOTS: u32 = 16_384;

/// One pod with its sidecar.
#[derive(Clone, Debug)]
struct Scripted {
    store: String,
    shards: u32,
    shard: u32,
    member: Member,
    silent: bool,
    asked: u64,
}

#[derive(Default)]
struct Pods {
    pods: BTreeMap<String, Scripted>,
    records: BTreeMap<(String, u32), ShardRecord>,
    addresses: u32,
}

#[derive(Clone)]
pub(crate) struct Fleet {
    api: FakeApi,
    namespace: String,
    pods: Arc<Mutex<Pods>>,
}

impl Fleet {
    /// Follows the StatefulSets of a namespace until the runtime ends.
    pub(crate) fn follow(api: &FakeApi, namespace: &str) -> Self {
        let fleet =
            Self { api: api.clone(), namespace: namespace.to_owned(), pods: Arc::new(Mutex::default()) };
        let (following, mut changes) = (fleet.clone(), api.changes());
        tasks::spawn("scripted", async move {
            while changes.changed().await.is_ok() {
                following.settle().await;
            }
        });
        fleet
    }

    fn pods(&self) -> std::sync::MutexGuard<'_, Pods> {
        self.pods.lock().expect("no panic inside")
    }

    /// How often the sidecar of the least asked pod of each store was asked for its topology.
    pub(crate) fn looks(&self) -> BTreeMap<String, u64> {
        let mut looks = BTreeMap::new();
        for pod in self.pods().pods.values() {
            let least = looks.entry(pod.store.clone()).or_insert(pod.asked);
            *least = pod.asked.min(*least);
        }
        looks
    }

    pub(crate) fn count(&self) -> usize {
        self.pods().pods.len()
    }

    /// The sidecar answers nothing useful any more, or answers again.
    pub(crate) fn silence(&self, pod: &str, silent: bool) {
        self.pods().pods.get_mut(pod).expect("the pod exists").silent = silent;
    }

    fn collection(&self, kind: &str) -> String {
        let base = match kind {
            "statefulsets" => "/apis/apps/v1",
            "leases" => "/apis/coordination.k8s.io/v1",
            _ => "/api/v1",
        };
        format!("{base}/namespaces/{}/{kind}", self.namespace)
    }

    /// Pods for every set, and a record for every shard whose Lease is there.
    async fn settle(&self) {
        let prefix = format!("{}/", self.collection("statefulsets"));
        for path in self.api.paths().into_iter().filter(|path| path.starts_with(&prefix)) {
            let Some(set) = self.api.get(&path) else { continue };
            let size = set["spec"]["replicas"].as_u64().unwrap_or(1);
            for ordinal in 0..size {
                self.start(&set, ordinal).await;
            }
            self.record(&set);
        }
    }

    async fn start(&self, set: &Value, ordinal: u64) {
        let name = format!("{}-{ordinal}", set["metadata"]["name"].as_str().expect("a name"));
        let path = format!("{}/{name}", self.collection("pods"));
        if self.api.get(&path).is_some() {
            return;
        }
        let labels = &set["metadata"]["labels"];
        let store = labels[names::LABEL_STORE].as_str().expect("a store").to_owned();
        let shard = labels[names::LABEL_SHARD].as_str().and_then(|text| text.parse().ok()).expect("a shard");
        let store_path =
            format!("/apis/cachehygiene.io/v1alpha1/namespaces/{}/blobstores/{store}", self.namespace);
        let spec = &self.api.get(&store_path).expect("the store")["spec"];
        let shards = u32::try_from(spec["shards"].as_u64().unwrap_or(1)).expect("small");
        let ip = self.address();
        let member = Member {
            pod: name.clone(),
            run_id: format!("{name}-run"),
            node_id: format!("{name}-node"),
            ip: ip.to_string(),
        };
        let scripted = Scripted { store, shards, shard, member, silent: false, asked: 0 };
        self.pods().pods.insert(name.clone(), scripted);
        self.listen(&name, ip).await;
        self.api.put(&path, pod(set, &name, ip));
    }

    /// Loopback addresses of this process's own: tests of several clones run side by side.
    fn address(&self) -> Ipv4Addr {
        let mut pods = self.pods();
        pods.addresses += 1;
        let [_, _, high, low] = pods.addresses.to_be_bytes();
        let own = u8::try_from(64 + std::process::id() % 128).expect("below 192");
        Ipv4Addr::new(127, own, high, low)
    }

    async fn listen(&self, pod: &str, ip: Ipv4Addr) {
        let address = SocketAddr::new(IpAddr::V4(ip), ADMIN_PORT);
        let listener = TcpListener::bind(address).await.expect("the address is this test's own");
        let (fleet, pod) = (self.clone(), pod.to_owned());
        tasks::spawn("scripted", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (fleet, pod) = (fleet.clone(), pod.clone());
                let service = service_fn(move |request| {
                    let answer = fleet.answer(&pod, &request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tasks::spawn("scripted", async move {
                    // A client that goes away is no failure of the server.
                    drop(connection.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
    }

    fn record(&self, set: &Value) {
        let labels = &set["metadata"]["labels"];
        let store = labels[names::LABEL_STORE].as_str().expect("a store").to_owned();
        let shard = labels[names::LABEL_SHARD].as_str().and_then(|text| text.parse().ok()).expect("a shard");
        let lease = format!("{}/{}", self.collection("leases"), names::shard_lease(&store, shard));
        if self.api.get(&lease).is_none() || self.pods().records.contains_key(&(store.clone(), shard)) {
            return;
        }
        let members: Vec<Member> = {
            let pods = self.pods();
            let ours = pods.pods.values().filter(|pod| pod.store == store && pod.shard == shard);
            ours.map(|pod| pod.member.clone()).collect()
        };
        let record = ShardRecord {
            epoch: 1,
            primary: members.first().cloned(),
            in_sync: members,
            ..ShardRecord::default()
        };
        let text = serde_json::to_string(&record).expect("a record");
        self.pods().records.insert((store, shard), record);
        self.api.edit(&lease, |lease| lease["metadata"]["annotations"][RECORD_ANNOTATION] = json!(text));
    }

    fn answer(&self, pod: &str, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let mut pods = self.pods();
        let Some(scripted) = pods.pods.get_mut(pod) else { return status(StatusCode::NOT_FOUND) };
        let path = request.uri().path();
        if path == "/v1/topology" {
            scripted.asked += 1;
        }
        if scripted.silent {
            return status(StatusCode::SERVICE_UNAVAILABLE);
        }
        let scripted = scripted.clone();
        let document = match path {
            "/v1/topology" => topology(&pods, &scripted),
            "/v1/report" => report(&scripted),
            _ => json!({"id": "", "state": "Done", "message": "scripted"}),
        };
        Response::new(Full::new(Bytes::from(document.to_string())))
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// As the kubelet reports a pod that runs and is ready.
fn pod(set: &Value, name: &str, ip: Ipv4Addr) -> Value {
    let template = &set["spec"]["template"];
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    let started = "2026-01-01T00:00:00Z";
    pod["metadata"]["creationTimestamp"] = json!(started);
    pod["spec"]["nodeName"] = json!("node-1");
    let container = |name: &str| {
        json!({"name": name, "ready": true, "started": true, "restartCount": 0, "image": "registry.example/image:1",
            "imageID": format!("registry.example/image@sha256:{}", "0".repeat(64)),
            "containerID": format!("containerd://{}", "1".repeat(64)),
            "state": {"running": {"startedAt": started}}})
    };
    let condition = |name: &str| json!({"type": name, "status": "True", "lastTransitionTime": started});
    let conditions: Vec<Value> =
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
            .into_iter()
            .map(condition)
            .collect();
    pod["status"] = json!({"phase": "Running", "podIP": ip.to_string(), "podIPs": [{"ip": ip.to_string()}],
        "hostIP": "10.0.0.1", "qosClass": "Burstable", "startTime": started, "conditions": conditions,
        "initContainerStatuses": [container("install"), container("sidecar")],
        "containerStatuses": [container("engine")]});
    pod["metadata"]["name"] = json!(name);
    pod
}

fn topology(pods: &Pods, pod: &Scripted) -> Value {
    let record = pods.records.get(&(pod.store.clone(), pod.shard)).cloned();
    let primary = record.as_ref().and_then(|record| record.primary.as_ref()) == Some(&pod.member);
    let state = match (&record, primary) {
        (None, _) => "Starting",
        (Some(_), true) => "Primary",
        (Some(_), false) => "InSync",
    };
    let (first, last) = (SLOTS * pod.shard / pod.shards, SLOTS * (pod.shard + 1) / pod.shards - 1);
    let others = pods.pods.values().filter(|other| other.store == pod.store && other.member != pod.member);
    let nodes: Vec<Value> = others
        .map(|other| {
            json!({"nodeId": other.member.node_id, "ip": other.member.ip, "primaryId": null, "failed": false,
                "handshake": false, "linked": true, "slots": []})
        })
        .collect();
    json!({"pod": pod.member.pod, "podIp": pod.member.ip, "storeUid": "u", "shard": pod.shard,
        "sidecarVersion": "0.1.0", "configHash": "h", "state": state, "message": "scripted", "record": record,
        "recordFresh": true, "lastExit": null,
        "engine": {"flavor": "valkey", "version": "8.1.0", "member": pod.member, "isPrimary": primary,
            "loading": false, "replicationLinkUp": !primary, "replicationOffset": 1_000 + pod.asked,
            "keys": 10_000 + pod.asked, "usedMemory": (200 << 20) + pod.asked, "rss": (220 << 20) + pod.asked,
            "maxmemory": 768 << 20, "uptimeSeconds": 3_600 + pod.asked,
            "slots": if primary { json!([[first, last]]) } else { json!([]) }, "nodes": nodes}})
}

/// A healthy report of a usual size; its figures move as they do in life.
fn report(pod: &Scripted) -> Value {
    let figure = |index: u64| (format!("figure_{index:02}"), 1_000_000.0 + (pod.asked * index) as f64);
    let figures: BTreeMap<String, f64> = (0..40).map(figure).collect();
    json!({"pod": pod.member.pod, "at": "2026-01-01T00:00:00Z", "sequence": pod.asked, "engineRunId": pod.member.run_id,
        "verdicts": [{"class": "Healthy", "confidence": 1.0, "state": "Confirmed", "bytes": 0,
            "slopeBytesPerMinute": 0.0, "etaSeconds": null, "since": "2026-01-01T00:00:00Z", "evidence": []}],
        "gates": [], "figures": figures,
        "audit": {"passes": 1, "running": false, "keysSeen": 10_000, "lastFinished": "2026-01-01T00:00:00Z"}})
}
