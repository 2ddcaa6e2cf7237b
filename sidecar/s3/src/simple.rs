//! Simple requests: a read or an upload of one object that asks for nothing else, signed in version 4 with a signature
//! that leaves the body alone. They are nearly all that comes, and can be read in one look. Whatever has more to say, or
//! whose signature does not hold, is none of these: s3s reads it in full and finds out what is wrong.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::{HeaderMap, Method, Uri};
use jiff::{SignedDuration, Timestamp};
use percent_encoding::percent_decode_str;
use s3s_sigv4::{AmzDate, AuthorizationV4, CredentialV4, EMPTY_STRING_SHA256_HASH, Payload, PresignedUrlV4};
use subtle::ConstantTimeEq as _;

use crate::authorization::{ALGORITHM, EXPIRES_SECONDS_MAX, IN_QUERY};

/// How far the clock of a client may be off.
const SKEW: SignedDuration = SignedDuration::from_secs(900);
const PAYLOAD: &str = "x-amz-content-sha256";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// Headers that change nothing about what is done, or that describe the object.
const HEADERS: &[&str] = &[
    "accept",
    "accept-encoding",
    "accept-language",
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "authorization",
    "cache-control",
    "connection",
    "content-disposition",
    "content-language",
    "content-length",
    "content-type",
    "expect",
    "host",
    "user-agent",
    "x-amz-checksum-mode",
    PAYLOAD,
    "x-amz-date",
    "x-amz-user-agent",
];
const META: &str = "x-amz-meta-";
type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// One object, and who wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simple<'a> {
    pub bucket: &'a str,
    /// Decoded.
    pub key: Cow<'a, str>,
    /// The key that signed.
    pub access_key: String,
    /// Of the body; 0 without one.
    pub length: u64,
}

/// Reads such a request. `secret`: of an access key, if there is one. `None`: it is another kind of request, or the
/// signature is not good.
pub fn read<'a, S: AsRef<[u8]>>(
    method: &Method,
    uri: &'a Uri,
    headers: &HeaderMap,
    now: Timestamp,
    secret: impl FnOnce(&str) -> Option<S>,
) -> Option<Simple<'a>> {
    let operation = match *method {
        Method::GET => "GetObject",
        Method::PUT => "PutObject",
        _ => return None,
    };
    let known = |name: &str| HEADERS.contains(&name) || name.starts_with(META);
    if headers.len() != headers.keys_len() || !headers.keys().all(|name| known(name.as_str())) {
        return None;
    }
    let length = length(method, headers)?;
    let (bucket, key) = named(uri)?;
    let query = pairs(uri.query().unwrap_or_default())?;
    let ours =
        |(name, value): &Pair<'_>| IN_QUERY.contains(&&**name) || (name == "x-id" && value == operation);
    if !query.iter().all(ours) {
        return None;
    }
    let access_key = signer(method, uri, headers, &query, now, secret)?;
    Some(Simple { bucket, key, access_key, length })
}

/// An upload tells it, a read has none.
fn length(method: &Method, headers: &HeaderMap) -> Option<u64> {
    let given = headers.get(CONTENT_LENGTH).map(|value| value.to_str().ok()?.parse().ok());
    match (method, given) {
        (&Method::GET, None) => Some(0),
        (&Method::GET, Some(length)) => length.filter(|length| *length == 0),
        (_, given) => given.flatten(),
    }
}

/// Bucket and key, where the path has no characters that clients disagree about.
fn named(uri: &Uri) -> Option<(&str, Cow<'_, str>)> {
    let (bucket, key) = uri.path().strip_prefix('/')?.split_once('/')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    let fits = key.bytes().all(|byte| plain(byte) || byte == b'%') && bucket.bytes().all(plain);
    let key = percent_decode_str(key).decode_utf8().ok()?;
    (fits && !key.is_empty()).then_some((bucket, key))
}

fn pairs(query: &str) -> Option<Vec<Pair<'_>>> {
    if query.contains('+') {
        return None;
    }
    let decode = |text| percent_decode_str(text).decode_utf8().ok();
    let mut found = query
        .split('&')
        .filter(|text| !text.is_empty())
        .map(|text| {
            let (name, value) = text.split_once('=')?;
            Some((decode(name)?, decode(value)?))
        })
        .collect::<Option<Vec<_>>>()?;
    found.sort();
    Some(found)
}

/// The access key whose signature this is.
fn signer<S: AsRef<[u8]>>(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    query: &[Pair<'_>],
    now: Timestamp,
    secret: impl FnOnce(&str) -> Option<S>,
) -> Option<String> {
    let path = percent_decode_str(uri.path()).decode_utf8().ok()?;
    let in_query = query.iter().any(|(name, _)| name == "X-Amz-Signature");
    match (headers.get(AUTHORIZATION), in_query) {
        (None, true) => {
            let url = PresignedUrlV4::parse(query, EXPIRES_SECONDS_MAX).ok()?;
            let age = now.duration_since(url.amz_date.to_time()?);
            let hashed = headers.get(PAYLOAD).is_some_and(|given| given != UNSIGNED);
            if url.algorithm != ALGORITHM || age < -SKEW || age > url.expires || hashed {
                return None;
            }
            let signed = signed(headers, &url.signed_headers)?;
            let canonical =
                s3s_sigv4::create_presigned_canonical_request(method.as_str(), &path, query, &signed);
            proven(&canonical, &url.credential, &url.amz_date, url.signature, secret)
        }
        (Some(value), false) => {
            let given = AuthorizationV4::parse(value.to_str().ok()?).ok()?;
            let payload = payload(method, headers)?;
            let date = AmzDate::parse(headers.get("x-amz-date")?.to_str().ok()?).ok()?;
            let age = now.duration_since(date.to_time()?);
            if given.algorithm != ALGORITHM || age < -SKEW || age > SKEW {
                return None;
            }
            let signed = signed(headers, &given.signed_headers)?;
            let canonical =
                s3s_sigv4::create_canonical_request(method.as_str(), &path, query, &signed, payload);
            proven(&canonical, &given.credential, &date, given.signature, secret)
        }
        _ => None,
    }
}

/// What is signed of the body, if that is nothing that would have to be verified.
fn payload(method: &Method, headers: &HeaderMap) -> Option<Payload<'static>> {
    let given = headers.get(PAYLOAD)?;
    if given == UNSIGNED {
        return Some(Payload::Unsigned);
    }
    (*method == Method::GET && given == EMPTY_STRING_SHA256_HASH)
        .then_some(Payload::SingleChunk(EMPTY_STRING_SHA256_HASH))
}

/// The signed headers in their order. Host and all of Amazon's own must be among them.
fn signed<'a>(headers: &'a HeaderMap, names: &[&'a str]) -> Option<Vec<(&'a str, &'a str)>> {
    let covers = |wanted: &str| names.iter().any(|name| name.eq_ignore_ascii_case(wanted));
    let own = |name: &str| name.starts_with("x-amz-") && name != PAYLOAD;
    if !covers("host") || headers.keys().any(|name| own(name.as_str()) && !covers(name.as_str())) {
        return None;
    }
    let value = |name: &&'a str| Some((*name, std::str::from_utf8(headers.get(*name)?.as_bytes()).ok()?));
    names.iter().map(value).collect()
}

fn proven<S: AsRef<[u8]>>(
    canonical: &str,
    credential: &CredentialV4<'_>,
    date: &AmzDate,
    signature: &str,
    secret: impl FnOnce(&str) -> Option<S>,
) -> Option<String> {
    let CredentialV4 { access_key_id, aws_region, aws_service, .. } = *credential;
    if credential.date != date.fmt_date().as_str() || aws_service != "s3" {
        return None;
    }
    let mut given = [0; 32];
    hex::decode_to_slice(signature, &mut given).ok()?;
    let key = s3s_sigv4::derive_signing_key(secret(access_key_id)?, date, aws_region, aws_service);
    let text = s3s_sigv4::create_string_to_sign(canonical, date, aws_region, aws_service);
    let own = s3s_sigv4::calculate_signature_with_key(&text, &key);
    bool::from(own.ct_eq(&given)).then(|| access_key_id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AWS's example key; signatures made with botocore.
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const READ: &str = "/bucket/folder/a%20b%2Bc%C3%A4?x-id=GetObject&X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Feu-central-1%2Fs3%2Faws4_request&X-Amz-Date=20260102T030405Z\
        &X-Amz-Expires=60&X-Amz-SignedHeaders=host\
        &X-Amz-Signature=2b76514dfc8667b8b9886b0c463af1f9f5db28ec512f9b4e8185300fefd90bff";
    const UPLOAD: &str = "/bucket/folder/a?X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Feu-central-1%2Fs3%2Faws4_request&X-Amz-Date=20260102T030405Z\
        &X-Amz-Expires=60&X-Amz-SignedHeaders=host\
        &X-Amz-Signature=9f452d899be3344ca69319157336681394215b54d85898eddb0e2c6178276bd2";
    const BY_HEADER: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/eu-central-1/s3/aws4_request, \
        SignedHeaders=host;x-amz-checksum-mode;x-amz-content-sha256;x-amz-date, \
        Signature=5f114a399d3b72b75e4f6a2b2c484c7e1e11f3df62db7ec60dccdfbadb623786";
    const SIGNED: &[(&str, &str)] = &[
        ("authorization", BY_HEADER),
        ("x-amz-checksum-mode", "ENABLED"),
        ("x-amz-content-sha256", EMPTY_STRING_SHA256_HASH),
        ("x-amz-date", "20260102T030405Z"),
    ];

    fn at(method: Method, path: &str, more: &[(&'static str, &str)], seconds: i64) -> Option<(String, u64)> {
        let mut headers = HeaderMap::new();
        headers.insert("host", "localhost:9000".parse().expect("a header"));
        for (name, value) in more {
            headers.append(*name, value.parse().expect("a header"));
        }
        let uri: Uri = path.parse().expect("a URI");
        let then: Timestamp = "2026-01-02T03:04:05Z".parse().expect("a time");
        let now = then + SignedDuration::from_secs(seconds);
        let secret = |key: &str| (key == "AKIDEXAMPLE").then_some(SECRET);
        let found = read(&method, &uri, &headers, now, secret)?;
        assert_eq!((found.access_key.as_str(), found.bucket), ("AKIDEXAMPLE", "bucket"));
        Some((found.key.into_owned(), found.length))
    }

    #[test]
    fn plain_requests_with_a_good_signature_are_simple() {
        assert_eq!(at(Method::GET, READ, &[], 30), Some(("folder/a b+cä".to_owned(), 0)));
        let body = [("content-length", "3"), ("content-type", "text/plain"), ("expect", "100-continue")];
        assert_eq!(at(Method::PUT, UPLOAD, &body, 30), Some(("folder/a".to_owned(), 3)));
        let unsigned = [("content-length", "3"), (PAYLOAD, UNSIGNED)];
        assert_eq!(at(Method::PUT, UPLOAD, &unsigned, 30), Some(("folder/a".to_owned(), 3)));
        assert_eq!(at(Method::GET, "/bucket/folder/a", SIGNED, 30), Some(("folder/a".to_owned(), 0)));
        // Another hand may have written the path in other words: it is the same path.
        let other = READ.replace("%C3%A4", "%c3%a4");
        assert_eq!(at(Method::GET, &other, &[], 30), Some(("folder/a b+cä".to_owned(), 0)));
    }

    #[test]
    fn requests_have_their_time() {
        for (seconds, want) in [(-901, false), (-899, true), (0, true), (60, true), (61, false)] {
            assert_eq!(at(Method::GET, READ, &[], seconds).is_some(), want, "{seconds}");
        }
        for (seconds, want) in [(-901, false), (-899, true), (899, true), (901, false)] {
            assert_eq!(at(Method::GET, "/bucket/folder/a", SIGNED, seconds).is_some(), want, "{seconds}");
        }
    }

    #[test]
    fn whatever_was_changed_after_signing_is_not_simple() {
        for (from, to) in [
            ("/a%20b", "/b%20b"),
            ("/bucket/", "/bucket2/"),
            ("Expires=60", "Expires=61"),
            ("AKIDEXAMPLE", "AKIDEXAMPLF"),
            ("%2F20260102%2F", "%2F20260103%2F"),
            ("eu-central-1", "eu-central-2"),
            ("Date=20260102T030405Z", "Date=20260102T030406Z"),
            ("SignedHeaders=host", "SignedHeaders=host%3Brange"),
            ("SignedHeaders=host", "SignedHeaders="),
            ("HMAC-SHA256", "HMAC-SHA512"),
            ("2b76514d", "2b76514e"),
            ("x-id=GetObject&", ""),
        ] {
            let path = READ.replace(from, to);
            assert!(path != READ && at(Method::GET, &path, &[], 30).is_none(), "{from} {to}");
        }
        assert_eq!(at(Method::PUT, READ, &[("content-length", "0")], 30), None, "another method");
        for missing in SIGNED {
            let fewer: Vec<_> = SIGNED.iter().filter(|header| *header != missing).copied().collect();
            assert_eq!(at(Method::GET, "/bucket/folder/a", &fewer, 30), None, "{missing:?}");
        }
        assert_eq!(at(Method::GET, READ, SIGNED, 30), None, "two signatures");
    }

    #[test]
    fn whatever_asks_for_more_is_not_simple() {
        for header in [
            ("range", "bytes=0-1"),
            ("if-none-match", "\"a\""),
            ("x-amz-acl", "private"),
            ("x-amz-meta-unsigned", "a"),
            ("x-amz-expected-bucket-owner", "1"),
            ("transfer-encoding", "chunked"),
            ("content-md5", "AAAA"),
            ("content-length", "1"),
            ("host", "twice"),
            (PAYLOAD, "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ("unheard-of", "a"),
        ] {
            assert_eq!(at(Method::GET, READ, &[header], 30), None, "{header:?}");
        }
        assert_eq!(at(Method::PUT, UPLOAD, &[], 30), None, "no length");
        let hashed = [("content-length", "0"), (PAYLOAD, EMPTY_STRING_SHA256_HASH)];
        assert_eq!(at(Method::PUT, UPLOAD, &hashed, 30), None, "a body to be verified");
        for more in ["&versionId=1", "&tagging=", "&partNumber=1", "&X-Amz-Security-Token=a", "&a", "&a=b+c"]
        {
            assert_eq!(at(Method::GET, &format!("{READ}{more}"), &[], 30), None, "{more}");
        }
        for path in ["/bucket", "/bucket/", "/", "/bucket/a+b", "/buc%6bet/a", "/bucket/%ff"] {
            let path = READ.replace("/bucket/folder/a%20b%2Bc%C3%A4", path);
            assert_eq!(at(Method::GET, &path, &[], 30), None, "{path}");
        }
        for method in [Method::HEAD, Method::DELETE, Method::POST] {
            assert_eq!(at(method, READ, &[], 30), None);
        }
    }
}
