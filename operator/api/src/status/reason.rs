//! Condition reasons: stable, CamelCase. Outside things rely on them.

// Ready.
pub const ALL_SHARDS_SERVING: &str = "AllShardsServing";
pub const MISSING_PRIMARY: &str = "MissingPrimary";
pub const SLOTS_UNCOVERED: &str = "SlotsUncovered";
pub const NO_READY_POD: &str = "NoReadyPod";
pub const INITIALIZING: &str = "Initializing";
// Of events alone.
pub const PRIMARY_CHANGED: &str = "PrimaryChanged";
// Progressing.
pub const CREATING: &str = "Creating";
pub const ROLLING: &str = "Rolling";
pub const SCALING: &str = "Scaling";
pub const COMPLETE: &str = "Complete";
pub const ROLL_HELD: &str = "RollHeld";
pub const NO_ROOM_TO_SURGE: &str = "NoRoomToSurge";
// Degraded.
pub const REPLICA_MISSING: &str = "ReplicaMissing";
pub const POD_UNSCHEDULABLE: &str = "PodUnschedulable";
pub const IMAGE_PULL_FAILED: &str = "ImagePullFailed";
pub const ENGINE_CONFIG_REJECTED: &str = "EngineConfigRejected";
pub const ENGINE_OOM_KILLED: &str = "EngineOomKilled";
pub const CONTAINER_CRASHING: &str = "ContainerCrashing";
pub const USERS_SECRET_MISSING: &str = "UsersSecretMissing";
pub const USERS_SECRET_INVALID: &str = "UsersSecretInvalid";
pub const TLS_SECRET_MISSING: &str = "TlsSecretMissing";
pub const TLS_SECRET_INVALID: &str = "TlsSecretInvalid";
pub const ORIGIN_SECRET_MISSING: &str = "OriginSecretMissing";
pub const ORIGIN_SECRET_INVALID: &str = "OriginSecretInvalid";
pub const UNKNOWN_NODE: &str = "UnknownNode";
pub const SIDECAR_UNREACHABLE: &str = "SidecarUnreachable";
pub const FULLY_REDUNDANT: &str = "FullyRedundant";
// SafeToDisrupt.
pub const IN_SYNC_SPARE: &str = "InSyncSpare";
pub const NO_IN_SYNC_REPLICA: &str = "NoInSyncReplica";
pub const SYNC_IN_PROGRESS: &str = "SyncInProgress";
pub const SINGLE_COPY: &str = "SingleCopy";
// MemoryHealthy.
pub const NO_FINDING: &str = "NoFinding";
pub const FINDING_CONFIRMED: &str = "FindingConfirmed";
pub const NOT_MEASURED: &str = "NotMeasured";
pub const HYGIENE_OFF: &str = "HygieneOff";
// RemediationActive.
pub const IDLE: &str = "Idle";
pub const OBSERVING: &str = "Observing";
pub const REMEDYING: &str = "Remedying";
pub const VERIFYING: &str = "Verifying";
pub const HELD: &str = "Held";
pub const EXHAUSTED: &str = "Exhausted";
pub const BREAKER_OPEN: &str = "BreakerOpen";
pub const FROZEN: &str = "Frozen";
// ConfigApplied.
pub const APPLIED: &str = "Applied";
pub const RESTART_PENDING: &str = "RestartPending";
// Reconcilable.
pub const RECONCILING: &str = "Reconciling";
pub const PAUSED: &str = "Paused";
pub const SPEC_INVALID: &str = "SpecInvalid";
pub const PERMISSION_DENIED: &str = "PermissionDenied";
pub const API_FAILURE: &str = "ApiFailure";
// DataLost.
pub const NO_LOSS: &str = "NoLoss";
pub const ALL_MEMBERS_EMPTY: &str = "AllMembersEmpty";
pub const RELEASED_EMPTY: &str = "ReleasedEmpty";
