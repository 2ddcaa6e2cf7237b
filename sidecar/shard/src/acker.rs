//! The owner's ack loop: one connection, one round at a time. A round carries every commit that waited at its start.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use blobstore_sidecar_api::ports;
use blobstore_sidecar_core::shard::{ReplicaAck, Round, tag_in};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use crate::{
    ShardConfig,
    actor::Told,
    engine::{Engine, EngineError, number, replicas},
    shared::{Published, Shared},
};

/// An idle owner looks this often: twice within the time after which a missing replica counts as offline.
const IDLE: Duration = Duration::from_millis(500);
/// While somebody waits and no replica is connected, or between two looks of a hurried machine.
const HURRIED: Duration = Duration::from_millis(10);
/// A replica that is alive answers within a round trip; after this the round is told as it stands.
const WAIT: Duration = Duration::from_millis(50);

pub(crate) async fn ack_loop(config: Arc<ShardConfig>, shared: Arc<Shared>, told: mpsc::Sender<Told>) {
    let key = format!("w:{{{}}}", tag_in(&shared.band).unwrap_or_default());
    let mut engine: Option<Engine> = None;
    while !told.is_closed() {
        let published = shared.published.borrow().clone();
        if !published.reigning {
            engine = None;
            let mut changes = shared.published.subscribe();
            if changes.wait_for(|published| published.reigning).await.is_err() {
                return;
            }
            continue;
        }
        let connected = match engine.take().filter(|engine| *engine.run_id == *published.snapshot.run_id) {
            Some(engine) => Ok(engine),
            None => Engine::connect(&config.engine_socket, ports::ENGINE_USER, &config.engine_password).await,
        };
        match turn(connected, &shared, &published, &key, &told).await {
            Ok(still) => engine = Some(still),
            Err(error) => {
                tracing::debug!(%error, "ack round");
                sleep(HURRIED).await;
            }
        }
    }
}

async fn turn(
    connected: Result<Engine, EngineError>,
    shared: &Shared,
    published: &Published,
    key: &str,
    told: &mpsc::Sender<Told>,
) -> Result<Engine, EngineError> {
    let engine = connected?;
    if *engine.run_id != *published.snapshot.run_id {
        return Err(EngineError::Unexpected("another run of the engine answers".to_owned()));
    }
    let marked = wanted(shared) || (published.hurried && !published.snapshot.required.is_empty());
    let sent_at = shared.now();
    let upto = shared.waiters().newest;
    let (first, last) = if marked {
        engine.round(key, published.snapshot.required.len(), WAIT).await?
    } else {
        let info = engine.info("replication").await?;
        (info.clone(), info)
    };
    let online = replicas(&last);
    let connected = online.len();
    let replicas = online.into_iter().map(|(run_id, offset)| ReplicaAck { run_id, offset }).collect();
    let offset = number(&first, "master_repl_offset");
    let round = Round { view: published.snapshot.view, sent_at, upto, marked, offset, replicas };
    let (taken, done) = oneshot::channel();
    if told.send(Told::Round { round, taken }).await.is_err() || done.await.is_err() {
        return Ok(engine);
    }
    rest(shared, published.hurried, connected == 0).await;
    Ok(engine)
}

fn wanted(shared: &Shared) -> bool {
    shared.readers.load(Ordering::SeqCst) > 0 || !shared.waiters().waiting.is_empty()
}

/// Until somebody waits, but not longer than an idle owner may look away.
async fn rest(shared: &Shared, hurried: bool, lonely: bool) {
    if wanted(shared) {
        if lonely {
            sleep(HURRIED).await;
        }
        return;
    }
    let idle = if hurried { HURRIED } else { IDLE };
    let mut changes = shared.published.subscribe();
    let hurry = async {
        if changes.wait_for(|published| published.hurried).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    // A wake-up that raced with the check above is stored by `Notify`: none is lost.
    let sleeping = timeout(idle, async {
        if hurried {
            shared.wake.notified().await;
        } else {
            tokio::select! { () = shared.wake.notified() => {}, () = hurry => {} }
        }
    });
    drop(sleeping.await);
}
