//! From method, path and query to one operation. Pure: nothing is looked up.

use std::borrow::Cow;

use blobstore_sidecar_core::key::{BucketName, NameError, ObjectName};
use blobstore_sidecar_store::UploadId;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri};
use percent_encoding::percent_decode_str;

use crate::auth::Right;
use crate::error::ApiError;
use crate::lane::{HEADER_COPY_FROM, HEADER_RENAME_FROM, VERSION_PARAMETER, takes_version};

mod listing;

pub use listing::ListQuery;
use listing::{found, list_query};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    ListBuckets,
    CreateBucket {
        bucket: BucketName,
    },
    HeadBucket {
        bucket: BucketName,
    },
    DeleteBucket {
        bucket: BucketName,
    },
    List {
        bucket: BucketName,
        query: ListQuery,
    },
    Put {
        bucket: BucketName,
        name: ObjectName,
    },
    /// One part of an upload; never from a client's own request.
    PutPart {
        bucket: BucketName,
        name: ObjectName,
        upload: UploadId,
        number: u16,
    },
    Get {
        bucket: BucketName,
        name: ObjectName,
    },
    Head {
        bucket: BucketName,
        name: ObjectName,
    },
    Delete {
        bucket: BucketName,
        name: ObjectName,
    },
    /// `rename`: the source goes.
    Copy {
        from: (BucketName, ObjectName),
        to: (BucketName, ObjectName),
        rename: bool,
    },
    /// New headers and metadata.
    Describe {
        bucket: BucketName,
        name: ObjectName,
    },
    Bulk {
        bucket: BucketName,
        bulk: Bulk,
    },
}

/// Many objects in one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bulk {
    /// The body names them.
    Delete,
    /// The body is an archive of them; `prefix` stands before their names.
    Upload { prefix: String },
    /// To delete: all that a listing finds, which has a prefix or a pattern.
    Found { query: Box<ListQuery>, dry_run: bool },
}

/// A right on a name in a bucket.
pub type Need<'a> = (Right, &'a str, &'a str);

impl Operation {
    /// Metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::ListBuckets => "list_buckets",
            Self::CreateBucket { .. } => "create_bucket",
            Self::HeadBucket { .. } => "head_bucket",
            Self::DeleteBucket { .. } => "delete_bucket",
            Self::List { .. } => "list",
            Self::Put { .. } => "put",
            Self::PutPart { .. } => "put_part",
            Self::Get { .. } => "get",
            Self::Head { .. } => "head",
            Self::Delete { .. } => "delete",
            Self::Copy { rename: false, .. } => "copy",
            Self::Copy { rename: true, .. } => "rename",
            Self::Describe { .. } => "describe",
            Self::Bulk { bulk: Bulk::Delete, .. } => "bulk_delete",
            Self::Bulk { bulk: Bulk::Upload { .. }, .. } => "bulk_upload",
            Self::Bulk { bulk: Bulk::Found { .. }, .. } => "delete_found",
        }
    }

    /// The rights it takes, on which bucket, under which name.
    pub fn needs(&self) -> [Option<Need<'_>>; 3] {
        let one = match self {
            // The answer names what there is; each item needs the right to be deleted, too.
            Self::Bulk { bucket, bulk: Bulk::Found { query, .. } } => query.need(bucket),
            Self::List { bucket, query } => query.need(bucket),
            // Each item has its own.
            Self::Bulk { .. } => return [None; 3],
            Self::ListBuckets => (Right::Admin, "", ""),
            Self::CreateBucket { bucket } | Self::DeleteBucket { bucket } => {
                (Right::Admin, bucket.as_str(), "")
            }
            Self::HeadBucket { bucket } => (Right::List, bucket.as_str(), ""),
            Self::Put { bucket, name }
            | Self::PutPart { bucket, name, .. }
            | Self::Describe { bucket, name } => (Right::Write, bucket.as_str(), name.as_str()),
            Self::Get { bucket, name } | Self::Head { bucket, name } => {
                (Right::Read, bucket.as_str(), name.as_str())
            }
            Self::Delete { bucket, name } => (Right::Delete, bucket.as_str(), name.as_str()),
            Self::Copy { from, to, rename } => {
                let (bucket, name) = (from.0.as_str(), from.1.as_str());
                let gone = rename.then_some((Right::Delete, bucket, name));
                let write = (Right::Write, to.0.as_str(), to.1.as_str());
                return [Some(write), Some((Right::Read, bucket, name)), gone];
            }
        };
        [Some(one), None, None]
    }
}

/// Sub-resources of S3: each makes another operation of a request, so two of them contradict each other.
pub const SUBRESOURCES: &[&str] = &[
    "accelerate",
    "acl",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "tagging",
    "torrent",
    "uploads",
    "versioning",
    "versions",
    "website",
];
/// What else only S3 knows, and what ignoring would make the wrong thing of.
const S3_PARAMETERS: &[&str] = &[
    "analytics",
    "intelligent-tiering",
    "inventory",
    "metrics",
    "partNumber",
    "select",
    "session",
    "uploadId",
    "versionId",
];

/// Is this a query parameter of S3's, that the plain lane does not have?
fn is_s3_parameter(name: &str) -> bool {
    SUBRESOURCES.contains(&name) || S3_PARAMETERS.contains(&name)
}

/// Signed requests belong to S3, whatever their path says.
pub fn is_signed(headers: &HeaderMap, uri: &Uri) -> bool {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let query = uri.query().unwrap_or_default();
    header.starts_with("AWS4-HMAC-SHA256")
        || header.starts_with("AWS4-ECDSA-P256-SHA256")
        || header.starts_with("AWS ")
        || query.contains("X-Amz-Signature=")
        || query.contains("X-Amz-Algorithm=")
        || (query.contains("AWSAccessKeyId=") && query.contains("Signature="))
}

/// Does the query name something that only S3 has?
pub fn is_s3_query(uri: &Uri) -> bool {
    let names = uri.query().unwrap_or_default().split('&');
    names.map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name)).any(is_s3_parameter)
}

/// Does a request choose headers of its answer, as only S3 lets it?
pub fn chooses_headers(uri: &Uri) -> bool {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    pairs.any(|pair| pair.starts_with("response-") && pair.contains('='))
}

/// Reads the operation out of a request's line and headers.
pub fn operation(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Operation, ApiError> {
    if is_signed(headers, uri) {
        return Err(ApiError::not_implemented("A request with an AWS signature"));
    }
    let query = parameters(uri.query().unwrap_or_default())?;
    let ours = |name: &str| name == VERSION_PARAMETER && takes_version(method);
    let foreign = |(name, _): &&Parameter| is_s3_parameter(name) && !ours(name);
    if let Some((name, _)) = query.iter().find(foreign) {
        return Err(ApiError::not_implemented(&format!("The S3 sub-resource {name:?}")));
    }
    if headers.contains_key("x-amz-copy-source") {
        return Err(ApiError::not_implemented("Copying with x-amz-copy-source"));
    }
    let path = uri.path().strip_prefix('/').unwrap_or(uri.path());
    let (bucket, name) = path.split_once('/').unwrap_or((path, ""));
    let (bucket, name) = (decode(bucket)?, decode(name)?);
    if bucket.is_empty() && name.is_empty() {
        return match *method {
            Method::GET => Ok(Operation::ListBuckets),
            _ => Err(method_not_allowed("GET lists the buckets")),
        };
    }
    let bucket = BucketName::parse(bucket).map_err(name_error)?;
    if name.is_empty() {
        return bucket_operation(method, bucket, &query);
    }
    object_operation(method, headers, bucket, ObjectName::parse(name).map_err(name_error)?)
}

/// The source of a copy or of a rename.
fn source(headers: &HeaderMap, name: &HeaderName) -> Option<Result<(BucketName, ObjectName), ApiError>> {
    let text = headers.get(name)?.to_str().unwrap_or_default();
    let text = text.strip_prefix('/').unwrap_or(text);
    let (bucket, key) = text.split_once('/').unwrap_or((text, ""));
    Some(decode(bucket).and_then(|bucket| {
        let bucket = BucketName::parse(bucket).map_err(name_error)?;
        Ok((bucket, ObjectName::parse(decode(key)?).map_err(name_error)?))
    }))
}

fn bucket_operation(method: &Method, bucket: BucketName, query: &[Parameter]) -> Result<Operation, ApiError> {
    match *method {
        Method::GET => Ok(Operation::List { query: list_query(query)?, bucket }),
        Method::HEAD => Ok(Operation::HeadBucket { bucket }),
        Method::PUT => Ok(Operation::CreateBucket { bucket }),
        Method::DELETE if query.is_empty() => Ok(Operation::DeleteBucket { bucket }),
        Method::DELETE => found(query).map(|bulk| Operation::Bulk { bucket, bulk }),
        Method::POST => bulk(query).map(|bulk| Operation::Bulk { bucket, bulk }),
        _ => Err(method_not_allowed("a bucket takes GET, HEAD, PUT, DELETE, and POST with ?bulk=")),
    }
}

fn bulk(query: &[Parameter]) -> Result<Bulk, ApiError> {
    let value = |wanted: &str| query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    match value("bulk") {
        Some("delete") => Ok(Bulk::Delete),
        Some("upload") => Ok(Bulk::Upload { prefix: value("prefix").unwrap_or_default().to_owned() }),
        Some(_) => Err(ApiError::bad_request("InvalidArgument", "bulk is either delete or upload")),
        None => Err(method_not_allowed("POST takes ?bulk=delete or ?bulk=upload")),
    }
}

fn object_operation(
    method: &Method,
    headers: &HeaderMap,
    bucket: BucketName,
    name: ObjectName,
) -> Result<Operation, ApiError> {
    if *method == Method::PUT {
        for (header, rename) in [(HEADER_COPY_FROM, false), (HEADER_RENAME_FROM, true)] {
            if let Some(from) = source(headers, &header) {
                return Ok(Operation::Copy { from: from?, to: (bucket, name), rename });
            }
        }
    }
    match *method {
        Method::PATCH => Ok(Operation::Describe { bucket, name }),
        Method::GET => Ok(Operation::Get { bucket, name }),
        Method::HEAD => Ok(Operation::Head { bucket, name }),
        Method::PUT => Ok(Operation::Put { bucket, name }),
        Method::DELETE => Ok(Operation::Delete { bucket, name }),
        _ => Err(method_not_allowed("an object takes GET, HEAD, PUT, PATCH and DELETE")),
    }
}

fn method_not_allowed(message: &'static str) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
}

/// S3's code for a name that cannot be; the sentence is the parser's.
pub(crate) fn name_error(error: NameError) -> ApiError {
    let code = match error {
        NameError::Empty | NameError::Nul => "InvalidArgument",
        NameError::TooLong => "KeyTooLongError",
        NameError::Bucket => "InvalidBucketName",
    };
    ApiError::bad_request(code, error.to_string())
}

fn decode(text: &str) -> Result<Cow<'_, str>, ApiError> {
    percent_decode_str(text).decode_utf8().map_err(|_| {
        ApiError::bad_request(
            "InvalidURI",
            "the path is not UTF-8 after percent-decoding: encode the key as UTF-8",
        )
    })
}

/// Name and value, percent-decoded.
pub type Parameter = (String, String);

/// Pairs of a query string, percent-decoded, `+` as a space.
pub fn parameters(query: &str) -> Result<Vec<Parameter>, ApiError> {
    query.split('&').filter(|pair| !pair.is_empty()).map(parameter).collect()
}

fn parameter(pair: &str) -> Result<Parameter, ApiError> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let plain = |text: &str| -> Result<String, ApiError> {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8().map(Cow::into_owned).map_err(|_| {
            ApiError::bad_request("InvalidURI", "a query parameter is not UTF-8 after percent-decoding")
        })
    };
    Ok((plain(name)?, plain(value)?))
}

#[cfg(test)]
mod tests;
