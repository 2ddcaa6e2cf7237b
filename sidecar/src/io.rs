//! The socket under hyper, with its timeouts: a request's header must arrive in time once it began (an idle keep-alive
//! connection may wait longer), and a reader that takes nothing is cut.

use std::future::Future as _;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::metrics::{REJECTED, reason};
use crate::tls::Wire;

/// An idle keep-alive connection is closed after this: longer than the pools of common clients keep one.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(75);

/// Shared by a connection's socket and its requests.
#[derive(Clone, Debug, Default)]
pub struct Busy(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// A request is being answered.
    busy: AtomicBool,
    /// Requests so far: a header that was arriving under another count has arrived.
    requests: AtomicU64,
    /// A request's body was dropped before its end.
    unread: AtomicBool,
    /// Known once the socket is.
    caller: OnceLock<Caller>,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    pub address: Option<IpAddr>,
    /// The connection speaks TLS.
    pub secure: bool,
}

impl Busy {
    /// Marks the connection busy until the returned guard is dropped.
    pub fn enter(&self) -> BusyGuard {
        self.0.requests.fetch_add(1, Ordering::AcqRel);
        self.0.busy.store(true, Ordering::Release);
        BusyGuard(self.clone())
    }

    /// The answer went out while the client may still be sending.
    pub fn leave_unread(&self) {
        self.0.unread.store(true, Ordering::Release);
    }

    pub fn has_unread(&self) -> bool {
        self.0.unread.load(Ordering::Acquire)
    }

    pub fn caller(&self) -> Caller {
        self.0.caller.get().copied().unwrap_or_default()
    }

    fn is(&self) -> bool {
        self.0.busy.load(Ordering::Acquire)
    }

    fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Acquire)
    }
}

/// Ends the busy phase when dropped; rides in the answer's body.
#[derive(Debug)]
pub struct BusyGuard(Busy);

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.0.busy.store(false, Ordering::Release);
    }
}

/// The bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the first byte of a header to its end.
    pub header: Duration,
    /// Without a byte taken by the reader.
    pub stalled: Duration,
}

/// A deadline whose timer is made when it first has to wait.
#[derive(Debug, Default)]
struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    fn poll_elapsed(&mut self, after: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + after)));
        sleep.as_mut().poll(cx)
    }

    fn clear(&mut self) {
        self.0 = None;
    }
}

/// A connection with [`Patience`].
#[derive(Debug)]
pub struct GuardedStream {
    stream: Wire,
    busy: Busy,
    patience: Patience,
    /// Some while a header is arriving: since when, and behind how many requests.
    header_since: Option<(Instant, u64)>,
    header: Deadline,
    stalled: Deadline,
    /// Since when nothing came and nothing is answered.
    idle_since: Option<Instant>,
    /// Set when a connection is first idle, and put off when it fires: no timer is set anew for every request.
    idle: Option<Pin<Box<Sleep>>>,
}

impl GuardedStream {
    pub fn new(stream: Wire, busy: Busy, patience: Patience) -> Self {
        let _ = busy.0.caller.set(stream.caller());
        Self {
            stream,
            busy,
            patience,
            header_since: None,
            header: Deadline::default(),
            stalled: Deadline::default(),
            idle_since: None,
            idle: None,
        }
    }

    /// Fails when a connection without a request has been idle for too long; `cx` is woken at the deadline or before.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.busy.is() || self.header_since.is_some() {
            return Ok(());
        }
        let until = *self.idle_since.get_or_insert_with(Instant::now) + KEEP_ALIVE_IDLE;
        let sleep = self.idle.get_or_insert_with(|| Box::pin(sleep_until(until)));
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no request came for too long"));
            }
            sleep.as_mut().reset(until);
        }
        Ok(())
    }

    /// Fails when the header that is arriving takes too long; `cx` is woken at the deadline.
    fn poll_header(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some((since, requests)) = self.header_since else { return Ok(()) };
        // hyper does not read while it answers, so the answer may have come and gone since the last look.
        if requests != self.busy.requests() {
            self.header_since = None;
            self.header.clear();
            return Ok(());
        }
        let left = self.patience.header.saturating_sub(since.elapsed());
        if left.is_zero() || self.header.poll_elapsed(left, cx).is_ready() {
            REJECTED.with_label_values(&[reason::HEADER_TIMEOUT]).inc();
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the request's header took too long"));
        }
        Ok(())
    }

    fn watch_write<T>(&mut self, poll: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled.clear();
        } else if self.stalled.poll_elapsed(self.patience.stalled, cx).is_ready() {
            REJECTED.with_label_values(&[reason::SLOW_READER]).inc();
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the reader takes nothing")));
        }
        poll
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_header(cx)?;
        let before = buf.filled().len();
        let poll = Pin::new(&mut this.stream).poll_read(cx, buf);
        if poll.is_pending() {
            this.poll_idle(cx)?;
            return poll;
        }
        this.idle_since = None;
        if buf.filled().len() > before && this.header_since.is_none() && !this.busy.is() {
            this.header_since = Some((Instant::now(), this.busy.requests()));
        }
        poll
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.watch_write(poll, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.watch_write(poll, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
