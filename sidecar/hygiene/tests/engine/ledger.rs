//! The size model and the ledger: what we say the keys cost is what the engine says they cost.

use std::sync::Arc;

use blobstore_sidecar_api::report::VerdictClass;
use blobstore_sidecar_core::generation::Generation;
use blobstore_sidecar_core::hygiene::book::Ledger;
use blobstore_sidecar_core::hygiene::{info::Info, layout::layout};
use blobstore_sidecar_core::key::{chunk, names};
use blobstore_sidecar_core::ledger::{Family, LedgerSink};
use blobstore_sidecar_core::partition::tag_of;
use redis::Pipeline;

use crate::common::{Engine, config, generation, has, hygiene, report, settled};

/// Objects of 100 B, 1, 4 and 64 KiB (the last one as the planner cuts it).
const SHAPES: [(usize, usize); 4] = [(200_000, 100), (100_000, 1_024), (50_000, 4_096), (4_000, 65_472)];
/// What an engine holds besides keys and clients whatever its data: query buffers on loan, dictionaries of commands.
const RESIDUAL_CONSTANT: f64 = 0.5 * 1_048_576.0;
const RESIDUAL_SHARE_MAX: f64 = 0.005;

fn name(born: Generation, shape: usize, index: usize) -> String {
    let mut id = born.0;
    id[6] = shape as u8;
    id[8..16].copy_from_slice(&(index as u64).to_be_bytes());
    chunk(tag_of((index % 256) as u32, 256), Generation(id), 0)
}

/// Names of objects, so that zsets are in the figure too.
async fn list(engine: &mut Engine, ledger: &Ledger, count: usize) {
    for first in (0..count).step_by(1_000) {
        let mut adds = Pipeline::new();
        for index in first..(first + 1_000).min(count) {
            // A few partitions only: most of these become tables, some stay compact.
            let partition = if index % 100 == 0 { index / 100 % 64 + 8 } else { index % 8 };
            let (key, member) =
                (names(tag_of(partition as u32, 256), "b"), format!("photos/2026/{index:08}.jpg"));
            adds.cmd("ZADD").arg(&key).arg(0).arg(&member).ignore();
            ledger.member_added(Family::Names, key.as_bytes(), member.len());
        }
        adds.query_async::<()>(&mut engine.connection).await.expect("listed");
    }
}

fn check(report: &blobstore_sidecar_api::report::LeakReport, what: &str) {
    let figure = |name: &str| report.figures.get(name).copied().unwrap_or(f64::NAN);
    let (residual, keyspace) = (figure("residual"), figure("keyspace"));
    println!("{what}: residual {residual:.0} of {keyspace:.0} bytes, {:.4} %", residual / keyspace * 100.0);
    let allowed = keyspace * RESIDUAL_SHARE_MAX + RESIDUAL_CONSTANT;
    assert!(residual.abs() <= allowed, "{what}: {:#?}", report.figures);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_explains_every_shape_and_an_audit_finds_the_same() {
    let mut engine = Engine::start().await;
    let ledger = Arc::new(Ledger::new());
    // The keys are young: with the default grace none of them is judged an orphan.
    let config = || blobstore_sidecar_api::config::HygieneConfig { orphan_grace_seconds: 900, ..config() };
    // No pass meanwhile: the second half is about what a pass finds.
    let untouched =
        blobstore_sidecar_api::config::HygieneConfig { audit_interval_seconds: 3_600, ..config() };
    let first = hygiene(&engine, &ledger, untouched);
    settled(&first).await;
    let born = generation(0, 0);
    for (shape, (count, len)) in SHAPES.into_iter().enumerate() {
        // Told as they are written, as the store does: what is told late is growth without a cause.
        let told = |index| {
            let name = name(born, shape, index);
            ledger.string_added(Family::Chunk, name.len(), len);
            name
        };
        engine.fill(count, len, told).await;
        let sequence = first.report().sequence + 1;
        let seen = report(&first, "a sample after the fill", |report| {
            report.sequence > sequence && report.figures.contains_key("residual") && report.gates.is_empty()
        })
        .await;
        check(&seen, &format!("{count} keys of {len} bytes"));
    }
    list(&mut engine, &ledger, 60_000).await;
    let sequence = first.report().sequence + 1;
    let seen = report(&first, "a sample after the names", |report| {
        report.sequence > sequence && report.figures.contains_key("residual") && report.gates.is_empty()
    })
    .await;
    check(&seen, "with 60000 names");
    assert!(!has(&seen, VerdictClass::Growing), "{:#?}", seen.verdicts);
    drop(first);

    // The sidecar restarts: nothing is known until a pass has gone over the keys.
    let ledger = Arc::new(Ledger::new());
    let second = hygiene(&engine, &ledger, config());
    let early = report(&second, "a first report", |report| report.sequence > 0).await;
    assert!(has(&early, VerdictClass::Unknown) || !early.gates.is_empty() || early.audit.passes > 0);
    let rebuilt = settled(&second).await;
    assert!(rebuilt.audit.passes > 0, "{:#?}", rebuilt.audit);
    check(&rebuilt, "rebuilt by an audit pass");
}

/// What a write costs on its way to a replica or a file is no part of what its key costs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_propagates_its_writes_is_calibrated_alike_and_propagates_no_probe() {
    let mut engine = Engine::start_with(&["--appendonly", "yes"]).await;
    let ledger = Arc::new(Ledger::new());
    let hygiene = hygiene(&engine, &ledger, config());
    settled(&hygiene).await;
    let written = engine.memory("aof_current_size").await;
    let base = engine.memory("aof_base_size").await;
    assert_eq!(written, base, "no probe is in the file");
}

/// The same tests run on other engines: which one it is must not rest on what a PATH happens to hold.
#[tokio::test]
async fn the_engine_is_the_one_that_was_asked_for_and_its_layout_is_known() {
    let mut engine = Engine::start().await;
    let text: String = engine.run(redis::cmd("INFO").arg("server")).await;
    let info = Info::parse(&text);
    let version = info.version().expect("a version");
    println!("{version}");
    if let Ok(wanted) = std::env::var("BLOBSTORE_ENGINE") {
        assert_eq!(version.to_string(), wanted, "{text}");
    }
    assert!(layout(&version, true).is_some(), "no layout for {version}");
}
