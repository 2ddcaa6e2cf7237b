//! One representation of a body in each direction: what a client sends (bounded in time), and what it gets (a stream
//! of shared bytes; a panic or an error in it cuts the connection).

use std::fmt;
use std::future::Future as _;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::finish::Finish;
use crate::io::Busy;
use crate::metrics::{BYTES_IN, BYTES_OUT, PANICS, REJECTED, reason};

/// Why a body ended early, as told to whoever reads it.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the client sent nothing for {0:?}")]
    Idle(Duration),
    #[error("the upload ended before its end")]
    Truncated(#[source] hyper::Error),
    /// Whoever decodes or verifies the body on its way refuses it.
    #[error("{0}")]
    Refused(StreamError),
}

/// Where the bytes of a request come from.
enum Source {
    /// The client's connection.
    Wire { incoming: Incoming, busy: Busy },
    /// Another body of this process, decoded, verified or made here.
    Inner { stream: BoxStream<'static, Result<Bytes, StreamError>>, length: Option<u64> },
}

/// What a client sends.
pub struct RequestBody {
    source: Source,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    touched: bool,
    idled: bool,
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("length", &self.length()).finish_non_exhaustive()
    }
}

impl RequestBody {
    pub fn new(incoming: Incoming, busy: Busy, idle: Duration) -> Self {
        Self::of(Source::Wire { incoming, busy }, idle)
    }

    /// A body whose bytes pass through `stream`. `length`: exactly as many come.
    pub fn inner(
        stream: impl Stream<Item = Result<Bytes, StreamError>> + Send + 'static,
        length: Option<u64>,
        idle: Duration,
    ) -> Self {
        use futures::StreamExt as _;
        Self::of(Source::Inner { stream: stream.boxed(), length }, idle)
    }

    /// No bytes.
    pub fn none() -> Self {
        Self::inner(futures::stream::empty(), Some(0), Duration::ZERO)
    }

    fn of(source: Source, idle: Duration) -> Self {
        Self { source, idle, timer: None, touched: false, idled: false }
    }

    /// Declared length, if the client declared one.
    pub fn length(&self) -> Option<u64> {
        match &self.source {
            Source::Wire { incoming, .. } => incoming.size_hint().exact(),
            Source::Inner { length, .. } => *length,
        }
    }

    /// Reading has begun: the client was told to send, and what it sent is gone.
    pub fn touched(&self) -> bool {
        self.touched
    }

    /// The body ended because nothing arrived in time.
    pub fn idled(&self) -> bool {
        self.idled
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.touched = true;
        let incoming = match &mut self.source {
            Source::Wire { incoming, .. } => incoming,
            // What it reads from has its own idle time.
            Source::Inner { stream, .. } => {
                let next = ready!(stream.as_mut().poll_next(cx));
                return Poll::Ready(next.map(|item| item.map_err(BodyError::Refused)));
            }
        };
        loop {
            let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(cx) else {
                let idle = self.idle;
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + idle)));
                ready!(timer.as_mut().poll(cx));
                self.idled = true;
                REJECTED.with_label_values(&[reason::BODY_TIMEOUT]).inc();
                return Poll::Ready(Some(Err(BodyError::Idle(idle))));
            };
            self.timer = None;
            match frame {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(BodyError::Truncated(error)))),
                // Trailers carry nothing that the plain lane knows.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        BYTES_IN.inc_by(data.len() as u64);
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }
}

impl Stream for RequestBody {
    type Item = Result<Bytes, BodyError>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_data(cx)
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.get_mut().poll_data(cx).map(|data| data.map(|data| data.map(Frame::data)))
    }
    fn size_hint(&self) -> SizeHint {
        self.length().map(SizeHint::with_exact).unwrap_or_default()
    }
    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Wire { incoming, .. } => incoming.is_end_stream(),
            Source::Inner { length, .. } => *length == Some(0),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Source::Wire { incoming, busy } = &self.source
            && !incoming.is_end_stream()
        {
            busy.leave_unread();
        }
    }
}

/// What an answer holds on to until it is out: a permit, a handle.
pub type Keep = Box<dyn std::any::Any + Send>;

/// Why a stream of bytes broke.
pub type StreamError = Box<dyn std::error::Error + Send + Sync>;

enum Content {
    Empty,
    Full(Bytes),
    /// In two places, neither of them empty.
    Both(Bytes, Bytes),
    /// Bytes of a blob; `left` is what the header promised and is not sent yet.
    Stream {
        stream: BoxStream<'static, Result<Bytes, StreamError>>,
        left: u64,
    },
    /// As long as it is.
    Open {
        stream: BoxStream<'static, Result<Bytes, StreamError>>,
    },
    /// An answer of the S3 side; its own bodies are inside.
    S3(s3s::Body),
    /// A forwarded answer, whose owner may fall silent.
    Incoming {
        incoming: Incoming,
        idle: Duration,
        timer: Option<Pin<Box<Sleep>>>,
        _keep: Keep,
    },
}

/// What a client gets. Carries the end of the request: when it is dropped, the request is over.
pub struct Body {
    content: Content,
    finish: Option<Finish>,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("length", &self.size_hint().exact()).finish_non_exhaustive()
    }
}

impl Body {
    pub fn empty() -> Self {
        Self { content: Content::Empty, finish: None }
    }

    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self { content: Content::Full(bytes.into()), finish: None }
    }

    /// All of it in hand, in one place or two.
    pub fn whole([first, second]: [Bytes; 2]) -> Self {
        if first.is_empty() || second.is_empty() {
            return Self::full(if first.is_empty() { second } else { first });
        }
        Self { content: Content::Both(first, second), finish: None }
    }

    /// The owner's answer, cut when nothing comes for `idle`. `keep` lives as long as the body.
    pub fn forwarded(incoming: Incoming, idle: Duration, keep: Keep) -> Self {
        Self { content: Content::Incoming { incoming, idle, timer: None, _keep: keep }, finish: None }
    }

    /// Exactly `length` bytes; the connection is cut if the stream ends elsewhere.
    pub fn stream<E: Into<StreamError>>(
        length: u64,
        stream: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Self {
        use futures::StreamExt as _;
        let stream = stream.map(|item| item.map_err(Into::into)).boxed();
        Self { content: Content::Stream { stream, left: length }, finish: None }
    }

    /// However much comes; an error cuts the connection.
    pub fn open(stream: impl Stream<Item = Result<Bytes, StreamError>> + Send + 'static) -> Self {
        use futures::StreamExt as _;
        Self { content: Content::Open { stream: stream.boxed() }, finish: None }
    }

    /// What the S3 side made.
    pub fn s3(body: s3s::Body) -> Self {
        Self { content: Content::S3(body), finish: None }
    }

    /// Attaches the request's end.
    pub fn finish_with(mut self, finish: Finish) -> Self {
        self.finish = Some(finish);
        self
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        match &mut self.content {
            Content::Empty => Poll::Ready(None),
            Content::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.content = Content::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Content::Both(first, second) => {
                let (first, second) = (std::mem::take(first), std::mem::take(second));
                self.content = Content::Full(second);
                Poll::Ready(Some(Ok(Frame::data(first))))
            }
            Content::Open { stream } => {
                stream.as_mut().poll_next(cx).map(|next| next.map(|item| item.map(Frame::data)))
            }
            Content::S3(body) => Pin::new(body).poll_frame(cx),
            Content::Incoming { incoming, idle, timer, _keep } => match Pin::new(incoming).poll_frame(cx) {
                Poll::Ready(frame) => {
                    *timer = None;
                    Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
                }
                Poll::Pending => {
                    let after = *idle;
                    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + after)));
                    ready!(timer.as_mut().poll(cx));
                    Poll::Ready(Some(Err("the owner's sidecar fell silent".into())))
                }
            },
            Content::Stream { stream, left } => {
                let next = ready!(stream.as_mut().poll_next(cx));
                Poll::Ready(match next {
                    None if *left == 0 => None,
                    None => Some(Err("the blob ended before its length".into())),
                    Some(Err(error)) => Some(Err(error)),
                    Some(Ok(bytes)) => match left.checked_sub(bytes.len() as u64) {
                        None => Some(Err("the blob is longer than its length".into())),
                        Some(rest) => {
                            *left = rest;
                            Some(Ok(Frame::data(bytes)))
                        }
                    },
                })
            }
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let this = self.get_mut();
        let poll = std::panic::catch_unwind(AssertUnwindSafe(|| this.poll_content(cx)));
        let frame = match poll {
            Ok(poll) => ready!(poll),
            Err(_) => {
                PANICS.inc();
                // What panicked is in an unknown state: it is not polled again.
                this.content = Content::Empty;
                Some(Err("internal error".into()))
            }
        };
        match &frame {
            // The body inside has counted them.
            Some(Ok(_)) if matches!(this.content, Content::S3(_)) => {}
            Some(Ok(data)) => BYTES_OUT.inc_by(data.data_ref().map_or(0, |data| data.len() as u64)),
            Some(Err(error)) => {
                if let Some(finish) = &mut this.finish {
                    finish.cut(error.as_ref());
                }
            }
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Full(bytes) => bytes.is_empty(),
            Content::Both(..) => false,
            Content::Stream { left, .. } => *left == 0,
            Content::Open { .. } => false,
            Content::S3(body) => body.is_end_stream(),
            Content::Incoming { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Both(first, second) => SizeHint::with_exact((first.len() + second.len()) as u64),
            Content::Stream { left, .. } => SizeHint::with_exact(*left),
            Content::Open { .. } => SizeHint::default(),
            Content::S3(body) => http_body::Body::size_hint(body),
            Content::Incoming { incoming, .. } => incoming.size_hint(),
        }
    }
}
