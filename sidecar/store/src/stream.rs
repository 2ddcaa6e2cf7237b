//! The bytes of one GET: chunks from the cache or by pipelined reads from the engine, checked, in order. A permit is
//! taken before a chunk is asked for; read-ahead only tries.

use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};

use blobstore_sidecar_core::{chunk::Place, generation::Generation, key, partition::PartitionTag};
use blobstore_sidecar_runtime::{
    budget::{Exhausted, Permit},
    pool::Pooled,
};
use bytes::Bytes;
use futures::FutureExt as _;
use tokio::sync::oneshot;

use crate::{
    ErrorKind, StoreError,
    cache::{Fill, FillGuard},
    context::{Inner, Target},
    engine::{Expected, LaneLease, Outgoing, Parking, Value},
    get::damaged,
    metrics::{BYTES_OUT, DOWNLOADS_ENDED, DOWNLOADS_STARTED, FILLS_SHARED},
    readers::Reader,
    record_entry::RecordEntry,
};

/// Chunks asked for ahead of the one that is sent. The engine answers one while the client takes another; more only
/// fills buffers.
const DEPTH: usize = 3;
/// A reader waits this long for another's fill, then reads by itself: that one may have a slow client.
pub(crate) const FILL_WAIT: Duration = Duration::from_millis(200);

/// The budget stayed used up.
pub(crate) fn busy(error: Exhausted) -> StoreError {
    StoreError::new(ErrorKind::Busy, "too many bytes are in flight: retry in a moment").caused_by(error)
}

/// A chunk that has been asked for.
enum Asked {
    Cached(Pooled),
    Theirs(oneshot::Receiver<Pooled>),
    /// It was asked for on a lane that is gone.
    Lost,
    /// Its reply comes next on our lane.
    Lane {
        permit: Option<Permit>,
        fill: Option<FillGuard>,
    },
}

/// Where the bytes of one GET come from.
pub(crate) struct Source {
    inner: Arc<Inner>,
    tag: PartitionTag,
    bucket: Arc<str>,
    /// `bucket/name`.
    object: Arc<str>,
    entry: Arc<RecordEntry>,
    at: u64,
    end: u64,
    asked: VecDeque<(u32, Asked)>,
    /// Next chunk to ask for, and the one behind the last that the range needs.
    next: u32,
    until: u32,
    lane: Option<LaneLease>,
    /// The lane while the client takes what was read: others may need it more.
    parking: Option<Arc<Parking>>,
    reader: Option<Reader>,
    caching: bool,
    started: bool,
}

impl Source {
    /// `None`: the body is being freed, its record was replaced.
    pub(crate) fn new(
        inner: Arc<Inner>,
        target: &Target,
        entry: Arc<RecordEntry>,
        range: Range<u64>,
    ) -> Option<Self> {
        let layout = entry.record.head.layout;
        let chunk_of = |at: u64| match entry.piece_at(at, u64::MAX)?.place {
            Place::Chunk(index) => Some(index),
            Place::Tail => None,
        };
        let chunked_end = range.end.min(layout.chunked());
        let (next, until) = if range.start < chunked_end {
            (chunk_of(range.start)?, chunk_of(chunked_end - 1)? + 1)
        } else {
            (0, 0)
        };
        let enter = || inner.readers.enter(&target.cache_key, entry.record.head.generation);
        let reader = if next < until { Some(enter()?) } else { None };
        DOWNLOADS_STARTED.inc();
        Some(Self {
            tag: target.tag,
            bucket: Arc::clone(&target.cache_bucket),
            object: Arc::clone(&target.cache_key),
            caching: inner.cache.takes(layout.size()),
            inner,
            entry,
            at: range.start,
            end: range.end,
            asked: VecDeque::new(),
            next,
            until,
            lane: None,
            parking: None,
            reader,
            started: false,
        })
    }

    /// Nothing more comes from here.
    pub(crate) fn stop(&mut self) {
        self.at = self.end;
        self.asked.clear();
        self.lane = None;
        self.parking = None;
        self.reader = None;
    }

    /// The next bytes of the range; `None` at its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let Some(piece) = self.entry.piece_at(self.at, self.end) else {
            self.reader = None;
            return Ok(None);
        };
        if self.reader.as_ref().is_some_and(Reader::is_cut) {
            let message = "the object was replaced and this reader was too slow to be waited for";
            return Err(StoreError::new(ErrorKind::Cut, message));
        }
        let bytes = match piece.place {
            Place::Tail => self.entry.record.tail.clone(),
            Place::Chunk(index) => match self.at_hand(index) {
                Some(bytes) => bytes,
                // Boxed: what is cached does without it.
                None => Box::pin(self.fetch(index)).await?,
            },
        };
        let (skip, take) = (piece.skip as usize, piece.take as usize);
        self.at += u64::from(piece.take);
        self.started = true;
        BYTES_OUT.inc_by(u64::from(piece.take));
        Ok(Some(if take == bytes.len() { bytes } else { bytes.slice(skip..skip + take) }))
    }

    /// All that is left, if it lies in the record.
    pub(crate) fn tail(&mut self) -> Option<Bytes> {
        let piece = self.entry.piece_at(self.at, self.end)?;
        let last = piece.place == Place::Tail && self.at + u64::from(piece.take) == self.end;
        if last { self.next().now_or_never()?.ok()? } else { None }
    }

    /// The chunk, if it is in the cache and nothing was asked for before it.
    fn at_hand(&mut self, index: u32) -> Option<Bytes> {
        if !self.caching || !self.asked.is_empty() || self.next != index {
            return None;
        }
        let (generation, at, _) = self.entry.locate(index)?;
        let chunk = self.inner.cache.chunk_at_hand(generation, at)?;
        self.next += 1;
        Some(chunk.bytes)
    }

    async fn fetch(&mut self, index: u32) -> Result<Bytes, StoreError> {
        self.fetch_lane();
        self.ask_ahead().await?;
        let chunk = self.chunk(index).await?;
        self.park_lane();
        Ok(chunk)
    }

    /// Leaves the lane, with what is under way on it, where it can be taken by one who needs it more.
    fn park_lane(&mut self) {
        if let Some(lane) = self.lane.take() {
            self.parking.get_or_insert_with(|| self.inner.read_lanes.parking()).park(lane);
        }
    }

    /// Gets the lane back. If it is gone, so are the replies on it: their chunks are read one by one.
    fn fetch_lane(&mut self) {
        let Some(parking) = &self.parking else { return };
        self.lane = parking.fetch();
        if self.lane.is_none() {
            for (_, asked) in &mut self.asked {
                if matches!(asked, Asked::Lane { .. }) {
                    *asked = Asked::Lost;
                }
            }
        }
    }

    /// Asks for chunks until enough are on their way.
    async fn ask_ahead(&mut self) -> Result<(), StoreError> {
        let mut out = Outgoing::default();
        while self.next < self.until && self.asked.len() < DEPTH {
            let index = self.next;
            let Some(asked) = self.ask(index).await? else { break };
            if matches!(asked, Asked::Lane { .. }) {
                out.command(&[b"GET", self.place(index)?.key(self.tag).as_bytes()]);
            }
            self.asked.push_back((index, asked));
            self.next += 1;
        }
        if out.replies > 0 {
            let lane = match self.lane.take() {
                Some(lane) => lane,
                None => self.take_lane().await?,
            };
            self.lane.insert(lane).send(&mut out).await?;
        }
        Ok(())
    }

    /// How chunk `index` will be had; `None`: not now, the budget is used up and others are on their way.
    async fn ask(&self, index: u32) -> Result<Option<Asked>, StoreError> {
        let Located { generation, index, len, stored: _ } = self.place(index)?;
        if self.caching
            && let Some(chunk) = self.inner.cache.chunk(generation, index)
        {
            return Ok(Some(Asked::Cached(chunk)));
        }
        let bytes = u64::from(len);
        let permit = if self.asked.is_empty() {
            self.first_permit(bytes).await?
        } else {
            match self.inner.budget.try_permit(bytes) {
                Some(permit) => permit,
                None => return Ok(None),
            }
        };
        let fill = match self.caching.then(|| self.inner.cache.fills.enter(generation, index)) {
            Some(Fill::Theirs(theirs)) => return Ok(Some(Asked::Theirs(theirs))),
            // The fill before ours may have ended between the two looks.
            Some(Fill::Ours(guard)) => match self.inner.cache.chunk(generation, index) {
                Some(chunk) => {
                    guard.done(&chunk);
                    return Ok(Some(Asked::Cached(chunk)));
                }
                None => Some(guard),
            },
            Some(Fill::Alone) | None => None,
        };
        Ok(Some(Asked::Lane { permit: Some(permit), fill }))
    }

    async fn first_permit(&self, bytes: u64) -> Result<Permit, StoreError> {
        let wait =
            self.patience().unwrap_or(Duration::from_millis(self.inner.options.limits.admission_wait_ms));
        self.inner.budget.permit(bytes, wait).await.map_err(busy)
    }

    async fn take_lane(&self) -> Result<LaneLease, StoreError> {
        match self.patience() {
            Some(patience) => self.inner.read_lanes.take_within(patience).await,
            None => self.inner.read_lanes.take().await,
        }
    }

    /// Before the first byte a client is told to come again; later it has to be patient, and so are we: an
    /// answer that was begun and is cut off is worth less than a late one.
    fn patience(&self) -> Option<Duration> {
        self.started.then(|| Duration::from_secs(self.inner.options.limits.body_idle_seconds))
    }

    async fn chunk(&mut self, index: u32) -> Result<Bytes, StoreError> {
        let chunk = match self.asked.pop_front() {
            Some((asked, Asked::Cached(chunk))) if asked == index => chunk,
            Some((asked, Asked::Lane { permit, fill })) if asked == index => {
                let chunk = self.read_lane(index, permit).await?;
                if !self.asked.iter().any(|(_, asked)| matches!(asked, Asked::Lane { .. })) {
                    self.lane = None;
                }
                self.keep(index, &chunk, fill);
                chunk
            }
            Some((asked, Asked::Lost)) if asked == index => {
                let chunk = self.read_alone(index).await?;
                self.keep(index, &chunk, None);
                chunk
            }
            Some((asked, Asked::Theirs(theirs))) if asked == index => self.wait_for(index, theirs).await?,
            _ => return Err(StoreError::new(ErrorKind::Protocol, "a chunk was read out of order")),
        };
        Ok(chunk.bytes)
    }

    /// Our lane's next reply. Wrong bytes are read once more before they are believed.
    async fn read_lane(&mut self, index: u32, permit: Option<Permit>) -> Result<Pooled, StoreError> {
        let expected = Expected { len: self.place(index)?.stored as usize, permit };
        let Some(lane) = &mut self.lane else {
            return Err(StoreError::new(ErrorKind::Protocol, "a chunk was read without a lane"));
        };
        let value = lane.value(Some(expected), &self.inner.pool, "chunk").await?;
        match self.checked(index, value) {
            Ok(chunk) => Ok(chunk),
            Err(_) => self.read_alone(index).await,
        }
    }

    async fn wait_for(&self, index: u32, theirs: oneshot::Receiver<Pooled>) -> Result<Pooled, StoreError> {
        if let Ok(Ok(chunk)) = tokio::time::timeout(FILL_WAIT, theirs).await {
            FILLS_SHARED.inc();
            return Ok(chunk);
        }
        let place = self.place(index)?;
        match self.inner.cache.chunk(place.generation, place.index) {
            Some(chunk) => Ok(chunk),
            None => {
                let chunk = self.read_alone(index).await?;
                self.keep(index, &chunk, None);
                Ok(chunk)
            }
        }
    }

    /// One chunk on a lane of its own; what the engine has lost is looked for elsewhere.
    async fn read_alone(&self, index: u32) -> Result<Pooled, StoreError> {
        let error = match self.read_once(index).await {
            Err(error) if error.kind == ErrorKind::Damaged => error,
            read => return read,
        };
        let found = self.inner.repair(self.tag, &self.object, &self.entry, index).await?;
        let Some(bytes) = found else { return Err(error) };
        let permit = self.first_permit(bytes.len() as u64).await?;
        let mut lease = self.inner.pool.lease(bytes.len(), "repair", Some(permit));
        if let Some(to) = lease.as_mut().get_mut(..bytes.len()) {
            to.copy_from_slice(&bytes);
        }
        Ok(lease.freeze())
    }

    async fn read_once(&self, index: u32) -> Result<Pooled, StoreError> {
        let place = self.place(index)?;
        let permit = self.first_permit(u64::from(place.len)).await?;
        let mut lane = self.take_lane().await?;
        let mut out = Outgoing::default();
        out.command(&[b"GET", place.key(self.tag).as_bytes()]);
        lane.send(&mut out).await?;
        let expected = Expected { len: place.stored as usize, permit: Some(permit) };
        let value = lane.value(Some(expected), &self.inner.pool, "chunk").await?;
        self.checked(index, value)
    }

    /// An error with a source is a checksum; one without means that the chunk is not there.
    fn checked(&self, index: u32, value: Value) -> Result<Pooled, StoreError> {
        match value {
            Value::Absent => Err(StoreError::new(ErrorKind::Damaged, format!("chunk {index} is missing"))),
            Value::Wrong => Err(damaged("chunk", "it has another length").caused_by("length")),
            Value::Present(lease) => {
                let Some(plain) = self.inner.opened(&self.entry, index, lease) else {
                    let place = self.place(index)?;
                    self.inner.cache.drop_chunk(place.generation, place.index);
                    return Err(damaged("chunk", "its checksum does not match").caused_by("checksum"));
                };
                Ok(plain.freeze())
            }
        }
    }

    fn keep(&self, index: u32, chunk: &Pooled, fill: Option<FillGuard>) {
        if self.caching
            && let Ok(place) = self.place(index)
        {
            self.inner.cache.insert_chunk(place.generation, place.index, &self.bucket, chunk.clone());
        }
        if let Some(fill) = fill {
            fill.done(chunk);
        }
    }

    fn place(&self, whole: u32) -> Result<Located, StoreError> {
        let located = self.entry.locate(whole);
        let (generation, index, len) = located
            .ok_or_else(|| StoreError::new(ErrorKind::Protocol, "a chunk was asked for that is not there"))?;
        Ok(Located { generation, index, len, stored: self.entry.stored_len(whole, len) })
    }
}

/// A chunk of the body in its generation.
struct Located {
    generation: Generation,
    index: u32,
    len: u32,
    /// Length of the engine's value.
    stored: u32,
}

impl Located {
    fn key(&self, tag: PartitionTag) -> String {
        key::chunk(tag, self.generation, self.index)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        DOWNLOADS_ENDED.inc();
    }
}
