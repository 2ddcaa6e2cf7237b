//! The plain lane's verbs beyond PUT and GET: copy, rename, new metadata.

use crate::http::Answer;
use crate::process::{Dev, assert_status, pattern};

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.header(name).unwrap_or_default()
}

/// R000-3: copy and rename.
#[test]
fn a_copy_is_the_same_and_a_rename_leaves_nothing_behind() {
    let dev = Dev::with_bucket("verbs", &[]);
    let client = &dev.client;
    let body = pattern(700_000, 1);
    let described = [("content-type", "text/x"), ("x-blobstore-meta-a", "1"), ("cache-control", "no-store")];
    assert_status(&client.send("PUT", "/verbs/a%20b", &described, &body), 200, "an object");
    let copy = client.send("PUT", "/verbs/copy", &[("x-blobstore-copy-from", "/verbs/a%20b")], b"");
    assert_status(&copy, 200, "a copy");
    for path in ["/verbs/a%20b", "/verbs/copy"] {
        let got = client.get(path);
        assert!(got.body == body, "{path}: other bytes");
        assert_eq!(
            (header(&got, "content-type"), header(&got, "x-blobstore-meta-a"), header(&got, "cache-control")),
            ("text/x", "1", "no-store"),
            "{path}"
        );
    }
    let rename = [("x-blobstore-rename-from", "verbs/copy"), ("if-none-match", "*")];
    assert_status(&client.send("PUT", "/verbs/new", &rename, b""), 200, "a rename");
    assert_status(&client.send("HEAD", "/verbs/copy", &[], b""), 404, "the source has gone");
    assert!(client.get("/verbs/new").body == body, "other bytes");
    let again = [("x-blobstore-rename-from", "verbs/a%20b"), ("if-none-match", "*")];
    assert_status(&client.send("PUT", "/verbs/new", &again, b""), 412, "there is one of that name");
    assert_status(&client.send("HEAD", "/verbs/a%20b", &[], b""), 200, "the source stays");
    let missing = [("x-blobstore-copy-from", "/verbs/none")];
    assert_status(&client.send("PUT", "/verbs/x", &missing, b""), 404, "no source");
    dev.stop();
}

/// R000-3: metadata, read and written.
#[test]
fn metadata_changes_and_the_bytes_stay() {
    let dev = Dev::with_bucket("described", &[]);
    let client = &dev.client;
    let body = pattern(300_000, 2);
    assert_status(
        &client.send("PUT", "/described/k", &[("x-blobstore-meta-a", "1")], &body),
        200,
        "an object",
    );
    let new = [("content-type", "image/png"), ("x-blobstore-meta-b", "2")];
    assert_status(&client.send("PATCH", "/described/k", &new, b""), 200, "new metadata");
    let got = client.get("/described/k");
    assert!(got.body == body, "other bytes");
    assert_eq!((header(&got, "content-type"), header(&got, "x-blobstore-meta-b")), ("image/png", "2"));
    assert_eq!(got.header("x-blobstore-meta-a"), None, "replaced, not merged");
    let wrong = [("if-match", "\"other\""), ("content-type", "text/x")];
    assert_status(&client.send("PATCH", "/described/k", &wrong, b""), 412, "not that one");
    assert_status(&client.send("PATCH", "/described/none", &[], b""), 404, "nothing to describe");
    dev.stop();
}
