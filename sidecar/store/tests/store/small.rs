//! Bodies of one chunk at most: one write to the engine, and what they replace goes with it.

use std::{
    mem::size_of_val,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::common::{Bench, bucket, frames, name, options, payload, read, tenure};
use blobstore_sidecar_core::{ledger::NoLedger, precondition::Conditions};
use blobstore_sidecar_runtime::authority::Alone;
use blobstore_sidecar_store::{
    CrashPoint, DeleteRequest, ErrorKind, GetRequest, PutRequest, Store, StoreOptions,
};
use bytes::Bytes;

fn deletion() -> DeleteRequest {
    DeleteRequest { bucket: bucket(), name: name("a"), conditions: Conditions::default() }
}

/// Nobody reads it: a body of one chunk goes with the write or deletion that takes its place, and is on no list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_chunk_that_nobody_reads_goes_at_once() {
    let bench = Bench::start().await;
    bench.put("a", payload(60_000, 1)).await;
    let keys = bench.engine.keys().await;
    // As a killed process: nothing is swept.
    let options = StoreOptions { crash: Some(CrashPoint::Reserved), ..options() };
    let alone = Store::open(bench.engine.address(), options, Arc::new(Alone(tenure())), Arc::new(NoLedger));
    let body = payload(60_000, 2);
    let put = PutRequest::new(bucket(), name("a"), Some(60_000));
    assert!(!alone.put(put, frames(body.clone(), 20_000)).await.expect("stored").created);
    let now = bench.engine.keys().await;
    assert_eq!(now.len(), keys.len(), "nothing is left, and nothing waits to be freed: {now:?}");
    assert_ne!(now, keys, "another body");
    let found = alone.get(GetRequest::new(bucket(), name("a"))).await.expect("found");
    assert_eq!(read(found).await.expect("whole"), body);
    let deleted = alone.delete(deletion()).await.expect("deleted");
    assert!(deleted.existed);
    let left = bench.engine.keys().await;
    let of_a_body = |key: &String| ["c:", "k:", "d:"].iter().any(|family| key.starts_with(family));
    assert!(!left.iter().any(of_a_body), "{left:?}");
}

/// Readers, writers and deleters of one small object: whoever reads gets one of the bodies, whole, or none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_objects_are_whole_whoever_replaces_them() {
    let mut uncached = options();
    uncached.cache.max_bytes = 0;
    let bench = Bench::with(uncached, &[]).await;
    let bodies: Vec<Bytes> = (1..5).map(|seed| payload(60_000, seed)).collect();
    bench.put("a", bodies[0].clone()).await;
    let done = AtomicBool::new(false);
    let write = async {
        for round in 0..300_usize {
            bench.put("a", bodies[round % bodies.len()].clone()).await;
            if round % 50 == 49 {
                bench.store.delete(deletion()).await.expect("deleted");
            }
        }
        done.store(true, Ordering::Release);
    };
    let look = async || {
        let mut seen = 0;
        while !done.load(Ordering::Acquire) {
            match bench.get("a").await {
                Ok(body) => assert!(bodies.contains(&body), "a body that nobody wrote"),
                Err(error) => assert!(matches!(error.kind, ErrorKind::NotFound | ErrorKind::Busy), "{error}"),
            }
            seen += 1;
        }
        seen
    };
    let ((), one, two) = tokio::join!(write, look(), look());
    assert!(one > 10 && two > 10, "{one} and {two} reads beside 300 writes");
    assert!(bench.store.damaged().is_empty(), "nothing was taken for damage");
    bench.is_quiet().await;
}

/// What waits for an upload is held for each that is under way, and moved more than once: no branch may blow it up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_an_upload_is_small() {
    let bench = Bench::start().await;
    let put = bench.store.put(PutRequest::new(bucket(), name("a"), Some(1)), frames(payload(1, 1), 1));
    let bytes = size_of_val(&put);
    assert!(bytes <= 2_048, "{bytes} bytes");
}
