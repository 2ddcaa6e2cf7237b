//! What a refusal was about, element by element: clients and people read the bucket, the key or the argument there.

use std::fmt::Write as _;

use blobstore_sidecar_core::key::NAME_BYTES_MAX;
use http::header::{CONTENT_RANGE, HeaderValue};
use http::{HeaderMap, Method, Uri};
use percent_encoding::percent_decode_str;

use crate::route;
use crate::xml::escape_into;

/// Headers that a refusal may be about.
const KEPT: [&str; 14] = [
    AUTHORIZATION,
    "range",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "x-amz-copy-source-if-match",
    "x-amz-date",
    "content-md5",
    "x-amz-content-sha256",
    "x-amz-copy-source",
    "x-amz-copy-source-range",
    "x-amz-metadata-directive",
    "x-amz-tagging-directive",
    "x-amz-object-attributes",
];
const AUTHORIZATION: &str = "authorization";
/// Codes about a bucket as a whole.
const OF_BUCKETS: &[&str] = &[
    "NoSuchBucket",
    "BucketNotEmpty",
    "BucketAlreadyOwnedByYou",
    "InvalidBucketName",
    "NoSuchBucketPolicy",
    "NoSuchCORSConfiguration",
    "NoSuchLifecycleConfiguration",
    "NoSuchWebsiteConfiguration",
    "NoSuchPublicAccessBlockConfiguration",
    "NoSuchTagSet",
    "ObjectLockConfigurationNotFoundError",
    "ReplicationConfigurationNotFoundError",
    "ServerSideEncryptionConfigurationNotFoundError",
];
/// What an invalid argument is called, by what is said of it.
const ARGUMENTS: &[(&str, &str)] = &[
    ("Authorization header is invalid", "Authorization"),
    ("Unsupported Authorization Type", "Authorization"),
    ("x-amz-content-sha256 must be", "x-amz-content-sha256"),
    ("Part number must be", "partNumber"),
    ("This operation does not accept partNumber", "partNumber"),
    ("Version id cannot be", "versionId"),
    ("Invalid version id", "versionId"),
    ("Unknown metadata directive", "x-amz-metadata-directive"),
    ("Unknown tagging directive", "x-amz-tagging-directive"),
    ("Invalid attribute name", "x-amz-object-attributes"),
    ("The x-amz-copy-source-range value", "x-amz-copy-source-range"),
    ("Range specified is not valid", "x-amz-copy-source-range"),
    ("Copy Source must mention", "x-amz-copy-source"),
    ("You can only specify a copy source", "x-amz-copy-source"),
    ("The continuation token", "continuation-token"),
    ("Invalid Encoding Method", "encoding-type"),
    ("Invalid uploadId marker", "upload-id-marker"),
    ("Argument max-buckets", "max-buckets"),
    ("PartNumber must be", "PartNumber"),
];
/// How far a clock may be off, as AWS says it.
const SKEW_MS_MAX: u32 = 900_000;

/// The request that is refused, as far as a refusal may tell of it. Values are shared, not copied.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// The bucket, where the host names it.
    hosted: Option<String>,
    headers: [Option<HeaderValue>; KEPT.len()],
}

impl About {
    pub(super) fn of(method: &Method, uri: &Uri, headers: &HeaderMap, hosted: Option<String>) -> Self {
        let headers = KEPT.map(|name| headers.get(name).cloned());
        Self { method: method.clone(), uri: uri.clone(), hosted, headers }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let at = KEPT.iter().position(|known| *known == name)?;
        self.headers.get(at)?.as_ref()?.to_str().ok()
    }

    fn parameter(&self, name: &str) -> Option<String> {
        let parameters = route::parameters(self.uri.query().unwrap_or_default()).unwrap_or_default();
        parameters.into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Bucket and key; empty, where the request names none.
    fn place(&self) -> (String, String) {
        let path = self.uri.path().trim_start_matches('/');
        let (bucket, key) = match &self.hosted {
            Some(bucket) => (bucket.as_str(), self.uri.path().strip_prefix('/').unwrap_or_default()),
            None => path.split_once('/').unwrap_or((path, "")),
        };
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        (decoded(bucket), decoded(key))
    }

    /// The key that signed, and the signature.
    fn signature(&self) -> (Option<String>, Option<String>) {
        let Some(text) = self.header(AUTHORIZATION) else {
            let key = self.parameter("AWSAccessKeyId");
            let credential = self.parameter("X-Amz-Credential");
            let key = key.or_else(|| Some(credential?.split('/').next()?.to_owned()));
            return (key, self.parameter("X-Amz-Signature").or_else(|| self.parameter("Signature")));
        };
        if let Some((key, signature)) = text.strip_prefix("AWS ").and_then(|pair| pair.split_once(':')) {
            return (Some(key.to_owned()), Some(signature.to_owned()));
        }
        let field = |name: &str| {
            let mut fields = text.split([',', ' ']).filter_map(|field| field.trim().split_once('='));
            fields.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
        };
        let key = field("Credential").and_then(|scope| Some(scope.rsplitn(5, '/').nth(4)?.to_owned()));
        (key, field("Signature"))
    }

    /// Headers of S3's own that the signature does not cover: those of them that are kept.
    fn unsigned(&self) -> Option<String> {
        let text = self.header(AUTHORIZATION)?;
        let (_, signed) = text.split_once("SignedHeaders=")?;
        let signed: Vec<&str> = signed.split(',').next().unwrap_or_default().split(';').collect();
        let names = KEPT.iter().filter(|name| name.starts_with("x-amz-") && self.header(name).is_some());
        let names: Vec<&str> = names.filter(|name| !signed.contains(name)).copied().collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

/// The elements of a refusal with this code and sentence. `answer`: its headers.
pub(super) fn elements(code: &str, message: &str, about: &About, answer: &HeaderMap) -> String {
    let mut out = String::new();
    for (name, value) in particulars(code, message, about, answer) {
        if let Some(value) = value {
            let _ = write!(out, "<{name}>");
            escape_into(&mut out, &value);
            let _ = write!(out, "</{name}>");
        }
    }
    out
}

type Particulars = Vec<(&'static str, Option<String>)>;

fn particulars(code: &str, message: &str, about: &About, answer: &HeaderMap) -> Particulars {
    let (bucket, key) = about.place();
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let now = || Some(format!("{:.0}", jiff::Timestamp::now()));
    match code {
        _ if OF_BUCKETS.contains(&code) => vec![("BucketName", some(bucket))],
        "NoSuchKey" => vec![("Key", some(key))],
        "NoSuchVersion" => vec![("Key", some(key)), ("VersionId", about.parameter("versionId"))],
        "NoSuchUpload" => vec![("UploadId", about.parameter("uploadId"))],
        "MethodNotAllowed" => {
            let kind = match (bucket.is_empty(), key.is_empty()) {
                (true, _) => "SERVICE",
                (false, true) => "BUCKET",
                (false, false) if about.parameter("versionId").is_some() => "DeleteMarker",
                (false, false) => "OBJECT",
            };
            vec![("Method", some(about.method.to_string())), ("ResourceType", Some(kind.to_owned()))]
        }
        "PreconditionFailed" => vec![("Condition", condition(about))],
        "InvalidRange" => {
            let size = answer.get(CONTENT_RANGE).and_then(|range| range.to_str().ok()?.rsplit('/').next());
            let size = size.filter(|size| *size != "*").map(str::to_owned);
            vec![("RangeRequested", about.header("range").map(str::to_owned)), ("ActualObjectSize", size)]
        }
        "InvalidPartNumber" => vec![("PartNumberRequested", about.parameter("partNumber"))],
        "KeyTooLongError" => {
            vec![("Size", Some(key.len().to_string())), ("MaxSizeAllowed", Some(NAME_BYTES_MAX.to_string()))]
        }
        "InvalidAccessKeyId" => vec![("AWSAccessKeyId", about.signature().0)],
        "SignatureDoesNotMatch" => {
            let (key, signature) = about.signature();
            vec![("AWSAccessKeyId", key), ("SignatureProvided", signature)]
        }
        "AccessDenied" if message.contains("which were not signed") => {
            vec![("HeadersNotSigned", about.unsigned())]
        }
        "AccessDenied" if message.starts_with("Request has expired") => {
            vec![("X-Amz-Expires", about.parameter("X-Amz-Expires")), ("ServerTime", now())]
        }
        "RequestTimeTooSkewed" => vec![
            ("RequestTime", about.header("x-amz-date").map(str::to_owned)),
            ("ServerTime", now()),
            ("MaxAllowedSkewMilliseconds", Some(SKEW_MS_MAX.to_string())),
        ],
        "InvalidDigest" => vec![("Content-MD5", about.header("content-md5").map(str::to_owned))],
        "XAmzContentSHA256Mismatch" => {
            vec![("ClientComputedContentSHA256", about.header("x-amz-content-sha256").map(str::to_owned))]
        }
        "InvalidArgument" => argument(message, about),
        _ => Vec::new(),
    }
}

/// The condition that was not met, as far as it can be told: there is seldom more than one.
fn condition(about: &About) -> Option<String> {
    [
        ("if-match", "If-Match"),
        ("if-unmodified-since", "If-Unmodified-Since"),
        ("if-none-match", "If-None-Match"),
        ("x-amz-copy-source-if-match", "x-amz-copy-source-If-Match"),
    ]
    .into_iter()
    .find(|(name, _)| about.header(name).is_some())
    .map(|(_, shown)| shown.to_owned())
}

fn argument(message: &str, about: &About) -> Particulars {
    let known = ARGUMENTS.iter().find(|(says, _)| message.starts_with(says)).map(|(_, name)| *name);
    // `Provided max-keys not an integer`, `Argument max-keys must be`.
    let named = || message.split(' ').nth(1).filter(|name| about.parameter(name).is_some());
    let Some(name) = known.or_else(named) else { return Vec::new() };
    let header = about.header(&name.to_ascii_lowercase());
    // A token or a password does not come back: answers end in logs. What signs is no secret.
    let header = header.filter(|value| name != "Authorization" || value.starts_with("AWS"));
    let value = header.map(str::to_owned).or_else(|| about.parameter(name));
    vec![("ArgumentName", Some(name.to_owned())), ("ArgumentValue", value)]
}

#[cfg(test)]
mod tests {
    use http::header::{self, HeaderName, IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE};

    use super::*;

    fn check(request: (Method, &str), given: &[(HeaderName, &'static str)], told: (&str, &str), want: &str) {
        let uri: Uri = request.1.parse().expect("a URI");
        let pair =
            |(name, value): &(HeaderName, &'static str)| (name.clone(), HeaderValue::from_static(value));
        let headers: HeaderMap = given.iter().map(pair).collect();
        let about = About::of(&request.0, &uri, &headers, None);
        let answer = HeaderMap::from_iter([(CONTENT_RANGE, HeaderValue::from_static("bytes */10"))]);
        assert_eq!(elements(told.0, told.1, &about, &answer), want, "{told:?}");
    }

    #[test]
    fn refusals_name_what_they_are_about() {
        let get = |path: &'static str| (Method::GET, path);
        check(get("/b/k"), &[], ("NoSuchBucket", ""), "<BucketName>b</BucketName>");
        check(get("/b/a%3Cb"), &[], ("NoSuchKey", ""), "<Key>a&lt;b</Key>");
        check(get("/b/k?uploadId=u"), &[], ("NoSuchUpload", ""), "<UploadId>u</UploadId>");
        check(
            get("/b/k"),
            &[(RANGE, "bytes=10-")],
            ("InvalidRange", ""),
            "<RangeRequested>bytes=10-</RangeRequested><ActualObjectSize>10</ActualObjectSize>",
        );
        check(
            get("/b/k"),
            &[(IF_NONE_MATCH, "*")],
            ("PreconditionFailed", ""),
            "<Condition>If-None-Match</Condition>",
        );
        let both = [(IF_UNMODIFIED_SINCE, "x"), (IF_MATCH, "y")];
        check(get("/b/k"), &both, ("PreconditionFailed", ""), "<Condition>If-Match</Condition>");
        check(
            (Method::POST, "/b"),
            &[],
            ("MethodNotAllowed", ""),
            "<Method>POST</Method><ResourceType>BUCKET</ResourceType>",
        );
        check(
            get("/b?max-keys=-1"),
            &[],
            ("InvalidArgument", "Argument max-keys must be an integer"),
            "<ArgumentName>max-keys</ArgumentName><ArgumentValue>-1</ArgumentValue>",
        );
        check(get("/b?x=-1"), &[], ("InvalidArgument", "Whatever else"), "");
        let unsupported = ("InvalidArgument", "Unsupported Authorization Type");
        for (value, want) in [("Bearer secret", ""), ("AWS5 a", "<ArgumentValue>AWS5 a</ArgumentValue>")] {
            let want = format!("<ArgumentName>Authorization</ArgumentName>{want}");
            check(get("/b"), &[(header::AUTHORIZATION, value)], unsupported, &want);
        }
        let signed =
            "AWS4-HMAC-SHA256 Credential=a/b/20300101/r/s3/aws4_request, SignedHeaders=host, Signature=0f";
        let copied =
            [(header::AUTHORIZATION, signed), (HeaderName::from_static("x-amz-copy-source"), "/b/k")];
        check(get("/b"), &copied, ("InvalidAccessKeyId", ""), "<AWSAccessKeyId>a/b</AWSAccessKeyId>");
        check(
            get("/b"),
            &copied,
            ("AccessDenied", "There were headers present in the request which were not signed"),
            "<HeadersNotSigned>x-amz-copy-source</HeadersNotSigned>",
        );
        check(
            get("/b?X-Amz-Credential=k%2F20300101&X-Amz-Signature=0f"),
            &[],
            ("SignatureDoesNotMatch", ""),
            "<AWSAccessKeyId>k</AWSAccessKeyId><SignatureProvided>0f</SignatureProvided>",
        );
    }
}
