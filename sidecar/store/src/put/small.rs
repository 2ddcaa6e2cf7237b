//! Bodies of at most one chunk: everything in one write to the engine.

use std::sync::{Arc, atomic::Ordering};

use blobstore_sidecar_core::{
    chunk::{INLINE_BYTES_MAX, Layout},
    key,
    ledger::Family,
    manifest::{Manifest, manifest_len},
    record::Head,
    version::Versioning,
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
    scripts,
    sending::Sending,
};

pub(crate) type Done = (Head, Box<Before>);

/// A record up to this goes through the script. A longer one is cheaper as a key of its own, which the script renames:
/// what passes through makes the engine's collector of script values work (at 4 KiB 5 us more than the other way).
const SCRIPT_RECORD_BYTES_MAX: usize = 1 << 10;

/// What goes to the engine of a small body.
struct Small {
    tail: Vec<Bytes>,
    /// A body that is more than its record.
    chunk: Option<Chunk>,
}

struct Chunk {
    frames: Vec<Bytes>,
    manifest: Bytes,
}

impl Upload {
    /// `[SET chunk;] store`: a chunk that is not stored ends by itself, so no journal has to know of it.
    pub(super) async fn put_small(&mut self, piece: Piece, sums: Sums) -> Result<Done, StoreError> {
        let Piece { frames, len, permit, .. } = piece;
        let (body, small) = if len as usize <= INLINE_BYTES_MAX {
            (self.body(Layout::inline(len), sums), Small { tail: frames, chunk: None })
        } else {
            self.cut(frames, len, sums)?
        };
        if small.chunk.is_some() {
            self.guard.arm();
        }
        let done = self.small_tries(&body, &small).await;
        drop(permit);
        let (head, old) = done?;
        if small.chunk.is_some() {
            self.account_chunk(&head);
        }
        Ok((head, old))
    }

    fn body(&self, layout: Layout, sums: Sums) -> Body {
        Body {
            layout,
            etag: self.etag(sums),
            crc64: sums.crc64,
            tail_crc64: sums.crc64,
            first_crc64: 0,
            manifest_len: 0,
            expires_ms: self.request.expires_ms,
        }
    }

    /// A chunk, and what is left for the record.
    fn cut(&self, frames: Vec<Bytes>, len: u32, sums: Sums) -> Result<(Body, Small), StoreError> {
        let layout = Layout::of(u64::from(len)).ok_or_else(errors::garbage)?;
        let (chunk, tail) = split_frames(frames, layout.last);
        let (first_crc64, tail_crc64) =
            if layout.tail == 0 { (sums.crc64, 0) } else { (crc64_of(&chunk), crc64_of(&tail)) };
        let (bucket, name) = (self.target.bucket.as_str(), self.target.name.as_str());
        let manifest = Manifest {
            generation: self.guard.entry.generation,
            bucket: bucket.into(),
            name: name.into(),
            upload: None,
            declared_len: Some(u64::from(len)),
            crcs: Some(vec![first_crc64]),
            pack: None,
        };
        let manifest_len = u32::try_from(manifest_len(bucket, name, 1)).unwrap_or(u32::MAX);
        let body = Body { tail_crc64, first_crc64, manifest_len, ..self.body(layout, sums) };
        let chunk = Chunk { frames: chunk, manifest: Bytes::from(manifest.encode()) };
        Ok((body, Small { tail, chunk: Some(chunk) }))
    }

    async fn small_tries(&mut self, body: &Body, small: &Small) -> Result<Done, StoreError> {
        for attempt in 0.. {
            let (head, record) = self.record(body, &small.tail);
            let payload = u64::from(head.layout.last) + head.value_len() as u64;
            let build = |upload: &Self, out: &mut Outgoing| upload.store(&head, &record, small, out);
            let replies = self.exchange(build, payload).await?;
            match committed(last_of(replies)?)? {
                Committed::Done(old) => return Ok((head, old)),
                // Boxed: it is rare.
                other => Box::pin(self.refused(other, attempt)).await?,
            }
        }
        Err(errors::garbage())
    }

    /// What is large of the object, and the call that makes it the object.
    fn store(&self, head: &Head, record: &[Bytes], small: &Small, out: &mut Outgoing) {
        let (target, generation) = (&self.target, head.generation);
        let tag = target.tag;
        let staged = key::staged(tag, generation);
        let through = head.value_len() <= SCRIPT_RECORD_BYTES_MAX;
        if !through {
            out.set(&staged, record, Some(STAGED_SECONDS));
        }
        let mut keys = vec![target.record(), target.names(), key::sums(tag), key::pending_free(tag), staged];
        if let Some(chunk) = &small.chunk {
            let name = key::chunk(tag, generation, 0);
            out.set(&name, &chunk.frames, Some(STAGED_SECONDS));
            keys.extend([name, key::manifest(tag, generation)]);
        }
        let (size, epoch) = (head.layout.size().to_string(), self.bucket.epoch.to_string());
        let ends = head.expires_ms.to_string();
        let args: [&[u8]; 9] = [
            target.bucket.as_str().as_bytes(),
            target.name.as_str().as_bytes(),
            size.as_bytes(),
            epoch.as_bytes(),
            if self.bucket.quota_bytes.is_some() { b"1" } else { b"0" },
            self.want.bytes(),
            self.bucket.versioning().word().as_bytes(),
            if self.inner.readers.any_of(&target.cache_key) { b"0" } else { b"1" },
            ends.as_bytes(),
        ];
        let script = match self.bucket.versioning() {
            Versioning::Off => &scripts::STORE_PLAIN,
            Versioning::Enabled | Versioning::Suspended => &scripts::STORE,
        };
        let manifest = small.chunk.as_ref().map(|chunk| std::slice::from_ref(&chunk.manifest));
        let record = if through { record } else { &[] };
        let values: Vec<&[Bytes]> = std::iter::once(record).chain(manifest).collect();
        out.script(script, &keys, &args, &values);
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
    fn account_chunk(&mut self, head: &Head) {
        let tag = self.target.tag;
        let ledger = &self.inner.ledger;
        let chunk = key::chunk(tag, head.generation, 0);
        ledger.string_added(Family::Chunk, chunk.len(), head.layout.last as usize);
        let manifest = key::manifest(tag, head.generation);
        ledger.string_added(Family::Manifest, manifest.len(), head.manifest_len as usize);
    }

    pub(crate) fn commit(&self, head: &Head) -> Commit<'_> {
        Commit {
            target: &self.target,
            generation: head.generation,
            size: head.layout.size(),
            expires_ms: head.expires_ms,
            entry: &self.guard.entry,
            want: self.want,
            bucket: &self.bucket,
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
                Box::pin(self.lost(error)).await
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
    let mut out = Outgoing::reusing(std::mem::take(&mut lane.scratch));
    build(&mut out);
    let count = out.replies;
    lane.send(&mut out).await?;
    lane.scratch = out.left();
    let mut replies = Vec::with_capacity(count as usize);
    for _ in 0..count {
        replies.push(lane.reply().await?);
    }
    Ok(replies)
}
