//! A `BlobStore` parsed once: every quantity a number, every contradiction named. What follows takes `ValidStore`.

mod hygiene;
mod origins;
mod sidecar;

use std::collections::BTreeMap;
use std::fmt;

use blobstore_operator_api::spec::{BlobStoreSpec, Persistence, SchedulingSpec};
use blobstore_operator_api::{BlobStore, names};
use blobstore_sidecar_api::config::{SidecarConfig, StoreIdentity};

use crate::secrets::{self, NamedSecret};

pub use hygiene::{Breaker, Cooldowns, Deadlines, Hygiene};
pub use origins::OriginMount;

/// Memory of the sidecar beside cache and bytes in flight: runtime, connections, ledger of a million objects.
pub const SIDECAR_BASE_BYTES: u64 = 64 << 20;
/// Below this an engine cannot hold its backlog, its buffers and a useful amount of data.
pub const ENGINE_MEMORY_BYTES_MIN: u64 = 64 << 20;
/// Chunk (256 KiB) × pipelining depth 4 × a few uploads: less would serialise every transfer.
pub const INFLIGHT_BYTES_MIN: u64 = 4 << 20;
/// What a replica that lost its link for a moment may miss without a full copy: the launcher's backlog is a
/// sixteenth of maxmemory, at least this.
pub const BACKLOG_BYTES_MIN: u64 = 1 << 20;

/// A store that can be planned and built.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidStore {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub generation: i64,
    pub shards: u32,
    pub replicas: u32,
    pub engine: Engine,
    pub sidecar_pod: Container,
    /// The document that sidecars and launchers read.
    pub sidecar: SidecarConfig,
    /// The sidecar's allocator is started with its sampler.
    pub heap_profiles: bool,
    pub storage: Option<Storage>,
    pub hygiene: Hygiene,
    pub users_secret: Option<String>,
    /// Certificate and key of the client port.
    pub tls_secret: Option<String>,
    pub origins: Vec<OriginMount>,
    /// All of the user's Secrets that the resource names.
    pub secrets: Vec<NamedSecret>,
    pub scheduling: SchedulingSpec,
    pub paused: bool,
    /// Value of the acknowledge annotation, if any.
    pub acknowledged: Option<String>,
}

/// The engine container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    pub image: String,
    pub options: BTreeMap<String, String>,
    pub container: Container,
}

/// Amounts of one container, as texts that Kubernetes takes and as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub memory_limit_bytes: u64,
    pub limits: BTreeMap<String, String>,
    pub requests: BTreeMap<String, String>,
}

/// Every pod's volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    pub size: String,
    pub size_bytes: u64,
    pub class_name: Option<String>,
}

/// One field that cannot stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub field: String,
    pub message: String,
}

/// Why a store cannot be built. Nothing of it is applied; what runs keeps running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub problems: Vec<Problem>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", problem.field, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

impl ValidStore {
    /// Pods per shard, the primary included.
    pub fn members(&self) -> u32 {
        self.replicas + 1
    }
}

/// Parses and cross-checks. All problems are reported at once.
pub fn validate(store: &BlobStore) -> Result<ValidStore, Invalid> {
    let mut problems = Problems::default();
    let spec = &store.spec;
    let name = store.metadata.name.clone().unwrap_or_default();
    if name.is_empty() || name.len() > names::STORE_NAME_CHARS_MAX {
        problems.add("metadata.name", format!("must have 1 to {} characters", names::STORE_NAME_CHARS_MAX));
    }
    counts(spec, &mut problems);
    let engine = engine(spec, &mut problems);
    let sidecar_pod = sidecar_container(spec, &mut problems);
    let identity = StoreIdentity {
        name: name.clone(),
        namespace: store.metadata.namespace.clone().unwrap_or_default(),
        uid: store.metadata.uid.clone().unwrap_or_default(),
    };
    let sidecar = sidecar::config(spec, identity, &mut problems);
    let storage = storage(spec, &mut problems);
    let hygiene = hygiene::hygiene(&spec.hygiene, &mut problems);
    memory(&engine.container, &sidecar_pod, &sidecar, &mut problems);
    if !problems.0.is_empty() {
        return Err(Invalid { problems: problems.0 });
    }
    let annotations = store.metadata.annotations.as_ref();
    Ok(ValidStore {
        name,
        namespace: sidecar.store.namespace.clone(),
        uid: sidecar.store.uid.clone(),
        generation: store.metadata.generation.unwrap_or_default(),
        shards: spec.shards,
        replicas: spec.replicas,
        engine,
        sidecar_pod,
        sidecar,
        heap_profiles: spec.sidecar.heap_profiles,
        storage,
        hygiene,
        users_secret: spec.auth.users_secret.as_ref().map(|secret| secret.name.clone()),
        tls_secret: spec.auth.tls_secret.as_ref().map(|secret| secret.name.clone()),
        origins: origins::mounts(spec),
        secrets: secrets::named(spec),
        scheduling: spec.scheduling.clone(),
        paused: spec.lifecycle.paused,
        acknowledged: annotations.and_then(|all| all.get(names::ANNOTATION_ACKNOWLEDGE)).cloned(),
    })
}

/// Problems as they are found.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn add(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(Problem { field: field.to_owned(), message: message.into() });
    }

    /// The value, or its default and a problem: the caller goes on, so that all problems are found.
    pub(crate) fn take<T: Default, E: fmt::Display>(&mut self, field: &str, parsed: Result<T, E>) -> T {
        parsed.unwrap_or_else(|error| {
            self.add(field, error.to_string());
            T::default()
        })
    }
}

/// The CRD's rules again, for objects that an older CRD let in.
fn counts(spec: &BlobStoreSpec, problems: &mut Problems) {
    use blobstore_operator_api::spec::{PARTITIONS_MAX, REPLICAS_MAX, SHARDS_MAX};
    if spec.shards == 0 || spec.shards > SHARDS_MAX {
        problems.add("spec.shards", format!("must be 1 to {SHARDS_MAX}"));
    }
    if spec.replicas > REPLICAS_MAX {
        problems.add("spec.replicas", format!("must be 0 to {REPLICAS_MAX}"));
    }
    if !spec.partitions.is_power_of_two() || spec.partitions > PARTITIONS_MAX {
        problems.add("spec.partitions", format!("must be a power of two from 1 to {PARTITIONS_MAX}"));
    }
    if spec.shards > spec.partitions {
        problems.add(
            "spec.shards",
            format!("{} shards cannot share {} partitions", spec.shards, spec.partitions),
        );
    }
    if !(10..=90).contains(&spec.memory.maxmemory_percent) {
        problems.add("spec.memory.maxmemoryPercent", "must be 10 to 90");
    }
}

fn engine(spec: &BlobStoreSpec, problems: &mut Problems) -> Engine {
    let resources = &spec.resources.engine;
    let memory = problems.take("spec.resources.engine.limits.memory", resources.limits.memory.parse());
    if let Some(request) = &resources.requests.memory {
        let request = problems.take("spec.resources.engine.requests.memory", request.parse());
        if request > memory {
            problems.add("spec.resources.engine.requests.memory", "must not be above the limit");
        }
    }
    for option in spec.engine.config.0.iter().filter(|(_, value)| value.contains(['\n', '\r', '\0'])) {
        problems.add("spec.engine.config", format!("the value of {} must be one line", option.0));
    }
    if spec.engine.image.trim().is_empty() {
        problems.add("spec.engine.image", "must name an image");
    }
    let limit = resources.limits.memory.to_string();
    let request = resources.requests.memory.as_ref().map_or(limit.clone(), ToString::to_string);
    let cpu = (resources.limits.cpu.as_ref(), resources.requests.cpu.as_ref());
    cpu_amounts("spec.resources.engine", cpu, problems);
    Engine {
        image: spec.engine.image.clone(),
        options: spec.engine.config.0.clone(),
        container: Container {
            memory_limit_bytes: memory,
            limits: amounts(Some(limit), cpu.0.map(ToString::to_string)),
            requests: amounts(Some(request), cpu.1.map(ToString::to_string)),
        },
    }
}

fn sidecar_container(spec: &BlobStoreSpec, problems: &mut Problems) -> Container {
    let resources = &spec.resources.sidecar;
    let limit = resources.limits.memory.to_string();
    let memory = problems.take("spec.resources.sidecar.limits.memory", resources.limits.memory.parse());
    if let Some(request) = &resources.requests.memory {
        let request = problems.take("spec.resources.sidecar.requests.memory", request.parse());
        if request > memory {
            problems.add("spec.resources.sidecar.requests.memory", "must not be above the limit");
        }
    }
    let cpu = (resources.limits.cpu.as_ref(), resources.requests.cpu.as_ref());
    cpu_amounts("spec.resources.sidecar", cpu, problems);
    Container {
        memory_limit_bytes: memory,
        limits: amounts(Some(limit), cpu.0.map(ToString::to_string)),
        requests: amounts(
            resources.requests.memory.as_ref().map(ToString::to_string),
            cpu.1.map(ToString::to_string),
        ),
    }
}

type CpuAmounts<'a> =
    (Option<&'a blobstore_operator_api::units::Cpu>, Option<&'a blobstore_operator_api::units::Cpu>);

/// Limit and request, both optional.
fn cpu_amounts(at: &str, (limit, request): CpuAmounts<'_>, problems: &mut Problems) {
    let limit = limit.map(|cpu| problems.take(&format!("{at}.limits.cpu"), cpu.parse_millis()));
    let request = request.map(|cpu| problems.take(&format!("{at}.requests.cpu"), cpu.parse_millis()));
    if let (Some(limit), Some(request)) = (limit, request)
        && request > limit
    {
        problems.add(&format!("{at}.requests.cpu"), "must not be above the limit");
    }
}

fn amounts(memory: Option<String>, cpu: Option<String>) -> BTreeMap<String, String> {
    [("memory", memory), ("cpu", cpu)]
        .into_iter()
        .filter_map(|(name, amount)| Some((name.to_owned(), amount?)))
        .collect()
}

fn storage(spec: &BlobStoreSpec, problems: &mut Problems) -> Option<Storage> {
    match (spec.persistence, &spec.storage) {
        (Persistence::None, None) => None,
        (Persistence::None, Some(_)) => {
            problems.add("spec.storage", "only with spec.persistence Aof");
            None
        }
        (Persistence::Aof, None) => {
            problems.add("spec.storage", "required when spec.persistence is Aof");
            None
        }
        (Persistence::Aof, Some(storage)) => {
            let size_bytes = problems.take("spec.storage.size", storage.size.parse());
            let class_name = Some(storage.class_name.clone()).filter(|name| !name.is_empty());
            Some(Storage { size: storage.size.to_string(), size_bytes, class_name })
        }
    }
}

/// Settings that are each fine and together cannot work: the pod would start and be killed under load.
fn memory(engine: &Container, sidecar_pod: &Container, sidecar: &SidecarConfig, problems: &mut Problems) {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    if engine.memory_limit_bytes < ENGINE_MEMORY_BYTES_MIN {
        problems.add(
            "spec.resources.engine.limits.memory",
            format!("must be at least {} MiB", mib(ENGINE_MEMORY_BYTES_MIN)),
        );
    }
    let maxmemory = engine.memory_limit_bytes / 100 * u64::from(sidecar.maxmemory_percent);
    let backlog = (maxmemory / 16).max(BACKLOG_BYTES_MIN);
    let spare = engine.memory_limit_bytes.saturating_sub(maxmemory);
    if spare < backlog && sidecar.maxmemory_percent <= 90 {
        problems.add(
            "spec.memory.maxmemoryPercent",
            format!(
                "{} % leaves {} MiB of the engine's limit for buffers, but the replication backlog alone takes {} MiB",
                sidecar.maxmemory_percent,
                mib(spare),
                mib(backlog)
            ),
        );
    }
    let need = sidecar
        .cache
        .max_bytes
        .saturating_add(sidecar.limits.inflight_bytes_max)
        .saturating_add(SIDECAR_BASE_BYTES);
    if need > sidecar_pod.memory_limit_bytes {
        problems.add(
            "spec.resources.sidecar.limits.memory",
            format!(
                "{} MiB cannot hold the cache ({} MiB), the bytes in flight ({} MiB) and {} MiB of base: \
                 raise the limit to {} MiB, or lower spec.sidecar.cache.maxBytes or \
                 spec.sidecar.limits.inflightBytesMax",
                mib(sidecar_pod.memory_limit_bytes),
                mib(sidecar.cache.max_bytes),
                mib(sidecar.limits.inflight_bytes_max),
                mib(SIDECAR_BASE_BYTES),
                mib(need)
            ),
        );
    }
    if sidecar.limits.inflight_bytes_max < INFLIGHT_BYTES_MIN {
        problems.add(
            "spec.sidecar.limits.inflightBytesMax",
            format!("must be at least {} MiB", mib(INFLIGHT_BYTES_MIN)),
        );
    }
}
