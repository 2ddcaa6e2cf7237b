//! Ranges fetch what is needed; HEAD fetches nothing.

use blobstore_sidecar_core::etag::TagSet;
use blobstore_sidecar_core::precondition::{Conditions, IfRange};
use blobstore_sidecar_core::range::ByteRange;
use blobstore_sidecar_store::{ErrorKind, GetRequest};
use http::Method;

use crate::bench::{Bench, bucket, name, origin, payload, read};
use crate::server::{Object, Server};

const MIB: usize = 1 << 20;

async fn server(object: Object) -> (Server, Bench) {
    let server = Server::start().await;
    server.put("a", object);
    let bench = Bench::start(origin(&server)).await;
    (server, bench)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_is_fetched_as_a_range_and_not_stored() {
    let body = payload(40 * MIB, 1);
    let (server, bench) = server(Object::new(body.clone())).await;
    let found =
        bench.open("a", Some(ByteRange::Between { first: 5, last: 1_000_004 })).await.expect("a part");
    assert_eq!(
        (found.meta.size, found.range.clone(), found.partial),
        (body.len() as u64, 5..1_000_005, true)
    );
    assert_eq!(read(found).await.expect("all bytes"), body.slice(5..1_000_005));
    for (range, want) in [
        (ByteRange::Last { len: 7 }, body.len() - 7..body.len()),
        (ByteRange::From { first: (body.len() - 9) as u64 }, body.len() - 9..body.len()),
    ] {
        let found = bench.open("a", Some(range)).await.expect("a part");
        assert_eq!(read(found).await.expect("all bytes"), body.slice(want));
    }
    assert_eq!((server.count(&Method::GET), server.count(&Method::HEAD)), (3, 0));
    assert!(server.seen().iter().all(|seen| seen.range.is_some()));
    assert_eq!(bench.stored("a").await, None);
    assert_eq!(server.sent(), 1_000_016, "nothing but what was asked for");
    bench.is_quiet().await;
}

/// The break-even rule: as many bytes in parts as the whole has, and it is fetched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_is_read_in_parts_is_fetched_once_whole() {
    let body = payload(4 * MIB, 2);
    let (server, bench) = server(Object::new(body.clone())).await;
    for part in 0..4 {
        let (first, last) = (part * MIB as u64, (part + 1) * MIB as u64 - 1);
        let got = bench.part("a", first, last).await.expect("a part");
        assert_eq!(got, body.slice(first as usize..=last as usize));
    }
    bench.is_stored("a").await;
    let requests = server.count(&Method::GET);
    assert_eq!(requests, 5, "four parts and the whole");
    assert_eq!(bench.part("a", 1, 9).await.expect("a part"), body.slice(1..10));
    assert_eq!(server.count(&Method::GET), requests, "from the store now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_near_a_running_fill_follows_it() {
    let body = payload(8 * MIB, 3);
    let (server, bench) = server(Object { gate_at: Some(4 * MIB), ..Object::new(body.clone()) }).await;
    let whole = bench.open("a", None).await.expect("begun");
    let part = bench.part("a", 100, 2 * MIB as u64).await.expect("a part");
    assert_eq!(part, body.slice(100..=2 * MIB));
    assert_eq!(server.count(&Method::GET), 1);
    server.open_gate();
    assert_eq!(read(whole).await.expect("all bytes"), body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_everything_is_stored() {
    let body = payload(3 * MIB, 9);
    let (server, bench) = server(Object::new(body.clone())).await;
    let found = bench.open("a", Some(ByteRange::From { first: 0 })).await.expect("the whole");
    assert!(found.partial, "asked for as a range, answered as one");
    assert_eq!(read(found).await.expect("all bytes"), body);
    bench.is_stored("a").await;
    assert_eq!(server.count(&Method::GET), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_behind_the_end_is_told_with_the_size() {
    let (_server, bench) = server(Object::new(payload(10, 4))).await;
    let error = bench.part("a", 10, 20).await.expect_err("nothing there");
    assert_eq!(error.kind, ErrorKind::RangeNotSatisfiable { size: 10 });
    let error = bench.open("a", Some(ByteRange::Last { len: 0 })).await.expect_err("nothing there");
    assert_eq!(error.kind, ErrorKind::RangeNotSatisfiable { size: 10 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_without_ranges_is_filled_from_whole() {
    // No larger than what is read to its end though its reader needs little of it.
    let body = payload(MIB, 5);
    let (server, bench) = server(Object { whole_only: true, ..Object::new(body.clone()) }).await;
    assert_eq!(bench.part("a", 7, 99).await.expect("a part"), body.slice(7..100));
    bench.is_stored("a").await;
    server.put("c", Object { whole_only: true, ..Object::new(body.clone()) });
    assert_eq!(bench.part("c", 7, 99).await.expect("a part"), body.slice(7..100));
    assert_eq!(server.count(&Method::GET), 3, "it is not asked for a range twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_range_of_another_version_gives_the_whole() {
    let body = payload(MIB, 6);
    let (_server, bench) = server(Object::new(body.clone())).await;
    let etag = bench.head("a").await.expect("there").etag;
    let ask = |tag: String| GetRequest {
        range: Some(ByteRange::Between { first: 0, last: 9 }),
        if_range: Some(IfRange::Tag(TagSet::parse(&tag).expect("a tag"))),
        ..GetRequest::new(bucket(), name("a"))
    };
    let same = bench.origins.get(ask(etag.quoted())).await.expect("a part");
    assert!(same.partial);
    assert_eq!(read(same).await.expect("all bytes"), body.slice(..10));
    let other = bench.origins.get(ask("\"other\"".into())).await.expect("the whole");
    assert!(!other.partial);
    assert_eq!(read(other).await.expect("all bytes"), body);
}

/// R002-13: HEAD needs no GET at the origin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_asks_for_headers_only() {
    let (server, bench) = server(Object::new(payload(5 * MIB, 7))).await;
    let meta = bench.head("a").await.expect("there");
    assert_eq!((meta.size, server.count(&Method::HEAD), server.count(&Method::GET)), (5 * MIB as u64, 1, 0));
    assert_eq!((server.sent(), bench.stored("a").await), (0, None));
    assert_eq!(bench.open("a", None).await.expect("filled").meta.etag, meta.etag);
    let error = bench.head("none").await.expect_err("not there");
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_has_the_object_is_told_so() {
    let (server, bench) = server(Object::new(payload(MIB, 8))).await;
    let etag = bench.head("a").await.expect("there").etag;
    let conditions = Conditions { if_none_match: TagSet::parse(&etag.quoted()), ..Conditions::default() };
    let request = GetRequest { conditions, ..GetRequest::new(bucket(), name("a")) };
    for _ in 0..2 {
        let error = bench.origins.get(request.clone()).await.expect_err("it has it");
        assert_eq!(error.kind, ErrorKind::NotModified);
        assert_eq!(error.current.expect("for the headers").etag, etag);
        bench.is_stored("a").await;
    }
    assert_eq!(server.count(&Method::GET), 1);
}
