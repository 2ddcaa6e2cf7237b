//! The plain lane: one request from its header to its answer. Authenticates, finds the owner, serves or forwards,
//! and turns whatever goes wrong, panics included, into one refusal.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blobstore_sidecar_runtime::authority::Owner;
use blobstore_sidecar_store::{ErrorKind, StoreError};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::header::{ACCEPT, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, request};
use hyper::body::Incoming;

use crate::body::{Body, RequestBody};
use crate::error::{ApiError, Notation};
use crate::finish::Finish;
use crate::forward::{self, Tried, misdirected};
use crate::io::Busy;
use crate::metrics::PANICS;
use crate::peer::Slot;
use crate::route::{self, Operation};
use crate::s3::cors::Crossing;
use crate::s3::{self, S3};
use crate::server::Service;
use crate::shell::Shell;

mod asks;
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
pub use bulk::BULKS_CONCURRENT_MAX;
pub use copy::{COPIES_CONCURRENT_MAX, Copied, CopyAsk, HEADER_COPY_FROM, HEADER_RENAME_FROM, copy};
pub use headers::{
    HEADER_CHECKSUM, HEADER_CLASS, HEADER_CRC64, HEADER_ETAG, HEADER_REDIRECT, HEADER_TAGS, attributes,
    crc64_text, tags_text,
};
pub use listing::{all_buckets_inside, buckets_here, page_here, page_inside};
use open::Allowed;
pub use open::{refusal, verdict};
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
    fn answer(self: Arc<Self>, request: Request<Incoming>, busy: Busy) -> BoxFuture<'static, Response<Body>> {
        let (head, body) = request.into_parts();
        let (is_s3, crossing) = (s3::wants(&head), Crossing::of(&head));
        let request = Request::from_parts(head, body);
        Box::pin(async move {
            let mut response = match is_s3 {
                true => self.s3.answer(&self.shell, request, busy).await,
                false => answer(Arc::clone(&self.shell), Side::Client, request, busy).await,
            };
            if let Some(crossing) = crossing {
                crossing.decorate(&self.shell, response.headers_mut()).await;
            }
            response
        })
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
    let exchange = Exchange { shell, side: Side::Inside, head, request_id };
    let response = exchange.handle(operation, body).await?;
    if !response.status().is_success() {
        return Err(ApiError::of(response).await);
    }
    Ok(response)
}

/// Answers one data request.
pub async fn answer(shell: Arc<Shell>, side: Side, request: Request<Incoming>, busy: Busy) -> Response<Body> {
    let guard = busy.enter();
    let (head, incoming) = request.into_parts();
    let body = RequestBody::new(incoming, busy, shell.body_idle());
    let request_id = request_id(&head, side);
    let (notation, bodyless) = (notation(&head), head.method == Method::HEAD);
    let operation = operation(side, &head);
    let label = operation.as_ref().map_or("invalid", Operation::label);
    let mut finish = Finish::begin(label, request_id.clone(), guard);
    let work = async {
        let exchange = Exchange { shell: &shell, side, head: &head, request_id: &request_id };
        exchange.handle(operation?, body).await
    };
    let mut response = match Box::pin(caught(work)).await {
        Ok(response) => response,
        Err(error) => error.into_response(notation, &request_id, bodyless),
    };
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(HEADER_REQUEST_ID, value);
    }
    finish.answered(response.status().as_u16());
    response.map(|body| body.finish_with(finish))
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

/// A panic ends this request with 500, and nothing else.
pub(crate) async fn caught(
    work: impl Future<Output = Result<Response<Body>, ApiError>>,
) -> Result<Response<Body>, ApiError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(_) => {
            PANICS.inc();
            Err(ApiError::internal("the server failed on this request: the log has the cause under its id"))
        }
    }
}

fn request_id(head: &request::Parts, side: Side) -> String {
    let given = head.headers.get(HEADER_REQUEST_ID).and_then(|value| value.to_str().ok());
    match (side, given) {
        (Side::Peer, Some(given)) => given.to_owned(),
        _ => format!("{:016x}", rand::random::<u64>()),
    }
}

fn notation(head: &request::Parts) -> Notation {
    let accept = head.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let xml = accept.contains("application/xml") || accept.contains("text/xml");
    if route::is_signed(&head.headers, &head.uri) || xml { Notation::Xml } else { Notation::Json }
}

/// One request on its way.
struct Exchange<'a> {
    shell: &'a Arc<Shell>,
    side: Side,
    head: &'a request::Parts,
    request_id: &'a str,
}

impl Exchange<'_> {
    async fn handle(&self, operation: Operation, body: RequestBody) -> Result<Response<Body>, ApiError> {
        let allowed = self.authorise(&operation).await?;
        let outcome = self.handle_allowed(operation, body).await;
        match outcome {
            Err(error) if allowed == Allowed::Public => Err(self.hidden(error).await),
            Ok(response) if allowed == Allowed::Public && response.status() == StatusCode::NOT_FOUND => {
                Err(self.hidden(ApiError::of(response).await).await)
            }
            outcome => outcome,
        }
    }

    async fn handle_allowed(
        &self,
        operation: Operation,
        body: RequestBody,
    ) -> Result<Response<Body>, ApiError> {
        let slot = match &operation {
            Operation::ListBuckets => return listing::buckets(self).await,
            Operation::List { bucket, query } => return listing::objects(self, bucket, query).await,
            Operation::HeadBucket { bucket } => {
                return bucket::head(self, bucket).await.map_err(|e| self.fail(e));
            }
            Operation::Copy { from, to, rename } => {
                return copy::put(self, (&from.0, &from.1), (&to.0, &to.1), *rename).await;
            }
            Operation::Describe { bucket, name } => return copy::patch(self, (bucket, name)).await,
            Operation::Bulk { bucket, bulk } => return bulk::answer(self, bucket, bulk.clone(), body).await,
            Operation::CreateBucket { bucket } | Operation::DeleteBucket { bucket } => {
                self.shell.store.home_slot_of(bucket)
            }
            Operation::Put { bucket, name }
            | Operation::PutPart { bucket, name, .. }
            | Operation::Get { bucket, name }
            | Operation::Head { bucket, name }
            | Operation::Delete { bucket, name } => self.shell.store.slot_of(bucket, name),
        };
        self.by_owner(&operation, slot, body).await
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
                    if let Some(answer) = redirect::to_owner(self, &address).await {
                        return Ok(answer);
                    }
                    match self.forward(&address, &body, length).await {
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
            Operation::Put { bucket, name } => object::put(self, bucket, name, &mut body).await,
            Operation::PutPart { bucket, name, upload, number } => {
                uploads::put_part(self, (bucket, name), (*upload, *number), &mut body).await
            }
            Operation::Get { bucket, name } => object::get(self, bucket, name).await,
            Operation::Head { bucket, name } => object::head(self, bucket, name).await,
            Operation::Delete { bucket, name } => object::delete(self, bucket, name).await,
            Operation::CreateBucket { bucket } => bucket::create(self, bucket).await,
            Operation::DeleteBucket { bucket } => bucket::delete(self, bucket).await,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// R002-17: a panic in one request is a 500 and a metric; the caller goes on.
    #[tokio::test]
    async fn a_panic_becomes_a_500_and_a_metric() {
        let before = PANICS.get();
        let work = async {
            if PANICS.get() < u64::MAX { panic!("on purpose") } else { Ok(Response::new(Body::empty())) }
        };
        let error = caught(work).await.expect_err("a panic is no answer");
        assert_eq!((error.status, PANICS.get()), (StatusCode::INTERNAL_SERVER_ERROR, before + 1));
        let fine = caught(async { Ok(Response::new(Body::empty())) }).await;
        assert!(fine.is_ok());
    }
}
