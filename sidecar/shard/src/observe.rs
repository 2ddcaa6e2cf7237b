//! Watching: the local engine, and the sidecar beside the record's primary. Each is a loop that feeds the actor.

use std::{sync::Arc, time::Duration};

use blobstore_sidecar_api::{
    ports,
    record::Member,
    topology::{EngineView, NodeView},
};
use blobstore_sidecar_core::shard::{Event, Probe, ProbeStatus};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    PeerAnswer, PeerRequest, ShardConfig,
    actor::Told,
    engine::{Engine, EngineError, Info, number, parse_nodes},
    peers::Peers,
    shared::Shared,
};

/// Between two looks at an engine or at the primary's sidecar.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// While somebody waits for the outcome.
const LOOK_HURRIED: Duration = Duration::from_millis(25);
/// The engine is looked at this often while no connection stands: it starts in a few milliseconds.
const RECONNECT_EVERY: Duration = Duration::from_millis(25);

/// Silence is counted in these.
const STEP: Duration = Duration::from_millis(50);

/// What the observer learned of the engine.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub(crate) engine: Engine,
    pub(crate) view: EngineView,
    pub(crate) follows: Option<String>,
    pub(crate) primary_nodes: Vec<(u16, u16, String)>,
}

/// The engine's life, told to the actor: `None` when it is gone, or silent for the failover time, as long as this
/// process itself ran.
pub(crate) async fn engine_loop(config: Arc<ShardConfig>, shared: Arc<Shared>, told: mpsc::Sender<Told>) {
    let patience = Duration::from_millis(config.config.timing.failover_after_ms);
    loop {
        let connected = timeout(patience, connect(&config)).await;
        let engine = match connected {
            Ok(Ok(engine)) => engine,
            _ => {
                sleep(RECONNECT_EVERY).await;
                continue;
            }
        };
        let mut silence = Duration::ZERO;
        loop {
            let answer = tokio::select! {
                biased;
                answer = look(&config, &engine) => answer,
                () = endure(&mut silence, patience) => break,
            };
            match answer {
                Ok(observed) => {
                    silence = Duration::ZERO;
                    if told.send(Told::Engine(Some(Box::new(observed)))).await.is_err() {
                        return;
                    }
                }
                Err(EngineError::Silent(_)) if silence < patience => {}
                Err(_) => break,
            }
            let paused = Instant::now();
            pause(&shared).await;
            silence += paused.elapsed().min(LOOK_EVERY);
        }
        if told.send(Told::Engine(None)).await.is_err() {
            return;
        }
    }
}

/// Until the silence has lasted for `patience`, in steps: while this process does not run itself, nobody can answer
/// it, and such a pause, however long, counts as one step.
async fn endure(silence: &mut Duration, patience: Duration) {
    loop {
        sleep(STEP).await;
        *silence += STEP;
        if *silence >= patience {
            return;
        }
    }
}

/// The usual interval, or a short one while the machine is in a hurry; a change cuts it.
async fn pause(shared: &Shared) {
    let mut changes = shared.published.subscribe();
    let hurried = |published: &crate::shared::Published| published.hurried;
    let long = if hurried(&changes.borrow()) { LOOK_HURRIED } else { LOOK_EVERY };
    let hurry = async {
        if changes.wait_for(hurried).await.is_err() {
            std::future::pending::<()>().await;
        }
        sleep(LOOK_HURRIED).await;
    };
    tokio::select! { () = sleep(long) => {}, () = hurry => {} }
}

/// A connection to a run that announces itself to its primary by its run id.
async fn connect(config: &ShardConfig) -> Result<Engine, EngineError> {
    let engine = Engine::connect(&config.engine_socket, ports::ENGINE_USER, &config.engine_password).await?;
    let announced: Vec<String> = engine.call("CONFIG GET", &["replica-announce-ip"]).await?;
    if announced.get(1).map(String::as_str) != Some(&*engine.run_id) {
        engine.call::<()>("CONFIG SET", &["replica-announce-ip", &engine.run_id]).await?;
        // A link made before that carries another name: it comes back within a second, without a full copy.
        engine.call::<i64>("CLIENT KILL", &["TYPE", "master"]).await?;
    }
    Ok(engine)
}

async fn look(config: &ShardConfig, engine: &Engine) -> Result<Observed, EngineError> {
    let info = engine.info("default").await?;
    let text = |name: &str| info.get(name).cloned().unwrap_or_default();
    let loading = number(&info, "loading") == 1;
    let nodes = if loading { String::new() } else { engine.call("CLUSTER NODES", &[]).await? };
    let (own, others) = parse_nodes(&nodes);
    let own_id = own.as_ref().map(|own| own.node_id.clone()).unwrap_or_default();
    let is_primary = info.get("role").map(String::as_str) == Some("master");
    let valkey = info.contains_key("valkey_version");
    let keys = info.get("db0").and_then(|db| db.strip_prefix("keys=")?.split(',').next()?.parse().ok());
    let offset = if is_primary { "master_repl_offset" } else { "slave_repl_offset" };
    let view = EngineView {
        flavor: if valkey { "valkey" } else { "redis" }.to_owned(),
        version: if valkey { text("valkey_version") } else { text("redis_version") },
        member: Member {
            pod: config.pod.clone(),
            run_id: engine.run_id.to_string(),
            node_id: own_id,
            ip: config.pod_ip.clone(),
        },
        is_primary,
        loading,
        replication_link_up: link_up(&info),
        replication_offset: number(&info, offset),
        keys: keys.unwrap_or_default(),
        used_memory: number(&info, "used_memory"),
        rss: number(&info, "used_memory_rss"),
        maxmemory: number(&info, "maxmemory"),
        uptime_seconds: number(&info, "uptime_in_seconds"),
        slots: own.as_ref().map(|own| own.slots.clone()).unwrap_or_default(),
        nodes: others,
    };
    let serves = |node: &&NodeView| !node.failed && !node.slots.is_empty();
    let ranges = |node: &NodeView| {
        node.slots.iter().map(|[first, last]| (*first, *last, node.ip.clone())).collect::<Vec<_>>()
    };
    let primary_nodes = view.nodes.iter().filter(serves).flat_map(ranges).collect();
    let follows = own.and_then(|own| own.primary_id);
    Ok(Observed { engine: engine.clone(), view, follows, primary_nodes })
}

/// A link to a frozen primary looks up for as long as TCP does; the primary pings every second.
fn link_up(info: &Info) -> bool {
    let up = info.get("master_link_status").map(String::as_str) == Some("up");
    up && number(info, "master_last_io_seconds_ago") <= PINGS_MISSED
}

/// One ping may be late by a second of rounding.
const PINGS_MISSED: u64 = 2;

/// Looks at the sidecar beside the record's primary, and asks it to add us while we follow it.
pub(crate) async fn peer_loop(
    peers: Peers,
    shared: Arc<Shared>,
    own: watch::Receiver<Option<Member>>,
    told: mpsc::Sender<Told>,
) {
    loop {
        if let Some(probe) = probe(&peers, &shared, &own).await
            && told.send(Told::Event(Event::Probe(probe))).await.is_err()
        {
            return;
        }
        if told.is_closed() {
            return;
        }
        pause_probe(&shared).await;
    }
}

/// A change of the record is a reason to look at once.
async fn pause_probe(shared: &Shared) {
    let mut changes = shared.published.subscribe();
    let epoch = changes.borrow().record.as_ref().map(|record| record.epoch);
    let changed = async {
        let moved = |published: &crate::shared::Published| {
            published.record.as_ref().map(|record| record.epoch) != epoch
        };
        if changes.wait_for(moved).await.is_err() {
            std::future::pending::<()>().await;
        }
        sleep(LOOK_HURRIED).await;
    };
    tokio::select! { () = changed => {}, () = pause(shared) => {} }
}

async fn probe(peers: &Peers, shared: &Shared, own: &watch::Receiver<Option<Member>>) -> Option<Probe> {
    let published = shared.published.borrow().clone();
    let record = published.record?;
    let primary = record.primary.filter(|_| !published.named)?;
    let own = own.borrow().clone();
    if own.as_ref().is_some_and(|own| own.pod == primary.pod) {
        // Our own pod, an older run: its engine is certainly gone.
        let status = ProbeStatus { run_id: own.map(|own| own.run_id), ..ProbeStatus::default() };
        return Some(Probe { run_id: primary.run_id, epoch: record.epoch, status: Some(status) });
    }
    let status = match peers.ask(&primary.ip, &PeerRequest::Status).await {
        // Another pod at the same address is not the primary's sidecar.
        Ok(PeerAnswer::Status(status)) if status.pod == primary.pod => Some(ProbeStatus {
            run_id: status.run_id,
            serving: status.serving,
            relinquished: status.relinquished,
        }),
        _ => None,
    };
    if let Some(member) = own.filter(|_| status.is_some() && published.link_up && !published.in_sync) {
        // Lost or refused: the next look asks again.
        drop(peers.ask(&primary.ip, &PeerRequest::Join { member }).await);
    }
    Some(Probe { run_id: primary.run_id, epoch: record.epoch, status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_ones_own_is_one_step_of_silence() {
        let patience = Duration::from_secs(2);
        let mut silence = Duration::ZERO;
        {
            let mut silent = std::pin::pin!(endure(&mut silence, patience));
            assert!(futures::poll!(&mut silent).is_pending());
            // The clock moves by a minute, and nothing was polled in between.
            tokio::time::advance(Duration::from_secs(60)).await;
            assert!(futures::poll!(&mut silent).is_pending(), "it has not been asked for so long");
        }
        assert_eq!(silence, STEP);
        let before = Instant::now();
        endure(&mut silence, patience).await;
        assert_eq!(before.elapsed(), patience - STEP);
    }
}
