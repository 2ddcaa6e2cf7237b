//! Simple requests of S3 take a shorter way than others. Nobody can tell from the answers.

use crate::http::{Answer, Client};
use crate::process::{Dev, assert_status, pattern};
use crate::signer::{Signed, signed};

/// A header that nobody knows sends a request the long way, and changes nothing about it.
const LONG: (&str, &str) = ("x-long", "way");
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// What a client sees, but for what is another with every request.
fn seen(answer: &Answer) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let own = ["date", "last-modified", "x-amz-request-id", "x-amz-id-2", "x-amz-version-id"];
    let mut headers: Vec<_> =
        answer.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
    for (name, value) in &mut headers {
        // An opaque ETag is another with every upload.
        if own.contains(&name.as_str()) || (name == "etag" && value.ends_with("-1\"")) {
            value.clear();
        }
    }
    headers.sort();
    let text = answer.text();
    let body = match text.split_once("<RequestId>") {
        // The ids are as long as each other.
        Some((document, _)) => document.as_bytes().to_vec(),
        None => answer.body.clone(),
    };
    (answer.status, headers, body)
}

/// Sent both ways, presigned and signed in the headers. The short way's presigned answer, and the other. An URL that was
/// signed without them takes none of Amazon's headers.
fn both_ways(
    client: &Client,
    method: &'static str,
    path: &str,
    more: &[(&str, &str)],
    body: &[u8],
) -> (Answer, Answer) {
    let url = Signed::presigned(method, path);
    let plain: Vec<_> = more.iter().copied().filter(|(name, _)| !name.starts_with("x-amz-")).collect();
    let by_url = client.send(method, &url, &plain, body);
    let long = client.send(method, &url, &[plain.as_slice(), &[LONG]].concat(), body);
    assert_eq!(seen(&by_url), seen(&long), "{method} {path} {more:?}");
    let by_header = Signed::new(method, path, UNSIGNED, more).send(client, body);
    let long = Signed::new(method, path, UNSIGNED, &[more, &[LONG]].concat()).send(client, body);
    assert_eq!(seen(&by_header), seen(&long), "{method} {path} {more:?} by header");
    (by_url, by_header)
}

#[test]
fn simple_requests_are_answered_like_all_others() {
    let dev = Dev::start(&[]);
    let client = &Client::new(dev.client.address, "");
    for bucket in ["/both", "/kept"] {
        assert_status(&signed(client, "PUT", bucket, b""), 200, "a bucket");
    }
    let versioning = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_status(&signed(client, "PUT", "/kept?versioning", versioning), 200, "versions");
    let lifecycle = b"<LifecycleConfiguration><Rule><ID>day</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>\
        <Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>";
    assert_status(&signed(client, "PUT", "/kept?lifecycle", lifecycle), 200, "a rule");
    for bucket in ["both", "kept"] {
        for (key, size) in [("a", 3), ("empty", 0), ("folder/%C3%A4%20b%2B", 70_000), ("large", 9 << 20)] {
            let path = format!("/{bucket}/{key}");
            let described = [("content-type", "text/plain"), ("cache-control", "no-store")];
            let body = pattern(size, 7);
            let (answer, _) =
                both_ways(client, "PUT", &path, if size == 3 { &described } else { &[] }, &body);
            assert_status(&answer, 200, key);
            assert_eq!(answer.header("x-amz-version-id").is_some(), bucket == "kept");
            for checksums in [&[][..], &[("x-amz-checksum-mode", "ENABLED")]] {
                let (by_url, by_header) = both_ways(client, "GET", &path, checksums, b"");
                for answer in [&by_url, &by_header] {
                    assert_status(answer, 200, key);
                    assert!(answer.body == body, "{key}: other bytes");
                }
                let sum = by_header.header("x-amz-checksum-crc64nvme");
                assert_eq!(sum.is_some(), !checksums.is_empty(), "{key}");
            }
        }
    }
    let meta = [("x-amz-meta-color", "blue")];
    let (_, by_header) = both_ways(client, "PUT", "/both/meta", &meta, b"1");
    assert_status(&by_header, 200, "metadata");
    let (answer, _) = both_ways(client, "GET", "/both/meta", &[], b"");
    assert_eq!(answer.header("x-amz-meta-color"), Some("blue"));
    dev.stop();
}

#[test]
fn simple_requests_are_refused_like_all_others() {
    let dev = Dev::start(&[]);
    let client = &Client::new(dev.client.address, "");
    assert_status(&signed(client, "PUT", "/both", b""), 200, "a bucket");
    let long = format!("/both/{}", "k".repeat(1_025));
    for (method, path, status) in [
        ("GET", "/both/nothing", 404),
        ("GET", "/nowhere/a", 404),
        ("PUT", "/nowhere/a", 404),
        ("PUT", long.as_str(), 400),
        ("GET", "/B_/a", 400),
        ("GET", "/both/%00", 400),
    ] {
        let body: &[u8] = if method == "PUT" { b"1" } else { b"" };
        assert_status(&both_ways(client, method, path, &[], body).0, status, path);
    }
    let tampered = Signed::presigned("GET", "/both/a").replace("/both/a", "/both/b");
    let answer = client.send("GET", &tampered, &[], b"");
    assert!(answer.status == 403 && answer.text().contains("SignatureDoesNotMatch"), "{}", answer.text());
    let unsigned = client.send("GET", &Signed::presigned("GET", "/both/a"), &[("x-amz-meta-a", "b")], b"");
    assert!(unsigned.status == 403 && unsigned.text().contains("not signed"), "{}", unsigned.text());
    let policy = br#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:PutObject",
        "Resource":"arn:aws:s3:::both/closed/*"},{"Effect":"Deny","Principal":"*","Action":"s3:GetObject",
        "Resource":"arn:aws:s3:::both/*","Condition":{"StringEquals":{"s3:authType":"REST-QUERY-STRING"}}}]}"#;
    assert_status(&signed(client, "PUT", "/both?policy", policy), 204, "a policy");
    assert_status(&both_ways(client, "PUT", "/both/closed/a", &[], b"1").0, 403, "denied");
    assert_status(&both_ways(client, "PUT", "/both/open", &[], b"1").0, 200, "not denied");
    assert_status(
        &both_ways(client, "GET", "/both/open", &[], b"").0,
        403,
        "denied by its signature's place",
    );
    assert_status(&Signed::new("GET", "/both/open", UNSIGNED, &[]).send(client, b""), 200, "not denied");
    dev.stop();
}
