//! The plain lane, answer by answer.

use md5::{Digest as _, Md5};

use crate::http::Connection;
use crate::process::{Dev, assert_status, pattern};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

#[test]
fn what_went_in_comes_out_at_every_size() {
    let dev = Dev::with_bucket("sizes", &[]);
    // Around the borders of the data model: empty, inline, one chunk, several, and a few that fit nothing.
    let sizes =
        [0, 1, 4 * KIB, 16 * KIB - 1, 16 * KIB, 16 * KIB + 1, 64 * KIB, 262_080, 262_081, MIB, 5 * MIB + 7];
    for (seed, size) in sizes.into_iter().enumerate() {
        let body = pattern(size, seed as u64);
        let path = format!("/sizes/object-{size}");
        let put = dev.client.put(&path, &body);
        assert_status(&put, 200, &path);
        let got = dev.client.get(&path);
        assert_status(&got, 200, &path);
        assert!(got.body == body, "{path}: other bytes");
        assert_eq!(got.header("etag"), put.header("etag"));
        assert_eq!(got.header("accept-ranges"), Some("bytes"));
        let head = dev.client.send("HEAD", &path, &[], b"");
        assert_status(&head, 200, &path);
        assert_eq!(head.header("content-length"), Some(size.to_string().as_str()));
        assert_eq!(head.header("last-modified"), got.header("last-modified"));
    }
    dev.stop();
}

#[test]
fn ranges_and_conditions() {
    let dev = Dev::with_bucket("ranges", &[]);
    let body = pattern(700_000, 3);
    let put = dev.client.put("/ranges/a", &body);
    let etag = put.header("etag").expect("an ETag").to_owned();
    let modified = dev.client.get("/ranges/a").header("last-modified").expect("a time").to_owned();
    let range = |value: &str, status: u16, want: std::ops::Range<usize>| {
        let got = dev.client.send("GET", "/ranges/a", &[("range", value)], b"");
        assert_status(&got, status, value);
        assert!(got.body == body[want.clone()], "{value}: other bytes");
        if status == 206 {
            let content = format!("bytes {}-{}/{}", want.start, want.end - 1, body.len());
            assert_eq!(got.header("content-range"), Some(content.as_str()));
        }
    };
    range("bytes=0-9", 206, 0..10);
    range("bytes=262070-262090", 206, 262_070..262_091);
    range("bytes=-5", 206, body.len() - 5..body.len());
    range("bytes=699999-", 206, 699_999..700_000);
    range("bytes=5-9000000", 206, 5..body.len());
    range("bytes=9-5", 200, 0..body.len());
    range("bytes=0-1,5-6", 200, 0..body.len());
    for wrong in ["bytes=700000-", "bytes=-0"] {
        let got = dev.client.send("GET", "/ranges/a", &[("range", wrong)], b"");
        assert_status(&got, 416, wrong);
        assert_eq!(got.header("content-range"), Some("bytes */700000"));
        assert_eq!(got.code(), "InvalidRange");
    }
    let check = |method: &str, headers: &[(&str, &str)], status: u16| {
        assert_status(
            &dev.client.send(method, "/ranges/a", headers, b""),
            status,
            &format!("{method} {headers:?}"),
        );
    };
    const LONG_AGO: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    for method in ["GET", "HEAD"] {
        check(method, &[("if-none-match", &etag)], 304);
        check(method, &[("if-none-match", "\"other\"")], 200);
        check(method, &[("if-match", &etag)], 200);
        check(method, &[("if-match", "\"other\"")], 412);
        check(method, &[("if-modified-since", &modified)], 304);
        check(method, &[("if-modified-since", LONG_AGO)], 200);
        check(method, &[("if-unmodified-since", LONG_AGO)], 412);
    }
    check("GET", &[("range", "bytes=0-1"), ("if-range", &etag)], 206);
    check("GET", &[("range", "bytes=0-1"), ("if-range", "\"other\"")], 200);
    assert_status(&dev.client.send("PUT", "/ranges/a", &[("if-none-match", "*")], b"x"), 412, "create only");
    assert_status(&dev.client.send("PUT", "/ranges/a", &[("if-match", "\"other\"")], b"x"), 412, "stale");
    assert_status(&dev.client.send("PUT", "/ranges/a", &[("if-match", &etag)], b"x"), 200, "current");
    dev.stop();
}

#[test]
fn names_headers_and_metadata_come_back() {
    let dev = Dev::with_bucket("names", &[]);
    // Unicode, spaces, slashes, dots, plus, percent itself, and what a shell would hate.
    for path in [
        "/names/%C3%A4%E2%82%AC%F0%9F%A6%80",
        "/names/a%20b+c",
        "/names//",
        "/names/..",
        "/names/%2525",
        "/names/'%22%3C%26%3E;$(x)%5C",
    ] {
        assert_status(&dev.client.put(path, path.as_bytes()), 200, path);
    }
    for path in [
        "/names/%C3%A4%E2%82%AC%F0%9F%A6%80",
        "/names/a%20b+c",
        "/names//",
        "/names/..",
        "/names/%2525",
        "/names/'%22%3C%26%3E;$(x)%5C",
    ] {
        assert_eq!(dev.client.get(path).text(), path);
    }
    let names = dev.client.send("GET", "/names?list-type=2", &[("accept", "application/json")], b"").json();
    assert_eq!(names["keys"].as_array().map(Vec::len), Some(6), "{names}");
    assert_status(&dev.client.put("/names/a%00b", b"x"), 400, "NUL");
    assert_status(&dev.client.put("/names/%ff", b"x"), 400, "not UTF-8");
    assert_status(&dev.client.put(&format!("/names/{}", "k".repeat(1_025)), b"x"), 400, "too long");

    let given = [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-encoding", "gzip"),
        ("content-language", "de"),
        ("content-disposition", "attachment; filename=\"a.txt\""),
        ("cache-control", "max-age=60"),
        ("x-amz-meta-colour", "blue"),
        ("x-blobstore-meta-weight", "7 g"),
    ];
    assert_status(&dev.client.send("PUT", "/names/described", &given, b"x"), 200, "with headers");
    for method in ["GET", "HEAD"] {
        let got = dev.client.send(method, "/names/described", &[], b"");
        for (name, value) in given {
            assert_eq!(got.header(name), Some(value), "{method} {name}");
        }
        assert_eq!(got.header("x-blobstore-meta-colour"), Some("blue"));
        assert_eq!(got.header("x-amz-meta-weight"), Some("7 g"));
    }
    let plain = dev.client.get("/names/..");
    assert_eq!(plain.header("content-type"), Some("application/octet-stream"));
    dev.stop();
}

#[test]
fn uploads_of_every_framing_and_none_that_is_cut() {
    let dev = Dev::with_bucket("uploads", &[]);
    let bearer = dev.client.bearer();
    let body = pattern(600_000, 9);

    // Chunked, with pieces that fit no buffer.
    let mut connection = Connection::open(dev.client.address).expect("connect");
    connection
        .head("PUT", "/uploads/chunked", &[("authorization", &bearer), ("transfer-encoding", "chunked")])
        .expect("a header");
    for piece in body.chunks(77_777) {
        connection.write(format!("{:x}\r\n", piece.len()).as_bytes()).expect("a size");
        connection.write(piece).expect("a piece");
        connection.write(b"\r\n").expect("an end");
    }
    connection.write(b"0\r\n\r\n").expect("the end");
    assert_status(&connection.read_answer(false).expect("an answer"), 200, "chunked");
    // The same connection goes on.
    connection.head("GET", "/uploads/chunked", &[("authorization", &bearer)]).expect("a header");
    assert!(connection.read_answer(false).expect("an answer").body == body, "other bytes");

    // `100 Continue` comes after admission; a refusal comes instead of it.
    let length = body.len().to_string();
    let expect = |token: &str, path: &str| {
        let mut connection = Connection::open(dev.client.address).expect("connect");
        let headers =
            [("authorization", token), ("content-length", length.as_str()), ("expect", "100-continue")];
        connection.head("PUT", path, &headers).expect("a header");
        let first = connection.read_head().expect("an answer").status;
        (connection, first)
    };
    let (mut connection, first) = expect(&bearer, "/uploads/expected");
    assert_eq!(first, 100);
    connection.write(&body).expect("the body");
    assert_status(&connection.read_answer(false).expect("an answer"), 200, "expected");
    assert_eq!(expect("Bearer wrong", "/uploads/refused").1, 401);
    assert_eq!(expect(&bearer, "/nowhere/refused").1, 404);

    // Cut in the middle, declared or chunked: nothing is there, and nothing stays behind.
    for headers in [("content-length", "600000"), ("transfer-encoding", "chunked")] {
        let mut connection = Connection::open(dev.client.address).expect("connect");
        connection.head("PUT", "/uploads/cut", &[("authorization", &bearer), headers]).expect("a header");
        connection.write(b"493e0\r\n").expect("a size");
        connection.write(&body[..300_000]).expect("half");
        drop(connection);
    }
    crate::process::wait_for("the uploads have ended", || {
        dev.metric("blobstore_sidecar_requests_in_flight") == 0.0
    });
    assert_status(&dev.client.get("/uploads/cut"), 404, "half an upload");

    // Content-MD5 decides.
    let right = base64_of(&Md5::digest(&body));
    let wrong = base64_of(&Md5::digest(b"other"));
    assert_status(
        &dev.client.send("PUT", "/uploads/md5", &[("content-md5", &right)], &body),
        200,
        "right MD5",
    );
    let refused = dev.client.send("PUT", "/uploads/bad", &[("content-md5", &wrong)], &body);
    assert_status(&refused, 400, "wrong MD5");
    assert_eq!(refused.code(), "BadDigest");
    assert_status(&dev.client.get("/uploads/bad"), 404, "wrong MD5");
    assert_status(&dev.client.send("PUT", "/uploads/bad", &[("content-md5", "!")], b"x"), 400, "no MD5");
    dev.stop();
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn buckets_and_listings() {
    let dev = Dev::with_bucket("photos", &[]);
    assert_status(&dev.client.put("/photos", b""), 200, "again is fine");
    let only_new = dev.client.send("PUT", "/photos", &[("if-none-match", "*")], b"");
    assert_status(&only_new, 409, "the second to create it");
    assert_status(&dev.client.put("/-bad", b""), 400, "a name that cannot be");
    assert_status(&dev.client.send("HEAD", "/photos", &[], b""), 200, "there");
    assert_status(&dev.client.send("HEAD", "/nowhere", &[], b""), 404, "not there");
    let missing = dev.client.put("/nowhere/x", b"x");
    assert_status(&missing, 404, "no bucket is made on the way");
    assert_eq!(missing.code(), "NoSuchBucket");
    assert!(missing.text().contains("PUT /nowhere"), "says what to do: {}", missing.text());
    let all = dev.client.get("/");
    assert!(all.text().contains("<Name>photos</Name>"), "{}", all.text());

    for name in ["2025/a", "2025/b", "2026/a", "2026/x/y", "top"] {
        assert_status(&dev.client.put(&format!("/photos/{name}"), name.as_bytes()), 200, name);
    }
    let list = |query: &str| {
        let path = format!("/photos?list-type=2&{query}");
        let page = dev.client.send("GET", &path, &[("accept", "application/json")], b"");
        assert_status(&page, 200, query);
        page.json()
    };
    let keys = |page: &serde_json::Value| -> Vec<String> {
        let keys = page["keys"].as_array().expect("keys");
        keys.iter().map(|key| key["key"].as_str().expect("a key").to_owned()).collect()
    };
    assert_eq!(keys(&list("")), ["2025/a", "2025/b", "2026/a", "2026/x/y", "top"]);
    assert_eq!(keys(&list("prefix=2026/")), ["2026/a", "2026/x/y"]);
    assert_eq!(keys(&list("start-after=2025/b")), ["2026/a", "2026/x/y", "top"]);
    let folders = list("delimiter=/");
    assert_eq!(
        (keys(&folders), &folders["prefixes"]),
        (vec!["top".to_owned()], &serde_json::json!(["2025/", "2026/"]))
    );
    assert_eq!(list("max-keys=0")["keys"], serde_json::json!([]));

    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let page = list(&format!("max-keys=2{token}"));
        names.extend(keys(&page));
        match page["nextToken"].as_str() {
            Some(next) => token = format!("&continuation-token={next}"),
            None => break,
        }
        assert!(names.len() <= 5, "the listing goes in circles: {names:?}");
    }
    assert_eq!(names, ["2025/a", "2025/b", "2026/a", "2026/x/y", "top"]);
    let xml = dev.client.get("/photos?list-type=2&prefix=top");
    assert!(
        xml.text().contains("<Key>top</Key>") && xml.text().contains("<IsTruncated>false<"),
        "{}",
        xml.text()
    );
    assert_status(&dev.client.get("/photos?continuation-token=%25"), 400, "a token of nobody");
    assert_status(&dev.client.get("/nowhere?list-type=2"), 404, "no bucket");

    assert_status(&dev.client.send("DELETE", "/photos", &[], b""), 409, "not empty");
    for name in names {
        assert_status(&dev.client.send("DELETE", &format!("/photos/{name}"), &[], b""), 204, &name);
    }
    assert_status(&dev.client.send("DELETE", "/photos/top", &[], b""), 204, "again is fine");
    assert_status(&dev.client.get("/photos/top"), 404, "gone");
    assert_status(&dev.client.send("DELETE", "/photos", &[], b""), 204, "empty now");
    assert_status(&dev.client.get("/photos?list-type=2"), 404, "gone");
    dev.stop();
}

const USERS: &str = "
- name: reader
  token: reader-token
  rights:
  - {bucket: shared, prefix: public/, allow: [read, list]}
- name: writer
  accessKey: WRITER
  secretKey: writer-secret
  rights:
  - {bucket: shared, allow: [read, write, delete, list]}
";

#[test]
fn credentials_and_rights() {
    let folder = tempfile::tempdir().expect("a folder");
    let users = folder.path().join("users.yaml");
    std::fs::write(&users, USERS).expect("write the users");
    let dev = Dev::with_bucket("shared", &["--users", users.to_str().expect("a path")]);
    let check = |method: &str, path: &str, authorization: &str, status: u16| {
        let answer = dev.client.send(method, path, &[("authorization", authorization)], b"");
        assert_status(&answer, status, &format!("{method} {path} as {authorization}"));
    };
    let writer = format!("Basic {}", base64_of(b"WRITER:writer-secret"));
    check("PUT", "/shared/public/a", &writer, 200);
    check("GET", "/shared/public/a", "Bearer reader-token", 200);
    check("GET", "/shared?list-type=2&prefix=public/", "Bearer reader-token", 200);
    check("GET", "/shared?list-type=2", "Bearer reader-token", 403);
    check("PUT", "/shared/public/a", "Bearer reader-token", 403);
    check("GET", "/shared/private", "Bearer reader-token", 403);
    check("DELETE", "/shared", &writer, 403);
    check("GET", "/", &writer, 403);
    for wrong in ["Bearer nobody", "Basic nonsense", "Bearer "] {
        check("GET", "/shared/public/a", wrong, 401);
    }
    let nobody = crate::http::Client { token: None, ..dev.client.clone() };
    let refused = nobody.get("/shared/public/a");
    assert_status(&refused, 401, "without credentials");
    assert!(
        refused.header("www-authenticate").is_some() && refused.text().contains("Bearer"),
        "{}",
        refused.text()
    );
    dev.stop();
}

#[test]
fn a_signature_makes_it_s3_and_a_token_the_plain_lane() {
    let dev = Dev::start_as(&["--anonymous"]);
    let client = crate::http::Client { token: None, ..dev.client.clone() };
    let signature =
        "AWS4-HMAC-SHA256 Credential=A/20261121/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let signed = client.send("GET", "/b", &[("authorization", signature)], b"");
    assert!(signed.text().contains("<Error><Code>"), "{}", signed.text());
    let token = [("authorization", "Bearer x")];
    assert_status(&client.send("GET", "/abc?uploads", &token, b""), 501, "S3 needs a signature");
    assert_status(&client.put("/abc", b""), 200, "anonymous may all");
    assert_status(&client.put("/abc/key", b"x"), 200, "anonymous may all");
    dev.stop();
}
