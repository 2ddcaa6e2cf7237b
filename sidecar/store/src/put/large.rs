//! Bodies of more than one chunk: reserved and journalled, then the manifest, then the chunks in order on one lane.

use std::{
    collections::VecDeque,
    fmt::Display,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use blobstore_sidecar_core::{
    chunk::{CHUNK_BYTES, Layout},
    key,
    ledger::Family,
    manifest::Manifest,
};
use bytes::Bytes;
use futures::Stream;

use super::{Sums, Upload, small::Done};
use crate::{
    CrashPoint, ErrorKind, StoreError,
    body::{Intake, Piece, Pulled, crc64_of, split_frames},
    commit::{Body, Committed, STAGED_SECONDS, committed, swept},
    engine::{LaneLease, Outgoing, Reply, errors},
    scripts,
    sending::Sending,
};

/// Chunks sent and not yet acknowledged: enough to keep the engine busy while the next one arrives.
const IN_FLIGHT_MAX: u32 = 4;
/// Chunks per renewal of the journal entry, and per step of reserved quota when the length is unknown.
const RENEW_CHUNKS: u32 = 64;
/// A lane is let go when the client has sent nothing for this long: slow clients must not hold lanes.
const LINGER: Duration = Duration::from_millis(20);
/// While others wait for a lane, it is let go after this many chunks.
const CHUNKS_IN_A_ROW: u32 = 16;

/// A large body whose chunks are all in the engine.
pub(crate) struct Large {
    pub(crate) layout: Layout,
    pub(crate) crcs: Vec<u64>,
    tail: Vec<Bytes>,
    tail_crc64: u64,
    pub(crate) sums: Sums,
}

/// A chunk on its way.
struct Sent {
    len: u32,
    crc64: u64,
    _sending: Sending,
}

/// The lane of one upload and what is under way on it.
#[derive(Default)]
pub(super) struct Sender {
    lane: Option<LaneLease>,
    run_id: Option<Arc<str>>,
    unacknowledged: VecDeque<Sent>,
    in_a_row: u32,
    sent: u32,
    renewed: Option<Instant>,
}

impl Sender {
    /// For an upload whose journal entry was made just now.
    pub(super) fn new() -> Self {
        Self { renewed: Some(Instant::now()), ..Self::default() }
    }
}

impl Upload {
    /// Streams the body into the engine. Nothing is visible yet.
    pub(crate) async fn stream<S, E>(
        &mut self,
        first: Piece,
        intake: &mut Intake<'_, S>,
    ) -> Result<Large, StoreError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Display,
    {
        self.guard.arm();
        self.reserve(u64::from(first.len)).await?;
        self.inner.crash_at(CrashPoint::Reserved)?;
        let mut sender = Sender::new();
        if first.len > 0 {
            self.write_manifest(&mut sender).await?;
        }
        self.inner.crash_at(CrashPoint::ManifestWritten)?;
        let mut crcs = Vec::new();
        let mut piece = first;
        while piece.len == CHUNK_BYTES {
            let last = piece.last;
            crcs.push(piece.crc64);
            self.send_chunk(&mut sender, piece.frames, piece.len, piece.crc64).await?;
            drop(piece.permit);
            if last {
                piece = Piece { last: true, ..Piece::default() };
                break;
            }
            self.renew_if_due(&mut sender, intake.total).await?;
            piece = self.gather(&mut sender, intake).await?;
        }
        let layout = match self.part {
            Some(_) => Layout::of_part(intake.total),
            None => Layout::of(intake.total),
        };
        let layout = layout.ok_or_else(errors::garbage)?;
        let (mut tail, mut tail_crc64) = (Vec::new(), 0);
        if piece.len > 0 {
            let (chunk, rest) = split_frames(piece.frames, piece.len - layout.tail);
            if !chunk.is_empty() {
                let crc64 = crc64_of(&chunk);
                crcs.push(crc64);
                self.send_chunk(&mut sender, chunk, layout.last, crc64).await?;
            }
            tail_crc64 = crc64_of(&rest);
            tail = rest;
        }
        self.settle(&mut sender, 0).await?;
        self.let_go(&mut sender);
        self.inner.crash_at(CrashPoint::ChunksWritten)?;
        let sums = self.sums(intake)?;
        Ok(Large { layout, crcs, tail, tail_crc64, sums })
    }

    /// Complete manifest, staged record, commit: one pipeline.
    pub(super) async fn commit_large(&mut self, large: &Large) -> Result<Done, StoreError> {
        let tag = self.target.tag;
        let generation = self.guard.entry.generation;
        let manifest = self.manifest(Some(large.crcs.clone())).encode();
        let manifest_len = u32::try_from(manifest.len()).unwrap_or(u32::MAX);
        let body = Body {
            layout: large.layout,
            etag: self.etag(large.sums),
            crc64: large.sums.crc64,
            tail_crc64: large.tail_crc64,
            first_crc64: large.crcs.first().copied().unwrap_or(0),
            manifest_len,
            expires_ms: self.request.expires_ms,
        };
        let (staged, manifest_key) = (key::staged(tag, generation), key::manifest(tag, generation));
        let manifest = [Bytes::from(manifest)];
        for attempt in 0.. {
            let (head, record) = self.record(&body, &large.tail);
            let payload = u64::from(manifest_len) + head.value_len() as u64;
            let crash = self.inner.crash_at(CrashPoint::RecordStaged);
            let staged_only = crash.is_err();
            let build = |upload: &Self, out: &mut Outgoing| {
                out.set(&manifest_key, &manifest, None);
                out.set(&staged, &record, Some(STAGED_SECONDS));
                if !staged_only {
                    upload.commit(&head).append(out);
                }
            };
            let replies = self.exchange(build, payload).await?;
            crash?;
            if let Some(Reply::Error(text)) = replies.iter().find(|reply| matches!(reply, Reply::Error(_))) {
                return Err(errors::reply("commit", text));
            }
            match committed(replies.into_iter().last().unwrap_or(Reply::Nil))? {
                Committed::Done(old) => {
                    self.account_manifest(manifest_key.len(), manifest_len);
                    let journal = key::journal(tag);
                    let member = self.guard.entry.member();
                    self.inner.ledger.member_removed(Family::Journal, journal.as_bytes(), member.len());
                    return Ok((head, old));
                }
                other => self.refused(other, attempt).await?,
            }
        }
        Err(errors::garbage())
    }

    pub(crate) fn account_manifest(&self, key_len: usize, len: u32) {
        let before = self.guard.state.manifest.swap(len, Ordering::AcqRel);
        self.inner.ledger.string_removed(Family::Manifest, key_len, before as usize);
        self.inner.ledger.string_added(Family::Manifest, key_len, len as usize);
    }

    pub(crate) fn manifest(&self, crcs: Option<Vec<u64>>) -> Manifest {
        Manifest {
            generation: self.guard.entry.generation,
            bucket: self.target.bucket.as_str().into(),
            name: self.target.name.as_str().into(),
            upload: self.part.map(|part| part.upload),
            declared_len: self.request.declared_len,
            crcs,
            pack: None,
        }
    }

    /// Enters or renews the journal entry; `arrived` bytes of a body of unknown length are there already.
    pub(super) async fn reserve(&mut self, arrived: u64) -> Result<(), StoreError> {
        let step = u64::from(RENEW_CHUNKS) * u64::from(CHUNK_BYTES);
        let wanted = self.request.declared_len.unwrap_or(arrived + step).to_string();
        let ttl = self.inner.options.timing.journal_ttl.as_millis().to_string();
        let tag = self.target.tag;
        let (journal, sums, record) = (key::journal(tag), key::sums(tag), self.target.record());
        let replaces = self.part.map(|part| part.replaces.to_string()).unwrap_or_default();
        let so_far = self.guard.state.manifest.load(Ordering::Acquire) > 0;
        for attempt in 0.. {
            let entry = &self.guard.entry;
            let member = if so_far { entry.member() } else { String::new() };
            let (before, behind) = entry.around();
            let epoch = self.bucket.epoch.to_string();
            let reserved = entry.reserved.to_string();
            let quota: &[u8] = if self.bucket.quota_bytes.is_some() { b"1" } else { b"0" };
            let args: [&[u8]; 10] = [
                member.as_bytes(),
                before.as_bytes(),
                behind.as_bytes(),
                ttl.as_bytes(),
                self.target.bucket.as_str().as_bytes(),
                epoch.as_bytes(),
                wanted.as_bytes(),
                quota,
                reserved.as_bytes(),
                replaces.as_bytes(),
            ];
            let keys = [journal.as_str(), sums.as_str(), record.as_str()];
            let answer: Vec<String> = self.inner.meta.script(&scripts::RESERVE, &keys, &args).await?;
            let number = answer.get(1).and_then(|text| text.parse().ok());
            match (answer.first().map(String::as_str), number) {
                (Some("OK"), Some(reserved)) => {
                    if !so_far {
                        let len = member_len(&self.guard.entry.around(), reserved);
                        self.inner.ledger.member_added(Family::Journal, journal.as_bytes(), len);
                    }
                    self.guard.entry.reserved = reserved;
                    return Ok(());
                }
                (Some("QUOTA"), Some(needed)) => self.refused(Committed::Quota(needed), attempt).await?,
                (Some("SEALED"), _) => self.refused(Committed::Sealed, attempt).await?,
                (Some("SWEPT"), _) => return Err(swept()),
                _ => return Err(errors::garbage()),
            }
        }
        Err(errors::garbage())
    }

    pub(super) async fn renew_if_due(&mut self, sender: &mut Sender, total: u64) -> Result<(), StoreError> {
        if self.guard.state.swept.load(Ordering::Acquire) {
            return Err(swept());
        }
        let third = self.inner.options.timing.journal_ttl / 3;
        let late = sender.renewed.is_none_or(|at| at.elapsed() > third);
        if late || sender.sent.is_multiple_of(RENEW_CHUNKS) {
            self.reserve(total).await?;
            sender.renewed = Some(Instant::now());
        }
        Ok(())
    }

    pub(super) async fn write_manifest(&mut self, sender: &mut Sender) -> Result<(), StoreError> {
        let manifest = self.manifest(None).encode();
        let key = key::manifest(self.target.tag, self.guard.entry.generation);
        let len = manifest.len();
        let mut out = Outgoing::default();
        out.set(&key, &[Bytes::from(manifest)], None);
        let lane = self.lane(sender).await?;
        lane.send(&mut out).await?;
        if let Reply::Error(text) = lane.reply().await? {
            return Err(errors::reply("write the manifest", &text));
        }
        self.guard.state.manifest.store(u32::try_from(len).unwrap_or(u32::MAX), Ordering::Release);
        self.inner.ledger.string_added(Family::Manifest, key.len(), len);
        Ok(())
    }

    /// The next piece. While the client is slow the lane is given back and the journal entry renewed.
    async fn gather<S, E>(
        &mut self,
        sender: &mut Sender,
        intake: &mut Intake<'_, S>,
    ) -> Result<Piece, StoreError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Display,
    {
        while !intake.complete() {
            let pulled = match intake.pull(sender.lane.is_some().then_some(LINGER)).await? {
                Pulled::Waiting => {
                    self.settle(sender, 0).await?;
                    self.let_go(sender);
                    self.renew_if_due(sender, intake.total).await?;
                    intake.pull(None).await?
                }
                pulled => pulled,
            };
            if let Pulled::End = pulled {
                break;
            }
        }
        Ok(intake.cut())
    }

    pub(super) async fn send_chunk(
        &mut self,
        sender: &mut Sender,
        frames: Vec<Bytes>,
        len: u32,
        crc64: u64,
    ) -> Result<(), StoreError> {
        if self.inner.write_lanes.contended() && sender.in_a_row >= CHUNKS_IN_A_ROW {
            self.settle(sender, 0).await?;
            self.let_go(sender);
        }
        self.settle(sender, IN_FLIGHT_MAX - 1).await?;
        let key = key::chunk(self.target.tag, self.guard.entry.generation, sender.sent);
        let mut out = Outgoing::default();
        out.set(&key, &frames, None);
        let sending = Sending::new(&self.inner.ledger, u64::from(len));
        self.lane(sender).await?.send(&mut out).await?;
        sender.unacknowledged.push_back(Sent { len, crc64, _sending: sending });
        sender.sent += 1;
        sender.in_a_row += 1;
        Ok(())
    }

    /// Reads replies until at most `left` are outstanding.
    pub(super) async fn settle(&mut self, sender: &mut Sender, left: u32) -> Result<(), StoreError> {
        while sender.unacknowledged.len() > left as usize {
            let Some(lane) = &mut sender.lane else { break };
            if let Reply::Error(text) = lane.reply().await? {
                return Err(errors::reply("store a chunk", &text));
            }
            let Some(sent) = sender.unacknowledged.pop_front() else { break };
            let index = self.guard.state.chunks.fetch_add(1, Ordering::AcqRel);
            if let (CHUNK_BYTES, Some(progress)) = (sent.len, &self.request.progress) {
                progress.acknowledge(self.guard.entry.generation, sent.crc64);
            }
            let key = key::chunk(self.target.tag, self.guard.entry.generation, index);
            self.inner.ledger.string_added(Family::Chunk, key.len(), sent.len as usize);
            self.admission.stored(&self.inner.memory, u64::from(sent.len));
        }
        Ok(())
    }

    pub(super) fn let_go(&self, sender: &mut Sender) {
        self.guard.state.client_id.store(0, Ordering::Release);
        sender.lane = None;
        sender.in_a_row = 0;
    }

    /// The upload's lane. All lanes of one upload reach the same run of the engine.
    async fn lane<'s>(&self, sender: &'s mut Sender) -> Result<&'s mut LaneLease, StoreError> {
        let lane = match sender.lane.take() {
            Some(lane) => lane,
            None => {
                // The client already sends: waiting is backpressure, and giving up would waste what it sent.
                let patience = Duration::from_secs(self.inner.options.limits.body_idle_seconds);
                self.inner.write_lanes.take_within(patience).await?
            }
        };
        let run_id = sender.run_id.get_or_insert_with(|| Arc::clone(lane.run_id()));
        if run_id != lane.run_id() {
            let message = "the engine was restarted during the upload: retry";
            return Err(StoreError::new(ErrorKind::EngineDown, message));
        }
        self.guard.state.client_id.store(lane.client_id(), Ordering::Release);
        Ok(sender.lane.insert(lane))
    }
}

fn member_len((before, behind): &(String, String), reserved: u64) -> usize {
    before.len() + behind.len() + reserved.to_string().len()
}
