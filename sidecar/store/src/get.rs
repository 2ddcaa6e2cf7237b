//! Reading: records through the cache, bodies as streams, and the read rule before the first byte goes out.

use std::sync::{Arc, PoisonError};

use blobstore_sidecar_core::{
    chunk::Place,
    precondition::{Access, Current, Outcome},
    record::{HEAD_BYTES, Head, decode_headers},
    version::Version,
};
use blobstore_sidecar_runtime::authority::Tenure;
use bytes::Bytes;
use futures::{FutureExt as _, stream};
use redis::cmd;

use crate::{
    Attributes, BlobStream, ErrorKind, GetOutcome, GetRequest, HeadRequest, ObjectMeta, StoreError,
    context::{Inner, Target},
    engine::errors,
    metrics::{CHECKSUM_FAILED, CHUNKS_MISSING, count_whole},
    record_entry::RecordEntry,
    stream::Source,
};

mod fetch;

/// Tries of a read whose object is replaced under it before the first byte. Each try saw a newer object.
const READ_TRIES_MAX: u32 = 8;
/// First read of a HEAD: the fixed part and the headers of nearly every object.
const HEAD_READ_BYTES: usize = 1024;
/// Objects whose access hour waits to be written. More than this are written at the next read.
const TOUCHED_MAX: usize = 4096;

fn changing() -> StoreError {
    StoreError::new(ErrorKind::Busy, "the object changes too often: retry in a moment")
}

impl Inner {
    /// The current version, or the named one.
    pub(crate) async fn get(
        self: &Arc<Self>,
        request: GetRequest,
        version: Option<Version>,
    ) -> Result<GetOutcome, StoreError> {
        let target = self.target(&request.bucket, &request.name);
        let tenure = self.owned(target.tag.slot())?;
        let (mut damage, mut seen) = (None, None);
        for _ in 0..READ_TRIES_MAX {
            let entry = match self.wanted(&target, &tenure, version).await {
                Ok(Some(entry)) => entry,
                Ok(None) => return Err(Box::pin(self.absent(&target, &tenure)).await),
                Err(error) if error.kind == ErrorKind::Damaged => {
                    damage = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let meta = entry.meta();
            conditions(&request.conditions, &meta)?;
            let (range, partial) = range_of(&request, &meta)?;
            if version.is_none() {
                self.touch(&target, &entry);
            }
            let source = Source::new(Arc::clone(self), &target, Arc::clone(&entry), range.clone());
            let Some(mut source) = source else {
                self.cache.invalidate_record(&target.cache_key);
                damage = Some(changing());
                continue;
            };
            let first = match source.next().await {
                // The object was replaced and freed since its record was read: read that again. Only a body that is
                // still named after that is damaged.
                Err(error) if error.kind == ErrorKind::Damaged => {
                    self.cache.invalidate_record(&target.cache_key);
                    let before = seen.replace(entry.record.head.generation);
                    damage = Some(if before == seen { error } else { changing() });
                    continue;
                }
                first => first?,
            };
            self.may_answer(&target, &tenure).await?;
            let body = body_of(first, range.end - range.start, source);
            return Ok(GetOutcome { meta, range, partial, body });
        }
        let error = damage.unwrap_or_else(errors::garbage);
        if error.kind == ErrorKind::Damaged {
            CHUNKS_MISSING.inc();
        }
        Err(error)
    }

    /// As [`Inner::get`] of the current version, when all of it is in memory and nothing has to be waited for. `None`
    /// is no answer: ask in full.
    pub(crate) fn get_at_once(&self, request: &GetRequest) -> Option<GetOutcome> {
        let target = self.target(&request.bucket, &request.name);
        let tenure = self.owned(target.tag.slot()).ok()?;
        let entry = self.cache.record_at_hand(&target.cache_key).filter(|entry| entry.tenure == tenure)?;
        let meta = entry.meta();
        if self.times.is_over(meta.expires_ms) {
            return None;
        }
        conditions(&request.conditions, &meta).ok()?;
        let (range, partial) = range_of(request, &meta).ok()?;
        let first = self.piece_at_hand(&entry, range.start, range.end)?;
        let behind = range.start + first.len() as u64;
        let second = self.piece_at_hand(&entry, behind, range.end)?;
        let bytes = range.end - range.start;
        if ((first.len() + second.len()) as u64) < bytes {
            return None;
        }
        self.may_answer(&target, &tenure).now_or_never()?.ok()?;
        self.touch(&target, &entry);
        count_whole(bytes);
        let second = (!second.is_empty()).then_some(second);
        Some(GetOutcome { meta, range, partial, body: BlobStream::whole(Some(first), second) })
    }

    /// The bytes at `at`, as far as they lie in one place; none at the end. `None`: they are not in memory.
    fn piece_at_hand(&self, entry: &RecordEntry, at: u64, end: u64) -> Option<Bytes> {
        let Some(piece) = entry.piece_at(at, end) else { return Some(Bytes::new()) };
        let bytes = match piece.place {
            Place::Tail => entry.record.tail.clone(),
            Place::Chunk(index) => {
                let (generation, index, _) = entry.locate(index)?;
                self.cache.chunk_at_hand(generation, index)?.bytes
            }
        };
        let skip = piece.skip as usize;
        Some(bytes.slice(skip..skip + piece.take as usize))
    }

    pub(crate) async fn wanted(
        &self,
        target: &Target,
        tenure: &Tenure,
        version: Option<Version>,
    ) -> Result<Option<Arc<RecordEntry>>, StoreError> {
        match version {
            None => self.live_record(target, tenure).await,
            Some(version) => {
                let found = Box::pin(self.version_record(target, tenure, version)).await;
                found.map(|(_, entry)| Some(entry))
            }
        }
    }

    pub(crate) async fn head(
        &self,
        request: &HeadRequest,
        version: Option<Version>,
    ) -> Result<ObjectMeta, StoreError> {
        let target = self.target(&request.bucket, &request.name);
        let tenure = self.owned(target.tag.slot())?;
        let meta = match (version, self.cached(&target, &tenure)) {
            (Some(version), _) => Some(self.version_meta(&target, &tenure, version).await?),
            (None, Some(entry)) => Some(entry.meta()),
            (None, None) => self.read_head_at(&target.record()).await?,
        };
        let Some(meta) = meta.filter(|meta| !self.times.is_over(meta.expires_ms)) else {
            return Err(self.absent(&target, &tenure).await);
        };
        conditions(&request.conditions, &meta)?;
        self.may_answer(&target, &tenure).await?;
        Ok(meta)
    }

    /// The fixed part of a record, from the cache or the engine.
    pub(crate) async fn head_of(&self, target: &Target, tenure: &Tenure) -> Result<Option<Head>, StoreError> {
        if let Some(entry) = self.cached(target, tenure) {
            return Ok(Some(entry.record.head.clone()));
        }
        let read = cmd("GETRANGE").arg(target.record()).arg(0).arg(HEAD_BYTES - 1).to_owned();
        let bytes: Vec<u8> = self.meta.query("read a record's head", &read).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        Head::decode(&bytes).map(Some).map_err(|error| damaged("record", error))
    }

    /// Head and headers without the body.
    pub(crate) async fn read_head_at(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        let mut len = HEAD_READ_BYTES;
        loop {
            let read = cmd("GETRANGE").arg(key).arg(0).arg(len - 1).to_owned();
            let bytes: Vec<u8> = self.meta.query("read a record's head", &read).await?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let head = Head::decode(&bytes).map_err(|error| damaged("record", error))?;
            let needed = HEAD_BYTES + usize::from(head.headers_len);
            if bytes.len() >= needed {
                let attributes = decode_headers(&head, &bytes).map_err(|error| damaged("record", error))?;
                return Ok(Some(ObjectMeta::of(&head, Arc::new(attributes))));
            }
            if len >= needed {
                return Err(damaged("record", "it ends early"));
            }
            len = needed;
        }
    }

    fn cached(&self, target: &Target, tenure: &Tenure) -> Option<Arc<RecordEntry>> {
        let entry = self.cache.record(&target.cache_key)?;
        if entry.tenure == *tenure {
            return Some(entry);
        }
        self.cache.invalidate_record(&target.cache_key);
        None
    }

    /// The record of an object whose end has not come.
    pub(crate) async fn live_record(
        &self,
        target: &Target,
        tenure: &Tenure,
    ) -> Result<Option<Arc<RecordEntry>>, StoreError> {
        let entry = self.record(target, tenure).await?;
        Ok(entry.filter(|entry| !self.times.is_over(entry.record.head.expires_ms)))
    }

    /// The record, checked, with the checksums of its chunks.
    async fn record(&self, target: &Target, tenure: &Tenure) -> Result<Option<Arc<RecordEntry>>, StoreError> {
        if let Some(entry) = self.cached(target, tenure) {
            return Ok(Some(entry));
        }
        let version = self.cache.version(&target.cache_key);
        // Boxed: what is cached does without it.
        let Some(entry) = Box::pin(self.fetch_record(target, tenure)).await? else { return Ok(None) };
        let entry = Arc::new(entry);
        self.cache.insert_record(&target.cache_key, &target.cache_bucket, Arc::clone(&entry), version);
        Ok(Some(entry))
    }

    /// The read rule: we still own the object, and no failover can take back what was read of it.
    pub(crate) async fn may_answer(&self, target: &Target, tenure: &Tenure) -> Result<(), StoreError> {
        self.changing.settled(&target.cache_key, &self.authority, tenure).await?;
        Ok(self.authority.may_read(tenure).await?)
    }

    /// Nothing there: is it the object or the bucket that is missing?
    pub(crate) async fn absent(&self, target: &Target, tenure: &Tenure) -> StoreError {
        if let Err(error) = self.may_answer(target, tenure).await {
            return error;
        }
        let mut error = match self.bucket(&target.bucket, false).await {
            Ok(info) if !info.versioning().keeps() => return target.not_found(),
            Ok(_) => target.not_found(),
            Err(error) => return error,
        };
        match self.marker_of(target).await {
            Ok(marker) => {
                let meta = |head| Box::new(ObjectMeta::of(&head, Arc::new(Attributes::default())));
                error.current = marker.map(meta);
                error
            }
            Err(error) => error,
        }
    }

    /// Remembers, once an hour and only where objects are evicted or packed, that this one is in use.
    fn touch(&self, target: &Target, entry: &RecordEntry) {
        if (self.options.evict || self.options.compress_after.is_some()) && entry.touch(self.times.hour()) {
            let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
            if touched.len() < TOUCHED_MAX {
                touched.push((target.tag, target.record(), entry.record.head.generation));
            }
        }
    }
}

/// What is in hand, and the rest of it as it comes.
fn body_of(first: Option<Bytes>, bytes: u64, mut source: Source) -> BlobStream {
    let here = first.as_ref().map_or(0, |bytes| bytes.len() as u64);
    if here == bytes {
        return BlobStream::whole(first, None);
    }
    if let Some(tail) = source.tail() {
        return BlobStream::whole(first, Some(tail));
    }
    let rest = stream::unfold(source, |mut source| async move {
        match source.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), source)),
            Ok(None) => None,
            Err(error) => {
                source.stop();
                Some((Err(error), source))
            }
        }
    });
    BlobStream::new(bytes - here, rest).behind(first)
}

/// What was read is not what was written.
pub(crate) fn damaged(what: &'static str, why: impl std::fmt::Display) -> StoreError {
    CHECKSUM_FAILED.with_label_values(&[what]).inc();
    StoreError::new(ErrorKind::Damaged, format!("the object's {what} is damaged: {why}"))
}

fn conditions(
    conditions: &blobstore_sidecar_core::precondition::Conditions,
    meta: &ObjectMeta,
) -> Result<(), StoreError> {
    let current = Current { etag: &meta.etag, modified_ms: meta.modified_ms };
    let (kind, message) = match conditions.evaluate(Access::Read, Some(current)) {
        Outcome::Proceed => return Ok(()),
        Outcome::NotModified => (ErrorKind::NotModified, "the client's copy is current"),
        Outcome::Failed => (ErrorKind::Precondition, "the object does not meet the condition"),
    };
    let mut error = StoreError::new(kind, message);
    error.current = Some(Box::new(meta.clone()));
    Err(error)
}

fn range_of(request: &GetRequest, meta: &ObjectMeta) -> Result<(std::ops::Range<u64>, bool), StoreError> {
    let current = Current { etag: &meta.etag, modified_ms: meta.modified_ms };
    let applies = request.if_range.as_ref().is_none_or(|if_range| if_range.holds(current));
    match request.range.filter(|_| applies) {
        None => Ok((0..meta.size, false)),
        Some(range) => range.resolve(meta.size).map(|range| (range, true)).ok_or_else(|| {
            let kind = ErrorKind::RangeNotSatisfiable { size: meta.size };
            StoreError::new(kind, format!("the range lies outside the object's {} bytes", meta.size))
        }),
    }
}
