//! One hop to the owner, streaming both ways. What comes back is an answer for the client, or the reason to try
//! another owner; a body that the first owner began to read is never sent twice.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use blobstore_sidecar_api::ports::{HEADER_EPOCH, HEADER_FORWARDED, HEADER_OWNER};
use http::header::{AUTHORIZATION, EXPECT, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Uri, request};
use tokio::sync::oneshot;

use crate::body::Body;
use crate::error::ApiError;
use crate::metrics::FORWARDED;
use crate::peer::{GatedBody, PeerBody, PeerError, Slot};
use crate::peers::Peering;

/// An owner says `100 Continue` or no within this; it waits for admission itself before it does.
const CONTINUE_WAIT: Duration = Duration::from_secs(10);
/// After the last byte of the body: commit and acknowledgement by the replicas.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// Headers between two neighbours only (RFC 9110, 7.6.1), and those that we set ourselves.
const NOT_PASSED_ON: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "authorization",
    "expect",
    "host",
];

/// What one try came to.
#[derive(Debug)]
pub enum Tried {
    /// The owner answered: pass it on, whatever it says.
    Answered(Response<Body>),
    /// 421: somebody else owns it; the owner may have said who.
    Moved(Option<String>),
    /// Nothing was sent: another try is safe.
    Unreachable(String),
    /// The body was on its way: the outcome is unknown.
    Lost(ApiError),
}

/// Sends the request on. `slot` holds the body, if there is one with bytes.
pub async fn forward(
    peering: &Peering,
    address: &str,
    head: &request::Parts,
    request_id: &str,
    slot: Option<(&Slot, Option<u64>)>,
) -> Tried {
    let tried = attempt(peering, address, head, request_id, slot).await;
    let outcome = match &tried {
        Tried::Answered(_) => "answered",
        Tried::Moved(_) => "moved",
        Tried::Unreachable(_) => "unreachable",
        Tried::Lost(_) => "lost",
    };
    FORWARDED.with_label_values(&[outcome]).inc();
    tried
}

async fn attempt(
    peering: &Peering,
    address: &str,
    head: &request::Parts,
    request_id: &str,
    slot: Option<(&Slot, Option<u64>)>,
) -> Tried {
    let handle = peering.handle(address, Instant::now());
    let (body, gate) = match slot {
        None => (PeerBody::Empty, None),
        Some((slot, length)) => {
            let (body, gate) = GatedBody::new(Arc::clone(slot), length);
            (PeerBody::Gated(body), Some(gate))
        }
    };
    let mut request = match outgoing(peering, address, head, request_id, body) {
        Ok(request) => request,
        Err(error) => return Tried::Unreachable(error.to_string()),
    };
    let progress = gate.map(|gate| {
        let (continued, asked) = oneshot::channel();
        open_on_continue(&mut request, gate.open, continued);
        (asked, gate.sent)
    });
    let touched = || slot.is_some_and(|(slot, _)| slot.lock().is_ok_and(|slot| slot.is_none()));
    let answer = tokio::select! {
        answer = handle.send(request, peering.admission_wait()) => answer,
        () = overdue(progress) => {
            let message = "the owner's sidecar did not answer in time";
            return if touched() { Tried::Lost(lost(message)) } else { Tried::Unreachable(message.to_owned()) };
        }
    };
    match answer {
        Ok((response, _)) if response.status() == StatusCode::MISDIRECTED_REQUEST => {
            Tried::Moved(text(response.headers(), HEADER_OWNER))
        }
        Ok((response, permit)) => {
            let (mut head, incoming) = response.into_parts();
            strip(&mut head.headers);
            let keep = Box::new((permit, handle));
            Tried::Answered(Response::from_parts(head, Body::forwarded(incoming, peering.idle(), keep)))
        }
        Err(error @ (PeerError::Busy | PeerError::Connect(_))) => Tried::Unreachable(error.to_string()),
        Err(error) if touched() => Tried::Lost(lost(&error.to_string())),
        Err(error) => Tried::Unreachable(error.to_string()),
    }
}

fn lost(message: &str) -> ApiError {
    ApiError::unavailable(format!("{message}: the outcome of the upload is unknown, repeat it"))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn strip(headers: &mut HeaderMap) {
    for name in NOT_PASSED_ON {
        headers.remove(*name);
    }
}

fn outgoing(
    peering: &Peering,
    address: &str,
    head: &request::Parts,
    request_id: &str,
    body: PeerBody,
) -> Result<Request<PeerBody>, http::Error> {
    let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let uri = Uri::builder().scheme("http").authority(address).path_and_query(path).build()?;
    let gated = matches!(body, PeerBody::Gated(_));
    let mut request = Request::builder().method(head.method.clone()).uri(uri).body(body)?;
    let mut headers = head.headers.clone();
    strip(&mut headers);
    headers.insert(AUTHORIZATION, peering.authorization());
    headers.insert(HeaderName::from_static(HEADER_FORWARDED), HeaderValue::from_str(peering.pod())?);
    headers.insert(crate::lane::HEADER_REQUEST_ID, HeaderValue::from_str(request_id)?);
    if gated {
        headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
    }
    *request.headers_mut() = headers;
    Ok(request)
}

/// The gate opens with the owner's `100 Continue`, and only then.
fn open_on_continue(
    request: &mut Request<PeerBody>,
    open: oneshot::Sender<()>,
    continued: oneshot::Sender<()>,
) {
    let once = Mutex::new(Some((open, continued)));
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE
            && let Some((open, continued)) = once.lock().ok().and_then(|mut once| once.take())
        {
            let _ = (open.send(()), continued.send(()));
        }
    });
}

/// Ends when the owner is late: before it asked for the body, or after it had all of it. While the body moves, its
/// own idle time is the bound.
async fn overdue(progress: Option<(oneshot::Receiver<()>, oneshot::Receiver<()>)>) {
    let Some((asked, sent)) = progress else { return tokio::time::sleep(ANSWER_WAIT).await };
    if tokio::time::timeout(CONTINUE_WAIT, asked).await.is_err() {
        return;
    }
    // An error means the body broke: the request's own future ends with it.
    let _ = sent.await;
    tokio::time::sleep(ANSWER_WAIT).await;
}

/// 421 with what this pod knows of the owner, sent before a body is read.
pub fn misdirected(address: Option<&str>, epoch: Option<u64>) -> ApiError {
    let mut error = ApiError::new(
        StatusCode::MISDIRECTED_REQUEST,
        "NotOwner",
        "this pod does not own the key: ask the owner named in the headers",
    );
    if let Some(value) = address.and_then(|address| HeaderValue::from_str(address).ok()) {
        error = error.with(HeaderName::from_static(HEADER_OWNER), value);
    }
    if let Some(epoch) = epoch {
        error = error.with(HeaderName::from_static(HEADER_EPOCH), HeaderValue::from(epoch));
    }
    error
}
