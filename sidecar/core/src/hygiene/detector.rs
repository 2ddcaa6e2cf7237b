//! The detector: samples in, verdicts out. Holds the series of one engine and the state of each class; hysteresis
//! keeps a verdict from flapping.

use std::collections::BTreeMap;

use blobstore_sidecar_api::config::HygieneConfig;
use blobstore_sidecar_api::report::{Verdict, VerdictClass, VerdictState};
use jiff::Timestamp;

use crate::hygiene::findings::{Finding, human, proofs, task_leak};
use crate::hygiene::gates::Gates;
use crate::hygiene::growth::{Growth, growing};
use crate::hygiene::residual::{Buckets, Point, Standing, Track};
use crate::hygiene::sample::{CLASSES, Keyspace, Sample};

/// What one evaluation says.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    pub sequence: u64,
    /// In the order in which to act; `Unknown` last among findings, `Healthy` alone.
    pub verdicts: Vec<Verdict>,
    /// Why the identity and the slopes are not judged.
    pub gates: Vec<String>,
    pub standing: Option<Standing>,
}

impl Evaluation {
    pub fn verdict(&self, class: VerdictClass) -> Option<&Verdict> {
        self.verdicts.iter().find(|verdict| verdict.class == class)
    }

    pub fn confirmed(&self, class: VerdictClass) -> bool {
        self.verdict(class).is_some_and(|verdict| verdict.state == VerdictState::Confirmed)
    }

    /// Anything but `Healthy` is worth looking at more often.
    pub fn suspicious(&self) -> bool {
        !self.verdicts.iter().all(|verdict| {
            matches!(
                verdict.class,
                VerdictClass::Healthy | VerdictClass::Unknown | VerdictClass::CapacityGrowth
            )
        })
    }
}

/// One class over time.
#[derive(Clone, Debug)]
struct Held {
    since_ms: u64,
    confirmed: bool,
    clear_since_ms: Option<u64>,
    last: Finding,
}

/// The judge of one pod.
#[derive(Clone, Debug)]
pub struct Detector {
    config: HygieneConfig,
    sequence: u64,
    gates: Gates,
    track: Track,
    growth: Growth,
    tasks: Buckets,
    held: BTreeMap<VerdictClass, Held>,
    unknown_since_ms: Option<u64>,
    healthy_since_ms: Option<u64>,
}

/// Judges one sample. `now_ms` is wall-clock time and only ever compared with itself.
pub fn observe(detector: &mut Detector, sample: &Sample, now_ms: u64) -> Evaluation {
    let passage = detector.gates.pass(&detector.config, sample, now_ms);
    if passage.new_engine {
        detector.forget_engine();
    }
    let mut findings = proofs(&detector.config, sample);
    findings.extend(task_leak(&detector.config, &sample.balances, &mut detector.tasks, now_ms));
    let standing = if passage.shut.is_empty() { detector.judge(sample, now_ms, &mut findings) } else { None };
    for finding in findings {
        detector.hold(finding, now_ms);
    }
    detector.sequence += 1;
    Evaluation {
        sequence: detector.sequence,
        verdicts: detector.verdicts(sample, &passage.shut, standing.as_ref(), now_ms),
        gates: passage.shut,
        standing,
    }
}

impl Detector {
    pub fn new(config: HygieneConfig) -> Self {
        Self {
            track: Track::new(&config),
            growth: Growth::new(&config),
            tasks: Buckets::new(config.trend_bucket_seconds * 1_000),
            sequence: 0,
            gates: Gates::default(),
            held: BTreeMap::new(),
            unknown_since_ms: None,
            healthy_since_ms: None,
            config,
        }
    }

    /// After a remedy that was verified: what is left is the new normal.
    pub fn relearn(&mut self) {
        self.track = Track::new(&self.config);
        self.held.remove(&VerdictClass::Growing);
    }

    /// Another run or role: its series begins anew; the sidecar's own balances go on.
    fn forget_engine(&mut self) {
        self.track = Track::new(&self.config);
        self.growth = Growth::new(&self.config);
        self.held.retain(|class, _| {
            matches!(class, VerdictClass::PoolImbalance | VerdictClass::TaskLeak | VerdictClass::CacheOverrun)
        });
    }

    /// The identity and the slopes, gates being open.
    fn judge(&mut self, sample: &Sample, now_ms: u64, findings: &mut Vec<Finding>) -> Option<Standing> {
        let point = point(sample)?;
        let standing = self.track.observe(&self.config, &point, now_ms);
        findings.push(growing(&self.config, sample, &standing));
        findings.extend(self.growth.observe(&self.config, sample, &standing, point.ledger_bytes, now_ms));
        Some(standing)
    }

    fn hold(&mut self, finding: Finding, now_ms: u64) {
        let class = finding.class;
        let Some(held) = self.held.get_mut(&class) else {
            if finding.fires {
                let confirmed = finding.hold_ms == 0;
                let held = Held { since_ms: now_ms, confirmed, clear_since_ms: None, last: finding };
                self.held.insert(class, held);
            }
            return;
        };
        if finding.fires {
            held.confirmed |= now_ms.saturating_sub(held.since_ms) >= finding.hold_ms;
            held.clear_since_ms = None;
            held.last = finding;
            return;
        }
        // A suspicion ends with its first miss; a confirmed verdict only after a time well below its threshold.
        let clear_since_ms = finding.clear.then(|| held.clear_since_ms.unwrap_or(now_ms));
        held.clear_since_ms = clear_since_ms;
        let over = clear_since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= finding.leave_ms);
        if !held.confirmed || over {
            self.held.remove(&class);
        }
    }

    fn verdicts(
        &mut self,
        sample: &Sample,
        shut: &[String],
        standing: Option<&Standing>,
        now_ms: u64,
    ) -> Vec<Verdict> {
        let found = CLASSES.iter().filter_map(|class| self.held.get(class));
        let mut verdicts: Vec<Verdict> = found.map(|held| verdict(held, sample)).collect();
        if shut.is_empty() {
            self.unknown_since_ms = None;
        } else {
            let since_ms = *self.unknown_since_ms.get_or_insert(now_ms);
            verdicts.push(plain(VerdictClass::Unknown, since_ms, shut.to_vec()));
        }
        if !verdicts.is_empty() {
            self.healthy_since_ms = None;
            return verdicts;
        }
        let since_ms = *self.healthy_since_ms.get_or_insert(now_ms);
        vec![plain(VerdictClass::Healthy, since_ms, standing.map(health).into_iter().collect())]
    }
}

/// Residual above the upper edge of everything explained: stored, uncertain, in flight, and orphans, which have a
/// verdict of their own.
fn point(sample: &Sample) -> Option<Point> {
    let Some(Keyspace::Compared { engine_bytes, ledger }) = &sample.keyspace else { return None };
    let orphans = sample.audit.as_ref().map_or(0, |audit| audit.orphan_bytes + audit.unproved_orphan_bytes);
    let explained = ledger.stored + ledger.uncertain / 2 + ledger.in_flight + orphans;
    Some(Point {
        residual: *engine_bytes as f64 - explained as f64,
        ledger_bytes: ledger.stored as f64,
        commands: sample.engine.as_ref().map_or(0.0, |engine| engine.commands as f64),
    })
}

fn verdict(held: &Held, sample: &Sample) -> Verdict {
    let Finding { class, bytes, slope_per_ms, confidence, ref evidence, .. } = held.last;
    let used = sample.engine.as_ref().map_or(0, |engine| engine.used);
    let left = sample.limit.saturating_sub(used) as f64;
    let rises = slope_per_ms > 0.0 && sample.limit > 0;
    Verdict {
        class,
        confidence,
        state: if held.confirmed { VerdictState::Confirmed } else { VerdictState::Suspect },
        bytes,
        slope_bytes_per_minute: slope_per_ms * 60_000.0,
        eta_seconds: rises.then(|| (left / slope_per_ms / 1_000.0) as u64),
        since: timestamp(held.since_ms),
        evidence: evidence.clone(),
    }
}

fn plain(class: VerdictClass, since_ms: u64, evidence: Vec<String>) -> Verdict {
    Verdict {
        class,
        confidence: 1.0,
        state: VerdictState::Confirmed,
        bytes: 0,
        slope_bytes_per_minute: 0.0,
        eta_seconds: None,
        since: timestamp(since_ms),
        evidence,
    }
}

fn health(standing: &Standing) -> String {
    format!(
        "residual {} against a baseline of {}, {} would be a finding",
        human(standing.residual),
        human(standing.baseline),
        human(standing.floor)
    )
}

/// RFC 3339.
pub fn timestamp(now_ms: u64) -> String {
    let millis = i64::try_from(now_ms).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests;
