//! Fifty stores under the operator's own binary: what it takes of memory, and what it asks of the API server when
//! nothing happens. Repeat with `make bench-operator`, which builds with optimisation and prints the same figures.

#![expect(clippy::expect_used, clippy::panic, reason = "a test says what should hold")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use blobstore_operator_api::blob_store_crd;
use serde_json::{Value, json};
use support::FakeApi;
use support::fleet::Fleet;
use support::server::Requests;
use tokio::net::TcpListener;

const NAMESPACE: &str = "shop";
const STORES: u32 = 50;
/// Every fifth store has three shards: 70 shards with a replica each.
const PODS: usize = 140;
/// Little more than half of what the peer takes when idle. The code of a build without optimisation is three times
/// the size.
const RESIDENT_MIB_MAX: f64 = if cfg!(debug_assertions) { 60.0 } else { 32.0 };
/// The same without the code: what fifty stores themselves take, in any build.
const ANONYMOUS_MIB_MAX: f64 = 20.0;
/// Two slow cores, shared, and code without optimisation.
const DEADLINE: Duration = Duration::from_secs(240);
/// What real objects carry of it.
const MANAGED_FIELDS_BYTES: usize = 2_000;

/// The operator's process, its kubeconfig and its log; both files and the process end with the test.
struct Operator {
    process: Child,
    files: [PathBuf; 2],
}

impl Operator {
    fn start(port: u16) -> Self {
        let file =
            |name: &str| std::env::temp_dir().join(format!("blobstore-fifty-{}-{name}", std::process::id()));
        let files = [file("kubeconfig"), file("log")];
        let config = format!(
            "{{apiVersion: v1, kind: Config, current-context: c, users: [{{name: u, user: {{}}}}],
              clusters: [{{name: k, cluster: {{server: 'http://127.0.0.1:{port}'}}}}],
              contexts: [{{name: c, context: {{cluster: k, user: u}}}}]}}"
        );
        std::fs::write(&files[0], config).expect("write the kubeconfig");
        let log = std::fs::File::create(&files[1]).expect("create the log");
        let process = Command::new(env!("CARGO_BIN_EXE_blobstore-operator"))
            .args(["run", "--listen", "127.0.0.1:0", "--pod-name", "op-0", "--pod-namespace", "ops"])
            .env("KUBECONFIG", &files[0])
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("the operator starts");
        Self { process, files }
    }

    /// A line of `/proc/<pid>/status`, in MiB.
    fn memory(&self, line: &str) -> f64 {
        let path = format!("/proc/{}/status", self.process.id());
        let text = std::fs::read_to_string(path).expect("the operator runs");
        let line = text.lines().find(|found| found.starts_with(line)).expect("the kernel tells");
        let kib: f64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number");
        kib / 1024.0
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.files[1]).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // Gone already if it crashed.
        let _ = self.process.kill();
        let _ = self.process.wait();
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
    }
}

struct World {
    api: FakeApi,
    fleet: Fleet,
    requests: Requests,
    operator: Operator,
}

fn store_path(index: u32) -> String {
    format!("/apis/cachehygiene.io/v1alpha1/namespaces/{NAMESPACE}/blobstores/store-{index}")
}

impl World {
    async fn start() -> Self {
        let api = FakeApi::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let requests = api.listen(listener, MANAGED_FIELDS_BYTES);
        let crd = serde_json::to_value(blob_store_crd()).expect("the CRD");
        api.put("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/blobstores.cachehygiene.io", crd);
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        api.put("/api/v1/nodes/node-1", json!({"apiVersion": "v1", "kind": "Node", "status": ready}));
        for index in 0..STORES {
            api.put(&store_path(index), store(index));
        }
        let fleet = Fleet::follow(&api, NAMESPACE);
        let operator = Operator::start(port);
        Self { api, fleet, requests, operator }
    }

    /// Waits for a condition, looking at it whenever something changes and at least each 100 ms.
    async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) -> Duration {
        let began = Instant::now();
        let mut changes = self.api.changes();
        while !holds(self) {
            if began.elapsed() > DEADLINE {
                panic!("not within {DEADLINE:?}: {what}\n{}", self.operator.log_tail());
            }
            // Either wakes us: what is awaited need not change an object.
            drop(tokio::time::timeout(Duration::from_millis(100), changes.changed()).await);
        }
        began.elapsed()
    }

    fn ready(&self) -> usize {
        let of_type = |store: &Value, type_: &str| {
            let conditions = store["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|found| found["type"] == type_ && found["status"] == "True")
        };
        let stores = (0..STORES).filter_map(|index| self.api.get(&store_path(index)));
        stores.filter(|store| of_type(store, "Ready") && of_type(store, "MemoryHealthy")).count()
    }

    /// Every store has been looked at this often since.
    fn looked(&self, since: &BTreeMap<String, u64>, times: u64) -> bool {
        self.fleet.looks().iter().all(|(store, looks)| *looks >= since.get(store).unwrap_or(&0) + times)
    }

    /// Writes but for the leader's own Lease.
    fn writes(&self) -> usize {
        let writes = self.api.take_writes();
        writes.iter().filter(|write| !write.path.contains("/namespaces/ops/leases")).count()
    }
}

fn store(index: u32) -> Value {
    let shards = if index.is_multiple_of(5) { 3 } else { 1 };
    json!({"apiVersion": "cachehygiene.io/v1alpha1", "kind": "BlobStore", "metadata": {"generation": 1},
        "spec": {"shards": shards, "replicas": 1, "resources": {
            "engine": {"limits": {"memory": "1Gi"}}, "sidecar": {"limits": {"memory": "512Mi"}}}}})
}

fn per_minute(count: u64, window: Duration) -> f64 {
    count as f64 * 60.0 / window.as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_stores_fit_the_memory_and_cost_no_write_and_next_to_no_read() {
    let world = World::start().await;
    let took = world.until("all stores are ready", |world| world.ready() == STORES as usize).await;
    assert_eq!(world.fleet.count(), PODS);
    // A look without a write: everything that the start has set in motion is over.
    let mut quiet_since = world.fleet.looks();
    world
        .until("nothing is written for a look", |world| {
            if world.writes() > 0 {
                quiet_since = world.fleet.looks();
            }
            world.looked(&quiet_since, 1)
        })
        .await;
    let (before, looks) = (world.requests.now(), world.fleet.looks());
    let window = world.until("two more looks at every store", |world| world.looked(&looks, 2)).await;
    let asked = world.requests.since(&before);
    let reads: u64 = asked
        .iter()
        .filter(|(word, _)| ["get", "list", "watch"].iter().any(|verb| word.starts_with(verb)))
        .map(|(_, count)| count)
        .sum();
    let (resident, anonymous) = (world.operator.memory("VmRSS"), world.operator.memory("RssAnon"));
    let (peak, writes) = (world.operator.memory("VmHWM"), world.writes());
    println!(
        "{STORES} stores, {PODS} pods: ready after {:.1} s; RSS {resident:.1} MiB, {anonymous:.1} of it not code \
         (peak {peak:.1}); steady for {:.0} s: {:.1} reads a minute, {writes} writes; all requests: {asked:?}",
        took.as_secs_f64(),
        window.as_secs_f64(),
        per_minute(reads, window),
    );
    assert_eq!(writes, 0, "a steady store costs no write");
    let limit = f64::from(STORES);
    assert!(per_minute(reads, window) <= limit, "more than a read per store and minute: {asked:?}");
    assert!(resident <= RESIDENT_MIB_MAX, "{resident:.1} MiB are more than {RESIDENT_MIB_MAX}");
    assert!(anonymous <= ANONYMOUS_MIB_MAX, "{anonymous:.1} MiB are more than {ANONYMOUS_MIB_MAX}");
    nothing_is_overlooked(&world).await;
}

/// What is kept of the reads hides no change.
async fn nothing_is_overlooked(world: &World) {
    let config = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/store-7-config");
    world.api.remove(&config).expect("the map was there");
    let took = world.until("the deleted map is back", |world| world.api.get(&config).is_some()).await;
    assert!(took < Duration::from_secs(10), "a watch tells of it: {took:?}");
    world.fleet.silence("store-8-0-1", true);
    let degraded = |world: &World| {
        let store = world.api.get(&store_path(8)).expect("the store");
        store["status"]["ready"] == "1/2"
    };
    world.until("a silent sidecar is told", degraded).await;
    world.fleet.silence("store-8-0-1", false);
    world.until("it answers again", |world| !degraded(world)).await;
    pod_of_a_node_that_is_gone_is_replaced(world).await;
    assert_eq!(world.ready(), STORES as usize);
}

/// Its deletion was asked for, and no kubelet is left to end it: the operator removes it, and the set makes another.
async fn pod_of_a_node_that_is_gone_is_replaced(world: &World) {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/store-9-0-1");
    world.fleet.silence("store-9-0-1", true);
    world.api.edit(&path, |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["spec"]["nodeName"] = json!("node-gone");
        pod["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
    });
    let replaced = |world: &World| {
        world.api.get(&path).is_some_and(|pod| pod["metadata"]["deletionTimestamp"].is_null())
    };
    world.until("the pod is replaced", replaced).await;
    let store_ready =
        |world: &World| world.api.get(&store_path(9)).expect("the store")["status"]["ready"] == "2/2";
    world.until("the store has both copies again", store_ready).await;
}
