//! `dev`: the whole data plane on one machine. An engine as a child, the store on it, and the client and admin
//! ports; everything ends with this process.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use blobstore_sidecar_api::config::HygieneConfig;
use blobstore_sidecar_api::config::{CacheConfig, ClientsConfig, LimitsConfig};
use blobstore_sidecar_api::domains::{DomainError, Domains};
use blobstore_sidecar_api::origins::OriginConfig;
use blobstore_sidecar_core::hygiene::book::Ledger;
use blobstore_sidecar_core::partition::PARTITIONS_MAX;
use blobstore_sidecar_hygiene::{Hygiene, HygieneOptions};
use blobstore_sidecar_store::{EngineAddress, Store, StoreOptions};
use tokio::signal::unix::{SignalKind, signal};

use crate::auth::{Grant, Right, User, Users, UsersError};
use crate::cli::DevArgs;
use crate::hooks::ShellHooks;
use crate::peers::{Peering, PeeringConfig};
use crate::ports::{self, Ports};
use crate::shell::Shell;
use crate::telemetry::LogFilter;
use crate::tls::{Files, Tls, TlsError};

mod control;
mod engine;

use control::{DevAuthority, DevControl};
use engine::{Engine, EngineError, EngineOptions};

/// `dev` runs the same partitions as a store in a cluster.
const PARTITIONS: u32 = PARTITIONS_MAX;
const POD: &str = "dev";

#[derive(Debug, thiserror::Error)]
pub enum DevError {
    #[error("make a folder")]
    Folder(#[source] std::io::Error),
    #[error("read the users file {path}")]
    ReadUsers {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("read the origins file {path}")]
    ReadOrigins {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error("take the domains of buckets")]
    Domains(#[from] DomainError),
    #[error("open the client port for TLS")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("catch signals")]
    Signals(#[source] std::io::Error),
    #[error("say that it is ready")]
    Say(#[source] std::io::Error),
}

pub async fn run(args: DevArgs, log: LogFilter) -> Result<(), DevError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(DevError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DevError::Signals)?;
    crate::metrics::register();
    let users = users(&args)?;
    let origins = origins(&args)?;
    let tls = tls(&args)?;
    let domains = Domains::new(args.s3_domains.clone())?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    // Sockets have short names: the data folder's path may be too long for one.
    let run_dir = tempfile::Builder::new().prefix("blobstore-").tempdir().map_err(DevError::Folder)?;
    let data_dir = args.data_dir.clone().unwrap_or_else(|| run_dir.path().join("data"));
    std::fs::create_dir_all(&data_dir).map_err(DevError::Folder)?;
    let authority = Arc::new(DevAuthority::default());
    let socket = run_dir.path().join("engine.sock");
    let options = EngineOptions {
        program: args.engine.clone(),
        socket: socket.clone(),
        data_dir,
        // A temporary folder goes with the process: writing it to disk would help nobody.
        persistent: args.data_dir.is_some(),
        maxmemory: args.maxmemory,
    };
    let engine = Engine::start(options, Arc::clone(&authority)).await?;

    let (ledger, engine_address) = (Arc::new(Ledger::new()), EngineAddress::Unix(socket));
    let access = Access { users, origins };
    let shell =
        shell(&args, domains, engine_address.clone(), Arc::clone(&authority), access, Arc::clone(&ledger));
    let client = listen(args.listen)?;
    let admin = listen(args.admin_listen)?;
    let address = client.local_addr().map_err(|source| DevError::Listen { address: args.listen, source })?;
    let admin_address =
        admin.local_addr().map_err(|source| DevError::Listen { address: args.admin_listen, source })?;
    let hygiene = HygieneOptions {
        pod: POD.to_owned(),
        address: engine_address,
        auth: None,
        config: HygieneConfig::default(),
        engine_limit_bytes: args.maxmemory,
    };
    let hygiene = Hygiene::start(hygiene, ledger, Arc::new(ShellHooks::new(Arc::clone(&shell))));
    let control = Arc::new(DevControl::new(authority, hygiene));
    let running = ports::start(
        Arc::clone(&shell),
        control,
        log,
        Ports {
            client,
            admin,
            peer: None,
            admin_token: args.admin_token.clone(),
            peer_token: String::new(),
            tls,
        },
    );
    tracing::info!(%address, %admin_address, "serving");
    ready(scheme, address).map_err(DevError::Say)?;

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    running.stop(&shell).await;
    engine.stop().await;
    Ok(())
}

fn shell(
    args: &DevArgs,
    domains: Domains,
    engine: EngineAddress,
    authority: Arc<DevAuthority>,
    access: Access,
    ledger: Arc<Ledger>,
) -> Arc<Shell> {
    let limits = limits(args);
    let peering = PeeringConfig {
        pod: POD.to_owned(),
        token: String::new(),
        partitions: PARTITIONS,
        clients: &ClientsConfig::default(),
        limits: &limits,
    };
    let peering = Arc::new(Peering::new(peering, Arc::clone(&authority) as _));
    let cache = CacheConfig { max_bytes: args.cache_bytes, ..CacheConfig::default() };
    let options = StoreOptions {
        partitions: PARTITIONS,
        evict: args.evict,
        cache,
        limits: limits.clone(),
        compress_after: args.compress_after_seconds.map(Duration::from_secs),
        ..StoreOptions::default()
    };
    let store = Store::open(engine, options, Arc::clone(&authority) as _, ledger);
    let Access { users, origins } = access;
    let origins = crate::origins::open(origins, &ClientsConfig::default(), &limits, &store);
    Arc::new(Shell::new(store, origins, authority, peering, limits, users).with_domains(domains))
}

fn limits(args: &DevArgs) -> LimitsConfig {
    let fixed = LimitsConfig::default();
    LimitsConfig {
        connections_max: args.connections_max.unwrap_or(fixed.connections_max),
        inflight_bytes_max: args.inflight_bytes_max.unwrap_or(fixed.inflight_bytes_max),
        body_bytes_max: args.body_bytes_max.unwrap_or(fixed.body_bytes_max),
        body_idle_seconds: args.body_idle_seconds.unwrap_or(fixed.body_idle_seconds),
        header_seconds: args.header_seconds.unwrap_or(fixed.header_seconds),
        drain_seconds: args.drain_seconds.unwrap_or(fixed.drain_seconds),
        admission_wait_ms: fixed.admission_wait_ms,
    }
}

fn users(args: &DevArgs) -> Result<Users, DevError> {
    let mut users: Vec<User> = match &args.users {
        None => Vec::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|source| DevError::ReadUsers { path: path.clone(), source })?;
            Users::read(&text)?
        }
    };
    if let (Some(access_key), Some(secret_key)) = (&args.access_key, &args.secret_key) {
        let everything = Grant { bucket: "*".to_owned(), prefix: String::new(), allow: vec![Right::Admin] };
        users.push(User {
            name: access_key.clone(),
            access_key: Some(access_key.clone()),
            secret_key: Some(secret_key.clone()),
            keys: Vec::new(),
            token: Some(secret_key.clone()),
            rights: vec![everything],
        });
    }
    Ok(Users::new(users, args.anonymous)?)
}

/// The documents that come from files.
struct Access {
    users: Users,
    origins: Vec<OriginConfig>,
}

fn origins(args: &DevArgs) -> Result<Vec<OriginConfig>, DevError> {
    let Some(path) = &args.origins else { return Ok(Vec::new()) };
    let read = |source| DevError::ReadOrigins { path: path.clone(), source };
    let text = std::fs::read_to_string(path).map_err(|error| read(error.into()))?;
    serde_yaml_ng::from_str(&text).map_err(|error| read(error.into()))
}

fn tls(args: &DevArgs) -> Result<Option<Tls>, DevError> {
    let pair = args.tls_certificate.clone().zip(args.tls_key.clone());
    Ok(pair.map(|(certificate, key)| Tls::load(Files { certificate, key })).transpose()?)
}

fn listen(address: SocketAddr) -> Result<tokio::net::TcpListener, DevError> {
    crate::server::bind(address).map_err(|source| DevError::Listen { address, source })
}

/// The one line on standard output: whoever started us waits for it.
fn ready(scheme: &str, address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {scheme}://{address}")?;
    out.flush()
}

/// A stopping engine gets this long to write its file; then it is killed.
const ENGINE_STOP: Duration = Duration::from_secs(10);
