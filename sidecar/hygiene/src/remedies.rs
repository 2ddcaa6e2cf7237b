//! The soft rungs: what each one does, what it refuses to do, and the figure it promises to move.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use blobstore_sidecar_api::action::{ActionState, name};
use blobstore_sidecar_api::report::VerdictClass;
use blobstore_sidecar_core::hygiene::clients::{parse, victims};
use blobstore_sidecar_core::hygiene::findings::human;
use blobstore_sidecar_core::hygiene::info::{EngineFigures, Pages};
use blobstore_sidecar_runtime::memory;
use redis::cmd;

use crate::error::HygieneError;
use crate::reclaim;
use crate::sampler::{engine_figures, own_user};
use crate::service::Inner;

/// The engine's own figures are refreshed ten times a second: effects are looked for at this pace.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long an effect may take to show.
const EFFECT_WAIT: Duration = Duration::from_secs(5);
/// Defrag is boxed: it costs the clients latency as long as it runs.
const DEFRAG_MAX: Duration = Duration::from_secs(300);
/// A trim leaves this share of the caches.
const TRIM_PERCENT: u32 = 80;

/// What a remedy did.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) state: ActionState,
    pub(crate) message: String,
    pub(crate) before: BTreeMap<String, f64>,
    pub(crate) after: BTreeMap<String, f64>,
}

type Figures = BTreeMap<String, f64>;

fn figures(values: &[(&str, u64)]) -> Figures {
    values.iter().map(|(name, value)| ((*name).to_owned(), *value as f64)).collect()
}

fn refused(message: impl Into<String>) -> Outcome {
    Outcome {
        state: ActionState::Refused,
        message: message.into(),
        before: Figures::new(),
        after: Figures::new(),
    }
}

fn done(message: String, before: Figures, after: Figures) -> Outcome {
    Outcome { state: ActionState::Done, message, before, after }
}

/// Carries out the action of this name.
pub(crate) async fn carry_out(inner: &Inner, action: &str) -> Outcome {
    let outcome = match action {
        name::AUDIT => audit(inner).await,
        name::TRIM => Ok(trim(inner)),
        name::RECLAIM_ORPHANS => reclaim_orphans(inner).await,
        name::KILL_CLIENTS => kill_clients(inner).await,
        name::PURGE => purge(inner).await,
        name::DEFRAG => defrag(inner).await,
        other => Ok(refused(format!("{other} is not an action of hygiene"))),
    };
    outcome.unwrap_or_else(|error| Outcome {
        state: ActionState::Failed,
        message: error.chain(),
        before: Figures::new(),
        after: Figures::new(),
    })
}

async fn audit(inner: &Inner) -> Result<Outcome, HygieneError> {
    let figures_now = || {
        let found = inner.audit_findings();
        figures(&[
            ("orphan_bytes", found.orphan_bytes),
            ("orphan_keys", found.orphan_keys),
            ("foreign_keys", found.foreign_keys),
            ("passes", found.passes),
        ])
    };
    let before = figures_now();
    let keys = inner.audit().await?;
    let found = inner.audit_findings();
    let message = format!("{keys} keys seen, {} orphaned, {} foreign", found.orphan_keys, found.foreign_keys);
    Ok(done(message, before, figures_now()))
}

fn trim(inner: &Inner) -> Outcome {
    let cached = || inner.hooks.caches().iter().map(|cache| cache.bytes).sum::<u64>();
    let now = || {
        let heap = memory::heap();
        figures(&[
            ("cache_bytes", cached()),
            ("allocated", heap.allocated),
            ("heap_resident", heap.resident),
            ("process_resident", memory::process().resident.unwrap_or(0)),
        ])
    };
    let before = now();
    let trimmed = inner.hooks.trim(TRIM_PERCENT);
    let (resident, left) = memory::purge();
    let message = format!(
        "caches gave back {}, {} idle handles closed, arenas purged from {} to {}",
        human(trimmed.bytes as f64),
        trimmed.handles,
        human(resident as f64),
        human(left as f64)
    );
    done(message, before, now())
}

/// Looks until `effect` shows or its time is over; the last figures seen.
async fn watch(
    inner: &Inner,
    effect: impl Fn(&EngineFigures) -> bool,
) -> Result<EngineFigures, HygieneError> {
    let until = Instant::now() + EFFECT_WAIT;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let seen = engine_figures(&inner.engine).await?;
        if effect(&seen) || Instant::now() >= until {
            return Ok(seen);
        }
    }
}

async fn reclaim_orphans(inner: &Inner) -> Result<Outcome, HygieneError> {
    // No pass may run meanwhile: it would count what is being freed.
    let _alone = inner.auditing.lock().await;
    let orphans = inner.orphans();
    if orphans.is_empty() {
        return Ok(refused("no two audit passes agree on an orphan"));
    }
    let engine = engine_figures(&inner.engine).await?;
    if !engine.primary {
        return Ok(refused("this engine is a replica: its primary frees"));
    }
    let found = inner.audit_findings();
    let before = figures(&[
        ("used_memory", engine.used),
        ("orphan_bytes", found.orphan_bytes),
        ("orphan_keys", found.orphan_keys),
    ]);
    let freed = reclaim::run(&inner.engine, &orphans, reclaim::run_bytes_max(engine.dataset)).await?;
    inner.settle(&freed.settled);
    let wanted = engine.used.saturating_sub(freed.bytes / 10 * 8);
    let seen = watch(inner, |seen| seen.lazyfree_pending == 0 && seen.used <= wanted).await?;
    let found = inner.audit_findings();
    let after = figures(&[
        ("used_memory", seen.used),
        ("orphan_bytes", found.orphan_bytes),
        ("orphan_keys", found.orphan_keys),
    ]);
    let mut message =
        format!("{} keys with {} freed in {} bodies", freed.keys, human(freed.bytes as f64), freed.bodies);
    if freed.named > 0 {
        message.push_str(&format!("; {} kept: named by {}", freed.named, freed.named_by));
    }
    if freed.left > 0 {
        message.push_str(&format!("; {} left for the next run", freed.left));
    }
    Ok(done(message, before, after))
}

async fn kill_clients(inner: &Inner) -> Result<Outcome, HygieneError> {
    let text: String = inner.engine.query("list clients", cmd("CLIENT").arg("LIST")).await?;
    let clients = parse(&text);
    let victims = victims(&clients, own_user(&inner.options));
    if victims.is_empty() {
        return Ok(refused("no connection holds much and may be closed"));
    }
    let engine = engine_figures(&inner.engine).await?;
    let mut killed = Vec::new();
    for client in &victims {
        let answer: i64 =
            inner.engine.query("close a client", cmd("CLIENT").arg("KILL").arg("ID").arg(client.id)).await?;
        if answer > 0 {
            killed.push(client.described());
        }
    }
    let targeted: u64 = victims.iter().map(|client| client.total_bytes).sum();
    let wanted = engine.used.saturating_sub(targeted / 10 * 8);
    let seen = watch(inner, |seen| seen.used <= wanted && seen.clients <= engine.clients / 5).await?;
    let of = |seen: &EngineFigures| [("client_bytes", seen.clients), ("used_memory", seen.used)];
    let mut before = figures(&of(&engine));
    before.insert("targeted_bytes".to_owned(), targeted as f64);
    Ok(done(format!("closed {}: {}", killed.len(), killed.join("; ")), before, figures(&of(&seen))))
}

fn page_figures(seen: &EngineFigures, pages: Pages) -> Figures {
    figures(&[
        ("rss", seen.rss),
        ("retained_bytes", pages.resident.saturating_sub(pages.active)),
        ("slab_waste_bytes", pages.active.saturating_sub(pages.allocated)),
    ])
}

async fn purge(inner: &Inner) -> Result<Outcome, HygieneError> {
    let engine = engine_figures(&inner.engine).await?;
    let Some(pages) = engine.pages else {
        return Ok(refused("the engine runs on libc: MEMORY PURGE would answer OK and change nothing"));
    };
    if !inner.holds(VerdictClass::RetainedPages) {
        return Ok(refused("no retained pages were found: a purge would give nothing back"));
    }
    let before = page_figures(&engine, pages);
    let _: String = inner.engine.query("purge", cmd("MEMORY").arg("PURGE")).await?;
    let retained = |pages: Pages| pages.resident.saturating_sub(pages.active);
    let half = retained(pages) / 2;
    let seen = watch(inner, |seen| {
        let fell = seen.pages.is_some_and(|now| retained(now) <= half);
        fell && seen.rss < engine.rss.saturating_sub(half / 2)
    })
    .await?;
    let after = page_figures(&seen, seen.pages.unwrap_or_default());
    let message =
        format!("resident memory went from {} to {}", human(engine.rss as f64), human(seen.rss as f64));
    Ok(done(message, before, after))
}

/// Settings of a bounded run: 1 to 5 % of the processor, from 2 % of what is used.
fn defrag_settings(used: u64) -> [(&'static str, String); 4] {
    [
        ("active-defrag-cycle-min", "1".to_owned()),
        ("active-defrag-cycle-max", "5".to_owned()),
        ("active-defrag-threshold-lower", "10".to_owned()),
        ("active-defrag-ignore-bytes", (used / 50).to_string()),
    ]
}

async fn set(inner: &Inner, option: &str, value: &str) -> Result<(), HygieneError> {
    inner.engine.query("set a defrag option", cmd("CONFIG").arg("SET").arg(option).arg(value)).await
}

async fn defrag(inner: &Inner) -> Result<Outcome, HygieneError> {
    let engine = engine_figures(&inner.engine).await?;
    let Some(pages) = engine.pages else {
        return Ok(refused("the engine runs on libc and cannot defragment"));
    };
    let old: HashMap<String, String> =
        inner.engine.query("read the defrag options", cmd("CONFIG").arg("GET").arg("active*defrag*")).await?;
    if let Err(HygieneError::Engine { source, .. }) = set(inner, "activedefrag", "yes").await {
        return Ok(refused(format!("the engine cannot defragment: {source}")));
    }
    let watched = defrag_until_halved(inner, &engine, pages).await;
    // Whatever happened, the engine gets its own settings back.
    for (option, value) in &old {
        if let Err(error) = set(inner, option, value).await {
            tracing::warn!(option, error = error.chain(), "restore a defrag option");
        }
    }
    let seen = watched?;
    let after = page_figures(&seen, seen.pages.unwrap_or_default());
    Ok(done(
        "active defrag ran and its settings were restored".to_owned(),
        page_figures(&engine, pages),
        after,
    ))
}

async fn defrag_until_halved(
    inner: &Inner,
    engine: &EngineFigures,
    pages: Pages,
) -> Result<EngineFigures, HygieneError> {
    for (option, value) in defrag_settings(engine.used) {
        set(inner, option, &value).await?;
    }
    let half = pages.active.saturating_sub(pages.allocated) / 2;
    let until = Instant::now() + DEFRAG_MAX;
    loop {
        let seen = watch(inner, |seen| {
            seen.pages.is_some_and(|now| now.active.saturating_sub(now.allocated) <= half)
        })
        .await?;
        let fell = seen.pages.is_some_and(|now| now.active.saturating_sub(now.allocated) <= half);
        if fell || Instant::now() >= until {
            return Ok(seen);
        }
    }
}
