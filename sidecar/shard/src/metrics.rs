//! The shard's metrics.

use std::sync::LazyLock;

use blobstore_sidecar_core::shard::Outcome;
use blobstore_sidecar_runtime::metrics::{counter, counter_vec, gauge, histogram_seconds};
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

/// From a round trip inside a node to the longest wait of the protocol.
const SECONDS: &[f64] =
    &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

pub(crate) static EPOCH: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("blobstore_sidecar_shard_epoch", "Epoch of the shard record last seen."));
pub(crate) static ROLE: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("blobstore_sidecar_shard_role", "1 while this pod serves its shard, else 0."));
pub(crate) static IN_SYNC: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("blobstore_sidecar_shard_in_sync_members", "Members in the shard's in-sync set."));
pub(crate) static FAILOVERS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "blobstore_sidecar_shard_failovers_total",
        "Tenures granted to this pod, by reason.",
        &["reason"],
    )
});
pub(crate) static HAND_OVER: LazyLock<Histogram> = LazyLock::new(|| {
    histogram_seconds(
        "blobstore_sidecar_shard_handover_seconds",
        "From the request to hand over until another member serves.",
        SECONDS,
    )
});
pub(crate) static ACK_WAIT: LazyLock<Histogram> = LazyLock::new(|| {
    histogram_seconds(
        "blobstore_sidecar_shard_ack_wait_seconds",
        "Time a commit waits for the in-sync members.",
        SECONDS,
    )
});
pub(crate) static WRITES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "blobstore_sidecar_shard_record_writes_total",
        "Swaps of the shard record, by result.",
        &["result"],
    )
});
pub(crate) static WITHHELD: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec("blobstore_sidecar_shard_withheld_total", "Answers withheld, by reason.", &["reason"])
});
pub(crate) static WATCH_ERRORS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "blobstore_sidecar_shard_record_watch_errors_total",
        "Times the shard record could not be watched, or its watch broke.",
    )
});
pub(crate) static PAUSES: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "blobstore_sidecar_shard_pauses_total",
        "Times this process did not run for a quarter of a second or longer.",
    )
});

/// A swap of the record ended.
pub(crate) fn written(outcome: Outcome) {
    let result = match outcome {
        Outcome::Swapped(_) => "swapped",
        Outcome::Conflict => "conflict",
        Outcome::Unknown => "unknown",
    };
    WRITES.with_label_values(&[result]).inc();
}

/// Counters that tell of trouble are there before there is any.
pub(crate) fn register() {
    LazyLock::force(&PAUSES);
    LazyLock::force(&WATCH_ERRORS);
}
