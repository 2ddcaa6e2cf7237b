//! Other kinds of origins, their credentials, and the LRU of clients.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use blobstore_sidecar_api::origins::{OriginConfig, OriginSource};
use blobstore_sidecar_api::ports;
use blobstore_sidecar_core::range::ByteRange;
use blobstore_sidecar_store::ErrorKind;

use crate::bench::{Bench, metric, of, origin, payload, read};
use crate::server::{Object, Server, until};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_an_origin() {
    let folder = tempfile::tempdir().expect("a folder");
    let body = payload(3 * MIB, 1);
    std::fs::create_dir(folder.path().join("sub")).expect("a folder");
    std::fs::write(folder.path().join("sub/a"), &body).expect("a file");
    let source = OriginSource::File { path: folder.path().to_owned() };
    let config = OriginConfig { name: "folder".into(), origin_prefix: "sub/".into(), ..of(source) };
    let bench = Bench::start(OriginConfig { ttl_seconds: Some(0), ..config }).await;
    let stored = || metric("blobstore_sidecar_origin_fills_ended_total", &["folder", "stored"]);
    let found = bench.open("a", Some(ByteRange::Last { len: 9 })).await.expect("a part");
    assert_eq!(read(found).await.expect("all bytes"), body.slice(body.len() - 9..));
    assert_eq!(bench.head("a").await.expect("there").size, body.len() as u64);
    assert_eq!(bench.get("a").await.expect("filled"), body);
    // A reader that comes while a fill is on the list follows it, whatever the folder holds by then.
    until("the fill is off the list", || stored() == 1).await;
    assert_eq!(bench.get("a").await.expect("revalidated"), body);
    std::fs::write(folder.path().join("sub/a"), b"new").expect("a file");
    assert_eq!(bench.get("a").await.expect("the new one"), "new");
    until("this one is, too", || stored() == 2).await;
    std::fs::remove_file(folder.path().join("sub/a")).expect("removed");
    assert_eq!(bench.get("a").await.expect_err("gone").kind, ErrorKind::NotFound);
    for name in ["../a", "sub//a", "/a", "a/", "sub"] {
        let error = bench.get(name).await.expect_err("nothing outside, and no folders");
        assert!(matches!(error.kind, ErrorKind::NotFound | ErrorKind::OriginDown), "{name}: {error}");
    }
    bench.is_quiet().await;
}

/// S3's own way of asking: signed with the Secret's keys, bucket in the path.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_s3_origin_is_asked_with_the_keys_of_the_secret() {
    let server = Server::start().await;
    let modified = Some("Sun, 06 Nov 1994 08:49:37 GMT");
    let md5 = "\"0123456789abcdef0123456789abcdef\"";
    server.put("deep/a", Object { etag: Some(md5), modified, ..Object::new(payload(MIB, 1)) });
    let secret = tempfile::tempdir().expect("a folder");
    let source = OriginSource::S3 {
        bucket: "base".into(),
        region: "eu-central-1".into(),
        endpoint: Some(format!("http://{}", server.address)),
        virtual_hosted: false,
    };
    let config = OriginConfig {
        origin_prefix: "deep/".into(),
        credentials: Some(secret.path().to_owned()),
        ..of(source)
    };
    let bench = Bench::start(config).await;
    let error = bench.get("a").await.expect_err("an empty Secret");
    assert!(error.message.contains("credentials of the origin o cannot be read"), "{error}");
    std::fs::write(secret.path().join(ports::ORIGIN_ACCESS_KEY), "AKTEST\n").expect("a file");
    std::fs::write(secret.path().join(ports::ORIGIN_SECRET_KEY), "hidden\n").expect("a file");
    let found = bench.open("a", None).await.expect("filled");
    assert_eq!(found.meta.etag.quoted(), md5, "an MD5 stays an MD5");
    assert_eq!(read(found).await.expect("all bytes"), payload(MIB, 1));
    let seen = server.seen();
    let authorization = seen[0].authorization.clone().expect("signed");
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKTEST/"), "{authorization}");
    assert!(!authorization.contains("hidden"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gcs_and_azure_origins_are_asked_in_their_way() {
    let server = Server::start().await;
    let object =
        || Object { modified: Some("Sun, 06 Nov 1994 08:49:37 GMT"), ..Object::new(payload(MIB, 1)) };
    server.put("a", object());
    let endpoint = Some(format!("http://{}", server.address));
    let gcs = of(OriginSource::Gcs { bucket: "base".into(), endpoint: endpoint.clone() });
    let bench = Bench::start(gcs).await;
    assert_eq!(bench.get("a").await.expect("filled"), payload(MIB, 1));
    let secret = tempfile::tempdir().expect("a folder");
    std::fs::write(secret.path().join(ports::ORIGIN_ACCOUNT_KEY), "c2VjcmV0").expect("a file");
    let azure = OriginSource::Azure { account: "acc".into(), container: "base".into(), endpoint };
    let bench = Bench::start(OriginConfig { credentials: Some(secret.path().to_owned()), ..of(azure) }).await;
    assert_eq!(bench.get("a").await.expect("filled"), payload(MIB, 1));
    let seen = server.seen();
    assert_eq!(seen[0].authorization, None, "without a Secret nothing is signed");
    assert!(seen[1].authorization.as_deref().is_some_and(|text| text.starts_with("SharedKey acc:")));
}

/// R002-1, R002-19: a thousand origins are a hundred clients, and the connections of the others are closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_origins_leave_a_hundred_clients() {
    let server = Server::start().await;
    server.put("a", Object::new(payload(100, 1)));
    let origins = (0..1_000)
        .map(|index| OriginConfig {
            name: format!("o{index}"),
            prefix: format!("{index}/"),
            ..origin(&server)
        })
        .collect();
    let bench = Bench::with(origins, |store| Arc::new(store.clone())).await;
    for index in 0..1_000 {
        assert_eq!(bench.get(&format!("{index}/a")).await.expect("filled"), payload(100, 1));
    }
    assert_eq!((server.seen().len(), bench.origins.clients_open()), (1_000, 100));
    let connections = || server.shared.connections.load(Ordering::SeqCst);
    until("evicted clients close", || connections() <= 100).await;
    bench.is_quiet().await;
    assert_eq!(bench.origins.trim(), 100);
    until("idle clients close", || connections() == 0).await;
}

/// What a shutdown does: idle clients close with their connections, one in use with its last user.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clearing_closes_idle_clients_and_lets_a_body_end() {
    let server = Server::start().await;
    let body = payload(2 * MIB, 1);
    server.put("a", Object::new(payload(100, 1)));
    server.put("big", Object { gate_at: Some(MIB), ..Object::new(body.clone()) });
    let prefixes = ["0/", "1/", "2/"];
    let origins = prefixes.map(|prefix| OriginConfig {
        name: format!("cleared-{prefix}"),
        prefix: prefix.into(),
        ..origin(&server)
    });
    let bench = Bench::with(origins.to_vec(), |store| Arc::new(store.clone())).await;
    for prefix in prefixes {
        assert_eq!(bench.get(&format!("{prefix}a")).await.expect("filled"), payload(100, 1));
    }
    let begun = bench.open("0/big", None).await.expect("begun");
    let connections = || server.shared.connections.load(Ordering::SeqCst);
    assert_eq!(bench.origins.clients_open(), 3);
    bench.origins.clear();
    assert_eq!(bench.origins.clients_open(), 0);
    until("idle connections close", || connections() == 1).await;
    server.open_gate();
    assert_eq!(read(begun).await.expect("all bytes"), body);
    until("the last one closes behind its body", || connections() == 0).await;
    bench.is_quiet().await;
}
