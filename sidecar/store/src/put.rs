//! Uploads. Up to a chunk: one pipeline, whose keys end by themselves unless the commit at its end makes them last.
//! Larger: reserve, manifest, chunks in order, commit. Success is answered only after the in-sync replicas hold the commit.

use std::{
    fmt::Display,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use blobstore_sidecar_core::{
    checksum::{Algorithm, Checksum},
    etag::ETag,
    generation::Generation,
    key,
    ledger::Family,
    precondition::{Access, Current, Outcome},
    record::Head,
};
use blobstore_sidecar_runtime::{authority::Tenure, tasks};
use bytes::Bytes;
use futures::Stream;

use crate::{
    BucketInfo, CrashPoint, ErrorKind, PutOutcome, PutRequest, StoreError,
    body::{BodyLimits, Intake, Piece, Pulled, WantedSums},
    checks,
    commit::{Before, Committed, Want, swept},
    context::{Inner, Target},
    doomed::Doomed,
    memory::Admission,
    update::expiry_member,
    uploads::{EntryKind, JournalEntry, UploadGuard},
};

mod large;
mod packed;
mod small;

pub(crate) use large::Large;
pub(crate) use packed::{Rewrite, verified};

/// Tries of a conditional write whose object changes under it. Each loser saw another one win.
const COMMIT_TRIES_MAX: u32 = 8;

/// One upload under way.
pub(crate) struct Upload {
    pub(crate) inner: Arc<Inner>,
    pub(crate) request: Arc<PutRequest>,
    pub(crate) target: Target,
    pub(crate) tenure: Tenure,
    pub(crate) bucket: BucketInfo,
    pub(crate) headers: Vec<u8>,
    /// What the client asked to compute, once it is known.
    pub(crate) checksum: Option<Checksum>,
    pub(crate) want: Want,
    pub(crate) admission: Admission,
    pub(crate) guard: UploadGuard,
    /// The body becomes a part, not an object.
    pub(crate) part: Option<PartOf>,
}

/// Which part of which multipart upload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartOf {
    pub(crate) upload: Generation,
    pub(crate) number: u16,
    /// Bytes of the part of this number that is there already.
    pub(crate) replaces: u64,
}

/// What the whole body turned out to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums {
    pub(crate) crc64: u64,
    pub(crate) md5: Option<[u8; 16]>,
}

impl Inner {
    pub(crate) async fn put<S, E>(
        self: &Arc<Self>,
        request: Arc<PutRequest>,
        body: S,
    ) -> Result<PutOutcome, StoreError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Display + Send,
    {
        self.accepting()?;
        let mut upload = self.begin(&request, None).await?;
        let step = upload.take_in(body).await;
        match step {
            // A commit that has begun is seen through, or what a client that leaves had changed would be unknown.
            Ok(step) => tasks::seen_through("commit", upload.complete(step)).await,
            Err(error) => Err(Box::pin(upload.give_up(error)).await),
        }
    }

    pub(crate) fn accepting(&self) -> Result<(), StoreError> {
        if self.draining.load(Ordering::Acquire) {
            return Err(StoreError::new(ErrorKind::Busy, "this pod is shutting down: retry in a moment"));
        }
        Ok(())
    }

    /// Everything that can be refused before the body is read.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        request: &Arc<PutRequest>,
        part: Option<PartOf>,
    ) -> Result<Box<Upload>, StoreError> {
        let target = self.target(&request.bucket, &request.name);
        let tenure = self.owned(target.tag.slot())?;
        let body_bytes_max = self.options.limits.body_bytes_max;
        if let Some(len) = request.declared_len.filter(|len| *len > body_bytes_max) {
            let message = format!("a body of {len} bytes is larger than the {body_bytes_max} bytes allowed");
            return Err(StoreError::new(ErrorKind::TooLarge, message));
        }
        let headers = checks::headers(&request.attributes, None)?;
        let bucket = self.bucket(&request.bucket, false).await?;
        let want = self.want(request, &target, &tenure).await?;
        let admission = self.admit(request.declared_len).await?;
        let entry = JournalEntry {
            kind: if part.is_some() { EntryKind::Part } else { EntryKind::Object },
            generation: self.new_generation(),
            declared: request.declared_len,
            reserved: 0,
            bucket: request.bucket.as_str().into(),
            name: request.name.as_str().into(),
        };
        let guard = self.uploads.begin(target.tag, entry);
        let (inner, request) = (Arc::clone(self), Arc::clone(request));
        let checksum = None;
        let upload = Upload {
            inner,
            request,
            target,
            tenure,
            bucket,
            headers,
            checksum,
            want,
            admission,
            guard,
            part,
        };
        // Boxed: it is handed on from step to step.
        Ok(Box::new(upload))
    }

    /// Conditions are decided here, against the record as it is; the commit only checks that it still is that one.
    pub(crate) async fn want(
        &self,
        request: &PutRequest,
        target: &Target,
        tenure: &Tenure,
    ) -> Result<Want, StoreError> {
        if request.conditions.is_empty() {
            return Ok(Want::Any);
        }
        let head = self.head_of(target, tenure).await?;
        let live = head.as_ref().filter(|head| !self.times.is_over(head.expires_ms));
        let current = live.map(|head| Current { etag: &head.etag, modified_ms: head.modified_ms });
        match request.conditions.evaluate(Access::Write, current) {
            Outcome::Proceed => Ok(head.map_or(Want::Absent, |head| Want::Generation(head.generation))),
            Outcome::NotModified | Outcome::Failed => Err(StoreError::new(
                ErrorKind::Precondition,
                match &head {
                    Some(head) => {
                        format!("the object exists with ETag {} and does not meet the condition", head.etag)
                    }
                    None => "the object does not exist".into(),
                },
            )),
        }
    }
}

/// What is left to do once the body is in hand, or in the engine.
pub(crate) enum Step {
    Small(Piece, Sums),
    Large(Box<large::Large>),
}

/// Reads the body up to one whole piece.
async fn gather<S, E>(intake: &mut Intake<'_, S>) -> Result<Piece, StoreError>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: Display,
{
    while !intake.complete() {
        if let Pulled::End = intake.pull(None).await? {
            break;
        }
    }
    Ok(intake.cut())
}

impl Upload {
    /// Reads the body; all of it that does not fit into one write goes into the engine.
    pub(crate) async fn take_in<S, E>(&mut self, body: S) -> Result<Step, StoreError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Display + Send,
    {
        let inner = Arc::clone(&self.inner);
        let request = Arc::clone(&self.request);
        let limits = &inner.options.limits;
        let body_limits = BodyLimits {
            declared: request.declared_len,
            bytes_max: limits.body_bytes_max,
            idle: Duration::from_secs(limits.body_idle_seconds),
            permit_wait: Duration::from_millis(limits.admission_wait_ms),
        };
        let required = request.content_md5.is_some() || request.md5_always;
        let md5 = (request.want_md5_etag || required).then_some(required);
        let sums = WantedSums { md5, checksum: request.checks.algorithm() };
        let body = pin!(body);
        let mut intake = Intake::new(body, body_limits, &inner.budget, &inner.pool, sums);
        let first = gather(&mut intake).await?;
        if first.last && self.part.is_none() {
            let sums = self.sums(&mut intake)?;
            return Ok(Step::Small(first, sums));
        }
        Box::pin(self.stream(first, &mut intake)).await.map(|large| Step::Large(Box::new(large)))
    }

    async fn complete(mut self: Box<Self>, step: Step) -> Result<PutOutcome, StoreError> {
        let inner = Arc::clone(&self.inner);
        let change = inner.changing.begin(&self.target.cache_key);
        let done = match step {
            Step::Small(piece, sums) => self.put_small(piece, sums).await,
            Step::Large(large) => Box::pin(self.commit_large(&large)).await,
        };
        match done {
            Ok((head, old)) => {
                let outcome = self.finish(&head, old).await?;
                change.acknowledged();
                Ok(outcome)
            }
            Err(error) => {
                // Only an engine that did not answer may have done it all the same.
                if !matches!(error.kind, ErrorKind::EngineDown | ErrorKind::Protocol | ErrorKind::Withheld) {
                    change.acknowledged();
                }
                Err(Box::pin(self.give_up(error)).await)
            }
        }
    }

    /// Checks the client's MD5 and checksums, and chooses the ETag's source.
    pub(crate) fn sums<S, E>(&mut self, intake: &mut Intake<'_, S>) -> Result<Sums, StoreError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Display,
    {
        let md5 = intake.md5();
        if let Some(want) = self.request.content_md5
            && md5 != Some(want)
        {
            return Err(StoreError::new(ErrorKind::BadDigest, "the body does not match its Content-MD5"));
        }
        let checksum = match self.request.checks.algorithm() {
            Some(Algorithm::Crc64Nvme) => checks::crc64_checksum(intake.crc64),
            _ => intake.checksum(),
        };
        self.checksum = self.request.checks.verify(checksum)?;
        if self.checksum.is_some() {
            self.headers = checks::headers(&self.request.attributes, self.checksum)?;
        }
        let md5 = md5.filter(|_| self.request.want_md5_etag || self.request.md5_always);
        Ok(Sums { crc64: intake.crc64, md5 })
    }

    pub(crate) fn etag(&self, sums: Sums) -> ETag {
        self.request.etag.unwrap_or_else(|| sums.md5.map_or(ETag::of(self.guard.entry.generation), ETag::Md5))
    }

    /// What to do with a commit that did not go through. `Ok(())`: try again.
    pub(crate) async fn refused(&mut self, committed: Committed, attempt: u32) -> Result<(), StoreError> {
        if attempt >= COMMIT_TRIES_MAX {
            return Err(StoreError::new(ErrorKind::Busy, "the object changes too often: retry in a moment"));
        }
        match committed {
            Committed::Changed => {
                self.want = self.inner.want(&self.request, &self.target, &self.tenure).await?;
                Ok(())
            }
            Committed::Sealed => self.reopen().await,
            Committed::Quota(needed) => self.inner.lease(&self.bucket, &self.target, needed).await,
            Committed::Swept | Committed::Parts => Err(swept()),
            Committed::Missing => {
                Err(StoreError::new(ErrorKind::EngineDown, "the engine lost what was uploaded: retry"))
            }
            Committed::Done(_) => Ok(()),
        }
    }

    pub(crate) async fn reopen(&mut self) -> Result<(), StoreError> {
        self.bucket = self.inner.reopened(&self.bucket).await?;
        Ok(())
    }

    /// The tenure and the engine under which the upload began must still hold.
    pub(crate) fn still_owner(&self) -> Result<(), StoreError> {
        if self.inner.owned(self.target.tag.slot())? == self.tenure {
            return Ok(());
        }
        Err(StoreError::new(ErrorKind::Withheld, "the shard changed hands during the upload: retry"))
    }

    /// After the commit: caches and ledger learn of it, replicas acknowledge, the old generation is freed.
    pub(crate) async fn finish(
        &mut self,
        head: &Head,
        before: Box<Before>,
    ) -> Result<PutOutcome, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.guard.finish("stored");
        inner.cache.invalidate_record(&self.target.cache_key);
        inner.damage.doubt(&self.target.cache_key);
        self.account(head, &before);
        inner.crash_at(CrashPoint::Committed)?;
        let free: Vec<Doomed> = inner.retire_before(self.target.tag, &before);
        let acknowledged = inner.authority.acknowledged(&self.tenure);
        if free.is_empty() {
            acknowledged.await?;
        } else {
            let both = async { tokio::join!(acknowledged, inner.free_all(free)) };
            Box::pin(both).await.0?;
        }
        Ok(PutOutcome {
            etag: head.etag,
            generation: head.generation,
            size: head.layout.size(),
            modified_ms: head.modified_ms,
            crc64: head.crc64,
            checksum: self.checksum,
            created: !before.existed(),
            version: self.bucket.versioning().keeps().then(|| head.version()),
        })
    }

    fn account(&self, head: &Head, before: &Before) {
        let ledger = &self.inner.ledger;
        let key_len = self.target.record().len();
        if let Some(old) = &before.replaced {
            ledger.string_removed(Family::Record, key_len, old.value_len());
        }
        if !before.existed() {
            let names = self.target.names();
            ledger.member_added(Family::Names, names.as_bytes(), self.target.name.as_str().len());
        }
        self.inner.account_before(&self.target, before);
        ledger.string_added(Family::Record, key_len, head.value_len());
        let old = before.replaced.as_ref().or(before.kept.as_ref());
        if head.expires_ms > 0 && old.is_none_or(|old| old.expires_ms == 0) {
            let (list, member) = (key::expiry(self.target.tag), expiry_member(&self.target));
            ledger.member_added(Family::Expiry, list.as_bytes(), member.len());
        }
    }

    /// Undoes what is there, now if the engine answers, else by the sweeper.
    pub(crate) async fn give_up(&mut self, error: StoreError) -> StoreError {
        self.inner.cache.invalidate_record(&self.target.cache_key);
        if self.guard.is_armed() && !self.inner.crashes() {
            if self.inner.undo(&self.guard.abandoned()).await.is_ok() {
                self.guard.finish("undone");
            }
        } else if self.inner.crashes() {
            self.guard.finish("crashed");
        }
        error
    }
}
