//! Many at once: bodies never mix, memory follows the budget and not the number of clients.

use std::{sync::Arc, time::Duration};

use crate::common::{Bench, PATIENCE, bucket, frames, name, options, payload, read};
use blobstore_sidecar_runtime::tasks;
use blobstore_sidecar_store::{ErrorKind, GetRequest, HeadRequest, PutRequest, UploadProgress};
use futures::{FutureExt, StreamExt, stream};
use tokio::sync::oneshot;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_see_two_versions_mixed() {
    for cache_bytes in [0, 8 << 20] {
        let mut options = options();
        options.cache.max_bytes = cache_bytes;
        let bench = Arc::new(Bench::with(options, &[]).await);
        let bodies: Vec<_> = (0..4).map(|seed| payload(1_300_000, seed + 1)).collect();
        bench.put("a", bodies[0].clone()).await;
        let writes = async {
            for round in 0..40 {
                bench.put("a", bodies[round % 4].clone()).await;
            }
        };
        let reads = (0..4).map(|_| async {
            for _ in 0..40 {
                let outcome =
                    bench.store.get(GetRequest::new(bucket(), name("a"))).await.expect("always there");
                let got = read(outcome).await.expect("a reader in time is never cut");
                assert!(bodies.contains(&got), "a mixture of versions");
            }
        });
        tokio::join!(writes, futures::future::join_all(reads));
        bench.is_quiet().await;
        let chunks = bench.engine.keys().await.iter().filter(|key| key.starts_with("c:")).count();
        assert_eq!(chunks, 5, "one generation is left");
    }
}

/// R001-2: a write does not wait for who reads, and who reads goes on with the old body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_keeps_its_version_until_it_leaves_or_is_cut() {
    let mut options = options();
    options.cache.max_bytes = 0;
    options.timing.reader_grace = Duration::from_secs(3600);
    let bench = Bench::with(options.clone(), &[]).await;
    let old = payload(3_000_000, 1);
    bench.put("a", old.clone()).await;
    let outcome = bench.store.get(GetRequest::new(bucket(), name("a"))).await.expect("found");
    bench.put("a", payload(3_000_000, 2)).await;
    assert_eq!(read(outcome).await.expect("the old body, whole"), old);
    bench.is_quiet().await;
    options.timing.reader_grace = Duration::ZERO;
    let bench = Bench::with(options, &[]).await;
    bench.put("a", old.clone()).await;
    let mut slow = bench.store.get(GetRequest::new(bucket(), name("a"))).await.expect("found").body;
    bench.put("a", payload(3_000_000, 2)).await;
    let deadline = std::time::Instant::now() + crate::common::PATIENCE;
    let error = loop {
        match slow.next().await.expect("cut before the end") {
            Ok(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(error) => break error,
        }
        assert!(std::time::Instant::now() < deadline, "never cut");
    };
    assert_eq!(error.kind, ErrorKind::Cut);
    drop(slow);
    bench.is_quiet().await;
}

/// Whoever asks while an upload stands still half way gets the old body, whole, until the new one is there, whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_half_way_hides_nothing_and_shows_nothing() {
    for (cache_bytes, ends) in [(0, true), (8 << 20, true), (0, false), (8 << 20, false)] {
        let mut options = options();
        options.cache.max_bytes = cache_bytes;
        // It stands still for as long as the test takes.
        options.limits.body_idle_seconds = 3_600;
        let bench = Bench::with(options, &[]).await;
        let (old, new) = (payload(2_000_000, 1), payload(3_000_000, 2));
        bench.put("a", old.clone()).await;
        let keys = bench.engine.keys().await;
        let progress = Arc::new(UploadProgress::default());
        let request = PutRequest {
            progress: Some(Arc::clone(&progress)),
            ..PutRequest::new(bucket(), name("a"), Some(new.len() as u64))
        };
        let (goes_on, wait) = oneshot::channel::<()>();
        let rest = new.slice(1_500_000..);
        let rest = wait.into_stream().flat_map(move |_| frames(rest.clone(), 100_000));
        let half = Box::pin(frames(new.slice(..1_500_000), 100_000).chain(rest));
        let store = bench.store.clone();
        let upload = tasks::spawn("test", async move { store.put(request, half).await });
        let mut seen = progress.watch();
        let begun = tokio::time::timeout(PATIENCE, seen.wait_for(|chunks| *chunks >= 2)).await;
        begun.expect("in time").expect("the upload lives");
        for _ in 0..3 {
            assert_eq!(bench.get("a").await.expect("the old one"), old);
            let head = HeadRequest { bucket: bucket(), name: name("a"), conditions: Default::default() };
            assert_eq!(bench.store.head(head).await.expect("the old one").size, 2_000_000);
        }
        let want = if ends {
            goes_on.send(()).expect("it waits");
            upload.await.expect("no panic").expect("stored");
            new
        } else {
            upload.abort();
            bench.engine.settles_at(&keys).await;
            old
        };
        assert_eq!(bench.get("a").await.expect("one of them"), want);
        bench.is_quiet().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r000_2_a_hundred_uploads_of_50_mb_stay_within_the_budget() {
    const BODY: usize = 50_000_000;
    let mut options = options();
    options.cache.max_bytes = 0;
    options.limits.inflight_bytes_max = 32 << 20;
    options.limits.admission_wait_ms = 60_000;
    let bench = Bench::with(options, &[]).await;
    let body = payload(BODY, 1);
    // All of one name: the engine holds one body and those under way, the store's own memory is what counts here.
    let uploads = (0..100).map(|index| {
        let request = PutRequest::new(bucket(), name(&format!("a-{}", index % 4)), Some(BODY as u64));
        let body = body.clone();
        async { bench.store.put(request, frames(body, 131_072)).await.expect("stored") }
    });
    stream::iter(uploads).buffer_unordered(100).collect::<Vec<_>>().await;
    assert!(bench.store.budget().peak() <= 32 << 20, "peak {}", bench.store.budget().peak());
    assert!(bench.store.budget().peak() > 4 << 20, "they ran side by side: {}", bench.store.budget().peak());
    assert_eq!(bench.store.pool().stats().taken, 0, "uploads pass on what they got: no buffer, no copy");
    bench.is_quiet().await;
    let readers = (0..100).map(|_| async {
        let mut body = bench.store.get(GetRequest::new(bucket(), name("a-0"))).await.expect("found").body;
        let mut total = 0;
        while let Some(bytes) = body.next().await {
            total += bytes.expect("good").len();
        }
        assert_eq!(total, BODY);
    });
    futures::future::join_all(readers).await;
    assert!(bench.store.budget().peak() <= 32 << 20, "peak {}", bench.store.budget().peak());
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_of_one_cold_object_read_it_about_once() {
    let bench = Bench::with(options(), &[]).await;
    let body = payload(4_000_000, 1);
    bench.put("a", body.clone()).await;
    let readers = (0..32).map(|_| async { assert_eq!(bench.get("a").await.expect("read"), body) });
    futures::future::join_all(readers).await;
    let stats = bench.store.cache_stats();
    // 16 chunks, each read once, and the record at most once per reader; each by itself would make 16 * 32. Whoever
    // waits long for another's chunk reads it too: a machine under load has some of those.
    assert!(stats.inserted < 16 * 32 / 4, "filled {} times", stats.inserted);
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stand_still_keep_neither_lanes_nor_their_chunks_from_others() {
    let mut options = options();
    options.cache.max_bytes = 0;
    options.limits.inflight_bytes_max = 256 << 20;
    let bench = Bench::with(options, &[]).await;
    let body = payload(2_000_000, 1);
    bench.put("a", body.clone()).await;
    let mut still = Vec::new();
    // Twice as many as there are lanes, each after its first chunk, with more under way.
    for _ in 0..100 {
        let mut outcome =
            bench.store.get(GetRequest::new(bucket(), name("a"))).await.expect("a lane is found");
        let first = outcome.body.next().await.expect("a chunk").expect("good");
        still.push((first.len(), outcome));
    }
    assert_eq!(bench.get("a").await.expect("read"), body);
    for (already, outcome) in still {
        let mut rest = Vec::new();
        let mut stream = outcome.body;
        while let Some(bytes) = stream.next().await {
            rest.extend_from_slice(&bytes.expect("good"));
        }
        assert_eq!(rest, body[already..], "one who goes on gets the rest");
    }
    bench.is_quiet().await;
}
