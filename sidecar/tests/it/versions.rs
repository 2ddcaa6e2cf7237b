//! Versions over both lanes: what a bucket keeps, what an answer tells of it, and what a deletion does.

use crate::http::Answer;
use crate::process::{Dev, assert_status, pattern};
use crate::signer::{element, signed};

const ENABLED: &[u8] = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
const SUSPENDED: &[u8] = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";

fn version(answer: &Answer) -> String {
    answer.header("x-amz-version-id").expect("a version").to_owned()
}

fn check(answer: &Answer, status: u16, code: &str) {
    assert_status(answer, status, code);
    assert_eq!(element(answer, "Code").as_deref(), Some(code), "{}", answer.text());
}

#[test]
fn a_bucket_keeps_versions_and_both_lanes_show_them() {
    let dev = Dev::start(&[]);
    let s3 = |method, path: &str, body: &[u8]| signed(&dev.client, method, path, body);
    assert_status(&s3("PUT", "/kept", b""), 200, "a bucket");
    assert_status(&s3("PUT", "/kept/a", b"before"), 200, "an object");
    assert_eq!(s3("GET", "/kept/a", b"").header("x-amz-version-id"), None);
    assert_eq!(element(&s3("GET", "/kept?versioning", b""), "Status"), None);
    assert_status(&s3("PUT", "/kept?versioning", ENABLED), 200, "enabled");
    assert_eq!(element(&s3("GET", "/kept?versioning", b""), "Status").as_deref(), Some("Enabled"));
    assert_eq!(version(&s3("GET", "/kept/a", b"")), "null");

    let body = pattern(700_000, 1);
    let second = version(&s3("PUT", "/kept/a", &body));
    assert_eq!(s3("GET", "/kept/a?versionId=null", b"").body, b"before");
    let plain = dev.client.get(&format!("/kept/a?versionId={second}"));
    assert!(plain.body == body && version(&plain) == second, "the plain lane reads a version, too");
    check(&s3("GET", &format!("/kept/a?versionId={}", "0".repeat(32)), b""), 404, "NoSuchVersion");
    check(&s3("GET", "/kept/a?versionId=nonsense", b""), 400, "InvalidArgument");

    let gone = s3("DELETE", "/kept/a", b"");
    let marker = version(&gone);
    assert_eq!((gone.status, gone.header("x-amz-delete-marker")), (204, Some("true")));
    let hidden = s3("GET", "/kept/a", b"");
    check(&hidden, 404, "NoSuchKey");
    assert_eq!(hidden.header("x-amz-delete-marker"), Some("true"));
    assert_eq!(version(&hidden), marker);
    let asked = s3("GET", &format!("/kept/a?versionId={marker}"), b"");
    check(&asked, 405, "MethodNotAllowed");
    assert_eq!((asked.header("allow"), asked.header("x-amz-delete-marker")), (Some("DELETE"), Some("true")));
    assert!(asked.header("last-modified").is_some());
    assert!(!s3("GET", "/kept?list-type=2", b"").text().contains("<Key>"), "it is not listed");
    check(&s3("DELETE", "/kept", b""), 409, "BucketNotEmpty");

    let listed = s3("GET", "/kept?versions", b"").text();
    assert_eq!((listed.matches("<Version>").count(), listed.matches("<DeleteMarker>").count()), (2, 1));
    assert_eq!(listed.matches("<IsLatest>true</IsLatest>").count(), 1, "{listed}");
    let removed = dev.client.send("DELETE", &format!("/kept/a?versionId={marker}"), &[], b"");
    assert_eq!((removed.status, removed.header("x-amz-delete-marker")), (204, Some("true")));
    assert!(s3("GET", "/kept/a", b"").body == body, "back again");
    for id in [second.as_str(), "null"] {
        assert_status(&s3("DELETE", &format!("/kept/a?versionId={id}"), b""), 204, id);
    }
    assert_status(&s3("DELETE", "/kept", b""), 204, "empty");
    dev.stop();
}

#[test]
fn what_versioning_cannot_be_is_refused() {
    let dev = Dev::start(&[]);
    let s3 = |method, path: &str, body: &[u8]| signed(&dev.client, method, path, body);
    check(&s3("PUT", "/nowhere?versioning", ENABLED), 404, "NoSuchBucket");
    assert_status(&s3("PUT", "/state", b""), 200, "a bucket");
    let mfa = b"<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>\
                </VersioningConfiguration>";
    check(&s3("PUT", "/state?versioning", mfa), 501, "NotImplemented");
    let none = b"<VersioningConfiguration></VersioningConfiguration>";
    check(&s3("PUT", "/state?versioning", none), 400, "IllegalVersioningConfigurationException");
    assert_status(&s3("PUT", "/state?versioning", SUSPENDED), 200, "suspended at once");
    assert_eq!(version(&s3("PUT", "/state/a", b"one")), "null");
    check(&s3("GET", "/state?versions&version-id-marker=null", b""), 400, "InvalidArgument");
    dev.stop();
}
