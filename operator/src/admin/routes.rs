//! What each path answers. Every body that comes in is bounded before it is read.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::metrics::Metrics;
use crate::telemetry::Filter;
use crate::webhook::{self, Credentials, Denied, Hint, Recent};

/// The contract with senders is an answer within a second; a body that is not here by then is cut.
const BODY_TIMEOUT: Duration = Duration::from_millis(800);
/// A log filter is a line.
const FILTER_BYTES_MAX: usize = 4 * 1024;

/// Everything the admin port can reach.
#[derive(Debug)]
pub struct Surface {
    pub metrics: Metrics,
    pub filter: Filter,
    pub credentials: Credentials,
    pub hints: mpsc::Sender<Hint>,
    /// Set once the API server has answered.
    pub ready: AtomicBool,
    /// Only the leader acts on hints.
    pub leading: AtomicBool,
    recent: Mutex<Recent>,
}

type Answer = Response<Full<Bytes>>;

fn answer(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

enum Unread {
    TooLarge,
    Slow,
}

async fn read<B: Body<Data = Bytes>>(body: B, limit: usize) -> Result<Bytes, Unread>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(Unread::TooLarge);
    }
    match timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(Unread::TooLarge),
        Err(_) => Err(Unread::Slow),
    }
}

impl Surface {
    pub fn new(
        metrics: Metrics,
        filter: Filter,
        credentials: Credentials,
        hints: mpsc::Sender<Hint>,
    ) -> Self {
        let (ready, leading) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { metrics, filter, credentials, hints, ready, leading, recent: Mutex::default() }
    }

    /// `local`: the caller is on this pod, which a port-forward is too.
    pub async fn answer(&self, request: Request<Incoming>, local: bool) -> Answer {
        let (head, body) = request.into_parts();
        match (&head.method, head.uri.path()) {
            (&Method::GET, "/healthz") => answer(StatusCode::OK, "ok\n"),
            (&Method::GET, "/readyz") => self.readyz(),
            (&Method::GET, "/metrics") => self.scrape(),
            (_, "/v1/log-filter") if !local => answer(StatusCode::FORBIDDEN, "from this pod only\n"),
            (&Method::GET, "/v1/log-filter") => self.show_filter(),
            (&Method::PUT, "/v1/log-filter") => self.set_filter(body).await,
            (&Method::POST, "/v1/webhooks/alertmanager") => self.hook("alertmanager", &head, body).await,
            (&Method::POST, "/v1/webhooks/grafana") => self.hook("grafana", &head, body).await,
            _ => answer(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    fn readyz(&self) -> Answer {
        if self.ready.load(Ordering::Acquire) {
            answer(StatusCode::OK, "ok\n")
        } else {
            answer(StatusCode::SERVICE_UNAVAILABLE, "the API server has not answered yet\n")
        }
    }

    fn scrape(&self) -> Answer {
        match self.metrics.render() {
            Ok(text) => {
                let mut response = answer(StatusCode::OK, text);
                let kind = HeaderValue::from_static("text/plain; version=0.0.4");
                response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
                response
            }
            Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    fn show_filter(&self) -> Answer {
        match self.filter.get() {
            Ok(text) => answer(StatusCode::OK, text + "\n"),
            Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    async fn set_filter(&self, body: Incoming) -> Answer {
        let text = match read(body, FILTER_BYTES_MAX).await {
            Ok(text) => text,
            Err(Unread::TooLarge) => return answer(StatusCode::PAYLOAD_TOO_LARGE, "a filter is one line\n"),
            Err(Unread::Slow) => return answer(StatusCode::REQUEST_TIMEOUT, "too slow\n"),
        };
        match self.filter.set(String::from_utf8_lossy(&text).trim()) {
            Ok(()) => self.show_filter(),
            Err(error) => answer(StatusCode::BAD_REQUEST, format!("{error}\n")),
        }
    }

    async fn hook(&self, source: &str, head: &http::request::Parts, body: Incoming) -> Answer {
        let (result, answer) = self.accept(head, body).await;
        self.metrics.webhooks.with_label_values(&[source, result]).inc();
        answer
    }

    async fn accept(&self, head: &http::request::Parts, body: Incoming) -> (&'static str, Answer) {
        if let Err(denied) = self.credentials.offered(&head.headers) {
            return refused(denied);
        }
        let body = match read(body, webhook::BODY_BYTES_MAX).await {
            Ok(body) => body,
            Err(Unread::TooLarge) => {
                return ("too_large", answer(StatusCode::PAYLOAD_TOO_LARGE, "at most 256 KiB\n"));
            }
            Err(Unread::Slow) => return ("slow", answer(StatusCode::REQUEST_TIMEOUT, "too slow\n")),
        };
        let now = jiff::Timestamp::now().as_second();
        if let Err(denied) = self.credentials.verify(&head.headers, &body, now) {
            return refused(denied);
        }
        if !self.leading.load(Ordering::Acquire) {
            // 5xx is repeated by the senders, and the Service may pick the leader then.
            return ("standby", answer(StatusCode::SERVICE_UNAVAILABLE, "this operator does not lead\n"));
        }
        self.queue(&body)
    }

    fn queue(&self, body: &[u8]) -> (&'static str, Answer) {
        let full = || ("full", answer(StatusCode::SERVICE_UNAVAILABLE, "too many hints are waiting\n"));
        // Room first: an alert that was remembered but not queued would be swallowed by its own repetition.
        if self.hints.capacity() == 0 {
            return full();
        }
        let Ok(mut recent) = self.recent.lock() else { return full() };
        let Ok(hints) = webhook::hints(body, &mut recent) else {
            return ("garbage", answer(StatusCode::BAD_REQUEST, "not an alert payload\n"));
        };
        drop(recent);
        for hint in hints {
            if self.hints.try_send(hint).is_err() {
                return full();
            }
        }
        ("accepted", answer(StatusCode::ACCEPTED, "queued\n"))
    }
}

fn refused(denied: Denied) -> (&'static str, Answer) {
    match denied {
        Denied::Closed => ("closed", answer(StatusCode::NOT_FOUND, "webhooks are not configured\n")),
        Denied::Missing => ("denied", answer(StatusCode::UNAUTHORIZED, "token or signature required\n")),
        Denied::Wrong => ("denied", answer(StatusCode::UNAUTHORIZED, "token or signature is wrong\n")),
        Denied::Stale => {
            let text = "signed without x-grafana-alerting-timestamp, or more than 300 s ago\n";
            ("stale", answer(StatusCode::UNAUTHORIZED, text))
        }
    }
}
