//! The body of an upload on its way from s3s to the plain lane: checked against what the request promised about it,
//! to the last byte, before the last byte is passed on. So nothing that does not hold is ever committed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use blobstore_sidecar_s3::checksum::{self, Algorithm, Promise, Sum};
use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, StatusCode};
use s3s::dto::StreamingBlob;
use s3s::stream::aws_chunked_stream::AwsChunkedStreamError;
use s3s::stream::upload_stream::UploadStreamError;
use s3s::{BodySizeLimitExceeded, S3Error, S3Result, TrailingHeaders, s3_error};

use super::error::custom;
use super::form::FileError;
use crate::body::{BodyError, RequestBody, StreamError};
use crate::shell::Shell;

/// What came of a body; filled while it is read.
#[derive(Clone, Debug, Default)]
pub(super) struct Proof(Arc<Mutex<Found>>);

#[derive(Debug, Default)]
struct Found {
    promised: Option<Algorithm>,
    refusal: Option<S3Error>,
    sum: Option<(Algorithm, String)>,
}

/// The store keeps these; others are verified only.
pub(super) fn storable(algorithm: Algorithm) -> Option<&'static str> {
    blobstore_sidecar_core::checksum::Algorithm::parse(algorithm.name()).map(|algorithm| algorithm.name())
}

impl Proof {
    /// What the request said that it would prove.
    pub(super) fn promised(&self) -> Option<Algorithm> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).promised
    }

    /// The checksum that was promised and holds.
    pub(super) fn sum(&self) -> Option<(Algorithm, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).sum.clone()
    }

    /// Why the body was refused: the cause of whatever the lane said then.
    pub(super) fn refusal(&self) -> Option<S3Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refusal.take()
    }

    fn refuse(&self, error: S3Error) -> StreamError {
        let message = error.message().unwrap_or_default().to_owned();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refusal = Some(error);
        message.into()
    }
}

/// The body to pass on and the proof that fills as it is read. `length`: what the request declared.
pub(super) async fn verified(
    shell: &Shell,
    body: Option<StreamingBlob>,
    headers: &HeaderMap,
    trailers: Option<TrailingHeaders>,
    length: Option<u64>,
) -> S3Result<(RequestBody, Proof)> {
    let promise = checksum::promise(headers).map_err(|error| s3_error!(InvalidRequest, "{error}"))?;
    let promised = promise.as_ref().map(|promise| promise.algorithm);
    let proof = Proof(Arc::new(Mutex::new(Found { promised, ..Found::default() })));
    let mut stream = Verified {
        inner: body.unwrap_or_else(|| StreamingBlob::from_bytes(Bytes::new())),
        sum: promise.as_ref().map(|promise| Box::new(Sum::new(promise.algorithm))),
        promise,
        trailers,
        length,
        seen: 0,
        held: None,
        ended: false,
        proof: proof.clone(),
    };
    if length == Some(0) {
        // Without bytes nobody would read to the end.
        use futures::StreamExt as _;
        if let Some(Err(error)) = stream.next().await {
            return Err(proof.refusal().unwrap_or_else(|| s3_error!(IncompleteBody, "{error}")));
        }
    }
    Ok((RequestBody::inner(stream, length, shell.body_idle()), proof))
}

struct Verified {
    inner: StreamingBlob,
    /// Boxed: the largest takes 3 KB, and most uploads promise nothing.
    sum: Option<Box<Sum>>,
    promise: Option<Promise>,
    trailers: Option<TrailingHeaders>,
    length: Option<u64>,
    seen: u64,
    /// The last bytes of a body of known length, held back until the end is verified: whoever is told a length stops
    /// reading there.
    held: Option<Bytes>,
    ended: bool,
    proof: Proof,
}

impl Stream for Verified {
    type Item = Result<Bytes, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.ended {
                return Poll::Ready(this.held.take().map(Ok));
            }
            match ready!(Pin::new(&mut this.inner).poll_next(cx)) {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    if let Some(sum) = &mut this.sum {
                        sum.update(&bytes);
                    }
                    this.seen += bytes.len() as u64;
                    // Bytes beyond the length go on: the store refuses them.
                    if this.length == Some(this.seen) && this.held.is_none() {
                        this.held = Some(bytes);
                    } else {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
                Some(Err(error)) => {
                    this.ended = true;
                    this.held = None;
                    return Poll::Ready(Some(Err(this.proof.refuse(broken(error)))));
                }
                None => {
                    this.ended = true;
                    if let Err(error) = this.verify() {
                        this.held = None;
                        return Poll::Ready(Some(Err(this.proof.refuse(error))));
                    }
                }
            }
        }
    }
}

impl Verified {
    fn verify(&mut self) -> S3Result<()> {
        if self.length.is_some_and(|length| length != self.seen) {
            return Err(s3_error!(IncompleteBody));
        }
        let (Some(promise), Some(sum)) = (self.promise.take(), self.sum.take()) else { return Ok(()) };
        let algorithm = promise.algorithm;
        let wanted = match promise.value {
            Some(value) => value,
            None => self.trailer(algorithm)?,
        };
        let found = sum.finish();
        if found != wanted {
            let name = algorithm.name();
            return Err(s3_error!(
                BadDigest,
                "The {name} you specified did not match the calculated checksum."
            ));
        }
        self.proof.0.lock().unwrap_or_else(PoisonError::into_inner).sum = Some((algorithm, found));
        Ok(())
    }

    fn trailer(&self, algorithm: Algorithm) -> S3Result<String> {
        let trailers = self.trailers.as_ref().and_then(TrailingHeaders::take);
        let value = trailers.as_ref().and_then(|trailers| trailers.get(algorithm.header()));
        match value.and_then(|value| value.to_str().ok()) {
            Some(value) if checksum::is_sum(algorithm, value) => Ok(value.to_owned()),
            Some(_) => {
                Err(s3_error!(InvalidRequest, "Value for {} trailing header is invalid.", algorithm.header()))
            }
            None => Err(custom(
                "MalformedTrailerError",
                StatusCode::BAD_REQUEST,
                "The request contained trailing data that was not well-formed or did not conform to our published schema.",
            )),
        }
    }
}

/// What s3s found wrong with a body, in S3's words.
fn broken(error: StreamError) -> S3Error {
    if let Some(error) = error.downcast_ref::<AwsChunkedStreamError>() {
        return match error {
            AwsChunkedStreamError::Underlying(source) => from_source(source.as_ref()),
            other => S3Error::new(other.to_s3_error_code()),
        };
    }
    if let Some(error) = error.downcast_ref::<UploadStreamError>() {
        return match error {
            UploadStreamError::Underlying(source) => from_source(source.as_ref()),
            UploadStreamError::Sha256Mismatch => custom(
                "XAmzContentSHA256Mismatch",
                StatusCode::BAD_REQUEST,
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            ),
            other => S3Error::new(other.to_s3_error_code()),
        };
    }
    from_source(error.as_ref())
}

fn from_source(error: &(dyn std::error::Error + Send + Sync + 'static)) -> S3Error {
    if error.is::<BodySizeLimitExceeded>() {
        return s3_error!(EntityTooLarge);
    }
    if let Some(error) = error.downcast_ref::<FileError>() {
        return error.refusal();
    }
    match error.downcast_ref::<BodyError>() {
        Some(BodyError::Idle(_)) => s3_error!(RequestTimeout),
        _ => s3_error!(IncompleteBody),
    }
}
