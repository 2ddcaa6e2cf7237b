//! Documents with a digest: the bytes that arrive are summed on their way to the reader, which gets an error in place
//! of their end when they are not what was promised.

use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};

use blobstore_sidecar_s3::checksum::{self, Algorithm, Sum};
use bytes::Bytes;
use http::{Method, request};
use http_body::{Body, Frame, SizeHint};

use super::Context;
use crate::body::{RequestBody, StreamError};
use crate::error::ApiError;

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
    context: Context,
}

/// The body for the reader: checked, if there is something to check it against.
pub(super) fn body(head: &request::Parts, body: RequestBody, context: &Context) -> s3s::Body {
    let sums = sums(head);
    if sums.is_empty() {
        return s3s::Body::http_body_unsync(body);
    }
    s3s::Body::http_body_unsync(Checked { inner: body, sums, context: context.clone() })
}

fn sums(head: &request::Parts) -> Vec<(Sum, String)> {
    let mut names = head
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split('=').next().unwrap_or_default());
    let is_document =
        matches!(head.method, Method::PUT | Method::POST) && names.any(|name| DOCUMENTS.contains(&name));
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
        for (sum, wanted) in std::mem::take(&mut self.sums) {
            let name = sum.algorithm().name();
            if sum.finish() != wanted {
                let message = match name {
                    "MD5" => "The Content-MD5 you specified did not match what we received.".to_owned(),
                    name => format!("The {name} you specified did not match the calculated checksum."),
                };
                let _ = self.context.0.problem.set(("BadDigest", message.clone()));
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
                    self.sums.iter_mut().for_each(|(sum, _)| sum.update(bytes));
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

/// The refusal that was found out while a document was read.
pub(super) fn problem(context: &Context) -> Option<ApiError> {
    let (code, message) = context.0.problem.get()?;
    Some(ApiError::bad_request(code, message.clone()))
}
