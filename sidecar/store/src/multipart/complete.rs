//! The parts become the object: the list is checked, the part list written, and the ordinary commit swaps the record.
//! No payload moves.

use std::{collections::HashMap, sync::Arc};

use blobstore_sidecar_core::{
    checksum::{Algorithm, Checksum},
    chunk::Layout,
    etag::ETag,
    generation::Generation,
    key,
    ledger::Family,
    manifest::{Manifest, crc64_joined},
    parts::{PartList, Span},
    record::Head,
};
use blobstore_sidecar_runtime::{background, tasks};
use bytes::Bytes;
use md5::{Digest as _, Md5};
use redis::{cmd, pipe};

use super::{
    CompleteUpload, PartRef, UploadId, journal_entry, listed, no_such_upload,
    state::{StoredPart, UploadMeta},
};
use crate::{
    CrashPoint, ErrorKind, PutOutcome, PutRequest, StoreError,
    checks::{self, joined},
    commit::{Before, Body, Committed, PartsCommit, STAGED_SECONDS, committed},
    context::{Inner, Target},
    engine::{Outgoing, Reply, errors},
    get::damaged,
    put::Upload,
};

/// Manifests read at a time: at 5 MiB a part, about 16 KiB of replies.
const MANIFESTS_AT_A_TIME: usize = 64;

/// What the object will be made of.
struct Assembly {
    list: PartList,
    etag: ETag,
    crc64: u64,
    commit: PartsCommit,
}

impl Inner {
    pub(super) async fn complete_upload(
        self: &Arc<Self>,
        request: CompleteUpload,
    ) -> Result<PutOutcome, StoreError> {
        self.accepting()?;
        let target = self.target(&request.to.bucket, &request.to.name);
        let tenure = self.owned(target.tag.slot())?;
        let upload = request.to.upload;
        let meta = match self.upload_meta(&target, upload).await {
            Err(error) if error.kind == ErrorKind::NoSuchUpload => {
                return match self.head_named(&target, upload.0).await? {
                    Some(head) => {
                        let checksum = self.kept_checksum(&target, &head).await?;
                        self.authority.acknowledged(&tenure).await?;
                        Ok(again(&head, checksum))
                    }
                    None => Err(error),
                };
            }
            meta => meta?,
        };
        // Seen through even if the client leaves: it will ask again, and has to be told the same.
        let inner = Arc::clone(self);
        tasks::seen_through("complete an upload", async move { inner.complete(target, request, meta).await })
            .await
    }

    async fn complete(
        self: &Arc<Self>,
        target: Target,
        request: CompleteUpload,
        meta: UploadMeta,
    ) -> Result<PutOutcome, StoreError> {
        let upload = request.to.upload;
        let Some(guard) = self.uploads.begin_alone(target.tag, journal_entry(&target, upload)) else {
            let message = "this upload is being completed: retry in a moment";
            return Err(StoreError::new(ErrorKind::Busy, message));
        };
        let put = PutRequest {
            attributes: meta.attributes,
            conditions: request.conditions,
            expires_ms: meta.expires_ms,
            ..PutRequest::new(request.to.bucket, request.to.name, None)
        };
        let tenure = self.owned(target.tag.slot())?;
        let wanted = Wanted {
            parts: request.parts,
            size: request.size,
            checksum: request.checksum,
            kind: meta.checksum,
        };
        let mut object = Upload {
            bucket: self.bucket(&put.bucket, false).await?,
            want: self.want(&put, &target, &tenure).await?,
            admission: self.admit(Some(0)).await?,
            headers: Vec::new(),
            checksum: None,
            inner: Arc::clone(self),
            request: Arc::new(put),
            part: None,
            target,
            tenure,
            guard,
        };
        let inner = Arc::clone(self);
        let cache_key = Arc::clone(&object.target.cache_key);
        let change = inner.changing.begin(&cache_key);
        match object.assemble_and_commit(upload, &wanted).await {
            Ok((head, old)) => {
                let outcome = object.finish(&head, old).await?;
                change.acknowledged();
                Ok(outcome)
            }
            Err(error) => {
                if !matches!(error.kind, ErrorKind::EngineDown | ErrorKind::Protocol | ErrorKind::Withheld) {
                    change.acknowledged();
                }
                Err(object.give_up(error).await)
            }
        }
    }

    /// The checksum of a completed object, be it current or not.
    async fn kept_checksum(&self, target: &Target, head: &Head) -> Result<Option<Checksum>, StoreError> {
        for record in [target.record(), target.history(head.generation)] {
            if let Some(attributes) = self.attributes_of(&record, head).await? {
                return Ok(attributes.checksum);
            }
        }
        Ok(None)
    }

    /// The checksums of a part's chunks, by part.
    async fn crcs_of(
        &self,
        target: &Target,
        upload: Generation,
        parts: &[&StoredPart],
    ) -> Result<Vec<u64>, StoreError> {
        let mut all = Vec::new();
        for parts in parts.chunks(MANIFESTS_AT_A_TIME) {
            let mut read = pipe();
            for part in parts {
                read.cmd("GET").arg(key::manifest(target.tag, part.generation));
            }
            let manifests: Vec<Option<Vec<u8>>> = self.meta.pipe("read manifests of parts", &read).await?;
            for (part, manifest) in parts.iter().zip(manifests) {
                if part.chunks == 0 {
                    continue;
                }
                let manifest = Manifest::decode(manifest.as_deref().unwrap_or_default())
                    .map_err(|error| damaged("manifest", error))?;
                let crcs = manifest.crcs.unwrap_or_default();
                let ours = manifest.generation == part.generation && manifest.upload == Some(upload);
                if !ours || crcs.len() != part.chunks as usize {
                    return Err(damaged("manifest", "it belongs to another part"));
                }
                all.extend(crcs);
            }
        }
        Ok(all)
    }
}

/// What the client says the object is.
struct Wanted {
    parts: Vec<PartRef>,
    size: Option<u64>,
    checksum: Option<Checksum>,
    kind: Option<super::UploadChecksum>,
}

impl Upload {
    async fn assemble_and_commit(
        &mut self,
        upload: UploadId,
        wanted: &Wanted,
    ) -> Result<(Head, Box<Before>), StoreError> {
        for attempt in 0.. {
            let assembly = self.assemble(upload, wanted).await?;
            self.inner.crash_at(CrashPoint::PartsChecked)?;
            let done = self.commit_parts(upload, &assembly).await?;
            match done {
                (head, Committed::Done(old)) => {
                    self.account_completed(upload, &assembly);
                    return Ok((head, old));
                }
                // A part was replaced since the list was checked: it is checked again.
                (_, Committed::Parts) if attempt < PARTS_TRIES_MAX => {}
                (_, Committed::Parts) => {
                    return Err(StoreError::new(
                        ErrorKind::Busy,
                        "the parts change too often: retry in a moment",
                    ));
                }
                (_, Committed::Swept) => return Err(no_such_upload(upload)),
                (_, other) => self.refused(other, attempt).await?,
            }
        }
        Err(errors::garbage())
    }

    /// Checks the client's list against what is stored.
    async fn assemble(&mut self, upload: UploadId, wanted: &Wanted) -> Result<Assembly, StoreError> {
        let (tag, inner) = (self.target.tag, Arc::clone(&self.inner));
        let read = cmd("HGETALL").arg(key::upload(tag, upload.0)).to_owned();
        let fields: HashMap<Vec<u8>, Vec<u8>> = inner.meta.query("read an upload", &read).await?;
        let revision = fields.get(b"rev".as_slice()).map(|rev| String::from_utf8_lossy(rev).into_owned());
        let mut stored: HashMap<u16, StoredPart> = fields
            .iter()
            .filter_map(|(number, text)| {
                let number = std::str::from_utf8(number).ok()?.parse().ok()?;
                Some((number, StoredPart::decode(number, std::str::from_utf8(text).ok()?)?))
            })
            .collect();
        let composite = wanted.kind.is_some_and(|kind| kind.composite);
        listed::check(&wanted.parts, &stored, inner.options.part_bytes_min, composite)?;
        let parts: Vec<StoredPart> =
            wanted.parts.iter().filter_map(|part| stored.remove(&part.number)).collect();
        let parts: Vec<&StoredPart> = parts.iter().collect();
        let crcs = inner.crcs_of(&self.target, upload.0, &parts).await?;
        let spans = parts.iter().map(|part| Span {
            number: part.info.number,
            generation: part.generation,
            size: part.info.size,
            sum: part
                .info
                .checksum
                .filter(|sum| wanted.kind.is_some_and(|kind| kind.algorithm == sum.algorithm)),
        });
        let list = PartList::new(upload.0, spans, crcs).ok_or_else(|| {
            StoreError::new(ErrorKind::TooLarge, "the object is larger than a multipart upload may be")
        })?;
        if let Some(size) = wanted.size.filter(|size| *size != list.size()) {
            let message = format!("the parts have {} bytes together, not {size}", list.size());
            return Err(StoreError::new(ErrorKind::InvalidPart, message));
        }
        let crc64 = parts.iter().fold(0, |crc, part| crc64_joined(crc, part.info.crc64, part.info.size));
        self.checksum = whole_checksum(wanted, &parts, crc64)?;
        self.headers = checks::headers(&self.request.attributes, self.checksum)?;
        let left_out = stored.values().filter_map(|part| part.doomed(tag)).collect();
        let commit =
            PartsCommit { upload: upload.0, revision: revision.unwrap_or_else(|| "0".into()), left_out };
        Ok(Assembly { etag: parts_etag(&parts), list, crc64, commit })
    }

    /// Part list, staged record, commit: one pipeline.
    async fn commit_parts(
        &mut self,
        upload: UploadId,
        assembly: &Assembly,
    ) -> Result<(Head, Committed), StoreError> {
        let tag = self.target.tag;
        let list = &assembly.list;
        // Nothing but empty parts: an object without body.
        let in_parts = list.size() > 0;
        let encoded = Bytes::from(list.encode());
        let manifest_len = if in_parts { u32::try_from(encoded.len()).unwrap_or(u32::MAX) } else { 0 };
        let body = Body {
            layout: if in_parts { Layout::of_parts(list.size(), list.chunks()) } else { Layout::inline(0) },
            etag: assembly.etag,
            crc64: assembly.crc64,
            tail_crc64: 0,
            first_crc64: 0,
            manifest_len,
            expires_ms: self.request.expires_ms,
        };
        let (head, record) = self.record(&body, &[]);
        let (staged, list_key) = (key::staged(tag, upload.0), key::part_list(tag, upload.0));
        let encoded = [encoded];
        let crash = self.inner.crash_at(CrashPoint::PartListWritten);
        let stops = crash.is_err();
        let build = |object: &Self, out: &mut Outgoing| {
            if in_parts {
                out.set(&list_key, &encoded, None);
            }
            out.set(&staged, &record, Some(STAGED_SECONDS));
            if !stops {
                let mut commit = object.commit(&head);
                commit.parts = Some(&assembly.commit);
                commit.append(out);
            }
        };
        let replies = self.exchange(build, u64::from(manifest_len) + head.value_len() as u64).await?;
        crash?;
        if let Some(Reply::Error(text)) = replies.iter().find(|reply| matches!(reply, Reply::Error(_))) {
            return Err(errors::reply("complete an upload", text));
        }
        let committed = committed(replies.into_iter().last().unwrap_or(Reply::Nil))?;
        Ok((head, committed))
    }

    fn account_completed(&self, upload: UploadId, assembly: &Assembly) {
        let (tag, inner) = (self.target.tag, &self.inner);
        inner.account_closed(&self.target, upload.0);
        if assembly.list.size() > 0 {
            let (key, len) = (key::part_list(tag, upload.0), assembly.list.encoded_len());
            inner.ledger.string_added(Family::Manifest, key.len(), len);
        }
        let free: Vec<_> =
            assembly.commit.left_out.iter().filter_map(|doomed| inner.retire(doomed.clone())).collect();
        if !free.is_empty() {
            let inner = Arc::clone(inner);
            background::attempt("free parts left out", async move {
                for doomed in free {
                    inner.free_or_leave(Some(doomed)).await;
                }
            });
        }
    }
}

/// Times the list is checked again because a part was replaced meanwhile.
const PARTS_TRIES_MAX: u32 = 4;

/// The MD5 of the parts' tags, and their number.
fn parts_etag(parts: &[&StoredPart]) -> ETag {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(part.info.etag.bytes());
    }
    let count = u16::try_from(parts.len()).unwrap_or(u16::MAX);
    ETag::Parts { digest: md5.finalize().into(), count }
}

/// The object's checksum, if its upload was opened with one.
fn whole_checksum(
    wanted: &Wanted,
    parts: &[&StoredPart],
    crc64: u64,
) -> Result<Option<Checksum>, StoreError> {
    let whole = match wanted.kind {
        None => None,
        Some(kind) if kind.algorithm == Algorithm::Crc64Nvme && !kind.composite => {
            checks::crc64_checksum(crc64)
        }
        Some(kind) => {
            let each = parts.iter().map(|part| (part.info.checksum, part.info.size));
            joined(kind.algorithm, kind.composite, each)
        }
    };
    // Where the upload was opened without an algorithm, S3 knows CRC64NVME and looks at no other.
    let comparable = |sum: &Checksum| wanted.kind.is_some() || sum.algorithm == Algorithm::Crc64Nvme;
    if let Some(expected) = wanted.checksum.filter(comparable) {
        let known = whole.or_else(|| checks::crc64_checksum(crc64));
        if !known.is_some_and(|known| known.same_value(&expected)) {
            let message = format!(
                "The {} you specified did not match the calculated checksum.",
                expected.algorithm.name()
            );
            return Err(StoreError::new(ErrorKind::BadDigest, message));
        }
    }
    Ok(whole)
}

/// The answer to a completion that was done before.
fn again(head: &Head, checksum: Option<Checksum>) -> PutOutcome {
    PutOutcome {
        etag: head.etag,
        generation: head.generation,
        size: head.layout.size(),
        modified_ms: head.modified_ms,
        crc64: head.crc64,
        checksum,
        created: false,
        version: head.versioned.then(|| head.version()),
    }
}
