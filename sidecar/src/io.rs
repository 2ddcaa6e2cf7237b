//! The socket under hyper, with its timeouts: a request's header must arrive in time once it began (an idle keep-alive
//! connection may wait longer), and a reader that takes nothing is cut.

use std::future::Future as _;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use blobstore_sidecar_core::chunk::CHUNK_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::metrics::{REJECTED, reason};
use crate::tls::Wire;

/// An idle keep-alive connection is closed after this: longer than the pools of common clients keep one.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(75);

/// One read of a body: two of them are a chunk.
const READ_BYTES_MAX: usize = CHUNK_BYTES as usize / 2;
/// One read when many receive at once; less would be more calls than bytes.
const READ_BYTES_MIN: usize = CHUNK_BYTES as usize / 16;
/// One read of all connections that receive a body, together. Each holds two or three of them beside the chunk that it
/// gathers, outside the budget of bytes in flight: a hundred uploads stay below ten megabytes of that.
const READS_BYTES_MAX: usize = 4 << 20;

/// Connections that receive a body.
static RECEIVING: AtomicUsize = AtomicUsize::new(0);

/// Counts a connection while it receives a body.
#[derive(Debug)]
struct Receiving;

impl Receiving {
    fn begin() -> Self {
        RECEIVING.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        RECEIVING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one read may bring while `receiving` connections receive. Always a little less than a power of two: hyper's
/// buffer follows the reads in such steps, and neither grows past this nor shrinks below it.
fn read_bytes_max(receiving: usize) -> usize {
    let mut most = READ_BYTES_MAX;
    while most > READ_BYTES_MIN && most.saturating_mul(receiving) > READS_BYTES_MAX {
        most /= 2;
    }
    most
}

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
    /// The version of TLS that it speaks, as `1.3`.
    pub tls_version: Option<&'static str>,
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
    /// Each read is bounded anew.
    stream: Take<Wire>,
    receiving: Option<Receiving>,
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
            stream: stream.take(0),
            receiving: None,
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

    /// Bounds the next read. A header is small, and what comes with it fits into the buffer that is there.
    fn bound_read(&mut self) {
        let most = if self.busy.is() {
            self.receiving.get_or_insert_with(Receiving::begin);
            read_bytes_max(RECEIVING.load(Ordering::Relaxed))
        } else {
            self.receiving = None;
            READ_BYTES_MAX
        };
        self.stream.set_limit(most as u64);
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
        this.bound_read();
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
        let poll = Pin::new(this.stream.get_mut()).poll_write(cx, buf);
        this.watch_write(poll, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(this.stream.get_mut()).poll_write_vectored(cx, bufs);
        this.watch_write(poll, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_shrink_as_more_connections_receive() {
        for (receiving, want) in [
            (0, 131_040),
            (1, 131_040),
            (32, 131_040),
            (33, 65_520),
            (64, 65_520),
            (100, 32_760),
            (256, 16_380),
            (100_000, 16_380),
        ] {
            assert_eq!(read_bytes_max(receiving), want, "{receiving} receive");
        }
    }

    #[test]
    fn a_read_is_just_below_a_step_of_the_buffer() {
        for receiving in [1, 64, 128, 1_000] {
            let most = read_bytes_max(receiving);
            assert!(most < most.next_power_of_two() && most > most.next_power_of_two() - 64, "{most}");
        }
    }
}
