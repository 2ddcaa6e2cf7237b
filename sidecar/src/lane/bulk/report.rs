//! The answer to a request for many objects: a line of JSON for each, in order, and one that sums up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::Stream;
use http::header::{ETAG, HeaderName};
use http::{Response, StatusCode};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::items::Stop;
use crate::body::{Body, StreamError};
use crate::error::ApiError;
use crate::lane::HEADER_VERSION;

/// Of what waits to be read, at a time.
const PIECE_BYTES: usize = 8 << 10;

/// What became of one item.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    /// Of an item without a name that could be read: which one it is, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) item: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    pub(super) status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
}

/// How it ended.
#[derive(Debug, Default)]
pub(super) struct End {
    /// Why nothing behind the last item was looked at.
    pub(super) stopped: Option<Stop>,
    /// Where the next request goes on.
    pub(super) next_token: Option<String>,
    /// Nothing was done.
    pub(super) dry_run: bool,
}

/// The last line: without it the answer is not whole.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    items: u64,
    failed: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

impl Line {
    pub(super) fn refused(error: ApiError) -> Self {
        Self {
            status: error.status.as_u16(),
            code: Some(error.code),
            message: Some(error.message.into_owned()),
            ..Self::default()
        }
    }

    pub(super) fn of(outcome: Result<Response<Body>, ApiError>) -> Self {
        let response = match outcome {
            Ok(response) => response,
            Err(error) => return Self::refused(error),
        };
        let text = |name: HeaderName| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (etag, version_id) = (text(ETAG), text(HEADER_VERSION));
        Self { status: response.status().as_u16(), etag, version_id, ..Self::default() }
    }
}

/// Answers that wait here for a client which reads them only when it has sent everything: beside what its socket and
/// ours hold. Beyond it such a client and this pod would wait for each other.
const ANSWER_BYTES_MAX: usize = 512 << 10;

/// The answer's writing end.
pub(super) struct Report {
    to: DuplexStream,
    /// Told to the reading end before this one closes: everything was written.
    whole: Arc<AtomicBool>,
    pub(super) items: u64,
    failed: u64,
}

/// An answer and who writes it. It is cut when that one is gone before [`Report::end`].
pub(super) fn answer() -> (Report, impl Stream<Item = Result<Bytes, StreamError>>) {
    let (to, from) = tokio::io::duplex(ANSWER_BYTES_MAX);
    let whole = Arc::new(AtomicBool::new(false));
    let report = Report { to, whole: Arc::clone(&whole), items: 0, failed: 0 };
    let lines = futures::stream::unfold((from, whole), async |(mut from, whole)| {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        match from.read_buf(&mut piece).await {
            Ok(0) if whole.load(Ordering::Acquire) => None,
            Ok(0) => Some((Err("the rest of the answer is missing".into()), (from, whole))),
            Ok(_) => Some((Ok(Bytes::from(piece)), (from, whole))),
            Err(error) => Some((Err(error.into()), (from, whole))),
        }
    });
    (report, lines)
}

impl Report {
    pub(super) async fn tell(&mut self, line: Line) -> io::Result<()> {
        self.items += 1;
        let failed = line.status >= StatusCode::BAD_REQUEST.as_u16();
        self.failed += u64::from(failed);
        let item = line.key.is_none().then_some(self.items);
        self.write(&Line { item, ..line }).await
    }

    pub(super) async fn end(mut self, end: End) -> io::Result<()> {
        let End { stopped, next_token, dry_run } = end;
        let stopped = stopped.map(|stop| Line::refused(stop.0));
        let summary = Summary { items: self.items, failed: self.failed, dry_run, stopped, next_token };
        self.write(&summary).await?;
        self.whole.store(true, Ordering::Release);
        Ok(())
    }

    async fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.to.write_all(&text).await
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    /// The reader may look in the moment in which the writer closes, whatever its task does afterwards.
    #[tokio::test]
    async fn an_answer_that_ends_is_whole_when_its_writer_closes() {
        let (mut report, lines) = answer();
        report.tell(Line { key: Some("a".into()), status: 204, ..Line::default() }).await.expect("room");
        report.end(End::default()).now_or_never().expect("room").expect("a reader");
        let pieces: Vec<_> = lines.collect().await;
        let text: Vec<u8> =
            pieces.into_iter().flat_map(|piece| piece.expect("the answer is whole")).collect();
        assert_eq!(text, b"{\"key\":\"a\",\"status\":204}\n{\"items\":1,\"failed\":0}\n");
    }

    #[tokio::test]
    async fn an_answer_whose_writer_is_gone_is_cut() {
        let (report, lines) = answer();
        drop(report);
        let error = Box::pin(lines).next().await.expect("an item").expect_err("nothing was said of an end");
        assert!(error.to_string().contains("missing"), "{error}");
    }
}
