//! The plain lane: authenticates a request, finds the owner of what it is about, serves it or forwards it.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blobstore_sidecar_runtime::authority::Owner;
use blobstore_sidecar_store::{ErrorKind, GetRequest, StoreError};
use futures::FutureExt as _;
use http::header::{CONNECTION, EXPECT, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, request};
use hyper::body::Incoming;

use crate::body::{Body, RequestBody};
use crate::error::ApiError;
use crate::forward::{self, Tried, misdirected};
use crate::io::{Busy, Caller};
use crate::peer::Slot;
use crate::route::{self, Operation};
use crate::s3::cors::Crossing;
use crate::s3::{self, S3};
use crate::server::{Answer, Service, later};
use crate::shell::Shell;

mod asks;
mod begun;
mod bucket;
mod bulk;
mod copy;
mod etags;
mod failure;
mod headers;
mod listing;
mod object;
mod open;
mod redirect;
mod uploads;
mod versions;

pub use asks::{answer_here, ask, part_mark};
pub use begun::answer;
pub(crate) use begun::caught;
pub use bulk::BULKS_CONCURRENT_MAX;
pub use copy::{COPIES_CONCURRENT_MAX, Copied, CopyAsk, HEADER_COPY_FROM, HEADER_RENAME_FROM, copy};
pub use headers::{
    HEADER_CHECKSUM, HEADER_CHECKSUM_SENT, HEADER_CLASS, HEADER_CRC64, HEADER_ETAG, HEADER_REDIRECT,
    HEADER_TAGS, attributes, crc64_text, tags_text,
};
pub use listing::{all_buckets_inside, buckets_here, page_here, page_inside};
use object::Found;
use open::Allowed;
pub use open::{Asker, refusal, verdict};
pub use uploads::{open_uploads, uploads_here};
pub use versions::{
    HEADER_MARKER, HEADER_VERSION, VERSION_PARAMETER, takes_version, versions, versions_here,
};

/// Between sidecars: this body is a part of an upload, `upload.number`.
pub const HEADER_PART: HeaderName = HeaderName::from_static("x-blobstore-part");
/// Names a request in logs, in errors and on its way to the owner.
pub const HEADER_REQUEST_ID: HeaderName = HeaderName::from_static("x-blobstore-request-id");
/// The owner may change once while we ask; a third answer would be a loop.
const TRIES_MAX: usize = 2;
/// Between the tries: the map refreshes within a second, a promotion takes longer than any wait here.
const TRY_PAUSE: Duration = Duration::from_millis(200);

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A client: authenticated here, forwarded if need be.
    Client,
    /// A peer, whose token was checked: never forwarded again.
    Peer,
    /// The S3 side of this pod, which has checked rights already: forwarded if need be.
    Inside,
}

/// The client port.
#[derive(Debug)]
pub struct ClientPort {
    shell: Arc<Shell>,
    s3: S3,
}

impl ClientPort {
    pub fn new(shell: Arc<Shell>) -> Self {
        Self { s3: S3::new(Arc::clone(&shell)), shell }
    }
}

impl Service for ClientPort {
    fn answer(self: Arc<Self>, request: Request<Incoming>, busy: Busy) -> Answer {
        let (mut head, body) = request.into_parts();
        let waits = head.headers.contains_key(EXPECT);
        let (is_s3, crossing) = (s3::wants(&head), Crossing::of(&self.shell, &head));
        // The S3 side reads the host itself: signatures cover host and path as they came.
        if !is_s3 && let Some(uri) = self.shell.by_path(&head) {
            head.uri = uri;
        }
        let (request, shared) = (Request::from_parts(head, body), busy.clone());
        match (is_s3, crossing) {
            (false, None) if !waits => answer(&self.shell, Side::Client, request, busy),
            (is_s3, crossing) => later(async move {
                let mut response = match is_s3 {
                    true => self.s3.answer(&self.shell, request, busy).await,
                    false => answer(&self.shell, Side::Client, request, busy).await,
                };
                // A client that waits for leave to send goes on with its next request, and hyper would read the
                // beginning of that as the body that never came.
                if waits && shared.has_unread() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                if let Some(crossing) = crossing {
                    Box::pin(crossing.decorate(&self.shell, response.headers_mut())).await;
                }
                response
            }),
        }
    }
}

/// A request of this pod's own S3 side. What the owner refuses comes back as an error, too.
pub async fn inside(
    shell: &Arc<Shell>,
    head: &request::Parts,
    request_id: &str,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    let operation = operation(Side::Inside, head)?;
    let exchange = Exchange { shell, side: Side::Inside, head, request_id, caller: Caller::default() };
    if let Some(found) = exchange.at_once(&operation) {
        return Ok(found.into());
    }
    let response = Box::pin(exchange.handle(&operation, body)).await?;
    if !response.status().is_success() {
        return Err(ApiError::of(response).await);
    }
    Ok(response)
}

/// What a read asks for, if all that it takes is in memory here. `None` is no answer: ask in full.
pub fn at_hand(shell: &Arc<Shell>, request: &GetRequest, allowed: impl FnOnce() -> bool) -> Option<Found> {
    let keeps = shell.store.bucket_at_hand(&request.bucket, |info| info.versioning().keeps())?;
    let find = || allowed().then(|| object::get_at_once(shell, request, keeps)).flatten();
    // Whatever panicked does so again on the way that reports it.
    std::panic::catch_unwind(AssertUnwindSafe(find)).ok().flatten()
}

fn operation(side: Side, head: &request::Parts) -> Result<Operation, ApiError> {
    let operation = route::operation(&head.method, &head.uri, &head.headers)?;
    let Some(mark) = head.headers.get(HEADER_PART) else { return Ok(operation) };
    match operation {
        Operation::Put { bucket, name } if side != Side::Client => {
            let part = mark.to_str().ok().and_then(asks::parse_part_mark);
            let (upload, number) = part.ok_or_else(uploads::not_a_part)?;
            Ok(Operation::PutPart { bucket, name, upload, number })
        }
        _ => Err(ApiError::bad_request("InvalidArgument", format!("{HEADER_PART} is between sidecars only"))),
    }
}

/// One request on its way.
struct Exchange<'a> {
    shell: &'a Arc<Shell>,
    side: Side,
    head: &'a request::Parts,
    request_id: &'a str,
    caller: Caller,
}

impl Exchange<'_> {
    /// What is asked for, if it takes nothing that is not in memory here. `None` is no answer: handle it in full.
    fn at_once(&self, operation: &Operation) -> Option<Found> {
        let Operation::Get { bucket, name } = operation else { return None };
        if self.head.uri.query().is_some_and(|query| !query.is_empty()) {
            return None;
        }
        let allowed = || matches!(self.authorise(operation).now_or_never(), Some(Ok(Allowed::Known)));
        let request = object::asked(&self.head.headers, bucket, name).ok()?;
        at_hand(self.shell, &request, allowed)
    }

    async fn handle(&self, operation: &Operation, body: RequestBody) -> Result<Response<Body>, ApiError> {
        let allowed = self.authorise(operation).await?;
        let outcome = self.handle_allowed(operation, body).await;
        match outcome {
            Err(error) if allowed == Allowed::Public => Err(Box::pin(self.hidden(error)).await),
            Ok(response) if allowed == Allowed::Public && response.status() == StatusCode::NOT_FOUND => {
                Err(Box::pin(async { self.hidden(ApiError::of(response).await).await }).await)
            }
            outcome => outcome,
        }
    }

    /// Each operation in a box of its own: one task state for all would have the size of the largest.
    async fn handle_allowed(
        &self,
        operation: &Operation,
        body: RequestBody,
    ) -> Result<Response<Body>, ApiError> {
        let slot = match operation {
            Operation::ListBuckets => return Box::pin(listing::buckets(self)).await,
            Operation::List { bucket, query } => {
                return Box::pin(listing::objects(self, bucket, query)).await;
            }
            Operation::HeadBucket { bucket } => {
                return Box::pin(bucket::head(self, bucket)).await.map_err(|e| self.fail(e));
            }
            Operation::Copy { from, to, rename } => {
                return Box::pin(copy::put(self, (&from.0, &from.1), (&to.0, &to.1), *rename)).await;
            }
            Operation::Describe { bucket, name } => {
                return Box::pin(copy::patch(self, (bucket, name))).await;
            }
            Operation::Bulk { bucket, bulk } => {
                return Box::pin(bulk::answer(self, bucket, bulk.clone(), body)).await;
            }
            Operation::CreateBucket { bucket } | Operation::DeleteBucket { bucket } => {
                self.shell.store.home_slot_of(bucket)
            }
            Operation::Put { bucket, name }
            | Operation::PutPart { bucket, name, .. }
            | Operation::Get { bucket, name }
            | Operation::Head { bucket, name }
            | Operation::Delete { bucket, name } => self.shell.store.slot_of(bucket, name),
        };
        self.by_owner(operation, slot, body).await
    }

    /// Serves here, or asks the owner; at most [`TRIES_MAX`] times while the body is whole.
    async fn by_owner(
        &self,
        operation: &Operation,
        slot: u16,
        body: RequestBody,
    ) -> Result<Response<Body>, ApiError> {
        let length = body.length();
        let body: Slot = Arc::new(Mutex::new(Some(body)));
        let mut hint = None;
        for attempt in 0..TRIES_MAX {
            if attempt > 0 && hint.is_none() {
                tokio::time::sleep(TRY_PAUSE).await;
            }
            match self.shell.authority.owner(slot) {
                Owner::Here(_) => match self.serve(operation, &body).await {
                    Err(Served::NotOwner(error)) if self.side == Side::Peer => return Err(error),
                    Err(Served::NotOwner(_)) => {}
                    Err(Served::Failed(error)) => return Err(error),
                    Ok(response) => return Ok(response),
                },
                Owner::Peer { address, epoch } if self.side == Side::Peer => {
                    return Err(misdirected(Some(&address), epoch));
                }
                Owner::Peer { address, epoch: _ } => {
                    let address = hint.take().unwrap_or(address);
                    if let Some(answer) = Box::pin(redirect::to_owner(self, &address)).await {
                        return Ok(answer);
                    }
                    match Box::pin(self.forward(&address, &body, length)).await {
                        Tried::Answered(response) => return Ok(response),
                        Tried::Lost(error) => return Err(error),
                        Tried::Moved(owner) => hint = owner,
                        Tried::Unreachable(message) => {
                            tracing::debug!(
                                request_id = self.request_id,
                                address,
                                message,
                                "owner unreachable"
                            );
                        }
                    }
                }
                Owner::Nobody if self.side == Side::Peer => return Err(misdirected(None, None)),
                Owner::Nobody => {}
            }
        }
        Err(ApiError::unavailable("no pod owns this key at the moment: a primary is being chosen, retry"))
    }

    async fn forward(&self, address: &str, body: &Slot, length: Option<u64>) -> Tried {
        let carries = self.head.method == Method::PUT && length != Some(0);
        let slot = carries.then_some((body, length));
        forward::forward(&self.shell.peering, address, self.head, self.request_id, slot).await
    }

    async fn serve(&self, operation: &Operation, slot: &Slot) -> Result<Response<Body>, Served> {
        let Some(mut body) = slot.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Err(Served::Failed(ApiError::unavailable("the upload was interrupted: repeat it")));
        };
        let outcome = match operation {
            Operation::Put { bucket, name } => Box::pin(object::put(self, bucket, name, &mut body)).await,
            Operation::PutPart { bucket, name, upload, number } => {
                Box::pin(uploads::put_part(self, (bucket, name), (*upload, *number), &mut body)).await
            }
            Operation::Get { bucket, name } => Box::pin(object::get(self, bucket, name)).await,
            Operation::Head { bucket, name } => Box::pin(object::head(self, bucket, name)).await,
            Operation::Delete { bucket, name } => Box::pin(object::delete(self, bucket, name)).await,
            Operation::CreateBucket { bucket } => Box::pin(bucket::create(self, bucket)).await,
            Operation::DeleteBucket { bucket } => Box::pin(bucket::delete(self, bucket)).await,
            Operation::ListBuckets
            | Operation::List { .. }
            | Operation::HeadBucket { .. }
            | Operation::Copy { .. }
            | Operation::Describe { .. }
            | Operation::Bulk { .. } => {
                return Err(Served::Failed(ApiError::internal("not an operation of one owner")));
            }
        };
        let error = match outcome {
            Ok(response) => return Ok(response),
            Err(Refused::Api(error)) => return Err(Served::Failed(error)),
            Err(Refused::Store(error)) => error,
        };
        if let ErrorKind::NotOwner { address, epoch } = &error.kind
            && !body.touched()
        {
            let error = misdirected(address.as_deref(), *epoch);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
            return Err(Served::NotOwner(error));
        }
        if body.idled() {
            return Err(Served::Failed(failure::idle(self.shell.body_idle())));
        }
        Err(Served::Failed(self.fail(error)))
    }

    fn fail(&self, error: StoreError) -> ApiError {
        if error.kind == ErrorKind::NoSuchBucket
            && let Some(bucket) = self.head.uri.path().split('/').nth(1)
        {
            return ApiError::no_such_bucket(bucket);
        }
        failure::from_store(error, self.request_id)
    }
}

/// Why this pod did not serve.
enum Served {
    /// Before the body was touched: another pod may.
    NotOwner(ApiError),
    Failed(ApiError),
}

/// A refusal by the HTTP side or by the store.
enum Refused {
    Api(ApiError),
    Store(StoreError),
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
