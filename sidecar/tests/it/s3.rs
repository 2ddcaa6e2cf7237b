//! S3 over the wire, signed by hand: what client libraries never send, and every way in which a body may lie.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::http::{Answer, Client, Connection};
use crate::process::{Dev, assert_status, pattern};
use crate::signer::{Signed, element, sha256, signed};

fn check(answer: &Answer, status: u16, code: &str) {
    assert_status(answer, status, code);
    assert_eq!(element(answer, "Code").as_deref(), Some(code), "{}", answer.text());
    assert!(answer.header("x-amz-request-id").is_some(), "{:?}", answer.headers);
}

#[test]
fn a_signature_opens_and_a_wrong_one_does_not() {
    let dev = Dev::start(&[]);
    assert_status(&signed(&dev.client, "PUT", "/signed", b""), 200, "a bucket");
    assert_status(&signed(&dev.client, "PUT", "/signed/a%20b/%C3%A4", b"bytes"), 200, "an object");
    let got = signed(&dev.client, "GET", "/signed/a%20b/%C3%A4", b"");
    assert_eq!((got.status, got.body.as_slice()), (200, &b"bytes"[..]));
    assert_eq!(got.header("etag"), Some("\"4b3a6218bb3e3a7303e8a171a60fcf92\""));
    assert_eq!(dev.client.get("/signed/a%20b/%C3%A4").body, b"bytes", "the plain lane sees the same");

    let mut forged = Signed::new("GET", "/signed/a", &sha256(b""), &[]);
    forged.signature = "0".repeat(64);
    check(&forged.send(&dev.client, b""), 403, "SignatureDoesNotMatch");
    // The hash of another body: seen at the end of the body, and nothing is stored.
    let lying = Signed::new("PUT", "/signed/lie", &sha256(b"other"), &[]);
    check(&lying.send(&dev.client, &pattern(400_000, 1)), 400, "XAmzContentSHA256Mismatch");
    check(&signed(&dev.client, "GET", "/signed/lie", b""), 404, "NoSuchKey");
    dev.stop();
}

#[test]
fn signed_chunks_are_verified_one_by_one() {
    let dev = Dev::start(&[]);
    assert_status(&signed(&dev.client, "PUT", "/chunks", b""), 200, "a bucket");
    let body = pattern(200_000, 3);
    let length = body.len().to_string();
    let headers = [("x-amz-decoded-content-length", length.as_str()), ("content-encoding", "aws-chunked")];
    let request = |path: &str| Signed::new("PUT", path, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", &headers);
    let framed = |request: &Signed, bytes: &[u8]| {
        let mut previous = request.signature.clone();
        let mut out = Vec::new();
        for chunk in bytes.chunks(65_536) {
            out.extend(request.chunk(&mut previous, chunk));
        }
        out.extend(request.chunk(&mut previous, b""));
        out
    };
    let good = request("/chunks/good");
    assert_status(&good.send(&dev.client, &framed(&good, &body)), 200, "signed chunks");
    let got = signed(&dev.client, "GET", "/chunks/good", b"");
    assert!(got.body == body, "other bytes");
    assert_eq!(got.header("content-encoding"), None, "the framing is not the object's encoding");

    let bad = request("/chunks/bad");
    let mut forged = framed(&bad, &body);
    let at = forged.len() / 2;
    forged[at] ^= 1;
    check(&bad.send(&dev.client, &forged), 403, "SignatureDoesNotMatch");
    check(&signed(&dev.client, "GET", "/chunks/bad", b""), 404, "NoSuchKey");

    // A single chunk would have to be held whole until its signature is known.
    let big = pattern(1_100_000, 4);
    let length = big.len().to_string();
    let headers = [("x-amz-decoded-content-length", length.as_str())];
    let large = Signed::new("PUT", "/chunks/large", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", &headers);
    let mut previous = large.signature.clone();
    let framed = [large.chunk(&mut previous, &big), large.chunk(&mut previous, b"")].concat();
    check(&large.send(&dev.client, &framed), 400, "EntityTooLarge");
    dev.stop();
}

#[test]
fn checksums_in_trailers_are_verified_before_anything_is_stored() {
    let dev = Dev::start(&[]);
    assert_status(&signed(&dev.client, "PUT", "/trailers", b""), 200, "a bucket");
    let body = pattern(700_000, 5);
    let sum = STANDARD.encode(crc_fast_crc32(&body).to_be_bytes());
    let put = |path: &str, trailer: &str| {
        let length = body.len().to_string();
        let headers =
            [("x-amz-decoded-content-length", length.as_str()), ("x-amz-trailer", "x-amz-checksum-crc32")];
        let request = Signed::new("PUT", path, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", &headers);
        let mut framed = format!("{:x}\r\n", body.len()).into_bytes();
        framed.extend_from_slice(&body);
        framed.extend_from_slice(format!("\r\n0\r\n{trailer}\r\n\r\n").as_bytes());
        request.send(&dev.client, &framed)
    };
    let good = put("/trailers/good", &format!("x-amz-checksum-crc32:{sum}"));
    assert_status(&good, 200, "a sum that holds");
    assert_eq!(good.header("x-amz-checksum-crc32"), Some(sum.as_str()));
    assert!(signed(&dev.client, "GET", "/trailers/good", b"").body == body, "other bytes");
    check(&put("/trailers/bad", "x-amz-checksum-crc32:AAAAAA=="), 400, "BadDigest");
    check(&put("/trailers/none", "x-amz-checksum-crc32c:AAAAAA=="), 400, "MalformedTrailerError");
    check(&put("/trailers/odd", "x-amz-checksum-crc32:AAAA"), 400, "InvalidRequest");
    for path in ["/trailers/bad", "/trailers/none", "/trailers/odd"] {
        check(&signed(&dev.client, "GET", path, b""), 404, "NoSuchKey");
    }
    dev.stop();
}

fn crc_fast_crc32(bytes: &[u8]) -> u32 {
    // Bit by bit: a second implementation to compare with.
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

const USERS: &str = "
- name: reader
  keys: [{accessKey: test, secretKey: test-secret}, {accessKey: next, secretKey: next-secret}]
  rights: [{bucket: shared, prefix: public/, allow: [read, list]}]
- name: boss
  token: boss-token
  rights: [{bucket: '*', allow: [admin]}]
";

/// Rights per bucket and prefix, and two keys of one user at once.
#[test]
fn rights_end_at_bucket_and_prefix() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("users.yaml");
    std::fs::write(&file, USERS).expect("the users file");
    let dev = Dev::start_as(&["--users", file.to_str().expect("a path")]);
    let boss = Client { token: Some("boss-token".to_owned()), ..dev.client.clone() };
    for path in ["/shared", "/shared/public/a", "/shared/private/a", "/other"] {
        assert_status(&boss.put(path, b"x"), 200, path);
    }
    assert_status(&signed(&dev.client, "GET", "/shared/public/a", b""), 200, "read");
    assert_status(&signed(&dev.client, "GET", "/shared?list-type=2&prefix=public%2F", b""), 200, "list");
    for (method, path) in [
        ("GET", "/shared/private/a"),
        ("GET", "/shared?list-type=2"),
        ("GET", "/shared?list-type=2&prefix="),
        ("PUT", "/shared/public/a"),
        ("DELETE", "/shared/public/a"),
        ("DELETE", "/shared"),
        ("PUT", "/new-bucket"),
        ("GET", "/shared?policy"),
    ] {
        check(&signed(&dev.client, method, path, b""), 403, "AccessDenied");
    }
    let document = b"<Delete><Object><Key>public/a</Key></Object></Delete>";
    let refused = signed(&dev.client, "POST", "/shared?delete", document);
    assert_status(&refused, 200, "an answer per key");
    assert_eq!(element(&refused, "Code").as_deref(), Some("AccessDenied"), "{}", refused.text());
    let buckets = signed(&dev.client, "GET", "/", b"");
    assert!(buckets.text().contains("shared") && !buckets.text().contains("other"), "{}", buckets.text());
    dev.stop();
}

#[test]
fn without_a_signature_s3_is_closed_unless_all_is_open() {
    let closed = Dev::start(&[]);
    let stranger = Client { token: None, ..closed.client.clone() };
    check(&stranger.send("GET", "/b/k", &[("amz-sdk-request", "attempt=1")], b""), 403, "AccessDenied");
    check(&stranger.get("/b?versioning"), 403, "AccessDenied");
    closed.stop();
    let open = Dev::start_as(&["--anonymous"]);
    let anyone = Client { token: None, ..open.client.clone() };
    let marked = [("x-amz-acl", "private")];
    assert_status(&anyone.send("PUT", "/open", &[], b""), 200, "a bucket");
    assert_status(&anyone.send("PUT", "/open/k", &marked, b"x"), 200, "an object");
    let version = anyone.get("/open?versioning");
    assert!(version.text().contains("VersioningConfiguration"), "{}", version.text());
    check(&anyone.get("/open?inventory&id=1"), 501, "NotImplemented");
    open.stop();
}

#[test]
fn signed_chunks_may_end_in_a_signed_trailer() {
    let dev = Dev::with_bucket("chunks", &[]);
    let body = pattern(100_000, 3);
    let length = body.len().to_string();
    let put = |path: &str, spoil: fn(&mut Vec<u8>), sum: &str| {
        let payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
        let more = [
            ("content-encoding", "aws-chunked"),
            ("x-amz-decoded-content-length", length.as_str()),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ];
        let signed = Signed::new("PUT", path, payload, &more);
        let mut previous = signed.signature.clone();
        let mut wire = Vec::new();
        for chunk in body.chunks(40_000) {
            wire.extend(signed.chunk(&mut previous, chunk));
        }
        let mut last = signed.chunk(&mut previous, b"");
        last.truncate(last.len() - 2);
        wire.extend(last);
        wire.extend(signed.trailer(&previous, "x-amz-checksum-crc32", sum));
        spoil(&mut wire);
        signed.send(&dev.client, &wire)
    };
    let sum = STANDARD.encode(crc_fast_crc32(&body).to_be_bytes());
    let stored = put("/chunks/good", |_| {}, &sum);
    assert_status(&stored, 200, "all of it holds");
    assert_eq!(stored.header("x-amz-checksum-crc32"), Some(sum.as_str()));
    assert!(dev.client.get("/chunks/good").body == body);
    check(&put("/chunks/sum", |_| {}, "AAAAAA=="), 400, "BadDigest");
    let forged = put(
        "/chunks/forged",
        |wire| {
            let at = wire.len() - 6;
            wire[at] = if wire[at] == b'0' { b'1' } else { b'0' };
        },
        &sum,
    );
    check(&forged, 403, "SignatureDoesNotMatch");
    for path in ["/chunks/sum", "/chunks/forged"] {
        assert_eq!(dev.client.get(path).status, 404, "{path} was stored");
    }
    dev.stop();
}

/// Otherwise the next request of a client that waits for leave to send would be read as the body that never came.
#[test]
fn a_refusal_before_the_body_ends_the_connection() {
    let dev = Dev::with_bucket("waiting", &[]);
    assert_status(&dev.client.put("/waiting/k", b"x"), 200, "an object");
    let mut connection = Connection::open(dev.client.address).expect("a connection");
    let bearer = dev.client.bearer();
    let headers = [
        ("authorization", bearer.as_str()),
        ("expect", "100-continue"),
        ("if-none-match", "*"),
        ("content-length", "1"),
    ];
    connection.head("PUT", "/waiting/k", &headers).expect("a header");
    let refused = connection.read_answer(false).expect("an answer");
    assert_eq!((refused.status, refused.header("connection")), (412, Some("close")));
    assert!(connection.closed());
    dev.stop();
}
