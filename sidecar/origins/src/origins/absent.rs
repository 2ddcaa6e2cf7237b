//! Objects that the store does not have.
//!
//! A range of one is fetched as that range and not stored: the store keeps whole objects, and a client that wants a
//! kibibyte of a gigabyte must not wait for the rest. (`bytes=0-` is the whole in other words.) Once the parts that went out are as much as the whole, it is
//! fetched whole in the background: so nothing costs more than twice the best there was.

use std::sync::Arc;
use std::time::Instant;

use blobstore_sidecar_core::generation::Generation;
use blobstore_sidecar_core::precondition::{Conditions, Current};
use blobstore_sidecar_core::range::ByteRange;
use blobstore_sidecar_store::{ErrorKind, GetOutcome, GetRequest, ObjectMeta, StoreError, Version};

use super::{Inner, evaluated};
use crate::blobs::Key;
use crate::failure::{Failure, FailureKind};
use crate::fill::{Ended, Member};
use crate::filling::{Moment, now_ms};
use crate::origin::{Answer, Info, Origin, Want};
use crate::reader::{Reader, pass, passing};

/// Of an object that is not stored yet: no generation of the store's.
pub const NONE_YET: Generation = Generation([0; 16]);

impl Inner {
    /// The store did not have it at `since`. The answer `None`: it may have it by now, look again.
    pub(super) async fn get_absent(
        &self,
        origin: &Arc<Origin>,
        key: &Key,
        request: &GetRequest,
        since: Option<Moment>,
    ) -> Result<Option<GetOutcome>, StoreError> {
        self.known_absent(origin, key)?;
        let now = Instant::now();
        if let Some(range) = request.range
            && range != (ByteRange::From { first: 0 })
            && !origin.whole_only()
            && !self.is_followed(key, range)
            && let Some(found) = self.get_part(origin, key, request, range).await?
        {
            return Ok(Some(found));
        }
        if self.filling.memory.is_refused(key, now) && request.range.is_none() {
            return self.get_passing(origin, key, request).await.map(Some);
        }
        let member = match since {
            Some(since) => self.filling.enter_since(origin, key, since),
            None => Some(self.filling.enter(origin, key, None)),
        };
        let Some(member) = member else { return Ok(None) };
        self.count(origin, "miss");
        let info = self.opened(origin, &member).await?;
        self.read(member, info, request).await.map(Some)
    }

    pub(super) async fn head_absent(
        &self,
        origin: &Arc<Origin>,
        key: &Key,
        conditions: &Conditions,
    ) -> Result<ObjectMeta, StoreError> {
        self.known_absent(origin, key)?;
        self.count(origin, "miss");
        match origin.head(&key.name).await {
            Ok(info) => evaluated(conditions, meta(&info)?),
            Err(failure) => Err(self.not_there(origin, key, failure).await),
        }
    }

    fn known_absent(&self, origin: &Origin, key: &Key) -> Result<(), StoreError> {
        if !self.filling.memory.is_absent(key, Instant::now()) {
            return Ok(());
        }
        self.count(origin, "negative");
        let message = format!("the origin {} had no such object a moment ago", origin.name);
        Err(StoreError::new(ErrorKind::NotFound, message))
    }

    /// A failure of a question without a fill.
    async fn not_there(&self, origin: &Origin, key: &Key, failure: Failure) -> StoreError {
        if failure.kind == FailureKind::NotFound {
            self.filling.gone(origin, key, None).await;
        }
        self.failed(origin, failure)
    }

    /// A fill that runs will soon be where the range begins.
    fn is_followed(&self, key: &Key, range: ByteRange) -> bool {
        let first = match range {
            ByteRange::Between { first, .. } | ByteRange::From { first } => first,
            ByteRange::Last { .. } => return false,
        };
        self.filling.is_near(key, first)
    }

    /// `None`: it has to be the whole body.
    async fn get_part(
        &self,
        origin: &Arc<Origin>,
        key: &Key,
        request: &GetRequest,
        range: ByteRange,
    ) -> Result<Option<GetOutcome>, StoreError> {
        let permit = passing(&self.filling.blobs).await?;
        let answer = match origin.ask(&key.name, Want::Part { range, tag: None }).await {
            Ok(answer) => answer,
            Err(failure) if failure.kind == FailureKind::NoRanges => return Ok(None),
            Err(failure) => return Err(self.not_there(origin, key, failure).await),
        };
        let meta = evaluated(&request.conditions, meta(&answer.info)?)?;
        if let Some(condition) = &request.if_range
            && !condition.holds(Current { etag: &meta.etag, modified_ms: meta.modified_ms })
        {
            return Ok(None);
        }
        self.count(origin, "range");
        let len = answer.range.end - answer.range.start;
        let fits = meta.size <= self.filling.blobs.body_bytes_max();
        if self.filling.memory.is_read_in_parts(key, len, meta.size)
            && fits
            && origin.has_room()
            && !self.filling.memory.is_refused(key, Instant::now())
        {
            self.filling.enter(origin, key, None).0.want();
        }
        let range = answer.range.clone();
        let body = pass(&range, answer.body, permit);
        Ok(Some(GetOutcome { meta, range, partial: true, body }))
    }

    /// The whole body past a store that did not take it.
    async fn get_passing(
        &self,
        origin: &Arc<Origin>,
        key: &Key,
        request: &GetRequest,
    ) -> Result<GetOutcome, StoreError> {
        let permit = passing(&self.filling.blobs).await?;
        self.count(origin, "miss");
        let answer = match origin.ask(&key.name, Want::Whole { known: None }).await {
            Ok(answer) => answer,
            Err(failure) => return Err(self.not_there(origin, key, failure).await),
        };
        let Answer { info, range, body } = answer;
        let meta = evaluated(&request.conditions, meta(&info)?)?;
        let body = pass(&range, body, permit);
        Ok(GetOutcome { meta, range, partial: false, body })
    }

    /// Waits for the origin's answer.
    pub(super) async fn opened(&self, origin: &Origin, member: &Member) -> Result<Arc<Info>, StoreError> {
        match opened(member).await {
            Ok(info) => Ok(info),
            Err(failure) => Err(self.failed(origin, failure)),
        }
    }

    /// Reads what a fill brings.
    pub(super) async fn read(
        &self,
        member: Member,
        info: Arc<Info>,
        request: &GetRequest,
    ) -> Result<GetOutcome, StoreError> {
        if info.size.is_none() {
            return self.read_later(member, request).await;
        }
        let meta = evaluated(&request.conditions, meta(&info)?)?;
        let current = Current { etag: &meta.etag, modified_ms: meta.modified_ms };
        let holds = request.if_range.as_ref().is_none_or(|condition| condition.holds(current));
        let (range, partial) = match request.range.filter(|_| holds) {
            None => (0..meta.size, false),
            Some(range) => match range.resolve(meta.size) {
                Some(range) => (range, true),
                None => {
                    let message =
                        format!("the range begins behind the end: the object has {} bytes", meta.size);
                    let kind = ErrorKind::RangeNotSatisfiable { size: meta.size };
                    return Err(StoreError::new(kind, message));
                }
            },
        };
        let blobs = Arc::clone(&self.filling.blobs);
        let body = Reader::new(blobs, member, info, range.clone()).stream().await?;
        Ok(GetOutcome { meta, range, partial, body })
    }

    /// The origin does not tell how long the object is: the answer waits until it is stored.
    async fn read_later(&self, member: Member, request: &GetRequest) -> Result<GetOutcome, StoreError> {
        let mut changed = member.0.watch();
        loop {
            match member.0.ended() {
                None => {
                    let _ = changed.changed().await;
                }
                Some(Ended::Stored) => return self.filling.blobs.get(request.clone()).await,
                Some(Ended::Failed(failure)) => return Err(self.failed(&member.0.origin, failure)),
                Some(Ended::Unstored { kind, message }) => return Err(StoreError::new(kind, message)),
                Some(Ended::Abandoned) => {
                    return Err(StoreError::new(ErrorKind::Busy, "the fill was given up: retry"));
                }
            }
        }
    }
}

/// The header of the origin's answer, or why there is none.
pub(super) async fn opened(member: &Member) -> Result<Arc<Info>, Failure> {
    let mut changed = member.0.watch();
    loop {
        match member.0.info() {
            Some(Ok(info)) => return Ok(info),
            Some(Err(Ended::Failed(failure))) => return Err(failure),
            Some(Err(_)) => return Err(Failure::new(FailureKind::Busy, "the fill was given up: retry")),
            None => {
                let _ = changed.changed().await;
            }
        }
    }
}

/// What a client is told of an object that is not stored yet.
pub(super) fn meta(info: &Info) -> Result<ObjectMeta, StoreError> {
    let Some(size) = info.size else {
        let message = format!("the origin {} does not tell how long the object is", info.mark.origin);
        return Err(StoreError::new(ErrorKind::OriginDown, message));
    };
    let now = now_ms();
    Ok(ObjectMeta {
        size,
        etag: info.etag,
        generation: NONE_YET,
        version: Version::Null,
        created_ms: now,
        modified_ms: if info.mark.modified_ms == 0 { now } else { info.mark.modified_ms },
        crc64: 0,
        expires_ms: 0,
        attributes: Arc::new(info.attributes.clone()),
    })
}
