//! How long a copy is believed: TTL, revalidation, stale answers, absence.

use std::time::{Duration, Instant};

use blobstore_sidecar_api::origins::OriginConfig;
use blobstore_sidecar_store::{ErrorKind, PutRequest};
use futures::stream;
use http::Method;

use crate::bench::{Bench, bucket, metric, name, origin, payload};
use crate::server::{Object, Server, until};

const MIB: usize = 1 << 20;

/// A copy that is never fresh.
fn expired(server: &Server, name: &str) -> OriginConfig {
    OriginConfig { name: name.into(), ttl_seconds: Some(0), ..origin(server) }
}

async fn filled(config: OriginConfig, server: &Server, object: Object) -> Bench {
    let body = object.body.clone();
    server.put("a", object);
    let name = config.name.clone();
    let bench = Bench::start(config).await;
    assert_eq!(bench.get("a").await.expect("filled"), body);
    bench.is_stored("a").await;
    // A fill that is still on the list is followed by who comes, whatever the origin says by now.
    let ended = || metric("blobstore_sidecar_origin_fills_ended_total", &[&name, "stored"]) >= 1;
    until("the fill is off the list", ended).await;
    bench
}

fn revalidations(origin: &str, result: &str) -> u64 {
    metric("blobstore_sidecar_origin_revalidations_total", &[origin, result])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_its_time_a_copy_is_not_asked_about() {
    let server = Server::start().await;
    let config = OriginConfig { ttl_seconds: Some(3_600), ..origin(&server) };
    let bench = filled(config, &server, Object::new(payload(MIB, 1))).await;
    server.put("a", Object { etag: Some("\"v2\""), ..Object::new(payload(MIB, 2)) });
    assert_eq!(bench.get("a").await.expect("the copy"), payload(MIB, 1));
    assert_eq!(bench.head("a").await.expect("the copy").size, MIB as u64);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_copy_is_revalidated_without_its_body() {
    let server = Server::start().await;
    let body = payload(MIB, 1);
    let bench = filled(expired(&server, "same"), &server, Object::new(body.clone())).await;
    let before = bench.stored("a").await.expect("stored").generation;
    for _ in 0..2 {
        assert_eq!(bench.get("a").await.expect("the copy"), body);
    }
    assert_eq!(bench.head("a").await.expect("the copy").size, MIB as u64);
    assert_eq!((server.count(&Method::GET), server.count(&Method::HEAD)), (3, 1));
    assert!(server.seen()[1..3].iter().all(|seen| seen.conditional), "If-None-Match");
    assert_eq!(server.sent(), MIB, "the body came once");
    assert_eq!(bench.stored("a").await.expect("stored").generation, before, "nothing was rewritten");
    assert_eq!(revalidations("same", "unchanged"), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revalidated_copy_is_fresh_for_its_time() {
    let server = Server::start().await;
    let config = OriginConfig { ttl_seconds: Some(1), ..origin(&server) };
    let bench = filled(config, &server, Object::new(payload(MIB, 1))).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (before, asked) = (Instant::now(), server.seen().len());
        bench.get("a").await.expect("the copy");
        assert!(Instant::now() < deadline, "asked once the second is over");
        if server.seen().len() == asked {
            continue;
        }
        bench.get("a").await.expect("the copy");
        let again = server.seen().len();
        // On a machine under load that second may be over already.
        if before.elapsed() < Duration::from_secs(1) {
            assert_eq!(again, asked + 1, "and then not for another one");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_etags_the_date_revalidates() {
    let server = Server::start().await;
    let object = || Object {
        etag: None,
        modified: Some("Sun, 06 Nov 1994 08:49:37 GMT"),
        ..Object::new(payload(MIB, 1))
    };
    let bench = filled(expired(&server, "dates"), &server, object()).await;
    assert_eq!(bench.get("a").await.expect("the copy"), payload(MIB, 1));
    assert!(server.seen()[1].conditional);
    assert_eq!((server.sent(), revalidations("dates", "unchanged")), (MIB, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_object_replaces_its_copy() {
    let server = Server::start().await;
    let bench = filled(expired(&server, "changed"), &server, Object::new(payload(MIB, 1))).await;
    let before = bench.stored("a").await.expect("stored");
    let new = payload(2 * MIB, 2);
    server.put("a", Object { etag: Some("\"v2\""), ..Object::new(new.clone()) });
    assert_eq!(bench.head("a").await.expect("the new one").size, new.len() as u64);
    assert_eq!(bench.get("a").await.expect("the new one"), new);
    bench.is_quiet().await;
    let after = bench.stored("a").await.expect("stored");
    assert_ne!((before.etag, before.size), (after.etag, after.size));
    assert_eq!(after.size, new.len() as u64);
    assert_eq!(revalidations("changed", "changed"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_is_gone_takes_its_copy_with_it() {
    let server = Server::start().await;
    let bench = filled(expired(&server, "gone"), &server, Object::new(payload(MIB, 1))).await;
    server.remove("a");
    assert_eq!(bench.get("a").await.expect_err("gone").kind, ErrorKind::NotFound);
    assert_eq!(bench.stored("a").await, None);
    assert_eq!(revalidations("gone", "gone"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_while_revalidate_answers_at_once_and_refreshes_behind() {
    let server = Server::start().await;
    let config = OriginConfig { stale_while_revalidate_seconds: 3_600, ..expired(&server, "swr") };
    let bench = filled(config, &server, Object::new(payload(MIB, 1))).await;
    let new = payload(3 * MIB, 2);
    server.put("a", Object { etag: Some("\"v2\""), ..Object::new(new.clone()) });
    server.mute(true);
    for _ in 0..20 {
        assert_eq!(bench.get("a").await.expect("the old one, at once"), payload(MIB, 1));
    }
    assert_eq!(metric("blobstore_sidecar_origin_reads_total", &["swr", "stale"]), 20);
    until("asked", || server.seen().len() == 2).await;
    server.mute(false);
    server.open_gate();
    let ended = || metric("blobstore_sidecar_origin_fills_ended_total", &["swr", "stored"]) == 2;
    until("refreshed though nobody waits", ended).await;
    assert_eq!(bench.get("a").await.expect("the new one"), new);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_if_error_stands_in_and_without_it_the_error_is_told() {
    let server = Server::start().await;
    let config = OriginConfig { stale_if_error_seconds: 3_600, ..expired(&server, "sie") };
    let bench = filled(config, &server, Object::new(payload(MIB, 1))).await;
    server.fail_with(Some(503));
    assert_eq!(bench.get("a").await.expect("the copy"), payload(MIB, 1));
    assert_eq!(bench.head("a").await.expect("the copy").size, MIB as u64);
    assert_eq!(metric("blobstore_sidecar_origin_reads_total", &["sie", "stale"]), 2);
    let strict = filled_strict(&server).await;
    server.fail_with(Some(503));
    let error = strict.get("a").await.expect_err("too old");
    assert_eq!(error.kind, ErrorKind::OriginDown);
    assert!(error.message.contains("503"), "{error}");
}

async fn filled_strict(server: &Server) -> Bench {
    server.fail_with(None);
    filled(expired(server, "strict"), server, Object::new(payload(MIB, 1))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absence_is_believed_for_its_time_only() {
    let server = Server::start().await;
    let config = OriginConfig { name: "absent".into(), negative_ttl_seconds: 3_600, ..origin(&server) };
    let bench = Bench::start(config).await;
    for _ in 0..10 {
        assert_eq!(bench.get("a").await.expect_err("not there").kind, ErrorKind::NotFound);
        assert_eq!(bench.head("a").await.expect_err("not there").kind, ErrorKind::NotFound);
        assert_eq!(bench.part("a", 0, 1).await.expect_err("not there").kind, ErrorKind::NotFound);
    }
    assert_eq!(server.seen().len(), 1);
    assert_eq!(metric("blobstore_sidecar_origin_reads_total", &["absent", "negative"]), 29);
    server.put("a", Object::new(payload(10, 1)));
    assert_eq!(bench.get("a").await.expect_err("not yet").kind, ErrorKind::NotFound);
    let config = OriginConfig { negative_ttl_seconds: 1, ..origin(&server) };
    let bench = Bench::start(config).await;
    server.remove("a");
    assert_eq!(bench.get("a").await.expect_err("not there").kind, ErrorKind::NotFound);
    server.put("a", Object::new(payload(10, 1)));
    let found = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Ok(found) = bench.get("a").await {
                return found;
            }
        }
    });
    assert_eq!(found.await.expect("found once the second is over"), payload(10, 1));
}

/// What somebody wrote here is no copy: it is never asked about, and a fill does not overwrite it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_write_wins() {
    let server = Server::start().await;
    server.put("a", Object { gate_at: Some(0), ..Object::new(payload(3 * MIB, 1)) });
    let bench = Bench::start(expired(&server, "local")).await;
    let reader = bench.open("a", None);
    let write = async {
        until("asked", || server.seen().len() == 1).await;
        let request = PutRequest::new(bucket(), name("a"), Some(5));
        let body = stream::iter([Ok::<_, String>(bytes::Bytes::from_static(b"local"))]);
        bench.store.put(request, body).await.expect("stored");
        server.open_gate();
    };
    let (reader, ()) = tokio::join!(reader, write);
    assert_eq!(crate::bench::read(reader.expect("begun")).await.expect("all bytes"), payload(3 * MIB, 1));
    bench.is_quiet().await;
    assert_eq!(bench.get("a").await.expect("the local one"), "local");
}
