//! Requests' lines, and the operations that they name.

use blobstore_sidecar_core::list::PAGE_ITEMS_MAX;

use super::*;

fn check(method: Method, uri: &str, want: Result<&str, (u16, &str)>) {
    let uri: Uri = uri.parse().expect("a URI");
    let got = operation(&method, &uri, &HeaderMap::new());
    let got = match &got {
        Ok(operation) => Ok(format!("{operation:?}")),
        Err(error) => Err((error.status.as_u16(), error.code)),
    };
    match want {
        Ok(want) => assert_eq!(got.as_deref(), Ok(want), "{method} {uri}"),
        Err(want) => assert_eq!(got.as_ref().map(String::as_str), Err(&want), "{method} {uri}"),
    }
}

#[test]
fn paths_name_operations() {
    check(Method::GET, "/", Ok("ListBuckets"));
    check(Method::PUT, "/abc", Ok("CreateBucket { bucket: BucketName(\"abc\") }"));
    check(Method::PUT, "/abc/", Ok("CreateBucket { bucket: BucketName(\"abc\") }"));
    check(Method::GET, "/abc/d/e", Ok("Get { bucket: BucketName(\"abc\"), name: ObjectName(\"d/e\") }"));
    check(
        Method::PUT,
        "/abc/%C3%A4%20%2F+%3F",
        Ok("Put { bucket: BucketName(\"abc\"), name: ObjectName(\"ä /+?\") }"),
    );
    check(Method::PUT, "/abc//", Ok("Put { bucket: BucketName(\"abc\"), name: ObjectName(\"/\") }"));
    check(Method::DELETE, "/abc/..", Ok("Delete { bucket: BucketName(\"abc\"), name: ObjectName(\"..\") }"));
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    check(Method::PUT, "/abc/a%00b", Err((400, "InvalidArgument")));
    check(Method::PUT, "/abc/%ff", Err((400, "InvalidURI")));
    check(Method::PUT, "/-b/x", Err((400, "InvalidBucketName")));
    check(Method::PUT, &format!("/abc/{}", "k".repeat(1_025)), Err((400, "KeyTooLongError")));
    check(Method::POST, "/abc/x", Err((405, "MethodNotAllowed")));
    check(Method::POST, "/abc", Err((405, "MethodNotAllowed")));
    check(Method::POST, "/abc?bulk=x", Err((400, "InvalidArgument")));
    check(Method::GET, "/abc?max-keys=x", Err((400, "InvalidArgument")));
}

#[test]
fn s3_is_told_apart() {
    check(Method::GET, "/abc?uploads", Err((501, "NotImplemented")));
    check(Method::PUT, "/abc/x?partNumber=1&uploadId=u", Err((501, "NotImplemented")));
    check(Method::GET, "/abc/x?X-Amz-Signature=0", Err((501, "NotImplemented")));
}

#[test]
fn listings_are_clamped() {
    let uri: Uri = "/abc?list-type=2&prefix=a%2Fb&max-keys=5000&delimiter=/".parse().expect("a URI");
    let Ok(Operation::List { query, .. }) = operation(&Method::GET, &uri, &HeaderMap::new()) else {
        panic!("not a listing");
    };
    assert_eq!((query.prefix.as_str(), query.keys_max), ("a/b", PAGE_ITEMS_MAX));
    assert_eq!(query.delimiter.as_deref(), Some("/"));
}

#[test]
fn patterns_narrow_listings() {
    let query = |text: &str| {
        let uri: Uri = format!("/abc?{text}").parse().expect("a URI");
        match operation(&Method::GET, &uri, &HeaderMap::new()) {
            Ok(Operation::List { query, .. }) => Ok(query.reach().map(str::to_owned)),
            other => Err(other.expect_err("a listing or a refusal").status.as_u16()),
        }
    };
    assert_eq!(query("prefix=a%2F"), Ok(Some("a/".to_owned())));
    assert_eq!(query("pattern=a%2F*.txt"), Ok(Some("a/".to_owned())));
    assert_eq!(query("pattern=a%2F*.txt&prefix=a%2Fb"), Ok(Some("a/b".to_owned())));
    assert_eq!(query("pattern=a%2F*&prefix=b"), Ok(None));
    for wrong in ["pattern=", "pattern=%5Ba", "pattern=a*&delimiter=/", "pattern=%5B%C3%A4%5D"] {
        assert_eq!(query(wrong), Err(400), "{wrong}");
    }
}

/// What a script sends whose variable is empty, or who types it wrong, deletes nothing.
#[test]
fn a_deletion_of_many_says_what_it_means() {
    for good in [
        "prefix=a",
        "pattern=a*",
        "pattern=*.txt",
        "prefix=a&pattern=*",
        "prefix=a&dry-run",
        "prefix=a&dry-run=false",
    ] {
        let uri: Uri = format!("/abc?{good}").parse().expect("a URI");
        let read = operation(&Method::DELETE, &uri, &HeaderMap::new()).expect(good);
        let Operation::Bulk { bulk: Bulk::Found { dry_run, .. }, .. } = read else { panic!("{read:?}") };
        assert_eq!(dry_run, good.ends_with("dry-run"), "{good}");
    }
    for wrong in [
        "prefix=",
        "prefix",
        "pattern=",
        "pattern=*",
        "pattern=%3F*",
        "pattern=[a-z]*",
        "prefix=&pattern=a*",
        "prefix=a&pattern=",
        "prefix=a&prefix=b",
        "prefx=a",
        "prefix=a&max-keys=1",
        "prefix=a&delimiter=/",
        "prefix=a&start-after=b",
        "prefix=a&continuation-token=",
        "prefix=a&dry-run=maybe",
        "dry-run",
        "continuation-token=n61",
    ] {
        check(Method::DELETE, &format!("/abc?{wrong}"), Err((400, "InvalidArgument")));
    }
}

#[test]
fn many_objects_are_one_request() {
    let bulk = |kind: &str| format!("Bulk {{ bucket: BucketName(\"abc\"), bulk: {kind} }}");
    check(Method::POST, "/abc?bulk=delete", Ok(&bulk("Delete")));
    check(Method::POST, "/abc?bulk=upload&prefix=a%2F", Ok(&bulk("Upload { prefix: \"a/\" }")));
}
