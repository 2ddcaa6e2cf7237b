//! The scrubber: reads everything slowly, compares it with its checksums, repairs what can be repaired and marks what
//! cannot. It never puts anything into the cache.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use blobstore_sidecar_core::{
    key::{self, BucketName, ObjectName},
    partition::PartitionTag,
};

use crate::{
    ErrorKind, Store, StoreError,
    context::{Inner, Target},
    engine::{Expected, Outgoing, Value},
    metrics::{SCRUB_PASSES, SCRUB_PERCENT, SCRUBBED_BYTES, SCRUBBED_CHUNKS},
    record_entry::RecordEntry,
    walk::{Walk, upgraded},
};

/// How often the scrubber looks whether a pass is due, and whether the store is still there.
const TICK: Duration = Duration::from_secs(1);
/// A pass that others leave no room for tries again after this.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// What one pass saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    pub objects: u64,
    pub chunks: u64,
    pub bytes: u64,
    pub repaired: u64,
    /// Objects of which something is lost.
    pub damaged: u64,
}

impl Store {
    /// One pass over everything served here, now and as fast as it goes.
    pub async fn scrub(&self) -> Result<ScrubReport, StoreError> {
        let weak = Arc::downgrade(&self.inner);
        Scrub { store: weak, bytes_per_second: 0, report: ScrubReport::default() }.pass().await
    }
}

/// Runs until the store is gone.
pub(crate) async fn run(store: Weak<Inner>) {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(TICK).await;
        let Some(inner) = store.upgrade() else { return };
        let bytes_per_second = inner.options.scrub_bytes_per_second;
        let due =
            bytes_per_second > 0 && last.elapsed() >= inner.options.timing.scrub_every && !inner.crashes();
        drop(inner);
        if !due {
            continue;
        }
        let scrub = Scrub { store: store.clone(), bytes_per_second, report: ScrubReport::default() };
        match scrub.pass().await {
            Ok(report) => tracing::info!(?report, "a scrub pass has ended"),
            Err(error) => tracing::debug!(%error, category = error.category(), "a scrub pass broke off"),
        }
        last = Instant::now();
    }
}

struct Scrub {
    store: Weak<Inner>,
    /// 0: without a bound.
    bytes_per_second: u64,
    report: ScrubReport,
}

/// What became of one chunk.
enum Chunk {
    Good,
    Repaired,
    Lost,
    /// The object is another one by now.
    Gone,
}

impl Scrub {
    fn inner(&self) -> Result<Arc<Inner>, StoreError> {
        upgraded(&self.store)
    }

    async fn pass(mut self) -> Result<ScrubReport, StoreError> {
        let mut walk = Walk::begin(&self.store)?;
        while let Some((tag, buckets)) = walk.next().await? {
            for bucket in buckets {
                self.bucket(tag, &bucket).await?;
                self.versions(tag, &bucket).await?;
            }
            SCRUB_PERCENT.set(walk.percent());
        }
        SCRUB_PASSES.inc();
        Ok(self.report)
    }

    async fn bucket(&mut self, tag: PartitionTag, bucket: &BucketName) -> Result<(), StoreError> {
        let mut from = b"-".to_vec();
        loop {
            let inner = self.inner()?;
            let Some(names) = inner.names_from(tag, bucket, &mut from).await? else { return Ok(()) };
            for name in names {
                let target = inner.target(bucket, &name);
                self.object(&target, &target.record()).await?;
            }
        }
    }

    /// Those that are not current; delete markers have no chunks to look at.
    async fn versions(&mut self, tag: PartitionTag, bucket: &BucketName) -> Result<(), StoreError> {
        let mut from = b"-".to_vec();
        loop {
            let inner = self.inner()?;
            let Some(entries) = inner.versions_from(tag, bucket, &mut from).await? else { return Ok(()) };
            for entry in entries {
                let Ok(name) = ObjectName::parse(entry.name) else { continue };
                let target = inner.target(bucket, &name);
                self.object(&target, &target.history(entry.generation)).await?;
            }
        }
    }

    async fn object(&mut self, target: &Target, key: &str) -> Result<(), StoreError> {
        let inner = self.inner()?;
        let Ok(tenure) = inner.owned(target.tag.slot()) else { return Ok(()) };
        let entry = match inner.fetch_record_at(key, target, &tenure).await {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(()),
            Err(error) if error.kind == ErrorKind::Damaged => {
                self.report.damaged += 1;
                let head = inner.head_of(target, &tenure).await;
                let generation = head.ok().flatten().map(|head| head.generation);
                let unknown = blobstore_sidecar_core::generation::Generation([0; 16]);
                inner.mark_damaged(&target.cache_key, generation.unwrap_or(unknown));
                return Ok(());
            }
            // Others need the room more.
            Err(error) if error.kind == ErrorKind::Busy => {
                tokio::time::sleep(BUSY_PAUSE).await;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let Some(_reader) = inner.readers.enter(&target.cache_key, entry.record.head.generation) else {
            return Ok(());
        };
        drop(inner);
        self.report.objects += 1;
        let mut lost = false;
        for index in 0..entry.record.head.layout.chunks {
            match self.chunk(target, &entry, index).await? {
                Chunk::Good => {}
                Chunk::Repaired => self.report.repaired += 1,
                Chunk::Lost => lost = true,
                Chunk::Gone => return Ok(()),
            }
        }
        if lost {
            self.report.damaged += 1;
        } else {
            self.inner()?.damage.lift(&target.cache_key, entry.record.head.generation);
        }
        Ok(())
    }

    async fn chunk(&mut self, target: &Target, entry: &RecordEntry, index: u32) -> Result<Chunk, StoreError> {
        let Some((generation, local, len)) = entry.locate(index) else { return Ok(Chunk::Gone) };
        let inner = self.inner()?;
        let wait = Duration::from_secs(inner.options.limits.body_idle_seconds);
        let permit = inner.budget.permit(u64::from(len), wait).await.map_err(crate::stream::busy)?;
        let mut lane = inner.read_lanes.take().await?;
        let mut out = Outgoing::default();
        out.command(&[b"GET", key::chunk(target.tag, generation, local).as_bytes()]);
        lane.send(&mut out).await?;
        let stored = entry.stored_len(index, len);
        let expected = Expected { len: stored as usize, permit: Some(permit) };
        let value = lane.value(Some(expected), &inner.pool, "scrub").await?;
        drop(lane);
        let good = match value {
            Value::Present(lease) => inner.opened(entry, index, lease).is_some(),
            Value::Absent | Value::Wrong => false,
        };
        self.report.chunks += 1;
        self.report.bytes += u64::from(len);
        SCRUBBED_BYTES.inc_by(u64::from(len));
        let result = if good {
            Chunk::Good
        } else if inner.repair(target.tag, &target.cache_key, entry, index).await?.is_some() {
            Chunk::Repaired
        } else if inner.is_named(target, entry.record.head.generation).await? {
            Chunk::Lost
        } else {
            Chunk::Gone
        };
        let label = match result {
            Chunk::Good => "good",
            Chunk::Repaired => "repaired",
            Chunk::Lost => "lost",
            Chunk::Gone => "gone",
        };
        SCRUBBED_CHUNKS.with_label_values(&[label]).inc();
        drop(inner);
        self.pace(len).await;
        Ok(result)
    }

    async fn pace(&self, len: u32) {
        if let Some(nanos) = (u64::from(len) * 1_000_000_000).checked_div(self.bytes_per_second) {
            tokio::time::sleep(Duration::from_nanos(nanos)).await;
        }
    }
}
