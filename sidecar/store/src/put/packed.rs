//! A body that is there already, written once more in another form: the same steps as an upload, up to a commit that
//! goes through only if the record is still the one that was read. Whoever wrote meanwhile wins.

use std::sync::Arc;

use blobstore_sidecar_core::{
    generation::Generation,
    key,
    ledger::Family,
    manifest::crc64,
    pack::{PACKED, Pack},
    record::{HEAD_BYTES, Head},
};
use blobstore_sidecar_runtime::authority::Tenure;
use bytes::Bytes;

use super::{Upload, large::Sender};
use crate::{
    CrashPoint, ErrorKind, PutRequest, StoreError,
    commit::{Committed, STAGED_SECONDS, Want, committed, swept},
    context::{Inner, Target},
    doomed::Doomed,
    engine::{Outgoing, Reply, errors},
    record_entry::RecordEntry,
    scripts,
    update::SAME_BYTES,
    uploads::{EntryKind, JournalEntry},
};

/// A packed body on its way.
pub(crate) struct Rewrite {
    upload: Upload,
    sender: Sender,
    crcs: Vec<u64>,
    pack: Pack,
}

impl Inner {
    /// Journal entry and manifest: from now on the sweeper knows what to free.
    pub(crate) async fn rewrite(
        self: &Arc<Self>,
        target: &Target,
        tenure: &Tenure,
        entry: &RecordEntry,
    ) -> Result<Rewrite, StoreError> {
        let bucket = self.bucket(&target.bucket, false).await?;
        let size = entry.record.head.layout.size();
        let journal = JournalEntry {
            kind: EntryKind::Object,
            generation: self.new_generation(),
            declared: Some(size),
            reserved: 0,
            bucket: target.bucket.as_str().into(),
            name: target.name.as_str().into(),
        };
        let upload = Upload {
            inner: Arc::clone(self),
            request: Arc::new(PutRequest::new(target.bucket.clone(), target.name.clone(), Some(size))),
            target: target.clone(),
            tenure: tenure.clone(),
            bucket,
            headers: Vec::new(),
            checksum: None,
            want: Want::Generation(entry.record.head.generation),
            admission: self.admit(None).await?,
            guard: self.uploads.begin(target.tag, journal),
            part: None,
        };
        let spans =
            entry.parts.iter().flat_map(|list| list.spans()).map(|span| (span.number, span.size, span.sum));
        let pack = Pack { lens: Vec::new(), spans: spans.collect() };
        let mut rewrite = Rewrite { upload, sender: Sender::new(), crcs: Vec::new(), pack };
        match rewrite.begin().await {
            Ok(()) => Ok(rewrite),
            Err(error) => Err(rewrite.give_up(error).await),
        }
    }
}

impl Rewrite {
    async fn begin(&mut self) -> Result<(), StoreError> {
        self.upload.guard.arm();
        // The object's own bytes are its quota: nothing more is reserved.
        self.upload.reserve(0).await?;
        self.upload.write_manifest(&mut self.sender).await
    }

    /// The next chunk as the engine will hold it, and the checksum of its plain bytes.
    pub(crate) async fn chunk(&mut self, stored: Bytes, crc64: u64) -> Result<(), StoreError> {
        let Self { upload, sender, crcs, pack } = self;
        let len = u32::try_from(stored.len()).map_err(|_| errors::garbage())?;
        upload.send_chunk(sender, vec![stored], len, crc64).await?;
        upload.settle(sender, 0).await?;
        // Between two chunks others may need the lane.
        upload.let_go(sender);
        crcs.push(crc64);
        pack.lens.push(len);
        upload.renew_if_due(sender, 0).await
    }

    /// Makes this body the object's, unless the object is not what it was. `false`: somebody wrote meanwhile.
    pub(crate) async fn swap(mut self, entry: &RecordEntry) -> Result<bool, StoreError> {
        let inner = Arc::clone(&self.upload.inner);
        let change = inner.changing.begin(&self.upload.target.cache_key);
        let swapped = self.commit(entry).await;
        match swapped {
            Ok((new, Committed::Done(_))) => {
                self.finish(entry, &new).await?;
                change.acknowledged();
                Ok(true)
            }
            Ok((_, other)) => {
                change.acknowledged();
                let changed = matches!(other, Committed::Changed);
                let error = self.give_up(swept()).await;
                if changed { Ok(false) } else { Err(error) }
            }
            Err(error) => {
                if !matches!(error.kind, ErrorKind::EngineDown | ErrorKind::Protocol | ErrorKind::Withheld) {
                    change.acknowledged();
                }
                Err(self.give_up(error).await)
            }
        }
    }

    async fn commit(&mut self, entry: &RecordEntry) -> Result<(Head, Committed), StoreError> {
        let Self { upload, crcs, pack, .. } = self;
        let (tag, generation) = (upload.target.tag, upload.guard.entry.generation);
        let mut manifest = upload.manifest(Some(std::mem::take(crcs)));
        manifest.pack = Some(std::mem::take(pack));
        let manifest = [Bytes::from(manifest.encode())];
        let manifest_len = u32::try_from(manifest.iter().map(Bytes::len).sum::<usize>()).unwrap_or(u32::MAX);
        let new = packed_head(&entry.record.head, generation, manifest_len);
        let old_value = &entry.value.bytes;
        let rest = old_value.get(HEAD_BYTES..).map(|_| old_value.slice(HEAD_BYTES..)).unwrap_or_default();
        let record = [Bytes::copy_from_slice(&new.encode()), rest];
        let (staged, manifest_key) = (key::staged(tag, generation), key::manifest(tag, generation));
        let (record_key, journal) = (upload.target.record(), key::journal(tag));
        let (freed, member) = (key::pending_free(tag), upload.guard.entry.member());
        let same = entry.record.head.encode();
        let crash = upload.inner.crash_at(CrashPoint::PackStaged);
        let stops = crash.is_err();
        let build = |_: &Upload, out: &mut Outgoing| {
            out.set(&manifest_key, &manifest, None);
            out.set(&staged, &record, Some(STAGED_SECONDS));
            if !stops {
                let keys = [&staged, &record_key, &journal, &freed].map(String::as_bytes);
                let args = [same.get(..SAME_BYTES).unwrap_or_default(), member.as_bytes()];
                out.script(&scripts::SWAP, &keys, &args, &[]);
            }
        };
        let replies = upload.exchange(build, u64::from(manifest_len) + new.value_len() as u64).await?;
        crash?;
        if let Some(Reply::Error(text)) = replies.iter().find(|reply| matches!(reply, Reply::Error(_))) {
            return Err(errors::reply("swap a packed body in", text));
        }
        let answer = committed(replies.into_iter().last().unwrap_or(Reply::Nil))?;
        if matches!(answer, Committed::Done(_)) {
            upload.account_manifest(manifest_key.len(), manifest_len);
            upload.inner.ledger.member_removed(Family::Journal, journal.as_bytes(), member.len());
        }
        Ok((new, answer))
    }

    /// After the swap: caches and ledger learn of it, replicas acknowledge, the plain body is freed.
    async fn finish(mut self, entry: &RecordEntry, new: &Head) -> Result<(), StoreError> {
        let upload = &mut self.upload;
        let inner = Arc::clone(&upload.inner);
        let old = &entry.record.head;
        upload.guard.finish("packed");
        inner.cache.invalidate_record(&upload.target.cache_key);
        let key_len = upload.target.record().len();
        inner.ledger.string_removed(Family::Record, key_len, old.value_len());
        inner.ledger.string_added(Family::Record, key_len, new.value_len());
        inner.crash_at(CrashPoint::PackSwapped)?;
        let free = Doomed::of(upload.target.tag, old).and_then(|doomed| inner.retire(doomed));
        let acknowledged = inner.authority.acknowledged(&upload.tenure);
        let (acknowledged, ()) = tokio::join!(acknowledged, inner.free_or_leave(free));
        Ok(acknowledged?)
    }

    /// Undoes what was written.
    pub(crate) async fn give_up(mut self, error: StoreError) -> StoreError {
        let settled = self.upload.settle(&mut self.sender, 0).await;
        self.upload.let_go(&mut self.sender);
        drop(settled);
        self.upload.give_up(error).await
    }
}

/// The same object with its body in another generation: everything that a client can see stays.
fn packed_head(old: &Head, generation: Generation, manifest_len: u32) -> Head {
    Head { generation, manifest_len: manifest_len | PACKED, ..old.clone() }
}

/// What the engine will hold of a chunk, verified: unpacked again it is what was read.
pub(crate) fn verified(plain: &[u8], packed: Vec<u8>, crc: u64) -> Option<Vec<u8>> {
    let mut again = vec![0; plain.len()];
    (crate::pack::unpack(&packed, &mut again) && crc64(&again) == crc).then_some(packed)
}
