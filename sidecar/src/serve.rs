//! `serve`: the sidecar of a pod. Reads what the operator mounted, starts shard protocol, store, leak detector and
//! ports, and ends them in order on SIGTERM.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blobstore_sidecar_api::config::{LimitsConfig, SidecarConfig};
use blobstore_sidecar_api::domains::{DomainError, Domains};
use blobstore_sidecar_api::ports as names;
use blobstore_sidecar_core::hygiene::book::Ledger;
use blobstore_sidecar_hygiene::{Hygiene, HygieneOptions};
use blobstore_sidecar_runtime::tasks;
use blobstore_sidecar_shard::register::LeaseRegister;
use blobstore_sidecar_shard::{Register, ShardConfig, ShardHandle, StartError};
use blobstore_sidecar_store::{EngineAddress, EngineAuth, Store, StoreOptions};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::auth::Users;
use crate::cli::ServeArgs;
use crate::config::{self, ConfigError, Folders, PodConfig, SIDECAR_JSON};
use crate::hooks::ShellHooks;
use crate::peers::{Peering, PeeringConfig};
use crate::ports::{self, Ports};
use crate::server;
use crate::shell::Shell;
use crate::telemetry::LogFilter;
use crate::tls::{Tls, TlsError};

mod control;

use control::PodControl;

/// A rotated Secret reaches the mount within a minute; looking more often than this gains nothing.
const USERS_EVERY: Duration = Duration::from_secs(10);
/// What the operator adds to the drain time for the grace period of its pods.
const GRACE_EXTRA_SECONDS: u64 = 20;

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("take the domains of buckets")]
    Domains(#[from] DomainError),
    #[error("open the client port for TLS")]
    Tls(#[from] TlsError),
    #[error("make a client of the Kubernetes API")]
    Kubernetes(#[source] kube::Error),
    #[error("start the shard member")]
    Shard(#[from] StartError),
    #[error("listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("catch signals")]
    Signals(#[source] std::io::Error),
}

pub async fn run(args: ServeArgs, log: LogFilter) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    crate::metrics::register();
    let folders = Folders { config: args.config_dir.clone(), secret: args.secret_dir.clone() };
    let pod = PodConfig::load(&folders, |name| std::env::var(name).ok())?;
    let (users_text, users) = config::users(&folders, pod.config.anonymous)?;
    let tls = pod.config.tls.then(|| Tls::load(config::certificate(&folders))).transpose()?;
    let client = kube::Client::try_default().await.map_err(ServeError::Kubernetes)?;
    let store = &pod.config.store;
    let register = Arc::new(LeaseRegister::new(client, &store.namespace, &store.name, pod.shard));
    // Ports before the protocol: a peer that probes a starting pod gets an answer, not a refusal.
    let listeners = listen(&args)?;
    let shard = member(&pod, register)?;
    let ledger = Arc::new(Ledger::new());
    let shell = shell(&pod, &shard, users, Arc::clone(&ledger))?;
    let hygiene = hygiene(&pod, ledger, &shell);
    let control = Arc::new(PodControl::new(shard, hygiene, Arc::clone(&shell)));
    let Listeners { client, admin, peer } = listeners;
    let running = ports::start(
        Arc::clone(&shell),
        control,
        log,
        Ports {
            client,
            admin,
            peer: Some(peer),
            admin_token: pod.secrets.admin_token.clone(),
            peer_token: pod.secrets.peer_token.clone(),
            tls,
        },
    );
    let users =
        tasks::spawn("users", follow_users(folders, pod.config.anonymous, users_text, Arc::clone(&shell)));
    tracing::info!(pod = pod.pod, shard = pod.shard, store = pod.config.store.name, "serving");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    users.abort();
    running.stop(&shell).await;
    Ok(())
}

fn member(pod: &PodConfig, register: Arc<dyn Register>) -> Result<ShardHandle, StartError> {
    let config = ShardConfig {
        config_hash: pod.config_hash.clone(),
        peer_token: pod.secrets.peer_token.clone(),
        engine_password: pod.secrets.engine_password.clone(),
        replication_password: pod.secrets.replication_password.clone(),
        ..ShardConfig::new(pod.config.clone(), pod.shard, pod.pod.clone(), pod.pod_ip.to_string())
    };
    ShardHandle::start(config, register)
}

fn engine_auth(pod: &PodConfig) -> EngineAuth {
    EngineAuth { user: names::ENGINE_USER.to_owned(), password: pod.secrets.engine_password.clone() }
}

fn engine_address() -> EngineAddress {
    EngineAddress::Unix(names::ENGINE_SOCKET.into())
}

fn hygiene(pod: &PodConfig, ledger: Arc<Ledger>, shell: &Arc<Shell>) -> Hygiene {
    let options = HygieneOptions {
        pod: pod.pod.clone(),
        address: engine_address(),
        auth: Some(engine_auth(pod)),
        config: pod.config.hygiene.clone(),
        engine_limit_bytes: pod.engine_memory_limit,
    };
    Hygiene::start(options, ledger, Arc::new(ShellHooks::new(Arc::clone(shell))))
}

fn shell(
    pod: &PodConfig,
    shard: &ShardHandle,
    users: Users,
    ledger: Arc<Ledger>,
) -> Result<Arc<Shell>, DomainError> {
    let config = &pod.config;
    let authority = shard.authority();
    let peering = PeeringConfig {
        pod: pod.pod.clone(),
        token: pod.secrets.peer_token.clone(),
        partitions: config.partitions,
        clients: &config.clients,
        limits: &config.limits,
    };
    let peering = Arc::new(Peering::new(peering, Arc::clone(&authority)));
    let options = StoreOptions {
        spare: Arc::clone(&peering) as _,
        ..StoreOptions::from_config(config, Some(engine_auth(pod)), Arc::clone(&peering) as _)
    };
    let store = Store::open(engine_address(), options, Arc::clone(&authority), ledger);
    let origins = crate::origins::open(config.origins.clone(), &config.clients, &config.limits, &store);
    let domains = Domains::new(config.s3_domains.clone())?;
    let shell = Shell::new(store, origins, authority, peering, config.limits.clone(), users);
    Ok(Arc::new(shell.with_domains(domains)))
}

struct Listeners {
    client: TcpListener,
    admin: TcpListener,
    peer: TcpListener,
}

fn listen(args: &ServeArgs) -> Result<Listeners, ServeError> {
    let bind = |port| {
        let address = SocketAddr::new(args.bind, port);
        server::bind(address).map_err(|source| ServeError::Listen { address, source })
    };
    Ok(Listeners {
        client: bind(names::CLIENT_PORT)?,
        admin: bind(names::ADMIN_PORT)?,
        peer: bind(names::PEER_PORT)?,
    })
}

/// Reads the users again and again; a document that is wrong leaves the last good one in force.
async fn follow_users(folders: Folders, anonymous: bool, mut known: String, shell: Arc<Shell>) {
    loop {
        tokio::time::sleep(USERS_EVERY).await;
        match config::users(&folders, anonymous) {
            Ok((text, users)) if text != known => {
                shell.set_users(users);
                known = text;
                tracing::info!("users read again");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "read the users again"),
        }
    }
}

/// The grace period that the operator gives the pods of this store.
pub fn grace_seconds() -> u64 {
    let text = std::fs::read_to_string(Path::new(names::CONFIG_DIR).join(SIDECAR_JSON)).unwrap_or_default();
    let drain = serde_json::from_str::<SidecarConfig>(&text)
        .map_or(LimitsConfig::default().drain_seconds, |config| config.limits.drain_seconds);
    drain.saturating_add(GRACE_EXTRA_SECONDS)
}
