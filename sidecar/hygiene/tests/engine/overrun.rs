//! A cache beyond its bound: our own caches keep theirs, so the fault is a bound that shrank under a full one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blobstore_sidecar_api::action::{ActionState, name};
use blobstore_sidecar_api::report::VerdictClass;
use blobstore_sidecar_core::hygiene::sample::{CacheFigures, PoolFigures};
use blobstore_sidecar_hygiene::{StoreHooks, Trimmable, Trimmed};
use blobstore_sidecar_store::{GetRequest, PutRequest, Store};
use bytes::Bytes;
use futures::{StreamExt, stream};

use crate::common::{Engine, act, config, confirmed, has, report, settled, until_true};
use crate::store::{beside_hooked, bucket, object};

const OBJECTS: usize = 8;
const OBJECT_BYTES: usize = 1 << 20;

/// The store's own hooks, with a bound that the test sets. 0: the cache's own.
#[derive(Clone, Debug)]
struct Narrowed {
    hooks: StoreHooks,
    bytes_max: Arc<AtomicU64>,
}

impl Trimmable for Narrowed {
    fn pool(&self) -> Option<PoolFigures> {
        self.hooks.pool()
    }
    fn caches(&self) -> Vec<CacheFigures> {
        let narrow = self.bytes_max.load(Ordering::Relaxed);
        let mut caches = self.hooks.caches();
        for cache in caches.iter_mut().filter(|_| narrow > 0) {
            cache.bytes_max = narrow;
        }
        caches
    }
    fn expected_tasks(&self) -> Option<u64> {
        self.hooks.expected_tasks()
    }
    fn trim(&self, percent: u32) -> Trimmed {
        self.hooks.trim(percent)
    }
}

/// Reads everything until the cache holds most of it: what is admitted on which read is the cache's own matter.
async fn fill(store: &Store) {
    store.create_bucket(&bucket(), None).await.expect("a bucket");
    for index in 0..OBJECTS {
        let body = Bytes::from(vec![7; OBJECT_BYTES]);
        let request = PutRequest::new(bucket(), object(index, OBJECT_BYTES), Some(body.len() as u64));
        store.put(request, stream::iter([Ok::<Bytes, std::io::Error>(body)])).await.expect("stored");
    }
    until_true("the cache is full", async || {
        for index in 0..OBJECTS {
            let found =
                store.get(GetRequest::new(bucket(), object(index, OBJECT_BYTES))).await.expect("there");
            assert!(found.body.all(|piece| async move { piece.is_ok() }).await);
        }
        store.cache_stats().bytes > (OBJECTS * OBJECT_BYTES / 2) as u64
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_beyond_its_bound_is_named_and_trimmed() {
    let engine = Engine::start().await;
    let bytes_max = Arc::new(AtomicU64::new(0));
    let (store, hygiene) = beside_hooked(&engine, config(), |store| Narrowed {
        hooks: StoreHooks::new(store, None),
        bytes_max: Arc::clone(&bytes_max),
    });
    settled(&hygiene).await;
    fill(&store).await;
    let healthy = report(&hygiene, "the full cache is seen", |report| {
        report.figures.get("cache_bytes").is_some_and(|bytes| *bytes > (OBJECTS * OBJECT_BYTES / 2) as f64)
    });
    assert!(!has(&healthy.await, VerdictClass::CacheOverrun), "a full cache is what it is for");

    let held = store.cache_stats().bytes;
    bytes_max.store(held / 100 * 88, Ordering::Relaxed);
    let verdict = confirmed(&hygiene, VerdictClass::CacheOverrun).await;
    assert!(verdict.bytes > held / 100 * 5, "{verdict:#?}");
    assert!(
        verdict.evidence.iter().any(|line| line.contains("cache chunks holds")),
        "{:?}",
        verdict.evidence
    );

    let done = act(&hygiene, name::TRIM, "trim-overrun").await;
    println!("{}: {:?} then {:?}", done.message, done.before, done.after);
    assert_eq!(done.state, ActionState::Done, "{}", done.message);
    assert!(done.after["cache_bytes"] <= (held / 100 * 88) as f64, "{done:?}");
    report(&hygiene, "the verdict is gone", |report| !has(report, VerdictClass::CacheOverrun)).await;
}
