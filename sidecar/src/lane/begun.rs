//! One request from its header to the last byte of its answer: begun, answered at once or later, ended, and whatever
//! goes wrong on the way, panics included, turned into one refusal.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{Either, ready};
use http::header::{ACCEPT, HeaderValue};
use http::{Method, Request, Response, request};
use hyper::body::Incoming;

use super::{Exchange, HEADER_REQUEST_ID, Side, operation};
use crate::body::{Body, RequestBody};
use crate::error::{ApiError, Notation};
use crate::finish::Finish;
use crate::io::{Busy, Caller};
use crate::metrics::PANICS;
use crate::route::{self, Operation};
use crate::server::{Answer, later};
use crate::shell::Shell;

/// Answers one data request.
pub fn answer(shell: &Arc<Shell>, side: Side, request: Request<Incoming>, busy: Busy) -> Answer {
    let (mut begun, operation, body) = Begun::of(shell, side, request, busy);
    let now = operation.as_ref().ok().and_then(|operation| begun.exchange().at_once(operation));
    match now {
        // The request's headers have been read: the answer's take their place in memory.
        Some(found) => {
            let response = found.into_response(std::mem::take(&mut begun.head.headers));
            Either::Left(ready(begun.end(response)))
        }
        None => later(begun.answer(operation, body)),
    }
}

/// A request whose header was read.
struct Begun {
    shell: Arc<Shell>,
    side: Side,
    head: request::Parts,
    request_id: String,
    finish: Finish,
    caller: Caller,
}

impl Begun {
    /// And what it asks for, with its body.
    fn of(
        shell: &Arc<Shell>,
        side: Side,
        request: Request<Incoming>,
        busy: Busy,
    ) -> (Self, Result<Operation, ApiError>, RequestBody) {
        let (guard, caller) = (busy.enter(), busy.caller());
        let (head, incoming) = request.into_parts();
        let body = RequestBody::new(incoming, busy, shell.body_idle());
        let request_id = request_id(&head, side);
        let operation = operation(side, &head);
        let label = operation.as_ref().map_or("invalid", Operation::label);
        let finish = Finish::begin(label, request_id.clone(), guard);
        let begun = Self { shell: Arc::clone(shell), side, head, request_id, finish, caller };
        (begun, operation, body)
    }

    fn exchange(&self) -> Exchange<'_> {
        let (shell, request_id) = (&self.shell, self.request_id.as_str());
        Exchange { shell, side: self.side, head: &self.head, request_id, caller: self.caller }
    }

    #[expect(clippy::manual_async_fn, reason = "an async fn would hold all that it is given twice")]
    fn answer(
        self,
        operation: Result<Operation, ApiError>,
        body: RequestBody,
    ) -> impl Future<Output = Response<Body>> {
        async move {
            let outcome = match operation {
                Ok(ref operation) => caught(self.exchange().handle(operation, body)).await,
                Err(error) => Err(error),
            };
            let response = outcome.unwrap_or_else(|error| {
                let bodyless = self.head.method == Method::HEAD;
                error.into_response(notation(&self.head), &self.request_id, bodyless)
            });
            self.end(response)
        }
    }

    fn end(mut self, mut response: Response<Body>) -> Response<Body> {
        if let Ok(value) = HeaderValue::from_str(&self.request_id) {
            response.headers_mut().insert(HEADER_REQUEST_ID, value);
        }
        self.finish.answered(response.status().as_u16());
        let finish = self.finish;
        response.map(|body| body.finish_with(finish))
    }
}

/// A panic ends this request with 500, and nothing else. No `async fn`: that would hold the work twice, as what it was
/// given and as what it waits for.
pub(crate) fn caught(
    work: impl Future<Output = Result<Response<Body>, ApiError>>,
) -> impl Future<Output = Result<Response<Body>, ApiError>> {
    AssertUnwindSafe(work).catch_unwind().map(|ended| {
        ended.unwrap_or_else(|_| {
            PANICS.inc();
            Err(ApiError::internal("the server failed on this request: the log has the cause under its id"))
        })
    })
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

#[cfg(test)]
mod tests {
    use http::StatusCode;

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
