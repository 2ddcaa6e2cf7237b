//! What a client is told when something is wrong: status, a stable code, and a sentence that says what to do.
//! S3's codes where S3 has one, so that tools recognise them. Rendered as JSON, or as XML for those who speak it.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::header::{
    ALLOW, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LAST_MODIFIED, RETRY_AFTER,
};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Collected, Limited};
use serde::{Deserialize, Serialize};

use crate::body::Body;
use crate::lane::{HEADER_MARKER, HEADER_VERSION};

/// A refusal or failure as the client sees it.
#[derive(Debug)]
pub struct ApiError {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: Cow<'static, str>,
    /// Headers that belong to the refusal: Retry-After, Content-Range, owner and epoch.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Which notation the client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    Json,
    Xml,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new() }
    }

    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// 503: the same request may work after a second.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
            .with(RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// 503: too much at once.
    pub fn slow_down(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", message)
            .with(RETRY_AFTER, HeaderValue::from_static("1"))
    }

    pub fn bad_request(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// What another pod answered instead of serving.
    pub async fn of(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        let text = Limited::new(body, MESSAGE_BYTES_MAX).collect().await.map(Collected::to_bytes);
        let document: Document =
            text.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let code = head.headers.get(HEADER_ERROR).and_then(|value| value.to_str().ok());
        let code = code.or(Some(document.code.as_ref()));
        let code = code.map_or("InternalError", known_code);
        let kept = [RETRY_AFTER, ETAG, LAST_MODIFIED, CONTENT_RANGE, ALLOW, HEADER_VERSION, HEADER_MARKER];
        let headers =
            kept.into_iter().filter_map(|name| Some((name.clone(), head.headers.get(name)?.clone())));
        let message = document.message.into_owned().into();
        Self { status: head.status, code, message, headers: headers.collect() }
    }

    pub fn no_such_bucket(bucket: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NoSuchBucket",
            format!("bucket \"{bucket}\" does not exist: create it with PUT /{bucket}"),
        )
    }

    pub fn not_implemented(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            format!(
                "{what} is not served here yet: use the plain lane, PUT, GET, HEAD or DELETE /bucket/key with a \
                 bearer token or basic authentication"
            ),
        )
    }

    /// The answer; `head` leaves the body out, as HEAD demands.
    pub fn into_response(self, notation: Notation, request_id: &str, head: bool) -> Response<Body> {
        let (kind, text) = match notation {
            Notation::Json => ("application/json", json(self.code, &self.message, request_id)),
            Notation::Xml => ("application/xml", xml(self.code, &self.message, request_id)),
        };
        let body = if head { Body::empty() } else { Body::full(text) };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        // For HEAD, whose answer has no body to say it in.
        headers.insert(HEADER_ERROR, HeaderValue::from_static(self.code));
        headers.extend(self.headers);
        response
    }
}

/// Repeats the code of a refusal where a script or a HEAD can see it.
pub const HEADER_ERROR: HeaderName = HeaderName::from_static("x-blobstore-error");

/// A message is a sentence or two.
const MESSAGE_BYTES_MAX: usize = 16 << 10;
/// Every code that the plain lane gives: what a peer says is one of these, or nothing that we know.
const CODES: &[&str] = &[
    "AccessDenied",
    "BadDigest",
    "BucketAlreadyExists",
    "BucketNotEmpty",
    "DamagedObject",
    "EntityTooLarge",
    "EntityTooSmall",
    "IncompleteBody",
    "InsufficientStorage",
    "InvalidArgument",
    "InvalidBucketName",
    "InvalidBucketState",
    "InvalidDigest",
    "InvalidPart",
    "InvalidPartOrder",
    "InvalidRange",
    "InvalidTag",
    "InvalidURI",
    "KeyTooLongError",
    "MetadataTooLarge",
    "MethodNotAllowed",
    "NoSuchBucket",
    "NoSuchKey",
    "NoSuchUpload",
    "NoSuchVersion",
    "NotImplemented",
    "NotModified",
    "NotOwner",
    "PreconditionFailed",
    "QuotaExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
];

/// The code of ours that this text is.
pub fn known_code(text: &str) -> &'static str {
    CODES.iter().find(|known| **known == text).copied().unwrap_or("InternalError")
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document<'a> {
    code: Cow<'a, str>,
    message: Cow<'a, str>,
    request_id: Cow<'a, str>,
}

fn json(code: &str, message: &str, request_id: &str) -> String {
    let document = Document { code: code.into(), message: message.into(), request_id: request_id.into() };
    serde_json::to_string(&document).unwrap_or_default()
}

fn xml(code: &str, message: &str, request_id: &str) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>");
    let _ = write!(text, "{code}</Code><Message>");
    crate::xml::escape_into(&mut text, message);
    let _ = write!(text, "</Message><RequestId>{request_id}</RequestId></Error>");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_escape_what_the_client_sent() {
        let message = "bucket \"<a&b>\" does not exist";
        assert_eq!(
            json("NoSuchBucket", message, "7"),
            r#"{"code":"NoSuchBucket","message":"bucket \"<a&b>\" does not exist","requestId":"7"}"#
        );
        assert!(
            xml("NoSuchBucket", message, "7").contains("bucket &quot;&lt;a&amp;b&gt;&quot; does not exist")
        );
    }
}
