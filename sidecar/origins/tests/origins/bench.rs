//! One engine, one store, one set of origins.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use blobstore_sidecar_api::config::ClientsConfig;
use blobstore_sidecar_api::origins::{OriginConfig, OriginSource, OriginTimeouts, OriginWrites};
use blobstore_sidecar_core::key::{BucketName, ObjectName};
use blobstore_sidecar_core::ledger::NoLedger;
use blobstore_sidecar_core::range::ByteRange;
use blobstore_sidecar_origins::{Blobs, Origins};
use blobstore_sidecar_runtime::authority::{Alone, Tenure};
use blobstore_sidecar_store::{
    EngineAddress, ErrorKind, GetOutcome, GetRequest, HeadRequest, ObjectMeta, Store, StoreError,
    StoreOptions,
};
use bytes::Bytes;
use futures::StreamExt;

use crate::server::Server;

const PATIENCE: Duration = Duration::from_secs(20);
const STARTS_MAX: u32 = 5;

#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) origins: Origins,
    _engine: Engine,
}

/// Cluster mode, all slots, unix socket, no persistence.
#[derive(Debug)]
struct Engine {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Ends the child; nothing to do when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Engine {
    async fn start() -> Self {
        // The bus needs a port of its own: a free one may be taken between our look and the engine's start.
        let mut started = None;
        for _ in 0..STARTS_MAX {
            if started.is_none() {
                started = Self::attempt().await;
            }
        }
        started.expect("one of the attempts starts an engine")
    }

    async fn attempt() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let bus =
            std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").port();
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--cluster-enabled", "yes", "--save", "", "--appendonly", "no"]);
        command.args(["--cluster-require-full-coverage", "no", "--cluster-port", &bus.to_string()]);
        command.arg("--dir").arg(folder.path()).arg("--unixsocket").arg(socket_in(&folder));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("redis-server");
        let mut engine = Self { child, folder };
        let deadline = Instant::now() + PATIENCE;
        while engine.give_slots().await.is_err() {
            if engine.child.try_wait().expect("a child").is_some() {
                return None;
            }
            assert!(Instant::now() < deadline, "the engine never answered");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Some(engine)
    }

    fn socket(&self) -> PathBuf {
        socket_in(&self.folder)
    }

    /// Gives it all slots, unless it has them already.
    async fn give_slots(&self) -> redis::RedisResult<()> {
        let client = redis::Client::open(format!("unix://{}", self.socket().display()))?;
        // A machine under load answers late, and what was not answered may still have been done.
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await?;
        let info: String = redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await?;
        if !info.contains("cluster_slots_assigned:16384") {
            let mut add = redis::cmd("CLUSTER");
            let add = add.arg("ADDSLOTSRANGE").arg(0).arg(16383);
            add.exec_async(&mut connection).await?;
        }
        Ok(())
    }
}

fn socket_in(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("e.sock")
}

/// The bucket `b` from this server, with nothing cached for long unless the test says so.
pub(crate) fn origin(server: &Server) -> OriginConfig {
    of(OriginSource::Http { url: server.url() })
}

pub(crate) fn of(source: OriginSource) -> OriginConfig {
    OriginConfig {
        name: "o".into(),
        bucket: "b".into(),
        prefix: String::new(),
        origin_prefix: String::new(),
        source,
        credentials: None,
        ttl_seconds: None,
        stale_while_revalidate_seconds: 0,
        stale_if_error_seconds: 0,
        negative_ttl_seconds: 0,
        writes: OriginWrites::Refuse,
        timeouts: OriginTimeouts { connect_ms: 2_000, first_byte_ms: 10_000, idle_ms: 10_000 },
    }
}

impl Bench {
    pub(crate) async fn start(origin: OriginConfig) -> Self {
        Self::with(vec![origin], |store| Arc::new(store.clone())).await
    }

    pub(crate) async fn with(
        origins: Vec<OriginConfig>,
        between: impl FnOnce(&Store) -> Arc<dyn Blobs>,
    ) -> Self {
        let engine = Engine::start().await;
        let deadline = Instant::now() + PATIENCE;
        let mut options = StoreOptions { partitions: 16, ..StoreOptions::default() };
        options.timing.sweep_every = Duration::from_millis(50);
        let tenure = Tenure { epoch: 1, run_id: Arc::from("run") };
        let store = Store::open(
            EngineAddress::Unix(engine.socket()),
            options,
            Arc::new(Alone(tenure)),
            Arc::new(NoLedger),
        );
        while let Err(error) = store.create_bucket(&bucket(), None).await {
            assert!(Instant::now() < deadline, "no bucket: {error}");
            tokio::task::yield_now().await;
        }
        let wait = Duration::from_secs(2);
        let origins = Origins::new(origins, &ClientsConfig::default(), wait, between(&store));
        Self { store, origins, _engine: engine }
    }

    pub(crate) async fn open(&self, name_: &str, range: Option<ByteRange>) -> Result<GetOutcome, StoreError> {
        self.origins.get(GetRequest { range, ..GetRequest::new(bucket(), name(name_)) }).await
    }

    pub(crate) async fn get(&self, name_: &str) -> Result<Bytes, StoreError> {
        read(self.open(name_, None).await?).await
    }

    pub(crate) async fn part(&self, name_: &str, first: u64, last: u64) -> Result<Bytes, StoreError> {
        read(self.open(name_, Some(ByteRange::Between { first, last })).await?).await
    }

    pub(crate) async fn head(&self, name_: &str) -> Result<ObjectMeta, StoreError> {
        self.origins.head(head(name_)).await
    }

    /// What the store itself has.
    pub(crate) async fn stored(&self, name_: &str) -> Option<ObjectMeta> {
        let found = self.store.head(head(name_)).await;
        let absent = found.as_ref().is_err_and(|error| error.kind == ErrorKind::NotFound);
        (!absent).then(|| found.expect("the store answers"))
    }

    pub(crate) async fn is_stored(&self, name_: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.stored(name_).await.is_none() {
            assert!(Instant::now() < deadline, "never stored: {name_}");
            tokio::task::yield_now().await;
        }
    }

    /// No upload, no permit, no buffer is left.
    pub(crate) async fn is_quiet(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let busy =
                (self.store.uploads(), self.store.budget().used(), self.store.pool().stats().outstanding);
            if busy == (0, 0, 0) {
                return;
            }
            assert!(Instant::now() < deadline, "not quiet: {busy:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn head(name_: &str) -> HeadRequest {
    HeadRequest { bucket: bucket(), name: name(name_), conditions: Default::default() }
}

pub(crate) fn bucket() -> BucketName {
    BucketName::parse("b").expect("a good name")
}

pub(crate) fn name(name: &str) -> ObjectName {
    ObjectName::parse(name).expect("a good name")
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

pub(crate) async fn read(outcome: GetOutcome) -> Result<Bytes, StoreError> {
    let mut whole = Vec::new();
    let mut body = outcome.body;
    while let Some(bytes) = body.next().await {
        whole.extend_from_slice(&bytes?);
    }
    assert_eq!(body.remaining(), 0, "a body that ends well is complete");
    Ok(Bytes::from(whole))
}

/// One sample of the metrics.
pub(crate) fn metric(name: &str, labels: &[&str]) -> u64 {
    let families = blobstore_sidecar_runtime::metrics::registry().gather();
    let Some(family) = families.iter().find(|family| family.name() == name) else { return 0 };
    let same = |metric: &&prometheus::proto::Metric| {
        let values: Vec<&str> = metric.get_label().iter().map(|pair| pair.value()).collect();
        labels.iter().all(|label| values.contains(label)) && values.len() == labels.len()
    };
    family.get_metric().iter().find(same).map_or(0, |metric| {
        let value = metric.get_counter().get_value() + metric.get_gauge().get_value();
        value as u64
    })
}
