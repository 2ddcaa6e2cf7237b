//! Replaced and deleted generations: what is known of them, and how their memory comes back in small steps.

use blobstore_sidecar_core::{
    chunk::{CHUNK_BYTES, Layout},
    generation::Generation,
    key,
    ledger::Family,
    pack,
    partition::PartitionTag,
    record::Head,
};
use redis::{Cmd, cmd};

use crate::{
    CrashPoint, StoreError,
    context::Inner,
    engine::{Outgoing, Reply, errors},
    metrics::{DOOMED, FREED},
};

/// Keys per UNLINK: 16 MiB, a third of a millisecond of the engine's time (1 GB at once blocks it for 22).
pub(crate) const FREE_BATCH: u32 = 64;

/// A generation that no record names any more; also an entry of `d:{t}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doomed {
    pub(crate) tag: PartitionTag,
    pub(crate) generation: Generation,
    pub(crate) chunks: u32,
    pub(crate) last: u32,
    /// Length of the manifest's value, or of the part list's; with the mark of a packed body.
    pub(crate) manifest: u32,
    /// Of a body in parts, its bytes: the part list knows its chunks. 0: one run of chunks.
    pub(crate) parts_bytes: u64,
}

impl Doomed {
    /// What a replaced record leaves behind; `None`: it had no chunks.
    pub(crate) fn of(tag: PartitionTag, head: &Head) -> Option<Self> {
        let Head { generation, layout, manifest_len, .. } = head;
        (layout.chunks > 0).then_some(Self {
            tag,
            generation: *generation,
            chunks: layout.chunks,
            last: layout.last,
            manifest: *manifest_len,
            parts_bytes: layout.parts_bytes,
        })
    }

    /// As the scripts write it.
    pub(crate) fn entry(&self) -> String {
        let Self { tag: _, generation, chunks, last, manifest, parts_bytes } = self;
        match parts_bytes {
            0 => format!("{generation}:{chunks}:{last}:{manifest}"),
            bytes => format!("{generation}:{chunks}:{last}:{manifest}:{bytes}"),
        }
    }

    pub(crate) fn parse(tag: PartitionTag, entry: &str) -> Option<Self> {
        let mut fields = entry.split(':');
        let generation = Generation::parse(fields.next()?)?;
        let mut number = || fields.next()?.parse().ok();
        let (chunks, last, manifest) = (number()?, number()?, number()?);
        let parts_bytes = fields.next().map_or(Some(0), |bytes| bytes.parse().ok())?;
        Some(Self { tag, generation, chunks, last, manifest, parts_bytes })
    }

    /// Its chunks lie in this generation, each of its own length, and the manifest has everything.
    fn is_packed(&self) -> bool {
        pack::is_packed(self.manifest)
    }

    /// The manifest's key, or the part list's.
    fn manifest_key(&self) -> String {
        match self.parts_bytes > 0 && !self.is_packed() {
            true => key::part_list(self.tag, self.generation),
            false => key::manifest(self.tag, self.generation),
        }
    }

    /// Payload bytes; of a packed body before it was packed, which is an upper bound.
    pub(crate) fn bytes(&self) -> u64 {
        if self.parts_bytes > 0 {
            return self.parts_bytes;
        }
        u64::from(self.chunks.saturating_sub(1)) * u64::from(CHUNK_BYTES) + u64::from(self.last)
    }

    fn chunk_len(&self, index: u32) -> u32 {
        if index + 1 == self.chunks { self.last } else { CHUNK_BYTES }
    }
}

impl Inner {
    /// Tells the ledger what a commit or a deletion has put on the list, and whether it can be freed now.
    pub(crate) fn retire(&self, doomed: Doomed) -> Option<Doomed> {
        DOOMED.inc();
        self.ledger.pending_free(i64::try_from(doomed.bytes()).unwrap_or(i64::MAX));
        let list = key::pending_free(doomed.tag);
        self.ledger.member_added(Family::PendingFree, list.as_bytes(), doomed.entry().len());
        self.cache.forget_chunks(doomed.generation, doomed.chunks);
        self.readers.doom(doomed)
    }

    /// A body of one chunk that went together with its record: told to who counts.
    pub(crate) fn freed_at_once(&self, tag: PartitionTag, head: Option<&Head>) {
        let Some(doomed) = head.and_then(|head| Doomed::of(tag, head)) else { return };
        DOOMED.inc();
        FREED.inc();
        self.cache.forget_chunks(doomed.generation, doomed.chunks);
        let chunk = key::chunk(tag, doomed.generation, 0);
        self.ledger.string_removed(Family::Chunk, chunk.len(), doomed.last as usize);
        self.ledger.string_removed(Family::Manifest, doomed.manifest_key().len(), doomed.manifest as usize);
    }

    /// Frees a generation, in batches; then strikes it off the list. Safe to repeat.
    pub(crate) async fn free(&self, doomed: &Doomed) -> Result<(), StoreError> {
        if doomed.parts_bytes > 0 && !doomed.is_packed() {
            self.free_parts(doomed).await?;
        } else if doomed.is_packed() || doomed.chunks >= FREE_BATCH {
            self.free_chunks(doomed).await?;
        } else {
            return self.free_at_once(doomed).await;
        }
        self.strike(doomed).await
    }

    /// A generation whose chunks and manifest fit into one batch goes in one trip.
    async fn free_at_once(&self, doomed: &Doomed) -> Result<(), StoreError> {
        let Doomed { tag, generation, chunks, .. } = *doomed;
        let mut keys: Vec<String> = (0..chunks).map(|index| key::chunk(tag, generation, index)).collect();
        keys.push(key::manifest(tag, generation));
        if let Err(crash) = self.crash_at(CrashPoint::HalfFreed) {
            // A pipeline is no transaction: the engine has carried out the first command when the process ends.
            let _removed: u64 = self.meta.query("free a generation", &unlink(&keys)).await?;
            return Err(crash);
        }
        let (list, entry) = (key::pending_free(tag), doomed.entry());
        let mut out = Outgoing::default();
        let words = std::iter::once("UNLINK").chain(keys.iter().map(String::as_str));
        out.command(&words.map(str::as_bytes).collect::<Vec<_>>());
        out.command(&[b"ZREM", list.as_bytes(), entry.as_bytes()]);
        // A lane of its own: nobody else has to be woken for it, as behind a shared connection.
        let mut lane = self.write_lanes.take().await?;
        lane.send(&mut out).await?;
        let (removed, listed) = (count(lane.reply().await?)?, count(lane.reply().await?)?);
        drop(lane);
        // One command, so they are gone together; the manifest alone is what a batch of chunks before it left.
        if removed > 1 {
            for (index, key) in (0..chunks).zip(&keys) {
                self.ledger.string_removed(Family::Chunk, key.len(), doomed.chunk_len(index) as usize);
            }
        }
        self.freed(doomed, removed > 0, listed > 0);
        Ok(())
    }

    /// The parts of a body, each a generation of its own.
    async fn free_parts(&self, doomed: &Doomed) -> Result<(), StoreError> {
        let Doomed { tag, generation, .. } = *doomed;
        let Some(list) = self.part_list(tag, generation).await? else { return Ok(()) };
        for span in list.spans() {
            let Some(layout) = Layout::of_part(span.size).filter(|layout| layout.chunks > 0) else {
                continue;
            };
            let key = key::manifest(tag, span.generation);
            let len: u32 = self.meta.query("read a manifest's length", cmd("STRLEN").arg(&key)).await?;
            let (generation, chunks, last) = (span.generation, layout.chunks, layout.last);
            let part = Doomed { tag, generation, chunks, last, manifest: len, parts_bytes: 0 };
            self.cache.forget_chunks(generation, chunks);
            self.free_chunks(&part).await?;
            let gone: u64 = self.meta.query("free a manifest", &unlink(std::slice::from_ref(&key))).await?;
            if gone > 0 {
                self.ledger.string_removed(Family::Manifest, key.len(), len as usize);
            }
        }
        Ok(())
    }

    async fn free_chunks(&self, doomed: &Doomed) -> Result<(), StoreError> {
        let Doomed { tag, generation, chunks, .. } = *doomed;
        for from in (0..chunks).step_by(FREE_BATCH as usize) {
            let batch = from..chunks.min(from + FREE_BATCH);
            let keys: Vec<String> = batch.map(|index| key::chunk(tag, generation, index)).collect();
            // All of a batch goes in one command: it is there as a whole, or gone as a whole.
            let lens: Vec<u32> = if doomed.is_packed() {
                self.unlink_measured(&keys).await?
            } else {
                let removed: u64 = self.meta.query("free chunks", &unlink(&keys)).await?;
                if removed == 0 {
                    Vec::new()
                } else {
                    (from..).take(keys.len()).map(|at| doomed.chunk_len(at)).collect()
                }
            };
            for (key, len) in keys.iter().zip(lens) {
                self.ledger.string_removed(Family::Chunk, key.len(), len as usize);
            }
            self.crash_at(CrashPoint::HalfFreed)?;
        }
        Ok(())
    }

    /// Deletes keys whose lengths nobody remembers, and tells those of the ones that were there: all, or none if they
    /// are gone already.
    pub(crate) async fn unlink_measured(&self, keys: &[String]) -> Result<Vec<u32>, StoreError> {
        let mut batch = redis::pipe();
        for key in keys {
            batch.cmd("STRLEN").arg(key);
        }
        batch.add_command(unlink(keys));
        let mut answers: Vec<u32> = self.meta.pipe("free chunks", &batch).await?;
        let removed = answers.pop().unwrap_or(0);
        Ok(if removed == 0 { Vec::new() } else { answers })
    }

    /// Nothing of it is left but its manifest, or its part list, and its entry.
    async fn strike(&self, doomed: &Doomed) -> Result<(), StoreError> {
        let mut last = redis::pipe();
        last.add_command(unlink(&[doomed.manifest_key()]));
        last.add_command(cmd("ZREM").arg(key::pending_free(doomed.tag)).arg(doomed.entry()).to_owned());
        let (manifests, listed): (u64, u64) = self.meta.pipe("free a manifest", &last).await?;
        self.freed(doomed, manifests > 0, listed > 0);
        Ok(())
    }

    /// Its manifest, or part list, and its entry on the list are gone: told to who counts them, if they were there.
    fn freed(&self, doomed: &Doomed, manifest: bool, listed: bool) {
        self.readers.freed(doomed.generation);
        if manifest {
            let key = doomed.manifest_key();
            let len = pack::manifest_bytes(doomed.manifest) as usize;
            self.ledger.string_removed(Family::Manifest, key.len(), len);
        }
        if listed {
            let (list, entry) = (key::pending_free(doomed.tag), doomed.entry());
            self.ledger.member_removed(Family::PendingFree, list.as_bytes(), entry.len());
            self.ledger.pending_free(-i64::try_from(doomed.bytes()).unwrap_or(i64::MAX));
            FREED.inc();
        }
    }

    /// Frees now; what does not work out stays on the list for the sweeper.
    pub(crate) async fn free_or_leave(&self, doomed: Option<Doomed>) {
        if let Some(doomed) = doomed
            && let Err(error) = self.free(&doomed).await
        {
            tracing::debug!(%error, generation = %doomed.generation, "a generation is left to the sweeper");
        }
    }
}

fn count(reply: Reply) -> Result<u64, StoreError> {
    match reply {
        Reply::Int(count) => Ok(u64::try_from(count).unwrap_or(0)),
        Reply::Error(text) => Err(errors::reply("free a generation", &text)),
        _ => Err(errors::garbage()),
    }
}

pub(crate) fn unlink(keys: &[String]) -> Cmd {
    let mut unlink = cmd("UNLINK");
    for key in keys {
        unlink.arg(key);
    }
    unlink
}

#[cfg(test)]
mod tests {
    use blobstore_sidecar_core::partition::tag_of;

    use super::*;

    #[test]
    fn entries_are_what_the_scripts_write() {
        let tag = tag_of(3, 256);
        let generation = Generation([7; 16]);
        let doomed = Doomed { tag, generation, chunks: 3, last: 5, manifest: 60, parts_bytes: 0 };
        assert_eq!(doomed.entry(), "07070707070707070707070707070707:3:5:60");
        assert_eq!(Doomed::parse(tag, &doomed.entry()), Some(doomed.clone()));
        assert_eq!(doomed.bytes(), 2 * 262_080 + 5);
        assert_eq!(Doomed::parse(tag, "nonsense"), None);
        let parts = Doomed { parts_bytes: 99, ..doomed };
        assert_eq!(parts.entry(), "07070707070707070707070707070707:3:5:60:99");
        assert_eq!(Doomed::parse(tag, &parts.entry()), Some(parts.clone()));
        assert_eq!(parts.bytes(), 99);
        let packed = Doomed { manifest: 60 | pack::PACKED, ..parts };
        assert_eq!(packed.entry(), "07070707070707070707070707070707:3:5:2147483708:99");
        assert_eq!(Doomed::parse(tag, &packed.entry()), Some(packed.clone()));
        assert!(packed.is_packed());
    }
}
