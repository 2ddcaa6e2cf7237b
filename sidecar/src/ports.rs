//! Starts the ports of a sidecar and ends them: drain, deadline, handles closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use blobstore_sidecar_runtime::tasks;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::admin::AdminPort;
use crate::control::Control;
use crate::lane;
use crate::peer_port::PeerPort;
use crate::server::{self, Port};
use crate::shell::Shell;
use crate::telemetry::LogFilter;
use crate::tls::{RELOAD_EVERY, Tls};
use crate::wire::ClientPort;

/// The operator, Prometheus, the kubelet and a person or two.
const ADMIN_CONNECTIONS_MAX: usize = 64;
/// A handle that is too old closes within this after its TTL.
const SWEEP: Duration = Duration::from_secs(30);

/// Bound listeners and the tokens of the ports that need one.
#[derive(Debug)]
pub struct Ports {
    pub client: TcpListener,
    pub admin: TcpListener,
    pub peer: Option<TcpListener>,
    pub admin_token: String,
    pub peer_token: String,
    /// Of the client port.
    pub tls: Option<Tls>,
}

/// Running ports.
#[derive(Debug)]
pub struct Running {
    data: Vec<JoinHandle<()>>,
    admin: JoinHandle<()>,
    sweeper: JoinHandle<()>,
    origins: Option<JoinHandle<()>>,
    certificate: Option<JoinHandle<()>>,
}

pub fn start(shell: Arc<Shell>, control: Arc<dyn Control>, log: LogFilter, ports: Ports) -> Running {
    let Ports { client, admin, peer, admin_token, peer_token, tls } = ports;
    if let Ok(address) = client.local_addr() {
        let _ = shell.client_port.set(ClientPort { port: address.port(), tls: tls.is_some() });
    }
    let connections_max = usize::try_from(shell.limits.connections_max).unwrap_or(usize::MAX);
    let port = |name, connections_max| Port { name, connections_max, patience: shell.patience(), tls: None };
    let drain = || shell.drain.subscribe();
    let service = Arc::new(lane::ClientPort::new(Arc::clone(&shell)));
    let tls = tls.map(Arc::new);
    let certificate =
        tls.clone().map(|tls| tasks::spawn("certificate", async move { tls.follow(RELOAD_EVERY).await }));
    let clients = Port { tls, ..port("client", connections_max) };
    let mut data = vec![tasks::spawn("port", server::serve(client, clients, service, drain()))];
    if let Some(peer) = peer {
        let service = Arc::new(PeerPort {
            shell: Arc::clone(&shell),
            control: Arc::clone(&control),
            token: peer_token,
        });
        let peer = server::serve(peer, port("peer", connections_max), service, drain());
        data.push(tasks::spawn("port", peer));
    }
    let service = Arc::new(AdminPort::new(Arc::clone(&shell), control, log, admin_token));
    // Serves to the end: the kubelet and the operator watch the drain through it.
    let admin = server::serve(admin, port("admin", ADMIN_CONNECTIONS_MAX), service, drain_never());
    let admin = tasks::spawn("port", admin);
    let origins = crate::origins::keep(&shell);
    let sweeper = tasks::spawn("clients_sweeper", sweep(shell));
    Running { data, admin, sweeper, origins, certificate }
}

/// A drain that does not come: the port ends when its task is aborted.
fn drain_never() -> tokio::sync::watch::Receiver<bool> {
    // `wait_for` on a closed channel returns at once, so the sender must not be dropped.
    static NEVER: std::sync::LazyLock<tokio::sync::watch::Sender<bool>> =
        std::sync::LazyLock::new(|| tokio::sync::watch::Sender::new(false));
    NEVER.subscribe()
}

async fn sweep(shell: Arc<Shell>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        shell.peering.clients().sweep(Instant::now());
        shell.origins.sweep(Instant::now());
    }
}

impl Running {
    /// Not ready, no new connections, open requests get `drain_seconds`; then whatever is left is cut.
    pub async fn stop(self, shell: &Shell) {
        shell.drain.send_replace(true);
        let patience = Duration::from_secs(shell.limits.drain_seconds);
        let ended = tokio::time::timeout(patience, futures::future::join_all(self.data)).await;
        if ended.is_err() {
            tracing::warn!(?patience, "requests were still open at the deadline");
        }
        shell.store.drain(patience).await;
        shell.peering.clients().clear();
        shell.origins.clear();
        self.sweeper.abort();
        for task in [self.origins, self.certificate].into_iter().flatten() {
            task.abort();
        }
        self.admin.abort();
    }
}
