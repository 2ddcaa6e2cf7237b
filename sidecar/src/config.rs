//! What a pod's sidecar reads at its start: the operator's document, the Secret's files, the pod's own facts.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use blobstore_sidecar_api::config::SidecarConfig;
use blobstore_sidecar_api::ports;

use crate::auth::{Users, UsersError};
use crate::tls::Files;

/// Name of the operator's document in its folder.
pub const SIDECAR_JSON: &str = "sidecar.json";

/// Where things are mounted.
#[derive(Clone, Debug)]
pub struct Folders {
    pub config: PathBuf,
    pub secret: PathBuf,
}

/// Everything, parsed.
#[derive(Clone)]
pub struct PodConfig {
    pub config: SidecarConfig,
    /// Of the document's text: tells two versions apart.
    pub config_hash: String,
    pub pod: String,
    pub pod_ip: IpAddr,
    pub shard: u32,
    pub engine_memory_limit: u64,
    pub secrets: Secrets,
}

/// Tokens and passwords.
#[derive(Clone)]
pub struct Secrets {
    pub admin_token: String,
    pub peer_token: String,
    pub engine_password: String,
    pub replication_password: String,
}

// By hand: secrets must not reach a log.
impl std::fmt::Debug for PodConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodConfig")
            .field("pod", &self.pod)
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("parse {path}: is the sidecar's image older than the operator?")]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("the secret {path} is empty")]
    EmptySecret { path: PathBuf },
    #[error("the environment has no usable {name}: the operator sets it")]
    Environment { name: &'static str },
    #[error("read the users")]
    Users(#[from] UsersError),
}

impl PodConfig {
    /// `env` is the process's environment, as a function so that tests need no process.
    pub fn load(folders: &Folders, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let path = folders.config.join(SIDECAR_JSON);
        let text = read(&path)?;
        let config: SidecarConfig =
            serde_json::from_str(&text).map_err(|source| ConfigError::Parse { path, source })?;
        let fact = |name: &'static str| {
            env(name).filter(|value| !value.is_empty()).ok_or(ConfigError::Environment { name })
        };
        let unusable = |name: &'static str| ConfigError::Environment { name };
        Ok(Self {
            config,
            config_hash: format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes())),
            pod: fact(ports::ENV_POD_NAME)?,
            pod_ip: fact(ports::ENV_POD_IP)?.parse().map_err(|_| unusable(ports::ENV_POD_IP))?,
            shard: fact(ports::ENV_SHARD)?.parse().map_err(|_| unusable(ports::ENV_SHARD))?,
            // Absent when the engine's container has no limit; then nothing compares with it.
            engine_memory_limit: env(ports::ENV_ENGINE_MEMORY_LIMIT)
                .and_then(|bytes| bytes.parse().ok())
                .unwrap_or_default(),
            secrets: Secrets {
                admin_token: secret(&folders.secret, ports::SECRET_ADMIN_TOKEN)?,
                peer_token: secret(&folders.secret, ports::SECRET_PEER_TOKEN)?,
                engine_password: secret(&folders.secret, ports::SECRET_ENGINE_PASSWORD)?,
                replication_password: secret(&folders.secret, ports::SECRET_REPLICATION_PASSWORD)?,
            },
        })
    }
}

/// The users document of the Secret. Its text is kept, to see whether it changed.
pub fn users(folders: &Folders, anonymous: bool) -> Result<(String, Users), ConfigError> {
    let text = read(&folders.secret.join(ports::SECRET_USERS))?;
    let users = Users::parse(&text, anonymous)?;
    Ok((text, users))
}

/// Certificate and key of the client port.
pub fn certificate(folders: &Folders) -> Files {
    let file = |name| folders.secret.join(name);
    Files { certificate: file(ports::SECRET_TLS_CERTIFICATE), key: file(ports::SECRET_TLS_KEY) }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// An empty token would let everyone in who sends none.
fn secret(folder: &Path, name: &str) -> Result<String, ConfigError> {
    let path = folder.join(name);
    let text = read(&path)?.trim().to_owned();
    if text.is_empty() { Err(ConfigError::EmptySecret { path }) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use blobstore_sidecar_api::config::{
        CacheConfig, ClientsConfig, HygieneConfig, LimitsConfig, Persistence, StoreIdentity, TimingConfig,
    };

    use super::*;

    fn document() -> SidecarConfig {
        SidecarConfig {
            store: StoreIdentity { name: "s".into(), namespace: "n".into(), uid: "u".into() },
            shards: 1,
            members: 2,
            partitions: 256,
            persistence: Persistence::None,
            maxmemory_percent: 75,
            evict: false,
            cache: CacheConfig::default(),
            clients: ClientsConfig::default(),
            limits: LimitsConfig::default(),
            timing: TimingConfig::default(),
            hygiene: HygieneConfig::default(),
            anonymous: false,
            origins: Vec::new(),
            compression: None,
            tls: false,
            s3_domains: Vec::new(),
        }
    }

    fn folders(folder: &Path) -> Folders {
        let folders = Folders { config: folder.to_owned(), secret: folder.to_owned() };
        let text = serde_json::to_string(&document()).expect("it renders");
        fs::write(folder.join(SIDECAR_JSON), text).expect("write the document");
        for name in [
            ports::SECRET_ADMIN_TOKEN,
            ports::SECRET_PEER_TOKEN,
            ports::SECRET_ENGINE_PASSWORD,
            ports::SECRET_REPLICATION_PASSWORD,
        ] {
            fs::write(folder.join(name), format!("{name}-value\n")).expect("write a secret");
        }
        folders
    }

    fn env(name: &str) -> Option<String> {
        let value = match name {
            ports::ENV_POD_NAME => "s-0-0",
            ports::ENV_POD_IP => "198.18.0.7",
            ports::ENV_SHARD => "0",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn everything_is_read_and_trimmed() {
        let folder = tempfile::tempdir().expect("a folder");
        let loaded = PodConfig::load(&folders(folder.path()), env).expect("a complete pod");
        assert_eq!((loaded.pod.as_str(), loaded.shard, loaded.engine_memory_limit), ("s-0-0", 0, 0));
        assert_eq!(loaded.secrets.peer_token, "peer-token-value");
        assert_eq!(loaded.config, document());
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let folders = folders(folder.path());
        let error = PodConfig::load(&folders, |_| None).expect_err("no environment");
        assert!(error.to_string().contains(ports::ENV_POD_NAME), "{error}");
        fs::write(folder.path().join(ports::SECRET_PEER_TOKEN), "\n").expect("empty a secret");
        let error = PodConfig::load(&folders, env).expect_err("an empty token");
        assert!(error.to_string().contains("peer-token"), "{error}");
        fs::write(folder.path().join(SIDECAR_JSON), r#"{"later": 1}"#).expect("write");
        let error = PodConfig::load(&folders, env).expect_err("a document of tomorrow");
        assert!(error.to_string().contains("older than the operator"), "{error}");
    }
}
