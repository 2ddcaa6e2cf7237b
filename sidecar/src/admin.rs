//! The admin port (9001): health, readiness and metrics for everyone who can reach it; reports, heap profiles, topology,
//! actions and the log filter for who has the store's admin token.

use std::sync::Arc;
use std::time::Duration;

use blobstore_sidecar_api::action::ActionRequest;
use blobstore_sidecar_runtime::memory;
use blobstore_sidecar_runtime::metrics::registry;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actions::Actions;
use crate::auth::bearer_is;
use crate::body::Body;
use crate::control::Control;
use crate::error::{ApiError, Notation};
use crate::heap::HeapProfiler;
use crate::io::Busy;
use crate::metrics::HEAP_HANDED_OUT;
use crate::route::parameters;
use crate::server::{Answer, Service, later};
use crate::shell::Shell;
use crate::telemetry::LogFilter;

/// Bodies of actions and filters: a handful of parameters.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 10;
const BODY_WAIT: Duration = Duration::from_secs(5);
/// preStop without a deadline of its own: inside Kubernetes' default grace period of 30 s.
const HAND_OVER_SECONDS: u64 = 20;
const HAND_OVER_SECONDS_MAX: u64 = 3_600;

/// The admin port.
#[derive(Debug)]
pub struct AdminPort {
    shell: Arc<Shell>,
    control: Arc<dyn Control>,
    actions: Actions,
    log: LogFilter,
    heap: HeapProfiler,
    token: String,
}

impl Service for AdminPort {
    fn answer(self: Arc<Self>, request: Request<Incoming>, busy: Busy) -> Answer {
        later(async move {
            let _busy = busy.enter();
            let head = request.method() == Method::HEAD;
            match self.handle(request).await {
                Ok(response) => response,
                Err(error) => error.into_response(Notation::Json, "", head),
            }
        })
    }
}

impl AdminPort {
    /// `token` empty: the protected paths are open to nobody.
    pub fn new(shell: Arc<Shell>, control: Arc<dyn Control>, log: LogFilter, token: String) -> Self {
        let actions = Actions::new(Arc::clone(&control));
        Self { shell, control, actions, log, heap: HeapProfiler::default(), token }
    }

    async fn handle(&self, request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        match (&method, path.as_str()) {
            (&Method::GET | &Method::HEAD, "/healthz") => return Ok(text("ok\n".to_owned())),
            (&Method::GET | &Method::HEAD, "/readyz") => return self.ready().await,
            (&Method::GET, "/metrics") => return metrics(),
            _ => {}
        }
        if !bearer_is(request.headers(), &self.token) {
            let message = "send Authorization: Bearer <admin token>: it is in the store's Secret";
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, "Unauthorized", message));
        }
        match (&method, path.as_str()) {
            (&Method::GET, "/v1/report") => found(self.control.report().await, "no leak detector runs here"),
            (&Method::GET, "/v1/memory") => {
                json(&self.control.memory().await.map_err(ApiError::unavailable)?)
            }
            (&Method::GET, "/v1/topology") => {
                found(self.control.topology().await, "this sidecar is not part of a shard")
            }
            (&Method::GET, "/v1/heap-profile") => self.heap_profile(&request).await,
            (&Method::GET, "/v1/log-filter") => Ok(text(self.log.get())),
            (&Method::PUT, "/v1/log-filter") => self.set_filter(request).await,
            (&Method::POST, "/v1/hand-over") => self.hand_over(&request).await,
            (&Method::POST, path) if path.starts_with("/v1/actions/") => {
                let name = path.trim_start_matches("/v1/actions/").to_owned();
                let ask: ActionRequest = read_json(request).await?;
                json(&self.actions.ask(&name, ask).await)
            }
            (&Method::GET, path) if path.starts_with("/v1/actions/") => {
                found(self.actions.get(path.trim_start_matches("/v1/actions/")), "no action has this id")
            }
            _ => Err(ApiError::new(StatusCode::NOT_FOUND, "NotFound", "the admin port has no such path")),
        }
    }

    /// Ready means: clients get answers here, and a node drain may count on this copy. So a replica that is still
    /// syncing is not ready: the disruption budget would let its primary go. That does not block formation, which
    /// uses the pods' names whether ready or not.
    async fn ready(&self) -> Result<Response<Body>, ApiError> {
        if self.shell.draining() {
            return Err(ApiError::unavailable("draining"));
        }
        self.control.readiness().await.map_err(ApiError::unavailable)?;
        Ok(text("ready\n".to_owned()))
    }

    async fn set_filter(&self, request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
        let body = read(request, BODY_BYTES_MAX).await?;
        let filter = std::str::from_utf8(&body).unwrap_or_default().trim();
        match self.log.set(filter) {
            Ok(()) => Ok(text(self.log.get())),
            Err(error) => Err(ApiError::bad_request("InvalidFilter", format!("{filter:?}: {error}"))),
        }
    }

    async fn heap_profile(&self, request: &Request<Incoming>) -> Result<Response<Body>, ApiError> {
        let profile = self.heap.profile(seconds(request)?.as_deref()).await?;
        let mut response = Response::new(Body::full(profile));
        let kind = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(response)
    }

    async fn hand_over(&self, request: &Request<Incoming>) -> Result<Response<Body>, ApiError> {
        let seconds = match seconds(request)?.map(|value| value.parse::<u64>()) {
            None => HAND_OVER_SECONDS,
            Some(Ok(seconds)) => seconds.min(HAND_OVER_SECONDS_MAX),
            Some(Err(_)) => return Err(ApiError::bad_request("InvalidArgument", "seconds is not a number")),
        };
        self.control.hand_over(Duration::from_secs(seconds)).await;
        Ok(text("done\n".to_owned()))
    }
}

fn seconds(request: &Request<Incoming>) -> Result<Option<String>, ApiError> {
    let query = parameters(request.uri().query().unwrap_or_default())?;
    Ok(query.into_iter().find(|(name, _)| name == "seconds").map(|(_, value)| value))
}

fn metrics() -> Result<Response<Body>, ApiError> {
    HEAP_HANDED_OUT.inc_by(memory::heap_handed_out().saturating_sub(HEAP_HANDED_OUT.get()));
    let rendered = prometheus::TextEncoder::new().encode_to_string(&registry().gather());
    rendered.map(text).map_err(|error| ApiError::internal(format!("render the metrics: {error}")))
}

fn text(text: String) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn found<T: Serialize>(value: Option<T>, otherwise: &'static str) -> Result<Response<Body>, ApiError> {
    match value {
        Some(value) => json(&value),
        None => Err(ApiError::new(StatusCode::NOT_FOUND, "NotFound", otherwise)),
    }
}

pub(crate) fn json<T: Serialize>(value: &T) -> Result<Response<Body>, ApiError> {
    let text = serde_json::to_vec(value).map_err(|error| ApiError::internal(error.to_string()))?;
    let mut response = Response::new(Body::full(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

async fn read(request: Request<Incoming>, bytes_max: usize) -> Result<Bytes, ApiError> {
    let body = Limited::new(request.into_body(), bytes_max).collect();
    match tokio::time::timeout(BODY_WAIT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => Err(ApiError::bad_request("IncompleteBody", error.to_string())),
        Err(_) => {
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", "the body did not arrive"))
        }
    }
}

pub(crate) async fn read_json<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, ApiError> {
    read_json_within(request, BODY_BYTES_MAX).await
}

pub(crate) async fn read_json_within<T: DeserializeOwned>(
    request: Request<Incoming>,
    bytes_max: usize,
) -> Result<T, ApiError> {
    let body = read(request, bytes_max).await?;
    serde_json::from_slice(&body).map_err(|error| ApiError::bad_request("InvalidJson", error.to_string()))
}
