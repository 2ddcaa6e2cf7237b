//! An upload while it runs, for readers that follow it: the chunks that the engine has acknowledged can be read before
//! the commit. Only whole chunks count; what comes behind them is had from the committed object.

use std::sync::{Arc, Mutex, PoisonError};

use blobstore_sidecar_core::{chunk::CHUNK_BYTES, generation::Generation, key, manifest::crc64};
use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    ErrorKind, StoreError,
    cache::Fill,
    context::{Inner, Target},
    engine::{Expected, Outgoing, Value},
    get::damaged,
    metrics::FILLS_SHARED,
    stream::{FILL_WAIT, busy},
};

/// What an upload tells about itself. Give it to [`crate::PutRequest::progress`].
#[derive(Debug, Default)]
pub struct UploadProgress {
    written: Mutex<Written>,
    acknowledged: watch::Sender<u32>,
}

#[derive(Debug, Default)]
struct Written {
    generation: Option<Generation>,
    /// Of the acknowledged chunks.
    crcs: Vec<u64>,
}

impl UploadProgress {
    /// Bytes from the start of the body that [`crate::Store::read_upload`] can give.
    pub fn readable(&self) -> u64 {
        u64::from(*self.acknowledged.borrow()) * u64::from(CHUNK_BYTES)
    }

    /// Sees every growth of [`Self::readable`].
    pub fn watch(&self) -> watch::Receiver<u32> {
        self.acknowledged.subscribe()
    }

    pub(crate) fn acknowledge(&self, generation: Generation, crc64: u64) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.generation = Some(generation);
        written.crcs.push(crc64);
        let chunks = u32::try_from(written.crcs.len()).unwrap_or(u32::MAX);
        drop(written);
        self.acknowledged.send_replace(chunks);
    }

    fn chunk(&self, index: u32) -> Option<(Generation, u64)> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        Some((written.generation?, *written.crcs.get(index as usize)?))
    }
}

impl Inner {
    /// The chunk of a running upload that holds byte `at`, from there to its end.
    pub(crate) async fn read_upload(
        self: &Arc<Self>,
        target: &Target,
        progress: &UploadProgress,
        at: u64,
    ) -> Result<Bytes, StoreError> {
        let index = u32::try_from(at / u64::from(CHUNK_BYTES)).unwrap_or(u32::MAX);
        let skip = usize::try_from(at % u64::from(CHUNK_BYTES)).unwrap_or(usize::MAX);
        let Some((generation, crc)) = progress.chunk(index) else {
            return Err(StoreError::new(ErrorKind::Protocol, "a chunk was read before it was written"));
        };
        let bytes = match self.cache.chunk(generation, index) {
            Some(chunk) => chunk.bytes,
            None => self.shared_chunk(target, generation, index, crc).await?,
        };
        Ok(bytes.slice(skip..))
    }

    /// One read of the engine for all who follow.
    async fn shared_chunk(
        self: &Arc<Self>,
        target: &Target,
        generation: Generation,
        index: u32,
        crc: u64,
    ) -> Result<Bytes, StoreError> {
        let fill = match self.cache.fills.enter(generation, index) {
            Fill::Ours(guard) => Some(guard),
            Fill::Alone => None,
            Fill::Theirs(theirs) => match tokio::time::timeout(FILL_WAIT, theirs).await {
                Ok(Ok(chunk)) => {
                    FILLS_SHARED.inc();
                    return Ok(chunk.bytes);
                }
                _ => None,
            },
        };
        let wait = std::time::Duration::from_secs(self.options.limits.body_idle_seconds);
        let permit = self.budget.permit(u64::from(CHUNK_BYTES), wait).await.map_err(busy)?;
        let mut lane = self.read_lanes.take().await?;
        let mut out = Outgoing::default();
        out.command(&[b"GET", key::chunk(target.tag, generation, index).as_bytes()]);
        lane.send(&mut out).await?;
        let expected = Expected { len: CHUNK_BYTES as usize, permit: Some(permit) };
        let chunk = match lane.value(Some(expected), &self.pool, "chunk").await? {
            Value::Present(lease) if crc64(lease.as_ref()) == crc => lease.freeze(),
            Value::Present(_) => return Err(damaged("chunk", "its checksum does not match")),
            // The upload was given up meanwhile.
            Value::Absent => return Err(StoreError::new(ErrorKind::Cut, "the upload was given up")),
            Value::Wrong => return Err(damaged("chunk", "it has another length")),
        };
        if self.cache.takes(u64::from(CHUNK_BYTES)) {
            self.cache.insert_chunk(generation, index, &target.cache_bucket, chunk.clone());
        }
        if let Some(fill) = fill {
            fill.done(&chunk);
        }
        Ok(chunk.bytes)
    }
}
