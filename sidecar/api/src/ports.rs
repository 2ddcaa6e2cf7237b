//! Ports, paths, environment and header names that a pod's containers and the operator agree on.

/// Plain HTTP and S3 for clients.
pub const CLIENT_PORT: u16 = 9000;
/// Health, metrics, reports and actions. Open to the operator and the monitoring only.
pub const ADMIN_PORT: u16 = 9001;
/// Forwarded requests and identity between the sidecars of one store.
pub const PEER_PORT: u16 = 9002;
/// The engine, open to the store's pods only.
pub const ENGINE_PORT: u16 = 6379;
/// The engine's cluster bus: the engine's port + 10000.
pub const ENGINE_BUS_PORT: u16 = ENGINE_PORT + 10_000;

/// Folder shared by the pod's containers (an emptyDir in memory): sockets.
pub const RUN_DIR: &str = "/run/blobstore";
/// The engine's unix socket: the sidecar is its only client.
pub const ENGINE_SOCKET: &str = "/run/blobstore/engine.sock";
/// The launcher's line protocol to the sidecar (`boot.rs`).
pub const BOOT_SOCKET: &str = "/run/blobstore/boot.sock";
/// Folder (emptyDir) that the init container `install` copies the static binary into.
pub const BIN_DIR: &str = "/opt/blobstore";
/// The launcher inside the engine container.
pub const LAUNCHER: &str = "/opt/blobstore/blobstore-sidecar";
/// Data of the engine: AOF, `nodes.conf`, and the launcher's own files.
pub const DATA_DIR: &str = "/data";
/// ConfigMap mount: `sidecar.json` (`config::SidecarConfig`) and `engine.conf` (the user's engine options).
pub const CONFIG_DIR: &str = "/etc/blobstore/config";
/// Secret mount: the files named below.
pub const SECRET_DIR: &str = "/etc/blobstore/secret";

/// Bearer token of the admin port.
pub const SECRET_ADMIN_TOKEN: &str = "admin-token";
/// Bearer token of the peer port; also the key of the identity proof.
pub const SECRET_PEER_TOKEN: &str = "peer-token";
/// Password of the engine user [`ENGINE_USER`].
pub const SECRET_ENGINE_PASSWORD: &str = "engine-password";
/// Password of the engine user [`REPLICATION_USER`].
pub const SECRET_REPLICATION_PASSWORD: &str = "replication-password";
/// YAML list of users: name, accessKey, secretKey, token, rights.
pub const SECRET_USERS: &str = "users.yaml";
/// Certificate and key of the client port, named as in a Secret of type `kubernetes.io/tls`.
pub const SECRET_TLS_CERTIFICATE: &str = "tls.crt";
pub const SECRET_TLS_KEY: &str = "tls.key";

/// Folders with the credentials of the origins: one per origin, by its name.
pub const ORIGINS_DIR: &str = "/etc/blobstore/origins";
/// Volumes of file origins: one per origin, by its name.
pub const ORIGIN_VOLUMES_DIR: &str = "/var/lib/blobstore/origins";
/// Files in an origin's folder. S3:
pub const ORIGIN_ACCESS_KEY: &str = "accessKey";
pub const ORIGIN_SECRET_KEY: &str = "secretKey";
pub const ORIGIN_SESSION_TOKEN: &str = "sessionToken";
/// GCS: the JSON of a service account.
pub const ORIGIN_SERVICE_ACCOUNT: &str = "serviceAccount";
/// Azure: the account's key, or a SAS token.
pub const ORIGIN_ACCOUNT_KEY: &str = "accountKey";
pub const ORIGIN_SAS_TOKEN: &str = "sasToken";
/// HTTP: the value of the `Authorization` header.
pub const ORIGIN_AUTHORIZATION: &str = "authorization";
/// All that speak TLS: certificates (PEM) to trust beside the public ones.
pub const ORIGIN_CA: &str = "ca.crt";

/// The sidecar's user on its engine: all commands. The engine's `default` user is off.
pub const ENGINE_USER: &str = "blobstore";
/// The replicas' user on the primary: PSYNC, REPLCONF and PING. Off at every start of an engine.
pub const REPLICATION_USER: &str = "replication";

/// Environment of both containers.
pub const ENV_POD_NAME: &str = "POD_NAME";
pub const ENV_POD_UID: &str = "POD_UID";
pub const ENV_POD_IP: &str = "POD_IP";
pub const ENV_POD_NAMESPACE: &str = "POD_NAMESPACE";
pub const ENV_NODE_NAME: &str = "NODE_NAME";
/// Index of the pod's shard, from 0.
/// Read by the sidecar's jemalloc when it starts. With this value the sampler of heap profiles is there, and rests.
pub const ENV_ALLOCATOR: &str = "_RJEM_MALLOC_CONF";
pub const ALLOCATOR: &str = "prof:true,prof_active:false";
pub const ENV_SHARD: &str = "BLOBSTORE_SHARD";
/// The engine container's memory limit in bytes (downward API), used when no cgroup limit can be read.
pub const ENV_ENGINE_MEMORY_LIMIT: &str = "BLOBSTORE_ENGINE_MEMORY_LIMIT";

/// Marks a forwarded request: never forwarded again.
pub const HEADER_FORWARDED: &str = "x-blobstore-forwarded";
/// On 421: who owns the key, as `ip:port` of its peer port, and the owner's epoch.
pub const HEADER_OWNER: &str = "x-blobstore-owner";
pub const HEADER_EPOCH: &str = "x-blobstore-epoch";
