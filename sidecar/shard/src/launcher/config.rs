//! The engine's configuration file: fixed settings after the user's, so that ours hold.

use std::{io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use blobstore_sidecar_api::{
    config::{Persistence, SidecarConfig},
    ports,
};

/// A backlog below this would be passed by a few blobs while a replica reconnects.
const BACKLOG_BYTES_MIN: u64 = 64 << 20;

/// What the file is made of.
#[derive(Clone, Copy)]
pub struct EngineSettings<'a> {
    pub config: &'a SidecarConfig,
    pub pod_ip: &'a str,
    pub port: u16,
    pub maxmemory: u64,
    pub engine_password: &'a str,
    pub replication_password: &'a str,
    pub socket: &'a Path,
    pub data_dir: &'a Path,
    /// Lines of the user's `engine.conf`; options that we own were rejected with the resource.
    pub user_options: &'a str,
}

impl std::fmt::Debug for EngineSettings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineSettings").field("maxmemory", &self.maxmemory).finish_non_exhaustive()
    }
}

/// A password that would break out of its line is refused.
#[derive(Debug, thiserror::Error)]
#[error("a generated password holds a character outside of A-Z, a-z, 0-9, - and _")]
pub struct BadPassword;

fn plain(password: &str) -> Result<&str, BadPassword> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !password.is_empty() && password.bytes().all(allowed) { Ok(password) } else { Err(BadPassword) }
}

/// The file's text.
///
/// # Errors
/// When a password is not plain.
pub fn config_text(settings: &EngineSettings<'_>) -> Result<String, BadPassword> {
    let EngineSettings {
        config,
        pod_ip,
        port,
        maxmemory,
        engine_password,
        replication_password,
        socket,
        data_dir,
        user_options,
    } = *settings;
    let (engine_password, replication_password) = (plain(engine_password)?, plain(replication_password)?);
    let appendonly = if config.persistence == Persistence::Aof { "yes" } else { "no" };
    let backlog = BACKLOG_BYTES_MIN.max(maxmemory / 10);
    // A replica that falls behind by a quarter of the data is better off with a fresh copy.
    let (hard, soft) = ((maxmemory / 4).max(2 * backlog), (maxmemory / 8).max(backlog));
    let (engine_user, replication_user) = (ports::ENGINE_USER, ports::REPLICATION_USER);
    let (socket, data_dir) = (socket.display(), data_dir.display());
    Ok(format!(
        "{user_options}
# Owned by BlobStore from here on.
daemonize no
logfile \"\"
dir {data_dir}
port {port}
protected-mode yes
unixsocket {socket}
unixsocketperm 770
cluster-enabled yes
cluster-config-file nodes.conf
cluster-announce-ip {pod_ip}
cluster-node-timeout 2000
cluster-replica-no-failover yes
cluster-allow-replica-migration no
cluster-require-full-coverage no
maxmemory {maxmemory}
maxmemory-policy noeviction
save \"\"
appendonly {appendonly}
appendfsync everysec
repl-diskless-sync yes
repl-diskless-sync-delay 0
repl-diskless-load disabled
repl-ping-replica-period 1
repl-timeout 15
repl-backlog-size {backlog}
client-output-buffer-limit replica {hard} {soft} 60
min-replicas-to-write 0
shutdown-timeout 0
masteruser {replication_user}
masterauth {replication_password}
user default off resetpass -@all
user {engine_user} on >{engine_password} ~* &* +@all
user {replication_user} off >{replication_password} +psync +sync +replconf +ping
"
    ))
}

/// Why the file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Password(#[from] BadPassword),
    #[error("write the engine's configuration")]
    Write(#[source] std::io::Error),
}

/// Writes the file, readable by this user only.
///
/// # Errors
/// When a password is not plain, or the file cannot be written.
pub fn write_config(path: &Path, settings: &EngineSettings<'_>) -> Result<(), ConfigError> {
    let text = config_text(settings)?;
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(path).map_err(ConfigError::Write)?;
    file.write_all(text.as_bytes()).map_err(ConfigError::Write)
}
