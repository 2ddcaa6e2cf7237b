//! S3 on the client port: a translator. `s3s` verifies signatures and reads requests; every operation becomes one or
//! more requests of the plain lane, already authorised, served here or forwarded to their owner like any other.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use blobstore_sidecar_s3::authorization;
use blobstore_sidecar_s3::policy::Facts;
use futures::FutureExt as _;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, request};
use hyper::body::Incoming;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};

use crate::body::{Body, RequestBody};
use crate::error::ApiError;
use crate::finish::Finish;
use crate::io::{Busy, Caller};
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
mod digest;
mod documents;
mod error;
mod expiry;
mod facts;
mod form;
mod headers;
mod host;
mod lifecycle;
mod listing;
mod mend;
mod multipart;
mod object;
mod openness;
mod partial;
mod particulars;
mod refusal;
mod sentences;
mod simple;
mod sums;
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
const HEADER_HOST_ID: HeaderName = HeaderName::from_static("x-amz-id-2");

pub(crate) use facts::Scene;
pub(crate) use openness::{POLICY, is_restricted};
use refusal::Refused;

/// The S3 side of the client port.
#[derive(Debug)]
pub struct S3 {
    shell: Arc<Shell>,
    service: S3Service,
}

/// What the parts of one request share.
#[derive(Clone, Debug)]
struct Context(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    request_id: String,
    /// Metric label, known once the request is routed.
    label: OnceLock<&'static str>,
    /// The access key that signed, where the signature is verified before the request is mended.
    who: OnceLock<String>,
    caller: Caller,
    /// What is known of the request, where the handler will have to ask again.
    facts: OnceLock<Facts>,
    /// What is wrong with the document that was sent: code and sentence.
    problem: OnceLock<authorization::Problem>,
}

impl S3 {
    pub fn new(shell: Arc<Shell>) -> Self {
        let config = config(&shell);
        let mut builder = builder(&shell, Arc::clone(&config));
        builder.set_route(mend::Mender(self::builder(&shell, config).build()));
        Self { service: builder.build(), shell }
    }

    /// Answers one request of a client.
    pub async fn answer(&self, shell: &Arc<Shell>, request: Request<Incoming>, busy: Busy) -> Response<Body> {
        let guard = busy.enter();
        let (head, incoming) = request.into_parts();
        if head.method == Method::OPTIONS {
            return Box::pin(cors::preflight(shell, &head)).await;
        }
        let request_id = format!("{:016x}", rand::random::<u64>());
        let mut finish = Finish::begin("s3", request_id.clone(), guard);
        let shared = Shared { request_id: request_id.clone(), caller: busy.caller(), ..Shared::default() };
        let context = Context(Arc::new(shared));
        let body = RequestBody::new(incoming, busy, shell.body_idle());
        let mut response = match simple::of(shell, &head) {
            Some(simple) => {
                let work = Box::pin(simple::answer(shell, simple, &head, body, &context));
                match lane::caught(work.map(|answer| answer.or_else(error::told))).await {
                    Ok(response) if response.status().is_success() => response,
                    refusal => Box::pin(Refused::of(shell, &head, &request_id).finish(refusal, None)).await,
                }
            }
            None => Box::pin(self.in_full(head, body, &context)).await,
        };
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(HEADER_HOST_ID, value.clone());
            response.headers_mut().insert(HEADER_REQUEST_ID, value);
        }
        finish.rename(context.0.label.get().copied());
        finish.answered(response.status().as_u16());
        response.map(|body| body.finish_with(finish))
    }

    /// Whatever is not simple.
    async fn in_full(&self, head: request::Parts, body: RequestBody, context: &Context) -> Response<Body> {
        let refused = Refused::of(&self.shell, &head, &context.0.request_id);
        let answer = match authorization::problem(&head.headers, &head.uri) {
            Some((code, message)) => Err(unauthorized(code, message)),
            None => self.serve(head, body, context).await,
        };
        let status = answer.as_ref().map_or_else(|error| error.status, Response::status);
        let problem = digest::problem(context, status);
        let mut response = refused.finish(answer, problem).await;
        // A status that s3s has no place for.
        if let Some(status) = response.extensions_mut().remove::<StatusCode>() {
            *response.status_mut() = status;
        }
        response
    }

    async fn serve(
        &self,
        mut head: request::Parts,
        body: RequestBody,
        context: &Context,
    ) -> Result<Response<Body>, ApiError> {
        if head.headers.get(AUTHORIZATION).is_some_and(HeaderValue::is_empty) {
            head.headers.remove(AUTHORIZATION);
        }
        object::join_metadata(&mut head.headers);
        if form::is_form(&head) {
            let _ = context.0.label.set("s3_post");
            let work = Box::pin(form::answer(&self.shell, &head, body, context));
            return lane::caught(work.map(|answer| answer.or_else(error::told))).await;
        }
        let body = digest::body(&head, body, context);
        let mut request = Request::from_parts(head, body);
        request.extensions_mut().insert(context.clone());
        let request_id = &context.0.request_id;
        let work = async {
            let answer = Box::pin(self.service.call(request)).await;
            answer.map(|response| response.map(Body::s3)).map_err(|error| {
                tracing::error!(request_id, %error, "the S3 side failed");
                ApiError::internal("the server failed on this request: the log has the cause under its id")
            })
        };
        lane::caught(work).await
    }
}

fn config(shell: &Shell) -> Arc<S3Config> {
    let mut config = S3Config::default();
    config.aws_chunked_stream_max_chunk_size = SIGNED_CHUNK_BYTES_MAX;
    config.xml_max_body_size = XML_BYTES_MAX;
    config.form_max_fields_size = FORM_BYTES_MAX;
    config.form_max_field_size = FORM_BYTES_MAX;
    // What boto3 presigns with unless told otherwise.
    config.enable_sig_v2 = true;
    config.put_object_max_size = Some(shell.limits.body_bytes_max);
    config.post_object_max_file_size = shell.limits.body_bytes_max;
    Arc::new(config)
}

fn builder(shell: &Arc<Shell>, config: Arc<S3Config>) -> S3ServiceBuilder {
    let mut builder = S3ServiceBuilder::new(translate::Translator(Arc::clone(shell)));
    builder.set_config(Arc::new(StaticConfigProvider::new(config)));
    builder.set_validation(access::Names);
    builder.set_auth(access::Secrets(Arc::clone(shell)));
    builder.set_access(access::Rights(Arc::clone(shell)));
    if !shell.domains.is_empty() {
        builder.set_host(host::Hosts(Arc::clone(shell)));
    }
    builder
}

/// Credentials that cannot be: the request is malformed, unless it lacks what every signed one has.
fn unauthorized(code: &'static str, message: Cow<'static, str>) -> ApiError {
    let status = if code == "AccessDenied" { StatusCode::FORBIDDEN } else { StatusCode::BAD_REQUEST };
    ApiError::new(status, code, message)
}

/// Is this request S3's? Whatever carries an AWS signature; and, without credentials of the plain lane, what only an
/// S3 client sends. Who comes with a token or a password speaks to the plain lane.
pub fn wants(head: &request::Parts) -> bool {
    if route::is_signed(&head.headers, &head.uri) {
        return true;
    }
    let credentials = head.headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    let scheme = credentials.map(|text| text.split(' ').next().unwrap_or_default());
    if scheme.is_some_and(|scheme| ["bearer", "basic"].iter().any(|known| scheme.eq_ignore_ascii_case(known)))
    {
        return false;
    }
    if head.method == Method::OPTIONS {
        return true;
    }
    let marked = |name: &HeaderName| {
        let name = name.as_str();
        (name.starts_with("x-amz-") && !name.starts_with("x-amz-meta-")) || name.starts_with("amz-sdk-")
    };
    // The plain lane has no answers to choose; S3 has them for those who sign, and says so to others.
    let chosen = || credentials.is_none() && route::chooses_headers(&head.uri);
    head.headers.keys().any(marked) || chosen() || route::is_s3_query(&head.uri) || form::is_form(head)
}
