//! What the engine holds is not what was written: a chunk is taken from the cache or from another place that has it and
//! written back; if nobody has it, the object is marked, and every reader is told.

use std::sync::Arc;

use blobstore_sidecar_core::{generation::Generation, key, manifest::crc64, partition::PartitionTag};
use bytes::Bytes;
use futures::future::BoxFuture;
use redis::{cmd, pipe};

use crate::{
    StoreError,
    context::Inner,
    metrics::CHUNKS_REPAIRED,
    pack::{pack, unpack},
    record_entry::RecordEntry,
    scripts,
};

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
    /// Length of the engine's value.
    pub len: u32,
    /// CRC64-NVME of the chunk's plain bytes.
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

/// What the engine has to hold of a chunk. `None`: packed by today's library it has another length, and the manifest
/// says the old one.
fn stored_form(plain: &Bytes, stored_len: u32) -> Option<Bytes> {
    if plain.len() == stored_len as usize {
        return Some(plain.clone());
    }
    let packed = pack(plain)?;
    (packed.len() == stored_len as usize).then(|| Bytes::from(packed))
}

fn plain_form(stored: &Bytes, len: u32) -> Option<Bytes> {
    if stored.len() == len as usize {
        return Some(stored.clone());
    }
    let mut plain = vec![0; len as usize];
    unpack(stored, &mut plain).then(|| Bytes::from(plain))
}

impl Inner {
    /// Whether the object's record, as the engine has it now, still names this body.
    pub(crate) async fn record_names(
        &self,
        record: &str,
        generation: Generation,
    ) -> Result<bool, StoreError> {
        let look = cmd("GETRANGE").arg(record).arg(8).arg(23).to_owned();
        let current: Vec<u8> = self.meta.query("look for a body", &look).await?;
        Ok(current == generation.0)
    }

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
        // The current version, or one that is not.
        let records = [format!("o:{{{tag}}}:{object}"), format!("h:{{{tag}}}:{}:{object}", head.generation)];
        let mut look = pipe();
        for record in &records {
            look.cmd("GETRANGE").arg(record).arg(8).arg(23);
        }
        let ids: Vec<Vec<u8>> = self.meta.pipe("look before a repair", &look).await?;
        let named = records.iter().zip(ids).find(|(_, id)| *id == head.generation.0);
        let Some((record, _)) = named else { return Ok(None) };
        let good = |bytes: &Bytes| bytes.len() == len as usize && crc64(bytes) == crc;
        let stored_len = entry.stored_len(index, len);
        let key = key::chunk(tag, generation, local);
        let cached = self.cache.chunk(generation, local).map(|chunk| chunk.bytes).filter(good);
        let found = match cached {
            Some(plain) => stored_form(&plain, stored_len).map(|stored| (plain, stored)),
            None => None,
        };
        let found = match found {
            Some(found) => Some(found),
            None => {
                let ask = ChunkAsk { slot: tag.slot(), key: key.clone(), len: stored_len, crc64: crc };
                let stored = self.options.spare.chunk(&ask).await;
                let stored = stored.filter(|stored| stored.len() == stored_len as usize);
                let plain = |stored: Bytes| Some((plain_form(&stored, len).filter(good)?, stored));
                stored.and_then(plain)
            }
        };
        let Some((plain, stored)) = found else {
            self.mark_damaged(object, head.generation);
            return Ok(None);
        };
        let keys = [record.as_str(), key.as_str()];
        let written: u64 = self.meta.script(&scripts::REPAIR, &keys, &[&head.generation.0, &stored]).await?;
        CHUNKS_REPAIRED.inc_by(written);
        tracing::warn!(object = &**object, chunk = index, "a damaged chunk was repaired");
        Ok(Some(plain))
    }
}
