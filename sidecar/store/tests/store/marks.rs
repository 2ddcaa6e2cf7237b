//! Marks of damage outlive the process that made them, and go with the damage.

use std::time::{Duration, Instant};

use blobstore_sidecar_core::{generation::Generation, ledger::Family, precondition::Conditions};
use blobstore_sidecar_store::{DeleteRequest, ErrorKind, GetRequest, StoreOptions, Version, Versioning};

use crate::{
    common::{Bench, PATIENCE, bucket, name, open, options, payload},
    damage::{Harm, chunks, harm},
};

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn lists(bench: &Bench) -> Vec<String> {
    bench.engine.keys().await.into_iter().filter(|key| key.starts_with("z:")).collect()
}

fn without_cache() -> StoreOptions {
    let mut options = options();
    options.cache.max_bytes = 0;
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_survives_a_restart_and_goes_when_the_chunk_is_back() {
    let bench = Bench::with(without_cache(), &[]).await;
    bench.put("a", payload(300_000, 1)).await;
    let key = chunks(&bench).await.remove(0);
    let value: Vec<u8> = bench.engine.query(redis::cmd("GET").arg(&key)).await;
    harm(&bench, &key, Harm::Flip).await;
    assert_eq!(bench.get("a").await.expect_err("damaged").kind, ErrorKind::Damaged);
    until("the mark is in the engine", async || lists(&bench).await.len() == 1).await;
    until("the ledger knows", async || bench.ledger.members(Family::Damage) == 1).await;
    // Another process begins: it has read nothing of the object.
    let (next, _) = open(&bench.engine, without_cache());
    until("the next process knows", async || next.damaged().len() == 1).await;
    assert_eq!((next.damaged()[0].object.as_str(), next.damaged().len()), ("b/a", 1));
    let () = bench.engine.query(redis::cmd("SET").arg(&key).arg(value)).await;
    assert_eq!(next.scrub().await.expect("a pass").damaged, 0);
    assert_eq!(next.damaged(), []);
    until("the mark is struck", async || lists(&bench).await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_goes_with_its_object_and_leaves_no_key() {
    let bench = Bench::with(without_cache(), &[]).await;
    for way in ["deleted", "written anew"] {
        bench.put("a", payload(300_000, 1)).await;
        harm(&bench, &chunks(&bench).await[0], Harm::Remove).await;
        assert_eq!(bench.get("a").await.expect_err("damaged").kind, ErrorKind::Damaged);
        until("the mark is in the engine", async || lists(&bench).await.len() == 1).await;
        if way == "written anew" {
            bench.put("a", payload(300_000, 2)).await;
        }
        let conditions = Conditions::default();
        if way == "deleted" {
            let request = DeleteRequest { bucket: bucket(), name: name("a"), conditions };
            bench.store.delete(request).await.expect("deleted");
        }
        until("the mark is struck", async || lists(&bench).await.is_empty()).await;
        assert_eq!(bench.store.damaged(), vec![], "{way}");
        until("the ledger knows", async || bench.ledger.members(Family::Damage) == 0).await;
    }
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_of_a_body_that_is_gone_is_struck_at_the_start() {
    let bench = Bench::with(options(), &[]).await;
    bench.put("a", payload(300_000, 1)).await;
    let record = bench.engine.keys().await.into_iter().find(|key| key.starts_with("o:")).expect("a record");
    let list = record.replacen("o:", "z:", 1).replace(":b/a", "");
    let foreign = Generation([7; 16]).to_string();
    let gone = format!("b/a\0{foreign}");
    for field in [gone.as_str(), &format!("b/nowhere\0{foreign}"), "b/a", "b/a\0nonsense", "x"] {
        let mark = redis::cmd("HSET").arg(&list).arg(field).arg("").to_owned();
        let _new: u64 = bench.engine.query(&mark).await;
    }
    let (next, _) = open(&bench.engine, options());
    let marked = redis::cmd("HEXISTS").arg(&list).arg(&gone).to_owned();
    until("struck", async || bench.engine.query::<u64>(&marked).await == 0).await;
    assert_eq!(next.damaged(), []);
    assert_eq!(bench.get("a").await.expect("whole").len(), 300_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_is_of_one_version_and_goes_with_it() {
    let bench = Bench::with(without_cache(), &[]).await;
    bench.store.set_versioning(&bucket(), Versioning::Enabled).await.expect("set");
    let mut versions = Vec::new();
    for seed in 0..3 {
        versions.push(bench.put("a", payload(300_000, seed)).await.generation);
    }
    let mut values: Vec<(String, Vec<u8>)> = Vec::new();
    for generation in &versions[..2] {
        let keys = chunks(&bench).await;
        let key = keys.into_iter().find(|key| key.contains(&generation.to_string())).expect("a chunk");
        values.push((key.clone(), bench.engine.query(redis::cmd("GET").arg(&key)).await));
        harm(&bench, &key, Harm::Flip).await;
        let request = GetRequest::new(bucket(), name("a"));
        let read = bench.store.get_version(request, Version::Id(*generation)).await;
        let error = match read {
            Ok(found) => read_error(found).await,
            Err(error) => error.kind,
        };
        assert_eq!(error, ErrorKind::Damaged);
    }
    let marked = |bench: &Bench| {
        let mut marked: Vec<_> = bench.store.damaged().into_iter().map(|mark| mark.generation).collect();
        marked.sort();
        marked
    };
    let mut both = versions[..2].to_vec();
    both.sort();
    assert_eq!(marked(&bench), both);
    // The current version is whole, and a new one changes nothing.
    assert_eq!(bench.get("a").await.expect("whole"), payload(300_000, 2));
    bench.put("a", payload(300_000, 9)).await;
    until("both are looked at", async || marked(&bench) == both).await;
    // One is whole again.
    let (key, value) = values.remove(0);
    let () = bench.engine.query(redis::cmd("SET").arg(&key).arg(value)).await;
    assert_eq!(bench.store.scrub().await.expect("a pass").damaged, 1);
    assert_eq!(marked(&bench), versions[1..2]);
    // Another process knows the same, and the mark goes with its version.
    until("the marks are in the engine", async || bench.ledger.members(Family::Damage) == 1).await;
    let (next, _) = open(&bench.engine, without_cache());
    until("the next process knows", async || next.damaged().len() == 1).await;
    assert_eq!(next.damaged()[0].generation, versions[1]);
    let request = DeleteRequest { bucket: bucket(), name: name("a"), conditions: Conditions::default() };
    bench.store.delete_version(request, Version::Id(versions[1])).await.expect("deleted");
    until("the mark is struck", async || lists(&bench).await.is_empty()).await;
    assert_eq!(marked(&bench), []);
}

async fn read_error(found: blobstore_sidecar_store::GetOutcome) -> ErrorKind {
    crate::common::read(found).await.expect_err("damaged").kind
}
