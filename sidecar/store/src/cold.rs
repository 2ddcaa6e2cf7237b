//! The packer: bodies that nobody used for a while are written once more, compressed chunk by chunk, where the engine's
//! memory gains from it. One object at a time, at a fraction of a core, and only while the store has nothing to do.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use blobstore_sidecar_core::{
    generation::Generation,
    key::{self, BucketName},
    pack::{self, Candidate, Skip, engine_bytes, samples, skipped, stored_len},
    partition::PartitionTag,
};
use blobstore_sidecar_runtime::{authority::Tenure, budget::Permit, pool::Lease};
use bytes::Bytes;

use crate::{
    ErrorKind, Store, StoreError,
    context::{Inner, Target},
    engine::{Expected, Outgoing, Value},
    metrics::{COLD_BYTES, COLD_CHUNKS, COLD_OBJECTS, COLD_PASSES},
    pack::pack,
    put::{Rewrite, verified},
    record_entry::RecordEntry,
    walk::{Walk, upgraded},
};

/// How often the packer looks whether a pass is due, and whether the store is still there.
const TICK: Duration = Duration::from_secs(1);
/// Share of one core that the packer's own work may take: it must not be felt.
const CPU_PERCENT: u32 = 20;
/// Pause while the store is busy.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// An object that waited for so long in the middle is given up: its journal entry would come of age.
const BUSY_PATIENCE: Duration = Duration::from_secs(30);
/// Bytes held for one chunk: as read, packed, and unpacked again to be verified.
const COPIES: u64 = 3;
/// Bodies remembered that did not pay, so that they are not sampled again each pass: 16 bytes each, 2 MB in all.
const TRIED_MAX: usize = 1 << 16;
/// Above this nothing is written twice: both forms of a body are there until the swap.
const ROOM_PERCENT: u64 = 95;

/// What one pass saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackReport {
    /// Objects packed.
    pub packed: u64,
    /// Objects left as they are, by reason.
    pub skipped: BTreeMap<&'static str, u64>,
    /// Chunks of packed objects: stored packed, and stored as they are.
    pub chunks_packed: u64,
    pub chunks_plain: u64,
    /// Value bytes of the packed objects' chunks.
    pub bytes_before: u64,
    pub bytes_after: u64,
}

impl Store {
    /// One pass over everything served here, now and as fast as it goes. Nothing happens without
    /// [`crate::StoreOptions::compress_after`].
    pub async fn pack_cold(&self) -> Result<PackReport, StoreError> {
        let mut tried = HashSet::new();
        Packer::new(Arc::downgrade(&self.inner), Pace::Full, &mut tried).pass().await
    }
}

/// Runs until the store is gone.
pub(crate) async fn run(store: Weak<Inner>) {
    let mut last = Instant::now();
    let mut tried = HashSet::new();
    loop {
        tokio::time::sleep(TICK).await;
        let Some(inner) = store.upgrade() else { return };
        let wanted = inner.options.compress_after.is_some() && !inner.crashes();
        let due = wanted && last.elapsed() >= inner.options.timing.pack_every;
        drop(inner);
        if !due {
            continue;
        }
        match Packer::new(store.clone(), Pace::Gentle, &mut tried).pass().await {
            Ok(report) => tracing::info!(?report, "a pass of the packer has ended"),
            Err(error) => {
                tracing::debug!(%error, category = error.category(), "a pass of the packer broke off")
            }
        }
        last = Instant::now();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Rests between chunks, and while the store is busy.
    Gentle,
    Full,
}

struct Packer<'a> {
    store: Weak<Inner>,
    pace: Pace,
    tried: &'a mut HashSet<Generation>,
    report: PackReport,
}

/// A chunk in the form in which it will be kept.
struct Packed {
    stored: Bytes,
    plain_len: u32,
    crc64: u64,
    _permit: Permit,
}

/// Why an object was not packed: of its own, or because the store cannot go on.
enum Stop {
    Skip(Skip),
    Error(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        match error.kind {
            ErrorKind::Damaged => Self::Skip(Skip::Damaged),
            ErrorKind::Busy | ErrorKind::EngineFull => Self::Skip(Skip::Busy),
            ErrorKind::Swept | ErrorKind::NoSuchBucket => Self::Skip(Skip::Changed),
            _ => Self::Error(error),
        }
    }
}

impl<'a> Packer<'a> {
    fn new(store: Weak<Inner>, pace: Pace, tried: &'a mut HashSet<Generation>) -> Self {
        Self { store, pace, tried, report: PackReport::default() }
    }

    fn inner(&self) -> Result<Arc<Inner>, StoreError> {
        upgraded(&self.store)
    }

    async fn pass(mut self) -> Result<PackReport, StoreError> {
        let mut walk = Walk::begin(&self.store)?;
        while let Some((tag, buckets)) = walk.next().await? {
            for bucket in buckets {
                self.bucket(tag, &bucket).await?;
            }
        }
        COLD_PASSES.inc();
        Ok(self.report)
    }

    async fn bucket(&mut self, tag: PartitionTag, bucket: &BucketName) -> Result<(), StoreError> {
        let mut from = b"-".to_vec();
        loop {
            let inner = self.inner()?;
            let Some(names) = inner.names_from(tag, bucket, &mut from).await? else { return Ok(()) };
            let targets: Vec<Target> = names.iter().map(|name| inner.target(bucket, name)).collect();
            drop(inner);
            for target in targets {
                let result = match Box::pin(self.object(&target)).await {
                    Ok(()) => {
                        self.report.packed += 1;
                        "packed"
                    }
                    Err(Stop::Skip(why)) => {
                        *self.report.skipped.entry(why.name()).or_default() += 1;
                        why.name()
                    }
                    Err(Stop::Error(error)) => return Err(error),
                };
                COLD_OBJECTS.with_label_values(&[result]).inc();
            }
        }
    }

    async fn object(&mut self, target: &Target) -> Result<(), Stop> {
        let inner = self.inner()?;
        let Some(age) = inner.options.compress_after else { return Err(Stop::Skip(Skip::Warm)) };
        let Ok(tenure) = inner.owned(target.tag.slot()) else { return Err(Stop::Skip(Skip::Changed)) };
        let gone = Stop::Skip(Skip::Changed);
        let Some(entry) = inner.fetch_record(target, &tenure).await? else { return Err(gone) };
        let head = &entry.record.head;
        let candidate = Candidate {
            layout: &head.layout,
            manifest_len: head.manifest_len,
            versioned: head.versioned,
            modified_ms: head.modified_ms,
            access_hour: head.access_hour,
            content_type: entry.attributes.content_type.as_deref(),
            content_encoding: entry.attributes.content_encoding.as_deref(),
        };
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        if let Some(why) = skipped(&candidate, inner.times.now_ms(), age_ms) {
            return Err(Stop::Skip(why));
        }
        if self.tried.contains(&head.generation) {
            return Err(Stop::Skip(Skip::NoGain));
        }
        let Some(reader) = inner.readers.enter(&target.cache_key, head.generation) else { return Err(gone) };
        drop(inner);
        self.sample(target, &entry).await?;
        let rewrite = self.write(target, &tenure, &entry).await?;
        // The plain body is freed by the swap, unless somebody reads it: that must not be us.
        drop(reader);
        if rewrite.swap(&entry).await? { Ok(()) } else { Err(Stop::Skip(Skip::Changed)) }
    }

    /// A few chunks tell whether the rest is worth reading.
    async fn sample(&mut self, target: &Target, entry: &RecordEntry) -> Result<(), Stop> {
        let (mut before, mut after) = (0, 0);
        for index in samples(entry.record.head.layout.chunks) {
            let chunk = self.chunk(target, entry, index).await?;
            before += engine_bytes(chunk.plain_len);
            after += engine_bytes(u32::try_from(chunk.stored.len()).unwrap_or(u32::MAX));
        }
        self.worth(entry, before, after).map_err(Stop::Skip)
    }

    fn worth(&mut self, entry: &RecordEntry, before: u64, after: u64) -> Result<(), Skip> {
        if pack::pays(before, after) {
            return Ok(());
        }
        if self.tried.len() >= TRIED_MAX {
            self.tried.clear();
        }
        self.tried.insert(entry.record.head.generation);
        Err(Skip::NoGain)
    }

    /// Writes all chunks in the form that pays; what was written is undone if something comes in between.
    async fn write(
        &mut self,
        target: &Target,
        tenure: &Tenure,
        entry: &RecordEntry,
    ) -> Result<Rewrite, Stop> {
        let inner = self.inner()?;
        let figures = inner.figures(true).await?;
        let room = figures.limit / 100 * ROOM_PERCENT;
        if figures.limit > 0 && figures.used + entry.record.head.layout.chunked() > room {
            return Err(Stop::Skip(Skip::Busy));
        }
        let mut rewrite = inner.rewrite(target, tenure, entry).await?;
        drop(inner);
        let mut figures = PackReport::default();
        match self.chunks(target, entry, &mut rewrite, &mut figures).await {
            Ok(()) => {
                self.count(&figures);
                Ok(rewrite)
            }
            Err(stop) => {
                let _undone = rewrite.give_up(StoreError::new(ErrorKind::Busy, "packing was given up")).await;
                Err(stop)
            }
        }
    }

    async fn chunks(
        &mut self,
        target: &Target,
        entry: &RecordEntry,
        rewrite: &mut Rewrite,
        figures: &mut PackReport,
    ) -> Result<(), Stop> {
        let (mut before, mut after) = (0, 0);
        for index in 0..entry.record.head.layout.chunks {
            let chunk = self.chunk(target, entry, index).await?;
            let len = u32::try_from(chunk.stored.len()).unwrap_or(u32::MAX);
            before += engine_bytes(chunk.plain_len);
            after += engine_bytes(len);
            figures.bytes_before += u64::from(chunk.plain_len);
            figures.bytes_after += u64::from(len);
            let packed = u64::from(len < chunk.plain_len);
            figures.chunks_packed += packed;
            figures.chunks_plain += 1 - packed;
            rewrite.chunk(chunk.stored, chunk.crc64).await?;
        }
        self.worth(entry, before, after).map_err(Stop::Skip)
    }

    fn count(&mut self, figures: &PackReport) {
        self.report.chunks_packed += figures.chunks_packed;
        self.report.chunks_plain += figures.chunks_plain;
        self.report.bytes_before += figures.bytes_before;
        self.report.bytes_after += figures.bytes_after;
        COLD_CHUNKS.with_label_values(&["packed"]).inc_by(figures.chunks_packed);
        COLD_CHUNKS.with_label_values(&["plain"]).inc_by(figures.chunks_plain);
        COLD_BYTES.with_label_values(&["before"]).inc_by(figures.bytes_before);
        COLD_BYTES.with_label_values(&["after"]).inc_by(figures.bytes_after);
    }

    /// One chunk: read, verified, packed, unpacked and verified again.
    async fn chunk(&mut self, target: &Target, entry: &RecordEntry, index: u32) -> Result<Packed, Stop> {
        let missing = || Stop::Skip(Skip::Damaged);
        let (generation, local, len) = entry.locate(index).ok_or_else(missing)?;
        let crc64 = entry.crc(index).ok_or_else(missing)?;
        let permit = self.quiet(u64::from(len) * COPIES).await?;
        let inner = self.inner()?;
        let mut lane = inner.read_lanes.take().await?;
        let mut out = Outgoing::default();
        out.command(&[b"GET", key::chunk(target.tag, generation, local).as_bytes()]);
        lane.send(&mut out).await?;
        let expected = Expected { len: entry.stored_len(index, len) as usize, permit: None };
        let value = lane.value(Some(expected), &inner.pool, "packer").await?;
        drop(lane);
        let plain: Option<Lease> = match value {
            Value::Present(lease) => inner.opened(entry, index, lease),
            Value::Absent | Value::Wrong => None,
        };
        let Some(plain) = plain else {
            let same = inner.record_names(&target.record(), entry.record.head.generation).await?;
            return Err(Stop::Skip(if same { Skip::Damaged } else { Skip::Changed }));
        };
        drop(inner);
        let began = Instant::now();
        let work = move || {
            let packed = pack(plain.as_ref());
            let good = packed
                .filter(|packed| {
                    let packed_len = u32::try_from(packed.len()).unwrap_or(u32::MAX);
                    stored_len(len, packed_len) == packed_len
                })
                .and_then(|packed| verified(plain.as_ref(), packed, crc64));
            good.map_or_else(|| plain.freeze().bytes, Bytes::from)
        };
        let stored = tokio::task::spawn_blocking(work).await.map_err(|error| {
            StoreError::new(ErrorKind::Protocol, "packing ended unexpectedly").caused_by(error)
        })?;
        if self.pace == Pace::Gentle {
            tokio::time::sleep(began.elapsed() * (100 - CPU_PERCENT) / CPU_PERCENT).await;
        }
        Ok(Packed { stored, plain_len: len, crc64, _permit: permit })
    }

    /// Waits until nobody else needs the bytes.
    async fn quiet(&self, bytes: u64) -> Result<Permit, Stop> {
        let began = Instant::now();
        while began.elapsed() < BUSY_PATIENCE {
            let inner = self.inner()?;
            let busy = self.pace == Pace::Gentle && inner.is_busy();
            if !busy && let Some(permit) = inner.budget.try_permit(bytes.min(inner.budget.limit())) {
                return Ok(permit);
            }
            drop(inner);
            tokio::time::sleep(BUSY_PAUSE).await;
        }
        Err(Stop::Skip(Skip::Busy))
    }
}

impl Inner {
    /// Requests wait, or hold a quarter of what may be in flight.
    fn is_busy(&self) -> bool {
        let budget = &self.budget;
        budget.waiting() > 0
            || budget.used() > budget.limit() / 4
            || self.write_lanes.contended()
            || self.read_lanes.contended()
    }
}
