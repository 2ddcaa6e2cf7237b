//! One reader of a body that is being filled: frames as they come, else what the engine has, then the stored object;
//! and if the store did not take it, the rest straight from the origin.

use std::ops::Range;
use std::sync::Arc;

use blobstore_sidecar_core::etag::{ETag, EntityTag, TagSet};
use blobstore_sidecar_core::precondition::Conditions;
use blobstore_sidecar_core::range::ByteRange;
use blobstore_sidecar_runtime::budget::Permit;
use blobstore_sidecar_store::{BlobStream, ErrorKind, GetRequest, StoreError};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, Stream};

use crate::blobs::{Key, SharedBlobs};
use crate::failure::{Failure, FailureKind};
use crate::fill::{Ended, Look, Member};
use crate::origin::{Body, Info, Origin, Want};

/// What a connection to an origin holds of a body that only passes through: hyper's buffer and a frame.
pub(crate) const PASSING_BYTES: u64 = 128 << 10;

enum From {
    Fill(Member),
    Store(BlobStream),
    Origin(Body, #[expect(dead_code, reason = "held while the body passes")] Permit),
    Nothing,
}

/// Which object is read.
struct What {
    blobs: SharedBlobs,
    origin: Arc<Origin>,
    key: Key,
    info: Arc<Info>,
}

pub(crate) struct Reader {
    what: What,
    at: u64,
    end: u64,
    from: From,
}

/// The conditions under which a read means this version and no other.
pub(crate) fn only(etag: &ETag) -> Conditions {
    let tag = EntityTag { weak: false, value: etag.to_string() };
    Conditions { if_match: Some(TagSet::Tags(vec![tag])), ..Conditions::default() }
}

impl Reader {
    pub(crate) fn new(blobs: SharedBlobs, member: Member, info: Arc<Info>, range: Range<u64>) -> Self {
        let (origin, key) = (Arc::clone(&member.0.origin), member.0.key.clone());
        let what = What { blobs, origin, key, info };
        Self { what, at: range.start, end: range.end, from: From::Fill(member) }
    }

    /// The bytes, with the first of them in hand: what fails before is an answer, not a cut connection.
    pub(crate) async fn stream(mut self) -> Result<BlobStream, StoreError> {
        let remaining = self.end - self.at;
        let first = self.next().await?;
        let rest = stream::unfold(self, |mut reader| async move {
            match reader.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), reader)),
                Ok(None) => None,
                Err(error) => {
                    reader.at = reader.end;
                    reader.from = From::Nothing;
                    Some((Err(error), reader))
                }
            }
        });
        Ok(BlobStream::new(remaining, chained(first, rest)))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.at >= self.end {
            self.from = From::Nothing;
            return Ok(None);
        }
        loop {
            let bytes = match &mut self.from {
                From::Fill(_) => self.follow().await?,
                From::Store(body) => Some(body.next().await.unwrap_or_else(|| Err(ended_early()))?),
                From::Origin(body, _) => {
                    Some(body.next().await.ok_or_else(ended_early)?.map_err(StoreError::from)?)
                }
                From::Nothing => return Ok(None),
            };
            let Some(mut bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { continue };
            bytes.truncate(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
            self.at += bytes.len() as u64;
            return Ok(Some(bytes));
        }
    }

    /// `None`: look again, perhaps elsewhere.
    async fn follow(&mut self) -> Result<Option<Bytes>, StoreError> {
        let From::Fill(member) = &self.from else { return Ok(None) };
        let fill = Arc::clone(&member.0);
        let (mut changed, mut written) = (fill.watch(), fill.progress.watch());
        match fill.look(self.at) {
            Look::Frame(bytes) => return Ok(Some(bytes)),
            Look::Written => match self.what.blobs.read_upload(&self.what.key, &fill.progress, self.at).await
            {
                Ok(bytes) => return Ok(Some(bytes)),
                // The upload has ended between the two looks, one way or the other.
                Err(error) if error.kind == ErrorKind::Cut => {
                    while fill.ended().is_none() && changed.changed().await.is_ok() {}
                }
                Err(error) => return Err(error),
            },
            Look::Wait => {
                tokio::select! {
                    _ = changed.changed() => {}
                    _ = written.changed() => {}
                }
            }
            Look::Ended(ended) => self.from = self.what.after(ended, self.at..self.end).await?,
        }
        Ok(None)
    }
}

impl What {
    /// Where the rest comes from once the fill has ended.
    async fn after(&self, ended: Ended, left: Range<u64>) -> Result<From, StoreError> {
        match ended {
            Ended::Failed(failure) => return Err(failure.into()),
            Ended::Stored => {
                let request = GetRequest {
                    conditions: only(&self.info.etag),
                    range: Some(ByteRange::Between { first: left.start, last: left.end - 1 }),
                    ..GetRequest::new(self.key.bucket.clone(), self.key.name.clone())
                };
                match self.blobs.get(request).await {
                    Ok(found) => return Ok(From::Store(found.body)),
                    Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Precondition) => {}
                    Err(error) => return Err(error),
                }
            }
            Ended::Unstored { .. } | Ended::Abandoned => {}
        }
        self.past_the_store(left).await
    }

    async fn past_the_store(&self, left: Range<u64>) -> Result<From, StoreError> {
        let tag = self.info.mark.etag.clone();
        if left.start > 0 && tag.is_none() {
            let message = format!("the origin {} has no ETags: a read cannot go on there", self.origin.name);
            return Err(Failure::new(FailureKind::Changed, message).into());
        }
        let permit = passing(&self.blobs).await?;
        let whole = left.start == 0 && Some(left.end) == self.info.size;
        let want = if whole {
            Want::Whole { known: None }
        } else {
            let range = ByteRange::Between { first: left.start, last: left.end - 1 };
            Want::Part { range, tag: tag.filter(|tag| !tag.starts_with("W/")) }
        };
        let answer = self.origin.ask(&self.key.name, want).await?;
        if answer.info.etag != self.info.etag || answer.range != left {
            let message = format!("the object changed at the origin {} while it was read", self.origin.name);
            return Err(Failure::new(FailureKind::Changed, message).into());
        }
        Ok(From::Origin(answer.body, permit))
    }
}

/// A permit for a body that passes through.
pub(crate) async fn passing(blobs: &SharedBlobs) -> Result<Permit, StoreError> {
    /// As long as any first permit: then 503 with Retry-After.
    const WAIT: std::time::Duration = std::time::Duration::from_secs(2);
    blobs.budget().permit(PASSING_BYTES, WAIT).await.map_err(|error| {
        StoreError::new(ErrorKind::Busy, "too many bytes are in flight: retry in a moment").caused_by(error)
    })
}

/// A body straight from an origin.
pub(crate) fn pass(range: &Range<u64>, body: Body, permit: Permit) -> BlobStream {
    let body = body.map(move |item| {
        let _held = &permit;
        item.map_err(StoreError::from)
    });
    BlobStream::new(range.end.saturating_sub(range.start), body)
}

fn chained<S>(first: Option<Bytes>, rest: S) -> impl Stream<Item = Result<Bytes, StoreError>> + Send
where
    S: Stream<Item = Result<Bytes, StoreError>> + Send,
{
    stream::iter(first.map(Ok)).chain(rest)
}

fn ended_early() -> StoreError {
    StoreError::new(ErrorKind::OriginDown, "the body ended before its length")
}
