//! Uploads in flight in this process: the journal entry of each, and what has to be undone when one is dropped.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
};

use blobstore_sidecar_core::{
    generation::Generation,
    key::{self, BucketName, ObjectName},
    ledger::Family,
    partition::PartitionTag,
};
use redis::cmd;
use tokio::sync::Notify;

use crate::{
    StoreError,
    context::Inner,
    doomed::{FREE_BATCH, unlink},
    metrics::{SWEPT, UPLOADS_ENDED, UPLOADS_STARTED},
    scripts,
};

/// Chunks that are not there in a row before the sweeper believes that no more follow: twice what one upload has in
/// flight.
const MISSES_MAX: u32 = 8;
/// Most chunks of one upload: 5 GiB and some.
const CHUNKS_MAX: u32 = 1 << 16;

/// What a journal entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A body that becomes an object.
    Object,
    /// A body that becomes a part of a multipart upload.
    Part,
    /// An open multipart upload.
    Multipart,
}

impl EntryKind {
    fn letter(self) -> &'static str {
        match self {
            Self::Object => "",
            Self::Part => "p",
            Self::Multipart => "m",
        }
    }
}

/// An entry of `j:{t}`: `generation:declared:reserved:bucket/name`, the kind's letter before the declared length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JournalEntry {
    pub(crate) kind: EntryKind,
    pub(crate) generation: Generation,
    pub(crate) declared: Option<u64>,
    pub(crate) reserved: u64,
    pub(crate) bucket: String,
    pub(crate) name: String,
}

impl JournalEntry {
    /// What stands before and behind the reserved bytes.
    pub(crate) fn around(&self) -> (String, String) {
        let declared = self.declared.map(|len| len.to_string()).unwrap_or_else(|| "-".into());
        let front = format!("{}:{}{declared}:", self.generation, self.kind.letter());
        (front, format!(":{}/{}", self.bucket, self.name))
    }

    pub(crate) fn member(&self) -> String {
        let (before, behind) = self.around();
        format!("{before}{}{behind}", self.reserved)
    }

    pub(crate) fn parse(member: &str) -> Option<Self> {
        let mut fields = member.splitn(4, ':');
        let generation = Generation::parse(fields.next()?)?;
        let declared = fields.next()?;
        let (kind, declared) = match declared.split_at_checked(1)? {
            ("p", declared) => (EntryKind::Part, declared),
            ("m", declared) => (EntryKind::Multipart, declared),
            _ => (EntryKind::Object, declared),
        };
        let declared = declared.parse().ok();
        let reserved = fields.next()?.parse().ok()?;
        let (bucket, name) = fields.next()?.split_once('/')?;
        Some(Self { kind, generation, declared, reserved, bucket: bucket.into(), name: name.into() })
    }
}

/// What the sweeper and the upload itself share.
#[derive(Debug, Default)]
pub(crate) struct UploadState {
    pub(crate) swept: AtomicBool,
    /// The lane in use; 0: none. A lane that is stopped with CLIENT KILL executes nothing more.
    pub(crate) client_id: AtomicI64,
    /// Chunks whose SET was acknowledged.
    pub(crate) chunks: AtomicU32,
    /// Length of the manifest as it stands; 0: not written.
    pub(crate) manifest: AtomicU32,
}

/// An upload that ended without a commit.
#[derive(Clone, Debug)]
pub(crate) struct Abandoned {
    pub(crate) tag: PartitionTag,
    pub(crate) entry: JournalEntry,
    pub(crate) state: Arc<UploadState>,
}

#[derive(Clone, Debug)]
pub(crate) struct Uploads {
    active: Arc<Mutex<HashMap<Generation, Arc<UploadState>>>>,
    abandoned: Arc<Mutex<Vec<Abandoned>>>,
    wake: Arc<Notify>,
}

/// Ends an upload when dropped: what was not committed is undone by the sweeper's task.
#[derive(Debug)]
pub(crate) struct UploadGuard {
    uploads: Uploads,
    pub(crate) tag: PartitionTag,
    pub(crate) entry: JournalEntry,
    pub(crate) state: Arc<UploadState>,
    /// Something in the engine belongs to this upload.
    armed: bool,
    result: &'static str,
}

impl Uploads {
    pub(crate) fn new(wake: Arc<Notify>) -> Self {
        Self { active: Arc::default(), abandoned: Arc::default(), wake }
    }

    pub(crate) fn begin(&self, tag: PartitionTag, entry: JournalEntry) -> UploadGuard {
        UPLOADS_STARTED.inc();
        let state = Arc::new(UploadState::default());
        lock(&self.active).insert(entry.generation, Arc::clone(&state));
        UploadGuard { uploads: self.clone(), tag, entry, state, armed: false, result: "refused" }
    }

    /// As `begin`, unless the same generation is under way already.
    pub(crate) fn begin_alone(&self, tag: PartitionTag, entry: JournalEntry) -> Option<UploadGuard> {
        let state = Arc::new(UploadState::default());
        match lock(&self.active).entry(entry.generation) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(vacant) => vacant.insert(Arc::clone(&state)),
        };
        UPLOADS_STARTED.inc();
        Some(UploadGuard { uploads: self.clone(), tag, entry, state, armed: false, result: "refused" })
    }

    pub(crate) fn get(&self, generation: Generation) -> Option<Arc<UploadState>> {
        lock(&self.active).get(&generation).cloned()
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.active).len()
    }

    pub(crate) fn take_abandoned(&self) -> Vec<Abandoned> {
        std::mem::take(&mut *lock(&self.abandoned))
    }

    /// The engine did not answer: later again.
    pub(crate) fn put_back(&self, abandoned: Abandoned) {
        lock(&self.abandoned).push(abandoned);
    }
}

impl UploadGuard {
    /// From now on there is something to undo.
    pub(crate) fn arm(&mut self) {
        self.armed = true;
        self.result = "aborted";
    }

    /// The commit is done, or everything was undone.
    pub(crate) fn finish(&mut self, result: &'static str) {
        self.armed = false;
        self.result = result;
    }

    pub(crate) fn abandoned(&self) -> Abandoned {
        Abandoned { tag: self.tag, entry: self.entry.clone(), state: Arc::clone(&self.state) }
    }

    /// Something in the engine belongs to this upload.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed
    }
}

impl Drop for UploadGuard {
    fn drop(&mut self) {
        UPLOADS_ENDED.with_label_values(&[self.result]).inc();
        lock(&self.uploads.active).remove(&self.entry.generation);
        if self.armed {
            lock(&self.uploads.abandoned).push(self.abandoned());
            self.uploads.wake.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    /// Undoes an upload: its lane is stopped, then its chunks, manifest and staged record go, its journal entry last.
    pub(crate) async fn undo(&self, abandoned: &Abandoned) -> Result<(), StoreError> {
        let Abandoned { tag, entry, state } = abandoned;
        state.swept.store(true, Ordering::Release);
        let client = state.client_id.swap(0, Ordering::AcqRel);
        if client != 0 {
            let kill = cmd("CLIENT").arg("KILL").arg("ID").arg(client).to_owned();
            let _killed: u64 = self.meta.query("stop a lane", &kill).await?;
        }
        // The lane is silent now. A part's commit takes its journal entry away; an object's record names it.
        if entry.kind == EntryKind::Part {
            let look = cmd("ZSCORE").arg(key::journal(*tag)).arg(entry.member()).to_owned();
            let journalled: Option<f64> = self.meta.query("look before undoing", &look).await?;
            return match journalled {
                Some(_) => self.sweep_generation(*tag, entry, Some(state)).await,
                None => Ok(()),
            };
        }
        let (bucket, name) = (BucketName::parse(&*entry.bucket), ObjectName::parse(&*entry.name));
        if let (Ok(bucket), Ok(name)) = (bucket, name)
            && self.is_named(&self.target(&bucket, &name), entry.generation).await?
        {
            return Ok(());
        }
        self.sweep_generation(*tag, entry, Some(state)).await
    }

    /// Removes everything of a generation that no record names, in the order that survives a crash.
    pub(crate) async fn sweep_generation(
        &self,
        tag: PartitionTag,
        entry: &JournalEntry,
        state: Option<&UploadState>,
    ) -> Result<(), StoreError> {
        let known = state.map_or(0, |state| state.chunks.load(Ordering::Acquire));
        let generation = entry.generation;
        let mut index = 0;
        while index < CHUNKS_MAX {
            let probing = index >= known;
            let batch = if probing { MISSES_MAX } else { FREE_BATCH.min(known - index) };
            let keys: Vec<String> =
                (index..index + batch).map(|index| key::chunk(tag, generation, index)).collect();
            let lens = self.unlink_measured(&keys).await?;
            self.ledger_swept(&keys, index, &lens, known, state);
            index += batch;
            if probing && lens.is_empty() {
                break;
            }
        }
        let manifest = key::manifest(tag, generation);
        let staged = key::staged(tag, generation);
        let both = [manifest, staged];
        let removed: u64 = self.meta.query("sweep a manifest", &unlink(&both)).await?;
        let len = state.map_or(0, |state| state.manifest.load(Ordering::Acquire));
        if removed > 0 && (len > 0 || state.is_none()) {
            self.ledger.string_removed(Family::Manifest, both[0].len(), len as usize);
        }
        self.release(tag, entry).await?;
        SWEPT.inc();
        Ok(())
    }

    /// Takes the journal entry out and gives the reserved quota back.
    pub(crate) async fn release(&self, tag: PartitionTag, entry: &JournalEntry) -> Result<(), StoreError> {
        let (journal, sums, member) = (key::journal(tag), key::sums(tag), entry.member());
        let reserved = entry.reserved.to_string();
        let args = [member.as_bytes(), entry.bucket.as_bytes(), reserved.as_bytes()];
        let gone: u64 = self.meta.script(&scripts::RELEASE, &[&journal, &sums], &args).await?;
        if gone > 0 {
            self.ledger.member_removed(Family::Journal, journal.as_bytes(), member.len());
        }
        Ok(())
    }

    /// The ledger was told of the chunks that were acknowledged; after a restart it was told by the audit.
    fn ledger_swept(
        &self,
        keys: &[String],
        from: u32,
        lens: &[u32],
        known: u32,
        state: Option<&UploadState>,
    ) {
        let told = if state.is_some() { known.saturating_sub(from) as usize } else { keys.len() };
        for (key, len) in keys.iter().zip(lens).take(told).filter(|(_, len)| **len > 0) {
            self.ledger.string_removed(Family::Chunk, key.len(), *len as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip() {
        let entry = JournalEntry {
            kind: EntryKind::Object,
            generation: Generation([9; 16]),
            declared: Some(5),
            reserved: 7,
            bucket: "b".into(),
            name: "a:b/c".into(),
        };
        assert_eq!(JournalEntry::parse(&entry.member()), Some(entry.clone()));
        for kind in [EntryKind::Object, EntryKind::Part, EntryKind::Multipart] {
            let known = JournalEntry { kind, ..entry.clone() };
            assert_eq!(JournalEntry::parse(&known.member()), Some(known.clone()));
            let unknown = JournalEntry { declared: None, ..known };
            assert_eq!(JournalEntry::parse(&unknown.member()), Some(unknown));
        }
        assert_eq!(JournalEntry::parse("nonsense"), None);
    }
}
