//! What goes wrong leaves nothing half-written: crashes at every step, a full engine, a dead engine, slow readers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::common::{Bench, PATIENCE, bucket, frames, name, options, payload, read, tenure};
use blobstore_sidecar_core::ledger::NoLedger;
use blobstore_sidecar_runtime::authority::Alone;
use blobstore_sidecar_store::{CrashPoint, ErrorKind, GetRequest, PutRequest, Store, StoreOptions};
use futures::{StreamExt, stream};

fn short_lived() -> StoreOptions {
    let mut options = options();
    options.timing.journal_ttl = Duration::from_millis(300);
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_stops_at_any_step_is_cleaned_up_by_the_next() {
    let bench = Bench::start().await;
    let old = payload(1_500_000, 1);
    bench.put("a", old.clone()).await;
    let mut keys = bench.engine.keys().await.len();
    for (seed, crash) in (2..).zip(CrashPoint::OF_PUT) {
        let committed = matches!(crash, CrashPoint::Committed | CrashPoint::HalfFreed);
        let stops = StoreOptions { crash: Some(crash), ..options() };
        let crashing =
            Store::open(bench.engine.address(), stops, Arc::new(Alone(tenure())), Arc::new(NoLedger));
        let new = payload(1_500_000, seed);
        let request = PutRequest::new(bucket(), name("a"), Some(1_500_000));
        let outcome = crashing.put(request, frames(new.clone(), 90_000)).await;
        drop(crashing);
        // Not by a short time to live: what is to be stored must not be swept before, however slow it is.
        bench.engine.journal_is_due().await;
        let next =
            Store::open(bench.engine.address(), options(), Arc::new(Alone(tenure())), Arc::new(NoLedger));
        let now = read(next.get(GetRequest::new(bucket(), name("a"))).await.expect("an object"))
            .await
            .expect("whole");
        assert_eq!(outcome.is_ok(), crash == CrashPoint::HalfFreed, "{crash:?}");
        assert_eq!(now == new, committed, "{crash:?}: the new body only after the commit");
        if !committed {
            // Whatever was current before is whole.
            assert_eq!(now.len(), 1_500_000);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = bench.engine.keys().await;
            let busy = left.iter().any(|key| ["j:", "d:", "n:"].iter().any(|family| key.starts_with(family)));
            if !busy && left.len() == keys {
                break;
            }
            assert!(Instant::now() < deadline, "{crash:?} left {} keys of {keys}: {left:?}", left.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        keys = bench.engine.keys().await.len();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_dropped_in_the_middle_of_an_upload_is_swept_by_the_next() {
    let bench = Bench::with(short_lived(), &[]).await;
    let stalled = frames(payload(2_000_000, 1), 60_000).chain(stream::pending());
    let mut options = short_lived();
    // As a killed process: it neither undoes nor sweeps.
    options.crash = Some(CrashPoint::Committed);
    let dying = Store::open(bench.engine.address(), options, Arc::new(Alone(tenure())), Arc::new(NoLedger));
    let request = PutRequest::new(bucket(), name("a"), Some(3_000_000));
    assert!(tokio::time::timeout(Duration::from_millis(250), dying.put(request, stalled)).await.is_err());
    drop(dying);
    bench.engine.settles_at(&bench.empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_does_not_renew_is_swept_and_told() {
    let bench = Bench::start().await;
    let body = payload(2_000_000, 1);
    let (feed, rest) = tokio::sync::oneshot::channel::<()>();
    let first = frames(body.slice(..1_000_000), 60_000);
    let second = stream::once(async move {
        rest.await.expect("the test goes on");
        Ok(body.slice(1_000_000..))
    });
    let upload = bench.store.put(PutRequest::new(bucket(), name("a"), Some(2_000_000)), first.chain(second));
    let watch = async {
        let deadline = Instant::now() + PATIENCE;
        let (mut began, mut swept) = (false, false);
        while !swept {
            let chunks = bench.engine.keys().await.iter().filter(|key| key.starts_with("c:")).count();
            // It waits with three chunks for the rest of the body: nothing passes before it is looked at.
            began |= chunks == 3;
            swept = began && chunks == 0;
            if began {
                bench.engine.journal_is_due().await;
            }
            assert!(Instant::now() < deadline, "never swept");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        feed.send(()).expect("the upload waits");
    };
    let (upload, ()) = tokio::join!(upload, watch);
    assert_eq!(upload.expect_err("swept").kind, ErrorKind::Swept);
    bench.engine.settles_at(&bench.empty).await;
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_at_its_limit_refuses_before_the_body_and_keeps_nothing_of_it() {
    let bench = Bench::with(options(), &["--maxmemory", "24mb"]).await;
    bench.put("kept", payload(1_000_000, 1)).await;
    let keys = bench.engine.keys().await;
    let error = bench.try_put("large", payload(30_000_000, 2)).await.expect_err("does not fit");
    assert_eq!(error.kind, ErrorKind::EngineFull);
    let request = PutRequest::new(bucket(), name("large"), None);
    let error =
        bench.store.put(request, frames(payload(40_000_000, 2), 100_000)).await.expect_err("full half way");
    assert_eq!(error.kind, ErrorKind::EngineFull, "{error:?}");
    bench.engine.settles_at(&keys).await;
    assert_eq!(bench.get("kept").await.expect("still there"), payload(1_000_000, 1));
    bench.put("again", payload(1_000_000, 3)).await;
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_evicts_the_coldest_and_takes_the_new() {
    let mut options = options();
    options.evict = true;
    let bench = Bench::with(options, &["--maxmemory", "32mb"]).await;
    for index in 0..120 {
        bench.put(&format!("object-{index}"), payload(1_000_000, index)).await;
    }
    let used: u64 = {
        let info = bench.engine.info("memory").await;
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("a figure");
        line.trim().parse().expect("a number")
    };
    assert!(used <= 32 << 20, "{used}");
    assert_eq!(bench.get("object-119").await.expect("the newest"), payload(1_000_000, 119));
    let usage = bench.store.bucket_usage(&bucket()).await.expect("sums");
    assert!((10..32).contains(&usage.objects), "{usage:?}");
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_dies_under_an_upload_is_an_error_not_a_hang() {
    let mut bench = Bench::with(options(), &[]).await;
    bench.put("a", payload(500_000, 1)).await;
    let (feed, rest) = tokio::sync::oneshot::channel::<()>();
    let body = payload(3_000_000, 1);
    let first = frames(body.slice(..1_000_000), 60_000);
    let second = stream::once(async move {
        rest.await.expect("the test goes on");
        Ok(body.slice(1_000_000..))
    });
    let store = bench.store.clone();
    let upload = store.put(PutRequest::new(bucket(), name("b"), Some(3_000_000)), first.chain(second));
    let death = async {
        let deadline = Instant::now() + PATIENCE;
        while bench.store.uploads() == 0 {
            assert!(Instant::now() < deadline, "the upload never began");
            tokio::task::yield_now().await;
        }
        bench.engine.kill();
        feed.send(()).expect("the upload waits");
    };
    let (upload, ()) = tokio::join!(upload, death);
    assert_eq!(upload.expect_err("no engine").kind, ErrorKind::EngineDown);
    let error = store.get(GetRequest::new(bucket(), name("never-read"))).await.expect_err("no engine");
    assert_eq!(error.kind, ErrorKind::EngineDown);
    assert!(error.retryable());
}

/// R001-3, R003-3: each chunk is checked as it is read, and a body comes chunk by chunk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_or_missing_chunk_is_never_served() {
    let mut options = options();
    options.cache.max_bytes = 0;
    let bench = Bench::with(options, &[]).await;
    bench.put("a", payload(1_000_000, 1)).await;
    let chunks: Vec<String> =
        bench.engine.keys().await.into_iter().filter(|key| key.starts_with("c:")).collect();
    let first = chunks.iter().find(|key| key.ends_with(":0")).expect("chunk 0");
    let second = chunks.iter().find(|key| key.ends_with(":1")).expect("chunk 1");
    let _len: i64 = bench.engine.query(redis::cmd("SETRANGE").arg(second).arg(7).arg("!")).await;
    let mut outcome = bench.store.get(GetRequest::new(bucket(), name("a"))).await.expect("chunk 0 is good");
    assert_eq!(outcome.body.next().await.expect("a chunk").expect("good").len(), 262_080);
    assert_eq!(outcome.body.next().await.expect("an end").expect_err("flipped").kind, ErrorKind::Damaged);
    assert!(outcome.body.remaining() > 0, "cut, not padded");
    assert!(outcome.body.next().await.is_none());
    let _gone: i64 = bench.engine.query(redis::cmd("DEL").arg(first)).await;
    let error = bench.store.get(GetRequest::new(bucket(), name("a"))).await.expect_err("missing");
    assert_eq!(error.kind, ErrorKind::Damaged);
    drop(outcome);
    bench.is_quiet().await;
}
