//! What the engine holds is not what was written: a chunk is taken from the cache or from another place that has it and
//! written back; if nobody has it, the object is marked, and every reader is told.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use blobstore_sidecar_core::{generation::Generation, key, manifest::crc64, partition::PartitionTag};
use bytes::Bytes;
use futures::future::BoxFuture;
use redis::cmd;

use crate::{
    Store, StoreError,
    context::Inner,
    metrics::{CHUNKS_REPAIRED, OBJECTS_DAMAGED},
    record_entry::RecordEntry,
    scripts,
};

/// Marks kept. More damage than this is told by the metric and by the reads.
const MARKS_MAX: usize = 1000;

/// Another place that may hold a chunk: a replica's engine, another sidecar's cache.
pub trait Spare: Send + Sync + std::fmt::Debug + 'static {
    /// The chunk's bytes, or nothing. What comes is checked, so a guess does no harm.
    fn chunk<'a>(&'a self, ask: &'a ChunkAsk) -> BoxFuture<'a, Option<Bytes>>;
}

/// A chunk that is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkAsk {
    pub slot: u16,
    /// The engine's key.
    pub key: String,
    pub len: u32,
    /// CRC64-NVME of what was written.
    pub crc64: u64,
}

/// There is no other place.
#[derive(Debug)]
pub struct NoSpare;

impl Spare for NoSpare {
    fn chunk<'a>(&'a self, _: &'a ChunkAsk) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async { None })
    }
}

/// An object of which something is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedObject {
    /// `bucket/name`.
    pub object: String,
    pub generation: Generation,
}

#[derive(Debug, Default)]
pub(crate) struct Damage {
    marks: Mutex<HashMap<Arc<str>, Generation>>,
}

impl Damage {
    fn change(&self, change: impl FnOnce(&mut HashMap<Arc<str>, Generation>)) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut marks);
        OBJECTS_DAMAGED.set(i64::try_from(marks.len()).unwrap_or(i64::MAX));
    }

    pub(crate) fn mark(&self, object: &Arc<str>, generation: Generation) {
        tracing::error!(object = &**object, %generation, "a part of this object is lost");
        self.change(|marks| {
            if marks.len() < MARKS_MAX {
                marks.insert(Arc::clone(object), generation);
            }
        });
    }

    /// The object was written anew, deleted, or found whole.
    pub(crate) fn lift(&self, object: &str) {
        let marked = !self.marks.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if marked {
            self.change(|marks| {
                marks.remove(object);
            });
        }
    }

    fn all(&self) -> Vec<DamagedObject> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let object = |(object, generation): (&Arc<str>, &Generation)| DamagedObject {
            object: object.to_string(),
            generation: *generation,
        };
        marks.iter().map(object).collect()
    }
}

impl Store {
    /// Objects that were found damaged and could not be repaired, until they are written anew or deleted.
    pub fn damaged(&self) -> Vec<DamagedObject> {
        self.inner.damage.all()
    }
}

impl Inner {
    /// Chunk `index` of a body was read and is not what was written. `Some`: what was written, found elsewhere and
    /// written back. `None`: it is lost, or the object is another one by now.
    pub(crate) async fn repair(
        &self,
        tag: PartitionTag,
        object: &Arc<str>,
        entry: &RecordEntry,
        index: u32,
    ) -> Result<Option<Bytes>, StoreError> {
        let head = &entry.record.head;
        let (Some((generation, local, len)), Some(crc)) = (entry.locate(index), entry.crc(index)) else {
            return Ok(None);
        };
        let record = format!("o:{{{tag}}}:{object}");
        let look = cmd("GETRANGE").arg(&record).arg(8).arg(23).to_owned();
        let current: Vec<u8> = self.meta.query("look before a repair", &look).await?;
        if current != head.generation.0 {
            return Ok(None);
        }
        let good = |bytes: &Bytes| bytes.len() == len as usize && crc64(bytes) == crc;
        let key = key::chunk(tag, generation, local);
        let cached = self.cache.chunk(generation, local).map(|chunk| chunk.bytes).filter(good);
        let found = match cached {
            Some(bytes) => Some(bytes),
            None => {
                let ask = ChunkAsk { slot: tag.slot(), key: key.clone(), len, crc64: crc };
                self.options.spare.chunk(&ask).await.filter(good)
            }
        };
        let Some(bytes) = found else {
            self.damage.mark(object, head.generation);
            return Ok(None);
        };
        let keys = [record.as_str(), key.as_str()];
        let written: u64 = self.meta.script(&scripts::REPAIR, &keys, &[&head.generation.0, &bytes]).await?;
        CHUNKS_REPAIRED.inc_by(written);
        tracing::warn!(object = &**object, chunk = index, "a damaged chunk was repaired");
        Ok(Some(bytes))
    }
}
