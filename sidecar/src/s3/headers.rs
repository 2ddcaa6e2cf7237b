//! Headers that any operation may carry and that say what may not be: whose bucket it must be, which list of rights it
//! is to get, of which class it is to be. Looked at once the signature holds.

use blobstore_sidecar_s3::S3ErrorCode;
use blobstore_sidecar_s3::checksum::{self, Algorithm};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};
use s3s::{S3Error, S3Result, s3_error};

use super::error::custom;
use super::listing::OWNER_ID;

/// The store's account, as far as it has one.
pub(super) const ACCOUNT: &str = "000000000000";
const OWNERS: &[&str] = &["x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"];

/// Every class that a bucket of AWS in a region has: kept and told, without other consequences.
const CLASSES: &[&str] = &[
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "GLACIER_IR",
    "DEEP_ARCHIVE",
];

/// Headers that ask for what this store does not do: an answer that ignored them would be a lie.
/// Each by its beginning. What is appended at an offset elsewhere would replace the object here.
const REFUSED: &[&str] =
    &[ENCRYPTION, "x-amz-copy-source-server-side-encryption-", "x-amz-write-offset-bytes"];
const ENCRYPTION: &str = "x-amz-server-side-encryption";
/// Keys that the client brings along.
const CUSTOMER: &str = "x-amz-server-side-encryption-customer-";
const REDIRECT: &str = "x-amz-website-redirect-location";
const REDIRECTS: &[&str] = &["/", "http://", "https://"];
const ENCRYPTIONS: &[&str] = &["AES256", "aws:kms", "aws:kms:dsse", "aws:fsx"];
const LOCKS: &[&str] =
    &["x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date", "x-amz-object-lock-legal-hold"];
/// Lists that grant nothing beyond what the users document grants.
const LISTS: &[&str] = &["private", "bucket-owner-full-control"];
/// The others that AWS has.
const LISTS_ELSEWHERE: &[&str] = &[
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "log-delivery-write",
];
const GRANTS: &str = "x-amz-grant-";
/// Operations with a document that a digest may cover.
const DOCUMENTS: &[&str] = &[
    "DeleteObjects",
    "PutObjectTagging",
    "PutBucketTagging",
    "PutBucketCors",
    "PutBucketLifecycleConfiguration",
    "PutBucketPolicy",
    "PutBucketVersioning",
    "PutPublicAccessBlock",
    "PutBucketOwnershipControls",
];

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

/// Is there anything in the headers of this operation that cannot be?
pub(super) fn check(operation: &str, headers: &HeaderMap) -> S3Result<()> {
    OWNERS.iter().filter_map(|name| text(headers, name)).try_for_each(owner)?;
    match operation {
        "PutObject" => {
            conditional(headers)?;
            measured(headers)?;
            announced(headers)
        }
        "CopyObject" => conditional(headers),
        "UploadPart" => {
            measured(headers)?;
            announced(headers)?;
            encrypted(headers)
        }
        "UploadPartCopy" => encrypted(headers),
        "CompleteMultipartUpload" => {
            conditional(headers)?;
            encrypted(headers)
        }
        "GetObject" | "HeadObject" => decrypted(headers),
        "GetObjectAttributes" => decrypted(headers).and_then(|()| numbers(headers)),
        _ if DOCUMENTS.contains(&operation) => document(operation, headers),
        _ => Ok(()),
    }
}

/// A write may ask that nothing is there, or that it replaces what it knows; not both, and nothing else.
fn conditional(headers: &HeaderMap) -> S3Result<()> {
    let given = |name: &str| text(headers, name).filter(|value| !value.is_empty());
    let (fits, fits_not) = (given("if-match"), given("if-none-match"));
    let refused = fits_not.is_some_and(|tag| tag != "*") || (fits.is_some() && fits_not.is_some());
    if refused {
        return Err(s3_error!(
            NotImplemented,
            "A header you provided implies functionality that is not implemented"
        ));
    }
    Ok(())
}

/// HTTP takes a request without a length for one without a body; S3 wants to be told: the length of what is sent, or of
/// what is in it, where it comes in chunks of its own.
fn measured(headers: &HeaderMap) -> S3Result<()> {
    match headers.contains_key(CONTENT_LENGTH) || headers.contains_key("x-amz-decoded-content-length") {
        true => Ok(()),
        false => Err(S3Error::new(S3ErrorCode::MissingContentLength)),
    }
}

fn begins(headers: &HeaderMap, start: &str) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(start))
}

/// How an object is encrypted is said when its upload is opened.
fn opened_so(headers: &HeaderMap) -> S3Result<()> {
    match headers.contains_key(ENCRYPTION) {
        true => Err(s3_error!(InvalidArgument, "{ENCRYPTION} header is not supported for this operation.")),
        false => Ok(()),
    }
}

/// Parts of an upload: none was opened with encryption.
fn encrypted(headers: &HeaderMap) -> S3Result<()> {
    opened_so(headers)?;
    unknown(headers)
}

/// Reads: nothing is stored under a client's key.
fn decrypted(headers: &HeaderMap) -> S3Result<()> {
    opened_so(headers)?;
    match begins(headers, CUSTOMER) {
        true => {
            Err(s3_error!(InvalidRequest, "The encryption parameters are not applicable to this object."))
        }
        false => Ok(()),
    }
}

/// What an answer would be a lie about.
fn unknown(headers: &HeaderMap) -> S3Result<()> {
    match REFUSED.iter().find(|start| begins(headers, start)) {
        Some(start) => Err(s3_error!(
            NotImplemented,
            "A header you provided implies functionality that is not implemented: {start}"
        )),
        None => Ok(()),
    }
}

/// Whoever names an owner wants the request refused if it is another.
fn owner(named: &str) -> S3Result<()> {
    let is_account = named.len() == ACCOUNT.len() && named.bytes().all(|byte| byte.is_ascii_digit());
    match named {
        ACCOUNT | OWNER_ID => Ok(()),
        _ if is_account => Err(S3Error::new(S3ErrorCode::AccessDenied)),
        _ => Err(custom(
            "InvalidBucketOwnerAWSAccountID",
            StatusCode::BAD_REQUEST,
            "The value of the expected bucket owner parameter must be an AWS account ID",
        )),
    }
}

/// A checksum that is announced must come, and be the one that is announced.
fn announced(headers: &HeaderMap) -> S3Result<()> {
    let Some(name) = text(headers, "x-amz-sdk-checksum-algorithm") else { return Ok(()) };
    let Some(algorithm) = Algorithm::parse(name) else {
        return Err(s3_error!(InvalidRequest, "Value for x-amz-sdk-checksum-algorithm header is invalid."));
    };
    match checksum::promise(headers).map_err(|error| s3_error!(InvalidRequest, "{error}"))? {
        Some(promise) if promise.algorithm == algorithm => Ok(()),
        Some(_) => {
            Err(s3_error!(InvalidRequest, "Value for x-amz-sdk-checksum-algorithm header is invalid."))
        }
        None => Err(s3_error!(
            InvalidRequest,
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers \
             were found."
        )),
    }
}

fn numbers(headers: &HeaderMap) -> S3Result<()> {
    for name in ["x-amz-max-parts", "x-amz-part-number-marker"] {
        if text(headers, name).is_some_and(|value| value.parse::<u32>().is_err()) {
            return Err(s3_error!(InvalidArgument, "Provided {name} not an integer or within integer range"));
        }
    }
    Ok(())
}

/// Digests of a document must have their form; a list of deletions must have one.
fn document(operation: &str, headers: &HeaderMap) -> S3Result<()> {
    let md5 = text(headers, "content-md5");
    if md5.is_some_and(|value| !checksum::is_sum(Algorithm::Md5, value)) {
        return Err(S3Error::new(S3ErrorCode::InvalidDigest));
    }
    let promise = checksum::promise(headers).map_err(|error| s3_error!(InvalidRequest, "{error}"))?;
    if operation == "DeleteObjects" && md5.is_none() && promise.is_none() {
        return Err(s3_error!(InvalidRequest, "Missing required header for this request: Content-MD5"));
    }
    Ok(())
}

/// Is the class one that there is?
fn class(headers: &HeaderMap) -> S3Result<()> {
    match text(headers, "x-amz-storage-class") {
        Some(name) if !CLASSES.contains(&name) => Err(S3Error::new(S3ErrorCode::InvalidStorageClass)),
        _ => Ok(()),
    }
}

/// Lists of rights: those that grant what holds anyway. `refusal`: for the others.
pub(super) fn lists(headers: &HeaderMap, refusal: S3ErrorCode) -> S3Result<()> {
    if headers.keys().any(|name| name.as_str().starts_with(GRANTS)) {
        return Err(S3Error::new(refusal));
    }
    match text(headers, "x-amz-acl") {
        None => Ok(()),
        Some(list) if LISTS.contains(&list) => Ok(()),
        Some(list) if LISTS_ELSEWHERE.contains(&list) => Err(S3Error::new(refusal)),
        Some(_) => Err(S3Error::new(S3ErrorCode::InvalidArgument)),
    }
}

/// What an upload asks for that this store does not do, or that there is not.
pub(super) fn refuse_unsupported(headers: &HeaderMap) -> S3Result<()> {
    class(headers)?;
    if text(headers, "x-amz-server-side-encryption").is_some_and(|kind| !ENCRYPTIONS.contains(&kind)) {
        return Err(s3_error!(InvalidArgument, "The encryption method specified is not supported"));
    }
    unknown(headers)?;
    if text(headers, REDIRECT).is_some_and(|to| !REDIRECTS.iter().any(|start| to.starts_with(start))) {
        return Err(custom(
            "InvalidRedirectLocation",
            StatusCode::BAD_REQUEST,
            "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.",
        ));
    }
    if LOCKS.iter().any(|name| headers.contains_key(*name)) {
        return Err(s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration"));
    }
    lists(headers, S3ErrorCode::AccessControlListNotSupported)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn refused(operation: &str, given: &[(&'static str, &'static str)]) -> Option<String> {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers: HeaderMap = given.iter().map(header).collect();
        if !given.is_empty() {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        let outcome = check(operation, &headers).and_then(|()| refuse_unsupported(&headers));
        outcome.err().map(|error| error.code().as_str().to_owned())
    }

    #[test]
    fn headers_that_cannot_be_are_refused() {
        let check = |operation: &str, name: &'static str, value: &'static str, want: Option<&str>| {
            assert_eq!(refused(operation, &[(name, value)]).as_deref(), want, "{operation} {name}: {value}");
        };
        check("GetObject", "x-amz-expected-bucket-owner", "000000000000", None);
        check("GetObject", "x-amz-expected-bucket-owner", "123456789012", Some("AccessDenied"));
        check("GetObject", "x-amz-expected-bucket-owner", "me", Some("InvalidBucketOwnerAWSAccountID"));
        check("PutObject", "x-amz-storage-class", "GLACIER_IR", None);
        check("PutObject", "x-amz-storage-class", "gold", Some("InvalidStorageClass"));
        check("PutObject", "x-amz-storage-class", "OUTPOSTS", Some("InvalidStorageClass"));
        check("PutObject", "if-none-match", "*", None);
        check("PutObject", "if-none-match", "\"a\"", Some("NotImplemented"));
        check("CompleteMultipartUpload", "if-none-match", "a", Some("NotImplemented"));
        check("CopyObject", "if-none-match", "a", Some("NotImplemented"));
        check("GetObject", "if-none-match", "a", None);
        check("PutObject", "x-amz-acl", "bucket-owner-full-control", None);
        check("PutObject", "x-amz-acl", "public-read", Some("AccessControlListNotSupported"));
        check("PutObject", "x-amz-acl", "everybody", Some("InvalidArgument"));
        check("PutObject", "x-amz-grant-read", "id=1", Some("AccessControlListNotSupported"));
        check("PutObject", "x-amz-server-side-encryption", "rot13", Some("InvalidArgument"));
        check("PutObject", "x-amz-server-side-encryption", "AES256", Some("NotImplemented"));
        check("PutObject", "x-amz-server-side-encryption-context", "e30=", Some("NotImplemented"));
        check("PutObject", "x-amz-write-offset-bytes", "0", Some("NotImplemented"));
        check("PutObject", "x-amz-website-redirect-location", "a", Some("InvalidRedirectLocation"));
        check("PutObject", "x-amz-website-redirect-location", "/a", None);
        check("GetObject", "x-amz-server-side-encryption", "AES256", Some("InvalidArgument"));
        check("HeadObject", "x-amz-server-side-encryption-customer-key", "a", Some("InvalidRequest"));
        check("UploadPart", "x-amz-server-side-encryption-customer-key", "a", Some("NotImplemented"));
        check("PutObject", "x-amz-sdk-checksum-algorithm", "CRC32", Some("InvalidRequest"));
        assert_eq!(refused("PutObject", &[]).as_deref(), Some("MissingContentLength"));
        let decoded = HeaderMap::from_iter([(
            HeaderName::from_static("x-amz-decoded-content-length"),
            HeaderValue::from_static("3"),
        )]);
        assert!(measured(&decoded).is_ok(), "HTTP's own chunks around those of S3");
        assert_eq!(refused("CopyObject", &[]), None);
        check("DeleteObjects", "content-md5", "AAAA", Some("InvalidDigest"));
        check("DeleteObjects", "x-none", "", Some("InvalidRequest"));
        check("GetObjectAttributes", "x-amz-max-parts", "-1", Some("InvalidArgument"));
    }
}
