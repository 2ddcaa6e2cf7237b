//! Accepts connections on one port: permits, socket options, hyper, drain, and a lingering close so that a refusal
//! sent before the body was read still reaches its client. Knows nothing of blobs.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use blobstore_sidecar_runtime::tasks;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Either, Ready};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::body::Body;
use crate::io::{Busy, GuardedStream, Patience};
use crate::metrics::{CONNECTIONS_CLOSED, CONNECTIONS_OPENED, REJECTED, reason};
use crate::tls::{Tls, Wire};

/// hyper's buffer per connection: two reads' worth; 10,000 idle connections hold none of it.
const BUFFER_BYTES_MAX: usize = 128 << 10;
/// A stalled reader parks this much in the kernel, charged to the pod; autotuning would park 2.9 MB.
const SEND_BUFFER_BYTES: usize = 512 << 10;
/// Connections waiting for accept; the kernel caps it at somaxconn.
const BACKLOG: u32 = 4_096;
/// After a refusal: how long, and how much, of a body is read to nowhere before the socket closes. A close with
/// unread data resets the connection, and the reset can overtake the answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 8 << 20;
/// A connection over the limit gets its 503 within this, or just the close.
const TURN_AWAY: Duration = Duration::from_millis(250);
/// Polite refusals at once: a flood beyond them is closed without a word.
const TURN_AWAYS_CONCURRENT_MAX: usize = 64;
const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 97\r\n\r\n\
    {\"code\":\"SlowDown\",\"message\":\"too many connections: retry, and reuse connections\",\"requestId\":\"\"}";
/// Accept errors such as EMFILE need a pause, or the loop spins.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers one request; shared by every connection of a port.
pub trait Service: Send + Sync + 'static {
    fn answer(self: Arc<Self>, request: Request<Incoming>, busy: Busy) -> Answer;
}

/// At once, when all of it is in memory: such a request needs no task state of its own. Else boxed: the connection must
/// stay movable, to be taken apart for the lingering close.
pub type Answer = Either<Ready<Response<Body>>, BoxFuture<'static, Response<Body>>>;

/// An answer that has to be waited for.
pub fn later(answer: impl Future<Output = Response<Body>> + Send + 'static) -> Answer {
    Either::Right(Box::pin(answer))
}

/// One port.
#[derive(Clone, Debug)]
pub struct Port {
    /// Metric label: `client`, `admin` or `peer`.
    pub name: &'static str,
    pub connections_max: usize,
    pub patience: Patience,
    /// `None`: plain.
    pub tls: Option<Arc<Tls>>,
}

/// Binds with address reuse, so that a restart does not wait for old connections.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Inherited by every accepted socket.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// Accepts until `drain` becomes true, then returns when every connection has ended. The caller bounds the wait.
pub async fn serve<S: Service>(
    listener: TcpListener,
    port: Port,
    service: Arc<S>,
    mut drain: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(port.connections_max));
    let doors = Arc::new(Semaphore::new(TURN_AWAYS_CONCURRENT_MAX));
    let total = u32::try_from(port.connections_max).unwrap_or(u32::MAX);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = drain.wait_for(|drain| *drain) => break,
        };
        match accepted {
            Ok((stream, _)) => match Arc::clone(&permits).try_acquire_owned() {
                Ok(permit) => start(stream, port.clone(), Arc::clone(&service), permit, drain.clone()),
                // Under TLS the refusal could not be read.
                Err(_) if port.tls.is_some() => REJECTED.with_label_values(&[reason::CONNECTIONS]).inc(),
                Err(_) => turn_away(stream, &doors),
            },
            Err(error) => {
                tracing::warn!(port = port.name, %error, "accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let _ = permits.acquire_many(total).await;
}

fn start<S: Service>(
    stream: TcpStream,
    port: Port,
    service: Arc<S>,
    permit: OwnedSemaphorePermit,
    drain: watch::Receiver<bool>,
) {
    CONNECTIONS_OPENED.with_label_values(&[port.name]).inc();
    let closed = Closed(port.name);
    tasks::spawn("connection", async move {
        // Both move into the task: the permit is free when the task is gone, whichever way it went.
        let (_permit, _closed) = (permit, closed);
        let name = port.name;
        let stream = match wire(stream, &port).await {
            Ok(stream) => stream,
            Err(error) => {
                REJECTED.with_label_values(&[reason::HANDSHAKE]).inc();
                tracing::debug!(port = name, %error, "no TLS");
                return;
            }
        };
        if let Err(error) = connection(stream, port.patience, service, drain).await {
            tracing::debug!(port = name, %error, "connection ended");
        }
    });
}

/// Counts a connection's end when dropped.
struct Closed(&'static str);

impl Drop for Closed {
    fn drop(&mut self) {
        CONNECTIONS_CLOSED.with_label_values(&[self.0]).inc();
    }
}

/// The connection as hyper gets it. A handshake takes no longer than a header may.
async fn wire(stream: TcpStream, port: &Port) -> io::Result<Wire> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "set TCP_NODELAY");
    }
    match &port.tls {
        None => Ok(Wire::Bare(stream)),
        // Boxed: the state of a handshake would be part of every connection's task.
        Some(tls) => Box::pin(tokio::time::timeout(port.patience.header, tls.accept(stream))).await?,
    }
}

async fn connection<S: Service>(
    stream: Wire,
    patience: Patience,
    service: Arc<S>,
    mut drain: watch::Receiver<bool>,
) -> Result<(), hyper::Error> {
    let busy = Busy::default();
    let io = TokioIo::new(GuardedStream::new(stream, busy.clone(), patience));
    let shared = busy.clone();
    let answer = hyper::service::service_fn(move |request| {
        Arc::clone(&service).answer(request, shared.clone()).map(Ok::<_, Infallible>)
    });
    let mut builder = http1::Builder::new();
    builder
        .half_close(true)
        .keep_alive(true)
        .writev(true)
        .max_buf_size(BUFFER_BYTES_MAX)
        .header_read_timeout(None);
    let mut connection = builder.serve_connection(io, answer);
    let ended = tokio::select! {
        ended = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)) => Some(ended),
        _ = drain.wait_for(|drain| *drain) => None,
    };
    match ended {
        Some(ended) => ended?,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await?;
        }
    }
    if busy.has_unread() {
        let stream = connection.into_parts().io.into_inner();
        // Boxed: its buffer would be part of every connection's task, whether it lingers or not.
        let _ = tokio::time::timeout(LINGER, Box::pin(linger(stream))).await;
    }
    Ok(())
}

/// Ends our side, then reads what the client still sends, within bounds, until it ends its side.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.shutdown().await?;
    // Small: this memory is in no budget.
    let mut nowhere = [0_u8; 4 << 10];
    let mut left = LINGER_BYTES_MAX;
    while left > 0 {
        match stream.read(&mut nowhere).await? {
            0 => break,
            count => left = left.saturating_sub(count),
        }
    }
    Ok(())
}

/// Over the connection limit: a 503 that says so, and the close.
fn turn_away(mut stream: TcpStream, doors: &Arc<Semaphore>) {
    REJECTED.with_label_values(&[reason::CONNECTIONS]).inc();
    let Ok(door) = Arc::clone(doors).try_acquire_owned() else { return };
    tasks::spawn("turn_away", async move {
        let _door = door;
        let _ = tokio::time::timeout(TURN_AWAY, async {
            stream.write_all(TOO_MANY_CONNECTIONS).await?;
            linger(stream).await
        })
        .await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a connection costs beside hyper's read buffer of 8 KiB: 10,000 of them may sit idle.
    const TASK_BYTES_MAX: usize = 2_560;

    struct Never;

    impl Service for Never {
        fn answer(self: Arc<Self>, _: Request<Incoming>, _: Busy) -> Answer {
            later(futures::future::pending())
        }
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_costs_little() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, _) = accepted.expect("a connection");
        let patience = Patience { header: LINGER, stalled: LINGER };
        let (_keep, drain) = watch::channel(false);
        let bytes = size_of_val(&connection(Wire::Bare(stream), patience, Arc::new(Never), drain));
        assert!(bytes <= TASK_BYTES_MAX, "{bytes} bytes");
        drop(client);
    }
}
