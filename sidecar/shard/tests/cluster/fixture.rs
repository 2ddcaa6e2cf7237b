//! Members of a shard as processes and tasks: engine child, shard handle, peer port.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use blobstore_sidecar_api::{
    config::{
        CacheConfig, ClientsConfig, HygieneConfig, LimitsConfig, Persistence, SidecarConfig, StoreIdentity,
        TimingConfig,
    },
    ports,
    topology::ShardState,
};
use blobstore_sidecar_shard::{
    MemoryRegister, PeerRequest, ShardConfig, ShardHandle,
    launcher::config::{EngineSettings, write_config},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use nix::{sys::signal::Signal, unistd::Pid};
use tokio::{net::TcpListener, task::JoinHandle};

/// Loopback addresses of this process: its id in the middle, a counter at the end.
fn next_ip() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let pid = std::process::id();
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    let [_, _, high, low] = pid.to_be_bytes();
    Ipv4Addr::new(127, 1 + high % 200, low, u8::try_from(number).expect("few members in a process"))
}

pub(crate) fn sidecar_config(members: u32, persistence: Persistence) -> SidecarConfig {
    SidecarConfig {
        store: StoreIdentity {
            name: "store".to_owned(),
            namespace: "test".to_owned(),
            uid: "uid-1".to_owned(),
        },
        shards: 1,
        members,
        partitions: 256,
        persistence,
        maxmemory_percent: 75,
        evict: false,
        cache: CacheConfig::default(),
        clients: ClientsConfig::default(),
        limits: LimitsConfig::default(),
        timing: TimingConfig::default(),
        hygiene: HygieneConfig::default(),
        anonymous: true,
        origins: Vec::new(),
        compression: None,
        tls: false,
        s3_domains: Vec::new(),
    }
}

pub(crate) struct Member {
    pub(crate) ip: Ipv4Addr,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) handle: Option<ShardHandle>,
    pub(crate) engine: Option<Child>,
    config: ShardConfig,
    peer_port: Option<JoinHandle<()>>,
}

impl Member {
    fn new(index: u32, members: u32, persistence: Persistence) -> Self {
        let ip = next_ip();
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = ShardConfig::new(
            sidecar_config(members, persistence),
            0,
            format!("store-0-{index}"),
            ip.to_string(),
        );
        config.peer_token = "peer-token".to_owned();
        config.engine_password = "engine-secret".to_owned();
        config.replication_password = "replication-secret".to_owned();
        config.engine_socket = dir.path().join("engine.sock");
        config.boot_socket = dir.path().join("boot.sock");
        Self { ip, dir, handle: None, engine: None, config, peer_port: None }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// As the launcher does: fresh unless the data is kept.
    pub(crate) fn start_engine(&mut self) {
        let data = self.data_dir();
        if self.config.config.persistence == Persistence::None && data.exists() {
            std::fs::remove_dir_all(&data).expect("an empty start");
        }
        std::fs::create_dir_all(&data).expect("a data folder");
        let settings = EngineSettings {
            config: &self.config.config,
            pod_ip: &self.ip.to_string(),
            port: ports::ENGINE_PORT,
            maxmemory: 256 << 20,
            engine_password: &self.config.engine_password,
            replication_password: &self.config.replication_password,
            socket: &self.config.engine_socket,
            data_dir: &data,
            user_options: &format!("bind {0}\nbind-source-addr {0}\n", self.ip),
        };
        let path = self.dir.path().join("engine.conf");
        write_config(&path, &settings).expect("a configuration");
        let log = std::fs::File::create(self.dir.path().join("engine.log")).expect("a log");
        let child = Command::new("redis-server")
            .arg(&path)
            .stdout(Stdio::from(log))
            .stdin(Stdio::null())
            .spawn()
            .expect("an engine");
        self.engine = Some(child);
    }

    pub(crate) async fn start_sidecar(&mut self, register: &MemoryRegister) {
        let handle = ShardHandle::start(self.config.clone(), Arc::new(register.clone())).expect("a sidecar");
        let address = SocketAddr::new(IpAddr::V4(self.ip), ports::PEER_PORT);
        let listener = TcpListener::bind(address).await.expect("the peer port");
        let served = handle.clone();
        #[expect(clippy::disallowed_methods, reason = "a test's server is not counted")]
        let task = tokio::spawn(async move { serve_peers(listener, served).await });
        self.peer_port = Some(task);
        self.handle = Some(handle);
    }

    pub(crate) fn handle(&self) -> &ShardHandle {
        self.handle.as_ref().expect("a running sidecar")
    }

    pub(crate) async fn state(&self) -> Option<ShardState> {
        let handle = self.handle.as_ref()?;
        Some(handle.topology().await?.state)
    }

    pub(crate) fn signal_engine(&self, signal: Signal) {
        let child = self.engine.as_ref().expect("an engine");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, signal).expect("a signal");
    }

    pub(crate) fn kill_engine(&mut self) {
        let mut child = self.engine.take().expect("an engine");
        child.kill().expect("SIGKILL");
        child.wait().expect("its end");
    }

    pub(crate) async fn stop_sidecar(&mut self) {
        if let Some(task) = self.peer_port.take() {
            task.abort();
            let _aborted = task.await;
        }
        self.handle = None;
    }

    /// A lane of the data path: a connection of its own, as the engine's user.
    pub(crate) async fn lane(&self) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        self.lane_info().await
    }

    /// As `lane`, without borrowing the member.
    pub(crate) fn lane_info(
        &self,
    ) -> impl Future<Output = redis::RedisResult<redis::aio::MultiplexedConnection>> + Send + use<> {
        use redis::IntoConnectionInfo;
        let settings = redis::RedisConnectionInfo::default()
            .set_username(ports::ENGINE_USER)
            .set_password(&self.config.engine_password);
        let socket = self.config.engine_socket.clone();
        async move {
            let info = redis::ConnectionAddr::Unix(socket).into_connection_info()?;
            // A machine under load answers late: by itself the client gives up after half a second.
            let patient = redis::AsyncConnectionConfig::new()
                .set_connection_timeout(Some(PATIENCE))
                .set_response_timeout(Some(PATIENCE));
            let client = redis::Client::open(info.set_redis_settings(settings))?;
            client.get_multiplexed_async_connection_with_config(&patient).await
        }
    }

    /// Says over the boot socket what a launcher would.
    pub(crate) async fn boot(&self, has_data: bool) {
        use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
        let mut stream =
            tokio::net::UnixStream::connect(&self.config.boot_socket).await.expect("a boot socket");
        let boot = blobstore_sidecar_api::boot::LauncherSays::Boot { has_data, engine_version: None };
        let line = serde_json::to_string(&boot).expect("JSON") + "\n";
        stream.write_all(line.as_bytes()).await.expect("the first line");
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await.expect("an answer");
        assert!(answer.contains("start"), "{answer}");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(task) = self.peer_port.take() {
            task.abort();
        }
        if let Some(mut child) = self.engine.take() {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

async fn serve_peers(listener: TcpListener, handle: ShardHandle) {
    // Connections end with this task.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let handle = handle.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(handle.clone(), request));
            let _ended = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    handle: ShardHandle,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = match request.uri().path() {
        "/v1/identity" => {
            let nonce =
                request.uri().query().and_then(|query| query.strip_prefix("nonce=")).unwrap_or_default();
            handle.identity(nonce).await.and_then(|identity| serde_json::to_vec(&identity).ok())
        }
        _ => {
            let bytes = request.into_body().collect().await?.to_bytes();
            let request: PeerRequest = serde_json::from_slice(&bytes).expect("a peer's request");
            handle.peer(request).await.and_then(|answer| serde_json::to_vec(&answer).ok())
        }
    };
    let status = if body.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = Response::new(Full::new(Bytes::from(body.unwrap_or_default())));
    *response.status_mut() = status;
    Ok(response)
}

pub(crate) struct Shard {
    pub(crate) register: MemoryRegister,
    pub(crate) members: Vec<Member>,
}

/// How long any single condition may take: several times the protocol's longest wait.
const PATIENCE: Duration = Duration::from_secs(25);

impl Shard {
    pub(crate) async fn start(members: u32, persistence: Persistence) -> Self {
        let register = MemoryRegister::default();
        let mut shard = Self { register, members: Vec::new() };
        for index in 0..members {
            let mut member = Member::new(index, members, persistence);
            member.start_engine();
            member.start_sidecar(&shard.register).await;
            shard.members.push(member);
        }
        shard
    }

    pub(crate) async fn formed(members: u32, persistence: Persistence) -> Self {
        let shard = Self::start(members, persistence).await;
        shard
            .until("all in sync", |shard| shard.register.peek().record.in_sync.len() == members as usize)
            .await;
        shard.until_serving(None).await;
        shard
    }

    pub(crate) async fn until(&self, what: &str, mut reached: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached(self) {
            assert!(Instant::now() < deadline, "{what}: {}", self.story().await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Index of the member that serves, other than `not`.
    pub(crate) async fn until_serving(&self, not: Option<usize>) -> usize {
        self.until("somebody serves", |shard| shard.serving(not).is_some()).await;
        self.serving(not).expect("somebody serves")
    }

    pub(crate) fn serving(&self, not: Option<usize>) -> Option<usize> {
        (0..self.members.len()).find(|index| {
            let handle = self.members[*index].handle.as_ref();
            Some(*index) != not && handle.is_some_and(|handle| handle.authority().tenure().is_some())
        })
    }

    pub(crate) async fn until_state(&self, index: usize, wanted: ShardState) {
        let deadline = Instant::now() + PATIENCE;
        while self.members[index].state().await != Some(wanted) {
            assert!(Instant::now() < deadline, "{index} is not {wanted:?}: {}", self.story().await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn story(&self) -> String {
        let mut story = format!("{:#?}\n", self.register.peek());
        for member in &self.members {
            let topology = match &member.handle {
                Some(handle) => handle.topology().await,
                None => None,
            };
            let log = std::fs::read_to_string(member.dir.path().join("engine.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(12).collect();
            story += &format!("{:#?}\n{}\n", topology.map(|t| (t.pod, t.state, t.engine)), lines.join("\n"));
        }
        story
    }
}
