//! A throw-away engine with all slots, hygiene beside it, and small ways to wait.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use blobstore_sidecar_api::action::{ActionRequest, ActionResult};
use blobstore_sidecar_api::config::HygieneConfig;
use blobstore_sidecar_api::report::{LeakReport, Verdict, VerdictClass, VerdictState};
use blobstore_sidecar_core::generation::Generation;
use blobstore_sidecar_core::hygiene::book::Ledger;
use blobstore_sidecar_hygiene::{Hygiene, HygieneOptions, NoHooks};
use blobstore_sidecar_store::EngineAddress;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, cmd};

/// A verdict may take this long on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
const STARTS_MAX: u32 = 5;

/// A redis-server of our own; ended and waited for when dropped.
pub(crate) struct Engine {
    child: Child,
    dir: tempfile::TempDir,
    pub(crate) connection: MultiplexedConnection,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited for");
    }
}

impl Engine {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Its allocator gives no page back unless it is asked to (-1 disables purging, says jemalloc's manual): what a
    /// deletion leaves stays, however busy the machine is.
    pub(crate) async fn start_keeping_pages() -> Self {
        Self::start_as(&[], &[("MALLOC_CONF", "dirty_decay_ms:-1,muzzy_decay_ms:-1")]).await
    }

    /// `options`: pairs for the command line.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        Self::start_as(options, &[]).await
    }

    async fn start_as(options: &[&str], env: &[(&str, &str)]) -> Self {
        // The bus needs a port of its own even when the engine listens on a socket only; a free one may be taken
        // between our look and the engine's start.
        let mut started = None;
        for _ in 0..STARTS_MAX {
            if started.is_none() {
                started = Self::attempt(options, env).await;
            }
        }
        started.expect("one of the attempts starts an engine").form().await
    }

    async fn attempt(options: &[&str], env: &[(&str, &str)]) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder");
        let socket = dir.path().join("engine.sock");
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let bus = free.expect("a free port").port().to_string();
        let mut child = Command::new("redis-server")
            .args(["--port", "0", "--bind", "127.0.0.1", "--save", "", "--cluster-enabled", "yes"])
            .args(["--cluster-port", &bus, "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(dir.path())
            .args(options)
            .envs(env.iter().copied())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server on the PATH");
        let client = redis::Client::open(format!("unix://{}", socket.display())).expect("a client");
        let until = Instant::now() + DEADLINE;
        loop {
            let patient = AsyncConnectionConfig::new().set_response_timeout(Some(DEADLINE));
            if let Ok(connection) = client.get_multiplexed_async_connection_with_config(&patient).await {
                return Some(Self { child, dir, connection });
            }
            if child.try_wait().expect("a child").is_some() {
                return None;
            }
            assert!(Instant::now() < until, "the engine does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All slots, and a cluster that says so.
    async fn form(mut self) -> Self {
        let _: String = self.run(cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(0).arg(16_383)).await;
        until_true("the cluster is up", async || {
            let mut connection = self.connection.clone();
            let info: String = cmd("CLUSTER").arg("INFO").query_async(&mut connection).await.expect("info");
            info.contains("cluster_state:ok")
        })
        .await;
        self
    }

    pub(crate) fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("engine.sock")
    }

    pub(crate) async fn run<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> T {
        command.query_async(&mut self.connection).await.expect("the engine answers")
    }

    /// Writes `count` strings of `len` bytes under the names that `name` gives.
    pub(crate) async fn fill(&mut self, count: usize, len: usize, name: impl Fn(usize) -> String) {
        let value = vec![b'v'; len];
        // Four MiB in one write at most: a busy machine is slow to take more.
        let batch = ((4 << 20) / len.max(1)).clamp(1, 500);
        for first in (0..count).step_by(batch) {
            let mut sets = Pipeline::new();
            for index in first..(first + batch).min(count) {
                sets.cmd("SET").arg(name(index)).arg(&value).ignore();
            }
            sets.query_async::<()>(&mut self.connection).await.expect("written");
        }
    }

    pub(crate) async fn used(&mut self) -> u64 {
        self.memory("used_memory").await
    }

    pub(crate) async fn memory(&mut self, name: &str) -> u64 {
        let info: String = self.run(cmd("INFO").arg("everything")).await;
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|text| text.trim().parse().ok()).expect("a figure")
    }
}

/// Default rules with times and sizes scaled down.
pub(crate) fn config() -> HygieneConfig {
    HygieneConfig {
        sample_seconds: 1,
        audit_interval_seconds: 1,
        orphan_grace_seconds: 60,
        orphan_bytes_min: 1 << 20,
        orphan_keys_min: 50,
        confirm_seconds: 4,
        warmup_seconds: 1,
        trend_bucket_seconds: 1,
        client_buffers_bytes_min: 32 << 20,
        client_bytes_max: 4 << 20,
        retained_bytes_min: 16 << 20,
        fragmented_bytes_min: 8 << 20,
        fragmented_used_bytes_min: 4 << 20,
        balance_hold_seconds: 2,
        ..Default::default()
    }
}

pub(crate) fn hygiene(engine: &Engine, ledger: &Arc<Ledger>, config: HygieneConfig) -> Hygiene {
    let options = HygieneOptions {
        pod: "pod-0".to_owned(),
        address: EngineAddress::Unix(engine.socket()),
        auth: None,
        config,
        engine_limit_bytes: 0,
    };
    Hygiene::start(options, ledger.clone(), Arc::new(NoHooks))
}

pub(crate) async fn until_true(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < until, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The first report that satisfies `wanted`.
pub(crate) async fn report(
    hygiene: &Hygiene,
    what: &str,
    wanted: impl Fn(&LeakReport) -> bool,
) -> LeakReport {
    let until = Instant::now() + DEADLINE;
    loop {
        let report = hygiene.report();
        if wanted(&report) {
            return report;
        }
        assert!(Instant::now() < until, "in vain: {what}; the last report is {report:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Calibrated, rebuilt, warmed up: nothing holds the detector back.
pub(crate) async fn settled(hygiene: &Hygiene) -> LeakReport {
    report(hygiene, "every gate opens", |report| report.sequence > 0 && report.gates.is_empty()).await
}

pub(crate) async fn confirmed(hygiene: &Hygiene, class: VerdictClass) -> Verdict {
    let holds = |verdict: &Verdict| verdict.class == class && verdict.state == VerdictState::Confirmed;
    let report = report(hygiene, &format!("{class:?}"), |report| report.verdicts.iter().any(holds)).await;
    report.verdicts.into_iter().find(holds).expect("just seen")
}

pub(crate) fn has(report: &LeakReport, class: VerdictClass) -> bool {
    report.verdicts.iter().any(|verdict| verdict.class == class)
}

pub(crate) async fn act(hygiene: &Hygiene, action: &str, id: &str) -> ActionResult {
    let request = ActionRequest { id: id.to_owned(), expected_epoch: None, params: Default::default() };
    hygiene.act(action, &request).await
}

/// A generation born so many seconds ago.
pub(crate) fn generation(age_seconds: u64, salt: u8) -> Generation {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Generation::new(now.as_millis() as u64 - age_seconds * 1_000, [salt; 10])
}
