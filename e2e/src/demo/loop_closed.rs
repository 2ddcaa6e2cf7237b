//! The second half of the demonstration: chunks that nothing names are put into the engine; the verdict, the
//! plan, the remedy and its effect are shown as they appear, with their numbers.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{expect, mib};
use crate::{error::Result, hygiene, orphans, progress, store::Store};

/// About 50 MiB: more than a quarter of what the demonstration's engine may hold.
const CHUNKS: u64 = 200;
/// Far older than any grace.
const AGE: Duration = Duration::from_secs(3600);
/// Two audit passes, seconds each with the demonstration's thresholds.
const VERDICT_LIMIT: Duration = Duration::from_secs(120);
const REMEDY_LIMIT: Duration = Duration::from_secs(120);

pub(super) async fn run(store: &Store) -> Result<()> {
    let primary = store.primary(0).await?;
    let clean = orphans::memory(store, &primary, "used_memory").await?;
    progress::say(&format!("the engine of {primary} uses {:.1} MiB; hygiene mode is Observe", mib(clean)));
    let start = Instant::now();
    let made = orphans::inject(store, &primary, CHUNKS, AGE).await?;
    let dirty = orphans::memory(store, &primary, "used_memory").await?;
    let (count, bytes) = (made.chunks, mib(made.bytes()));
    progress::say(&format!(
        "injected {count} orphaned chunks, {bytes:.1} MiB: the engine now uses {:.1} MiB",
        mib(dirty)
    ));
    let fault = hygiene::Fault { class: "Orphaned", pod: &primary };
    let (finding, remediation) = hygiene::wait_finding(store, fault, VERDICT_LIMIT).await?;
    let seconds = start.elapsed().as_secs_f64();
    progress::say(&format!(
        "after {seconds:.1} s the verdict: Orphaned, {} MiB on {}",
        finding.mib, finding.pod
    ));
    for sentence in &finding.evidence {
        progress::say(&format!("  evidence: {sentence}"));
    }
    if let Some(plan) = &remediation.plan {
        progress::say(&format!("  plan: {:?} on {}: {}", plan.rung, plan.pod, plan.prediction));
    }
    let left = orphans::left(store, &made).await?;
    expect(left == CHUNKS, &format!("Observe touched them: {left} of {CHUNKS} chunks are left"))?;
    progress::say("Observe has touched nothing; hygiene mode is now Auto");
    let start = Instant::now();
    store.merge(&json!({ "spec": { "hygiene": { "mode": "Auto" } } })).await?;
    let remedy = hygiene::wait_effective(store, fault, REMEDY_LIMIT).await?;
    let seconds = start.elapsed().as_secs_f64();
    let after = remedy.after.unwrap_or(remedy.before);
    progress::say(&format!(
        "after {seconds:.1} s {:?} was effective: {} from {:.0} to {after:.0}",
        remedy.rung, remedy.figure, remedy.before
    ));
    let left = orphans::left(store, &made).await?;
    expect(left == 0, &format!("{left} of {CHUNKS} orphans are left"))?;
    let used = orphans::memory(store, &primary, "used_memory").await?;
    let back = dirty.saturating_sub(used);
    expect(back > made.bytes() / 10 * 9, &format!("only {:.1} MiB came back", mib(back)))?;
    progress::say(&format!(
        "no orphan is left, {:.1} MiB came back: the engine uses {:.1} MiB",
        mib(back),
        mib(used)
    ));
    Ok(())
}
