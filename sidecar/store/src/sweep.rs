//! The store's one background task: undoes dropped uploads, frees what readers have left, sweeps dead journal
//! entries, evicts, and closes what has been idle. It ends with the store.

use std::{
    sync::{Arc, PoisonError, Weak},
    time::{Duration, Instant},
};

use blobstore_sidecar_core::{key, partition::PartitionTag};
use redis::{cmd, pipe};

use crate::{
    StoreError,
    context::Inner,
    doomed::Doomed,
    memory::EVICT_FROM_PERCENT,
    scripts,
    uploads::{EntryKind, JournalEntry},
};

/// Journal entries and doomed generations taken from one partition per pass.
const PER_PARTITION: isize = 64;
/// Partitions asked in one pipeline.
const PARTITIONS_AT_A_TIME: usize = 64;
/// Longest pause between looks at readers and dropped uploads.
const TICK: Duration = Duration::from_secs(1);
/// Above this share of the engine's limit readers that delay a free are cut at once.
const PRESSURE_PERCENT: u64 = 95;

/// Runs until the store is gone.
pub(crate) async fn run(store: Weak<Inner>) {
    let (mut swept, mut lifecycle, mut tidied): (Option<Instant>, Option<Instant>, _) = (None, None, None);
    loop {
        let Some(inner) = store.upgrade() else { return };
        let (wake, every) = (Arc::clone(&inner.wake), inner.options.timing.sweep_every);
        inner.quick().await;
        if tidied.is_none_or(|at: Instant| at.elapsed() >= TICK) {
            inner.tidy();
            tidied = Some(Instant::now());
        }
        if swept.is_none_or(|at| at.elapsed() >= every) && !inner.crashes() {
            if let Err(error) = inner.pass().await {
                tracing::debug!(%error, category = error.category(), "the sweeper tries again later");
            }
            swept = Some(Instant::now());
        }
        if lifecycle.is_none_or(|at| at.elapsed() >= inner.options.timing.lifecycle_every) && !inner.crashes()
        {
            if let Err(error) = inner.apply_lifecycle().await {
                tracing::debug!(%error, category = error.category(), "lifecycle rules are applied later");
            }
            lifecycle = Some(Instant::now());
        }
        drop(inner);
        // The timeout is the ordinary case: nothing had to be done at once.
        let _woken = tokio::time::timeout(TICK.min(every), wake.notified()).await;
    }
}

impl Inner {
    /// What cannot wait: dropped uploads, generations whose readers left, slow readers, eviction.
    async fn quick(&self) {
        if self.crashes() {
            return;
        }
        for abandoned in self.uploads.take_abandoned() {
            if let Err(error) = self.undo(&abandoned).await {
                tracing::debug!(%error, generation = %abandoned.entry.generation, "an upload is undone later");
                self.uploads.put_back(abandoned);
                break;
            }
        }
        if let Err(error) = self.save_marks().await {
            tracing::debug!(%error, "marks of damage are written later");
        }
        let figures = self.memory.last();
        let grace = self.options.timing.reader_grace;
        self.readers.cut_slow(if figures.above(PRESSURE_PERCENT) { Duration::ZERO } else { grace });
        for doomed in self.readers.take_ready() {
            self.free_or_leave(Some(doomed)).await;
        }
        if self.options.evict
            && figures.above(EVICT_FROM_PERCENT)
            && let Err(error) = self.evict(0).await
        {
            tracing::debug!(%error, "eviction stopped early");
        }
    }

    /// What a burst has left idle in this process goes back: connections and buffers.
    fn tidy(&self) {
        self.write_lanes.prune();
        self.read_lanes.prune();
        self.pool.shrink();
    }

    /// A pass over everything that may have been left behind.
    pub(crate) async fn pass(&self) -> Result<(), StoreError> {
        if self.options.evict && self.options.crash.is_none() {
            self.figures(false).await?;
        }
        let tags: Vec<PartitionTag> = self.served().collect();
        if tags.is_empty() {
            return Ok(());
        }
        let now = self.engine_now().await?;
        for tags in tags.chunks(PARTITIONS_AT_A_TIME) {
            let mut look = pipe();
            for tag in tags {
                look.cmd("ZRANGEBYSCORE").arg(key::journal(*tag)).arg("-inf").arg(now);
                look.arg("LIMIT").arg(0).arg(PER_PARTITION);
                look.cmd("ZRANGE").arg(key::pending_free(*tag)).arg(0).arg(PER_PARTITION - 1);
                look.cmd("ZRANGEBYSCORE")
                    .arg(key::expiry(*tag))
                    .arg("-inf")
                    .arg(now)
                    .arg("LIMIT")
                    .arg(0)
                    .arg(1);
            }
            let found: Vec<Vec<String>> = self.meta.pipe("look for what was left", &look).await?;
            for (tag, found) in tags.iter().zip(found.chunks(3)) {
                let [late, doomed, ending] = found else { continue };
                self.sweep_late(*tag, late).await?;
                if !ending.is_empty() {
                    self.sweep_expired(*tag, now).await?;
                }
                self.sweep_doomed(*tag, doomed).await?;
            }
        }
        self.read_marks().await?;
        self.write_touched().await?;
        self.lift_seals().await
    }

    /// Uploads past their deadline: the owner's own lane is stopped first, if it still has one.
    async fn sweep_late(&self, tag: PartitionTag, members: &[String]) -> Result<(), StoreError> {
        for member in members {
            let Some(entry) = JournalEntry::parse(member) else {
                let remove = cmd("ZREM").arg(key::journal(tag)).arg(member).to_owned();
                let _gone: u64 = self.meta.query("remove a foreign journal entry", &remove).await?;
                continue;
            };
            if entry.kind == EntryKind::Multipart {
                self.expire_upload(tag, &entry.bucket, &entry.name, entry.generation).await?;
                continue;
            }
            match self.uploads.get(entry.generation) {
                Some(state) => {
                    let abandoned = crate::uploads::Abandoned { tag, entry, state };
                    self.undo(&abandoned).await?;
                }
                None => self.sweep_generation(tag, &entry, None).await?,
            }
        }
        Ok(())
    }

    async fn sweep_doomed(&self, tag: PartitionTag, entries: &[String]) -> Result<(), StoreError> {
        for entry in entries {
            if let Some(doomed) = Doomed::parse(tag, entry)
                && let Some(doomed) = self.readers.doom(doomed)
            {
                self.free(&doomed).await?;
            }
        }
        Ok(())
    }

    /// Writes the hour of the last read into the records that were read.
    async fn write_touched(&self) -> Result<(), StoreError> {
        let touched = std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner));
        let hour = self.times.hour().to_le_bytes();
        for (_, record, generation) in touched {
            let _same: u64 = self.meta.script(&scripts::TOUCH, &[&record], &[&generation.0, &hour]).await?;
        }
        Ok(())
    }
}
