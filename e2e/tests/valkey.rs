//! The same on Valkey: a store becomes Ready, loses nothing when its primary is killed, and heals its memory. Which
//! engine it was is asked of the engine itself.

use std::time::{Duration, Instant};

use ::kube::ResourceExt;
use blobstore_e2e::{
    error::{Error, Result},
    fault, hygiene, images,
    load::{Load, Plan},
    namespace, orphans, progress, record,
    store::{self, Store},
    wait::{self, Seen},
};
use blobstore_operator_api::spec::Rung;
use nix::sys::signal::Signal;
use serde_json::json;

const READY_LIMIT: Duration = Duration::from_secs(180);
/// A failover, a verdict, a remedy: seconds each, on a machine that may compile meanwhile.
const STEP_LIMIT: Duration = Duration::from_secs(120);
const WRITES: u64 = 200;
/// 20 MiB: five times what makes a finding.
const CHUNKS: u64 = 80;
const AGE: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn store_on_valkey_loses_nothing_with_its_primary_and_reclaims_orphans() {
    namespace::with_operator("valkey", |scope| async move {
        let mut spec = store::spec(1, 1);
        spec["engine"]["image"] = json!(images::VALKEY);
        // With times of seconds a kill under load is full of findings, and what Auto does about one on the primary would
        // be a second failover.
        spec["hygiene"] = hygiene::quick("Observe");
        let store = Store::create(&scope, "valkey", &spec).await?;
        let ready = store.wait_ready(READY_LIMIT).await?.as_secs_f64();
        store.wait_redundant(READY_LIMIT).await?;
        let version = version(&store).await?;
        progress::say(&format!("Ready on {version} after {ready:.1} s"));
        killed_primary(&store).await?;
        reclaimed(&store).await
    })
    .await
    .expect("Valkey does what Redis does");
}

/// Of every pod, in its engine's own words.
async fn version(store: &Store) -> Result<String> {
    let mut found = Vec::new();
    for pod in store.pods().await? {
        let info = store.engine(&pod.name_any(), &["INFO", "server"]).await?;
        let line = info.lines().find(|line| line.starts_with("valkey_version:")).map(str::trim);
        let line = line.ok_or_else(|| Error::Wrong(format!("this is no Valkey: {info}")))?;
        assert!(line.starts_with("valkey_version:8.1."), "{line}");
        found.push(line.to_owned());
    }
    found.dedup();
    Ok(found.join(", "))
}

async fn killed_primary(store: &Store) -> Result<()> {
    let load = Load::of(store, Plan { keys_per_writer: 12, ..Plan::default() }).await?;
    load.wait_writes(WRITES, STEP_LIMIT).await?;
    // A kill while the replica is a second late may take the only copy of what was just acknowledged.
    let primary = record::wait_whole(store, STEP_LIMIT).await?.swap_remove(0);
    let program = images::program_of(images::VALKEY);
    fault::signal(&store.scope, &primary, "engine", program, Signal::SIGKILL).await?;
    load.wait_writes(WRITES, STEP_LIMIT).await?;
    let back = store.wait_redundant(READY_LIMIT).await?.as_secs_f64();
    let report = load.finish().await?;
    report.show(&format!("Valkey's primary killed (all copies back {back:.1} s later)"));
    assert_ne!(store.primary(0).await?, primary, "a replica took over");
    report.check()
}

/// The byte ledger holds on this engine's layout, or no orphan would be told from data.
async fn reclaimed(store: &Store) -> Result<()> {
    store.merge(&json!({ "spec": { "hygiene": { "mode": "Auto" } } })).await?;
    let primary = store.primary(0).await?;
    let start = Instant::now();
    let made = orphans::inject(store, &primary, CHUNKS, AGE).await?;
    let fault = hygiene::Fault { class: "Orphaned", pod: &primary };
    let remedy = hygiene::wait_effective(store, fault, STEP_LIMIT).await?;
    assert_eq!(remedy.rung, Rung::ReclaimOrphans);
    assert_eq!(orphans::left(store, &made).await?, 0);
    let seconds = start.elapsed().as_secs_f64();
    let (before, after) = (remedy.before, remedy.after.unwrap_or(-1.0));
    progress::say(&format!(
        "orphans on Valkey reclaimed {seconds:.1} s after they came: {} from {before:.0} to {after:.0}",
        remedy.figure
    ));
    let pod = store.scope.pods().get(&primary).await.map_err(Error::kube("get the pod"))?;
    // Right after so much was freed nothing is said of the engine, until its pages have gone back.
    wait::until("the engine is calibrated", STEP_LIMIT, || async {
        let report = store.report(&pod).await?;
        Ok(Seen::when(report["verdicts"][0]["class"] != "Unknown", (), || report.to_string()))
    })
    .await
}
