//! Browser forms: an upload whose fields are what headers are otherwise, signed by a policy. The file streams into the
//! store as it comes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blobstore_sidecar_s3::form::{Claim, File, FormError, Head, PolicyProblem, Reader, SizeRange};
use blobstore_sidecar_s3::policy::Facts;
use blobstore_sidecar_s3::{S3ErrorCode, form as forms};
use bytes::Bytes;
use futures::StreamExt as _;
use http::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION, REFERER, USER_AGENT};
use http::{HeaderMap, Method, Response, StatusCode, request};
use http_body::Frame;
use percent_encoding::percent_decode_str;
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3Result, s3_error};

use super::call::{Call, Operation};
use super::facts::Scene;
use super::object::{META, Upload};
use super::{Context, FORM_BYTES_MAX, headers, tagging};
use crate::auth::Right;
use crate::body::{Body, RequestBody, StreamError};
use crate::shell::Shell;
use crate::xml::element;

/// A browser's upload with a policy.
pub(super) fn is_form(head: &request::Parts) -> bool {
    let kind = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    head.method == Method::POST && kind.is_some_and(|kind| kind.starts_with("multipart/form-data"))
}

/// Fields that are a header of the same name.
const HEADERS: &[&str] = &[
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "content-md5",
];
/// Fields that sign, and describe nothing.
const SIGNING: &[&str] =
    &["x-amz-signature", "x-amz-credential", "x-amz-algorithm", "x-amz-date", "x-amz-security-token"];
const AMZ: &str = "x-amz-";
const TAGGING: HeaderName = HeaderName::from_static("x-amz-tagging");
const LIST: HeaderName = HeaderName::from_static("x-amz-acl");

/// The file was not as large as the policy wants it, or did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FileError {
    #[error("the file is larger than the policy allows")]
    TooLarge,
    #[error("the file is smaller than the policy allows")]
    TooSmall,
    #[error("the form ended within the file")]
    Cut,
}

impl FileError {
    pub(super) fn refusal(self) -> S3Error {
        S3Error::new(match self {
            Self::TooLarge => S3ErrorCode::EntityTooLarge,
            Self::TooSmall => S3ErrorCode::EntityTooSmall,
            Self::Cut => S3ErrorCode::IncompleteBody,
        })
    }
}

/// Answers one form.
pub(super) async fn answer(
    shell: &Arc<Shell>,
    head: &request::Parts,
    mut body: RequestBody,
    context: &Context,
) -> S3Result<Response<Body>> {
    let bucket = bucket(shell, head)?;
    let kind = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = forms::boundary(kind).ok_or_else(|| s3_error!(MalformedPOSTRequest))?;
    let mut form = read(&mut body, &boundary).await?;
    let key = form.field("key").unwrap_or_default().replace("${filename}", &form.file_name);
    form.fields.retain(|(name, _)| name != "bucket");
    form.fields.push(("bucket".to_owned(), bucket.clone()));
    form.fields.iter_mut().filter(|(name, _)| name == "key").for_each(|(_, value)| value.clone_from(&key));
    if key.is_empty() {
        let message = "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the \
                       fields.";
        return Err(s3_error!(InvalidArgument, "{message}"));
    }
    let who = signed_by(shell, &form)?;
    let sizes = meets(&form)?;
    let user = who.as_deref().and_then(|who| shell.users().name_of(who).map(str::to_owned));
    let given = described(&form)?;
    let facts = facts(head, &given, &form, context, user.as_deref());
    let call = Call::new(shell, context, who, facts);
    let deed =
        Operation { name: "PutObject", right: Right::Write, bucket: &bucket, key: &key, version: false };
    call.allow(&deed).await?;
    if given.contains_key(TAGGING) {
        call.allow(&Operation { name: "PutObjectTagging", ..deed }).await?;
    }
    headers::refuse_unsupported(&given)?;
    let small = body.length().is_some_and(|length| length <= super::object::MD5_BYTES_MAX);
    let file = FileBody::new(body, &boundary, &form.rest, sizes);
    let upload = Upload { bucket: &bucket, key: &key, headers: &given, length: None, md5: small };
    let file = StreamingBlob::from(s3s::Body::http_body_unsync(file));
    let stored = upload.store(&call, Some(file), None).await?;
    let location = call.location(&head.headers, &bucket, &key);
    let mut response = told(&form, (&bucket, &key), &location, stored.get(ETAG));
    response.headers_mut().extend(stored);
    Ok(response)
}

/// The bucket of a form's address, which names nothing else.
fn bucket(shell: &Shell, head: &request::Parts) -> S3Result<String> {
    let path = head.uri.path().trim_start_matches('/');
    let (bucket, rest) = match shell.hosted(&head.headers) {
        Some(bucket) => (bucket, path),
        None => {
            let (bucket, rest) = path.split_once('/').unwrap_or((path, ""));
            (percent_decode_str(bucket).decode_utf8_lossy().into_owned(), rest)
        }
    };
    if bucket.is_empty() || !rest.is_empty() {
        return Err(s3_error!(MethodNotAllowed));
    }
    super::call::bucket_name(&bucket).map(|bucket| bucket.as_str().to_owned())
}

/// Everything before the file.
async fn read(body: &mut RequestBody, boundary: &str) -> S3Result<Head> {
    let mut reader = Reader::new(boundary, FORM_BYTES_MAX);
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|error| s3_error!(IncompleteBody, "{error}"))?;
        match reader.push(&bytes) {
            Ok(Some(head)) => return Ok(head),
            Ok(None) => {}
            Err(error @ FormError::TooLarge) => {
                return Err(s3_error!(MaxPostPreDataLengthExceededError, "{error}"));
            }
            Err(_) if reader.ended() => break,
            Err(FormError::Malformed) => return Err(s3_error!(MalformedPOSTRequest)),
        }
    }
    if reader.ended() {
        return Err(s3_error!(InvalidArgument, "POST requires exactly one file upload per request."));
    }
    Err(s3_error!(MalformedPOSTRequest))
}

/// The access key that signed the policy. `None`: nobody did.
fn signed_by(shell: &Shell, form: &Head) -> S3Result<Option<String>> {
    let claim = forms::claim(form).map_err(|(_, message)| s3_error!(InvalidArgument, "{message}"))?;
    let Some(claim) = claim else { return Ok(None) };
    let users = shell.users();
    let secret = users.secret_of(&claim.access_key).ok_or_else(|| s3_error!(InvalidAccessKeyId))?;
    if !claim.holds(secret) {
        return Err(s3_error!(SignatureDoesNotMatch));
    }
    let Claim { access_key, .. } = claim;
    Ok(Some(access_key))
}

/// The sizes that the policy allows, if the fields meet it.
fn meets(form: &Head) -> S3Result<Option<SizeRange>> {
    let Some(policy) = form.field("policy") else { return Ok(None) };
    let policy = STANDARD.decode(policy).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let policy = policy.ok_or_else(|| s3_error!(InvalidPolicyDocument, "Invalid Policy: Invalid JSON."))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    forms::check(&policy, &form.fields, now).map_err(|problem| match problem {
        PolicyProblem::Malformed(_) => s3_error!(InvalidPolicyDocument, "{problem}"),
        PolicyProblem::Denied(_) => s3_error!(AccessDenied, "{problem}"),
    })
}

/// What a bucket's policy may ask about: the fields stand for headers, the rest the browser says itself.
fn facts(
    head: &request::Parts,
    given: &HeaderMap,
    form: &Head,
    context: &Context,
    user: Option<&str>,
) -> Facts {
    let mut headers = given.clone();
    for name in [REFERER, USER_AGENT] {
        headers.extend(head.headers.get(&name).map(|value| (name, value.clone())));
    }
    let scene = Scene { method: &head.method, headers: &headers, uri: &head.uri, caller: context.0.caller };
    let mut facts = scene.facts(user);
    if user.is_some() {
        let version = form.field("x-amz-algorithm").unwrap_or("AWS");
        facts.push(("s3:authtype".to_owned(), "POST".to_owned()));
        facts.push(("s3:signatureversion".to_owned(), version.to_owned()));
    }
    facts
}

/// The fields that are headers otherwise.
fn described(form: &Head) -> S3Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &form.fields {
        let invalid = || s3_error!(InvalidArgument, "The form field {name} makes no header");
        let header = match name.as_str() {
            "tagging" => TAGGING,
            "acl" => LIST,
            name if SIGNING.contains(&name) => continue,
            name if name.starts_with(AMZ) || HEADERS.contains(&name) => {
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?
            }
            _ => continue,
        };
        let value = if header == TAGGING { tagging::of_document(value)? } else { value.clone() };
        // Metadata may be any text; it travels as the bytes of its UTF-8.
        let value = match header.as_str().starts_with(META) {
            true => HeaderValue::from_bytes(value.as_bytes()),
            false => HeaderValue::from_str(&value),
        };
        headers.insert(header, value.map_err(|_| invalid())?);
    }
    Ok(headers)
}

/// What the browser is told: what the form asks for.
fn told(
    form: &Head,
    (bucket, key): (&str, &str),
    location: &str,
    etag: Option<&HeaderValue>,
) -> Response<Body> {
    let etag_text = etag.and_then(|etag| etag.to_str().ok()).unwrap_or_default();
    let redirect = form.field("success_action_redirect").or_else(|| form.field("redirect"));
    let redirect = redirect.and_then(|url| {
        let whole =
            url.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
        let sign = if url.contains('?') { '&' } else { '?' };
        let pairs = [("bucket", bucket), ("key", key), ("etag", etag_text)];
        let query: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{name}={}", tagging::encoded(value))).collect();
        let query = query.join("&");
        HeaderValue::from_str(&format!("{url}{sign}{query}")).ok().filter(|_| whole)
    });
    let mut response = Response::new(Body::empty());
    let target = match (redirect, form.field("success_action_status")) {
        (Some(url), _) => {
            *response.status_mut() = StatusCode::SEE_OTHER;
            Some(url)
        }
        (None, status) => {
            match status {
                Some("200") => {}
                Some("201") => {
                    *response.status_mut() = StatusCode::CREATED;
                    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PostResponse>");
                    let elements =
                        [("Location", location), ("Bucket", bucket), ("Key", key), ("ETag", etag_text)];
                    elements.iter().for_each(|(name, value)| element(&mut text, name, value));
                    text.push_str("</PostResponse>");
                    *response.body_mut() = Body::full(text);
                    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
                }
                _ => *response.status_mut() = StatusCode::NO_CONTENT,
            }
            HeaderValue::from_str(location).ok()
        }
    };
    let headers = response.headers_mut();
    for (name, value) in [(LOCATION, target), (ETAG, etag.cloned())] {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    response
}

/// The file of a form, of the size that the policy allows.
struct FileBody {
    form: RequestBody,
    file: File,
    /// Bytes that came with the fields.
    first: VecDeque<Bytes>,
    sizes: Option<SizeRange>,
    seen: u64,
    done: bool,
}

impl FileBody {
    fn new(form: RequestBody, boundary: &str, rest: &[u8], sizes: Option<SizeRange>) -> Self {
        let mut file = File::new(boundary);
        let first = Bytes::from(file.push(rest));
        Self { form, file, first: VecDeque::from([first]), sizes, seen: 0, done: false }
    }

    /// Counts bytes of the file.
    fn take(&mut self, bytes: Bytes) -> Result<Frame<Bytes>, StreamError> {
        self.seen += bytes.len() as u64;
        match self.sizes {
            Some(sizes) if self.seen > sizes.max => {
                self.done = true;
                Err(FileError::TooLarge.into())
            }
            _ => Ok(Frame::data(bytes)),
        }
    }

    fn end(&self) -> Option<Result<Frame<Bytes>, StreamError>> {
        match self.sizes {
            _ if !self.file.ended() => Some(Err(FileError::Cut.into())),
            Some(sizes) if self.seen < sizes.min => Some(Err(FileError::TooSmall.into())),
            _ => None,
        }
    }
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let this = &mut *self;
        loop {
            if this.done {
                return Poll::Ready(None);
            }
            let bytes = match this.first.pop_front() {
                Some(bytes) => bytes,
                // What comes behind the file is read to its end, so that the connection can go on, and forgotten.
                None => match ready!(Pin::new(&mut this.form).poll_frame(cx)) {
                    Some(Ok(frame)) => Bytes::from(this.file.push(frame.data_ref().map_or(&[], |data| data))),
                    Some(Err(error)) => {
                        this.done = true;
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    None => {
                        this.done = true;
                        return Poll::Ready(this.end());
                    }
                },
            };
            if !bytes.is_empty() {
                return Poll::Ready(Some(this.take(bytes)));
            }
        }
    }
}
