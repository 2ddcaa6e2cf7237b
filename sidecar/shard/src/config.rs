//! What a shard member must know at start: the store's configuration, the pod's own facts, passwords.

use std::path::PathBuf;
use std::time::Duration;

use blobstore_sidecar_api::{
    config::{Persistence, SidecarConfig},
    ports,
};
use blobstore_sidecar_core::shard::Rules;

/// Everything `ShardHandle::start` needs besides the register.
#[derive(Clone)]
pub struct ShardConfig {
    pub config: SidecarConfig,
    /// Hash of the document above, shown in the topology.
    pub config_hash: String,
    pub shard: u32,
    pub pod: String,
    pub pod_ip: String,
    pub peer_token: String,
    pub engine_password: String,
    pub replication_password: String,
    pub engine_socket: PathBuf,
    pub boot_socket: PathBuf,
    pub engine_port: u16,
    pub peer_port: u16,
    /// With persistence: how long the record's primary may stay away before another in-sync pod with data claims.
    pub absent_primary_wait: Duration,
}

/// A volume may need to be attached to another node first; shorter would give up the newest data too easily.
pub const ABSENT_PRIMARY_WAIT: Duration = Duration::from_secs(60);

impl ShardConfig {
    /// The usual ports and paths of a pod; the caller fills in who it is and the passwords.
    pub fn new(config: SidecarConfig, shard: u32, pod: String, pod_ip: String) -> Self {
        Self {
            config,
            config_hash: String::new(),
            shard,
            pod,
            pod_ip,
            peer_token: String::new(),
            engine_password: String::new(),
            replication_password: String::new(),
            engine_socket: PathBuf::from(ports::ENGINE_SOCKET),
            boot_socket: PathBuf::from(ports::BOOT_SOCKET),
            engine_port: ports::ENGINE_PORT,
            peer_port: ports::PEER_PORT,
            absent_primary_wait: ABSENT_PRIMARY_WAIT,
        }
    }

    pub(crate) fn rules(&self) -> Rules {
        let timing = &self.config.timing;
        let wait = u64::try_from(self.absent_primary_wait.as_millis()).unwrap_or(u64::MAX);
        Rules::new(&self.pod, self.config.persistence == Persistence::Aof)
            .with_times(timing.read_window_ms, timing.ack_timeout_ms, timing.failover_after_ms)
            .with_absent_primary_wait(wait)
    }
}

// By hand: the passwords must not reach a log.
impl std::fmt::Debug for ShardConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardConfig")
            .field("shard", &self.shard)
            .field("pod", &self.pod)
            .field("pod_ip", &self.pod_ip)
            .field("engine_socket", &self.engine_socket)
            .finish_non_exhaustive()
    }
}
