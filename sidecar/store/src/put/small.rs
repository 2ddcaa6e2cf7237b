//! Bodies of at most one chunk: everything in one write to the engine.

use std::sync::{Arc, atomic::Ordering};

use blobstore_sidecar_core::{
    chunk::Layout,
    key,
    ledger::Family,
    manifest::{Manifest, manifest_len},
    record::Head,
};
use bytes::Bytes;

use super::{Sums, Upload};
use crate::{
    ErrorKind, StoreError,
    body::{Piece, crc64_of, split_frames},
    commit::{
        Before, Body, Commit, Committed, STAGED_SECONDS, committed, forgotten, load_scripts, record_frames,
    },
    engine::{LaneLease, Outgoing, Reply, errors},
    sending::Sending,
    uploads::JournalEntry,
};

pub(crate) type Done = (Head, Box<Before>);

impl Upload {
    /// `SET staged; commit`. A staged record ends by itself, so nothing has to know of it.
    pub(super) async fn put_inline(&mut self, piece: Piece, sums: Sums) -> Result<Done, StoreError> {
        let layout = Layout::inline(piece.len);
        let body = Body {
            layout,
            etag: self.etag(sums),
            crc64: sums.crc64,
            tail_crc64: sums.crc64,
            first_crc64: 0,
            manifest_len: 0,
            expires_ms: self.request.expires_ms,
        };
        let generation = self.guard.entry.generation;
        let staged = key::staged(self.target.tag, generation);
        for attempt in 0.. {
            let (head, record) = self.record(&body, &piece.frames);
            let build = |upload: &Self, out: &mut Outgoing| {
                out.set(&staged, &record, Some(STAGED_SECONDS));
                upload.commit(&head, None, None).append(out);
            };
            let replies = self.exchange(build, head.value_len() as u64).await?;
            match committed(last_of(replies)?)? {
                Committed::Done(old) => return Ok((head, old)),
                other => self.refused(other, attempt).await?,
            }
        }
        Err(errors::garbage())
    }

    /// `SET chunk; SET manifest; SET staged; commit`: the commit makes them last, else they end by themselves, so no
    /// journal has to know of them. The chunk first: what follows it reaches the engine in one piece.
    pub(super) async fn put_single(&mut self, piece: Piece, sums: Sums) -> Result<Done, StoreError> {
        let Piece { frames, len, permit, .. } = piece;
        let layout = Layout::of(u64::from(len)).ok_or_else(errors::garbage)?;
        let (chunk, tail) = split_frames(frames, layout.last);
        let (first_crc64, tail_crc64) =
            if layout.tail == 0 { (sums.crc64, 0) } else { (crc64_of(&chunk), crc64_of(&tail)) };
        let (bucket, name) = (self.target.bucket.as_str(), self.target.name.as_str());
        let generation = self.guard.entry.generation;
        let manifest = Manifest {
            generation,
            bucket: bucket.into(),
            name: name.into(),
            upload: None,
            declared_len: Some(u64::from(len)),
            crcs: Some(vec![first_crc64]),
            pack: None,
        };
        let manifest_len = u32::try_from(manifest_len(bucket, name, 1)).unwrap_or(u32::MAX);
        let etag = self.etag(sums);
        let expires_ms = self.request.expires_ms;
        let body =
            Body { layout, etag, crc64: sums.crc64, tail_crc64, first_crc64, manifest_len, expires_ms };
        let parts = Parts { manifest: [Bytes::from(manifest.encode())], chunk, tail };
        self.guard.arm();
        let done = self.single_tries(&body, &parts).await;
        drop(permit);
        let (head, old) = done?;
        self.account_single(&head);
        Ok((head, old))
    }

    async fn single_tries(&mut self, body: &Body, parts: &Parts) -> Result<Done, StoreError> {
        let tag = self.target.tag;
        let generation = self.guard.entry.generation;
        let (staged, manifest_key) = (key::staged(tag, generation), key::manifest(tag, generation));
        let chunk_key = key::chunk(tag, generation, 0);
        for attempt in 0.. {
            let (head, record) = self.record(body, &parts.tail);
            let payload = u64::from(head.layout.last) + head.value_len() as u64;
            let build = |upload: &Self, out: &mut Outgoing| {
                out.set(&chunk_key, &parts.chunk, Some(STAGED_SECONDS));
                out.set(&manifest_key, &parts.manifest, Some(STAGED_SECONDS));
                out.set(&staged, &record, Some(STAGED_SECONDS));
                upload.commit(&head, None, Some(head.layout.last)).append(out);
            };
            let replies = self.exchange(build, payload).await?;
            match committed(last_of(replies)?)? {
                Committed::Done(old) => return Ok((head, old)),
                other => self.refused(other, attempt).await?,
            }
        }
        Err(errors::garbage())
    }

    /// The record as the bucket wants it now.
    pub(crate) fn record(&self, body: &Body, tail: &[Bytes]) -> (Head, Vec<Bytes>) {
        let generation = self.guard.entry.generation;
        record_frames(
            generation,
            body,
            &self.headers,
            tail.to_vec(),
            self.bucket.versioning(),
            self.inner.times.now_ms(),
        )
    }

    /// The chunk and manifest are told once, when they are there for good.
    fn account_single(&mut self, head: &Head) {
        let tag = self.target.tag;
        let ledger = &self.inner.ledger;
        let chunk = key::chunk(tag, head.generation, 0);
        ledger.string_added(Family::Chunk, chunk.len(), head.layout.last as usize);
        let manifest = key::manifest(tag, head.generation);
        ledger.string_added(Family::Manifest, manifest.len(), head.manifest_len as usize);
    }

    pub(crate) fn commit<'a>(
        &'a self,
        head: &Head,
        entry: Option<&'a JournalEntry>,
        chunk0: Option<u32>,
    ) -> Commit<'a> {
        Commit {
            target: &self.target,
            generation: head.generation,
            size: head.layout.size(),
            entry,
            want: self.want,
            bucket: &self.bucket,
            chunk0,
            parts: None,
        }
    }

    /// Sends one pipeline that ends in a commit and reads all replies. Between the two a record must not enter the
    /// cache; a lost reply is resolved.
    pub(crate) async fn exchange(
        &mut self,
        build: impl Fn(&Self, &mut Outgoing),
        payload: u64,
    ) -> Result<Vec<Reply>, StoreError> {
        self.inner.cache.invalidate_record(&self.target.cache_key);
        match self.converse(build, payload).await {
            Ok(replies) => Ok(replies),
            // Anything else was said before something was sent.
            Err(error) if matches!(error.kind, ErrorKind::EngineDown | ErrorKind::Protocol) => {
                self.lost(error).await
            }
            Err(error) => Err(error),
        }
    }

    /// Sends one pipeline and reads all replies. While it runs the upload can be stopped by stopping its lane.
    pub(crate) async fn converse(
        &mut self,
        build: impl Fn(&Self, &mut Outgoing),
        payload: u64,
    ) -> Result<Vec<Reply>, StoreError> {
        self.still_owner()?;
        let inner = Arc::clone(&self.inner);
        let mut lane = inner.write_lanes.take().await?;
        self.guard.state.client_id.store(lane.client_id(), Ordering::Release);
        let sending = Sending::new(&inner.ledger, payload);
        let mut replies = talk(&mut lane, |out| build(self, out)).await;
        if replies.as_ref().is_ok_and(|replies| replies.iter().any(forgotten)) {
            replies = match load_scripts(&mut lane).await {
                Ok(()) => talk(&mut lane, |out| build(self, out)).await,
                Err(error) => Err(error),
            };
        }
        drop(sending);
        let replies = replies?;
        self.guard.state.client_id.store(0, Ordering::Release);
        self.admission.stored(&inner.memory, payload);
        Ok(replies)
    }

    /// The lane broke: did the commit happen?
    async fn lost(&mut self, error: StoreError) -> Result<Vec<Reply>, StoreError> {
        let generation = self.guard.entry.generation;
        match self.inner.resolve_lost(&self.target, generation, &self.guard.state).await {
            // What was there before is on the list of generations to free; the sweeper finds it.
            Ok(true) => Ok(vec![Reply::Array(vec![Reply::Bulk(b"OK".to_vec())])]),
            Ok(false) => Err(error),
            Err(_) => Err(StoreError::new(
                ErrorKind::EngineDown,
                "the engine stopped answering during the commit: the outcome is unknown, a retry is safe",
            )
            .caused_by(error)),
        }
    }
}

/// What goes to the engine for a single chunk.
struct Parts {
    manifest: [Bytes; 1],
    chunk: Vec<Bytes>,
    tail: Vec<Bytes>,
}

/// The commit's answer, unless the engine refused something before it: then the commit found it missing.
fn last_of(mut replies: Vec<Reply>) -> Result<Reply, StoreError> {
    let last = replies.pop().unwrap_or(Reply::Nil);
    match replies.into_iter().find_map(|reply| if let Reply::Error(text) = reply { Some(text) } else { None })
    {
        Some(text) => Err(errors::reply("store", &text)),
        None => Ok(last),
    }
}

async fn talk(lane: &mut LaneLease, build: impl Fn(&mut Outgoing)) -> Result<Vec<Reply>, StoreError> {
    let mut out = Outgoing::default();
    build(&mut out);
    let count = out.replies;
    lane.send(&mut out).await?;
    let mut replies = Vec::with_capacity(count as usize);
    for _ in 0..count {
        replies.push(lane.reply().await?);
    }
    Ok(replies)
}
