//! `SidecarConfig` from the spec: the one place where the resource's fields become the sidecar's document.

use blobstore_operator_api::spec::{self, BlobStoreSpec, HygieneMode};
use blobstore_operator_api::units::{Bytes, Period};
use blobstore_sidecar_api::config::{
    CacheConfig, ClientsConfig, CompressionConfig, HygieneConfig, LimitsConfig, Persistence, SidecarConfig,
    StoreIdentity, TimingConfig,
};

use blobstore_sidecar_api::domains::Domains;

use super::{Problems, origins};

pub(super) fn config(spec: &BlobStoreSpec, store: StoreIdentity, problems: &mut Problems) -> SidecarConfig {
    SidecarConfig {
        store,
        shards: spec.shards,
        members: spec.replicas.saturating_add(1),
        partitions: spec.partitions,
        persistence: match spec.persistence {
            spec::Persistence::None => Persistence::None,
            spec::Persistence::Aof => Persistence::Aof,
        },
        maxmemory_percent: spec.memory.maxmemory_percent,
        evict: spec.cache,
        cache: cache(&spec.sidecar.cache, problems),
        clients: clients(&spec.sidecar.clients, problems),
        limits: limits(&spec.sidecar.limits, problems),
        timing: timing(&spec.sidecar.timing, problems),
        hygiene: thresholds(spec.hygiene.mode, &spec.hygiene.thresholds, problems),
        anonymous: spec.auth.anonymous,
        origins: origins::configs(spec, problems),
        compression: compression(&spec.sidecar.compression, problems),
        tls: spec.auth.tls_secret.is_some(),
        s3_domains: domains(&spec.sidecar.s3, problems),
    }
}

/// What the API server checks, too, and more: an address is no domain.
fn domains(s3: &spec::S3Spec, problems: &mut Problems) -> Vec<String> {
    let spec::S3Spec { domains } = s3;
    if let Err(error) = Domains::new(domains.clone()) {
        problems.add("spec.sidecar.s3.domains", error.to_string());
    }
    domains.clone()
}

/// Checked also while it is off: whoever switches it on must not find out then.
fn compression(compression: &spec::CompressionSpec, problems: &mut Problems) -> Option<CompressionConfig> {
    let spec::CompressionSpec { mode, min_age } = compression;
    let min_age_seconds = seconds("spec.sidecar.compression.minAge", min_age, problems);
    match mode {
        spec::CompressionMode::Off => None,
        spec::CompressionMode::Cold => Some(CompressionConfig { min_age_seconds }),
    }
}

fn cache(cache: &spec::CacheSpec, problems: &mut Problems) -> CacheConfig {
    let spec::CacheSpec { max_bytes, max_entry_bytes, tenant_share_percent } = cache;
    let max_bytes = problems.take("spec.sidecar.cache.maxBytes", max_bytes.parse());
    let max_entry_bytes = problems.take("spec.sidecar.cache.maxEntryBytes", max_entry_bytes.parse());
    if max_bytes > 0 && max_entry_bytes > max_bytes {
        problems
            .add("spec.sidecar.cache.maxEntryBytes", "must not be larger than spec.sidecar.cache.maxBytes");
    }
    CacheConfig { max_bytes, max_entry_bytes, tenant_share_percent: *tenant_share_percent }
}

fn clients(clients: &spec::ClientsSpec, problems: &mut Problems) -> ClientsConfig {
    let spec::ClientsSpec { max, ttl } = clients;
    ClientsConfig { max: *max, ttl_seconds: seconds("spec.sidecar.clients.ttl", ttl, problems) }
}

fn limits(limits: &spec::LimitsSpec, problems: &mut Problems) -> LimitsConfig {
    let spec::LimitsSpec {
        connections_max,
        inflight_bytes_max,
        body_bytes_max,
        body_idle,
        header,
        drain,
        admission_wait,
    } = limits;
    LimitsConfig {
        connections_max: *connections_max,
        inflight_bytes_max: bytes("spec.sidecar.limits.inflightBytesMax", inflight_bytes_max, problems),
        body_bytes_max: bytes("spec.sidecar.limits.bodyBytesMax", body_bytes_max, problems),
        body_idle_seconds: seconds("spec.sidecar.limits.bodyIdle", body_idle, problems),
        header_seconds: seconds("spec.sidecar.limits.header", header, problems),
        drain_seconds: seconds("spec.sidecar.limits.drain", drain, problems),
        admission_wait_ms: millis("spec.sidecar.limits.admissionWait", admission_wait, problems),
    }
}

fn timing(timing: &spec::TimingSpec, problems: &mut Problems) -> TimingConfig {
    let spec::TimingSpec { read_window, ack_timeout, failover_after } = timing;
    TimingConfig {
        read_window_ms: millis("spec.sidecar.timing.readWindow", read_window, problems),
        ack_timeout_ms: millis("spec.sidecar.timing.ackTimeout", ack_timeout, problems),
        failover_after_ms: millis("spec.sidecar.timing.failoverAfter", failover_after, problems),
    }
}

fn thresholds(mode: HygieneMode, spec: &spec::ThresholdsSpec, problems: &mut Problems) -> HygieneConfig {
    let spec::ThresholdsSpec {
        sample,
        audit_interval,
        orphan_grace,
        orphan_bytes_min,
        orphan_keys_min,
        residual_bytes_min,
        residual_permille,
        confirm,
        warmup,
        trend_bucket,
        client_buffers_bytes_min,
        client_bytes_max,
        retained_bytes_min,
        fragmented_bytes_min,
        fragmented_used_bytes_min,
        pool_lease_max,
        task_excess_max,
        balance_hold,
    } = spec;
    let mut time = |name: &str, period: &Period| seconds(&threshold(name), period, problems);
    let sample_seconds = time("sample", sample).max(1);
    let audit_interval_seconds = time("auditInterval", audit_interval);
    let orphan_grace_seconds = time("orphanGrace", orphan_grace);
    let confirm_seconds = time("confirm", confirm);
    let warmup_seconds = time("warmup", warmup);
    let trend_bucket_seconds = time("trendBucket", trend_bucket).max(1);
    let pool_lease_seconds_max = time("poolLeaseMax", pool_lease_max);
    let balance_hold_seconds = time("balanceHold", balance_hold);
    let mut size = |name: &str, size: &Bytes| bytes(&threshold(name), size, problems);
    HygieneConfig {
        enabled: mode != HygieneMode::Off,
        sample_seconds,
        audit_interval_seconds,
        orphan_grace_seconds,
        orphan_bytes_min: size("orphanBytesMin", orphan_bytes_min),
        orphan_keys_min: *orphan_keys_min,
        residual_bytes_min: size("residualBytesMin", residual_bytes_min),
        residual_permille: *residual_permille,
        confirm_seconds,
        warmup_seconds,
        trend_bucket_seconds,
        client_buffers_bytes_min: size("clientBuffersBytesMin", client_buffers_bytes_min),
        client_bytes_max: size("clientBytesMax", client_bytes_max),
        retained_bytes_min: size("retainedBytesMin", retained_bytes_min),
        fragmented_bytes_min: size("fragmentedBytesMin", fragmented_bytes_min),
        fragmented_used_bytes_min: size("fragmentedUsedBytesMin", fragmented_used_bytes_min),
        pool_lease_seconds_max,
        task_excess_max: *task_excess_max,
        balance_hold_seconds,
    }
}

fn threshold(name: &str) -> String {
    format!("spec.hygiene.thresholds.{name}")
}

fn bytes(field: &str, bytes: &Bytes, problems: &mut Problems) -> u64 {
    problems.take(field, bytes.parse())
}

pub(super) fn millis(field: &str, period: &Period, problems: &mut Problems) -> u64 {
    problems.take(field, period.parse_millis())
}

/// Whole seconds, rounded up: half a second must not become none.
pub(super) fn seconds(field: &str, period: &Period, problems: &mut Problems) -> u64 {
    millis(field, period, problems).div_ceil(1_000)
}
