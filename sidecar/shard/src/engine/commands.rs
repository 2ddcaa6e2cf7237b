//! What the machine orders of the engine. Each is safe to repeat and to interrupt.

use std::time::{Duration, SystemTime};

use blobstore_sidecar_api::{ports, record::Member};
use blobstore_sidecar_core::shard::Band;
use tokio::time::{Instant, sleep};

use super::{Engine, EngineError, parse_nodes, slots_of};

/// The engine takes over and answers within milliseconds; a node is met within two gossip rounds.
const SETTLE_WITHIN: Duration = Duration::from_millis(3_000);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// No more replication data in, no more acknowledgements out: a password that no primary knows, and the link cut.
pub(crate) async fn break_link(engine: &Engine) -> Result<(), EngineError> {
    let nonsense = format!("broken-{:032x}", rand::random::<u128>());
    engine.call::<()>("CONFIG SET", &["masterauth", &nonsense]).await?;
    engine.call::<i64>("CLIENT KILL", &["TYPE", "master"]).await?;
    let info = engine.info("replication").await?;
    match info.get("master_link_status").map(String::as_str) {
        Some("up") => Err(EngineError::Unexpected("the link to the old primary is still up".to_owned())),
        _ => Ok(()),
    }
}

/// Replication user off, replicas cut off.
pub(crate) async fn close_replication(engine: &Engine) -> Result<(), EngineError> {
    engine.call::<()>("ACL SETUSER", &[ports::REPLICATION_USER, "off"]).await?;
    engine.call::<i64>("CLIENT KILL", &["TYPE", "replica"]).await?;
    Ok(())
}

/// To be the primary of a band.
pub(crate) struct Assume<'a> {
    pub(crate) engine: &'a Engine,
    /// Afterwards the shard may be another's, and no other engine is told to believe this one.
    pub(crate) before: SystemTime,
    pub(crate) band: Band,
    pub(crate) replication_password: &'a str,
}

impl Assume<'_> {
    pub(crate) async fn run(self) -> Result<(), EngineError> {
        let info = self.engine.info("replication").await?;
        if info.get("role").map(String::as_str) != Some("master") {
            self.engine.call_in_time::<()>(self.before, "CLUSTER FAILOVER", &["TAKEOVER"]).await?;
            self.wait_for_role().await?;
        }
        self.engine.call::<()>("CONFIG SET", &["masterauth", self.replication_password]).await?;
        self.own_band().await?;
        self.wait_for_cluster().await?;
        self.engine.call::<()>("ACL SETUSER", &[ports::REPLICATION_USER, "on"]).await
    }

    /// A young primary refuses keys for its first two seconds. It may refuse longer when most other primaries are
    /// away: that is no reason not to take the shard.
    async fn wait_for_cluster(&self) -> Result<(), EngineError> {
        let deadline = Instant::now() + SETTLE_WITHIN;
        while Instant::now() < deadline {
            if self.engine.call::<String>("CLUSTER INFO", &[]).await?.contains("cluster_state:ok") {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn wait_for_role(&self) -> Result<(), EngineError> {
        let deadline = Instant::now() + SETTLE_WITHIN;
        while Instant::now() < deadline {
            let info = self.engine.info("replication").await?;
            if info.get("role").map(String::as_str) == Some("master") {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
        Err(EngineError::Unexpected("the engine did not take over".to_owned()))
    }

    /// Slots that nobody has are added, slots of a dead owner are taken, and the cluster is told by a new epoch: before
    /// that nobody else believes it.
    pub(crate) async fn own_band(&self) -> Result<(), EngineError> {
        let (own, others) = parse_nodes(&self.engine.call::<String>("CLUSTER NODES", &[]).await?);
        let Some(own) = own else {
            return Err(EngineError::Unexpected("the engine knows no cluster".to_owned()));
        };
        let mine: Vec<u16> = slots_of(&own.slots).collect();
        let missing: Vec<u16> = self.band.clone().filter(|slot| mine.binary_search(slot).is_err()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let theirs: Vec<u16> = others.iter().flat_map(|node| slots_of(&node.slots)).collect();
        let (taken, free): (Vec<u16>, Vec<u16>) = missing.iter().partition(|slot| theirs.contains(slot));
        if !free.is_empty() {
            let free: Vec<String> = free.iter().map(u16::to_string).collect();
            let free: Vec<&str> = free.iter().map(String::as_str).collect();
            self.engine.call::<()>("CLUSTER ADDSLOTS", &free).await?;
        }
        for slot in taken {
            self.engine.call::<()>("CLUSTER SETSLOT", &[&slot.to_string(), "NODE", &own.node_id]).await?;
        }
        self.engine.call_in_time::<String>(self.before, "CLUSTER BUMPEPOCH", &[]).await.map(drop)
    }
}

/// To be a replica of a primary that has proved who it is.
pub(crate) struct Follow<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) primary: &'a Member,
    pub(crate) port: u16,
    pub(crate) replication_password: &'a str,
    /// The record does not count on this engine's data: it may be dropped if the engine insists.
    pub(crate) expendable: bool,
}

impl Follow<'_> {
    pub(crate) async fn run(self) -> Result<(), EngineError> {
        // Also when the order to close was lost on a frozen engine.
        self.engine.call::<()>("ACL SETUSER", &[ports::REPLICATION_USER, "off"]).await?;
        self.engine.call::<()>("CONFIG SET", &["masterauth", self.replication_password]).await?;
        self.meet().await?;
        let (own, _) = parse_nodes(&self.engine.call::<String>("CLUSTER NODES", &[]).await?);
        if own.is_some_and(|own| own.primary_id.as_deref() == Some(&self.primary.node_id)) {
            return Ok(());
        }
        match self.replicate().await {
            Ok(()) => Ok(()),
            Err(error) if self.expendable && error_text(&error).contains("must be empty") => {
                self.drop_data().await?;
                self.replicate().await
            }
            Err(error) => Err(error),
        }
    }

    async fn replicate(&self) -> Result<(), EngineError> {
        self.engine.call("CLUSTER REPLICATE", &[&self.primary.node_id]).await
    }

    async fn drop_data(&self) -> Result<(), EngineError> {
        let (own, _) = parse_nodes(&self.engine.call::<String>("CLUSTER NODES", &[]).await?);
        let slots: Vec<String> =
            own.iter().flat_map(|own| slots_of(&own.slots)).map(|slot| slot.to_string()).collect();
        if !slots.is_empty() {
            let slots: Vec<&str> = slots.iter().map(String::as_str).collect();
            self.engine.call::<()>("CLUSTER DELSLOTS", &slots).await?;
        }
        self.engine.call::<()>("FLUSHALL", &["ASYNC"]).await
    }

    async fn meet(&self) -> Result<(), EngineError> {
        let deadline = Instant::now() + SETTLE_WITHIN;
        let mut met = false;
        loop {
            let (_, others) = parse_nodes(&self.engine.call::<String>("CLUSTER NODES", &[]).await?);
            let node = others.iter().find(|node| node.node_id == self.primary.node_id);
            if node.is_some_and(|node| !node.handshake && node.ip == self.primary.ip) {
                return Ok(());
            }
            if !met {
                let port = self.port.to_string();
                self.engine.call::<()>("CLUSTER MEET", &[&self.primary.ip, &port]).await?;
                met = true;
            }
            if Instant::now() >= deadline {
                return Err(EngineError::Unexpected(
                    "the primary has not answered the meeting yet".to_owned(),
                ));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn error_text(error: &EngineError) -> String {
    match error {
        EngineError::Command { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}
