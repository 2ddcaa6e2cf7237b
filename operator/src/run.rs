//! The operator's life: listen, lead, wait for the CRD, run the controllers, stop in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kube::Client;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admin::{self, Surface};
use crate::config::{Config, Scope};
use crate::leader::{Elector, Ended, Times};
use crate::metrics::Metrics;
use crate::shared::Shared;
use crate::telemetry::Filter;
use crate::webhook::{Credentials, Hint, QUEUE_MAX};
use crate::{controller, crd, tasks};

/// Of the pod's 30 s: enough for the passes under way, the rest gives the Lease back.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("listen on {address}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("find the API server")]
    Infer(#[source] kube::config::InferConfigError),
    #[error("make a client")]
    Client(#[source] kube::Error),
    #[error("register metrics")]
    Metrics(#[from] prometheus::Error),
    #[error("listen to signals")]
    Signals(#[source] std::io::Error),
    #[error("the leadership was lost: another operator may be at work")]
    LeadershipLost,
}

/// Runs until a signal comes or the leadership is lost.
pub async fn run(config: Config, filter: Filter) -> Result<(), RunError> {
    let stop = signals()?;
    let kube_config = kube::Config::infer().await.map_err(RunError::Infer)?;
    let own_namespace = config.pod_namespace.clone().unwrap_or_else(|| kube_config.default_namespace.clone());
    let client = Client::try_from(kube_config).map_err(RunError::Client)?;
    let metrics = Metrics::new()?;
    let (hints, queue) = mpsc::channel(QUEUE_MAX);
    let credentials = Credentials::new(config.webhook_token.clone(), config.webhook_hmac_key.clone());
    let surface = Arc::new(Surface::new(metrics.clone(), filter, credentials, hints));
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| RunError::Listen { address: config.listen, source })?;
    let serving = tasks::spawn("admin", admin::serve(listener, Arc::clone(&surface)));
    let identity = config.identity();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        identity,
        namespace = own_namespace,
        scope = ?config.scope(),
        sidecar_image = config.sidecar_image,
        "start"
    );
    let context = config.context(&own_namespace);
    let shared = Arc::new(Shared::new(client.clone(), context, metrics, identity.clone()));
    let elector = Elector::new(client, &own_namespace, &config.lease_name, &identity, Times::default());
    let ended = lead(config, shared, Arc::clone(&surface), elector, queue, stop).await;
    serving.abort();
    ended
}

async fn lead(
    config: Config,
    shared: Arc<Shared>,
    surface: Arc<Surface>,
    mut elector: Elector,
    queue: mpsc::Receiver<Hint>,
    stop: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let stopped = stop.clone();
    tokio::select! {
        () = crd::wait(&shared) => {}
        () = asked(stopped.clone()) => return Ok(()),
    }
    surface.ready.store(true, Ordering::Release);
    if !config.leader_election {
        work(&config, shared, &surface, queue, stop).await;
        return Ok(());
    }
    tokio::select! {
        () = elector.acquire() => {}
        () = asked(stopped) => return Ok(()),
    }
    tracing::info!("leading");
    let (worked, rest) = tokio::sync::oneshot::channel::<()>();
    // The Lease is kept until the last pass has ended, and given back then.
    let mut keeping = tasks::spawn("lease", elector.keep(async { drop(rest.await) }));
    tokio::select! {
        ended = &mut keeping => {
            tracing::error!(?ended, "the lease is lost: stop at once");
            return Err(RunError::LeadershipLost);
        }
        () = work(&config, shared, &surface, queue, stop) => {}
    }
    drop(worked);
    match keeping.await {
        Ok(Ended::Released) => Ok(()),
        Ok(Ended::Lost) | Err(_) => Err(RunError::LeadershipLost),
    }
}

/// The controllers, until asked to stop and drained.
async fn work(
    config: &Config,
    shared: Arc<Shared>,
    surface: &Surface,
    mut queue: mpsc::Receiver<Hint>,
    stop: watch::Receiver<bool>,
) {
    surface.leading.store(true, Ordering::Release);
    shared.metrics.leader.set(1.0);
    let (hints, _) = broadcast::channel(QUEUE_MAX);
    let namespaces = match config.scope() {
        Scope::Cluster => vec![None],
        Scope::Namespaces(names) => names.into_iter().map(Some).collect(),
    };
    let mut controllers = JoinSet::new();
    for namespace in namespaces {
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        let running = controller::run(shared, namespace, config.concurrency, hints.subscribe(), stop);
        controllers.spawn(async move {
            drop(tasks::spawn("controller", running).await);
        });
    }
    let rechecking = tasks::spawn("crd", crd::watch(Arc::clone(&shared)));
    let forwarding = tasks::spawn("hints", async move {
        while let Some(hint) = queue.recv().await {
            // No controller listens only while they all end.
            let _ = hints.send(hint);
        }
    });
    asked(stop).await;
    tracing::info!("stopping");
    surface.leading.store(false, Ordering::Release);
    let drained = timeout(DRAIN_TIMEOUT, async { while controllers.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!("passes did not end in time");
    }
    rechecking.abort();
    forwarding.abort();
    shared.metrics.leader.set(0.0);
}

async fn asked(mut stop: watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// SIGTERM or SIGINT asks to stop.
fn signals() -> Result<watch::Receiver<bool>, RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let (sender, stop) = watch::channel(false);
    tasks::spawn("signals", async move {
        tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        sender.send_replace(true);
        // The sender lives on: a dropped one would read as a stop that nobody asked for.
        std::future::pending::<()>().await;
    });
    Ok(stop)
}
