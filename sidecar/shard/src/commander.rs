//! Carries out the machine's orders to the engine, one after the other, each against the run it was meant for.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use blobstore_sidecar_core::shard::{Command, Event, band};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    ShardConfig,
    actor::Told,
    engine::{self, Engine, EngineError},
    peers::Peers,
};

/// Longer than the longest wait inside a command.
const ORDER_WITHIN: Duration = Duration::from_secs(8);

#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) command: Command,
    pub(crate) engine: Option<Engine>,
    pub(crate) expendable: bool,
    /// When the shard may be another's.
    pub(crate) before: SystemTime,
}

impl Order {
    /// Given now. Whoever misses us takes over after the failover time of silence, which began with our last word.
    pub(crate) fn new(
        id: u64,
        command: Command,
        engine: Option<Engine>,
        expendable: bool,
        config: &ShardConfig,
    ) -> Self {
        let patience = Duration::from_millis(config.config.timing.failover_after_ms);
        Self { id, command, engine, expendable, before: SystemTime::now() + patience / 2 }
    }
}

pub(crate) async fn run(
    config: Arc<ShardConfig>,
    peers: Peers,
    mut orders: mpsc::Receiver<Order>,
    told: mpsc::Sender<Told>,
) {
    while let Some(order) = orders.recv().await {
        let id = order.id;
        let name = format!("{:?}", order.command);
        let ok = match timeout(ORDER_WITHIN, carry_out(&config, &peers, order)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, order = name, "order to the engine");
                false
            }
            Err(_) => false,
        };
        if told.send(Told::Event(Event::Done { id, ok })).await.is_err() {
            return;
        }
    }
}

async fn carry_out(config: &ShardConfig, peers: &Peers, order: Order) -> Result<(), EngineError> {
    let Some(engine) = order.engine else { return Err(EngineError::Unexpected("no engine".to_owned())) };
    match order.command {
        Command::BreakLink => engine::break_link(&engine).await,
        Command::CloseReplication => engine::close_replication(&engine).await,
        Command::Assume => {
            let band = band(config.shard, config.config.shards);
            let replication_password = &config.replication_password;
            engine::Assume { engine: &engine, before: order.before, band, replication_password }.run().await
        }
        Command::Follow(primary) => {
            let proved = peers.identity(&primary.ip).await;
            let proved = proved.map_err(|error| EngineError::Unexpected(error.to_string()))?;
            if proved.member.run_id != primary.run_id || proved.member.node_id != primary.node_id {
                return Err(EngineError::Unexpected(
                    "another engine than the record's answers there".to_owned(),
                ));
            }
            let follow = engine::Follow {
                engine: &engine,
                primary: &primary,
                port: config.engine_port,
                replication_password: &config.replication_password,
                expendable: order.expendable,
            };
            follow.run().await
        }
    }
}
