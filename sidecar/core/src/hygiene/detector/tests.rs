//! Timelines: minute and sample in, verdicts out.

use super::*;
use crate::hygiene::book::LedgerSnapshot;
use crate::hygiene::info::{EngineFigures, Pages};
use crate::hygiene::sample::{AuditFindings, ClientFigures, PoolFigures};

const MIB: u64 = 1 << 20;

fn healthy() -> Sample {
    let used = 200 * MIB;
    let engine = EngineFigures {
        run_id: "a".to_owned(),
        primary: true,
        uptime_seconds: 100_000,
        used,
        pages: Some(Pages { allocated: used, active: used + MIB, resident: used + 2 * MIB }),
        ..Default::default()
    };
    Sample { engine: Some(engine), keyspace: Some(compared(0)), limit: 1_024 * MIB, ..Default::default() }
}

fn compared(residual: i64) -> Keyspace {
    let ledger = LedgerSnapshot { stored: 190 * MIB, ..Default::default() };
    Keyspace::Compared { engine_bytes: (190 * MIB) as i64 + residual, ledger }
}

/// Runs `minutes` of samples, four a minute, and returns minute and classes each time they change.
fn timeline(minutes: u64, sample: impl Fn(u64) -> Sample) -> Vec<(u64, String)> {
    let mut detector = Detector::new(HygieneConfig::default());
    let mut seen: Vec<(u64, String)> = Vec::new();
    for tick in 0..minutes * 4 {
        let evaluation = observe(&mut detector, &sample(tick / 4), tick * 15_000);
        let names: Vec<String> = evaluation
            .verdicts
            .iter()
            .map(|verdict| {
                let mark = if verdict.state == VerdictState::Suspect { "?" } else { "" };
                format!("{:?}{mark}", verdict.class)
            })
            .collect();
        let names = names.join(" ");
        if seen.last().is_none_or(|(_, last)| *last != names) {
            seen.push((tick / 4, names));
        }
    }
    seen
}

fn check(minutes: u64, sample: impl Fn(u64) -> Sample, wanted: &[(u64, &str)]) {
    let seen = timeline(minutes, sample);
    let seen: Vec<(u64, &str)> = seen.iter().map(|(minute, names)| (*minute, names.as_str())).collect();
    assert_eq!(seen, wanted);
}

#[test]
fn steady_is_healthy() {
    check(90, |_| healthy(), &[(0, "Healthy")]);
}

#[test]
fn unexplained_bytes_are_suspect_then_confirmed_then_gone() {
    let sample = |minute| {
        let residual = if (30..60).contains(&minute) { 8 * MIB as i64 } else { 0 };
        Sample { keyspace: Some(compared(residual)), ..healthy() }
    };
    check(90, sample, &[(0, "Healthy"), (30, "Growing?"), (40, "Growing"), (75, "Healthy")]);
}

#[test]
fn a_burst_that_went_away_is_never_confirmed() {
    let sample = |minute| {
        let residual = if (30..38).contains(&minute) { 50 * MIB as i64 } else { 0 };
        Sample { keyspace: Some(compared(residual)), ..healthy() }
    };
    check(90, sample, &[(0, "Healthy"), (30, "Growing?"), (38, "Healthy")]);
}

#[test]
fn a_gate_gives_unknown_and_never_healthy() {
    let sample = |minute| {
        let mut sample = healthy();
        if (10..20).contains(&minute) {
            sample.engine = sample.engine.map(|engine| EngineFigures { forked: true, ..engine });
        }
        sample
    };
    check(30, sample, &[(0, "Healthy"), (10, "Unknown"), (20, "Healthy")]);
}

#[test]
fn a_restarted_engine_is_unknown_until_it_is_known() {
    let sample = |minute| {
        let mut sample = healthy();
        if minute >= 20 {
            let age = (minute - 20) * 60;
            let run_id = "b".to_owned();
            sample.engine =
                sample.engine.map(|engine| EngineFigures { run_id, uptime_seconds: age, ..engine });
        }
        sample
    };
    check(60, sample, &[(0, "Healthy"), (20, "Unknown"), (30, "Healthy")]);
}

#[test]
fn orphans_are_confirmed_at_once_also_behind_a_gate() {
    let sample = |minute| {
        let mut sample = healthy();
        let orphan_bytes = if (5..9).contains(&minute) { 9 * MIB } else { 0 };
        sample.audit =
            Some(AuditFindings { orphan_bytes, orphan_keys: orphan_bytes / MIB, ..Default::default() });
        sample.keyspace = None;
        sample
    };
    check(15, sample, &[(0, "Unknown"), (5, "Orphaned Unknown"), (9, "Unknown")]);
}

#[test]
fn orphans_explain_their_bytes() {
    let sample = |_| Sample {
        audit: Some(AuditFindings { unproved_orphan_bytes: 80 * MIB, ..Default::default() }),
        keyspace: Some(compared(80 * MIB as i64)),
        ..healthy()
    };
    check(60, sample, &[(0, "Healthy")]);
}

#[test]
fn an_unread_client_is_named_within_minutes() {
    let sample = |minute| {
        let mut sample = healthy();
        if (10..20).contains(&minute) {
            let client = ClientFigures { bytes: 40 * MIB, replies: 9, ..Default::default() };
            sample.clients = vec![client];
        }
        sample
    };
    let wanted = [(0, "Healthy"), (10, "ClientBuffers?"), (11, "ClientBuffers"), (22, "Healthy")];
    check(40, sample, &wanted);
}

#[test]
fn retained_pages_need_their_time_and_their_bytes() {
    let sample = |minute| {
        let mut sample = healthy();
        let retained = if minute >= 10 { 200 * MIB } else { 20 * MIB };
        sample.engine = sample.engine.map(|engine| {
            let pages = engine.pages.map(|pages| Pages { resident: pages.active + retained, ..pages });
            EngineFigures { pages, ..engine }
        });
        sample
    };
    check(20, sample, &[(0, "Healthy"), (10, "RetainedPages?"), (12, "RetainedPages")]);
}

#[test]
fn an_overdue_lease_is_an_imbalance() {
    let sample = |minute: u64| {
        let mut sample = healthy();
        let oldest_lease_seconds = minute * 60;
        let pool =
            PoolFigures { taken: 9, returned: 8, outstanding: 1, oldest_lease_seconds, ..Default::default() };
        sample.balances.pool = Some(pool);
        sample
    };
    check(8, sample, &[(0, "Healthy"), (3, "PoolImbalance?"), (5, "PoolImbalance")]);
}

#[test]
fn verdicts_come_in_the_order_in_which_to_act() {
    let mut classes = CLASSES;
    classes.sort();
    assert_eq!(classes, CLASSES);
}

#[test]
fn growth_has_a_slope_and_a_time_to_the_limit() {
    let mut detector = Detector::new(HygieneConfig::default());
    let mut last = None;
    for tick in 0..800_u64 {
        let leaked = (tick * MIB / 4) as i64;
        let mut sample = Sample { keyspace: Some(compared(leaked)), ..healthy() };
        sample.engine =
            sample.engine.map(|engine| EngineFigures { used: engine.used + leaked as u64, ..engine });
        last = Some(observe(&mut detector, &sample, tick * 15_000));
    }
    let evaluation = last.expect("an evaluation");
    let verdict = evaluation.verdict(VerdictClass::Growing).expect("growing");
    assert!((0.9..1.1).contains(&(verdict.slope_bytes_per_minute / MIB as f64)), "{verdict:?}");
    let eta = verdict.eta_seconds.expect("a time to the limit");
    assert!((600 * 60..640 * 60).contains(&eta), "{eta} s for the last 624 MiB at 1 MiB a minute");
    assert!(verdict.evidence[0].contains("MiB in the engine belong to no key"), "{:?}", verdict.evidence);
}
