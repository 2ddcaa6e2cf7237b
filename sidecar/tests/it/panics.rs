//! A panic while an answer's body is made: counted, told once, and the end of that answer alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use blobstore_sidecar::body::{Body, StreamError};
use blobstore_sidecar::io::{Busy, Patience};
use blobstore_sidecar::metrics::PANICS;
use blobstore_sidecar::server::{self, Answer, Port, Service, later};
use blobstore_sidecar_runtime::tasks;
use bytes::Bytes;
use futures::future::ready;
use futures::{Stream, StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::sync::Notify;

use crate::forwarding::blocking;
use crate::http::Connection;

const FIRST: &[u8] = b"begun";

/// One piece, and when `go` says so the panic; asked again, it would panic again.
fn panics(go: Arc<Notify>) -> impl Stream<Item = Result<Bytes, StreamError>> + Send + 'static {
    let first = stream::once(async { Ok(Bytes::from_static(FIRST)) });
    let wait = stream::once(async move { go.notified().await }).filter_map(|()| ready(None));
    let panic = stream::poll_fn(|_| if PANICS.get() < u64::MAX { panic!("on purpose") } else { None.into() });
    first.chain(wait).chain(panic)
}

/// At once.
fn panics_now() -> impl Stream<Item = Result<Bytes, StreamError>> + Send + 'static {
    let go = Arc::new(Notify::new());
    go.notify_one();
    panics(go)
}

/// A body that panics at `/panics`, one that does not everywhere else.
struct Sometimes(Arc<Notify>);

impl Service for Sometimes {
    fn answer(self: Arc<Self>, request: Request<Incoming>, _: Busy) -> Answer {
        let panics = || Body::stream(10, panics(Arc::clone(&self.0)));
        let body = if request.uri().path() == "/panics" { panics() } else { Body::full(FIRST) };
        later(async { Response::new(body) })
    }
}

/// In one test, because the counter is the process's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_body_is_one_error_and_ends_no_other_answer() {
    for mut body in [Body::open(panics_now()), Body::stream(10, panics_now())] {
        let before = PANICS.get();
        let first = body.frame().await.expect("a frame").expect("no error yet");
        assert_eq!(first.into_data().expect("data"), FIRST);
        let error = body.frame().await.expect("not the end").expect_err("the panic");
        assert_eq!(error.to_string(), "internal error");
        for _ in 0..2 {
            assert!(
                body.frame().await.is_none() && body.is_end_stream(),
                "the end, however often it is asked"
            );
        }
        assert_eq!(PANICS.get(), before + 1, "counted once");
    }
    let before = PANICS.get();
    let listener = server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let address = listener.local_addr().expect("an address");
    let patience = Patience { header: Duration::from_secs(30), stalled: Duration::from_secs(30) };
    let port = Port { name: "panics", connections_max: 8, patience, tls: None };
    let drain = tokio::sync::watch::Sender::new(false);
    let go = Arc::new(Notify::new());
    let service = Arc::new(Sometimes(Arc::clone(&go)));
    let serving = tasks::spawn("test", server::serve(listener, port, service, drain.subscribe()));
    blocking(move || {
        for round in 0..3 {
            let mut cut = Connection::open(address).expect("connect");
            cut.head("GET", "/panics", &[]).expect("a header");
            let head = cut.read_head().expect("the answer has begun");
            assert_eq!((head.status, head.header("content-length")), (200, Some("10")), "round {round}");
            cut.discard(5, |piece| assert_eq!(piece, FIRST)).expect("the first piece");
            go.notify_one();
            let error = cut.discard(5, |_| {}).expect_err("cut before its length");
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
            assert!(cut.closed());
            let mut next = Connection::open(address).expect("connect");
            next.head("GET", "/", &[("connection", "close")]).expect("a header");
            assert_eq!(next.read_answer(false).expect("an answer").body, FIRST, "round {round}");
        }
    })
    .await;
    assert_eq!(PANICS.get(), before + 3);
    drain.send_replace(true);
    serving.await.expect("the port ends");
}
