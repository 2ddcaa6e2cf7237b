//! Ten scenarios in which a store on an engine might leak, with what each may cost (R004-1 to -10): buckets, prefixes,
//! blobs, reads, listings, overwrites, deletions, the index of names made and removed, and all of them mixed.

use std::time::Duration;

use blobstore_sidecar_core::{glob::Pattern, key::BucketName};
use blobstore_sidecar_store::{DeleteRequest, ListRequest, StoreOptions};
use futures::{Stream, StreamExt as _, stream};
use tokio::time::Instant;

use crate::common::{Bench, PATIENCE, bucket, list_of, name, options, payload};

const KIB: i64 = 1 << 10;
const AT_ONCE: usize = 16;
/// Seals of deleted buckets are lifted after half a minute, and the machine may be busy.
const SEALS_PATIENCE: Duration = Duration::from_secs(120);
/// Every key with all that belongs to it, as the engine itself counts them.
const SUM: &str = "local sum, keys = 0, redis.call('KEYS', '*')
for _, key in ipairs(keys) do sum = sum + (redis.call('MEMORY', 'USAGE', key, 'SAMPLES', '0') or 0) end
return {#keys, sum}";

/// Whatever is read is read from the engine.
fn without_cache() -> StoreOptions {
    let mut options = options();
    options.cache.max_bytes = 0;
    options
}

/// Keys, and bytes of the engine for them.
async fn held(bench: &Bench) -> (i64, i64) {
    bench.engine.query(redis::cmd("EVAL").arg(SUM).arg(0)).await
}

async fn bytes(bench: &Bench) -> i64 {
    held(bench).await.1
}

/// Waits until the engine holds no more than this: what is freed is freed a moment later.
async fn falls_to(bench: &Bench, most: i64, patience: Duration, what: &str) {
    let deadline = Instant::now() + patience;
    loop {
        let now = bytes(bench).await;
        if now <= most {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {now} bytes, {most} at most");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn scripts(bench: &Bench) -> String {
    let info = bench.engine.info("memory").await;
    info.lines().find(|line| line.starts_with("number_of_cached_scripts")).expect("a count").to_owned()
}

async fn all<T>(work: impl Stream<Item = T>) -> usize
where
    T: Future,
{
    work.buffer_unordered(AT_ONCE).count().await
}

async fn write(bench: &Bench, names: std::ops::Range<u64>, seed: u64, size: usize) {
    all(stream::iter(names).map(|index| async move {
        bench.put(&format!("row/{index:05}"), payload(size, index + seed)).await;
    }))
    .await;
}

async fn delete(bench: &Bench, name_: String) {
    let request = DeleteRequest { bucket: bucket(), name: name(&name_), conditions: Default::default() };
    assert!(bench.store.delete(request).await.expect("deleted").existed, "{name_}");
}

/// R004-1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_buckets_cost_a_kilobyte_each_and_give_it_back() {
    let bench = Bench::with(options(), &[]).await;
    let named = |index: usize| BucketName::parse(format!("bucket-{index:03}")).expect("a name");
    let (bench, before) = (&bench, held(&bench).await);
    let made = stream::iter(0..100).map(|index| async move {
        bench.store.create_bucket(&named(index), None).await.expect("made");
    });
    assert_eq!(all(made).await, 100);
    let grown = bytes(bench).await - before.1;
    assert!(grown > 0 && grown <= 100 * KIB, "{grown} bytes for 100 buckets");
    let dropped = stream::iter(0..100).map(|index| async move {
        bench.store.delete_bucket(&named(index)).await.expect("dropped");
    });
    assert_eq!(all(dropped).await, 100);
    falls_to(bench, before.1, SEALS_PATIENCE, "without the buckets").await;
    assert_eq!(held(bench).await.0, before.0, "no key is left of them");
}

/// R004-2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefix_costs_nothing_but_the_names_in_it() {
    let bench = Bench::with(options(), &[]).await;
    let (bench, mut grown) = (&bench, Vec::new());
    // As many objects, with names as long: in one prefix, then each in its own.
    for own in [false, true] {
        let before = bytes(bench).await;
        let put = |index: usize| async move {
            let prefix = if own { index } else { 999 };
            bench.put(&format!("{own:5}{prefix:03}/{index:03}"), payload(1_000, 1)).await;
        };
        all(stream::iter(0..100).map(put)).await;
        grown.push(bytes(bench).await - before);
    }
    assert!(grown[1] - grown[0] <= 100 * 2 * KIB, "{grown:?} bytes");
    assert!(grown[1] <= grown[0] + grown[0] / 5, "a prefix is a part of names, and nothing else: {grown:?}");
}

/// R004-3 to -9.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_blobs_grow_evenly_and_what_is_done_with_them_adds_nothing() {
    let bench = &Bench::with(without_cache(), &[]).await;
    let (empty, indices) = (bytes(bench).await, index_of_names(bench).await);
    assert_eq!(indices, (0, 0), "no index of names before the first object");
    // -3: linear, a steady number of bytes per blob.
    let mut steps = Vec::new();
    for part in 0..4_u64 {
        let before = bytes(bench).await;
        write(bench, part * 250..(part + 1) * 250, 0, 1_000).await;
        steps.push((bytes(bench).await - before) / 250);
    }
    let (least, most) = (steps.iter().min().expect("steps"), steps.iter().max().expect("steps"));
    assert!(*least >= 1_000 && most * 100 <= least * 125, "bytes per blob, by quarter: {steps:?}");
    // -8: the index is there once, in each partition that has objects, with each name once.
    let (keys, names) = index_of_names(bench).await;
    assert!(keys <= 16 && names == 1_000, "{keys} indices with {names} names");
    let full = bytes(bench).await;
    // -4, and -5: reads and listings leave nothing.
    let read = |index: u64| async move { bench.get(&format!("row/{index:05}")).await.expect("there").len() };
    assert_eq!(all(stream::iter(0..1_000).map(read)).await, 1_000);
    falls_to(bench, full + KIB, PATIENCE, "after a thousand reads").await;
    let list = |turn: usize| async move {
        let pattern = Pattern::parse("row/*[05]").expect("a pattern");
        let request = match turn % 3 {
            0 => list_of("row/00", None, 50),
            1 => list_of("", Some("/"), 50),
            _ => ListRequest { pattern: Some(pattern), ..list_of("row/", None, 50) },
        };
        assert!(!bench.store.list(request).await.expect("a page").items.is_empty());
    };
    assert_eq!(all(stream::iter(0..500).map(list)).await, 500);
    falls_to(bench, full + KIB, PATIENCE, "after 500 listings").await;
    // -6: overwriting frees what was there.
    write(bench, 0..1_000, 7, 1_000).await;
    falls_to(bench, full + 2 * KIB, PATIENCE, "after a thousand overwrites").await;
    // -7, and -9: deletions free at least nine tenths, the index of names with its last name.
    all(stream::iter(0..1_000_u64).map(|index| delete(bench, format!("row/{index:05}")))).await;
    falls_to(bench, empty + (full - empty) / 10, PATIENCE, "after a thousand deletions").await;
    assert_eq!(index_of_names(bench).await, (0, 0), "no index without a name");
}

/// Indices of names, and names in them.
async fn index_of_names(bench: &Bench) -> (usize, i64) {
    // Of this bucket: buckets have one, too.
    let of_bucket = |key: &String| key.starts_with("x:") && key.ends_with(":b");
    let keys = bench.engine.keys().await.into_iter().filter(of_bucket);
    let (mut count, mut names) = (0, 0);
    for key in keys {
        count += 1;
        names += bench.engine.query::<i64>(redis::cmd("ZCARD").arg(key)).await;
    }
    (count, names)
}

/// R004-10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_mixed_cycles_leave_nothing() {
    let bench = &Bench::with(without_cache(), &[]).await;
    let cycle = |turn: u64| async move {
        let name_ = format!("cycle/{turn}");
        // Inline, in a chunk with a tail, in chunks.
        let size = match turn % 50 {
            48 => 70_000,
            49 => 300_000,
            _ => 500,
        };
        bench.put(&name_, payload(size, turn)).await;
        assert_eq!(bench.get(&name_).await.expect("there").len(), size);
        if turn.is_multiple_of(3) {
            bench.put(&name_, payload(size / 2, turn)).await;
        }
        if turn.is_multiple_of(5) {
            assert_eq!(bench.store.list(list_of(&name_, None, 1)).await.expect("a page").items.len(), 1);
        }
        delete(bench, name_).await;
    };
    // The first have what is kept for good: scripts, sums of the bucket.
    all(stream::iter(0..100).map(cycle)).await;
    bench.is_quiet().await;
    let (before, known) = (held(bench).await, scripts(bench).await);
    assert_eq!(all(stream::iter(100..5_100).map(cycle)).await, 5_000);
    bench.is_quiet().await;
    falls_to(bench, before.1 + 5 * KIB, PATIENCE, "after 5,000 cycles").await;
    assert_eq!(scripts(bench).await, known, "scripts that the engine keeps");
}
