//! Browser forms: how to tell one, and the refusal that AWS gives when a form does not fit its policy.

use http::{Method, Response, StatusCode, request};
use http_body_util::{BodyExt as _, Collected, Limited};

use crate::body::Body;
use crate::error::{ApiError, Notation};

/// An error document is a sentence or two.
const DOCUMENT_BYTES_MAX: usize = 16 << 10;

/// A browser's upload with a policy.
pub(super) fn is_form(head: &request::Parts) -> bool {
    let kind = head.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    head.method == Method::POST && kind.is_some_and(|kind| kind.starts_with("multipart/form-data"))
}

/// s3s calls a condition that does not hold an invalid document; to S3 the document is fine and access denied.
pub(super) async fn refusal(response: Response<Body>, request_id: &str) -> Response<Body> {
    if response.status() != StatusCode::BAD_REQUEST {
        return response;
    }
    let (head, body) = response.into_parts();
    let text = Limited::new(body, DOCUMENT_BYTES_MAX).collect().await.map(Collected::to_bytes);
    let text = text.unwrap_or_default();
    let document = String::from_utf8_lossy(&text);
    if document.contains("<Code>InvalidPolicyDocument</Code>") && document.contains("Policy condition") {
        let message = "Invalid according to Policy: Policy Condition failed";
        let error = ApiError::new(StatusCode::FORBIDDEN, "AccessDenied", message);
        return error.into_response(Notation::Xml, request_id, false);
    }
    Response::from_parts(head, Body::full(text))
}
