//! The operator's own HTTP: health, metrics, log filter, webhooks. One listener, bounded in connections, header
//! time and body.

mod routes;

pub use routes::Surface;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::tasks;

/// Probes, a scraper or two, and alert senders: 64 leaves room and holds at most 64 bodies of 256 KiB.
const CONNECTIONS_MAX: usize = 64;
/// A caller that does not finish its header in this time is cut.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Keep-alive connections of probes live this long at most; then they come again.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);
/// After a failed accept (out of file descriptors), others get time to close theirs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until dropped.
pub async fn serve(listener: TcpListener, surface: Arc<Surface>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let surface = Arc::clone(&surface);
                tasks::spawn(
                    "admin_connection",
                    connection(stream, peer.ip().is_loopback(), surface, permit),
                );
            }
            Err(error) => {
                tracing::warn!(%error, "accept on the admin port");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, local: bool, surface: Arc<Surface>, permit: OwnedSemaphorePermit) {
    let service = service_fn(move |request| {
        let surface = Arc::clone(&surface);
        async move { Ok::<_, Infallible>(surface.answer(request, local).await) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // A broken or slow caller is its own business: nothing to log above debug.
    match timeout(CONNECTION_TIMEOUT, serving).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "admin connection"),
    }
    drop(permit);
}
