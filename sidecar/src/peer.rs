//! A client of one peer sidecar: pooled connections, bounded requests, and a body that waits behind a gate until
//! the owner has said `100 Continue`, so that a refused upload can go elsewhere.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use blobstore_sidecar_runtime::tasks;
use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioTimer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::body::{BodyError, RequestBody};

/// Requests to one peer at once: what a burst of small forwards needs; each holds one connection and its buffers.
const REQUESTS_CONCURRENT_MAX: usize = 256;
/// Connections kept for the next burst.
const IDLE_CONNECTIONS_MAX: usize = 32;
const IDLE_CONNECTION: Duration = Duration::from_secs(30);
/// Within the pod network a peer that needs longer to accept is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// As on the serving side: bounds the memory of a connection.
const BUFFER_BYTES_MAX: usize = 128 << 10;

/// Which peer, with which token: the key of a handle.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PeerKey {
    /// `ip:port` of the peer port.
    pub address: String,
    pub token: Arc<str>,
}

impl std::fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerKey").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A pool of connections to one peer. Closed by its drop.
#[derive(Debug)]
pub struct Peer {
    client: Client<HttpConnector, PeerBody>,
    permits: Arc<Semaphore>,
}

#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("too many requests to this peer at once")]
    Busy,
    #[error("the peer cannot be reached")]
    Connect(#[source] hyper_util::client::legacy::Error),
    #[error("the connection to the peer broke")]
    Broken(#[source] hyper_util::client::legacy::Error),
}

/// The executor of hyper's pool: its tasks are counted like all others.
#[derive(Clone, Debug)]
struct Counted;

impl<F> hyper::rt::Executor<F> for Counted
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        tasks::spawn("peer_connection", future);
    }
}

impl Peer {
    pub fn open() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(Counted)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .http1_max_buf_size(BUFFER_BYTES_MAX)
            .build(connector);
        Self { client, permits: Arc::new(Semaphore::new(REQUESTS_CONCURRENT_MAX)) }
    }

    /// Sends a request. The permit belongs to the answer's body: keep it until that is read.
    pub async fn send(
        &self,
        request: Request<PeerBody>,
        wait: Duration,
    ) -> Result<(Response<Incoming>, OwnedSemaphorePermit), PeerError> {
        let permit = tokio::time::timeout(wait, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| PeerError::Busy)?
            .map_err(|_| PeerError::Busy)?;
        let response = self.client.request(request).await.map_err(|error| {
            if error.is_connect() { PeerError::Connect(error) } else { PeerError::Broken(error) }
        })?;
        Ok((response, permit))
    }
}

/// An upload on its way to an owner: taken out by the first owner that accepts it.
pub type Slot = Arc<Mutex<Option<RequestBody>>>;

/// What a request to a peer carries.
#[derive(Debug)]
pub enum PeerBody {
    Empty,
    Full(Bytes),
    Gated(GatedBody),
}

/// Yields nothing before the gate opens; fails if it never does.
#[derive(Debug)]
pub struct GatedBody {
    gate: oneshot::Receiver<()>,
    slot: Slot,
    body: Option<RequestBody>,
    length: Option<u64>,
    /// Told when the last byte has been handed on.
    sent: Option<oneshot::Sender<()>>,
}

/// The sender's side of a [`GatedBody`].
#[derive(Debug)]
pub struct Gate {
    pub open: oneshot::Sender<()>,
    pub sent: oneshot::Receiver<()>,
}

impl GatedBody {
    pub fn new(slot: Slot, length: Option<u64>) -> (Self, Gate) {
        let (open, gate) = oneshot::channel();
        let (told, sent) = oneshot::channel();
        (Self { gate, slot, body: None, length, sent: Some(told) }, Gate { open, sent })
    }
}

/// Why an upload stopped on its way to the owner.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error("the owner did not ask for the body")]
    NotAsked,
    #[error(transparent)]
    Body(#[from] BodyError),
}

impl HttpBody for GatedBody {
    type Data = Bytes;
    type Error = GateError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GateError>>> {
        let this = self.get_mut();
        if this.body.is_none() {
            if ready!(this.gate.poll_unpin(cx)).is_err() {
                return Poll::Ready(Some(Err(GateError::NotAsked)));
            }
            this.body = this.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        let Some(body) = &mut this.body else { return Poll::Ready(Some(Err(GateError::NotAsked))) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if frame.is_none()
            && let Some(sent) = this.sent.take()
        {
            let _ = sent.send(());
        }
        Poll::Ready(frame.map(|frame| frame.map_err(GateError::from)))
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map(SizeHint::with_exact).unwrap_or_default()
    }

    fn is_end_stream(&self) -> bool {
        self.length == Some(0)
    }
}

impl HttpBody for PeerBody {
    type Data = Bytes;
    type Error = GateError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GateError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Gated(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Gated(body) => body.size_hint(),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Gated(body) => body.is_end_stream(),
        }
    }
}
