//! Growth: the residual's (a leak without a cause) and the ledger's own (data). Both are slopes and pass the gates.

use blobstore_sidecar_api::config::HygieneConfig;
use blobstore_sidecar_api::report::VerdictClass;

use crate::hygiene::findings::{Finding, HOUR_MS, Measure, confidence, finding, human, sloped};
use crate::hygiene::residual::{Buckets, Standing};
use crate::hygiene::sample::Sample;
use crate::hygiene::statistics::Z_99;

/// Growth that reaches the limit later than this needs nobody today.
const CAPACITY_ETA_MS: f64 = 24.0 * HOUR_MS;
/// Used and ledger grow together when their slopes differ by no more than this.
const PROPORTION: std::ops::RangeInclusive<f64> = 0.9..=1.1;

/// Residual growth without a known cause.
pub fn growing(config: &HygieneConfig, sample: &Sample, standing: &Standing) -> Finding {
    let Standing { floor, excess, trending, stepped, slope_per_ms, .. } = *standing;
    let at_once = trending || stepped;
    let times = sloped(config, if at_once { 0 } else { config.confirm_seconds });
    let measure = Measure { value: excess, threshold: floor, bytes: excess.max(0.0) as u64 };
    let base = finding(VerdictClass::Growing, times, &measure, Vec::new);
    let fires = base.fires || (at_once && !base.clear);
    Finding {
        fires,
        slope_per_ms,
        confidence: confidence(if at_once { 0.97 } else { 0.9 }, excess, floor),
        evidence: if fires { growth_evidence(sample, standing) } else { Vec::new() },
        ..base
    }
}

fn growth_evidence(sample: &Sample, standing: &Standing) -> Vec<String> {
    let Standing { residual, baseline, floor, excess, trending, stepped, slope_per_ms, .. } = *standing;
    let tests = [(excess > floor, "identity"), (trending, "trend of minima"), (stepped, "CUSUM")];
    let fired: Vec<&str> = tests.iter().filter(|(fires, _)| *fires).map(|(_, name)| *name).collect();
    let mut evidence = vec![
        format!(
            "{} in the engine belong to no key we know of (baseline {}, floor {})",
            human(residual),
            human(baseline),
            human(floor)
        ),
        format!("tests that fire: {}; slope {} a minute", fired.join(", "), human(slope_per_ms * 60_000.0)),
    ];
    if let Some(cost) = standing.per_thousand_commands.filter(|cost| *cost > 0.0) {
        evidence.push(format!("{} per 1000 commands", human(cost)));
    }
    if let Some(audit) = sample.audit.as_ref().filter(|audit| audit.foreign_keys > 0) {
        evidence.push(format!(
            "the audit met {} keys with {} outside the data model, for instance {}",
            audit.foreign_keys,
            human(audit.foreign_bytes as f64),
            audit.foreign_examples.first().map_or("", String::as_str)
        ));
    }
    evidence
}

/// Both sides of the identity as series, for growth that the ledger explains.
#[derive(Clone, Debug)]
pub struct Growth {
    used: Buckets,
    ledger: Buckets,
}

impl Growth {
    pub fn new(config: &HygieneConfig) -> Self {
        let bucket_ms = config.trend_bucket_seconds * 1_000;
        Self { used: Buckets::new(bucket_ms), ledger: Buckets::new(bucket_ms) }
    }

    pub fn observe(
        &mut self,
        config: &HygieneConfig,
        sample: &Sample,
        standing: &Standing,
        ledger_bytes: f64,
        now_ms: u64,
    ) -> Option<Finding> {
        let used = sample.engine.as_ref()?.used as f64;
        self.used.push(used, now_ms);
        self.ledger.push(ledger_bytes, now_ms);
        let (used_trend, ledger_trend) = (self.used.trend()?, self.ledger.trend()?);
        let ratio = used_trend.slope / ledger_trend.slope.max(f64::MIN_POSITIVE);
        let grown = used_trend.slope_low * (config.trend_bucket_seconds * 1_000) as f64 * 12.0;
        let left = sample.limit as f64 - used;
        // Without a limit there is no time to it: any proportional growth beyond the floor is told.
        let near = sample.limit == 0 || left / used_trend.slope.max(f64::MIN_POSITIVE) < CAPACITY_ETA_MS;
        let fires = used_trend.z > Z_99
            && PROPORTION.contains(&ratio)
            && grown > standing.floor
            && standing.excess < standing.floor
            && near;
        let evidence = || {
            vec![format!(
                "used memory grows by {} a minute and the ledger by {} a minute (ratio {ratio:.2}): data, not a leak",
                human(used_trend.slope * 60_000.0),
                human(ledger_trend.slope * 60_000.0)
            )]
        };
        let measure = Measure { value: 0.0, threshold: 0.0, bytes: grown.max(0.0) as u64 };
        let base = finding(VerdictClass::CapacityGrowth, sloped(config, 0), &measure, Vec::new);
        let evidence = if fires { evidence() } else { Vec::new() };
        let slope_per_ms = used_trend.slope;
        Some(Finding { fires, clear: !fires, leave_ms: 0, slope_per_ms, confidence: 0.95, evidence, ..base })
    }
}
