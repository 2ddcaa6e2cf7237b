//! Counters of the HTTP side. Labels come from small static sets; the families of store, shard and hygiene live
//! with their crates.

use std::sync::LazyLock;

use blobstore_sidecar_runtime::metrics::{counter, counter_vec, gauge, histogram_seconds_vec};
use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge};

/// From half a millisecond (a cached HEAD) to a minute (gigabytes to a slow reader).
const SECONDS_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

pub static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "blobstore_sidecar_requests_total",
        "Requests by operation and status class.",
        &["operation", "code"],
    )
});
pub static SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram_seconds_vec(
        "blobstore_sidecar_request_seconds",
        "Time from the header of a request to the last byte of its answer.",
        SECONDS_BUCKETS,
        &["operation"],
    )
});
pub static BYTES_IN: LazyLock<IntCounter> = LazyLock::new(|| {
    counter("blobstore_sidecar_received_bytes_total", "Payload bytes received from clients.")
});
pub static BYTES_OUT: LazyLock<IntCounter> =
    LazyLock::new(|| counter("blobstore_sidecar_sent_bytes_total", "Payload bytes sent to clients."));
pub static IN_FLIGHT: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("blobstore_sidecar_requests_in_flight", "Requests whose answer is not finished."));
pub static CONNECTIONS_OPENED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec("blobstore_sidecar_connections_opened_total", "Connections accepted, by port.", &["port"])
});
pub static CONNECTIONS_CLOSED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec("blobstore_sidecar_connections_closed_total", "Connections ended, by port.", &["port"])
});
pub static REJECTED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "blobstore_sidecar_rejected_total",
        "Connections and requests turned away or cut, by reason.",
        &["reason"],
    )
});
pub static FORWARDED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "blobstore_sidecar_forwarded_total",
        "Requests passed on to the owner's sidecar, by outcome.",
        &["outcome"],
    )
});
pub static PANICS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter("blobstore_sidecar_panics_total", "Requests that ended in a panic and were answered with 500.")
});
/// Read when somebody asks for the metrics.
pub static HEAP_HANDED_OUT: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "blobstore_sidecar_heap_handed_out_bytes_total",
        "Bytes that the sidecar's heap has handed out since its start, freed or not.",
    )
});
pub static CERTIFICATES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "blobstore_sidecar_certificate_loads_total",
        "Changes of the client port's certificate, by result: used, or refused while the last one stays.",
        &["result"],
    )
});
/// Why something was turned away; the label values of [`REJECTED`].
pub mod reason {
    pub const CONNECTIONS: &str = "connections";
    pub const BUDGET: &str = "budget";
    pub const HANDSHAKE: &str = "handshake";
    pub const HEADER_TIMEOUT: &str = "header_timeout";
    pub const BODY_TIMEOUT: &str = "body_timeout";
    pub const SLOW_READER: &str = "slow_reader";
    pub const DRAINING: &str = "draining";
    pub const AUTH: &str = "auth";
}

/// `2xx` for 204: the bounded form of a status code.
pub fn code_class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// Registers every family, so that a scrape shows zeros before the first event.
pub fn register() {
    blobstore_sidecar_runtime::clients::register();
    for counter in [&BYTES_IN, &BYTES_OUT, &PANICS] {
        LazyLock::force(counter);
    }
    for family in [&REQUESTS, &CONNECTIONS_OPENED, &CONNECTIONS_CLOSED, &REJECTED, &FORWARDED, &CERTIFICATES]
    {
        LazyLock::force(family);
    }
    LazyLock::force(&SECONDS);
    LazyLock::force(&IN_FLIGHT);
}
