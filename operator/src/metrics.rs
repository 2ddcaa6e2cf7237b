//! Counters and gauges of the operator, prefix `blobstore_operator_`. Labels are bounded: kinds, rungs, categories,
//! and namespace and name of stores that exist.

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramTimer, IntCounterVec, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::tasks;
use crate::webhook::STORE_LABEL;
use blobstore_operator_api::spec::SHARDS_MAX;

/// From a cached no-op pass (milliseconds) to the bound of one pass (60 s).
const PASS_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    pub reconciles: IntCounterVec,
    pub reconcile_errors: IntCounterVec,
    pub reconcile_seconds: Histogram,
    pub passes: IntCounterVec,
    pub api_writes: IntCounterVec,
    pub api_writes_unsettled: IntCounterVec,
    pub watch_objects: IntGaugeVec,
    pub watch_errors: IntCounterVec,
    pub actions: IntCounterVec,
    pub remedies: IntCounterVec,
    pub events: IntCounterVec,
    pub webhooks: IntCounterVec,
    pub store_ready: IntGaugeVec,
    pub findings_open: IntGaugeVec,
    pub budget_left: IntGaugeVec,
    pub breaker_open: IntGaugeVec,
    pub members_wanted: IntGaugeVec,
    pub shard_epoch: IntGaugeVec,
    pub shard_in_sync: IntGaugeVec,
    pub shard_data_lost: IntGaugeVec,
    pub leader: Gauge,
    resident: Gauge,
}

/// What a pass found out about one store, for the gauges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFigures {
    pub ready: bool,
    pub findings_open: i64,
    pub budget_left: i64,
    pub breaker_open: bool,
}

/// One shard as its record shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardFigures {
    pub shard: u32,
    pub epoch: u64,
    pub in_sync: usize,
    pub data_lost: bool,
}

struct Names<'a>(&'a Registry);

impl Names<'_> {
    fn keep<C: Collector + Clone + 'static>(
        &self,
        made: Result<C, prometheus::Error>,
    ) -> Result<C, prometheus::Error> {
        let collector = made?;
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.keep(IntCounterVec::new(Opts::new(format!("blobstore_operator_{name}"), help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.keep(IntGaugeVec::new(Opts::new(format!("blobstore_operator_{name}"), help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.keep(Gauge::new(format!("blobstore_operator_{name}"), help))
    }
}

/// Labels of a gauge per store: the same as the sidecars' metrics get, and what a webhook's alert names the store by.
const STORE: &[&str] = &["namespace", STORE_LABEL];
/// Labels of a gauge per shard; a store has at most 64 of them.
const SHARD: &[&str] = &["namespace", STORE_LABEL, "shard"];

/// What the process itself has to tell: its version and its tasks.
fn process(names: &Names<'_>) -> Result<(), prometheus::Error> {
    let build = names.keep(GaugeVec::new(
        Opts::new("blobstore_operator_build_info", "1, with the version as label."),
        &["version"],
    ))?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
    if let Some((started, ended)) = &*tasks::COUNTERS {
        names.keep(Ok(started.clone()))?;
        names.keep(Ok(ended.clone()))?;
    }
    Ok(())
}

impl Metrics {
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let names = Names(&registry);
        process(&names)?;
        let seconds =
            HistogramOpts::new("blobstore_operator_reconcile_duration_seconds", "Time of one pass.")
                .buckets(PASS_BUCKETS.to_vec());
        Ok(Self {
            reconciles: names.counters("reconciles_total", "Passes, by result.", &["result"])?,
            reconcile_errors: names.counters(
                "reconcile_errors_total",
                "Failed passes, by category.",
                &["category"],
            )?,
            reconcile_seconds: names.keep(Histogram::with_opts(seconds))?,
            passes: names.counters("passes_total", "Passes, by what they rest on.", &["reads"])?,
            api_writes: names.counters(
                "api_writes_total",
                "Writes to the API server, by kind and verb.",
                &["kind", "verb"],
            )?,
            api_writes_unsettled: names.counters(
                "api_writes_unsettled_total",
                "Applied objects that came back unlike what was applied.",
                &["kind"],
            )?,
            watch_objects: names.gauges(
                "watch_objects",
                "Objects held by the watches, by kind.",
                &["kind"],
            )?,
            watch_errors: names.counters(
                "watch_errors_total",
                "Errors of a watch, by kind; it goes on by itself after a pause.",
                &["kind"],
            )?,
            actions: names.counters(
                "actions_total",
                "Actions carried out, by action and result.",
                &["action", "result"],
            )?,
            remedies: names.counters(
                "remedies_total",
                "Memory remedies, by rung of the ladder and how they ended.",
                &["rung", "result"],
            )?,
            events: names.counters("events_total", "Events, by result.", &["result"])?,
            webhooks: names.counters(
                "webhooks_total",
                "Webhook calls, by source and result.",
                &["source", "result"],
            )?,
            store_ready: names.gauges(
                "store_ready",
                "1 while the store's Ready condition is True.",
                STORE,
            )?,
            findings_open: names.gauges("findings_open", "Memory findings that are open.", STORE)?,
            budget_left: names.gauges("budget_left", "Disruptive actions left today.", STORE)?,
            breaker_open: names.gauges("breaker_open", "1 while remediation is stopped.", STORE)?,
            members_wanted: names.gauges("members_wanted", "Pods per shard that are asked for.", STORE)?,
            shard_epoch: names.gauges("shard_epoch", "Grows with every change of the primary.", SHARD)?,
            shard_in_sync: names.gauges("shard_in_sync", "Copies in sync, the primary's included.", SHARD)?,
            shard_data_lost: names.gauges("shard_data_lost", "1 while DataLost holds.", SHARD)?,
            leader: names.gauge("leader", "1 while this process leads.")?,
            resident: names.gauge("resident_memory_bytes", "Resident memory of this process.")?,
            registry,
        })
    }

    /// Starts the clock of one pass; it stops when the timer is dropped.
    pub fn pass(&self) -> HistogramTimer {
        self.reconcile_seconds.start_timer()
    }

    pub fn wrote(&self, kind: &str, verb: &str) {
        self.api_writes.with_label_values(&[kind, verb]).inc();
    }

    pub fn set_store(&self, namespace: &str, name: &str, figures: &StoreFigures) {
        let StoreFigures { ready, findings_open, budget_left, breaker_open } = *figures;
        let labels = [namespace, name];
        self.store_ready.with_label_values(&labels).set(i64::from(ready));
        self.findings_open.with_label_values(&labels).set(findings_open);
        self.budget_left.with_label_values(&labels).set(budget_left);
        self.breaker_open.with_label_values(&labels).set(i64::from(breaker_open));
    }

    pub fn set_shards(&self, namespace: &str, name: &str, members_wanted: u32, shards: &[ShardFigures]) {
        self.members_wanted.with_label_values(&[namespace, name]).set(i64::from(members_wanted));
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for ShardFigures { shard, epoch, in_sync, data_lost } in shards.iter().copied() {
            let shard = shard.to_string();
            let labels = [namespace, name, shard.as_str()];
            self.shard_epoch.with_label_values(&labels).set(number(epoch));
            self.shard_in_sync.with_label_values(&labels).set(number(in_sync as u64));
            self.shard_data_lost.with_label_values(&labels).set(i64::from(data_lost));
        }
    }

    /// A store that is gone leaves no series behind.
    pub fn forget_store(&self, namespace: &str, name: &str) {
        for gauges in [
            &self.store_ready,
            &self.findings_open,
            &self.budget_left,
            &self.breaker_open,
            &self.members_wanted,
        ] {
            // Absent already when the store never reached a report.
            let _ = gauges.remove_label_values(&[namespace, name]);
            for shard in (0..SHARDS_MAX).map(|shard| shard.to_string()) {
                for gauges in [&self.shard_epoch, &self.shard_in_sync, &self.shard_data_lost] {
                    let _ = gauges.remove_label_values(&[namespace, name, &shard]);
                }
            }
        }
    }

    /// The text that `/metrics` answers.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        if let Some(bytes) = resident_bytes() {
            self.resident.set(bytes);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// `statm` counts pages of 4 KiB on every platform that our images are built for.
const PAGE_BYTES: f64 = 4096.0;

fn resident_bytes() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_the_prefix_and_forgotten_stores_leave_no_series() {
        let metrics = Metrics::new().expect("metrics register");
        metrics.wrote("StatefulSet", "apply");
        metrics.set_store("ns", "gone", &StoreFigures { ready: true, ..StoreFigures::default() });
        metrics.set_shards(
            "ns",
            "gone",
            2,
            &[ShardFigures { shard: 63, epoch: 4, in_sync: 1, data_lost: false }],
        );
        let text = String::from_utf8(metrics.render().expect("renders")).expect("is text");
        assert!(text.contains(r#"blobstore_operator_store_ready{namespace="ns",store="gone"} 1"#), "{text}");
        let epoch = r#"blobstore_operator_shard_epoch{namespace="ns",shard="63",store="gone"} 4"#;
        assert!(text.contains(epoch), "{text}");
        metrics.forget_store("ns", "gone");
        let text = String::from_utf8(metrics.render().expect("renders")).expect("is text");
        assert!(!text.contains("gone"), "{text}");
        let stray = text.lines().find(|line| {
            !line.starts_with('#') && !line.is_empty() && !line.starts_with("blobstore_operator_")
        });
        assert_eq!(stray, None);
    }
}
