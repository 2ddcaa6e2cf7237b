//! Cold bodies packed in place: the same to every reader, less to the engine, and left alone where it does not pay.

use std::time::Duration;

use blobstore_sidecar_core::{
    checksum::Algorithm, ledger::Family, precondition::Conditions, range::ByteRange,
};
use blobstore_sidecar_store::{
    Attributes, Change, CreateUpload, DeleteRequest, GetRequest, HeadRequest, ObjectMeta, PackReport,
    PartCopyRequest, PartRequest, PutRequest, StoreOptions, UpdateRequest, UploadChecksum, UploadRef,
    Version, Versioning,
};
use bytes::Bytes;
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};

use crate::{
    common::{Bench, bucket, frames, name, options, payload, read},
    damage::chunks,
    multipart::{begin, complete, part, refs},
};

/// Lines as a log has them: they pack to about a fifth.
pub(crate) fn text(len: usize, seed: u64) -> Bytes {
    let mut text = Vec::with_capacity(len + 100);
    let mut line = seed;
    while text.len() < len {
        line = line.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
        text.extend_from_slice(
            format!("{:>9} GET /objects/{} 200 served from the cache\n", text.len(), line >> 40).as_bytes(),
        );
    }
    text.truncate(len);
    text.into()
}

/// Everything is cold at once, and only when the test says so.
pub(crate) fn cold() -> StoreOptions {
    let mut options = StoreOptions { compress_after: Some(Duration::ZERO), part_bytes_min: 0, ..options() };
    options.timing.pack_every = Duration::from_secs(3600);
    options
}

/// `a`: one run with a tail; `one`: a single chunk; `p`: in parts whose last chunks are short.
pub(crate) async fn store_three(bench: &Bench, body: &Bytes) {
    bench.put("a", body.clone()).await;
    bench.put("one", body.slice(..100_000)).await;
    let to = begin(&bench.store, "p").await;
    let one = part(&bench.store, &to, 2, body.slice(..400_000)).await.expect("stored");
    let two = part(&bench.store, &to, 7, body.slice(400_000..)).await.expect("stored");
    complete(&bench.store, &to, refs(&[one, two])).await.expect("completed");
}

pub(crate) async fn packed(bench: &Bench) -> PackReport {
    bench.store.pack_cold().await.expect("a pass")
}

async fn meta(bench: &Bench, name_: &str) -> ObjectMeta {
    let conditions = Conditions::default();
    bench.store.head(HeadRequest { bucket: bucket(), name: name(name_), conditions }).await.expect("there")
}

/// What a client can tell.
fn visible(meta: &ObjectMeta) -> String {
    let ObjectMeta { size, etag, modified_ms, crc64, expires_ms, attributes, .. } = meta;
    format!("{size} {etag} {modified_ms} {crc64} {expires_ms} {attributes:?}")
}

async fn value_bytes(bench: &Bench, prefix: &str) -> (i64, i64) {
    let (mut count, mut bytes) = (0, 0);
    for key in bench.engine.keys().await.iter().filter(|key| key.starts_with(prefix)) {
        count += 1;
        bytes += bench.engine.query::<i64>(redis::cmd("STRLEN").arg(key)).await;
    }
    (count, bytes)
}

/// Chunks, manifests and records: as many, and as long, as the engine has.
pub(crate) async fn ledger_is_exact(bench: &Bench) {
    bench.is_quiet().await;
    assert_eq!(bench.ledger.strings(Family::Chunk), value_bytes(bench, "c:").await);
    assert_eq!(bench.ledger.strings(Family::Record), value_bytes(bench, "o:").await);
    let (manifests, lists) = (value_bytes(bench, "k:").await, value_bytes(bench, "m:").await);
    assert_eq!(bench.ledger.strings(Family::Manifest), (manifests.0 + lists.0, manifests.1 + lists.1));
    assert_eq!((bench.ledger.members(Family::Journal), bench.ledger.members(Family::PendingFree)), (0, 0));
}

async fn delete_all(bench: &Bench, names: &[&str]) {
    for name_ in names {
        let conditions = Conditions::default();
        let request =
            blobstore_sidecar_store::DeleteRequest { bucket: bucket(), name: name(name_), conditions };
        bench.store.delete(request).await.expect("deleted");
    }
    bench.engine.settles_at(&bench.empty).await;
    ledger_is_exact(bench).await;
}

/// R002-18, R003-5: what pays is compressed, to less than a third here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packed_objects_are_the_same_to_every_reader_and_the_ledger_is_exact() {
    let bench = Bench::with(cold(), &[]).await;
    let body = text(900_001, 1);
    store_three(&bench, &body).await;
    let before = value_bytes(&bench, "c:").await;
    let metas = [meta(&bench, "a").await, meta(&bench, "one").await, meta(&bench, "p").await];
    let report = packed(&bench).await;
    assert_eq!((report.packed, report.chunks_packed, report.chunks_plain), (3, 9, 0), "{report:?}");
    let after = value_bytes(&bench, "c:").await;
    assert_eq!((report.bytes_before, report.bytes_after), (before.1 as u64, after.1 as u64));
    assert!(after.0 == before.0 && after.1 * 3 < before.1, "{before:?} {after:?}");
    ledger_is_exact(&bench).await;
    for (name_, was) in ["a", "one", "p"].into_iter().zip(&metas) {
        let is = meta(&bench, name_).await;
        assert_eq!(visible(&is), visible(was));
        let want = if name_ == "one" { body.slice(..100_000) } else { body.clone() };
        assert_eq!(bench.get(name_).await.expect("whole"), want, "{name_}");
        bench.store.trim_cache(0);
        assert_eq!(bench.get(name_).await.expect("whole, from the engine"), want, "{name_}");
    }
    let again = packed(&bench).await;
    assert_eq!(again.skipped.get("already_packed"), Some(&3), "{again:?}");
    let scrubbed = bench.store.scrub().await.expect("a pass");
    assert_eq!((scrubbed.objects, scrubbed.chunks, scrubbed.damaged, scrubbed.repaired), (3, 9, 0, 0));
    delete_all(&bench, &["a", "one", "p"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_range_of_a_packed_object_is_that_of_the_plain_one() {
    let mut options = cold();
    options.cache.max_bytes = 0;
    let bench = Bench::with(options, &[]).await;
    let body = text(900_001, 2);
    store_three(&bench, &body).await;
    assert_eq!(packed(&bench).await.packed, 3);
    let mut runner = TestRunner::deterministic();
    let strategy = (0_u64..900_001, 1_u64..300_000, 0_usize..2);
    for _ in 0..80 {
        let (first, len, which) = strategy.new_tree(&mut runner).expect("a case").current();
        let last = (first + len - 1).min(900_000);
        let range = Some(ByteRange::Between { first, last });
        let request = GetRequest { range, ..GetRequest::new(bucket(), name(["a", "p"][which])) };
        let got = read(bench.store.get(request).await.expect("a range")).await.expect("whole");
        assert_eq!(got, body.slice(first as usize..=last as usize), "{first}-{last} of {which}");
    }
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_reads_and_unpacks_only_the_chunks_it_touches() {
    let mut options = cold();
    options.cache.max_bytes = 0;
    let bench = Bench::with(options, &[]).await;
    bench.put("a", text(262_080 * 8, 3)).await;
    assert_eq!(packed(&bench).await.chunks_packed, 8);
    // All chunks but the one in question are gone: a reader that touched another would fail.
    for key in chunks(&bench).await.iter().filter(|key| !key.ends_with(":5")) {
        let _gone: u64 = bench.engine.query(redis::cmd("DEL").arg(key)).await;
    }
    let range = Some(ByteRange::Between { first: 262_080 * 5 + 9, last: 262_080 * 6 - 1 });
    let request = GetRequest { range, ..GetRequest::new(bucket(), name("a")) };
    let got = read(bench.store.get(request).await.expect("a range")).await.expect("whole");
    assert_eq!(got, text(262_080 * 8, 3).slice(262_080 * 5 + 9..262_080 * 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_pay_is_left_as_it_is_and_says_why() {
    let bench = Bench::with(cold(), &[]).await;
    let typed = |kind: &str, encoding: Option<&str>| Attributes {
        content_type: Some(kind.into()),
        content_encoding: encoding.map(Into::into),
        ..Attributes::default()
    };
    bench.put("noise", payload(900_000, 1)).await;
    bench.put("small", text(9_000, 1)).await;
    for (name_, attributes) in [("film", typed("video/mp4", None)), ("gz", typed("text/csv", Some("gzip")))] {
        let mut request = PutRequest::new(bucket(), name(name_), Some(300_000));
        request.attributes = attributes;
        bench.store.put(request, frames(text(300_000, 1), 90_000)).await.expect("stored");
    }
    let keys = bench.engine.keys().await;
    for round in 0..2 {
        let report = packed(&bench).await;
        assert_eq!(report.packed, 0);
        let why: Vec<(&str, u64)> = report.skipped.iter().map(|(why, count)| (*why, *count)).collect();
        let want = [("content_encoding", 1), ("content_type", 1), ("inline", 1), ("no_gain", 1)];
        assert_eq!(why, want, "round {round}");
    }
    assert_eq!(bench.engine.keys().await, keys, "nothing was written");
    // Half noise: chunk by chunk, whatever pays.
    let mixed = Bytes::from([text(262_080 * 3, 1), payload(262_080 * 3, 2)].concat());
    bench.put("noise", mixed.clone()).await;
    let report = packed(&bench).await;
    assert_eq!((report.packed, report.chunks_packed, report.chunks_plain), (1, 3, 3), "{report:?}");
    bench.store.trim_cache(0);
    assert_eq!(bench.get("noise").await.expect("whole"), mixed);
    ledger_is_exact(&bench).await;
    delete_all(&bench, &["noise", "small", "film", "gz"]).await;
}

/// A version's id is its generation, which a packed body would have to give up; the version `null` has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_are_left_alone_but_for_null() {
    let bench = Bench::with(cold(), &[]).await;
    let body = |seed| text(600_000, seed);
    bench.put("a", body(1)).await;
    bench.store.set_versioning(&bucket(), Versioning::Enabled).await.expect("set");
    let (old, new) = (bench.put("a", body(2)).await.generation, bench.put("a", body(3)).await.generation);
    bench.store.set_versioning(&bucket(), Versioning::Suspended).await.expect("set");
    bench.put("null", body(4)).await;
    bench.put("was-null", body(5)).await;
    bench.store.set_versioning(&bucket(), Versioning::Enabled).await.expect("set");
    let last = bench.put("was-null", body(6)).await.generation;
    let report = packed(&bench).await;
    assert_eq!((report.packed, report.skipped.get("versioned")), (1, Some(&2)), "{report:?}");
    bench.store.trim_cache(0);
    assert_eq!(bench.get("null").await.expect("whole"), body(4));
    for (name_, version, seed) in [
        ("a", Version::Null, 1),
        ("a", Version::Id(old), 2),
        ("a", Version::Id(new), 3),
        ("null", Version::Null, 4),
        ("was-null", Version::Null, 5),
    ] {
        let request = GetRequest::new(bucket(), name(name_));
        let found = bench.store.get_version(request, version).await.expect("kept");
        assert_eq!(read(found).await.expect("whole"), body(seed), "{name_} {version}");
    }
    // A packed one is kept as any other when it ceases to be current.
    let next = bench.put("null", body(7)).await.generation;
    let found = bench.store.get_version(GetRequest::new(bucket(), name("null")), Version::Null).await;
    assert_eq!(read(found.expect("kept")).await.expect("whole"), body(4));
    assert_eq!(bench.get("null").await.expect("whole"), body(7));
    assert_eq!(bench.store.scrub().await.expect("a pass").damaged, 0);
    for (name_, version) in [
        ("a", Version::Null),
        ("a", Version::Id(old)),
        ("a", Version::Id(new)),
        ("null", Version::Null),
        ("null", Version::Id(next)),
        ("was-null", Version::Null),
        ("was-null", Version::Id(last)),
    ] {
        let request =
            DeleteRequest { bucket: bucket(), name: name(name_), conditions: Conditions::default() };
        bench.store.delete_version(request, version).await.expect("deleted");
    }
    ledger_is_exact(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_or_read_lately_is_warm() {
    let bench =
        Bench::with(StoreOptions { compress_after: Some(Duration::from_secs(60)), ..cold() }, &[]).await;
    bench.put("a", text(900_000, 1)).await;
    assert_eq!(packed(&bench).await.skipped.get("warm"), Some(&1));
    let off = Bench::with(StoreOptions { compress_after: None, ..cold() }, &[]).await;
    off.put("a", text(900_000, 1)).await;
    assert_eq!(packed(&off).await.packed, 0, "switched off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packed_objects_are_copied_updated_and_overwritten_like_others() {
    let bench = Bench::with(cold(), &[]).await;
    let body = text(900_001, 4);
    store_three(&bench, &body).await;
    assert_eq!(packed(&bench).await.packed, 3);
    let to = begin(&bench.store, "copy").await;
    let mut parts = Vec::new();
    for (number, source) in [(1, "a"), (2, "p")] {
        let part = PartRequest::new(to.clone(), number, None);
        let source = GetRequest::new(bucket(), name(source));
        parts.push(bench.store.copy_part(PartCopyRequest { part, source }).await.expect("copied"));
    }
    complete(&bench.store, &to, refs(&parts)).await.expect("completed");
    assert_eq!(bench.get("copy").await.expect("whole"), Bytes::from([body.clone(), body.clone()].concat()));
    let tags = vec![("k".to_owned(), "v".to_owned())];
    for name_ in ["a", "p"] {
        let (conditions, change) = (Conditions::default(), Change::Tags(tags.clone()));
        let request = UpdateRequest { bucket: bucket(), name: name(name_), conditions, change };
        bench.store.update(request).await.expect("updated");
        bench.store.trim_cache(0);
        assert_eq!(bench.get(name_).await.expect("whole"), body);
        assert_eq!(meta(&bench, name_).await.attributes.tags, tags);
    }
    assert_eq!(packed(&bench).await.skipped.get("already_packed"), Some(&3), "a tag does not unpack");
    ledger_is_exact(&bench).await;
    let new = text(500_000, 5);
    for name_ in ["a", "one", "p", "copy"] {
        bench.put(name_, new.clone()).await;
        assert_eq!(bench.get(name_).await.expect("whole"), new);
    }
    ledger_is_exact(&bench).await;
    delete_all(&bench, &["a", "one", "p", "copy"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checksums_of_parts_stay_with_the_object_even_packed() {
    let bench = Bench::with(cold(), &[]).await;
    let bodies = [text(400_000, 6), text(300_001, 7)];
    for algorithm in [Algorithm::Sha1, Algorithm::Crc32c] {
        let checksum = Some(UploadChecksum { algorithm, composite: true });
        let open = CreateUpload { checksum, ..CreateUpload::new(bucket(), name("p")) };
        let upload = bench.store.create_upload(open).await.expect("opened").upload;
        let to = UploadRef { bucket: bucket(), name: name("p"), upload };
        let mut parts = Vec::new();
        for (number, body) in (1..).zip(&bodies) {
            parts.push(part(&bench.store, &to, number, body.clone()).await.expect("stored"));
        }
        assert!(parts.iter().all(|part| part.checksum.is_some_and(|sum| sum.algorithm == algorithm)));
        complete(&bench.store, &to, refs(&parts)).await.expect("completed");
        for expected in [1, 0] {
            let (bucket, name) = (bucket(), name("p"));
            let found = bench.store.parts_of((&bucket, &name, None), 0, 9).await.expect("there");
            let sums: Vec<_> = found.parts.iter().map(|part| part.checksum).collect();
            assert_eq!(sums, parts.iter().map(|part| part.checksum).collect::<Vec<_>>());
            assert_eq!(packed(&bench).await.packed, expected);
            bench.store.trim_cache(0);
        }
        assert_eq!(bench.get("p").await.expect("whole"), Bytes::from(bodies.concat()));
        ledger_is_exact(&bench).await;
    }
    delete_all(&bench, &["p"]).await;
}
