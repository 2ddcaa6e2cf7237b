//! Bodies go in and come out, of every size and by every path, and nothing is left behind.

use std::time::Duration;

use crate::common::{Bench, bucket, frames, name, options, payload, read};
use blobstore_sidecar_core::{
    etag::{ETag, TagSet},
    ledger::Family,
    precondition::Conditions,
    range::ByteRange,
};
use blobstore_sidecar_store::{Attributes, DeleteRequest, ErrorKind, GetRequest, HeadRequest, PutRequest};
use bytes::Bytes;
use futures::{StreamExt, stream};

const SIZES: [usize; 11] =
    [0, 1, 4096, 16_384, 16_385, 65_536, 262_079, 262_080, 262_081, 1 << 20, 50_000_000];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_size_comes_back_from_engine_and_cache_and_frees_all() {
    let bench = Bench::start().await;
    for (seed, size) in (1..).zip(SIZES) {
        let body = payload(size, seed);
        let name_ = format!("size-{size}");
        let put = bench.put(&name_, body.clone()).await;
        assert!(put.created);
        assert_eq!(put.size, size as u64);
        assert_eq!(bench.get(&name_).await.expect("from the engine"), body, "{size}");
        assert_eq!(bench.get(&name_).await.expect("from the cache"), body, "{size}");
    }
    let objects = SIZES.len() as i64;
    assert_eq!(bench.ledger.strings(Family::Record).0, objects);
    assert_eq!(bench.ledger.members(Family::Names), objects + 1);
    let keys = bench.engine.keys().await;
    let chunks = keys.iter().filter(|key| key.starts_with("c:")).count() as i64;
    assert_eq!(bench.ledger.strings(Family::Chunk).0, chunks);
    for size in SIZES {
        let request = DeleteRequest {
            bucket: bucket(),
            name: name(&format!("size-{size}")),
            conditions: Conditions::default(),
        };
        assert!(bench.store.delete(request).await.expect("deleted").existed);
    }
    bench.engine.settles_at(&bench.empty).await;
    for family in [Family::Record, Family::Chunk, Family::Manifest] {
        assert_eq!(bench.ledger.strings(family), (0, 0), "{family:?}");
    }
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_unknown_length_are_stored_alike() {
    let bench = Bench::start().await;
    for (seed, size) in (1..).zip([0, 5, 16_384, 16_385, 262_080, 262_081, 524_160, 1_000_000]) {
        let body = payload(size, seed);
        let request = PutRequest::new(bucket(), name("unknown"), None);
        let put = bench.store.put(request, frames(body.clone(), 7_000)).await.expect("stored");
        assert_eq!(put.size, size as u64);
        assert_eq!(bench.get("unknown").await.expect("read"), body, "{size}");
    }
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overwriting_gives_the_old_chunks_back() {
    let bench = Bench::start().await;
    bench.put("a", payload(3_000_000, 1)).await;
    let keys = bench.engine.keys().await.len();
    for seed in 2..6 {
        let body = payload(3_000_000, seed);
        assert!(!bench.put("a", body.clone()).await.created);
        assert_eq!(bench.get("a").await.expect("read"), body);
    }
    assert_eq!(bench.engine.keys().await.len(), keys, "no chunk of an old generation is left");
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_are_exact() {
    let bench = Bench::start().await;
    let body = payload(1_000_000, 1);
    bench.put("a", body.clone()).await;
    for header in [
        "bytes=0-0",
        "bytes=262079-262080",
        "bytes=5-999998",
        "bytes=-70000",
        "bytes=786000-",
        "bytes=999999-",
    ] {
        let range = ByteRange::parse(header);
        let want = range.and_then(|range| range.resolve(1_000_000)).expect("satisfiable");
        let request = GetRequest { range, ..GetRequest::new(bucket(), name("a")) };
        let outcome = bench.store.get(request).await.expect("found");
        assert!(outcome.partial);
        assert_eq!(outcome.range, want);
        assert_eq!(outcome.body.remaining(), want.end - want.start);
        let got = read(outcome).await.expect("read");
        assert_eq!(got, body.slice(want.start as usize..want.end as usize), "{header}");
    }
    let request =
        GetRequest { range: ByteRange::parse("bytes=1000000-"), ..GetRequest::new(bucket(), name("a")) };
    let error = bench.store.get(request).await.expect_err("outside");
    assert_eq!(error.kind, ErrorKind::RangeNotSatisfiable { size: 1_000_000 });
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_and_etags_come_back() {
    let bench = Bench::start().await;
    let attributes = Attributes {
        content_type: Some("text/plain".into()),
        user: vec![("colour".into(), "grün".into())],
        ..Default::default()
    };
    let mut request = PutRequest::new(bucket(), name("a"), Some(5));
    request.attributes = attributes.clone();
    request.want_md5_etag = true;
    let put = bench.store.put(request, frames(Bytes::from_static(b"hello"), 2)).await.expect("stored");
    assert_eq!(put.etag.to_string(), "5d41402abc4b2a76b9719d911017c592");
    let head = HeadRequest { bucket: bucket(), name: name("a"), conditions: Conditions::default() };
    let meta = bench.store.head(head.clone()).await.expect("found");
    assert_eq!((*meta.attributes).clone(), attributes);
    assert_eq!((meta.size, meta.etag, meta.crc64), (5, put.etag, put.crc64));
    let opaque = bench.put("o", Bytes::from_static(b"hello")).await.etag;
    assert!(matches!(opaque, ETag::Opaque(_)));
    let missing = HeadRequest { name: name("none"), ..head };
    assert_eq!(bench.store.head(missing).await.expect_err("absent").kind, ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_are_kept_by_reads_and_writes() {
    let bench = Bench::start().await;
    let first = bench.put("a", payload(300_000, 1)).await;
    let absent = Conditions { if_none_match: Some(TagSet::Any), ..Default::default() };
    let ours = Conditions { if_match: TagSet::parse(&first.etag.quoted()), ..Default::default() };
    let put = |conditions: &Conditions, name_: &str| {
        let mut request = PutRequest::new(bucket(), name(name_), Some(4));
        request.conditions = conditions.clone();
        bench.store.put(request, frames(Bytes::from_static(b"next"), 4))
    };
    assert_eq!(put(&absent, "a").await.expect_err("exists").kind, ErrorKind::Precondition);
    assert!(put(&absent, "new").await.expect("absent").created);
    assert!(!put(&ours, "a").await.expect("matches").created);
    assert_eq!(put(&ours, "a").await.expect_err("has changed").kind, ErrorKind::Precondition);
    let now = bench.store.get(GetRequest::new(bucket(), name("a"))).await.expect("found").meta.etag;
    let mut request = GetRequest::new(bucket(), name("a"));
    request.conditions.if_none_match = TagSet::parse(&now.quoted());
    let error = bench.store.get(request).await.expect_err("current");
    assert_eq!((error.kind, error.current.expect("told").etag), (ErrorKind::NotModified, now));
    let delete = DeleteRequest { bucket: bucket(), name: name("a"), conditions: ours };
    assert_eq!(bench.store.delete(delete).await.expect_err("has changed").kind, ErrorKind::Precondition);
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_writers_who_want_it_absent_one_wins() {
    let bench = Bench::start().await;
    let tries = (0..16).map(|seed| {
        let mut request = PutRequest::new(bucket(), name("a"), Some(20_000));
        request.conditions.if_none_match = Some(TagSet::Any);
        bench.store.put(request, frames(payload(20_000, seed), 9_000))
    });
    let outcomes = futures::future::join_all(tries).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for error in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind, ErrorKind::Precondition);
    }
    let chunks = bench.engine.keys().await.iter().filter(|key| key.starts_with("c:")).count();
    assert_eq!(chunks, 1, "the losers' chunks are gone");
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_not_what_they_said_leave_nothing() {
    let bench = Bench::start().await;
    for size in [100, 100_000, 3_000_000] {
        let body = payload(size, 1);
        let put = |declared: usize| {
            let request = PutRequest::new(bucket(), name("a"), Some(declared as u64));
            bench.store.put(request, frames(body.clone(), 50_000))
        };
        assert_eq!(put(size + 1).await.expect_err("too short").kind, ErrorKind::Incomplete);
        assert_eq!(put(size - 1).await.expect_err("too long").kind, ErrorKind::TooLarge);
        let broken = frames(body.clone(), 50_000)
            .chain(stream::iter([Err(std::io::Error::other("the client went away"))]));
        let request = PutRequest::new(bucket(), name("a"), None);
        assert_eq!(bench.store.put(request, broken).await.expect_err("broken").kind, ErrorKind::Incomplete);
        let mut request = PutRequest::new(bucket(), name("a"), Some(size as u64));
        request.content_md5 = Some([0; 16]);
        let error = bench.store.put(request, frames(body.clone(), 50_000)).await.expect_err("wrong MD5");
        assert_eq!(error.kind, ErrorKind::BadDigest);
    }
    bench.engine.settles_at(&bench.empty).await;
    for family in [Family::Record, Family::Chunk, Family::Manifest] {
        assert_eq!(bench.ledger.strings(family), (0, 0), "{family:?}");
    }
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_leaves_nothing() {
    let bench = Bench::start().await;
    let stalled = frames(payload(2_000_000, 1), 60_000).chain(stream::pending());
    let request = PutRequest::new(bucket(), name("a"), Some(3_000_000));
    let upload = tokio::time::timeout(Duration::from_millis(300), bench.store.put(request, stalled));
    assert!(upload.await.is_err(), "it waits for more");
    bench.engine.settles_at(&bench.empty).await;
    bench.put("read", payload(3_000_000, 2)).await;
    bench.store.trim_cache(0);
    let mut outcome = bench.store.get(GetRequest::new(bucket(), name("read"))).await.expect("found");
    outcome.body.next().await.expect("a chunk").expect("good");
    drop(outcome);
    bench.is_quiet().await;
}

/// R002-6, R002-7, R002-23: the client's answer and the cache share one body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_hit_copies_nothing_and_asks_nobody() {
    let bench = Bench::start().await;
    let body = payload(1_000_000, 1);
    bench.put("a", body.clone()).await;
    assert_eq!(bench.get("a").await.expect("fills the cache"), body);
    let asked = gets(&bench).await;
    let (first, second) = (chunk(&bench).await, chunk(&bench).await);
    assert_eq!(first.as_ptr(), second.as_ptr(), "two readers share one buffer");
    assert_eq!(bench.get("a").await.expect("read"), body);
    // The record and a chunk twice, then the record and all four chunks: what is only looked at ahead is no hit.
    assert_eq!(bench.store.cache_stats().hits, 9);
    // Our own question is one command, and so is the sweeper's pass, which asks for no value.
    assert_eq!(gets(&bench).await, asked, "no GET went to the engine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_in_a_chunk_and_a_tail_is_answered_at_once() {
    let bench = Bench::start().await;
    // A round size: all but 64 bytes fill a class of the engine's allocator, and those ride in the record.
    let body = payload(64 << 10, 1);
    bench.put("a", body.clone()).await;
    let ask = |range| GetRequest { range, ..GetRequest::new(bucket(), name("a")) };
    assert!(bench.store.get_at_once(&ask(None)).is_none(), "nothing is cached yet");
    assert_eq!(bench.get("a").await.expect("fills the cache"), body);
    for (text, from, to) in [
        ("", 0, 65_536),
        ("bytes=0-65470", 0, 65_471),
        ("bytes=100-65471", 100, 65_472),
        ("bytes=65000-65499", 65_000, 65_500),
        ("bytes=65472-", 65_472, 65_536),
    ] {
        let found = bench.store.get_at_once(&ask(ByteRange::parse(text))).expect("all of it is in memory");
        assert_eq!(found.body.remaining(), (to - from) as u64, "{text}");
        let [first, second] = found.body.into_whole().expect("in hand");
        assert_eq!([first, second].concat(), body[from..to], "{text}");
    }
    let found = bench.store.get_at_once(&ask(None)).expect("all of it is in memory");
    assert_eq!(read(found).await.expect("good"), body, "as a stream, too");
    // Three places are not put together here.
    let large = payload(600_000, 2);
    bench.put("a", large.clone()).await;
    assert_eq!(bench.get("a").await.expect("fills the cache"), large);
    assert!(bench.store.get_at_once(&ask(None)).is_none());
    bench.is_quiet().await;
}

/// GETs that the engine has answered.
async fn gets(bench: &Bench) -> u64 {
    let stats = bench.engine.info("commandstats").await;
    let get = stats.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls=")).expect("GETs were made");
    get.split(',').next().and_then(|calls| calls.parse().ok()).expect("a count")
}

async fn chunk(bench: &Bench) -> Bytes {
    let mut outcome = bench.store.get(GetRequest::new(bucket(), name("a"))).await.expect("found");
    outcome.body.next().await.expect("a chunk").expect("good")
}

/// A large object streams past the cache, each time anew, in one buffer per chunk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_above_the_largest_entry_is_never_cached_nor_copied() {
    const ENTRY_MAX: usize = 1_000_000;
    let mut options = options();
    options.cache.max_entry_bytes = ENTRY_MAX as u64;
    let bench = Bench::with(options, &[]).await;
    let (small, large) = (payload(ENTRY_MAX, 1), payload(ENTRY_MAX + 1, 2));
    bench.put("a", small.clone()).await;
    let chunks = async || bench.engine.keys().await.iter().filter(|key| key.starts_with("c:")).count() as u64;
    let of_small = chunks().await;
    bench.put("b", large.clone()).await;
    let of_large = chunks().await - of_small;
    // Without records: they are small, whatever their object's size.
    let cached = || {
        let (cache, pool) = (bench.store.cache_stats(), bench.store.pool().stats());
        (cache.entries - cache.records, pool.kept - cache.records)
    };
    assert_eq!(cached(), (0, 0), "uploads fill nothing");
    assert_eq!(bench.get("a").await.expect("fills the cache"), small);
    assert_eq!(cached(), (of_small, of_small), "the largest that may enter");
    // Record and checksums are read once, the chunks each time.
    for (round, read) in [(1, 2 + of_large), (2, of_large)] {
        let (asked, taken) = (gets(&bench).await, bench.store.pool().stats().taken);
        assert_eq!(bench.get("b").await.expect("read"), large);
        assert_eq!(gets(&bench).await - asked, read, "round {round}: from the engine");
        assert_eq!(bench.store.pool().stats().taken - taken, read, "round {round}: one buffer for each");
        assert_eq!(cached(), (of_small, of_small), "round {round}: nothing more is held");
    }
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_cache_everything_comes_from_the_engine() {
    let mut options = options();
    options.cache.max_bytes = 0;
    let bench = Bench::with(options, &[]).await;
    let body = payload(2_000_000, 1);
    bench.put("a", body.clone()).await;
    for _ in 0..3 {
        assert_eq!(bench.get("a").await.expect("read"), body);
    }
    assert_eq!(bench.store.cache_stats().bytes, 0);
    bench.is_quiet().await;
}
