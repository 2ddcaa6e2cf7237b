//! Documents with a digest: the bytes that arrive are summed on their way to the reader, which gets an error in place
//! of their end when they are not what was promised.

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blobstore_sidecar_s3::authorization::Problem;
use blobstore_sidecar_s3::checksum::{self, Algorithm, Sum};
use bytes::Bytes;
use http::{Method, StatusCode, request};
use http_body::{Body, Frame, SizeHint};

use super::Context;
use crate::body::{RequestBody, StreamError};
use crate::error::ApiError;

const SHA256_BYTES: usize = 32;
const MISMATCH: Problem = (
    "XAmzContentSHA256Mismatch",
    Cow::Borrowed("The provided 'x-amz-content-sha256' header does not match what was computed."),
);
/// Sub-resources whose document a digest may cover.
const DOCUMENTS: &[&str] = &[
    "delete",
    "tagging",
    "cors",
    "lifecycle",
    "policy",
    "versioning",
    "publicAccessBlock",
    "ownershipControls",
];

/// A body whose digests are known.
struct Checked {
    inner: RequestBody,
    /// What is summed, and what it should be, in base64.
    sums: Vec<(Sum, String)>,
    /// The SHA-256 that was signed, in base64.
    signed: Option<(Sum, String)>,
    context: Context,
}

/// The body for the reader: checked, if there is something to check it against.
pub(super) fn body(head: &request::Parts, body: RequestBody, context: &Context) -> s3s::Body {
    let (sums, mut signed) = (sums(head), signed(head));
    if body.size_hint().exact() == Some(0)
        && let Some((sum, wanted)) = signed.take()
        && sum.finish() != wanted
    {
        // Whoever expects nothing does not ask for its end.
        let _ = context.0.problem.set(MISMATCH);
    }
    if sums.is_empty() && signed.is_none() {
        return s3s::Body::http_body_unsync(body);
    }
    s3s::Body::http_body_unsync(Checked { inner: body, sums, signed, context: context.clone() })
}

/// The hash that a document was signed with: s3s looks at it, too, and takes another for its own failure. Bodies of
/// objects are looked at where they are stored.
fn signed(head: &request::Parts) -> Option<(Sum, String)> {
    let text = head.headers.get("x-amz-content-sha256")?.to_str().ok()?;
    let is_object = head.method == Method::PUT
        && head.uri.path().trim_matches('/').contains('/')
        && !names(head).any(|name| DOCUMENTS.contains(&name))
        && !head.headers.contains_key("x-amz-copy-source");
    if is_object || !matches!(head.method, Method::PUT | Method::POST) || text.len() != 2 * SHA256_BYTES {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
    let bytes: Vec<u8> = (0..SHA256_BYTES).map(byte).collect::<Option<_>>()?;
    Some((Sum::new(Algorithm::Sha256), STANDARD.encode(bytes)))
}

fn names(head: &request::Parts) -> impl Iterator<Item = &str> {
    let pairs = head.uri.query().unwrap_or_default().split('&');
    pairs.map(|pair| pair.split('=').next().unwrap_or_default())
}

fn sums(head: &request::Parts) -> Vec<(Sum, String)> {
    let is_document = matches!(head.method, Method::PUT | Method::POST)
        && names(head).any(|name| DOCUMENTS.contains(&name));
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    // Bytes in chunks are not the document's bytes: a trailer is looked at by who reads it.
    let chunked = text("x-amz-content-sha256").is_some_and(|hash| hash.starts_with("STREAMING-"));
    if !is_document || chunked {
        return Vec::new();
    }
    let md5 = text("content-md5").map(|value| (Sum::new(Algorithm::Md5), value.to_owned()));
    let promised = checksum::promise(&head.headers).ok().flatten();
    let promised = promised.and_then(|promise| Some((Sum::new(promise.algorithm), promise.value?)));
    md5.into_iter().chain(promised).collect()
}

impl Checked {
    fn verify(&mut self) -> Result<(), StreamError> {
        if let Some((sum, wanted)) = self.signed.take()
            && sum.finish() != wanted
        {
            let _ = self.context.0.problem.set(MISMATCH);
            return Err(MISMATCH.1.into());
        }
        for (sum, wanted) in std::mem::take(&mut self.sums) {
            let name = sum.algorithm().name();
            if sum.finish() != wanted {
                let message = match name {
                    "MD5" => "The Content-MD5 you specified did not match what we received.".to_owned(),
                    name => format!("The {name} you specified did not match the calculated checksum."),
                };
                let _ = self.context.0.problem.set(("BadDigest", message.clone().into()));
                return Err(message.into());
            }
        }
        Ok(())
    }
}

impl Body for Checked {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match frame {
            Some(Ok(frame)) => {
                if let Some(bytes) = frame.data_ref() {
                    let Self { sums, signed, .. } = &mut *self;
                    sums.iter_mut().chain(signed).for_each(|(sum, _)| sum.update(bytes));
                }
                // Whoever counts bytes does not ask for the end.
                if self.inner.size_hint().exact() == Some(0)
                    && let Err(error) = self.verify()
                {
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => Poll::Ready(self.verify().err().map(Err)),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The refusal that was found out while a document was read. `answered`: what is told otherwise; whose signature does
/// not hold is told that.
pub(super) fn problem(context: &Context, answered: StatusCode) -> Option<ApiError> {
    let (code, message) = context.0.problem.get()?;
    if answered == StatusCode::FORBIDDEN {
        return None;
    }
    Some(ApiError::bad_request(code, message.clone()))
}
