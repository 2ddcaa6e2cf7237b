//! Orphans: bodies without a record, and everything that must never be taken for one.

use std::sync::Arc;

use blobstore_sidecar_api::action::{ActionState, name};
use blobstore_sidecar_api::report::VerdictClass;
use blobstore_sidecar_core::generation::Generation;
use blobstore_sidecar_core::hygiene::book::Ledger;
use blobstore_sidecar_core::key;
use blobstore_sidecar_core::partition::{PartitionTag, tag_of};
use redis::cmd;

use crate::common::{Engine, act, config, confirmed, generation, has, hygiene, report, settled};

const CHUNK_BYTES: usize = 262_080;
const HOUR: u64 = 3_600;

/// The head of a manifest, as the data model lays it out.
fn manifest(id: Generation, bucket: &str, name: &str) -> Vec<u8> {
    let mut bytes = vec![0; 48];
    bytes[..4].copy_from_slice(b"BSM1");
    bytes[8..24].copy_from_slice(&id.0);
    bytes[40..42].copy_from_slice(&(bucket.len() as u16).to_le_bytes());
    bytes[42..44].copy_from_slice(&(name.len() as u16).to_le_bytes());
    bytes.extend_from_slice(bucket.as_bytes());
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

/// A record's head: generation, number of chunks, length of the manifest.
fn record(id: Generation, chunks: u32, manifest_len: u32) -> Vec<u8> {
    let mut bytes = vec![0; 128];
    bytes[8..24].copy_from_slice(&id.0);
    bytes[100..104].copy_from_slice(&chunks.to_le_bytes());
    bytes[108..112].copy_from_slice(&manifest_len.to_le_bytes());
    bytes
}

struct Bodies {
    tag: PartitionTag,
    live: Vec<String>,
}

impl Bodies {
    async fn body(
        &mut self,
        engine: &mut Engine,
        id: Generation,
        name: Option<&str>,
        chunks: usize,
    ) -> Vec<String> {
        let tag = self.tag;
        let mut keys: Vec<String> = (0..chunks).map(|index| key::chunk(tag, id, index as u32)).collect();
        let written = keys.clone();
        engine.fill(chunks, CHUNK_BYTES, |index| written[index].clone()).await;
        if let Some(name) = name {
            let manifest_key = key::manifest(tag, id);
            let _: String = engine.run(cmd("SET").arg(&manifest_key).arg(manifest(id, "b", name))).await;
            keys.push(manifest_key);
        }
        keys
    }

    /// Old bodies that something names: a record, a record without manifest, the journal, pending free.
    async fn inject_live(&mut self, engine: &mut Engine) {
        let tag = self.tag;
        let ids: Vec<Generation> = (1..=4).map(|salt| generation(HOUR, salt)).collect();
        for (id, name, chunks) in [
            (ids[0], Some("named"), 5),
            (ids[1], None, 1),
            (ids[2], Some("upload"), 3),
            (ids[3], Some("gone"), 3),
        ] {
            let keys = self.body(engine, id, name, chunks).await;
            self.live.extend(keys);
        }
        for (name, head) in [("named", record(ids[0], 5, 60)), ("single", record(ids[1], 1, 0))] {
            let record_key = key::record(tag, "b", name);
            let _: String = engine.run(cmd("SET").arg(&record_key).arg(head)).await;
            self.live.push(record_key);
        }
        let entry = format!("{}:0:b:upload", ids[2]);
        let _: i64 = engine.run(cmd("ZADD").arg(key::journal(tag)).arg(9e15).arg(entry)).await;
        let entry = format!("{}:3:262080:60", ids[3]);
        let _: i64 = engine.run(cmd("ZADD").arg(key::pending_free(tag)).arg(1).arg(entry)).await;
        // A young body without any reference may be an upload that has not reached its journal yet.
        let keys = self.body(engine, generation(0, 5), Some("young"), 2).await;
        self.live.extend(keys);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_named_reclaimed_and_nothing_else_is() {
    let mut engine = Engine::start().await;
    let ledger = Arc::new(Ledger::new());
    let hygiene = hygiene(&engine, &ledger, config());
    settled(&hygiene).await;
    let mut bodies = Bodies { tag: tag_of(9, 256), live: Vec::new() };
    bodies.inject_live(&mut engine).await;
    let passes = hygiene.report().audit.passes;
    let calm = report(&hygiene, "three passes", |report| report.audit.passes >= passes + 3).await;
    assert!(!has(&calm, VerdictClass::Orphaned), "{:#?}", calm.verdicts);

    // A manifest whose record is gone, in more chunks than one step frees; chunks whose manifest is gone.
    let without_record = bodies.body(&mut engine, generation(HOUR, 21), Some("lost"), 100).await;
    let without_manifest = bodies.body(&mut engine, generation(HOUR, 22), None, 20).await;
    let orphans = without_record.len() + without_manifest.len();
    let passes = hygiene.report().audit.passes;
    let verdict = confirmed(&hygiene, VerdictClass::Orphaned).await;
    let took = hygiene.report().audit.passes - passes;
    println!("orphans named after {took} passes: {}", verdict.evidence[0]);
    assert!(verdict.bytes >= 120 * 262_144 && verdict.bytes < 124 * 262_144, "{verdict:#?}");
    assert!(verdict.evidence[0].starts_with(&format!("{orphans} keys")), "{:?}", verdict.evidence);

    let used = engine.used().await;
    let done = act(&hygiene, name::RECLAIM_ORPHANS, "reclaim-1").await;
    println!("{}: {:?} then {:?}", done.message, done.before, done.after);
    assert_eq!(done.state, ActionState::Done, "{}", done.message);
    let freed = used.saturating_sub(engine.used().await);
    assert!(freed * 10 >= verdict.bytes * 8, "{freed} bytes came back of {}", verdict.bytes);
    assert!(done.before["used_memory"] - done.after["used_memory"] >= 0.8 * verdict.bytes as f64);
    let live: i64 = {
        let mut exists = cmd("EXISTS");
        exists.arg(&bodies.live);
        engine.run(&exists).await
    };
    assert_eq!(live as usize, bodies.live.len(), "every live key is still there");

    assert_eq!(act(&hygiene, name::RECLAIM_ORPHANS, "reclaim-1").await, done, "the same id repeats nothing");
    let again = act(&hygiene, name::RECLAIM_ORPHANS, "reclaim-2").await;
    assert_eq!(again.state, ActionState::Refused, "{}", again.message);
    report(&hygiene, "the verdict is gone", |report| !has(report, VerdictClass::Orphaned)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_named_after_the_audit_is_kept() {
    let mut engine = Engine::start().await;
    let ledger = Arc::new(Ledger::new());
    // No pass but those we ask for: the list is as old as we want it to be.
    let hygiene = hygiene(
        &engine,
        &ledger,
        blobstore_sidecar_api::config::HygieneConfig { audit_interval_seconds: HOUR, ..config() },
    );
    settled(&hygiene).await;
    let mut bodies = Bodies { tag: tag_of(200, 256), live: Vec::new() };
    let id = generation(HOUR, 31);
    let keys = bodies.body(&mut engine, id, Some("late"), 6).await;
    for pass in 0..2 {
        let done = act(&hygiene, name::AUDIT, &format!("audit-{pass}")).await;
        assert_eq!(done.state, ActionState::Done, "{}", done.message);
    }
    let record_key = key::record(bodies.tag, "b", "late");
    let _: String = engine.run(cmd("SET").arg(record_key).arg(record(id, 6, 60))).await;
    let done = act(&hygiene, name::RECLAIM_ORPHANS, "reclaim").await;
    assert!(done.message.contains("1 kept: named by its record"), "{}", done.message);
    let live: i64 = engine.run(cmd("EXISTS").arg(&keys)).await;
    assert_eq!(live as usize, keys.len());
}
