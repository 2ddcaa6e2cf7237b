//! The detector on synthetic days: healthy series with every false friend we know, leaky ones for each verdict.
//! Gates: no false confirmed verdict on a healthy series, recall of at least 0.97.

mod corpus;

use std::collections::BTreeMap;

use blobstore_sidecar_api::config::HygieneConfig;
use blobstore_sidecar_api::report::{VerdictClass, VerdictState};
use blobstore_sidecar_core::hygiene::detector::{Detector, observe};
use corpus::{Label, Series};

/// Alarms: confirmed findings, first time each, in minutes.
fn alarms(series: &Series) -> BTreeMap<VerdictClass, u64> {
    let config = HygieneConfig { sample_seconds: corpus::STEP_SECONDS, ..Default::default() };
    let mut detector = Detector::new(config);
    let mut alarms = BTreeMap::new();
    for step in 0..series.steps {
        let now_ms = step * corpus::STEP_SECONDS * 1_000;
        let evaluation = observe(&mut detector, &series.sample(step), now_ms);
        for verdict in &evaluation.verdicts {
            let quiet = [VerdictClass::Healthy, VerdictClass::Unknown, VerdictClass::CapacityGrowth];
            if verdict.state == VerdictState::Confirmed && !quiet.contains(&verdict.class) {
                alarms.entry(verdict.class).or_insert(now_ms / 60_000);
            }
        }
    }
    alarms
}

fn percentile(values: &mut [u64], percent: usize) -> u64 {
    values.sort_unstable();
    values.get((values.len().saturating_sub(1)) * percent / 100).copied().unwrap_or(0)
}

#[test]
fn healthy_days_raise_no_alarm() {
    let corpus = corpus::healthy();
    assert!(corpus.len() >= 60, "{} series", corpus.len());
    let false_alarms: Vec<String> = corpus
        .iter()
        .flat_map(|series| {
            alarms(series)
                .into_iter()
                .map(|(class, minute)| format!("{}: {class:?} at {minute} min", series.name))
        })
        .collect();
    println!("healthy: {} series, {} false alarms", corpus.len(), false_alarms.len());
    assert!(false_alarms.is_empty(), "{false_alarms:#?}");
}

/// R004-12: growth that is none of data is found, and named by its class.
#[test]
fn leaky_days_are_found_and_named() {
    let corpus = corpus::leaky();
    assert!(corpus.len() >= 60, "{} series", corpus.len());
    let mut found: BTreeMap<VerdictClass, (usize, Vec<u64>)> = BTreeMap::new();
    let mut missed = Vec::new();
    let (mut right, mut raised) = (0, 0);
    for series in &corpus {
        let Label { class, onset_minutes } = series.label.expect("a label");
        let alarms = alarms(series);
        raised += alarms.len();
        let (total, delays) = found.entry(class).or_default();
        *total += 1;
        match alarms.get(&class) {
            Some(minute) if *minute >= onset_minutes => {
                right += 1;
                delays.push(minute - onset_minutes);
            }
            _ => missed.push(format!("{}: {alarms:?}", series.name)),
        }
    }
    for (class, (total, delays)) in &mut found {
        let hits = delays.len();
        let (p50, p90) = (percentile(delays, 50), percentile(delays, 90));
        println!("{class:?}: {hits}/{total} found, p50 {p50} min, p90 {p90} min");
    }
    let recall = right as f64 / corpus.len() as f64;
    let precision = right as f64 / raised.max(1) as f64;
    println!("recall {recall:.3}, precision {precision:.3}, {} series", corpus.len());
    assert!(recall >= 0.97, "missed {missed:#?}");
    assert!(precision >= 0.98, "{raised} alarms for {right} leaks; missed {missed:#?}");
}

/// R004-12: growth with data is no leak.
#[test]
fn growth_that_the_ledger_explains_is_capacity() {
    for series in corpus::growing_data() {
        let config = HygieneConfig { sample_seconds: corpus::STEP_SECONDS, ..Default::default() };
        let mut detector = Detector::new(config);
        let seen = (0..series.steps).any(|step| {
            let evaluation =
                observe(&mut detector, &series.sample(step), step * corpus::STEP_SECONDS * 1_000);
            evaluation.confirmed(VerdictClass::CapacityGrowth)
        });
        assert!(seen, "{}", series.name);
    }
}
