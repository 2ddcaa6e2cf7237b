//! Browsers of other origins: preflight requests, and the headers that let a page read an answer.

use std::borrow::Cow;
use std::sync::Arc;

use blobstore_sidecar_core::key::BucketName;
use blobstore_sidecar_s3::cors::{Ask, Told, allowed, nonsense};
use blobstore_sidecar_store::ErrorKind;
use http::header::{HeaderName, HeaderValue, ORIGIN};
use http::{HeaderMap, Method, Response, StatusCode, request};
use percent_encoding::percent_decode_str;
use s3s::dto::CORSRule;

use super::documents;
use crate::body::Body;
use crate::error::{ApiError, Notation};
use crate::shell::Shell;

const METHOD: HeaderName = HeaderName::from_static("access-control-request-method");
const HEADERS: HeaderName = HeaderName::from_static("access-control-request-headers");

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What an answer to this request needs to know of it.
#[derive(Clone, Debug)]
pub struct Crossing {
    bucket: BucketName,
    origin: String,
    method: String,
    headers: Option<String>,
}

impl Crossing {
    /// `None`: no browser of another origin asks.
    pub fn of(shell: &Shell, head: &request::Parts) -> Option<Self> {
        let origin = text(&head.headers, &ORIGIN)?.to_owned();
        let path = head.uri.path().trim_start_matches('/');
        let bucket = match shell.hosted(&head.headers) {
            Some(bucket) => bucket,
            None => {
                let bucket = path.split('/').next().unwrap_or_default();
                percent_decode_str(bucket).decode_utf8().ok()?.into_owned()
            }
        };
        let bucket = BucketName::parse(bucket).ok()?;
        let method = match head.method {
            Method::OPTIONS => text(&head.headers, &METHOD)?.to_owned(),
            ref method => method.as_str().to_owned(),
        };
        let headers = text(&head.headers, &HEADERS).map(str::to_owned);
        Some(Self { bucket, origin, method, headers })
    }

    async fn told(&self, shell: &Arc<Shell>) -> Option<Told> {
        let info = shell.store.bucket_last_known(&self.bucket).await.ok()?;
        let rules: Vec<CORSRule> = serde_json::from_str(info.document(documents::CORS)?).ok()?;
        let ask = Ask { origin: &self.origin, method: &self.method, headers: self.headers.as_deref() };
        allowed(&rules, ask)
    }

    /// Why nothing is told.
    async fn why_not(&self, shell: &Arc<Shell>) -> &'static str {
        match shell.store.bucket_last_known(&self.bucket).await {
            Err(error) if error.kind == ErrorKind::NoSuchBucket => "CORSResponse: Bucket not found",
            Ok(info) if info.document(documents::CORS).is_none() => {
                "CORSResponse: CORS is not enabled for this bucket."
            }
            _ => {
                "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, \
                 request method / Access-Control-Request-Method or Access-Control-Request-Headers are not \
                 whitelisted by the resource's CORS spec."
            }
        }
    }

    /// Adds what lets the page read the answer, if the bucket allows it.
    pub async fn decorate(&self, shell: &Arc<Shell>, headers: &mut HeaderMap) {
        let Some(told) = self.told(shell).await else { return };
        for (name, value) in told {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

/// A preflight: may the page send what it wants to send?
pub async fn preflight(shell: &Arc<Shell>, head: &request::Parts) -> Response<Body> {
    let refused = |status, code, message: Cow<'static, str>| {
        ApiError::new(status, code, message).into_response(Notation::Xml, "", false)
    };
    let insufficient = "Insufficient information. Origin request header needed.";
    if !head.headers.contains_key(ORIGIN) {
        return refused(StatusCode::BAD_REQUEST, "BadRequest", insufficient.into());
    }
    if let Some(problem) = nonsense(text(&head.headers, &METHOD), text(&head.headers, &HEADERS)) {
        return refused(StatusCode::BAD_REQUEST, "BadRequest", problem.into());
    }
    let Some(crossing) = Crossing::of(shell, head) else {
        return refused(StatusCode::BAD_REQUEST, "BadRequest", insufficient.into());
    };
    // The headers themselves are added to every answer, to this one like to others.
    if crossing.told(shell).await.is_some() {
        return Response::new(Body::empty());
    }
    refused(StatusCode::FORBIDDEN, "AccessForbidden", crossing.why_not(shell).await.into())
}
