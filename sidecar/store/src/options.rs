//! What the store is told at its start: where the engine is, limits, times, and where a test lets it stop.

use std::{path::PathBuf, sync::Arc, time::Duration};

use blobstore_sidecar_api::config::{CacheConfig, LimitsConfig, SidecarConfig};

use crate::{Clock, NoPeers, NoSpare, Peers, Spare, SystemClock, multipart::PART_BYTES_MIN};

/// Two hundredths of what an engine gives: 1 GB is verified in two minutes, 100 GB in three and a half hours.
const SCRUB_BYTES_PER_SECOND: u64 = 8 << 20;

/// Where the pod's engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineAddress {
    Unix(PathBuf),
    Tcp { host: String, port: u16 },
}

/// Engine user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct EngineAuth {
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for EngineAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineAuth").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Everything the store needs to know at start.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    pub auth: Option<EngineAuth>,
    /// Partitions of the store, 1 to 256.
    pub partitions: u32,
    /// True: evict the coldest objects from 90 % of the engine's `maxmemory`. False: refuse.
    pub evict: bool,
    pub cache: CacheConfig,
    pub limits: LimitsConfig,
    pub timing: StoreTiming,
    /// How to reach the home partition of a bucket on another shard.
    pub peers: Arc<dyn Peers>,
    /// Where a chunk may be had that the engine has lost.
    pub spare: Arc<dyn Spare>,
    /// What the scrubber reads of the engine; 0 switches it off.
    pub scrub_bytes_per_second: u64,
    /// Bodies that nobody read or wrote for this long are packed. `None`: none are.
    pub compress_after: Option<Duration>,
    /// Smallest part of a multipart upload but the last; 0 takes any.
    pub part_bytes_min: u64,
    /// What the wall clock is; tests step it.
    pub clock: Arc<dyn Clock>,
    /// Where to die, for tests of what a crash leaves behind. `None` in production.
    pub crash: Option<CrashPoint>,
}

/// Steps of an upload at which a test may let the store stop, as if the process had been killed there: nothing is
/// cleaned up by the one who stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    Reserved,
    ManifestWritten,
    ChunksWritten,
    RecordStaged,
    Committed,
    HalfFreed,
    /// Deletion: the object is gone, its chunks are not.
    Deleted,
    /// New headers or tags: the record that has them is staged.
    UpdateStaged,
    /// New headers or tags: they are there, nobody was told.
    Updated,
    /// An object's end, by its own time or a lifecycle rule: it is gone, its chunks and its entry are not.
    Ended,
    /// Multipart: a part's chunks are there, its upload does not know it.
    PartStored,
    /// Multipart: the list of parts was found good.
    PartsChecked,
    /// Multipart: part list and record are there, the commit is not.
    PartListWritten,
    /// Packing: chunks, manifest and record are there, the swap is not.
    PackStaged,
    /// Packing: the record names the packed body, the plain one is not freed.
    PackSwapped,
}

impl CrashPoint {
    /// Those of a plain upload.
    pub const OF_PUT: [Self; 6] = [
        Self::Reserved,
        Self::ManifestWritten,
        Self::ChunksWritten,
        Self::RecordStaged,
        Self::Committed,
        Self::HalfFreed,
    ];
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            auth: None,
            partitions: blobstore_sidecar_core::partition::PARTITIONS_MAX,
            evict: false,
            cache: CacheConfig::default(),
            limits: LimitsConfig::default(),
            timing: StoreTiming::default(),
            peers: Arc::new(NoPeers),
            part_bytes_min: PART_BYTES_MIN,
            spare: Arc::new(NoSpare),
            scrub_bytes_per_second: SCRUB_BYTES_PER_SECOND,
            compress_after: None,
            clock: Arc::new(SystemClock::default()),
            crash: None,
        }
    }
}

impl StoreOptions {
    /// The options that the resource's document asks for.
    pub fn from_config(config: &SidecarConfig, auth: Option<EngineAuth>, peers: Arc<dyn Peers>) -> Self {
        Self {
            auth,
            partitions: config.partitions,
            evict: config.evict,
            cache: config.cache.clone(),
            limits: config.limits.clone(),
            timing: StoreTiming::default(),
            peers,
            part_bytes_min: PART_BYTES_MIN,
            spare: Arc::new(NoSpare),
            scrub_bytes_per_second: SCRUB_BYTES_PER_SECOND,
            compress_after: config
                .compression
                .as_ref()
                .map(|compression| Duration::from_secs(compression.min_age_seconds)),
            clock: Arc::new(SystemClock::default()),
            crash: None,
        }
    }
}

/// Times of the store's own machinery; tests scale them down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreTiming {
    /// An upload that has not renewed its journal entry for this long is swept.
    pub journal_ttl: Duration,
    /// Pause between two passes of the sweeper.
    pub sweep_every: Duration,
    /// A multipart upload without a new part for this long is swept.
    pub upload_ttl: Duration,
    /// Pause between two passes of the scrubber, and before the first.
    pub scrub_every: Duration,
    /// Pause between two passes of the packer, and before the first.
    pub pack_every: Duration,
    /// Pause between two looks at the buckets' lifecycle rules.
    pub lifecycle_every: Duration,
    /// Readers that delay a free for longer are cut.
    pub reader_grace: Duration,
    /// One command, or one chunk, of the engine.
    pub engine_timeout: Duration,
}

impl Default for StoreTiming {
    fn default() -> Self {
        Self {
            journal_ttl: Duration::from_secs(120),
            sweep_every: Duration::from_secs(10),
            scrub_every: Duration::from_secs(6 * 3600),
            pack_every: Duration::from_secs(3600),
            lifecycle_every: Duration::from_secs(3600),
            upload_ttl: Duration::from_secs(7 * 24 * 3600),
            reader_grace: Duration::from_secs(60),
            engine_timeout: Duration::from_secs(5),
        }
    }
}
