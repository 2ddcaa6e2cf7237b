//! Hygiene's metrics. Labels are verdict classes, ledger states and action names: bounded sets.

use std::sync::LazyLock;

use blobstore_sidecar_api::report::VerdictState;
use blobstore_sidecar_core::hygiene::detector::Evaluation;
use blobstore_sidecar_core::hygiene::sample::{CLASSES, Keyspace, Sample};
use blobstore_sidecar_runtime::memory;
use blobstore_sidecar_runtime::metrics::{counter, counter_vec, gauge, gauge_vec};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

macro_rules! gauges {
    ($($name:ident = $metric:literal, $help:literal;)+) => {
        $(static $name: LazyLock<IntGauge> =
            LazyLock::new(|| gauge(concat!("blobstore_sidecar_", $metric), $help));)+
    };
}

gauges! {
    RESIDUAL = "residual_bytes", "Bytes in the engine that no key we know of explains.";
    FLOOR = "residual_floor_bytes", "Residual above the baseline that counts as a finding.";
    ORPHAN_BYTES = "orphan_bytes", "Bytes of orphans that two audit passes agree on.";
    ORPHAN_KEYS = "orphan_keys", "Keys of orphans that two audit passes agree on.";
    USED = "engine_used_bytes", "used_memory of the engine.";
    DATASET = "engine_dataset_bytes", "used_memory_dataset of the engine.";
    RSS = "engine_rss_bytes", "Resident memory of the engine.";
    ACTIVE = "engine_allocator_active_bytes", "Pages of the engine's allocator that hold live data.";
    RESIDENT = "engine_allocator_resident_bytes", "Pages of the engine's allocator that are resident.";
    CLIENTS = "engine_clients_bytes", "Memory of the engine's client connections.";
    MAXMEMORY = "engine_maxmemory_bytes", "The engine's maxmemory, 0 without one.";
    ALLOCATED = "process_allocated_bytes", "Live bytes of the sidecar's own heap.";
    PROCESS = "process_resident_bytes", "Resident memory of the sidecar.";
}

static LEDGER: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauge_vec("blobstore_sidecar_ledger_bytes", "Modelled bytes of what the store knows of.", &["state"])
});
static VERDICT: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauge_vec("blobstore_sidecar_verdict", "1 while a verdict of this class is confirmed.", &["class"])
});
static VERDICT_BYTES: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauge_vec("blobstore_sidecar_verdict_bytes", "Bytes at stake in a confirmed verdict.", &["class"])
});
pub(crate) static PASSES: LazyLock<IntCounter> =
    LazyLock::new(|| counter("blobstore_sidecar_audit_passes_total", "Finished audit passes."));
pub(crate) static KEYS: LazyLock<IntCounter> =
    LazyLock::new(|| counter("blobstore_sidecar_audit_keys_total", "Keys seen by finished audit passes."));
pub(crate) static DRIFTS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter("blobstore_sidecar_ledger_drifts_total", "Audit passes that contradicted the ledger.")
});
pub(crate) static ERRORS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec("blobstore_sidecar_hygiene_errors_total", "Failed looks at the engine.", &["category"])
});
pub(crate) static ACTIONS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec("blobstore_sidecar_actions_total", "Actions of hygiene that ended.", &["action", "state"])
});

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Publishes one evaluation. Figures without a sample keep their last value.
pub(crate) fn publish(sample: &Sample, evaluation: &Evaluation) {
    if let Some(engine) = &sample.engine {
        USED.set(signed(engine.used));
        DATASET.set(signed(engine.dataset));
        RSS.set(signed(engine.rss));
        CLIENTS.set(signed(engine.clients));
        MAXMEMORY.set(signed(engine.maxmemory));
        let pages = engine.pages.unwrap_or_default();
        ACTIVE.set(signed(pages.active));
        RESIDENT.set(signed(pages.resident));
    }
    if let Some(Keyspace::Compared { ledger, .. }) = &sample.keyspace {
        for (state, bytes) in [
            ("committed", ledger.stored.saturating_sub(ledger.pending_free)),
            ("in_flight", ledger.in_flight),
            ("pending_free", ledger.pending_free),
        ] {
            LEDGER.with_label_values(&[state]).set(signed(bytes));
        }
    }
    if let Some(standing) = &evaluation.standing {
        RESIDUAL.set(standing.residual as i64);
        FLOOR.set(standing.floor as i64);
    }
    if let Some(audit) = &sample.audit {
        ORPHAN_BYTES.set(signed(audit.orphan_bytes));
        ORPHAN_KEYS.set(signed(audit.orphan_keys));
    }
    for class in CLASSES {
        let confirmed = evaluation.verdict(class).filter(|verdict| verdict.state == VerdictState::Confirmed);
        let name = format!("{class:?}");
        VERDICT.with_label_values(&[&name]).set(i64::from(confirmed.is_some()));
        VERDICT_BYTES.with_label_values(&[&name]).set(signed(confirmed.map_or(0, |verdict| verdict.bytes)));
    }
    ALLOCATED.set(signed(memory::heap().allocated));
    PROCESS.set(signed(memory::process().resident.unwrap_or(0)));
}
