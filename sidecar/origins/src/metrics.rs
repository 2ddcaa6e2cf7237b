//! Counters of the origins. The label `origin` is a name of the resource, so it is bounded by it.

use std::sync::LazyLock;

use blobstore_sidecar_runtime::metrics::{counter_vec, gauge, gauge_vec};
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};

/// Reads of mapped buckets by what answered them: `hit`, `miss`, `stale`, `negative`, `range`, `failed`.
pub(crate) static READS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "blobstore_sidecar_origin_reads_total",
        "Reads of buckets with an origin, by what answered them.",
        &["origin", "result"],
    )
});
/// `get`, `range`, `head`, `revalidate`.
pub(crate) static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec("blobstore_sidecar_origin_requests_total", "Requests to origins.", &["origin", "method"])
});
pub(crate) static FAILURES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "blobstore_sidecar_origin_failures_total",
        "Requests to origins that brought no object, by category.",
        &["origin", "category"],
    )
});
pub(crate) static BYTES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec("blobstore_sidecar_origin_bytes_total", "Payload bytes read from origins.", &["origin"])
});
pub(crate) static FILLS_STARTED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec("blobstore_sidecar_origin_fills_started_total", "Fills begun.", &["origin"])
});
/// `stored`, `unstored`, `failed`, `abandoned`, `not_modified`, `not_found`.
pub(crate) static FILLS_ENDED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "blobstore_sidecar_origin_fills_ended_total",
        "Fills ended, by result.",
        &["origin", "result"],
    )
});
pub(crate) static FOLLOWERS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "blobstore_sidecar_origin_followers_total",
        "Reads that followed a fill which another read had begun.",
        &["origin"],
    )
});
/// `unchanged`, `changed`, `gone`, `failed`.
pub(crate) static REVALIDATIONS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "blobstore_sidecar_origin_revalidations_total",
        "Copies whose origin was asked whether they are current, by its answer.",
        &["origin", "result"],
    )
});
pub(crate) static BREAKER: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauge_vec(
        "blobstore_sidecar_origin_breaker_state",
        "0: the origin is asked; 1: one request tries it; 2: it is not asked.",
        &["origin"],
    )
});
pub(crate) static FILLS_NOW: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("blobstore_sidecar_origin_fills", "Fills under way."));
pub(crate) static WAITING: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("blobstore_sidecar_origin_waiting", "Requests in line for an origin."));

/// Shows an origin's series before the first read.
pub(crate) fn register(origin: &str) {
    for result in ["hit", "miss", "stale", "negative", "range", "failed"] {
        READS.with_label_values(&[origin, result]);
    }
    for result in ["stored", "unstored", "failed", "abandoned", "not_modified", "not_found"] {
        FILLS_ENDED.with_label_values(&[origin, result]);
    }
    for family in [&*BYTES, &*FILLS_STARTED, &*FOLLOWERS] {
        family.with_label_values(&[origin]);
    }
    BREAKER.with_label_values(&[origin]).set(0);
    LazyLock::force(&FILLS_NOW);
    LazyLock::force(&WAITING);
}
