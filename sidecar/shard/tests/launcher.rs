//! The launcher: its configuration text, what it reads of cgroups, and the boot protocol around a real engine.

#![expect(clippy::expect_used, reason = "a test says what should hold")]

use std::{path::Path, time::Duration};

use blobstore_sidecar_api::{
    boot::{LauncherSays, SidecarSays},
    config::{
        CacheConfig, ClientsConfig, HygieneConfig, LimitsConfig, Persistence, SidecarConfig, StoreIdentity,
        TimingConfig,
    },
};
use blobstore_sidecar_shard::launcher::{
    self, LauncherArgs, cgroup,
    config::{EngineSettings, config_text},
};
use nix::{sys::signal, unistd::Pid};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixListener,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

fn sidecar_config(persistence: Persistence) -> SidecarConfig {
    SidecarConfig {
        store: StoreIdentity {
            name: "store".to_owned(),
            namespace: "test".to_owned(),
            uid: "uid-1".to_owned(),
        },
        shards: 1,
        members: 1,
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

fn text(password: &str) -> Option<String> {
    let settings = EngineSettings {
        config: &sidecar_config(Persistence::Aof),
        pod_ip: "10.0.0.7",
        port: 6379,
        maxmemory: 3 << 30,
        engine_password: password,
        replication_password: "rrr",
        socket: Path::new("/run/blobstore/engine.sock"),
        data_dir: Path::new("/data"),
        user_options: "hz 20\nmaxmemory-policy allkeys-lru",
    };
    config_text(&settings).ok()
}

#[test]
fn our_settings_come_after_the_users_and_replication_starts_off() {
    let text = text("eee").expect("a text");
    let users = text.find("maxmemory-policy allkeys-lru").expect("the user's line");
    assert!(users < text.find("maxmemory-policy noeviction").expect("our line"));
    let wanted = "maxmemory 3221225472
maxmemory-policy noeviction
save \"\"
appendonly yes
appendfsync everysec
repl-diskless-sync yes
repl-diskless-sync-delay 0
repl-diskless-load disabled
repl-ping-replica-period 1
repl-timeout 15
repl-backlog-size 322122547
client-output-buffer-limit replica 805306368 402653184 60
min-replicas-to-write 0
shutdown-timeout 0
masteruser replication
masterauth rrr
user default off resetpass -@all
user blobstore on >eee ~* &* +@all
user replication off >rrr +psync +sync +replconf +ping
";
    assert!(text.ends_with(wanted), "{text}");
    for line in ["cluster-replica-no-failover yes", "cluster-announce-ip 10.0.0.7", "unixsocketperm 770"] {
        assert!(text.contains(line), "{line}");
    }
}

#[test]
fn a_password_cannot_break_out_of_its_line() {
    assert_eq!(text("a b"), None);
    assert_eq!(text("a\nuser default on nopass"), None);
    assert_eq!(text(""), None);
}

#[test]
fn limits_and_kills_are_read_from_both_cgroup_versions() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    assert_eq!((cgroup::memory_limit(root), cgroup::oom_kills(root)), (None, 0));
    std::fs::create_dir(root.join("memory")).expect("a folder");
    std::fs::write(root.join("memory/memory.limit_in_bytes"), "9223372036854771712\n").expect("a file");
    assert_eq!(cgroup::memory_limit(root), None, "version 1 without a limit");
    std::fs::write(root.join("memory/memory.limit_in_bytes"), "536870912\n").expect("a file");
    let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
    std::fs::write(root.join("memory/memory.oom_control"), control).expect("a file");
    assert_eq!((cgroup::memory_limit(root), cgroup::oom_kills(root)), (Some(536_870_912), 2));
    std::fs::write(root.join("memory.max"), "max\n").expect("a file");
    std::fs::write(root.join("memory.events"), "low 0\noom 4\noom_kill 3\n").expect("a file");
    assert_eq!((cgroup::memory_limit(root), cgroup::oom_kills(root)), (None, 3), "version 2 goes first");
}

/// Free for the engine and, 10000 higher, for its cluster bus.
fn free_port() -> u16 {
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    (20_000..32_000).find(|port| free(*port) && free(port + 10_000)).expect("a free pair of ports")
}

struct Line {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Line {
    async fn accept(listener: &UnixListener) -> Self {
        let (stream, _) =
            timeout(Duration::from_secs(10), listener.accept()).await.expect("in time").expect("one");
        let (read, write) = stream.into_split();
        Self { lines: BufReader::new(read).lines(), write }
    }

    async fn hear(&mut self) -> LauncherSays {
        let line = timeout(Duration::from_secs(10), self.lines.next_line()).await.expect("in time");
        serde_json::from_str(&line.expect("a line").expect("a line")).expect("a word of the launcher")
    }

    async fn say(&mut self, says: &SidecarSays) {
        let line = serde_json::to_string(says).expect("JSON") + "\n";
        self.write.write_all(line.as_bytes()).await.expect("a listener");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_starts_on_the_sidecars_word_and_ends_on_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    for (name, text) in [("engine-password", "eee\n"), ("replication-password", "rrr")] {
        std::fs::write(root.join(name), text).expect("a secret");
    }
    let config = serde_json::to_string(&sidecar_config(Persistence::None)).expect("JSON");
    std::fs::write(root.join("sidecar.json"), config).expect("a configuration");
    let args = LauncherArgs {
        engine: None,
        config_dir: root.to_owned(),
        secret_dir: root.to_owned(),
        data_dir: root.join("data"),
        run_dir: root.to_owned(),
        cgroup_root: root.join("no-cgroup"),
        termination_log: root.join("termination-log"),
        pod_ip: "127.0.0.1".to_owned(),
        port: free_port(),
        memory_limit: Some(1 << 30),
        grace: Duration::from_secs(60),
    };
    let listener = UnixListener::bind(root.join("boot.sock")).expect("a socket");
    #[expect(clippy::disallowed_methods, reason = "a test's process is not counted")]
    let launcher = tokio::spawn(launcher::run(args));
    let mut line = Line::accept(&listener).await;
    assert_eq!(line.hear().await, LauncherSays::Boot { has_data: false, engine_version: None });
    line.say(&SidecarSays::Wait { reason: "a test".to_owned() }).await;
    // The sidecar restarts: the launcher comes back and still waits.
    drop(line);
    let mut line = Line::accept(&listener).await;
    assert!(matches!(line.hear().await, LauncherSays::Boot { .. }));
    line.say(&SidecarSays::Start { keep_cluster_state: false }).await;
    let LauncherSays::Started { pid } = line.hear().await else { panic!("not started") };
    let socket = root.join("engine.sock");
    let listens = async {
        while !socket.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), listens).await.expect("the engine listens");
    signal::kill(Pid::this(), signal::Signal::SIGTERM).expect("a signal to the launcher");
    assert_eq!(line.hear().await, LauncherSays::Terminating);
    assert!(Path::new(&format!("/proc/{pid}")).exists(), "the engine is held");
    line.say(&SidecarSays::Stop).await;
    let LauncherSays::Exited { oom_killed, last_lines, .. } = line.hear().await else { panic!("not ended") };
    assert!(!oom_killed && !last_lines.is_empty());
    timeout(Duration::from_secs(10), launcher).await.expect("in time").expect("an exit code");
    let message = std::fs::read_to_string(root.join("termination-log")).expect("last words");
    assert!(message.starts_with("engine ended: code"), "{message}");
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the engine is gone");
}
