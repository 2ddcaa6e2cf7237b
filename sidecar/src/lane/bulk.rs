//! Many objects in one request: keys to delete as JSON lines, or all that a listing finds, or a tar archive to store.
//! Each item is a request of its own, with the rights of whoever asks, at whichever pod owns it; the answer is a line of
//! JSON for each, in order.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use blobstore_sidecar_core::key::{BucketName, ObjectName};
use blobstore_sidecar_runtime::tasks;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{SinkExt as _, StreamExt as _};
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MATCH,
    IF_NONE_MATCH, IF_UNMODIFIED_SINCE,
};
use http::{Method, Response, StatusCode, request};

use self::items::{Item, Items, Put, Stop};
use self::report::{End, Line, Report};
use self::walk::{Source, Walk};
use super::copy::{own_description, parts, path};
use super::open::unknown;
use super::{Exchange, HEADER_ETAG, Side, operation};
use crate::auth::{Denied, Right, Target};
use crate::body::{Body, RequestBody, StreamError};
use crate::error::ApiError;
use crate::io::Caller;
use crate::route::Bulk;
use crate::shell::Shell;

mod items;
mod report;
mod walk;

/// Requests of this kind at once in the pod: each may hold [`ITEMS_CONCURRENT_MAX`] small bodies, or a page of names, and
/// an answer that waits, 1 to 2 MiB together.
pub const BULKS_CONCURRENT_MAX: usize = 8;
/// Items of one request under way: enough to hide the time that each takes to be acknowledged.
const ITEMS_CONCURRENT_MAX: usize = 8;
/// Ten pages of a listing. What is left of a larger job is another request, and may go through another pod.
const ITEMS_MAX: u64 = 10_000;
/// Content type of every object of an archive: it has no place for one.
const HEADER_TYPE: HeaderName = HeaderName::from_static("x-blobstore-content-type");

/// Begins to answer: what is wrong with the request as a whole is refused before its body is read.
pub(super) async fn answer(
    exchange: &Exchange<'_>,
    bucket: &BucketName,
    bulk: Bulk,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    let shell = exchange.shell;
    let given = &exchange.head.headers;
    let target = Target { bucket: bucket.as_str(), name: "" };
    // Each item is looked at by itself; who is nobody here gets no further.
    if shell.users().check(given, Right::Write, target) == Err(Denied::Unknown) {
        return Err(unknown());
    }
    if exchange.side != Side::Client {
        return Err(ApiError::bad_request("InvalidArgument", "pods ask each other for one item at a time"));
    }
    let wait = shell.peering.admission_wait();
    let permit = tokio::time::timeout(wait, Arc::clone(&shell.bulks).acquire_owned()).await;
    let Ok(Ok(permit)) = permit else {
        return Err(ApiError::slow_down("too many requests for many objects at once: retry in a moment"));
    };
    shell.store.get_bucket(bucket).await.map_err(|error| exchange.fail(error))?;
    let dry_run = matches!(bulk, Bulk::Found { dry_run: true, .. });
    let work = Work {
        shell: Arc::clone(shell),
        dry_run,
        bucket: bucket.clone(),
        request_id: exchange.request_id.to_owned(),
        caller: exchange.caller,
        headers: headers_of_items(given, &bulk),
    };
    let (report, lines) = report::answer();
    let items = match bulk {
        Bulk::Found { query, .. } => Source::Found(Walk::new(shell, exchange.request_id, bucket, *query)),
        bulk => Source::Body(Items::new(bulk, body)),
    };
    tasks::spawn("bulk", async move {
        let _permit = permit;
        if let Err(error) = work.run(items, report).await {
            tracing::debug!(%error, request_id = work.request_id, "nobody reads the answer");
        }
    });
    let mut response = Response::new(Body::open(lines));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

/// What every item's own request carries: who asks, and how objects are to be stored.
fn headers_of_items(given: &HeaderMap, bulk: &Bulk) -> HeaderMap {
    let mut headers = match bulk {
        Bulk::Delete | Bulk::Found { .. } => HeaderMap::new(),
        Bulk::Upload { .. } => own_description(given),
    };
    // They describe the archive.
    headers.remove(CONTENT_TYPE);
    headers.remove(CONTENT_ENCODING);
    let kept: &[(HeaderName, HeaderName)] = match bulk {
        // Of names that nobody gave: what is as it was, or as old.
        Bulk::Found { .. } => &[(IF_MATCH, IF_MATCH), (IF_UNMODIFIED_SINCE, IF_UNMODIFIED_SINCE)],
        Bulk::Delete | Bulk::Upload { .. } => {
            &[(IF_NONE_MATCH, IF_NONE_MATCH), (HEADER_ETAG, HEADER_ETAG), (HEADER_TYPE, CONTENT_TYPE)]
        }
    };
    for (from, to) in kept.iter().chain(&[(AUTHORIZATION, AUTHORIZATION)]) {
        if let Some(value) = given.get(from) {
            headers.insert(to, value.clone());
        }
    }
    headers
}

/// What all items share.
struct Work {
    shell: Arc<Shell>,
    bucket: BucketName,
    request_id: String,
    caller: Caller,
    headers: HeaderMap,
    dry_run: bool,
}

/// Items under way, in the order in which they came.
#[derive(Default)]
struct Flight<'a> {
    lines: FuturesOrdered<BoxFuture<'a, Line>>,
    keys: VecDeque<String>,
}

impl Work {
    async fn run(&self, mut items: Source, mut report: Report) -> io::Result<()> {
        let mut flight = Flight::default();
        let stopped = loop {
            let item = {
                let mut reading = pin!(items.next());
                loop {
                    tokio::select! {
                        item = &mut reading => break item,
                        Some(line) = flight.next() => report.tell(line).await?,
                    }
                }
            };
            let item = match item {
                Ok(None) => break None,
                Err(stop) => break Some(stop),
                Ok(Some(_)) if report.items + flight.count() >= ITEMS_MAX => break Some(too_many()),
                Ok(Some(item)) => item,
            };
            if let Item::Put(put) = &item
                && put.body.is_none()
            {
                flight.end(&mut report).await?;
                report.tell(self.large(put, &mut items).await).await?;
                continue;
            }
            // Two changes of one object keep their order.
            while flight.count() >= ITEMS_CONCURRENT_MAX as u64 || flight.has(&item) {
                flight.one(&mut report).await?;
            }
            flight.begin(self, item);
        };
        flight.end(&mut report).await?;
        report.end(End { stopped, next_token: items.rest(), dry_run: self.dry_run }).await
    }

    /// One that fits into memory.
    async fn small(&self, item: Item) -> Line {
        match item {
            Item::Refused(line) => line,
            Item::Delete(delete) => {
                let mut headers = self.headers.clone();
                headers.extend(delete.if_match.map(|tag| (IF_MATCH, tag)));
                let query = delete.version.map(|version| format!("?versionId={version}"));
                let path = [path((&self.bucket, &delete.name)), query.unwrap_or_default()].concat();
                let line = match self.dry_run {
                    true => self.looked_at((&self.bucket, &delete.name), &path, headers).await,
                    false => self.request(Method::DELETE, path, headers, RequestBody::none()).await,
                };
                Line { key: Some(delete.name.as_str().to_owned()), ..line }
            }
            Item::Put(Put { name, size, body }) => {
                let body =
                    futures::stream::iter(body.filter(|body| !body.is_empty()).map(Ok::<_, StreamError>));
                let body = RequestBody::inner(body, Some(size), self.shell.body_idle());
                let path = path((&self.bucket, &name));
                let line = self.request(Method::PUT, path, self.headers.clone(), body).await;
                Line { key: Some(name.as_str().to_owned()), ..line }
            }
        }
    }

    /// One that streams through. What a refusal leaves unread is skipped: the next item begins behind it.
    async fn large(&self, put: &Put, items: &mut Source) -> Line {
        let (mut to, from) = futures::channel::mpsc::channel::<Result<Bytes, StreamError>>(1);
        let body = RequestBody::inner(from, Some(put.size), self.shell.body_idle());
        let path = path((&self.bucket, &put.name));
        let storing = self.request(Method::PUT, path, self.headers.clone(), body);
        let feeding = async {
            let mut left = put.size;
            while left > 0 {
                match items.some(left).await {
                    Ok(bytes) => {
                        left -= bytes.len() as u64;
                        let _ = to.send(Ok(bytes)).await;
                    }
                    // The next look at the items finds it again.
                    Err(stop) => {
                        let _ = to.send(Err(stop.0.message.into())).await;
                        break;
                    }
                }
            }
            drop(to);
        };
        let (line, ()) = futures::join!(storing, feeding);
        Line { key: Some(put.name.as_str().to_owned()), ..line }
    }

    /// Boxed and named: this is a request within a request.
    fn request(
        &self,
        method: Method,
        path: String,
        headers: HeaderMap,
        body: RequestBody,
    ) -> BoxFuture<'_, Line> {
        Box::pin(async move {
            let answer = async {
                let head = parts(method, &path, headers)?;
                let response = self.exchange(&head).handle(&operation(Side::Client, &head)?, body).await?;
                match response.status().is_success() {
                    true => Ok(response),
                    false => Err(ApiError::of(response).await),
                }
            };
            Line::of(Box::pin(super::caught(answer)).await)
        })
    }

    /// What a deletion would say, without one: the rights of who asks, then the object and the conditions on it.
    fn looked_at<'a>(
        &'a self,
        (bucket, name): (&'a BucketName, &'a ObjectName),
        path: &'a str,
        headers: HeaderMap,
    ) -> BoxFuture<'a, Line> {
        Box::pin(async move {
            let answer = async {
                let head = parts(Method::DELETE, path, headers.clone())?;
                let exchange = self.exchange(&head);
                exchange.authorise(&operation(Side::Client, &head)?).await?;
                if let Some(error) = self.shell.origins.refuses(bucket, name) {
                    return Err(exchange.fail(error));
                }
                let head = parts(Method::HEAD, path, headers)?;
                super::inside(&self.shell, &head, &self.request_id, RequestBody::none()).await
            };
            Line::of(Box::pin(super::caught(answer)).await)
        })
    }

    fn exchange<'a>(&'a self, head: &'a request::Parts) -> Exchange<'a> {
        let (shell, request_id) = (&self.shell, self.request_id.as_str());
        Exchange { shell, side: Side::Client, head, request_id, caller: self.caller }
    }
}

impl<'a> Flight<'a> {
    fn count(&self) -> u64 {
        self.keys.len() as u64
    }

    fn has(&self, item: &Item) -> bool {
        let name = item.name();
        !name.is_empty() && self.keys.iter().any(|key| key == name)
    }

    fn begin(&mut self, work: &'a Work, item: Item) {
        self.keys.push_back(item.name().to_owned());
        self.lines.push_back(Box::pin(work.small(item)));
    }

    /// The oldest one's end; `None`: nothing is under way.
    async fn next(&mut self) -> Option<Line> {
        let line = self.lines.next().await?;
        self.keys.pop_front();
        Some(line)
    }

    async fn one(&mut self, report: &mut Report) -> io::Result<()> {
        match self.next().await {
            Some(line) => report.tell(line).await,
            None => Ok(()),
        }
    }

    async fn end(&mut self, report: &mut Report) -> io::Result<()> {
        while self.count() > 0 {
            self.one(report).await?;
        }
        Ok(())
    }
}

fn too_many() -> Stop {
    let message = format!("one request takes {ITEMS_MAX} items: send the rest in another");
    Stop(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "EntityTooLarge", message))
}
