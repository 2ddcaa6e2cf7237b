//! Refusals as they leave: s3s's own, which say the same in other codes, become those that AWS gives; and every document
//! names the request and what it was about.

use std::fmt::Write as _;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Response, StatusCode, request};
use http_body_util::{BodyExt as _, Collected, Limited};

use super::particulars::{self, About};
use super::sentences;
use crate::body::Body;
use crate::error::{ApiError, Notation};
use crate::shell::Shell;
use crate::xml::escape_into;

/// An error document is a sentence or two, and a key.
const DOCUMENT_BYTES_MAX: usize = 16 << 10;

/// A refusal of s3s, and the one that AWS gives for the same.
struct Rule {
    code: &'static str,
    /// Part of its sentence.
    says: &'static str,
    status: StatusCode,
    to: &'static str,
    message: &'static str,
}

const fn rule(
    code: &'static str,
    says: &'static str,
    status: StatusCode,
    to: &'static str,
    message: &'static str,
) -> Rule {
    Rule { code, says, status, to, message }
}

const BAD: StatusCode = StatusCode::BAD_REQUEST;

const RULES: &[Rule] = &[
    rule(
        "InvalidArgument",
        "invalid query: partNumber",
        BAD,
        "InvalidArgument",
        "Part number must be an integer between 1 and 10000, inclusive",
    ),
    rule(
        "InvalidArgument",
        "invalid header: x-amz-copy-source:",
        BAD,
        "InvalidArgument",
        "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
    ),
    rule(
        "InvalidRequest",
        "missing header: x-amz-object-attributes",
        BAD,
        "InvalidRequest",
        "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty",
    ),
    rule(
        "InvalidPolicyDocument",
        "Policy condition",
        StatusCode::FORBIDDEN,
        "AccessDenied",
        "Invalid according to Policy: Policy Condition failed",
    ),
    rule(
        "NotImplemented",
        "Unknown operation",
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        "The specified method is not allowed against this resource.",
    ),
    rule(
        "SignatureDoesNotMatch",
        "invalid header: x-amz-content-sha256",
        BAD,
        "InvalidArgument",
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
         STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
    ),
    rule(
        "InvalidRequest",
        "missing header: x-amz-content-sha256",
        BAD,
        "InvalidRequest",
        "Missing required header for this request: x-amz-content-sha256",
    ),
    rule(
        "InvalidArgument",
        "x-amz-mp-object-size",
        BAD,
        "InvalidRequest",
        "Value for x-amz-mp-object-size header is invalid.",
    ),
    rule(
        "InvalidPart",
        "bytes together, not",
        BAD,
        "InvalidRequest",
        "The provided 'x-amz-mp-object-size' header value does not match what was computed.",
    ),
    rule(
        "InvalidRequest",
        "missing key",
        BAD,
        "InvalidArgument",
        "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.",
    ),
    rule(
        "InvalidRequest",
        "missing field: policy",
        BAD,
        "InvalidArgument",
        "Bucket POST must contain a field named 'policy'.  If it is specified, please check the order of the fields.",
    ),
    rule(
        "NotImplemented",
        "x-amz-algorithm other than",
        BAD,
        "InvalidArgument",
        "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"",
    ),
    rule(
        "InvalidRequest",
        "missing boundary",
        BAD,
        "MalformedPOSTRequest",
        "The body of your POST request is not well-formed multipart/form-data.",
    ),
];

/// The request that is refused.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    request_id: String,
    about: About,
}

impl Refused {
    pub(super) fn of(shell: &Shell, head: &request::Parts, request_id: &str) -> Self {
        let hosted = shell.hosted(&head.headers);
        let about = About::of(&head.method, &head.uri, &head.headers, hosted);
        Self { request_id: request_id.to_owned(), about }
    }

    fn head(&self) -> bool {
        self.about.method == Method::HEAD
    }

    /// A refusal of our own.
    fn by(&self, error: ApiError) -> Response<Body> {
        error.into_response(Notation::Xml, &self.request_id, self.head())
    }

    /// The answer; a refusal's document is completed. `instead`: what was found out meanwhile, and is the cause.
    pub(super) async fn finish(
        &self,
        answer: Result<Response<Body>, ApiError>,
        instead: Option<ApiError>,
    ) -> Response<Body> {
        let response = answer.unwrap_or_else(|error| self.by(error));
        let status = response.status();
        if !(status.is_client_error() || status.is_server_error()) {
            return response;
        }
        let response = match instead {
            Some(error) => self.by(error),
            None => response,
        };
        if self.head() {
            return response;
        }
        let (mut head, body) = response.into_parts();
        let text = Limited::new(body, DOCUMENT_BYTES_MAX).collect().await.map(Collected::to_bytes);
        let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
        let text = match RULES.iter().find(|rule| rule.fits(&text)) {
            Some(rule) => {
                head.status = rule.status;
                document(rule.to, rule.message)
            }
            None => match sentences::of(&text) {
                Some((code, sentence)) => document(code, sentence),
                None => text,
            },
        };
        head.headers.remove(CONTENT_LENGTH);
        let text = self.complete(&text, &head.headers);
        Response::from_parts(head, Body::full(text))
    }

    /// `headers`: of the answer.
    fn complete(&self, text: &str, headers: &HeaderMap) -> String {
        let Some(open) = text.strip_suffix("</Error>") else { return text.to_owned() };
        // Our own have it already.
        let open = open.split("<RequestId>").next().unwrap_or(open);
        let inside = |name: &str| {
            let (_, rest) = open.split_once(&format!("<{name}>"))?;
            Some(rest.split_once(&format!("</{name}>"))?.0)
        };
        let (code, message) = (inside("Code").unwrap_or_default(), inside("Message").unwrap_or_default());
        let told = particulars::elements(code, message, &self.about, headers);
        let mut text = format!("{open}{told}<Resource>");
        escape_into(&mut text, self.about.uri.path());
        let _ = write!(
            text,
            "</Resource><RequestId>{0}</RequestId><HostId>{0}</HostId></Error>",
            self.request_id
        );
        text
    }
}

fn document(code: &str, message: &str) -> String {
    let mut text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>");
    escape_into(&mut text, message);
    text.push_str("</Message></Error>");
    text
}

impl Rule {
    fn fits(&self, text: &str) -> bool {
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        code.is_some_and(|(code, rest)| code == self.code && rest.contains(self.says))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(text: &str, want: (u16, &str)) {
        let mut response = Response::new(Body::full(text.to_owned()));
        *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
        let uri = "/b/%3Ck%3E".parse().expect("a URI");
        let about = About::of(&Method::GET, &uri, &HeaderMap::new(), None);
        let refused = Refused { request_id: "7".to_owned(), about };
        let answer = refused.finish(Ok(response), None).await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        assert!(body.contains(want.1) && status == want.0, "{status} {body}");
        assert!(body.contains("<Resource>/b/%3Ck%3E</Resource><RequestId>7</RequestId>"), "{body}");
    }

    #[tokio::test]
    async fn documents_name_the_request_and_say_it_as_at_home() {
        let with = |code: &str, message: &str| document(code, message);
        check(&with("NotImplemented", "Unknown operation"), (405, "<Code>MethodNotAllowed</Code>")).await;
        check(&with("NotImplemented", "Select"), (501, "<Code>NotImplemented</Code>")).await;
        check(&with("InvalidPolicyDocument", "Policy condition 'eq' failed"), (403, "AccessDenied")).await;
        check(
            &with("InvalidPart", "part 3 is not there"),
            (501, "or the specified entity tag may not match"),
        )
        .await;
        check("<Error><Code>NoSuchTagSet</Code></Error>", (501, "The TagSet does not exist")).await;
        check("<Error><Code>A</Code><RequestId>8</RequestId></Error>", (501, "<Code>A</Code>")).await;
        check(&with("NoSuchKey", "gone"), (501, "<Message>gone</Message><Key>&lt;k&gt;</Key>")).await;
    }
}
