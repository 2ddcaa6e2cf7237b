//! HTTP to an origin: hyper under `object_store`, with patience for connect, first byte and a silent body, and a
//! witness of what the origin said, which the crate's errors do not tell.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use blobstore_sidecar_api::origins::OriginConfig;
use blobstore_sidecar_runtime::tasks;
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, HeaderValue, IF_MODIFIED_SINCE, LOCATION,
    TRANSFER_ENCODING, USER_AGENT,
};
use http::{HeaderMap, Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, Error as ClientError, connect::HttpConnector};
use hyper_util::rt::TokioTimer;
use object_store::client::{
    HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Credentials;

/// Idle connections kept per origin: reads come in bursts, and a handshake costs more than a socket.
pub(crate) const IDLE_CONNECTIONS_MAX: usize = 8;
/// Shorter than the keep-alive of the usual servers (60 to 75 s), so that they are not the ones to close.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);
/// Given instead of a length that the origin does not tell; [`Unsized`] marks it.
const LENGTH_UNKNOWN: HeaderValue = HeaderValue::from_static("4611686018427387904");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("blobstore/", env!("CARGO_PKG_VERSION")));

/// What the origin said, for whoever asked. Put it into the request's extensions.
#[derive(Debug, Default)]
pub(crate) struct Witness(Mutex<Seen>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) status: Option<StatusCode>,
    /// Of a 416: the size behind `bytes */`.
    pub(crate) size: Option<u64>,
    pub(crate) location: Option<String>,
    pub(crate) timed_out: bool,
}

impl Witness {
    pub(crate) fn seen(&self) -> Seen {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// In the answer's extensions: the origin did not tell the length of the object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsized;

/// In the request's extensions: the condition of an origin that has no ETags.
#[derive(Clone, Debug)]
pub(crate) struct IfModifiedSince(pub(crate) HeaderValue);

/// Runs hyper's connections as counted tasks.
#[derive(Clone, Copy, Debug)]
struct Spawner;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, future: F) {
        tasks::spawn("origin-connection", future);
    }
}

#[derive(Clone)]
pub(crate) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, HttpRequestBody>,
    authorization: Option<HeaderValue>,
    first_byte: Duration,
    idle: Duration,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

impl Transport {
    pub(crate) fn open(config: &OriginConfig, credentials: &Credentials) -> io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_millis(config.timeouts.connect_ms)));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls(credentials.ca.as_deref())?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(Spawner)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(https);
        let authorization = credentials.authorization.as_deref().map(|text| {
            let mut value = HeaderValue::from_str(text).map_err(io::Error::other)?;
            value.set_sensitive(true);
            Ok::<_, io::Error>(value)
        });
        Ok(Self {
            client,
            authorization: authorization.transpose()?,
            first_byte: Duration::from_millis(config.timeouts.first_byte_ms),
            idle: Duration::from_millis(config.timeouts.idle_ms),
        })
    }
}

/// TLS with the public roots, and the origin's own CA beside them.
fn tls(ca: Option<&str>) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for certificate in CertificateDer::pem_slice_iter(ca.unwrap_or_default().as_bytes()) {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

impl HttpService for Transport {
    // The trait is of `async_trait`: this is what its macro writes.
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.send(request))
    }
}

impl Transport {
    async fn send(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let witness = request.extensions().get::<Arc<Witness>>().cloned().unwrap_or_default();
        let since = request.extensions_mut().remove::<IfModifiedSince>();
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, AGENT);
        if let Some(IfModifiedSince(date)) = since {
            headers.insert(IF_MODIFIED_SINCE, date);
        }
        if let Some(authorization) = &self.authorization {
            headers.entry(AUTHORIZATION).or_insert_with(|| authorization.clone());
        }
        let method = request.method().clone();
        let answer = match tokio::time::timeout(self.first_byte, self.client.request(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                let timed_out = is_timeout(&error);
                witness.note(|seen| *seen = Seen { timed_out, ..Seen::default() });
                return Err(HttpError::new(kind_of(&error, timed_out), error));
            }
            Err(late) => {
                witness.note(|seen| *seen = Seen { timed_out: true, ..Seen::default() });
                return Err(HttpError::new(HttpErrorKind::Timeout, late));
            }
        };
        let (mut parts, body) = answer.into_parts();
        witness.note(|seen| *seen = saw(parts.status, &parts.headers));
        if parts.status.is_success() && !parts.headers.contains_key(CONTENT_LENGTH) {
            let ends_visibly = method == Method::HEAD || is_chunked(&parts.headers);
            if parts.status != StatusCode::PARTIAL_CONTENT && !ends_visibly {
                let message = "it sends neither a length nor chunks, so that a cut could not be seen";
                return Err(HttpError::new(HttpErrorKind::Decode, io::Error::other(message)));
            }
            parts.headers.insert(CONTENT_LENGTH, LENGTH_UNKNOWN);
            // A part tells the length of the whole in its own header.
            if parts.status != StatusCode::PARTIAL_CONTENT {
                parts.extensions.insert(Unsized);
            }
        }
        let body = Patient { body, idle: self.idle, timer: None, witness };
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

fn saw(status: StatusCode, headers: &HeaderMap) -> Seen {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let size = text(CONTENT_RANGE).and_then(|range| range.rsplit_once('/')?.1.parse().ok());
    Seen { status: Some(status), size, location: text(LOCATION).map(str::to_owned), timed_out: false }
}

fn is_chunked(headers: &HeaderMap) -> bool {
    let last = headers.get_all(TRANSFER_ENCODING).iter().next_back().and_then(|value| value.to_str().ok());
    last.is_some_and(|value| value.trim_end().to_ascii_lowercase().ends_with("chunked"))
}

fn is_timeout(error: &ClientError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn kind_of(error: &ClientError, timed_out: bool) -> HttpErrorKind {
    match (error.is_connect(), timed_out) {
        (true, false) => HttpErrorKind::Connect,
        (_, true) => HttpErrorKind::Timeout,
        // A pooled connection that was closed just then, or an origin that broke off.
        (false, false) => HttpErrorKind::Interrupted,
    }
}

/// A body that may be silent for so long and no longer.
struct Patient {
    body: Incoming,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    witness: Arc<Witness>,
}

impl Body for Patient {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.timer = None;
            let broken = |error| HttpError::new(HttpErrorKind::Interrupted, error);
            return Poll::Ready(frame.map(|frame| frame.map_err(broken)));
        }
        let idle = this.idle;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + idle)));
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        this.witness.note(|seen| seen.timed_out = true);
        let silent = io::Error::new(io::ErrorKind::TimedOut, format!("it sent nothing for {idle:?}"));
        Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Timeout, silent))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_behind_an_unsatisfiable_range_is_seen() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_RANGE, HeaderValue::from_static("bytes */42"));
        let seen = saw(StatusCode::RANGE_NOT_SATISFIABLE, &headers);
        assert_eq!((seen.status, seen.size), (Some(StatusCode::RANGE_NOT_SATISFIABLE), Some(42)));
    }

    #[test]
    fn only_a_final_chunked_shows_where_a_body_ends() {
        let check = |value: &'static str, want| {
            let mut headers = HeaderMap::new();
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static(value));
            assert_eq!(is_chunked(&headers), want, "{value}");
        };
        check("chunked", true);
        check("gzip, Chunked", true);
        check("chunked, gzip", false);
        assert!(!is_chunked(&HeaderMap::new()));
    }

    #[test]
    fn a_broken_ca_is_refused() {
        assert!(tls(None).is_ok());
        assert!(tls(Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")).is_err());
    }
}
