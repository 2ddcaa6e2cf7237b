//! The process-wide registry and small constructors that register as they build.
//! Names come from `blobstore_sidecar_api::metric_names`; labels must be bounded sets of static strings.

use std::sync::LazyLock;

use prometheus::{
    CounterVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry,
};

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

/// The registry that `/metrics` renders.
pub fn registry() -> &'static Registry {
    &REGISTRY
}

fn register<C: prometheus::core::Collector + Clone + 'static>(collector: Result<C, prometheus::Error>) -> C {
    match collector {
        Ok(collector) => {
            if let Err(error) = REGISTRY.register(Box::new(collector.clone())) {
                tracing::error!(%error, "register metric");
            }
            collector
        }
        // Only a malformed name reaches this: a bug that every start of the program shows at once.
        Err(error) => unreachable!("malformed metric: {error}"),
    }
}

/// A counter without labels.
pub fn counter(name: &str, help: &str) -> IntCounter {
    register(IntCounter::new(name, help))
}

/// A counter with labels from a bounded set.
pub fn counter_vec(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(IntCounterVec::new(Opts::new(name, help), labels))
}

/// A counter of seconds with labels from a bounded set.
pub fn seconds_vec(name: &str, help: &str, labels: &[&str]) -> CounterVec {
    register(CounterVec::new(Opts::new(name, help), labels))
}

/// A gauge without labels.
pub fn gauge(name: &str, help: &str) -> IntGauge {
    register(IntGauge::new(name, help))
}

/// A gauge with labels from a bounded set.
pub fn gauge_vec(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(IntGaugeVec::new(Opts::new(name, help), labels))
}

/// A histogram in seconds.
pub fn histogram_seconds(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
}

/// A histogram in seconds with labels from a bounded set.
pub fn histogram_seconds_vec(name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
    register(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
}
