//! Marks of damage outlive the process that made them, and go with the damage.

use std::time::{Duration, Instant};

use blobstore_sidecar_core::{generation::Generation, ledger::Family, precondition::Conditions};
use blobstore_sidecar_store::{DeleteRequest, ErrorKind, StoreOptions};

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
        assert_eq!((bench.store.damaged(), bench.ledger.members(Family::Damage)), (vec![], 0), "{way}");
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
    for (object, generation) in
        [("b/a", foreign.as_str()), ("b/nowhere", foreign.as_str()), ("x", "nonsense")]
    {
        let mark = redis::cmd("HSET").arg(&list).arg(object).arg(generation).to_owned();
        let _new: u64 = bench.engine.query(&mark).await;
    }
    let (next, _) = open(&bench.engine, options());
    let marked = redis::cmd("HEXISTS").arg(&list).arg("b/a").to_owned();
    until("struck", async || bench.engine.query::<u64>(&marked).await == 0).await;
    assert_eq!(next.damaged(), []);
    assert_eq!(bench.get("a").await.expect("whole").len(), 300_000);
}
