//! The leak report from a sample and its evaluation.

use std::collections::BTreeMap;

use blobstore_sidecar_api::report::{AuditProgress, LeakReport};
use blobstore_sidecar_core::hygiene::book::family_name;
use blobstore_sidecar_core::hygiene::detector::{Evaluation, timestamp};
use blobstore_sidecar_core::hygiene::sample::{Keyspace, Sample};
use blobstore_sidecar_runtime::memory;

/// What `/v1/report` answers until the next sample.
pub(crate) fn report(
    pod: &str,
    sample: &Sample,
    evaluation: Evaluation,
    audit: AuditProgress,
    now_ms: u64,
) -> LeakReport {
    let figures = figures(sample, &evaluation);
    LeakReport {
        pod: pod.to_owned(),
        at: timestamp(now_ms),
        sequence: evaluation.sequence,
        engine_run_id: sample.engine.as_ref().map(|engine| engine.run_id.clone()),
        verdicts: evaluation.verdicts,
        gates: evaluation.gates,
        figures,
        audit,
    }
}

fn figures(sample: &Sample, evaluation: &Evaluation) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    let mut put = |name: &str, value: f64| {
        figures.insert(name.to_owned(), value);
    };
    if let Some(engine) = &sample.engine {
        put("used_memory", engine.used as f64);
        put("dataset", engine.dataset as f64);
        put("rss", engine.rss as f64);
        put("client_bytes", engine.clients as f64);
        put("maxmemory", engine.maxmemory as f64);
        put("keys", engine.keys as f64);
        if let Some(pages) = engine.pages {
            put("retained_bytes", pages.resident.saturating_sub(pages.active) as f64);
            put("slab_waste_bytes", pages.active.saturating_sub(pages.allocated) as f64);
        }
    }
    if let Some(Keyspace::Compared { engine_bytes, ledger }) = &sample.keyspace {
        put("keyspace", *engine_bytes as f64);
        put("ledger_committed", ledger.stored.saturating_sub(ledger.pending_free) as f64);
        put("ledger_in_flight", ledger.in_flight as f64);
        put("ledger_pending_free", ledger.pending_free as f64);
        put("ledger_uncertain", ledger.uncertain as f64);
        for (family, bytes) in &ledger.families {
            put(&format!("ledger_family_{}", family_name(*family)), *bytes as f64);
        }
    }
    if let Some(standing) = &evaluation.standing {
        put("residual", standing.residual);
        put("residual_baseline", standing.baseline);
        put("residual_floor", standing.floor);
    }
    if let Some(audit) = &sample.audit {
        put("orphan_bytes", audit.orphan_bytes as f64);
        put("orphan_keys", audit.orphan_keys as f64);
        put("foreign_bytes", audit.foreign_bytes as f64);
        put("foreign_keys", audit.foreign_keys as f64);
    }
    if let Some(pool) = &sample.balances.pool {
        put("pool_outstanding", pool.outstanding as f64);
        put("pool_outstanding_bytes", pool.outstanding_bytes as f64);
    }
    if let Some(tasks) = &sample.balances.tasks {
        put("tasks_alive", tasks.alive as f64);
    }
    put("cache_bytes", sample.balances.caches.iter().map(|cache| cache.bytes).sum::<u64>() as f64);
    put("limit", sample.limit as f64);
    let heap = memory::heap();
    put("heap_allocated", heap.allocated as f64);
    put("heap_resident", heap.resident as f64);
    let (process, cgroup) = (memory::process(), memory::cgroup());
    let known = [
        ("process_resident", process.resident),
        ("process_swap", process.swap),
        ("container_used", cgroup.used),
        ("container_limit", cgroup.limit),
        ("container_anon", cgroup.anon),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            put(name, value as f64);
        }
    }
    figures
}
