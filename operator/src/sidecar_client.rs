//! HTTP to a sidecar's admin port: one connection per request, bounded in time and bytes. Nothing is interpreted
//! here and nothing is kept: a pod's address may be another pod's tomorrow.

use std::net::SocketAddr;
use std::time::Duration;

use blobstore_sidecar_api::action::{ActionRequest, ActionResult};
use blobstore_sidecar_api::report::LeakReport;
use blobstore_sidecar_api::topology::PodTopology;
use bytes::Bytes;
use futures::future::{Either, select};
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A pod on a healthy network answers a SYN in milliseconds; one lost SYN is repeated after a second.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Reads are answered from memory. Longer than this, and the pass is better served by `Unknown`.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// An action answers when it has begun (`Running`); a take-over may write the record first.
const ACTION_TIMEOUT: Duration = Duration::from_secs(8);
/// 64 shards with 6 members make a topology of some 150 kB.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Of an answer that is not JSON, as much as helps a person.
const EXCERPT_CHARS_MAX: usize = 200;

/// A store's admin token. Never printed.
#[derive(Clone)]
pub struct AdminToken(String);

impl AdminToken {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    #[error("connect to {address}")]
    Connect { address: SocketAddr, source: std::io::Error },
    #[error("{address} did not answer within {limit:?}")]
    Timeout { address: SocketAddr, limit: Duration },
    #[error("exchange with {address}")]
    Exchange { address: SocketAddr, source: hyper::Error },
    #[error("answer of {address} is longer than {BODY_BYTES_MAX} bytes or was cut")]
    Body { address: SocketAddr },
    #[error("{address} answered {status}: {excerpt}")]
    Status { address: SocketAddr, status: StatusCode, excerpt: String },
    #[error("answer of {address} is not what we expect")]
    Parse { address: SocketAddr, source: serde_json::Error },
    #[error("build the request")]
    Request(#[source] http::Error),
    #[error("write the request's document")]
    Document(#[source] serde_json::Error),
}

/// Where a sidecar listens, and with what we prove who we are.
#[derive(Clone, Debug)]
pub struct Sidecar {
    pub address: SocketAddr,
    pub token: AdminToken,
}

struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Sidecar {
    /// `GET /v1/topology`.
    pub async fn topology(&self) -> Result<PodTopology, SidecarError> {
        self.read("/v1/topology").await
    }

    /// `GET /v1/report`.
    pub async fn report(&self) -> Result<LeakReport, SidecarError> {
        self.read("/v1/report").await
    }

    /// `POST /v1/actions/{name}`. A refusal is a result, whatever status it travels under.
    pub async fn action(&self, name: &str, request: &ActionRequest) -> Result<ActionResult, SidecarError> {
        let document = serde_json::to_vec(request).map_err(SidecarError::Document)?;
        let path = format!("/v1/actions/{name}");
        let answer = self.exchange(Method::POST, &path, document.into(), ACTION_TIMEOUT).await?;
        serde_json::from_slice(&answer.body).or_else(|_| self.parse(answer))
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, SidecarError> {
        let answer = self.exchange(Method::GET, path, Bytes::new(), READ_TIMEOUT).await?;
        self.parse(answer)
    }

    fn parse<T: DeserializeOwned>(&self, answer: Answer) -> Result<T, SidecarError> {
        let address = self.address;
        if !answer.status.is_success() {
            let excerpt = String::from_utf8_lossy(&answer.body).chars().take(EXCERPT_CHARS_MAX).collect();
            return Err(SidecarError::Status { address, status: answer.status, excerpt });
        }
        serde_json::from_slice(&answer.body).map_err(|source| SidecarError::Parse { address, source })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<Answer, SidecarError> {
        let address = self.address;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, address.to_string())
            .header(CONNECTION, "close")
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, format!("Bearer {}", self.token.0))
            .body(Full::new(body))
            .map_err(SidecarError::Request)?;
        match timeout(limit, self.send(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(SidecarError::Timeout { address, limit }),
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, SidecarError> {
        let address = self.address;
        let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(stream) => stream.map_err(|source| SidecarError::Connect { address, source })?,
            Err(_) => return Err(SidecarError::Timeout { address, limit: CONNECT_TIMEOUT }),
        };
        let failed = |source| SidecarError::Exchange { address, source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let exchange = std::pin::pin!(async {
            let response = sender.send_request(request).await.map_err(failed)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
            let body = body.map_err(|_| SidecarError::Body { address })?.to_bytes();
            Ok(Answer { status, body })
        });
        // The connection is driven here and not in a task of its own: it ends with the request, cancelled or not.
        match select(exchange, std::pin::pin!(connection)).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_, exchange)) => exchange.await,
        }
    }
}
