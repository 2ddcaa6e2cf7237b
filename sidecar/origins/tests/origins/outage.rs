//! An origin that fails: clear errors, bounded work, and a way back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use blobstore_sidecar_api::origins::{OriginConfig, OriginTimeouts, OriginWrites};
use blobstore_sidecar_runtime::tasks;
use blobstore_sidecar_store::ErrorKind;
use futures::StreamExt;
use futures::future::join_all;
use http::Method;

use crate::bench::{Bench, bucket, metric, name, origin, payload, read};
use crate::between::Between;
use crate::server::{Object, Server, until};

const MIB: usize = 1 << 20;

fn breaker(origin: &str) -> u64 {
    metric("blobstore_sidecar_origin_breaker_state", &[origin])
}

/// Reads from an origin that fails, and how many of the later reads met the first pause, which is half a second at
/// least.
async fn met_the_pause(server: &Server, bench: &Bench, name: &str) -> usize {
    server.fail_with(Some(500));
    for index in 0..5 {
        let error = bench.get(&format!("n{index}")).await.expect_err("down");
        assert_eq!(error.kind, ErrorKind::OriginDown, "{error}");
    }
    // The pause begins with the answer to the last of them.
    let last = *server.times().get(9).expect("five failures, each tried twice");
    let mut met = 0;
    for index in 5..20 {
        let error = bench.get(&format!("n{index}")).await.expect_err("down");
        assert_eq!(error.kind, ErrorKind::OriginDown, "{error}");
        let (asked, state) = (server.seen().len(), breaker(name));
        if last.elapsed() > Duration::from_millis(450) {
            break;
        }
        assert_eq!((asked, state), (10, 2), "then silence");
        assert!(error.message.contains("is not asked for") && error.message.contains("500"), "{error}");
        met += 1;
    }
    met
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_is_down_is_left_alone_and_found_again() {
    let mut round = 0;
    let (server, bench, name) = loop {
        let server = Server::start().await;
        let name = format!("breaker-{round}");
        let bench = Bench::start(OriginConfig { name: name.clone(), ..origin(&server) }).await;
        // A machine under load may need the whole pause for one read.
        if met_the_pause(&server, &bench, &name).await > 0 {
            break (server, bench, name);
        }
        round += 1;
        assert!(round < 20, "no read meets the pause");
    };
    server.put("a", Object::new(payload(MIB, 1)));
    server.fail_with(None);
    let back = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Ok(found) = bench.get("a").await {
                return found;
            }
        }
    });
    assert_eq!(back.await.expect("found again"), payload(MIB, 1));
    assert_eq!(breaker(&name), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_is_a_sentence() {
    let server = Server::start().await;
    let config = origin(&server);
    drop(server);
    let bench = Bench::start(config).await;
    let error = bench.get("a").await.expect_err("nobody there");
    assert_eq!(error.kind, ErrorKind::OriginDown);
    assert!(error.message.contains("the origin o fails") && error.message.contains("refused"), "{error}");
    assert!(error.retryable());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_before_and_in_a_body_is_a_timeout() {
    let server = Server::start().await;
    let timeouts = OriginTimeouts { connect_ms: 2_000, first_byte_ms: 2_000, idle_ms: 2_000 };
    let bench = Bench::start(OriginConfig { timeouts, ..origin(&server) }).await;
    server.put("a", Object { etag: None, gate_at: Some(MIB), ..Object::new(payload(4 * MIB, 1)) });
    let mut body = bench.open("a", None).await.expect("begun").body;
    let error = loop {
        match body.next().await.expect("an error, not an end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ErrorKind::OriginTimeout, "{error}");
    assert!(error.message.contains("sent nothing for 2s"), "{error}");
    assert_eq!(bench.stored("a").await, None);
    server.mute(true);
    let error = bench.get("b").await.expect_err("silence");
    assert_eq!(error.kind, ErrorKind::OriginTimeout, "{error}");
    bench.is_quiet().await;
}

/// R002-2, R002-14: an origin that hangs costs a bounded number of requests and of tasks, whatever comes in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_origin_is_no_pile_of_tasks() {
    let server = Server::start().await;
    let timeouts = OriginTimeouts { connect_ms: 2_000, first_byte_ms: 3_000, idle_ms: 3_000 };
    let bench = Bench::start(OriginConfig { timeouts, name: "hangs".into(), ..origin(&server) }).await;
    let bench = Arc::new(bench);
    // Of this runtime alone: other tests have theirs.
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let closed = || server.shared.connections.load(Ordering::SeqCst) == 0;
    let before = alive();
    server.mute(true);
    let begun = Instant::now();
    let readers = (0..400).map(|index| {
        let bench = Arc::clone(&bench);
        tasks::spawn("test", async move { bench.get(&format!("n{index}")).await.expect_err("hangs").kind })
    });
    let kinds: Vec<ErrorKind> =
        join_all(readers).await.into_iter().map(|kind| kind.expect("no panic")).collect();
    let count = |want: ErrorKind| kinds.iter().filter(|kind| **kind == want).count();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(server.seen().len() <= 2 * 32, "{} requests", server.seen().len());
    assert!(count(ErrorKind::Busy) >= 400 - 32 - 256, "{kinds:?}");
    assert_eq!(count(ErrorKind::Busy) + count(ErrorKind::OriginTimeout) + count(ErrorKind::OriginDown), 400);
    bench.origins.clear();
    until("no connection is left", closed).await;
    until("no task is left", || alive() <= before).await;
    let fills = |result: &str| metric("blobstore_sidecar_origin_fills_ended_total", &["hangs", result]);
    let ended = fills("failed") + fills("abandoned") + fills("not_found");
    assert_eq!(ended, metric("blobstore_sidecar_origin_fills_started_total", &["hangs"]), "each has ended");
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_told_and_does_not_open_the_breaker() {
    let server = Server::start().await;
    let bench = Bench::start(OriginConfig { name: "refuses".into(), ..origin(&server) }).await;
    server.fail_with(Some(403));
    for _ in 0..8 {
        let error = bench.get("a").await.expect_err("refused");
        assert_eq!(error.kind, ErrorKind::OriginDown);
        assert!(error.message.contains("refuses the request: 403"), "{error}");
    }
    assert_eq!((server.count(&Method::GET), breaker("refuses")), (8, 0));
}

/// A full store is no reason to fail a read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_does_not_take_passes_through() {
    for after in [0, 3 * MIB] {
        let server = Server::start().await;
        let body = payload(6 * MIB, 1);
        server.put("a", Object::new(body.clone()));
        let config = origin(&server);
        let bench =
            Bench::with(vec![config], |store| Arc::new(Between { takes: Some(after), ..Between::of(store) }))
                .await;
        assert_eq!(bench.get("a").await.expect("all bytes"), body, "{after}");
        let requests = server.count(&Method::GET);
        assert!(requests <= 2, "the fill, and the rest");
        assert_eq!(bench.get("a").await.expect("all bytes"), body);
        assert_eq!(server.count(&Method::GET), requests + 1, "it is not offered to the store again at once");
        bench.is_quiet().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_refused_unless_the_resource_allows_them() {
    let server = Server::start().await;
    let refusing = OriginConfig { prefix: "shown/".into(), ..origin(&server) };
    let local = OriginConfig {
        name: "local".into(),
        prefix: "shown/here/".into(),
        writes: OriginWrites::Local,
        ..origin(&server)
    };
    let bench = Bench::with(vec![refusing, local], |store| Arc::new(store.clone())).await;
    let refused = |name_: &str| bench.origins.refuses(&bucket(), &name(name_));
    let error = refused("shown/a").expect("refused");
    assert_eq!(error.kind, ErrorKind::ReadOnly);
    assert!(error.message.contains("the origin o"), "{error}");
    assert!(refused("shown/here/a").is_none() && refused("else").is_none());
    assert_eq!(bench.get("else").await.expect_err("not mapped").kind, ErrorKind::NotFound);
    assert_eq!(server.seen().len(), 0);
    server.put("a", Object::new(payload(10, 1)));
    let found = bench.open("shown/here/a", None).await.expect("the longest prefix, cut off");
    assert_eq!(read(found).await.expect("all bytes"), payload(10, 1));
}
