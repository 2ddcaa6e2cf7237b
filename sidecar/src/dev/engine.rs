//! The engine of `dev`: a child process in cluster mode on a unix socket, started again when it dies, ended with us.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use blobstore_sidecar_core::partition::SLOTS;
use blobstore_sidecar_runtime::authority::Tenure;
use blobstore_sidecar_runtime::tasks;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::aio::MultiplexedConnection;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::ENGINE_STOP;
use super::control::DevAuthority;

/// Loading a large file takes time; an engine that needs more than this for `dev` is broken.
const START_WAIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);
/// Between a death and the next start: a crash loop stays readable.
const RESTART_PAUSE: Duration = Duration::from_millis(200);
/// The port of the bus is free when it is chosen; another may have it by the time the engine takes it.
const STARTS_MAX: u32 = 3;
/// First the fork with the better licence.
const PROGRAMS: &[&str] = &["valkey-server", "redis-server"];

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("no engine found: install valkey-server or redis-server, or name one with --engine")]
    NoProgram,
    #[error("find a free port for the cluster bus")]
    Port(#[source] std::io::Error),
    #[error("start the engine {program}")]
    Spawn {
        program: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the engine ended while starting ({0}): its own words are above")]
    Ended(std::process::ExitStatus),
    #[error("the engine did not answer within {START_WAIT:?}")]
    Silent,
    #[error("set up the engine")]
    Command(#[from] redis::RedisError),
}

#[derive(Clone, Debug)]
pub(super) struct EngineOptions {
    pub program: Option<PathBuf>,
    pub socket: PathBuf,
    pub data_dir: PathBuf,
    pub persistent: bool,
    pub maxmemory: u64,
}

/// The supervised child.
#[derive(Debug)]
pub(super) struct Engine {
    stop: oneshot::Sender<()>,
    supervisor: JoinHandle<()>,
}

impl Engine {
    /// Returns when the engine serves and `authority` has its tenure.
    pub(super) async fn start(
        options: EngineOptions,
        authority: Arc<DevAuthority>,
    ) -> Result<Self, EngineError> {
        let mut starts = 1;
        let (child, tenure) = loop {
            let mut child = spawn(&options)?;
            match prepare(&options.socket, &mut child, 1).await {
                Ok(tenure) => break (child, tenure),
                Err(EngineError::Ended(status)) if starts < STARTS_MAX => {
                    tracing::warn!(%status, "the engine ended while starting: it is started again");
                    starts += 1;
                }
                Err(error) => {
                    end(&mut child).await;
                    return Err(error);
                }
            }
        };
        authority.set(Some(tenure));
        let (stop, stopped) = oneshot::channel();
        let supervisor = tasks::spawn("engine", supervise(options, authority, child, stopped));
        Ok(Self { stop, supervisor })
    }

    /// Ends the engine and waits for it.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        if let Err(error) = self.supervisor.await {
            tracing::error!(%error, "the engine's supervisor ended early");
        }
    }
}

async fn supervise(
    options: EngineOptions,
    authority: Arc<DevAuthority>,
    mut child: Child,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut epoch = 1_u64;
    loop {
        let status = tokio::select! {
            status = child.wait() => status,
            _ = &mut stopped => {
                authority.set(None);
                end(&mut child).await;
                return;
            }
        };
        authority.set(None);
        tracing::error!(?status, persistent = options.persistent, "the engine ended: starting it again");
        epoch = epoch.saturating_add(1);
        loop {
            tokio::select! {
                () = sleep(RESTART_PAUSE) => {}
                _ = &mut stopped => return,
            }
            match restart(&options, epoch, &mut stopped).await {
                Some(Ok((next, tenure))) => {
                    child = next;
                    authority.set(Some(tenure));
                    break;
                }
                Some(Err(error)) => tracing::error!(%error, "start the engine again"),
                None => return,
            }
        }
    }
}

/// `None`: told to stop meanwhile.
async fn restart(
    options: &EngineOptions,
    epoch: u64,
    stopped: &mut oneshot::Receiver<()>,
) -> Option<Result<(Child, Tenure), EngineError>> {
    let mut child = match spawn(options) {
        Ok(child) => child,
        Err(error) => return Some(Err(error)),
    };
    let prepared = tokio::select! {
        prepared = prepare(&options.socket, &mut child, epoch) => Some(prepared),
        _ = stopped => None,
    };
    match prepared {
        Some(Ok(tenure)) => Some(Ok((child, tenure))),
        Some(Err(error)) => {
            end(&mut child).await;
            Some(Err(error))
        }
        None => {
            end(&mut child).await;
            None
        }
    }
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    PROGRAMS.iter().find_map(|name| {
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
    })
}

fn spawn(options: &EngineOptions) -> Result<Child, EngineError> {
    let program = options.program.clone().or_else(find).ok_or(EngineError::NoProgram)?;
    // Stale after a kill; the engine would refuse to bind.
    let _ = std::fs::remove_file(&options.socket);
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("exec")
        .arg(format!("--parent={}", std::process::id()))
        .arg("--")
        .arg(&program)
        .args(arguments(options)?)
        .stdin(Stdio::null())
        // Standard output belongs to the ready line.
        .stdout(std::io::stderr())
        .kill_on_drop(true);
    command.spawn().map_err(|source| EngineError::Spawn { program, source })
}

fn arguments(options: &EngineOptions) -> Result<Vec<OsString>, EngineError> {
    let bus = free_port().map_err(EngineError::Port)?.to_string();
    let maxmemory = options.maxmemory.to_string();
    let append = if options.persistent { "yes" } else { "no" };
    let mut arguments: Vec<OsString> = [
        ["--port", "0"],
        ["--bind", "127.0.0.1"],
        ["--unixsocketperm", "700"],
        ["--cluster-enabled", "yes"],
        ["--cluster-port", &bus],
        ["--cluster-require-full-coverage", "no"],
        ["--cluster-replica-no-failover", "yes"],
        ["--maxmemory", &maxmemory],
        ["--maxmemory-policy", "noeviction"],
        ["--save", ""],
        ["--appendonly", append],
        ["--appendfsync", "everysec"],
        ["--daemonize", "no"],
        ["--loglevel", "warning"],
    ]
    .iter()
    .flatten()
    .map(OsString::from)
    .collect();
    arguments.extend(["--unixsocket".into(), options.socket.clone().into_os_string()]);
    arguments.extend(["--dir".into(), options.data_dir.clone().into_os_string()]);
    Ok(arguments)
}

/// Free a moment ago; the engine takes no port 0 for its bus.
fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Waits until the engine answers, owns all slots and accepts writes.
async fn prepare(socket: &Path, child: &mut Child, epoch: u64) -> Result<Tenure, EngineError> {
    let deadline = Instant::now() + START_WAIT;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(EngineError::Ended(status));
        }
        match answer(socket).await {
            Ok(Some(run_id)) => return Ok(Tenure { epoch, run_id: run_id.into() }),
            Ok(None) => {}
            // Not yet listening, or loading its file.
            Err(error) => tracing::trace!(%error, "the engine is not up yet"),
        }
        if Instant::now() >= deadline {
            return Err(EngineError::Silent);
        }
        sleep(POLL).await;
    }
}

/// The run id, once the engine may be used.
async fn answer(socket: &Path) -> Result<Option<String>, redis::RedisError> {
    let client = redis::Client::open(format!("redis+unix://{}", socket.display()))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let cluster = cluster_info(&mut connection).await?;
    if field(&cluster, "cluster_slots_assigned") != Some("16384") {
        let last = SLOTS.saturating_sub(1);
        redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(0).arg(last).exec_async(&mut connection).await?;
        return Ok(None);
    }
    if field(&cluster, "cluster_state") != Some("ok") {
        return Ok(None);
    }
    let server: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
    Ok(field(&server, "run_id").map(str::to_owned))
}

async fn cluster_info(connection: &mut MultiplexedConnection) -> Result<String, redis::RedisError> {
    redis::cmd("CLUSTER").arg("INFO").query_async(connection).await
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// SIGTERM, patience, SIGKILL; waits either way, so that no process is left.
async fn end(child: &mut Child) {
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok())
        && let Err(error) = kill(Pid::from_raw(id), Signal::SIGTERM)
    {
        tracing::debug!(%error, "ask the engine to end");
    }
    if tokio::time::timeout(ENGINE_STOP, child.wait()).await.is_err()
        && let Err(error) = child.kill().await
    {
        tracing::warn!(%error, "kill the engine");
    }
}
