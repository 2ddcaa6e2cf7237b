//! An HTTP origin for tests: objects with ETags, ranges and conditions, and every way to misbehave.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use blobstore_sidecar_runtime::tasks;
use bytes::Bytes;
use futures::stream;
use http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LAST_MODIFIED, RANGE,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes per frame of a body.
const FRAME: usize = 64 << 10;

#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) body: Bytes,
    pub(crate) etag: Option<&'static str>,
    pub(crate) modified: Option<&'static str>,
    /// The body waits here until the gate opens.
    pub(crate) gate_at: Option<usize>,
    /// The connection is cut here, so many times.
    pub(crate) cut_at: Option<usize>,
    pub(crate) cuts: Arc<AtomicUsize>,
    /// Chunks instead of a length.
    pub(crate) unsized_: bool,
    /// Ranges are answered with everything.
    pub(crate) whole_only: bool,
}

impl Object {
    pub(crate) fn new(body: Bytes) -> Self {
        Self {
            body,
            etag: Some("\"v1\""),
            modified: None,
            gate_at: None,
            cut_at: None,
            cuts: Arc::new(AtomicUsize::new(usize::MAX)),
            unsized_: false,
            whole_only: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) conditional: bool,
    pub(crate) authorization: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    objects: Mutex<HashMap<String, Object>>,
    seen: Mutex<Vec<Seen>>,
    /// When they came.
    times: Mutex<Vec<Instant>>,
    /// Answer everything with this.
    status: Mutex<Option<StatusCode>>,
    /// No answer until the gate opens.
    mute: Mutex<bool>,
    gate: watch::Sender<bool>,
    pub(crate) connections: AtomicUsize,
    pub(crate) sent: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self::on(listener)
    }

    fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            objects: Mutex::default(),
            seen: Mutex::default(),
            times: Mutex::default(),
            status: Mutex::default(),
            mute: Mutex::default(),
            gate: watch::Sender::new(false),
            connections: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
        });
        let task = tasks::spawn("test-origin", accept(listener, Arc::clone(&shared)));
        Self { address, shared, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/base/", self.address)
    }

    pub(crate) fn put(&self, path: &str, object: Object) {
        self.shared.objects.lock().expect("no panic").insert(format!("/base/{path}"), object);
    }

    pub(crate) fn remove(&self, path: &str) {
        self.shared.objects.lock().expect("no panic").remove(&format!("/base/{path}"));
    }

    pub(crate) fn fail_with(&self, status: Option<u16>) {
        let status = status.map(|status| StatusCode::from_u16(status).expect("a status"));
        *self.shared.status.lock().expect("no panic") = status;
    }

    pub(crate) fn mute(&self, mute: bool) {
        *self.shared.mute.lock().expect("no panic") = mute;
    }

    pub(crate) fn open_gate(&self) {
        self.shared.gate.send_replace(true);
    }

    /// When the requests came.
    pub(crate) fn times(&self) -> Vec<Instant> {
        self.shared.times.lock().expect("no panic").clone()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("no panic").clone()
    }

    pub(crate) fn count(&self, method: &Method) -> usize {
        self.seen().iter().filter(|seen| seen.method == *method).count()
    }

    pub(crate) fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { return };
        let shared = Arc::clone(&shared);
        tasks::spawn("test-origin-connection", async move {
            shared.connections.fetch_add(1, Ordering::SeqCst);
            let service = service_fn(|request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, std::convert::Infallible>(answer(shared, request).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
            // A cut connection is what some tests want.
            drop(served);
            shared.connections.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

fn empty(status: StatusCode) -> Response<Body> {
    let body = http_body_util::Empty::new().map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let seen = Seen {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        range: text(RANGE),
        conditional: [IF_NONE_MATCH, IF_MODIFIED_SINCE]
            .iter()
            .any(|name| request.headers().contains_key(name)),
        authorization: text(http::header::AUTHORIZATION),
    };
    shared.times.lock().expect("no panic").push(Instant::now());
    shared.seen.lock().expect("no panic").push(seen.clone());
    let mute = *shared.mute.lock().expect("no panic");
    if mute {
        let mut gate = shared.gate.subscribe();
        let _ = gate.wait_for(|open| *open).await;
    }
    if let Some(status) = *shared.status.lock().expect("no panic") {
        return empty(status);
    }
    let object = shared.objects.lock().expect("no panic").get(&seen.path).cloned();
    let Some(object) = object else { return empty(StatusCode::NOT_FOUND) };
    let known = text(IF_NONE_MATCH).is_some_and(|tag| Some(tag.as_str()) == object.etag)
        || text(IF_MODIFIED_SINCE).is_some_and(|date| Some(date.as_str()) == object.modified);
    if known {
        return empty(StatusCode::NOT_MODIFIED);
    }
    if text(IF_MATCH).is_some_and(|tag| Some(tag.as_str()) != object.etag) {
        return empty(StatusCode::PRECONDITION_FAILED);
    }
    let size = object.body.len() as u64;
    let wanted = seen.range.as_deref().filter(|_| !object.whole_only);
    let range = match wanted.and_then(blobstore_sidecar_core::range::ByteRange::parse) {
        None => None,
        Some(range) => match range.resolve(size) {
            Some(range) => Some(range),
            None => {
                let mut response = empty(StatusCode::RANGE_NOT_SATISFIABLE);
                response.headers_mut().insert(CONTENT_RANGE, header(&format!("bytes */{size}")));
                return response;
            }
        },
    };
    respond(&shared, object, seen.method == Method::HEAD, range)
}

fn respond(shared: &Arc<Shared>, object: Object, head: bool, range: Option<Range<u64>>) -> Response<Body> {
    let size = object.body.len() as u64;
    let sent = range.clone().unwrap_or(0..size);
    let mut response = empty(if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK });
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/test"));
    for (name, value) in [(ETAG, object.etag), (LAST_MODIFIED, object.modified)] {
        if let Some(value) = value {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    if !object.unsized_ || range.is_some() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(sent.end - sent.start));
    }
    if let Some(range) = range {
        headers.insert(CONTENT_RANGE, header(&format!("bytes {}-{}/{size}", range.start, range.end - 1)));
    }
    if !head {
        *response.body_mut() = body(shared, object, sent);
    }
    response
}

fn body(shared: &Arc<Shared>, object: Object, range: Range<u64>) -> Body {
    let at = usize::try_from(range.start).expect("small");
    let end = usize::try_from(range.end).expect("small");
    let state = (at, Arc::clone(shared), object);
    let frames = stream::unfold(Some(state), move |state| async move {
        let (at, shared, object) = state?;
        if at == end {
            return None;
        }
        if object.gate_at.is_some_and(|gate| at >= gate) {
            let mut gate = shared.gate.subscribe();
            let _ = gate.wait_for(|open| *open).await;
        }
        let cut = object.cut_at.filter(|cut| at >= *cut);
        if cut.is_some()
            && object
                .cuts
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok()
        {
            return Some((Err(std::io::Error::other("cut on purpose")), None));
        }
        let to = (at + FRAME).min(end);
        let frame = object.body.slice(at..to);
        shared.sent.fetch_add(frame.len(), Ordering::SeqCst);
        Some((Ok(Frame::data(frame)), Some((to, shared, object))))
    });
    BodyExt::boxed(StreamBody::new(SyncStream(Box::pin(frames))))
}

/// `BoxBody` wants `Sync`; a body is polled by one task only.
struct SyncStream(Frames);

type Frames =
    std::pin::Pin<Box<dyn futures::Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send + Sync>>;

impl futures::Stream for SyncStream {
    type Item = Result<Frame<Bytes>, std::io::Error>;
    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a header")
}

/// Waits until `holds`, or fails.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        tokio::task::yield_now().await;
    }
}
