//! One function per class: does its rule fire on this sample, with which bytes and which evidence. Whether it has
//! held long enough is the detector's business.

use blobstore_sidecar_api::config::HygieneConfig;
use blobstore_sidecar_api::report::VerdictClass;

use crate::hygiene::info::{EngineFigures, Pages};
use crate::hygiene::residual::Buckets;
use crate::hygiene::sample::{AuditFindings, Balances, ClientFigures, Sample};
use crate::hygiene::statistics::Z_99;

/// What a rule says of one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub class: VerdictClass,
    /// The rule fires.
    pub fires: bool,
    /// Far enough below the threshold to count as over.
    pub clear: bool,
    /// How long it must fire before it is confirmed.
    pub hold_ms: u64,
    /// How long it must be clear before it is dropped.
    pub leave_ms: u64,
    pub bytes: u64,
    pub slope_per_ms: f64,
    pub confidence: f64,
    pub evidence: Vec<String>,
}

/// A connection that reads nothing for so long and holds so much is not coming back soon.
const IDLE_SECONDS: u64 = 300;
const IDLE_BYTES: u64 = 1 << 20;
/// Client buffers and retained pages are judged against shares of the limit, fragmentation of what is used.
const CLIENTS_LIMIT_PERCENT: u64 = 5;
const PAGES_PERCENT: u64 = 10;
/// Slab waste below half of what is live is not worth a defrag.
const FRAGMENTED_RATIO_MIN: f64 = 1.5;
/// A cache may run over by what one insertion adds before it evicts.
const CACHE_OVER_PERCENT: u64 = 5;
/// Tasks: growth per hour that no number of connections explains.
const TASKS_PER_HOUR_MAX: f64 = 100.0;
pub(super) const HOUR_MS: f64 = 3_600_000.0;
/// A part of the waste is named as its cause from this share on (A6).
const DOMINANT_PERCENT: u64 = 60;

/// Bytes for people.
pub fn human(bytes: f64) -> String {
    const MIB: f64 = 1_048_576.0;
    match bytes.abs() {
        size if size >= 1_024.0 * MIB => format!("{:.2} GiB", bytes / 1_024.0 / MIB),
        size if size >= MIB => format!("{:.1} MiB", bytes / MIB),
        size if size >= 1_024.0 => format!("{:.1} KiB", bytes / 1_024.0),
        _ => format!("{bytes:.0} B"),
    }
}

/// From `base` towards one as the excess passes multiples of its threshold.
pub(super) fn confidence(base: f64, excess: f64, threshold: f64) -> f64 {
    let beyond = (excess / threshold.max(1.0) - 1.0).max(0.0);
    1.0 - (1.0 - base) * (-beyond).exp()
}

/// Times of a class: held, then left, in milliseconds.
pub(super) struct Times {
    hold_ms: u64,
    leave_ms: u64,
}

/// Classes proved by a count leave as fast as balances do; slopes need a quarter of an hour of ten minutes.
fn proved(config: &HygieneConfig, hold_seconds: u64) -> Times {
    Times { hold_ms: hold_seconds * 1_000, leave_ms: config.balance_hold_seconds * 1_000 }
}

pub(super) fn sloped(config: &HygieneConfig, hold_seconds: u64) -> Times {
    Times { hold_ms: hold_seconds * 1_000, leave_ms: config.confirm_seconds * 1_500 }
}

/// How far a figure is above its threshold, both in bytes (or whatever the class counts).
pub(super) struct Measure {
    pub(super) value: f64,
    pub(super) threshold: f64,
    pub(super) bytes: u64,
}

/// The evidence is worded only when the rule fires: most samples are healthy.
pub(super) fn finding(
    class: VerdictClass,
    times: Times,
    measure: &Measure,
    evidence: impl FnOnce() -> Vec<String>,
) -> Finding {
    let fires = measure.value > measure.threshold;
    Finding {
        class,
        fires,
        clear: measure.value < measure.threshold / 2.0 || measure.value <= 0.0,
        hold_ms: times.hold_ms,
        leave_ms: times.leave_ms,
        bytes: measure.bytes,
        slope_per_ms: 0.0,
        confidence: confidence(0.9, measure.value, measure.threshold),
        evidence: if fires { evidence() } else { Vec::new() },
    }
}

/// Everything that needs no series of its own and passes no gate.
pub fn proofs(config: &HygieneConfig, sample: &Sample) -> Vec<Finding> {
    let engine = sample.engine.as_ref();
    let pages = engine.and_then(|engine| engine.pages.map(|pages| (engine, pages)));
    [
        engine.map(|engine| client_buffers(config, engine, sample)),
        sample.audit.as_ref().map(|audit| orphaned(config, audit)),
        pool_imbalance(config, &sample.balances),
        cache_overrun(config, &sample.balances),
        pages.map(|(engine, pages)| retained_pages(config, engine, pages, sample.limit)),
        pages.map(|(engine, pages)| fragmented(config, engine, pages)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn client_buffers(config: &HygieneConfig, engine: &EngineFigures, sample: &Sample) -> Finding {
    let share = sample.limit / 100 * CLIENTS_LIMIT_PERCENT;
    let total_max = config.client_buffers_bytes_min.max(share);
    let offends = |client: &&ClientFigures| {
        let unread = client.bytes > config.client_bytes_max && client.replies > 0;
        unread || (client.idle_seconds > IDLE_SECONDS && client.bytes > IDLE_BYTES)
    };
    let offenders: Vec<&ClientFigures> = sample.clients.iter().filter(offends).collect();
    let offending: u64 = offenders.iter().map(|client| client.bytes).sum();
    let measure = if offenders.is_empty() {
        Measure { value: engine.clients as f64, threshold: total_max as f64, bytes: engine.clients }
    } else {
        // An offender is a finding by itself: its measure is above any threshold.
        Measure { value: offending as f64, threshold: IDLE_BYTES as f64, bytes: offending }
    };
    let evidence = || {
        let total = format!(
            "{} connections hold {} in the engine, {} are allowed",
            engine.connections,
            human(engine.clients as f64),
            human(total_max as f64)
        );
        let named = offenders.iter().take(3).map(|client| client.description.clone());
        std::iter::once(total).chain(named).collect()
    };
    let times = proved(config, config.confirm_seconds / 10);
    finding(VerdictClass::ClientBuffers, times, &measure, evidence)
}

fn orphaned(config: &HygieneConfig, audit: &AuditFindings) -> Finding {
    // Either threshold proves it: take whichever is passed further.
    let bytes = audit.orphan_bytes as f64 / config.orphan_bytes_min.max(1) as f64;
    let keys = audit.orphan_keys as f64 / config.orphan_keys_min.max(1) as f64;
    // At the threshold it counts: "at least 4 MiB or 1,000 keys".
    let measure =
        Measure { value: bytes.max(keys) + f64::EPSILON, threshold: 1.0, bytes: audit.orphan_bytes };
    let evidence = || {
        let proof = format!(
            "{} keys with {} belong to no object, upload or pending free; two audit passes agree",
            audit.orphan_keys,
            human(audit.orphan_bytes as f64)
        );
        let examples = audit.orphan_examples.iter().take(3).map(|key| format!("for instance {key}"));
        std::iter::once(proof).chain(examples).collect()
    };
    let mut found = finding(VerdictClass::Orphaned, proved(config, 0), &measure, evidence);
    found.clear = !found.fires;
    found.leave_ms = 0;
    found.confidence = 0.99;
    found
}

fn pool_imbalance(config: &HygieneConfig, balances: &Balances) -> Option<Finding> {
    let pool = balances.pool.as_ref()?;
    let open = pool.taken.saturating_sub(pool.returned);
    let lost = open.abs_diff(pool.outstanding);
    let overdue = pool.oldest_lease_seconds.saturating_sub(config.pool_lease_seconds_max);
    let measure = Measure { value: (lost + overdue) as f64, threshold: 0.0, bytes: pool.outstanding_bytes };
    let evidence = || {
        vec![
            format!(
                "{} buffers taken, {} returned, {} outstanding: {lost} are not accounted for",
                pool.taken, pool.returned, pool.outstanding
            ),
            format!(
                "the oldest lease ({}) is {} s old, {} s are allowed",
                pool.oldest_lease, pool.oldest_lease_seconds, config.pool_lease_seconds_max
            ),
        ]
    };
    let times = proved(config, config.balance_hold_seconds);
    Some(Finding { confidence: 0.98, ..finding(VerdictClass::PoolImbalance, times, &measure, evidence) })
}

fn cache_overrun(config: &HygieneConfig, balances: &Balances) -> Option<Finding> {
    let excess = |cache: &crate::hygiene::sample::CacheFigures| {
        cache.bytes.saturating_sub(cache.bytes_max / 100 * (100 + CACHE_OVER_PERCENT))
    };
    let lost = |cache: &crate::hygiene::sample::CacheFigures| {
        cache.inserted.saturating_sub(cache.removed).abs_diff(cache.entries)
    };
    let worst = balances.caches.iter().max_by_key(|cache| (excess(cache), lost(cache)))?;
    let measure = Measure {
        value: (excess(worst) + lost(worst)) as f64,
        threshold: 0.0,
        bytes: worst.bytes.saturating_sub(worst.bytes_max),
    };
    let evidence = || {
        vec![format!(
            "cache {} holds {} of {} in {} entries; {} inserted, {} removed: {} are not accounted for",
            worst.name,
            human(worst.bytes as f64),
            human(worst.bytes_max as f64),
            worst.entries,
            worst.inserted,
            worst.removed,
            lost(worst)
        )]
    };
    let times = proved(config, config.balance_hold_seconds);
    Some(Finding { confidence: 0.98, ..finding(VerdictClass::CacheOverrun, times, &measure, evidence) })
}

/// A6: where the memory goes that is not live data, in bytes.
fn decomposition(engine: &EngineFigures, pages: Pages) -> String {
    let parts = [
        ("slabs", pages.active.saturating_sub(pages.allocated)),
        ("freed pages", pages.resident.saturating_sub(pages.active)),
        ("the process itself", engine.rss.saturating_sub(pages.resident)),
    ];
    let waste: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    let listed: Vec<String> =
        parts.iter().map(|(name, bytes)| format!("{} in {name}", human(*bytes as f64))).collect();
    let dominant = parts.iter().find(|(_, bytes)| *bytes * 100 >= waste * DOMINANT_PERCENT && waste > 0);
    let cause = dominant.map_or("no part dominates".to_owned(), |(name, _)| format!("{name} dominate"));
    format!("{} beyond live data: {}; {cause}", human(waste as f64), listed.join(", "))
}

fn retained_pages(config: &HygieneConfig, engine: &EngineFigures, pages: Pages, limit: u64) -> Finding {
    let retained = pages.resident.saturating_sub(pages.active);
    let threshold = config.retained_bytes_min.max(limit / 100 * PAGES_PERCENT);
    let measure = Measure { value: retained as f64, threshold: threshold as f64, bytes: retained };
    let evidence = || {
        vec![
            format!(
                "{} of freed pages are still resident, {} are allowed",
                human(retained as f64),
                human(threshold as f64)
            ),
            decomposition(engine, pages),
        ]
    };
    finding(VerdictClass::RetainedPages, proved(config, config.balance_hold_seconds), &measure, evidence)
}

fn fragmented(config: &HygieneConfig, engine: &EngineFigures, pages: Pages) -> Finding {
    let waste = pages.active.saturating_sub(pages.allocated);
    let ratio = pages.active as f64 / pages.allocated.max(1) as f64;
    let threshold = config.fragmented_bytes_min.max(engine.used / 100 * PAGES_PERCENT);
    let counts = ratio >= FRAGMENTED_RATIO_MIN && engine.used >= config.fragmented_used_bytes_min;
    let value = if counts { waste as f64 } else { 0.0 };
    let measure = Measure { value, threshold: threshold as f64, bytes: waste };
    let evidence = || {
        vec![
            format!(
                "{} of slabs hold {} of live data (ratio {ratio:.2}); {} of waste are allowed",
                human(pages.active as f64),
                human(pages.allocated as f64),
                human(threshold as f64)
            ),
            decomposition(engine, pages),
        ]
    };
    finding(VerdictClass::Fragmented, sloped(config, config.confirm_seconds * 3 / 2), &measure, evidence)
}

/// Tasks need the minima of a series: alive counts are never exact at one moment.
pub fn task_leak(
    config: &HygieneConfig,
    balances: &Balances,
    minima: &mut Buckets,
    now_ms: u64,
) -> Option<Finding> {
    let tasks = balances.tasks.as_ref()?;
    let excess = tasks.alive as f64 - tasks.expected as f64;
    minima.push(excess, now_ms);
    let per_hour =
        minima.trend().filter(|trend| trend.z > Z_99).map_or(0.0, |trend| trend.slope_low * HOUR_MS);
    let over = excess / config.task_excess_max.max(1) as f64;
    let measure = Measure { value: over.max(per_hour / TASKS_PER_HOUR_MAX), threshold: 1.0, bytes: 0 };
    let evidence = || {
        vec![
            format!(
                "{} tasks are alive, {} are explained by open connections; {} more are allowed",
                tasks.alive, tasks.expected, config.task_excess_max
            ),
            format!("most of them are named {}; the minima grow by {per_hour:.0} an hour", tasks.largest),
        ]
    };
    let times = proved(config, config.balance_hold_seconds * 5 / 2);
    Some(finding(VerdictClass::TaskLeak, times, &measure, evidence))
}
