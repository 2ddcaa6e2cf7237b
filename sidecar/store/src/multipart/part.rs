//! One part on its way in: stored like any large body, then entered into its upload by one script.

use std::{fmt::Display, sync::Arc};

use blobstore_sidecar_core::{key, ledger::Family, parts::PARTS_MAX};
use blobstore_sidecar_runtime::{background, tasks};
use bytes::Bytes;
use futures::Stream;

use super::{
    PartCopyRequest, PartInfo, PartRequest, UploadChecksum, UploadId, journal_entry, no_such_upload,
    state::StoredPart,
};
use crate::{
    CrashPoint, ErrorKind, PutRequest, StoreError,
    commit::{Committed, swept, words},
    context::Inner,
    engine::{Outgoing, Reply, errors},
    put::{Large, PartOf, Step, Upload},
    scripts,
};

/// Parts that are copied at once: each holds a few chunks that it read while it waits for room to write them.
pub(crate) const COPIES_MAX: usize = 16;

/// What a client sent that sent no checksum.
const NO_CHECKSUM: &str = "null";

impl Inner {
    pub(super) async fn put_part<S, E>(
        self: &Arc<Self>,
        request: PartRequest,
        body: S,
    ) -> Result<PartInfo, StoreError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Display + Send,
    {
        if !(1..=PARTS_MAX).contains(&request.number) {
            let message = format!("a part's number is between 1 and {PARTS_MAX}");
            return Err(StoreError::new(ErrorKind::InvalidName, message));
        }
        self.accepting()?;
        let PartRequest { to, number, declared_len, content_md5, want_md5_etag, mut checks, sent } = request;
        let target = self.target(&to.bucket, &to.name);
        self.owned(target.tag.slot())?;
        let meta = self.upload_meta(&target, to.upload).await?;
        expected(meta.checksum, sent.as_deref())?;
        checks.algorithm = checks.algorithm().or(meta.checksum.map(|checksum| checksum.algorithm));
        let stored = self.stored_parts(target.tag, to.upload.0, &[number]).await?;
        let replaces = stored.get(&number).map_or(0, |part| part.info.size);
        let part = PartOf { upload: to.upload.0, number, replaces };
        let request = PutRequest {
            content_md5,
            want_md5_etag,
            checks,
            ..PutRequest::new(to.bucket, to.name, declared_len)
        };
        let mut upload = self.begin(&Arc::new(request), Some(part)).await?;
        match upload.take_in(body).await {
            Ok(Step::Large(large)) => {
                tasks::seen_through("commit a part", upload.complete_part(large, part)).await
            }
            Ok(Step::Small(..)) => Err(upload.give_up(errors::garbage()).await),
            Err(error) => Err(upload.give_up(error).await),
        }
    }

    pub(super) async fn copy_part(
        self: &Arc<Self>,
        request: PartCopyRequest,
    ) -> Result<PartInfo, StoreError> {
        let PartCopyRequest { mut part, source } = request;
        let _turn = self.copies.acquire().await.map_err(|_| errors::garbage())?;
        let source = self.get(source, None).await.map_err(as_write)?;
        part.declared_len = Some(source.range.end - source.range.start);
        self.put_part(part, source.body).await
    }
}

/// A condition on the source of a copy that does not hold fails the copy, also where a read would answer 304.
pub(crate) fn as_write(mut error: StoreError) -> StoreError {
    if error.kind == ErrorKind::NotModified {
        error.kind = ErrorKind::Precondition;
        error.message = "the source does not meet the condition".into();
    }
    error
}

/// A part comes with the checksum that its upload was opened for; only one of parts' checksums needs it from everyone.
fn expected(opened: Option<UploadChecksum>, sent: Option<&str>) -> Result<(), StoreError> {
    let (Some(opened), Some(sent)) = (opened, sent) else { return Ok(()) };
    let name = opened.algorithm.name().to_lowercase();
    if sent == name || sent == NO_CHECKSUM && !opened.composite {
        return Ok(());
    }
    let message = format!(
        "Checksum Type mismatch occurred, expected checksum Type: {name}, actual checksum Type: {sent}"
    );
    Err(StoreError::new(ErrorKind::ChecksumKind, message))
}

impl Upload {
    async fn complete_part(
        mut self: Box<Self>,
        large: Box<Large>,
        part: PartOf,
    ) -> Result<PartInfo, StoreError> {
        match self.enter_part(&large, part).await {
            Ok(stored) => {
                let inner = Arc::clone(&self.inner);
                let tenure = self.tenure.clone();
                self.guard.finish("stored");
                inner.authority.acknowledged(&tenure).await?;
                Ok(stored.info)
            }
            Err(error) => Err(self.give_up(error).await),
        }
    }

    /// The complete manifest, and the script that makes the body a part.
    async fn enter_part(&mut self, large: &Large, part: PartOf) -> Result<StoredPart, StoreError> {
        let tag = self.target.tag;
        self.inner.crash_at(CrashPoint::PartStored)?;
        let manifest = match large.layout.chunks {
            0 => Bytes::new(),
            _ => Bytes::from(self.manifest(Some(large.crcs.clone())).encode()),
        };
        let stored = StoredPart {
            generation: self.guard.entry.generation,
            chunks: large.layout.chunks,
            last: large.layout.last,
            manifest: u32::try_from(manifest.len()).unwrap_or(u32::MAX),
            info: PartInfo {
                number: part.number,
                etag: self.etag(large.sums),
                size: large.layout.size(),
                modified_ms: self.inner.times.now_ms(),
                crc64: large.sums.crc64,
                checksum: self.checksum,
            },
        };
        let key = key::manifest(tag, stored.generation);
        let value = stored.encode();
        let frames = [manifest];
        for attempt in 0.. {
            let build = |upload: &Self, out: &mut Outgoing| {
                if stored.manifest > 0 {
                    out.set(&key, &frames, None);
                }
                upload.part_commit(out, &value, &stored);
            };
            let replies = self.converse(build, u64::from(stored.manifest)).await?;
            if let Some(Reply::Error(text)) = replies.iter().find(|reply| matches!(reply, Reply::Error(_))) {
                return Err(errors::reply("commit a part", text));
            }
            let (word, detail) = words(replies.into_iter().last().unwrap_or(Reply::Nil))?;
            match word.as_str() {
                "OK" => {
                    self.entered(&stored, &value, key.len(), &detail);
                    return Ok(stored);
                }
                "CLOSED" => return Err(no_such_upload(UploadId(part.upload))),
                "SWEPT" => return Err(swept()),
                "SEALED" => self.refused(Committed::Sealed, attempt).await?,
                "QUOTA" => {
                    let needed = std::str::from_utf8(&detail).ok().and_then(|text| text.parse().ok());
                    let needed = needed.ok_or_else(errors::garbage)?;
                    self.refused(Committed::Quota(needed), attempt).await?;
                }
                _ => return Err(errors::garbage()),
            }
        }
        Err(errors::garbage())
    }

    fn part_commit(&self, out: &mut Outgoing, value: &str, stored: &StoredPart) {
        let (tag, entry) = (self.target.tag, &self.guard.entry);
        let Some(part) = self.part else { return };
        let keys = [key::upload(tag, part.upload), key::journal(tag), key::sums(tag), key::pending_free(tag)];
        let quota = if self.bucket.quota_bytes.is_some() { "1" } else { "0" };
        let args = [
            entry.member(),
            part.number.to_string(),
            value.to_owned(),
            stored.info.size.to_string(),
            entry.reserved.to_string(),
            self.target.bucket.as_str().to_owned(),
            self.bucket.epoch.to_string(),
            quota.to_owned(),
            journal_entry(&self.target, UploadId(part.upload)).member(),
            self.inner.options.timing.upload_ttl.as_millis().to_string(),
        ];
        let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
        out.script(&scripts::PART_COMMIT, &keys, &args, &[]);
    }

    /// Ledger and memory learn what the script did.
    fn entered(&self, stored: &StoredPart, value: &str, manifest_key_len: usize, old: &[u8]) {
        let (tag, inner) = (self.target.tag, &self.inner);
        if stored.manifest > 0 {
            self.account_manifest(manifest_key_len, stored.manifest);
        }
        let journal = key::journal(tag);
        let entry = self.guard.entry.member();
        inner.ledger.member_removed(Family::Journal, journal.as_bytes(), entry.len());
        let Some(part) = self.part else { return };
        let upload = key::upload(tag, part.upload);
        let field = stored.info.number.to_string().len();
        inner.ledger.member_added(Family::Upload, upload.as_bytes(), field + value.len());
        if old.is_empty() {
            return;
        }
        inner.ledger.member_removed(Family::Upload, upload.as_bytes(), field + old.len());
        let old = std::str::from_utf8(old).ok().and_then(|old| StoredPart::decode(stored.info.number, old));
        if let Some(doomed) = old.and_then(|old| old.doomed(tag)).and_then(|doomed| inner.retire(doomed)) {
            let inner = Arc::clone(inner);
            background::attempt("free a part", async move { inner.free_or_leave(Some(doomed)).await });
        }
    }
}
