//! PID 1 of the engine container: asks the sidecar before it starts the engine, ends with it, and says why.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use blobstore_sidecar_api::{
    boot::{LauncherSays, SidecarSays},
    config::{Persistence, SidecarConfig},
    ports,
};
use nix::{sys::signal, unistd::Pid};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader},
    process::{Child, Command},
    signal::unix::{Signal, SignalKind},
    sync::mpsc,
    time::{Instant, sleep_until},
};

use blobstore_sidecar_runtime::tasks;

pub mod cgroup;
pub mod config;
mod line;

use config::{EngineSettings, write_config};
use line::SidecarLine;

/// The engine's last words kept for the report.
const LAST_LINES: usize = 5;
/// Left of the grace period for the engine to end and for the last words.
const RESERVE: Duration = Duration::from_secs(5);

/// Where everything is; `from_env` gives a pod's places.
#[derive(Clone, Debug)]
pub struct LauncherArgs {
    /// The engine's binary; the first of `valkey-server` and `redis-server` on PATH without it.
    pub engine: Option<PathBuf>,
    pub config_dir: PathBuf,
    pub secret_dir: PathBuf,
    pub data_dir: PathBuf,
    /// Sockets and the configuration file with its passwords: memory, not disk.
    pub run_dir: PathBuf,
    pub cgroup_root: PathBuf,
    pub termination_log: PathBuf,
    pub pod_ip: String,
    pub port: u16,
    pub memory_limit: Option<u64>,
    /// The pod's termination grace period.
    pub grace: Duration,
}

impl LauncherArgs {
    pub fn from_env(engine: Option<PathBuf>, grace: Duration) -> Self {
        let limit = std::env::var(ports::ENV_ENGINE_MEMORY_LIMIT).ok();
        Self {
            engine,
            config_dir: ports::CONFIG_DIR.into(),
            secret_dir: ports::SECRET_DIR.into(),
            data_dir: ports::DATA_DIR.into(),
            run_dir: ports::RUN_DIR.into(),
            cgroup_root: cgroup::CGROUP_ROOT.into(),
            termination_log: "/dev/termination-log".into(),
            pod_ip: std::env::var(ports::ENV_POD_IP).unwrap_or_default(),
            port: ports::ENGINE_PORT,
            memory_limit: limit.and_then(|limit| limit.parse().ok()),
            grace,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("read {path}")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("sidecar.json: {0}")]
    Config(serde_json::Error),
    #[error("the engine container has no memory limit")]
    NoLimit,
    #[error("neither valkey-server nor redis-server is on PATH")]
    NoEngine,
    #[error("clear the data of an earlier engine")]
    Clear(#[source] std::io::Error),
    #[error(transparent)]
    Written(#[from] config::ConfigError),
    #[error("start {engine}")]
    Start {
        engine: String,
        #[source]
        source: std::io::Error,
    },
    #[error("listen for signals")]
    Signals(#[source] std::io::Error),
}

/// Runs until the engine has ended; the exit code is the engine's.
pub async fn run(args: LauncherArgs) -> ExitCode {
    match launch(&args).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            tracing::error!("{error}{cause}");
            last_words(&args.termination_log, &format!("{error}{cause}"));
            ExitCode::FAILURE
        }
    }
}

fn last_words(path: &Path, message: &str) {
    if let Err(error) = std::fs::write(path, message) {
        tracing::debug!(%error, "write the termination message");
    }
}

fn read(path: PathBuf) -> Result<String, LaunchError> {
    std::fs::read_to_string(&path)
        .map_err(|source| LaunchError::Read { path: path.display().to_string(), source })
}

async fn launch(args: &LauncherArgs) -> Result<u8, LaunchError> {
    let mut term = tokio::signal::unix::signal(SignalKind::terminate()).map_err(LaunchError::Signals)?;
    let config: SidecarConfig =
        serde_json::from_str(&read(args.config_dir.join("sidecar.json"))?).map_err(LaunchError::Config)?;
    let limit = cgroup::memory_limit(&args.cgroup_root).or(args.memory_limit).ok_or(LaunchError::NoLimit)?;
    let maxmemory = limit / 100 * u64::from(config.maxmemory_percent);
    let has_data = prepare_data(&args.data_dir, config.persistence).map_err(LaunchError::Clear)?;
    let boot = LauncherSays::Boot { has_data, engine_version: None };
    let mut line = SidecarLine::new(args.run_dir.join("boot.sock"), boot);
    let Some(keep_cluster_state) = permission(&mut line, &mut term).await else { return Ok(0) };
    if !keep_cluster_state {
        remove_file(&args.data_dir.join("nodes.conf")).map_err(LaunchError::Clear)?;
    }
    let path = args.run_dir.join("engine.conf");
    write_engine_config(args, &config, maxmemory, &path)?;
    let kills = cgroup::oom_kills(&args.cgroup_root);
    let (mut child, tail) = start(args, &path)?;
    line.started(child.id().unwrap_or_default()).await;
    let status = attend(&mut child, &mut line, &mut term, args.grace).await;
    let last_lines = tail.await.unwrap_or_default();
    let oom_killed = cgroup::oom_kills(&args.cgroup_root) > kills;
    Ok(farewell(args, &mut line, status, oom_killed, last_lines).await)
}

/// Waits for the sidecar's word. `None`: the pod ends before the engine began.
async fn permission(line: &mut SidecarLine, term: &mut Signal) -> Option<bool> {
    loop {
        let said = tokio::select! {
            said = line.hear() => said,
            _ = term.recv() => return None,
        };
        match said {
            SidecarSays::Start { keep_cluster_state } => return Some(keep_cluster_state),
            SidecarSays::Wait { reason } => tracing::info!(reason, "wait before starting the engine"),
            SidecarSays::Stop => return None,
        }
    }
}

fn write_engine_config(
    args: &LauncherArgs,
    config: &SidecarConfig,
    maxmemory: u64,
    path: &Path,
) -> Result<(), LaunchError> {
    let engine_password = read(args.secret_dir.join(ports::SECRET_ENGINE_PASSWORD))?;
    let replication_password = read(args.secret_dir.join(ports::SECRET_REPLICATION_PASSWORD))?;
    let user_options = std::fs::read_to_string(args.config_dir.join("engine.conf")).unwrap_or_default();
    let settings = EngineSettings {
        config,
        pod_ip: &args.pod_ip,
        port: args.port,
        maxmemory,
        engine_password: engine_password.trim(),
        replication_password: replication_password.trim(),
        socket: &args.run_dir.join("engine.sock"),
        data_dir: &args.data_dir,
        user_options: &user_options,
    };
    Ok(write_config(path, &settings)?)
}

/// Without persistence every start is an empty one. With it: is there anything of an earlier engine?
fn prepare_data(dir: &Path, persistence: Persistence) -> std::io::Result<bool> {
    std::fs::create_dir_all(dir)?;
    let kept = |name: &str| dir.join(name).exists();
    if persistence == Persistence::Aof {
        return Ok(kept("appendonlydir") || kept("dump.rdb"));
    }
    for name in ["nodes.conf", "dump.rdb"] {
        remove_file(&dir.join(name))?;
    }
    match std::fs::remove_dir_all(dir.join("appendonlydir")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(false),
    }
}

fn remove_file(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn find_engine() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let candidates = ["valkey-server", "redis-server"];
    candidates
        .iter()
        .flat_map(|name| folders.iter().map(move |dir| dir.join(name)))
        .find(|path| path.is_file())
}

type Tail = tokio::task::JoinHandle<Vec<String>>;

fn start(args: &LauncherArgs, config: &Path) -> Result<(Child, Tail), LaunchError> {
    let engine = args.engine.clone().or_else(find_engine).ok_or(LaunchError::NoEngine)?;
    let mut child = Command::new(&engine)
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| LaunchError::Start { engine: engine.display().to_string(), source })?;
    // A few lines may queue while our own output is slow; the engine then waits, as it would on a terminal.
    let (lines, mut read) = mpsc::channel::<String>(64);
    let out = child.stdout.take().map(|stream| Box::new(stream) as Out);
    let err = child.stderr.take().map(|stream| Box::new(stream) as Out);
    for stream in [out, err].into_iter().flatten() {
        let lines = lines.clone();
        tasks::spawn("launcher-output", async move {
            let mut stream = BufReader::new(stream).lines();
            while let Ok(Some(line)) = stream.next_line().await {
                if lines.send(line).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(lines);
    let tail = tasks::spawn("launcher-tail", async move {
        let mut last = VecDeque::new();
        let mut out = tokio::io::stdout();
        while let Some(line) = read.recv().await {
            drop(out.write_all(format!("{line}\n").as_bytes()).await);
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(line);
        }
        drop(out.flush().await);
        last.into()
    });
    Ok((child, tail))
}

type Out = Box<dyn AsyncRead + Send + Unpin>;

/// Until the engine ends: SIGTERM is told to the sidecar and held until it says stop, or time runs out.
async fn attend(
    child: &mut Child,
    line: &mut SidecarLine,
    term: &mut Signal,
    grace: Duration,
) -> std::io::Result<ExitStatus> {
    let mut deadline = None;
    loop {
        let late = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let stop = tokio::select! {
            status = child.wait() => return status,
            said = line.hear() => said == SidecarSays::Stop,
            () = late => true,
            _ = term.recv() => {
                deadline = deadline.or(Some(Instant::now() + grace.saturating_sub(RESERVE)));
                line.terminating().await;
                false
            }
        };
        if stop {
            deadline = None;
            terminate(child);
        }
    }
}

fn terminate(child: &Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(Err(error)) = pid.map(|pid| signal::kill(Pid::from_raw(pid), signal::Signal::SIGTERM)) {
        tracing::warn!(%error, "stop the engine");
    }
}

async fn farewell(
    args: &LauncherArgs,
    line: &mut SidecarLine,
    status: std::io::Result<ExitStatus>,
    oom_killed: bool,
    last_lines: Vec<String>,
) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.as_ref().ok().and_then(ExitStatus::code);
    let signal = status.as_ref().ok().and_then(ExitStatus::signal);
    let cause = if oom_killed { ", killed for memory (OOM)" } else { "" };
    let message = format!("engine ended: code {code:?}, signal {signal:?}{cause}\n{}", last_lines.join("\n"));
    last_words(&args.termination_log, &message);
    line.exited(LauncherSays::Exited { code, signal, oom_killed, last_lines }).await;
    // As a shell would: 128 and the signal.
    let code = code.or(signal.map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
