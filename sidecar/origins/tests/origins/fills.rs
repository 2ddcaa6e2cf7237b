//! One request however many readers; nothing half in the store; nobody suffers from one who leaves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use blobstore_sidecar_runtime::tasks;
use blobstore_sidecar_store::ErrorKind;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use http::Method;
use tokio::sync::{Notify, oneshot};

use crate::bench::{Bench, metric, origin, payload, read};
use crate::between::{Between, Late};
use crate::server::{Object, Server, until};

const MIB: usize = 1 << 20;

async fn server(object: Object) -> (Server, Bench) {
    let server = Server::start().await;
    server.put("a", object);
    let bench = Bench::start(origin(&server)).await;
    (server, bench)
}

/// R002-13, R002-7: one request where one suffices, and no HEAD for the size.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_readers_of_a_large_blob_are_one_request() {
    let body = payload(20 * MIB + 777, 1);
    let (server, bench) = server(Object::new(body.clone())).await;
    let bench = Arc::new(bench);
    let readers = (0..50).map(|_| {
        let bench = Arc::clone(&bench);
        tasks::spawn("test", async move { bench.get("a").await })
    });
    for got in join_all(readers).await {
        assert_eq!(got.expect("no panic").expect("all bytes"), body);
    }
    bench.is_stored("a").await;
    assert_eq!(bench.get("a").await.expect("from the store"), body);
    assert_eq!((server.count(&Method::GET), server.count(&Method::HEAD)), (1, 0));
    assert_eq!(server.sent(), body.len(), "each byte came once");
    bench.is_quiet().await;
    assert!(bench.store.budget().peak() <= bench.store.budget().limit());
}

/// One who has seen that the store does not have it, and comes to the origin when it has: that is no second request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_whose_look_is_out_of_date_looks_again() {
    let server = Server::start().await;
    let body = payload(300_000, 1);
    server.put("a", Object::new(body.clone()));
    let asked = Arc::new(Notify::new());
    let (go, gone) = oneshot::channel();
    let hand = Arc::clone(&asked);
    let bench = Bench::with(vec![origin(&server)], |store| {
        Arc::new(Between { late: Mutex::new(Some(Late { asked: hand, answer: gone })), ..Between::of(store) })
    })
    .await;
    let first = bench.get("a");
    let second = async {
        asked.notified().await;
        assert_eq!(bench.get("a").await.expect("all bytes"), body);
        bench.is_stored("a").await;
        go.send(()).expect("the first still waits");
    };
    let (first, ()) = tokio::join!(first, second);
    assert_eq!(first.expect("all bytes"), body);
    assert_eq!(server.count(&Method::GET), 1);
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_size_comes_whole_with_the_headers_of_the_origin() {
    let server = Server::start().await;
    let bench = Bench::start(origin(&server)).await;
    for (seed, size) in (1..).zip([0, 1, 16_384, 16_385, 262_080, 262_081, 524_289, 3 * MIB]) {
        let (name, body) = (format!("size-{size}"), payload(size, seed));
        server.put(&name, Object::new(body.clone()));
        let first = bench.open(&name, None).await.expect("filled");
        let etag = first.meta.etag;
        assert_eq!(first.meta.size, size as u64);
        assert_eq!(read(first).await.expect("all bytes"), body, "{size}");
        bench.is_stored(&name).await;
        let second = bench.open(&name, None).await.expect("stored");
        assert_eq!(second.meta.etag, etag, "a client's copy stays valid");
        assert_eq!(second.meta.attributes.content_type.as_deref(), Some("text/test"));
        assert_eq!(read(second).await.expect("all bytes"), body, "{size}");
    }
    assert_eq!(server.count(&Method::GET), 8);
    bench.is_quiet().await;
}

/// R002-9: the first byte goes out before the last has come, and one who comes late reads what the engine has already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_stream_while_the_fill_runs() {
    let body = payload(8 * MIB, 2);
    let gate_at = Some(6 * MIB);
    let (server, bench) = server(Object { gate_at, ..Object::new(body.clone()) }).await;
    let mut first = bench.open("a", None).await.expect("begun").body;
    let mut got = Vec::new();
    while got.len() < 5 * MIB {
        got.extend_from_slice(&first.next().await.expect("more").expect("bytes"));
    }
    assert_eq!(bench.stored("a").await, None, "the origin still holds back the end");
    let mut late = bench.open("a", None).await.expect("followed").body;
    let mut late_got = Vec::new();
    while late_got.len() < 4 * MIB {
        late_got.extend_from_slice(&late.next().await.expect("more").expect("bytes"));
    }
    server.open_gate();
    for (mut reader, mut got) in [(first, got), (late, late_got)] {
        while let Some(bytes) = reader.next().await {
            got.extend_from_slice(&bytes.expect("bytes"));
        }
        assert_eq!(Bytes::from(got), body);
    }
    assert_eq!(server.count(&Method::GET), 1);
    bench.is_stored("a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_reader_leaves_and_the_others_go_on() {
    let body = payload(8 * MIB, 3);
    let (server, bench) = server(Object { gate_at: Some(2 * MIB), ..Object::new(body.clone()) }).await;
    let first = bench.open("a", None).await.expect("begun");
    let followers =
        [bench.open("a", None).await.expect("followed"), bench.open("a", None).await.expect("followed")];
    drop(first);
    server.open_gate();
    for follower in followers {
        assert_eq!(read(follower).await.expect("all bytes"), body);
    }
    bench.is_stored("a").await;
    assert_eq!(server.count(&Method::GET), 1);
    bench.is_quiet().await;
}

/// A slow reader holds nobody up: the fill ends while it has read a fraction, and it still gets every byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_does_not_slow_the_fill() {
    let body = payload(12 * MIB, 4);
    let (server, bench) = server(Object::new(body.clone())).await;
    let mut slow = bench.open("a", None).await.expect("begun").body;
    let mut got = slow.next().await.expect("more").expect("bytes").to_vec();
    assert_eq!(bench.get("a").await.expect("all bytes"), body);
    bench.is_stored("a").await;
    while let Some(bytes) = slow.next().await {
        got.extend_from_slice(&bytes.expect("bytes"));
    }
    assert_eq!(Bytes::from(got), body);
    assert_eq!(server.count(&Method::GET), 1);
}

/// R002-4: a body that nobody wants is not read to nowhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_reader_leaves_and_the_fill_ends() {
    let server = Server::start().await;
    server.put("a", Object { gate_at: Some(4 * MIB), ..Object::new(payload(64 * MIB, 5)) });
    let bench = Bench::start(blobstore_sidecar_api::origins::OriginConfig {
        name: "leaves".into(),
        ..origin(&server)
    })
    .await;
    let mut reader = bench.open("a", None).await.expect("begun").body;
    reader.next().await.expect("more").expect("bytes");
    drop(reader);
    let ended = || metric("blobstore_sidecar_origin_fills_ended_total", &["leaves", "abandoned"]) == 1;
    until("the fill ends", ended).await;
    bench.is_quiet().await;
    assert_eq!(bench.stored("a").await, None);
    assert!(server.sent() <= 5 * MIB, "{} bytes were read", server.sent());
    // Whoever comes next gets all of it, by a new request.
    server.put("a", Object::new(payload(2 * MIB, 6)));
    assert_eq!(bench.get("a").await.expect("all bytes"), payload(2 * MIB, 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_that_is_nearly_done_goes_on() {
    let body = payload(4 * MIB, 7);
    let (server, bench) =
        server(Object { gate_at: Some(3 * MIB + 500_000), ..Object::new(body.clone()) }).await;
    let mut reader = bench.open("a", None).await.expect("begun").body;
    let mut got = 0;
    while got < 3 * MIB + 200_000 {
        got += reader.next().await.expect("more").expect("bytes").len();
    }
    drop(reader);
    server.open_gate();
    bench.is_stored("a").await;
    assert_eq!(bench.get("a").await.expect("from the store"), body);
    assert_eq!(server.count(&Method::GET), 1);
}

/// A cut body is never a complete one: with an ETag it is taken up where it broke, else everybody learns of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_once_is_taken_up_again() {
    let body = payload(6 * MIB, 8);
    let cuts = Arc::new(AtomicUsize::new(1));
    let object = Object { cut_at: Some(3 * MIB), cuts: Arc::clone(&cuts), ..Object::new(body.clone()) };
    let (server, bench) = server(object).await;
    assert_eq!(bench.get("a").await.expect("all bytes"), body);
    bench.is_stored("a").await;
    let seen = server.seen();
    assert_eq!((seen.len(), cuts.load(Ordering::SeqCst)), (2, 0));
    let from = seen[1].range.clone().expect("only what was missing");
    assert!(from.starts_with("bytes=") && !from.starts_with("bytes=0-"), "{from}");
    assert!(server.sent() < body.len() + MIB, "what was lost in the cut came twice, the rest once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stays_broken_is_nobodys_answer_and_is_not_stored() {
    for (unsized_, etag) in [(false, Some("\"v1\"")), (false, None), (true, None)] {
        let object = Object { cut_at: Some(3 * MIB), unsized_, etag, ..Object::new(payload(6 * MIB, 9)) };
        let (_server, bench) = server(object).await;
        let bench = Arc::new(bench);
        let readers = (0..5).map(|_| {
            let bench = Arc::clone(&bench);
            tasks::spawn("test", async move { bench.get("a").await })
        });
        for got in join_all(readers).await {
            let error = got.expect("no panic").expect_err("half a body is no answer");
            assert_eq!(error.kind, ErrorKind::OriginDown, "{error}");
            assert!(error.message.contains("the origin o"), "{error}");
        }
        bench.is_quiet().await;
        assert_eq!(bench.stored("a").await, None);
    }
}

/// The end of a chunked body is seen, so it can be stored; its readers wait for that, as its length is not known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_unknown_length_is_stored_first() {
    let body = payload(2 * MIB, 10);
    let (server, bench) = server(Object { unsized_: true, ..Object::new(body.clone()) }).await;
    let (one, two) = tokio::join!(bench.get("a"), bench.get("a"));
    assert_eq!((one.expect("all bytes"), two.expect("all bytes")), (body.clone(), body));
    assert_eq!(server.count(&Method::GET), 1);
}
