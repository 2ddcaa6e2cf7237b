//! A real engine for each test: cluster mode, all slots, unix socket, no persistence. Ended by its own handle.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use blobstore_sidecar_core::key::{BucketName, ObjectName};
use blobstore_sidecar_runtime::authority::{Alone, Tenure};
use blobstore_sidecar_store::{
    EngineAddress, GetOutcome, GetRequest, ListRequest, PutOutcome, PutRequest, Store, StoreError,
    StoreOptions,
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};

pub(crate) use crate::tally::Tally;

/// Longest wait for anything that ought to happen soon.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const STARTS_MAX: u32 = 5;

#[derive(Debug)]
pub(crate) struct Engine {
    child: Option<Child>,
    dir: tempfile::TempDir,
    /// For clients and for the bus.
    ports: [u16; 2],
}

impl Engine {
    /// `options`: pairs for the command line.
    pub(crate) async fn with(options: &[&str]) -> Self {
        let engine = Self::start(options).await;
        let slots: redis::Value =
            engine.query(redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(0).arg(16383)).await;
        assert_eq!(slots, redis::Value::Okay);
        let deadline = Instant::now() + PATIENCE;
        while !engine.info("cluster_state").await.contains("cluster_state:ok") {
            assert!(Instant::now() < deadline, "the cluster never became ok");
            tokio::task::yield_now().await;
        }
        engine
    }

    /// An engine that follows this one, and has caught up with it.
    pub(crate) async fn follower(&self) -> Self {
        let engine = Self::start(&[]).await;
        let [port, bus] = self.ports;
        let mut meet = redis::cmd("CLUSTER");
        let _met: redis::Value = engine.query(meet.arg("MEET").arg("127.0.0.1").arg(port).arg(bus)).await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "the replica never caught up");
            let replication = engine.info("replication").await;
            if replication.contains("master_link_status:up") {
                return engine;
            }
            let nodes: String = engine.query(redis::cmd("CLUSTER").arg("NODES")).await;
            let other = nodes.lines().find(|line| !line.contains("myself") && line.contains("0-16383"));
            let id = other.and_then(|line| line.split(' ').next());
            // Once: each time again would begin from the start.
            if let Some(id) = id.filter(|_| replication.contains("role:master")) {
                let follow = redis::cmd("CLUSTER").arg("REPLICATE").arg(id).to_owned();
                let _said: redis::Value = engine.query(&follow).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn start(options: &[&str]) -> Self {
        // A free port may be taken between our look and the engine's start.
        let mut started = None;
        for _ in 0..STARTS_MAX {
            if started.is_none() {
                started = Self::attempt(options).await;
            }
        }
        started.expect("one of the attempts starts an engine")
    }

    async fn attempt(options: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder");
        let mut engine = Self { child: None, dir, ports: free_ports() };
        engine.spawn(options);
        engine.is_ready().await.then_some(engine)
    }

    fn spawn(&mut self, options: &[&str]) {
        let dir = self.dir.path();
        let mut command = Command::new("redis-server");
        let [port, bus] = self.ports.map(|port| port.to_string());
        command.args(["--port", &port, "--cluster-port", &bus, "--bind", "127.0.0.1"]);
        command.args(["--cluster-enabled", "yes", "--save", "", "--appendonly", "no"]);
        command.args(["--cluster-require-full-coverage", "no", "--maxmemory-policy", "noeviction"]);
        command.arg("--dir").arg(dir).arg("--unixsocket").arg(self.socket());
        command.args(options).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("redis-server is installed"));
    }

    /// False: it ended.
    async fn is_ready(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !self.socket().exists() || self.connect().await.is_err() {
            if self.child.as_mut().is_some_and(|child| child.try_wait().expect("a child").is_some()) {
                return false;
            }
            assert!(Instant::now() < deadline, "the engine never answered");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("engine.sock")
    }

    pub(crate) fn address(&self) -> EngineAddress {
        EngineAddress::Unix(self.socket())
    }

    async fn connect(&self) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        let client = redis::Client::open(format!("unix://{}", self.socket().display()))?;
        // A machine under load answers late, and a test that gives up early says nothing about the store.
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        client.get_multiplexed_async_connection_with_config(&patient).await
    }

    pub(crate) async fn query<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        let mut connection = self.connect().await.expect("the engine answers");
        command.query_async(&mut connection).await.expect("the command succeeds")
    }

    pub(crate) async fn info(&self, section: &str) -> String {
        match section {
            "cluster_state" => self.query(redis::cmd("CLUSTER").arg("INFO")).await,
            section => self.query(redis::cmd("INFO").arg(section)).await,
        }
    }

    /// Every key, sorted.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.query(redis::cmd("KEYS").arg("*")).await;
        keys.sort();
        keys
    }

    /// As if the journal's time were over for every upload under way. Those in parts have a week, and keep it.
    pub(crate) async fn journal_is_due(&self) {
        for journal in self.keys().await.iter().filter(|key| key.starts_with("j:")) {
            let now: Vec<u64> = self.query(&redis::cmd("TIME")).await;
            let soon = (now[0] + 3_600) * 1_000;
            let mut look = redis::cmd("ZRANGEBYSCORE");
            let entries: Vec<String> = self.query(look.arg(journal).arg("-inf").arg(soon)).await;
            for entry in entries {
                let mut due = redis::cmd("ZADD");
                let _added: u64 = self.query(due.arg(journal).arg("XX").arg(1).arg(entry)).await;
            }
        }
    }

    /// Waits until the keys are these.
    pub(crate) async fn settles_at(&self, want: &[String]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let keys = self.keys().await;
            if keys == want {
                return;
            }
            assert!(Instant::now() < deadline, "left behind: {keys:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child of ours");
            child.wait().expect("its end");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Two that differ: both are held until both are known.
fn free_ports() -> [u16; 2] {
    let listen = || std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    [listen(), listen()].map(|socket| socket.local_addr().expect("an address").port())
}

/// One engine, one store on it, and a bucket `b`.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) ledger: Arc<Tally>,
    pub(crate) engine: Engine,
    /// Keys before the first object.
    pub(crate) empty: Vec<String>,
}

pub(crate) fn options() -> StoreOptions {
    let mut options = StoreOptions { partitions: 16, ..StoreOptions::default() };
    options.timing.sweep_every = Duration::from_millis(50);
    options.limits.body_idle_seconds = 10;
    options
}

pub(crate) fn tenure() -> Tenure {
    Tenure { epoch: 1, run_id: Arc::from("run") }
}

pub(crate) fn open(engine: &Engine, options: StoreOptions) -> (Store, Arc<Tally>) {
    let ledger = Arc::new(Tally::default());
    let store = Store::open(engine.address(), options, Arc::new(Alone(tenure())), ledger.clone());
    (store, ledger)
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::with(options(), &[]).await
    }

    pub(crate) async fn with(options: StoreOptions, engine: &[&str]) -> Self {
        let engine = Engine::with(engine).await;
        let (store, ledger) = open(&engine, options);
        store.create_bucket(&bucket(), None).await.expect("a bucket");
        let empty = engine.keys().await;
        Self { store, ledger, engine, empty }
    }

    pub(crate) async fn put(&self, name_: &str, body: Bytes) -> PutOutcome {
        self.try_put(name_, body).await.expect("stored")
    }

    pub(crate) async fn try_put(&self, name_: &str, body: Bytes) -> Result<PutOutcome, StoreError> {
        let request = PutRequest::new(bucket(), name(name_), Some(body.len() as u64));
        self.store.put(request, frames(body, 100_000)).await
    }

    pub(crate) async fn get(&self, name_: &str) -> Result<Bytes, StoreError> {
        let outcome = self.store.get(GetRequest::new(bucket(), name(name_))).await?;
        read(outcome).await
    }

    /// Waits until nothing is there but the bucket, and the seals of changes to it, which are lifted later.
    pub(crate) async fn settles_but_for_seals(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut left = Vec::new();
            for key in self.engine.keys().await.into_iter().filter(|key| !self.empty.contains(key)) {
                if !key.starts_with("s:") {
                    left.push(key);
                    continue;
                }
                let fields: Vec<String> = self.engine.query(redis::cmd("HKEYS").arg(&key)).await;
                left.extend(fields.into_iter().filter(|field| !field.starts_with("x:")));
            }
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind: {left:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Nothing is held, nothing is on its way.
    pub(crate) async fn is_quiet(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pool = self.store.pool().stats();
            let quiet = pool.outstanding == 0
                && self.store.budget().used() == 0
                && self.ledger.sending_now() == 0
                && self.ledger.pending() == 0
                && self.store.uploads() == 0;
            if quiet {
                assert_eq!(pool.taken, pool.returned + pool.kept);
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not quiet: {pool:?} {:?} {:?}",
                self.store.budget(),
                self.ledger
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub(crate) fn bucket() -> BucketName {
    BucketName::parse("b").expect("a good name")
}

pub(crate) fn name(name: &str) -> ObjectName {
    ObjectName::parse(name).expect("a good name")
}

/// The first page of a listing of the bucket.
pub(crate) fn list_of(prefix: &str, delimiter: Option<&str>, max: usize) -> ListRequest {
    ListRequest {
        bucket: bucket(),
        prefix: prefix.into(),
        pattern: None,
        delimiter: delimiter.map(Into::into),
        after: None,
        token: None,
        max,
    }
}

/// Bytes that differ everywhere.
pub(crate) fn payload(len: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    Bytes::from(bytes)
}

/// The body in frames, without copying.
pub(crate) fn frames(body: Bytes, size: usize) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    stream::unfold(body, move |mut body| async move {
        if body.is_empty() {
            return None;
        }
        let frame = body.split_to(size.min(body.len()));
        Some((Ok(frame), body))
    })
}

pub(crate) async fn read(outcome: GetOutcome) -> Result<Bytes, StoreError> {
    let mut whole = Vec::new();
    let mut body = outcome.body;
    while let Some(bytes) = body.next().await {
        whole.extend_from_slice(&bytes?);
    }
    assert_eq!(body.remaining(), 0, "a body that ends well is complete");
    Ok(Bytes::from(whole))
}
