//! Read-through origins from outside: one sidecar behind another, over S3 and over plain HTTP, and a folder.

use std::fs;
use std::path::Path;
use std::thread;

use blobstore_sidecar_api::ports;

use crate::process::{Dev, TOKEN, assert_status, pattern, wait_for};

const MIB: usize = 1 << 20;

/// A sidecar whose buckets come from the origins of this YAML.
fn reader(folder: &Path, origins: &str) -> Dev {
    let file = folder.join("origins.yaml");
    fs::write(&file, origins).expect("a file");
    let dev = Dev::start(&["--origins", file.to_str().expect("a path")]);
    wait_for("the origin's bucket", || dev.client.send("HEAD", "/shown", &[], b"").status == 200);
    dev
}

/// The Secret of an origin, as a folder.
fn secret(folder: &Path, name: &str, files: &[(&str, &str)]) -> String {
    let secret = folder.join(name);
    fs::create_dir(&secret).expect("a folder");
    for (name, text) in files {
        fs::write(secret.join(name), text).expect("a file");
    }
    secret.to_str().expect("a path").to_owned()
}

/// S3 to our own S3: signed by the Secret's keys, same bytes, same ETag, one request for many readers.
#[test]
fn an_s3_origin_is_read_through() {
    let behind = Dev::with_bucket("source", &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let keys = [(ports::ORIGIN_ACCESS_KEY, "test"), (ports::ORIGIN_SECRET_KEY, TOKEN)];
    let secret = secret(folder.path(), "keys", &keys);
    let origins = format!(
        r#"
- name: s3
  bucket: shown
  originPrefix: deep/
  source: {{type: s3, bucket: source, region: us-east-1, endpoint: "http://{}"}}
  credentials: {secret}
  ttlSeconds: 0
  staleIfErrorSeconds: 3600
  negativeTtlSeconds: 60
"#,
        behind.client.address
    );
    let dev = reader(folder.path(), &origins);
    let body = pattern(20 * MIB + 3, 1);
    let put = behind.client.send("PUT", "/source/deep/a%20b", &[("content-type", "text/x")], &body);
    assert_status(&put, 200, "the object at the origin");
    let answers: Vec<_> = thread::scope(|scope| {
        let readers: Vec<_> = (0..16).map(|_| scope.spawn(|| dev.client.get("/shown/a%20b"))).collect();
        readers.into_iter().map(|reader| reader.join().expect("no panic")).collect()
    });
    for answer in &answers {
        assert_status(answer, 200, "through the origin");
        assert!(answer.body == body, "every byte");
        assert_eq!(answer.header("etag"), put.header("etag"), "the origin's own");
        assert_eq!(answer.header("content-type"), Some("text/x"));
    }
    assert_eq!(dev.metric("blobstore_sidecar_origin_requests_total{method=\"get\",origin=\"s3\"}"), 1.0);
    assert_eq!(dev.metric("blobstore_sidecar_origin_bytes_total{origin=\"s3\"}"), body.len() as f64);
    // Expired from the first second on: asked again, without the body.
    assert_eq!(dev.client.send("HEAD", "/shown/a%20b", &[], b"").status, 200);
    assert_eq!(dev.client.get("/shown/a%20b").body.len(), body.len());
    assert_eq!(dev.metric("blobstore_sidecar_origin_bytes_total{origin=\"s3\"}"), body.len() as f64);
    let part = dev.client.send("GET", "/shown/a%20b", &[("range", "bytes=-5")], b"");
    assert_status(&part, 206, "a part");
    assert_eq!(part.body, body[body.len() - 5..]);
    assert_status(&dev.client.get("/shown/none"), 404, "not there either");
    let refused = dev.client.put("/shown/new", b"x");
    assert_status(&refused, 405, "a write");
    assert!(refused.text().contains("the origin s3"), "{}", refused.text());
    assert_status(&dev.client.send("DELETE", "/shown/a%20b", &[], b""), 405, "a deletion");
    behind.stop();
    let stale = dev.client.get("/shown/a%20b");
    assert_status(&stale, 200, "stale, as configured");
    assert!(stale.body == body);
    let down = dev.client.get("/shown/other");
    assert_status(&down, 502, "nothing to stand in");
    assert!(down.text().contains("the origin s3 fails"), "{}", down.text());
    let listed = dev.client.get("/shown?list-type=2").text();
    assert!(listed.contains("a b") || listed.contains("a%20b"), "what is stored is listed: {listed}");
    dev.stop();
}

/// Plain HTTP with an `Authorization` of the Secret, and a folder beside it under another prefix.
#[test]
fn http_and_folder_origins_share_a_bucket() {
    let behind = Dev::with_bucket("source", &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let authorization = format!("Bearer {TOKEN}");
    let secret = secret(folder.path(), "token", &[(ports::ORIGIN_AUTHORIZATION, &authorization)]);
    let files = folder.path().join("files");
    fs::create_dir(&files).expect("a folder");
    fs::write(files.join("f"), pattern(3 * MIB, 2)).expect("a file");
    let origins = format!(
        r#"
- name: web
  bucket: shown
  source: {{type: http, url: "http://{}/source"}}
  credentials: {secret}
  ttlSeconds: null
  negativeTtlSeconds: 0
  writes: local
- name: disk
  bucket: shown
  prefix: disk/
  source: {{type: file, path: {}}}
  ttlSeconds: 3600
  negativeTtlSeconds: 0
"#,
        behind.client.address,
        files.display()
    );
    let dev = reader(folder.path(), &origins);
    let body = pattern(40 * MIB, 3);
    assert_status(&behind.client.put("/source/big", &body), 200, "the object at the origin");
    let part = dev.client.send("GET", "/shown/big", &[("range", "bytes=1048576-1048585")], b"");
    assert_status(&part, 206, "a part");
    assert_eq!(part.body, body[MIB..MIB + 10]);
    assert_eq!(part.header("content-range"), Some(format!("bytes 1048576-1048585/{}", body.len()).as_str()));
    assert_eq!(part.header("x-blobstore-crc64nvme"), None, "not known before it is stored");
    assert_eq!(dev.metric("blobstore_sidecar_origin_bytes_total{origin=\"web\"}"), 10.0);
    let whole = dev.client.get("/shown/big");
    assert!(whole.body == body, "every byte");
    wait_for("stored", || {
        dev.metric("blobstore_sidecar_origin_fills_ended_total{origin=\"web\",result=\"stored\"}") == 1.0
    });
    let again = dev.client.get("/shown/big");
    assert!(again.header("x-blobstore-crc64nvme").is_some(), "known now");
    assert_eq!((again.header("etag"), again.header("last-modified").is_some()), (whole.header("etag"), true));
    let same =
        dev.client.send("GET", "/shown/big", &[("if-none-match", whole.header("etag").expect("one"))], b"");
    assert_status(&same, 304, "the client has it");
    assert_eq!(dev.client.get("/shown/disk/f").body, pattern(3 * MIB, 2));
    assert_status(&dev.client.put("/shown/disk/g", b"x"), 405, "under the folder's prefix");
    assert_status(&dev.client.put("/shown/own", b"local"), 200, "elsewhere writes stay here");
    assert_eq!(dev.client.get("/shown/own").body, b"local");
    assert_status(&behind.client.get("/source/own"), 404, "the origin never learns of it");
    dev.stop();
    behind.stop();
}
