//! S3 on the client port: a translator. `s3s` verifies signatures and reads requests; every operation becomes one or
//! more requests of the plain lane, already authorised, served here or forwarded to their owner like any other.

use std::sync::{Arc, OnceLock};

use blobstore_sidecar_s3::authorization;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, request};
use hyper::body::Incoming;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};

use crate::body::{Body, RequestBody};
use crate::error::{ApiError, Notation};
use crate::finish::Finish;
use crate::io::Busy;
use crate::lane;
use crate::route;
use crate::shell::Shell;

mod access;
mod attributes;
mod bucket;
mod call;
mod copy;
pub mod cors;
mod defaults;
mod delete;
mod documents;
mod error;
mod form;
mod listing;
mod multipart;
mod object;
mod openness;
mod partial;
mod tagging;
mod translate;
mod upload;
mod uploads;
mod versions;

/// A signed chunk is held whole until its signature is verified: the bound of what one upload may hold so.
const SIGNED_CHUNK_BYTES_MAX: usize = 1 << 20;
/// Documents in XML are collected whole: 1,000 keys of 1,024 bytes to delete, escaped, with room.
const XML_BYTES_MAX: usize = 4 << 20;
/// Fields of a browser's form, without the file.
const FORM_BYTES_MAX: usize = 64 << 10;

const HEADER_REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

pub(crate) use openness::{POLICY, is_restricted};

/// The S3 side of the client port.
#[derive(Debug)]
pub struct S3 {
    service: S3Service,
}

/// What the parts of one request share.
#[derive(Clone, Debug)]
struct Context(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    request_id: String,
    /// Metric label, known once the request is routed.
    label: OnceLock<&'static str>,
}

impl S3 {
    pub fn new(shell: Arc<Shell>) -> Self {
        let mut config = S3Config::default();
        config.aws_chunked_stream_max_chunk_size = SIGNED_CHUNK_BYTES_MAX;
        config.xml_max_body_size = XML_BYTES_MAX;
        config.form_max_fields_size = FORM_BYTES_MAX;
        config.form_max_field_size = FORM_BYTES_MAX;
        // What boto3 presigns with unless told otherwise.
        config.enable_sig_v2 = true;
        config.put_object_max_size = Some(shell.limits.body_bytes_max);
        config.post_object_max_file_size = shell.limits.body_bytes_max;
        let mut builder = S3ServiceBuilder::new(translate::Translator(Arc::clone(&shell)));
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        builder.set_validation(access::Names);
        builder.set_auth(access::Secrets(Arc::clone(&shell)));
        builder.set_access(access::Rights(shell));
        Self { service: builder.build() }
    }

    /// Answers one request of a client.
    pub async fn answer(&self, shell: &Arc<Shell>, request: Request<Incoming>, busy: Busy) -> Response<Body> {
        let guard = busy.enter();
        let (head, incoming) = request.into_parts();
        if head.method == Method::OPTIONS {
            return cors::preflight(shell, &head).await;
        }
        let (bodyless, is_form) = (head.method == Method::HEAD, form::is_form(&head));
        let request_id = format!("{:016x}", rand::random::<u64>());
        if let Some((code, message)) = authorization::problem(&head.headers, &head.uri) {
            let bodyless = head.method == Method::HEAD;
            return ApiError::bad_request(code, message).into_response(Notation::Xml, &request_id, bodyless);
        }
        let shared = Shared { request_id: request_id.clone(), label: OnceLock::new() };
        let context = Context(Arc::new(shared));
        let mut finish = Finish::begin("s3", request_id.clone(), guard);
        let body = RequestBody::new(incoming, busy, shell.body_idle());
        let mut request = Request::from_parts(head, s3s::Body::http_body_unsync(body));
        request.extensions_mut().insert(context.clone());
        let work = async {
            let answer = Box::pin(self.service.call(request)).await;
            answer.map(|response| response.map(Body::s3)).map_err(|error| {
                tracing::error!(request_id, %error, "the S3 side failed");
                ApiError::internal("the server failed on this request: the log has the cause under its id")
            })
        };
        let mut response = match lane::caught(work).await {
            Ok(response) => response,
            Err(error) => error.into_response(Notation::Xml, &request_id, bodyless),
        };
        if is_form {
            response = form::refusal(response, &request_id).await;
        }
        // A status that s3s has no place for.
        if let Some(status) = response.extensions_mut().remove::<StatusCode>() {
            *response.status_mut() = status;
        }
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(HEADER_REQUEST_ID, value);
        }
        finish.rename(context.0.label.get().copied());
        finish.answered(response.status().as_u16());
        response.map(|body| body.finish_with(finish))
    }
}

/// Is this request S3's? Whatever carries an AWS signature; and, without any credentials, what only an S3 client
/// sends. Who comes with a token or a password speaks to the plain lane.
pub fn wants(head: &request::Parts) -> bool {
    if route::is_signed(&head.headers, &head.uri) {
        return true;
    }
    if head.headers.contains_key(AUTHORIZATION) {
        return false;
    }
    if head.method == Method::OPTIONS {
        return true;
    }
    let marked = |name: &HeaderName| {
        let name = name.as_str();
        (name.starts_with("x-amz-") && !name.starts_with("x-amz-meta-")) || name.starts_with("amz-sdk-")
    };
    head.headers.keys().any(marked) || route::is_s3_query(&head.uri) || form::is_form(head)
}
