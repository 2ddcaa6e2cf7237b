//! Chunks that the engine changed, cut or lost: never served, repaired where somebody still has them, else told.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use blobstore_sidecar_store::{
    ChunkAsk, DeleteRequest, ErrorKind, GetRequest, ScrubReport, Spare, StoreError, StoreOptions,
};
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{
    common::{Bench, bucket, name, options, payload, read},
    multipart::{begin, complete, part, refs},
};

/// Another place that has what it was given.
#[derive(Debug, Default)]
pub(crate) struct Replica(pub(crate) Mutex<HashMap<String, Bytes>>);

impl Spare for Replica {
    fn chunk<'a>(&'a self, ask: &'a ChunkAsk) -> BoxFuture<'a, Option<Bytes>> {
        let found = self.0.lock().expect("no panic").get(&ask.key).cloned();
        Box::pin(async move { found })
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Harm {
    Flip,
    Truncate,
    Remove,
}

pub(crate) const HARMS: [Harm; 3] = [Harm::Flip, Harm::Truncate, Harm::Remove];

pub(crate) async fn chunks(bench: &Bench) -> Vec<String> {
    let keys = bench.engine.keys().await;
    keys.into_iter().filter(|key| key.starts_with("c:")).collect()
}

pub(crate) async fn harm(bench: &Bench, key: &str, harm: Harm) {
    match harm {
        Harm::Flip => {
            let byte: Vec<u8> = bench.engine.query(redis::cmd("GETRANGE").arg(key).arg(100).arg(100)).await;
            let flip = redis::cmd("SETRANGE").arg(key).arg(100).arg(vec![byte[0] ^ 4]).to_owned();
            let _len: u64 = bench.engine.query(&flip).await;
        }
        Harm::Truncate => {
            let part: Vec<u8> = bench.engine.query(redis::cmd("GETRANGE").arg(key).arg(0).arg(99)).await;
            let () = bench.engine.query(redis::cmd("SET").arg(key).arg(part)).await;
        }
        Harm::Remove => {
            let _gone: u64 = bench.engine.query(redis::cmd("DEL").arg(key)).await;
        }
    }
}

/// `a`: one run of chunks; `p`: in parts.
async fn store_two(bench: &Bench, body: &Bytes) {
    bench.put("a", body.clone()).await;
    let to = begin(&bench.store, "p").await;
    let one = part(&bench.store, &to, 1, body.slice(..400_000)).await.expect("stored");
    let two = part(&bench.store, &to, 2, body.slice(400_000..)).await.expect("stored");
    complete(&bench.store, &to, refs(&[one, two])).await.expect("completed");
}

async fn whole(bench: &Bench, name_: &str) -> Result<Bytes, StoreError> {
    read(bench.store.get(GetRequest::new(bucket(), name(name_))).await?).await
}

fn without_cache() -> StoreOptions {
    let mut options = StoreOptions { part_bytes_min: 0, ..options() };
    options.cache.max_bytes = 0;
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_has_is_an_error_and_a_mark_until_it_is_written_anew() {
    let bench = Bench::with(without_cache(), &[]).await;
    let body = payload(900_000, 1);
    for way in HARMS {
        store_two(&bench, &body).await;
        for key in chunks(&bench).await {
            harm(&bench, &key, way).await;
        }
        for name_ in ["a", "p"] {
            assert_eq!(whole(&bench, name_).await.expect_err("damaged").kind, ErrorKind::Damaged, "{way:?}");
        }
        let mut marked: Vec<String> = bench.store.damaged().into_iter().map(|mark| mark.object).collect();
        marked.sort();
        assert_eq!(marked, ["b/a", "b/p"], "{way:?}");
        let report = bench.store.scrub().await.expect("a pass");
        assert_eq!((report.objects, report.damaged, report.repaired), (2, 2, 0), "{way:?}");
        bench.put("a", body.clone()).await;
        assert_eq!(whole(&bench, "a").await.expect("new"), body);
        let conditions = Default::default();
        bench
            .store
            .delete(DeleteRequest { bucket: bucket(), name: name("p"), conditions })
            .await
            .expect("deleted");
        assert_eq!(bench.store.damaged(), [], "{way:?}");
    }
    bench.is_quiet().await;
}

/// R001-3: what a checksum refuses is healed from another copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_has_is_served_and_written_back() {
    let replica = Arc::new(Replica::default());
    let spare: Arc<dyn Spare> = replica.clone();
    let bench = Bench::with(StoreOptions { spare, ..without_cache() }, &[]).await;
    let body = payload(900_000, 1);
    store_two(&bench, &body).await;
    let keys = chunks(&bench).await;
    for key in &keys {
        let value: Vec<u8> = bench.engine.query(redis::cmd("GET").arg(key)).await;
        replica.0.lock().expect("no panic").insert(key.clone(), value.into());
    }
    for (round, way) in HARMS.into_iter().enumerate() {
        for key in &keys {
            harm(&bench, key, way).await;
        }
        // A range needs one chunk; the whole object needs all; the scrubber finds the rest.
        if round < 2 {
            for name_ in ["a", "p"] {
                assert_eq!(whole(&bench, name_).await.expect("repaired"), body, "{way:?}");
            }
        } else {
            let report = bench.store.scrub().await.expect("a pass");
            assert_eq!((report.repaired, report.damaged), (keys.len() as u64, 0));
        }
        for key in &keys {
            let value: Vec<u8> = bench.engine.query(redis::cmd("GET").arg(key)).await;
            assert!(replica.0.lock().expect("no panic").get(key).is_some_and(|good| *good == value), "{key}");
        }
    }
    // A replica that is wrong itself is no help and does no harm.
    for value in replica.0.lock().expect("no panic").values_mut() {
        *value = payload(value.len(), 9);
    }
    harm(&bench, &keys[0], Harm::Remove).await;
    let report = bench.store.scrub().await.expect("a pass");
    assert_eq!((report.repaired, report.damaged, bench.store.damaged().len()), (0, 1, 1));
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scrubber_repairs_from_the_cache_and_reads_everything() {
    let bench = Bench::with(StoreOptions { part_bytes_min: 0, ..options() }, &[]).await;
    let body = payload(900_000, 1);
    store_two(&bench, &body).await;
    bench.put("small", payload(100, 1)).await;
    let clean = bench.store.scrub().await.expect("a pass");
    let want = ScrubReport { objects: 3, chunks: 8, bytes: clean.bytes, repaired: 0, damaged: 0 };
    assert_eq!(clean, want);
    assert!(clean.bytes > 1_780_000, "all but the tails: {}", clean.bytes);
    for name_ in ["a", "p"] {
        assert_eq!(whole(&bench, name_).await.expect("cached"), body);
    }
    for key in chunks(&bench).await {
        harm(&bench, &key, Harm::Flip).await;
    }
    let report = bench.store.scrub().await.expect("a pass");
    assert_eq!((report.repaired, report.damaged), (8, 0));
    bench.store.trim_cache(0);
    for name_ in ["a", "p"] {
        assert_eq!(whole(&bench, name_).await.expect("repaired"), body);
    }
    assert_eq!(bench.store.damaged(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounded_scrubber_takes_its_time_in_the_background() {
    let mut slow = StoreOptions { scrub_bytes_per_second: 2_000_000, ..without_cache() };
    slow.timing.scrub_every = std::time::Duration::ZERO;
    let bench = Bench::with(slow, &[]).await;
    bench.put("a", payload(900_000, 1)).await;
    let key = chunks(&bench).await.pop().expect("a chunk");
    harm(&bench, &key, Harm::Remove).await;
    let deadline = std::time::Instant::now() + crate::common::PATIENCE;
    while bench.store.damaged().is_empty() {
        assert!(std::time::Instant::now() < deadline, "never found");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
